"""What a claim is: a function that measures, a rule that decides, and the plain data between them.

A claim's `measure(seeds)` returns `Measured`: series in one regular form (x values × arms × seeds), and
tables. Its `decide(measured)` turns those numbers, and nothing else, into a `Decision`. `settle` runs both
and holds the guards: at least five seeds, every arm measured with every seed, finite numbers, and no two
arms that are identical to the last bit unless the series says why that is the point.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from course_lib.claims.intervals import bca_interval, paired_difference
from course_lib.provenance import parts_of

__all__ = [
    "DOES_NOT_HOLD",
    "HOLDS",
    "HOLDS_WHEN",
    "Claim",
    "Decision",
    "IdenticalArmsError",
    "Interval",
    "Measured",
    "MeasurementError",
    "Series",
    "Table",
    "code_version",
    "settle",
]

HOLDS, HOLDS_WHEN, DOES_NOT_HOLD = "holds", "holds when …", "does not hold"
FEWEST_SEEDS = 5


class MeasurementError(ValueError):
    """A claim measured something that can't be trusted: too few seeds, a missing value, a NaN."""


class IdenticalArmsError(MeasurementError):
    """Two arms of an experiment came out identical to the last bit: most likely they ran the same thing."""


@dataclass(frozen=True)
class Series:
    """One quantity: `arms[arm][i]` holds its values, one for each seed, at `x[i]`.

    A comparison without an x axis has a single x, "". `identical` says why arms may agree to the last bit.
    """

    name: str
    unit: str
    arms: Mapping[str, Sequence[Sequence[float]]]
    x_name: str = ""
    x: Sequence[float | str] = ("",)
    identical: str = ""

    def values(self, arm: str, x: float | str | None = None) -> np.ndarray:
        """The values (seeds,) of an arm at one x (the first unless given)."""
        return np.asarray(self.arms[arm][0 if x is None else list(self.x).index(x)], dtype=float)

    def mean(self, arm: str, x: float | str | None = None) -> float:
        return float(self.values(arm, x).mean())


@dataclass(frozen=True)
class Table:
    """Observations that are no numbers: rows of cells under the names of their columns."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Measured:
    series: Sequence[Series]
    tables: Sequence[Table] = ()

    def __getitem__(self, name: str) -> Series:
        return next(series for series in self.series if series.name == name)


@dataclass(frozen=True)
class Interval:
    """The mean of `what` over the seeds and its bootstrap interval."""

    what: str
    unit: str
    mean: float
    low: float
    high: float
    confidence: float = 0.95

    @classmethod
    def of(cls, what: str, unit: str, values: Sequence[float]) -> "Interval":
        low, high = bca_interval(values)
        return cls(what, unit, float(np.mean(values)), low, high)

    @classmethod
    def of_difference(cls, what: str, unit: str, a: Sequence[float], b: Sequence[float]) -> "Interval":
        """The interval of a − b, paired by seed."""
        return cls.of(what, unit, paired_difference(a, b))


@dataclass(frozen=True)
class Decision:
    """A verdict, the condition under which it holds (for "holds when …"), and the figures of the headline."""

    verdict: str
    interval: Interval
    figures: Mapping[str, float | str]
    condition: str = ""


@dataclass(frozen=True)
class Claim:
    """`headline` is a template that `figures` fills: no number in it is typed."""

    id: str
    statement: str
    headline: str
    rule: str
    measure: Callable[[tuple[int, ...]], Measured]
    decide: Callable[[Measured], Decision]
    seeds: tuple[int, ...] = field(default_factory=lambda: tuple(range(10)))


def settle(claim: Claim, seeds: Sequence[int] | None = None) -> tuple[Measured, Decision, str]:
    """Measure and decide: the measurements, the decision and its headline.

    Raises MeasurementError (IdenticalArmsError for equal arms) where the measurements can't be trusted.
    """
    seeds = claim.seeds if seeds is None else tuple(seeds)
    if len(set(seeds)) < FEWEST_SEEDS or len(set(seeds)) != len(seeds):
        raise MeasurementError(f"{claim.id}: at least {FEWEST_SEEDS} different seeds, got {list(seeds)}")
    measured = claim.measure(seeds)
    for series in measured.series:
        check_series(claim.id, series, len(seeds))
    measured = Measured([rounded(series) for series in measured.series], measured.tables)
    decision = claim.decide(measured)
    if decision.verdict not in (HOLDS, HOLDS_WHEN, DOES_NOT_HOLD):
        raise MeasurementError(f"{claim.id}: unknown verdict {decision.verdict!r}")
    if (decision.verdict == HOLDS_WHEN) != bool(decision.condition):
        raise MeasurementError(f"{claim.id}: {HOLDS_WHEN!r} needs a condition, and only it does")
    return measured, decision, claim.headline.format(**decision.figures)


def rounded(series: Series) -> Series:
    """The series to 7 significant digits, as it is kept: so that what is read back decides the same."""
    arms = {arm: [[float(f"{value:.7g}") for value in values] for values in by_x] for arm, by_x in series.arms.items()}
    return replace(series, arms=arms)


def check_series(claim_id: str, series: Series, n_seeds: int) -> None:
    where = f"{claim_id}, {series.name!r}"
    for arm, by_x in series.arms.items():
        if len(by_x) != len(series.x) or any(len(values) != n_seeds for values in by_x):
            raise MeasurementError(f"{where}: arm {arm!r} lacks a value for some x or some seed")
        if not np.isfinite(np.asarray(by_x, dtype=float)).all():
            raise MeasurementError(f"{where}: arm {arm!r} holds a value that is not finite")
    if series.identical:
        return
    for a, b in combinations(series.arms, 2):
        if np.array_equal(np.asarray(series.arms[a]), np.asarray(series.arms[b])):
            raise IdenticalArmsError(f"{where}: the arms {a!r} and {b!r} are identical to the last bit")


def code_version(claim: Claim) -> str:
    """A digest of the claim's wording, seeds, functions, and every function of the project that those use.

    White space does not count, and neither do the loaders of the data sets: the sets themselves are fixed.
    """
    digest = hashlib.sha256()
    digest.update(repr((claim.statement, claim.headline, claim.rule, claim.seeds)).encode())
    for part in sorted({*parts_of(claim.measure), *parts_of(claim.decide)}):
        digest.update(part.encode())
    return digest.hexdigest()[:16]
