"""C1 and C6: searching against copying, and how depth and width decide at fixed data."""

import random
from collections.abc import Callable

import torch
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.cnn_architectures.nets import SETS, Data, How, fit, percent, wrong
from course_lib.claims.experiments import images

__all__ = ["CLAIMS"]

# C1 ------------------------------------------------------------------------------------------------------

TRIED = (1, 2, 4, 8)
MOST = 60_000  # parameters: a design with more is drawn again


def drawn_net(seed: int, channels: int, side: int, classes: int) -> Callable[[], nn.Module]:
    """A design drawn at random: depth, maps, kernels, where it shrinks and how, bends, norms, and the head."""
    rng = random.Random(seed)
    while True:
        depth, maps = rng.randint(1, 4), rng.choice((4, 8, 12, 16))
        layers = []
        left = side
        for _ in range(depth):
            shrink = rng.choice(("none", "pool", "stride")) if left >= 6 else "none"
            layers.append((maps, rng.choice((1, 3, 5)), shrink))
            left = left // 2 if shrink == "pool" else -(-left // 2) if shrink == "stride" else left
            maps = min(maps * rng.choice((1, 2)), 48)
        bend, norm = rng.choice((nn.ReLU, nn.Tanh, nn.Sigmoid)), rng.random() < 0.5
        head, hidden = rng.choice(("flat", "average")), rng.choice((0, 32, 64))

        def make(layers=layers, bend=bend, norm=norm, head=head, hidden=hidden) -> nn.Module:
            net, before = nn.Sequential(), channels
            for out, kernel, shrink in layers:
                net.append(nn.Conv2d(before, out, kernel, 2 if shrink == "stride" else 1, kernel // 2, bias=not norm))
                if norm:
                    net.append(nn.BatchNorm2d(out))
                net.append(bend())
                if shrink == "pool":
                    net.append(nn.MaxPool2d(2))
                before = out
            if head == "average":
                net.append(nn.AdaptiveAvgPool2d(1))
            net.append(nn.Flatten())
            with torch.no_grad():
                features = net.eval()(torch.zeros(1, channels, side, side)).shape[1]
            if hidden:
                net.extend([nn.Linear(features, hidden), bend()])
                features = hidden
            return net.append(nn.Linear(features, classes)).train()

        if sum(p.numel() for p in make().parameters()) <= MOST:
            return make


def copied_net(channels: int, side: int, classes: int) -> Callable[[], nn.Module]:
    """What books show: (conv → batch norm → ReLU → pool) twice, one dense layer; 3 × 3 kernels, maps doubled."""

    def make() -> nn.Module:
        left = side // 4
        return nn.Sequential(
            nn.Conv2d(channels, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(24 * left**2, 48),
            nn.ReLU(),
            nn.Linear(48, classes),
        )

    return make


def measure_search(seeds):
    """The copied design, trained once, against the best by validation of up to 8 random designs; 800 images each."""
    series, how = [], How(steps=200)
    for name in SETS:
        data = images(name, halve=True)
        shape = (*data.train[0].shape[1:3], data.classes)
        copied, best = [], []
        for seed in seeds:
            copied.append(wrong(fit(copied_net(*shape), data, seed, 800, how), data.test))
            tries = [fit(drawn_net(100 * seed + k, *shape), data, seed, 800, how) for k in range(max(TRIED))]
            scores = [(wrong(net, data.valid), k) for k, net in enumerate(tries)]
            best.append([wrong(tries[min(scores[:tried])[1]], data.test) for tried in TRIED])
        arms = {
            "copied": [percent(copied)] * len(TRIED),
            "best of the random designs, by validation": [percent(row[i] for row in best) for i in range(len(TRIED))],
        }
        series.append(Series(f"test error, {name}", "%", arms, "designs tried", TRIED))
    return Measured(series)


def decide_search(measured):
    searched = "best of the random designs, by validation"

    def gap(name, tried):
        series = measured[f"test error, {name}"]
        what = f"test error, best of {tried} random designs minus the copied one, {name}"
        return Interval.of_difference(what, "points", series.values(searched, tried), series.values("copied", tried))

    first = [gap(name, TRIED[0]).low > 0 for name in SETS]
    last = [gap(name, TRIED[-1]).high < 0 for name in SETS]
    if all(first) and not any(last):
        verdict, condition = HOLDS, ""
    elif all(first):
        verdict = HOLDS_WHEN
        won = " and ".join(name for name, beaten in zip(SETS, last, strict=True) if beaten)
        condition = (
            f"you can't afford to train {TRIED[-1]} designs: as many, chosen on validation images, beat it on {won}"
        )
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gap(SETS[0], TRIED[-1]),
        figures={
            "most": TRIED[-1],
            "one": "; ".join(f"{name} {gap(name, TRIED[0]).mean:+.1f}" for name in SETS),
            "many": "; ".join(f"{name} {gap(name, TRIED[-1]).mean:+.1f}" for name in SETS),
        },
    )


# C6 ------------------------------------------------------------------------------------------------------

DEPTHS, WIDTHS = (1, 2, 3, 4), (4, 12, 32)
FEW = 300
GOAL = 1.0  # percent of errors


def swept_net(depth: int, width: int, channels: int, classes: int) -> Callable[[], nn.Module]:
    """`depth` convolutions of `width` maps with batch norm and ReLU, pooled behind the first two; maps' maxima."""

    def make() -> nn.Module:
        net, before = nn.Sequential(), channels
        for k in range(depth):
            net.extend([nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()])
            if k < 2:
                net.append(nn.MaxPool2d(2))
            before = width
        if depth == 1:
            net.append(nn.MaxPool2d(2))
        return net.extend([nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes)])

    return make


def digits_net(width: int) -> Callable[[], nn.Module]:
    """Three convolutions for whole digits of 28 pixels."""

    def make() -> nn.Module:
        def block(a: int, b: int) -> tuple[nn.Module, ...]:
            return nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)

        net = nn.Sequential(*block(1, width), *block(width, 2 * width), *block(2 * width, 2 * width))
        return net.extend([nn.Flatten(), nn.Linear(18 * width, 10)])

    return make


