"""The class's page and table: what they count, what they escape, and what they gather from a graded class."""

import re
from html.parser import HTMLParser

import pytest

from autograder import gradebook, report
from autograder.exercise import CourseError
from autograder.gradebook import Score
from autograder.report import (
    STATES,
    ExerciseResult,
    StudentResult,
    class_report,
    class_table,
    read_results,
    write_report,
)
from autograder.submission import Outcome, nbformat

LESSON = "08_dropout"
INVERTED, CLASSIC, WHY = "dropout.inverted_dropout", "dropout.classic_dropout", "dropout.explain"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m'


def answer(exercise, score, possible, status, message="", misconception=None):
    return ExerciseResult(exercise, score, possible, status, message, misconception)


def student(name, *answers, problems=()):
    return StudentResult(name, sum(a.score for a in answers), sum(a.max_score for a in answers), answers, problems)


FULL = answer(INVERTED, 3, 3, "full")
UNSCALED = answer(INVERTED, 0, 3, "zero", "Not scaled up.", "unscaled")
CLASS = (
    student("ann", FULL, answer(CLASSIC, 2, 2, "full")),
    student("ben", UNSCALED, answer(CLASSIC, 1, 2, "partial", "Off at test.", "dropped_at_test")),
    student("cem", UNSCALED, answer(CLASSIC, 0, 2, "zero", "Nobody knows why.")),
    student("dai", answer(INVERTED, 0, 3, "blank"), answer(CLASSIC, 0, 2, "not run"), problems=("Python ended.",)),
)


class Page(HTMLParser):
    """Tags, attributes and the text of each table row."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.ids, self.rows, self.text, self.open = [], [], [], [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, start):
        return next(row for row in self.rows if row[0].startswith(start) or (len(row) > 1 and row[1].startswith(start)))


# ---------------------------------------------------------------- the page


def test_every_tag_is_closed_and_ids_are_unique():
    page = Page(class_report(LESSON, CLASS, day="2026-11-21"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_the_facts_count_the_class():
    text = Page(class_report(LESSON, CLASS)).text
    assert "4submissions" in text
    assert "30%of the points on average" in text  # (5 + 1 + 0 + 0) of 20
    assert "0.5points of 5 in the middle (median)" in text
    assert "1with a problem" in text


def test_an_exercise_has_its_counts_and_its_difficulty():
    page = Page(class_report(LESSON, CLASS))
    inverted, classic = page.rows[1], page.rows[2]
    assert inverted[1].endswith(INVERTED)
    #                       points, mean, full, partial, zero, blank, no verdict, difficulty (1 of 3 who tried)
    assert inverted[2:] == ["3", "25%", "1", "–", "2", "1", "–", "hard"]
    assert classic[2:] == ["2", "38%", "1", "1", "1", "–", "1", "medium"]


def test_misconceptions_are_counted_with_one_example():
    page = Page(class_report(LESSON, CLASS))
    assert page.row("unscaled")[0] == "2 of 3"
    assert page.row("unscaled")[2] == "Not scaled up."
    assert page.row("dropped_at_test")[0] == "1 of 3"
    text = page.text
    assert text.index("Not scaled up.") < text.index("Off at test.")
    assert "1 wrong answer was wrong in a way that the catalogue does not know" in text


def test_what_was_seen_once_is_folded_away():
    """Two were seen twice and thirteen once: ten are shown, five are a click away."""
    wrong = [student(f"s{i:02}", answer(INVERTED, 0, 3, "zero", "m", f"mistake_{i % 15:02}")) for i in range(17)]
    html = class_report(LESSON, wrong)
    shown, folded = html.split("<details>")
    assert "<summary>5 more, each seen once</summary>" in folded
    assert [shown.count("mistake_00"), shown.count("mistake_09"), shown.count("mistake_10")] == [1, 1, 0]
    assert Page(html).row("mistake_00")[0] == "2 of 17"
    assert "<details" not in class_report(LESSON, CLASS)


def test_the_histogram_is_described_in_words():
    html = class_report(LESSON, CLASS)
    assert 'role="img"' in html and "<title id=" in html
    assert "0 to 10%: 2, 20 to 30%: 1, 90 to 100%: 1" in html
    assert html.count("<rect") == 3


def test_the_histogram_survives_all_scores():
    for score in (0, 0.1, 2.5, 5):
        assert class_report(LESSON, (student("a", answer(INVERTED, score, 5, "partial")),)).count("<rect") == 1


def test_points_that_wait_for_a_person_are_left_out_of_the_share():
    waiting = answer(WHY, 0, 4, "by hand")
    page = Page(class_report(LESSON, (student("ann", FULL, waiting),)))
    assert page.row("ann")[1:3] == ["3 of 7", "100%"]
    assert page.rows[2][3] == "–"  # no mean yet
    assert "1wait for grading by hand" in page.text


def test_each_state_has_a_sign_of_its_own():
    assert len(set(STATES.values())) == len(STATES)
    page = Page(class_report(LESSON, CLASS))
    assert page.row("ann")[3:] == ["● 3", "● 2"]
    assert page.row("ben")[3:] == ["✗ 0", "◐ 1"]
    assert page.rows[-1][3:] == ["–", "!"]


def test_tables_have_captions_and_scopes():
    page = Page(class_report(LESSON, CLASS))
    assert page.tags.count("table") == page.tags.count("caption") == 4
    assert page.tags.count("th") == sum(name == "scope" for name, _ in page.attributes)


def test_an_empty_class_has_a_page():
    page = Page(class_report(LESSON, ()))
    assert "0submissions" in page.text
    assert "every submission ran to its end" in page.text


def test_a_class_without_a_grade_has_a_page():
    page = Page(class_report(LESSON, (StudentResult("ann", 0, 0, (), ("Not graded.",)),)))
    assert "Not graded." in page.text


def test_the_page_stands_alone():
    html = class_report(LESSON, CLASS)
    assert "script" not in html
    assert not re.search(r"https?:|url\(|@import|\bsrc=|\bhref=", html)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme:dark" in html and "@media print" in html


HOSTILE_CLASS = (
    StudentResult(
        HOSTILE,
        1,
        3,
        (ExerciseResult(HOSTILE, 1, 3, HOSTILE, HOSTILE, HOSTILE), answer(INVERTED, 1, 3, "partial", HOSTILE, HOSTILE)),
        (HOSTILE,),
        HOSTILE,
    ),
)


def test_whatever_comes_from_a_learner_is_escaped():
    page = Page(class_report(HOSTILE, HOSTILE_CLASS, day=HOSTILE))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
    assert page.text.count("<script>alert(1)</script>") >= 6
    assert page.open == []


def test_a_long_message_is_cut():
    long = student("ann", answer(INVERTED, 0, 3, "zero", "m" * 5000, "unscaled"), problems=("p" * 5000,))
    html = class_report(LESSON, (long,))
    assert "m" * 500 + "…" in html and "m" * 501 not in html and "p" * 501 not in html


# ---------------------------------------------------------------- the terminal


def test_the_table_compares_with_what_was_expected():
    lines = class_table(CLASS[:2], expected={"ann": 5, "ben": 2}).splitlines()
    assert lines[0].split() == ["student", "points", "of", "expected", "remarks"]
    assert lines[2].split() == ["ann", "5", "5", "5", "✓"]
    assert lines[3].split() == ["ben", "1", "5", "2", "✗"]


def test_the_table_shows_the_first_problem():
    assert class_table(CLASS).splitlines()[-1].endswith("Python ended.")


def test_wide_characters_keep_the_columns_straight():
    lines = class_table((student("李-随机", FULL), student("ann", FULL))).splitlines()
    assert lines[2] == "李-随机       3   3"
    assert lines[3] == "ann           3   3"


def test_nothing_in_the_table_drives_the_terminal():
    assert "\x1b" not in class_table(HOSTILE_CLASS)


# ---------------------------------------------------------------- from a graded class


def outcome(exercise, score, possible, message="", misconception=None, verdict=True):
    return Outcome(exercise, score, possible, message, "", misconception, {} if verdict else None)


@pytest.fixture
def graded(monkeypatch):
    """Put rows into a gradebook that isn't there."""

    def put(*rows):
        monkeypatch.setattr(gradebook, "scores", lambda lesson, course: list(rows))

    return put


