"""Turn evidence into a verdict: points for each criterion, and what went wrong. The only place that gives points."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from course_lib.provenance import parts_of

from .diagnose import Diagnosis, blank, diagnose, first_differences, measure, trusted_evidence
from .exercise import AtMost, Case, CourseError, Criterion, Exercise, Scale
from .probe import Evidence, Request, WireError, collect, decode, encode_request, request_id

__all__ = [
    "VISIBLE_SEEDS",
    "CriterionVerdict",
    "Verdict",
    "cases_of",
    "judge",
    "judge_answer",
    "judge_version",
    "no_verdict",
    "request_for",
    "try_out",
]

DIGITS = 4  # of points that a class shares out otherwise than the course; spreadsheets get as many
VISIBLE_SEEDS = (1, 2)  # grading a class draws others, so that it is no use to memorize these cases


@dataclass(frozen=True)
class CriterionVerdict:
    """How one criterion came out; `seen` is the first difference, or what was measured; else empty where it passed.

    `measure` is the share or the number that a `Scale` or `AtMost` looks at.
    """

    name: str
    points: float
    max_points: float
    passed: bool
    seen: str = ""
    measure: float | None = None


@dataclass(frozen=True)
class Verdict:
    """How an exercise came out."""

    exercise: str
    criteria: tuple[CriterionVerdict, ...]
    diagnosis: Diagnosis | None
    cases: int

    @property
    def score(self) -> float:
        """The points earned."""
        return round(sum(criterion.points for criterion in self.criteria), DIGITS)

    @property
    def max_score(self) -> float:
        """The points that could be earned."""
        return round(sum(criterion.max_points for criterion in self.criteria), DIGITS)

    @property
    def passed(self) -> bool:
        """Whether every criterion passed, those of 0 points too."""
        return all(criterion.passed for criterion in self.criteria)

    def weighted(self, points: float) -> Verdict:
        """The same verdict where the exercise is worth `points`, shared out among its criteria as before."""
        if points == self.max_score or not self.max_score:
            return self
        factor, left, criteria = points / self.max_score, points, []
        last = max(number for number, criterion in enumerate(self.criteria) if criterion.max_points)
        for number, criterion in enumerate(self.criteria):
            worth = round(left if number == last else criterion.max_points * factor, DIGITS)
            left -= worth
            earned = criterion.points / criterion.max_points if criterion.max_points else 0.0  # a share, of a `Scale`
            criteria.append(replace(criterion, points=round(worth * earned, DIGITS), max_points=worth))
        return replace(self, criteria=tuple(criteria))

    def as_data(self) -> dict[str, Any]:
        """The verdict as plain JSON data; `from_data` reads it."""
        diagnosis = self.diagnosis
        return {
            "exercise": self.exercise,
            "score": self.score,
            "max_score": self.max_score,
            "cases": self.cases,
            "criteria": [vars(criterion) for criterion in self.criteria],
            "diagnosis": diagnosis and vars(diagnosis),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Verdict:
        """The verdict that gave this data."""
        criteria = tuple(CriterionVerdict(**criterion) for criterion in data["criteria"])
        diagnosis = data["diagnosis"] and Diagnosis(**data["diagnosis"])
        return cls(data["exercise"], criteria, diagnosis, data["cases"])


@np.errstate(all="ignore")  # what comes from a kernel may overflow any sum
def judge(exercise: Exercise, seeds: Sequence[int], evidence: Evidence) -> Verdict:
    """The verdict on evidence that was collected on `cases_of(exercise, seeds)`.

    Raises CourseError where the evidence is of another exercise or of another number of cases.
    """
    cases = cases_of(exercise, tuple(seeds))
    if evidence.exercise != exercise.id or len(evidence.outcomes) != len(cases):
        raise CourseError(f"{exercise.id}: the evidence belongs to {evidence.exercise} or to other cases")
    if not evidence.forbidden and (unanswered := blank(evidence)):
        return replace(no_verdict(exercise, ""), diagnosis=unanswered, cases=len(cases))
    expected = _expected(exercise, tuple(seeds))
    wrong = first_differences(exercise.criteria, evidence, expected)
    failed = (
        {c.name for c in exercise.criteria if c.name in wrong}
        if not evidence.forbidden
        else {c.name for c in exercise.criteria}
    )
    measures = {} if evidence.forbidden else {c.name: measure(c, evidence, expected) for c in exercise.criteria}
    verdicts = tuple(_verdict(c, failed, wrong, cases, measures.get(c.name)) for c in exercise.criteria)
    return Verdict(exercise.id, verdicts, diagnose(exercise, cases, evidence, expected), len(cases))


def try_out(exercise: Exercise, candidate: Any, seeds: Sequence[int]) -> Verdict:
    """Collect and judge in this process: for the learner's own check and for tests, never for hidden grading."""
    return judge(exercise, seeds, collect(exercise, candidate, cases_of(exercise, tuple(seeds))))


def request_for(exercise: Exercise, seeds: Sequence[int]) -> bytes:
    """What a learner's kernel is asked in order to try an answer on `cases_of(exercise, seeds)`."""
    name, source = _probe_source(exercise)
    cases = cases_of(exercise, tuple(seeds))
    return encode_request(Request(exercise.id, exercise.answer, name, source, exercise.forbidden, cases))


