"""Is a record ready? Each rule that the course keeps is told in a sentence where it is broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autograder import trial
from autograder.exercise import Case, Criterion, Explanation, Misconception, Variant
from autograder.exercises import get
from autograder.trial import faults

GOOD = get("dropout.inverted_dropout")


@pytest.fixture(autouse=True)
def few_seeds(monkeypatch):
    """That right answers hold on many seeds is what test_exercises looks at."""
    monkeypatch.setattr(trial, "SEEDS", range(2))


def needs_numpy(candidate, case):
    return {"output": np.ones(1)}


def always_the_same(seed):
    return GOOD.cases(1)


def of_chance(seed):
    yield Case(
        "drawn", {"x": np.random.default_rng().normal(size=(4, 2)).astype("float32"), "p": 0.5, "mask": np.ones((4, 2))}
    )


def with_a_list(seed):
    for case in GOOD.cases(seed):
        yield Case(case.name, {**case.inputs, "list": [1]})


def test_a_record_of_the_course_is_ready():
    assert list(faults(GOOD)) == []
    assert list(faults(get("dropout.explain"))) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"id": "mine.thing"}, "its id is to be <topic>.<name>, in a lesson NN_<topic>"),
        ({"title": "TODO: a title"}, "fill in its title"),
        ({"hints": ("One.", " ")}, "it has 2 hints"),
        ({"hints": ("One.", "Two.", "")}, "fill in its hint 3"),
        ({"misconceptions": GOOD.misconceptions[:2]}, "it knows 2 misconceptions"),
        ({"variants": ()}, "it has 0 variants"),
        ({"probe": needs_numpy}, "NameError: the probe uses np from outside"),
        ({"cases": always_the_same}, "its cases don't depend on the seed"),
        ({"cases": of_chance}, "its cases differ from call to call"),
        ({"cases": with_a_list}, "arrays, numbers, text travel"),
        ({"criteria": (*GOOD.criteria, Criterion("never", 1))}, "no case gives “never”"),
        (
            {"misconceptions": (*GOOD.misconceptions, Misconception("right", GOOD.variants[0].right, "M.", "N."))},
            "the misconception right earns all points",
        ),
        (
            {"misconceptions": (*GOOD.misconceptions, replace(GOOD.misconceptions[0], id="twin"))},
            "the misconception twin is taken for unscaled",
        ),
        (
            {"variants": (*GOOD.variants, Variant("wrong", GOOD.misconceptions[0].wrong))},
            "the variant wrong is refused",
        ),
        (
            {"criteria": (*GOOD.criteria[:2], Criterion("input left as it was", 1))},
            "an answer that returns its argument 1 earns 1 points: no work, no points",
        ),
    ],
)
def test_a_broken_rule_is_told(change, fault):
    found = list(faults(replace(GOOD, **change)))
    assert [one for one in found if fault in one], found


def test_a_rubric_says_what_to_look_for():
    record = Explanation("dropout.words", "08_dropout", "Words", {"TODO": 1.0})
    assert [one.partition(": ")[2][:18] for one in faults(record)] == ["fill in its rubric", "its rubric has 1 r"]
