"""Pooling: the largest value of each window with its place, and the mean with or without the padding."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from course_lib import pooling as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "09_cnn_architectures"

# ---------------------------------------------------------------- max pooling


def max_cases(seed):
    """Windows that touch, overlap and leave rows over, padding, only negative values, ties, ±1e4, float64."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, 8, 6)).astype(np.float32)
    ties = rng.integers(0, 2, (2, 2, 6, 6)).astype(np.float32)

    def case(name, x, kernel_size, stride, padding=0):
        return Case(name, {"x": x, "kernel_size": kernel_size, "stride": stride, "padding": padding})

    yield case("2 × 2, side by side", x, 2, 2)
    yield case("3 × 3, stride 1: the windows overlap", x, 3, 1)
    yield case("3 × 3, stride 2, rows left over", x, 3, 2)
    yield case("3 × 3, stride 2, padding 1", x, 3, 2, 1)
    yield case("all values negative, padding 1", -np.abs(x) - 0.1, 3, 2, 1)
    yield case("many equal values", ties, 2, 2)
    yield case("values around ±1e4", x[:1] * 1e4, 2, 2)
    yield case("float64, windows further apart than wide", rng.normal(size=(1, 2, 9, 9)), 2, 3)


def max_probe(candidate, case):
    import torch

    x = torch.tensor(case["x"], requires_grad=True)
    values, indices = candidate(x, case["kernel_size"], case["stride"], case["padding"])
    slope = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).reshape(values.shape)
    gradient = torch.autograd.grad((values * slope).sum(), x, allow_unused=True)[0]
    return {
        "values": values.clone(),
        "indices": torch.as_tensor(indices).long(),
        "gradient": torch.zeros_like(x) if gradient is None else gradient,
    }


def max_pool2d_answer(x, kernel_size, stride, padding):
    """(values, indices), each (N, C, H', W')."""
    return reference.MaxPool2dFunction.apply(x, (kernel_size,) * 2, (stride,) * 2, (padding,) * 2, (1, 1), False)


def padded_by_zeros(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    places = torch.arange(height * width).view(height, width)
    images = F.pad(x, (padding,) * 4)
    places = F.pad(places, (padding,) * 4, value=0)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0], where.expand(windows.shape).gather(-1, best)[..., 0]


def place_in_the_window(x, kernel_size, stride, padding):
    images = F.pad(x, (padding,) * 4, value=-torch.inf)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0], best[..., 0]


def place_in_the_padded(x, kernel_size, stride, padding):
    images = F.pad(x, (padding,) * 4, value=-torch.inf)
    places = torch.arange(images.shape[2] * images.shape[3]).view(images.shape[2:])
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0], where.expand(windows.shape).gather(-1, best)[..., 0]


def last_of_equals(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    places = torch.arange(height * width).view(height, width)
    images = F.pad(x, (padding,) * 4, value=-torch.inf)
    places = F.pad(places, (padding,) * 4, value=0)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    best = kernel_size**2 - 1 - windows.flip(-1).argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0], where.expand(windows.shape).gather(-1, best)[..., 0]


