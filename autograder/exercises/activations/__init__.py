"""Lesson 3, activations: its exercises, in the order of the lesson."""

from .clinic import clinic_dead, clinic_softmax, explain
from .keras_layer import keras_activation
from .layers import dead_units_exercise, layer_means_exercise
from .rectifiers import elu_exercise, leaky_relu_exercise, prelu_backward_exercise
from .smooth import gelu_exercise, selu_constants_exercise, silu_exercise
from .stable import stable_exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    leaky_relu_exercise,
    elu_exercise,
    dead_units_exercise,
    prelu_backward_exercise,
    layer_means_exercise,
    selu_constants_exercise,
    silu_exercise,
    gelu_exercise,
    stable_exercise,
    keras_activation,
    clinic_dead,
    clinic_softmax,
    explain,
)
