"""Pooling with hand-written backward passes: the largest value, or the mean, of each window of an image.

The functions ending in `_backward` are the derivatives as plain functions. Layout is PyTorch's: x (N, C, H, W). What
padding may be is said in `course_lib.windows`. Sources: LeCun et al. 1998; Lin et al. 2013 (a mean of each whole map).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_lib.windows import (
    Padding,
    Pads,
    Pair,
    cropped,
    output_sizes,
    padded,
    pair,
    resolve_pads,
    shifted,
    wide_zeros,
)

__all__ = [
    "AvgPool2d",
    "MaxPool2d",
    "avg_pool2d",
    "avg_pool2d_backward",
    "global_avg_pool2d",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_indices",
]


def pooling_windows(
    x: Tensor, kernel_size: Pair, stride: Pair | None, padding: Padding, dilation: Pair, ceil_mode: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], Pads, tuple[int, int]]:
    """(kernel_size, stride, dilation, pads, outputs), as pairs, for x (N, C, H, W)."""
    if x.dim() != 4:
        raise ValueError(f"expected x (N, C, H, W) or (C, H, W), got {tuple(x.shape)}")
    kernel_size, dilation = pair(kernel_size, "kernel_size"), pair(dilation, "dilation")
    stride = kernel_size if stride is None else pair(stride, "stride")
    pads = resolve_pads(x, kernel_size, stride, padding, dilation)
    if not isinstance(padding, str) and any(2 * before > k for (before, _), k in zip(pads, kernel_size, strict=True)):
        raise ValueError(f"padding has to be at most half of the kernel {kernel_size}, got {padding}")
    return kernel_size, stride, dilation, pads, output_sizes(x, kernel_size, stride, pads, dilation, ceil_mode)


def extended(x: Tensor, pads: Pads, kernel_size: Pair, stride: Pair, dilation: Pair, outputs: Pair) -> Pads:
    """The pads that also hold the last windows where ceil_mode lets them hang over the end."""
    ends = [s * (n - 1) + d * (k - 1) + 1 for s, n, d, k in zip(stride, outputs, dilation, kernel_size, strict=True)]
    (top, bottom), (left, right) = pads
    height, width = x.shape[-2:]
    return (top, max(bottom, ends[0] - top - height)), (left, max(right, ends[1] - left - width))


def max_pool2d_with_indices(
    x: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """(y, indices): the largest value of each window of x (N, C, H, W), and where it is: its index in the flat H · W.

    Of equal values the first counts, row by row; NaN counts as the largest. Padding never wins. stride is kernel_size
    unless given. Raises ValueError where the padding is more than half the kernel, or the kernel larger than the image.
    """
    kernel_size, stride, dilation, pads, outputs = pooling_windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    pads = extended(x, pads, kernel_size, stride, dilation, outputs)
    offset = lambda i, j: i * dilation[0] * x.shape[3] + j * dilation[1]  # from the window's first cell, in H · W
    largest = offset(kernel_size[0] - 1, kernel_size[1] - 1)
    with torch.no_grad():
        best, place = None, None
        for (i, j), cells in shifted(padded(x, pads, -math.inf), kernel_size, stride, dilation, outputs):
            if best is None:
                best = cells.clone()
                place = torch.zeros_like(best, dtype=torch.uint8 if largest < 256 else torch.int32)
                continue
            cells = cells.clone()  # side by side in memory: it is read three times
            better = torch.logical_or(cells > best, cells != cells)  # a NaN differs from itself
            # offsets grow, so the largest one is the last one that was better; much faster than a choice by mask
            place = torch.maximum(place, better.to(place.dtype) * offset(i, j))
            best = torch.maximum(best, cells)
        return best, flat_indices(place, x.shape, stride, dilation, pads)


def flat_indices(place: Tensor, shape: Sequence[int], stride: Pair, dilation: Pair, pads: Pads) -> Tensor:
    """Offsets from each window's first cell, (N, C, H', W'), as indices in the flat H · W of an image of that shape."""
    # where each window starts along each axis, in the padding or not
    first = [torch.arange(place.shape[k + 2], device=place.device) * stride[k] - pads[k][0] for k in (0, 1)]
    starts = first[0].unsqueeze(1) * shape[3] + first[1]
    indices = place.long().add_(starts)
    if pads[0][0] or pads[1][0]:
        # Padding is the largest, at offset 0, only in a window of nothing but -inf: then the first cell inside counts.
        rows, columns = (torch.where(f < 0, f % d, f) for f, d in zip(first, dilation, strict=True))
        indices += (place == 0) * (rows.unsqueeze(1) * shape[3] + columns - starts)
    return indices


