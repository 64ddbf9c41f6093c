"""Whatever arrays come out of a kernel: they are judged, without an error or a warning, and earn what is possible."""

from __future__ import annotations

import random

import numpy as np
import pytest

from autograder.exercises import EXERCISES
from autograder.judge import cases_of, judge
from autograder.probe import Evidence, Failure, Outcome, collect, decode, encode

LIGHT = ("dropout.inverted_dropout", "dropout.classic_dropout", "dropout.spatial_dropout")
KINDS = ("blank", "raised", "forbidden", "returned", "missing", "passed", "", "x" * 2000)

ODD = {
    "text": lambda a: np.array("<b>text</b>"),
    "NaN": lambda a: np.full(a.shape, np.nan, a.dtype),
    "infinity": lambda a: np.full(a.shape, np.inf),
    "nothing": lambda a: np.zeros((0,)),
    "truth values": lambda a: np.zeros(a.shape, bool),
    "the largest number": lambda a: np.full(a.shape, np.finfo(np.float64).max),
    "the smallest number": lambda a: np.full(a.shape, 5e-324),
    "the smallest integer": lambda a: np.full(a.shape, -(2**63)),
    "half precision": lambda a: a.astype(np.float16),
    "one number": lambda a: np.array(1.0),
    "eight dimensions": lambda a: np.zeros((2,) * 8),
    "the opposite": lambda a: -a,
    "the right answer": lambda a: a,
}


@pytest.mark.parametrize("id", LIGHT)
@pytest.mark.parametrize("seed", range(5))
def test_any_answer_is_judged(id: str, seed: int) -> None:
    draw, exercise = random.Random(f"{id}{seed}"), EXERCISES[id]
    right = collect(exercise, exercise.reference, cases_of(exercise, (7,)), trusted=True)
    for _ in range(30):
        outcomes = []
        for outcome in right.outcomes:
            with np.errstate(over="ignore"):
                arrays = {n: draw.choice([*ODD.values()])(a) for n, a in outcome.outputs.items() if draw.random() < 0.9}
            failure = Failure(draw.choice(KINDS), "<b>", "{x} %s", "{0}") if draw.random() < 0.2 else None
            outcomes.append(Outcome(arrays, failure))
        sent = encode(Evidence(id, tuple(outcomes), ("torch.x",) if draw.random() < 0.1 else ()), "request")
        verdict = judge(exercise, (7,), decode(sent, "request"))
        assert 0 <= verdict.score <= verdict.max_score
