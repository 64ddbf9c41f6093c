"""Is an exercise's record ready for learners? What the course's own test-suite asks of each record, for everyone's.

Use it in the tests of a package that ships exercises:

    @pytest.mark.parametrize("record", EXERCISES, ids=lambda record: record.id)
    def test_the_record_is_ready(record):
        assert list(faults(record)) == []
"""

from __future__ import annotations

import builtins
import dis
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from .diagnose import trusted_evidence
from .exercise import CourseError, Exercise, Explanation
from .judge import VISIBLE_SEEDS, cases_of, judge, try_out

__all__ = ["TODO", "faults", "to_fill_in"]

TODO = "TODO"  # what a scaffold leaves in texts that its author must write
HIDDEN_SEED = 4242
SEEDS = range(20)  # on which right answers must be accepted
FEWEST_MISCONCEPTIONS, FEWEST_VARIANTS, FEWEST_HINTS, FEWEST_RUBRIC = 4, 3, 3, 3


def faults(record: Exercise | Explanation) -> Iterator[str]:
    """What is missing or wrong in a record, each in a sentence that says what to do; nothing where it is ready."""
    yield from (f"{record.id}: {fault}" for fault in _faults(record))


def _faults(record: Exercise | Explanation) -> Iterator[str]:
    topic, _, name = record.id.partition(".")
    if not name.isidentifier() or not record.lesson.endswith(f"_{topic}"):
        yield f"its id is to be <topic>.<name>, in a lesson NN_<topic>, not in {record.lesson}"
    yield from to_fill_in(record)
    if isinstance(record, Explanation):
        if len(record.rubric) < FEWEST_RUBRIC:
            yield f"its rubric has {len(record.rubric)} rows: name {FEWEST_RUBRIC} things to look for"
        return
    try:
        if found := list(_of_its_cases(record)):
            yield from found
            return
        _stands_alone(record.probe)
        for seed in (*VISIBLE_SEEDS, HIDDEN_SEED):
            own = trusted_evidence(record, record.reference, cases_of(record, (seed,)))
            if not judge(record, (seed,), own).passed:
                yield f"its reference does not earn all points with seed {seed}"
    except CourseError as error:
        yield str(error).removeprefix(f"{record.id}: ")
        return
    except Exception as error:
        yield f"its cases, probe or reference stop with {type(error).__name__}: {error}; a probe's imports stand in it"
        return
    yield from _of_answers(record)


def to_fill_in(record: Exercise | Explanation) -> Iterator[str]:
    """The texts that a scaffold left to its author."""
    texts = {"title": record.title}
    if isinstance(record, Exercise):
        texts |= {f"hint {number}": hint for number, hint in enumerate(record.hints, 1)}
        for one in record.misconceptions:
            texts |= {f"message of misconception {one.id}": one.message, f"next step of {one.id}": one.next_step}
        if len(record.hints) < FEWEST_HINTS:
            yield f"it has {len(record.hints)} hints: write {FEWEST_HINTS}, each giving a little more away"
        if len(record.misconceptions) < FEWEST_MISCONCEPTIONS:
            yield f"it knows {len(record.misconceptions)} misconceptions: write {FEWEST_MISCONCEPTIONS} at least"
        if len(record.variants) < FEWEST_VARIANTS:
            yield f"it has {len(record.variants)} variants: write {FEWEST_VARIANTS} right answers in other ways"
    else:
        texts |= {f"rubric {number}": row for number, row in enumerate(record.rubric, 1)}
    for name, text in texts.items():
        if not text.strip() or TODO in text:
            yield f"fill in its {name}"


def _of_its_cases(record: Exercise) -> Iterator[str]:
    once, again, other = (list(record.cases(seed)) for seed in (3, 3, 4))
    for case in once:
        for name, value in case.inputs.items():
            if not isinstance(value, np.ndarray | int | float | bool | str):
                yield f"the case {case.name!r} has {name} as {type(value).__name__}: arrays, numbers, text travel"
                return
    if not _same(once, again):
        yield "its cases differ from call to call: draw them from the seed alone"
    if _same(once, other):
        yield "its cases don't depend on the seed, so the hidden cases would be the visible ones"


def _same(some: list[Any], others: list[Any]) -> bool:
    return all(np.array_equal(a[key], b[key]) for a, b in zip(some, others, strict=True) for key in a.inputs)


def _of_answers(record: Exercise) -> Iterator[str]:
    for one in record.misconceptions:
        for seeds in (VISIBLE_SEEDS, (HIDDEN_SEED,)):
            verdict = try_out(record, one.wrong, seeds)
            named = verdict.diagnosis.misconception if verdict.diagnosis else None
            if verdict.passed:
                yield f"the misconception {one.id} earns all points: add a case that tells it from a right answer"
            elif named != one.id:
                yield f"the misconception {one.id} is taken for {named or 'something unknown'}: add a case between them"
            else:
                continue
            break
    for variant in record.variants:
        if bad := [seed for seed in SEEDS if not try_out(record, variant.right, (seed,)).passed]:
            yield f"the variant {variant.id} is refused with seed {bad[0]}: is it right, is the tolerance?"
    parameters = len(inspect.signature(record.reference).parameters)
    for name, answer in _without_work(parameters):
        if score := try_out(record, answer, (1,)).score:
            yield f"{name} earns {score:g} points: no work, no points"


def _without_work(parameters: int) -> Iterator[tuple[str, Any]]:
    yield "an answer that returns nothing", lambda *args, **kwargs: None
    yield "an answer that returns 0", lambda *args, **kwargs: 0.0
    for k in range(parameters):
        yield f"an answer that returns its argument {k + 1}", lambda *args, _k=k, **kwargs: args[_k]


def _stands_alone(probe: Any) -> None:
    """Its source travels as text: nothing of its module may be used."""
    namespace: dict[str, Any] = {}
    exec(textwrap.dedent(inspect.getsource(probe)), namespace)
    code = namespace[probe.__name__].__code__
    if unknown := [name for name in _globals(code) if not hasattr(builtins, name)]:
        raise NameError(f"the probe uses {unknown[0]} from outside")


def _globals(code: Any) -> Iterator[str]:
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    for const in code.co_consts:
        if inspect.iscode(const):
            yield from _globals(const)
