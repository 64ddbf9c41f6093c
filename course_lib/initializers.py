"""Where a net's weights start: fans, the variance that keeps the signal's size, and the draws.

A unit that sums `fan_in` independent inputs of mean 0 multiplies their variance by fan_in · Var(w); a gradient on its
way back is multiplied by fan_out · Var(w). Every rule here is a compromise between the two, or a correction for what
the nonlinearity removes.

Names that end in `_` write into the tensor and return it, take a `generator`, and keep dtype and device. A tensor
without elements stays as it is. Where the kernel is not a plain one in PyTorch's layout, give the draw its fans:
`xavier_uniform_(conv.weight, fans=compute_fans(conv.weight.shape, transposed=True))`.

Sources: LeCun et al. 1998 (Efficient BackProp); Glorot & Bengio 2010; Saxe et al. 2014 (arXiv:1312.6120); He et al.
2015 (arXiv:1502.01852); Mishkin & Matas 2016 (LSUV, arXiv:1511.06422); Mezzadri 2007 (random orthogonal matrices,
arXiv:math-ph/0609050); Karpathy 2019, A Recipe for Training Neural Networks (the output's bias).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.training import modes_kept

__all__ = [
    "Fans",
    "LsuvStep",
    "compute_fans",
    "constant_",
    "gain",
    "glorot_normal_",
    "glorot_uniform_",
    "he_normal_",
    "he_uniform_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "lenet_uniform_",
    "lsuv_",
    "moment_gain",
    "orthogonal_",
    "output_bias_",
    "trunc_normal_",
    "truncated_deviation",
    "variance_scaling_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Generator = torch.Generator | None


# Fans ------------------------------------------------------------------------------------------------------


class Fans(NamedTuple):
    """How many inputs one output sums (fan_in), and how many outputs one input reaches (fan_out)."""

    fan_in: int
    fan_out: int


def compute_fans(
    shape: Sequence[int],
    *,
    layout: Literal["torch", "keras"] = "torch",
    groups: int = 1,
    transposed: bool = False,
    depthwise: bool = False,
) -> Fans:
    """The fans of a dense or convolution kernel of this shape: channels × receptive field, for stride 1.

    | kernel       | layout="torch"                  | layout="keras"                  |
    |--------------|---------------------------------|---------------------------------|
    | dense        | (out, in)                       | (in, out)                       |
    | convolution  | (out, in / groups, *field)      | (*field, in / groups, out)      |
    | transposed   | (in, out / groups, *field)      | (*field, out / groups, in)      |
    | depthwise    | groups = in: (out, 1, *field)   | depthwise: (*field, in, out/in) |

    Without options it is what both frameworks' initializers use, for every kernel: they know the shape only. So they
    swap the fans of a transposed convolution, count a grouped one's fan_out `groups` times, and Keras counts a
    depthwise one's fan_in for all channels. The options give the true ones. At the image's border a unit has fewer
    inputs, and with stride s a convolution's fan_out (a transposed one's fan_in) is s² times less on average: both are
    left out, as everybody does.

    Raises ValueError for fewer than two dimensions, an unknown layout, groups that don't divide the channels, and
    `depthwise` with PyTorch's layout, where it is spelt groups = in_channels.
    """
    shape = tuple(shape)
    if len(shape) < 2:
        raise ValueError(f"fans need a kernel of two or more dimensions, got shape {shape}")
    if layout == "torch":
        outward, inward, field = shape[0], shape[1], math.prod(shape[2:])
    elif layout == "keras":
        outward, inward, field = shape[-1], shape[-2], math.prod(shape[:-2])
    else:
        raise ValueError(f"layout has to be 'torch' or 'keras', but got {layout!r}")
    if depthwise:
        if layout == "torch" or transposed or groups != 1:
            raise ValueError("depthwise goes with layout='keras' alone; in PyTorch's layout give groups=in_channels")
        return Fans(field, outward * field)
    if groups < 1 or outward % groups:
        raise ValueError(f"groups have to divide the {outward} channels, but got {groups}")
    # the shape holds one side's channels in full, and of the other side's one group
    fans = Fans(inward * field, outward // groups * field)
    return Fans(fans.fan_out, fans.fan_in) if transposed else fans


# Gains -----------------------------------------------------------------------------------------------------


def gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the deviation of weights before this nonlinearity: PyTorch's table (`nn.init.calculate_gain`).

    linear and sigmoid 1; relu √2; leaky_relu √(2 / (1 + param²)), param = 0.01 unless given; tanh 5/3; selu 3/4. The
    rectifiers' are derived, tanh's and selu's found by trial; the sigmoid's 1 keeps no variance at all. For what is not
    in the table, and to see what a function really needs, take `moment_gain`. Raises ValueError for other names.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity not in gains:
        raise ValueError(
            f"no gain is tabled for {nonlinearity!r}, only for {', '.join([*gains, 'leaky_relu'])}; "
            "moment_gain(function) computes one"
        )
    return gains[nonlinearity]


def moment_gain(function: Callable[[Tensor], Tensor]) -> float:
    """1 / √E[f(z)²] for a standard normal z: weights of variance gain² / fan_in keep the signal's second moment.

    For f = relu that is √2. Given a derivative, it keeps the *gradient's* second moment, with fan_out. Integrated to 12
    digits for functions that are smooth but for 0. Raises ValueError where f is 0 or not finite.
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)
    half = torch.from_numpy(6 * (nodes + 1))  # 0 to 12, and its mirror image: a kink at 0 stays at the edge
    density = torch.from_numpy(6 * weights) * (half.square() / -2).exp() / math.sqrt(2 * math.pi)
    moment = float(((function(half).square() + function(-half).square()) * density).sum())
    if not 0 < moment < math.inf:
        raise ValueError(f"the function's second moment has to be positive and finite, but is {moment}")
    return 1 / math.sqrt(moment)