def max_pool2d_backward(grad: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
    """dx of max pooling: each gradient goes, whole, to the cell that won, (N, C, *size) from grad (N, C, H', W').

    A cell that won several windows gets their sum. size is x's (H, W), indices are `max_pool2d_with_indices`'s.
    """
    dx = wide_zeros(grad, (*grad.shape[:2], math.prod(size)))
    dx = dx.scatter_add(2, indices.flatten(2), grad.flatten(2).to(dx.dtype))
    return dx.reshape(*grad.shape[:2], *size).to(grad.dtype)


class MaxPool2dFunction(torch.autograd.Function):
    """Saves the indices, not x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, kernel_size, stride, padding, dilation, ceil_mode):
        return max_pool2d_with_indices(x, kernel_size, stride, padding, dilation, ceil_mode)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.size = inputs[0].shape[2:]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx, grad, _):
        if grad is None:  # nothing depends on y
            return None, None, None, None, None, None
        (indices,) = ctx.saved_tensors
        return max_pool2d_backward(grad, indices, ctx.size), None, None, None, None, None


def max_pool2d(
    x: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest value of each window of x (N, C, H, W) or (C, H, W), with `max_pool2d_backward` as its derivative.

    Ties, NaN, padding and errors as in `max_pool2d_with_indices`. padding="same" pads as TensorFlow does.
    """
    if x.dim() == 3:
        return max_pool2d(x.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode).squeeze(0)
    return MaxPool2dFunction.apply(x, kernel_size, stride, padding, dilation, ceil_mode)[0]


def avg_pool_divisors(
    x: Tensor, kernel_size: Pair, stride: Pair, pads: Pads, outputs: Pair, count_include_pad: bool
) -> Tensor:
    """(H', W'): how many cells each window is the mean of."""
    counts = []
    for axis in (0, 1):
        (before, after), size = pads[axis], x.shape[axis + 2]
        start = torch.arange(outputs[axis], device=x.device) * stride[axis] - before
        # what hangs over the end in ceil_mode never counts; padding does if it is asked for
        end = (start + kernel_size[axis]).clamp(max=size + after if count_include_pad else size)
        counts.append(end - (start if count_include_pad else start.clamp(min=0)))
    return counts[0].unsqueeze(1) * counts[1]


def avg_pool2d_forward(
    x: Tensor, kernel_size: Pair, stride: Pair | None, padding: Padding, ceil_mode: bool, count_include_pad: bool
) -> Tensor:
    kernel_size, stride, ones, pads, outputs = pooling_windows(x, kernel_size, stride, padding, 1, ceil_mode)
    divisors = avg_pool_divisors(x, kernel_size, stride, pads, outputs, count_include_pad)
    image = padded(x, extended(x, pads, kernel_size, stride, ones, outputs))
    # first down each column of a window, then along the row of sums: the numbers of a row lie side by side
    columns = wide_zeros(x, (*x.shape[:2], outputs[0], image.shape[3]))
    for _, cells in shifted(image, (kernel_size[0], 1), (stride[0], 1), ones, columns.shape[2:]):
        columns += cells
    total = wide_zeros(x, (*x.shape[:2], *outputs))
    for _, cells in shifted(columns, (1, kernel_size[1]), (1, stride[1]), ones, outputs):
        total += cells
    return (total / divisors).to(x.dtype)


def avg_pool2d_backward(
    grad: Tensor,
    size: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """dx of average pooling: each cell of a window gets grad / (cells that were averaged), summed over its windows.

    (N, C, *size) from grad (N, C, H', W'); size is x's (H, W).
    """
    x = grad.new_empty((0, grad.shape[1], *size))  # for its shape
    kernel_size, stride, ones, pads, outputs = pooling_windows(x, kernel_size, stride, padding, 1, ceil_mode)
    divisors = avg_pool_divisors(x, kernel_size, stride, pads, outputs, count_include_pad)
    pads = extended(x, pads, kernel_size, stride, ones, outputs)
    dx = wide_zeros(grad, (*grad.shape[:2], *(n + sum(p) for n, p in zip(size, pads, strict=True))))
    columns = dx.new_zeros((*dx.shape[:2], outputs[0], dx.shape[3]))  # as forward, the other way round
    share = grad.to(dx.dtype) / divisors
    for _, cells in shifted(columns, (1, kernel_size[1]), (1, stride[1]), ones, outputs):
        cells += share
    for _, cells in shifted(dx, (kernel_size[0], 1), (stride[0], 1), ones, columns.shape[2:]):
        cells += columns
    return cropped(dx, pads, size).to(grad.dtype)


class AvgPool2dFunction(torch.autograd.Function):
    """Saves nothing but the shape."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, *how):
        return avg_pool2d_forward(x, *how)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, *ctx.how = inputs
        ctx.size = x.shape[2:]

    @staticmethod
    def backward(ctx, grad):
        return avg_pool2d_backward(grad, ctx.size, *ctx.how), None, None, None, None, None


def avg_pool2d(
    x: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of x (N, C, H, W) or (C, H, W), with `avg_pool2d_backward` as its derivative.

    count_include_pad counts the padding's zeros into the mean: PyTorch's default; Keras never does. Raises ValueError
    where the padding is more than half the kernel, or the kernel larger than the image.
    """
    if x.dim() == 3:
        return avg_pool2d(x.unsqueeze(0), kernel_size, stride, padding, ceil_mode, count_include_pad).squeeze(0)
    return AvgPool2dFunction.apply(x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def global_avg_pool2d(x: Tensor) -> Tensor:
    """The mean of each feature map, (N, C, H, W) → (N, C): what let nets do without large dense layers.

    Its gradient is grad / (H · W) for every cell. Lin et al. 2013 (arXiv:1312.4400).
    """
    return x.mean((-2, -1))


class MaxPool2d(nn.Module):
    """`max_pool2d` as a layer."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.how = (kernel_size, stride, padding, dilation, ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, *self.how)

    def extra_repr(self) -> str:
        return "kernel_size={}, stride={}, padding={}, dilation={}, ceil_mode={}".format(*self.how)


class AvgPool2d(nn.Module):
    """`avg_pool2d` as a layer."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        self.how = (kernel_size, stride, padding, ceil_mode, count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, *self.how)

    def extra_repr(self) -> str:
        return "kernel_size={}, stride={}, padding={}, ceil_mode={}, count_include_pad={}".format(*self.how)
