"""O1 and O2: do the faster optimizers speed training up, and is Adam one of the best?"""

import time

import torch

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.optimizers.runs import GRIDS, RULES, SETS, STEPS, small, train, tune

__all__ = ["CLAIMS"]

PLAIN = "gradient descent"
FASTER = ("momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam")
SHORT = 200  # steps of the comparisons of training speed: later every loss is near 0
CHECKS = tuple(range(5, SHORT + 1, 5))
TIMED_STEPS = 40


# O1 ------------------------------------------------------------------------------------------------------


def measure_speed(seeds):
    """Steps, and processor time, until the training loss is as low as tuned gradient descent gets in the end."""
    steps, seconds = [], []
    price = step_prices(seeds)
    for name in SETS:
        data = small(name)
        curves = {}
        for rule in (PLAIN, *FASTER):
            lr = tune(rule, GRIDS[rule], data, steps=SHORT)["train"]
            curves[rule] = train(rule, [lr] * len(seeds), seeds, data, steps=SHORT, score_at=CHECKS).losses["train"]
        target = curves[PLAIN][-1]  # each seed's own: paired
        arms = {rule: [first_below(curve, target)] for rule, curve in curves.items()}
        steps.append(Series(f"steps to gradient descent's last training loss, {name}", "steps", arms))
        costs = {
            rule: [[n * cost for n, cost in zip(values[0], price[rule], strict=True)]] for rule, values in arms.items()
        }
        seconds.append(Series(f"processor time to it, {name}", "ms", costs))
    return Measured(
        series=(*steps, *seconds, Series("processor time of a step", "ms", {r: [p] for r, p in price.items()}))
    )


def first_below(curve: torch.Tensor, target: torch.Tensor) -> list[float]:
    """For each net the first step at which its loss is at most the target; all the steps where it never is."""
    reached = (curve <= target) & curve.isfinite()
    first = torch.where(reached.any(0), reached.float().argmax(0), torch.tensor(len(CHECKS) - 1))
    return [float(CHECKS[i]) for i in first.tolist()]


def step_prices(seeds) -> dict[str, list[float]]:
    """Milliseconds of processor time for one step of one net, gradient included; one round for each seed."""
    data = small(SETS[0])
    train(PLAIN, [1e-3], [seeds[0]], data, steps=TIMED_STEPS)  # warm
    prices: dict[str, list[float]] = {rule: [] for rule in (PLAIN, *FASTER)}
    for seed in seeds:
        for rule, found in prices.items():
            begin = time.process_time()
            train(rule, [1e-4], [seed], data, steps=TIMED_STEPS)
            found.append(1000 * (time.process_time() - begin) / TIMED_STEPS)
    return prices


def decide_speed(measured):
    gains = {
        (rule, unit, name): Interval.of_difference(
            f"{what} of {rule} minus gradient descent's, {name}",
            unit,
            measured[f"{what}, {name}"].values(rule),
            measured[f"{what}, {name}"].values(PLAIN),
        )
        for rule in FASTER
        for unit, what in (
            ("steps", "steps to gradient descent's last training loss"),
            ("ms", "processor time to it"),
        )
        for name in SETS
    }
    in_steps = [rule for rule in FASTER if all(gains[rule, "steps", name].high < 0 for name in SETS)]
    in_time = [rule for rule in FASTER if all(gains[rule, "ms", name].high < 0 for name in SETS)]
    if len(in_steps) == len(in_time) == len(FASTER):
        verdict, condition = HOLDS, ""
    elif in_steps:
        verdict = HOLDS_WHEN
        condition = f"counted in steps it is {', '.join(in_steps)}; counted in processor time " + (
            ", ".join(in_time) if in_time else "none of them"
        )
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    figures = {"steps": SHORT}
    for name, key in zip(SETS, ("first", "second"), strict=True):
        series = measured[f"steps to gradient descent's last training loss, {name}"]
        figures[key] = ", ".join(f"{rule} {series.mean(rule):.0f}" for rule in (PLAIN, *FASTER))
    price = measured["processor time of a step"]
    figures["dear"] = price.mean("Adam") / price.mean(PLAIN)
    return Decision(verdict=verdict, condition=condition, interval=gains["Adam", "steps", SETS[0]], figures=figures)


