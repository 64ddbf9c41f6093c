"""Every record of the course, by the same table of tests: a new exercise is covered as soon as it is registered.

False alarms: only `SameShare` criteria are random. One comparison errs with a probability of at most 1e-8
(Hoeffding), so one check errs with at most 1e-6, and the 20 seeds × 5 variants × 7 cases of a random record with
at most 1e-5. Masks that should differ are alike with a probability below 1e-20.
"""

import importlib
import inspect
import json
import textwrap
import types
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from autograder.diagnose import first_differences, trusted_evidence
from autograder.exercise import Close, CourseError, Exercise, Explanation, SameShare
from autograder.exercises import EXERCISES, LESSONS, get, of_lesson
from autograder.judge import VISIBLE_SEEDS, cases_of, judge, try_out
from autograder.probe import collect, decode, encode
from autograder.trial import to_fill_in

CODED = [record for record in EXERCISES.values() if isinstance(record, Exercise)]
WRITTEN = [record for record in EXERCISES.values() if isinstance(record, Explanation)]
HIDDEN_SEEDS = (11, 4242)  # as a grader would use: not the visible ones
VARIANT_SEEDS = range(20)


def uses_keras(exercise):
    return "import keras" in inspect.getsource(exercise.probe)


def is_random(exercise):
    return any(isinstance(criterion.compare, SameShare) for criterion in exercise.criteria)


def fewest_misconceptions(exercise):
    """6 for numeric records; 4 where a probe can only give words and yes or no, as for a framework's phase."""
    gives_numbers = any(
        outcome.outputs[c.name].dtype.kind == "f"
        for outcome in trusted_evidence(exercise, exercise.reference, cases_of(exercise, VISIBLE_SEEDS)).outcomes
        for c in exercise.criteria
        if c.name in outcome.outputs
    )
    return 6 if gives_numbers else 4


def marked(value, exercise, *names):
    marks = [pytest.mark.slow] if uses_keras(exercise) else []
    return pytest.param(exercise, value, marks=marks, id="-".join((exercise.id, *names)))


per_exercise = pytest.mark.parametrize(
    "exercise",
    [pytest.param(e, marks=[pytest.mark.slow] if uses_keras(e) else [], id=e.id) for e in CODED],
)
per_misconception = pytest.mark.parametrize(
    ("exercise", "misconception"), [marked(m, e, m.id) for e in CODED for m in e.misconceptions]
)
per_variant = pytest.mark.parametrize(("exercise", "variant"), [marked(v, e, v.id) for e in CODED for v in e.variants])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fixed_random_state():
    """A red test stays red when it is run again."""
    torch.manual_seed(7)
    np.random.seed(7)


# ---------------------------------------------------------------- the records as data


def test_ids_are_unique_and_begin_with_their_topic():
    ids = [record.id for lesson in LESSONS for record in lesson.EXERCISES]
    assert len(ids) == len(set(ids)) == len(EXERCISES)
    for record in EXERCISES.values():
        topic, _, name = record.id.partition(".")
        assert name.isidentifier() and record.lesson.endswith(f"_{topic}"), record.id


def test_answers_are_unique_within_a_lesson():
    named = [(exercise.lesson, exercise.answer) for exercise in CODED]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("record", EXERCISES.values(), ids=lambda record: record.id)
def test_record_is_complete(record):
    assert record.title and record.minutes > 0 and record.points > 0
    if isinstance(record, Explanation):
        assert len(record.rubric) >= 3 and all(points > 0 for points in record.rubric.values())
        return
    assert record.answer.isidentifier()
    assert len(record.hints) >= 3 and all(record.hints)
    names = [criterion.name for criterion in record.criteria]
    assert len(names) == len(set(names))
    assert all(required in names for criterion in record.criteria for required in criterion.requires)
    for group in (record.misconceptions, record.variants):
        assert len({item.id for item in group}) == len(group)
    assert all(m.message.strip() and m.next_step.strip() for m in record.misconceptions)


@pytest.mark.parametrize("record", EXERCISES.values(), ids=lambda record: record.id)
def test_nothing_of_a_scaffold_is_left_to_fill_in(record):
    left = list(to_fill_in(record))
    assert not left, "\n".join(["", *left])


