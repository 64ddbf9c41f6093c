"""R7, R8, R9, R11: gaps between training and validation and where they come from; splits; many labels."""

from collections.abc import Iterator

import numpy as np
import torch

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.regularization.dense import Rule, subset, train_dense
from course_lib.claims.regularization.penalties import SETS, halved, percent
from course_lib.quiet import load_keras
from course_lib.regularizers import k_fold, random_shift, stratified_k_fold, validation_split

__all__ = ["CLAIMS"]

# R7 ------------------------------------------------------------------------------------------------------

EPOCHS = 5
CAUSES = ("neither", "long epochs", "another class balance", "both")


def measure_rise(seeds):
    """Validation loss and error by epoch. A long epoch shows each image 30 times, as frames of one film do."""
    losses, errors, learned = [], [], []
    for name in SETS:
        train, valid, _, classes = halved(name)
        loss_arms, error_arms, train_arms = {}, {}, {}
        # the class that is hardest without either cause makes up most of the shifted validation set
        probe = train_dense([Rule(0)], {0: subset(train, 1000, 0)}, {}, classes=classes, steps=200)
        hardest = hardest_class(probe.params, valid, classes)
        shifted = shift_balance(valid, hardest)
        own = {s: subset(train, 1000, s) for s in seeds}
        for repeats, words in ((1, ("neither", "another class balance")), (30, ("long epochs", "both"))):
            steps = 1000 * repeats // 32
            curves = train_dense(
                [Rule(s, lr=1e-3) for s in seeds],
                own,
                {words[0]: valid, words[1]: shifted},
                classes=classes,
                steps=steps * EPOCHS,
                score_at=tuple(steps * k for k in range(1, EPOCHS + 1)),
            )
            for word in words:
                loss_arms[word] = curves.losses[word].tolist()
                error_arms[word] = [percent(values) for values in curves.errors[word]]
            train_arms["long epochs" if repeats > 1 else "short epochs"] = curves.losses["train"].tolist()
        axis = ("epoch", tuple(range(1, EPOCHS + 1)))
        losses.append(Series(f"validation loss, {name}", "nats", loss_arms, *axis))
        learned.append(Series(f"training loss, {name}", "nats", train_arms, *axis))
        errors.append(Series(f"validation error, {name}", "% wrong", error_arms, *axis))
    return Measured(series=(*losses, *errors, *learned))


def hardest_class(params, valid, classes: int) -> int:
    h = torch.baddbmm(params["b0"], valid[0].flatten(1)[None], params["w0"]).relu()
    wrong = torch.baddbmm(params["b1"], h, params["w1"])[0].argmax(-1) != valid[1]
    return int(torch.stack([wrong[valid[1] == c].float().mean() for c in range(classes)]).argmax())


def shift_balance(valid, rare_no_more: int, keep: float = 0.1):
    """The validation set with all of one class and a tenth of each other."""
    of_class = valid[1] == rare_no_more
    g = torch.Generator().manual_seed(0)
    chosen = of_class | (torch.rand(len(of_class), generator=g) < keep)
    return valid[0][chosen], valid[1][chosen]


def decide_rise(measured):
    rise, level = {}, {}
    for name in SETS:
        series = measured[f"validation loss, {name}"]
        for cause in CAUSES:
            rise[name, cause] = Interval.of_difference(
                f"validation loss after epoch {EPOCHS} minus after epoch 1, {cause}, {name}",
                "nats",
                series.values(cause, EPOCHS),
                series.values(cause, 1),
            )
        level[name] = series.mean("another class balance", EPOCHS) - series.mean("neither", EPOCHS)
    up = [cause for cause in CAUSES if all(rise[name, cause].low > 0 for name in SETS)]
    alone = [cause for cause in ("long epochs", "another class balance") if cause in up]
    if len(alone) == 2 and "neither" not in up:
        verdict, condition = HOLDS, ""
    elif alone and "neither" not in up:
        verdict = HOLDS_WHEN
        rest = "another class balance" if alone[0] == "long epochs" else "long epochs"
        condition = f"the cause is {alone[0]}; {rest} alone changes the level of the loss, and makes it rise "
        condition += "on one set" if any(rise[name, rest].low > 0 for name in SETS) else "on neither set"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = measured[f"validation loss, {SETS[0]}"]
    error = measured[f"validation error, {SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=rise[SETS[0], "long epochs"],
        figures={
            "first": first.mean("long epochs", 1),
            "last": first.mean("long epochs", EPOCHS),
            "error_first": error.mean("long epochs", 1),
            "error_last": error.mean("long epochs", EPOCHS),
            "shift": rise[SETS[0], "another class balance"].mean,
            "shift2": rise[SETS[1], "another class balance"].mean,
            "level": level[SETS[0]],
            "level2": level[SETS[1]],
        },
    )


