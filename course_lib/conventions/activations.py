"""Where PyTorch and Keras differ in activations, read from the installed versions."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS"]


def default(function: Callable[..., Any], name: str) -> Any:
    return inspect.signature(function).parameters[name].default


def torch_softmax_axis() -> int:
    """The dimension over which a softmax without `dim` sums, for a batch of images (2, 3, 4, 5)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that the choice is deprecated
        shares = F.softmax(torch.zeros(2, 3, 4, 5))
    return shares.shape.index(round(1 / shares[0, 0, 0, 0].item()))  # all shares are 1 / size


def torch_softplus_excess() -> float:
    x = torch.tensor(21.0, dtype=torch.float64)
    return float(f"{(F.softplus(x) - x).item():.2g}")


def keras_softplus_excess(keras: Any) -> float:
    x = keras.ops.convert_to_tensor(21.0, dtype="float64")
    return float(f"{float(keras.activations.softplus(x) - x):.2g}")


def keras_prelu(keras: Any) -> tuple[float, tuple[int, ...]]:
    layer = keras.layers.PReLU()
    layer.build((None, 5, 6, 3))
    return float(keras.ops.max(layer.alpha)), tuple(layer.alpha.shape)


CONVENTIONS = (
    Convention(
        id="activations.leaky_slope",
        what="default slope of the leaky ReLU layer",
        torch=lambda: default(nn.LeakyReLU, "negative_slope"),
        keras=lambda keras: default(keras.layers.LeakyReLU, "negative_slope"),
        to_keras=lambda slope: slope,
        trap="Keras's layer leaks 30 times more than PyTorch's (and than the paper's).",
    ),
    Convention(
        id="activations.leaky_slope_function",
        what="default slope of the leaky ReLU function",
        torch=lambda: default(F.leaky_relu, "negative_slope"),
        keras=lambda keras: default(keras.activations.leaky_relu, "negative_slope"),
        to_keras=lambda slope: slope,
        trap="In Keras the layer and the function of the same name have different slopes.",
    ),
    Convention(
        id="activations.prelu",
        what="PReLU's slopes for maps of 5 × 6 with 3 channels: start, shape",
        torch=lambda: (float(nn.PReLU().weight.detach()), tuple(nn.PReLU().weight.shape)),
        keras=keras_prelu,
        to_keras=lambda start: {
            "alpha_initializer": {"class_name": "Constant", "config": {"value": start[0]}},
            "shared_axes": [1, 2],
        },
        trap="Keras learns one slope for every pixel of every map, from 0 (ReLU), so the layer is tied to one image "
        "size; `shared_axes` gives one a channel.",
    ),
    Convention(
        id="activations.gelu",
        what="GELU unless told otherwise: the tanh approximation?",
        torch=lambda: nn.GELU().approximate != "none",
        keras=lambda keras: default(keras.ops.gelu, "approximate"),
        to_keras=lambda approximate: approximate,
        trap="`keras.ops.gelu` approximates, `keras.activations.gelu` does not; the two differ by up to 5e-4.",
    ),
    Convention(
        id="activations.softmax_axis",
        what="axis of a softmax that is not told one, for (N, 3, 4, 5)",
        torch=torch_softmax_axis,
        keras=lambda keras: default(keras.activations.softmax, "axis"),
        to_keras=lambda dim: dim,
        trap="PyTorch picks 0 or 1 by the number of dimensions, with a warning; Keras takes the last axis.",
    ),
    Convention(
        id="activations.softplus_threshold",
        what="softplus(21) − 21 in float64 (true: 7.6e-10)",
        torch=torch_softplus_excess,
        keras=keras_softplus_excess,
        trap="PyTorch returns x itself above its threshold of 20: wrong in the tenth digit in float64.",
    ),
)
