"""judge: the only place that gives points."""

import json
from dataclasses import replace

import numpy as np
import pytest

from autograder.exercise import Case, CourseError, Criterion, Exercise
from autograder.exercises import EXERCISES
from autograder.judge import cases_of, judge, try_out
from autograder.probe import Evidence, collect


def cases(seed):
    generator = np.random.default_rng(seed)
    yield Case("training", {"x": generator.normal(size=4), "training": True})
    yield Case("test", {"x": generator.normal(size=4), "training": False})


def in_both_phases(candidate, case):
    given = case["x"].copy()
    y = candidate(case["x"], case["training"])
    return {"training" if case["training"] else "test": y, "input left as it was": np.array((case["x"] == given).all())}


def doubled_in_training(x, training):
    return 2 * x if training else x


EXERCISE = Exercise(
    id="test.phases",
    lesson="00_test",
    title="Phases",
    answer="phases",
    criteria=(
        Criterion("training", 2),
        Criterion("test", 1, requires=("training",)),
        Criterion("input left as it was", 0),
    ),
    cases=cases,
    probe=in_both_phases,
    reference=doubled_in_training,
    misconceptions=(),
    variants=(),
    hints=(),
    forbidden=("torch.nn.functional.dropout",),
)


def verdict_of(candidate, exercise=EXERCISE):
    return try_out(exercise, candidate, (1, 2))


def points(verdict):
    return [criterion.points for criterion in verdict.criteria]


def test_the_right_answer_earns_everything():
    verdict = verdict_of(doubled_in_training)
    assert (verdict.score, verdict.max_score, verdict.passed, verdict.diagnosis) == (3, 3, True, None)
    assert verdict.cases == 4


def test_a_criterion_counts_only_where_those_it_requires_pass():
    verdict = verdict_of(lambda x, training: x)  # "unchanged at test time" by doing nothing at all
    assert points(verdict) == [0, 0, 0]
    assert verdict.criteria[1].passed
    assert verdict.criteria[1].seen == "counts once “training” passes"


def test_partial_points():
    verdict = verdict_of(lambda x, training: 2 * x)
    assert points(verdict) == [2, 0, 0]
    assert "in the case “test”" in verdict.criteria[1].seen


def overwrites(x, training):
    if training:
        x *= 2
    return x


def test_a_criterion_of_0_points_is_reported_and_costs_nothing():
    verdict = verdict_of(overwrites)
    assert (verdict.score, verdict.passed) == (3, False)
    assert not verdict.criteria[2].passed and verdict.criteria[2].seen


def calls_the_framework(x, training):
    import torch

    torch.nn.functional.dropout(torch.ones(1), 0.5)
    return 2 * x if training else x


def calls_it_in_secret(x, training):
    try:
        calls_the_framework(x, training)
    except Exception:
        return doubled_in_training(x, training)


@pytest.mark.parametrize("candidate", [calls_the_framework, calls_it_in_secret])
def test_a_forbidden_call_costs_every_point(candidate):
    verdict = verdict_of(candidate)
    assert verdict.score == 0 and not verdict.passed
    assert "torch.nn.functional.dropout" in verdict.diagnosis.message


@pytest.mark.parametrize(
    "candidate",
    [None, 3, "text", object(), doubled_in_training(1, True), lambda: 1, lambda x, training: None, type("C", (), {})],
    ids=["None", "number", "text", "object", "called", "no arguments", "no return", "class"],
)
def test_what_is_no_answer_earns_nothing_and_is_explained(candidate):
    verdict = verdict_of(candidate)
    assert verdict.score == 0
    assert verdict.diagnosis.message


@pytest.mark.parametrize("error", [SystemExit, NotImplementedError, RecursionError, ValueError])
def test_an_error_earns_nothing(error):
    def candidate(x, training):
        raise error

    assert verdict_of(candidate).score == 0


def test_a_blank_answer_does_not_wait_for_the_reference():
    def stub(x, training):
        raise NotImplementedError("Your turn: replace this line.")

    def slow(x, training):
        pytest.fail("the reference ran")

    verdict = verdict_of(stub, replace(EXERCISE, reference=slow))
    assert (verdict.score, verdict.passed, verdict.diagnosis.message) == (0, False, "Not answered yet.")


def test_evidence_of_another_exercise_is_refused():
    evidence = collect(EXERCISE, doubled_in_training, cases_of(EXERCISE, (1,)))
    with pytest.raises(CourseError, match=r"test\.phases.*belongs to test\.other"):
        judge(EXERCISE, (1,), replace(evidence, exercise="test.other"))


def test_evidence_of_other_cases_is_refused():
    evidence = collect(EXERCISE, doubled_in_training, cases_of(EXERCISE, (1,)))
    for outcomes in ((), evidence.outcomes[:1], evidence.outcomes * 2):
        with pytest.raises(CourseError, match="other cases"):
            judge(EXERCISE, (1,), Evidence(EXERCISE.id, outcomes))


def test_evidence_collected_on_another_seed_earns_nothing():
    evidence = collect(EXERCISE, doubled_in_training, cases_of(EXERCISE, (1,)))
    assert judge(EXERCISE, (9,), evidence).score == 0


def test_a_reference_that_fails_stops_the_grading():
    def broken(x, training):
        raise RuntimeError("no reference")

    with pytest.raises(CourseError, match="the reference fails in the case “training”"):
        verdict_of(doubled_in_training, replace(EXERCISE, reference=broken))


def test_a_criterion_that_no_case_gives_stops_the_grading():
    """Otherwise everybody would earn its points."""
    exercise = replace(EXERCISE, criteria=(*EXERCISE.criteria, Criterion("gradeint", 5)))
    with pytest.raises(CourseError, match="no case gives “gradeint”"):
        verdict_of(doubled_in_training, exercise)


def test_a_verdict_is_json_data():
    data = json.loads(json.dumps(verdict_of(lambda x, training: 3 * x).as_data()))
    assert (data["exercise"], data["score"], data["max_score"]) == ("test.phases", 0, 3)
    assert data["criteria"][0].keys() == {"name", "points", "max_points", "passed", "seen", "measure"}
    assert data["diagnosis"].keys() >= {"misconception", "message", "next_step"}
    assert json.loads(json.dumps(verdict_of(doubled_in_training).as_data()))["diagnosis"] is None


def test_the_judge_is_deterministic():
    assert verdict_of(lambda x, training: 3 * x) == verdict_of(lambda x, training: 3 * x)


def test_a_record_of_the_course_is_judged():
    exercise = EXERCISES["dropout.inverted_dropout"]
    assert try_out(exercise, exercise.reference, (5,)).score == 0  # the learner's answer may not call the course's own
    assert try_out(exercise, exercise.variants[0].right, (5,)).passed
    unscaled = next(m for m in exercise.misconceptions if m.id == "unscaled")
    assert try_out(exercise, unscaled.wrong, (5,)).diagnosis.misconception == "unscaled"
