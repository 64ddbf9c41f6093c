"""What a net will cost and see, on paper: sizes, receptive fields, parameters, multiply-adds, bytes."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from course_lib import accounts, windows

from ...exercise import Case, Criterion, Exercise, Misconception, Variant

LESSON = "09_cnn_architectures"

# ---------------------------------------------------------------- sizes and receptive field


def geometry_cases(seed):
    """A single layer, two, convolutions and poolings, strides, dilation, uneven sizes, a deep stack.

    Rows of `layers`: kernel_size, stride, padding, dilation.
    """
    rng = np.random.default_rng(seed)

    def case(name, size, *layers):
        return Case(name, {"size": int(size), "layers": np.array(layers, dtype=np.int64)})

    yield case("one 3 × 3 convolution", rng.integers(20, 60), (3, 1, 0, 1))
    yield case("two 3 × 3 convolutions", rng.integers(20, 60), (3, 1, 1, 1), (3, 1, 0, 1))
    yield case("convolution, pooling, convolution", rng.integers(20, 60), (3, 1, 1, 1), (2, 2, 0, 1), (3, 1, 1, 1))
    yield case("stride 2 twice, padding 1", 2 * rng.integers(15, 40) + 1, (3, 2, 1, 1), (3, 2, 1, 1), (3, 1, 1, 1))
    yield case("dilation 2 and 4", rng.integers(40, 80), (3, 1, 2, 2), (3, 1, 4, 4))
    yield case(
        "stride and dilation together", rng.integers(50, 90), (5, 2, 2, 1), (3, 1, 2, 2), (2, 2, 0, 1), (3, 2, 3, 3)
    )
    yield case("the stem of a ResNet", 224, (7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 1, 1), (3, 2, 1, 1))
    yield case(
        "drawn at random",
        rng.integers(90, 130),
        *(
            (int(rng.integers(2, 6)), int(rng.integers(1, 3)), int(rng.integers(0, 3)), int(rng.integers(1, 3)))
            for _ in range(4)
        ),
    )


def geometry_probe(candidate, case):
    import numpy as np

    sizes, receptive_field, jump, start = candidate(case["size"], [tuple(map(int, row)) for row in case["layers"]])
    return {
        "sizes": np.array([int(size) for size in sizes]),
        "receptive field": int(receptive_field),
        "jump": int(jump),
        "first pixel": int(start),
    }


def geometry(size, layers):
    """(sizes after each layer, receptive field, jump, first pixel that output 0 sees), in pixels along one axis."""
    sizes = []
    for kernel_size, stride, padding, dilation in layers:
        size = windows.output_size(size, kernel_size, stride, padding, dilation)
        sizes.append(size)
    seen = windows.receptive_field(windows.Window(*layer) for layer in layers)
    return sizes, seen.size, seen.jump, seen.start


def sum_of_the_kernels(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, d in layers:
        size = (size + 2 * p - d * (k - 1) - 1) // s + 1
        sizes.append(size)
        r += d * (k - 1)
        start -= p * jump
        jump *= s
    return sizes, r, jump, start


def stride_of_its_own_layer(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, d in layers:
        size = (size + 2 * p - d * (k - 1) - 1) // s + 1
        sizes.append(size)
        jump *= s
        r += d * (k - 1) * jump
        start -= p * jump
    return sizes, r, jump, start


def dilation_left_out(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, _ in layers:
        size = (size + 2 * p - k) // s + 1
        sizes.append(size)
        r += (k - 1) * jump
        start -= p * jump
        jump *= s
    return sizes, r, jump, start


def rounded_up(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, d in layers:
        size = -(-(size + 2 * p - d * (k - 1) - 1) // s) + 1
        sizes.append(size)
        r += d * (k - 1) * jump
        start -= p * jump
        jump *= s
    return sizes, r, jump, start


def padding_once(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, d in layers:
        size = (size + p - d * (k - 1) - 1) // s + 1
        sizes.append(size)
        r += d * (k - 1) * jump
        start -= p * jump
        jump *= s
    return sizes, r, jump, start


def padding_moves_by_its_own(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, d in layers:
        size = (size + 2 * p - d * (k - 1) - 1) // s + 1
        sizes.append(size)
        r += d * (k - 1) * jump
        start -= p
        jump *= s
    return sizes, r, jump, start


def one_forgotten(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, d in layers:
        size = (size + 2 * p - d * (k - 1) - 1) // s
        sizes.append(size)
        r += d * (k - 1) * jump
        start -= p * jump
        jump *= s
    return sizes, r, jump, start


def strides_added(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for k, s, p, d in layers:
        size = (size + 2 * p - d * (k - 1) - 1) // s + 1
        sizes.append(size)
        r += d * (k - 1) * jump
        start -= p * jump
        jump += s - 1
    return sizes, r, jump, start


def geometry_by_recurrence(size, layers):
    sizes, r, jump, start = [], 1, 1, 0
    for kernel, stride, padding, dilation in layers:
        extent = dilation * (kernel - 1) + 1
        size = (size + 2 * padding - extent) // stride + 1
        sizes.append(size)
        r, start, jump = r + (extent - 1) * jump, start - padding * jump, jump * stride
    return sizes, r, jump, start


def geometry_from_the_top(size, layers):
    sizes, first, last = [], 0, 0
    for k, s, p, d in layers:
        size = (size + 2 * p - d * (k - 1) - 1) // s + 1
        sizes.append(size)
    jump = 1
    for k, s, p, d in reversed(layers):  # the pixels of the layer below that outputs first to last need
        first, last = first * s - p, last * s - p + d * (k - 1)
        jump = jump * s
    return sizes, last - first + 1, jump, first


def geometry_by_counting_places(size, layers):
    sizes, jump = [], 1
    starts = None
    for k, s, p, d in layers:
        outputs = [o for o in range(size + 2 * p) if o % s == 0 and o + d * (k - 1) < size + 2 * p]
        size = len(outputs)
        sizes.append(size)
    seen = {0}
    for k, s, p, d in layers[::-1]:
        seen = {place * s - p + d * i for place in seen for i in range(k)}
        jump *= s
    starts = min(seen)
    return torch.tensor(sizes), max(seen) - starts + 1, jump, starts


geometry_exercise = Exercise(
    id="cnn_architectures.geometry",
    lesson=LESSON,
    title="How large is the map, and what does one value of it see?",
    answer="geometry",
    criteria=(
        Criterion("sizes", 1),
        Criterion("receptive field", 1),
        Criterion("jump", 1),
        Criterion("first pixel", 0),
    ),
    cases=geometry_cases,
    probe=geometry_probe,
    reference=geometry,
    misconceptions=(
        Misconception(
            "sum_of_the_kernels",
            sum_of_the_kernels,
            "You add the kernels up as if every layer saw pixels of the picture. After a stride of 2 neighbours lie "
            "two pixels apart, so a kernel there reaches twice as far.",
            "Each layer adds dilation · (k − 1) · jump, where jump is the product of the strides below.",
        ),
        Misconception(
            "stride_of_its_own_layer",
            stride_of_its_own_layer,
            "You multiply by a layer's own stride too. Its kernel looks at its input, whose values lie the product of "
            "the strides *below* apart.",
            "Add to the receptive field first, then multiply jump.",
        ),
        Misconception(
            "dilation_left_out",
            dilation_left_out,
            "The dilation is not used: a kernel of k cells spans dilation · (k − 1) + 1 pixels.",
            "Put that extent where you have k.",
        ),
        Misconception(
            "rounded_up",
            rounded_up,
            "Where the windows do not come out even you round up. A window that hangs over the end is left out.",
            "// rounds down.",
        ),
        Misconception(
            "padding_once",
            padding_once,
            "The padding counts once; it lies on both sides.",
            "size + 2 · padding.",
        ),
        Misconception(
            "padding_moves_by_its_own",
            padding_moves_by_its_own,
            "The first pixel moves by `padding` pixels of the picture. Padding of a later layer is counted in that "
            "layer's pixels, each `jump` pixels of the picture.",
            "start −= padding · jump.",
        ),
        Misconception(
            "one_forgotten",
            one_forgotten,
            "Your sizes are one too small: you count the steps between the windows, not the windows.",
            "+ 1.",
        ),
        Misconception(
            "strides_added",
            strides_added,
            "Two strides of 2 make neighbours 4 pixels apart, not 3.",
            "Strides multiply.",
        ),
    ),
    variants=(
        Variant("geometry_by_recurrence", geometry_by_recurrence),
        Variant("geometry_from_the_top", geometry_from_the_top),
        Variant("geometry_by_counting_places", geometry_by_counting_places),
    ),
    forbidden=("course_lib.windows", "course_lib.accounts"),
    hints=(
        "Draw one row of pixels, and two layers of kernel 3 over it. Which pixels does the topmost value see? Then "
        "give the first layer a stride of 2.",
        "Go from the picture upward with two numbers: how far the value sees (1 at first), and how many pixels of the "
        "picture lie between neighbours (1 at first).",
        "receptive_field += dilation · (k − 1) · jump; start −= padding · jump; and only then jump *= stride.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- the account


def account_cases(seed):
    """A convolution, with a stride, grouped, a dense layer, pooling, a LeNet, a net with average pooling at its end."""
    rng = np.random.default_rng(seed)
    a, b, side = (int(n) for n in (rng.integers(3, 12), rng.integers(4, 20), 2 * rng.integers(6, 12)))

    def case(name, shape, *layers):
        return Case(name, {"channels": shape[0], "side": shape[1], "layers": "; ".join(layers)})

    yield case("one convolution", (a, side), f"conv {b} 3 1 1 1")
    yield case("a convolution with stride 2", (a, side), f"conv {b} 5 2 2 1")
    yield case("a kernel for each map", (a, side), f"conv {a} 3 1 1 {a}")
    yield case("a pooling", (a, side), "pool 2")
    yield case("a dense layer behind the maps", (a, side), f"dense {b}")
    yield case("two dense layers", (1, side), f"dense {b}", "relu", f"dense {a}")
    yield case("a LeNet", (1, 28), "conv 6 5 1 2 1", "relu", "pool 2", "conv 16 5 1 0 1", "relu", "pool 2", "dense 120")
    yield case(
        "separable, with an average at the end",
        (a, side),
        f"conv {a} 3 2 1 {a}",
        f"conv {b} 1 1 0 1",
        "relu",
        "average",
        "dense 10",
    )


def account_probe(candidate, case):
    import numpy as np

    layers = []
    for words in case["layers"].split("; "):
        kind, *numbers = words.split()
        layers.append((kind, *map(int, numbers)))
    parameters, multiply_adds, training, evaluation = candidate(layers, case["channels"], case["side"])
    return {
        "parameters": np.array([int(n) for n in parameters]),
        "multiply-adds": np.array([int(n) for n in multiply_adds]),
        "bytes in training": int(training),
        "bytes in evaluation": int(evaluation),
    }


def account(layers, channels, side):
    """(parameters, multiply-adds of each layer; bytes of all maps; bytes of the largest layer's input and output)."""
    net = nn.Sequential()
    shape, sizes = (channels, side, side), [channels * side * side]
    with torch.device("meta"):
        for kind, *numbers in layers:
            if kind == "conv":
                out, k, stride, padding, groups = numbers
                net.append(nn.Conv2d(shape[0], out, k, stride, padding, groups=groups))
            elif kind == "dense":
                net.append(nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), *numbers)))
            else:
                makes = {"relu": nn.ReLU, "average": partial(nn.AdaptiveAvgPool2d, 1), "pool": nn.MaxPool2d}
                net.append(makes[kind](*numbers))
            shape = accounts.account(net, (channels, side, side)).output_shape
            sizes.append(int(np.prod(shape)))
    rows, parameters, multiply_adds = accounts.account(net, (channels, side, side)).layers, [], []
    for i in range(len(layers)):
        mine = [row for row in rows if row.name.split(".")[0] == str(i)]
        parameters.append(sum(row.parameters for row in mine))
        multiply_adds.append(sum(row.multiply_adds for row in mine))
    return parameters, multiply_adds, 4 * sum(sizes), 4 * max(np.add(sizes[1:], sizes[:-1]))


