"""The formgrader and Validate in a real server: they run nothing of a learner's, and leave the server answering."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, require_browser

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "autograder"))

import hostile
import tiny_course as tiny

from autograder.gradebook import release, scores
from autograder.grader import grade
from autograder.submission import nbformat, read

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
SLOW = {**tiny.ANSWERS, "tiny.double": "import time\ntime.sleep(4)\ndef double(x):\n    return x + x"}
ATTACK = """import json
from IPython.display import publish_display_data as show
for data in json.loads({!r}):
    show(data)
"""
STUDENT = "o'neil & <i>co<i>"


@pytest.fixture(scope="module")
def lab(tiny_registered: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab in a class's folder, under a path as JupyterHub gives one to each user.

    Everyone has handed in; `eve` and the one with the odd name are graded.
    """
    require_browser()
    checkout = tiny.make_built_course(tmp_path_factory.mktemp("checkout"), config="c.Execute.timeout = 20")
    course = tmp_path_factory.mktemp("class") / "class"
    release(tiny.LESSON, course, source=checkout)
    released = read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")
    everything = ATTACK.format(json.dumps([data for data in hostile.DATA]))
    answers = {
        "eve": {**tiny.ANSWERS, "tiny.double": f"{everything}\n{tiny.ANSWERS['tiny.double']}"},
        STUDENT: {**tiny.ANSWERS, "tiny.why": "\n\n".join(hostile.MARKDOWN) + "\n\nBecause $\\frac{x}{1-p}$."},
        "tia": {**tiny.ANSWERS, "tiny.double": "def double(x):\n    return x * x"},
        "ada": SLOW,
        "bob": SLOW,
    }
    for student, work in answers.items():
        tiny.submit(course, student, tiny.answered(released, work))
    (course / "submitted" / "eve" / tiny.LESSON / "evil.html").write_text(hostile.HTML[0])
    rows = grade(tiny.LESSON, course, ["eve", STUDENT, "tia"])
    assert [row.problem for row in rows] == [""] * 3
    config = str(REPOSITORY / "autograder" / "jupyter-config")  # what the wheel puts into etc/jupyter
    environment = {"JUPYTER_CONFIG_PATH": config, "PYTHONPATH": f"{REPOSITORY}:{tiny.PLUGINS}"}
    with Lab(course, tmp_path_factory.mktemp("lab"), environment=environment, base="/user/ada") as lab:
        lab.page.add_init_script("Object.defineProperty(window, 'owned', {set() { console.log('owned') }})")
        lab.page.goto(f"{lab.url}/tree?token={lab.token}")  # logs in: the formgrader's own pages can't, by a token
        yield lab


def visit(lab: Lab, path: str) -> None:
    lab.page.goto(f"{lab.url}/{path}", wait_until="load")


def ask(lab: Lab, method: str, path: str, body: Any = None, timeout: float = 120) -> tuple[int, bytes, Any]:
    """A request with the token: (status, body, headers)."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(lab.url).netloc, timeout=timeout)
    headers = {"Authorization": f"token {lab.token}"}
    connection.request(method, f"{lab.base}/{path}", None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


@contextmanager
def pinging(lab: Lab) -> Iterator[list[float]]:
    """The seconds that each ping of /api/status took while the block ran, one after the other."""
    took: list[float] = []
    done = threading.Event()

    def ping() -> None:
        while not done.is_set():
            begun = time.monotonic()
            assert ask(lab, "GET", "api/status")[0] == 200
            took.append(time.monotonic() - begun)
            done.wait(0.05)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield took
    finally:
        done.set()
        thread.join()


def listen(lab: Lab) -> list[str]:
    """What the page's scripts will say from here on: "owned", errors, and what the policy refused."""
    said: list[str] = []
    lab.page.on("console", lambda message: said.append(message.text))
    lab.page.on("pageerror", lambda error: said.append(f"Error: {error}"))
    return said


