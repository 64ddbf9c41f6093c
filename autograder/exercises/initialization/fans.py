"""The fans of a kernel: dense, convolution, grouped, transposed, depthwise, in both frameworks' layouts."""

from __future__ import annotations

import numpy as np

from course_lib.initializers import compute_fans

from ...exercise import Case, Criterion, Exercise, Misconception, Variant


def fans_cases(seed):
    """Each kind of kernel in each layout; channels that differ, so that no two axes can be exchanged unseen."""
    rng = np.random.default_rng(seed)
    a, b, c = (int(n) for n in rng.permutation([2, 3, 4, 5, 7])[:3])

    def case(name, layout, kind, shape, groups=1):
        inputs = {"shape": np.array(shape), "layout": layout, "kind": kind, "groups": groups}
        return Case(f"{name}, {layout}", inputs)

    yield case("dense", "torch", "dense", (10 * a, 6 * b))
    yield case("dense", "keras", "dense", (10 * a, 6 * b))
    yield case("convolution, 3 × 5", "torch", "conv", (4 * a, 3 * b, 3, 5))
    yield case("convolution, 3 × 5", "keras", "conv", (3, 5, 3 * b, 4 * a))
    yield case("convolution of a signal, 7", "torch", "conv", (2 * a, 5 * b, 7))
    yield case("grouped convolution, 3 × 3", "torch", "conv", (6 * a, b, 3, 3), groups=6)
    yield case("grouped convolution, 3 × 3", "keras", "conv", (3, 3, b, 6 * a), groups=6)
    yield case("transposed convolution, 2 × 4", "torch", "transposed", (6 * a, 5 * c, 2, 4))
    yield case("transposed convolution, 2 × 4", "keras", "transposed", (2, 4, 5 * c, 6 * a))
    yield case("depthwise, 3 × 3, two maps a channel", "torch", "depthwise", (2 * 8 * a, 1, 3, 3), groups=8 * a)
    yield case("depthwise, 3 × 3, two maps a channel", "keras", "depthwise", (3, 3, 8 * a, 2), groups=8 * a)


def fans_probe(candidate, case):
    fan_in, fan_out = candidate(tuple(int(n) for n in case["shape"]), case["layout"], case["kind"], case["groups"])
    return {"fan_in": float(fan_in), "fan_out": float(fan_out)}


def fans(shape, layout, kind, groups):
    """(fan_in, fan_out): `compute_fans` with the options that the kind of kernel needs."""
    if kind == "depthwise" and layout == "keras":
        return compute_fans(shape, layout="keras", depthwise=True)
    return compute_fans(shape, layout=layout, groups=groups, transposed=kind == "transposed")


def no_receptive_field(shape, layout, kind, groups):
    if kind == "depthwise":
        return 1, shape[-1] if layout == "keras" else shape[0] // groups
    inward, outward = shape[-2:] if layout == "keras" else (shape[1], shape[0])
    outward = outward // groups
    return (outward, inward) if kind == "transposed" else (inward, outward)


def torch_layout_for_both(shape, layout, kind, groups):
    field = int(np.prod(shape[2:]))
    fan_in, fan_out = shape[1] * field, shape[0] * field // groups
    return (fan_out, fan_in) if kind == "transposed" else (fan_in, fan_out)


