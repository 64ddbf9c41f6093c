"""A learner's own copy of the lessons: brought up to date, and never overwritten."""

from pathlib import Path

import pytest

from autograder.exercise import CourseError
from autograder.workspace import copy_lessons

LESSON = "01_a/01_a.ipynb"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "lessons"
    (folder / "01_a").mkdir(parents=True)
    (folder / LESSON).write_text("first")
    (folder / "index.ipynb").write_text("index")
    (folder / ".hidden").write_text("not a lesson")
    return folder


@pytest.fixture
def mine(source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    copy_lessons(source, folder, "1.0")
    return folder


def written(source: Path, mine: Path, version: str = "2.0") -> list[tuple[str, str]]:
    return [(str(one.path.relative_to(mine)), one.what) for one in copy_lessons(source, mine, version)]


def test_all_lessons_are_copied_once(source: Path, tmp_path: Path) -> None:
    assert written(source, tmp_path / "mine") == [(LESSON, "new"), ("index.ipynb", "new")]
    assert written(source, tmp_path / "mine") == []
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [".lessons.json", "01_a", "index.ipynb"]


def test_what_the_learner_wrote_stays_whatever_comes(source: Path, mine: Path) -> None:
    (mine / LESSON).write_text("mine")
    assert written(source, mine) == []
    (source / LESSON).write_text("second")
    assert written(source, mine) == [("01_a/01_a (version 2.0).ipynb", "beside")]
    assert written(source, mine) == []
    assert (mine / LESSON).read_text() == "mine"
    assert (mine / "01_a" / "01_a (version 2.0).ipynb").read_text() == "second"


def test_what_was_not_touched_is_brought_up_to_date(source: Path, mine: Path) -> None:
    (source / LESSON).write_text("second")
    assert written(source, mine) == [(LESSON, "updated")]
    assert (mine / LESSON).read_text() == "second"


def test_a_copy_put_beside_and_worked_on_is_not_overwritten_either(source: Path, mine: Path) -> None:
    (mine / LESSON).write_text("mine")
    (source / LESSON).write_text("second")
    copy_lessons(source, mine, "2.0")
    (mine / "01_a" / "01_a (version 2.0).ipynb").write_text("mine too")
    (source / LESSON).write_text("third")
    assert written(source, mine) == [("01_a/01_a (version 2.0, 2).ipynb", "beside")]
    assert (mine / "01_a" / "01_a (version 2.0).ipynb").read_text() == "mine too"


def test_a_lesson_that_the_learner_removed_stays_away_until_it_changes(source: Path, mine: Path) -> None:
    (mine / LESSON).unlink()
    assert written(source, mine) == []
    (source / LESSON).write_text("second")
    assert written(source, mine) == [(LESSON, "new")]


def test_a_folder_with_something_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    with pytest.raises(CourseError, match="holds something else than the lessons"):
        copy_lessons(source, tmp_path / "thesis", "1.0")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.txt"]


def test_a_damaged_record_is_told(source: Path, mine: Path) -> None:
    (mine / ".lessons.json").write_text("{")
    with pytest.raises(CourseError, match="is damaged"):
        copy_lessons(source, mine, "1.0")
