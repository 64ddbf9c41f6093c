"""check: the card, the score as plain text, and silence on stderr whatever the candidate does."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import pytest
from jupyter_client.manager import start_new_kernel

from autograder import check as module
from autograder import exercises
from autograder.check import VERDICT_MIME, check
from autograder.exercise import CourseError, Explanation

ID = "dropout.inverted_dropout"


def right(x, p, mask):
    return x * mask / (1 - p)


def unscaled(x, p, mask):
    return x * mask


def blank(x, p, mask):
    raise NotImplementedError("Your turn: replace this line.")


def bundle(candidate):
    return check(ID, candidate)._repr_mimebundle_()


class Card(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


# ---------------------------------------------------------------- the renderings


@pytest.mark.parametrize(("candidate", "score"), [(right, "3.0"), (unscaled, "0.0"), (blank, "0.0"), (None, "0.0")])
def test_the_plain_form_is_the_score_as_a_float(candidate, score):
    result = check(ID, candidate)
    assert repr(result) == bundle(candidate)["text/plain"] == score
    assert str(float(score)) == score


def test_partial_credit_is_the_points_earned():
    def no_gradient(x, p, mask):
        return x + (x * mask / (1 - p) - x).detach()

    assert bundle(no_gradient)["text/plain"] == "2.0"


def test_the_verdict_travels_as_json():
    data = json.loads(json.dumps(bundle(unscaled)))[VERDICT_MIME]
    assert (data["exercise"], data["score"], data["max_score"]) == (ID, 0, 3)
    assert data["diagnosis"]["misconception"] == "unscaled"


def test_str_reports_criteria_cause_and_next_step():
    text = str(check(ID, unscaled))
    assert "✗ output (0/2): got" in text
    assert "The kept units are not scaled up" in text
    assert "Next: Divide by the probability of being kept." in text


@pytest.mark.parametrize(
    ("candidate", "state", "words"),
    [
        (right, "ok", "Right: 3 of 3 points. The visible cases pass; grading uses others."),
        (unscaled, "no", "Not right yet: 0 of 3 points."),
        (blank, "blank", "Not answered yet: 0 of 3 points."),
        (lambda x, p, mask: x + (x * mask / (1 - p) - x).detach(), "part", "Partly right: 2 of 3 points."),
    ],
)
def test_the_card_says_the_state_in_words(candidate, state, words):
    html = bundle(candidate)["text/html"]
    assert f'class="tdn-card {state}"' in html
    assert words in Card(html).text


def test_hints_open_one_inside_the_other_and_only_where_something_is_wrong():
    html = bundle(unscaled)["text/html"]
    assert html.index("Hint 1 of 3") < html.index("Hint 2 of 3") < html.index("Hint 3 of 3")
    assert html.count("</details></details></details>") == 1
    assert "Hint" not in bundle(right)["text/html"]


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>&lt;'


def raises_html(x, p, mask):
    raise ValueError(HOSTILE)


def prints_html(x, p, mask):
    print(HOSTILE)
    return x


def returns_html(x, p, mask):
    return HOSTILE


def named_html(x, p, mask):
    raise type(HOSTILE, (Exception,), {})("named")


@pytest.mark.parametrize("candidate", [raises_html, prints_html, returns_html, named_html])
def test_a_learners_html_comes_out_inert(candidate):
    card = Card(bundle(candidate)["text/html"])
    assert not {"script", "img"} & set(card.tags)
    assert not [name for name in card.attributes if name.startswith("on")]


@pytest.mark.parametrize("candidate", [raises_html, prints_html])
def test_a_learners_html_is_shown_as_text(candidate):
    assert HOSTILE in Card(bundle(candidate)["text/html"]).text


def test_a_card_loads_nothing_from_outside():
    html = bundle(unscaled)["text/html"]
    assert "http" not in html and "url(" not in html and "script" not in html


# ---------------------------------------------------------------- silence


def writes_to_descriptor_2(x, p, mask):
    os.write(2, b"from C++\n")
    return right(x, p, mask)


def warns(x, p, mask):
    warnings.warn("careful", UserWarning, stacklevel=1)
    return right(x, p, mask)


def logs(x, p, mask):
    logging.warning("careful")
    logging.getLogger("tensorflow").critical("careful")
    return right(x, p, mask)


def prints_to_stderr(x, p, mask):
    print("careful", file=sys.stderr)
    return right(x, p, mask)


def prints_to_the_first_stderr(x, p, mask):
    sys.__stderr__.write("no newline")
    return right(x, p, mask)


def closes_descriptor_2(x, p, mask):
    with contextlib.suppress(OSError):  # it is closed already in the second case
        os.close(2)
    return right(x, p, mask)


NOISY = [
    writes_to_descriptor_2,
    warns,
    logs,
    prints_to_stderr,
    prints_to_the_first_stderr,
    closes_descriptor_2,
    raises_html,
]


@pytest.mark.parametrize("candidate", NOISY)
def test_nothing_reaches_stderr(candidate, capfd):
    handler = logging.StreamHandler(sys.stderr)  # made before the check, as logging.basicConfig() would
    logging.getLogger().addHandler(handler)
    try:
        result = check(ID, candidate)
    finally:
        logging.getLogger().removeHandler(handler)
    sys.__stderr__.flush()
    assert capfd.readouterr().err == ""
    assert result.verdict.passed == (candidate is not raises_html)


def test_a_process_of_its_own_keeps_stderr_empty():
    """The same without pytest between: what an interpreter really leaves on descriptor 2."""
    code = (
        "import logging, os, sys, warnings; logging.basicConfig()\n"
        "from autograder.check import check\n"
        "def f(x, p, mask):\n"
        "    os.write(2, b'a'); sys.__stderr__.write('b'); print('c', file=sys.stderr)\n"
        "    logging.error('d'); warnings.simplefilter('always'); warnings.warn('e'); print('f')\n"
        "    return x * mask / (1 - p)\n"
        f"print(repr(check({ID!r}, f)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stderr, done.stdout) == ("", "3.0\n")


@pytest.mark.parametrize("candidate", [right, raises_html, closes_descriptor_2, logs])
def test_everything_is_as_it_was_afterwards(candidate, capfd):
    before = (sys.stdout, sys.stderr, os.fstat(2).st_ino, logging.root.manager.disable, list(warnings.filters))
    open_before = len(os.listdir("/proc/self/fd"))
    check(ID, candidate)
    after = (sys.stdout, sys.stderr, os.fstat(2).st_ino, logging.root.manager.disable, list(warnings.filters))
    assert after == before
    assert len(os.listdir("/proc/self/fd")) == open_before
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_stop_passes_through_and_restores_everything(capfd):
    def stopped(x, p, mask):
        raise KeyboardInterrupt

    before = os.fstat(2).st_ino
    with pytest.raises(KeyboardInterrupt):
        check(ID, stopped)
    assert os.fstat(2).st_ino == before


def test_what_was_printed_is_on_the_card_and_not_in_the_cell(capfd):
    def prints(x, p, mask):
        print("the mask is", tuple(mask.shape))
        return right(x, p, mask)

    result = check(ID, prints)
    assert capfd.readouterr().out == ""
    assert "the mask is (16, 8)" in Card(result._repr_mimebundle_()["text/html"]).text
    assert "Your code printed: the mask is (16, 8)" in str(result)


def test_a_flood_of_prints_is_cut():
    def floods(x, p, mask):
        print("x" * 100_000)
        return x

    assert len(check(ID, floods).said) == 2000


def test_exit_in_an_answer_does_not_end_the_check():
    def leaves(x, p, mask):
        sys.exit("bye")

    result = check(ID, leaves)
    assert result.verdict.score == 0
    assert "SystemExit" in result.verdict.diagnosis.message


# ---------------------------------------------------------------- which exercise


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(CourseError, match=r"no exercise '.*dropuot': did you mean dropout\.inverted_dropout\?"):
        check("dropout.inverted_dropuot", right)


def test_an_id_that_is_like_none_points_to_the_list():
    with pytest.raises(CourseError, match="`course exercises` lists them all"):
        check("zzz", right)


def test_a_question_answered_in_words_has_no_check(monkeypatch):
    words = Explanation("test.why", "00_test", "Why", {"because": 2})
    monkeypatch.setattr(exercises, "get", lambda id: words)
    with pytest.raises(CourseError, match=r"test\.why is graded by hand"):
        module.check("test.why", right)


# ---------------------------------------------------------------- in a real kernel


KERNEL_CODE = f"""
import logging, os, subprocess, sys, warnings
logging.basicConfig()
from autograder.check import check
def answer(x, p, mask):
    os.write(2, b"a")
    print("b", file=sys.stderr)
    logging.error("c")
    warnings.warn("d")
    os.system("echo e >&2")
    return x * mask / (1 - p)
