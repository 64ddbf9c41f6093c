"""Where PyTorch's and Keras's conv and pooling layers differ. Every value is read off the installed layers.

The layouts of images and kernels are in `course_lib.conventions.architectures`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS"]


def torch_same_with_stride_2() -> str:
    try:
        nn.Conv2d(1, 1, 3, stride=2, padding="same")
    except ValueError:
        return "refused; padding=1 pads (1, 1)"
    return "accepted"


def keras_same_with_stride_2(keras: Any) -> str:
    """Which cells of 1, 2, 4, 8 the first and the last window of size 3 sum up: a binary number."""
    layer = keras.layers.Conv1D(1, 3, strides=2, padding="same", kernel_initializer="ones")
    first, *_, last = (int(v) for v in keras.ops.ravel(layer(keras.ops.array([[[1.0], [2.0], [4.0], [8.0]]]))))
    return {(7, 12): "pads (0, 1)", (3, 14): "pads (1, 0)"}[first, last]


def torch_average_padding() -> str:
    """Ones, padded: the mean at the corner is 4 / 9 where the padding counts."""
    corner = float(F.avg_pool2d(torch.ones(1, 1, 4, 4), 3, 1, 1)[0, 0, 0, 0])
    return "counts as zeros" if math.isclose(corner, 4 / 9, rel_tol=1e-6) else "doesn't count"


def keras_average_padding(keras: Any) -> str:
    corner = float(keras.layers.AveragePooling2D(3, 1, padding="same")(keras.ops.ones((1, 4, 4, 1)))[0, 0, 0, 0])
    return "counts as zeros" if math.isclose(corner, 4 / 9, rel_tol=1e-6) else "doesn't count"


CONVENTIONS = (
    Convention(
        id="convolution.same_stride_2",
        what='padding="same", stride 2, kernel 3, an even size',
        torch=torch_same_with_stride_2,
        keras=keras_same_with_stride_2,
        trap="Keras pads the end only, padding=1 in PyTorch both ends: every window is one cell off, and results with "
        "ported weights are worse, not obviously wrong. Pad by hand: F.pad(x, (0, 1, 0, 1)).",
    ),
    Convention(
        id="convolution.average_padding",
        what="average pooling: the padding",
        torch=torch_average_padding,
        keras=keras_average_padding,
        to_keras=lambda count_include_pad: None if count_include_pad else "same",
        trap="With PyTorch's default the borders come out darker; count_include_pad=False is Keras's way.",
    ),
)