# R8 ------------------------------------------------------------------------------------------------------

SHIFTS = (0, 1, 2, 4)
LOGGED, CLEAN = "training, as logged", "training, plain images"
PLAIN, ALIKE = "validation, plain images", "validation, shifted alike"


def measure_augmented(seeds):
    """Accuracies after training with shifts of up to s pixels; and the two other causes, without any shift."""
    found, others = [], {}
    for name in SETS:
        train, valid, _, classes = halved(name)
        own = {s: subset(train, 3000, s) for s in seeds}
        moved = {
            s: random_shift(valid[0], s, torch.Generator().manual_seed(s), fill=float(valid[0].min())) for s in SHIFTS
        }
        arms = {LOGGED: [], CLEAN: [], PLAIN: [], ALIKE: []}
        for s in SHIFTS:
            curves = train_dense(
                [Rule(seed) for seed in seeds],
                own,
                {"valid": valid, "moved": (moved[s], valid[1])},
                classes=classes,
                steps=900,
                shift=s,
                hidden=128,
            )
            arms[LOGGED].append(percent(curves.running[-94:].mean(0)))  # an epoch of batches, as they were trained on
            for arm, part in ((CLEAN, "train"), (PLAIN, "valid"), (ALIKE, "moved")):
                arms[arm].append(percent(1 - curves.errors[part][-1]))
        same = "without a shift the two validation sets are one"
        found.append(Series(f"accuracy, {name}", "%", arms, "largest shift (pixels of 14)", SHIFTS, identical=same))
        others[name] = {}
        for cause, rule, steps in (
            ("dropout p = 0.7", {"drop": 0.7}, 470),
            ("an average over the first epoch", {}, 31),
        ):
            curves = train_dense(
                [Rule(seed, **rule) for seed in seeds], own, {"valid": valid}, classes=classes, steps=steps, hidden=128
            )
            logged = curves.running[-94:].mean(0)
            others[name][cause] = percent(1 - curves.errors["valid"][-1] - logged)
    causes = list(others[SETS[0]])
    by_cause = {cause: [others[name][cause] for name in SETS] for cause in causes}
    return Measured(
        series=(
            *found,
            Series("validation minus logged training accuracy, no augmentation", "points", by_cause, "data set", SETS),
        )
    )


def decide_augmented(measured):
    gap, narrower, turned, clean = {}, {}, {}, {}
    for name in SETS:
        s = measured[f"accuracy, {name}"]
        strong, weak = SHIFTS[-1], SHIFTS[1]
        gap[name] = Interval.of_difference(
            f"validation minus logged training accuracy, shifts of {strong}, {name}",
            "points",
            s.values(PLAIN, strong),
            s.values(LOGGED, strong),
        )
        strong_gap = s.values(PLAIN, strong) - s.values(LOGGED, strong)
        weak_gap = s.values(PLAIN, weak) - s.values(LOGGED, weak)
        narrower[name] = Interval.of_difference("", "", weak_gap, strong_gap)
        turned[name] = Interval.of_difference("", "", s.values(ALIKE, strong), s.values(LOGGED, strong))
        clean[name] = Interval.of_difference("", "", s.values(PLAIN, strong), s.values(CLEAN, strong))
    seen = all(gap[name].low > 0 for name in SETS)
    tests = {
        "weaker augmentation narrows it": all(narrower[name].high < 0 for name in SETS),
        "the same augmentation on validation turns it round": all(turned[name].high < 0 for name in SETS),
    }
    if seen and all(tests.values()):
        verdict, condition = HOLDS, ""
    elif any(tests.values()) and any(gap[name].low > 0 for name in SETS):
        verdict = HOLDS_WHEN
        shown = [name for name in SETS if gap[name].low > 0]
        condition = f"validation is above on {' and '.join(shown)}; both sets: " + " and ".join(
            words for words, passed in tests.items() if passed
        )
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = measured[f"accuracy, {SETS[0]}"]
    other = measured["validation minus logged training accuracy, no augmentation"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gap[SETS[0]],
        figures={
            "strong": SHIFTS[-1],
            "weak": SHIFTS[1],
            "logged": first.mean(LOGGED, SHIFTS[-1]),
            "plain": first.mean(PLAIN, SHIFTS[-1]),
            "alike": first.mean(ALIKE, SHIFTS[-1]),
            "clean": first.mean(CLEAN, SHIFTS[-1]),
            "weak_gap": first.mean(PLAIN, SHIFTS[1]) - first.mean(LOGGED, SHIFTS[1]),
            "gap": gap[SETS[0]].mean,
            "gap2": gap[SETS[1]].mean,
            "others": "; ".join(f"{cause} {other.mean(cause, SETS[0]):+.1f}" for cause in other.arms),
        },
    )


