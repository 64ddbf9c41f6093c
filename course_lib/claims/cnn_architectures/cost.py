"""C5, C7 and C9: what is in memory when, which layers cost what, and which sizes of picture a net takes."""

import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import architectures
from course_lib.accounts import account, forecast
from course_lib.claims.claim import (
    DOES_NOT_HOLD,
    HOLDS,
    HOLDS_WHEN,
    Claim,
    Decision,
    Interval,
    Measured,
    Series,
    Table,
)
from course_lib.claims.cnn_architectures.memory import BATCH, SIDE, SITUATIONS, measured_apart, stack
from course_lib.claims.cnn_architectures.nets import SETS, How, fit, percent, wrong
from course_lib.claims.experiments import images
from course_lib.quiet import load_keras
from course_lib.windows import Window, output_size, receptive_field, same_padding

__all__ = ["CLAIMS"]

MB = 2**20

# C5 ------------------------------------------------------------------------------------------------------

PREDICTED, TORCH, KERAS = "predicted, layer by layer", "PyTorch", "Keras on TensorFlow"
CALLS = {
    TORCH: ("backward()", "eval() alone", "no_grad()", "inference_mode()"),
    KERAS: ("a tape and its gradient", "model(x) under a tape", "model(x)", "predict(x)"),
}
DROPPED = 0.5  # of what a recorded evaluation keeps: below it, activations were dropped


def measure_memory(seeds):
    """Each seed draws a stack of convolutions; its memory is predicted, and measured in both frameworks."""
    sizes = []
    for seed in seeds:
        rng = random.Random(seed)
        sizes.append((rng.randint(12, 16), rng.choice((8, 12))))
    arms = {PREDICTED: [[] for _ in SITUATIONS]}
    for depth, maps in sizes:
        plan = forecast(stack(depth, maps), (1, SIDE, SIDE), BATCH)
        values = (plan.activations + plan.gradients, plan.recorded, plan.passing, plan.passing)
        for place, value in zip(arms[PREDICTED], values, strict=True):
            place.append(value / MB)
    for arm, framework in ((TORCH, "torch"), (KERAS, "keras")):
        rows = measured_apart(framework, sizes)
        arms[arm] = [[row[i] / MB for row in rows] for i in range(len(SITUATIONS))]
    series = Series("memory besides weights and batch, at its highest", "MB", arms, "situation", SITUATIONS)
    rows = tuple((situation, *(CALLS[arm][i] for arm in CALLS)) for i, situation in enumerate(SITUATIONS))
    return Measured([series], (Table("What was run", ("situation", *CALLS), rows),))


def decide_memory(measured):
    series = measured["memory besides weights and batch, at its highest"]

    def share(arm, situation):
        """Of what the recorded evaluation was predicted to keep."""
        return series.values(arm, situation) / series.values(PREDICTED, SITUATIONS[1])

    dropped = {
        arm: [CALLS[arm][i] for i, s in enumerate(SITUATIONS) if i and share(arm, s).max() < DROPPED] for arm in CALLS
    }
    if all(len(calls) == len(SITUATIONS) - 1 for calls in dropped.values()):
        verdict, condition = HOLDS, ""
    elif any(dropped.values()):
        verdict = HOLDS_WHEN
        condition = "it is " + ", or ".join(f"{arm} by {' or '.join(calls)}" for arm, calls in dropped.items() if calls)
        condition += "; any other evaluation keeps every map until its end"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of(
            f"{KERAS}, {CALLS[KERAS][2]}, of what a recorded evaluation is predicted to keep",
            "%",
            100 * share(KERAS, SITUATIONS[2]),
        ),
        figures={
            "torch": ", ".join(f"{series.mean(TORCH, s):.0f}" for s in SITUATIONS),
            "keras": ", ".join(f"{series.mean(KERAS, s):.0f}" for s in SITUATIONS),
            "predicted": ", ".join(f"{series.mean(PREDICTED, s):.0f}" for s in SITUATIONS),
        },
    )


# C7 ------------------------------------------------------------------------------------------------------

