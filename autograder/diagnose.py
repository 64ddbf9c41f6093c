"""Say what went wrong: which known misconception gives the same outputs, or which simple relation they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compare import Difference, compare, share_right
from .exercise import AtMost, Case, Close, Criterion, Exercise, Misconception, Scale
from .probe import Evidence, Outcome, collect

__all__ = ["Diagnosis", "blank", "diagnose", "first_differences", "measure", "trusted_evidence"]


@dataclass(frozen=True)
class Diagnosis:
    """What was seen and the likely cause (`message`), and what to do next.

    `misconception` names the catalogued mistake, `relation` a simple relation to the right answer (factor, sign,
    transpose, …); both are None where only the error or the first difference is known.
    """

    message: str
    next_step: str = ""
    misconception: str | None = None
    relation: str | None = None
    missing: bool = False  # there was nothing by the answer's name


def trusted_evidence(exercise: Exercise, candidate: Callable[..., Any], cases: Sequence[Case]) -> Evidence:
    """The evidence of the reference or of a catalogued wrong answer: code of the course's own."""
    return collect(exercise, candidate, cases, trusted=True)


def first_differences(
    criteria: Sequence[Criterion], got: Evidence, expected: Evidence
) -> dict[str, tuple[int, Difference]]:
    """For each criterion that fails: the number of the first case in which it does, and the difference there.

    A `Scale` looks at all cases together: one case in which fewer are right does not fail it.
    """
    found: dict[str, tuple[int, Difference]] = {}
    for number, (mine, right) in enumerate(zip(got.outcomes, expected.outcomes, strict=True)):
        for criterion in criteria:
            if criterion.name in found or criterion.name not in right.outputs:
                continue
            difference = compare(mine.outputs.get(criterion.name), right.outputs[criterion.name], criterion.compare)
            if difference:
                found[criterion.name] = number, difference
    for criterion in criteria:
        how = criterion.compare
        if (
            criterion.name in found
            and isinstance(how, Scale)
            and (measure(criterion, got, expected) or 0.0) >= how.full
        ):
            del found[criterion.name]
    return found


def measure(criterion: Criterion, got: Evidence, expected: Evidence) -> float | None:
    """What a criterion measures: of a `Scale` the share of right values over all cases, of `AtMost` the largest one.

    None for other criteria, and where there is nothing to measure. One case of several without values has none right.
    """
    name, how = criterion.name, criterion.compare
    pairs = [
        (mine.outputs.get(name), right.outputs[name])
        for mine, right in zip(got.outcomes, expected.outcomes, strict=True)
        if name in right.outputs
    ]
    if isinstance(how, Scale) and any(mine is not None for mine, _ in pairs):
        values = sum(right.size for _, right in pairs)
        return sum(share_right(mine, right) * right.size for mine, right in pairs) / max(values, 1)
    if isinstance(how, AtMost):
        used = [mine for mine, _ in pairs if mine is not None and mine.size == 1 and mine.dtype.kind in "iuf"]
        numbers = [float(mine.item()) for mine in used]
        return max(numbers) if numbers and np.isfinite(numbers).all() else None
    return None


def diagnose(exercise: Exercise, cases: Sequence[Case], got: Evidence, expected: Evidence) -> Diagnosis | None:
    """The best explanation of what `got` has wrong; None where it has nothing wrong."""
    wrong = first_differences(exercise.criteria, got, expected)
    if not wrong and not got.forbidden:
        return None
    return (
        _forbidden(got)
        or blank(got)
        or _misconception(exercise, cases, got, expected, wrong)
        or _failure(cases, got)
        or _relation(exercise, cases, got, expected, wrong)
        or _first_difference(exercise, cases, wrong)
    )


def _forbidden(got: Evidence) -> Diagnosis | None:
    if not got.forbidden:
        return None
    names = ", ".join(got.forbidden)
    return Diagnosis(
        f"Your answer calls {names}, which this exercise asks you to write yourself.",
        "Build it from plain tensor operations.",
    )


def blank(got: Evidence) -> Diagnosis | None:
    """The diagnosis of an answer that is not written yet, or not there at all; None where something is."""
    if all(outcome.failure and outcome.failure.kind == "blank" for outcome in got.outcomes):
        return Diagnosis(
            "Not answered yet.",
            "Replace the line that raises NotImplementedError, run the cell, then check again.",
        )
    if got.outcomes and all(outcome.failure and outcome.failure.kind == "missing" for outcome in got.outcomes):
        name = got.outcomes[0].failure.message
        return Diagnosis(
            f"There was nothing to check: no cell that ran to its end defines `{name}`.",
            "Run your notebook from the top in a fresh kernel, and mend the first cell that stops.",
            missing=True,
        )
    return None


