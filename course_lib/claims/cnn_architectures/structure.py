"""C2, C3, C4: which kind of layer for which structure, and what pooling drops."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from course_lib.accounts import account
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.cnn_architectures.nets import SETS, Data, How, percent, tuned, wrong
from course_lib.claims.experiments import images

__all__ = ["CLAIMS"]

RATES = (1e-3, 4e-3)
LENGTH = 96


def at_rates(make: Callable[[], nn.Module], rates: Sequence[float] = RATES, steps: int = 300):
    return [(make, How(lr=lr, steps=steps)) for lr in rates]


# signals -------------------------------------------------------------------------------------------------


def waves(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Noise with one of four short waves at a place of its own: (n, 1, LENGTH) and the kind (n,)."""
    t = torch.arange(16.0)
    kinds = torch.stack(
        [
            torch.sin(0.5 * t),
            torch.sin(1.0 * t),
            torch.sin(0.06 * t * t),  # it quickens
            torch.sin(0.06 * (15 - t) ** 2),  # it slows down
        ]
    ) * torch.hann_window(16, periodic=False)
    labels = torch.randint(4, (n,), generator=generator)
    x = 0.35 * torch.randn(n, LENGTH, generator=generator)
    start = torch.randint(LENGTH - 16, (n,), generator=generator)
    places = start[:, None] + torch.arange(16)
    return x.scatter_add(1, places, 1.5 * kinds[labels])[:, None], labels


