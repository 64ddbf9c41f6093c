"""What the gradebook holds on a class, and the pages that learners get."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbgrader.converters import GenerateFeedback

from autograder.submission import (
    MARK,
    NotebookError,
    Outcome,
    exercise_of,
    outcomes,
    parse,
    role_of,
)

from .classroom import Class, database_errors, database_of, handed_in_by, open_class, require_lesson, run_converter

__all__ = ["Person", "Places", "Score", "feedback", "places", "scores"]


@dataclass(frozen=True)
class Person:
    """Who a student is, as far as the gradebook's roster says."""

    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_user_id: str = ""  # in the learning platform


@dataclass(frozen=True)
class Places:
    """Where a class's results are. `database` is None where it is no file of this machine."""

    database: Path | None
    autograded: Path
    submitted: Path


@dataclass(frozen=True)
class Score:
    """What the gradebook holds on one student's lesson, exercise by exercise.

    outcomes   of the checks, from the autograded notebook; empty where there is none
    answers    exercise -> what the learner wrote, from there too
    notes      exercise -> what an instructor wrote on the answer
    waiting    the exercises that a person has still to grade
    seconds    that its run took; None where it did not run
    remarks    what was put right in the file, each "<cell>: <what>"
    problem    why it was set aside, if it was
    """

    student: str
    score: float
    max_score: float
    needs_manual_grade: bool
    exercises: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # id -> (score, max_score)
    comments: Mapping[str, str] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    seconds: float | None = None
    remarks: tuple[str, ...] = ()
    problem: str = ""
    person: Person = Person()


def places(course_dir: Path | str | Class) -> Places:
    """Where the class's results are. Raises GradebookError."""
    opened = open_class(course_dir)
    names = opened.directory.autograded_directory, opened.directory.submitted_directory
    in_file = opened.directory.db_url.startswith("sqlite:///")
    return Places(database_of(opened) if in_file else None, *(opened.root / name for name in names))


def scores(lesson: str, course_dir: Path | str | Class) -> list[Score]:
    """What the gradebook holds on everyone who handed the lesson in, by student. Raises GradebookError."""
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    rows = []
    with database_errors(opened), opened.gradebook() as gradebook:
        for submission in gradebook.assignment_submissions(lesson):
            student = submission.student
            exercises: dict[str, tuple[float, float]] = {}
            comments: dict[str, str] = {}
            notes: dict[str, str] = {}
            waiting = []
            for notebook in submission.notebooks:
                for entry in notebook.grades:
                    exercises[exercise_of(entry.name)] = (entry.score, entry.max_score)
                    if entry.needs_manual_grade:
                        waiting.append(exercise_of(entry.name))
                for entry in notebook.comments:
                    if entry.comment:
                        comments[exercise_of(entry.name)] = entry.comment
                    if entry.manual_comment:
                        notes[exercise_of(entry.name)] = entry.manual_comment
            known = (getattr(student, name) or "" for name in Person.__dataclass_fields__)
            rows.append(
                Score(
                    student.id,
                    submission.score,
                    submission.max_score,
                    submission.needs_manual_grade,
                    exercises,
                    comments,
                    notes=notes,
                    waiting=tuple(waiting),
                    person=Person(*known),
                    **_ran(opened, lesson, student.id),
                )
            )
    return sorted(rows, key=lambda row: row.student)


def feedback(lesson: str, course_dir: Path | str | Class, students: Iterable[str] | None = None) -> list[Path]:
    """Write each learner's feedback page from the gradebook; returns the pages. Raises GradebookError."""
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    pages = []
    for student in sorted(handed_in_by(opened, lesson)) if students is None else students:
        if not opened.path(opened.directory.autograded_directory, student, lesson).is_dir():
            continue
        run_converter(opened, GenerateFeedback, lesson, student, force=True)
        pages += sorted(opened.path(opened.directory.feedback_directory, student, lesson).glob("*.html"))
    return pages


def _ran(opened: Class, lesson: str, student: str) -> dict[str, Any]:
    """The fields of a Score that come from the autograded notebook; none where there is no such file."""
    path = opened.path(opened.directory.autograded_directory, student, lesson) / f"{lesson}.ipynb"
    try:
        notebook = parse(path.read_bytes(), str(path), outputs=True)
    except (OSError, NotebookError):
        return {}
    mark = notebook.metadata.get(MARK)
    mark = mark if isinstance(mark, dict) else {}
    seconds, remarks, problem = (mark.get(key) for key in ("seconds", "remarks", "problem"))
    roles = [(role_of(cell), cell) for cell in notebook.cells]
    return {
        "outcomes": tuple(outcomes(notebook)),
        "answers": {exercise: cell.source for (role, exercise), cell in roles if role in ("solution", "explain")},
        "seconds": float(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else None,
        "remarks": tuple(map(str, remarks)) if isinstance(remarks, list) else (),
        "problem": problem if isinstance(problem, str) else "",
    }