def _failure(cases: Sequence[Case], got: Evidence) -> Diagnosis | None:
    failed = [(case, outcome.failure) for case, outcome in zip(cases, got.outcomes, strict=True) if outcome.failure]
    if not failed:
        return None
    case, failure = failed[0]
    where = "in every case" if len(failed) == len(got.outcomes) else f"in the case “{case.name}”"
    if failure.kind == "blank":
        return Diagnosis(
            f"NotImplementedError {where}: a part is not written yet.", "Write the part that still raises it."
        )
    if failure.kind == "returned":
        return Diagnosis(
            f"What came back {where} can't be compared. {_sentence(failure.message)}",
            "Return what the exercise's text names.",
        )
    if "NoneType" in failure.message and not failure.line:
        return Diagnosis(f"Your code gives None back {where}.", "Is a `return` missing?")
    line = f" The line: `{failure.line}`." if failure.line else ""
    said = f"{failure.type} {where}: {failure.message}".rstrip(" :")
    return Diagnosis(_sentence(said) + line, "Run your code on such an input in a cell of its own.")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _misconception(
    exercise: Exercise,
    cases: Sequence[Case],
    got: Evidence,
    expected: Evidence,
    wrong: Mapping[str, tuple[int, Difference]],
) -> Diagnosis | None:
    """A wrong answer of the catalogue that agrees on all outputs; failing that, on all outputs that are wrong."""
    failing = [c for c in exercise.criteria if c.name in wrong]
    second_best = None
    for misconception in exercise.misconceptions:
        evidence = _agreeing(exercise, misconception, cases, got, wrong)
        if evidence is None or len(first_differences(failing, evidence, expected)) < len(failing):
            continue
        if _same(exercise.criteria, got, evidence):
            return _named(misconception, cases, got, expected, wrong)
        second_best = second_best or misconception
    return _named(second_best, cases, got, expected, wrong) if second_best else None


def _agreeing(
    exercise: Exercise,
    misconception: Misconception,
    cases: Sequence[Case],
    got: Evidence,
    wrong: Mapping[str, tuple[int, Difference]],
) -> Evidence | None:
    """The evidence of a catalogued wrong answer; None as soon as one case shows that it is another mistake."""
    failing = [c for c in exercise.criteria if c.name in wrong]
    telling = {number for number, _ in wrong.values()}
    outcomes: dict[int, Outcome] = {}
    for number in sorted(range(len(cases)), key=lambda number: number not in telling):
        (outcomes[number],) = trusted_evidence(exercise, misconception.wrong, cases[number : number + 1]).outcomes
        if not _same_outcome(failing, got.outcomes[number], outcomes[number]):
            return None
    return Evidence(exercise.id, tuple(outcomes[number] for number in range(len(cases))))


def _same(criteria: Sequence[Criterion], got: Evidence, other: Evidence) -> bool:
    return all(_same_outcome(criteria, a, b) for a, b in zip(got.outcomes, other.outcomes, strict=True))


def _same_outcome(criteria: Sequence[Criterion], got: Outcome, other: Outcome) -> bool:
    if got.failure or other.failure:
        return bool(
            got.failure
            and other.failure
            and got.failure.kind == other.failure.kind
            and got.failure.type == other.failure.type
        )
    return all(
        (c.name in got.outputs) == (c.name in other.outputs)
        and (c.name not in other.outputs or _as_one(got.outputs[c.name], other.outputs[c.name], c))
        for c in criteria
    )


def _as_one(got: np.ndarray, other: np.ndarray, criterion: Criterion) -> bool:
    """Whether two outputs come from one mistake. Of a `Scale` all values must agree: to be as bad is not enough."""
    how = Close() if isinstance(criterion.compare, Scale) else criterion.compare
    return compare(got, other, how) is None


def _named(
    misconception: Misconception,
    cases: Sequence[Case],
    got: Evidence,
    expected: Evidence,
    wrong: Mapping[str, tuple[int, Difference]],
) -> Diagnosis:
    name, (number, difference) = next(iter(wrong.items()))
    mine, right = (e.outcomes[number].outputs.get(name) for e in (got, expected))
    facts = {key: value for key, value in cases[number].inputs.items() if isinstance(value, int | float | str)}
    facts |= {
        "case": cases[number].name,
        "got": difference.got,
        "expected": difference.expected,
        "ratio": _ratio(mine, right),
    }
    return Diagnosis(
        misconception.message.format_map(_Facts(facts)),
        misconception.next_step,
        misconception=misconception.id,
    )