check({ID!r}, answer)
"""


@pytest.mark.slow
def test_in_a_notebook_the_check_puts_out_the_score_and_nothing_else():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(KERNEL_CODE)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "execute_result"
    assert output.data["text/plain"] == "3.0"
    assert output.data[VERDICT_MIME]["score"] == 3


# ---------------------------------------------------------------- the learner's journal


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """As in a learner's own JupyterLab, opened by `course lab`: the journal that checks are noted in."""
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(module.journal, "noting", lambda: True)
    return module.journal.Journal(tmp_path / "data")


def test_checks_are_noted_with_what_was_recognized_and_a_blank_answer_is_not(noted):
    for candidate in (blank, unscaled, unscaled, right):
        assert check(ID, candidate).notice == ""
    wrong, passed = noted.read().checks
    assert (wrong.exercise, wrong.misconception, wrong.times) == (ID, "unscaled", 2)
    assert "not scaled up" in wrong.message
    assert (passed.score, passed.passed, passed.misconception) == (3, True, "")


def test_nothing_is_noted_outside_a_learners_lab(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COURSE_PROGRESS", "on")  # inherited by a grader that is started in the lab's terminal
    assert check(ID, right).verdict.passed
    assert not (tmp_path / "data").exists()


def test_a_journal_in_trouble_breaks_no_check_and_says_so_in_one_quiet_line(noted, capfd):
    noted.path.parent.mkdir()
    noted.path.write_bytes(b"no database at all" * 100)
    result = check(ID, right)
    assert repr(result) == "3.0"
    assert "Not noted in your progress" in Card(bundle(right)["text/html"]).text
    assert str(result).splitlines()[-1] == result.notice
    assert capfd.readouterr() == ("", "")


def test_not_even_an_unforeseen_error_of_the_journal_breaks_a_check(noted, monkeypatch):
    monkeypatch.setattr(module.journal, "Journal", None)
    assert "Not noted" in check(ID, right).notice


@pytest.mark.slow
def test_a_kernel_notes_what_a_person_runs_and_nothing_that_a_program_runs(tmp_path):
    """The same kernel, the same switch: nbclient, and so nbgrader, says that nobody is there; JupyterLab does not."""
    environment = {**os.environ, "COURSE_DATA_DIR": str(tmp_path / "data"), "COURSE_PROGRESS": "on"}
    manager, client = start_new_kernel(env=environment)
    try:
        for someone in (False, True):
            code = (
                "from autograder.check import check; from course_lib.predictions import predict\n"
                f"predict('scaled_net_is_average', answer='b')\ncheck('{ID}', lambda x, p, mask: x * mask)"
            )
            reply = client.execute_interactive(code, allow_stdin=someone, timeout=60, output_hook=lambda message: None)
            assert reply["content"]["status"] == "ok"
            assert (tmp_path / "data").exists() == someone
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kept = module.journal.Journal(tmp_path / "data").read()
    assert [check.misconception for check in kept.checks] == ["unscaled"]
