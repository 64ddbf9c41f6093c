"""Gradient descent and its relatives: step functions that look like the formulas, then optimizers that batch them.

A step function is pure: it takes a parameter, its gradient and the state of the method, tensors of one shape, and
returns them anew. The classes hold the state and apply the same rule, in place, to all parameters at once by
`torch._foreach_*`; the tests hold them to the functions. They are `torch.optim.Optimizer`s: parameter groups,
`zero_grad`, hooks and schedulers work, and state dicts go to and from PyTorch's own.

With many small tensors a step costs mostly calls, not arithmetic. Three things make these steps cheaper than
PyTorch's: one step count (a Python int) for all parameters that share it, bias corrections folded into numbers, and
scalars handed to CPU kernels as tensors, which PyTorch otherwise wraps once for each parameter.

Sources: Polyak 1964; Nesterov 1983; Sutskever et al. 2013 (ICML); Duchi et al. 2011 (AdaGrad, JMLR 12); Tieleman &
Hinton 2012 (RMSProp, lecture 6.5); Graves 2013 (centered, arXiv:1308.0850); Kingma & Ba 2015 (Adam, arXiv:1412.6980);
Reddi et al. 2018 (AMSGrad); Loshchilov & Hutter 2019 (AdamW, arXiv:1711.05101); Pascanu et al. 2013 (clipping,
arXiv:1211.5063).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "RMSProp",
    "accumulate_gradients",
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "amsgrad_step",
    "clip_by_global_norm",
    "clip_grad_norm_",
    "clip_grad_value_",
    "global_norm",
    "momentum_step",
    "nesterov_step",
    "nesterov_velocity_step",
    "rmsprop_step",
    "sgd_step",
    "velocity_step",
]

# the rules -------------------------------------------------------------------------------------------------


def sgd_step(param: Tensor, grad: Tensor, *, lr: float) -> Tensor:
    """w − η g: one step of gradient descent, of param's shape.

    For coupled weight decay (an L2 penalty λ/2 ‖w‖²) pass `grad + weight_decay * param`, here and below.
    """
    return param - lr * grad


def momentum_step(
    param: Tensor, grad: Tensor, buffer: Tensor, *, lr: float, momentum: float = 0.9, dampening: float = 0.0
) -> tuple[Tensor, Tensor]:
    """PyTorch's momentum: b ← μ b + (1 − dampening) g, w ← w − η b. Returns (param, buffer), both of param's shape.

    The buffer starts at zero. It does not hold the rate: a new rate acts at once on all past gradients. (PyTorch's
    SGD sets the very first buffer to g, without dampening.)
    """
    buffer = momentum * buffer + (1 - dampening) * grad
    return param - lr * buffer, buffer


def velocity_step(
    param: Tensor, grad: Tensor, velocity: Tensor, *, lr: float, momentum: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Keras's momentum, and Polyak's: v ← μ v − η g, w ← w + v. Returns (param, velocity), both of param's shape.

    The velocity is −η times PyTorch's buffer while the rate stays the same; it carries the rate, so a new rate acts
    on new gradients only.
    """
    velocity = momentum * velocity - lr * grad
    return param + velocity, velocity


def nesterov_step(
    param: Tensor, grad: Tensor, buffer: Tensor, *, lr: float, momentum: float = 0.9
) -> tuple[Tensor, Tensor]:
    """PyTorch's Nesterov momentum: b ← μ b + g, w ← w − η (g + μ b). Returns (param, buffer), of param's shape.

    `param` is the point looked ahead to, where the gradient is taken (Sutskever et al. 2013, rewritten in it).
    """
    buffer = momentum * buffer + grad
    return param - lr * (grad + momentum * buffer), buffer


