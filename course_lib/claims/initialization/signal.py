"""I1, I4, I5: equal variances, the fans of a convolution, and the tutorial's range of ±1/fan_in."""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.experiments import images
from course_lib.claims.initialization.starts import (
    Arm,
    flow,
    glorot,
    he,
    he_times,
    he_uniform,
    lecun,
    lenet,
    one_hundredth,
    orthogonal,
    tune_starts,
)
from course_lib.conventions.initializers import built, keras_bound, largest, seeded
from course_lib.initializers import compute_fans
from course_lib.quiet import load_keras

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "animalshape")
RATES = (3e-4, 1e-3, 3e-3)

# I1 ------------------------------------------------------------------------------------------------------

SCALES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)  # × He's deviation: a layer multiplies the variance by scale²
DEPTH, WIDTH = 20, 64
LAYERS = (1, 5, 10, 15, 20)
EQUAL_FANS = "where a layer's fans are equal, so are LeCun's and Glorot's draws"
NEAR = 5.0  # points of test error within which a start is said to train as well as the best


def measure_flow(seeds):
    """Variance by layer under five starts; and whether nets train when every layer scales it up or down."""
    named = {"N(0, 0.01²)": one_hundredth, "LeCun": lecun, "Glorot": glorot, "He": he, "orthogonal × √2": orthogonal}
    sizes = (196, *[WIDTH] * DEPTH)
    pictures = images(SETS[0], halve=True).test[0][:256].flatten(1)
    forward = {name: [[] for _ in LAYERS] for name in named}
    backward = {name: [[] for _ in LAYERS] for name in named}
    for name, start in named.items():
        for seed in seeds:
            there, back = flow(start, sizes, torch.relu, pictures, seed)
            for i, layer in enumerate(LAYERS):
                forward[name][i].append(there[layer - 1])
                backward[name][i].append(back[layer - 1])
    ratios = {"measured": [], "scale squared": []}
    for scale in SCALES:
        found = [flow(he_times(scale), sizes, torch.relu, pictures, seed)[0] for seed in seeds]
        ratios["measured"].append([(there[-1] / there[1]) ** (1 / (DEPTH - 2)) for there in found])
        ratios["scale squared"].append([scale**2] * len(seeds))
    errors = []
    for name in SETS:
        arms = {f"{scale}": Arm(he_times(scale)) for scale in SCALES}
        scored = tune_starts(
            arms, images(name, halve=True), seeds, hidden=[WIDTH] * (DEPTH - 1), rates=RATES, steps=300
        )
        errors.append([list(outcome.errors) for outcome in scored.values()])
    x_name = "scale of the weights, × He's"
    return Measured(
        series=(
            Series("variance of the pre-activation", "", forward, "layer", LAYERS, identical=EQUAL_FANS),
            Series("mean square of the gradient", "", backward, "layer", LAYERS, identical=EQUAL_FANS),
            Series("variance of a layer's output over its input's", "times", ratios, x_name, SCALES),
            Series(f"test error, {DEPTH} layers", "%", dict(zip(SETS, errors, strict=True)), x_name, SCALES),
        )
    )


def decide_flow(measured):
    forward, _, ratios, error = measured.series
    trains, fails = [], []
    for scale in SCALES:
        extra = []
        for name in SETS:
            best = min(SCALES, key=lambda other: error.mean(name, other))
            extra.append(Interval.of_difference("", "points", error.values(name, scale), error.values(name, best)))
        if all(interval.high < NEAR for interval in extra):
            trains.append(scale)
        if any(interval.low > NEAR for interval in extra):
            fails.append(scale)
    low, high = (ratios.mean("measured", s) for s in (min(trains, default=1.0), max(trains, default=1.0)))
    if 1.0 not in trains or not fails:
        verdict, condition = DOES_NOT_HOLD, ""
    elif trains == [1.0]:
        verdict, condition = HOLDS, ""
    else:
        verdict = HOLDS_WHEN
        condition = f"“equal” is read loosely: {DEPTH} layers trained within {NEAR:g} points of the best start where a "
        condition += f"layer multiplied the variance by {low:.2f} to {high:.2f}, and did not at "
        condition += ", ".join(f"{ratios.mean('measured', s):.2f}" for s in fails)
    smallest = SCALES[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of_difference(
            f"test error, weights × {smallest} minus He's, {SETS[0]}",
            "points",
            error.values(SETS[0], smallest),
            error.values(SETS[0], 1.0),
        ),
        figures={
            "naive": forward.mean("N(0, 0.01²)", DEPTH) / forward.mean("N(0, 0.01²)", 1),
            "glorot": forward.mean("Glorot", DEPTH) / forward.mean("Glorot", 1),
            "he": forward.mean("He", DEPTH) / forward.mean("He", 1),
            "depth": DEPTH,
            "tried": len(SCALES),
            "trained": f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}",
            "below": SCALES[2],
            "above": SCALES[4],
            "near_below": error.mean(SETS[0], SCALES[2]),
            "near_above": error.mean(SETS[0], SCALES[4]),
            "at_he": error.mean(SETS[0], 1.0),
            "at_small": error.mean(SETS[0], smallest),
            "at_large": error.mean(SETS[0], SCALES[-1]),
        },
    )


