"""Who did best in an exercise whose record has a scale, and with how much of its budgets."""

from __future__ import annotations

from dataclasses import dataclass

from .results import ClassResults, ExerciseResult, Item, Part, StudentResult

__all__ = ["Place", "leaderboard"]


@dataclass(frozen=True)
class Place:
    """One line of a leaderboard: `rank` from 1 on, the share of right values, what was used of each budget."""

    rank: int
    student: StudentResult
    share: float
    used: tuple[float | None, ...]
    points: float


def leaderboard(results: ClassResults, item: Item) -> list[Place]:
    """The places of an exercise, best first; who earned nothing by the ranked criterion has none.

    It earns nothing where a rule that it requires is broken, such as a budget. Equal shares share a rank; among
    them the one that used less of the first budget is named first.
    """
    entered = []
    for student in results.graded:
        for one in student.exercises:
            part = _part(one, item.ranked_by)
            if one.exercise == item.exercise and part and part.measure is not None and part.points > 0:
                used = tuple(budget and budget.measure for budget in (_part(one, name) for name in item.budgets))
                entered.append((part.measure, used, student, one.score))
    entered.sort(key=lambda entry: (-entry[0], *(used or 0.0 for used in entry[1]), entry[2].student))
    shares = [share for share, *_ in entered]
    return [Place(shares.index(share) + 1, student, share, used, points) for share, used, student, points in entered]


def _part(one: ExerciseResult, name: str) -> Part | None:
    return next((part for part in one.parts if part.name == name), None)
