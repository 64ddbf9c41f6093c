"""A class through nbgrader: who hurts whom (nobody), what is kept, what is said when the gradebook can't be used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_course as tiny

from autograder import execute, exercises, gradebook, grader
from autograder.engine import Where
from autograder.exercise import CourseError
from autograder.gradebook import GradebookError, feedback, places, release, scores
from autograder.judge import VISIBLE_SEEDS
from autograder.remarks import summary
from autograder.submission import grade_id, parse, read, role_of

grade = partial(grader.grade, where=Where(workers=0))
POINTS = tiny.POINTS + tiny.HAND_GRADED
pytestmark = pytest.mark.usefixtures("tiny_registered")
LIMITS = "c.Execute.timeout = 2\nc.RunCells.notebook_timeout = 20\nc.Settings.probe_timeout = 3"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built checkout, made without nbgrader's subprocess."""
    return tiny.make_built_course(tmp_path_factory.mktemp("checkout"), config=LIMITS)


@pytest.fixture(scope="session")
def released(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "class"
    release(tiny.LESSON, folder, source=checkout)
    return folder


@pytest.fixture
def course(released: Path, tmp_path: Path) -> Path:
    """A class of its own to which the lesson has been released."""
    folder = tmp_path / "class"
    shutil.copytree(released, folder)
    return folder


def handed_out(course: Path) -> Any:
    return read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")


def hand_in(course: Path, **students: dict[str, str] | Any) -> None:
    """Each student's answers, or a whole notebook, or raw bytes."""
    for student, work in students.items():
        plain_answers = isinstance(work, dict) and "cells" not in work
        tiny.submit(course, student, tiny.answered(handed_out(course), work) if plain_answers else work)


def by_student(rows: list[Any]) -> dict[str, Any]:
    return {row.student: row for row in rows}


def connect(course: Path) -> sqlite3.Connection:
    return sqlite3.connect(course / "gradebook.db")


# ---------------------------------------------------------------- releasing


def test_a_release_holds_the_notebook_and_its_images_but_no_source(released: Path) -> None:
    made = sorted(str(p.relative_to(released)) for p in released.rglob("*") if p.is_file())
    assert made == [
        "gradebook.db",
        "lessons/00_tiny/00_tiny.ipynb",
        "lessons/00_tiny/dot.svg",
        "nbgrader_config.py",
        "solutions/00_tiny/00_tiny.ipynb",
        "solutions/00_tiny/dot.svg",
    ]
    assert "twice_as_much" not in (released / "lessons/00_tiny/00_tiny.ipynb").read_text()


def test_releasing_what_is_not_there_is_refused(checkout: Path, course: Path, tmp_path: Path) -> None:
    with pytest.raises(GradebookError, match=r"there is no built lesson '99_none'.*run `course build 99_none`"):
        release("99_none", tmp_path / "other", source=checkout)
    with pytest.raises(GradebookError, match=r"there is no lesson '99_none' in"):
        release("99_none", course)


@pytest.mark.slow
def test_other_cells_can_not_be_released_after_hand_in_and_the_old_release_stays(course: Path, checkout: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    grade(tiny.LESSON, course)
    before = {path: path.read_bytes() for folder in ("lessons", "solutions") for path in course.glob(f"{folder}/*/*")}
    newer = checkout.parent / "newer"
    shutil.copytree(checkout, newer, dirs_exist_ok=True)
    path = newer / "solutions" / tiny.LESSON / f"{tiny.LESSON}.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"] = [cell for cell in notebook["cells"] if not cell["id"].startswith("tiny-square")]
    path.write_text(json.dumps(notebook))
    with pytest.raises(GradebookError, match=r"was handed in already, and this would add or remove cells") as caught:
        release(tiny.LESSON, course, source=newer)
    assert one_line(caught)
    assert {path: path.read_bytes() for path in before} == before


# ---------------------------------------------------------------- a class, nobody hurts anybody


def stripped(notebook: Any) -> Any:
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"x{number}"
    return notebook


def doubled(notebook: Any) -> Any:
    notebook.cells.append(dict(tiny.find(notebook, "tiny.double", "check")))
    return notebook


def newer_schema(notebook: Any) -> Any:
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.schema_version = 7
    return notebook


def with_bad_outputs(notebook: Any) -> Any:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [{"output_type": "spell", "text": 3}, 7]
    return notebook


def greedy(notebook: Any) -> Any:
    for cell in notebook.cells:
        cell.metadata["tags"] = ["skip-execution"]
        if role_of(cell)[0] == "check":
            cell.metadata.nbgrader.points = 749
            cell.source = "749.0"
    return notebook


@pytest.fixture(scope="module")
def graded(
    released: Path, tiny_registered: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A class with everything in it, graded once for this file."""
    course = tmp_path_factory.mktemp("all") / "class"
    shutil.copytree(released, course)

    def right(**answers: str) -> Any:
        sources = tiny.ANSWERS | {f"tiny.{name}": source for name, source in answers.items()}
        return tiny.answered(handed_out(course), sources)

    hand_in(
        course,
        untouched={},
        right={**tiny.ANSWERS, "tiny.why": "A sum is not a product."},
        partial=right(double="def double(x):\n    return x * x"),
        crash=right(square="import os\nos._exit(3)"),
        endless=right(double="while True:\n    pass"),
        copied=doubled(right()),
        stripped=stripped(right()),
        newer=newer_schema(right()),
        outputs=with_bad_outputs(right()),
        greedy=greedy(right(square="def square(x):\n    return 0")),
        warned=right(double="import sys\ndef double(x):\n    sys.stderr.write('careful')\n    return x + x"),
        broken=b"{",
        elsewhere=json.dumps({**right(), "metadata": {"training_deep_nets": {"lesson": "01_other"}}}).encode(),
        hostile=right(double="def double(x):\n    raise Exception('<img src=x onerror=1> [a](javascript:b)')"),
    )
    yield course, by_student(grade(tiny.LESSON, course))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "score"),
    [
        ("untouched", 0),
        ("right", 5),
        ("partial", 4),
        ("crash", 3),
        ("endless", 2),
        ("copied", 5),
        ("stripped", 5),
        ("newer", 5),
        ("outputs", 5),
        ("greedy", 3),
        ("warned", 5),
        ("broken", 0),
        ("elsewhere", 0),
        ("hostile", 2),
    ],
)
def test_everyone_gets_the_score_of_their_own_work(graded: tuple, student: str, score: float) -> None:
    row = graded[1][student]
    assert (row.score, row.max_score, row.problem, row.fresh) == (score, POINTS, "", True)


@pytest.mark.slow
def test_an_answer_in_words_waits_for_a_person_and_an_untouched_one_is_zero(graded: tuple) -> None:
    assert graded[1]["right"].needs_manual_grade
    assert not graded[1]["untouched"].needs_manual_grade


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "exercise", "comment"),
    [
        ("partial", "tiny.double", "For 0.5 you return 0.25. Look again."),
        ("crash", "tiny.square", "Python itself ended while it ran the solution cell of tiny.square: "),
        ("endless", "tiny.double", "This cell was stopped: a cell may run for 2 s, a notebook for 20 s."),
        ("broken", "tiny.double", "00_tiny.ipynb is not JSON, so it is not a notebook."),
        ("elsewhere", "tiny.double", "00_tiny.ipynb belongs to lesson 01_other, not to 00_tiny."),
        ("untouched", "tiny.double", "No response."),
    ],
)
def test_the_diagnosis_is_the_comment_on_the_answer(graded: tuple, student: str, exercise: str, comment: str) -> None:
    assert comment in by_student(scores(tiny.LESSON, graded[0]))[student].comments[exercise]


@pytest.mark.slow
def test_a_right_answer_has_no_comment(graded: tuple) -> None:
    row = by_student(scores(tiny.LESSON, graded[0]))["right"]
    assert row.comments == {}
    assert row.exercises == {"tiny.double": (3.0, 3.0), "tiny.square": (2.0, 2.0), "tiny.why": (0.0, 2.0)}
    assert [found.score for found in row.outcomes] == [3.0, 2.0]


@pytest.mark.slow
def test_scores_carry_the_misconception_for_the_report(graded: tuple) -> None:
    row = by_student(scores(tiny.LESSON, graded[0]))["partial"]
    assert [found.misconception for found in row.outcomes] == ["squared", None]


@pytest.mark.slow
def test_scores_carry_what_a_report_tells_of_a_run(graded: tuple) -> None:
    rows = by_student(scores(tiny.LESSON, graded[0]))
    assert rows["right"].seconds > 0 and rows["right"].remarks == () and rows["right"].problem == ""
    assert rows["right"].answers["tiny.double"] == tiny.ANSWERS["tiny.double"]
    assert (rows["broken"].seconds, rows["broken"].problem) == (
        None,
        "00_tiny.ipynb is not JSON, so it is not a notebook.",
    )


@pytest.mark.slow
def test_reading_scores_leaves_the_gradebooks_file_as_it_was(graded: tuple) -> None:
    """Reports are kept until that file changes."""
    database = places(graded[0]).database
    before = database.stat().st_mtime_ns
    scores(tiny.LESSON, graded[0])
    assert database.stat().st_mtime_ns == before


@pytest.mark.slow
def test_feedback_shows_the_diagnosis_and_runs_nothing_of_the_learners(graded: tuple) -> None:
    pages = feedback(tiny.LESSON, graded[0], ["partial", "hostile"])
    assert [page.parent.parent.name for page in pages] == ["partial", "hostile"]
    assert "For 0.5 you return 0.25." in pages[0].read_text()
    comment = pages[1].read_text().split("<b>Comments:</b>")[1].split("</div>")[0]
    assert "&lt;img" in comment
    assert "<img" not in comment
    assert 'href="javascript' not in comment


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "line"),
    [
        ("greedy", "changed the points of 2 checks; tagged "),
        ("copied", "1 check there twice; put right from the release"),
        ("stripped", "1 setup cell"),
        ("newer", "of another schema; put right from the release"),
    ],
)
def test_what_was_put_right_is_told_in_a_line(graded: tuple, student: str, line: str) -> None:
    assert line in summary(gradebook.changes(tiny.LESSON, graded[0])[student])


@pytest.mark.slow
def test_honest_work_is_not_among_what_was_put_right(graded: tuple) -> None:
    told = gradebook.changes(tiny.LESSON, graded[0])
    assert set(told) == {"copied", "stripped", "newer", "greedy"}
    assert [student for student, remarks in told.items() if any(r.deliberate for r in remarks)] == ["greedy"]


@pytest.mark.slow
def test_a_second_run_grades_nobody_again(graded: tuple) -> None:
    assert not any(row.fresh for row in grade(tiny.LESSON, graded[0]))


# ---------------------------------------------------------------- again, and after a stop


@pytest.mark.slow
def test_force_grades_again_and_a_changed_file_is_graded_again_without(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS, emmy={})
    grade(tiny.LESSON, course)
    hand_in(course, emmy=tiny.ANSWERS)
    assert {row.student: (row.score, row.fresh) for row in grade(tiny.LESSON, course)} == {
        "ada": (5.0, False),
        "emmy": (5.0, True),
    }
    assert [row.fresh for row in grade(tiny.LESSON, course, ["ada"], force=True)] == [True]


@pytest.mark.slow
def test_an_instructors_score_and_comment_stay(course: Path) -> None:
    hand_in(course, ada={**tiny.ANSWERS, "tiny.double": "def double(x):\n    return 0"})
    grade(tiny.LESSON, course)
    with gradebook.pipeline.Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        names = (tiny.LESSON, tiny.LESSON, "ada")
        book.find_comment(grade_id("tiny.double", "solution"), *names).manual_comment = "See me."
        book.find_grade(grade_id("tiny.double", "check"), *names).manual_score = 1.5
        book.db.commit()
    grade(tiny.LESSON, course, force=True)
    (row,) = scores(tiny.LESSON, course)
    assert row.comments["tiny.double"] == row.notes["tiny.double"] == "See me."
    assert row.exercises["tiny.double"] == (1.5, 3.0)
    assert row.score == 3.5


@pytest.mark.parametrize("left", ["nothing", "half a file", "a sanitized notebook"])
def test_a_half_made_folder_is_graded_again(course: Path, left: str) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    target = course / "autograded" / "ada" / tiny.LESSON
    target.mkdir(parents=True)
    submitted = (course / "submitted/ada" / tiny.LESSON / f"{tiny.LESSON}.ipynb").read_text()
    if left != "nothing":
        (target / f"{tiny.LESSON}.ipynb").write_text(submitted[:200] if left == "half a file" else submitted)
    (row,) = grade(tiny.LESSON, course)
    assert (row.score, row.fresh) == (5.0, True)


GRADE = (
    "import sys; from autograder import engine, grader; "
    "grader.grade('00_tiny', sys.argv[1], where=engine.Where(workers=0))"
)


@pytest.mark.slow
def test_a_run_that_was_killed_loses_nothing_and_the_next_one_ends_it(course: Path) -> None:
    hand_in(
        course, ada=tiny.ANSWERS, bob={**tiny.ANSWERS, "tiny.double": "import time\ntime.sleep(60)"}, cleo=tiny.ANSWERS
    )
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("\nc.Execute.timeout = 15\n")
    run = subprocess.Popen([sys.executable, "-c", GRADE, str(course)], start_new_session=True)
    recorded = course / "autograded" / "ada" / tiny.LESSON / f"{tiny.LESSON}.ipynb"
    deadline = time.monotonic() + 90
    while not recorded.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert recorded.exists()
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("\nc.Execute.timeout = 1\n")
    rows = grade(tiny.LESSON, course)
    assert [(row.student, row.score, row.fresh) for row in rows] == [
        ("ada", 5.0, False),
        ("bob", 2.0, True),
        ("cleo", 5.0, True),
    ]


# ---------------------------------------------------------------- what can't be done is one line


def one_line(error: pytest.ExceptionInfo) -> bool:
    return "\n" not in str(error.value)


def test_a_folder_that_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(GradebookError, match=r"is not a class's folder: it has no nbgrader_config.py"):
        grade(tiny.LESSON, tmp_path)


def test_a_class_without_a_gradebook(course: Path) -> None:
    (course / "gradebook.db").unlink()
    with pytest.raises(GradebookError, match=r"there is no gradebook .*gradebook.db: release a lesson"):
        grade(tiny.LESSON, course)
    assert not (course / "gradebook.db").exists()


def test_an_unknown_lesson_and_an_unknown_student(course: Path) -> None:
    with pytest.raises(GradebookError, match=r"no lesson '99_none' in the gradebook .*: it has 00_tiny"):
        grade("99_none", course)
    with pytest.raises(GradebookError, match=r"nobody has handed in nothing"):
        grade(tiny.LESSON, course, ["nobody"])


def test_a_damaged_gradebook(course: Path) -> None:
    (course / "gradebook.db").write_bytes(b"not a database" * 100)
    with pytest.raises(GradebookError, match=r"is damaged: put a backup in its place") as caught:
        grade(tiny.LESSON, course)
    assert one_line(caught)


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locked(course: Path) -> Iterator[Path]:
    """The class, while another process holds its gradebook."""
    command = [sys.executable, "-c", HOLD, str(course / "gradebook.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield course
        holder.communicate("")


@pytest.mark.slow
def test_a_gradebook_in_use_by_another_process(locked: Path) -> None:
    hand_in(locked, ada=tiny.ANSWERS)
    for action in (grade, scores, feedback, release):
        with pytest.raises(GradebookError, match=r"gradebook.db is in use by another process") as caught:
            action(tiny.LESSON, locked)
        assert one_line(caught)
    assert not (locked / "autograded").exists()


def test_no_write_permission_for_the_gradebook(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: str, **options: Any) -> sqlite3.Connection:
        return connect_really(path.replace("mode=rw", "mode=ro"), **options)

    connect_really = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", read_only)  # the tests may run as root, whom no mode stops
    with pytest.raises(GradebookError, match=r"can't be written: see to its permissions") as caught:
        grade(tiny.LESSON, course)
    assert one_line(caught)


def test_a_place_that_can_not_be_written_is_that_submissions_problem_only(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS, bob=tiny.ANSWERS)
    (course / "autograded").mkdir()
    (course / "autograded" / "ada").write_text("a file where a folder must be")
    rows = by_student(grade(tiny.LESSON, course))
    assert rows["ada"].problem.startswith("cannot write: ")
    assert "\n" not in rows["ada"].problem
    assert (rows["bob"].score, rows["bob"].problem) == (5.0, "")


def test_a_kernel_that_can_not_start_is_a_problem_not_a_zero(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise CourseError("the sandbox can't cut the network off here: use another machine")

    monkeypatch.setattr(execute, "start_kernel", refuse)
    hand_in(course, ada=tiny.ANSWERS)
    (row,) = grade(tiny.LESSON, course)
    assert "the sandbox can't cut the network off here: use another machine" in row.problem
    assert not (course / "autograded" / "ada" / tiny.LESSON).exists()


@pytest.mark.slow
def test_what_is_autograded_can_be_read_back(graded: tuple) -> None:
    path = graded[0] / "autograded" / "right" / tiny.LESSON / f"{tiny.LESSON}.ipynb"
    notebook = parse(path.read_bytes(), "it", outputs=True)
    outputs = tiny.find(notebook, "tiny.double", "check").outputs
    assert [output.output_type for output in outputs] == ["execute_result"]


# ---------------------------------------------------------------- the cases of graded checks


def seeds(student: str, secret: Path | str) -> dict[str, tuple[int, ...]]:
    runner = gradebook.RunCells(secret_file=str(secret))
    return dict(runner.task(tiny.answered(tiny.released(), tiny.ANSWERS), tiny.LESSON, student).seeds)


def test_each_learner_has_cases_of_their_own_the_same_at_every_regrade(tmp_path: Path) -> None:
    mine, hers, there = (seeds(who, tmp_path / secret) for who, secret in (("ada", "s"), ("emmy", "s"), ("ada", "t")))
    assert mine == seeds("ada", tmp_path / "s")
    drawn = [*mine.values(), *hers.values(), *there.values()]
    assert len(set(drawn)) == len(drawn) == 6  # 32 bits: a false alarm once in 280 million secrets


def test_without_a_secret_the_visible_cases_serve() -> None:
    assert set(seeds("ada", "").values()) == {VISIBLE_SEEDS}


# ---------------------------------------------------------------- regrading


def test_an_exercise_that_changed_is_judged_anew_without_running_anything(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference changes; the probe and the cases don't."""
    hand_in(course, ada=tiny.ANSWERS, emmy=tiny.ANSWERS)
    grade(tiny.LESSON, course)
    assert [row.fresh for row in grade(tiny.LESSON, course)] == [False, False]
    changed = replace(tiny.RECORDS["tiny.square"], reference=tiny.RECORDS["tiny.double"].reference, misconceptions=())
    monkeypatch.setitem(exercises.EXERCISES, "tiny.square", changed)
    monkeypatch.setattr(execute, "_run", None)
    rows = grade(tiny.LESSON, course)
    assert [(row.score, row.fresh, row.problem) for row in rows] == [(3.0, True, ""), (3.0, True, "")]


def test_an_exercise_whose_probe_changed_is_run_again(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    grade(tiny.LESSON, course)
    changed = replace(tiny.RECORDS["tiny.square"], answer="double", cases=tiny.RECORDS["tiny.double"].cases)
    monkeypatch.setitem(exercises.EXERCISES, "tiny.square", changed)
    (row,) = grade(tiny.LESSON, course)
    assert (row.score, row.fresh) == (3.0, True)