def test_lookup_by_id_and_by_lesson():
    first = CODED[0]
    assert get(first.id) is first
    assert first in of_lesson(first.lesson)
    with pytest.raises(CourseError, match=f"did you mean {first.id}"):
        get(first.id + "s")
    with pytest.raises(CourseError, match="no lesson '99_nothing'"):
        of_lesson("99_nothing")


@per_exercise
def test_catalogue_is_large_enough(exercise):
    assert len(exercise.misconceptions) >= fewest_misconceptions(exercise)
    assert len(exercise.variants) >= 3
    assert len(cases_of(exercise, (1,))) >= (4 if uses_keras(exercise) else 6)


@per_exercise
def test_cases_follow_from_the_seed_and_are_plain_data(exercise):
    once, twice, other = (list(exercise.cases(seed)) for seed in (3, 3, 4))
    assert len({case.name for case in once}) == len(once)
    assert [case.name for case in once] == [case.name for case in other]
    differs = False
    for a, b, c in zip(once, twice, other, strict=True):
        assert isinstance(a.inputs, Mapping)
        for key, value in a.inputs.items():
            assert isinstance(value, np.ndarray | int | float | bool | str), (a.name, key)
            np.testing.assert_array_equal(value, b[key])
            differs = differs or not np.array_equal(value, c[key])
    assert differs, "the hidden cases would be the visible ones"


# ---------------------------------------------------------------- what travels as text stands on its own


def from_source(thing, names):
    """The object that `thing`'s source makes where only `names` are known."""
    namespace = dict(names)
    exec(textwrap.dedent(inspect.getsource(thing)), namespace)
    return namespace[thing.__name__]


@per_exercise
def test_probe_stands_on_its_own(exercise):
    probe = from_source(exercise.probe, {})
    case = next(iter(exercise.cases(1)))
    outputs = probe(exercise.reference, case.inputs)
    assert set(outputs) <= {criterion.name for criterion in exercise.criteria}
    assert outputs


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [marked(m.wrong, e, m.id) for e in CODED for m in e.misconceptions]
    + [marked(v.right, e, v.id) for e in CODED for v in e.variants],
)
def test_answer_stands_on_its_own(exercise, answer):
    """The source is a valid notebook cell: it behaves the same where only the lesson's imports are known."""
    alone = from_source(answer, {"torch": torch, "nn": nn, "F": F, "np": np})
    cases = cases_of(exercise, (1,))
    mine, original = (trusted_evidence(exercise, thing, cases) for thing in (alone, answer))
    for a, b in zip(mine.outcomes, original.outcomes, strict=True):
        assert (a.failure and (a.failure.kind, a.failure.type)) == (b.failure and (b.failure.kind, b.failure.type))
        assert a.failure is None or a.failure.type != "NameError"
    assert not first_differences(exercise.criteria, mine, original)


# ---------------------------------------------------------------- right answers


@per_exercise
def test_reference_earns_all_points(exercise):
    cases = cases_of(exercise, HIDDEN_SEEDS)
    verdict = judge(exercise, HIDDEN_SEEDS, trusted_evidence(exercise, exercise.reference, cases))
    assert verdict.passed and verdict.score == verdict.max_score == exercise.points
    assert verdict.diagnosis is None


@per_exercise
def test_every_criterion_is_seen(exercise):
    """A criterion that no case gives would pass whatever the answer."""
    evidence = trusted_evidence(exercise, exercise.reference, cases_of(exercise, (1,)))
    assert {name for outcome in evidence.outcomes for name in outcome.outputs} == {c.name for c in exercise.criteria}


@per_variant
def test_variant_is_accepted(exercise, variant):
    for seed in VARIANT_SEEDS:
        verdict = try_out(exercise, variant.right, (seed,))
        assert verdict.passed, (seed, [vars(c) for c in verdict.criteria if not c.passed])
        assert verdict.score == exercise.points


# ---------------------------------------------------------------- wrong answers


@per_misconception
def test_misconception_is_caught_and_named(exercise, misconception):
    for seeds in (VISIBLE_SEEDS, HIDDEN_SEEDS[:1]):
        verdict = try_out(exercise, misconception.wrong, seeds)
        assert not verdict.passed
        assert verdict.diagnosis.misconception == misconception.id, verdict.diagnosis
        message = verdict.diagnosis.message
        assert message and not any(sign in message for sign in "{}…"), message