def nesterov_velocity_step(
    param: Tensor, grad: Tensor, velocity: Tensor, *, lr: float, momentum: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Keras's Nesterov momentum: v ← μ v − η g, w ← w + μ v − η g. Returns (param, velocity), of param's shape."""
    velocity = momentum * velocity - lr * grad
    return param + momentum * velocity - lr * grad, velocity


def adagrad_step(
    param: Tensor, grad: Tensor, total: Tensor, *, lr: float = 1e-2, eps: float = 1e-10, eps_inside_root: bool = False
) -> tuple[Tensor, Tensor]:
    """AdaGrad: s ← s + g², w ← w − η g / (√s + ε). Returns (param, total), both of param's shape.

    `eps_inside_root` divides by √(s + ε) instead, as Keras does. The sum only grows: the rate only falls.
    """
    total = total + grad.square()
    return param - lr * grad / _root(total, eps, eps_inside_root), total


def rmsprop_step(
    param: Tensor,
    grad: Tensor,
    square_avg: Tensor,
    grad_avg: Tensor | None = None,
    buffer: Tensor | None = None,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    eps_inside_root: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """RMSProp: v ← α v + (1 − α) g², w ← w − η g / (√v + ε). Returns (param, square_avg, grad_avg, buffer).

    With a `grad_avg` it is centered: v − (mean g)² stands under the root, never below 0. With a `buffer`,
    b ← μ b + g / (√v + ε) and w ← w − η b. What is not given stays None. `eps_inside_root` divides by √(v + ε), as
    Keras does: for gradients below √ε the step is then smaller by far.
    """
    square_avg = alpha * square_avg + (1 - alpha) * grad.square()
    variance = square_avg
    if grad_avg is not None:
        grad_avg = alpha * grad_avg + (1 - alpha) * grad
        variance = (square_avg - grad_avg.square()).clamp(min=0)  # rounding can fall below 0
    update = grad / _root(variance, eps, eps_inside_root)
    if buffer is not None:
        update = buffer = momentum * buffer + update
    return param - lr * update, square_avg, grad_avg, buffer


def adam_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:
    """One Adam update (Kingma & Ba 2015). Returns the new (param, m, v), each of param's shape; step counts from 1.

    m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← w − η m̂ / (√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad.square()
    m_hat = m / (1 - beta1**step)  # both moments start at zero: undo that bias
    v_hat = v / (1 - beta2**step)
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v


def amsgrad_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    v_max: Tensor,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One AMSGrad update (Reddi et al. 2018). Returns (param, m, v, v_max), each of param's shape.

    Adam that divides by the largest v so far, so that no rate ever grows. The maximum is taken before the bias is
    undone, as both frameworks do.
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad.square()
    v_max = torch.maximum(v_max, v)
    m_hat = m / (1 - beta1**step)
    v_hat = v_max / (1 - beta2**step)
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v, v_max


def adamw_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> tuple[Tensor, Tensor, Tensor]:
    """One AdamW update: w ← (1 − η λ) w, then Adam's step. Returns (param, m, v), each of param's shape.

    The decay is decoupled: it is not divided by √v̂, as a penalty's gradient would be (Loshchilov & Hutter 2019).
    """
    return adam_step(param * (1 - lr * weight_decay), grad, m, v, step, lr=lr, betas=betas, eps=eps)


def _root(square: Tensor, eps: float, eps_inside_root: bool) -> Tensor:
    return (square + eps).sqrt() if eps_inside_root else square.sqrt() + eps


# clipping and accumulation ---------------------------------------------------------------------------------


def global_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """‖(‖t₁‖, ‖t₂‖, …)‖: the norm of all tensors taken as one vector, a 0-dim tensor on the first one's device.

    `norm_type` may be inf. No tensors give 0.
    """
    tensors = [tensor for tensor in tensors if tensor.numel()]  # an empty one has no infinity norm
    if not tensors:
        return torch.zeros(())
    norms = [norm.to(tensors[0].device) for norm in torch._foreach_norm(tensors, norm_type)]
    return torch.linalg.vector_norm(torch.stack(norms), norm_type)


def clip_by_global_norm(
    grads: Sequence[Tensor], max_norm: float, *, norm_type: float = 2.0, eps: float = 1e-6
) -> tuple[list[Tensor], Tensor]:
    """Gradients of the same direction, and of a joint norm of at most max_norm: (g · min(1, max_norm/(‖g‖ + ε)), ‖g‖).

    Never scales up. The ε is PyTorch's; Keras's `global_clipnorm` has none. Without a host synchronization: an
    infinite norm zeroes finite gradients and a NaN spreads, as in PyTorch; look at the norm that is returned.
    Raises ValueError where max_norm is negative or NaN.
    """
    norm = global_norm(grads, norm_type)
    scale = _clip_scale(norm, max_norm, eps)
    return [grad * scale.to(grad.device, grad.dtype) for grad in grads], norm


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, *, norm_type: float = 2.0, eps: float = 1e-6
) -> Tensor:
    """Scale the gradients in place to a joint norm of at most max_norm; returns the norm they had (see
    `clip_by_global_norm`). Parameters without a gradient are passed over.
    """
    grads = _grads(parameters)
    with torch.no_grad():
        norm = global_norm(grads, norm_type)
        scale = _clip_scale(norm, max_norm, eps)
        for batch in _by_kind(grads):
            torch._foreach_mul_(batch, scale.to(batch[0].device))
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamp each entry of each gradient to [−clip_value, clip_value] in place: this may turn the direction.

    Raises ValueError where clip_value is negative or NaN.
    """
    _not_negative(clip_value=clip_value)
    with torch.no_grad():
        for batch in _by_kind(_grads(parameters)):
            torch._foreach_clamp_min_(batch, -clip_value)
            torch._foreach_clamp_max_(batch, clip_value)


def accumulate_gradients(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss_fn: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Add to .grad the gradient of the mean loss over all batches together; returns that loss, a 0-dim tensor.

    `loss_fn` returns a mean over its batch. Each batch counts by its number of examples: dividing by the number of
    batches is wrong where the last one is smaller. (Batch norm still sees each batch on its own.) Raises ValueError
    where there are no examples.
    """
    batches = list(batches)
    total = sum(len(y) for _, y in batches)
    if total == 0:
        raise ValueError("there are no examples to accumulate gradients over")
    mean = torch.zeros(())
    for x, y in batches:
        if len(y) == 0:
            continue
        loss = loss_fn(model(x), y) * (len(y) / total)
        loss.backward()
        mean = mean.to(loss) + loss.detach()
    return mean


def _clip_scale(norm: Tensor, max_norm: float, eps: float) -> Tensor:
    _not_negative(max_norm=max_norm)
    return (max_norm / (norm + eps)).clamp(max=1.0)


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _by_kind(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Lists of one device and dtype each: what one `torch._foreach_*` call does well."""
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return list(kinds.values())


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if isinstance(value, Tensor):
            raise TypeError(f"{name} has to be a number, not a tensor: reading one would stall the device in each step")
        if not value >= 0:
            raise ValueError(f"{name} has to be at least 0, but got {value}")


def _below_one(**values: float) -> None:
    _not_negative(**values)
    for name, value in values.items():
        if not value < 1:
            raise ValueError(f"{name} has to be below 1, but got {value}")


# the optimizers --------------------------------------------------------------------------------------------


Batch = tuple[list[Tensor], Sequence[Tensor], list[dict[str, Any]]]  # parameters, gradients, states
CACHED_NUMBERS = 2**16  # with the moments and what is computed on the way, about 1 MB of float32


class _Batched(torch.optim.Optimizer):
    """What all optimizers here share: the batches, the step count and weight decay. The rule is in `update`.

    A batch holds the parameters of one group with a gradient, of one device and dtype, that have made equally many
    steps.
    """

    sparse = False  # whether a sparse gradient means the same as the dense one with zeros

    def new_state(self, group: dict[str, Any], param: Tensor) -> dict[str, Any]:
        raise NotImplementedError

    def update(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: Sequence[Tensor],
        states: list[dict[str, Any]],
        step: int,
    ) -> None:
        """Apply the rule to the params in place. The step counts from 1. The grads are not to be written to."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if param.is_complex():
                raise TypeError("complex parameters are not supported: optimize torch.view_as_real(parameter)")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)  # a state dict of PyTorch's lacks what only these classes have
        for entry in self.state.values():
            if "step" in entry:
                entry["step"] = int(entry["step"])  # PyTorch's is a tensor: read once here, never in a step

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update all parameters that have a gradient. A closure evaluates the loss anew, and its value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
            for (device, _, step), batch in self._batches(group).items():
                for state in batch[2]:
                    state["step"] = step
                for params, grads, states in _in_cache(batch) if device.type == "cpu" else (batch,):
                    if group["maximize"]:
                        grads = torch._foreach_neg(grads)
                    if decay and decoupled:
                        torch._foreach_mul_(params, _scalar(1 - group["lr"] * decay, params))
                    elif decay:
                        grads = torch._foreach_add(grads, params, alpha=decay)
                    self.update(group, params, grads, states, step)
        return loss

    def has_state(self, group: dict[str, Any]) -> bool:
        return True

    def _batches(self, group: dict[str, Any]) -> dict[tuple[torch.device, torch.dtype, int], Batch]:
        batches: dict[tuple[torch.device, torch.dtype, int], Batch] = {}
        has_state = self.has_state(group)
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if grad.is_sparse:
                if not self.sparse or group["weight_decay"]:
                    wanted = "weight_decay=0" if self.sparse else "dense gradients, or SGD or AdaGrad"
                    raise RuntimeError(f"{type(self).__name__} got a sparse gradient: it needs {wanted}")
                grad = grad.to_dense()
            if has_state:
                state = self.state[param]
                if "step" not in state:
                    state.update({"step": 0, **self.new_state(group, param)})
                key = (param.device, param.dtype, state["step"] + 1)
            else:
                key = (param.device, param.dtype, 0)
            batch = batches.get(key)
            if batch is None:
                batch = batches[key] = ([], [], [])
            batch[0].append(param)
            batch[1].append(grad)
            if has_state:
                batch[2].append(state)
        return batches


def _in_cache(batch: Batch) -> Iterator[Batch]:
    """The batch in pieces that fit a CPU's cache, so that the passes of a rule do not each read memory anew."""
    params, grads, states = batch
    start, size = 0, 0
    for end, param in enumerate(params):
        size += param.numel()
        if size > CACHED_NUMBERS and end > start:
            yield params[start:end], grads[start:end], states[start:end]
            start, size = end, param.numel()
    yield params[start:], grads[start:], states[start:]


def _scalar(value: float, like: list[Tensor]) -> float | Tensor:
    """The value, for `_foreach` calls: on the CPU as a 0-dim tensor, because a number is wrapped again for each."""
    if like[0].device.type != "cpu":
        return value
    return torch.tensor(value, dtype=torch.float64 if like[0].dtype == torch.float64 else torch.float32)


def _roots(squares: Sequence[Tensor], eps: float, eps_inside_root: bool) -> tuple[Tensor, ...]:
    """√s + ε, or √(s + ε), of each, as new tensors."""
    if eps_inside_root:
        sums = torch._foreach_add(squares, eps)
        torch._foreach_sqrt_(sums)
        return sums
    roots = torch._foreach_sqrt(squares)
    if roots[0].device.type == "cpu":
        torch._foreach_add_(roots, _scalar(eps, roots), alpha=1)
    else:
        torch._foreach_add_(roots, eps)
    return roots


class SGD(_Batched):
    """Gradient descent with momentum, in PyTorch's convention: `sgd_step`, `momentum_step`, `nesterov_step`.

    State: `momentum_buffer`, which starts as the first gradient (undampened). Weight decay is coupled (added to the
    gradient) unless `decoupled_weight_decay`. Sparse gradients are taken as dense ones; refused (RuntimeError)
    together with weight decay. Raises ValueError for a negative lr, momentum or weight_decay, and for nesterov
    without momentum or with dampening; TypeError for an lr that is a tensor.
    """

    sparse = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ):
        _not_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and dampening=0")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for entry in self.state.values():  # PyTorch's has no step count, and may hold None for a buffer
            if entry.get("momentum_buffer") is None:
                entry.clear()
            else:
                entry.setdefault("step", 1)

    def has_state(self, group):
        return group["momentum"] != 0

    def new_state(self, group, param):
        return {}

    def update(self, group, params, grads, states, step):
        if group["momentum"]:
            if step == 1:
                buffers = torch._foreach_mul(grads, 1.0)  # a copy: .grad may be zeroed in place
                for state, buffer in zip(states, buffers, strict=True):
                    state["momentum_buffer"] = buffer
            else:
                buffers = [state["momentum_buffer"] for state in states]
                torch._foreach_mul_(buffers, _scalar(group["momentum"], buffers))
                torch._foreach_add_(buffers, grads, alpha=1 - group["dampening"])
            if group["nesterov"]:
                torch._foreach_add_(params, grads, alpha=-group["lr"])
                torch._foreach_add_(params, buffers, alpha=-group["lr"] * group["momentum"])
                return
            grads = buffers
        torch._foreach_add_(params, grads, alpha=-group["lr"])


