"""Clinic: a run that explodes, to be found from its log; and the question that is answered in words."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Criterion, Exercise, Explanation, Misconception, Variant
from .backward import LESSON


def log_cases(seed):
    """Explosions, sudden and slow, to NaN and infinity; one bad batch; a large layer; a rough start; nothing at all."""
    rng = np.random.default_rng(seed)

    def log(steps=60, layers=5):
        sizes = rng.uniform(0.2, 1.0, layers)
        norms = sizes * np.exp(0.15 * rng.normal(size=(steps, layers)))
        losses = 2.3 * np.exp(-np.arange(steps) / 60) + 0.02 * rng.normal(size=steps)
        return losses, norms

    def case(name, losses, norms):
        return Case(name, {"losses": losses, "norms": norms})

    losses, norms = log()
    norms[30:, 1] *= 60.0 ** (1 + 0.2 * np.arange(30))
    norms[31:] *= 30.0
    losses[34:] += 5 * np.arange(1, 27)
    yield case("explodes at step 30", losses, norms)
    losses, norms = log()
    norms[20:, 3] *= 1.7 ** np.arange(1, 41)
    losses[36:] += 20
    yield case("grows slowly from step 20 on", losses, norms)
    losses, norms = log()
    norms[25] *= 40
    norms[25, 2] *= 3
    losses[26] += 2
    yield case("one bad batch", losses, norms)
    losses, norms = log()
    norms[41:] = np.nan
    norms[40, 0] *= 300
    losses[41:] = np.nan
    yield case("NaN after step 40", losses, norms)
    losses, norms = log()
    norms[22, 2] = np.inf
    norms[23:] = np.nan
    losses[23:] = np.nan
    yield case("infinity at step 22", losses, norms)
    losses, norms = log()
    norms[:, 4] *= 8  # the last layer is always the largest
    norms[:, 0] *= 0.02
    norms[35:, 0] *= 2e4
    norms[35:, 4] *= 2.5e2
    losses[37:] += 10
    yield case("the last layer is always the largest", losses, norms)
    losses, norms = log()
    norms[:3] *= np.array([0.02, 0.4, 0.9])[:, None]  # small at first, as it often is
    losses[10:] += 3  # a jump of the loss alone
    yield case("a rough start, and a loss that jumps by itself", losses, norms)
    losses, norms = log(steps=40)
    norms[10:, 2] *= 2e3
    losses[12:] += 9
    yield case("explodes early", losses, norms)
    losses, norms = log(steps=50)
    norms *= 20.0
    yield case("large from the beginning, but steady", losses, norms)


def log_probe(candidate, case):
    step, layer, kind = candidate(case["losses"], case["norms"])
    return {"step": int(step), "layer": int(layer), "kind": str(kind)}


def find_explosion(losses, norms):
    """(step, layer, kind) from losses (T,) and gradient norms (T, layers); (-1, -1, "none") where all is usual."""
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        usual = np.median(total[:t])
        if not total[t] <= 10 * usual:  # true for NaN too
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            rest = total[t + 1 :]
            back = bool((rest <= 10 * usual).any())
            return t, layer, "spike" if back else "explosion"
    return -1, -1, "none"


def by_the_loss(losses, norms):
    for t in range(5, len(losses)):
        if not losses[t] <= 1.5 * np.median(losses[:t]):
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            back = bool((losses[t + 1 :] <= 1.5 * np.median(losses[:t])).any())
            return t, layer, "spike" if back else "explosion"
    return -1, -1, "none"


def largest_layer(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        usual = np.median(total[:t])
        if not total[t] <= 10 * usual:
            back = bool((total[t + 1 :] <= 10 * usual).any())
            return t, int(np.argmax(norms[t])), "spike" if back else "explosion"
    return -1, -1, "none"


def steepest_step(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        if not total[t] <= 10 * total[t - 1]:
            layer = int(np.argmax(norms[t] / norms[t - 1]))
            back = bool((total[t + 1 :] <= 10 * total[t - 1]).any())
            return t, layer, "spike" if back else "explosion"
    return -1, -1, "none"


def median_of_the_whole_run(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    usual = np.median(total[np.isfinite(total)])
    for t in range(5, len(total)):
        if not total[t] <= 10 * usual:
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            back = bool((total[t + 1 :] <= 10 * usual).any())
            return t, layer, "spike" if back else "explosion"
    return -1, -1, "none"


def fixed_limit(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        if not total[t] <= 10:
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            back = bool((total[t + 1 :] <= 10).any())
            return t, layer, "spike" if back else "explosion"
    return -1, -1, "none"


def nan_passes_as_normal(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        usual = np.median(total[:t])
        if total[t] > 10 * usual:
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            back = not bool((total[t + 1 :] > 10 * usual).all())
            return t, layer, "spike" if back else "explosion"
    return -1, -1, "none"


def largest_norm_of_all(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    t = int(np.nanargmax(total))
    layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
    return t, layer, "explosion"


def counted_from_one(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        usual = np.median(total[:t])
        if not total[t] <= 10 * usual:
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            back = bool((total[t + 1 :] <= 10 * usual).any())
            return t + 1, layer + 1, "spike" if back else "explosion"
    return -1, -1, "none"


def every_alarm_an_explosion(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        if not total[t] <= 10 * np.median(total[:t]):
            return t, int(np.argmax(norms[t] / np.median(norms[:t], axis=0))), "explosion"
    return -1, -1, "none"


def no_warm_up(losses, norms):
    total = np.sqrt((norms**2).sum(1))
    for t in range(1, len(total)):
        usual = np.median(total[:t])
        if not total[t] <= 10 * usual:
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            back = bool((total[t + 1 :] <= 10 * usual).any())
            return t, layer, "spike" if back else "explosion"
    return -1, -1, "none"


def last_alarm(losses, norms):
    total, found = np.sqrt((norms**2).sum(1)), (-1, -1, "none")
    for t in range(5, len(total)):
        usual = np.median(total[:t])
        if not total[t] <= 10 * usual:
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            back = bool((total[t + 1 :] <= 10 * usual).any())
            found = t, layer, "spike" if back else "explosion"
    return found


def find_by_filtering(losses, norms):
    with np.errstate(all="ignore"):
        total = np.linalg.norm(norms, axis=1)
    limits = np.array([10 * np.median(total[:t]) if t >= 5 else np.inf for t in range(len(total))])
    alarms = [t for t in range(5, len(total)) if np.isnan(total[t]) or total[t] > limits[t]]
    if not alarms:
        return -1, -1, "none"
    first = alarms[0]
    growth = norms[first] / np.median(norms[:first], axis=0)
    later = total[first + 1 :]
    calm = any(np.isfinite(value) and value <= limits[first] for value in later)
    return first, growth.argmax(), "spike" if calm else "explosion"


def find_with_torch(losses, norms):
    import torch

    norms = torch.as_tensor(norms)
    total = norms.norm(dim=1)
    for t in range(5, len(total)):
        usual = total[:t].quantile(0.5)
        if total[t].isnan() or total[t] > 10 * usual:
            growth = norms[t] / norms[:t].quantile(0.5, dim=0)
            kind = "spike" if (total[t:] <= 10 * usual).any() else "explosion"
            return t, int(growth.argmax()), kind
    return -1, -1, "none"


def find_in_plain_python(losses, norms):
    from math import hypot
    from statistics import median

    total = [hypot(*step) for step in norms.tolist()]
    for t, now in enumerate(total):
        if t < 5:
            continue
        limit = 10 * median(total[:t])
        if now <= limit:
            continue
        ratios = [now / median(norms[:t, k].tolist()) for k, now in enumerate(norms[t].tolist())]
        kind = "explosion"
        if any(later <= limit for later in total[t + 1 :]):
            kind = "spike"
        return t, ratios.index(max(ratios)), kind
    return (-1, -1, "none")


clinic_explosion = Exercise(
    id="vanishing_gradients.clinic_explosion",
    lesson=LESSON,
    title="Clinic: when and where did it explode?",
    answer="find_explosion",
    criteria=(
        Criterion("step", 1),
        Criterion("layer", 1, requires=("step",)),
        Criterion("kind", 1, requires=("step",)),
    ),
    cases=log_cases,
    probe=log_probe,
    reference=find_explosion,
    misconceptions=(
        Misconception(
            "by_the_loss",
            by_the_loss,
            "You look for a jump in the loss. It comes some steps after the gradient's, and it can jump by itself.",
            "Use the norms: the root of the sum of their squares over the layers, step by step.",
        ),
        Misconception(
            "largest_layer",
            largest_layer,
            "The step is right, but you name the layer with the largest norm. In the case “{case}” that layer is "
            "always large; another one has grown far more.",
            "Divide each layer's norm by its own median before.",
        ),
        Misconception(
            "steepest_step",
            steepest_step,
            "You compare with the step before. A growth by less than ten times a step, however long it lasts, is never "
            "found so.",
            "Compare with the median of all steps before.",
        ),
        Misconception(
            "median_of_the_whole_run",
            median_of_the_whole_run,
            "Your median covers the whole run, with the explosion in it: in the case “{case}” the explosion is what is "
            "usual there.",
            "Take the median of the steps before t only.",
        ),
        Misconception(
            "fixed_limit",
            fixed_limit,
            "You compare with a fixed number. What is large depends on the net: in another one every step would be "
            "abnormal, or none.",
            "Compare with the median of the steps before.",
        ),
        Misconception(
            "nan_passes_as_normal",
            nan_passes_as_normal,
            "A comparison with NaN is always false, so steps of NaN count as normal for you: in the case “{case}” you "
            "call it a spike that has passed.",
            "Ask `not total <= limit` (or np.isnan) instead of `total > limit`.",
        ),
        Misconception(
            "largest_norm_of_all",
            largest_norm_of_all,
            "You return the step with the largest norm. That is where the explosion ends; what you need is where it "
            "begins, and whether there is one at all.",
            "Go through the steps in order, and stop at the first abnormal one.",
        ),
        Misconception(
            "counted_from_one",
            counted_from_one,
            "You count steps and layers from 1. Asked are the indices, from 0.",
            "Return t and the layer's index as they are.",
        ),
        Misconception(
            "every_alarm_an_explosion",
            every_alarm_an_explosion,
            "You call every alarm an explosion. In the case “{case}” the norm comes back: one bad batch, and the run "
            "goes on.",
            "Look at the steps after: is any of them under the same limit again?",
        ),
        Misconception(
            "no_warm_up",
            no_warm_up,
            "In the case “{case}” you raise the alarm in the first steps, where there is hardly anything to compare "
            "with.",
            "Begin at step 5.",
        ),
        Misconception(
            "last_alarm",
            last_alarm,
            "You return the last abnormal step. The first one shows where it began.",
            "Return as soon as you find one.",
        ),
    ),
    variants=(
        Variant("find_by_filtering", find_by_filtering),
        Variant("find_with_torch", find_with_torch),
        Variant("find_in_plain_python", find_in_plain_python),
    ),
    hints=(
        "total = np.sqrt((norms**2).sum(1)). What was usual before step t?",
        "Step t is abnormal if total[t] is above 10 × np.median(total[:t]), or NaN: write `not total[t] <= limit`.",
        "layer = np.argmax(norms[t] / np.median(norms[:t], axis=0)); it is a spike if any later total is within the "
        "same limit again.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- in your own words

explain = Explanation(
    id="vanishing_gradients.explain",
    lesson=LESSON,
    title="Explain it to a colleague",
    rubric={
        "The mechanism: on the way back each layer multiplies the gradient by its weights and the activation's slope, "
        "so that over many layers it shrinks or grows like a power": 1,
        "Why a larger learning rate does not mend it: the layers' gradients differ by orders of magnitude, so no one "
        "rate fits both ends": 1,
        "What to measure: the gradient's norm for each layer (or the update relative to the weights), at the start and "
        "some steps on": 1,
        "What to change: activation and initialization together, normalization or residual connections; clipping is "
        "against explosion and does not help here": 1,
    },
    minutes=10,
)
