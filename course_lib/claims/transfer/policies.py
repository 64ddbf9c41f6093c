"""T5, T7, T17: which policy for which data, at which rates, and what it saves."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.transfer.trunks import (
    IMAGES,
    Schedule,
    Target,
    fine_tune,
    fit_head,
    percent_wrong,
    places,
    small,
    train_scratch,
    upper,
)
from course_lib.transfer import relative_distance

__all__ = ["CLAIMS"]

TUNING_SEED = 100  # never among those that are scored


@dataclass(frozen=True)
class Score:
    """Wrong answers in per cent, and the processor's seconds, those for the frozen part's outputs included."""

    error: float
    seconds: float


def apply_policy(policy: str, option: float, target: Target, per_class: int, seed: int, part: str) -> Score:
    """Trains by a policy of T5 on `per_class` labels of each class, and scores it on the part."""
    rows = target.draw(per_class, seed)
    y, wanted = target.labels["train"][rows], target.labels[part]
    started = time.process_time()
    if policy == "from scratch":
        net = train_scratch(small(target.images["train"][rows]), y, target.classes, seed, lr=option, steps=SCRATCH)
        seconds, seen = time.process_time() - started, small(target.images[part])
        return Score(percent_wrong(net, seen, wanted), seconds)
    extra = target.seconds_per_image * len(rows)
    if policy == "earlier features":
        x = {p: places(target.maps[int(option)][p]) for p in ("train", part)}
        net = fit_head(x["train"][rows], y, target.classes, decay=1e-2)
        return Score(percent_wrong(net, x[part], wanted), time.process_time() - started + extra)
    decay = option if policy == "linear head" else 1e-2
    net = fit_head(target.features["train"][rows], y, target.classes, decay=decay)
    if policy == "linear head":
        seconds = time.process_time() - started + extra
        return Score(percent_wrong(net, target.features[part], wanted), seconds)
    depth = TOP if policy == "fine-tune the top" else IMAGES
    model = upper(depth, net)
    fine_tune(model, target.at(depth, "train")[rows], y, seed, Schedule(option, option, STEPS))
    seconds = time.process_time() - started + extra
    return Score(percent_wrong(model, target.at(depth, part), wanted), seconds)


# T5 ------------------------------------------------------------------------------------------------------

TOP = 10  # "the top" is what lies above this block: five blocks and the last convolution
STEPS, SCRATCH = 24, 80
POLICIES = {  # each with as many settings to choose from, on validation images
    "linear head": (1e-3, 1e-1),  # weight decay
    "earlier features": (10.0, 4.0),  # of which block
    "fine-tune the top": (5e-5, 1.5e-4),  # learning rate
    "fine-tune all": (5e-5, 1.5e-4),
    "from scratch": (2e-3, 8e-3),
}
SIMILAR, DIFFERENT = ("patch12", "emoji8"), ("mnist5k", "glyph26")
LABELS = {  # of each class
    "few": dict.fromkeys(SIMILAR + DIFFERENT, 10),
    "many": {"patch12": 60, "emoji8": 60, "mnist5k": 120, "glyph26": 50},
}
ADVICE = {
    ("few", "similar"): ("linear head",),
    ("many", "similar"): ("fine-tune all",),
    ("few", "different"): ("earlier features",),
    ("many", "different"): ("fine-tune all", "from scratch"),
}
MARGIN = 3.0  # points that an advised policy may lose to the best


def cell(name: str, amount: str) -> str:
    return f"{name}, {amount}"


def measure_grid(seeds):
    """Every policy on four sets with few and with many labels; each tuned on validation images with another seed."""
    errors = {policy: [] for policy in POLICIES}
    seconds = {policy: [] for policy in POLICIES}
    x = []
    for name in SIMILAR + DIFFERENT:
        target = Target(name, depths=(4, TOP))
        chosen = {}
        for policy, options in POLICIES.items():
            tried = {
                option: apply_policy(policy, option, target, LABELS["many"][name], TUNING_SEED, "valid").error
                for option in options
            }
            chosen[policy] = min(tried, key=tried.get)
        for amount, labels in LABELS.items():
            x.append(cell(name, amount))
            for policy in POLICIES:
                scores = [apply_policy(policy, chosen[policy], target, labels[name], seed, "test") for seed in seeds]
                errors[policy].append([score.error for score in scores])
                seconds[policy].append([score.seconds for score in scores])
    return Measured(
        series=(
            Series("test error", "%", errors, "data set, labels", x),
            Series("time to train", "s of one processor", seconds, "data set, labels", x),
        )
    )


def losses(measured: Measured, policies: Sequence[str], name: str, amount: str) -> Interval:
    """How many points the best of `policies` loses to the best of all others, by mean error: an interval."""
    errors, at = measured["test error"], cell(name, amount)
    mine = min(policies, key=lambda policy: errors.mean(policy, at))
    others = [policy for policy in errors.arms if policy not in policies]
    best = min(others, key=lambda policy: errors.mean(policy, at))
    return Interval.of_difference(
        f"test error, {mine} minus {best}, {at} labels", "points", errors.values(mine, at), errors.values(best, at)
    )


def decide_grid(measured):
    errors = measured["test error"]
    right, wrong, told = [], [], []
    largest = None
    for (amount, kind), advised in ADVICE.items():
        lost = [losses(measured, advised, name, amount) for name in (SIMILAR if kind == "similar" else DIFFERENT)]
        place = f"{amount} labels, {kind} images"
        if all(interval.high < MARGIN for interval in lost):
            right.append(place)
        elif any(interval.low > MARGIN for interval in lost):
            wrong.append(place)
        worst = max(lost, key=lambda interval: interval.mean)
        largest = worst if largest is None or worst.mean > largest.mean else largest
        told.append(f"{place}: {' or '.join(advised)} loses {worst.mean:+.1f} points at worst")
    if len(right) == len(ADVICE):
        verdict, condition = HOLDS, ""
    elif right:
        verdict = HOLDS_WHEN
        condition = f"it is {' or '.join(right)}"
        condition += (
            f"; for {' and '.join(wrong)} another policy is better by more than {MARGIN:g} points" if wrong else ""
        )
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    wins = {policy: 0 for policy in errors.arms}
    for at in errors.x:
        wins[min(errors.arms, key=lambda policy: errors.mean(policy, at))] += 1
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=largest,
        figures={
            "told": "; ".join(told),
            "wins": ", ".join(f"{policy} in {n}" for policy, n in wins.items() if n),
            "cells": len(errors.x),
        },
    )


# T7 ------------------------------------------------------------------------------------------------------

FREEZING_SETS = ("emoji8", "mnist5k")
FREEZING_LABELS = 20
HEAD_RATES = (3e-4, 1e-3, 3e-3)
RATIOS = {"one rate": 1.0, "a tenth for the trunk": 0.1}
EARLY = 6  # steps after which the features' move is measured


def new_head_and_trunk(target: Target, head_lr: float, ratio: float, seed: int, part: str) -> tuple[float, float]:
    """A fresh head on the eleven last blocks, all training: (error in %, how far the features moved in the first "
    "steps)."""
    rows = target.draw(FREEZING_LABELS, seed)
    x, y = target.at(4, "train")[rows], target.labels["train"][rows]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = upper(4, nn.Linear(1280, target.classes))
    seen = target.at(4, part)[:100]
    with torch.no_grad():
        before = model.body(seen).mean((2, 3))
    fine_tune(model, x, y, seed, Schedule(ratio * head_lr, head_lr, EARLY))
    with torch.no_grad():
        moved = float(relative_distance(before, model.body(seen).mean((2, 3))))
    fine_tune(model, x, y, seed + 1, Schedule(ratio * head_lr, head_lr, STEPS))
    return percent_wrong(model, target.at(4, part), target.labels[part]), 100 * moved


def measure_rates(seeds):
    """One rate against a tenth for the trunk, each at the best of three rates."""
    errors, moves = ({arm: [] for arm in RATIOS} for _ in range(2))
    chosen = {arm: [] for arm in RATIOS}
    for name in FREEZING_SETS:
        target = Target(name, depths=(4,))
        for arm, ratio in RATIOS.items():
            best = min(
                HEAD_RATES, key=lambda lr, r=ratio, t=target: new_head_and_trunk(t, lr, r, TUNING_SEED, "valid")[0]
            )
            found = [new_head_and_trunk(target, best, ratio, seed, "test") for seed in seeds]
            errors[arm].append([error for error, _ in found])
            moves[arm].append([moved for _, moved in found])
            chosen[arm].append([best] * len(seeds))
    return Measured(
        series=(
            Series("test error", "%", errors, "data set", FREEZING_SETS),
            Series(f"features moved in the first {EARLY} steps", "% of their size", moves, "data set", FREEZING_SETS),
            Series(
                "the head's rate that validation chose",
                "",
                chosen,
                "data set",
                FREEZING_SETS,
                identical="two arms may choose the same rate for the head",
            ),
        )
    )


def decide_rates(measured):
    errors, moves, _ = measured.series
    by_error = [
        Interval.of_difference(
            f"test error, a tenth for the trunk minus one rate, {name}",
            "points",
            errors.values("a tenth for the trunk", name),
            errors.values("one rate", name),
        )
        for name in FREEZING_SETS
    ]
    by_move = [
        Interval.of_difference("", "", moves.values("a tenth for the trunk", name), moves.values("one rate", name))
        for name in FREEZING_SETS
    ]
    if all(i.high < 0 for i in by_error) and all(i.high < 0 for i in by_move):
        verdict, condition = HOLDS, ""
    elif any(i.high < 0 for i in by_error) or all(i.high < 0 for i in by_move):
        verdict = HOLDS_WHEN
        better = [name for name, i in zip(FREEZING_SETS, by_error, strict=True) if i.high < 0]
        worse = [name for name, i in zip(FREEZING_SETS, by_error, strict=True) if i.low > 0]
        condition = f"the error on {' and '.join(better)} is what counts" if better else "the features are to stay near"
        condition += f"; on {' and '.join(worse)} one rate does better" if worse else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=by_error[0],
        figures={
            "told": "; ".join(
                f"{name}: error {errors.mean('a tenth for the trunk', name):.1f}% against "
                f"{errors.mean('one rate', name):.1f}%, features moved "
                f"{moves.mean('a tenth for the trunk', name):.0f}% against {moves.mean('one rate', name):.0f}%"
                for name in FREEZING_SETS
            ),
            "early": EARLY,
        },
    )


