"""Where PyTorch and Keras differ when weights are frozen, carried over, or loaded in part."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from course_lib.conventions.record import Convention
from course_lib.pretrained.keras_net import keras_weights

__all__ = ["CONVENTIONS"]


def _torch_frozen_norm() -> str:
    norm = nn.BatchNorm1d(1).requires_grad_(False)
    norm(torch.tensor([[1.0], [3.0]]))
    return "still moves its running statistics" if norm.running_mean.item() else "is in inference"


def _keras_frozen_norm(keras: Any) -> str:
    norm = keras.layers.BatchNormalization()
    norm.build((None, 1))
    norm.trainable = False
    norm(np.array([[1.0], [3.0]], np.float32), training=True)
    return "still moves its running statistics" if float(norm.moving_mean[0]) else "is in inference"


def _torch_assignment() -> str:
    layer = nn.Linear(1, 1)
    layer.requires_grad = False  # an attribute of that name and nothing more
    return "freezes nothing" if layer.weight.requires_grad else "freezes the layer"


def _keras_assignment(keras: Any) -> str:
    layer = keras.layers.Dense(1)
    layer.build((None, 1))
    layer.trainable = False
    return "freezes nothing" if layer.trainable_weights else "freezes the layer"


def _torch_late_freeze() -> str:
    layer = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    layer.weight.requires_grad_(False)
    optimizer.zero_grad()
    before = layer.weight.clone()
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    return "at once" if torch.equal(layer.weight, before) else "not yet"


def _keras_late_freeze(keras: Any) -> str:
    frozen = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((1,)), frozen, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((1, 1), np.float32)
    model.fit(x, 5 * x, verbose=0)
    frozen.trainable = False
    before = frozen.get_weights()[0]
    model.fit(x, 9 * x, verbose=0)
    return "at once" if np.array_equal(frozen.get_weights()[0], before) else "only after compile"


def _torch_misshapen() -> str:
    try:
        nn.Linear(2, 3).load_state_dict(nn.Linear(2, 4).state_dict(), strict=False)
    except RuntimeError:
        return "strict=False still raises"
    return "strict=False skips it"


def _keras_misshapen(keras: Any) -> str:
    def model(units):
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(units)])

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "a.weights.h5"
        model(4).save_weights(path)
        try:
            model(5).load_weights(path, skip_mismatch=True)
        except ValueError:
            return "skip_mismatch=True still raises"
    return "skip_mismatch=True skips it, with a warning"


def _torch_renamed() -> str:
    other = nn.Sequential()
    other.add_module("first", nn.Linear(2, 3))
    try:
        other.load_state_dict(nn.Sequential(nn.Linear(2, 3)).state_dict())
    except RuntimeError:
        return "by name"
    return "by order"


def _keras_renamed(keras: Any) -> str:
    def model(name):
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name=name)])

    one, other = model("one"), model("other")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # h5py's arrays and numpy's copy argument
        path = Path(folder) / "a.weights.h5"
        one.save_weights(path)
        try:
            other.load_weights(path)
        except ValueError:
            return "by name"
    same = np.array_equal(one.layers[0].get_weights()[0], other.layers[0].get_weights()[0])
    return "by kind and order" if same else "by name"


def _torch_kernel_axes() -> str:
    sizes = {1: "in", 2: "out", 3: "h", 4: "w"}
    return ", ".join(sizes[n] for n in nn.Conv2d(1, 2, (3, 4)).weight.shape)


def _keras_kernel_axes(keras: Any) -> str:
    sizes = {1: "in", 2: "out", 3: "h", 4: "w"}
    layer = keras.layers.Conv2D(2, (3, 4))
    layer.build((None, 5, 5, 1))
    return ", ".join(sizes[n] for n in layer.kernel.shape)


CONVENTIONS = (
    Convention(
        id="transfer.frozen_norm",
        what="a frozen batch norm, training",
        torch=_torch_frozen_norm,
        keras=_keras_frozen_norm,
        trap="A trunk frozen by requires_grad=False alone drifts toward the new data's statistics in PyTorch.",
    ),
    Convention(
        id="transfer.assignment",
        what="setting the flag on a layer (`requires_grad`, `trainable`)",
        torch=_torch_assignment,
        keras=_keras_assignment,
        trap="In PyTorch the assignment makes a new attribute and says nothing: call layer.requires_grad_(False).",
    ),
    Convention(
        id="transfer.late_freeze",
        what="freezing between two rounds of training takes effect",
        torch=_torch_late_freeze,
        keras=_keras_late_freeze,
        trap="Keras trains on what was trainable at the first fit until the model is compiled again.",
    ),
    Convention(
        id="transfer.misshapen",
        what="loading in part where a shape differs",
        torch=_torch_misshapen,
        keras=_keras_misshapen,
        trap="strict=False forgives names, not shapes: a new head of other size stops the loading.",
    ),
    Convention(
        id="transfer.matching",
        what="saved weights find their layer",
        torch=_torch_renamed,
        keras=_keras_renamed,
        trap="Keras loads into renamed layers in silence; another order of layers takes another layer's weights.",
    ),
    Convention(
        id="transfer.kernel_axes",
        what="axes of a convolution's weight",
        torch=_torch_kernel_axes,
        keras=_keras_kernel_axes,
        trap="A square kernel with as many channels in as out loads without an error, transposed.",
        to_keras=lambda weight: keras_weights("conv.weight", weight),
    ),
)
