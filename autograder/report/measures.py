"""Figures over a class: how hard each exercise was, whether it tells learners apart, what was misunderstood."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import StatisticsError, correlation, mean

from .results import ClassResults, ExerciseResult, Item, StudentResult

__all__ = [
    "EASY",
    "ENOUGH",
    "HARD",
    "Discrimination",
    "ItemSummary",
    "Mistake",
    "comparable",
    "discrimination",
    "mistakes",
    "summaries",
    "unnamed",
]

HARD, EASY = 0.5, 0.8  # mean share of the points, among those who tried
ENOUGH = 10  # learners; a correlation over fewer says nothing
TRIED = ("full", "partial", "zero")
DECIDED = (*TRIED, "blank")


@dataclass(frozen=True)
class Discrimination:
    """The corrected item-total correlation with its 95% interval, over `learners`.

    `r` is None where there are fewer than ENOUGH, or where everybody has the same points.
    """

    learners: int
    r: float | None = None
    low: float = -1.0
    high: float = 1.0

    @property
    def told(self) -> str:
        """The correlation, or why there is none."""
        if self.r is not None:
            return f"{self.r:.2f}".replace("-", "−")
        return "not enough" if self.learners < ENOUGH else "all alike"


@dataclass(frozen=True)
class ItemSummary:
    """One exercise over the class. `mean_share` is None where answers are still to be graded."""

    item: Item
    mean_share: float | None
    states: Counter[str]
    difficulty: str
    discrimination: Discrimination


@dataclass(frozen=True)
class Mistake:
    """One misconception over the class: how many of those who tried held it, and one of them."""

    item: Item
    misconception: str
    count: int
    tried: int
    student: StudentResult
    example: ExerciseResult


def summaries(results: ClassResults) -> list[ItemSummary]:
    """One summary an exercise, in the lesson's order."""
    learners = comparable(results)
    rows = []
    for item in results.items:
        done = [one for student in results.graded for one in student.exercises if one.exercise == item.exercise]
        waits = any(one.status == "by hand" for one in done)  # until then, only the blank answers would have points
        shares = [_share(one) for one in done if one.status in DECIDED and not waits]
        tried = [_share(one) for one in done if one.status in TRIED]
        ease = mean(tried) if tried else None
        label = "–" if ease is None else "easy" if ease >= EASY else "hard" if ease < HARD else "medium"
        points = [_points(student, item.exercise) for student in learners]
        rows.append(
            ItemSummary(
                item,
                mean(shares) if shares else None,
                Counter(one.status for one in done),
                label,
                discrimination(points),
            )
        )
    return rows


def comparable(results: ClassResults) -> list[StudentResult]:
    """Those over whom exercises can be compared: each check gave a verdict, and something was answered.

    A kernel that died says nothing of what its learner knows, and a blank notebook would make every exercise look as
    if it told learners apart.
    """
    return [
        student
        for student in results.graded
        if not student.set_aside
        and all(one.status != "not run" for one in student.exercises)
        and any(one.status in TRIED for one in student.exercises)
    ]


def _points(student: StudentResult, exercise: str) -> tuple[float, float] | None:
    """The points of the exercise and of all others that are decided; None where it is not decided itself."""
    points = {one.exercise: one.score for one in student.exercises if one.status in DECIDED}
    return (points[exercise], sum(points.values()) - points[exercise]) if exercise in points else None


def discrimination(points: Iterable[tuple[float, float] | None]) -> Discrimination:
    """The correlation of (points of the exercise, points of all others) over learners; None stands for no grade.

    Corrected: the exercise is no part of the total, with which it would correlate by itself. The interval is Fisher's:
    tanh(artanh r ± 1.96 / √(n − 3)).
    """
    pairs = [pair for pair in points if pair is not None]
    if len(pairs) < ENOUGH:
        return Discrimination(len(pairs))
    try:
        r = correlation(*zip(*pairs, strict=True))
    except StatisticsError:  # one of the two is constant
        return Discrimination(len(pairs))
    z, half = math.atanh(max(-0.999999, min(r, 0.999999))), 1.96 / math.sqrt(len(pairs) - 3)
    return Discrimination(len(pairs), r, math.tanh(z - half), math.tanh(z + half))


def mistakes(results: ClassResults) -> list[Mistake]:
    """The misconceptions that were seen, most frequent first; the example is the shortest answer that has it."""
    items = {item.exercise: item for item in results.items}
    tried: Counter[str] = Counter()
    held: dict[tuple[str, str], list[tuple[StudentResult, ExerciseResult]]] = {}
    for student in results.graded:
        for one in student.exercises:
            tried[one.exercise] += one.status in TRIED
            if one.misconception:
                held.setdefault((one.exercise, one.misconception), []).append((student, one))
    rows = []
    for (exercise, misconception), holders in held.items():
        student, example = min(holders, key=lambda pair: (not pair[1].answer, len(pair[1].answer)))
        item = items.get(exercise) or Item(exercise, exercise, example.max_score)
        rows.append(Mistake(item, misconception, len(holders), tried[exercise], student, example))
    return sorted(rows, key=lambda row: (-row.count, row.item.exercise, row.misconception))


def unnamed(students: Sequence[StudentResult]) -> int:
    """Wrong answers that no entry of the catalogue explains."""
    done = [one for student in students for one in student.exercises]
    return sum(1 for one in done if one.status in ("zero", "partial") and one.message and not one.misconception)


def _share(result: ExerciseResult) -> float:
    return result.score / result.max_score if result.max_score else 0.0
