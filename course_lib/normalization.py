"""Batch, layer, group and instance norm: one formula, y = (x − μ) / √(σ² + eps) · weight + bias, over different axes.

`normalize_forward` and `normalize_backward` are the formulas as plain functions, made to be read; `normalize` is the
same for autograd, made to be fast, and the four norms call it with their axes. σ² is always the biased variance, the
mean of (x − μ)². What batch norm keeps for inference is `running_mean` and `running_var`, updated without a gradient;
PyTorch keeps the unbiased variance there, Keras the biased one, and their momenta are each other's complements.

float16 and bfloat16 are computed in float32 and rounded once at the end, as PyTorch does.

Sources: Ioffe & Szegedy 2015 (batch norm, arXiv:1502.03167); Ba, Kiros & Hinton 2016 (layer norm, arXiv:1607.06450);
Ulyanov et al. 2016 (instance norm, arXiv:1607.08022); Wu & He 2018 (group norm, arXiv:1803.08494).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "GroupNorm",
    "LayerNorm",
    "batch_norm",
    "batch_norm_axes",
    "batch_norm_backward",
    "batch_norm_inference",
    "fold_batch_norm",
    "fold_batch_norm_weights",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "moving_update",
    "normalize",
    "normalize_backward",
    "normalize_forward",
    "running_update",
    "statistics",
    "unbiased",
]


def wide(x: Tensor) -> Tensor:
    """x in the dtype to compute in: float32 for float16 and bfloat16, else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def statistics(x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(μ, σ²): mean and biased variance of x over the axes, which stay as size 1.

    In two passes: E[x²] − E[x]² in one pass loses every digit where |μ| is far larger than σ.
    """
    x = wide(x)
    mean = x.mean(axes, keepdim=True)
    return mean, (x - mean).square().mean(axes, keepdim=True)


def normalize_forward(
    x: Tensor, axes: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, μ, σ²) with y = (x − μ) / √(σ² + eps) · weight + bias, μ and σ² taken over the axes of x: the formula.

    `weight` and `bias` broadcast against x; y has x's shape, dtype and memory format, μ and σ² keep the axes as size 1.
    """
    mean = wide(x).mean(axes, keepdim=True)
    centred = wide(x) - mean
    var = centred.square().mean(axes, keepdim=True)
    y = centred * (var + eps).rsqrt()
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return y.to(x.dtype), mean, var


def normalize_backward(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, axes: Sequence[int], weight: Tensor | None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dweight, dbias) from grad at the output of `normalize_forward`, whose mean and var are given back to it.

    With x̂ = (x − μ) / √(σ² + eps) and g = grad · weight,

        dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(σ² + eps),   dweight = Σ grad · x̂,   dbias = Σ grad.

    The two means are the gradient that flows through μ and through σ²: without them dx would not be orthogonal to 1 and
    to x̂. dx has x's shape; dweight and dbias have weight's, or, without a weight, the statistics' shape.
    """
    grad, inv_std = wide(grad), (var + eps).rsqrt()
    x_hat = (wide(x) - mean) * inv_std
    g = grad if weight is None else grad * weight
    dx = (g - g.mean(axes, keepdim=True) - x_hat * (g * x_hat).mean(axes, keepdim=True)) * inv_std
    shape = mean.shape if weight is None else weight.shape
    return dx.to(x.dtype), (grad * x_hat).sum_to_size(shape), grad.sum_to_size(shape)


# The same in blocks --------------------------------------------------------------------------------------------------

# Elements of a block of examples. What a pass of the formula leaves is then still in the cache for the next one, and
# nothing of x's size is allocated but the result. On a GPU one block is all.
BLOCK = 2**19


def block_length(x: Tensor) -> int:
    """How many examples make a block."""
    return max(1, len(x) if x.is_cuda else BLOCK // max(1, x[:1].numel()))


def blocked_forward(
    x: Tensor, axes: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`normalize_forward`, block by block of examples; weight and bias don't vary along axis 0."""
    length, y = block_length(x), torch.empty_like(x)
    if -x.dim() in axes and len(x):  # the examples share their statistics: they must be whole before any result
        mean, var = blocked_statistics(x, axes)
        scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
        for x_block, y_block in zip(x.split(length), y.split(length), strict=True):
            centred = centre(x_block, mean, y_block)
            kept(scaled(centred, scale, bias, centred), y_block)
        return y, mean, var
    means, variances = [], []
    for x_block, y_block in zip(x.split(length), y.split(length), strict=True):
        means.append(x_block.mean(axes, keepdim=True, dtype=wide(x[:0]).dtype))
        centred = centre(x_block, means[-1], y_block)
        variances.append(torch.linalg.vector_norm(centred, dim=axes, keepdim=True).square_().div_(count(x, axes)))
        scale = (variances[-1] + eps).rsqrt()
        if weight is not None and scale.numel() * weight.numel() <= x_block.numel() // 16:  # cheaper to join them
            scale = scale * weight
        elif weight is not None:
            centred, scale = centred.mul_(scale), wide(weight)
        kept(scaled(centred, scale, bias, centred), y_block)
    return y, torch.cat(means), torch.cat(variances)


def blocked_statistics(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`statistics`, block by block of examples: σ² is the mean of the blocks' variances plus the variance of their
    means, each block counted by its size (Chan et al. 1979).
    """
    dtype, blocks = wide(x[:0]).dtype, x.split(block_length(x))
    scratch = torch.empty_like(blocks[0], dtype=dtype)
    means, variances = [], []
    for block in blocks:
        means.append(block.mean(axes, keepdim=True, dtype=dtype))
        variances.append(centre(block, means[-1], scratch).square_().mean(axes, keepdim=True))
    shares = [len(block) / len(x) for block in blocks]
    mean = sum(share * m for share, m in zip(shares, means, strict=True))
    spreads = [var + (m - mean).square() for var, m in zip(variances, means, strict=True)]
    return mean, sum(share * spread for share, spread in zip(shares, spreads, strict=True))


def blocked_backward(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, axes: tuple[int, ...], weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`normalize_backward`, block by block of examples, with c = x − μ instead of x̂ = c / √(σ² + eps).

    dx is then grad · (a weight) + c · (a slope) + (a shift), each of the three constant over most axes: two passes.
    """
    length, n, dx = block_length(x), count(x, axes), torch.empty_like(x)
    shape = mean.shape if weight is None else weight.shape
    varies = weight is not None and any(weight.shape[axis] != 1 for axis in axes if -axis <= weight.dim())
    shared, inv_std = -x.dim() in axes, (var + eps).rsqrt()
    if varies and shared:
        return normalize_backward(grad, x, mean, var, axes, weight, eps)  # no norm of ours has such a weight
    scale = inv_std if weight is None or varies else inv_std * weight
    blocks = [z.split(length) for z in (grad, x, dx)]
    scratch = torch.empty_like(x[:length], dtype=mean.dtype)
    if shared:  # a weight that is the same all over the axes waits until after the two sums
        sum_g = grad.sum(axes, keepdim=True, dtype=mean.dtype)
        products = (
            centre(x_block, mean, scratch).mul_(g).sum(axes, keepdim=True)
            for g, x_block, _ in zip(*blocks, strict=True)
        )
        sum_gx = sum(products) * inv_std
        slope, shift = sum_gx * inv_std * scale / -n, sum_g * scale / -n
        for g, x_block, dx_block in zip(*blocks, strict=True):
            centred = centre(x_block, mean, dx_block)
            kept(scaled(centred, slope, shift, centred).addcmul_(g, scale), dx_block)
        return dx, sum_gx.sum_to_size(shape), sum_g.sum_to_size(shape)
    dweight = dbias = 0
    # First the sums over what a weight is the same for (group norm: a channel's positions), then the weighted ones.
    inner = [axis for axis in axes if weight is None or -axis > weight.dim() or weight.shape[axis] == 1]
    blocks += [z.split(length) for z in (mean, inv_std, scale)]
    for g, x_block, dx_block, m, inv, s in zip(*blocks, strict=True):
        centred, g = centre(x_block, m, dx_block), wide(g)
        sum_g, sum_gc = g, torch.mul(g, centred, out=scratch[: len(g)])
        if inner:
            sum_g, sum_gc = sum_g.sum(inner, keepdim=True), sum_gc.sum(inner, keepdim=True)
        if weight is not None:
            dbias = dbias + sum_g.sum_to_size(shape)
            dweight = dweight + weighted_sum(sum_gc, inv, shape)
        if varies:
            sum_gc = sum_gc.mul_(weight).sum(axes, keepdim=True)
            if inner:
                sum_g, s = (sum_g * weight).sum(axes, keepdim=True), s * weight
            else:
                g = torch.mul(g, weight, out=scratch[: len(g)])
                sum_g = g.sum(axes, keepdim=True)
        shift = sum_g * inv / -n if varies else sum_g * s / -n
        slope = sum_gc * (inv * inv) * (inv if varies else s) / -n
        kept(scaled(centred, slope, shift, centred).addcmul_(g, s), dx_block)
    return dx, dweight, dbias


def weighted_sum(values: Tensor, weights: Tensor, shape: Sequence[int]) -> Tensor:
    """Σ values · weights, to that shape."""
    if values.dim() == 2 and weights.shape[1] == 1 and len(shape) == 1:  # layer norm: one product with a matrix
        return weights.flatten() @ values
    return (values * weights).sum_to_size(shape)


def centre(x: Tensor, mean: Tensor, memory: Tensor) -> Tensor:
    """x − mean in mean's dtype: at the start of `memory`, where that is of the dtype, else in new memory."""
    return torch.sub(x, mean, out=memory[: len(x)]) if memory.dtype == mean.dtype else x - mean


def scaled(x: Tensor, scale: Tensor, shift: Tensor | None, out: Tensor) -> Tensor:
    """x · scale + shift in `out`, which may be x, where that is of scale's dtype, else in new memory."""
    y = out if out.dtype == scale.dtype else torch.empty_like(x, dtype=scale.dtype)
    if shift is None:
        return torch.mul(x, scale, out=y)
    if scale.shape[-1] == shift.shape[-1] == 1:  # addcmul is slow where two of its numbers serve for many
        return torch.mul(x, scale, out=y).add_(shift)
    return torch.addcmul(shift, x, scale, out=y)


def kept(y: Tensor, out: Tensor) -> Tensor:
    """`out`, with y in it."""
    return out if y.data_ptr() == out.data_ptr() else out.copy_(y)


def count(x: Tensor, axes: Sequence[int]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


class Normalize(torch.autograd.Function):
    """`normalize_forward` with `normalize_backward` as its derivative, once and twice, also under torch.func.

    Saves x and the statistics, nothing else of x's size.
    """

    @staticmethod
    def forward(x, weight, bias, axes, eps):
        return blocked_forward(x, axes, weight, bias, eps)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, bias, ctx.axes, ctx.eps = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, mean, var)

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:  # nothing depends on y
            return None, None, None, None, None
        x, weight, bias, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated once more: then the statistics have to depend on x
            mean, var = statistics(x, ctx.axes)
            dx, dweight, dbias = normalize_backward(grad, x, mean, var, ctx.axes, weight, ctx.eps)
        else:
            dx, dweight, dbias = blocked_backward(grad, x, mean, var, ctx.axes, weight, ctx.eps)
        return (
            dx,
            None if weight is None else dweight.to(weight.dtype),
            None if bias is None else dbias.to(bias.dtype),
            None,
            None,
        )

    @staticmethod
    def vmap(info, in_dims, x, weight, bias, axes, eps):
        dims = (in_dims[0], None, in_dims[1], in_dims[2], None)
        return torch.vmap(normalize_forward, dims)(x, axes, weight, bias, eps), (0, 0, 0)


def normalize(
    x: Tensor, axes: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x − μ) / √(σ² + eps) · weight + bias over the axes, differentiable in x, weight and bias.

    `weight` and `bias`, of one shape, broadcast against x. Every norm here is this function with its own axes.
    Raises ValueError without axes.
    """
    return normalize_with_statistics(x, axes, weight, bias, eps)[0]


def normalize_with_statistics(
    x: Tensor, axes: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    if not axes:
        raise ValueError("normalize needs at least one axis to take the statistics over")
    axes = tuple(axis % x.dim() - x.dim() for axis in axes)  # counted from the end
    if weight is None and bias is not None:  # dbias is of dweight's shape
        weight = torch.ones_like(bias)
    if weight is not None and weight.dim() == x.dim() and len(weight) != 1:  # varies along axis 0: not a block's
        y, mean, var = Normalize.apply(x.unsqueeze(0), weight, bias, axes, eps)
        return y.squeeze(0), mean.squeeze(0), var.squeeze(0)
    return Normalize.apply(x, weight, bias, axes, eps)


# batch norm ----------------------------------------------------------------------------------------------------------


def batch_norm_axes(x: Tensor) -> tuple[int, ...]:
    """All axes of x (N, C, ...) but the channels': what batch norm takes its statistics over."""
    return (0, *range(2, x.dim()))


def per_channel(values: Tensor | None, dims: int) -> Tensor | None:
    """(C,) -> (1, C, 1, ..., 1), to broadcast against (N, C, ...)."""
    return None if values is None else values.reshape(1, -1, *[1] * (dims - 2))


def batch_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, var): x (N, C, ...) normalized by its own batch, as in training; mean and biased var are (C,).

    The gradient of y flows through the batch's statistics too; the mean and var returned carry none, for the running
    ones. Raises ValueError where x has one value per channel: its normalized value would be 0, whatever x is.
    Ioffe & Szegedy 2015, algorithm 1.
    """
    check_values_per_channel(x)
    dims = x.dim()
    y, mean, var = normalize_with_statistics(
        x, batch_norm_axes(x), per_channel(weight, dims), per_channel(bias, dims), eps
    )
    return y, mean.flatten(), var.flatten()


def check_values_per_channel(x: Tensor) -> None:
    if x.dim() < 2:
        raise ValueError(f"batch norm needs x (N, C, ...), got {tuple(x.shape)}")
    if math.prod(x.shape[axis] for axis in batch_norm_axes(x)) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")


def batch_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dweight, dbias) of `batch_norm`, from grad at its y and the (C,) mean and var that it returned.

    With x̂ the normalized x and n values per channel: dbias = Σ grad, dweight = Σ grad · x̂ and

        dx = weight / √(σ² + eps) · (grad − dbias / n − x̂ · dweight / n).
    """
    dims = x.dim()
    mean, var, weight = (per_channel(values, dims) for values in (mean, var, weight))
    dx, dweight, dbias = normalize_backward(grad, x, mean, var, batch_norm_axes(x), weight, eps)
    return dx, dweight.flatten(), dbias.flatten()


class Inference(torch.autograd.Function):
    """(x − mean) · inv_std · weight + bias, with constants for mean and inv_std, as x · scale + shift: one pass less.

    Where |mean| is far larger than σ that loses digits, as PyTorch does, but no more than x lost when it was rounded.
    """

    @staticmethod
    def forward(x, mean, inv_std, weight, bias):
        scale = inv_std if weight is None else inv_std * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        length, y = block_length(x), torch.empty_like(x)
        for x_block, y_block in zip(x.split(length), y.split(length), strict=True):
            kept(scaled(x_block, scale, shift, y_block), y_block)
        return y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, mean, inv_std, weight, bias = ctx.saved_tensors
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = (wide(grad) * (inv_std if weight is None else inv_std * weight)).to(x.dtype)
        if ctx.needs_input_grad[3]:
            length = block_length(x)
            blocks = zip(grad.split(length), x.split(length), strict=True)
            dweight = sum((wide(g) * (wide(x_block) - mean)).sum_to_size(weight.shape) for g, x_block in blocks)
            dweight = (dweight * inv_std).to(weight.dtype)
        if ctx.needs_input_grad[4]:
            dbias = wide(grad).sum_to_size(bias.shape).to(bias.dtype)
        return dx, None, None, dweight, dbias

    @staticmethod
    def vmap(info, in_dims, x, mean, inv_std, weight, bias):
        def formula(x, mean, inv_std, weight, bias):
            y = (wide(x) - mean) * (inv_std if weight is None else inv_std * weight)
            return (y if bias is None else y + bias).to(x.dtype)

        return torch.vmap(formula, in_dims)(x, mean, inv_std, weight, bias), 0


def batch_norm_inference(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x − running_mean) / √(running_var + eps) · weight + bias for x (N, C, ...): no example sees its neighbours.

    Differentiable in x, weight and bias; the running statistics are constants. One value per channel is allowed.
    """
    mean, var, weight, bias = (
        per_channel(values, x.dim()) for values in (running_mean.detach(), running_var.detach(), weight, bias)
    )
    return Inference.apply(x, wide(mean), (wide(var) + eps).rsqrt(), weight, bias)


def unbiased(var: Tensor, n: int) -> Tensor:
    """var · n / (n − 1): the unbiased variance of n values from their biased one. NaN for n = 1, as it is unknown."""
    return var * (n / (n - 1) if n != 1 else math.nan)


def running_update(running: Tensor, batch: Tensor, momentum: float | Tensor) -> Tensor:
    """(1 − momentum) · running + momentum · batch: PyTorch's convention, where momentum is the weight of the new value.

    For `running_var` PyTorch passes the unbiased variance of the batch. Neither argument is changed.
    """
    return (1 - momentum) * running + momentum * batch


def moving_update(moving: Tensor, batch: Tensor, momentum: float | Tensor) -> Tensor:
    """momentum · moving + (1 − momentum) · batch: Keras's convention, where momentum is the weight of the old value.

    It is `running_update` with momentum → 1 − momentum. For `moving_variance` Keras passes the biased variance.
    """
    return momentum * moving + (1 - momentum) * batch


class BatchNorm(nn.Module):
    """Batch norm of (N, C, ...) with PyTorch's options, parameters and buffers; its subclasses check the dimensions.

    `self.training` alone decides which statistics are used: the batch's in training, the running ones in evaluation
    (the batch's there too without `track_running_stats`). `no_grad` and frozen parameters change nothing about that.
    momentum=None keeps the plain average over all batches so far.
    """

    _version = 2  # of the state_dict, as torch's: 2 has num_batches_tracked
    dims: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        where = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(num_features, **where)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features, **where)) if affine and bias else None
        tracked = track_running_stats
        self.register_buffer("running_mean", torch.zeros(num_features, **where) if tracked else None)
        self.register_buffer("running_var", torch.ones(num_features, **where) if tracked else None)
        batches = torch.zeros((), dtype=torch.long, device=device)
        self.register_buffer("num_batches_tracked", batches if tracked else None)

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        self.check_shape(x)
        if not self.training and self.running_mean is not None:
            return batch_norm_inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        y, mean, var = batch_norm(x, self.weight, self.bias, self.eps)
        if self.training and self.track_running_stats:
            self.update_running_stats(mean, var, n=x.numel() // self.num_features)
        return y

    @torch.no_grad()
    def update_running_stats(self, mean: Tensor, var: Tensor, n: int) -> None:
        """Take the (C,) mean and biased variance of a batch of n values per channel into the running ones."""
        self.num_batches_tracked.add_(1)
        if n == 0:  # an empty batch is counted and has no statistics, as in torch
            return
        # 1 / count as a tensor: reading it as a number would make a GPU wait
        count = self.num_batches_tracked.to(mean.dtype)
        momentum = 1 / count if self.momentum is None else self.momentum
        self.running_mean.copy_(running_update(self.running_mean, mean, momentum))
        self.running_var.copy_(running_update(self.running_var, unbiased(var, n), momentum))

    def check_shape(self, x: Tensor) -> None:
        if x.dim() not in self.dims:
            wanted = " or ".join(f"{dims}D" for dims in self.dims)
            raise ValueError(f"expected {wanted} input (got {x.dim()}D input)")
        if x.shape[1] != self.num_features:
            raise ValueError(f"expected {self.num_features} channels in axis 1, got input size {tuple(x.shape)}")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(BatchNorm):
    """Batch norm of (N, C) or (N, C, L); state_dict and options as torch.nn.BatchNorm1d's.

    Raises ValueError for another number of dimensions or of channels, and in training for one value per channel.
    """

    dims = (2, 3)


class BatchNorm2d(BatchNorm):
    """Batch norm of (N, C, H, W); state_dict and options as torch.nn.BatchNorm2d's.

    Raises ValueError for another number of dimensions or of channels, and in training for one value per channel.
    """

    dims = (4,)


# other axes ----------------------------------------------------------------------------------------------------------


def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`normalize` over the last axes of x, those of normalized_shape, each example by itself, without running state.

    weight and bias have normalized_shape. Raises ValueError where x doesn't end in it. Ba et al. 2016.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise ValueError(f"layer norm over {shape} needs an input that ends in it, got {tuple(x.shape)}")
    return normalize(x, tuple(range(-len(shape), 0)), weight, bias, eps)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """`normalize` of x (N, C, ...) over each group of C / num_groups channels and all positions, by example.

    weight and bias are (C,). One group is layer norm over (C, ...), C groups are instance norm. Raises ValueError where
    num_groups doesn't divide C, and for one value per group. Wu & He 2018.
    """
    if x.dim() < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"{num_groups} groups don't divide the channels of an input of size {tuple(x.shape)}")
    # (N, C, ...) -> (N, groups, C / groups, ...)
    grouped = x.unflatten(1, (num_groups, x.shape[1] // num_groups))
    ones = [1] * (x.dim() - 2)
    weight, bias = (v if v is None else v.reshape(1, num_groups, -1, *ones) for v in (weight, bias))
    return normalize(grouped, tuple(range(2, grouped.dim())), weight, bias, eps).flatten(1, 2)


def instance_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """`normalize` of x (N, C, ...) over the positions, each channel of each example apart; weight and bias are (C,).

    Raises ValueError for one position, where all would be 0. Ulyanov et al. 2016.
    """
    if x.dim() < 3 or math.prod(x.shape[2:]) == 1:
        raise ValueError(f"instance norm needs more than one position per channel, got input size {tuple(x.shape)}")
    return normalize(x, tuple(range(2, x.dim())), per_channel(weight, x.dim()), per_channel(bias, x.dim()), eps)


class LayerNorm(nn.Module):
    """`layer_norm` with parameters of normalized_shape; state_dict and options as torch.nn.LayerNorm's.

    Deliberately naive: five passes over each row forward and nine backward, where PyTorch's kernels make one or two. A
    weight of its own for each number of a row leaves nothing to take out of the passes, as the other norms do.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, where = shape, eps, {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(shape, **where)) if elementwise_affine else None
        self.bias = nn.Parameter(torch.zeros(shape, **where)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine, bias = self.weight is not None, self.bias is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}, bias={bias}"


class GroupNorm(nn.Module):
    """`group_norm` with parameters (num_channels,); state_dict and options as torch.nn.GroupNorm's.

    Raises ValueError where num_groups doesn't divide num_channels.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) has to be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = nn.Parameter(torch.ones(num_channels, device=device, dtype=dtype)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels, device=device, dtype=dtype)) if affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine, bias = self.weight is not None, self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={affine}, bias={bias}"


# folding -------------------------------------------------------------------------------------------------------------


def fold_batch_norm_weights(
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """(weight · s, (bias − running_mean) · s + norm_bias) with s = norm_weight / √(running_var + eps), one s a channel.

    A linear or conv layer with these computes what layer and batch norm compute in inference. weight is (out, ...), all
    others (out,).
    """
    scale = (wide(running_var) + eps).rsqrt()
    if norm_weight is not None:
        scale = scale * norm_weight
    shift = (-running_mean if bias is None else bias - running_mean) * scale
    if norm_bias is not None:
        shift = shift + norm_bias
    scaled = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    return scaled.to(weight.dtype), shift.to(weight.dtype)


def fold_batch_norm(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A copy of the linear or conv layer that does in one step what layer and then norm do in evaluation.

    Takes torch's layers and this package's. The two given are unchanged; the copy has a bias, and new parameters that
    need a gradient as the layer's do. Raises ValueError where norm is in training mode (it would use each batch's own
    statistics) or has no running ones, where the channels differ, and for a transposed convolution, whose weight is
    laid out otherwise.
    """
    if norm.training or norm.running_mean is None:
        raise ValueError("only a batch norm in evaluation mode, with running statistics, can be folded: call eval()")
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        raise ValueError("a transposed convolution keeps its output channels in axis 1 and can't be folded here")
    if layer.weight.shape[0] != norm.num_features:
        raise ValueError(f"the layer has {layer.weight.shape[0]} outputs, the batch norm {norm.num_features} channels")
    folded = copy.deepcopy(layer)
    with torch.no_grad():
        weight, bias = fold_batch_norm_weights(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
        )
    trained = layer.weight.requires_grad
    folded.weight, folded.bias = nn.Parameter(weight, trained), nn.Parameter(bias, trained)
    return folded.eval()
