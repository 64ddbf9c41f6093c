"""compare: type, shape, dtype, finite, value, in that order; tolerances that follow from the arithmetic."""

import numpy as np
import pytest

from autograder.compare import compare, share_right
from autograder.exercise import AtMost, Close, SameShare, Scale

F = np.float32


def kind(got, expected, how=None):
    difference = compare(got, expected, how or Close())
    return difference and difference.kind


# ---------------------------------------------------------------- the order


def test_equal_arrays_have_no_difference():
    assert kind(np.ones((2, 3), F), np.ones((2, 3), F)) is None


@pytest.mark.parametrize(
    ("got", "expected", "first"),
    [
        (None, np.ones(3, F), "missing"),
        (np.array("one"), np.ones(3, F), "type"),  # shape, dtype and values differ as well
        (np.ones(3, F), np.array("one"), "type"),
        (np.full((2, 2), np.nan), np.ones(4, F), "shape"),  # dtype and values differ as well
        (np.full(4, np.nan), np.ones(4, F), "dtype"),  # values differ as well
        (np.array([5, np.nan], F), np.ones(2, F), "finite"),  # the value before it differs as well
        (np.array([1, 5], F), np.ones(2, F), "value"),
        (np.array([1, 2]), np.array([1, 3]), "value"),
        (np.array([True]), np.array([False]), "value"),
        (np.array("train"), np.array("eval"), "value"),
    ],
)
def test_the_first_kind_of_difference_is_reported(got, expected, first):
    assert kind(got, expected) == first


def test_a_difference_names_place_and_values():
    difference = compare(np.array([[1, 2], [3, 9]], F), np.array([[1, 2], [3, 4]], F), Close())
    assert (difference.index, difference.got, difference.expected) == ((1, 1), 9.0, 4.0)
    assert difference.text == "got 9, expected 4 at [1, 1] (25% of the values differ)"


def test_text_is_shown_in_quotes():
    assert compare(np.array("train"), np.array("eval"), Close()).text == "got 'train', expected 'eval'"


def test_a_scalar_has_no_place():
    assert compare(np.array(2.0), np.array(3.0), Close()).text.startswith("got 2, expected 3 (")


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_arrays_of_size_0_are_equal_where_their_shapes_are(shape):
    assert kind(np.ones(shape, F), np.ones(shape, F)) is None
    assert kind(np.ones((*shape, 1), F), np.ones(shape, F)) == "shape"


# ---------------------------------------------------------------- tolerance


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("operations", [4, 64])
@pytest.mark.parametrize("scale", [1.0, 1024.0, 2.0**-5])
def test_the_tolerance_grows_with_epsilon_operations_and_scale(dtype, operations, scale):
    expected = np.array([scale, 0], dtype)
    edge = operations * np.finfo(dtype).eps * scale
    assert kind(np.array([scale, 0.5 * edge], dtype), expected, Close(operations)) is None
    assert kind(np.array([scale, 2 * edge], dtype), expected, Close(operations)) == "value"


def test_where_all_expected_values_are_0_only_0_will_do():
    assert kind(np.zeros(3, F), np.zeros(3, F)) is None
    assert kind(np.array([0, 1e-30, 0], F), np.zeros(3, F)) == "value"


def test_the_sign_of_zero_does_not_matter():
    assert kind(np.array([-0.0], F), np.array([0.0], F)) is None


def test_whole_numbers_have_no_tolerance():
    assert kind(np.array([10**9 + 1]), np.array([10**9]), Close(operations=10**6)) == "value"


def test_rounding_of_an_honest_sum_is_within_its_number_of_operations():
    """Adding n float32 numbers one after another rounds n times: Close(n) must accept any order.

    Not a coin toss: |error| <= n * eps/2 * sum|x| holds for every order, and all x here are positive.
    """
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = rng.random(256).astype(F)
        one_by_one = np.add.accumulate(rng.permutation(x))[-1]
        assert kind(np.array(one_by_one), np.array(x.astype(np.float64).sum(), F), Close(256)) is None


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_must_stand_where_the_reference_has_them(value):
    expected = np.array([1, value, 2], F)
    assert kind(np.array([1, value, 2], F), expected) is None
    assert kind(np.array([1, 7, 2], F), expected) == "finite"
    assert kind(np.array([value, value, 2], F), expected) == "finite"
    assert kind(np.array([1, value, 3], F), expected) == "value"


def test_the_infinities_are_told_apart():
    assert kind(np.array([-np.inf], F), np.array([np.inf], F)) == "finite"
    assert kind(np.array([np.nan], F), np.array([np.inf], F)) == "finite"


def test_all_nan_equals_all_nan():
    assert kind(np.full(2, np.nan, F), np.full(2, np.nan, F)) is None


# ---------------------------------------------------------------- samples


def draws(rng, p, n=1000):
    return (rng.random(n) < p).astype(F)


def test_equal_shares_pass_1000_times():
    """Hoeffding: each comparison alarms with probability at most 1e-8, so this test with at most 1e-5."""
    rng = np.random.default_rng(0)
    how = SameShare()
    assert not [1 for _ in range(1000) if compare(draws(rng, 0.5), draws(rng, 0.5), how)]


