"""R4, R5, R6: early stopping alone and with others, how long to train, and what a validation split does by itself."""

import numpy as np

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.regularization.dense import Rule, subset, train_dense
from course_lib.claims.regularization.penalties import SETS, WRONG, halved, percent, small_sets
from course_lib.regularizers import EarlyStopping

__all__ = ["CLAIMS"]

EVERY, LAST, PATIENCE = 25, 800, 4
AT = tuple(range(EVERY, LAST + 1, EVERY))


def stopped(losses) -> tuple[int, int]:
    """(where the best validation loss was, where early stopping stopped): indices into the scores."""
    stopping = EarlyStopping(patience=PATIENCE)
    for k, loss in enumerate(losses):
        if stopping.step(float(loss)):
            return stopping.best_epoch, k
    return stopping.best_epoch, len(losses) - 1


# R4 ------------------------------------------------------------------------------------------------------

NOTHING, STOP, LAST_WEIGHTS = "nothing", "stopping", "stopping, last weights kept"
OTHERS = {"ℓ2": {"l2": 0.03}, "dropout": {"drop": 0.5}}


def measure_stopping(seeds):
    found, gone, curves_shown = [], {}, []
    for name in SETS:
        own, valid, test, classes = small_sets(name, seeds, wrong=WRONG)
        kinds = {NOTHING: {}, **OTHERS}
        rules = [Rule(s, **how) for how in kinds.values() for s in seeds]
        curves = train_dense(
            rules, own, {"valid": valid, "test": test}, classes=classes, steps=LAST, score_at=AT, hidden=128
        )
        arms, gone[name] = {}, []
        for i, kind in enumerate(kinds):
            rows = range(i * len(seeds), (i + 1) * len(seeds))
            ends = [stopped(curves.losses["valid"][:, row]) for row in rows]
            test_errors = curves.errors["test"]
            arms[kind] = [percent(test_errors[-1, list(rows)])]
            arms[STOP if kind == NOTHING else f"{kind} and stopping"] = [
                percent(test_errors[best, row] for (best, _), row in zip(ends, rows, strict=True))
            ]
            if kind == NOTHING:
                arms[LAST_WEIGHTS] = [percent(test_errors[end, row] for (_, end), row in zip(ends, rows, strict=True))]
                gone[name] = [float(AT[end]) for _, end in ends]
        found.append(Series(f"test error, {name}", "% wrong", arms))
        shown = tuple(LAST // 2**k for k in range(4, -1, -1))
        parts = {
            part: [curves.losses[part][AT.index(step), : len(seeds)].tolist() for step in shown]
            for part in ("train", "valid")
        }
        curves_shown.append(Series(f"loss without any brake, {name}", "nats", parts, "steps", shown))
    stops = Series("stopped after", "steps", {"stopping": [gone[name] for name in SETS]}, "data set", SETS)
    return Measured(series=(*found, stops, *curves_shown))


def decide_stopping(measured):
    alone, best_other, combined = {}, {}, {}
    for name in SETS:
        errors = measured[f"test error, {name}"]
        alone[name] = Interval.of_difference("", "", errors.values(STOP), errors.values(NOTHING))
        pairs = [(kind, f"{kind} and stopping") for kind in OTHERS]
        both = min((pair[1] for pair in pairs), key=errors.mean)
        single = min((STOP, *OTHERS), key=errors.mean)
        combined[name] = Interval.of_difference(
            f"test error, {both} minus {single} alone, {name}",
            "points",
            errors.values(both),
            errors.values(single),
        )
        best_other[name] = f"{both} against {single}"
    helps = [name for name in SETS if alone[name].high < 0]
    better = [name for name in SETS if combined[name].high < 0]
    if len(helps) == len(better) == len(SETS):
        verdict, condition = HOLDS, ""
    elif len(helps) == len(SETS):
        verdict = HOLDS_WHEN
        condition = "it is about stopping as such; the best combination beats the best single way beyond the noise "
        condition += f"on {' and '.join(better)} only" if better else "on neither set"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = measured[f"test error, {SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=combined[SETS[0]],
        figures={
            "nothing": first.mean(NOTHING),
            "stop": first.mean(STOP),
            "last": first.mean(LAST_WEIGHTS),
            "steps": measured["stopped after"].mean("stopping", SETS[0]),
            "others": "; ".join(
                f"{kind} {first.mean(kind):.1f}%, with stopping {first.mean(f'{kind} and stopping'):.1f}%"
                for kind in OTHERS
            ),
            "combined": f"{combined[SETS[0]].mean:+.1f} ({best_other[SETS[0]]})",
            "combined2": f"{combined[SETS[1]].mean:+.1f} ({best_other[SETS[1]]})",
        },
    )


# R5 ------------------------------------------------------------------------------------------------------

SIZES = (100, 300, 1000, 3000)
GRID = tuple(sorted({round(20 * 1.25**k) for k in range(24)}))


def measure_length(seeds):
    epochs, steps = {name: [] for name in SETS}, {name: [] for name in SETS}
    for name in SETS:
        train, valid, _, classes = halved(name)
        for n in SIZES:
            own = {s: subset(train, n, s) for s in seeds}
            at = tuple(step for step in GRID if step <= (1500 if n < 1000 else 3200))
            rules = [Rule(s) for s in seeds]
            curves = train_dense(rules, own, {"valid": valid}, classes=classes, steps=at[-1], score_at=at)
            best = [curves.steps[int(k)] for k in curves.losses["valid"].argmin(0)]
            steps[name].append([float(step) for step in best])
            epochs[name].append([step * 32 / n for step in best])
    axis, same = ("training images", SIZES), "two sets may be best after the same steps"
    return Measured(
        series=(
            Series("passes over the data at the lowest validation loss", "epochs", epochs, *axis, identical=same),
            Series("steps at the lowest validation loss", "steps", steps, *axis, identical=same),
        )
    )


def decide_length(measured):
    ratios = {}
    for quantity in ("passes over the data", "steps"):
        series = measured[f"{quantity} at the lowest validation loss"]
        for name in SETS:
            logs = np.log2(series.values(name, SIZES[-1])) - np.log2(series.values(name, SIZES[0]))
            ratios[quantity, name] = Interval.of(
                f"{quantity}, {SIZES[-1]} images over {SIZES[0]}, {name}", "doublings", logs
            )
    changed = {
        quantity: all(abs(ratios[quantity, name].mean) >= 1 for name in SETS)
        and all(ratios[quantity, name].low > 0 or ratios[quantity, name].high < 0 for name in SETS)
        for quantity in ("passes over the data", "steps")
    }
    epochs = measured["passes over the data at the lowest validation loss"]
    steps = measured["steps at the lowest validation loss"]
    return Decision(
        verdict=HOLDS if changed["passes over the data"] else DOES_NOT_HOLD,
        interval=ratios["passes over the data", SETS[0]],
        figures={
            "small": SIZES[0],
            "large": SIZES[-1],
            "epochs_small": epochs.mean(SETS[0], SIZES[0]),
            "epochs_large": epochs.mean(SETS[0], SIZES[-1]),
            "steps_small": steps.mean(SETS[0], SIZES[0]),
            "steps_large": steps.mean(SETS[0], SIZES[-1]),
            "more": 2 ** ratios["steps", SETS[0]].mean,
            "more2": 2 ** ratios["steps", SETS[1]].mean,
            "fewer": 2 ** -ratios["passes over the data", SETS[0]].mean,
            "fewer2": 2 ** -ratios["passes over the data", SETS[1]].mean,
        },
    )


# R6 ------------------------------------------------------------------------------------------------------

ALL, HELD = "all images", "a fifth held out, not looked at"
MEASURED = "a fifth held out and measured"
USED = "a fifth held out, used to stop"
DROP_ALL, DROP_USED = "dropout, all images", "dropout, a fifth held out, used to stop"


def measure_meter(seeds):
    found = []
    for name in SETS:
        own, _, test, classes = small_sets(name, seeds, n=500, wrong=WRONG)
        kept = {s: (x[:400], y[:400]) for s, (x, y) in own.items()}
        held = {s: (x[400:], y[400:]) for s, (x, y) in own.items()}
        how = {"classes": classes, "steps": LAST, "hidden": 128}
        arms = {}

        def tested(data, seeds=seeds, test=test, how=how, look=False, stop=False, held=held, **rule):
            """Net by net, so that looking at the held-out images or not is the only difference."""
            errors = []
            for s in seeds:
                parts = {"valid": held[s], "test": test} if look else {"test": test}
                curves = train_dense([Rule(s, **rule)], {s: data[s]}, parts, score_at=AT if look else (), **how)
                k = stopped(curves.losses["valid"][:, 0])[0] if stop else -1
                errors.append(float(curves.errors["test"][k, 0]))
            return percent(errors)

        arms[ALL] = [tested(own)]
        arms[HELD] = [tested(kept)]
        arms[MEASURED] = [tested(kept, look=True)]
        arms[USED] = [tested(kept, look=True, stop=True)]
        arms[DROP_ALL] = [tested(own, drop=0.5)]
        arms[DROP_USED] = [tested(kept, look=True, stop=True, drop=0.5)]
        same = "that measuring changes nothing is the point"
        found.append(Series(f"test error, {name}", "% wrong", arms, identical=same))
    return Measured(series=found)


def decide_meter(measured):
    moved = max(float(np.abs(s.values(MEASURED) - s.values(HELD)).max()) for s in measured.series)
    brake = {
        s.name: Interval.of_difference(
            f"dropout minus none, both with a fifth held out and used to stop, {s.name}",
            "points",
            s.values(DROP_USED),
            s.values(USED),
        )
        for s in measured.series
    }
    alone = {s.name: Interval.of_difference("", "", s.values(DROP_ALL), s.values(ALL)) for s in measured.series}
    first, second = measured.series
    still = moved == 0
    helps = [name for name, interval in brake.items() if interval.high < 0]
    if still and len(helps) == len(brake):
        verdict, condition = HOLDS, ""
    elif still and all(interval.high < 0 for interval in alone.values()):
        verdict = HOLDS_WHEN
        condition = "the split only measures; once it also stops the training, dropout gains beyond the noise on "
        condition += " and ".join(name.removeprefix("test error, ") for name in helps) if helps else "neither set"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=brake[first.name],
        figures={
            "moved": moved,
            "all": first.mean(ALL),
            "held": first.mean(MEASURED),
            "used": first.mean(USED),
            "drop": first.mean(DROP_ALL),
            "both": first.mean(DROP_USED),
            "gain": brake[first.name].mean,
            "gain2": brake[second.name].mean,
        },
    )


