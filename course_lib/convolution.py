"""Linear, convolution and pooling layers with hand-written backward passes, and the sums about their shapes.

A convolution is a matrix product: `im2col` lays every window of the image out as a column, the kernels are the rows of
a matrix, and `col2im`, the adjoint of `im2col`, carries gradients back. What deep learning calls convolution is the
cross-correlation Σ w[i, j] · x[r + i, c + j]; `true_convolution2d` flips the kernel first, as mathematics does.

`conv2d_naive` is the definition in loops, `conv2d` the fast one for autograd; the functions ending in `_backward` are
its derivative as plain functions. Layout is PyTorch's: x (N, C, H, W), weight (out, in / groups, kh, kw).

Padding is symmetric numbers, "valid", or "same" in TensorFlow's sense: ⌈size / stride⌉ outputs for every stride, an odd
cell of padding after the image, not before.

Sources: LeCun et al. 1998 (convolution, pooling); Chellapilla et al. 2006 (as a matrix product); Dumoulin & Visin 2016
(the arithmetic of shapes, arXiv:1603.07285); Chollet 2017 (depthwise separable, arXiv:1610.02357); Araujo et al. 2019
(receptive fields, distill.pub).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Linear",
    "MaxPool2d",
    "ReceptiveField",
    "Window",
    "avg_pool2d",
    "avg_pool2d_backward",
    "col2im",
    "conv1d",
    "conv2d",
    "conv2d_backward",
    "conv2d_input_grad",
    "conv2d_naive",
    "conv2d_weight_grad",
    "depthwise_separable_conv2d",
    "global_avg_pool2d",
    "im2col",
    "linear",
    "linear_backward",
    "linear_forward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_indices",
    "output_size",
    "receptive_field",
    "same_padding",
    "true_convolution2d",
]

Pair = int | Sequence[int]
Padding = str | int | Sequence[int]
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


# shapes --------------------------------------------------------------------------------------------------------------


def output_size(
    size: int,
    kernel_size: int,
    stride: int = 1,
    padding: str | int | tuple[int, int] = 0,
    dilation: int = 1,
    *,
    ceil_mode: bool = False,
) -> int:
    """⌊(size + padding before and after − dilation · (kernel_size − 1) − 1) / stride⌋ + 1: outputs along one axis.

    padding is a number for each side, a pair (before, after), "same" or "valid". With ceil_mode (of pooling) a last
    window may hang over the end, unless it would start beyond the image and its padding before. Raises ValueError where
    the kernel is larger than the padded image, and for a kernel, stride or dilation below 1.
    """
    before, after = resolve_padding(size, kernel_size, stride, padding, dilation)
    room = size + before + after - dilation * (kernel_size - 1) - 1
    if room < 0:
        raise ValueError(
            f"kernel of extent {dilation * (kernel_size - 1) + 1} doesn't fit in {size} with padding {before} + {after}"
        )
    if not ceil_mode:
        return room // stride + 1
    outputs = -(-room // stride) + 1
    return outputs - 1 if (outputs - 1) * stride >= size + before else outputs


def same_padding(size: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """(before, after) of padding="same": what makes ⌈size / stride⌉ outputs. An odd cell goes after the image.

    For stride 1 it is PyTorch's rule too. For stride 2 and kernel 3 an even image is padded by (0, 1), where a
    PyTorch layer with padding=1 pads by (1, 1) and so sees the image one cell shifted. Raises ValueError for a kernel,
    stride or dilation below 1.
    """
    check_window(kernel_size, stride, dilation)
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + dilation * (kernel_size - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def check_window(kernel_size: int, stride: int, dilation: int) -> None:
    if min(kernel_size, stride, dilation) < 1:
        raise ValueError(
            f"kernel_size, stride and dilation have to be at least 1, got {kernel_size}, {stride} and {dilation}"
        )


def resolve_padding(
    size: int, kernel_size: int, stride: int, padding: str | int | tuple[int, int], dilation: int
) -> tuple[int, int]:
    """(before, after) along one axis."""
    check_window(kernel_size, stride, dilation)
    if padding == "same":
        return same_padding(size, kernel_size, stride, dilation)
    if padding == "valid":
        return 0, 0
    if isinstance(padding, str):
        raise ValueError(f'padding has to be a number, a pair, "same" or "valid", got {padding!r}')
    before, after = (padding, padding) if isinstance(padding, int) else padding
    if before < 0 or after < 0:
        raise ValueError(f"padding has to be at least 0, got {padding}")
    return before, after


@dataclass(frozen=True)
class Window:
    """How one conv or pooling layer moves along an axis; padding is symmetric, or a pair (before, after)."""

    kernel_size: int
    stride: int = 1
    padding: int | tuple[int, int] = 0
    dilation: int = 1


@dataclass(frozen=True)
class ReceptiveField:
    """What one output of a stack of layers sees of the input, along one axis, in cells.

    size   how many cells it spans
    jump   how many cells lie between two neighbouring outputs
    start  the first cell that output 0 sees; negative where that is padding. Output i sees start + i · jump and the
           size − 1 cells after it.
    """

    size: int
    jump: int
    start: int


def receptive_field(layers: Iterable[Window]) -> ReceptiveField:
    """The receptive field of a stack of windows, the layer next to the input first: each layer widens it by
    dilation · (kernel_size − 1) · jump, and then multiplies jump by its stride.

    For "same" give each window the pair from `same_padding`. Araujo et al. 2019.
    """
    size, jump, start = 1, 1, 0
    for layer in layers:
        check_window(layer.kernel_size, layer.stride, layer.dilation)
        before = layer.padding if isinstance(layer.padding, int) else layer.padding[0]
        size += layer.dilation * (layer.kernel_size - 1) * jump
        start -= before * jump
        jump *= layer.stride
    return ReceptiveField(size, jump, start)


def pair(value: Pair, name: str) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} has to be a number or a pair, got {tuple(value)}")
    return int(value[0]), int(value[1])


def resolve_pads(x: Tensor, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Pads:
    """((top, bottom), (left, right)) for x (..., H, W)."""
    each = (padding, padding) if isinstance(padding, str) else pair(padding, "padding")
    return tuple(map(resolve_padding, x.shape[-2:], kernel_size, stride, each, dilation))


def output_sizes(
    x: Tensor, kernel_size: Pair, stride: Pair, pads: Pads, dilation: Pair = (1, 1), ceil_mode: bool = False
) -> tuple[int, int]:
    sizes = zip(x.shape[-2:], kernel_size, stride, pads, dilation, strict=True)
    rows, columns = (output_size(*along, ceil_mode=ceil_mode) for along in sizes)
    return rows, columns


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    (top, bottom), (left, right) = pads
    return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x


def cropped(x: Tensor, pads: Pads, size: Sequence[int]) -> Tensor:
    """The inverse of `padded`: the image of `size` in it."""
    (top, _), (left, _) = pads
    return x[..., top : top + size[-2], left : left + size[-1]]


def wide_zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Zeros to add up in: float32 for half precision, where adding up many terms would lose digits."""
    half = like.dtype in (torch.float16, torch.bfloat16)
    return like.new_zeros(shape, dtype=torch.float32 if half else like.dtype)