def shared_among_equals(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    places = torch.arange(height * width).view(height, width)
    images = F.pad(x, (padding,) * 4, value=-torch.inf)
    places = F.pad(places, (padding,) * 4, value=0)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    return windows.amax(-1), where.expand(windows.shape).gather(-1, best)[..., 0]


def windows_side_by_side(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    places = torch.arange(height * width).view(height, width)
    images = F.pad(x, (padding,) * 4, value=-torch.inf)
    places = F.pad(places, (padding,) * 4, value=0)
    windows = images.unfold(2, kernel_size, kernel_size).unfold(3, kernel_size, kernel_size).flatten(-2)
    where = places.unfold(0, kernel_size, kernel_size).unfold(1, kernel_size, kernel_size).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0], where.expand(windows.shape).gather(-1, best)[..., 0]


def largest_in_size(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    places = torch.arange(height * width).view(height, width)
    images = F.pad(x, (padding,) * 4)
    places = F.pad(places, (padding,) * 4, value=0)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    best = windows.abs().argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0], where.expand(windows.shape).gather(-1, best)[..., 0]


def values_without_graph(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    places = torch.arange(height * width).view(height, width)
    images = F.pad(x.detach(), (padding,) * 4, value=-torch.inf)
    places = F.pad(places, (padding,) * 4, value=0)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0] + 0 * x.sum(), where.expand(windows.shape).gather(-1, best)[..., 0]


def max_by_gather(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    images = F.pad(x.detach(), (padding,) * 4, value=-torch.inf)
    places = F.pad(torch.arange(height * width).view(height, width), (padding,) * 4, value=-1)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    indices = where.expand(windows.shape).gather(-1, windows.argmax(-1, keepdim=True))[..., 0]
    return x.flatten(2).gather(2, indices.flatten(2)).view(indices.shape), indices


def max_by_loops(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    high = (height + 2 * padding - kernel_size) // stride + 1
    wide = (width + 2 * padding - kernel_size) // stride + 1
    values, indices = [], []
    for row in range(high):
        for column in range(wide):
            top, left = row * stride - padding, column * stride - padding
            rows = range(max(top, 0), min(top + kernel_size, height))
            columns = range(max(left, 0), min(left + kernel_size, width))
            window = x[:, :, rows.start : rows.stop, columns.start : columns.stop].flatten(2)
            place = window.argmax(2)
            values.append(window.gather(2, place[..., None])[..., 0])
            indices.append((rows.start + place // len(columns)) * width + columns.start + place % len(columns))
    shape = (*x.shape[:2], high, wide)
    return torch.stack(values, -1).view(shape), torch.stack(indices, -1).view(shape)


def max_by_comparison(x, kernel_size, stride, padding):
    height, width = x.shape[2:]
    images = F.pad(x, (padding,) * 4, value=float("-inf"))
    high = (height + 2 * padding - kernel_size) // stride + 1
    wide = (width + 2 * padding - kernel_size) // stride + 1
    top = (torch.arange(high) * stride - padding)[:, None]
    left = (torch.arange(wide) * stride - padding)[None, :]
    best, indices = None, None
    for i in range(kernel_size):
        for j in range(kernel_size):
            cells = images[:, :, i::stride, j::stride][:, :, :high, :wide]
            place = ((top + i) * width + left + j).expand(cells.shape)
            if best is None:
                best, indices = cells, place
            else:
                better = cells > best
                best, indices = torch.where(better, cells, best), torch.where(better, place, indices)
    return best, indices


max_pool2d = Exercise(
    id="cnn_architectures.max_pool2d",
    lesson=LESSON,
    title="Max pooling, and where the largest value was",
    answer="max_pool2d",
    criteria=(
        Criterion("values", 1, Close(operations=1)),
        Criterion("indices", 1),
        Criterion("gradient", 1, Close(operations=16), requires=("values",)),
    ),
    cases=max_cases,
    probe=max_probe,
    reference=max_pool2d_answer,
    misconceptions=(
        Misconception(
            "padded_by_zeros",
            padded_by_zeros,
            "The padding is 0, and wins wherever all of a window's real values are negative.",
            "Pad with −∞: what was added must never win.",
        ),
        Misconception(
            "place_in_the_window",
            place_in_the_window,
            "Your indices count inside each window. Asked for is the place in the map, flat: row · W + column, so that "
            "the gradient knows where to go.",
            "Lay out the numbers 0 … H·W − 1 in the same windows, and take the one at the winner.",
        ),
        Misconception(
            "place_in_the_padded",
            place_in_the_padded,
            "Your indices count in the padded map: with padding they are too large.",
            "Number the pixels before you pad.",
        ),
        Misconception(
            "last_of_equals",
            last_of_equals,
            "Of equal values your index names the last one; asked for is the first, row by row, as in PyTorch.",
            "argmax over the window in its order finds the first; compare with >, not ≥, in a loop.",
        ),
        Misconception(
            "shared_among_equals",
            shared_among_equals,
            "Values and places are right, but where values are equal the gradient is shared among them (amax does "
            "that). The whole gradient goes to the one that your index names.",
            "Take the values by the indices: gather.",
        ),
        Misconception(
            "windows_side_by_side",
            windows_side_by_side,
            "Your windows lie side by side, whatever the stride: it is not used.",
            "Neighbouring windows lie `stride` pixels apart.",
        ),
        Misconception(
            "largest_in_size",
            largest_in_size,
            "You take the value that is furthest from 0: −3 does not beat 2.",
            "The largest value, with its sign.",
        ),
        Misconception(
            "values_without_graph",
            values_without_graph,
            "The values are right, but no gradient comes back through them.",
            "Look the winners up in x itself, not in a detached copy.",
        ),
    ),
    variants=(
        Variant("max_by_gather", max_by_gather),
        Variant("max_by_loops", max_by_loops),
        Variant("max_by_comparison", max_by_comparison),
    ),
    forbidden=(
        "torch.nn.functional.max_pool2d_with_indices",
        "torch.max_pool2d",
        "torch.nn.MaxPool2d",
        "torch.nn.AdaptiveMaxPool2d",
        "course_lib.pooling",
    ),
    hints=(
        "x.unfold(2, k, stride).unfold(3, k, stride) is a view of all windows, (N, C, H', W', k, k). Flatten the last "
        "two axes: now it is an argmax along the last one.",
        "Pad with −∞ first. For the places do the same with torch.arange(H · W).view(H, W).",
        "windows.gather(-1, best) takes the winners, and gather passes their gradient on.",
    ),
    minutes=20,
)

# ---------------------------------------------------------------- average pooling


def average_cases(seed):
    """Without padding, with padding counted and not, overlapping windows, the whole map, ±1e4, float64."""
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 1.0, (2, 3, 8, 6)).astype(np.float32)

    def case(name, x, kernel_size, stride, padding, count):
        inputs = {"x": x, "kernel_size": kernel_size, "stride": stride, "padding": padding, "count_include_pad": count}
        return Case(name, inputs)

    yield case("2 × 2, no padding", x, 2, 2, 0, True)
    yield case("3 × 3, stride 2, padding 1, counted", x, 3, 2, 1, True)
    yield case("3 × 3, stride 2, padding 1, not counted", x, 3, 2, 1, False)
    yield case("5 × 5, stride 1, padding 2, not counted", x, 5, 1, 2, False)
    yield case("one window over the whole map", x[:, :, :6], 6, 1, 0, False)
    yield case("values around ±1e4, padding 1, counted", x[:1] * 1e4 - 1e4, 2, 2, 1, True)
    yield case("float64, padding 1, not counted", rng.normal(size=(1, 2, 7, 7)), 3, 3, 1, False)


def average_probe(candidate, case):
    import torch

    x = torch.tensor(case["x"], requires_grad=True)
    y = candidate(x, case["kernel_size"], case["stride"], case["padding"], case["count_include_pad"])
    slope = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    gradient = torch.autograd.grad((y * slope).sum(), x, allow_unused=True)[0]
    name = "padding counted" if case["count_include_pad"] else "padding not counted"
    return {name: y.clone(), "gradient": torch.zeros_like(x) if gradient is None else gradient}


def average_pool2d(x, kernel_size, stride, padding, count_include_pad):
    return reference.avg_pool2d(x, kernel_size, stride, padding, False, count_include_pad)


def always_counted(x, kernel_size, stride, padding, count_include_pad):
    images = F.pad(x, (padding,) * 4)
    return images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).mean((-1, -2))


def never_counted(x, kernel_size, stride, padding, count_include_pad):
    images, ones = F.pad(x, (padding,) * 4), F.pad(torch.ones_like(x), (padding,) * 4)
    total = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))
    return total / ones.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))


