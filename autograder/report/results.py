"""What a report is made of: plain data on a graded class, that knows neither nbgrader nor HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["STATES", "Change", "ClassResults", "ExerciseResult", "Item", "Part", "StudentResult"]

# How an exercise came out, best first; the signs keep the states apart where colours can't.
STATES = {"full": "●", "partial": "◐", "zero": "✗", "blank": "–", "not run": "!", "by hand": "✎"}


@dataclass(frozen=True)
class Item:
    """An exercise of the lesson, as the class got it."""

    exercise: str
    title: str
    max_score: float
    hints: tuple[str, ...] = ()
    ranked_by: str = ""  # the criterion whose share of right values makes a leaderboard of the exercise
    budgets: tuple[str, ...] = ()  # the criteria that count what was used


@dataclass(frozen=True)
class Part:
    """One criterion of an exercise, without anything of the cases it was tried on.

    measure   the share of right values, or the number used of a budget; None for other criteria
    """

    name: str
    points: float
    max_points: float
    passed: bool
    measure: float | None = None


@dataclass(frozen=True)
class ExerciseResult:
    """One learner's exercise. `status` is one of STATES; `message` says to an instructor why points are missing.

    advice   what the learner may read of the message: nothing of hidden cases
    answer   what the learner wrote
    note     what an instructor wrote on it
    """

    exercise: str
    score: float
    max_score: float
    status: str
    message: str = ""
    misconception: str | None = None
    next_step: str = ""
    advice: str = ""
    parts: tuple[Part, ...] = ()
    answer: str = ""
    note: str = ""


@dataclass(frozen=True)
class Change:
    """Something that grading put right in a file.

    `kind`: "gain" where the change could have earned points, "damage" where it could only lose them, "noise" where it
    could do neither.
    """

    cell: str
    what: str
    kind: str


@dataclass(frozen=True)
class StudentResult:
    """One learner's lesson.

    failures    what happened to its run: it crashed, it was stopped
    set_aside   why the whole submission was not run or not graded; empty if it was
    seconds     that its run took; None where that is not known
    """

    student: str
    score: float
    max_score: float
    exercises: tuple[ExerciseResult, ...] = ()
    failures: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    set_aside: str = ""
    seconds: float | None = None
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_user_id: str = ""

    @property
    def name(self) -> str:
        """First and last name, as far as the roster has them."""
        return f"{self.first_name} {self.last_name}".strip()

    @property
    def decided(self) -> float:
        """The points that are decided: what waits for grading by hand is left out."""
        return self.max_score - sum(one.max_score for one in self.exercises if one.status == "by hand")

    @property
    def share(self) -> float:
        """Of the decided points, from 0 to 1."""
        return self.score / self.decided if self.decided > 0 else 0.0

    @property
    def put_right(self) -> tuple[str, ...]:
        """The changes in words, those that could have earned points first; cells with the same one are told once."""
        cells: dict[tuple[str, str], list[str]] = {}
        for change in sorted(self.changes, key=lambda change: change.kind != "gain"):
            if change.kind != "noise":
                cells.setdefault((change.kind, change.what), []).append(change.cell)
        return tuple(f"{_first(names)}: {what}" if names[0] else what for (_, what), names in cells.items())

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything about the submission that a person should know, the gravest first."""
        aside = (self.set_aside,) if self.set_aside else ()
        return aside + self.failures + tuple(f"Put right: {change}." for change in self.put_right)


def _first(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


@dataclass(frozen=True)
class ClassResults:
    """A class's lesson: its exercises in the lesson's order, and its students; to go through it gives the students."""

    lesson: str
    items: tuple[Item, ...] = ()
    students: tuple[StudentResult, ...] = ()

    def __iter__(self) -> Iterator[StudentResult]:
        return iter(self.students)

    def __len__(self) -> int:
        return len(self.students)

    @property
    def graded(self) -> tuple[StudentResult, ...]:
        """Those who have points, or could have had some."""
        return tuple(student for student in self.students if student.max_score)