# R9 ------------------------------------------------------------------------------------------------------

FOLDS = 5


def measure_splits(seeds):
    """What each way of holding out says of the error, against the error on a large test set."""
    told, off = [], []
    for name in SETS:
        train, _, test, classes = halved(name)
        own = {s: subset(train, 300, s) for s in seeds}
        how = {"classes": classes, "steps": 250}
        arms = {
            "sorted by class, last 30%": [],
            "shuffled, last 30%": [],
            f"{FOLDS} folds": [],
            f"{FOLDS} stratified folds": [],
            f"{FOLDS} folds, stopped by a split inside": [],
        }
        truth = []
        for s, (x, y) in own.items():
            g = torch.Generator().manual_seed(s)
            everything = train_dense([Rule(s)], {s: (x, y)}, {"test": test}, **how)
            truth.append(float(everything.errors["test"][-1, 0]))
            order = y.argsort(stable=True)
            for arm, index in (("sorted by class, last 30%", order), ("shuffled, last 30%", torch.arange(len(y)))):
                parts = validation_split(len(y), 0.3)
                arms[arm].append(held_out_error(s, x[index], y[index], *parts, how))
            for arm, folds in (
                (f"{FOLDS} folds", k_fold(len(y), FOLDS, g)),
                (f"{FOLDS} stratified folds", stratified_k_fold(y, FOLDS, g)),
            ):
                arms[arm].append(float(np.mean([held_out_error(s, x, y, *fold, how) for fold in folds])))
            inner = []
            for fit, valid in k_fold(len(y), FOLDS, g):
                fit = fit[torch.randperm(len(fit), generator=g)]  # validation_split takes the last: shuffle first
                a, b = validation_split(len(fit), 0.2)
                parts = {"stop": (x[fit[b]], y[fit[b]]), "valid": (x[valid], y[valid])}
                curves = train_dense(
                    [Rule(s)], {s: (x[fit[a]], y[fit[a]])}, parts, score_at=tuple(range(25, 251, 25)), **how
                )
                inner.append(float(curves.errors["valid"][int(curves.losses["stop"][:, 0].argmin()), 0]))
            arms[f"{FOLDS} folds, stopped by a split inside"].append(float(np.mean(inner)))
        told.append(
            Series(f"error that the split tells, {name}", "% wrong", {k: [percent(v)] for k, v in arms.items()})
        )
        gaps = {k: [percent(abs(np.array(v) - np.array(truth)))] for k, v in arms.items()}
        off.append(Series(f"distance from the error on the test set, {name}", "points", gaps))
    return Measured(series=(*told, *off), tables=(Table("what validation_split takes", *taken_by_keras()),))


def held_out_error(seed, x, y, fit, valid, how) -> float:
    curves = train_dense([Rule(seed)], {seed: (x[fit], y[fit])}, {"valid": (x[valid], y[valid])}, **how)
    return float(curves.errors["valid"][-1, 0])


