"""A1, A4, A6: who learns faster, by the step and by the second, and who ends better."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from course_lib.claims.activations.nets import LABELS, Dense, step_seconds, steps_to, tune
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import images

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "animalshape")
RATES = (1e-3, 3e-3, 1e-2, 3e-2)  # every activation tries all of them
N_TRAIN, BATCH = 2500, 64
SAME_RATE = "two activations may choose the same rate"


def sizes(classes: int, depth: int, width: int = 64) -> tuple[int, ...]:
    return (196, *[width] * depth, classes)


# A1 ------------------------------------------------------------------------------------------------------

DEPTHS = (1, 2, 4)
GOALS = {"mnist5k": 0.5, "animalshape": 0.9}  # nats on validation images
RACE = 500  # steps at most; twice that stands for "not reached"


def measure_race(seeds):
    """Steps to a validation loss, each activation at the rate with which it gets there soonest."""
    found, rates = [], {LABELS[name]: [] for name in ("sigmoid", "relu")}
    for name, goal in GOALS.items():
        data = images(name, halve=True)
        arms = {label: [] for label in rates}
        for depth in DEPTHS:
            nets = {activation: Dense(sizes(data.classes, depth), activation) for activation in ("sigmoid", "relu")}
            tuned = tune(
                nets,
                RATES,
                data,
                seeds,
                loss_below=goal,
                n_train=N_TRAIN,
                steps=RACE,
                batch_size=BATCH,
                score_at=range(10, RACE + 1, 10),
            )
            for activation, result in tuned.items():
                arms[LABELS[activation]].append(steps_to(result.steps, result.losses, goal).tolist())
                rates[LABELS[activation]].append([result.rate] * len(seeds))
        found.append(Series(f"steps to {goal:g} nats, {name}", "steps", arms, "hidden layers", DEPTHS))
    chosen = {arm: [values[i] for i in range(len(DEPTHS))] for arm, values in rates.items()}
    found.append(Series("rate chosen, mnist5k", "", chosen, "hidden layers", DEPTHS, identical=SAME_RATE))
    return Measured(series=tuple(found))


def decide_race(measured):
    gains = {}
    for series in measured.series[: len(GOALS)]:
        for depth in DEPTHS:
            ratio = np.log2(series.values("logistic", depth) / series.values("ReLU", depth))
            gains[series.name, depth] = Interval.of(
                f"log₂ of the logistic net's steps over ReLU's, {series.name}, {depth} hidden layers",
                "powers of 2",
                ratio,
            )
    faster = [key for key, gain in gains.items() if gain.low > 0]
    both = [
        depth for depth in DEPTHS if all((series.name, depth) in faster for series in measured.series[: len(GOALS)])
    ]
    if len(faster) == len(gains):
        verdict, condition = HOLDS, ""
    elif both:
        verdict, condition = HOLDS_WHEN, f"the net has {' or '.join(map(str, both))} hidden layers"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first, second = measured.series[: len(GOALS)]
    shallow, deep = DEPTHS[0], DEPTHS[-1]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[first.name, deep],
        figures={
            "shallow": shallow,
            "deep": deep,
            "goal": GOALS[SETS[0]],
            "relu_shallow": first.mean("ReLU", shallow),
            "sigmoid_shallow": first.mean("logistic", shallow),
            "relu_deep": first.mean("ReLU", deep),
            "sigmoid_deep": first.mean("logistic", deep),
            "goal2": GOALS[SETS[1]],
            "relu_deep2": second.mean("ReLU", deep),
            "sigmoid_deep2": second.mean("logistic", deep),
            "limit": RACE,
        },
    )


# A4 and A6 -----------------------------------------------------------------------------------------------

STEPS = 500
SCORED = tuple(range(25, STEPS + 1, 25))
SHOWN = (50, 100, 200, 500)


def measure_contest(names, depth, norm, seeds) -> tuple[list[Series], dict[str, list[list[float]]]]:
    """Test errors after equal steps and after equal seconds on both sets, what was chosen, and the time of a step."""
    found, rates = [], {LABELS[name]: [] for name in names}
    kind = "with batch norm" if norm else "without batch norm"
    seconds = step_seconds(names, sizes(10, depth), len(seeds), norm=norm)
    typical = {name: float(np.median(values)) for name, values in seconds.items()}
    for dataset in SETS:
        data = images(dataset, halve=True)
        nets = {name: Dense(sizes(data.classes, depth), name, norm) for name in names}
        tuned = tune(nets, RATES, data, seeds, n_train=N_TRAIN, steps=STEPS, batch_size=BATCH, score_at=SCORED)
        by_step = {LABELS[name]: [at_step(tuned[name].errors, steps) for steps in SHOWN] for name in names}
        found.append(Series(f"test error, {dataset}, {kind}", "%", by_step, "steps", SHOWN))
        budget = STEPS * min(typical.values())
        by_second = {LABELS[name]: [at_step(tuned[name].errors, budget / typical[name])] for name in names}
        found.append(Series(f"test error after equal seconds, {dataset}, {kind}", "%", by_second))
        for name in names:
            rates[LABELS[name]].append([tuned[name].rate] * len(seeds))
    times = {LABELS[name]: [[1000 * value for value in values]] for name, values in seconds.items()}
    found.append(Series(f"time of a step, {kind}", "ms", times))
    found.append(Series(f"rate chosen, {kind}", "", rates, "data set", SETS, identical=SAME_RATE))
    return found


def at_step(errors: Tensor, step: float) -> list[float]:
    """Each net's error (K, seeds) at a step, between two scored ones on a straight line."""
    table = torch.as_tensor(errors).numpy()
    return [float(np.interp(step, SCORED, table[:, seed])) for seed in range(table.shape[1])]