NETS = {
    "LeNet, 28 px": (lambda: architectures.lenet5_modern(), (1, 28, 28)),
    "cats and dogs, 150 px": (lambda: architectures.cats_and_dogs_net(), (3, 150, 150)),
    "VGG, small, 32 px": (lambda: architectures.vgg(3, 10, image_size=32), (3, 32, 32)),
    "VGG19, 224 px": (lambda: architectures.vgg19(), (3, 224, 224)),
    "ResNet-20, 32 px": (lambda: architectures.resnet(3, 10), (3, 32, 32)),
}
DENSE = ("LeNet, 28 px", "cats and dogs, 150 px", "VGG, small, 32 px", "VGG19, 224 px")
TOO_LARGE = "VGG19, 224 px"  # to be run here: its account needs no weights
QUANTITIES = ("parameters", "multiply-adds", "bytes of the outputs")


def seconds_by_layer(net: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Processor seconds of each leaf's forward pass by its kind, the least of three runs."""
    began: dict[nn.Module, float] = {}
    runs = []
    leaves = [module for module in net.modules() if not list(module.children())]
    spent: dict[str, float] = {}

    def before(module, args):
        began[module] = time.process_time()

    def after(module, args, out):
        kind = type(module).__name__
        spent[kind] = spent.get(kind, 0.0) + time.process_time() - began[module]

    hooks = [h for leaf in leaves for h in (leaf.register_forward_pre_hook(before), leaf.register_forward_hook(after))]
    with torch.no_grad():
        for _ in range(4):
            spent.clear()
            net(x)
            runs.append(dict(spent))
    for hook in hooks:
        hook.remove()
    return min(runs[1:], key=lambda run: sum(run.values()))


def measure_layers(seeds):
    """The dense layers' share of each net's cost; each seed draws the images of one timing."""
    shares = {quantity: [] for quantity in QUANTITIES}
    seconds = {"seconds, forward": []}
    for name, (make, shape) in NETS.items():
        with torch.device("meta" if name == TOO_LARGE else "cpu"):
            net = make().eval()
        rows = account(net, shape).layers
        for quantity, field in zip(QUANTITIES, ("parameters", "multiply_adds", "output_bytes"), strict=True):
            dense = sum(getattr(row, field) for row in rows if row.kind == "Linear")
            shares[quantity].append([100 * dense / sum(getattr(row, field) for row in rows)] * len(seeds))
        if name == TOO_LARGE:
            continue
        timed = []
        for seed in seeds:
            x = torch.rand(8, *shape, generator=torch.Generator().manual_seed(seed))
            spent = seconds_by_layer(net, x)
            timed.append(100 * spent.get("Linear", 0.0) / sum(spent.values()))
        seconds["seconds, forward"].append(timed)
    return Measured(
        [
            Series("the dense layers' share", "%", shares, "net", tuple(NETS)),
            Series(
                "the dense layers' share of the time", "%", seconds, "net", tuple(n for n in NETS if n != TOO_LARGE)
            ),
        ]
    )


def decide_layers(measured):
    shares, seconds = measured["the dense layers' share"], measured["the dense layers' share of the time"]
    most = {quantity: [name for name in DENSE if shares.mean(quantity, name) > 50] for quantity in QUANTITIES}
    most["seconds"] = [name for name in DENSE if name in seconds.x and seconds.mean("seconds, forward", name) > 50]
    everywhere = [quantity for quantity, names in most.items() if len(names) == len(DENSE) - (quantity == "seconds")]
    if len(everywhere) == len(most):
        verdict, condition = HOLDS, ""
    elif everywhere:
        verdict = HOLDS_WHEN
        condition = f"expensive means {' and '.join(everywhere)}"
        nowhere = [quantity for quantity, names in most.items() if not names]
        condition += f"; by {' and '.join(nowhere)} in none of the nets" if nowhere else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of(
            "the dense layers' share of LeNet's forward time",
            "%",
            seconds.values("seconds, forward", "LeNet, 28 px"),
        ),
        figures={
            quantity.replace(" ", "_").replace("-", "_"): ", ".join(
                f"{name.split(',')[0]} {shares.mean(quantity, name):.0f}%" for name in NETS
            )
            for quantity in QUANTITIES
        }
        | {
            "seconds": ", ".join(
                f"{name.split(',')[0]} {seconds.mean('seconds, forward', name):.0f}%" for name in seconds.x
            )
        },
    )


# C9 ------------------------------------------------------------------------------------------------------

