"""Where PyTorch's and Keras's normalization layers differ. Every value is read off the installed layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS"]


def torch_running_variance() -> str:
    """What running_var takes from the batch 0, 2, whose variance is 1 (biased) or 2 (unbiased)."""
    layer = nn.BatchNorm1d(1, momentum=1.0)
    layer(torch.tensor([[0.0], [2.0]]))
    return {1.0: "biased (n)", 2.0: "unbiased (n − 1)"}[float(layer.running_var)]


def keras_moving_variance(keras: Any) -> str:
    layer = keras.layers.BatchNormalization(momentum=0.0)
    layer(keras.ops.array([[0.0], [2.0]]), training=True)
    return {1.0: "biased (n)", 2.0: "unbiased (n − 1)"}[float(layer.moving_variance[0])]


def torch_new_layer() -> str:
    return "training" if nn.BatchNorm1d(1).training else "inference"


def keras_bare_call(keras: Any) -> str:
    layer = keras.layers.BatchNormalization()
    layer(keras.ops.array([[0.0], [2.0]]))
    return "inference" if float(layer.moving_mean[0]) == 0 else "training"


def torch_frozen() -> str:
    layer = nn.BatchNorm1d(1).requires_grad_(False)
    layer(torch.tensor([[0.0], [2.0]]))
    return "go on" if float(layer.running_mean) else "stop"


def keras_frozen(keras: Any) -> str:
    layer = keras.layers.BatchNormalization(trainable=False)
    layer(keras.ops.array([[0.0], [2.0]]), training=True)
    return "go on" if float(layer.moving_mean[0]) else "stop"


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except ValueError:
        return "ValueError"
    return "accepted"


def torch_channel_axis() -> int:
    """The axis of (2, 3, 4) that a layer of 3 channels takes."""
    return list(nn.BatchNorm1d(3)(torch.zeros(2, 3, 4)).shape).index(3)


def names(entries: Any) -> str:
    return ", ".join(entries)


CONVENTIONS = (
    Convention(
        id="normalization.batch_momentum",
        what="batch norm: momentum",
        torch=lambda: nn.BatchNorm1d(1).momentum,
        keras=lambda keras: keras.layers.BatchNormalization().momentum,
        to_keras=lambda momentum: 1 - momentum,
        trap="PyTorch's is the weight of the new batch, Keras's that of the old average: 0.9 taken from one to the "
        "other makes the statistics jump, or crawl.",
    ),
    Convention(
        id="normalization.batch_eps",
        what="batch norm: eps",
        torch=lambda: nn.BatchNorm1d(1).eps,
        keras=lambda keras: keras.layers.BatchNormalization().epsilon,
        to_keras=lambda eps: eps,
        trap="With the defaults, a channel of small variance comes out smaller in Keras: copy eps with the weights.",
    ),
    Convention(
        id="normalization.running_variance",
        what="batch norm: the variance that is kept",
        torch=torch_running_variance,
        keras=keras_moving_variance,
        trap="After the same batches they differ by n / (n − 1), which for a batch of 2 is a factor of 2; no argument "
        "changes it. Both normalize the batch itself with the biased one.",
    ),
    Convention(
        id="normalization.new_layer",
        what="batch norm: the phase of a layer that is just called",
        torch=torch_new_layer,
        keras=keras_bare_call,
        to_keras=lambda phase: {"training": phase == "training"},
        trap="A PyTorch model not put into eval() changes its running statistics with every prediction; a Keras layer "
        "called by hand without training=True never learns them.",
    ),
    Convention(
        id="normalization.frozen",
        what="batch norm: running statistics while frozen (requires_grad=False, trainable=False)",
        torch=torch_frozen,
        keras=keras_frozen,
        trap="In PyTorch a frozen batch norm still adapts its statistics to the new data: call eval() on it too.",
    ),
    Convention(
        id="normalization.one_value",
        what="batch norm: one value per channel in training",
        torch=lambda: outcome(lambda: nn.BatchNorm1d(1)(torch.zeros(1, 1))),
        keras=lambda keras: outcome(lambda: keras.layers.BatchNormalization()(keras.ops.zeros((1, 1)), training=True)),
        trap="Keras returns the bias for a last batch of one example, and takes a variance of 0 into its average; "
        "PyTorch stops: use drop_last=True.",
    ),
    Convention(
        id="normalization.channel_axis",
        what="batch norm: the channels' axis",
        torch=torch_channel_axis,
        keras=lambda keras: keras.layers.BatchNormalization().axis,
        to_keras=lambda axis: axis,
        trap="Keras takes the last axis also where the data come channels-first, and only a shape tells: pass axis=1.",
    ),
    Convention(
        id="normalization.parameters",
        what="batch norm: parameters and buffers, in the order they are kept",
        torch=lambda: names(nn.BatchNorm1d(1).state_dict()),
        keras=lambda keras: names(weight.name for weight in built(keras.layers.BatchNormalization()).weights),
        to_keras=lambda state: [state[k] for k in ("weight", "bias", "running_mean", "running_var")],
        trap="Keras counts the moving statistics among the weights (non-trainable ones); PyTorch's parameters() leaves "
        "them out, and only state_dict() has them.",
    ),
    Convention(
        id="normalization.layer_eps",
        what="layer norm: eps",
        torch=lambda: nn.LayerNorm(1).eps,
        keras=lambda keras: keras.layers.LayerNormalization().epsilon,
        to_keras=lambda eps: eps,
        trap="With the defaults, an example of small variance comes out smaller in Keras.",
    ),
    Convention(
        id="normalization.layer_axes",
        what="layer norm: what is normalized",
        torch=lambda: f"normalized_shape, here {nn.LayerNorm((3, 4)).normalized_shape}",
        keras=lambda keras: f"axis, by default {keras.layers.LayerNormalization().axis}",
        to_keras=lambda normalized_shape: list(range(-len(normalized_shape), 0)),
        trap="PyTorch names the sizes of the last axes, Keras the axes.",
    ),
    Convention(
        id="normalization.group_eps",
        what="group norm: eps",
        torch=lambda: nn.GroupNorm(1, 1).eps,
        keras=lambda keras: keras.layers.GroupNormalization(groups=1).epsilon,
        to_keras=lambda eps: eps,
        trap="With the defaults, a group of small variance comes out smaller in Keras.",
    ),
)


def built(layer: Any) -> Any:
    layer.build((None, 1))
    return layer
