"""From a graded class to plain results; and how they are kept until something changes."""

import subprocess
import sys

import pytest
from sample_class import CLASS, CLASSIC, INVERTED, LESSON, WHY

from autograder import gradebook
from autograder.exercise import CourseError
from autograder.gradebook import Person, Places, Score
from autograder.report import Change, read_results, snapshot
from autograder.report.gather import _change
from autograder.submission import Outcome


def outcome(exercise, score, possible, message="", misconception=None, verdict=True):
    return Outcome(exercise, score, possible, message, "", misconception, {} if verdict else None)


@pytest.fixture
def graded(monkeypatch, tmp_path):
    """Put rows into a gradebook that isn't there."""

    def put(*rows, database=None):
        monkeypatch.setattr(gradebook, "scores", lambda lesson, course: list(rows))
        places = Places(database, tmp_path / "autograded", tmp_path / "submitted")
        monkeypatch.setattr(gradebook, "places", lambda course: places)

    return put


def read_one(folder):
    (one,) = read_results(LESSON, folder)
    return one


@pytest.mark.parametrize(
    ("score", "outcomes", "status"),
    [
        (3, (outcome(INVERTED, 3, 3),), "full"),
        (2, (outcome(INVERTED, 2, 3, "m"),), "partial"),
        (0, (outcome(INVERTED, 0, 3, "m", "unscaled"),), "zero"),
        (0, (outcome(INVERTED, 0, 3, "Not answered yet."),), "blank"),
        (0, (outcome(INVERTED, 0, 3, "It hung.", verdict=False),), "not run"),
        (3, (outcome(INVERTED, 0, 3, "It hung.", verdict=False),), "full"),  # the instructor gave the points
        (0, (), "not run"),  # there is no graded notebook
    ],
)
def test_the_status_of_an_exercise(graded, tmp_path, score, outcomes, status):
    graded(Score("ann", score, 3, True, {INVERTED: (score, 3)}, {}, outcomes))
    assert read_one(tmp_path).exercises[0].status == status


@pytest.mark.parametrize(
    ("score", "more", "status"),
    [
        (0, {"waiting": (WHY,)}, "by hand"),
        (0, {}, "blank"),
        (0, {"notes": {WHY: "That is another question's answer."}}, "zero"),
        (3, {}, "partial"),
    ],
)
def test_the_status_of_an_answer_in_words(graded, tmp_path, score, more, status):
    graded(Score("ann", score, 4, False, {WHY: (score, 4)}, **more))
    assert read_one(tmp_path).exercises[0].status == status


def test_exercises_come_in_the_lessons_order_with_titles_and_hints(graded, tmp_path):
    graded(Score("ann", 3, 5, False, {"own.exercise": (0, 1), CLASSIC: (0, 2), INVERTED: (3, 3)}))
    results = read_results(LESSON, tmp_path)
    assert [item.exercise for item in results.items] == [INVERTED, CLASSIC, "own.exercise"]
    assert [done.exercise for done in results.students[0].exercises] == [INVERTED, CLASSIC, "own.exercise"]
    assert results.items[0].title == "Inverted dropout" and results.items[0].hints
    assert results.items[2].title == "own.exercise"


def test_what_the_gradebook_knows_of_a_person_and_a_run_is_passed_on(graded, tmp_path):
    person = Person("Ann", "Bee", "a@b.c", "7")
    graded(
        Score("ann", 3, 3, False, {INVERTED: (3, 3)}, answers={INVERTED: "x = 1"}, seconds=2.5, person=person),
        Score("ben", 0, 3, False, {INVERTED: (0, 3)}, problem="It is no notebook.", remarks=("setup-1: was missing",)),
    )
    ann, ben = read_results(LESSON, tmp_path)
    assert (ann.name, ann.email, ann.lms_user_id, ann.seconds) == ("Ann Bee", "a@b.c", "7", 2.5)
    assert ann.exercises[0].answer == "x = 1"
    assert (ben.set_aside, ben.changes) == ("It is no notebook.", ())  # nothing could be put right in it


def test_a_crash_is_told_once(graded, tmp_path):
    ended = "Python itself ended while it ran cell 3."
    messages = [ended, *[f"This check was not run: {ended}"] * 3]
    found = [outcome(f"dropout.e{i}", 0, 1, message, verdict=False) for i, message in enumerate(messages)]
    graded(Score("ann", 0, 4, False, {one.exercise: (0, 1) for one in found}, {}, tuple(found[1:])))
    assert read_one(tmp_path).failures == (ended,)