def biases_forgotten(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            after = (shape[1] + 2 * padding - k) // stride + 1
            here, shape = out * (shape[0] // groups) * k * k, (out, after)
            made = here * after**2
        elif kind == "dense":
            here = made = numbers[0] * shape[0] * shape[1] ** 2
            shape = (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, 4 * sum(sizes), 4 * max(np.add(sizes[1:], sizes[:-1]))


def a_bias_for_each_pixel(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            after = (shape[1] + 2 * padding - k) // stride + 1
            weights, shape = out * (shape[0] // groups) * k * k, (out, after)
            here, made = weights + out * after**2, weights * after**2
        elif kind == "dense":
            made = numbers[0] * shape[0] * shape[1] ** 2
            here, shape = made + numbers[0], (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, 4 * sum(sizes), 4 * max(np.add(sizes[1:], sizes[:-1]))


def groups_left_out(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, _ = numbers
            after = (shape[1] + 2 * padding - k) // stride + 1
            weights, shape = out * shape[0] * k * k, (out, after)
            here, made = weights + out, weights * after**2
        elif kind == "dense":
            made = numbers[0] * shape[0] * shape[1] ** 2
            here, shape = made + numbers[0], (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, 4 * sum(sizes), 4 * max(np.add(sizes[1:], sizes[:-1]))


def multiplied_at_the_input(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            weights, before = out * (shape[0] // groups) * k * k, shape[1]
            shape = (out, (before + 2 * padding - k) // stride + 1)
            here, made = weights + out, weights * before**2
        elif kind == "dense":
            made = numbers[0] * shape[0] * shape[1] ** 2
            here, shape = made + numbers[0], (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, 4 * sum(sizes), 4 * max(np.add(sizes[1:], sizes[:-1]))


def once_for_all_pixels(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            made = out * (shape[0] // groups) * k * k
            shape = (out, (shape[1] + 2 * padding - k) // stride + 1)
            here = made + out
        elif kind == "dense":
            made = numbers[0] * shape[0] * shape[1] ** 2
            here, shape = made + numbers[0], (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, 4 * sum(sizes), 4 * max(np.add(sizes[1:], sizes[:-1]))


def numbers_not_bytes(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            after = (shape[1] + 2 * padding - k) // stride + 1
            weights, shape = out * (shape[0] // groups) * k * k, (out, after)
            here, made = weights + out, weights * after**2
        elif kind == "dense":
            made = numbers[0] * shape[0] * shape[1] ** 2
            here, shape = made + numbers[0], (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, sum(sizes), max(np.add(sizes[1:], sizes[:-1]))


def evaluation_keeps_everything(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            after = (shape[1] + 2 * padding - k) // stride + 1
            weights, shape = out * (shape[0] // groups) * k * k, (out, after)
            here, made = weights + out, weights * after**2
        elif kind == "dense":
            made = numbers[0] * shape[0] * shape[1] ** 2
            here, shape = made + numbers[0], (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, 4 * sum(sizes), 4 * sum(sizes)


def only_the_largest_map(layers, channels, side):
    shape, parameters, products, sizes = (channels, side), [], [], [channels * side**2]
    for kind, *numbers in layers:
        here, made = 0, 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            after = (shape[1] + 2 * padding - k) // stride + 1
            weights, shape = out * (shape[0] // groups) * k * k, (out, after)
            here, made = weights + out, weights * after**2
        elif kind == "dense":
            made = numbers[0] * shape[0] * shape[1] ** 2
            here, shape = made + numbers[0], (numbers[0], 1)
        elif kind == "pool":
            shape = (shape[0], shape[1] // numbers[0])
        elif kind == "average":
            shape = (shape[0], 1)
        parameters.append(here)
        products.append(made)
        sizes.append(shape[0] * shape[1] ** 2)
    return parameters, products, 4 * sum(sizes), 4 * max(sizes)


def account_by_rules(layers, channels, side):
    maps, parameters, products, sizes = channels, [], [], [channels * side * side]
    for kind, *numbers in layers:
        weights = biases = places = 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            weights, biases = k * k * maps * out // groups, out
            maps, side = out, (side + 2 * padding - k) // stride + 1
            places = side * side
        elif kind == "dense":
            weights, biases, places = maps * side * side * numbers[0], numbers[0], 1
            maps, side = numbers[0], 1
        elif kind == "pool":
            side //= numbers[0]
        elif kind == "average":
            side = 1
        parameters.append(weights + biases)
        products.append(weights * places)
        sizes.append(maps * side * side)
    moment = max(np.add(sizes[:-1], sizes[1:]))
    return parameters, products, 4 * sum(sizes), 4 * moment


def account_by_running(layers, channels, side):
    x = torch.zeros(1, channels, side, side)
    parameters, products, kept, moment = [], [], x.nbytes, 0
    for kind, *numbers in layers:
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            layer = nn.Conv2d(x.shape[1], out, k, stride, padding, groups=groups)
        elif kind == "dense":
            x = x.flatten(1)
            layer = nn.Linear(x.shape[1], numbers[0])
        elif kind == "pool":
            layer = nn.MaxPool2d(numbers[0])
        else:
            layer = nn.ReLU() if kind == "relu" else nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            y = layer(x)
        parameters.append(sum(p.numel() for p in layer.parameters()))
        places = y.shape[2] * y.shape[3] if y.dim() == 4 else 1
        products.append(layer.weight.numel() * places if kind in ("conv", "dense") else 0)
        kept, moment, x = kept + y.nbytes, max(moment, x.nbytes + y.nbytes), y
    return torch.tensor(parameters), torch.tensor(products), kept, moment


def account_from_shapes(layers, channels, side):
    shapes, weights, biases = [(channels, side)], [], []
    for kind, *numbers in layers:
        maps, pixels = shapes[-1]
        weight = bias = 0
        match kind:
            case "conv":
                out, k, stride, padding, groups = numbers
                weight, bias = out * (maps // groups) * k**2, out
                shapes.append((out, (pixels + 2 * padding - k) // stride + 1))
            case "dense":
                weight, bias = numbers[0] * maps * pixels**2, numbers[0]
                shapes.append((numbers[0], 1))
            case "pool":
                shapes.append((maps, (pixels - numbers[0]) // numbers[0] + 1))
            case "average":
                shapes.append((maps, 1))
            case _:
                shapes.append((maps, pixels))
        weights.append(weight)
        biases.append(bias)
    sizes = np.array([4 * maps * pixels**2 for maps, pixels in shapes])
    products = [w * pixels**2 for w, (_, pixels) in zip(weights, shapes[1:], strict=True)]
    return np.add(weights, biases), products, sizes.sum(), (sizes[:-1] + sizes[1:]).max()


account_exercise = Exercise(
    id="cnn_architectures.account",
    lesson=LESSON,
    title="The account of a net: parameters, multiply-adds, bytes",
    answer="account_of",
    criteria=(
        Criterion("parameters", 1),
        Criterion("multiply-adds", 1),
        Criterion("bytes in training", 1),
        Criterion("bytes in evaluation", 1),
    ),
    cases=account_cases,
    probe=account_probe,
    reference=account,
    misconceptions=(
        Misconception(
            "biases_forgotten",
            biases_forgotten,
            "The biases are missing from the parameters: one for each output map or unit.",
            "weights + out.",
        ),
        Misconception(
            "a_bias_for_each_pixel",
            a_bias_for_each_pixel,
            "You count a bias for every pixel of a convolution's output. Like the kernel, a map's bias is shared by "
            "all its pixels.",
            "One bias a map.",
        ),
        Misconception(
            "groups_left_out",
            groups_left_out,
            "With groups each kernel sees only maps / groups of the input, and you count all.",
            "weights = out · (maps // groups) · k².",
        ),
        Misconception(
            "multiplied_at_the_input",
            multiplied_at_the_input,
            "For the multiply-adds of a convolution you take the pixels of its input. The kernel is applied once for "
            "each pixel of the *output*, of which a stride leaves fewer.",
            "weights · (output side)².",
        ),
        Misconception(
            "once_for_all_pixels",
            once_for_all_pixels,
            "You count a convolution's weights once. They are few because every output pixel uses them again.",
            "weights · (output side)².",
        ),
        Misconception(
            "numbers_not_bytes",
            numbers_not_bytes,
            "You count numbers; a float32 takes 4 bytes.",
            "Multiply by 4 at the end.",
        ),
        Misconception(
            "evaluation_keeps_everything",
            evaluation_keeps_everything,
            "In evaluation without gradients nothing is kept: once a layer's output is made, its input can go.",
            "The largest sum of one layer's input and output.",
        ),
        Misconception(
            "only_the_largest_map",
            only_the_largest_map,
            "While a layer runs, its input and its output are both in memory.",
            "The largest sum of one layer's input and output.",
        ),
    ),
    variants=(
        Variant("account_by_rules", account_by_rules),
        Variant("account_by_running", account_by_running),
        Variant("account_from_shapes", account_from_shapes),
    ),
    forbidden=("course_lib.accounts", "course_lib.layer_rules"),
    hints=(
        "Walk through the layers with two numbers, the maps and the side, and note for each layer how large its "
        "output is.",
        "A convolution has out · (maps // groups) · k² weights and out biases; a dense layer behind maps has a weight "
        "for each of the maps · side² numbers and each unit.",
        "Multiply-adds: weights times the pixels of the output. Training keeps the input and every output; evaluation "
        "needs one layer's input and output at a time.",
    ),
    minutes=25,
)