# T17 -----------------------------------------------------------------------------------------------------

CURVE_SETS = ("patch12", "emoji8", "mnist5k")
CURVE_LABELS = (5, 20, 50)
CURVE_ARMS = {"pretrained, linear head": "linear head", "from scratch": "from scratch"}
CURVE_OPTIONS = {"linear head": (1e-3, 1e-1), "from scratch": (2e-3, 8e-3)}


def measure_curves(seeds):
    """Learning curves by labels, with the seconds they take."""
    errors, seconds = [], []
    for name in CURVE_SETS:
        target = Target(name, depths=())
        error, second = ({arm: [] for arm in CURVE_ARMS} for _ in range(2))
        for arm, policy in CURVE_ARMS.items():
            tried = {
                option: apply_policy(policy, option, target, CURVE_LABELS[-2], TUNING_SEED, "valid").error
                for option in CURVE_OPTIONS[policy]
            }
            option = min(tried, key=tried.get)
            for labels in CURVE_LABELS:
                scores = [apply_policy(policy, option, target, labels, seed, "test") for seed in seeds]
                error[arm].append([score.error for score in scores])
                second[arm].append([score.seconds for score in scores])
        errors.append(Series(f"test error, {name}", "%", error, "labels per class", CURVE_LABELS))
        seconds.append(Series(f"time to train, {name}", "s", second, "labels per class", CURVE_LABELS))
    return Measured(series=(*errors, *seconds))