def submission_id(lab: Lab, student: str) -> str:
    answer = ask(lab, "GET", f"formgrader/api/submitted_notebooks/{tiny.LESSON}/{tiny.LESSON}")[1]
    return next(row["id"] for row in json.loads(answer) if row["student"] == student)


# ---------------------------------------------------------------- the server answers while notebooks run


def test_the_server_answers_all_through_an_autograde(lab: Lab) -> None:
    begun = time.monotonic()
    with pinging(lab) as took:
        path = f"formgrader/api/submission/{tiny.LESSON}/ada/autograde"
        status, body, _ = ask(lab, "POST", path)
    whole = time.monotonic() - begun
    answer = json.loads(body)
    assert (status, answer["success"]) == (200, True), answer
    assert "ada" in answer["log"]
    assert max(took) < whole / 4
    assert len(took) > 10
    row = next(row for row in scores(tiny.LESSON, lab.root) if row.student == "ada")
    assert row.score == tiny.POINTS


def test_the_server_answers_all_through_a_validation(lab: Lab) -> None:
    begun = time.monotonic()
    with pinging(lab) as took:
        path = f"submitted/bob/{tiny.LESSON}/{tiny.LESSON}.ipynb"
        status, body, _ = ask(lab, "POST", "assignments/validate", {"path": path})
    whole = time.monotonic() - begun
    answer = json.loads(body)
    assert (status, answer["success"]) == (200, True), answer
    assert set(answer["value"]) <= {"type_changed", "changed", "failed", "passed"}
    assert max(took) < whole / 4
    assert len(took) > 10


def test_validate_refuses_what_lies_outside_the_servers_folder(lab: Lab) -> None:
    answer = json.loads(ask(lab, "POST", "assignments/validate", {"path": "../lab-home/server.log"})[1])
    assert not answer["success"]


def test_a_failure_is_told_and_the_next_request_works(lab: Lab) -> None:
    answer = json.loads(ask(lab, "POST", f"formgrader/api/submission/{tiny.LESSON}/nobody/autograde")[1])
    assert not answer["success"]
    assert "nobody has handed in nothing" in answer["log"]
    feedback = json.loads(ask(lab, "POST", f"formgrader/api/assignment/{tiny.LESSON}/eve/generate_feedback")[1])
    assert feedback["success"], feedback
    assert (lab.root / "feedback" / "eve" / tiny.LESSON / f"{tiny.LESSON}.html").is_file()


def test_the_autograde_button_in_the_browser(lab: Lab, tmp_path: Path) -> None:
    visit(lab, f"formgrader/manage_submissions/{tiny.LESSON}")
    row = lab.page.locator("#main-table tr", has=lab.page.get_by_text("bob", exact=True))
    row.locator(".autograde a").click()
    lab.page.get_by_text("Please wait...").wait_for()
    with pinging(lab) as took:
        lab.page.locator("#success-modal").wait_for(timeout=60_000)
    assert len(took) > 10
    assert "Successfully autograded" in lab.page.locator("#success-modal").inner_text()
    assert lab.screenshot(tmp_path / "autograded.png").stat().st_size > 0
    lab.page.locator("#success-modal button.btn").click()
    row.get_by_text("graded", exact=True).or_(row.get_by_text("needs manual grading")).wait_for()


# ---------------------------------------------------------------- nothing of a learner's runs


def open_submission(lab: Lab, student: str) -> list[str]:
    """Open the page on which the submission is graded, and listen."""
    said = listen(lab)
    visit(lab, f"formgrader/submissions/{submission_id(lab, student)}/")
    lab.page.wait_for_timeout(500)
    return said


@pytest.mark.parametrize("student", ["eve", STUDENT])
def test_no_script_of_a_learners_runs_in_the_formgrader(lab: Lab, tmp_path: Path, student: str) -> None:
    del lab.refused[:]
    said = open_submission(lab, student)
    for selector in ("#notebook summary", "#notebook a.click"):
        for found in lab.page.locator(selector).all():
            found.evaluate("element => element.click()")
    lab.page.wait_for_timeout(300)
    assert "owned" not in said
    assert lab.refused == []
    assert [line for line in said if "Content Security Policy" in line] == []  # not even tried
    lab.page.screenshot(path=tmp_path / "submission.png", full_page=True)


