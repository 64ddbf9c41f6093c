"""B3 to B5: deep nets trained by SGD, with and without batch norm: gradients, initial scale, learning rate."""

import math
import time

import torch
import torch.nn.functional as F

from course_lib.claims.batch_norm.nets import CAP, NormMLP, Run, train_sgd
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import TUNING_SEEDS, Images, images

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "emoji8")
WITHOUT, WITH = "without batch norm", "with batch norm"
NORMS = {WITHOUT: "none", WITH: "before"}
TRAINING = {"n_train": 800, "batch_size": 32}


def sizes(data: Images, layers: int, width: int) -> tuple[int, ...]:
    return (data.train[0][0].numel(), *[width] * layers, data.classes)


# B3 ------------------------------------------------------------------------------------------------------

LAYERS = 10
SATURATING = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}
RATES = (0.003, 0.03, 0.3)


def measure_vanishing(seeds):
    """Ten hidden layers of 64 units, Glorot's initialization: gradients at the start, and the loss after training."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        norms, losses = {}, {}
        for label, activation in SATURATING.items():
            for arm, norm in NORMS.items():
                net = NormMLP(sizes(data, LAYERS, 64), norm, activation)
                norms[f"{label}, {arm}"] = gradient_norms(net, data, seeds)
                losses[f"{label}, {arm}"] = [tuned_loss(net, data, seeds, steps=300)]
        layers = tuple(range(1, LAYERS + 1))
        series.append(Series(gradient_of(name), "", norms, "hidden layer", layers))
        series.append(Series(f"training loss after 300 steps, {name}", "nats", losses))
    return Measured(series=tuple(series))


def gradient_of(name: str) -> str:
    return f"gradient of a layer's weights over that of the last hidden layer, {name}"


def gradient_norms(net: NormMLP, data: Images, seeds) -> list[list[float]]:
    """‖∂L/∂W‖ of each hidden layer over that of the last, in training mode before any step: (layers, seeds)."""
    starts = [net.init(torch.Generator().manual_seed(seed)) for seed in seeds]
    params = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    weights = [params[f"w{i}"].requires_grad_() for i in range(LAYERS)]
    rows = torch.stack([torch.randperm(800, generator=torch.Generator().manual_seed(seed))[:256] for seed in seeds]).T
    logits = net.forward(params, data.train[0][rows], {"hidden": torch.zeros(len(seeds))})
    loss = F.cross_entropy(logits.flatten(0, 1), data.train[1][rows.T].flatten(), reduction="sum") / len(rows)
    found = torch.stack([grad.flatten(1).norm(dim=1) for grad in torch.autograd.grad(loss, weights)])
    return (found / found[-1]).double().tolist()


def tuned_loss(net: NormMLP, data: Images, seeds, *, steps: int) -> list[float]:
    """The final training loss of each seed, at the rate of RATES that is best over the tuning seeds."""
    tuning = [Run(seed, lr) for lr in RATES for seed in TUNING_SEEDS]
    tried = train_sgd(net, tuning, data, record_at=(steps,), **TRAINING).loss[-1].view(len(RATES), -1).mean(1)
    lr = RATES[int(tried.argmin())]
    return train_sgd(net, [Run(seed, lr) for seed in seeds], data, record_at=(steps,), **TRAINING).loss[-1].tolist()


def decide_vanishing(measured):
    gradients = [measured[gradient_of(name)] for name in SETS]
    losses = [measured[f"training loss after 300 steps, {name}"] for name in SETS]

    def grown(gradient, label):
        logs = [[math.log10(v) for v in gradient.values(f"{label}, {arm}", 1)] for arm in (WITH, WITHOUT)]
        return Interval.of_difference("", "", *logs).low > math.log10(2)

    def fallen(loss, label):
        return Interval.of_difference("", "", *(loss.values(f"{label}, {arm}") for arm in (WITH, WITHOUT))).high < 0

    helped = [label for label in SATURATING if all(grown(gradient, label) for gradient in gradients)]
    lower = [label for label in SATURATING if all(fallen(loss, label) for loss in losses)]
    both = [label for label in SATURATING if label in helped and label in lower]
    if len(both) == len(SATURATING):
        verdict, condition = HOLDS, ""
    elif both or helped or lower:
        verdict = HOLDS_WHEN
        condition = (
            f"the activation is {' or '.join(both) or 'neither'}: the first layer's gradient is more than doubled "
        )
        condition += f"with {' and '.join(helped) or 'neither'}, the loss lower with {' and '.join(lower) or 'neither'}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""

    def means(series, label, arm, form, *layer):
        return " and ".join(f"{one.values(f'{label}, {arm}', *layer).mean():{form}}" for one in series)

    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of_difference(
            f"training loss after 300 steps, ten sigmoid layers, with batch norm minus without, {SETS[0]}",
            "nats",
            losses[0].values(f"sigmoid, {WITH}"),
            losses[0].values(f"sigmoid, {WITHOUT}"),
        ),
        figures={
            f"{what}_{label}{'_bn' if arm == WITH else ''}": means(series, label, arm, form, *layer)
            for what, series, form, layer in (("grad", gradients, ".2g", (1,)), ("loss", losses, ".2f", ()))
            for label in SATURATING
            for arm in NORMS
        },
    )


# B4 ------------------------------------------------------------------------------------------------------

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
SCALE_RATES = (0.003, 0.03, 0.3, 3.0)
FIXED, TUNED = "one rate for all", "rate tuned at each scale"
CHANCE = {"mnist5k": math.log(10), "emoji8": math.log(8)}  # nats: an even guess among the classes


def measure_scale(seeds):
    """Five ReLU layers of 64 units, every initial weight multiplied by the scale; 200 steps of SGD."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        loss = {f"{arm}, {how}": [] for arm in NORMS for how in (FIXED, TUNED)}
        for arm, norm in NORMS.items():
            net = NormMLP(sizes(data, 5, 64), norm)
            tuning = [Run(seed, lr, scale) for scale in SCALES for lr in SCALE_RATES for seed in TUNING_SEEDS]
            tried = train_sgd(net, tuning, data, record_at=(200,), **TRAINING).loss[-1]
            best = tried.view(len(SCALES), len(SCALE_RATES), -1).mean(2).argmin(1)
            for how in (FIXED, TUNED):
                chosen = [int(best[SCALES.index(1.0)] if how == FIXED else best[i]) for i in range(len(SCALES))]
                runs = [
                    Run(seed, SCALE_RATES[k], scale) for scale, k in zip(SCALES, chosen, strict=True) for seed in seeds
                ]
                final = train_sgd(net, runs, data, record_at=(200,), **TRAINING).loss[-1]
                loss[f"{arm}, {how}"] = final.view(len(SCALES), -1).tolist()
        series.append(
            Series(
                f"training loss after 200 steps, {name}",
                "nats",
                loss,
                "scale of the initial weights (He = 1)",
                SCALES,
            )
        )
    return Measured(series=tuple(series))


