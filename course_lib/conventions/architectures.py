"""Where PyTorch and Keras lay out the same net differently: weights, feature maps, what a summary counts.

Each layout is read as a tuple of sizes, one of a kind each, and `to_keras` reorders such a tuple. Given the axes (0, 1,
2, …) instead it returns the order to transpose by: `weight.transpose(to_keras(range(weight.ndim)))`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS"]

MAPS, HEIGHT, WIDTH = 2, 3, 5  # sizes that tell the axes of a feature map apart


def _order(*axes: int) -> Callable[[Iterable[Any]], tuple]:
    return lambda values: tuple(list(values)[axis] for axis in axes)


def _torch_flatten_order() -> tuple[str, ...]:
    maps = torch.arange(MAPS * HEIGHT * WIDTH).reshape(1, MAPS, HEIGHT, WIDTH)
    flat = nn.Flatten()(maps)[0].tolist()
    return _slowest_first(dict(zip("CHW", (flat.index(int(maps[0][at])) for at in _STEPS), strict=True)))


def _keras_flatten_order(keras: Any) -> tuple[str, ...]:
    maps = torch.arange(MAPS * HEIGHT * WIDTH).reshape(MAPS, HEIGHT, WIDTH)
    flat = keras.layers.Flatten(dtype="int32")(maps.permute(1, 2, 0)[None].numpy())  # fed as Keras expects it
    flat = keras.ops.convert_to_numpy(flat)[0].tolist()
    return _slowest_first(dict(zip("CHW", (flat.index(int(maps[at])) for at in _STEPS), strict=True)))


_STEPS = ((1, 0, 0), (0, 1, 0), (0, 0, 1))  # one step along each axis


def _slowest_first(distance: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(distance, key=distance.get, reverse=True))


def _kernel_shape(keras: Any, layer: Any) -> tuple[int, ...]:
    layer.build((None, 16, 16, 2) if "Conv" in type(layer).__name__ else (None, 2))
    return tuple(layer.kernel.shape)


def _built_prelu(keras: Any) -> Any:
    layer = keras.layers.PReLU()
    layer.build((None, HEIGHT, WIDTH, MAPS))
    return layer


def _keras_batch_norm_count(keras: Any) -> int:
    layer = keras.layers.BatchNormalization()
    layer.build((None, 7))
    return layer.count_params()


CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        id="architectures.feature_maps",
        what="axes of a batch of feature maps",
        torch=lambda: ("N", "C", "H", "W") if nn.Conv2d(2, 1, 1)(torch.zeros(1, 2, 3, 5)).shape[2:] == (3, 5) else (),
        keras=lambda keras: {"channels_last": ("N", "H", "W", "C"), "channels_first": ("N", "C", "H", "W")}[
            keras.config.image_data_format()
        ],
        to_keras=_order(0, 2, 3, 1),
        trap="input_shape=(3, 150, 150), copied from an old example, is an image 3 pixels high with 150 channels.",
    ),
    Convention(
        id="architectures.conv_kernel",
        what="shape of a 3 × 5 convolution's weights, 2 maps to 7",
        torch=lambda: tuple(nn.Conv2d(2, 7, (3, 5)).weight.shape),
        keras=lambda keras: _kernel_shape(keras, keras.layers.Conv2D(7, (3, 5))),
        to_keras=_order(2, 3, 1, 0),
        trap="Where the sizes happen to agree, untransposed weights load without a word.",
    ),
    Convention(
        id="architectures.depthwise_kernel",
        what="shape of a depthwise 3 × 5 convolution's weights on 2 maps",
        torch=lambda: tuple(nn.Conv2d(2, 2, (3, 5), groups=2).weight.shape),
        keras=lambda keras: _kernel_shape(keras, keras.layers.DepthwiseConv2D((3, 5))),
        to_keras=_order(2, 3, 0, 1),
        trap="Unlike an ordinary kernel its input axis comes before the multiplier: the two orders differ.",
    ),
    Convention(
        id="architectures.dense_kernel",
        what="shape of a dense layer's weights, 2 features to 7",
        torch=lambda: tuple(nn.Linear(2, 7).weight.shape),
        keras=lambda keras: _kernel_shape(keras, keras.layers.Dense(7)),
        to_keras=_order(1, 0),
        trap="A square layer loads untransposed without a word.",
    ),
    Convention(
        id="architectures.flatten",
        what="order of flattened feature maps, slowest axis first",
        torch=_torch_flatten_order,
        keras=_keras_flatten_order,
        to_keras=_order(1, 2, 0),
        trap="The first dense layer after the maps has the right shape in either order, and is wrong in one.",
    ),
    Convention(
        id="architectures.prelu_slopes",
        what="slopes of a default PReLU after 2 feature maps of 3 × 5",
        torch=lambda: nn.PReLU().weight.numel(),
        keras=lambda keras: _built_prelu(keras).count_params(),
        trap="Keras learns a slope for every unit of every map, so the net no longer fits another image size; "
        "shared_axes=[1, 2] shares it within a map, PyTorch's default shares one among all maps.",
    ),
    Convention(
        id="architectures.prelu_start",
        what="slope that a PReLU starts from",
        torch=lambda: nn.PReLU().weight.item(),
        keras=lambda keras: float(keras.ops.max(_built_prelu(keras).alpha)),
        to_keras=float,
        trap="Keras's starts as a ReLU, PyTorch's as a leaky one: pass alpha_initializer=Constant(...) to Keras's.",
    ),
    Convention(
        id="architectures.batch_norm_count",
        what="parameters counted for a batch norm of 7 maps",
        torch=lambda: sum(parameter.numel() for parameter in nn.BatchNorm1d(7).parameters()),
        keras=_keras_batch_norm_count,
        to_keras=lambda count: 2 * count,
        trap="Keras's count_params() includes the moving mean and variance, which PyTorch keeps as buffers.",
    ),
)