class AdaGrad(_Batched):
    """AdaGrad: `adagrad_step`, with PyTorch's names and defaults. State: `sum`, which starts at
    initial_accumulator_value, and `step`.

    `lr_decay` divides the rate by 1 + (t − 1) lr_decay. `eps_inside_root`, an initial value of 0.1 and an eps of 1e-7
    make it Keras's. Sparse gradients are taken as dense ones: the same, because a zero gradient changes nothing;
    refused (RuntimeError) together with weight decay. Raises ValueError for a negative option.
    """

    sparse = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        eps_inside_root: bool = False,
    ):
        _not_negative(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
        _not_negative(initial_accumulator_value=initial_accumulator_value)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
                "eps_inside_root": eps_inside_root,
            },
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]  # PyTorch's Adagrad expects its sums in a state dict even before the first step
        for param in group["params"]:
            self.state[param].update({"step": 0, **self.new_state(group, param)})

    def new_state(self, group, param):
        return {"sum": torch.full_like(param, group["initial_accumulator_value"], requires_grad=False)}

    def update(self, group, params, grads, states, step):
        sums = [state["sum"] for state in states]
        torch._foreach_addcmul_(sums, grads, grads, 1.0)
        rate = group["lr"] / (1 + (step - 1) * group["lr_decay"])
        roots = _roots(sums, group["eps"], group["eps_inside_root"])
        torch._foreach_addcdiv_(params, grads, roots, -rate)