@lru_cache(maxsize=256)
def _probe_source(exercise: Exercise) -> tuple[str, str]:
    return exercise.probe.__name__, textwrap.dedent(inspect.getsource(exercise.probe))


def judge_answer(
    exercise: Exercise, seeds: Sequence[int], request: bytes, answer: bytes, forbidden: Sequence[str] = ()
) -> Verdict:
    """The verdict on what a kernel sent back for `request_for(exercise, seeds)`, which is trusted for nothing.

    `forbidden` names what was found in the answer's source from outside, where the kernel can't hide it.
    """
    try:
        evidence = decode(answer, request_id(request))
        wrong_size = len(evidence.outcomes) != len(cases_of(exercise, tuple(seeds)))
        if evidence.exercise != exercise.id or wrong_size:
            raise WireError("the evidence belongs to another exercise or to other cases")
    except WireError as error:
        return no_verdict(exercise, f"What came back from the kernel was no answer: {error}.")
    used = tuple(sorted({*forbidden, *(name for name in evidence.forbidden if name in exercise.forbidden)}))
    return judge(exercise, seeds, Evidence(evidence.exercise, evidence.outcomes, used))


@lru_cache(maxsize=256)
def judge_version(exercise: Exercise) -> str:
    """A digest of all that turns evidence on this exercise into a verdict: the record, its functions with the code of
    the project that they use, and the code that compares, diagnoses and judges."""
    digest = hashlib.sha256()
    digest.update(repr([(c.name, c.points, c.compare, c.requires) for c in exercise.criteria]).encode())
    digest.update(repr([(m.id, m.message, m.next_step) for m in exercise.misconceptions]).encode())
    projects = ("autograder", "course_lib", exercise.cases.__module__.split(".")[0])
    for function in (exercise.cases, exercise.reference, *(m.wrong for m in exercise.misconceptions)):
        for part in sorted(parts_of(function, projects, through_modules=True)):
            digest.update(part.encode())
    for module in ("compare", "diagnose", "exercise", "judge", "probe.collect", "probe.wire"):
        digest.update(inspect.getsource(import_module(f"{__package__}.{module}")).encode())
    return digest.hexdigest()[:16]


def no_verdict(exercise: Exercise, message: str, next_step: str = "") -> Verdict:
    """The verdict on an exercise of which there is no evidence: no points, and why."""
    criteria = tuple(CriterionVerdict(c.name, 0.0, float(c.points), False, "no result") for c in exercise.criteria)
    return Verdict(exercise.id, criteria, Diagnosis(message, next_step), 0)


@lru_cache(maxsize=64)
def cases_of(exercise: Exercise, seeds: tuple[int, ...]) -> tuple[Case, ...]:
    """The exercise's cases for all `seeds`, in order."""
    return tuple(case for seed in seeds for case in exercise.cases(seed))


@lru_cache(maxsize=64)
def _expected(exercise: Exercise, seeds: tuple[int, ...]) -> Evidence:
    expected = trusted_evidence(exercise, exercise.reference, cases_of(exercise, seeds))
    outcomes = zip(cases_of(exercise, seeds), expected.outcomes, strict=True)
    outcomes = tuple(replace(o, outputs={**o.outputs, **case.withheld}) for case, o in outcomes)
    expected = replace(expected, outcomes=outcomes)
    for case, outcome in zip(cases_of(exercise, seeds), expected.outcomes, strict=True):
        if outcome.failure:
            raise CourseError(f"{exercise.id}: the reference fails in the case “{case.name}”: {outcome.failure}")
    for criterion in exercise.criteria:
        if not any(criterion.name in outcome.outputs for outcome in expected.outcomes):
            raise CourseError(f"{exercise.id}: no case gives “{criterion.name}”, so everybody would pass it")
    return expected


def _verdict(
    criterion: Criterion,
    failed: set[str],
    wrong: dict[str, Any],
    cases: Sequence[Case],
    measured: float | None,
) -> CriterionVerdict:
    how = criterion.compare
    passed = criterion.name not in failed
    seen = ""
    if isinstance(how, Scale) and measured is not None:
        seen = f"{measured:.1%} right, of {how.full:.0%} that earn all points"
    elif isinstance(how, AtMost) and measured is not None:
        seen = f"{measured:,.0f}, of at most {how.limit:,.0f}"
    elif criterion.name in wrong:
        number, difference = wrong[criterion.name]
        seen = f"{difference.text}, in the case “{cases[number].name}”"
    waits = bool(failed.intersection(criterion.requires))
    if waits and (passed or measured is not None):
        missing = [name for name in criterion.requires if name in failed]
        told = "counts once " + " and ".join(f"“{name}”" for name in missing) + " passes"
        seen = f"{seen}; {told}" if seen else told
    points = float(criterion.points) if passed else 0.0
    if isinstance(how, Scale) and measured is not None:
        points = round(float(criterion.points) * how.credit(measured), 2)
    return CriterionVerdict(criterion.name, 0.0 if waits else points, float(criterion.points), passed, seen, measured)
