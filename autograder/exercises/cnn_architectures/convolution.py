"""The convolution itself, forward from plain operations and backward by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from course_lib import convolution as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "09_cnn_architectures"
FORBIDDEN = (
    "torch.nn.functional.conv2d",
    "torch.conv2d",
    "torch.convolution",
    "torch.nn.functional.conv_transpose2d",
    "torch.conv_transpose2d",
    "torch.nn.Conv2d",
    "course_lib.convolution",
)

# ---------------------------------------------------------------- forward


def conv2d_cases(seed):
    """Each setting alone and all together, one picture, a kernel that is not square, 1 × 1, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, x, weight, stride=1, padding=0, dilation=1, groups=1, dtype=np.float32, size=1.0):
        return Case(
            name,
            {
                "x": (size * rng.normal(size=x)).astype(dtype),
                "weight": rng.normal(size=weight).astype(dtype),
                "bias": rng.normal(size=weight[0]).astype(dtype),
                "stride": stride,
                "padding": padding,
                "dilation": dilation,
                "groups": groups,
            },
        )

    yield case("3 × 3, nothing else", (2, 3, 6, 7), (4, 3, 3, 3))
    yield case("padding 1", (2, 2, 5, 6), (3, 2, 3, 3), padding=1)
    yield case("stride 2, padding 1", (2, 2, 8, 7), (3, 2, 3, 3), stride=2, padding=1)
    yield case("dilation 2", (2, 2, 8, 9), (3, 2, 3, 3), dilation=2)
    yield case("2 groups", (2, 4, 5, 5), (6, 2, 3, 3), groups=2)
    yield case("a kernel for each map (4 groups)", (1, 4, 6, 6), (4, 1, 3, 3), padding=1, groups=4)
    yield case("kernel 1 × 1", (2, 3, 4, 5), (5, 3, 1, 1))
    yield case("a kernel of 2 × 3, stride 2", (1, 2, 7, 6), (2, 2, 2, 3), stride=2)
    yield case("stride 3, padding 2, dilation 2, 2 groups", (2, 4, 11, 12), (4, 2, 3, 3), 3, 2, 2, 2)
    yield case("values around ±1e4", (1, 2, 5, 5), (2, 2, 3, 3), padding=1, size=1e4)
    yield case("float64", (1, 2, 5, 5), (2, 2, 3, 3), stride=2, padding=1, dtype=np.float64)