def test_diagnosis_names_what_was_seen():
    verdict = try_out(get("dropout.inverted_dropout"), lambda x, p, mask: x * mask, (1,))
    assert "0.70 ×" in verdict.diagnosis.message and "p = 0.3" in verdict.diagnosis.message


def empty_handed(exercise):
    """Answers that show no work, by name: none may earn a point."""

    def blank(*args, **kwargs):
        raise NotImplementedError

    def nothing(*args, **kwargs):
        return None

    answers = {"blank": blank, "nothing": nothing, "not callable": 0.5}
    for constant in (0.0, 1.0):
        answers[f"constant {constant:g}"] = lambda *args, _c=constant, **kwargs: _c
    parameters = len(inspect.signature(exercise.reference).parameters)
    for k in range(parameters):
        answers[f"argument {k}"] = lambda *args, _k=k, **kwargs: args[_k]
    for length in (2, 3, 4):  # for results that are tuples
        answers[f"{length} zeros"] = lambda *args, _n=length, **kwargs: (torch.zeros(()),) * _n
        answers[f"{length} inputs"] = lambda *args, _n=length, **kwargs: (args[0],) * _n
    if isinstance(exercise.reference, type):

        class Raw(nn.Module):
            def __init__(self, *args, **kwargs):
                super().__init__()

            def forward(self, x):
                return x

        class Zero(Raw):
            def forward(self, x):
                return x * 0

        class One(Raw):
            def forward(self, x):
                return x * 0 + 1

        class Unwritten(Raw):
            def forward(self, x):
                raise NotImplementedError

        answers |= {"raw layer": Raw, "zero layer": Zero, "constant layer": One, "blank layer": Unwritten}
    else:
        for k in range(parameters):
            answers[f"zeros like argument {k}"] = lambda *args, _k=k, **kwargs: args[_k] * 0
    return answers


@per_exercise
def test_no_work_no_points(exercise):
    for name, answer in empty_handed(exercise).items():
        verdict = try_out(exercise, answer, (1,))
        assert verdict.score == 0, (name, [vars(c) for c in verdict.criteria if c.points])
        assert not verdict.passed and verdict.diagnosis.message, name


@per_exercise
def test_blank_answer_is_called_unanswered(exercise):
    verdict = try_out(exercise, empty_handed(exercise)["blank"], VISIBLE_SEEDS)
    assert verdict.diagnosis.message == "Not answered yet."


@pytest.mark.parametrize(("exercise", "name"), [marked(name, e, name) for e in CODED for name in e.forbidden])
def test_forbidden_call_is_caught(exercise, name):
    """A module stands for each function and class made in it."""
    try:
        module = importlib.import_module(name)
        called = [key for key in module.__all__ if getattr(getattr(module, key), "__module__", "") == name]
    except ImportError:
        owner, _, attribute = name.rpartition(".")
        module, called = importlib.import_module(owner), [attribute]
    assert called
    for attribute in called:
        thing = getattr(module, attribute)
        if not isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType):
            continue

        def cheat(*args, _module=module, _attribute=attribute, **kwargs):
            return getattr(_module, _attribute)(*args, **kwargs)

        verdict = try_out(exercise, cheat, (1,))
        assert verdict.score == 0 and name in verdict.diagnosis.message, attribute
        assert getattr(module, attribute) is thing, "the watch must leave the library as it was"


@per_exercise
def test_reference_handed_in_as_an_answer_is_caught_where_it_is_forbidden(exercise):
    home = exercise.reference.__module__
    if home not in exercise.forbidden:
        assert not home.startswith("course_lib"), "a published reference must be forbidden as an answer"
        return
    assert try_out(exercise, exercise.reference, (1,)).score == 0


# ---------------------------------------------------------------- the wire and the check