RIVALS = ("ReLU", "leaky ReLU", "PReLU")


def measure_elu(seeds):
    """ELU against ReLU, leaky ReLU and PReLU in a net of six hidden layers."""
    return Measured(series=tuple(measure_contest(("elu", "relu", "leaky_relu", "prelu"), 6, False, seeds)))


def decide_elu(measured):
    early, late = SHOWN[1], SHOWN[-1]
    better, gains = [], {}
    for dataset in SETS:
        by_step = measured[f"test error, {dataset}, without batch norm"]
        by_second = measured[f"test error after equal seconds, {dataset}, without batch norm"]
        for rival in RIVALS:
            for what, series, x in (
                (f"after {early} steps", by_step, early),
                (f"after {late} steps", by_step, late),
                ("after equal seconds", by_second, None),
            ):
                gains[dataset, rival, what] = Interval.of_difference(
                    f"test error, ELU minus {rival}, {what}, {dataset}",
                    "points",
                    series.values("ELU", x),
                    series.values(rival, x),
                )
    better = [key for key, gain in gains.items() if gain.high < 0]
    worse = [key for key, gain in gains.items() if gain.low > 0]
    settings = list(dict.fromkeys((dataset, what) for dataset, _, what in gains))
    whole = [s for s in settings if all((s[0], rival, s[1]) in better for rival in RIVALS)]
    if len(better) == len(gains):
        verdict, condition = HOLDS, ""
    elif whole:
        verdict = HOLDS_WHEN
        condition = "measured " + ", ".join(f"{what} on {dataset}" for dataset, what in whole)
        condition += "; elsewhere it does not beat all three beyond the noise"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    times = measured["time of a step, without batch norm"]
    first, second = (measured[f"test error, {dataset}, without batch norm"] for dataset in SETS)
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SETS[0], "ReLU", f"after {late} steps"],
        figures={
            "better": len(better),
            "worse": len(worse),
            "all": len(gains),
            "early": early,
            "late": late,
            "elu_early": first.mean("ELU", early),
            "relu_early": first.mean("ReLU", early),
            "elu": first.mean("ELU", late),
            "relu": first.mean("ReLU", late),
            "leaky": first.mean("leaky ReLU", late),
            "prelu": first.mean("PReLU", late),
            "elu2": second.mean("ELU", late),
            "relu2": second.mean("ReLU", late),
            "leaky2": second.mean("leaky ReLU", late),
            "prelu2": second.mean("PReLU", late),
            "cost": 100 * (float(np.median(times.values("ELU"))) / float(np.median(times.values("ReLU"))) - 1),
        },
    )


ORDER = ("ELU", "leaky ReLU", "ReLU", "tanh", "logistic")
LATER = ("GELU", "SiLU", "SELU")
KINDS = ("without batch norm", "with batch norm")


def measure_ranking(seeds):
    """Eight activations in a net of four hidden layers, with and without batch norm."""
    names = ("elu", "leaky_relu", "relu", "tanh", "sigmoid", "gelu", "silu", "selu")
    return Measured(series=tuple(s for norm in (False, True) for s in measure_contest(names, 4, norm, seeds)))