def conv2d_probe(candidate, case):
    import torch

    x, weight, bias = (torch.tensor(case[name], requires_grad=True) for name in ("x", "weight", "bias"))
    y = candidate(x, weight, bias, case["stride"], case["padding"], case["dilation"], case["groups"])
    outputs = {"output": y.clone()}
    slope = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    gradients = torch.autograd.grad((y * slope).sum(), (x, weight, bias), allow_unused=True)
    for name, leaf, gradient in zip(("x", "weight", "bias"), (x, weight, bias), gradients, strict=True):
        outputs[f"gradient of {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return outputs


def true_convolution(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    weight = weight.flip(2, 3)
    parts = []
    for part, kernels in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
                y = y + torch.einsum("nchw,oc->nohw", part[:, :, rows, columns], kernels[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1) + bias[:, None, None]


def bias_left_out(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    parts = []
    for part, kernels in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
                y = y + torch.einsum("nchw,oc->nohw", part[:, :, rows, columns], kernels[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1)


def padding_forgotten(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], x
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    parts = []
    for part, kernels in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
                y = y + torch.einsum("nchw,oc->nohw", part[:, :, rows, columns], kernels[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1) + bias[:, None, None]


def padded_at_the_end(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (0, 2 * padding, 0, 2 * padding))
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    parts = []
    for part, kernels in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
                y = y + torch.einsum("nchw,oc->nohw", part[:, :, rows, columns], kernels[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1) + bias[:, None, None]


def stride_ignored(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high, wide = images.shape[2] - dilation * (kh - 1), images.shape[3] - dilation * (kw - 1)
    parts = []
    for part, kernels in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                window = part[:, :, i * dilation : i * dilation + high, j * dilation : j * dilation + wide]
                y = y + torch.einsum("nchw,oc->nohw", window, kernels[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1) + bias[:, None, None]


def dilation_ignored(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high, wide = (images.shape[2] - kh) // stride + 1, (images.shape[3] - kw) // stride + 1
    parts = []
    for part, kernels in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                rows = slice(i, i + stride * (high - 1) + 1, stride)
                columns = slice(j, j + stride * (wide - 1) + 1, stride)
                y = y + torch.einsum("nchw,oc->nohw", part[:, :, rows, columns], kernels[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1) + bias[:, None, None]


def groups_ignored(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    y = 0
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
            columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
            y = y + torch.einsum("nchw,oc->nohw", images[:, :, rows, columns], weight[:, :, i, j])
    return y + bias[:, None, None]


def groups_share_the_first(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    images = images[:, : weight.shape[1]]
    y = 0
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
            columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
            y = y + torch.einsum("nchw,oc->nohw", images[:, :, rows, columns], weight[:, :, i, j])
    return y + bias[:, None, None]


def outside_the_graph(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    parts = []
    for part, kernels in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
                y = y + torch.einsum("nchw,oc->nohw", part[:, :, rows, columns], kernels[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1).detach() + bias[:, None, None]


def by_unfold(x, weight, bias, stride, padding, dilation, groups):
    kh, kw = weight.shape[2:]
    columns = F.unfold(x, (kh, kw), dilation, padding, stride)  # (N, C · kh · kw, L)
    columns = columns.reshape(len(x), groups, -1, columns.shape[-1])
    kernels = weight.reshape(groups, len(weight) // groups, -1)
    high = (x.shape[2] + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    return (kernels @ columns).reshape(len(x), len(weight), high, -1) + bias.view(-1, 1, 1)


def by_shifted_views(x, weight, bias, stride, padding, dilation, groups):
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding,) * 4)
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    inputs, outputs = weight.shape[1], len(weight) // groups
    y = bias.reshape(1, -1, 1, 1).repeat(len(x), 1, high, wide)
    for g in range(groups):
        part = images[:, g * inputs : (g + 1) * inputs]
        kernels = weight[g * outputs : (g + 1) * outputs]
        total = 0
        for i in range(kh):
            for j in range(kw):
                cells = part[:, :, i * dilation :: stride, j * dilation :: stride][:, :, :high, :wide]
                total = total + torch.einsum("nchw,oc->nohw", cells, kernels[:, :, i, j])
        y = torch.cat(
            [y[:, : g * outputs], y[:, g * outputs : (g + 1) * outputs] + total, y[:, (g + 1) * outputs :]], 1
        )
    return y


def by_loops_over_places(x, weight, bias, stride, padding, dilation, groups):
    images = F.pad(x, (padding, padding, padding, padding))
    tall, broad = (dilation * (k - 1) + 1 for k in weight.shape[2:])
    rows = []
    for top in range(0, images.shape[2] - tall + 1, stride):
        row = []
        for left in range(0, images.shape[3] - broad + 1, stride):
            window = images[:, :, top : top + tall : dilation, left : left + broad : dilation]
            window = window.reshape(len(x), groups, weight.shape[1], *weight.shape[2:])
            kernels = weight.reshape(groups, -1, *weight.shape[1:])
            row.append(torch.einsum("ngchw,gochw->ngo", window, kernels).flatten(1) + bias)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


conv2d = Exercise(
    id="cnn_architectures.conv2d",
    lesson=LESSON,
    title="A convolution, from plain operations",
    answer="conv2d",
    criteria=(
        Criterion("output", 2, Close(operations=256)),
        Criterion("gradient of x", 1, Close(operations=256), requires=("output",)),
        Criterion("gradient of weight", 0, Close(operations=512)),
        Criterion("gradient of bias", 0, Close(operations=512)),
    ),
    cases=conv2d_cases,
    probe=conv2d_probe,
    reference=reference.conv2d,
    misconceptions=(
        Misconception(
            "true_convolution",
            true_convolution,
            "You turn the kernel round before you slide it. That is the convolution of mathematics; what every "
            "framework calls convolution is the correlation, which does not.",
            "Leave the kernel as it is: its cell (0, 0) meets the window's upper left cell.",
        ),
        Misconception(
            "bias_left_out",
            bias_left_out,
            "The bias is missing: each output map should be higher by its own number.",
            "Add bias[:, None, None], which fits maps of shape (out, rows, columns).",
        ),
        Misconception(
            "padding_forgotten",
            padding_forgotten,
            "`padding` is not used: where there is some, your maps come out too small.",
            "Put `padding` rows and columns of zeros on each of the four sides first (F.pad).",
        ),
        Misconception(
            "padded_at_the_end",
            padded_at_the_end,
            "All the padding lies below and to the right, so every window is shifted. The size is right, which is why "
            "this is so hard to see.",
            "`padding` zeros on each side: F.pad(x, (left, right, top, bottom)).",
        ),
        Misconception(
            "stride_ignored",
            stride_ignored,
            "`stride` is not used: the window moves by one pixel, whatever it says.",
            "Neighbouring windows lie `stride` pixels apart, in rows and in columns.",
        ),
        Misconception(
            "dilation_ignored",
            dilation_ignored,
            "`dilation` is not used: the kernel's cells should lie `dilation` pixels apart.",
            "Cell (i, j) of the kernel meets the pixel i · dilation down and j · dilation to the right. The window "
            "then spans dilation · (k − 1) + 1 pixels.",
        ),
        Misconception(
            "groups_ignored",
            groups_ignored,
            "Where there are groups your code stops: a kernel has only in / groups maps, and you meet it with all.",
            "Cut the maps of x and the kernels into `groups` equal parts; each part of the kernels sees its part of x.",
        ),
        Misconception(
            "groups_share_the_first",
            groups_share_the_first,
            "Every group looks at the first maps of x. The second group's kernels belong to the maps that come next.",
            "Group g sees the maps from g · in / groups on.",
        ),
        Misconception(
            "outside_the_graph",
            outside_the_graph,
            "The output is right, but no gradient comes back to x and to the weight.",
            "No .detach(), .data, .item(), numpy or torch.no_grad() on the way.",
        ),
    ),
    variants=(
        Variant("by_unfold", by_unfold),
        Variant("by_shifted_views", by_shifted_views),
        Variant("by_loops_over_places", by_loops_over_places),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Take stride 1, no padding and one map first. Which pixels meet the kernel's cell (i, j), over all windows? It "
        "is a whole picture, shifted by i and j.",
        "So loop over the kernel's cells, not over the windows: for each (i, j) add weight[:, :, i, j] times the "
        "shifted picture. torch.einsum('nchw,oc->nohw', shifted, weight[:, :, i, j]) sums over the maps.",
        "Rows of the shifted picture: start at i · dilation, step by stride, as many as there are outputs: "
        "(H + 2 · padding − dilation · (k − 1) − 1) // stride + 1.",
    ),
    minutes=30,
)

# ---------------------------------------------------------------- backward


def backward_cases(seed):
    """Stride and padding alone and together, a picture that the windows do not fill, one picture, ±1e3, float64."""
    rng = np.random.default_rng(seed)

    def case(name, x, weight, stride=1, padding=0, dtype=np.float32, size=1.0):
        outputs = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x[2:], weight[2:], strict=True)]
        return Case(
            name,
            {
                "grad": rng.normal(0.5, 1.0, (x[0], weight[0], *outputs)).astype(dtype),
                "x": (size * rng.normal(size=x)).astype(dtype),
                "weight": rng.normal(size=weight).astype(dtype),
                "stride": stride,
                "padding": padding,
            },
        )

    yield case("3 × 3, nothing else", (3, 2, 6, 5), (4, 2, 3, 3))
    yield case("padding 1", (2, 2, 5, 6), (3, 2, 3, 3), padding=1)
    yield case("stride 2", (2, 2, 7, 9), (3, 2, 3, 3), stride=2)
    yield case("stride 2, padding 1, rows left over", (2, 3, 8, 8), (2, 3, 3, 3), stride=2, padding=1)
    yield case("stride 3, wider than a kernel of 2", (2, 2, 9, 8), (3, 2, 2, 2), stride=3)
    yield case("one picture, kernel 1 × 1", (1, 3, 4, 4), (5, 3, 1, 1))
    yield case("a kernel of 2 × 3", (2, 2, 6, 6), (3, 2, 2, 3), padding=1)
    yield case("values around ±1e3", (2, 2, 5, 5), (2, 2, 3, 3), padding=1, size=1e3)
    yield case("float64", (2, 2, 6, 6), (2, 2, 3, 3), stride=2, padding=1, dtype=np.float64)


def backward_probe(candidate, case):
    import torch

    grad, x, weight = (torch.tensor(case[name]) for name in ("grad", "x", "weight"))
    dx, dweight, dbias = candidate(grad, x, weight, case["stride"], case["padding"])
    return {"dx": dx, "dweight": dweight, "dbias": dbias}


def means_not_sums(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (padding,) * 4), torch.zeros_like(weight)
    dimages = torch.zeros_like(images)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns]) / len(x)
            dimages[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad, weight[:, :, i, j])
    dx = dimages[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return dx, dweight, grad.mean(0).sum((1, 2))


def overlaps_overwritten(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (padding,) * 4), torch.zeros_like(weight)
    dimages = torch.zeros_like(images)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns])
            dimages[:, :, rows, columns] = torch.einsum("nohw,oc->nchw", grad, weight[:, :, i, j])
    dx = dimages[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return dx, dweight, grad.sum((0, 2, 3))


def kernel_turned_round(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (padding,) * 4), torch.zeros_like(weight)
    dimages, turned = torch.zeros_like(images), weight.flip(2, 3)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns])
            dimages[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad, turned[:, :, i, j])
    dx = dimages[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return dx, dweight, grad.sum((0, 2, 3))


def padding_not_cut_off(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (padding,) * 4), torch.zeros_like(weight)
    dimages = torch.zeros_like(images)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns])
            dimages[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad, weight[:, :, i, j])
    return dimages, dweight, grad.sum((0, 2, 3))


def cut_from_the_corner(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (padding,) * 4), torch.zeros_like(weight)
    dimages = torch.zeros_like(images)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns])
            dimages[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad, weight[:, :, i, j])
    return dimages[:, :, : x.shape[2], : x.shape[3]], dweight, grad.sum((0, 2, 3))


def bias_per_place(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (padding,) * 4), torch.zeros_like(weight)
    dimages = torch.zeros_like(images)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns])
            dimages[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad, weight[:, :, i, j])
    dx = dimages[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return dx, dweight, grad.sum(0).mean((1, 2))


def input_without_padding(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (0, 2 * padding, 0, 2 * padding)), torch.zeros_like(weight)
    dimages = torch.zeros_like(images)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns])
            dimages[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad, weight[:, :, i, j])
    dx = dimages[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return dx, dweight, grad.sum((0, 2, 3))


def backward_by_fold(grad, x, weight, stride, padding):
    kernel = tuple(weight.shape[2:])
    columns, flat = F.unfold(x, kernel, 1, padding, stride), grad.flatten(2)
    dweight = torch.einsum("nol,nkl->ok", flat, columns).view_as(weight)
    dcolumns = torch.einsum("nol,ok->nkl", flat, weight.flatten(1))
    dx = F.fold(dcolumns, tuple(x.shape[2:]), kernel, 1, padding, stride)
    return dx, dweight, flat.sum((0, 2))


def backward_by_loops_over_cells(grad, x, weight, stride, padding):
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images = F.pad(x, (padding, padding, padding, padding))
    dimages, dweight = torch.zeros_like(images), torch.empty_like(weight)
    for i in range(kh):
        for j in range(kw):
            cells = images[:, :, i::stride, j::stride][:, :, :high, :wide]
            dweight[:, :, i, j] = torch.tensordot(grad, cells, dims=([0, 2, 3], [0, 2, 3]))
            back = torch.tensordot(weight[:, :, i, j], grad, dims=([0], [1])).transpose(0, 1)
            dimages[:, :, i::stride, j::stride][:, :, :high, :wide].add_(back)
    height, width = x.shape[2:]
    return dimages[:, :, padding:, padding:][:, :, :height, :width], dweight, grad.flatten(2).sum(-1).sum(0)


def backward_window_by_window(grad, x, weight, stride, padding):
    kh, kw = weight.shape[2:]
    images = F.pad(x, (padding, padding, padding, padding))
    dimages, dweight, dbias = torch.zeros_like(images), torch.zeros_like(weight), grad.new_zeros(len(weight))
    for row in range(grad.shape[2]):
        for column in range(grad.shape[3]):
            g = grad[:, :, row, column]
            place = (..., slice(row * stride, row * stride + kh), slice(column * stride, column * stride + kw))
            dimages[place] += torch.einsum("no,ocij->ncij", g, weight)
            dweight += torch.einsum("no,ncij->ocij", g, images[place])
            dbias += g.sum(0)
    height, width = x.shape[2:]
    return dimages[..., padding : padding + height, padding : padding + width], dweight, dbias


conv2d_backward = Exercise(
    id="cnn_architectures.conv2d_backward",
    lesson=LESSON,
    title="The convolution's gradient, by hand",
    answer="conv2d_backward",
    criteria=(
        Criterion("dx", 2, Close(operations=512)),
        Criterion("dweight", 1, Close(operations=1024)),
        Criterion("dbias", 1, Close(operations=512, scale=4.0), requires=("dweight",)),
    ),
    cases=backward_cases,
    probe=backward_probe,
    reference=reference.conv2d_backward,
    misconceptions=(
        Misconception(
            "means_not_sums",
            means_not_sums,
            "You average over the pictures. `grad` already holds whatever the loss divides by: what it reaches is "
            "added.",
            "dweight and dbias are sums over all pictures and all places.",
        ),
        Misconception(
            "overlaps_overwritten",
            overlaps_overwritten,
            "A pixel lies in several windows, and you keep only the last one's gradient.",
            "Add up: += where the windows write into the picture.",
        ),
        Misconception(
            "kernel_turned_round",
            kernel_turned_round,
            "The kernel is turned round twice. Written as a convolution dx does need a turned kernel; added window by "
            "window, as you do, it does not.",
            "The pixel that met weight[i, j] gets weight[i, j] times the window's gradient.",
        ),
        Misconception(
            "padding_not_cut_off",
            padding_not_cut_off,
            "dx has the shape of the padded picture.",
            "The zeros around it are no one's input: cut `padding` rows and columns off each side.",
        ),
        Misconception(
            "cut_from_the_corner",
            cut_from_the_corner,
            "You cut the padding off the far sides only, so dx is shifted by `padding`.",
            "Begin at `padding`, in rows and in columns.",
        ),
        Misconception(
            "bias_per_place",
            bias_per_place,
            "dbias is a mean over the places. The bias stands in every place of its map, and each sends its gradient.",
            "Sum over pictures, rows and columns.",
        ),
        Misconception(
            "input_without_padding",
            input_without_padding,
            "For dweight you look at the picture padded otherwise than forward, so each gradient meets the wrong "
            "pixel.",
            "Pad x as forward: `padding` on each side.",
        ),
    ),
    variants=(
        Variant("backward_by_fold", backward_by_fold),
        Variant("backward_by_loops_over_cells", backward_by_loops_over_cells),
        Variant("backward_window_by_window", backward_window_by_window),
    ),
    forbidden=(
        "torch.autograd.grad",
        "torch.autograd.backward",
        "torch.nn.grad.conv2d_input",
        "torch.nn.grad.conv2d_weight",
        "course_lib.convolution",
    ),
    hints=(
        "Forward is a sum of terms weight[o, c, i, j] · x[pixel]. Each factor's gradient is the output's gradient "
        "times the other factor, summed over all terms in which it stands.",
        "Loop over the kernel's cells (i, j) as forward, with the same shifted picture: dweight[:, :, i, j] is the "
        "product of grad and that picture, summed over pictures and places.",
        "For dx make zeros as large as the padded picture, add grad times weight[:, :, i, j] at the shifted places, "
        "and cut the padding off at the end.",
    ),
    minutes=25,
)
