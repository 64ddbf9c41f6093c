"""Grade what a class handed in, through nbgrader's own converter."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nbgrader.api import MissingEntry
from nbgrader.converters import Autograde

from autograder.evidence import Task

from .classroom import (
    Class,
    GradebookError,
    database_errors,
    handed_in_by,
    open_class,
    require_lesson,
    run_converter,
)
from .handin import content_of, keep_plain_files
from .pipeline import RunCells
from .tasks import given_in, is_current, read_submission

__all__ = ["Graded", "Pending", "pending", "record", "standing"]


@dataclass(frozen=True)
class Graded:
    """One submission as the gradebook has it.

    `problem` is empty where all went well; `fresh` says that it was graded just now; `remark` says why there was
    nothing to run.
    """

    student: str
    score: float
    max_score: float
    needs_manual_grade: bool
    fresh: bool
    seconds: float
    problem: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Pending:
    """A submission that is to be graded. `task` is None where there is nothing to run, for the reason in `problem`."""

    student: str
    task: Task | None
    problem: str = ""


def standing(lesson: str, course_dir: Path | str | Class, students: Iterable[str] | None = None) -> list[Graded]:
    """What the gradebook holds now on those who handed in, or on these `students`, by student.

    Raises GradebookError: no gradebook, a locked or read-only one, no such lesson, nothing handed in by a student.
    """
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    handed_in = handed_in_by(opened, lesson)
    wanted = sorted(handed_in) if students is None else list(dict.fromkeys(students))
    for student in wanted:
        if student not in handed_in:
            raise GradebookError(f"{student} has handed in nothing for {lesson}")
    rows = {}
    with database_errors(opened), opened.gradebook() as gradebook:
        empty = (0.0, gradebook.find_assignment(lesson).max_score, False)
        for found in gradebook.submission_dicts(lesson):
            rows[found["student"]] = (found["score"], found["max_score"], found["needs_manual_grade"])
    return [Graded(student, *rows.get(student, empty), fresh=False, seconds=0.0) for student in wanted]


def pending(
    lesson: str, course_dir: Path | str | Class, students: Iterable[str] | None = None, *, force: bool = False
) -> Iterator[Pending]:
    """Who is to be graded, each with its task, one after the other; with `force` those too who are graded already.

    Raises GradebookError: no gradebook, no such lesson; CourseError: the lesson has an exercise that this version of
    the course doesn't know.
    """
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    with database_errors(opened), opened.gradebook() as gradebook:
        given = given_in(gradebook.find_notebook(lesson, lesson))
    settings = RunCells(config=opened.config)
    for student in sorted(handed_in_by(opened, lesson)) if students is None else students:
        path = opened.path(opened.directory.submitted_directory, student, lesson) / f"{lesson}.ipynb"
        try:
            keep_plain_files(path.parent)
            found = read_submission(content_of(path), path.name, lesson, given)
        except OSError as error:  # nbgrader says the same when it is recorded
            yield Pending(student, None, f"cannot read {path}: {error.strerror}")
            continue
        task = None if found.problem else settings.task(found.notebook, lesson, student)
        graded = opened.path(opened.directory.autograded_directory, student, lesson) / f"{lesson}.ipynb"
        if force or not is_current(graded, found.digest, task):
            yield Pending(student, task, found.problem)


def record(lesson: str, course_dir: Path | str | Class, student: str) -> Graded:
    """Write a submission's grades down, by nbgrader's own Autograde; its evidence is taken from the class's store.

    An instructor's own scores stay. Raises LockedError where the gradebook is in use, GradebookError where nbgrader
    can't grade this submission.
    """
    start = time.monotonic()
    opened = open_class(course_dir)
    run_converter(opened, Autograde, lesson, student, force=True)
    return Graded(student, *_row(opened, lesson, student), fresh=True, seconds=time.monotonic() - start)


def _row(opened: Class, lesson: str, student: str) -> tuple[float, float, bool]:
    with database_errors(opened), opened.gradebook() as gradebook:
        try:
            found = gradebook.find_submission(lesson, student)
        except MissingEntry:
            return 0.0, gradebook.find_assignment(lesson).max_score, False
        return found.score, found.max_score, found.needs_manual_grade
