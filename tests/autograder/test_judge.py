"""judge: the only place that gives points."""

import json
from dataclasses import replace

import numpy as np
import pytest

from autograder.exercise import AtMost, Case, CourseError, Criterion, Exercise, Misconception, Scale
from autograder.exercises import EXERCISES
from autograder.judge import cases_of, judge, request_for, try_out
from autograder.probe import Evidence, collect, decode_request


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


# ---------------------------------------------------------------- shares, budgets, and labels that stay here

LABELS = {1: np.array([3, 1, 4, 1, 5]), 2: np.array([9, 2, 6, 5, 3])}


def hidden_cases(seed):
    yield Case("hidden", {"x": np.arange(5.0) + seed}, withheld={"right": LABELS[seed]})


def predictions_and_cost(candidate, case):
    predicted, cost = candidate(case["x"])
    return {"right": np.asarray(predicted), "cost": cost}


def knows(right_of_ten, cost=7):
    """Answers of which so many are right, over both seeds."""

    def answer(x):
        first = x[0] == 1
        right = min(right_of_ten, 5) if first else max(right_of_ten - 5, 0)
        labels = LABELS[1 if first else 2].copy()
        labels[right:] += 1
        return labels, cost

    return answer


SCORED = replace(
    EXERCISE,
    cases=hidden_cases,
    probe=predictions_and_cost,
    reference=knows(0),  # it need not know the answers: they are withheld
    criteria=(Criterion("cost", 0, AtMost(10)), Criterion("right", 4, Scale(0.2, 0.7), requires=("cost",))),
)


@pytest.mark.parametrize(
    ("right", "earned", "passed"), [(0, 0, False), (2, 0, False), (4, 1.6, False), (7, 4, True), (10, 4, True)]
)
def test_a_scale_gives_points_by_the_share_over_all_cases(right, earned, passed):
    verdict = verdict_of(knows(right), SCORED)
    assert (verdict.score, verdict.passed) == (earned, passed)
    cost, share = verdict.criteria
    assert (cost.measure, share.measure) == (7, right / 10)
    assert f"{right / 10:.1%} right" in share.seen and "7, of at most 10" in cost.seen


def test_what_a_scale_requires_comes_first_and_its_measure_is_told_all_the_same():
    verdict = verdict_of(knows(10, cost=11), SCORED)
    assert verdict.score == 0 and not verdict.passed
    assert verdict.criteria[1].measure == 1.0
    assert "counts once “cost” passes" in verdict.criteria[1].seen


def test_withheld_labels_replace_the_references_answers_and_never_travel():
    assert decode_request(request_for(SCORED, (1, 2))).cases[0].withheld == {}
    for seed, labels in LABELS.items():
        assert labels.tobytes() not in request_for(SCORED, (seed,))


def test_to_be_as_bad_as_a_misconception_is_not_to_have_it():
    catalogued = replace(SCORED, misconceptions=(Misconception("four", knows(4), "…four…", "More."),))
    assert verdict_of(knows(4), catalogued).diagnosis.misconception == "four"
    assert verdict_of(knows(3), catalogued).diagnosis.misconception is None
    too_dear = replace(SCORED, misconceptions=(Misconception("dear", knows(10, cost=12), "Too dear.", "Less."),))
    assert verdict_of(knows(10, cost=99), too_dear).diagnosis.misconception == "dear"


def test_the_challenge_keeps_its_labels_to_itself():
    record = EXERCISES["cnn_architectures.challenge"]
    for seed in (1, 99):
        (contest,) = (case for case in cases_of(record, (seed,)) if case.withheld)
        labels = contest.withheld["right on hidden pictures"]
        request = request_for(record, (seed,))
        for dtype in (np.int64, np.int32, np.uint8):
            assert labels.astype(dtype).tobytes() not in request
        assert not any(np.array_equal(value, labels) for value in contest.inputs.values())


def test_where_nothing_was_handed_in_nothing_is_measured():
    verdict = verdict_of(lambda x: (None, 7), SCORED)
    share = verdict.criteria[1]
    assert (share.points, share.measure, share.passed) == (0, None, False)
    one_of_two = verdict_of(lambda x: knows(10)(x) if x[0] == 1 else 1 / 0, SCORED)
    assert one_of_two.criteria[1].measure == 0.5  # the case that fell out counts
