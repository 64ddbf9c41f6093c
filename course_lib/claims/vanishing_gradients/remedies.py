"""V2, V5, V6: what vanishing gradients cost in training, which remedies help alone, and what depth costs besides."""

from __future__ import annotations

import time
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import TUNING_SEEDS, Images, images
from course_lib.claims.vanishing_gradients.nets import BENDS, Deep, Run, batch_gradients, drawn, train_deep
from course_lib.ensembles import Params

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "animalshape")
STEPS = 300


def percent(values: Tensor) -> list[float]:
    return (100 * values.double()).tolist()


def tuned(net: Deep, data: Images, seeds, rates, **how) -> Run:
    """The run at the rate, of `rates`, with the lowest validation error over the tuning seeds."""
    valid = [float(train_deep(net, data, TUNING_SEEDS, lr=lr, **how).errors["valid"].mean()) for lr in rates]
    return train_deep(net, data, seeds, lr=rates[valid.index(min(valid))], **how)


# V2 ------------------------------------------------------------------------------------------------------

ARMS = {
    "10 sigmoid layers": Deep(10, 64, "sigmoid", "Glorot"),
    "1 sigmoid layer": Deep(1, 64, "sigmoid", "Glorot"),
    "10 ReLU layers": Deep(10, 64, "ReLU", "He"),
}
GRID = (0.03, 0.1, 0.3, 1.0)


def measure_stuck(seeds):
    """How far each layer's weights move in training, and where it ends, with a shallow and a healthy deep control."""
    losses, errors = {arm: [] for arm in ARMS}, {arm: [] for arm in ARMS}
    moved = {}
    for name in SETS:
        data = images(name, halve=True)
        for arm, net in ARMS.items():
            run = tuned(net, data, seeds, GRID, steps=STEPS)
            losses[arm].append(run.losses.tolist())
            errors[arm].append(percent(run.errors["test"]))
            if name == SETS[0] and net.depth > 1:
                moved[arm] = [
                    percent(
                        (run.params[f"w{i}"] - run.start[f"w{i}"]).flatten(1).norm(dim=1)
                        / run.start[f"w{i}"].flatten(1).norm(dim=1)
                    )
                    for i in range(net.depth + 1)
                ]
    sets = {"x_name": "data set", "x": SETS}
    return Measured(
        (
            Series(
                "change of the weights", "% of their start", moved, "layer, 1 next to the input", tuple(range(1, 12))
            ),
            Series("loss on the training images", "nats", losses, **sets),
            Series("test error", "%", errors, **sets),
        )
    )


def decide_stuck(measured):
    moved, loss = measured["change of the weights"], measured["loss on the training images"]
    deep, *controls = ARMS
    first = Interval.of("change of the first layer's weights, 10 sigmoid layers", "%", moved.values(deep, 1))
    worse = all(
        Interval.of_difference("", "", loss.values(deep, name), loss.values(control, name)).low > 0
        for name in SETS
        for control in controls
    )
    error = measured["test error"]
    return Decision(
        verdict=HOLDS if worse and first.high < 1 else DOES_NOT_HOLD,
        interval=first,
        figures={
            "first": first.mean,
            "last": moved.mean(deep, 11),
            "healthy": moved.mean("10 ReLU layers", 1),
            "loss": loss.mean(deep, SETS[0]),
            "shallow": loss.mean("1 sigmoid layer", SETS[0]),
            "deep": loss.mean("10 ReLU layers", SETS[0]),
            "error": error.mean(deep, SETS[0]),
            "steps": STEPS,
        },
    )


# V5 ------------------------------------------------------------------------------------------------------


def pretrained(net: Deep, data: Images, seeds, *, steps: int = 150, batch_size: int = 64) -> Params:
    """The net's start, its hidden layers first trained as autoencoders one after another, without labels."""
    x, _ = drawn(data, 1000, seeds)
    params = net.init(x.shape[2], data.classes, seeds)
    generator = torch.Generator().manual_seed(seeds[0])
    bend = BENDS[net.activation]
    for i in range(net.depth):
        w, b = params[f"w{i}"], params[f"b{i}"]
        back, shift = (
            torch.randn(w.mT.shape, generator=generator) / w.shape[2] ** 0.5,
            torch.zeros(len(w), 1, w.shape[1]),
        )
        rule = torch.optim.Adam([w, b, back, shift], lr=3e-3)
        for tensor in (w, b, back, shift):
            tensor.requires_grad_()
        for _ in range(steps):
            batch = x[:, torch.randint(x.shape[1], (batch_size,), generator=generator)]
            again = torch.baddbmm(shift, bend(torch.baddbmm(b, batch, w)), back)
            rule.zero_grad()
            F.mse_loss(again, batch, reduction="sum").div(batch.numel() / len(w)).backward()
            rule.step()
        params[f"w{i}"], params[f"b{i}"] = w.detach(), b.detach()
        with torch.no_grad():
            x = bend(torch.baddbmm(b, x, w))
    return params