def test_the_false_alarm_bound_holds_where_it_can_be_seen():
    """With alpha = 0.2 the rate must stay under 0.2 in 2,000 comparisons of the widest distribution (p = 1/2).

    Hoeffding's bound is loose (the true rate is about 0.03), so 400 alarms have a probability below 1e-100.
    """
    rng = np.random.default_rng(0)
    alarms = sum(compare(draws(rng, 0.5), draws(rng, 0.5), SameShare(alpha=0.2)) is not None for _ in range(2000))
    assert 0 < alarms < 400


def test_another_share_is_found():
    """±0.2 at n = 1000 against a bound of 0.138: the test misses with probability under 1e-3 per draw; seeded."""
    rng = np.random.default_rng(0)
    for p in (0.2, 0.8):
        difference = compare(draws(rng, p), draws(rng, 0.5), SameShare())
        assert difference.kind == "share"
        assert "expected about 0.5" in difference.text or "expected about 0.4" in difference.text


def test_the_bound_is_hoeffdings_for_two_samples():
    """t = sqrt(ln(2/α)/2 · (1/n + 1/n')): 0.138 for 1000 and 1000 draws at α = 1e-8, 0.107 for 1000 and 5000."""
    zeros, ones = np.zeros(1000, F), np.ones(1000, F)
    assert "(± 0.138)" in compare(zeros, ones, SameShare()).text
    assert "(± 0.107)" in compare(zeros, np.ones(5000, F), SameShare()).text


def test_a_sample_outside_0_and_1_is_refused():
    rng = np.random.default_rng(0)
    for bad in (2.0, -1.0, np.nan, np.inf):
        got = draws(rng, 0.5)
        got[3] = bad
        assert kind(got, draws(rng, 0.5), SameShare()) == "finite"


def test_samples_may_differ_in_size_and_the_bound_follows():
    rng = np.random.default_rng(0)
    assert kind(draws(rng, 0.5, 5000), draws(rng, 0.5), SameShare()) is None
    assert kind(draws(rng, 0.8, 5000), draws(rng, 0.5), SameShare()) == "share"
    assert kind(draws(rng, 0.8, 9), draws(rng, 0.5), SameShare()) is None  # nine draws prove nothing


def test_no_draws_where_some_are_expected_are_missing():
    rng = np.random.default_rng(0)
    assert kind(draws(rng, 0.5, 0), draws(rng, 0.5), SameShare()) == "missing"
    assert kind(draws(rng, 0.5, 0), draws(rng, 0.5, 0), SameShare()) is None


def test_the_scale_of_a_sum_can_be_named_where_its_terms_cancel():
    """1e4 - 1e4 is 0 up to a rounding of 1e4, not of 0."""
    got, expected = np.array([1e-4], F), np.zeros(1, F)
    assert kind(got, expected, Close(4)) == "value"
    assert kind(got, expected, Close(4, scale=1e4)) is None
    assert kind(10_000 * got, expected, Close(4, scale=1e4)) == "value"


# ---------------------------------------------------------------- a share on a scale, a number within a limit


@pytest.mark.parametrize(
    ("right", "first"),
    [(10, None), (8, None), (7, "share"), (0, "share")],
)
def test_a_scale_passes_from_its_full_mark_on(right, first):
    got = np.array([1] * right + [0] * (10 - right))
    assert kind(got, np.ones(10, np.int64), Scale(low=0.5, full=0.8)) == first


@pytest.mark.parametrize(("share", "credit"), [(0.0, 0.0), (0.5, 0.0), (0.65, 0.5), (0.8, 1.0), (1.0, 1.0)])
def test_the_credit_of_a_scale_grows_from_its_low_mark_to_its_full_one(share, credit):
    assert Scale(low=0.5, full=0.8).credit(share) == pytest.approx(credit)


@pytest.mark.parametrize("got", [None, np.ones(9, np.int64), np.ones(10, F), np.full(10, True), np.array("1" * 10)])
def test_what_are_no_answers_or_another_number_of_them_has_none_right(got):
    assert share_right(got, np.ones(10, np.int64)) == 0.0
    assert kind(got, np.ones(10, np.int64), Scale(low=0.0, full=0.1))


@pytest.mark.parametrize(
    ("used", "first"), [(99, None), (100, None), (100.5, "limit"), (np.nan, "type"), (np.inf, "type")]
)
def test_a_budget_is_kept_up_to_its_limit(used, first):
    assert kind(np.array(used), np.array(3), AtMost(100)) == first


def test_two_that_exceed_a_budget_make_the_same_mistake():
    """So that one wrong answer of the catalogue stands for every size of it."""
    assert kind(np.array(500), np.array(200), AtMost(100)) is None
    assert kind(np.array([1, 2]), np.array(3), AtMost(100)) == "type"
    assert "500, of at most 100" in compare(np.array(500), np.array(3), AtMost(100)).text
