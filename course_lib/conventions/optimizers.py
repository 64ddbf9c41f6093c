"""Where the optimizers and schedules of PyTorch and Keras differ. What has no default is probed by running it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS"]


def _default(name: str, of: Callable[..., Any]) -> Any:
    return inspect.signature(of).parameters[name].default


def _torch_run(make: Callable[[list], Any], grads: Sequence[float], start: float = 0.0, rates: Any = None) -> float:
    """Where a parameter ends that starts at `start` and meets these gradients, float64; `rates` set the lr first."""
    param = torch.full((), start, dtype=torch.float64, requires_grad=True)
    optimizer = make([param])
    for i, grad in enumerate(grads):
        if rates:
            optimizer.param_groups[0]["lr"] = rates[i]
        param.grad = torch.full_like(param, grad)
        optimizer.step()
    return param.item()


def _keras_run(keras: Any, optimizer: Any, grads: Sequence[float], start: float = 0.0, rates: Any = None) -> float:
    param = keras.Variable(start, dtype="float64")
    for i, grad in enumerate(grads):
        if rates:
            optimizer.learning_rate = rates[i]
        optimizer.apply([keras.ops.convert_to_tensor(grad, dtype="float64")], [param])
    return float(param)


def _place(displacement: float) -> str:
    """Where ε stands, from the first step at g = 0.01, v = g², ε = 0.01 and η = 1: 0.5 outside, 0.0995 inside."""
    return "outside: √v + ε" if abs(displacement + 0.5) < 0.01 else "inside: √(v + ε)"


def _decay(end: float) -> str:
    """From two steps with zero gradient, η = 0.1, λ = 1, momentum 0.9: 0.81 where the momentum does not see it."""
    return "decoupled from the gradient" if abs(end - 0.81) < 1e-6 else "added to the gradient (an L2 penalty)"


def _carries(end: float) -> str:
    """From gradients 1 and 0 at the rates 0.5 and 0, momentum 0.5: the velocity still moves what carries a rate."""
    return "−η × the sum: carries the rate" if abs(end + 0.75) < 1e-6 else "the sum of gradients: no rate in it"


def _torch_plateau(**options: Any) -> list[float]:
    """The rate after each of 12 epochs whose metric never improves, from 1, halved."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, **options)
    rates = []
    for _ in range(12):
        scheduler.step(1.0)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def _keras_plateau(keras: Any, metrics: Sequence[float] = (1.0,) * 12, **options: Any) -> list[float]:
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", mode="min", factor=0.5, **options)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, metric in enumerate(metrics):
        callback.on_epoch_end(epoch, {"loss": metric})
        rates.append(float(model.optimizer.learning_rate))
    return rates


def _first_fall(rates: Sequence[float]) -> str:
    return f"falls after {next(i for i, rate in enumerate(rates) if rate < 1)} epochs without improvement"


def _second_fall(rates: Sequence[float]) -> str:
    falls = [i for i in range(1, len(rates)) if rates[i] < rates[i - 1]]
    return f"falls again after {falls[1] - falls[0]} epochs"