SICK = Deep(10, 64, "sigmoid", "PyTorch's default")
# arm: (net, optimizer, rates to choose from, its layers pretrained)
REMEDIES = {
    "as it is": (SICK, "SGD", (0.03, 0.1, 0.3), False),
    "initialization": (Deep(10, 64, "sigmoid", "Glorot"), "SGD", (0.03, 0.1, 0.3), False),
    "activation": (Deep(10, 64, "ReLU", "PyTorch's default"), "SGD", (0.03, 0.1, 0.3), False),
    "batch norm": (Deep(10, 64, "sigmoid", "PyTorch's default", norm=True), "SGD", (0.03, 0.1, 0.3), False),
    "reused layers": (SICK, "SGD", (0.03, 0.1, 0.3), True),
    "faster optimizer": (SICK, "Adam", (3e-4, 1e-3, 3e-3), False),
    "larger rate": (SICK, "SGD", (1.0, 3.0, 10.0), False),
    "all together": (Deep(10, 64, "ReLU", "He", norm=True), "Adam", (3e-3, 1e-2, 3e-2), True),
    "initialization + activation": (Deep(10, 64, "ReLU", "He"), "SGD", (0.03, 0.1, 0.3), False),
}


def measure_remedies(seeds):
    """Test errors of one failing net with each remedy alone, and with all of them, each at its best of three rates."""
    errors = {arm: [] for arm in REMEDIES}
    for name in SETS:
        data = images(name, halve=True)
        for arm, (net, optimizer, rates, reuse) in REMEDIES.items():
            how = {"steps": STEPS, "optimizer": optimizer}
            starts = {key: pretrained(net, data, key) if reuse else None for key in (TUNING_SEEDS, tuple(seeds))}
            valid = [
                float(
                    train_deep(net, data, TUNING_SEEDS, lr=lr, start=starts[TUNING_SEEDS], **how).errors["valid"].mean()
                )
                for lr in rates
            ]
            best = rates[valid.index(min(valid))]
            run = train_deep(net, data, seeds, lr=best, start=starts[tuple(seeds)], **how)
            errors[arm].append(percent(run.errors["test"]))
    stuck = "nets that have learned nothing name one class for every image, and nine in ten are wrong"
    return Measured((Series("test error", "%", errors, "data set", SETS, identical=stuck),))


def decide_remedies(measured):
    error = measured["test error"]
    gains = {
        arm: [
            Interval.of_difference(arm, "points", error.values(arm, name), error.values("as it is", name))
            for name in SETS
        ]
        for arm in REMEDIES
        if arm != "as it is"
    }
    helps = [arm for arm, found in gains.items() if all(interval.high < -5 for interval in found)]
    alone = [arm for arm in list(REMEDIES)[1:7] if arm in helps]
    fails = [arm for arm in list(REMEDIES)[1:7] if arm not in helps]
    verdict = HOLDS if not fails else HOLDS_WHEN if helps else DOES_NOT_HOLD
    together = "all together" in helps
    return Decision(
        verdict=verdict,
        condition=f"they are combined{'' if together else ' (not even then)'}; alone only: {', '.join(alone) or 'none'}"
        if verdict == HOLDS_WHEN
        else "",
        interval=gains["all together"][0],
        figures={
            "asis": error.mean("as it is", SETS[0]),
            "alone": ", ".join(f"{arm} {error.mean(arm, SETS[0]):.0f}%" for arm in list(REMEDIES)[1:7]),
            "pair": error.mean("initialization + activation", SETS[0]),
            "together": error.mean("all together", SETS[0]),
            "steps": STEPS,
        },
    )


# V6 ------------------------------------------------------------------------------------------------------

DEPTHS, WIDTHS = (1, 2, 4, 8), (16, 64, 256, 1024)
FEW = 300


def milliseconds(net: Deep, data: Images, seed: int, steps: int = 15) -> float:
    """Processor time of one step of SGD on 64 images, the median over `steps` steps."""
    x, y = drawn(data, 64, (seed,))
    params = net.init(x.shape[2], data.classes, (seed,))
    taken = []
    for _ in range(steps):
        began = time.process_time()
        _, grads = batch_gradients(net, params, x, y)
        for name, value in params.items():
            value -= 1e-6 * grads[name]
        taken.append(1000 * (time.process_time() - began))
    return float(torch.tensor(taken).median())


def numbers(net: Deep, data: Images) -> int:
    """How many weights and biases the net has."""
    sizes = net.sizes(data.train[0][0].numel(), data.classes)
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