CLAIMS = (
    Claim(
        id="R4",
        statement="Early stopping: stop when validation worsens; better combined with other methods.",
        headline="mnist5k, 300 images, a fifth of the labels wrong: {nothing:.1f}% wrong after "
        f"{LAST} steps, {{stop:.1f}}% with early stopping (stopped after {{steps:.0f}}), {{last:.1f}}% if the last "
        "weights are kept instead of the best. {others}. Best combination against best single way: {combined} points "
        "on "
        "mnist5k, {combined2} on animalshape.",
        rule="Holds if on both sets stopping beats training to the end, and the best combination with ℓ2 or dropout "
        "beats the best single way (paired 95% intervals); holds when … if only the first is so. Scored every "
        f"{EVERY} steps, patience {PATIENCE}.",
        measure=measure_stopping,
        decide=decide_stopping,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="R5",
        statement="The right number of epochs depends on the size of the data.",
        headline="mnist5k: the validation loss is lowest after {epochs_small:.0f} epochs with {small} images and after "
        "{epochs_large:.1f} with {large}: {fewer:.1f} times fewer passes ({fewer2:.1f} on animalshape), but {more:.1f} "
        "times as many steps ({more2:.1f}): {steps_small:.0f} and {steps_large:.0f}.",
        rule="Holds if from the smallest to the largest training set the best number of epochs changes by a factor "
        "of 2 "
        "or more on both sets, beyond the noise (95% interval of its logarithm).",
        measure=measure_length,
        decide=decide_length,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="R6",
        statement="A validation split does not replace dropout: one measures, the other brakes.",
        headline="mnist5k, 500 images, a fifth of the labels wrong. {all:.1f}% wrong with all images; {held:.1f}% "
        "with a "
        "fifth held out and only measured, which changes no net ({moved:.1f} points); {used:.1f}% if that "
        "fifth decides when to stop. Dropout: {drop:.1f}% with all images, {both:.1f}% together with stopping. Beside "
        "stopping dropout changes {gain:+.1f} points on mnist5k, {gain2:+.1f} on animalshape.",
        rule="Holds if measuring changes no net at all and dropout lowers the test error on both sets "
        "beside a split that stops the training; holds when … if only without it (paired 95% intervals).",
        measure=measure_meter,
        decide=decide_meter,
        seeds=tuple(range(6)),
    ),
)