class _Facts(dict):
    """What a message may name. A fact that this case can't give reads as an ellipsis, in any number format."""

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        return _Unknown() if value is None else value

    def __contains__(self, key: object) -> bool:
        return True


class _Unknown:
    def __format__(self, spec: str) -> str:
        return "…"


def _ratio(got: np.ndarray | None, expected: np.ndarray | None) -> float | None:
    """The median of got / expected, where that means anything."""
    if (
        got is None
        or expected is None
        or got.shape != expected.shape
        or expected.dtype.kind != "f"
        or got.dtype.kind != "f"
    ):
        return None
    mine, right = got.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    usable = np.isfinite(mine) & np.isfinite(right) & (right != 0) & (mine != 0)
    return float(np.median(mine[usable] / right[usable])) if usable.any() else None


# ---------------------------------------------------------------- simple relations


def _relation(
    exercise: Exercise,
    cases: Sequence[Case],
    got: Evidence,
    expected: Evidence,
    wrong: Mapping[str, tuple[int, Difference]],
) -> Diagnosis | None:
    """A relation that turns the right output into the learner's in every case where the two differ."""
    for criterion in exercise.criteria:
        if criterion.name not in wrong or not isinstance(criterion.compare, Close):
            continue
        pairs = [
            (case, mine.outputs.get(criterion.name), right.outputs[criterion.name])
            for case, mine, right in zip(cases, got.outcomes, expected.outcomes, strict=True)
            if criterion.name in right.outputs
            and right.outputs[criterion.name].size
            and compare(mine.outputs.get(criterion.name), right.outputs[criterion.name], criterion.compare)
        ]
        if any(mine is None or right.dtype.kind != "f" or mine.dtype.kind not in "fiu" for _, mine, right in pairs):
            continue
        for relation in (_shape, _dtype, _nan, _factor, _transposed, _reversed, _offset, _one_slice):
            text = relation(criterion, pairs)
            if text:
                return Diagnosis(
                    f"{criterion.name}: {text}",
                    "Find the step of your code that does this.",
                    relation=relation.__name__[1:],
                )
    return None


Pairs = list[tuple[Case, np.ndarray, np.ndarray]]


def _alike(criterion: Criterion, mine: np.ndarray, right: np.ndarray) -> bool:
    return compare(mine.astype(right.dtype), right, criterion.compare) is None


def _shape(criterion: Criterion, pairs: Pairs) -> str:
    if not all(mine.shape != right.shape for _, mine, right in pairs):
        return ""
    case, mine, right = pairs[0]
    what = f"in the case “{case.name}” the shape is {mine.shape}, expected {right.shape}"
    if mine.size == right.size:
        if mine.ndim == 2 and mine.T.shape == right.shape and _alike(criterion, mine.T, right):
            return what + ": it is the transpose of the right answer."
        return what + ": as many values, arranged otherwise."
    if mine.ndim < right.ndim:
        return what + ": a mean or a sum runs over too many axes, or a keepdim is missing."
    return what + "."


def _dtype(criterion: Criterion, pairs: Pairs) -> str:
    if not all(
        mine.shape == right.shape and mine.dtype != right.dtype and _alike(criterion, mine, right)
        for _, mine, right in pairs
    ):
        return ""
    case, mine, right = pairs[0]
    seen = f"the values are right, but the dtype is {mine.dtype} instead of {right.dtype} in the case “{case.name}”."
    return f"{seen} Keep the dtype of the input."


def _nan(criterion: Criterion, pairs: Pairs) -> str:
    for case, mine, right in pairs:
        bad = np.argwhere(~np.isfinite(mine) & np.isfinite(right)) if mine.shape == right.shape else ()
        if len(bad):
            at = tuple(bad[0])
            return f"{mine[at]} at {bad[0].tolist()} in the case “{case.name}”, where {right[at]:.4g} is expected."
    return ""


def _comparable(pairs: Pairs) -> bool:
    return all(
        mine.shape == right.shape and np.isfinite(mine).all() and np.isfinite(right).all() for _, mine, right in pairs
    )