# I4 ------------------------------------------------------------------------------------------------------

# name: PyTorch's layer, its groups, Keras's layer and the shape that it is built for
KERNELS = {
    "dense, 64 → 32": ("dense", 1),
    "conv 3 × 3, 16 → 32": ("conv", 1),
    "conv 5 × 5, 8 → 16": ("conv5", 1),
    "4 groups, 3 × 3": ("grouped", 4),
    "depthwise, 3 × 3": ("depthwise", 16),
    "transposed, 3 × 3": ("transposed", 1),
}
COUNTS = ("maps × field, in its group", "as PyTorch counts", "as Keras counts", "maps alone")


def torch_layer(kind: str) -> nn.Module:
    return {
        "dense": lambda: nn.Linear(64, 32),
        "conv": lambda: nn.Conv2d(16, 32, 3),
        "conv5": lambda: nn.Conv2d(8, 16, 5),
        "grouped": lambda: nn.Conv2d(16, 32, 3, groups=4),
        "depthwise": lambda: nn.Conv2d(16, 16, 3, groups=16),
        "transposed": lambda: nn.ConvTranspose2d(16, 48, 3),
    }[kind]()


def keras_kernel(keras, kind: str):
    layers = keras.layers
    return {
        "dense": lambda: built(layers.Dense(32), 64),
        "conv": lambda: built(layers.Conv2D(32, 3), 16, 16, 16),
        "conv5": lambda: built(layers.Conv2D(16, 5), 16, 16, 8),
        "grouped": lambda: built(layers.Conv2D(32, 3, groups=4), 16, 16, 16),
        "depthwise": lambda: built(layers.DepthwiseConv2D(3), 16, 16, 16),
        "transposed": lambda: built(layers.Conv2DTranspose(48, 3), 16, 16, 16),
    }[kind]().kernel


def fan_ins(kind: str, groups: int, keras) -> tuple[int, int, int, int]:
    """fan_in as each of COUNTS has it."""
    weight = torch_layer(kind).weight
    shape = weight.shape
    true = compute_fans(shape, groups=groups, transposed=kind == "transposed").fan_in
    by_keras = compute_fans(tuple(keras_kernel(keras, kind).shape), layout="keras").fan_in
    maps = shape[0] if kind == "transposed" else shape[1]
    return true, compute_fans(shape).fan_in, by_keras, maps


