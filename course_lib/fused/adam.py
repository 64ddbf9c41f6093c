"""Adam and AdamW for a whole list of parameters in one launch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from course_lib import optimizers
from course_lib.fused.backend import COMPILER_OPTIONS, use_kernels

__all__ = ["Adam", "AdamW", "adam_step_"]

BLOCK = 4096  # elements that a program updates: 16 for each of 256 threads
WARPS = 8


def adam_step_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    step: int,
    *,
    max_exp_avg_sqs: Sequence[Tensor] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
    fused: bool | None = None,
) -> None:
    """One Adam step for all params, in place; AdamW with `decoupled_weight_decay`, AMSGrad with `max_exp_avg_sqs`.

    The options mean what they do for `torch.optim.Adam`; `step` counts from 1 and is shared by all params. The readable
    version calls `course_lib.optimizers.adam_step` or `amsgrad_step` for each. A kernel takes all params of a dtype at
    once, finding its tensors through a table of addresses, and reads and writes each number once: 28 bytes of traffic
    for a float32 parameter. float16 and bfloat16 are computed in float32 and rounded once a step, as by torch's
    `fused=True`; the readable version rounds each operation. Speed unmeasured (see the package).

    Params that are not dense (contiguous or channels_last), or not of one dtype with their gradient and state, take the
    readable version whatever `fused` is.
    Raises ValueError where the lists differ in length or a step is below 1, and RuntimeError for sparse gradients.
    Kingma & Ba 2015; Reddi et al. 2018; Loshchilov & Hutter 2019.
    """
    lists = [params, grads, exp_avgs, exp_avg_sqs, *([] if max_exp_avg_sqs is None else [max_exp_avg_sqs])]
    if len({len(tensors) for tensors in lists}) > 1:
        raise ValueError(f"a step needs lists of one length, but got {', '.join(str(len(each)) for each in lists)}")
    if step < 1:
        raise ValueError(f"step counts from 1, but got {step}")
    if any(grad.is_sparse for grad in grads):
        raise RuntimeError("adam_step_ got a sparse gradient: it needs dense gradients")
    rule = Rule(step, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize)
    launches: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, ...]]] = {}
    with torch.no_grad():
        for tensors in zip(*lists, strict=True):
            param = tensors[0]
            alike = len({tensor.dtype for tensor in tensors}) == 1
            if alike and is_dense(param) and use_kernels(fused, *tensors):
                launches.setdefault((param.device, param.dtype), []).append(tensors)
            else:
                readable_step_(rule, *tensors)
        for group in launches.values():
            launch(rule, group)


@dataclass(frozen=True)
class Rule:
    """The options of a step, and the numbers that the kernel needs, computed from them in float64."""

    step: int
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled_weight_decay: bool
    maximize: bool
    numbers: tuple[float, ...] = field(init=False)

    def __post_init__(self):
        beta1, beta2 = self.betas
        decoupled = self.decoupled_weight_decay
        # m̂ / (√v̂ + ε) = (m / (√v + ε c)) · c / (1 − β₁ᵗ) with c = √(1 − β₂ᵗ): one division for an element
        c = math.sqrt(1 - beta2**self.step)
        numbers = (
            1 - beta1,
            beta2,
            1 - beta2,
            self.lr * c / (1 - beta1**self.step),
            self.eps * c,
            0 if decoupled else self.weight_decay,
            1 - self.lr * self.weight_decay if decoupled else 1,
            -1 if self.maximize else 1,
        )
        object.__setattr__(self, "numbers", tuple(map(float, numbers)))


def readable_step_(rule: Rule, param: Tensor, grad: Tensor, *state: Tensor) -> None:
    options = {"lr": rule.lr, "betas": rule.betas, "eps": rule.eps}
    if rule.maximize:
        grad = -grad
    if not rule.decoupled_weight_decay:
        grad = grad + rule.weight_decay * param if rule.weight_decay else grad
        before = param
    else:
        before = param * (1 - rule.lr * rule.weight_decay)
    formula = optimizers.adam_step if len(state) == 2 else optimizers.amsgrad_step
    for tensor, new in zip((param, *state), formula(before, grad, *state, rule.step, **options), strict=True):
        tensor.copy_(new)


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in an order that `same_strides` can give another tensor."""
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim(), torch.contiguous_format)
    return tensor.is_contiguous() or tensor.is_contiguous(memory_format=channels_last)


def launch(rule: Rule, group: list[tuple[Tensor, ...]]) -> None:
    """Update the (param, grad, exp_avg, exp_avg_sq[, max_exp_avg_sq]) of one dtype and device with one kernel."""
    from course_lib.fused.kernels.adam import adam

    rows, changed, ends, end = [], [], [], 0
    kept = []  # copies have to live until the kernel is launched
    for param, *others in group:
        tensors = [param, *(same_strides(tensor, param) for tensor in others)]
        kept.append(tensors)
        end += -(-param.numel() // BLOCK)
        ends.append(end)
        rows.append([param.numel(), *(tensor.data_ptr() for tensor in tensors)])
        changed += [param, *others[1:]]
    aligned = all(address % 16 == 0 for row in rows for address in row[1:])
    device = group[0][0].device
    # one small copy, from pinned memory, so that nobody waits for it
    table = torch.tensor([ends, *zip(*rows, strict=True)], dtype=torch.int64, pin_memory=device.type == "cuda")
    with torch.cuda.device_of(group[0][0]):
        adam[(end,)](
            group[0][0],
            table.to(device, non_blocking=True),
            len(group),
            *rule.numbers,
            TENSORS=1 << (len(group) - 1).bit_length(),
            AMSGRAD=len(rows[0]) == 6,
            ALIGNMENT=16 if aligned else group[0][0].element_size(),
            BLOCK=BLOCK,
            num_warps=WARPS,
            **COMPILER_OPTIONS,
        )
    for tensors, originals in zip(kept, group, strict=True):
        for packed, original in zip(tensors[2:], originals[2:], strict=True):
            if packed is not original:  # a state of other strides was updated as a copy
                original.copy_(packed)
    torch.autograd.graph.increment_version(changed)


def same_strides(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor if tensor.stride() == like.stride() else torch.empty_like(like).copy_(tensor)


class Adam(optimizers.Adam):
    """`course_lib.optimizers.Adam` whose step, on a GPU with Triton, is one launch for all parameters of a dtype.

    Same options, same state, state dicts from and to it and PyTorch's. Where the kernels do not run it is its parent.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """Update all parameters that have a gradient. A closure evaluates the loss anew, and its value is returned."""
        if not any(use_kernels(None, param) for group in self.param_groups for param in group["params"]):
            return super().step(closure)
        return self.fused_step(closure)

    @torch.no_grad()
    def fused_step(self, closure=None, *, fused: bool | None = None):
        """`step` by `adam_step_`, with its argument `fused`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for (_, _, step), (params, grads, states) in self._batches(group).items():
                for state in states:
                    state["step"] = step
                maxima = [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else None
                adam_step_(
                    params,
                    grads,
                    [state["exp_avg"] for state in states],
                    [state["exp_avg_sq"] for state in states],
                    step,
                    max_exp_avg_sqs=maxima,
                    fused=fused,
                    **{
                        name: group[name]
                        for name in ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize")
                    },
                )
        return loss


class AdamW(Adam):
    """`Adam` with decoupled weight decay, 0.01 unless given: the fused `course_lib.optimizers.AdamW`."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, **options):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options)
