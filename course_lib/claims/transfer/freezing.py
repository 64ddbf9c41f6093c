"""T2: how many blocks to unfreeze, on images near those of the pretraining and on others."""

import torch
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.transfer.trunks import Schedule, Target, fine_tune, fit_head, percent_wrong, upper
from course_lib.transfer import Standardize

__all__ = ["CLAIMS"]

OPENED = {0: None, 1: 14, 5: 10, 11: 4}  # blocks that train: what lies above which block
SIMILAR, DIFFERENT = "emoji8", "mnist5k"
LABELS = 40  # of each class
STEPS, TRUNK_LR, HEAD_LR = 96, 3e-4, 3e-3


def fresh_head(features: torch.Tensor, classes: int) -> nn.Sequential:
    """Standardized features and a linear layer of zeros: it guesses evenly."""
    linear = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(Standardize(features), linear)


def opened(target: Target, depth: int | None, seed: int) -> float:
    """The test error in per cent with the head alone (None), or after training what lies above `depth` with it."""
    rows = target.draw(LABELS, seed)
    features, y = target.features["train"][rows], target.labels["train"][rows]
    if depth is None:
        head = fit_head(features, y, target.classes, decay=1e-2)
        return percent_wrong(head, target.features["test"], target.labels["test"])
    model = upper(depth, fresh_head(features, target.classes))
    fine_tune(model, target.at(depth, "train")[rows], y, seed, Schedule(TRUNK_LR, HEAD_LR, STEPS))
    return percent_wrong(model, target.at(depth, "test"), target.labels["test"])


def measure_freezing(seeds):
    """The error by the number of blocks that train, at the same rates and steps for all."""
    errors = {}
    for name in (SIMILAR, DIFFERENT):
        target = Target(name)
        errors[name] = [[opened(target, depth, seed) for seed in seeds] for depth in OPENED.values()]
    return Measured(
        series=(Series("test error by blocks that train", "%", errors, "blocks that train", tuple(OPENED)),)
    )


def decide_freezing(measured):
    (errors,) = measured.series
    most = max(OPENED)
    gains = {name: errors.values(name, 0) - errors.values(name, most) for name in (SIMILAR, DIFFERENT)}
    more = Interval.of_difference(
        f"points gained by unfreezing {most} blocks, {DIFFERENT} minus {SIMILAR}",
        "points",
        gains[DIFFERENT],
        gains[SIMILAR],
    )
    gained = Interval.of("", "", gains[DIFFERENT])
    if more.low > 0 and gained.low > 0:
        verdict, condition = HOLDS, ""
    elif gained.low > 0:
        verdict, condition = HOLDS_WHEN, "the images are unlike; that they gain more than the others was not clear"
    elif more.low > 0:
        verdict, condition = HOLDS_WHEN, "unfreezing is not expected to gain: it only harms the other images less"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=more,
        figures={
            "steps": STEPS,
            "similar": ", ".join(f"{errors.mean(SIMILAR, n):.1f}% with {n}" for n in OPENED),
            "different": ", ".join(f"{errors.mean(DIFFERENT, n):.1f}% with {n}" for n in OPENED),
        },
    )


CLAIMS = (
    Claim(
        id="T2",
        statement="The more similar the task is to the old one, the more layers may stay frozen; the less similar it "
        "is, "
        "the more have to be unfrozen, from the head down.",
        headline="Error by the number of blocks that train beside the head, after {steps} steps: emoji (near "
        "photographs) "
        "{similar}; digits {different}.",
        rule="Holds if the digits gain by unfreezing the eleven highest blocks, and gain more than the emoji (95% "
        "intervals "
        "above 0); holds when … if only one of the two is so.",
        measure=measure_freezing,
        decide=decide_freezing,
        seeds=tuple(range(5)),
    ),
)
