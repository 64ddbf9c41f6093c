"""A PyTorch net rebuilt in Keras, channels last, with the same weights: equal outputs for equal images.

What differs between the two layouts is stated once, in `course_lib.conventions.architectures`; here it is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.architectures import (
    ElementwisePReLU,
    EuclideanRBF,
    ResidualBlock,
    ScaledTanh,
    Subsample2d,
    TableConv2d,
)
from course_lib.conventions.architectures import CONVENTIONS
from course_lib.quiet import load_keras

__all__ = ["to_keras", "to_keras_images"]

ORDER = {convention.id.removeprefix("architectures."): convention.to_keras for convention in CONVENTIONS}


def to_keras_images(x: Tensor) -> np.ndarray:
    """Images as the Keras twin takes them: (N, C, H, W) → (N, H, W, C); features (N, F) stay as they are."""
    x = x.permute(ORDER["feature_maps"](range(4))) if x.dim() == 4 else x
    return x.detach().cpu().contiguous().numpy()


def to_keras(model: nn.Module, input_shape: Sequence[int]) -> Any:
    """The same net as a Keras functional model with this net's weights; feed it with `to_keras_images`.

    `input_shape` is PyTorch's, without the batch: (C, H, W) or (features,). Weights are transposed, and reordered
    after a flattening, so that the twin is laid out as if Keras had built it. It computes in the net's dtype. Dropout
    layers draw masks of their own. Keras has none of LeNet's own layers: its connection table becomes zeros in a full
    kernel, which then count as parameters. A net that ends flattened gives its features in Keras's order. Raises
    TypeError for a layer without a twin, ValueError for an option that Keras lacks.
    """
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.get_default_dtype())
    twin = _Twin(load_keras(), str(dtype).removeprefix("torch."))
    shape = tuple(input_shape)
    if len(shape) == 3:
        shape = ORDER["feature_maps"]((None, *shape))[1:]
    x = twin.keras.Input(shape, dtype=twin.dtype)
    return twin.keras.Model(x, _add(model, x, twin))


class _Twin:
    """Makes Keras layers, and remembers how the last flattening ordered the features."""

    def __init__(self, keras: Any, dtype: str):
        self.keras, self.dtype = keras, dtype
        self.order: Tensor | None = None  # place among PyTorch's features of each of Keras's

    def layer(self, kind: str, x: Any, weights: Sequence[Tensor] = (), **options: Any) -> Any:
        """A new layer of this kind applied to x, with these weights in place of its own."""
        made = getattr(self.keras.layers, kind)(dtype=self.dtype, **options)
        y = made(x)
        if weights:
            made.set_weights([weight.detach().cpu().numpy() for weight in weights])
        return y

    def features(self, weight: Tensor) -> Tensor:
        """The weight with its last axis in Keras's order of features."""
        return weight if self.order is None else weight[..., self.order]


@singledispatch
def _add(module: nn.Module, x: Any, twin: _Twin) -> Any:
    raise TypeError(f"there is no Keras twin of {type(module).__name__}")


@_add.register
def _(module: nn.Sequential, x, twin):
    for child in module:
        x = _add(child, x, twin)
    return x


@_add.register
def _(module: ResidualBlock, x, twin):
    y = _add(module.branch, x, twin)
    if module.shortcut is not None:
        y = twin.layer("Add", [y, _add(module.shortcut, x, twin)])
    return _add(module.relu, y, twin)


@_add.register
def _(module: nn.Conv2d, x, twin):
    if module.padding_mode != "zeros":
        raise ValueError(f"Keras pads by zeros, not by {module.padding_mode!r}")
    padding = module.padding if isinstance(module.padding, str) else "valid"
    if padding == "valid" and module.padding not in ("valid", (0, 0)):
        # not "same": at stride 2 that pads only after, where PyTorch pads on both sides
        x = twin.layer("ZeroPadding2D", x, padding=module.padding)
    return _conv(module.weight, module.bias, x, twin, module.groups, padding, module.stride, module.dilation)


def _conv(weight, bias, x, twin, groups=1, padding="valid", stride=(1, 1), dilation=(1, 1)):
    weights = [] if bias is None else [bias]
    options = {"padding": padding, "strides": stride, "dilation_rate": dilation, "use_bias": bias is not None}
    size = tuple(weight.shape[2:])
    if groups == 1:
        weights.insert(0, weight.permute(ORDER["conv_kernel"](range(4))))
        return twin.layer("Conv2D", x, weights, filters=weight.shape[0], kernel_size=size, **options)
    if weight.shape[1] != 1:
        raise ValueError(f"Keras has no reliable grouped convolution on a CPU: {groups} groups")
    weight = weight.unflatten(0, (groups, -1)).squeeze(2)  # (groups · m, 1, h, w) -> (groups, m, h, w)
    weights.insert(0, weight.permute(ORDER["depthwise_kernel"](range(4))))
    return twin.layer("DepthwiseConv2D", x, weights, kernel_size=size, depth_multiplier=weight.shape[1], **options)