def test_nor_where_the_file_was_not_cleaned(lab: Lab) -> None:
    path = lab.root / "autograded" / "eve" / tiny.LESSON / f"{tiny.LESSON}.ipynb"
    clean = path.read_bytes()
    path.chmod(0o644)
    path.write_text(nbformat().writes(hostile.notebook()), "utf-8")
    said = open_submission(lab, "eve")
    path.write_bytes(clean)
    assert "owned" not in said
    assert lab.page.locator("#notebook p").count() > 10  # the page is there


def test_an_instructor_can_grade_there(lab: Lab) -> None:
    said = open_submission(lab, STUDENT)
    score = lab.page.locator("#tiny-why-explain")
    score.fill("1.5")
    score.press("Enter")
    lab.page.locator(".score-saved").nth(2).wait_for()
    lab.page.locator(".name-hidden.glyphicon").click()
    assert lab.page.locator("a.name-shown").inner_text().strip() == STUDENT
    row = next(row for row in scores(tiny.LESSON, lab.root) if row.student == STUDENT)
    assert row.exercises["tiny.why"] == (1.5, 2.0)
    assert [line for line in said if "Error" in line] == []


def test_the_diagnosis_of_a_wrong_answer_stands_there_as_its_comment(lab: Lab) -> None:
    open_submission(lab, "tia")
    comments = lab.page.locator("textarea.comment").evaluate_all("all => all.map(one => one.value || one.placeholder)")
    assert [said for said in comments if "you return" in said and "Look again." in said]


def test_formulas_are_drawn_without_a_network(lab: Lab) -> None:
    open_submission(lab, STUDENT)
    formula = lab.page.locator("math mfrac").last
    formula.scroll_into_view_if_needed()
    box = formula.bounding_box()
    assert box is not None
    top, bottom = (formula.locator("> *").nth(i).bounding_box() for i in range(2))
    assert top is not None and bottom is not None
    assert top["y"] < bottom["y"]  # drawn as a fraction, one part above the other


def test_a_page_that_was_handed_in_can_do_nothing(lab: Lab) -> None:
    status, _, headers = ask(lab, "GET", f"formgrader/submissions/{submission_id(lab, 'eve')}/evil.html")
    assert status == 200
    assert "sandbox;" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["manage_students/%22;alert(1)//", "manage_submissions/%3Cscript%3E"])
def test_an_address_with_markup_in_it_is_refused(lab: Lab, path: str) -> None:
    assert ask(lab, "GET", f"formgrader/{path}")[0] == 404


def test_the_configuration_is_not_shown_on_a_page(lab: Lab) -> None:
    status, page, _ = ask(lab, "GET", "formgrader/manage_assignments")
    assert status == 200
    assert b"secret_file" not in page  # it stands beside a database's password


def test_a_configuration_that_a_learner_handed_in_is_not_run(lab: Lab) -> None:
    inside = urllib.parse.quote(str(lab.root / "submitted" / "eve" / tiny.LESSON))
    assert ask(lab, "GET", f"formgrader?path={inside}")[0] == 403
    assert ask(lab, "GET", f"formgrader?path={urllib.parse.quote(str(lab.root))}")[0] == 302


@pytest.mark.parametrize(
    "path",
    [
        "manage_assignments",
        f"manage_submissions/{tiny.LESSON}",
        "gradebook",
        f"gradebook/{tiny.LESSON}",
        f"gradebook/{tiny.LESSON}/{tiny.LESSON}",
        "manage_students",
        "manage_students/eve",
        f"manage_students/eve/{tiny.LESSON}",
    ],
)
def test_nbgraders_pages_work_under_our_policy(lab: Lab, path: str) -> None:
    said = listen(lab)
    visit(lab, f"formgrader/{path}")
    lab.page.locator("#main-table a, table a").first.wait_for()
    assert [line for line in said if "Content Security Policy" in line or "Error" in line] == []