def output_ratio(kind: str, fan_in: int, seed: int) -> float:
    """Mean square of the layer's output over its input's, for weights of variance 1 / fan_in; the border left out."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch_layer(kind)
    shape = (64, 64) if kind == "dense" else (16, layer.in_channels, 20, 20)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(layer.weight.shape, generator=generator) / fan_in**0.5
    if kind == "dense":
        out = F.linear(x, weight)
    elif kind == "transposed":
        out = F.conv_transpose2d(x, weight)[..., 3:-3, 3:-3]
    else:
        out = F.conv2d(x, weight, groups=layer.groups)
    return float(out.square().mean() / x.square().mean())


def measure_fans(seeds):
    """What a layer does to the signal when fan_in is counted one way or another; and the ranges drawn by default."""
    keras = load_keras()
    ratios = {count: [] for count in COUNTS}
    rows = []
    for name, (kind, groups) in KERNELS.items():
        counted = fan_ins(kind, groups, keras)
        for count, fan_in in zip(COUNTS, counted, strict=True):
            ratios[count].append([output_ratio(kind, fan_in, seed) for seed in seeds])
        torch_range = largest(seeded(torch_layer, kind).weight.detach(), 3)
        initializer = keras.initializers.GlorotUniform(seed=0)
        keras_range = keras_bound(keras, initializer, tuple(keras_kernel(keras, kind).shape), 3)
        rows.append([name, *map(str, counted), f"±{torch_range}", f"±{keras_range}"])
    return Measured(
        series=(
            Series(
                "mean square of the output over the input's, Var(w) = 1/fan_in",
                "times",
                ratios,
                "kernel",
                tuple(KERNELS),
                identical="where two ways of counting agree, so do their draws",
            ),
        ),
        tables=(
            Table(
                "fan_in as counted, and the largest default weight",
                ("kernel", *(f"fan_in: {count}" for count in COUNTS), "drawn by PyTorch", "drawn by Keras"),
                rows,
            ),
        ),
    )


def decide_fans(measured):
    (ratio,) = measured.series
    off = {
        count: [k for k in ratio.x if abs(ratio.mean(count, k) - 1) > 0.25 and count_is_off(ratio, count, k)]
        for count in COUNTS
    }
    plain = [k for k in ratio.x if k.startswith(("dense", "conv"))]
    rule = COUNTS[0]
    if off[rule]:
        verdict, condition = DOES_NOT_HOLD, ""
    elif any(off[count] for count in COUNTS[1:3]):
        verdict = HOLDS_WHEN
        condition = "maps are counted within the group, and a transposed kernel's axes are exchanged; the frameworks' "
        condition += f"own initializers count otherwise (PyTorch: {', '.join(off[COUNTS[1]]) or 'nowhere'}; Keras: "
        condition += f"{', '.join(off[COUNTS[2]]) or 'nowhere'})"
    else:
        verdict, condition = HOLDS, ""
    conv = next(k for k in plain if k.startswith("conv 3"))
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of(f"output over input, {conv}, {rule}", "times", ratio.values(rule, conv)),
        figures={
            "conv": conv,
            "right": ratio.mean(rule, conv),
            "alone": ratio.mean("maps alone", conv),
            "worst": max(abs(ratio.mean(rule, k) - 1) for k in ratio.x),
            "depthwise": ratio.mean("as Keras counts", "depthwise, 3 × 3"),
            "transposed": ratio.mean("as PyTorch counts", "transposed, 3 × 3"),
        },
    )


def count_is_off(ratio: Series, count: str, kernel: str) -> bool:
    interval = Interval.of("", "times", ratio.values(count, kernel))
    return interval.low > 1 or interval.high < 1


# I5 ------------------------------------------------------------------------------------------------------

FANS = (25, 150, 400, 1024)
HIDDEN = (1, 2, 4, 8)
TUTORIAL, HE = "±1/fan_in", "He, uniform"


def measure_tutorial(seeds):
    """The variance that ±1/fan_in gives, and nets of growing depth from it and from He's draw."""
    bounds = {TUTORIAL: lenet, HE: he_uniform}
    ratios = {name: [] for name in bounds}
    for fan_in in FANS:
        for name, start in bounds.items():
            values = []
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                x = torch.randn(64, fan_in, generator=generator)
                z = x @ start(fan_in, 256, generator)
                values.append(float(z.square().mean() / x.square().mean()))
            ratios[name].append(values)
    errors = []
    for name in SETS:
        data = images(name, halve=True)
        arms = {arm: [] for arm in bounds}
        for depth in HIDDEN:
            scored = tune_starts(
                {arm: Arm(start) for arm, start in bounds.items()},
                data,
                seeds,
                hidden=[WIDTH] * depth,
                rates=RATES,
                steps=300,
            )
            for arm, outcome in scored.items():
                arms[arm].append(list(outcome.errors))
        errors.append(Series(f"test error, {name}", "%", arms, "hidden layers", HIDDEN))
    return Measured(
        series=(Series("mean square of the output over the input's", "times", ratios, "fan_in", FANS), *errors)
    )


