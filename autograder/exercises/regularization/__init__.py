"""Lesson 7, regularization: its exercises, in the order of the lesson."""

from .balance import balance_exercise, head_exercise
from .clinic import clinic_augmentation, clinic_leak, clinic_rising, explain
from .examples import grow_exercise, mixup_exercise, smoothing_exercise
from .keras_penalties import keras_penalty
from .noise import drop_connect_exercise, stochastic_pool_exercise
from .penalties import l1_step_exercise, l2_penalty_exercise, max_norm_exercise
from .splits import folds_exercise, split_exercise
from .stopping import early_stopping

__all__ = ["EXERCISES"]

EXERCISES = (
    l2_penalty_exercise,
    l1_step_exercise,
    max_norm_exercise,
    early_stopping,
    grow_exercise,
    mixup_exercise,
    smoothing_exercise,
    drop_connect_exercise,
    stochastic_pool_exercise,
    head_exercise,
    folds_exercise,
    split_exercise,
    balance_exercise,
    keras_penalty,
    clinic_augmentation,
    clinic_rising,
    clinic_leak,
    explain,
)
