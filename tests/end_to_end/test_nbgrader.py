"""Stock nbgrader's own commands, with the project's configuration: from source to exported grades."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_course as tiny

from autograder.submission import read

pytestmark = pytest.mark.slow

LIMITS = "c.Execute.timeout = 3\nc.Execute.iopub_timeout = 60\nc.RunCells.notebook_timeout = 30"


def nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        # as in a terminal of the JupyterLab in which the instructor works through the lessons
        env={**tiny.environment(), "COURSE_PROGRESS": "on", "COURSE_DATA_DIR": str(folder / "journal")},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the source notebook made and the lesson released by `nbgrader generate_assignment`."""
    folder = tiny.make_built_course(tmp_path_factory.mktemp("stock"), config=LIMITS)
    done = nbgrader(folder, "generate_assignment", tiny.LESSON)
    assert done.returncode == 0, done.stderr
    return folder


def release(course: Path) -> Any:
    return read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")


@pytest.fixture(scope="module")
def graded(course: Path) -> tuple[Path, subprocess.CompletedProcess, dict[str, float]]:
    """The class graded by `nbgrader autograde`, and each student's score as `nbgrader export` writes it."""

    def right(**answers: str) -> Any:
        return tiny.answered(release(course), tiny.ANSWERS | {f"tiny.{k}": source for k, source in answers.items()})

    copied, stripped, newer = right(), right(), right()
    copied.cells.append(tiny.find(copied, "tiny.double", "check"))
    for number, cell in enumerate(stripped.cells):
        cell.metadata, cell.id = {}, f"x{number}"
    for cell in newer.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.schema_version = 7
    solution = json.loads((course / "solutions" / tiny.LESSON / f"{tiny.LESSON}.ipynb").read_text())
    submissions = {
        "a_untouched": release(course),
        "b_solution": solution,
        "c_partial": right(double="def double(x):\n    return x * x"),
        "d_crash": right(square="import os\nos._exit(3)"),
        "e_endless": right(double="while True:\n    pass"),
        "f_copied": copied,
        "g_stripped": stripped,
        "h_newer": newer,
        "i_broken": b"{",
        "z_last": right(),
    }
    for student, notebook in submissions.items():
        tiny.submit(course, student, notebook)
    half_made = course / "autograded" / "z_last" / tiny.LESSON
    half_made.mkdir(parents=True)
    done = nbgrader(course, "autograde", tiny.LESSON)
    exported = nbgrader(course, "export")
    assert exported.returncode == 0, exported.stderr
    with (course / "grades.csv").open() as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    return course, done, scores


def test_generate_assignment_writes_the_release_and_the_gradebook(course: Path) -> None:
    assert (course / "gradebook.db").is_file()
    made = sorted(path.name for path in (course / "lessons" / tiny.LESSON).iterdir())
    assert made == [f"{tiny.LESSON}.ipynb", "dot.svg"]


def test_generate_assignment_again_gives_the_same_bytes(course: Path) -> None:
    path = course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb"
    before = path.read_bytes()
    path.unlink()
    assert nbgrader(course, "generate_assignment", tiny.LESSON).returncode == 0
    assert path.read_bytes() == before


def test_autograde_ends_well_whatever_was_handed_in(graded: tuple) -> None:
    assert graded[1].returncode == 0, graded[1].stderr


@pytest.mark.parametrize(
    ("student", "score"),
    [
        ("a_untouched", 0),
        ("b_solution", 5),
        ("c_partial", 4),
        ("d_crash", 3),
        ("e_endless", 2),
        ("f_copied", 5),
        ("g_stripped", 5),
        ("h_newer", 5),
        ("i_broken", 0),
        ("z_last", 5),
    ],
)
def test_export_holds_everyones_score(graded: tuple, student: str, score: float) -> None:
    assert graded[2][student] == score


def test_autograde_again_skips_what_is_done(graded: tuple) -> None:
    done = nbgrader(graded[0], "autograde", tiny.LESSON)
    assert done.returncode == 0
    assert done.stderr.count("Skipping existing assignment") == 10


def test_honest_work_is_not_reported_as_changed(graded: tuple) -> None:
    log = graded[1].stderr
    assert "has changed" not in log
    assert [line for line in log.splitlines() if "b_solution/" in line and "WARNING" in line] == []
    assert "f_copied/00_tiny: tiny-double-check: was there twice; the last one counts" in log


def test_generate_feedback_shows_the_diagnosis(graded: tuple) -> None:
    done = nbgrader(graded[0], "generate_feedback", tiny.LESSON, "--student=c_partial")
    assert done.returncode == 0, done.stderr
    page = (graded[0] / "feedback" / "c_partial" / tiny.LESSON / f"{tiny.LESSON}.html").read_text()
    assert "For 0.5 you return 0.25. Look again." in page


def test_validate_tells_the_untouched_release_from_the_solution(course: Path) -> None:
    untouched = nbgrader(course, "validate", "--Execute.timeout=60", f"lessons/{tiny.LESSON}/{tiny.LESSON}.ipynb")
    assert untouched.returncode == 0, untouched.stderr
    assert "VALIDATION FAILED ON 3 CELL(S)" in untouched.stdout
    solved = nbgrader(course, "validate", "--Execute.timeout=60", f"solutions/{tiny.LESSON}/{tiny.LESSON}.ipynb")
    assert "Success! Your notebook passes all the tests." in solved.stdout


def test_nothing_that_nbgrader_ran_is_in_the_instructors_own_progress(course: Path, graded: tuple) -> None:
    """Neither by `autograde`, in the sandbox, nor by `validate`, which runs the checks in an ordinary kernel."""
    assert not (course / "journal").exists()