def order_of_two(generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Noise with a rise and a fall at any two places: the class says which came first. (n, 1, LENGTH), (n,)."""
    labels = torch.randint(2, (n,), generator=generator)
    x = 0.3 * torch.randn(n, LENGTH, generator=generator)
    early = torch.randint(0, LENGTH - 32, (n,), generator=generator)
    room = LENGTH - 8 - (early + 16)  # the second begins 16 later or more, and ends within the signal
    late = early + 16 + (torch.rand(n, generator=generator) * room).long()
    bump = 2.0 * torch.hann_window(8, periodic=False)
    sign = (2.0 * labels - 1)[:, None]
    for start, factor in ((early, sign), (late, -sign)):
        x = x.scatter_add(1, start[:, None] + torch.arange(8), factor * bump)
    return x[:, None], labels


def signals(draw: Callable[[torch.Generator, int], tuple[Tensor, Tensor]], classes: int) -> Data:
    generator = torch.Generator().manual_seed(0)
    return Data(*(draw(generator, n) for n in (2000, 500, 1000)), classes)


# C2 ------------------------------------------------------------------------------------------------------


def conv_net(channels: int, side: int, classes: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(24 * (side // 4) ** 2, classes),
        )

    return make


def dense_net(features: int, classes: int, hidden: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    return make


def conv1d_net(classes: int, pooled: bool = True) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(1, 12, 9, padding=4),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(12, 24, 9, padding=4),
            nn.ReLU(),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
            nn.Linear(24, classes),
        )

    return make


def shuffled(data, seed: int = 7) -> Data:
    """The same images, their pixels in one random order: nothing is lost, but neighbours are."""
    order = torch.randperm(data.train[0][0, 0].numel(), generator=torch.Generator().manual_seed(seed))
    parts = [(x.flatten(2)[:, :, order].view(x.shape), y) for x, y in (data.train, data.valid, data.test)]
    return Data(*parts, data.classes)


CASES = (*SETS, *(f"{name}, pixels shuffled" for name in SETS), "waves in noise")


def measure_convolution(seeds):
    """Conv against dense nets: on images, on the same with one fixed shuffling of the pixels, on signals."""
    arms = {"convolutions": [], "dense layers": []}
    for case in CASES:
        if case == "waves in noise":
            data = signals(waves, 4)
            nets = {"convolutions": conv1d_net(4), "dense layers": dense_net(LENGTH, 4, 64)}
        else:
            data = images(case.split(",")[0], halve=True)
            data = shuffled(data) if "shuffled" in case else data
            channels, side = data.train[0].shape[1:3]
            nets = {
                "convolutions": conv_net(channels, side, data.classes),
                "dense layers": dense_net(channels * side**2, data.classes, 64),
            }
        trained = tuned({arm: at_rates(make) for arm, make in nets.items()}, data, seeds, 800)
        for arm, found in trained.items():
            arms[arm].append(percent(wrong(net, data.test) for net in found))
    return Measured([Series("test error", "%", arms, "data", CASES)])


def decide_convolution(measured):
    series = measured["test error"]

    def gap(case):
        what = f"test error, convolutions minus dense layers, {case}"
        return Interval.of_difference(
            what, "points", series.values("convolutions", case), series.values("dense layers", case)
        )

    gaps = {case: gap(case) for case in CASES}
    structured = [case for case in CASES if "shuffled" not in case]
    won = [case for case in structured if gaps[case].high < 0]
    still = [case for case in CASES if "shuffled" in case and gaps[case].high < 0]
    if len(won) == len(structured) and not still:
        verdict, condition = HOLDS, ""
    elif won:
        verdict = HOLDS_WHEN
        condition = "the data is " + " or ".join(won)
        condition += "; convolutions win on " + " and ".join(still) + " as well" if still else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gaps[SETS[0]],
        figures={"gaps": "; ".join(f"{case} {gap.mean:+.1f}" for case, gap in gaps.items())},
    )


# C3 ------------------------------------------------------------------------------------------------------

WAYS = ("max pooling", "average pooling", "stride 2", "neither")
SHIFTS = (0, 1, 2, 3)


def shrinking_net(way: str, channels: int, side: int, classes: int) -> Callable[[], nn.Module]:
    """Two convolutions; the maps halved behind each by pooling, or by its stride, or not at all."""

    def make() -> nn.Module:
        stride = 2 if way == "stride 2" else 1
        pools = {"max pooling": nn.MaxPool2d, "average pooling": nn.AvgPool2d}
        net, before, left = nn.Sequential(), channels, side
        for maps in (12, 24):
            net.extend([nn.Conv2d(before, maps, 3, stride, padding=1), nn.ReLU()])
            if way in pools:
                net.append(pools[way](2))
            before, left = maps, -(-left // 2) if stride == 2 else left // 2 if way in pools else left
        return net.extend([nn.Flatten(), nn.Linear(24 * left**2, classes)])

    return make


def moved(x: Tensor, pixels: int) -> Tensor:
    """Each image moved to the right, its first column repeated."""
    if not pixels:
        return x
    return torch.cat([x[..., :1].expand(*x.shape[:-1], pixels), x[..., :-pixels]], -1)


def measure_pooling(seeds):
    """Test error, and the share of answers that change when test images move by some pixels; cost by account."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        channels, side = data.train[0].shape[1:3]
        nets = {way: shrinking_net(way, channels, side, data.classes) for way in WAYS}
        trained = tuned({way: at_rates(make) for way, make in nets.items()}, data, seeds, 800)
        errors = {way: [percent(wrong(net, data.test) for net in trained[way])] for way in WAYS}
        changed = {way: [] for way in WAYS}
        with torch.no_grad():
            for way in WAYS:
                still = [net(data.test[0]).argmax(1) for net in trained[way]]
                for pixels in SHIFTS[1:]:
                    x = moved(data.test[0], pixels)
                    now = [net(x).argmax(1) for net in trained[way]]
                    changed[way].append([100 * float((a != b).float().mean()) for a, b in zip(still, now, strict=True)])
        cost = {
            way: [[account(make(), (channels, side, side)).multiply_adds / 1e3] * len(seeds)]
            for way, make in nets.items()
        }
        series.append(Series(f"test error, {name}", "%", errors))
        series.append(Series(f"answers that change, {name}", "%", changed, "images moved by (pixels)", SHIFTS[1:]))
        series.append(
            Series(
                f"multiply-adds for an image, {name}",
                "thousand",
                cost,
                identical="both poolings compute the same convolutions, and an account has no chance in it",
            )
        )
    return Measured(series)


def decide_pooling(measured):
    def gap(quantity, a, b, name, x=None):
        series = measured[f"{quantity}, {name}"]
        what = f"{quantity}, {a} minus {b}, {name}"
        return Interval.of_difference(what, series.unit, series.values(a, x), series.values(b, x))

    steadier = {
        way: [gap("answers that change", way, "neither", name, 1).high < 0 for name in SETS] for way in WAYS[:3]
    }
    better = {way: [gap("test error", way, "neither", name).low <= 0 for name in SETS] for way in WAYS[:3]}
    pooled = WAYS[:2]
    good = [way for way in pooled if all(steadier[way]) and all(better[way])]
    if len(good) == len(pooled):
        verdict, condition = HOLDS, ""
    elif any(any(steadier[way]) for way in pooled):
        verdict = HOLDS_WHEN
        parts = [
            f"{way} on {name}" for way in pooled for i, name in enumerate(SETS) if steadier[way][i] and better[way][i]
        ]
        condition = "it is " + ", ".join(parts) if parts else "only steadiness counts, and not the test error"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    name = SETS[0]
    changes, cost = measured[f"answers that change, {name}"], measured[f"multiply-adds for an image, {name}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gap("answers that change", "max pooling", "neither", name, 1),
        figures={
            "set": name,
            "changes": "; ".join(f"{way} {changes.mean(way, 1):.1f}%" for way in WAYS),
            "errors": "; ".join(f"{way} {measured[f'test error, {name}'].mean(way):.1f}%" for way in WAYS),
            "cost": "; ".join(f"{way} {cost.mean(way):,.0f}" for way in WAYS),
        },
    )


# C4 ------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A GRU over the steps, then a dense layer on its last state: (N, values, steps) → (N, classes)."""

    def __init__(self, values: int, hidden: int, classes: int):
        super().__init__()
        self.gru = nn.GRU(values, hidden, batch_first=True)
        self.last = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gru(x.transpose(1, 2))[0][:, -1])


