"""diagnose: each simple relation is recognized where it holds, and none is claimed where it doesn't."""

import numpy as np
import pytest

from autograder.diagnose import diagnose, trusted_evidence
from autograder.exercise import Case, Close, Criterion, Exercise, Misconception
from autograder.judge import cases_of
from autograder.probe import collect

rng = np.random.default_rng(3)
X = rng.normal(1, 2, (4, 4)).astype(np.float32)
ROWS = rng.normal(1, 2, (5, 3)).astype(np.float32)


def cases(seed):
    yield Case("square", {"x": X, "p": 0.3})
    yield Case("rows", {"x": ROWS, "p": 0.8})


def call(candidate, case):
    return {"output": candidate(case["x"], case["p"])}


def right(x, p):
    return np.tanh(x) + p


def half(x, p):
    return 0.5 * (np.tanh(x) + p)


def without_p(x, p):
    return np.tanh(x)


def exercise(misconceptions=(), reference=right, cases=cases, **options):
    options = {"criteria": (Criterion("output", 1, Close(8)),), "probe": call, "hints": ("Think.",)} | options
    return Exercise(
        id="test.tanh",
        lesson="00_test",
        title="Tanh",
        answer="tanh",
        cases=cases,
        reference=reference,
        misconceptions=misconceptions,
        variants=(),
        **options,
    )


def diagnosis_of(candidate, **options):
    record = exercise(**options)
    at = cases_of(record, (1,))
    return diagnose(record, at, collect(record, candidate, at), trusted_evidence(record, record.reference, at))


def spoiled(x, p):
    y = right(x, p)
    y[0, 0] = np.nan
    return y


def one_slice(axis, end):
    def candidate(x, p):
        y = right(x, p)
        np.moveaxis(y, axis, 0)[end] += 3 + np.arange(y.shape[1 - axis])
        return y

    return candidate


def shifted(x, p):
    return right(x, p) + np.float32(p)


@pytest.mark.parametrize(
    ("candidate", "relation", "words"),
    [
        (lambda x, p: np.float32(0.25) * right(x, p), "factor", "0.25 × the right answer in every case"),
        (lambda x, p: -right(x, p), "factor", "sign"),
        (lambda x, p: right(x, p) * np.float32(1 - p), "factor", "(1 − p) × the right answer"),
        (lambda x, p: right(x, p) / np.float32(1 - p), "factor", "1/(1 − p) × the right answer"),
        (lambda x, p: right(x, p) * np.float32((1 - p) ** 2), "factor", "(1 − p)² × the right answer"),
        (lambda x, p: right(x, p) * np.float32((1 - p) ** -2), "factor", "1/(1 − p)² × the right answer"),
        (lambda x, p: right(x, p) * np.float32(p), "factor", "p × the right answer"),
        (lambda x, p: right(x, p) / np.float32(p), "factor", "1/p × the right answer"),
        (lambda x, p: right(x, p) * np.float32(p / (1 - p)), "factor", "p/(1 − p) × the right answer"),
        (lambda x, p: right(x, p) * np.float32(len(x)), "factor", "N × the right answer"),
        (lambda x, p: right(x, p) / np.float32(len(x)), "factor", "1/N × the right answer"),
        (lambda x, p: right(x, p) * np.float32(len(x) / (len(x) - 1)), "factor", "N/(N − 1) × the right"),
        (lambda x, p: right(x, p) * np.float32(1 + p**2), "factor", "changes from case to case"),
        (lambda x, p: right(x, p)[::-1], "reversed", "axis 0"),
        (lambda x, p: right(x, p)[:, ::-1], "reversed", "axis 1"),
        (shifted, "offset", "+0.3 in the case “square”"),
        (spoiled, "nan", "nan at [0, 0]"),
        (lambda x, p: right(x, p).astype(np.float64), "dtype", "float64 instead of float32"),
        (lambda x, p: right(x, p)[:1], "shape", "the shape is (1, 4), expected (4, 4)."),
        (lambda x, p: right(x, p).ravel(), "shape", "arranged otherwise"),
        (lambda x, p: right(x, p).mean(1), "shape", "keepdim"),
        (one_slice(0, 0), "one_slice", "first slice along axis 0"),
        (one_slice(0, -1), "one_slice", "last slice along axis 0"),
        (one_slice(1, -1), "one_slice", "last slice along axis 1"),
    ],
)
def test_a_simple_relation_is_recognized(candidate, relation, words):
    diagnosis = diagnosis_of(candidate)
    assert diagnosis.relation == relation
    assert words in diagnosis.message
    assert diagnosis.misconception is None


def square(seed):
    yield Case("square", {"x": X, "p": 0.3})


def oblong(seed):
    yield Case("rows", {"x": ROWS, "p": 0.3})


def test_a_transpose_is_recognized():
    assert diagnosis_of(lambda x, p: right(x, p).T, cases=square).relation == "transposed"
    diagnosis = diagnosis_of(lambda x, p: right(x, p).T, cases=oblong)
    assert diagnosis.relation == "shape" and "the transpose" in diagnosis.message


def test_a_factor_of_float32_is_recognized_at_the_strictest_tolerance():
    for factor in (0.3, 1 / 3, 7.7, 1e-3):
        strict = (Criterion("output", 1, Close(2)),)
        diagnosis = diagnosis_of(lambda x, p, f=factor: right(x, p) * np.float32(f), criteria=strict)
        assert diagnosis.relation == "factor", factor


# ---------------------------------------------------------------- nothing is claimed where it is false


def noisy(x, p):
    return right(x, p) + np.random.default_rng(0).normal(size=x.shape).astype(np.float32)


