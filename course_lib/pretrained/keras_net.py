"""The same net in Keras: layers of the same names, the same weights in Keras's order of axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from course_lib.pretrained.net import BLOCKS, EPS, MOMENTUM, STEM, TOP
from course_lib.quiet import load_keras

__all__ = ["build_keras", "keras_weights", "load_keras_net"]


def keras_weights(name: str, array: np.ndarray) -> np.ndarray:
    """PyTorch's weight in Keras's order of axes.

    Convolution (out, in, h, w) → (h, w, in, out); depthwise (channels, 1, h, w) → (h, w, channels, 1); dense
    (out, in) → (in, out); vectors stay.
    """
    if array.ndim == 4:
        return array.transpose(2, 3, 0, 1) if ".depthwise." in name else array.transpose(2, 3, 1, 0)
    return array.T if array.ndim == 2 else array


def build_keras(num_classes: int = 1000) -> Any:
    """The Keras model, with random weights: x (N, H, W, 3) → logits (N, num_classes). Imports Keras."""
    keras = load_keras()
    layers = keras.layers

    def conv_bn(x, name, filters, kernel_size, *, stride=1, depthwise=False, relu6=True):
        common = {"strides": stride, "padding": "same", "use_bias": False, "name": f"{name}.conv"}
        if depthwise:
            x = layers.DepthwiseConv2D(kernel_size, **common)(x)
        else:
            x = layers.Conv2D(filters, kernel_size, **common)(x)
        x = layers.BatchNormalization(epsilon=EPS, momentum=1 - MOMENTUM, name=f"{name}.bn")(x)
        return layers.ReLU(6.0, name=f"{name}.relu6")(x) if relu6 else x

    inputs = keras.Input((None, None, 3), name="image")
    x = conv_bn(inputs, "stem", STEM, 3, stride=2)
    for i, plan in enumerate(BLOCKS):
        name, y, width = f"blocks.{i}", x, plan.in_channels * plan.expand
        if plan.expand > 1:
            y = conv_bn(y, f"{name}.expand", width, 1)
        y = conv_bn(y, f"{name}.depthwise", width, plan.kernel_size, stride=plan.stride, depthwise=True)
        y = conv_bn(y, f"{name}.project", plan.out_channels, 1, relu6=False)
        # every block ends in a layer of its name, so that cut and features find it
        x = layers.Add(name=name)([y, x]) if plan.shortcut else layers.Activation("linear", name=name)(y)
    x = conv_bn(x, "top", TOP, 1)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="classifier")(x), name="efficientnet-lite0")


def load_keras_net(arrays: dict[str, np.ndarray]) -> Any:
    """The Keras model with the weights of `arrays`, named as PyTorch's state_dict names them."""
    model = build_keras(len(arrays["classifier.bias"]))
    parts = {"bn": ("weight", "bias", "running_mean", "running_var"), "conv": ("weight",)}
    for layer in model.layers:
        if layer.weights:
            fields = parts.get(layer.name.rsplit(".", 1)[-1], ("weight", "bias"))
            keys = [f"{layer.name}.{field}" for field in fields]
            layer.set_weights([keras_weights(key, arrays[key]) for key in keys])
    return model