@_add.register
def _(module: TableConv2d, x, twin):
    return _conv(module.full_weight(), module.bias, x, twin)


@_add.register
def _(module: nn.Linear, x, twin):
    weight = twin.features(module.weight)
    twin.order = None
    weights = [weight.permute(ORDER["dense_kernel"](range(2)))] + ([] if module.bias is None else [module.bias])
    return twin.layer("Dense", x, weights, units=module.out_features, use_bias=module.bias is not None)


@_add.register(nn.BatchNorm1d)
@_add.register(nn.BatchNorm2d)
def _(module, x, twin):
    if module.running_mean is None or module.momentum is None:
        raise ValueError("Keras's batch norm always tracks its statistics, by a momentum")
    weights = [*([module.weight, module.bias] if module.affine else []), module.running_mean, module.running_var]
    return twin.layer(
        "BatchNormalization",
        x,
        [twin.features(weight) for weight in weights],
        momentum=1 - module.momentum,
        epsilon=module.eps,
        center=module.affine,
        scale=module.affine,
    )


@_add.register
def _(module: nn.PReLU, x, twin):
    maps = x.shape[-1]
    slopes = twin.features(module.weight.expand(maps))
    shared = list(range(1, len(x.shape) - 1))
    return twin.layer("PReLU", x, [slopes.reshape(*[1] * len(shared), maps)], shared_axes=shared or None)


@_add.register
def _(module: ElementwisePReLU, x, twin):
    slopes = module.weight
    slopes = slopes.permute(1, 2, 0) if slopes.dim() == 3 else twin.features(slopes)
    return twin.layer("PReLU", x, [slopes])


@_add.register(nn.MaxPool2d)
@_add.register(nn.AvgPool2d)
def _(module, x, twin):
    if module.padding != 0 or module.ceil_mode or getattr(module, "dilation", 1) != 1:
        raise ValueError("the twin pools without padding, dilation or ceil_mode")
    kind = "MaxPooling2D" if isinstance(module, nn.MaxPool2d) else "AveragePooling2D"
    return twin.layer(kind, x, pool_size=module.kernel_size, strides=module.stride)


@_add.register
def _(module: nn.AdaptiveAvgPool2d, x, twin):
    if module.output_size not in (1, (1, 1)):
        raise ValueError(f"Keras averages over the whole map or not at all, not to {module.output_size}")
    return twin.layer("GlobalAveragePooling2D", x, keepdims=True)


@_add.register
def _(module: nn.Flatten, x, twin):
    if len(x.shape) == 4:
        height, width, maps = x.shape[1:]
        places = torch.arange(maps * height * width).reshape(maps, height, width)
        axes = "CHW"
        twin.order = places.permute([axes.index(axis) for axis in ORDER["flatten"](axes)]).flatten()
    return twin.layer("Flatten", x)


@_add.register(nn.Dropout)
@_add.register(nn.Dropout2d)
def _(module, x, twin):
    return twin.layer("Dropout" if isinstance(module, nn.Dropout) else "SpatialDropout2D", x, rate=module.p)


@_add.register(nn.ReLU)
@_add.register(nn.Sigmoid)
@_add.register(nn.Tanh)
@_add.register(nn.SELU)
@_add.register(nn.SiLU)
def _(module, x, twin):
    return twin.layer("Activation", x, activation=type(module).__name__.lower())


@_add.register
def _(module: nn.GELU, x, twin):
    return twin.keras.ops.gelu(x, approximate=module.approximate == "tanh")


@_add.register
def _(module: nn.LeakyReLU, x, twin):
    return twin.layer("LeakyReLU", x, negative_slope=module.negative_slope)


@_add.register
def _(module: nn.ELU, x, twin):
    return twin.layer("ELU", x, alpha=module.alpha)


@_add.register
def _(module: nn.Identity, x, twin):
    return x


@_add.register
def _(module: Subsample2d, x, twin):
    x = twin.layer("AveragePooling2D", x, pool_size=2)
    # the mean is a quarter of the sum; one coefficient a map is a 1 × 1 depthwise convolution
    return _conv(4 * module.weight.view(-1, 1, 1, 1), module.bias, x, twin, groups=module.channels)


@_add.register
def _(module: ScaledTanh, x, twin):
    return module.amplitude * twin.keras.ops.tanh(module.slope * x)


@_add.register
def _(module: EuclideanRBF, x, twin):
    ops = twin.keras.ops
    codes = twin.features(module.codes).cpu().numpy()
    return -ops.sum(ops.square(ops.expand_dims(x, 1) - codes), axis=-1)
