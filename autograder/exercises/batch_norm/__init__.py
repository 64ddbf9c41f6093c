"""Lesson 4, batch normalization: its exercises, in the order of the lesson."""

from .axes import norms
from .clinic import clinic_frozen, clinic_one_by_one, explain
from .folding import folding
from .forward import forward, maps
from .gradients import backward, rescale
from .keras_layers import keras_phases, keras_transfer
from .running import module, running_statistics

__all__ = ["EXERCISES"]

EXERCISES = (
    forward,
    backward,
    rescale,
    running_statistics,
    module,
    maps,
    norms,
    folding,
    keras_transfer,
    keras_phases,
    clinic_one_by_one,
    clinic_frozen,
    explain,
)