def decide_curves(measured):
    gains, quicker = {}, {}
    pre, raw = CURVE_ARMS
    for name in CURVE_SETS:
        for labels in CURVE_LABELS:
            error, second = measured[f"test error, {name}"], measured[f"time to train, {name}"]
            gains[name, labels] = Interval.of_difference(
                f"test error, pretrained minus from scratch, {name}, {labels} labels",
                "points",
                error.values(pre, labels),
                error.values(raw, labels),
            )
            quicker[name, labels] = Interval.of_difference(
                "", "", second.values(pre, labels), second.values(raw, labels)
            )
    better = [name for name in CURVE_SETS if all(gains[name, n].high < 0 for n in CURVE_LABELS)]
    never = [name for name in CURVE_SETS if any(gains[name, n].low > 0 for n in CURVE_LABELS)]
    faster = all(interval.high < 0 for interval in quicker.values())
    if len(better) == len(CURVE_SETS) and faster:
        verdict, condition = HOLDS, ""
    elif better:
        verdict = HOLDS_WHEN
        condition = f"the images are like {' or '.join(better)}"
        condition += (
            f"; on {' and '.join(never)} a small net from scratch does better with enough labels" if never else ""
        )
        condition += "" if faster else "; it is not quicker everywhere"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    few, many = CURVE_LABELS[0], CURVE_LABELS[-1]
    first = measured[f"test error, {CURVE_SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[CURVE_SETS[0], few],
        figures={
            "few": few,
            "many": many,
            "pretrained": first.mean(pre, few),
            "scratch": first.mean(raw, few),
            "scratch_many": first.mean(raw, many),
            "set": CURVE_SETS[0],
            "last": CURVE_SETS[-1],
            "last_pre": measured[f"test error, {CURVE_SETS[-1]}"].mean(pre, many),
            "last_raw": measured[f"test error, {CURVE_SETS[-1]}"].mean(raw, many),
            "seconds": measured[f"time to train, {CURVE_SETS[0]}"].mean(pre, few),
            "scratch_seconds": measured[f"time to train, {CURVE_SETS[0]}"].mean(raw, few),
        },
    )


