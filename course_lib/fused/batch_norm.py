"""Batch norm and the activation after it, in training mode, as one operation."""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib import normalization
from course_lib.fused.backend import COMPILER_OPTIONS, multiprocessors, refuse_second_derivative, use_kernels

__all__ = ["batch_norm_activation"]

TILE = 4096  # elements that a program holds at once: 16 for each of 256 threads
WARPS = 8
PROGRAMS = 4  # for each multiprocessor: about as many as are resident together


def batch_norm_activation(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: str = "none",
    negative_slope: float = 0.01,
    fused: bool | None = None,
) -> Tensor:
    """f((x − μ) / √(σ² + eps) · weight + bias), with the batch's μ and σ²: x (N, C, ...) → x's shape, dtype and format.

    f is the `activation`: "none", "relu" or "leaky_relu" (with `negative_slope`). The running statistics (C,), where
    given, are updated in place: running ← (1 − momentum) · running + momentum · batch, with the unbiased variance, as
    PyTorch does. The readable version is `course_lib.normalization.batch_norm` and torch's activation.

    The kernels save for the backward pass x and two numbers a channel, and recompute the sign that the activation saw:
    neither y nor a mask is stored. They can be differentiated once (RuntimeError with create_graph).
    σ² comes from sums of (x − k)², k the mean of the first tile of x that a program sees: in T tiles that loses at most
    the factor 1 + T of precision, whatever x is, where E[x²] − E[x]² would lose every digit at μ ≫ σ. Results do not
    depend on the order in which programs run. A channel with an infinite value becomes NaN, its running mean too.
    Speed unmeasured (see the package); where H · W is odd, accesses are one element wide and will be slower.

    Raises ValueError for an unknown activation, for x without channels, for one value a channel, and where a parameter
    is not of shape (C,). Ioffe & Szegedy 2015.
    """
    slopes = {"none": 1.0, "relu": 0.0, "leaky_relu": negative_slope}
    if activation not in slopes:
        raise ValueError(f"activation has to be one of {', '.join(slopes)}, but got {activation!r}")
    normalization.check_values_per_channel(x)
    named = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, values in named.items():
        if values is not None and values.shape != x.shape[1:2]:
            raise ValueError(f"{name} has to be of shape ({x.shape[1]},), but got {tuple(values.shape)}")
    if use_kernels(fused, x, *named.values()):
        return FusedBatchNorm.apply(x, weight, bias, running_mean, running_var, momentum, eps, slopes[activation])
    y, mean, var = normalization.batch_norm(x, weight, bias, eps)
    with torch.no_grad():
        if running_mean is not None and x.numel():
            running_mean.copy_(normalization.running_update(running_mean, mean, momentum))
        if running_var is not None and x.numel():
            var = normalization.unbiased(var, x.numel() // x.shape[1])
            running_var.copy_(normalization.running_update(running_var, var, momentum))
    return y if activation == "none" else F.relu(y) if activation == "relu" else F.leaky_relu(y, negative_slope)


@dataclass(frozen=True)
class Tiling:
    """How the kernels see x in memory, as (outer, channels, inner), and cut it into tiles.

    A contiguous x is (N, C, spatial); in channels_last it is (N · spatial, C, 1). The VECTORs divide their dimensions,
    which lets the compiler prove that addresses are aligned and use 16-byte accesses.
    """

    outer: int
    channels: int
    inner: int
    OUTER_BLOCK: int
    CHANNEL_BLOCK: int
    INNER_BLOCK: int
    CHANNEL_VECTOR: int
    INNER_VECTOR: int


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def tiling(x: Tensor) -> Tiling:
    channels = x.shape[1]
    inner = math.prod(x.shape[2:]) if x.is_contiguous() else 1
    outer = x.numel() // (channels * inner)
    channel_block = min(power_of_two(channels), 64) if inner == 1 else 1
    # of the blocks that fill a tile, the one with the fewest lanes idle at the end of a row; of equals, the largest
    longest = min(power_of_two(inner), TILE)
    blocks = [block for block in (1024, 512, 256, 128, 64) if block * power_of_two(outer) >= TILE and block < longest]
    inner_block = min([longest, *blocks], key=lambda block: math.ceil(inner / block) * block)
    outer_block = min(power_of_two(outer), TILE // (channel_block * inner_block))
    return Tiling(
        outer,
        channels,
        inner,
        outer_block,
        channel_block,
        inner_block,
        math.gcd(channels, 16),
        math.gcd(inner, 16),
    )


def grid_of(tiles: Tiling, device: torch.device) -> tuple[int, int]:
    """(blocks of channels, programs that share the tiles of each block)."""
    blocks = math.ceil(tiles.channels / tiles.CHANNEL_BLOCK)
    each = math.ceil(tiles.outer / tiles.OUTER_BLOCK) * math.ceil(tiles.inner / tiles.INNER_BLOCK)
    return blocks, min(each, math.ceil(PROGRAMS * multiprocessors(device) / blocks))


def dense(x: Tensor) -> Tensor:
    """x itself where it is contiguous or channels_last, else a contiguous copy."""
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if channels_last is not None and x.is_contiguous(memory_format=channels_last):
        return x
    return x.contiguous()


class FusedBatchNorm(torch.autograd.Function):
    """`batch_norm_activation` by kernels: two launches forward, two backward."""

    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps, slope):
        from course_lib.fused.kernels import batch_norm as kernels

        x = dense(x)
        tiles = tiling(x)
        grid = grid_of(tiles, x.device)
        ctx.slope, ctx.count = slope, tiles.outer * tiles.inner
        y = torch.empty_like(x)
        saved = torch.empty(2, tiles.channels, device=x.device, dtype=torch.float32)  # mean and 1/√(σ² + eps)
        partial = torch.empty(3, grid[1], tiles.channels, device=x.device, dtype=torch.float32)
        options = {**asdict(tiles), "num_warps": WARPS, **COMPILER_OPTIONS}
        with torch.cuda.device_of(x):
            kernels.partial_statistics[grid](x, partial, **options)
            kernels.normalize[grid](
                x,
                partial,
                weight,
                bias,
                running_mean,
                running_var,
                saved,
                y,
                float(momentum),
                float(eps),
                float(slope),
                float(ctx.count),
                ctx.count / (ctx.count - 1),
                SPLITS=power_of_two(grid[1]),
                **options,
            )
        changed = [running for running in (running_mean, running_var) if running is not None]
        if changed:
            torch.autograd.graph.increment_version(changed)
        ctx.save_for_backward(x, weight, bias, saved)
        return y

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivative()
        from course_lib.fused.kernels import batch_norm as kernels

        x, weight, bias, saved = ctx.saved_tensors
        if grad.stride() != x.stride():
            grad = torch.empty_like(x).copy_(grad)
        tiles = tiling(x)
        grid = grid_of(tiles, x.device)
        dx = torch.empty_like(x)
        dweight = None if weight is None else torch.empty_like(weight)
        dbias = None if bias is None else torch.empty_like(bias)
        partial = torch.empty(2, grid[1], tiles.channels, device=x.device, dtype=torch.float32)
        options = {**asdict(tiles), "num_warps": WARPS, **COMPILER_OPTIONS}
        with torch.cuda.device_of(x):
            kernels.partial_gradients[grid](grad, x, weight, bias, saved, partial, float(ctx.slope), **options)
            kernels.input_gradient[grid](
                grad,
                x,
                weight,
                bias,
                saved,
                partial,
                dx,
                dweight,
                dbias,
                float(ctx.slope),
                float(ctx.count),
                SPLITS=power_of_two(grid[1]),
                **options,
            )
        return dx, dweight, dbias, None, None, None, None, None
