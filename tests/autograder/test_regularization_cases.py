"""Lesson 7: what its cases promise by their names, on thirty seeds, and far enough from a tie for float32."""

import numpy as np
import pytest
import torch

from autograder.diagnose import trusted_evidence
from autograder.exercises import get
from autograder.judge import cases_of


def outcomes(exercise_id, seed):
    exercise = get(exercise_id)
    cases = cases_of(exercise, (seed,))
    return zip(cases, trusted_evidence(exercise, exercise.reference, cases).outcomes, strict=True)


@pytest.mark.parametrize("seed", range(30))
def test_gap_cases_have_the_cause_that_their_name_says(seed):
    causes = {"augmentation alone": "augmentation", "easier": "data", "no gap": "none"}
    for case, outcome in outcomes("regularization.clinic_augmentation", seed):
        named = next(cause for start, cause in causes.items() if case.name.startswith(start))
        assert outcome.outputs["cause"] == named, case.name


@pytest.mark.parametrize("seed", range(30))
def test_rise_cases_have_the_cause_that_their_name_says(seed):
    causes = {"overfitting": "overfitting", "another balance": "balance", "nothing": "none"}
    for case, outcome in outcomes("regularization.clinic_rising", seed):
        named = next(cause for start, cause in causes.items() if case.name.startswith(start))
        assert outcome.outputs["cause"] == named, case.name
        for curve in ("validation loss", "in the training balance"):
            first, *_, last = outcome.outputs[curve]
            assert abs(last - first) > 1e-3, "too close for float32"


@pytest.mark.parametrize("seed", range(30))
def test_no_draw_of_stochastic_pooling_and_no_threshold_hangs_on_rounding(seed):
    """In float64 the same cells are drawn and the same weights are 0."""
    for exercise_id in ("regularization.stochastic_pool", "regularization.l1_step"):
        exercise = get(exercise_id)
        for case in cases_of(exercise, (seed,)):
            given = [torch.tensor(v) if isinstance(v, np.ndarray) else v for v in case.inputs.values()]
            wide = [v.double() if isinstance(v, torch.Tensor) else v for v in given]
            once, again = exercise.reference(*given), exercise.reference(*wide)
            torch.testing.assert_close(once.double(), again, rtol=1e-4, atol=1e-4 * float(again.abs().max() + 1e-9))
            assert torch.equal(once == 0, again == 0)


@pytest.mark.parametrize("seed", range(30))
def test_a_leak_leaves_honest_images_over_and_some_of_both_kinds(seed):
    for case, outcome in outcomes("regularization.clinic_leak", seed):
        leaked = outcome.outputs["leaked"]
        assert not leaked.all() and np.isfinite(outcome.outputs["accuracies"]).all()
        assert leaked.any() != (case.name == "none")