# O2 ------------------------------------------------------------------------------------------------------


def measure_ranking(seeds):
    """Every optimizer at its best rate: by training loss for the training loss, by validation error for test errors."""
    losses, errors, chosen = [], [], []
    for name in SETS:
        data = small(name)
        loss, error, rates = {}, {}, {}
        for rule in RULES:
            best = {
                "train": tune(rule, GRIDS[rule], data, steps=SHORT)["train"],
                "valid": tune(rule, GRIDS[rule], data)["valid"],
            }
            loss[rule] = [train(rule, [best["train"]] * len(seeds), seeds, data, steps=SHORT).last("train").tolist()]
            runs = train(rule, [best["valid"]] * len(seeds), seeds, data)
            error[rule] = [(100 * runs.errors["test"][-1]).tolist()]
            rates[rule] = best
        losses.append(Series(f"training loss, {name}", "nats", loss))
        errors.append(Series(f"test error, {name}", "%", error))
        chosen.append(
            Series(
                f"rate chosen, {name}",
                "",
                {rule: [[best[part]] * len(seeds) for part in ("train", "valid")] for rule, best in rates.items()},
                "judged on",
                ("train", "valid"),
                identical="two optimizers may choose the same rate of their grids",
            )
        )
    return Measured(series=(*losses, *errors, *chosen))


def decide_ranking(measured):
    """Adam is among the best where no other one beats it beyond the noise."""
    beaten, order = {}, {}
    for what, unit in (("training loss", "nats"), ("test error", "points")):
        for name in SETS:
            series = measured[f"{what}, {name}"]
            order[what, name] = sorted(RULES, key=series.mean)
            beaten[what, name] = [
                rule
                for rule in RULES
                if rule != "Adam"
                and Interval.of_difference("", unit, series.values(rule), series.values("Adam")).high < 0
            ]
    error = measured[f"test error, {SETS[0]}"]
    interval = Interval.of_difference(
        f"test error, Adam minus gradient descent, {SETS[0]}", "points", error.values("Adam"), error.values(PLAIN)
    )
    lost = {f"{what} on {name}": rules for (what, name), rules in beaten.items() if rules}
    if not lost:
        verdict, condition = HOLDS, ""
    elif len(lost) < len(beaten):
        verdict = HOLDS_WHEN
        condition = "; ".join(f"not by {where}, which is lower for {', '.join(rules)}" for where, rules in lost.items())
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    means = {
        what: "; ".join(
            f"{name}: "
            + ", ".join(f"{rule} {measured[f'{what}, {name}'].mean(rule):{form}}" for rule in order[what, name])
            for name in SETS
        )
        for what, form in (("training loss", ".3g"), ("test error", ".1f"))
    }
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=interval,
        figures={"loss": means["training loss"], "error": means["test error"], "short": SHORT, "steps": STEPS},
    )


CLAIMS = (
    Claim(
        id="O1",
        statement="Momentum, Nesterov, AdaGrad, RMSProp and Adam all train faster than plain gradient descent.",
        headline="The training loss that gradient descent has after {steps} steps at its best rate is first reached "
        "after (mnist5k) {first} steps; (animalshape) {second}. A step of Adam takes {dear:.1f} times the processor "
        "time of a plain one in so small a net.",
        rule="Each optimizer tuned over eight rates of its own, by training loss. Holds if for all five, on both data "
        "sets, the paired 95% intervals of steps and of processor time lie below gradient descent's.",
        measure=measure_speed,
        decide=decide_speed,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="O2",
        statement="Adam is one of the best optimizers to use.",
        headline="Training loss after {short} steps, best first: {loss}. Test error in % after {steps}, best first: "
        "{error}.",
        rule="Each tuned over eight rates of its own. Holds if on both data sets no other optimizer's training loss or "
        "test error lies below Adam's (paired 95% interval); holds when … if in some of these four rankings only.",
        measure=measure_ranking,
        decide=decide_ranking,
        seeds=tuple(range(8)),
    ),
)