def taken_by_keras() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Which of 20 examples Keras trains and validates on, read from the batches that the model is given."""
    keras = load_keras()

    class Watch(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.seen = keras.layers.Dense(1), {True: [], False: []}

        def call(self, inputs, training=None):
            self.seen[bool(training)] += np.asarray(inputs)[:, 0].astype(int).tolist()
            return self.dense(inputs)

    def rows() -> Iterator[tuple[str, ...]]:
        x = np.arange(20, dtype="float32")[:, None]
        for shuffle in (True, False):
            keras.utils.set_random_seed(0)
            model = Watch()
            model.compile(loss="mse", run_eagerly=True)
            model.fit(x, x, validation_split=0.3, shuffle=shuffle, epochs=1, batch_size=20, verbose=0)
            # Keras may show the first batch twice, to build the model: what was seen last counts
            fit, valid = (seen[-len(set(seen)) :] for seen in (model.seen[True], model.seen[False]))
            order = "mixed" if fit != sorted(fit) else "in order"
            yield (
                f"shuffle={shuffle}",
                f"{min(fit)} to {max(fit)}, {order}",
                f"{min(valid)} to {max(valid)}, {'mixed' if valid != sorted(valid) else 'in order'}",
            )

    return ("fit(…, validation_split=0.3) on examples 0 to 19", "trains on", "validates on"), list(rows())


def decide_splits(measured):
    took = measured.tables[0].rows
    last = all(row[2] == "14 to 19, in order" for row in took)
    first = measured[f"error that the split tells, {SETS[0]}"]
    off = measured[f"distance from the error on the test set, {SETS[0]}"]
    order, mixed = "sorted by class, last 30%", "shuffled, last 30%"
    worse = {
        name: Interval.of_difference(
            f"error told by the last 30%, sorted by class minus shuffled, {name}",
            "points",
            measured[f"error that the split tells, {name}"].values(order),
            measured[f"error that the split tells, {name}"].values(mixed),
        )
        for name in SETS
    }
    return Decision(
        verdict=HOLDS if last and all(i.low > 0 for i in worse.values()) else DOES_NOT_HOLD,
        interval=worse[SETS[0]],
        figures={
            "order": first.mean(order),
            "mixed": first.mean(mixed),
            "off_mixed": off.mean(mixed),
            "off_folds": off.mean(f"{FOLDS} folds"),
            "off_stratified": off.mean(f"{FOLDS} stratified folds"),
            "off_inner": off.mean(f"{FOLDS} folds, stopped by a split inside"),
            "folds": FOLDS,
        },
    )


# R11 -----------------------------------------------------------------------------------------------------

COUNTS = {"glyph26": (2, 5, 10, 26), "mnist5k": (2, 4, 7, 10)}
EACH, TOTAL = 20, 200


def measure_labels(seeds):
    """The gap between test and training loss, by number of classes, with their examples fixed each or in total."""
    gaps, errors = [], []
    for name, counts in COUNTS.items():
        train, _, test, classes = halved(name)
        arms = {f"{EACH} examples of each class": [], f"{TOTAL} examples in all": []}
        wrong = {arm: [] for arm in arms}
        for count in counts:
            for arm, each in zip(arms, (EACH, TOTAL // count), strict=True):
                gap, error = [], []
                for s in seeds:
                    g = torch.Generator().manual_seed(s)
                    chosen = torch.randperm(classes, generator=g)[:count]
                    mine, theirs = few_of(train, chosen, each, g), few_of(test, chosen, len(test[1]), g)
                    curves = train_dense([Rule(s)], {s: mine}, {"test": theirs}, classes=count, steps=300)
                    gap.append(float(curves.errors["test"][-1, 0] - curves.errors["train"][-1, 0]))
                    error.append(float(curves.errors["test"][-1, 0]) / (1 - 1 / count))
                arms[arm].append(percent(gap))
                wrong[arm].append(percent(error))
        same = "with as many examples the two are one experiment"
        axis = ("classes", counts)
        gaps.append(Series(f"test error minus training error, {name}", "points", arms, *axis, identical=same))
        errors.append(Series(f"test error ÷ error of guessing, {name}", "%", wrong, *axis, identical=same))
    return Measured(series=(*gaps, *errors))


def few_of(data, classes, each, g):
    """At most `each` examples of the given classes, numbered anew from 0."""
    x, y = [], []
    for label, c in enumerate(classes.tolist()):
        index = (data[1] == c).nonzero().flatten()
        index = index[torch.randperm(len(index), generator=g)[:each]]
        x.append(data[0][index])
        y.append(torch.full((len(index),), label))
    return torch.cat(x), torch.cat(y)


def decide_labels(measured):
    grown = {}
    for name, counts in COUNTS.items():
        series = measured[f"test error minus training error, {name}"]
        for arm in series.arms:
            grown[name, arm] = Interval.of_difference(
                f"test minus training error, {counts[-1]} classes minus {counts[0]}, {arm}, {name}",
                "points",
                series.values(arm, counts[-1]),
                series.values(arm, counts[0]),
            )
    arms = list(measured.series[0].arms)
    each, total = (all(grown[name, arm].low > 0 for name in COUNTS) for arm in arms)
    if each and total:
        verdict, condition = HOLDS, ""
    elif each or total:
        verdict, condition = HOLDS_WHEN, f"there are {arms[0] if each else arms[1]}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    name = next(iter(COUNTS))
    relative = measured[f"test error ÷ error of guessing, {name}"]
    gap = measured[f"test error minus training error, {name}"]
    low, high = COUNTS[name][0], COUNTS[name][-1]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=grown[name, arms[0]],
        figures={
            "low": low,
            "high": high,
            "each": f"{gap.mean(arms[0], low):.1f} to {gap.mean(arms[0], high):.1f}",
            "total": f"{gap.mean(arms[1], low):.1f} to {gap.mean(arms[1], high):.1f}",
            "relative": f"{relative.mean(arms[0], low):.0f}% to {relative.mean(arms[0], high):.0f}%",
            "relative_total": f"{relative.mean(arms[1], low):.0f}% to {relative.mean(arms[1], high):.0f}%",
            "n_each": EACH,
            "n_total": TOTAL,
        },
    )


CLAIMS = (
    Claim(
        id="R7",
        statement="A validation loss that rises after the first epoch while the training loss falls: the net "
        "overfits so "
        "soon, or the validation set has another class balance.",
        headline="mnist5k. Long epochs (each image 30 times): the validation loss goes from {first:.2f} to {last:.2f} "
        f"nats in {EPOCHS} epochs, while the error goes from {{error_first:.1f}}% to {{error_last:.1f}}%. Another "
        f"class "
        "balance alone: the loss changes by {shift:+.2f} nats ({shift2:+.2f} on animalshape) over these epochs, and "
        "lies "
        "{level:+.2f} ({level2:+.2f}) from the one in the old balance.",
        rule="Holds if on both sets either cause alone makes the loss after the last epoch larger than after the "
        "first, "
        "and without both it does not (paired 95% intervals); holds when … if one cause does.",
        measure=measure_rise,
        decide=decide_rise,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="R8",
        statement="With augmentation the validation accuracy may lie above the training accuracy: the images are "
        "harder, "
        "as two tests show.",
        headline="mnist5k, 3,000 images, shifts of up to {strong} of 14 pixels: {logged:.1f}% right in training "
        "as logged, "
        "{plain:.1f}% in validation ({gap:+.1f} points; {gap2:+.1f} on animalshape). Shifts of {weak}: "
        "{weak_gap:+.1f}. "
        "Validation images shifted alike: {alike:.1f}%. Plain training images: {clean:.1f}%. Without augmentation: "
        "{others} points.",
        rule="Holds if on both sets validation is above with the strongest shifts, the gap is smaller with weak ones, "
        "and validation shifted alike is below (paired 95% intervals).",
        measure=measure_augmented,
        decide=decide_augmented,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="R9",
        statement="Keras's validation_split takes the last fraction, before shuffling; k-fold is another thing, and "
        "the "
        "two can be used together.",
        headline="mnist5k, 300 images. The last 30% of sorted data tell an error of {order:.0f}%, of shuffled data "
        "{mixed:.0f}%. Mean distance from the error on the test set: {off_mixed:.1f} points for one split, "
        "{off_folds:.1f} for {folds} folds, {off_stratified:.1f} for stratified ones, {off_inner:.1f} where a split "
        "inside "
        "each fold stops the training.",
        rule="Holds if Keras validates on exactly the last examples, in order, with and without shuffle, and on both "
        "sets "
        "sorting by class raises the error that the split tells (paired 95% interval).",
        measure=measure_splits,
        decide=decide_splits,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="R11",
        statement="Many labels are a cause of overfitting.",
        headline="glyph26, {low} to {high} classes. With {n_each} examples of each the gap between test and training "
        "error goes from {each} points, with {n_total} in all from {total}. The test error as a share of guessing's "
        "goes "
        "from {relative}, and from {relative_total}.",
        rule="Holds if on both sets the gap between test and training error grows from the fewest classes to the most, "
        "with the examples fixed for each class and in total (paired 95% intervals); holds when … if with one of them.",
        measure=measure_labels,
        decide=decide_labels,
        seeds=tuple(range(6)),
    ),
)