def counted_the_other_way(x, kernel_size, stride, padding, count_include_pad):
    images, ones = F.pad(x, (padding,) * 4), F.pad(torch.ones_like(x), (padding,) * 4)
    total = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))
    if not count_include_pad:
        return total / kernel_size**2
    return total / ones.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))


def divided_by_the_side(x, kernel_size, stride, padding, count_include_pad):
    images, ones = F.pad(x, (padding,) * 4), F.pad(torch.ones_like(x), (padding,) * 4)
    total = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))
    if count_include_pad:
        return total / kernel_size
    return total / ones.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2)).sqrt()


def summed(x, kernel_size, stride, padding, count_include_pad):
    images = F.pad(x, (padding,) * 4)
    return images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))


def zeros_not_counted(x, kernel_size, stride, padding, count_include_pad):
    images = F.pad(x, (padding,) * 4)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride)
    total = windows.sum((-1, -2))
    return total / kernel_size**2 if count_include_pad else total / (windows > 0).sum((-1, -2)).clamp(min=1)


def mean_without_stride(x, kernel_size, stride, padding, count_include_pad):
    images, ones = F.pad(x, (padding,) * 4), F.pad(torch.ones_like(x), (padding,) * 4)
    total = images.unfold(2, kernel_size, kernel_size).unfold(3, kernel_size, kernel_size).sum((-1, -2))
    if count_include_pad:
        return total / kernel_size**2
    return total / ones.unfold(2, kernel_size, kernel_size).unfold(3, kernel_size, kernel_size).sum((-1, -2))