def _factor(criterion: Criterion, pairs: Pairs) -> str:
    if not _comparable(pairs):
        return ""
    told = [np.count_nonzero(right) for _, _, right in pairs]
    if sum(told) < 2:  # one number is always some factor times another
        return ""
    ratios = [_ratio(mine, right) for _, mine, right in pairs]
    if any(r is None for r in ratios) or not all(
        _alike(criterion, mine / ratio, right) for (_, mine, right), ratio in zip(pairs, ratios, strict=True)
    ):
        return ""
    case, ratio = pairs[0][0], ratios[0]
    if all(np.isclose(r, -1) for r in ratios):
        return "the sign is turned round in every case."
    if np.allclose(ratios, ratio, rtol=1e-4):
        return f"yours is {ratio:.4g} × the right answer in every case that differs."
    for name, rule in FACTORS.items():
        expected = [rule(case, right) for case, _, right in pairs]
        if all(e is not None and np.isclose(r, e, rtol=1e-4) for r, e in zip(ratios, expected, strict=True)):
            return f"yours is {name} × the right answer ({ratio:.4g} × in the case “{case.name}”)."
    if min(told) < 2:
        return ""
    return f"yours is the right answer times a factor that changes from case to case ({ratio:.4g} × in “{case.name}”)."


def _of(key: str, rule: Callable[[float], float]) -> Callable[[Case, np.ndarray], float | None]:
    def factor(case: Case, right: np.ndarray) -> float | None:
        value = case.inputs.get(key)
        return rule(value) if isinstance(value, float) and 0 < value < 1 else None

    return factor


# the factors that learners forget or apply twice, by the case's inputs
FACTORS: dict[str, Callable[[Case, np.ndarray], float | None]] = {
    "(1 − p)": _of("p", lambda p: 1 - p),
    "1/(1 − p)": _of("p", lambda p: 1 / (1 - p)),
    "(1 − p)²": _of("p", lambda p: (1 - p) ** 2),
    "1/(1 − p)²": _of("p", lambda p: (1 - p) ** -2),
    "p": _of("p", lambda p: p),
    "1/p": _of("p", lambda p: 1 / p),
    "p/(1 − p)": _of("p", lambda p: p / (1 - p)),
    "(1 − p)/p": _of("p", lambda p: (1 - p) / p),
    "N": lambda case, right: float(len(right)) if right.ndim else None,
    "1/N": lambda case, right: 1 / len(right) if right.ndim else None,
    "N/(N − 1)": lambda case, right: len(right) / (len(right) - 1) if right.ndim and len(right) > 1 else None,
    "(N − 1)/N": lambda case, right: (len(right) - 1) / len(right) if right.ndim and len(right) > 1 else None,
}


def _transposed(criterion: Criterion, pairs: Pairs) -> str:
    square = all(right.ndim == 2 and mine.shape == right.shape for _, mine, right in pairs)
    return (
        "yours is the transpose of the right answer."
        if square and all(_alike(criterion, m.T, r) for _, m, r in pairs)
        else ""
    )


def _reversed(criterion: Criterion, pairs: Pairs) -> str:
    if not _comparable(pairs):
        return ""
    for axis in range(min(right.ndim for _, _, right in pairs)):
        if all(_alike(criterion, np.flip(mine, axis), right) for _, mine, right in pairs):
            return f"yours runs the other way along axis {axis}."
    return ""


def _offset(criterion: Criterion, pairs: Pairs) -> str:
    if not _comparable(pairs) or any(right.size < 2 for _, _, right in pairs):
        return ""
    shifts = [float(np.median(mine.astype(np.float64) - right)) for _, mine, right in pairs]
    if all(_alike(criterion, mine - shift, right) for (_, mine, right), shift in zip(pairs, shifts, strict=True)):
        return f"yours is the right answer plus a constant ({shifts[0]:+.4g} in the case “{pairs[0][0].name}”)."
    return ""


def _one_slice(criterion: Criterion, pairs: Pairs) -> str:
    """All wrong values lie in the first or in the last slice along one axis, in every case."""
    if not _comparable(pairs):
        return ""
    for axis in range(min(right.ndim for _, _, right in pairs)):
        for end, name in ((0, "first"), (-1, "last")):
            if all(_mended(criterion, mine, right, axis, end) for _, mine, right in pairs):
                return f"only the {name} slice along axis {axis} is wrong."
    return ""


def _mended(criterion: Criterion, mine: np.ndarray, right: np.ndarray, axis: int, end: int) -> bool:
    """Whether taking one slice from the right answer is all that it needs."""
    slices = (slice(None),) * axis + (end,)
    mended = mine.copy()
    mended[slices] = right[slices]
    return right.shape[axis] > 2 and _alike(criterion, mended, right)


def _first_difference(
    exercise: Exercise, cases: Sequence[Case], wrong: Mapping[str, tuple[int, Difference]]
) -> Diagnosis:
    name, (number, difference) = next(iter(wrong.items()))
    step = exercise.hints[0] if exercise.hints else "Compare with a case small enough to work out by hand."
    return Diagnosis(f"{name}: {difference.text}, in the case “{cases[number].name}”.", step)