def learns(series: Series, arm: str, scale: float, name: str) -> bool:
    """Whether the loss at this scale, at the one rate for all, is below half of chance's beyond the noise."""
    return Interval.of("", "nats", series.values(f"{arm}, {FIXED}", scale)).high < CHANCE[name] / 2


def told(scales: list[float]) -> str:
    return f"{min(scales):g} to {max(scales):g}" if len(scales) > 1 else ", ".join(f"{s:g}" for s in scales) or "no"


def decide_scale(measured):
    def spread(series, arm):
        by_scale = [series.values(arm, scale) for scale in SCALES]
        return max(by_scale, key=lambda v: v.mean()) - min(by_scale, key=lambda v: v.mean())

    kept = {
        arm: [
            scale
            for scale in SCALES
            if all(learns(series, arm, scale, name) for name, series in zip(SETS, measured.series, strict=True))
        ]
        for arm in NORMS
    }
    if kept[WITH] == list(SCALES):
        verdict, condition = HOLDS, ""
    elif len(kept[WITH]) > len(kept[WITHOUT]):
        verdict = HOLDS_WHEN
        condition = f"the initial weights are {told(kept[WITH])} times He's; without batch norm it learns at "
        condition += f"{told(kept[WITHOUT])} times only"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = measured.series[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of_difference(
            f"training loss over the scales, highest minus lowest, with batch norm minus without, {SETS[0]}",
            "nats",
            spread(first, f"{WITH}, {FIXED}"),
            spread(first, f"{WITHOUT}, {FIXED}"),
        ),
        figures={
            "without_small": first.mean(f"{WITHOUT}, {FIXED}", SCALES[0]),
            "without_one": first.mean(f"{WITHOUT}, {FIXED}", 1.0),
            "without_large": first.mean(f"{WITHOUT}, {FIXED}", SCALES[-1]),
            "with_small": first.mean(f"{WITH}, {FIXED}", SCALES[0]),
            "with_one": first.mean(f"{WITH}, {FIXED}", 1.0),
            "with_large": first.mean(f"{WITH}, {FIXED}", SCALES[-1]),
            "tuned_large": first.mean(f"{WITH}, {TUNED}", SCALES[-1]),
            "small": SCALES[0],
            "large": SCALES[-1],
            "chance": CHANCE["mnist5k"],
            "cap": CAP,
        },
    )