def average_by_unfold(x, kernel_size, stride, padding, count_include_pad):
    images, ones = F.pad(x, (padding,) * 4), F.pad(torch.ones_like(x), (padding,) * 4)
    total = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))
    inside = ones.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))
    return total / (kernel_size**2 if count_include_pad else inside)


def average_by_convolution(x, kernel_size, stride, padding, count_include_pad):
    kernel = torch.ones(x.shape[1], 1, kernel_size, kernel_size, dtype=x.dtype)
    total = F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])
    if count_include_pad:
        return total / kernel_size**2
    return total / F.conv2d(torch.ones_like(x), kernel, stride=stride, padding=padding, groups=x.shape[1])


def average_by_loops(x, kernel_size, stride, padding, count_include_pad):
    height, width = x.shape[2:]
    rows = []
    for top in range(-padding, height + padding - kernel_size + 1, stride):
        row = []
        for left in range(-padding, width + padding - kernel_size + 1, stride):
            window = x[:, :, max(top, 0) : top + kernel_size, max(left, 0) : left + kernel_size]
            cells = kernel_size**2 if count_include_pad else window[0, 0].numel()
            row.append(window.sum((2, 3)) / cells)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


average_pool = Exercise(
    id="cnn_architectures.avg_pool2d",
    lesson=LESSON,
    title="Average pooling, with the padding counted or not",
    answer="avg_pool2d",
    criteria=(
        Criterion("padding counted", 1, Close(operations=64)),
        Criterion("padding not counted", 1, Close(operations=64)),
        Criterion("gradient", 0, Close(operations=64)),
    ),
    cases=average_cases,
    probe=average_probe,
    reference=average_pool2d,
    misconceptions=(
        Misconception(
            "always_counted",
            always_counted,
            "The padding's zeros always count, so without count_include_pad the border comes out too small.",
            "Divide by the number of real pixels in each window.",
        ),
        Misconception(
            "never_counted",
            never_counted,
            "The padding never counts. With count_include_pad every window is divided by kernel_size².",
            "Ask the argument.",
        ),
        Misconception(
            "counted_the_other_way",
            counted_the_other_way,
            "You read count_include_pad the wrong way round.",
            "True: the zeros count, and each sum is divided by kernel_size².",
        ),
        Misconception(
            "divided_by_the_side",
            divided_by_the_side,
            "Your output is {ratio:.2f} × the expected one: you divide by the window's side, not by its pixels.",
            "A window of k × k has k² pixels.",
        ),
        Misconception(
            "summed",
            summed,
            "This is the sum of each window, not the mean.",
            "Divide by the number of pixels.",
        ),
        Misconception(
            "zeros_not_counted",
            zeros_not_counted,
            "You find the padding by looking for values that are not positive, and so leave out real pixels too.",
            "Which pixels are real follows from their place, not from their value: pool a picture of ones.",
        ),
        Misconception(
            "mean_without_stride",
            mean_without_stride,
            "Your windows lie side by side, whatever the stride: it is not used.",
            "Neighbouring windows lie `stride` pixels apart.",
        ),
    ),
    variants=(
        Variant("average_by_unfold", average_by_unfold),
        Variant("average_by_convolution", average_by_convolution),
        Variant("average_by_loops", average_by_loops),
    ),
    forbidden=(
        "torch.nn.functional.avg_pool2d",
        "torch.nn.AvgPool2d",
        "torch.nn.AdaptiveAvgPool2d",
        "course_lib.pooling",
    ),
    hints=(
        "The same view of all windows as in max pooling, with a sum at its end.",
        "How many real pixels has a window? Pool a picture of ones, padded by zeros: its sums are the counts.",
        "total / (kernel_size² if count_include_pad else counts).",
    ),
    minutes=10,
)
