"""Where PyTorch's and Keras's regularization differs. What has no default is probed by running it."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F

from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS"]


def _torch_l2() -> str:
    weight = torch.ones((), requires_grad=True)
    weight.grad = torch.zeros(())
    torch.optim.SGD([weight], lr=1.0, weight_decay=0.125).step()
    return f"{(1 - weight.item()) / 0.125:g} λ w"


def _keras_l2(keras: Any) -> str:
    penalty = keras.regularizers.L2(0.125)  # quadratic, so this central difference is exact
    up, down = (float(penalty(keras.ops.convert_to_tensor([at], dtype="float64"))) for at in (2.0, 0.0))
    return f"{(up - down) / 2 / 0.125:g} λ w"


def _torch_within() -> float:
    weight = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    return (torch.renorm(weight, 2, 0, 2.0) / weight).min().item()


def _keras_within(keras: Any) -> float:
    weight = keras.ops.convert_to_tensor([[0.6], [0.8]], dtype="float64")
    return float(keras.ops.min(keras.constraints.MaxNorm(2.0)(weight) / weight))


def _torch_weighted() -> float:
    logits, labels = torch.zeros(4, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 1])
    weighted = F.cross_entropy(logits, labels, torch.tensor([3.0, 3.0], dtype=torch.float64))
    return round((weighted / F.cross_entropy(logits, labels)).item(), 6)


def _keras_weighted(keras: Any) -> float:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    logits, labels = keras.ops.zeros((4, 2)), keras.ops.convert_to_tensor([0, 0, 0, 1])
    # what class_weight={0: 3, 1: 3} becomes
    weighted = loss(labels, logits, sample_weight=keras.ops.full((4,), 3.0))
    return round(float(weighted) / float(loss(labels, logits)), 6)


def _keras_stops(keras: Any, patience: int, metrics: tuple[float, ...]) -> int:
    """How many epochs run before EarlyStopping ends the training."""
    callback = keras.callbacks.EarlyStopping(monitor="loss", mode="min", patience=patience)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    callback.set_model(model)
    callback.on_train_begin()
    model.stop_training = False
    for epoch, metric in enumerate(metrics):
        callback.on_epoch_end(epoch, {"loss": metric})
        if model.stop_training:
            return epoch + 1
    return len(metrics)


CONVENTIONS = (
    Convention(
        id="regularizers.l2",
        what="gradient of the L2 penalty of strength λ",
        torch=_torch_l2,
        keras=_keras_l2,
        to_keras=lambda weight_decay: weight_decay / 2,
        trap="Keras's `L2(λ)` is λ Σ w² without a half: it pulls twice as hard as weight_decay=λ.",
    ),
    Convention(
        id="regularizers.max_norm_axis",
        what="dimension that a dense layer's max-norm runs over",
        torch=lambda: 1 if torch.nn.Linear(3, 2).weight.shape == (2, 3) else 0,
        keras=lambda keras: inspect.signature(keras.constraints.MaxNorm).parameters["axis"].default,
        to_keras=lambda dim: {1: 0, 0: 1}[dim],
        trap="Weights are (out, in) in PyTorch and (in, out) in Keras: the other axis bounds what leaves a unit.",
    ),
    Convention(
        id="regularizers.max_norm_within",
        what="factor on a weight of norm 1 when the limit is 2",
        torch=_torch_within,
        keras=_keras_within,
        trap="Keras's MaxNorm shrinks every weight a little at each step, within the limit too.",
    ),
    Convention(
        id="regularizers.class_weight",
        what="loss with all class weights 3, against none",
        torch=_torch_weighted,
        keras=_keras_weighted,
        # (weights, labels) → Keras's class_weight of the same mean loss over these labels
        to_keras=lambda at: dict(enumerate((at[0] / at[0][at[1]].mean()).tolist())),
        trap="PyTorch divides by the sum of the weights, Keras by the number of examples: there they scale the rate.",
    ),
    Convention(
        id="regularizers.early_stopping_patience",
        what="epochs that EarlyStopping runs where only the first improves, with patience 0 and with 1",
        torch=lambda: "has none",
        keras=lambda keras: tuple(_keras_stops(keras, patience, (1.0,) * 6) for patience in (0, 1)),
        trap="Patience 0 and 1 are the same.",
    ),
    Convention(
        id="regularizers.early_stopping_nan",
        what="epochs that EarlyStopping (patience 2) runs where the first loss is NaN and each later one is lower",
        torch=lambda: "has none",
        keras=lambda keras: _keras_stops(keras, 2, (float("nan"), 5.0, 4.0, 3.0, 2.0, 1.0)),
        trap="A NaN in the first epoch stays the best for ever: nothing is less than NaN.",
    ),
)