class RMSProp(_Batched):
    """RMSProp: `rmsprop_step`, with PyTorch's names and defaults. State: `square_avg`, `grad_avg` where centered,
    `momentum_buffer` with momentum, and `step`.

    alpha=0.9, eps=1e-7 and `eps_inside_root` make it Keras's. Where centered, rounding that makes the variance
    negative is clamped to 0; PyTorch's gives NaN there. Raises ValueError for a negative option and for alpha ≥ 1;
    RuntimeError for sparse gradients.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        eps_inside_root: bool = False,
    ):
        _not_negative(lr=lr, eps=eps, weight_decay=weight_decay, momentum=momentum)
        _below_one(alpha=alpha)
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
                "eps_inside_root": eps_inside_root,
            },
        )

    def new_state(self, group, param):
        names = ["square_avg"]
        if group["momentum"] > 0:
            names.append("momentum_buffer")
        if group["centered"]:
            names.append("grad_avg")
        return {name: torch.zeros_like(param, requires_grad=False) for name in names}

    def update(self, group, params, grads, states, step):
        alpha = group["alpha"]
        variances = squares = [state["square_avg"] for state in states]
        torch._foreach_mul_(squares, _scalar(alpha, squares))
        torch._foreach_addcmul_(squares, grads, grads, 1 - alpha)
        if group["centered"]:
            means = [state["grad_avg"] for state in states]
            torch._foreach_lerp_(means, grads, 1 - alpha)
            variances = torch._foreach_addcmul(squares, means, means, -1.0)
            torch._foreach_clamp_min_(variances, 0.0)
        roots = _roots(variances, group["eps"], group["eps_inside_root"])
        if group["momentum"] > 0:
            buffers = [state["momentum_buffer"] for state in states]
            torch._foreach_mul_(buffers, _scalar(group["momentum"], buffers))
            torch._foreach_addcdiv_(buffers, grads, roots)
            torch._foreach_add_(params, buffers, alpha=-group["lr"])
        else:
            torch._foreach_addcdiv_(params, grads, roots, -group["lr"])


class Adam(_Batched):
    """Adam: `adam_step`, or `amsgrad_step`, with PyTorch's names and defaults. State: `exp_avg` (m), `exp_avg_sq`
    (v), `max_exp_avg_sq` with amsgrad, and `step`.

    Weight decay is coupled (added to the gradient, so divided by √v̂ with it) unless `decoupled_weight_decay`; then it
    is AdamW. Raises ValueError for a negative option and for betas outside [0, 1); RuntimeError for sparse gradients.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ):
        _not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        _below_one(beta1=betas[0], beta2=betas[1])
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def new_state(self, group, param):
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        return {name: torch.zeros_like(param, requires_grad=False) for name in names}

    def update(self, group, params, grads, states, step):
        beta1, beta2 = group["betas"]
        m = [state["exp_avg"] for state in states]
        v = [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(m, grads, 1 - beta1)
        torch._foreach_mul_(v, _scalar(beta2, v))
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
        if group["amsgrad"]:
            v_max = [state["max_exp_avg_sq"] for state in states]
            torch._foreach_maximum_(v_max, v)
            v = v_max
        # m̂ / (√v̂ + ε) = (m / (√v + ε c)) · c / (1 − β₁ᵗ) with c = √(1 − β₂ᵗ): one pass over the tensors less
        c = math.sqrt(1 - beta2**step)
        roots = _roots(v, group["eps"] * c, False)
        torch._foreach_addcdiv_(params, m, roots, -group["lr"] * c / (1 - beta1**step))


class AdamW(Adam):
    """AdamW: `adamw_step`: Adam whose weight decay is decoupled, 0.01 unless given (Keras's is 0.004)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)
