"""Lesson 8, dropout in training and test: its exercises, in the order of the lesson."""

from .averaging import expected_signal_exercise, thinned_nets_exercise, uncertainty_exercise
from .clinic import clinic_evaluate, clinic_gap, explain
from .keras_phase import keras_phase
from .layers import dropout_module
from .masks import classic_dropout, inverted_dropout, spatial_dropout
from .phases import mc_logits

__all__ = ["EXERCISES"]

EXERCISES = (
    inverted_dropout,
    classic_dropout,
    expected_signal_exercise,
    dropout_module,
    spatial_dropout,
    thinned_nets_exercise,
    uncertainty_exercise,
    mc_logits,
    keras_phase,
    clinic_evaluate,
    clinic_gap,
    explain,
)