@pytest.mark.parametrize(
    ("score", "outcomes", "status"),
    [
        (3, (outcome(INVERTED, 3, 3),), "full"),
        (2, (outcome(INVERTED, 2, 3, "m"),), "partial"),
        (0, (outcome(INVERTED, 0, 3, "m", "unscaled"),), "zero"),
        (0, (outcome(INVERTED, 0, 3, "Not answered yet."),), "blank"),
        (0, (outcome(INVERTED, 0, 3, "It hung.", verdict=False),), "not run"),
        (3, (outcome(INVERTED, 0, 3, "It hung.", verdict=False),), "full"),  # the instructor gave the points
        (0, (), "by hand"),
    ],
)
def test_the_status_of_an_exercise(graded, tmp_path, score, outcomes, status):
    graded(Score("ann", score, 3, True, {INVERTED: (score, 3)}, {}, outcomes))
    (result,) = read_results(LESSON, tmp_path)
    assert result.exercises[0].status == status


def test_an_answer_in_words_that_nobody_need_grade_is_blank(graded, tmp_path):
    graded(Score("ann", 0, 4, False, {WHY: (0, 4)}))
    assert read_results(LESSON, tmp_path)[0].exercises[0].status == "blank"


def test_exercises_come_in_the_lessons_order_and_names_are_added(graded, tmp_path):
    graded(Score("ann", 3, 5, False, {CLASSIC: (0, 2), INVERTED: (3, 3)}))
    (result,) = read_results(LESSON, tmp_path, {"ann": "Ann B."})
    assert [done.exercise for done in result.exercises] == [INVERTED, CLASSIC]
    assert result.name == "Ann B."


def test_a_crash_is_told_once(graded, tmp_path):
    ended = "Python itself ended while it ran cell 3."
    messages = [ended, *[f"This check was not run: {ended}"] * 3]
    found = [outcome(f"dropout.e{i}", 0, 1, message, verdict=False) for i, message in enumerate(messages)]
    graded(Score("ann", 0, 4, False, {one.exercise: (0, 1) for one in found}, {}, tuple(found[1:])))
    assert read_results(LESSON, tmp_path)[0].problems == (ended,)


