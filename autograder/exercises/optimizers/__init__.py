"""Lesson 6, optimizers and learning-rate schedules: its exercises, in the order of the lesson."""

from .adam import adam_exercise, decay_exercise
from .adaptive import adagrad_exercise, rmsprop_exercise
from .clinic import accumulate_exercise, explain, ratio_exercise, schedule_exercise, training_exercise
from .keras_training import callback_exercise, metrics_exercise
from .momentum import nesterov_exercise, two_momenta_exercise
from .schedules import cycle_exercise, falling_exercise, warmup_exercise
from .watching import plateau_exercise, range_exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    two_momenta_exercise,
    nesterov_exercise,
    adagrad_exercise,
    rmsprop_exercise,
    adam_exercise,
    decay_exercise,
    accumulate_exercise,
    falling_exercise,
    warmup_exercise,
    cycle_exercise,
    plateau_exercise,
    range_exercise,
    metrics_exercise,
    callback_exercise,
    schedule_exercise,
    training_exercise,
    ratio_exercise,
    explain,
)
