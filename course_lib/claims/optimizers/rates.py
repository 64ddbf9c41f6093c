"""O3, O4, O6: too high and too low rates, schedules, whether Adam needs one, and a schedule that does nothing."""

import math
from functools import partial

import torch

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.optimizers.runs import EVERY, GRIDS, SETS, STEPS, grid, small, train, tune
from course_lib.schedules import cosine, exponential, one_cycle, step_decay, warmup_cosine

__all__ = ["CLAIMS"]

SCHEDULES = {  # factors of the rate
    "constant": "constant",
    "by steps": partial(step_decay, lr=1.0, step_size=STEPS // 3, gamma=0.3),
    "exponential": partial(exponential, lr=1.0, gamma=0.1, decay_steps=STEPS),
    "on a plateau": "plateau",
    "cosine": partial(cosine, lr=1.0, total_steps=STEPS),
    "1cycle": partial(one_cycle, max_lr=1.0, total_steps=STEPS),
}


# O3 ------------------------------------------------------------------------------------------------------

SWEEP = grid(10.0, 11)[::-1]  # from 1e-4 to 10


def measure_rates(seeds):
    """Momentum at eleven constant rates; then each schedule at the best of eight rates."""
    sweep, schedules = [], []
    for name in SETS:
        data = small(name)
        pairs = [(lr, seed) for lr in SWEEP for seed in seeds]
        runs = train("momentum", [lr for lr, _ in pairs], [seed for _, seed in pairs], data)
        by_rate = runs.last("train").view(len(SWEEP), len(seeds)).tolist()
        error = (100 * runs.errors["test"][-1]).view(len(SWEEP), len(seeds)).tolist()
        sweep.append(Series(f"training loss, {name}", "nats", {"constant rate": by_rate}, "rate", SWEEP))
        sweep.append(Series(f"test error by rate, {name}", "%", {"constant rate": error}, "rate", SWEEP))
        arms = {}
        for arm, schedule in SCHEDULES.items():
            best = tune("momentum", GRIDS["momentum"], data, schedule=schedule)["valid"]
            scored = train("momentum", [best] * len(seeds), seeds, data, schedule=schedule)
            arms[arm] = [(100 * scored.errors["test"][-1]).tolist()]
        schedules.append(Series(f"test error, {name}", "%", arms))
    return Measured(series=(*sweep, *schedules))


def decide_rates(measured):
    ends, gains, best = [], {}, {}
    for name in SETS:
        sweep, schedules = measured[f"training loss, {name}"], measured[f"test error, {name}"]
        best[name] = min(SWEEP, key=lambda lr, sweep=sweep: sweep.mean("constant rate", lr))
        for lr in (SWEEP[0], SWEEP[-1]):
            ends.append(
                Interval.of_difference(
                    f"training loss at the rate {lr:g} minus at the best, {name}",
                    "nats",
                    sweep.values("constant rate", lr),
                    sweep.values("constant rate", best[name]),
                )
            )
        for arm in SCHEDULES:
            if arm != "constant":
                gains[arm, name] = Interval.of_difference(
                    f"test error, {arm} minus constant, {name}",
                    "points",
                    schedules.values(arm),
                    schedules.values("constant"),
                )
    fail = all(interval.low > 0 for interval in ends)
    better = [arm for arm in SCHEDULES if arm != "constant" and all(gains[arm, name].high < 0 for name in SETS)]
    if not fail or not better:
        verdict, condition = (HOLDS_WHEN, "") if fail else (DOES_NOT_HOLD, "")
        condition = "too high and too low rates both fail; no schedule beats the best constant rate on both sets" * fail
    elif len(better) == len(SCHEDULES) - 1:
        verdict, condition = HOLDS, ""
    else:
        verdict = HOLDS_WHEN
        condition = f"the rate is reduced {', '.join(better)}; the other schedules gain nothing clear over the best "
        condition += "constant rate"
    first = measured[f"training loss, {SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains["cosine", SETS[0]],
        figures={
            "best": best[SETS[0]],
            "best_loss": first.mean("constant rate", best[SETS[0]]),
            "low": SWEEP[0],
            "low_loss": first.mean("constant rate", SWEEP[0]),
            "high": SWEEP[-1],
            "high_loss": first.mean("constant rate", SWEEP[-1]),
            "arms": "; ".join(
                f"{arm} " + " and ".join(f"{measured[f'test error, {name}'].mean(arm):.1f}" for name in SETS)
                for arm in SCHEDULES
            ),
        },
    )


# O4 ------------------------------------------------------------------------------------------------------

ADAPTIVE = ("AdaGrad", "RMSProp", "Adam")
WITH = {
    "without": "constant",
    "cosine": partial(cosine, lr=1.0, total_steps=STEPS),
    "warm-up and cosine": partial(warmup_cosine, lr=1.0, warmup_steps=STEPS // 10, total_steps=STEPS),
}


def measure_adaptive(seeds):
    """Each adaptive rule at its best rate, constant and with two schedules: training loss and test error."""
    series = []
    for name in SETS:
        data = small(name)
        found = {"train": {}, "test": {}}
        for rule in ADAPTIVE:
            for arm, schedule in WITH.items():
                best = tune(rule, GRIDS[rule], data, schedule=schedule)
                runs = train(rule, [best["train"]] * len(seeds), seeds, data, schedule=schedule)
                found["train"][f"{rule}, {arm}"] = [runs.last("train").tolist()]
                runs = train(rule, [best["valid"]] * len(seeds), seeds, data, schedule=schedule)
                found["test"][f"{rule}, {arm}"] = [(100 * runs.errors["test"][-1]).tolist()]
        series += [
            Series(f"training loss, {name}", "nats", found["train"]),
            Series(f"test error, {name}", "%", found["test"]),
        ]
    return Measured(series=tuple(series))


def decide_adaptive(measured):
    """A schedule is needed where the better of two lowers it on both sets, beyond the noise."""

    def gains(what, rule):
        return {
            arm: [
                Interval.of_difference(
                    f"{what}, {rule} with {arm} minus without, {name}",
                    "nats" if what == "training loss" else "points",
                    measured[f"{what}, {name}"].values(f"{rule}, {arm}"),
                    measured[f"{what}, {name}"].values(f"{rule}, without"),
                )
                for name in SETS
            ]
            for arm in WITH
            if arm != "without"
        }

    def helped(what):
        return [
            rule
            for rule in ADAPTIVE
            if any(all(interval.high < 0 for interval in arm) for arm in gains(what, rule).values())
        ]

    in_training, in_test = helped("training loss"), helped("test error")
    if not in_training and not in_test:
        verdict, condition = HOLDS, ""
    elif in_test:
        verdict, condition = DOES_NOT_HOLD, ""
    else:
        verdict = HOLDS_WHEN
        condition = f"judged by the test error; the training loss of {', '.join(in_training)} is lower with a schedule"
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains("training loss", "Adam")["cosine"][0],
        figures={
            what.split()[0]: "; ".join(
                f"{rule} "
                + " and ".join(
                    f"{measured[f'{what}, {name}'].mean(f'{rule}, without'):.3g} → "
                    f"{measured[f'{what}, {name}'].mean(f'{rule}, cosine'):.3g}"
                    for name in SETS
                )
                for rule in ADAPTIVE
            )
            for what in ("training loss", "test error")
        },
    )


# O6 ------------------------------------------------------------------------------------------------------

DROP_EVERY = 3  # epochs, as asked
FACTORS = {"factor 1, as asked": 1.0, "factor 0.7": 0.7, "factor 0.5": 0.5}


def asked_schedule(step: int, factor: float) -> float:
    """The asker's rule: factor to the power ⌊(1 + epoch) / 3⌋, here per epoch of ten steps."""
    return factor ** math.floor((1 + step // EVERY) / DROP_EVERY)


def measure_asked(seeds):
    """The rate by epoch under each factor, and momentum trained so, at the best rate for each, and at a constant "
    "one."""
    epochs = range(0, STEPS // EVERY, DROP_EVERY)
    rates = {
        arm: [[asked_schedule(epoch * EVERY, factor)] * len(seeds) for epoch in epochs]
        for arm, factor in FACTORS.items()
    }
    series = [Series("rate, of its first value", "times", rates, "epoch", tuple(epochs))]
    for name in SETS:
        data = small(name)
        arms = {}
        for arm, factor in FACTORS.items():
            schedule = partial(asked_schedule, factor=factor)
            best = tune("momentum", GRIDS["momentum"], data, schedule=schedule)["valid"]
            runs = train("momentum", [best] * len(seeds), seeds, data, schedule=schedule)
            arms[arm] = [(100 * runs.errors["test"][-1]).tolist()]
            if factor == 1:
                constant = train("momentum", [best] * len(seeds), seeds, data)
                arms["constant rate"] = [(100 * constant.errors["test"][-1]).tolist()]
        series.append(
            Series(f"test error, {name}", "%", arms, identical="a factor of 1 is a constant rate: that is the point")
        )
    return Measured(series=tuple(series))


def decide_asked(measured):
    rate = measured["rate, of its first value"]
    arm = "factor 1, as asked"
    still = all(rate.mean(arm, epoch) == 1 for epoch in rate.x)
    same = all(
        torch.equal(
            torch.tensor(measured[f"test error, {name}"].values(arm)),
            torch.tensor(measured[f"test error, {name}"].values("constant rate")),
        )
        for name in SETS
    )
    first = measured[f"test error, {SETS[0]}"]
    return Decision(
        verdict=HOLDS if still and same else DOES_NOT_HOLD,
        interval=Interval.of_difference(
            f"test error, factor 0.7 minus factor 1, {SETS[0]}", "points", first.values("factor 0.7"), first.values(arm)
        ),
        figures={
            "epochs": STEPS // EVERY,
            "end": rate.mean(arm, rate.x[-1]),
            "seven": rate.mean("factor 0.7", rate.x[-1]),
            "losses": "; ".join(
                f"{a} " + " and ".join(f"{measured[f'test error, {name}'].mean(a):.1f}" for name in SETS)
                for a in FACTORS
            ),
        },
    )


CLAIMS = (
    Claim(
        id="O3",
        statement="Too high and too low a rate both fail; it is best to start somewhat high and to reduce it.",
        headline="With momentum the training loss is {low_loss:.2f} nats at the rate {low:g}, {best_loss:.3g} at "
        "{best:g} and {high_loss:.2f} at {high:g} (mnist5k; 10 is counted for a net that blew up). Test error in % on "
        "mnist5k and animalshape, each schedule at the best of eight rates: {arms}.",
        rule="Holds if on both data sets the lowest and the highest rate lose to the best one, and every schedule's "
        "test error lies below the constant rate's (paired 95% intervals); holds when … if the "
        "rates do, but only some schedules, or none.",
        measure=measure_rates,
        decide=decide_rates,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="O4",
        statement="AdaGrad, RMSProp and Adam reduce the rate themselves, so they need no schedule.",
        headline="Training loss without → with a cosine, on mnist5k and animalshape: {training}. Test error in %: "
        "{test}. (A warm-up before the cosine is measured too.)",
        rule="Every arm tuned over the same eight rates. Holds if no schedule lowers training loss or test error on "
        "both data sets (paired 95% intervals below 0) for any of the three; does not hold if one lowers the test "
        "error; holds when … if only the training loss.",
        measure=measure_adaptive,
        decide=decide_adaptive,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="O6",
        statement="A step decay whose factor is 1, as in a question that people still copy, never lowers the rate.",
        headline="After {epochs} epochs the rate is {end:g} times the first one; with a factor of 0.7 it would be "
        "{seven:.2g} times. Its training gives the same numbers as a constant rate, to the last bit. Test error in % "
        "on mnist5k and animalshape: {losses}.",
        rule="Holds if the rate is the same in all epochs, and the test error equals that of a constant rate to the "
        "last bit for every seed. (What a smaller factor gains is measured, and decides nothing.)",
        measure=measure_asked,
        decide=decide_asked,
        seeds=tuple(range(6)),
    ),
)