def decide_ranking(measured):
    last = SHOWN[-1]
    gains = {}
    for better, worse in pairwise(ORDER):
        for kind in KINDS:
            for dataset in SETS:
                for what, name, x in (
                    ("steps", f"test error, {dataset}, {kind}", last),
                    ("seconds", f"test error after equal seconds, {dataset}, {kind}", None),
                ):
                    gains[better, worse, kind, dataset, what] = Interval.of_difference(
                        f"test error, {better} minus {worse}, {dataset}, {kind}, equal {what}",
                        "points",
                        measured[name].values(better, x),
                        measured[name].values(worse, x),
                    )
    pairs = list(dict.fromkeys(key[:2] for key in gains))
    of = lambda pair: [gain for key, gain in gains.items() if key[:2] == pair]
    sure = [pair for pair in pairs if all(gain.high < 0 for gain in of(pair))]
    turned = [pair for pair in pairs if all(gain.low > 0 for gain in of(pair))]
    if len(sure) == len(pairs):
        verdict, condition = HOLDS, ""
    elif sure and not turned:
        verdict = HOLDS_WHEN
        condition = "one compares " + " and ".join(f"{a} with {b}" for a, b in sure)
        condition += "; the other steps of the order are within the noise, or turn round, in some setting"
    else:
        verdict, condition = DOES_NOT_HOLD, ""

    def ranked(dataset: str, kind: str) -> str:
        series = measured[f"test error, {dataset}, {kind}"]
        order = sorted((*ORDER, *LATER), key=lambda arm: series.mean(arm, last))
        return ", ".join(f"{arm} {series.mean(arm, last):.1f}" for arm in order)

    signs = [(gain.high < 0) - (gain.low > 0) for gain in gains.values()]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains["ELU", "leaky ReLU", KINDS[0], SETS[0], "steps"],
        figures={
            "as_claimed": signs.count(1),
            "turned": signs.count(-1),
            "unclear": signs.count(0),
            "all": len(signs),
            "steps": last,
            "first": ranked(SETS[0], KINDS[0]),
            "second": ranked(SETS[1], KINDS[0]),
            "first_norm": ranked(SETS[0], KINDS[1]),
            "second_norm": ranked(SETS[1], KINDS[1]),
        },
    )


TUNING = (
    "Each activation starts from its fitting initialization (He, or Glorot for logistic and tanh, or LeCun for SELU) "
)
TUNING += "and tries the same four rates; validation chooses."

CLAIMS = (
    Claim(
        id="A1",
        statement="ReLU does not saturate for positive inputs and converges faster than the sigmoid.",
        headline="Steps to {goal:g} nats on mnist5k: with {shallow} hidden layer {relu_shallow:.0f} for ReLU and "
        "{sigmoid_shallow:.0f} for the sigmoid, with {deep} layers {relu_deep:.0f} and {sigmoid_deep:.0f}; to "
        "{goal2:g} nats on animalshape with {deep} layers {relu_deep2:.0f} and {sigmoid_deep2:.0f} (a run that has not "
        "arrived after {limit} steps counts as twice that).",
        rule="Holds if at every depth and on both data sets the paired 95% interval of log₂(steps of the sigmoid ÷ "
        f"steps of ReLU) lies above 0; holds when … if so at some depths on both. {TUNING}",
        measure=measure_race,
        decide=decide_race,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="A4",
        statement="ELU outperforms the ReLU variants: less training time, better test accuracy.",
        headline="Six hidden layers. Test error after {late} steps on mnist5k: ELU {elu:.1f}%, ReLU {relu:.1f}%, leaky "
        "ReLU {leaky:.1f}%, PReLU {prelu:.1f}%; on animalshape {elu2:.1f}, {relu2:.1f}, {leaky2:.1f} and "
        "{prelu2:.1f}%. After {early} steps ELU has {elu_early:.1f}% and ReLU {relu_early:.1f}% (mnist5k). A step with "
        "ELU takes {cost:.0f}% longer than with ReLU. Of {all} comparisons ELU wins {better} and loses "
        "{worse} beyond the noise.",
        rule="Holds if ELU's test error is below that of ReLU, leaky ReLU and PReLU (paired 95% intervals below 0) "
        f"after {SHOWN[1]} steps, after {STEPS} steps and after equal seconds, on both data sets; holds when … if it "
        f"beats all three in some of these settings. {TUNING}",
        measure=measure_elu,
        decide=decide_elu,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="A6",
        statement="In general ELU > leaky ReLU > ReLU > tanh > logistic.",
        headline="Test errors in % after {steps} steps, best first. Without batch norm, mnist5k: {first}; animalshape: "
        "{second}. With batch norm, mnist5k: {first_norm}; animalshape: {second_norm}. Of {all} comparisons of "
        "neighbours in the order {as_claimed} come out as claimed, {turned} the other way round, {unclear} within the "
        "noise.",
        rule="Holds if for each two neighbours of the order the paired 95% interval of their difference in test error "
        "favours the first in all eight settings (two data sets, with and without batch norm, equal steps and equal "
        "seconds); holds when … if so for some neighbours and no other two are clearly reversed in all settings. "
        f"{TUNING}",
        measure=measure_ranking,
        decide=decide_ranking,
        seeds=tuple(range(8)),
    ),
)
