"""Activation functions, each with its derivative written by hand, and autograd using exactly that derivative.

`elu(x)` is the value and `elu_derivative(x)` its slope, entry by entry. Where autograd runs through `elu`, what flows
back is grad · elu_derivative(x), also for second derivatives and under `torch.func`. `ACTIVATIONS` lists these. Softmax
mixes the entries of a row: its derivative is a matrix for each row, and `softmax_backward` the product with it.

At a kink the derivative is the one from the left, as in PyTorch. Everything keeps shape, dtype and device; bfloat16
and float16 are computed in float32 and rounded once, as the frameworks' kernels do. Formulas are arranged to stay
finite and accurate at ±1e4, and work in place on their own temporaries: a fresh tensor costs more than the arithmetic.

Sources: Nair & Hinton 2010 (ReLU); Maas et al. 2013 (leaky ReLU); He et al. 2015 (PReLU, arXiv:1502.01852); Clevert
et al. 2016 (ELU, arXiv:1511.07289); Klambauer et al. 2017 (SELU, arXiv:1706.02515); Hendrycks & Gimpel 2016 (GELU,
SiLU, arXiv:1606.08415); Elfwing et al. 2018 (SiLU, arXiv:1702.03118); Dugas et al. 2001 (softplus).
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ACTIVATIONS",
    "SELU_ALPHA",
    "SELU_SCALE",
    "Activation",
    "PReLU",
    "elu",
    "elu_derivative",
    "gelu",
    "gelu_derivative",
    "gelu_tanh",
    "gelu_tanh_derivative",
    "leaky_relu",
    "leaky_relu_derivative",
    "log_sigmoid",
    "log_sigmoid_derivative",
    "log_softmax",
    "log_softmax_backward",
    "log_softmax_derivative",
    "prelu",
    "prelu_backward",
    "prelu_derivative",
    "relu",
    "relu_derivative",
    "selu",
    "selu_derivative",
    "sigmoid",
    "sigmoid_derivative",
    "silu",
    "silu_derivative",
    "softmax",
    "softmax_backward",
    "softmax_derivative",
    "softplus",
    "softplus_derivative",
    "tanh",
    "tanh_derivative",
]

Function = Callable[..., Tensor]
BLOCK = 2**18  # numbers that a core's cache holds beside what is made of them


# How a hand-written derivative reaches autograd ------------------------------------------------------------


def rounded_once(function: Function) -> Function:
    """The function with bfloat16 and float16 inputs computed in float32, its result rounded to the input's dtype."""

    @functools.wraps(function)
    def rounded(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dtype in (torch.bfloat16, torch.float16):
            return function(x.float(), *args, **kwargs).to(x.dtype)
        return function(x, *args, **kwargs)

    return rounded


def signature_kept(cls: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """The class, its forward's signature worked out once: `apply` asks for it at every call, for 10 μs each."""
    cls.forward.__signature__ = inspect.signature(cls.forward)
    return cls


@signature_kept
class Elementwise(torch.autograd.Function):
    """y = value(x), and back grad · slope(kept), where `kept` is y if `keeps_output`, else x: one tensor of memory."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Function, slope: Function, keeps_output: bool) -> Tensor:
        return value(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, _, ctx.slope, keeps_output = inputs
        ctx.save_for_backward(output if keeps_output else x)
        ctx.save_for_forward(output if keeps_output else x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (kept,) = ctx.saved_tensors
        slope = ctx.slope(kept)
        return slope.mul_(grad) if plain(grad, kept) else slope * grad, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (kept,) = ctx.saved_tensors
        return ctx.slope(kept) * tangent


def plain(*tensors: Tensor) -> bool:
    """Whether what was made of these may be written over: not where a second derivative, torch.func, or a gradient of
    many gradients at once (a batch that hides behind one tensor) is at work.
    """
    hidden = torch._C._functorch.is_functorch_wrapped_tensor, torch._C._functorch.is_legacy_batchedtensor
    return not (torch.is_grad_enabled() or any(hides(tensor) for hides in hidden for tensor in tensors))


def differentiated_by(slope: Function, *, of_output: bool = False) -> Callable[[Function], Function]:
    """Give autograd `slope` as the derivative of a function: of its input, or of its output if `of_output`.

    Options of the function (alpha) go to the slope as well.
    """
    slope = rounded_once(slope)

    def decorate(value: Function) -> Function:
        rounded = rounded_once(value)

        @functools.wraps(value)
        def activation(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if not torch.is_grad_enabled():
                return rounded(x, *args, **kwargs)
            if not args and not kwargs:
                return Elementwise.apply(x, rounded, slope, of_output)
            return Elementwise.apply(
                x,
                lambda x: rounded(x, *args, **kwargs),
                lambda kept: slope(kept, *args, **kwargs),
                of_output,
            )

        return activation

    return decorate


def two_slopes(x: Tensor, left: float) -> Tensor:
    """1 where x > 0, else `left`: the slope of a line with a kink at 0."""
    # torch.where would say it plainly, but boolean masks are 6 to 40 times slower on a CPU
    return F.threshold_(x.sign(), 0, left)


# Sigmoid and tanh ------------------------------------------------------------------------------------------


def sigmoid_slope(y: Tensor) -> Tensor:
    """y (1 − y): the slope of the sigmoid where its value is y."""
    return (1 - y).mul_(y)


@differentiated_by(sigmoid_slope, of_output=True)
def sigmoid(x: Tensor) -> Tensor:
    """σ(x) = 1 / (1 + e⁻ˣ), from 0 to 1. 0 where e⁻ˣ overflows, which is right."""
    return torch.sigmoid(x)


@rounded_once
def sigmoid_derivative(x: Tensor) -> Tensor:
    """σ'(x) = σ(x) (1 − σ(x)): at most 1/4, at 0; it vanishes at both ends (the unit saturates)."""
    return sigmoid_slope(torch.sigmoid(x))


def tanh_slope(y: Tensor) -> Tensor:
    """1 − y²: the slope of tanh where its value is y."""
    return (y * y).neg_().add_(1)


@differentiated_by(tanh_slope, of_output=True)
def tanh(x: Tensor) -> Tensor:
    """tanh(x) = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) = 2σ(2x) − 1, from −1 to 1. As the fraction it would be NaN at large x."""
    return torch.tanh(x)


@rounded_once
def tanh_derivative(x: Tensor) -> Tensor:
    """tanh'(x) = 1 − tanh²(x): at most 1, at 0; it vanishes at both ends."""
    return tanh_slope(torch.tanh(x))


# Rectifiers ------------------------------------------------------------------------------------------------


@differentiated_by(torch.sign, of_output=True)  # the value is 0 or positive, so its sign is the slope
def relu(x: Tensor) -> Tensor:
    """max(0, x). Its slope does not shrink however large x is, and is 0 for every x ≤ 0."""
    return x.clamp(min=0)


def relu_derivative(x: Tensor) -> Tensor:
    """1 where x > 0, else 0 (at 0 too)."""
    return two_slopes(x, 0)


def leaky_relu_derivative(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """1 where x > 0, else `negative_slope` (at 0 too): never 0, so the unit can't die."""
    return two_slopes(x, negative_slope)


@differentiated_by(leaky_relu_derivative)
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope · x; for slopes up to 1 that is max(x, negative_slope · x).

    Deliberately naive: two passes over memory where PyTorch makes one.
    """
    if negative_slope == 0:
        return x.clamp(min=0)  # 0 · ∞ would be NaN
    leak = negative_slope * x
    return torch.maximum(leak, x) if negative_slope <= 1 else torch.minimum(leak, x)


# ELU and SELU ----------------------------------------------------------------------------------------------


@rounded_once
def elu_derivative(x: Tensor, alpha: float = 1.0) -> Tensor:
    """1 where x > 0, else α eˣ. It jumps from α to 1 at 0, so only with α = 1 is ELU smooth there.

    Deliberately naive: three passes over memory (six for α ≠ 1) where PyTorch makes one.
    """
    growth = x.clamp(max=0).exp_()  # 1 where x > 0
    return growth if alpha == 1 else two_slopes(x, alpha).mul_(growth)


@differentiated_by(elu_derivative)
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else α (eˣ − 1), for any α. It saturates at −α."""
    # expm1: eˣ − 1 without cancellation near 0; and without overflow, as x > 0 never enters it
    return x.clamp(max=0).expm1_().mul_(alpha).add_(x.clamp(min=0))


def selu_constants() -> tuple[float, float]:
    """The α and scale for which SELU maps mean 0 and variance 1 of a normal z to mean 0 and variance 1.

    f(z) = scale · (max(z, 0) + α (e^min(z, 0) − 1)). The mean is 0 where E[z⁺] = α E[1 − e^z; z < 0], and the variance
    1 where scale² (E[z⁺²] + α² E[(1 − e^z)²; z < 0]) = 1. With Φ the normal distribution function, E[z⁺] = 1/√(2π),
    E[z⁺²] = 1/2 and E[e^(kz); z < 0] = e^(k²/2) Φ(−k). Klambauer et al. 2017, equation 14.
    """
    tail = [math.exp(k * k / 2) * math.erfc(k / math.sqrt(2)) / 2 for k in (0, 1, 2)]  # E[e^(kz); z < 0]
    alpha = 1 / math.sqrt(2 * math.pi) / (tail[0] - tail[1])
    scale = 1 / math.sqrt(1 / 2 + alpha**2 * (tail[0] - 2 * tail[1] + tail[2]))
    return alpha, scale


SELU_ALPHA, SELU_SCALE = selu_constants()


@rounded_once
def selu_derivative(x: Tensor) -> Tensor:
    """scale where x > 0, else scale · α eˣ. Deliberately naive: seven passes over memory where PyTorch
    makes one.
    """
    return elu_derivative(x, SELU_ALPHA).mul_(SELU_SCALE)


@differentiated_by(selu_derivative)
def selu(x: Tensor) -> Tensor:
    """scale · elu(x, α) with the one α and scale that keep mean 0 and variance 1 from layer to layer.

    That holds for independent inputs and weights of variance 1/fan_in (`initializers.lecun_normal_`).
    """
    return x.clamp(max=0).expm1_().mul_(SELU_ALPHA * SELU_SCALE).add_(x.clamp(min=0), alpha=SELU_SCALE)


# GELU and SiLU ---------------------------------------------------------------------------------------------


def normal_cdf(x: Tensor) -> Tensor:
    """Φ(x), the share of a standard normal variable below x, accurate in both tails."""
    return (x * -math.sqrt(0.5)).erfc_().mul_(0.5)  # (1 + erf) / 2 would lose every digit below x = −8


@rounded_once
def gelu_derivative(x: Tensor) -> Tensor:
    """Φ(x) + x φ(x), with φ(x) = e^(−x²/2) / √(2π). Below 0 for x < −0.75; NaN at ±∞.

    Deliberately naive: eight passes over memory where PyTorch makes one.
    """
    bell = (x * x).mul_(-0.5).exp_()
    return normal_cdf(x).add_(bell * x, alpha=1 / math.sqrt(2 * math.pi))


@differentiated_by(gelu_derivative)
def gelu(x: Tensor) -> Tensor:
    """x Φ(x): x times the chance that a standard normal variable is below it. NaN at −∞, as in both frameworks.

    Deliberately naive: four passes over memory where PyTorch makes one. For x < −2 more accurate than PyTorch's, which
    forms Φ as (1 + erf) / 2.
    """
    return normal_cdf(x).mul_(x)


CUBIC, STEEPNESS = 0.044715, 2 * math.sqrt(2 / math.pi)


def gelu_gate(x: Tensor) -> Tensor:
    """(1 + tanh u) / 2 = σ(2u), with u = √(2/π) (x + 0.044715 x³): close to Φ(x), by less than 5e-4."""
    return torch.addcmul(x.new_tensor(STEEPNESS), x, x, value=STEEPNESS * CUBIC).mul_(x).sigmoid_()


@rounded_once
def gelu_tanh_derivative(x: Tensor) -> Tensor:
    """s + x s (1 − s) · 2u'(x), with s = σ(2u) and u' = √(2/π) (1 + 3 · 0.044715 x²). NaN at ±∞."""
    gate = gelu_gate(x)
    slope = torch.addcmul(x.new_tensor(STEEPNESS), x, x, value=3 * STEEPNESS * CUBIC)
    return slope.mul_(x).mul_(1 - gate).add_(1).mul_(gate)


@differentiated_by(gelu_tanh_derivative)
def gelu_tanh(x: Tensor) -> Tensor:
    """x (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³): the approximation of GELU that many published nets use.

    PyTorch: `gelu(x, approximate="tanh")`; Keras: `gelu(x, approximate=True)`. NaN at −∞, as there.
    """
    return gelu_gate(x).mul_(x)


@rounded_once
def silu_derivative(x: Tensor) -> Tensor:
    """s (1 + x (1 − s)), with s = σ(x). NaN at ±∞, as in PyTorch.

    Deliberately naive: five passes over memory where PyTorch makes one.
    """
    s = torch.sigmoid(x)
    return (1 - s).mul_(x).add_(1).mul_(s)


@differentiated_by(silu_derivative)
def silu(x: Tensor) -> Tensor:
    """x σ(x), also called swish. NaN at −∞, as in both frameworks."""
    return torch.sigmoid(x).mul_(x)


# Softplus and log-sigmoid ----------------------------------------------------------------------------------


def softplus_derivative(x: Tensor) -> Tensor:
    """σ(x): softplus is what the sigmoid is the slope of."""
    return torch.sigmoid(x)


@differentiated_by(softplus_derivative)
def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|): the second form never overflows. A smooth ReLU."""
    return torch.logaddexp(x, x.new_zeros(()))


@rounded_once
def log_sigmoid_derivative(x: Tensor) -> Tensor:
    """1 − σ(x) = σ(−x): the second form keeps its digits where σ(x) is near 1.

    Deliberately naive: three passes over memory where PyTorch makes one, from what it kept of the forward pass.
    """
    return x.neg().sigmoid_()


@differentiated_by(log_sigmoid_derivative)
def log_sigmoid(x: Tensor) -> Tensor:
    """log σ(x) = min(x, 0) − log(1 + e^−|x|) = −softplus(−x). log(sigmoid(x)) would be −∞ below −104 in float32."""
    return torch.logaddexp(-x, x.new_zeros(())).neg_()


@dataclass(frozen=True)
class Activation:
    """An elementwise activation and its derivative, both taking x and the same options (alpha), if any."""

    name: str
    value: Function
    derivative: Function


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("sigmoid", sigmoid, sigmoid_derivative),
        Activation("tanh", tanh, tanh_derivative),
        Activation("relu", relu, relu_derivative),
        Activation("leaky_relu", leaky_relu, leaky_relu_derivative),
        Activation("elu", elu, elu_derivative),
        Activation("selu", selu, selu_derivative),
        Activation("gelu", gelu, gelu_derivative),
        Activation("gelu_tanh", gelu_tanh, gelu_tanh_derivative),
        Activation("silu", silu, silu_derivative),
        Activation("softplus", softplus, softplus_derivative),
        Activation("log_sigmoid", log_sigmoid, log_sigmoid_derivative),
    )
}


# PReLU: the slope is learned -------------------------------------------------------------------------------


def along_channels(alpha: Tensor, x: Tensor) -> Tensor:
    """alpha (1,) or (C,) shaped to broadcast against x (N, C, ...). Raises ValueError for any other alpha."""
    channels = x.shape[1] if x.dim() > 1 else 1
    if alpha.dim() != 1 or alpha.numel() not in (1, channels):
        raise ValueError(
            f"prelu needs one slope or one for each of {channels} channels, got alpha of shape {tuple(alpha.shape)}"
        )
    return alpha.reshape(()) if alpha.numel() == 1 else alpha.reshape(-1, *[1] * (x.dim() - 2))


@rounded_once
def prelu_derivative(x: Tensor, alpha: Tensor) -> Tensor:
    """The slope by x: 1 where x > 0, else the channel's alpha. The slope by alpha is min(x, 0)."""
    right = two_slopes(x, 0)
    return (1 - right).mul_(along_channels(alpha, x).to(x.dtype)).add_(right)


def prelu_value(x: Tensor, alpha: Tensor) -> Tensor:
    return x.clamp(max=0).mul_(along_channels(alpha, x)).add_(x.clamp(min=0))


def prelu_backward(grad: Tensor, x: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients at x and at alpha: grad · prelu_derivative(x, alpha), and Σ grad · min(x, 0) over alpha's entries.

    x and grad are (N, C, ...), alpha (1,) or (C,), as in `prelu`.
    """
    shared = [dim for dim in range(x.dim()) if alpha.numel() == 1 or dim != 1]  # the dimensions that share a slope
    to_alpha = (x.clamp(max=0) * grad).sum(shared)
    return prelu_derivative(x, alpha) * grad, to_alpha.reshape(alpha.shape)


@signature_kept
class PReLUFunction(torch.autograd.Function):
    """`prelu` with `prelu_backward`."""

    @staticmethod
    def forward(x: Tensor, alpha: Tensor) -> Tensor:
        if x.is_cuda or x.numel() <= BLOCK or not ((alpha <= 1) & (alpha != 0)).all():
            return prelu_value(x, alpha)
        # Such slopes make it max(x, alpha · x): two passes, and the second one finds its block in the cache.
        y, slopes = torch.empty_like(x), along_channels(alpha, x)
        length = max(1, BLOCK // x[0].numel())
        for x_block, y_block in zip(x.split(length), y.split(length), strict=True):
            torch.maximum(x_block, torch.mul(x_block, slopes, out=y_block), out=y_block)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return prelu_backward(grad, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, alpha: Tensor) -> tuple[Tensor, int]:
        return torch.vmap(prelu_value, in_dims)(x, alpha), 0


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x > 0, else alpha · x, with alpha learned: x (N, C, ...), alpha (1,) for all or (C,), one a channel.

    Raises ValueError for an alpha of another shape. He et al. 2015.
    """
    return PReLUFunction.apply(x, alpha)


class PReLU(nn.Module):
    """`prelu` with its slopes as the parameter `weight`, (num_parameters,), which starts at `init`, as in PyTorch.

    num_parameters is 1, or the number of channels (dimension 1 of the input). Weight decay would pull the slopes to 0,
    that is to ReLU: leave it off them. Raises ValueError for fewer than one parameter.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        super().__init__()
        if num_parameters < 1:
            raise ValueError(f"num_parameters has to be at least 1, but got {num_parameters}")
        self.weight = nn.Parameter(torch.full((num_parameters,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        return prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.weight.numel()}"


# Softmax: the entries of a row depend on each other ----------------------------------------------------------


def below_maximum(x: Tensor, dim: int) -> Tensor:
    """x minus its maximum along dim: the largest is 0, so that no exponential overflows."""
    return x - x.amax(dim, keepdim=True) if x.numel() else x.clone()


@rounded_once
def softmax_value(x: Tensor, dim: int) -> Tensor:
    shares = below_maximum(x, dim).exp_()
    return shares.div_(shares.sum(dim, keepdim=True))


def softmax_backward(grad: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """y · (grad − Σ grad · y): what reaches x, from the gradient at y = softmax(x, dim)."""
    weighted = grad * y
    total = weighted.sum(dim, keepdim=True)
    return torch.addcmul(weighted, y, total, value=-1, out=weighted if plain(grad, y) else None)


@rounded_once
def log_softmax_value(x: Tensor, dim: int) -> Tensor:
    z = below_maximum(x, dim)
    return z.sub_(z.exp().sum(dim, keepdim=True).log_())


def log_softmax_backward(grad: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """grad − eʸ Σ grad: what reaches x, from the gradient at y = log_softmax(x, dim).

    Deliberately naive: four passes over memory where PyTorch makes one.
    """
    shares = y.exp()
    total = grad.sum(dim, keepdim=True)
    return torch.addcmul(grad, shares, total, value=-1, out=shares if plain(grad, y) else None)


@signature_kept
class Rowwise(torch.autograd.Function):
    """y = value(x, dim), and back `backward_rule(grad, y, dim)`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int, value: Function, backward_rule: Function) -> Tensor:
        return value(x, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.dim, _, ctx.backward_rule = inputs
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (y,) = ctx.saved_tensors
        return ctx.backward_rule(grad, y, ctx.dim), None, None, None


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """e^xᵢ / Σ e^xⱼ along dim: positive, with sum 1. Adding a number to a whole row changes nothing.

    NaN for a row that holds +∞ or nothing but −∞, as in PyTorch; a single −∞ gives 0. Deliberately naive: five passes
    over memory where PyTorch makes one. On rows of ten it is the faster.
    """
    return Rowwise.apply(x, dim, softmax_value, softmax_backward)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """xᵢ − log Σ e^xⱼ along dim: finite where log(softmax(x)) is −∞.

    Deliberately naive: five passes over memory where PyTorch makes one. On rows of ten it is the faster.
    """
    return Rowwise.apply(x, dim, log_softmax_value, log_softmax_backward)


@rounded_once
def softmax_derivative(x: Tensor) -> Tensor:
    """∂yᵢ/∂xⱼ = yᵢ (δᵢⱼ − yⱼ) for y = softmax(x) of the last dimension: x (..., C) → (..., C, C).

    Deliberately naive: `softmax_backward` multiplies by it without writing it down.
    """
    y = softmax_value(x, -1)
    return torch.diag_embed(y) - y.unsqueeze(-1) * y.unsqueeze(-2)


@rounded_once
def log_softmax_derivative(x: Tensor) -> Tensor:
    """∂ log yᵢ/∂xⱼ = δᵢⱼ − yⱼ for y = softmax(x) of the last dimension: x (..., C) → (..., C, C).

    Deliberately naive: `log_softmax_backward` multiplies by it without writing it down.
    """
    y = softmax_value(x, -1)
    return torch.diag_embed(torch.ones_like(y)) - y.unsqueeze(-2)
