"""How a window moves over an image: the sizes of what comes out, padding, receptive fields, and views of every window.

Padding is symmetric numbers, "valid", or "same" in TensorFlow's sense: ⌈size / stride⌉ outputs for every stride, an odd
cell of padding after the image, not before.

Sources: Dumoulin & Visin 2016 (the arithmetic of shapes, arXiv:1603.07285); Araujo et al. 2019 (receptive fields,
distill.pub).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ReceptiveField", "Window", "output_size", "receptive_field", "same_padding"]

Pair = int | Sequence[int]
Padding = str | int | Sequence[int]
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


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


# views of an image -------------------------------------------------------------------------------------------------


def windows_of(x: Tensor, kernel_size: Pair, stride: Pair, dilation: Pair) -> Tensor:
    """A view of x (N, C, H, W) as (N, C, kh, kw, H', W')."""
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    # (N, C, H, W) -> (N, C, H', W', extent, extent)
    views = x.unfold(2, extents[0], stride[0]).unfold(3, extents[1], stride[1])
    return views[..., :: dilation[0], :: dilation[1]].permute(0, 1, 4, 5, 2, 3)


def shifted(
    x: Tensor, kernel_size: Pair, stride: Pair, dilation: Pair, outputs: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """For each place (i, j) in the window, row by row: a view of what all windows have there, (N, C, H', W')."""
    for i, j in itertools.product(*map(range, kernel_size)):
        top, left = i * dilation[0], j * dilation[1]
        bottom, right = (start + s * (n - 1) + 1 for start, s, n in zip((top, left), stride, outputs, strict=True))
        yield (i, j), x[..., top : bottom : stride[0], left : right : stride[1]]
