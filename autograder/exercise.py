"""What an exercise is: frozen records that hold no logic, so that every layer above can read them.

The same record serves the learner's instant check, the grading of a class, the test-suite and the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AtMost",
    "Case",
    "Close",
    "CourseError",
    "Criterion",
    "Exercise",
    "Explanation",
    "Misconception",
    "SameShare",
    "Scale",
    "Variant",
]


class CourseError(Exception):
    """Something the person at the keyboard can mend; its text is one line that says what to do."""


@dataclass(frozen=True)
class Case:
    """One set of inputs for the learner's object.

    `inputs` holds numpy arrays, numbers, booleans and text only: nothing else crosses into a kernel. `withheld` holds
    what a criterion of that name is compared with in place of the reference's output, such as the labels of hidden
    images; it stays with the judge and never travels.
    """

    name: str
    inputs: Mapping[str, Any]
    withheld: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.inputs[key]


@dataclass(frozen=True)
class Close:
    """Equal up to rounding: |got - expected| <= operations * eps(dtype) * max(scale, max|expected|).

    `operations` counts the roundings that an honest implementation may add up, so the tolerance follows
    from the arithmetic and the dtype. `scale` is the size of what the result is a difference of, where that
    difference may cancel to 0. Whole numbers, booleans and text must be equal.
    """

    operations: int = 16
    scale: float = 0.0


@dataclass(frozen=True)
class SameShare:
    """Two samples of independent draws from [0, 1] have the same mean, for objects that draw their own noise.

    Hoeffding's inequality bounds the false-alarm probability of one comparison by `alpha`, whatever the
    distribution; the default leaves room for 100 comparisons a check under 1e-6.
    """

    alpha: float = 1e-8


@dataclass(frozen=True)
class Scale:
    """The share of values that are right, over all cases together: nothing up to `low`, all points from `full` on, and
    in between as much of them as of the way from one to the other. What earns no point is no less measured: reports
    rank by it.
    """

    low: float
    full: float

    def credit(self, share: float) -> float:
        """The part of the points, 0 to 1, that a share of right values earns."""
        return min(max((share - self.low) / (self.full - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class AtMost:
    """A number that may not exceed `limit`, whatever the reference's is: a budget. What was used is told."""

    limit: float


@dataclass(frozen=True)
class Criterion:
    """One named output of the probe, and the points it earns.

    Points count only where every criterion in `requires` passes as well: a function that returns its input
    must not earn the points for "unchanged at test time". A criterion of 0 points is reported, not scored.
    """

    name: str
    points: float
    compare: Close | SameShare | Scale | AtMost = Close()
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Misconception:
    """A mistake that learners make, as a runnable wrong answer.

    `wrong` is a module-level function or class that stands on its own. `message` says what was seen and the
    likely cause; it may use {ratio} (got / expected), {got}, {expected}, {case} and any number among the
    case's inputs, such as {p}. `next_step` says what to do about it.
    """

    id: str
    wrong: Callable[..., Any]
    message: str
    next_step: str = ""


@dataclass(frozen=True)
class Variant:
    """A right answer written otherwise: the check must accept it."""

    id: str
    right: Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """A coded exercise. Everything that grading, checking and testing need to know about it.

    id               "<topic>.<name>", unique in the course
    lesson           the lesson's folder, e.g. "08_dropout"
    answer           the name that the learner's notebook gives to the object
    cases(seed)      the inputs: ordinary, edge and adversarial ones
    probe            probe(candidate, inputs) -> {output's name: array}; stands on its own, since its source travels
    forbidden        dotted names that the answer may not use; a module stands for all in it
    """

    id: str
    lesson: str
    title: str
    answer: str
    criteria: tuple[Criterion, ...]
    cases: Callable[[int], Iterable[Case]]
    probe: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    reference: Callable[..., Any]
    misconceptions: tuple[Misconception, ...]
    variants: tuple[Variant, ...]
    hints: tuple[str, ...]
    forbidden: tuple[str, ...] = ()
    minutes: int = 10

    @property
    def points(self) -> float:
        """The most that can be earned."""
        return sum(criterion.points for criterion in self.criteria)


@dataclass(frozen=True)
class Explanation:
    """A question answered in words and graded by hand. `rubric` maps what to look for to its points."""

    id: str
    lesson: str
    title: str
    rubric: Mapping[str, float] = field(default_factory=dict)
    minutes: int = 10

    @property
    def points(self) -> float:
        """The most that can be earned."""
        return sum(self.rubric.values())
