"""Lesson 9, CNN architectures: its exercises, in the order of the lesson."""

from .blocks import residual_block, separable
from .challenge import challenge
from .clinic import clinic_blind, clinic_head, clinic_same, explain
from .convolution import conv2d, conv2d_backward
from .keras_net import keras_net
from .pooling import average_pool, max_pool2d
from .sums import account_exercise, geometry_exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    conv2d,
    conv2d_backward,
    max_pool2d,
    average_pool,
    geometry_exercise,
    account_exercise,
    separable,
    residual_block,
    keras_net,
    clinic_same,
    clinic_head,
    clinic_blind,
    challenge,
    explain,
)