def test_a_check_without_a_verdict_is_a_failure_that_names_its_exercise(graded, tmp_path):
    graded(Score("ann", 0, 3, False, {INVERTED: (0, 3)}, {}, (outcome(INVERTED, 0, 3, "It hung.", verdict=False),)))
    assert read_one(tmp_path).failures == (f"{INVERTED}: It hung.",)


def test_who_has_no_grade_is_there_all_the_same(graded, tmp_path):
    graded()
    (tmp_path / "submitted" / "ann" / LESSON).mkdir(parents=True)
    assert (read_one(tmp_path).student, read_one(tmp_path).problems) == ("ann", ("Not graded.",))


def test_a_missing_file_is_the_reason(graded, tmp_path):
    graded(Score("ann", 0, 3, False, {"dropout.module": (0, 3)}))
    (tmp_path / "submitted" / "ann" / LESSON).mkdir(parents=True)
    assert read_one(tmp_path).set_aside == f"No file {LESSON}.ipynb was handed in."


def test_a_folder_that_is_no_class_is_one_clear_line(tmp_path):
    with pytest.raises(CourseError, match="is not a class's folder"):
        read_results(LESSON, tmp_path)


@pytest.mark.parametrize(
    ("remark", "change"),
    [
        (
            "dropout-module-check: its points were changed",
            Change("check of dropout.module", "its points were changed", "gain"),
        ),
        ("dropout-mc_x-check: its text was changed", Change("check of dropout.mc_x", "its text was changed", "gain")),
        ("setup-1a: its text was changed", Change("setup", "its text was changed", "gain")),
        ("setup-1a: was missing", Change("setup", "was missing", "damage")),
        ("a-b-solution: had lost its metadata", Change("solution of a.b", "had lost its metadata", "damage")),
        ("demo-1a: its text was changed", Change("demonstration", "its text was changed", "noise")),
        ("something else", Change("", "something else", "damage")),
    ],
)
def test_a_remark_becomes_a_change_that_could_or_could_not_gain(remark, change):
    assert _change(remark) == change


# ---------------------------------------------------------------- kept results


@pytest.fixture
def kept(graded, tmp_path):
    """A class whose results have been read once, from a gradebook that then says something else."""
    database = tmp_path / "gradebook.db"
    database.write_text("one")
    row = Score("ann", 1, 3, False, {INVERTED: (1, 3)}, {}, (outcome(INVERTED, 1, 3, "m", "unscaled"),))
    graded(row, database=database)
    first = read_results(LESSON, tmp_path)
    graded(database=database)
    return tmp_path, first


def test_results_are_read_once_while_nothing_changes(kept):
    folder, first = kept
    assert first.students and read_results(LESSON, folder) == first


@pytest.mark.parametrize(
    "touched",
    [
        "gradebook.db",
        "gradebook.db-wal",
        "nbgrader_config.py",
        f"autograded/b/{LESSON}/{LESSON}.ipynb",
        f"submitted/b/{LESSON}",
    ],
)
def test_what_changes_the_results_is_noticed(kept, touched):
    folder, _ = kept
    path = folder / touched
    if path.name == LESSON:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("another")
    assert "ann" not in {one.student for one in read_results(LESSON, folder)}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"stamp": 3}', b"\xff"])
def test_a_damaged_file_of_kept_results_is_read_anew(kept, damage):
    folder, _ = kept
    (folder / "reports" / f".{LESSON}.json").write_bytes(damage)
    assert read_results(LESSON, folder).students == ()


def test_kept_results_come_back_the_same(tmp_path):
    database = tmp_path / "gradebook.db"
    database.write_text("one")
    stamp = snapshot.stamp(LESSON, tmp_path, database, tmp_path / "autograded", tmp_path / "submitted")
    snapshot.save(CLASS, tmp_path, stamp)
    assert snapshot.load(LESSON, tmp_path) == CLASS
    assert snapshot.load("another", tmp_path) is None
    assert snapshot.stamp(LESSON, tmp_path, None, tmp_path, tmp_path) is None


def test_importing_the_report_imports_nothing_heavy():
    heavy = ["torch", "numpy", "nbgrader", "nbformat", "matplotlib"]
    code = f"import sys, autograder.report; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