@per_exercise
def test_evidence_survives_the_wire(exercise):
    cases = cases_of(exercise, HIDDEN_SEEDS)
    for answer in (exercise.variants[0].right, exercise.misconceptions[0].wrong):
        evidence = collect(exercise, answer, cases)
        returned = decode(encode(evidence, "request 1"), "request 1")
        assert [o.failure for o in returned.outcomes] == [o.failure for o in evidence.outcomes]
        for a, b in zip(returned.outcomes, evidence.outcomes, strict=True):
            assert list(a.outputs) == list(b.outputs)
            for name in a.outputs:
                np.testing.assert_array_equal(a.outputs[name], b.outputs[name])
                assert a.outputs[name].dtype == b.outputs[name].dtype
        there, here = (judge(exercise, HIDDEN_SEEDS, e) for e in (returned, evidence))
        assert there.criteria == here.criteria


@per_exercise
def test_check_shows_card_and_score_and_keeps_quiet(exercise, capfd, record_property):
    from time import perf_counter

    wrong = exercise.misconceptions[0]
    for name, answer, score in (("right", exercise.variants[0].right, exercise.points), ("wrong", wrong.wrong, None)):
        begin = perf_counter()
        result = check(exercise.id, answer)
        record_property(f"{name}_seconds", round(perf_counter() - begin, 3))
        bundle = result._repr_mimebundle_()
        assert float(bundle["text/plain"]) == result.verdict.score
        assert score is None or result.verdict.score == score
        assert exercise.title in str(result)
        json.dumps(result.verdict.as_data())
    assert capfd.readouterr().err == ""


@per_exercise
def test_tolerances_come_from_counted_roundings(exercise):
    """At most 1e-3 of the result's size in float32: a wider one would let mistakes through."""
    for criterion in exercise.criteria:
        if isinstance(criterion.compare, Close):
            assert criterion.compare.operations * np.finfo(np.float32).eps <= 1e-3


@pytest.mark.parametrize("exercise", [e for e in CODED if is_random(e)], ids=lambda e: e.id)
def test_random_records_state_a_small_false_alarm_rate(exercise):
    comparisons = sum(isinstance(c.compare, SameShare) for c in exercise.criteria) * len(
        cases_of(exercise, VISIBLE_SEEDS)
    )
    alpha = max(c.compare.alpha for c in exercise.criteria if isinstance(c.compare, SameShare))
    assert comparisons * alpha <= 1e-6


# ---------------------------------------------------------------- lesson 8: what only its own cases can show


@pytest.mark.parametrize("seed", range(30))
def test_gap_cases_have_the_cause_that_their_name_says(seed):
    exercise = get("dropout.clinic_gap")
    cases = cases_of(exercise, (seed,))
    outcomes = trusted_evidence(exercise, exercise.reference, cases).outcomes
    causes = {"dropout makes": "dropout", "an easier": "data", "no gap": "none"}
    for case, outcome in zip(cases, outcomes, strict=True):
        named = next(cause for start, cause in causes.items() if case.name.startswith(start))
        clean, valid = outcome.outputs["training loss, validation loss"]
        logged = outcome.outputs["training loss as logged"]
        assert outcome.outputs["cause"] == named, case.name
        assert min(abs(logged - valid), abs(clean - valid)) > 1e-3, "too close for float32"


def test_geometric_mean_of_all_thinned_nets_is_the_scaled_net():
    exercise = get("dropout.thinned_nets")
    for outcome in trusted_evidence(exercise, exercise.reference, cases_of(exercise, (1, 2))).outcomes:
        np.testing.assert_allclose(outcome.outputs["geometric"], outcome.outputs["scaled"], atol=1e-4)


def test_expected_signal_agrees_with_a_million_masks():
    """The mean of n draws lies within 6 standard errors of the formula but for a probability of 2e-9 a value."""
    from course_lib.dropout import inverted_dropout

    reference = get("dropout.expected_signal").reference
    x, weight, p, n = torch.randn(1, 4), torch.randn(3, 4), 0.3, 1_000_000
    mean, variance = reference(x, weight, p)
    signal = inverted_dropout(x, p, (torch.rand(n, 4) >= p).float()) @ weight.T
    assert ((signal.mean(0) - mean[0]).abs() < 6 * (variance[0] / n).sqrt()).all()
    torch.testing.assert_close(signal.var(0), variance[0], rtol=0.02, atol=0)
