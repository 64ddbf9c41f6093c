"""What a learner may read of a verdict: every catalogued mistake is told, and no number of a hidden case."""

import re

import pytest
from sample_class import INVERTED

from autograder.exercise import Exercise
from autograder.exercises import EXERCISES
from autograder.judge import try_out
from autograder.report.advice import RELATIONS, advice, parts
from autograder.submission import Outcome

RECORD = EXERCISES[INVERTED]
CODED = [record for record in EXERCISES.values() if isinstance(record, Exercise)]
CATALOGUE = [(record, one) for record in CODED for one in record.misconceptions]


def outcome_of(record, candidate, seeds=(7,)):
    verdict = try_out(record, candidate, seeds)
    said = verdict.diagnosis
    return Outcome(
        *(record.id, verdict.score, verdict.max_score, said.message, said.next_step, said.misconception),
        verdict.as_data(),
    )


@pytest.mark.parametrize(("record", "one"), CATALOGUE, ids=lambda value: getattr(value, "id", ""))
def test_a_catalogued_mistake_is_told_without_its_case(record, one):
    outcome = outcome_of(record, one.wrong)
    said = advice(outcome, record)
    own_words = set(re.findall(r"\d[\d.]*\d|\d", one.message))
    numbers = set(re.findall(r"\d[\d.]*\d|\d", said)) - own_words
    ratio = [n for n in numbers if re.search(rf"(?<![\d.]){re.escape(n)}(?![\d.])", outcome.message)]
    assert len(said) > 15 and "“{" not in said and "{" not in said
    assert not [case.name for case in record.cases(7) if case.name in said and case.name not in one.message]
    assert numbers == set(ratio) and (not numbers or "{ratio" in one.message)


LEAK = "0.73105"


def raises(x, p, mask):
    raise ValueError(f"{LEAK} {x.tolist()}")


class Sneaky(Exception):
    pass


Sneaky.__name__ = f"x_{LEAK.replace('.', '_')}"


def raises_by_name(x, p, mask):
    raise Sneaky


def spoils_one_value(x, p, mask):
    right = x * mask / max(1 - p, 1e-3)
    return right + 1e-2 * (right == right.flatten()[0])


def returns_nothing(x, p, mask):
    return None


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (raises, "Your code stops with ValueError in every case."),
        (raises_by_name, "Not right yet: output, gradient"),
        (spoils_one_value, "right"),
        (returns_nothing, "."),
    ],
)
def test_what_the_learners_code_puts_into_a_message_does_not_come_through(candidate, said):
    told = advice(outcome_of(RECORD, candidate), RECORD)
    assert said in told
    assert not re.search(r"\d", told)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_is_told_without_its_numbers(relation):
    diagnosis = {"relation": relation, "misconception": None}
    criteria = [{"name": "output", "points": 0, "max_points": 2, "passed": False}]
    found = Outcome(
        INVERTED, 0, 3, f"output: yours is {LEAK}", "", None, {"diagnosis": diagnosis, "criteria": criteria}
    )
    assert advice(found, RECORD) == f"output: {RELATIONS[relation]}"


def test_the_relations_are_those_of_the_diagnosis():
    from autograder import diagnose

    assert all(callable(getattr(diagnose, f"_{relation}")) for relation in RELATIONS)


def test_a_forbidden_call_is_named_from_the_record():
    found = Outcome(INVERTED, 0, 3, f"Your answer calls {RECORD.forbidden[0]}, {LEAK}, which …", "", None, {})
    assert (
        advice(found, RECORD)
        == f"Your answer calls {RECORD.forbidden[0]}, which this exercise asks you to write yourself."
    )


@pytest.mark.parametrize(
    "verdict", [{}, {"criteria": 3, "diagnosis": 4}, {"criteria": [{"name": []}]}, {"criteria": [1]}]
)
def test_a_verdict_that_is_none_gives_no_parts_and_some_advice(verdict):
    found = Outcome(INVERTED, 1, 3, f"anything {LEAK}", "", None, verdict)
    assert parts(found) == ()
    assert advice(found, RECORD) == "Only in part right."
    assert advice(found, None) == "Only in part right."


def test_what_was_not_run_says_why():
    assert advice(Outcome(INVERTED, 0, 3, "It hung."), RECORD) == "It hung."
