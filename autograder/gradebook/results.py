"""What the gradebook holds on a class, and the pages that learners get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.converters import GenerateFeedback

from autograder.submission import (
    NotebookError,
    Outcome,
    exercise_of,
    outcomes,
    parse,
)

from .classroom import Class, database_errors, handed_in_by, open_class, require_lesson, run_converter

__all__ = ["Score", "feedback", "scores"]


@dataclass(frozen=True)
class Score:
    """What the gradebook holds on one student's lesson, exercise by exercise."""

    student: str
    score: float
    max_score: float
    needs_manual_grade: bool
    exercises: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # id -> (score, max_score)
    comments: Mapping[str, str] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()  # of the checks, from the autograded notebook; empty where there is none


def scores(lesson: str, course_dir: Path | str) -> list[Score]:
    """What the gradebook holds on everyone who handed the lesson in, by student. Raises GradebookError."""
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    rows = []
    with database_errors(opened), opened.gradebook() as gradebook:
        for submission in gradebook.assignment_submissions(lesson):
            student = submission.student.id
            exercises: dict[str, tuple[float, float]] = {}
            comments: dict[str, str] = {}
            for notebook in submission.notebooks:
                for entry in notebook.grades:
                    exercises[exercise_of(entry.name)] = (entry.score, entry.max_score)
                for entry in notebook.comments:
                    if entry.comment:
                        comments[exercise_of(entry.name)] = entry.comment
            rows.append(
                Score(
                    student,
                    submission.score,
                    submission.max_score,
                    submission.needs_manual_grade,
                    exercises,
                    comments,
                    _outcomes(opened, lesson, student),
                )
            )
    return sorted(rows, key=lambda row: row.student)


def feedback(lesson: str, course_dir: Path | str, students: Iterable[str] | None = None) -> list[Path]:
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


def _outcomes(opened: Class, lesson: str, student: str) -> tuple[Outcome, ...]:
    path = opened.path(opened.directory.autograded_directory, student, lesson) / f"{lesson}.ipynb"
    try:
        return tuple(outcomes(parse(path.read_bytes(), str(path), outputs=True)))
    except (OSError, NotebookError):
        return ()