def fans_exchanged(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    if kind == "depthwise" and layout == "keras":
        return outward * field, field
    fan_in, fan_out = inward * field, outward // groups * field
    return (fan_in, fan_out) if kind == "transposed" else (fan_out, fan_in)


def transposed_as_convolution(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    if kind == "depthwise" and layout == "keras":
        return field, outward * field
    return inward * field, outward // groups * field


def all_groups_outward(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    if kind == "depthwise":
        return field, (outward * groups if layout == "keras" else outward) * field
    fan_in, fan_out = inward * field, outward * field
    return (fan_out, fan_in) if kind == "transposed" else (fan_in, fan_out)


def all_groups_inward(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    if kind == "depthwise":
        return groups * field, (outward if layout == "keras" else outward // groups) * field
    fan_in, fan_out = inward * groups * field, outward // groups * field
    return (fan_out, fan_in) if kind == "transposed" else (fan_in, fan_out)


def keras_depthwise_as_convolution(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    if kind == "depthwise" and layout == "keras":
        return inward * field, outward * field
    fan_in, fan_out = inward * field, outward // groups * field
    return (fan_out, fan_in) if kind == "transposed" else (fan_in, fan_out)


def one_side_of_the_field(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = (shape[0] if len(shape) > 2 else 1), shape[-2], shape[-1]
    else:
        field, inward, outward = (shape[2] if len(shape) > 2 else 1), shape[1], shape[0]
    if kind == "depthwise" and layout == "keras":
        return field, outward * field
    fan_in, fan_out = inward * field, outward // groups * field
    return (fan_out, fan_in) if kind == "transposed" else (fan_in, fan_out)


def bias_counted(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    if kind == "depthwise" and layout == "keras":
        return field + 1, outward * field
    fan_in, fan_out = inward * field, outward // groups * field
    return (fan_out + 1, fan_in) if kind == "transposed" else (fan_in + 1, fan_out)


def field_left_out_of_fan_out(shape, layout, kind, groups):
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    if kind == "depthwise" and layout == "keras":
        return field, outward
    if kind == "transposed":
        return outward // groups * field, inward
    return inward * field, outward // groups


def fans_by_table(shape, layout, kind, groups):
    channels, field = (shape[-2:], shape[:-2]) if layout == "keras" else (shape[1::-1], shape[2:])
    size = 1
    for side in field:
        size *= side
    inward, outward = channels
    fan_in, fan_out = {
        "dense": (inward, outward),
        "conv": (inward, outward // groups),
        "transposed": (outward // groups, inward),
        "depthwise": (1, outward if layout == "keras" else outward // groups),
    }[kind]
    return size * fan_in, size * fan_out


def fans_by_counting(shape, layout, kind, groups):
    """All weights, divided by the outputs that share them; the other way round for fan_out."""
    weights = np.prod(shape)
    if layout == "torch":
        outputs, inputs = (shape[0], shape[1] * groups)
        if kind == "transposed":
            outputs, inputs = shape[1] * groups, shape[0]
    else:
        outputs, inputs = shape[-1], shape[-2] * groups
        if kind == "transposed":
            outputs, inputs = shape[-2] * groups, shape[-1]
        elif kind == "depthwise":
            outputs, inputs = shape[-1] * groups, groups
    return weights / outputs, weights / inputs


def fans_by_turning(shape, layout, kind, groups):
    kernel = np.empty(shape)
    if layout == "keras":  # into PyTorch's order
        if kind == "depthwise":
            kernel = kernel.reshape(*shape[:-2], 1, shape[-2] * shape[-1])
        kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
    fan_in, fan_out = kernel[0].size, kernel[:, 0].size // groups
    if kind == "transposed":
        fan_in, fan_out = fan_out, fan_in
    return fan_in, fan_out


fans_exercise = Exercise(
    id="initialization.fans",
    lesson="02_initialization",
    title="The fans of a kernel, in both layouts",
    answer="fans",
    criteria=(Criterion("fan_in", 2), Criterion("fan_out", 1)),
    cases=fans_cases,
    probe=fans_probe,
    reference=fans,
    misconceptions=(
        Misconception(
            "no_receptive_field",
            no_receptive_field,
            "You count channels alone. One output of a convolution sums over every place of its kernel as well: in "
            "the case “{case}” it has {expected:.0f} inputs, not {got:.0f}.",
            "Multiply by the number of places in the kernel (3 × 3 is 9).",
        ),
        Misconception(
            "torch_layout_for_both",
            torch_layout_for_both,
            "You read every kernel as PyTorch's. Keras keeps (*field, in, out): its channels are the last two axes.",
            "Take the channels from the end where layout is “keras”.",
        ),
        Misconception(
            "fans_exchanged",
            fans_exchanged,
            "fan_in and fan_out are exchanged throughout. fan_in is how many numbers ONE output sums up.",
            "PyTorch keeps (out, in, *field): the first axis belongs to fan_out. Keras keeps (*field, in, out).",
        ),
        Misconception(
            "transposed_as_convolution",
            transposed_as_convolution,
            "A transposed convolution is read as an ordinary one. Its kernel is kept the other way round: (in, out, "
            "*field) in PyTorch, (*field, out, in) in Keras. (Both frameworks' own initializers make this mistake.)",
            "Exchange the two for kind “transposed”.",
        ),
        Misconception(
            "all_groups_outward",
            all_groups_outward,
            "Your fan_out counts the outputs of all groups. An input reaches only the outputs of its own group.",
            "Divide the number of outputs by groups.",
        ),
        Misconception(
            "all_groups_inward",
            all_groups_inward,
            "Your fan_in counts the inputs of all groups. An output sums over its own group alone, and the kernel's "
            "shape already holds one group's inputs.",
            "Don't multiply by groups.",
        ),
        Misconception(
            "keras_depthwise_as_convolution",
            keras_depthwise_as_convolution,
            "Keras's depthwise kernel (*field, in, maps a channel) is read as a convolution's. Each map sees one "
            "channel: its fan_in is the size of the field alone.",
            "Treat kind “depthwise” on its own where layout is “keras”.",
        ),
        Misconception(
            "one_side_of_the_field",
            one_side_of_the_field,
            "You take one side of the kernel instead of all its places: 3 instead of 3 × 5.",
            "Multiply all sides of the field; a dense kernel has none, so its field counts 1.",
        ),
        Misconception(
            "bias_counted",
            bias_counted,
            "Your fan_in is one too many: the bias is counted. It is added once, and is no input that varies.",
            "Count weights that multiply an input.",
        ),
        Misconception(
            "field_left_out_of_fan_out",
            field_left_out_of_fan_out,
            "Your fan_out leaves the field out. An input pixel is seen by each output map at every place of the "
            "kernel, so it reaches outputs × places.",
            "Multiply both fans by the size of the field.",
        ),
    ),
    variants=(
        Variant("fans_by_table", fans_by_table),
        Variant("fans_by_counting", fans_by_counting),
        Variant("fans_by_turning", fans_by_turning),
    ),
    forbidden=("torch.nn.init", "course_lib.initializers.compute_fans"),
    hints=(
        "Draw one output value. Which weights is it a sum over? Their number is fan_in.",
        "First find three numbers in the shape: the size of the field, the channels on the side that is kept in full, "
        "and those of one group. PyTorch: (out, in / groups, *field). Keras: (*field, in / groups, out).",
        "fan_in = in / groups × field, fan_out = out / groups × field. Transposed kernels have the channel axes "
        "exchanged; Keras's depthwise kernel is (*field, in, maps): fan_in = field, fan_out = maps × field.",
    ),
    minutes=15,
)
