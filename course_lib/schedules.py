"""Learning rates over time: functions from the step to the rate, and two small classes that set it.

A schedule takes the step, counted from 0: the number of updates (or epochs: the caller's choice) made so far, and
returns the rate of the next one. It keeps no state, so resuming needs only the step. The one exception waits for a
metric to stall: `ReduceOnPlateau`.

Sources: Vaswani et al. 2017 (inverse square root, arXiv:1706.03762); Loshchilov & Hutter 2017 (cosine,
arXiv:1608.03983); Smith 2017 (range test, arXiv:1506.01186); Smith & Topin 2018 (1cycle, arXiv:1708.07120); Goyal et
al. 2017 (warm-up, arXiv:1706.02677).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "PlateauState",
    "RangeTest",
    "ReduceOnPlateau",
    "Scheduler",
    "constant",
    "cosine",
    "exponential",
    "inverse_sqrt",
    "inverse_time",
    "linear_warmup",
    "one_cycle",
    "one_cycle_momentum",
    "piecewise_constant",
    "plateau_step",
    "polynomial",
    "rate_range_test",
    "step_decay",
    "warmup_cosine",
]


def constant(step: float, *, lr: float) -> float:
    """η: the same rate always. Here and below: ValueError for a negative step."""
    _check(step)
    return lr


def step_decay(step: float, *, lr: float, step_size: int, gamma: float = 0.1) -> float:
    """η γ^⌊step / step_size⌋: the rate falls by the factor γ every step_size steps (PyTorch's StepLR)."""
    _check(step, step_size=step_size)
    return lr * gamma ** (step // step_size)


def piecewise_constant(step: float, *, boundaries: Sequence[float], values: Sequence[float]) -> float:
    """values[i], where i boundaries have been reached: at step = boundary the new value counts, as in MultiStepLR.

    Keras's PiecewiseConstantDecay still gives the old value there. Raises ValueError unless there is one value more
    than boundaries, and these increase.
    """
    _check(step)
    if len(values) != len(boundaries) + 1 or any(a >= b for a, b in itertools.pairwise(boundaries)):
        raise ValueError(
            f"needs increasing boundaries and one value more than there are, got {list(boundaries)} and {list(values)}"
        )
    return values[sum(step >= boundary for boundary in boundaries)]


def exponential(step: float, *, lr: float, gamma: float, decay_steps: float = 1) -> float:
    """η γ^(step / decay_steps): ExponentialLR in PyTorch, where decay_steps is 1; ExponentialDecay in Keras."""
    _check(step, decay_steps=decay_steps)
    return lr * gamma ** (step / decay_steps)


def inverse_time(step: float, *, lr: float, decay_rate: float, decay_steps: float = 1) -> float:
    """η / (1 + decay_rate · step / decay_steps): Keras's InverseTimeDecay, once known as power scheduling."""
    _check(step, decay_steps=decay_steps)
    return lr / (1 + decay_rate * step / decay_steps)


def polynomial(step: float, *, lr: float, total_steps: float, min_lr: float = 0.0, power: float = 1.0) -> float:
    """η_min + (η − η_min) (1 − step / total_steps)^power, then η_min; power 1 is the straight line."""
    _check(step, total_steps=total_steps)
    return min_lr + (lr - min_lr) * (1 - min(step / total_steps, 1)) ** power


def cosine(step: float, *, lr: float, total_steps: float, min_lr: float = 0.0) -> float:
    """η_min + (η − η_min) (1 + cos(π step / total_steps)) / 2, then η_min.

    PyTorch's CosineAnnealingLR rises again after total_steps; Keras's CosineDecay stays down, as here.
    """
    _check(step, total_steps=total_steps)
    return _anneal(lr, min_lr, min(step / total_steps, 1))


def linear_warmup(step: float, *, lr: float, warmup_steps: float, start_lr: float = 0.0) -> float:
    """From start_lr in a straight line up to lr, reached at step = warmup_steps; then lr."""
    _check(step)
    if step >= warmup_steps:
        return lr
    return start_lr + (lr - start_lr) * step / warmup_steps


def warmup_cosine(
    step: float, *, lr: float, warmup_steps: float, total_steps: float, min_lr: float = 0.0, start_lr: float = 0.0
) -> float:
    """A linear warm-up from start_lr to lr in warmup_steps, then the cosine down to min_lr at total_steps.

    With a start_lr of 0 the very first step does nothing. Raises ValueError unless warmup_steps < total_steps.
    """
    _check(step, total_steps=total_steps - warmup_steps)
    if step < warmup_steps:
        return linear_warmup(step, lr=lr, warmup_steps=warmup_steps, start_lr=start_lr)
    return cosine(step - warmup_steps, lr=lr, total_steps=total_steps - warmup_steps, min_lr=min_lr)


def inverse_sqrt(step: float, *, lr: float, warmup_steps: float) -> float:
    """η min((step + 1) / w, √(w / (step + 1))) for w warm-up steps: up to η in a line, then down as 1/√t.

    Vaswani et al. 2017, whose η is (width · w)^(−1/2).
    """
    _check(step, warmup_steps=warmup_steps)
    return lr * min((step + 1) / warmup_steps, math.sqrt(warmup_steps / (step + 1)))


def one_cycle(
    step: float,
    *,
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    linear: bool = False,
    three_phase: bool = False,
) -> float:
    """From max_lr / div_factor up to max_lr, then down to max_lr / div_factor / final_div_factor (OneCycleLR).

    The peak is at step pct_start · total_steps − 1, the end at total_steps − 1; half cosines, or lines where `linear`.
    `three_phase` goes down the way it came, and then to the end. Raises ValueError where pct_start is not in (0, 1),
    where a phase has no length, and for a step beyond total_steps, as PyTorch does.
    """
    low = max_lr / div_factor
    end = low / final_div_factor
    levels = (low, max_lr, low, end) if three_phase else (low, max_lr, end)
    return _cycle(step, levels, total_steps, pct_start, linear)


def one_cycle_momentum(
    step: float,
    *,
    total_steps: int,
    pct_start: float = 0.3,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    linear: bool = False,
    three_phase: bool = False,
) -> float:
    """The momentum (or β₁) that goes with `one_cycle`: high where the rate is low, and low at its peak.

    PyTorch's OneCycleLR sets it too unless told otherwise: the optimizer's own momentum is then overwritten.
    """
    high, low = max_momentum, base_momentum
    levels = (high, low, high, high) if three_phase else (high, low, high)
    return _cycle(step, levels, total_steps, pct_start, linear)


def _cycle(step: float, levels: Sequence[float], total_steps: int, pct_start: float, linear: bool) -> float:
    ends = [pct_start * total_steps - 1, total_steps - 1]
    if len(levels) == 4:
        ends.insert(1, 2 * pct_start * total_steps - 2)
    starts = [0.0, *ends[:-1]]
    _check(step)
    if not 0 < pct_start < 1 or any(a >= b for a, b in zip(starts, ends, strict=True)):
        raise ValueError(f"pct_start={pct_start} of {total_steps} steps leaves a phase of the cycle without length")
    if step > total_steps:
        raise ValueError(f"the cycle has {total_steps} steps, but got step {step}")
    phase = next((i for i, end in enumerate(ends) if step <= end), len(ends) - 1)
    share = min((step - starts[phase]) / (ends[phase] - starts[phase]), 1.0)
    start, end = levels[phase], levels[phase + 1]
    return start + (end - start) * share if linear else _anneal(start, end, share)


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _check(step: float, **lengths: float) -> None:
    if not step >= 0:
        raise ValueError(f"steps are counted from 0, but got {step}")
    for name, value in lengths.items():
        if not value > 0:
            raise ValueError(f"needs {name} above 0 (after any warm-up), but got {value}")


class Scheduler:
    """Sets each group's lr from a schedule: now for step 0, and after every `step()` for the next.

    `schedule` is one function for all groups, or a list with one for each. Call `optimizer.step()`, then
    `scheduler.step()`. Resuming: load the optimizer's state first, then the scheduler's. Raises ValueError where the
    list does not fit the groups.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], float] | Sequence[Callable[[int], float]],
        *,
        step: int = 0,
    ):
        groups = len(optimizer.param_groups)
        self.optimizer = optimizer
        self.schedules = [schedule] * groups if callable(schedule) else list(schedule)
        if len(self.schedules) != groups:
            raise ValueError(f"the optimizer has {groups} groups, but there are {len(self.schedules)} schedules")
        self._set(step)

    def step(self) -> None:
        """Go on by one step."""
        self._set(self.last_step + 1)

    @property
    def last_lr(self) -> list[float]:
        """The rate now set, of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, int]:
        """What resuming needs: the step. The schedule itself is code, and not kept."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a state: the rates are set at once."""
        self._set(state["last_step"])

    def _set(self, step: int) -> None:
        self.last_step = step
        for group, schedule in zip(self.optimizer.param_groups, self.schedules, strict=True):
            group["lr"] = schedule(step)


@dataclass(frozen=True)
class PlateauState:
    """What `plateau_step` remembers: the best metric, the bad epochs since, the epochs of rest left."""

    best: float | None = None
    bad_epochs: int = 0
    cooldown: int = 0


def plateau_step(
    metric: float,
    state: PlateauState,
    *,
    patience: int = 10,
    threshold: float = 1e-4,
    relative: bool = True,
    maximize: bool = False,
    cooldown: int = 0,
) -> tuple[bool, PlateauState]:
    """Whether to reduce the rate now, and the new state.

    An epoch is bad unless its metric beats the best by threshold (times |best| where `relative`). The rate falls when
    more than `patience` epochs in a row are bad; the next `cooldown` epochs count as good. NaN is bad. PyTorch's
    relative threshold takes the best with its sign, so with a negative metric it asks for less than no improvement.
    """
    best = state.best
    if best is None:
        better = metric > -math.inf if maximize else metric < math.inf
    else:
        margin = threshold * abs(best) if relative else threshold
        better = metric > best + margin if maximize else metric < best - margin
    best = metric if better else best
    if state.cooldown > 0:
        return False, PlateauState(best, 0, state.cooldown - 1)
    bad = 0 if better else state.bad_epochs + 1
    if bad > patience:
        return True, PlateauState(best, 0, cooldown)
    return False, PlateauState(best, bad, 0)


class ReduceOnPlateau:
    """Multiplies every group's rate by factor when the metric stalls (`plateau_step`); never below min_lr.

    A fall by less than eps is left out, as PyTorch does. Raises ValueError unless 0 < factor < 1.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        relative: bool = True,
        maximize: bool = False,
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ):
        if not 0 < factor < 1:
            raise ValueError(f"factor has to lie between 0 and 1, but got {factor}")
        self.optimizer = optimizer
        self.factor, self.min_lr, self.eps = factor, min_lr, eps
        self.rule = {
            "patience": patience,
            "threshold": threshold,
            "relative": relative,
            "maximize": maximize,
            "cooldown": cooldown,
        }
        self.state = PlateauState()

    def step(self, metric: float | Tensor) -> bool:
        """Take the epoch's metric in; returns whether the rate was to fall."""
        reduce, self.state = plateau_step(float(metric), self.state, **self.rule)
        if reduce:
            for group in self.optimizer.param_groups:
                lr = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
        return reduce

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data."""
        return asdict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.state = PlateauState(**state)


@dataclass(frozen=True)
class RangeTest:
    """What `rate_range_test` saw: rates tried, the loss of the batch at each, and that loss smoothed."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest smoothed loss: a start for tuning, no more."""
        finite = [(loss, rate) for loss, rate in zip(self.smoothed, self.rates, strict=True) if math.isfinite(loss)]
        if not finite:
            raise ValueError("no rate gave a finite loss")
        return min(finite)[1] / 10


def rate_range_test(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 100,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    smoothing: float = 0.9,
    stop_factor: float = 4.0,
) -> RangeTest:
    """Train a copy of the model while the rate grows from min_lr to max_lr by a constant factor, and watch the loss.

    The batches are gone through again as often as needed. It stops early where the smoothed loss is not finite or
    stop_factor times above its lowest. The model stays as it was; SGD without momentum unless `optimizer` makes
    another. Smith 2017. Raises ValueError for no batches, fewer than 2 steps or 0 < min_lr < max_lr not holding.
    """
    batches = list(batches)
    if not batches or steps < 2 or not 0 < min_lr < max_lr:
        raise ValueError("needs batches, at least 2 steps, and 0 < min_lr < max_lr")
    trial = copy.deepcopy(model).train()
    trainable = [parameter for parameter in trial.parameters() if parameter.requires_grad]
    step_rule = optimizer(trainable) if optimizer else torch.optim.SGD(trainable, lr=min_lr)
    growth = (max_lr / min_lr) ** (1 / (steps - 1))
    scheduler = Scheduler(step_rule, lambda step: exponential(step, lr=min_lr, gamma=growth))
    rates, losses, smoothed, average = [], [], [], 0.0
    for step in range(steps):
        x, y = batches[step % len(batches)]
        step_rule.zero_grad()
        loss = loss_fn(trial(x), y)
        loss.backward()
        rates.append(scheduler.last_lr[0])
        losses.append(loss.item())
        average = smoothing * average + (1 - smoothing) * losses[-1]
        smoothed.append(average / (1 - smoothing ** (step + 1)))  # the average starts at 0: undo that bias
        if not math.isfinite(smoothed[-1]) or (step > 0 and smoothed[-1] > stop_factor * min(smoothed)):
            break
        step_rule.step()
        scheduler.step()
    return RangeTest(tuple(rates), tuple(losses), tuple(smoothed))
