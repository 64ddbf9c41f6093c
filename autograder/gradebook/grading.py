"""Grade what a class handed in, through nbgrader's own converter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nbgrader.api import MissingEntry
from nbgrader.converters import Autograde

from .classroom import (
    Class,
    GradebookError,
    LockedError,
    database_errors,
    handed_in_by,
    open_class,
    require_lesson,
    run_converter,
)

__all__ = ["Graded", "grade"]


@dataclass(frozen=True)
class Graded:
    """One submission after `grade`. `problem` is empty where all went well; `fresh` says it was graded just now."""

    student: str
    score: float
    max_score: float
    needs_manual_grade: bool
    fresh: bool
    seconds: float
    problem: str = ""


def grade(
    lesson: str,
    course_dir: Path | str,
    students: Iterable[str] | None = None,
    *,
    force: bool = False,
    on_graded: Callable[[Graded], None] | None = None,
) -> list[Graded]:
    """Grade what a class handed in, one submission after the other; returns a row for each, in the students' order.

    What is graded already is left alone, unless its file changed or with `force`; so a run that was stopped goes on
    where it was. A submission that fails has a `problem` and never stops the rest. `on_graded` is called after each.
    Raises GradebookError: no gradebook, a locked or read-only one, no such lesson or student in it.
    """
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    handed_in = handed_in_by(opened, lesson)
    wanted = sorted(handed_in) if students is None else list(students)
    for student in wanted:
        if student not in handed_in:
            raise GradebookError(f"{student} has handed in nothing for {lesson}")
    graded: list[Graded] = []
    for student in wanted:
        start = time.monotonic()
        target = opened.path(opened.directory.autograded_directory, student, lesson)
        before = _stamp(target / f"{lesson}.ipynb")
        try:
            problem = ""
            run_converter(opened, Autograde, lesson, student, force=force)
        except LockedError as error:
            done = f"{len(graded)} of {len(wanted)} submissions are graded and kept"
            raise GradebookError(f"{error}; {done}. Run the same command again to grade the rest") from None
        except GradebookError as error:
            problem = str(error)
        row = _row(opened, lesson, student)
        fresh = _stamp(target / f"{lesson}.ipynb") != before
        graded.append(Graded(student, *row, fresh, time.monotonic() - start, problem))
        if on_graded:
            on_graded(graded[-1])
    return graded


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _row(opened: Class, lesson: str, student: str) -> tuple[float, float, bool]:
    with database_errors(opened), opened.gradebook() as gradebook:
        try:
            found = gradebook.find_submission(lesson, student)
        except MissingEntry:
            return 0.0, gradebook.find_assignment(lesson).max_score, False
        return found.score, found.max_score, found.needs_manual_grade