def rows_net(values: int, classes: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(values, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(32, 48, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool1d(2),
            nn.Flatten(),
            nn.Linear(96, classes),
        )

    return make


def as_rows(data) -> Data:
    """Images read row by row: (N, 1, H, W) → (N, W, H), a sequence of H steps of W values."""
    return Data(*((x[:, 0].transpose(1, 2), y) for x, y in (data.train, data.valid, data.test)), data.classes)


TASKS = ("mnist5k by rows", "animalshape by rows", "which came first")


def measure_sequences(seeds):
    """GRU, Conv1D and dense nets, on images read row by row and on long signals in which the order counts."""
    arms = {"recurrent (GRU)": [], "Conv1D": [], "dense": []}
    for task in TASKS:
        if task == "which came first":
            data = signals(order_of_two, 2)
            parts = (
                (x.unflatten(2, (LENGTH // 4, 4))[:, 0].transpose(1, 2), y)
                for x, y in (data.train, data.valid, data.test)
            )
            data = Data(*parts, 2)  # four samples a step
        else:
            data = as_rows(images(task.split()[0], halve=True))
        values, steps = data.train[0].shape[1:]
        nets = {
            "recurrent (GRU)": lambda values=values, data=data: Recurrent(values, 48, data.classes),
            "Conv1D": rows_net(values, data.classes),
            "dense": dense_net(values * steps, data.classes, 48),
        }
        trained = tuned({arm: at_rates(make) for arm, make in nets.items()}, data, seeds, 800)
        for arm, found in trained.items():
            arms[arm].append(percent(wrong(net, data.test) for net in found))
    return Measured([Series("test error", "%", arms, "task", TASKS)])


def decide_sequences(measured):
    series = measured["test error"]
    arms = list(series.arms)

    def gap(task, other):
        what = f"test error, recurrent minus {other}, {task}"
        return Interval.of_difference(what, "points", series.values(arms[0], task), series.values(other, task))

    won = [task for task in TASKS if all(gap(task, other).high < 0 for other in arms[1:])]
    above_dense = [task for task in TASKS if gap(task, arms[2]).high < 0]
    if len(won) == len(TASKS):
        verdict, condition = HOLDS, ""
    elif won or above_dense:
        verdict = HOLDS_WHEN
        condition = f"the task is {' or '.join(won)}"
        if not won:
            condition = f"it is compared with dense layers alone, on {' and '.join(above_dense)}"
        beaten = [task for task in above_dense if task not in won]
        condition += f"; on {' and '.join(beaten)} it beats dense layers, but not Conv1D" if won and beaten else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gap(TASKS[0], arms[1]),
        figures={
            "errors": "; ".join(
                f"{task}: " + ", ".join(f"{arm} {series.mean(arm, task):.1f}%" for arm in arms) for task in TASKS
            )
        },
    )


CLAIMS = (
    Claim(
        id="C2",
        statement="Convolutions are for data with spatial or temporal structure.",
        headline="Test error of convolutions minus that of dense layers, in points: {gaps}.",
        rule="Holds if convolutions beat dense layers on both image sets and on signals (paired 95% intervals below "
        "0), and on neither set once its pixels are shuffled; holds when … if on some. Each arm chooses among 2 rates "
        "on validation images; 800 training examples.",
        measure=measure_convolution,
        decide=decide_convolution,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="C3",
        statement="Pooling drops detail, mostly noise, and dimension.",
        headline="Answers that change when a test image of {set} moves by one pixel: {changes}. Test error: {errors}. "
        "Thousand multiply-adds for an image: {cost}.",
        rule="Holds if max and average pooling both let fewer answers change than no pooling when images move by one "
        "pixel (paired 95% intervals, both data sets) and neither has a clearly higher test error; holds when … if "
        "one of them on some set. Each arm chooses among 2 rates on validation images.",
        measure=measure_pooling,
        decide=decide_pooling,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="C4",
        statement="Recurrent layers are for sequences, dense ones for where no structure is known.",
        headline="Test errors. {errors}.",
        rule="Holds if the recurrent net beats both others on all three tasks (paired 95% intervals below 0); holds "
        "when … if on some, or if it beats dense layers alone; does not hold otherwise. Each arm chooses among 2 "
        "rates on validation examples.",
        measure=measure_sequences,
        decide=decide_sequences,
        seeds=tuple(range(6)),
    ),
)
