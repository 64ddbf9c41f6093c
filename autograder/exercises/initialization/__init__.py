"""Lesson 2, initialization: its exercises, in the order of the lesson."""

from .clinic import clinic_conv, clinic_start, explain
from .draws import gain_exercise, glorot_exercise, he_exercise
from .fans import fans_exercise
from .flow import measured_exercise, predicted_exercise
from .from_data import lsuv_exercise, output_bias_exercise
from .keras_scaling import keras_exercise
from .matrices import orthogonal_exercise, truncated_exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    predicted_exercise,
    measured_exercise,
    fans_exercise,
    glorot_exercise,
    gain_exercise,
    he_exercise,
    truncated_exercise,
    orthogonal_exercise,
    lsuv_exercise,
    output_bias_exercise,
    keras_exercise,
    clinic_start,
    clinic_conv,
    explain,
)
