"""A new exercise works at once, and what is left to its author is said."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_course as tiny

from autograder.check import check
from autograder.exercise import CourseError
from autograder.notebooks import source_to_notebook
from autograder.scaffold import add_to_course, add_to_package
from autograder.trial import TODO, faults

ROOT = tiny.REPOSITORY
CONFIG = ROOT / "nbgrader_config.py"
TAKEN = {"08_dropout"}


def start(folder: Path, name: str = "centred", lesson: str = "50_normalizing"):
    return add_to_package(name, lesson, folder, CONFIG, "0.1.0", TAKEN)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A new package with two exercises, and its records."""
    folder = tmp_path / "my-exercises"
    start(folder)
    start(folder, "twice")
    monkeypatch.syspath_prepend(folder)
    yield folder, importlib.import_module("my_exercises").EXERCISES
    for name in [name for name in sys.modules if name.startswith("my_exercises")]:
        del sys.modules[name]


def test_only_texts_are_left_to_fill_in(package: tuple) -> None:
    _, records = package
    assert [record.id for record in records] == ["normalizing.centred", "normalizing.twice"]
    for record in records:
        left = list(faults(record))
        assert left and all(": fill in its " in fault for fault in left)


def test_the_lesson_can_be_built_and_its_answer_is_right(package: tuple) -> None:
    folder, records = package
    source = folder / "solutions" / "50_normalizing" / "50_normalizing.py"
    notebook = source_to_notebook(source, {record.id: record for record in records})
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    scope: dict = {}
    for code in codes:
        if not code.startswith("check("):
            exec(code, scope)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("autograder.exercises.EXERCISES", {record.id: record for record in records})
        assert check("normalizing.twice", scope["twice"]).verdict.passed


def test_what_is_there_is_never_overwritten(package: tuple) -> None:
    folder, _ = package
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(CourseError, match=r"centred.py is there already"):
        start(folder)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("name", "lesson", "message"),
    [
        ("Centred", "50_normalizing", "can't name an exercise"),
        ("a.b", "50_normalizing", "can't name an exercise"),
        ("../x", "50_normalizing", "can't name an exercise"),
        ("centred", "normalizing", "can't name a lesson"),
        ("centred", "08_dropout", "a package has lessons of its own, --lesson 50_dropout"),
    ],
)
def test_names_that_can_not_be_are_refused(tmp_path: Path, name: str, lesson: str, message: str) -> None:
    with pytest.raises(CourseError, match=message):
        start(tmp_path / "mine", name, lesson)
    assert not (tmp_path / "mine").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CourseError, match="holds something else"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# ---------------------------------------------------------------- in the course itself


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The parts of a checkout that a new exercise of the dropout lesson changes."""
    for part in ("autograder/exercises/dropout", "solutions/08_dropout"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path


def test_an_exercise_joins_a_lesson_of_the_course(checkout: Path) -> None:
    done = add_to_course("alpha", "08_dropout", checkout)
    assert done.exercise == "dropout.alpha"
    init = (checkout / "autograder/exercises/dropout/__init__.py").read_text()
    listed = next(n for n in ast.walk(ast.parse(init)) if isinstance(n, ast.Assign) and n.targets[0].id == "EXERCISES")
    assert [entry.id for entry in listed.value.elts][-2:] == ["alpha", "explain"]
    source = (checkout / "solutions/08_dropout/08_dropout.py").read_text()
    assert source.index('check("dropout.alpha", alpha)') < source.index("## Summary")


def test_what_is_written_there_is_in_the_projects_style(checkout: Path) -> None:
    done = add_to_course("alpha", "08_dropout", checkout)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    written = [str(path) for path in done.files if "solutions" not in path.parts]
    for command in ("check", "format --check"):
        ruff = [sys.executable, "-m", "ruff", *command.split(), *written]
        done = subprocess.run(ruff, cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_lesson_that_the_course_has_not_is_refused(checkout: Path) -> None:
    with pytest.raises(CourseError, match=r"has no lesson '08_nothing'"):
        add_to_course("alpha", "08_nothing", checkout)


def test_the_mark_of_what_is_left_is_what_the_scaffold_leaves(package: tuple) -> None:
    assert all(TODO in record.title for record in package[1])