def test_a_check_without_a_verdict_is_a_problem_that_names_its_exercise(graded, tmp_path):
    graded(Score("ann", 0, 3, False, {INVERTED: (0, 3)}, {}, (outcome(INVERTED, 0, 3, "It hung.", verdict=False),)))
    assert read_results(LESSON, tmp_path)[0].problems == (f"{INVERTED}: It hung.",)


def test_a_submission_without_a_grade_is_reported(graded, tmp_path):
    graded()
    (tmp_path / "submitted" / "ann" / LESSON).mkdir(parents=True)
    (result,) = read_results(LESSON, tmp_path)
    assert (result.student, result.problems) == ("ann", ("Not graded.",))


# ---------------------------------------------------------------- files that were changed


def release():
    v4 = nbformat().v4
    flags = {"schema_version": 3, "task": False}
    cells = []
    for name, grade in (("solution", False), ("check", True)):
        options = {"grade_id": f"dropout-module-{name}", "grade": grade, "solution": not grade, "locked": grade}
        options |= flags | ({"points": 3} if grade else {})
        source = "check('dropout.module', Dropout)" if grade else "class Dropout:\n    ..."
        cells.append(v4.new_code_cell(source, id=f"dropout-module-{name}", metadata={"nbgrader": options}))
    return v4.new_notebook(cells=cells)


def nothing(notebook):
    pass


def answered(notebook):
    notebook.cells[0].source = "class Dropout(nn.Module):\n    pass"
    notebook.cells[0].metadata.collapsed = False
    notebook.cells.append(nbformat().v4.new_code_cell("1 + 1"))


def points(notebook):
    notebook.cells[1].metadata.nbgrader.points = 1000


def unlocked(notebook):
    notebook.cells[1].metadata.nbgrader.locked = False


def tagged(notebook):
    notebook.cells[1].metadata.tags = ["skip-execution"]


def deleted(notebook):
    del notebook.cells[1]


def copied(notebook):
    twin = nbformat().from_dict({**notebook.cells[1], "id": "copied"})
    notebook.cells.append(twin)


def rewritten(notebook):
    notebook.cells[1].source = "3.0"


def stripped(notebook):
    for cell in notebook.cells:
        cell.metadata = {}


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (nothing, ()),
        (answered, ()),
        (points, ("Put right: check of dropout.module: its points were changed.",)),
        (unlocked, ("Put right: check of dropout.module: its lock or kind was changed.",)),
        (tagged, ("Put right: check of dropout.module: was tagged to be skipped.",)),
        (deleted, ("Put right: check of dropout.module: was missing.",)),
        (copied, ("Put right: check of dropout.module: was there twice; the last one counts.",)),
        (rewritten, ("Put right: check of dropout.module: its text was changed.",)),
        (stripped, ("Put right: solution of dropout.module and 1 more: had lost its metadata.",)),
    ],
)
def test_a_changed_file_is_reported_and_an_honest_one_is_not(graded, tmp_path, change, problems):
    graded(Score("ann", 0, 3, False, {"dropout.module": (0, 3)}))
    handed_in = release()
    change(handed_in)
    for path, notebook in (("lessons", release()), ("submitted/ann", handed_in)):
        folder = tmp_path / path / LESSON
        folder.mkdir(parents=True)
        (folder / f"{LESSON}.ipynb").write_text(nbformat().writes(notebook), "utf-8")
    assert read_results(LESSON, tmp_path)[0].problems == problems


def test_a_missing_file_is_reported(graded, tmp_path):
    graded(Score("ann", 0, 3, False, {"dropout.module": (0, 3)}))
    (tmp_path / "lessons" / LESSON).mkdir(parents=True)
    (tmp_path / "lessons" / LESSON / f"{LESSON}.ipynb").write_text(nbformat().writes(release()), "utf-8")
    assert read_results(LESSON, tmp_path)[0].problems == (f"No file {LESSON}.ipynb was handed in.",)


# ---------------------------------------------------------------- writing


def test_the_page_is_written_into_the_class(graded, tmp_path):
    graded(Score("ann", 3, 3, False, {INVERTED: (3, 3)}, {}, (outcome(INVERTED, 3, 3),)))
    page = write_report(LESSON, tmp_path)
    assert page == tmp_path / "reports" / f"{LESSON}.html"
    assert "ann" in page.read_text("utf-8")
    assert [path.name for path in page.parent.iterdir()] == [page.name]


def test_a_folder_that_cannot_be_written_is_one_clear_line(graded, tmp_path):
    graded()
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(CourseError, match=r"cannot write .*reports"):
        write_report(LESSON, tmp_path)


def test_a_folder_that_is_no_class_is_one_clear_line(tmp_path):
    with pytest.raises(CourseError, match="is not a class's folder"):
        write_report(LESSON, tmp_path)


def test_the_public_names_are_those_listed():
    assert all(hasattr(report, name) for name in report.__all__)