def measure_cost(seeds):
    """Time of a step against depth, and the gap between test and training error against depth and size."""
    gaps = {"depth": {}, "width": {}}
    errors = {}
    for name in SETS:
        data = images(name, halve=True)
        for kind, nets in (
            ("depth", [Deep(depth, 128, "ReLU", "He") for depth in DEPTHS]),
            ("width", [Deep(2, width, "ReLU", "He") for width in WIDTHS]),
        ):
            runs = [
                train_deep(net, data, seeds, lr=1e-3, steps=150, n_train=FEW, batch_size=32, optimizer="Adam")
                for net in nets
            ]
            gaps[kind][name] = [percent(run.errors["test"] - run.errors["train"]) for run in runs]
            if kind == "width":
                errors[name] = [percent(run.errors["test"]) for run in runs]
    data = images(SETS[0], halve=True)
    times = [[milliseconds(Deep(depth, 128, "ReLU", "He"), data, seed) for seed in seeds] for depth in DEPTHS]
    sizes = tuple(numbers(Deep(2, width, "ReLU", "He"), data) for width in WIDTHS)
    return Measured(
        (
            Series("time of a step", "ms", {"128 units a layer": times}, "hidden layers", DEPTHS),
            Series("test error minus training error", "points", gaps["depth"], "hidden layers", DEPTHS),
            Series("gap against size", "points", gaps["width"], "weights and biases", sizes),
            Series("test error against size", "%", errors, "weights and biases", sizes),
        )
    )


def decide_cost(measured):
    times, size = measured["time of a step"], measured["gap against size"]
    depth, error = measured["test error minus training error"], measured["test error against size"]
    small, large = size.x[0], size.x[-1]
    slower = Interval.of(
        f"time of a step, {DEPTHS[-1]} layers ÷ {DEPTHS[0]}",
        "times",
        times.values("128 units a layer", DEPTHS[-1]) / times.values("128 units a layer", DEPTHS[0]),
    )
    wider = all(
        Interval.of_difference("", "", size.values(name, large), size.values(name, small)).low > 0 for name in SETS
    )
    deeper = all(
        Interval.of_difference("", "", depth.values(name, DEPTHS[-1]), depth.values(name, DEPTHS[0])).low > 0
        for name in SETS
    )
    slow = slower.low > 1.5
    true = [
        words
        for words, yes in (
            ("time for depth", slow),
            ("the gap for depth", deeper),
            ("the gap for size", wider),
        )
        if yes
    ]
    verdict = HOLDS if len(true) == 3 else HOLDS_WHEN if true else DOES_NOT_HOLD
    return Decision(
        verdict=verdict,
        condition=f"it is about {' and '.join(true)}" if verdict == HOLDS_WHEN else "",
        interval=slower,
        figures={
            "slower": slower.mean,
            "deepest": DEPTHS[-1],
            "gap_small": size.mean(SETS[0], small),
            "gap_large": size.mean(SETS[0], large),
            "error_small": error.mean(SETS[0], small),
            "error_large": error.mean(SETS[0], large),
            "small": small,
            "large": large,
            "gap_shallow": depth.mean(SETS[0], DEPTHS[0]),
            "gap_deep": depth.mean(SETS[0], DEPTHS[-1]),
            "few": FEW,
        },
    )


CLAIMS = (
    Claim(
        id="V2",
        statement="The lower layers' weights stay virtually unchanged, and training does not reach a good solution.",
        headline="After {steps} steps the first layer's weights have moved by {first:.2g}% of their size, the last "
        "layer's by {last:.0f}%; in a healthy deep net the first layer's move by {healthy:.0f}%. The loss on the "
        "training images is {loss:.2f} nats, against {shallow:.2f} of one sigmoid layer and {deep:.2f} of 10 ReLU "
        "layers; the test error is {error:.0f}% (mnist5k).",
        rule="Holds if the first layer's weights move by under 1% (95% interval) and, on both data sets, the training "
        "loss is above that of the shallow and of the healthy deep net (paired 95% intervals). Each net chooses among "
        "the same 4 rates of plain SGD on validation images.",
        measure=measure_stuck,
        decide=decide_stuck,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="V5",
        statement="Six remedies help: initialization, activation, batch norm, reusing layers, a faster optimizer, a "
        "larger learning rate.",
        headline="Test error of the failing net as it is: {asis:.0f}%. Each remedy alone: {alone}. A fitting "
        "activation and initialization together: {pair:.0f}%; all six: {together:.0f}% (mnist5k, {steps} steps).",
        rule="A remedy helps if on both data sets the paired 95% interval of the test error, against the net as it is, "
        "lies below −5 points. Holds if each of the six helps alone; holds when … if some do, or all together do. Each "
        "arm chooses among 3 rates on validation images.",
        measure=measure_remedies,
        decide=decide_remedies,
        seeds=tuple(range(5)),
    ),
    Claim(
        id="V6",
        statement="Deep nets are slow to train and, with millions of parameters, overfit.",
        headline="A step of {deepest} layers takes {slower:.1f} times that of one. On {few} images the gap between "
        "test and training error is {gap_shallow:.0f} points with one layer and {gap_deep:.0f} with {deepest}; with "
        "{small:,} parameters {gap_small:.0f} points and with {large:,} {gap_large:.0f}, while the test error goes "
        "from {error_small:.0f}% to {error_large:.0f}% (mnist5k).",
        rule="Holds if a step of 8 layers takes over 1.5 times that of one, and the gap grows on both data sets from 1 "
        "to 8 layers, and from the narrowest to the widest net (95% intervals); holds when … if only some of these do.",
        measure=measure_cost,
        decide=decide_cost,
        seeds=tuple(range(6)),
    ),
)