STACKS = 20
FACTORS = (0.75, 1.0, 1.25, 1.5, 2.0)
NEAR = 1.25  # a change of size up to which the error should stay


def drawn_stack(rng: random.Random) -> tuple[int, list[Window]]:
    """A size and 2 to 4 layers that fit in it."""
    while True:
        size, layers = rng.randint(30, 60), []
        for _ in range(rng.randint(2, 4)):
            kernel, stride = rng.randint(1, 5), rng.randint(1, 3)
            layers.append(Window(kernel, stride, rng.randint(0, kernel // 2), rng.randint(1, 2)))
        left = size
        try:
            for layer in layers:
                left = output_size(left, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        except ValueError:
            continue
        if left >= 1:
            return size, layers


def agree_in_torch(size: int, layers: list[Window]) -> tuple[bool, bool]:
    """Whether size and receptive field are what PyTorch's layers and its gradient say, for the middle output."""
    x = torch.zeros(1, 1, size, requires_grad=True)
    y, left = x, size
    for layer in layers:
        y = F.conv1d(y, torch.ones(1, 1, layer.kernel_size), None, layer.stride, layer.padding, layer.dilation)
        left = output_size(left, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    middle, field = left // 2, receptive_field(layers)
    (gradient,) = torch.autograd.grad(y[0, 0, middle], x)
    reached = gradient[0, 0].nonzero().flatten()
    first = field.start + middle * field.jump
    inside = [first <= place < first + field.size for place in reached.tolist()]
    ends = (max(first, 0), min(first + field.size, size) - 1)
    # with strides above the kernel the ends themselves may be missed; none may lie outside
    wide = all(layer.stride <= layer.kernel_size and layer.dilation == 1 for layer in layers)
    exact = not wide or (int(reached[0]), int(reached[-1])) == ends
    return y.shape[2] == left, all(inside) and exact


def agree_in_keras(keras, size: int, layers: list[Window], same: bool) -> bool:
    """Whether sizes are Keras's, with padding="same" or "valid" (it refuses stride and dilation together)."""
    y, left = keras.ops.zeros((1, size, 1)), size
    for layer in layers:
        stride = 1 if layer.dilation > 1 else layer.stride
        extent = layer.dilation * (layer.kernel_size - 1) + 1
        if extent > left and not same:
            return True  # nothing would be left: neither framework makes it
        made = keras.layers.Conv1D(
            1, layer.kernel_size, strides=stride, padding="same" if same else "valid", dilation_rate=layer.dilation
        )
        y = made(y)
        padding = same_padding(left, layer.kernel_size, stride, layer.dilation) if same else 0
        left = output_size(left, layer.kernel_size, stride, padding, layer.dilation)
    return y.shape[1] == left


def averaging_net(channels: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 48, 3, padding=1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    )


def refusals() -> tuple[tuple[str, str, str], ...]:
    """What nets with either head say to sizes that they were not made for."""
    rows = []
    nets = {
        "convolutions, averages, dense": nn.Sequential(averaging_net(1, 10)),
        "convolutions, flattened, dense (LeNet)": architectures.lenet5_modern(),
        "one convolution of stride 3": nn.Conv2d(1, 4, 3, stride=3),
    }
    for name, net in nets.items():
        for side in (28, 29, 40):
            with torch.no_grad():
                try:
                    said = "output " + " × ".join(map(str, net.eval()(torch.zeros(1, 1, side, side)).shape[1:]))
                except RuntimeError:
                    said = "refused"
            rows.append((name, f"{side} × {side}", said))
    return tuple(rows)


def measure_sizes(seeds):
    """Calculators against both frameworks on random stacks; and a net with averages tested on pictures resized."""
    keras = load_keras()
    found = {"PyTorch, size": [], "PyTorch, receptive field": [], "Keras, valid": [], "Keras, same": []}
    for seed in seeds:
        rng = random.Random(seed)
        stacks = [drawn_stack(rng) for _ in range(STACKS)]
        by_torch = [agree_in_torch(*one) for one in stacks]
        values = (
            [size for size, _ in by_torch],
            [field for _, field in by_torch],
            [agree_in_keras(keras, *one, same=False) for one in stacks],
            [agree_in_keras(keras, *one, same=True) for one in stacks],
        )
        for arm, value in zip(found.values(), values, strict=True):
            arm.append(100 * float(np.mean(value)))
    agree = {arm: [values] for arm, values in found.items()}
    errors = {}
    for name in SETS:
        data = images(name, halve=True)
        whole, side = images(name).test, data.train[0].shape[2]
        channels = data.train[0].shape[1]
        nets = [
            fit(lambda c=channels, d=data: averaging_net(c, d.classes), data, seed, 1500, How(lr=3e-3, steps=300))
            for seed in seeds
        ]
        errors[name] = []
        for factor in FACTORS:
            x = F.interpolate(whole[0], size=(round(factor * side),) * 2, mode="bilinear", antialias=True)
            errors[name].append(percent(wrong(net, (x, whole[1])) for net in nets))
    return Measured(
        [
            Series("stacks on which the calculators agree", "%", agree, identical="where all agree, all say 100%"),
            Series("test error, maps averaged", "%", errors, "side of the picture ÷ that of training", FACTORS),
        ],
        (Table("What nets say to other sizes", ("net", "picture", "it says"), refusals()),),
    )


def decide_sizes(measured):
    agree, errors = (
        measured["stacks on which the calculators agree"],
        measured["test error, maps averaged"],
    )
    exact = all(float(np.min(agree.values(arm))) == 100 for arm in agree.arms)

    def cost(name, factor):
        what = f"test error at {factor:g} times the side of training minus at its own, {name}"
        return Interval.of_difference(what, "points", errors.values(name, factor), errors.values(name, 1.0))

    kept = all(cost(name, factor).low < 2 for name in SETS for factor in FACTORS)
    if exact and kept:
        verdict, condition = HOLDS, ""
    elif exact:
        verdict = HOLDS_WHEN
        condition = "it only has to compute: every size gives logits, but what it learned at one size is lost at others"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=cost(SETS[0], FACTORS[-1]),
        figures={
            "agree": ", ".join(f"{arm} {agree.mean(arm):.0f}%" for arm in agree.arms),
            "cost": "; ".join(
                f"{name} "
                + ", ".join(f"{cost(name, factor).mean:+.1f} at {factor:g}" for factor in FACTORS if factor != 1)
                for name in SETS
            ),
        },
    )


CLAIMS = (
    Claim(
        id="C5",
        statement="At test a clever implementation could drop activations, and the frameworks do.",
        headline="MB besides weights and batch: a training step, an evaluation with gradients recorded, one with "
        "nothing recorded, one in the framework's own way. Predicted {predicted}; PyTorch {torch}; Keras {keras}.",
        rule="Activations count as dropped where the peak stays below half of what a recorded evaluation is predicted "
        "to keep, for every net. Holds if both frameworks drop them in every kind of evaluation; holds when … if in "
        "some; does not hold if in none.",
        measure=measure_memory,
        decide=decide_memory,
        seeds=tuple(range(5)),
    ),
    Claim(
        id="C7",
        statement="The fully connected layers are the expensive part.",
        headline="The dense layers' share. Parameters: {parameters}. Multiply-adds: {multiply_adds}. Bytes of the "
        "outputs: {bytes_of_the_outputs}. Seconds of a forward pass: {seconds}.",
        rule="Holds if in each of LeNet, the cats-and-dogs net and both VGGs the dense layers make up more than half "
        "of the parameters, of the multiply-adds, of the outputs' bytes and (where it is run) of the seconds; holds "
        "when … if of some of these in all four nets; does not hold otherwise.",
        measure=measure_layers,
        decide=decide_layers,
        seeds=tuple(range(5)),
    ),
    Claim(
        id="C9",
        statement="A conv net accepts images of other sizes, as long as the strides fit.",
        headline="Random stacks on which the calculators agree with the frameworks: {agree}. Test error at other "
        "sizes minus that at the size of training, in points: {cost}.",
        rule="Holds if the calculators agree with both frameworks on every stack, and a net that averages its maps "
        "loses no more than 2 points at any of the sizes tried (lower end of the paired 95% interval), on both sets; "
        "holds when … if only the sizes agree; does not hold otherwise.",
        measure=measure_sizes,
        decide=decide_sizes,
        seeds=tuple(range(5)),
    ),
)
