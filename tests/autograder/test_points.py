"""A class's own points: from points.toml into the release, the gradebook, the learner's check and the verdict."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_course as tiny

from autograder import exercises, grader
from autograder.check import check
from autograder.engine import Where
from autograder.execute import check_notebook
from autograder.exercise import Criterion
from autograder.gradebook import feedback, notes, release, scores
from autograder.judge import Verdict, try_out
from autograder.points import PointsError, choose, read_points
from autograder.report import read_results
from autograder.submission import nbformat, read, role_of

pytestmark = pytest.mark.usefixtures("tiny_registered")
grade = partial(grader.grade, where=Where(workers=0))
TABLE = '[00_tiny]\n"tiny.double" = 10\n"tiny.square" = 0\n"tiny.why" = 4.5\n'
WHOLE = "def double(x):\n    return 2 * x if x >= 1 else x * x"  # right in the case of 2 of the 3 points


def chosen(folder: Path, table: str) -> dict[str, float]:
    (folder / "points.toml").write_text(table, "utf-8")
    return read_points(folder, tiny.LESSON)


# ---------------------------------------------------------------- the file


def test_a_class_without_the_file_or_the_table_keeps_the_courses_points(tmp_path: Path) -> None:
    assert read_points(tmp_path, tiny.LESSON) == {}
    assert chosen(tmp_path, '[01_other]\n"other.thing" = 3') == {}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[00_tiny", "is not TOML"),
        ("00_tiny = 3", "00_tiny is no table"),
        ("[00_tiny]\ntiny.double = 3", 'put quotes around the exercise: "tiny.double"'),
        ('[00_tiny]\n"tiny.double" = -1', "points are a number from 0"),
        ('[00_tiny]\n"tiny.double" = true', "points are a number from 0"),
        ('[00_tiny]\n"tiny.double" = nan', "points are a number from 0"),
        ('[00_tiny]\n"tiny.double" = "3"', "points are a number from 0"),
    ],
)
def test_a_file_that_says_what_can_not_be_is_one_line(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(PointsError, match=message) as caught:
        chosen(tmp_path, table)
    assert "\n" not in str(caught.value)


def test_an_unknown_exercise_and_an_empty_lesson_are_refused() -> None:
    with pytest.raises(PointsError, match=r"has no exercise 'tiny.dubble'; it has tiny.double, tiny.square, tiny.why"):
        choose(tiny.released(), {"tiny.dubble": 3}, tiny.LESSON)
    with pytest.raises(PointsError, match="leaves out every exercise"):
        choose(tiny.released(), dict.fromkeys(tiny.RECORDS, 0.0), tiny.LESSON)


# ---------------------------------------------------------------- the verdict


def three(*points: float) -> Any:
    """The tiny exercise with criteria of these points; its third output is never given, so it fails."""
    names = ("whole", "half", "never")
    return replace(
        tiny.RECORDS["tiny.double"], criteria=tuple(Criterion(n, p) for n, p in zip(names, points, strict=False))
    )


@pytest.mark.parametrize("worth", [10, 1, 0.3, 7, 33.3333, 100])
def test_a_right_answer_earns_exactly_what_the_class_says(worth: float) -> None:
    record = tiny.RECORDS["tiny.double"]
    verdict = try_out(record, record.reference, (1,)).weighted(worth)
    assert verdict.score == verdict.max_score == worth


def test_the_share_of_a_partly_right_answer_stays() -> None:
    verdict = try_out(three(2, 1), lambda x: 2 * x if x == 2 else 0.0, (1,))
    assert (verdict.score, verdict.max_score) == (2, 3)
    weighted = verdict.weighted(10)
    assert (weighted.score, weighted.max_score) == (6.6667, 10)
    assert [one.max_points for one in weighted.criteria] == [6.6667, 3.3333]


def test_a_share_on_a_scale_stays_a_share() -> None:
    verdict = try_out(three(2, 1), tiny.RECORDS["tiny.double"].reference, (1,))
    verdict = replace(verdict, criteria=(replace(verdict.criteria[0], points=0.5), *verdict.criteria[1:]))
    assert verdict.weighted(6).score == 3.0  # a quarter of 4, and 2


def test_a_criterion_of_no_points_gets_none() -> None:
    verdict = try_out(three(2, 0), tiny.RECORDS["tiny.double"].reference, (1,)).weighted(5)
    assert [(one.points, one.max_points) for one in verdict.criteria] == [(5, 5), (0, 0)]


def test_a_verdict_survives_being_data() -> None:
    verdict = try_out(tiny.RECORDS["tiny.double"], lambda x: x * x, (1,))
    assert Verdict.from_data(json.loads(json.dumps(verdict.as_data()))) == verdict


def test_the_learners_check_shows_the_classs_points() -> None:
    right = tiny.RECORDS["tiny.double"].reference
    assert repr(check("tiny.double", right, points=10)) == "10.0" and "10 of 10 points" in str(
        check("tiny.double", right, points=10)
    )
    assert "your class does not grade this exercise" in str(check("tiny.double", right, points=0))


# ---------------------------------------------------------------- a class


@pytest.fixture(scope="module")
def course(tiny_registered: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = tiny.make_built_course(tmp_path_factory.mktemp("checkout"))
    folder = tmp_path_factory.mktemp("points") / "class"
    folder.mkdir()
    (folder / "points.toml").write_text(TABLE, "utf-8")
    release(tiny.LESSON, folder, source=checkout)
    handed_out = read(folder / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")
    tiny.submit(folder, "ada", tiny.answered(handed_out, tiny.ANSWERS))
    tiny.submit(folder, "bob", tiny.answered(handed_out, {"tiny.double": WHOLE, "tiny.square": "raise SystemExit"}))
    assert [row.problem for row in grade(tiny.LESSON, folder)] == ["", ""]
    return folder


def handed_out(course: Path) -> Any:
    return read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")


def test_the_release_holds_the_points_and_no_solution(course: Path) -> None:
    release = handed_out(course)
    assert tiny.find(release, "tiny.double", "check").source == 'check("tiny.double", double, points=10)'
    left_out = next(cell for cell in release.cells if cell.source == 'check("tiny.square", square, points=0)')
    assert role_of(left_out) == ("demo", "")
    assert "x**2.0" not in nbformat().writes(release) and "twice_as_much" not in nbformat().writes(release)


def test_grades_reports_and_feedback_go_by_them(course: Path) -> None:
    by_student = {row.student: row for row in scores(tiny.LESSON, course)}
    assert by_student["ada"].exercises["tiny.double"] == (10, 10)
    assert by_student["bob"].exercises["tiny.double"] == (pytest.approx(6.6667), 10)
    assert by_student["ada"].max_score == 14.5
    assert set(by_student["ada"].exercises) == {"tiny.double", "tiny.why"}
    results = read_results(tiny.LESSON, course)
    assert [(item.exercise, item.max_score) for item in results.items] == [("tiny.double", 10), ("tiny.why", 4.5)]
    assert len(feedback(tiny.LESSON, course)) == 2


def test_a_learner_can_check_such_a_notebook_from_the_terminal(course: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.ipynb"
    mine.write_text(nbformat().writes(tiny.answered(handed_out(course), {"tiny.double": WHOLE})), "utf-8")
    found = check_notebook(mine, tiny.released())
    assert [(one.exercise, one.score, one.max_score) for one in found] == [("tiny.double", 6.6667, 10)]


def test_other_points_after_the_release_are_told_and_taken_by_releasing_again(
    course: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine = tmp_path / "class"
    shutil.copytree(course, mine)
    assert notes(tiny.LESSON, mine) == []
    (mine / "points.toml").write_text(TABLE.replace("= 10", "= 20"), "utf-8")
    assert "points.toml changed since 00_tiny was released" in notes(tiny.LESSON, mine)[0]
    release(tiny.LESSON, mine, source=tiny.make_built_course(tmp_path_factory.mktemp("checkout")))
    assert notes(tiny.LESSON, mine) == []
    assert [row.score for row in grade(tiny.LESSON, mine)] == [20, pytest.approx(13.3333)]


# ---------------------------------------------------------------- a class that an earlier version of the course set up


def older(course: Path, folder: Path) -> Path:
    """The class as version 0.0.9 left it."""
    shutil.copytree(course, folder)
    path = folder / "solutions" / tiny.LESSON / f"{tiny.LESSON}.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    notebook["metadata"]["training_deep_nets"]["version"] = "0.0.9"
    path.write_text(json.dumps(notebook), "utf-8")
    return folder


def test_the_version_that_released_a_lesson_is_told_where_another_grades_it(course: Path, tmp_path: Path) -> None:
    (told,) = notes(tiny.LESSON, older(course, tmp_path / "class"))
    assert told.startswith("00_tiny was released to this class by version 0.0.9 of the course and is graded by ")


def test_points_that_the_course_changed_since_stay_as_they_were_released(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = older(course, tmp_path / "class")
    dearer = three(20, 10)
    monkeypatch.setitem(exercises.EXERCISES, "tiny.double", dearer)
    rows = {row.student: row for row in grade(tiny.LESSON, mine)}
    assert [(row.problem, row.fresh) for row in rows.values()] == [("", True), ("", True)]
    assert rows["ada"].score == 10 and rows["bob"].score == pytest.approx(6.6667)