def decide_tutorial(measured):
    ratio, *errors = measured.series
    extra = {
        (series.name, depth): Interval.of_difference(
            f"{series.name}, ±1/fan_in minus He's, {depth} hidden layers",
            "points",
            series.values(TUTORIAL, depth),
            series.values(HE, depth),
        )
        for series in errors
        for depth in HIDDEN
    }
    serves = [d for d in HIDDEN if all(extra[s.name, d].high < 2 for s in errors)]
    harms = [d for d in HIDDEN if any(extra[s.name, d].low > 2 for s in errors)]
    if not harms and serves == list(HIDDEN):
        verdict, condition = HOLDS, ""
    elif serves:
        verdict = HOLDS_WHEN
        condition = f"the net is shallow: within 2 points of He's draw with {', '.join(map(str, serves))} hidden layers"
        condition += f", clearly worse with {', '.join(map(str, harms))}" if harms else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    deepest = HIDDEN[-1]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=extra[errors[0].name, deepest],
        figures={
            "fan": FANS[1],
            "kept": ratio.mean(TUTORIAL, FANS[1]),
            "shallow": HIDDEN[0],
            "near": extra[errors[0].name, HIDDEN[0]].mean,
            "deepest": deepest,
            "tutorial": errors[0].mean(TUTORIAL, deepest),
            "he": errors[0].mean(HE, deepest),
            "tutorial2": errors[1].mean(TUTORIAL, deepest),
            "he2": errors[1].mean(HE, deepest),
        },
    )


CLAIMS = (
    Claim(
        id="I1",
        statement="For the signal to flow, each layer's output must have the variance of its input, and each "
        "gradient that comes back the variance of the one that went in.",
        headline="After {depth} ReLU layers {he:.2g} of the first layer's variance is left under He's draw, "
        "{glorot:.1e} under Glorot's, {naive:.0e} under N(0, 0.01²). Of {tried} scales those trained at which a layer "
        "multiplies the variance by {trained}: test error {at_he:.1f}% at He's scale, {near_below:.1f}% and "
        "{near_above:.1f}% at {below} and {above} of it, {at_small:.1f}% at half, {at_large:.1f}% at twice (mnist5k).",
        rule="A scale trains if on both data sets the 95% interval of its extra test error over the best scale "
        "stays below 5 points, and fails if on one it lies above. Holds if He's scale alone trains; does "
        "not hold if it does not, or none fails; otherwise it holds within the range of those that train.",
        measure=measure_flow,
        decide=decide_flow,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="I4",
        statement="A convolution's filters are drawn like a dense layer's weights, with fan_in = input maps × "
        "receptive field.",
        headline="With weights of variance 1/fan_in a {conv} layer keeps {right:.2f} of its input's mean square "
        "when maps × field are counted, {alone:.1f} when maps alone are. Counted so, in its group, no "
        "kernel strays by more than {worst:.2f}. Keras's count leaves a depthwise layer {depthwise:.2f}, "
        "PyTorch's a transposed one {transposed:.2f}.",
        rule="A way of counting fails for a kernel if the mean ratio is off by more than 0.25 and its 95% "
        "interval leaves out 1. Holds if maps × field, counted within the group, fails for none; under "
        "that condition only if a framework's own count fails somewhere.",
        measure=measure_fans,
        decide=decide_fans,
    ),
    Claim(
        id="I5",
        statement="A uniform draw in ±1/fan_in serves (an old tutorial's LeNet).",
        headline="With fan_in = {fan} such a layer leaves {kept:.4f} of its input's mean square. With {shallow} "
        "hidden layer the test error differs from He's by {near:+.1f} points; with {deepest} it is "
        "{tutorial:.1f}% against {he:.1f}% (mnist5k) and {tutorial2:.1f}% against {he2:.1f}% "
        "(animalshape).",
        rule="A depth is served if on both data sets the 95% interval of the extra test error over He's draw "
        "stays below 2 points. Holds if all depths are, does not hold if none is.",
        measure=measure_tutorial,
        decide=decide_tutorial,
        seeds=tuple(range(6)),
    ),
)