# B5 ------------------------------------------------------------------------------------------------------

LRS = tuple(round(10 ** (k / 2), 6) for k in range(-6, 4))  # 0.001 … 31.6
EVERY, STEPS, TARGET = 10, 240, 0.5


def measure_rate(seeds):
    """Five ReLU layers of 64 units at He's scale: the loss at each rate, the steps to a loss, the time of a step."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        loss, usable, steps, seconds = {}, {}, {}, {}
        for arm, norm in NORMS.items():
            net = NormMLP(sizes(data, 5, 64), norm)
            at = tuple(range(EVERY, STEPS + 1, EVERY))
            started = time.process_time()
            runs = [Run(seed, lr) for lr in LRS for seed in seeds]
            curve = train_sgd(net, runs, data, record_at=at, **TRAINING).loss.view(len(at), len(LRS), -1)
            seconds[arm] = 1e3 * (time.process_time() - started) / (STEPS * len(runs))
            loss[arm] = curve[-1].tolist()
            reached = curve <= TARGET  # (K, rates, seeds)
            at_target = torch.where(reached.any(0), (reached.int().argmax(0) + 1.0) * EVERY, 2.0 * STEPS)
            best = int(at_target.mean(1).argmin())
            steps[arm] = [at_target[best].tolist()]
            learned = curve[-1] < 0.5 * math.log(data.classes)
            largest = torch.where(learned, torch.tensor(LRS).view(-1, 1), 0.0).amax(0).clamp(min=LRS[0])
            usable[arm] = [largest.double().tolist()]
        series.append(Series(f"training loss after {STEPS} steps, {name}", "nats", loss, "learning rate", LRS))
        series.append(Series(f"largest usable rate, {name}", "", usable, identical="a grid of rates may give ties"))
        series.append(
            Series(
                f"steps to a training loss of {TARGET:g}, {name}", "steps", steps, identical="counted in tens of steps"
            )
        )
        series.append(
            Series(
                f"time of a step of one net, {name}",
                "ms of processor time",
                {arm: [[value] * len(seeds)] for arm, value in seconds.items()},
            )
        )
    return Measured(series=tuple(series))


def decide_rate(measured):
    larger, faster, figures = [], [], {}
    for i, name in enumerate(SETS):
        usable = measured[f"largest usable rate, {name}"]
        logs = [[math.log10(v) for v in usable.values(arm)] for arm in (WITH, WITHOUT)]
        larger.append(Interval.of_difference("", "", *logs).low > 0)
        steps = measured[f"steps to a training loss of {TARGET:g}, {name}"]
        faster.append(Interval.of_difference("", "", steps.values(WITH), steps.values(WITHOUT)).high < 0)
        time_of = measured[f"time of a step of one net, {name}"]
        tag = str(i + 1)
        figures |= {
            f"rate{tag}": 10 ** (sum(logs[1]) / len(logs[1])),
            f"rate_bn{tag}": 10 ** (sum(logs[0]) / len(logs[0])),
            f"steps{tag}": steps.mean(WITHOUT),
            f"steps_bn{tag}": steps.mean(WITH),
            f"cost{tag}": time_of.mean(WITH) / time_of.mean(WITHOUT),
        }
    if all(larger) and all(faster):
        verdict, condition = HOLDS, ""
    elif all(larger) or all(faster):
        verdict = HOLDS_WHEN
        condition = "it means larger rates: " if all(larger) else "it means fewer steps: "
        condition += "each net at its own best rate, batch norm does not save steps on both data sets"
        if not all(larger):
            condition = (
                "it means fewer steps at each net's own best rate; the largest usable rate is not larger on both sets"
            )
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    steps = measured[f"steps to a training loss of {TARGET:g}, {SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of_difference(
            f"steps to a training loss of {TARGET:g}, with batch norm minus without, {SETS[0]}",
            "steps",
            steps.values(WITH),
            steps.values(WITHOUT),
        ),
        figures=figures | {"target": TARGET},
    )


CLAIMS = (
    Claim(
        id="B3",
        statement="It reduces vanishing gradients, even with saturating activations such as sigmoid or tanh.",
        headline="Ten hidden layers, on mnist5k and emoji8. Sigmoid: the first layer's gradient is {grad_sigmoid} of "
        "the last one's without batch norm, {grad_sigmoid_bn} with it; the loss after 300 steps {loss_sigmoid} nats "
        "against {loss_sigmoid_bn}. Tanh: {grad_tanh} against {grad_tanh_bn}; {loss_tanh} nats against {loss_tanh_bn}.",
        rule="Holds if, with sigmoid and with tanh, on both data sets, batch norm more than doubles the first layer's "
        "gradient relative to the last hidden layer's at the start, and lowers the training loss after 300 steps "
        "(paired 95% intervals), each net at the best of 3 rates; holds when … if only some of these do.",
        measure=measure_vanishing,
        decide=decide_vanishing,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="B4",
        statement="Nets become much less sensitive to the initialization of their weights.",
        headline="Initial weights times {small:g}, 1 and {large:g}, one learning rate: training loss "
        "{without_small:.2f}, {without_one:.2f} and {without_large:.1f} nats without batch norm, {with_small:.2f}, "
        "{with_one:.2f} and {with_large:.2f} with it (mnist5k; chance is {chance:.2f}, losses are cut at {cap:.0f}). "
        "With the rate tuned for it, {tuned_large:.2f} at {large:g} times.",
        rule="Holds if with batch norm, at one rate for all, the training loss at each of the five scales is below "
        "half of chance's on both data sets (upper end of the 95% interval); holds when … if at more of the scales "
        "than without it. The rate is the best of 4 at He's scale.",
        measure=measure_scale,
        decide=decide_scale,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="B5",
        statement="Larger learning rates become usable, which speeds up training.",
        headline="Largest rate that still learns: {rate1:.2g} without and {rate_bn1:.2g} with batch norm (mnist5k), "
        "{rate2:.2g} and {rate_bn2:.2g} (emoji8). Steps to a training loss of {target:g} at each net's best rate: "
        "{steps1:.0f} and {steps_bn1:.0f}, {steps2:.0f} and {steps_bn2:.0f}. A step takes {cost1:.1f} times as long.",
        rule="Holds if on both data sets the largest rate that reaches half of chance's loss is larger with batch "
        "norm, and fewer steps reach the target, each at its own best of 10 rates (paired 95% intervals); holds when … "
        "if only one of the two.",
        measure=measure_rate,
        decide=decide_rate,
        seeds=tuple(range(6)),
    ),
)