SEEDS = tuple(range(5))
CLAIMS = (
    Claim(
        id="T5",
        statement="Four cases: few labels and similar images: a linear head on the codes; many and similar: fine-tune "
        "all; "
        "few and different: a linear head on earlier features; many and different: fine-tune all, or train from "
        "scratch.",
        headline="Of {cells} cells (four data sets, few and many labels) the lowest error has: {wins}. The advised "
        "policy "
        "against the best other one: {told}.",
        rule=f"Fine-tuning goes on for {STEPS} steps of 16 images. A case is right if on both of its data sets the "
        f"advised "
        "policy loses less than 3 points to the best "
        "other "
        "one (95% interval of the loss below 3). Holds if all four are; holds when … for those that are.",
        measure=measure_grid,
        decide=decide_grid,
        seeds=SEEDS,
    ),
    Claim(
        id="T7",
        statement="Pretrained weights should be fine-tuned at a smaller rate than the new head.",
        headline="A tenth of the head's rate for the trunk, against one rate for both, each tuned: {told} (in the "
        "first "
        "{early} steps).",
        rule="Holds if on both data sets the error and the features' move are smaller (95% intervals below 0); holds "
        "when … "
        "if the error is on one, or only the move on both.",
        measure=measure_rates,
        decide=decide_rates,
        seeds=SEEDS,
    ),
    Claim(
        id="T17",
        statement="Transfer learning speeds training up and needs less data.",
        headline="{set}, {few} labels a class: a linear head on pretrained features errs on {pretrained:.1f}% after "
        "{seconds:.1f} s, a small net from scratch on {scratch:.1f}% after {scratch_seconds:.1f} s, and with {many} "
        "labels "
        "still on {scratch_many:.1f}%. On {last} with {many} labels it is {last_pre:.1f}% against {last_raw:.1f}%.",
        rule="Holds if at every number of labels and on every data set the error is lower and the training quicker "
        "(95% "
        "intervals); holds when … for the sets where the error is lower at every number of labels.",
        measure=measure_curves,
        decide=decide_curves,
        seeds=SEEDS,
    ),
)