# Draws of a given variance ---------------------------------------------------------------------------------


@torch.no_grad()
def zeros_(tensor: Tensor) -> Tensor:
    """All 0. Right for biases; a layer of zero weights passes no gradient to the layer below."""
    return tensor.zero_()


@torch.no_grad()
def constant_(tensor: Tensor, value: float) -> Tensor:
    """All `value`. As weights: every unit of the layer computes the same and gets the same gradient, for ever."""
    return tensor.fill_(value)


def drawn_uniform_(tensor: Tensor, std: float, generator: Generator) -> Tensor:
    """U(−√3 std, √3 std), whose deviation is std."""
    bound = math.sqrt(3.0) * std
    with torch.no_grad():
        return tensor.uniform_(-bound, bound, generator=generator)


def drawn_normal_(tensor: Tensor, std: float, generator: Generator) -> Tensor:
    with torch.no_grad():
        return tensor.normal_(0, std, generator=generator)


def xavier_deviation(tensor: Tensor, gain: float, fans: Fans | None) -> float:
    """gain · √(2 / (fan_in + fan_out)): between 1/√fan_in, for the signal, and 1/√fan_out, for the gradient."""
    fans = fans or compute_fans(tensor.shape)
    return gain * math.sqrt(2.0 / max(1, fans.fan_in + fans.fan_out))


def kaiming_deviation(tensor: Tensor, a: float, mode: str, nonlinearity: str, fans: Fans | None) -> float:
    """gain / √fan."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode has to be 'fan_in' or 'fan_out', but got {mode!r}")
    fans = fans or compute_fans(tensor.shape)
    return gain(nonlinearity, a) / math.sqrt(max(1, getattr(fans, mode)))


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator = None, *, fans: Fans | None = None
) -> Tensor:
    """U(−b, b), b = gain · √(6 / (fan_in + fan_out)). Glorot & Bengio 2010; bit for bit PyTorch's."""
    return drawn_uniform_(tensor, xavier_deviation(tensor, gain, fans), generator)


def xavier_normal_(
    tensor: Tensor, gain: float = 1.0, generator: Generator = None, *, fans: Fans | None = None
) -> Tensor:
    """N(0, gain² · 2 / (fan_in + fan_out)). Bit for bit PyTorch's; Keras's GlorotNormal is truncated."""
    return drawn_normal_(tensor, xavier_deviation(tensor, gain, fans), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
    *,
    fans: Fans | None = None,
) -> Tensor:
    """U(−b, b), b = gain · √(3 / fan). He et al. 2015; bit for bit PyTorch's.

    gain is `gain(nonlinearity, a)`: by default √(2 / (1 + a²)), for a leaky ReLU of slope a, so for a = 0 √2, ReLU's.
    PyTorch's own layers start with a = √5: b = 1/√fan_in. Raises ValueError for another mode or nonlinearity.
    """
    return drawn_uniform_(tensor, kaiming_deviation(tensor, a, mode, nonlinearity, fans), generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
    *,
    fans: Fans | None = None,
) -> Tensor:
    """N(0, gain² / fan), the options as in `kaiming_uniform_`. Bit for bit PyTorch's; Keras's HeNormal is truncated."""
    return drawn_normal_(tensor, kaiming_deviation(tensor, a, mode, nonlinearity, fans), generator)


def lecun_uniform_(tensor: Tensor, generator: Generator = None, *, fans: Fans | None = None) -> Tensor:
    """U(−b, b), b = √(3 / fan_in): variance 1 / fan_in. LeCun et al. 1998."""
    return drawn_uniform_(tensor, kaiming_deviation(tensor, 0, "fan_in", "linear", fans), generator)