# linear --------------------------------------------------------------------------------------------------------------


def linear_forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias: x (..., in), weight (out, in), bias (out,) → (..., out)."""
    if bias is None or x.dim() < 2:
        return x @ weight.T if bias is None else x @ weight.T + bias
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight.T).reshape(*x.shape[:-1], len(weight))


def linear_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dweight, dbias) of a linear layer: grad · weight, gradᵀ · x and Σ grad, the sum over all examples.

    grad is (..., out), x (..., in), weight (out, in); each result is of the shape of what it belongs to.
    """
    rows = grad.reshape(-1, grad.shape[-1])
    return grad @ weight, rows.T @ x.reshape(-1, x.shape[-1]), rows.sum(0)


class LinearFunction(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, bias):
        return linear_forward(x, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, bias = inputs
        ctx.has_bias = bias is not None
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad @ weight if ctx.needs_input_grad[0] else None,
            rows.T @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.has_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias, with `linear_backward` as its derivative: x (..., in), weight (out, in) → (..., out).

    Raises ValueError where x doesn't end in weight's second size.
    """
    if x.dim() < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"a weight of size {tuple(weight.shape)} needs x (..., {weight.shape[1]}), got {tuple(x.shape)}"
        )
    return LinearFunction.apply(x, weight, bias)


# convolution ---------------------------------------------------------------------------------------------------------


def im2col(x: Tensor, kernel_size: Pair, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1) -> Tensor:
    """Each window of x (N, C, H, W) as a column: (N, C · kh · kw, H' · W'), as torch.nn.functional.unfold's."""
    kernel_size, stride, dilation = pair(kernel_size, "kernel_size"), pair(stride, "stride"), pair(dilation, "dilation")
    pads = resolve_pads(x, kernel_size, stride, padding, dilation)
    rows, columns = output_sizes(x, kernel_size, stride, pads, dilation)
    windows = windows_of(padded(x, pads), kernel_size, stride, dilation)  # a view
    return windows.reshape(len(x), x.shape[1] * math.prod(kernel_size), rows * columns)


def windows_of(x: Tensor, kernel_size: Pair, stride: Pair, dilation: Pair) -> Tensor:
    """A view of x (N, C, H, W) as (N, C, kh, kw, H', W')."""
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    # (N, C, H, W) -> (N, C, H', W', extent, extent)
    views = x.unfold(2, extents[0], stride[0]).unfold(3, extents[1], stride[1])
    return views[..., :: dilation[0], :: dilation[1]].permute(0, 1, 4, 5, 2, 3)


def col2im(
    columns: Tensor,
    size: Sequence[int],
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
) -> Tensor:
    """The adjoint of `im2col`: each column added back to where its window was, (N, C · kh · kw, L) → (N, C, *size).

    A cell that lies in several windows gets the sum of what they hold for it: it is not `im2col`'s inverse. As
    torch.nn.functional.fold. size is the (H, W) of the image.
    """
    kernel_size, stride, dilation = pair(kernel_size, "kernel_size"), pair(stride, "stride"), pair(dilation, "dilation")
    (kh, kw), examples = kernel_size, len(columns)
    channels = columns.shape[1] // (kh * kw)
    image = columns.new_empty((0, channels, *size))  # for its shape
    pads = resolve_pads(image, kernel_size, stride, padding, dilation)
    rows_columns = output_sizes(image, kernel_size, stride, pads, dilation)
    columns = columns.reshape(examples, channels, kh, kw, *rows_columns)
    x = wide_zeros(columns, (examples, channels, *(n + sum(p) for n, p in zip(size, pads, strict=True))))
    for (i, j), cells in shifted(x, kernel_size, stride, dilation, rows_columns):
        cells += columns[:, :, i, j]
    return cropped(x, pads, size).to(columns.dtype)


def shifted(
    x: Tensor, kernel_size: Pair, stride: Pair, dilation: Pair, outputs: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """For each place (i, j) in the window, row by row: a view of what all windows have there, (N, C, H', W')."""
    for i, j in itertools.product(*map(range, kernel_size)):
        top, left = i * dilation[0], j * dilation[1]
        bottom, right = (start + s * (n - 1) + 1 for start, s, n in zip((top, left), stride, outputs, strict=True))
        yield (i, j), x[..., top : bottom : stride[0], left : right : stride[1]]


def conv2d_naive(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """The definition of `conv2d` in loops, to be read: for each example, kernel, row and column the sum over a window.

    Deliberately naive: thousands of times slower than `conv2d`.
    """
    kernel_size, stride, dilation = weight.shape[2:], pair(stride, "stride"), pair(dilation, "dilation")
    check_conv(x, weight, groups)
    pads = resolve_pads(x, kernel_size, stride, padding, dilation)
    rows, columns = output_sizes(x, kernel_size, stride, pads, dilation)
    image, inputs, kernels = padded(x, pads), weight.shape[1], len(weight) // groups
    y = x.new_zeros(len(x), len(weight), rows, columns)
    for n in range(len(x)):
        for o in range(len(weight)):
            first = o // kernels * inputs  # the first input channel of this kernel's group
            for row in range(rows):
                for column in range(columns):
                    total = 0 if bias is None else bias[o]
                    for c in range(inputs):
                        for i in range(kernel_size[0]):
                            for j in range(kernel_size[1]):
                                cell = image[
                                    n,
                                    first + c,
                                    row * stride[0] + i * dilation[0],
                                    column * stride[1] + j * dilation[1],
                                ]
                                total = total + weight[o, c, i, j] * cell
                    y[n, o, row, column] = total
    return y


def check_conv(x: Tensor, weight: Tensor, groups: int) -> None:
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            f"expected x (N, C, H, W) and a weight (out, in, kh, kw), got {tuple(x.shape)}, {tuple(weight.shape)}"
        )
    if groups < 1 or len(weight) % groups or x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"a weight of size {tuple(weight.shape)} in {groups} groups needs {weight.shape[1] * groups} channels and "
            f"outputs divisible by {groups}, got an input of size {tuple(x.shape)}"
        )


# Elements of the columns that are laid out at once: those of a few examples stay in the cache. All columns of a layer
# take kh · kw times the memory of its input.
COLUMNS = 2**20


def examples_at_once(x: Tensor, kernel_size: Sequence[int], outputs: Sequence[int]) -> int:
    each = x.shape[1] * math.prod(kernel_size) * math.prod(outputs)
    return max(1, (64 if x.is_cuda else 1) * COLUMNS // max(each, 1))


def conv2d_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, pads: Pads, dilation: Pair, groups: int
) -> Tensor:
    """Kernels · columns + bias for a few examples at a time, in memory that serves them all: new memory costs more."""
    kernel_size, inputs = weight.shape[2:], weight.shape[1]
    outputs = output_sizes(x, kernel_size, stride, pads, dilation)
    if inputs == 1 and len(weight) == groups:
        return depthwise_forward(padded(x, pads), weight, bias, stride, dilation, outputs)
    at_once, inner = min(examples_at_once(x, kernel_size, outputs), len(x)), inputs * math.prod(kernel_size)
    kernels = weight.reshape(groups, len(weight) // groups, inner)
    y, columns = x.new_empty(len(x), len(weight), *outputs), x.new_empty(at_once, x.shape[1], *kernel_size, *outputs)
    for part, y_part in zip(x.split(max(1, at_once)), y.split(max(1, at_once)), strict=True):
        laid_out = columns[: len(part)].copy_(windows_of(padded(part, pads), kernel_size, stride, dilation))
        laid_out = laid_out.view(len(part), groups, inner, math.prod(outputs))
        torch.matmul(kernels, laid_out, out=y_part.view(len(part), *kernels.shape[:2], math.prod(outputs)))
        if bias is not None:
            y_part.add_(bias.reshape(-1, 1, 1))
    return y


def conv2d_at_once(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Tensor:
    """`conv2d_forward` in one product: kernels · columns + bias."""
    columns = im2col(x, weight.shape[2:], stride, padding, dilation)
    kernels = weight.reshape(groups, len(weight) // groups, -1)
    y = kernels @ columns.reshape(len(x), groups, kernels.shape[2], -1)
    pads = resolve_pads(x, weight.shape[2:], stride, padding, dilation)
    y = y.reshape(len(x), len(weight), *output_sizes(x, weight.shape[2:], stride, pads, dilation))
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def conv2d_input_grad(
    grad: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """dx of `conv2d`, `col2im` of weightᵀ · grad: (N, in, *size) from grad (N, out, H', W'). size is x's (H, W).

    It is what a "transposed convolution" computes forward.
    """
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    kernel_size = weight.shape[2:]
    out, outputs = len(weight) // groups, math.prod(grad.shape[2:])
    kernels = weight.reshape(groups, out, math.prod(weight.shape[1:])).mT
    channels, parts = weight.shape[1] * groups, []
    if weight.shape[1] == 1 and len(weight) == groups:
        return depthwise_input_grad(grad, weight, size, stride, padding, dilation)
    like = grad.new_empty((0, channels, *size))
    for part in grad.split(examples_at_once(like, kernel_size, grad.shape[2:])):
        columns = kernels @ part.reshape(len(part), groups, out, outputs)
        columns = columns.reshape(len(part), channels * math.prod(kernel_size), outputs)
        parts.append(col2im(columns, size, kernel_size, stride, padding, dilation))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def conv2d_weight_grad(
    grad: Tensor,
    x: Tensor,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """dweight of `conv2d`, Σ grad · columnsᵀ over the examples: (out, in / groups, kh, kw); grad (N, out, H', W')."""
    kernel_size, stride, dilation = pair(kernel_size, "kernel_size"), pair(stride, "stride"), pair(dilation, "dilation")
    pads = resolve_pads(x, kernel_size, stride, padding, dilation)
    out, inputs = grad.shape[1] // groups, x.shape[1] // groups
    if out == inputs == 1:
        return depthwise_weight_grad(grad, padded(x, pads), kernel_size, stride, dilation)
    dweight = wide_zeros(x, (groups, out, inputs * math.prod(kernel_size)))
    at_once, outputs = examples_at_once(x, kernel_size, grad.shape[2:]), math.prod(grad.shape[2:])
    for part, g in zip(x.split(at_once), grad.split(at_once), strict=True):
        columns = windows_of(padded(part, pads), kernel_size, stride, dilation)
        columns = columns.reshape(len(part), groups, dweight.shape[2], outputs)
        dweight = dweight + (g.reshape(len(part), groups, out, outputs) @ columns.mT).sum(0, dtype=dweight.dtype)
    return dweight.reshape(groups * out, inputs, *kernel_size).to(x.dtype)


# One kernel for each channel: columns would make products with matrices of a single row. They are summed by hand, place
# by place in the kernel.


def depthwise_forward(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, dilation: Pair, outputs: tuple[int, int]
) -> Tensor:
    """`conv2d_forward` of the padded image with a kernel for each channel."""
    y = image.new_zeros(len(image), len(weight), *outputs)
    if bias is not None:
        y += bias.reshape(-1, 1, 1)
    at_once = examples_at_once(image, (1, 1), outputs)
    for part, y_part in zip(image.split(at_once), y.split(at_once), strict=True):
        for (i, j), cells in shifted(part, weight.shape[2:], stride, dilation, outputs):
            y_part.addcmul_(cells, weight[:, :, i, j].unsqueeze(-1))
    return y


def depthwise_input_grad(
    grad: Tensor, weight: Tensor, size: Sequence[int], stride: Pair, padding: Padding, dilation: Pair
) -> Tensor:
    kernel_size, parts = weight.shape[2:], []
    image = grad.new_empty((0, len(weight), *size))  # for its shape
    pads = resolve_pads(image, kernel_size, stride, padding, dilation)
    whole = [n + sum(p) for n, p in zip(size, pads, strict=True)]
    for part in grad.split(examples_at_once(image, (1, 1), size)):
        dx = wide_zeros(part, (len(part), len(weight), *whole))
        for (i, j), cells in shifted(dx, kernel_size, stride, dilation, grad.shape[2:]):
            cells += part * weight[:, :, i, j].unsqueeze(-1)
        parts.append(cropped(dx, pads, size).to(grad.dtype))
    return torch.cat(parts)


def depthwise_weight_grad(grad: Tensor, image: Tensor, kernel_size: Pair, stride: Pair, dilation: Pair) -> Tensor:
    """Σ grad · cells for each place in the kernel, (C, 1, kh, kw); the image is padded."""
    at_once = examples_at_once(image, (1, 1), grad.shape[2:])
    total = 0
    for part, g in zip(image.split(at_once), grad.split(at_once), strict=True):
        places = shifted(part, kernel_size, stride, dilation, grad.shape[2:])
        dtype = wide_zeros(g, ()).dtype
        total = total + torch.stack([(g * cells).sum((0, 2, 3), dtype=dtype) for _, cells in places], 1)
    return total.reshape(-1, 1, *kernel_size).to(image.dtype)


def conv2d_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dweight, dbias) of `conv2d` from grad (N, out, H', W'); a bias touches every position, so dbias = Σ grad."""
    how = (stride, padding, dilation, groups)
    pads = resolve_pads(x, weight.shape[2:], pair(stride, "stride"), padding, pair(dilation, "dilation"))
    outputs = output_sizes(x, weight.shape[2:], pair(stride, "stride"), pads, pair(dilation, "dilation"))
    if grad.shape != (len(x), len(weight), *outputs):
        raise ValueError(f"grad has to be of size {(len(x), len(weight), *outputs)}, got {tuple(grad.shape)}")
    return (
        conv2d_input_grad(grad, weight, x.shape[2:], *how),
        conv2d_weight_grad(grad, x, weight.shape[2:], *how),
        grad.sum((0, 2, 3)),
    )


class Conv2dFunction(torch.autograd.Function):
    """Saves x and weight, no columns: they are laid out again in the backward pass."""

    @staticmethod
    def forward(x, weight, bias, stride, padding, dilation, groups):
        pads = resolve_pads(x, weight.shape[2:], stride, padding, dilation)
        return conv2d_forward(x, weight, bias, stride, pads, dilation, groups)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, bias, *ctx.how = inputs
        ctx.has_bias = bias is not None
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        dx = conv2d_input_grad(grad, weight, x.shape[2:], *ctx.how) if ctx.needs_input_grad[0] else None
        dw = conv2d_weight_grad(grad, x, weight.shape[2:], *ctx.how) if ctx.needs_input_grad[1] else None
        return dx, dw, grad.sum((0, 2, 3)) if ctx.has_bias else None, None, None, None, None

    @staticmethod
    def vmap(info, in_dims, x, weight, bias, *how):
        return torch.vmap(lambda x, weight, bias: conv2d_at_once(x, weight, bias, *how), in_dims[:3])(
            x, weight, bias
        ), 0


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """y[n, o, r, c] = bias[o] + Σ weight[o, k, i, j] · x[n, k, r · stride + i · dilation, …] over k, i, j: a
    cross-correlation, as in every framework.

    x (N, C, H, W) or (C, H, W), weight (out, C / groups, kh, kw), bias (out,) → (N, out, H', W') by `output_size`.
    `conv2d_backward` is its derivative. Unlike PyTorch's, padding="same" takes any stride, as TensorFlow's. Raises
    ValueError where channels and groups don't fit, and where the kernel is larger than the padded image.
    """
    if x.dim() == 3:
        return conv2d(x.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    check_conv(x, weight, groups)
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    padding = padding if isinstance(padding, str) else pair(padding, "padding")
    pads = resolve_pads(x, weight.shape[2:], stride, padding, dilation)
    output_sizes(x, weight.shape[2:], stride, pads, dilation)  # raises here, with a clear line
    return Conv2dFunction.apply(x, weight, bias, stride, padding, dilation, groups)


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: str | int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """`conv2d` of an image one cell high: x (N, C, L), weight (out, C / groups, k) → (N, out, L')."""
    if x.dim() not in (2, 3) or weight.dim() != 3:
        raise ValueError(f"expected x (N, C, L) and a weight (out, in, k), got {tuple(x.shape)}, {tuple(weight.shape)}")
    padding = padding if isinstance(padding, str) else (0, padding)
    y = conv2d(x.unsqueeze(-2), weight.unsqueeze(-2), bias, (1, stride), padding, (1, dilation), groups)
    return y.squeeze(-2)


def true_convolution2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: Padding = 0) -> Tensor:
    """Σ weight[o, k, i, j] · x[n, k, r − i, c − j]: the convolution of mathematics, `conv2d` with the kernel flipped.

    It is commutative and associative, which a cross-correlation is not; a net that learns its kernels can't tell.
    """
    return conv2d(x, weight.flip(-2, -1), bias, 1, padding)


def depthwise_separable_conv2d(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
) -> Tensor:
    """A kernel per channel, then a 1 × 1 convolution that mixes the channels: about 1 / k² of a full layer's weights.

    x (N, C, H, W), depthwise (C · m, 1, kh, kw), pointwise (out, C · m, 1, 1), bias (out,). The bias and any activation
    come after the second. Chollet 2017.
    """
    return conv2d(conv2d(x, depthwise, None, stride, padding, dilation, groups=x.shape[-3]), pointwise, bias)


# pooling -------------------------------------------------------------------------------------------------------------


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
    total = wide_zeros(x, (*x.shape[:2], *outputs))
    for _, cells in shifted(image, kernel_size, stride, ones, outputs):
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
    share = grad.to(dx.dtype) / divisors
    for _, cells in shifted(dx, kernel_size, stride, ones, outputs):
        cells += share
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


# layers --------------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """`linear` with parameters weight (out, in) and bias (out,); state_dict and initialization as torch.nn.Linear's."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        torch_default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def torch_default_(weight: Tensor, bias: Tensor | None) -> None:
    """Both uniform in ±1/√fan_in: PyTorch's default, written there as Kaiming uniform with a = √5."""
    bound = 1 / math.sqrt(weight[0].numel()) if weight.numel() else 0.0
    nn.init.uniform_(weight, -bound, bound)
    if bias is not None:
        nn.init.uniform_(bias, -bound, bound)


class Conv2d(nn.Module):
    """`conv2d` with parameters; state_dict and initialization as torch.nn.Conv2d's. "same" takes any stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"in_channels {in_channels} and out_channels {out_channels} have to be divisible by groups {groups}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "kernel_size"), pair(stride, "stride")
        self.padding, self.dilation = padding, pair(dilation, "dilation")
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        torch_default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


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