def measure_size(seeds):
    """Errors of twelve sizes on 300 images; then two small nets on all digits, whole and shifted at random."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        test = {f"{width} maps": [] for width in WIDTHS}
        gap = {f"{width} maps": [] for width in WIDTHS}
        for depth in DEPTHS:
            for width in WIDTHS:
                make = swept_net(depth, width, data.train[0].shape[1], data.classes)
                nets = [fit(make, data, seed, FEW, How(lr=3e-3, steps=200)) for seed in seeds]
                errors = percent(wrong(net, data.test) for net in nets)
                test[f"{width} maps"].append(errors)
                own = percent(wrong(net, seen(data, seed)) for net, seed in zip(nets, seeds, strict=True))
                gap[f"{width} maps"].append([a - b for a, b in zip(errors, own, strict=True)])
        series.append(Series(f"test error on {FEW} images, {name}", "%", test, "convolutions", DEPTHS))
        series.append(Series(f"test minus training error, {name}", "points", gap, "convolutions", DEPTHS))
    data = images("mnist5k")
    how = How(lr=1e-2, steps=700, batch=64, schedule=True, shift=2, decay=0.01)
    whole = {
        f"{sum(p.numel() for p in digits_net(width)().parameters()):,} parameters": [
            percent(wrong(fit(digits_net(width), data, seed, len(data.train[1]), how), data.test) for seed in seeds)
        ]
        for width in (4, 8)
    }
    series.append(Series("test error, all digits at full size", "%", whole))
    return Measured(series)


def seen(data: Data, seed: int):
    """The images that `fit` trained on."""
    index = torch.randperm(len(data.train[1]), generator=torch.Generator().manual_seed(seed))[:FEW]
    return data.train[0][index], data.train[1][index]


def decide_size(measured):
    def errors(name, depth, width):
        return measured[f"test error on {FEW} images, {name}"].values(f"{width} maps", depth)

    sizes = [(depth, width) for depth in DEPTHS for width in WIDTHS]
    best = {name: min(sizes, key=lambda size: errors(name, *size).mean()) for name in SETS}
    deeper = {
        name: Interval.of_difference(
            f"test error, {DEPTHS[-1]} convolutions minus the best depth, {WIDTHS[-1]} maps, {name}",
            "points",
            errors(name, DEPTHS[-1], WIDTHS[-1]),
            errors(name, min(DEPTHS, key=lambda d: errors(name, d, WIDTHS[-1]).mean()), WIDTHS[-1]),
        )
        for name in SETS
    }
    gains = {
        name: Interval.of_difference(
            f"test error, {DEPTHS[-1]} convolutions minus {DEPTHS[0]}, {WIDTHS[-1]} maps, {name}",
            "points",
            errors(name, DEPTHS[-1], WIDTHS[-1]),
            errors(name, DEPTHS[0], WIDTHS[-1]),
        )
        for name in SETS
    }
    whole = measured["test error, all digits at full size"]
    reached = [arm for arm in whole.arms if whole.mean(arm) < GOAL]
    overfit = [name for name in SETS if deeper[name].low > 0]
    layers = all(gain.high < 0 for gain in gains.values())
    if layers and len(overfit) == len(SETS) and reached:
        verdict, condition = HOLDS, ""
    elif layers or reached or overfit:
        verdict = HOLDS_WHEN
        parts = ["more layers do help, " + ("on both sets" if layers else "though not on both sets")]
        parts.append(
            "too many harm on " + " and ".join(overfit) if overfit else "and too many do not harm, up to the largest"
        )
        parts.append(
            f"{GOAL:g}% of errors on the digits is passed by a net of {reached[0]}"
            if reached
            else f"no net here gets below {GOAL:g}% of errors on so few digits"
        )
        condition = "it says: " + "; ".join(parts)
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    small = next(iter(whole.arms))
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SETS[0]],
        figures={
            "few": FEW,
            "best": "; ".join(f"{name} {best[name][0]} × {best[name][1]} maps" for name in SETS),
            "gains": "; ".join(f"{name} {gains[name].mean:+.1f}" for name in SETS),
            "digits": "; ".join(f"{arm} {whole.mean(arm):.2f}%" for arm in whole.arms),
            "small": small,
        },
    )


CLAIMS = (
    Claim(
        id="C1",
        statement="Nobody knows which layers to use; at the beginning the best approach is to copy a known design.",
        headline="A random design's test error minus the copied one's, in points: {one}. The best of {most} random "
        "designs, chosen on validation images, minus the copied one: {many}.",
        rule="Holds if one random design is worse than the copied one on both data sets (paired 95% interval above 0) "
        "and the best of 8 is better on neither; holds when … if the best of 8 is better on some set; does not hold "
        "if one random design is not clearly worse. All nets train alike on 800 images, with at most 60,000 "
        "parameters.",
        measure=measure_search,
        decide=decide_search,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="C6",
        statement="More layers give a higher accuracy, then overfitting; a small problem needs a small net.",
        headline="On {few} images, of twelve sizes the best is {best} (convolutions × maps). Four convolutions "
        "instead of one change the test error by {gains} points. All digits at full size: {digits}.",
        rule="Holds if, with 32 maps on 300 images, four convolutions beat one on both data sets, are beaten by the "
        "best depth on both (paired 95% intervals), and some small net on all training digits gets below 1% of "
        "errors on average; holds when … if one of the three; does not hold if none.",
        measure=measure_size,
        decide=decide_size,
        seeds=tuple(range(5)),
    ),
)