def slice_and_a_little_more(x, p):
    y = right(x, p)
    y[0] += 3 + np.arange(y.shape[1])
    y[-1] *= np.float32(1.0005)  # far outside the tolerance, yet hard to see
    return y


def factor_in_one_case_only(x, p):
    return right(x, p) * np.float32(0.5) if p == 0.3 else noisy(x, p)


def reversed_in_one_case_only(x, p):
    return right(x, p)[::-1] if p == 0.3 else noisy(x, p)


@pytest.mark.parametrize(
    "candidate",
    [noisy, slice_and_a_little_more, factor_in_one_case_only, reversed_in_one_case_only, lambda x, p: np.zeros_like(x)],
    ids=["noisy", "slice and a little more", "factor once", "reversed once", "zeros"],
)
def test_no_relation_is_claimed_that_does_not_hold_in_every_case(candidate):
    diagnosis = diagnosis_of(candidate)
    assert diagnosis.relation is None
    assert diagnosis.message.startswith("output: got ")
    assert diagnosis.next_step == "Think."


def test_random_wrong_answers_get_no_relation():
    """400 answers of independent noise: a relation by chance needs 16 values within 8 roundings, p < 1e-60."""
    draw = np.random.default_rng(5)
    for _ in range(400):
        diagnosis = diagnosis_of(lambda x, p: draw.normal(size=x.shape).astype(np.float32), cases=square)
        assert diagnosis.relation is None


def test_one_number_is_never_called_a_factor_of_another():
    """5.3 is 2.4 × 2.2, which says nothing."""

    def loss(candidate, case):
        return {"output": np.float32(candidate(case["x"], case["p"]).sum())}

    assert diagnosis_of(noisy, cases=square, probe=loss).relation is None
    assert diagnosis_of(noisy, probe=loss).relation is None
    assert diagnosis_of(lambda x, p: right(x, p) * np.float32(0.5), probe=loss).relation == "factor"


def test_whole_numbers_and_text_get_no_relation():
    def labels(candidate, case):
        return {"output": candidate(case["x"], case["p"])}

    assert diagnosis_of(lambda x, p: 3, probe=labels, reference=lambda x, p: 4).relation is None
    assert diagnosis_of(lambda x, p: "train", probe=labels, reference=lambda x, p: "eval").relation is None


# ---------------------------------------------------------------- the order of explanations


def test_a_right_answer_has_no_diagnosis():
    assert diagnosis_of(right) is None


def test_a_blank_answer_is_not_called_wrong():
    def stub(x, p):
        raise NotImplementedError("Your turn: replace this line.")

    assert diagnosis_of(stub).message == "Not answered yet."


def test_a_half_written_answer_is_told_apart_from_a_blank_one():
    def candidate(x, p):
        if p > 0.5:
            raise NotImplementedError
        return right(x, p)

    assert "in the case “rows”" in diagnosis_of(candidate).message


def test_an_error_is_shown_with_its_case():
    def candidate(x, p):
        return right(x, p) if p < 0.5 else {}["missing"]

    assert diagnosis_of(candidate).message.startswith("KeyError in the case “rows”: 'missing'.")


def test_a_forgotten_return_is_named():
    assert "is a `return` missing?" in diagnosis_of(lambda x, p: None).message


def test_a_forbidden_call_comes_before_everything_else():
    def candidate(x, p):
        import torch

        torch.nn.functional.dropout(torch.ones(1), p)
        return right(x, p)

    diagnosis = diagnosis_of(candidate, forbidden=("torch.nn.functional.dropout",))
    assert "torch.nn.functional.dropout" in diagnosis.message


MISCONCEPTIONS = (
    Misconception("half", half, "{ratio:.2f} × in {case}, where p = {p}: {got:.3f}, not {expected:.3f}", "Double it."),
    Misconception("without_p", without_p, "p is missing."),
)


def test_a_misconception_is_named_before_a_relation_and_its_message_filled():
    diagnosis = diagnosis_of(lambda x, p: right(x, p) / 2, misconceptions=MISCONCEPTIONS)
    assert (diagnosis.misconception, diagnosis.next_step) == ("half", "Double it.")
    first = right(X, 0.3)[0, 0]
    assert diagnosis.message == f"0.50 × in square, where p = 0.3: {first / 2:.3f}, not {first:.3f}"


def test_the_misconception_must_agree_in_every_case():
    def candidate(x, p):
        return half(x, p) if p == 0.3 else without_p(x, p)

    assert diagnosis_of(candidate, misconceptions=MISCONCEPTIONS).misconception is None


def test_a_fact_that_is_unknown_reads_as_an_ellipsis():
    def raiser(x, p):
        raise KeyError("a")

    record = (Misconception("raises", raiser, "{ratio:.2f} and {nothing:d} in {case}"),)
    assert diagnosis_of(raiser, misconceptions=record).message == "… and … in square"


def test_a_known_mistake_is_named_beside_another_that_is_right():
    """Two outputs: the gradient wrong in a catalogued way, while the output follows none of the catalogue."""

    def two(candidate, case):
        y, g = candidate(case["x"])
        return {"output": y, "gradient": g}

    def wrong(x):
        return x, -x

    options = {
        "criteria": (Criterion("output", 1), Criterion("gradient", 1)),
        "probe": two,
        "reference": lambda x: (x, x),
        "misconceptions": (Misconception("sign", wrong, "The sign."),),
    }
    assert diagnosis_of(lambda x: (x, -x), **options).misconception == "sign"
    assert diagnosis_of(lambda x: (2 * x, -x), **options).misconception is None
