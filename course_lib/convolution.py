"""Linear and convolution layers with hand-written backward passes.

A convolution is a matrix product: `im2col` lays every window of the image out as a column, the kernels are the rows of
a matrix, and `col2im`, the adjoint of `im2col`, carries gradients back. What deep learning calls convolution is the
cross-correlation Σ w[i, j] · x[r + i, c + j]; `true_convolution2d` flips the kernel first, as mathematics does.

`conv2d_naive` is the definition in loops, `conv2d` the fast one for autograd; the functions ending in `_backward` are
its derivative as plain functions. Layout is PyTorch's: x (N, C, H, W), weight (out, in / groups, kh, kw).

The sums about shapes are in `course_lib.windows`, pooling is in `course_lib.pooling`; both can be had from here too.

Sources: LeCun et al. 1998; Chellapilla et al. 2006 (as a matrix product); Chollet 2017 (depthwise separable,
arXiv:1610.02357).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_lib.pooling import (
    AvgPool2d,
    MaxPool2d,
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_with_indices,
)
from course_lib.windows import (
    Padding,
    Pads,
    Pair,
    ReceptiveField,
    Window,
    cropped,
    output_size,
    output_sizes,
    padded,
    pair,
    receptive_field,
    resolve_pads,
    same_padding,
    shifted,
    wide_zeros,
    windows_of,
)

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
    """(dx, dweight, dbias) of `conv2d` from grad (N, out, H', W'); a bias touches every position, so dbias = Σ grad.

    Raises ValueError where grad is not of the size of `conv2d`'s result.
    """
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
    """`conv2d` of an image one cell high: x (N, C, L) or (C, L), weight (out, C / groups, k) → (N, out, L').

    Raises ValueError for another number of dimensions; otherwise as `conv2d`.
    """
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