def lecun_normal_(tensor: Tensor, generator: Generator = None, *, fans: Fans | None = None) -> Tensor:
    """N(0, 1 / fan_in), as SELU needs it. Keras's LecunNormal is truncated."""
    return drawn_normal_(tensor, kaiming_deviation(tensor, 0, "fan_in", "linear", fans), generator)


def lenet_uniform_(tensor: Tensor, generator: Generator = None, *, fans: Fans | None = None) -> Tensor:
    """U(−1/fan_in, 1/fan_in): variance 1 / (3 fan_in²), so a layer divides the signal's variance by 3 fan_in.

    Once a tutorial's rule for LeNet; it is √(3 fan_in) times too narrow to keep the signal.
    """
    fan_in = (fans or compute_fans(tensor.shape)).fan_in
    with torch.no_grad():
        return tensor.uniform_(-1 / max(1, fan_in), 1 / max(1, fan_in), generator=generator)


glorot_uniform_, glorot_normal_ = xavier_uniform_, xavier_normal_  # Keras names these by their first authors' surnames
he_uniform_, he_normal_ = kaiming_uniform_, kaiming_normal_


def truncated_deviation(cutoff: float) -> float:
    """The deviation of a standard normal variable cut off at ±cutoff: √(1 − 2c φ(c) / (2Φ(c) − 1)); 0.8796 for 2.

    Raises ValueError unless cutoff > 0.
    """
    if not cutoff > 0:
        raise ValueError(f"cutoff has to be positive, but got {cutoff}")
    if cutoff == math.inf:
        return 1.0
    if cutoff < 1e-2:  # the formula cancels; its series is U(−c, c) with a correction
        return cutoff / math.sqrt(3) * (1 - cutoff**2 / 15)
    density = math.exp(-(cutoff**2) / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - 2 * cutoff * density / math.erf(cutoff / math.sqrt(2)))


@torch.no_grad()
def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, cutoff: float = 2.0, generator: Generator = None
) -> Tensor:
    """A normal draw without its tails, of deviation `std` *after* the cut; nothing lies beyond cutoff · std / d.

    d = truncated_deviation(cutoff) undoes what the cut removes, as in Keras's HeNormal and VarianceScaling. Neither
    PyTorch's `trunc_normal_` nor Keras's TruncatedNormal does so: their std is the one before the cut, and PyTorch's
    bounds a, b are absolute, not in deviations. Drawn by the inverse of the distribution function: one uniform number
    an element, no loop of rejections. Raises ValueError unless cutoff > 0 and std ≥ 0.
    """
    if not std >= 0:
        raise ValueError(f"std has to be 0 or more, but got {std}")
    parent = std / truncated_deviation(cutoff)
    half = tensor.dtype in (torch.bfloat16, torch.float16)  # too coarse for the inverse near the ends
    z = torch.empty_like(tensor, dtype=torch.float32) if half else tensor
    share = math.erf(cutoff / math.sqrt(2))
    z.uniform_(-share, share, generator=generator).erfinv_().mul_(math.sqrt(2))
    z.clamp_(-cutoff, cutoff).mul_(parent).add_(mean)
    return tensor.copy_(z) if half else tensor


def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
    distribution: Literal["truncated_normal", "untruncated_normal", "uniform"] = "truncated_normal",
    generator: Generator = None,
    *,
    fans: Fans | None = None,
) -> Tensor:
    """A draw of variance scale / fan, from which all the named rules follow. Keras's VarianceScaling.

    Glorot: scale 1, fan_avg. He: 2, fan_in. LeCun: 1, fan_in. PyTorch's own layers: 1/3, fan_in, uniform. Raises
    ValueError unless scale > 0, and for another mode or distribution.
    """
    if not scale > 0:
        raise ValueError(f"scale has to be positive, but got {scale}")
    fans = fans or compute_fans(tensor.shape)
    by_mode = {"fan_in": fans.fan_in, "fan_out": fans.fan_out, "fan_avg": (fans.fan_in + fans.fan_out) / 2}
    if mode not in by_mode:
        raise ValueError(f"mode has to be one of {', '.join(by_mode)}, but got {mode!r}")
    std = math.sqrt(scale / max(1, by_mode[mode]))
    if distribution == "uniform":
        return drawn_uniform_(tensor, std, generator)
    if distribution == "untruncated_normal":
        return drawn_normal_(tensor, std, generator)
    if distribution == "truncated_normal":
        return trunc_normal_(tensor, std=std, generator=generator)
    raise ValueError(
        f"distribution has to be uniform, untruncated_normal or truncated_normal, but got {distribution!r}"
    )


