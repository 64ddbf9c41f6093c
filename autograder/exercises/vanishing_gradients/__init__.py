"""Lesson 1, vanishing and exploding gradients: its exercises, in the order of the lesson."""

from .backward import dense_sigmoid_backward_exercise, residual_block_exercise
from .checking import gradient_error_exercise
from .clinic_depth import clinic_depth
from .clinic_explosion import clinic_explosion, explain
from .clipping import clip_exercise
from .keras_norms import keras_norms
from .norms import gradient_norms_exercise, layer_factor_exercise
from .saturation import saturated_share_exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    dense_sigmoid_backward_exercise,
    gradient_error_exercise,
    gradient_norms_exercise,
    layer_factor_exercise,
    saturated_share_exercise,
    residual_block_exercise,
    clip_exercise,
    keras_norms,
    clinic_depth,
    clinic_explosion,
    explain,
)