def _torch_schedule(kind: Any, steps: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = kind(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _torch_cosine() -> str:
    rates = _torch_schedule(torch.optim.lr_scheduler.CosineAnnealingLR, 8, T_max=4)
    return "rises again" if rates[6] > rates[4] + 0.1 else "stays at the end"


def _keras_cosine(keras: Any) -> str:
    rate = keras.optimizers.schedules.CosineDecay(1.0, 4)
    return "rises again" if float(rate(6)) > float(rate(4)) + 0.1 else "stays at the end"


def _torch_boundary() -> str:
    rates = _torch_schedule(torch.optim.lr_scheduler.MultiStepLR, 4, milestones=[2], gamma=0.5)
    return "new rate" if rates[2] < 1 else "old rate"


def _keras_boundary(keras: Any) -> str:
    return (
        "new rate" if float(keras.optimizers.schedules.PiecewiseConstantDecay([2], [1.0, 0.5])(2)) < 1 else "old rate"
    )


def _torch_clip() -> str:
    param = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    param.grad = torch.tensor([30.0, 40.0], dtype=torch.float64)
    torch.nn.utils.clip_grad_norm_([param], 1.0)
    return f"1 − {1 - param.grad.norm().item():.0e}" if param.grad.norm() < 1 - 1e-9 else "1"


def _keras_clip(keras: Any) -> str:
    clipped = keras.optimizers.SGD(1.0, global_clipnorm=1.0)._clip_gradients(
        [keras.ops.convert_to_tensor([30.0, 40.0], dtype="float64")]
    )
    norm = float(keras.ops.norm(clipped[0]))
    return f"1 − {1 - norm:.0e}" if norm < 1 - 1e-9 else "1"


def _torch_accumulated() -> float:
    param = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.SGD([param], lr=1.0)
    for grad in (1.0, 3.0):
        (grad * param).backward()
    optimizer.step()
    return -param.item()


T, L = torch.optim, torch.optim.lr_scheduler

CONVENTIONS = (
    Convention(
        id="optimizers.adam_eps",
        what="Adam's ε by default",
        torch=lambda: _default("eps", T.Adam),
        keras=lambda keras: _default("epsilon", keras.optimizers.Adam),
        to_keras=lambda eps: eps,
        trap="With tiny gradients the two defaults give different steps.",
    ),
    Convention(
        id="optimizers.adam_eps_hat",
        what="Adam's first step at g = ε, in units of η",
        torch=lambda: round(-_torch_run(lambda p: T.Adam(p, lr=1.0, eps=0.01), [0.01]), 3),
        keras=lambda keras: round(-_keras_run(keras, keras.optimizers.Adam(1.0, epsilon=0.01), [0.01]), 3),
        to_keras=lambda at: at[0] * math.sqrt(1 - at[1] ** at[2]),  # (ε, β₂, step) → the ε̂ of that step
        trap="Keras adds ε before the bias of v is undone, so in the first steps it counts up to 32 times as much.",
    ),
    Convention(
        id="optimizers.adamw_weight_decay",
        what="AdamW's weight decay by default",
        torch=lambda: _default("weight_decay", T.AdamW),
        keras=lambda keras: _default("weight_decay", keras.optimizers.AdamW),
        to_keras=lambda weight_decay: weight_decay,
        trap="A net moved from one framework to the other is regularized 2.5 times more or less.",
    ),
    Convention(
        id="optimizers.weight_decay",
        what="what `weight_decay` of SGD, Adam and RMSprop does",
        torch=lambda: _decay(_torch_run(lambda p: T.SGD(p, 0.1, 0.9, weight_decay=1.0), [0.0, 0.0], 1.0)),
        keras=lambda keras: _decay(
            _keras_run(keras, keras.optimizers.SGD(0.1, 0.9, weight_decay=1.0), [0.0, 0.0], 1.0)
        ),
        trap="Keras's Adam(weight_decay=…) is AdamW; PyTorch's is Adam on an L2 penalty.",
    ),
    Convention(
        id="optimizers.sgd_lr",
        what="SGD's rate by default",
        torch=lambda: _default("lr", T.SGD),
        keras=lambda keras: _default("learning_rate", keras.optimizers.SGD),
        to_keras=lambda lr: lr,
        trap="Comparing the frameworks with default SGD compares two rates ten times apart.",
    ),
    Convention(
        id="optimizers.sgd_velocity",
        what="what SGD's momentum keeps",
        torch=lambda: _carries(_torch_run(lambda p: T.SGD(p, 0.5, 0.5), [1.0, 0.0], rates=(0.5, 0.0))),
        keras=lambda keras: _carries(_keras_run(keras, keras.optimizers.SGD(0.5, 0.5), [1.0, 0.0], rates=(0.5, 0.0))),
        to_keras=lambda at: -at[1] * at[0],  # (buffer, lr) → velocity, while the rate stays the same
        trap="When a schedule cuts the rate, PyTorch slows down at once, and Keras coasts on for 1/(1 − μ) steps.",
    ),
    Convention(
        id="optimizers.rmsprop_alpha",
        what="RMSprop's decay by default (`alpha`, `rho`)",
        torch=lambda: _default("alpha", T.RMSprop),
        keras=lambda keras: _default("rho", keras.optimizers.RMSprop),
        to_keras=lambda alpha: alpha,
        trap="PyTorch averages the squares over about 100 steps, Keras over 10.",
    ),
    Convention(
        id="optimizers.rmsprop_eps",
        what="where RMSprop's ε stands",
        torch=lambda: _place(_torch_run(lambda p: T.RMSprop(p, lr=1.0, alpha=0.0, eps=0.01), [0.01])),
        keras=lambda keras: _place(_keras_run(keras, keras.optimizers.RMSprop(1.0, rho=0.0, epsilon=0.01), [0.01])),
        trap="Inside the root 1e-7 acts like 3e-4 outside: Keras damps the steps of gradients below that.",
    ),
    Convention(
        id="optimizers.adagrad_accumulator",
        what="AdaGrad's sum at the start",
        torch=lambda: _default("initial_accumulator_value", T.Adagrad),
        keras=lambda keras: _default("initial_accumulator_value", keras.optimizers.Adagrad),
        to_keras=lambda value: float(value),
        trap="From 0 the first step has size η whatever the gradient; from 0.1 small gradients take small steps.",
    ),
    Convention(
        id="optimizers.adagrad_eps",
        what="where AdaGrad's ε stands",
        torch=lambda: _place(_torch_run(lambda p: T.Adagrad(p, lr=1.0, eps=0.01), [0.01])),
        keras=lambda keras: _place(
            _keras_run(keras, keras.optimizers.Adagrad(1.0, initial_accumulator_value=0.0, epsilon=0.01), [0.01])
        ),
        trap="As with RMSprop; the defaults are 1e-10 and 1e-7 besides.",
    ),
    Convention(
        id="optimizers.adagrad_lr",
        what="AdaGrad's rate by default",
        torch=lambda: _default("lr", T.Adagrad),
        keras=lambda keras: _default("learning_rate", keras.optimizers.Adagrad),
        to_keras=lambda lr: lr,
        trap="Keras's AdaGrad barely moves with its default.",
    ),
    Convention(
        id="optimizers.clip_norm",
        what="norm of a gradient of norm 50 clipped to 1",
        torch=_torch_clip,
        keras=_keras_clip,
        to_keras=lambda max_norm: {"global_clipnorm": max_norm},
        trap="`clip_grad_norm_` is Keras's `global_clipnorm`; Keras's `clipnorm` clips each variable on its own.",
    ),
    Convention(
        id="optimizers.accumulation",
        what="the gradient after accumulating 1 and 3",
        torch=_torch_accumulated,
        keras=lambda keras: -_keras_run(keras, keras.optimizers.SGD(1.0, gradient_accumulation_steps=2), [1.0, 3.0]),
        trap="PyTorch adds and Keras averages: without dividing the loss, PyTorch's rate is in effect k times as high.",
    ),
    Convention(
        id="optimizers.plateau_patience",
        what="ReduceLROnPlateau with patience=2",
        torch=lambda: _first_fall(_torch_plateau(patience=2)),
        keras=lambda keras: _first_fall(_keras_plateau(keras, patience=2)),
        to_keras=lambda patience: patience + 1,
        trap="PyTorch tolerates `patience` bad epochs and falls at the next; Keras falls at the last of them.",
    ),
    Convention(
        id="optimizers.plateau_cooldown",
        what="ReduceLROnPlateau with cooldown=2, one bad epoch enough",
        torch=lambda: _second_fall(_torch_plateau(patience=0, cooldown=2)),
        keras=lambda keras: _second_fall(_keras_plateau(keras, patience=1, cooldown=2)),
        to_keras=lambda cooldown: cooldown + 1,
        trap="Keras counts the last epoch of the rest as bad already.",
    ),
    Convention(
        id="optimizers.plateau_threshold",
        what="what counts as an improvement, by default",
        torch=lambda: (
            f"{_default('threshold', L.ReduceLROnPlateau)}, {_default('threshold_mode', L.ReduceLROnPlateau)}"
        ),
        keras=lambda keras: f"{_default('min_delta', keras.callbacks.ReduceLROnPlateau)}, abs",
        to_keras=lambda threshold: {"min_delta": threshold},  # of PyTorch's threshold_mode="abs"
        trap="With losses far below 1 Keras's absolute threshold never sees an improvement.",
    ),
    Convention(
        id="optimizers.cosine_end",
        what="the cosine schedule after its end",
        torch=_torch_cosine,
        keras=_keras_cosine,
        trap="Training on past T_max in PyTorch raises the rate again, to its first value.",
    ),
    Convention(
        id="optimizers.boundary",
        what="a stepwise schedule exactly at its boundary",
        torch=_torch_boundary,
        keras=_keras_boundary,
        to_keras=lambda boundary: boundary - 1,  # for whole steps
        trap="Off by one step.",
    ),
)