@torch.no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """gain · a random matrix with orthonormal rows (or columns, if there are more rows): it stretches no direction.

    The kernel (out, in, *field) counts as the matrix (out, in · field). The Q of a normal matrix's QR, R's diagonal
    made positive, without which Q would not be uniform (Mezzadri 2007). Bit for bit PyTorch's, and works where that one
    does not: bfloat16, float16, channels last. Raises ValueError for fewer than two dimensions.
    """
    if tensor.dim() < 2:
        raise ValueError(f"an orthogonal kernel has two or more dimensions, got shape {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        return tensor
    dtype = torch.float32 if tensor.dtype in (torch.bfloat16, torch.float16) else tensor.dtype  # QR knows no less
    rows, columns = tensor.shape[0], tensor.shape[1:].numel()
    matrix = torch.empty(rows, columns, dtype=dtype, device=tensor.device).normal_(generator=generator)
    q, r = torch.linalg.qr(matrix.T if rows < columns else matrix)
    q *= torch.ones_like(q[0]).copysign_(r.diagonal())  # not sign(): it would turn a 0 into a column of zeros
    return tensor.copy_((q.T if rows < columns else q).reshape(tensor.shape)).mul_(gain)


# What depends on the data ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LsuvStep:
    """What `lsuv_` did to one layer: its output's variance before and after, and how often it was rescaled."""

    name: str
    before: float
    after: float
    rescalings: int


WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def lsuv_(
    net: nn.Module,
    x: Tensor,
    *,
    tolerance: float = 0.01,
    max_rescalings: int = 10,
    generator: Generator = None,
    layers: tuple[type[nn.Module], ...] = WEIGHTED,
) -> tuple[LsuvStep, ...]:
    """Give every layer of the net orthonormal weights, then scale them so that its output on x has variance 1.

    Layer-sequential unit variance: in the order in which the layers run, w ← w / √Var(output) until |Var − 1| ≤
    tolerance. All happens in one forward pass, in evaluation: each layer hands on its rescaled output. Biases stay as
    they are; the modules' modes come back. Returns what was done, layer by layer, a layer that runs twice only once.
    Mishkin & Matas 2016.

    Raises ValueError where a layer's output is constant or not finite, where its variance is not near 1 after
    `max_rescalings` (as biases larger than the signal cause), where its weight is not a plain parameter (a
    parametrization would ignore the change), and where no layer ran. Layers that ran before are changed by then.
    """
    names = {module: name for name, module in net.named_modules()}
    steps: dict[nn.Module, LsuvStep] = {}

    def rescale(layer: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor | None:
        if layer in steps:
            return None
        if "weight" not in layer._parameters:
            raise ValueError(f"the weight of layer {names[layer]!r} is computed from something else: initialize that")
        orthogonal_(layer.weight, generator=generator)
        variances = []
        while True:
            output = layer.forward(*args, **kwargs)
            variance = float(output.float().var(correction=0)) if output.numel() else math.nan
            if not 0 < variance < math.inf:
                raise ValueError(f"the output of layer {names[layer]!r} has variance {variance}: no scale makes it 1")
            variances.append(variance)
            if abs(variance - 1) <= tolerance:
                break
            if len(variances) > max_rescalings:
                raise ValueError(
                    f"after {max_rescalings} rescalings the output of layer {names[layer]!r} has variance {variance}: "
                    "zeros_ the biases first, they may be larger than the signal"
                )
            layer.weight.div_(math.sqrt(variance))
        steps[layer] = LsuvStep(names[layer], variances[0], variances[-1], len(variances) - 1)
        return output

    hooks = [m.register_forward_hook(rescale, with_kwargs=True) for m in net.modules() if isinstance(m, layers)]
    try:
        with modes_kept(net):
            net.eval()
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not steps:
        raise ValueError("no layer with weights ran: name your layer classes in `layers`")
    return tuple(steps.values())


@torch.no_grad()
def output_bias_(bias: Tensor, class_counts: Tensor | Sequence[float]) -> Tensor:
    """The output layer's bias for which an untrained net predicts the classes' shares: the first loss is their entropy.

    log shareᵢ for a softmax over C classes: bias (C,), class_counts (C,), counts or shares. For one logistic unit: bias
    (1,), class_counts (negatives, positives), log(positives / negatives). Without it the first steps learn only this.
    Raises ValueError for other shapes and unless every count is positive and finite (a share of 0 asks for −∞).
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64, device=bias.device)
    logistic = bias.shape == (1,) and counts.shape == (2,)
    if bias.dim() != 1 or not (logistic or counts.shape == bias.shape):
        raise ValueError(
            f"a bias of shape {tuple(bias.shape)} does not fit class counts of shape {tuple(counts.shape)}"
        )
    if not bool((counts.isfinite() & (counts > 0)).all()):
        raise ValueError("every class needs a positive, finite count: add one to each if a class is missing")
    log_shares = (counts / counts.sum()).log()
    return bias.copy_(log_shares[1:] - log_shares[:1] if logistic else log_shares)
