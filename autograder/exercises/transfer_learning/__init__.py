"""Lesson 5, transfer learning: its exercises, in the order of the lesson."""

from .clinic import clinic_cause, clinic_forgetting, clinic_inputs, explain
from .features import moved_exercise, precompute_exercise
from .heads import conv_exercise, head_exercise
from .keras_stages import keras_exercise
from .loading import loading_exercise
from .naming import freeze_exercise, groups_exercise
from .norms import norms_exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    freeze_exercise,
    norms_exercise,
    head_exercise,
    precompute_exercise,
    groups_exercise,
    moved_exercise,
    loading_exercise,
    conv_exercise,
    keras_exercise,
    clinic_inputs,
    clinic_cause,
    clinic_forgetting,
    explain,
)
