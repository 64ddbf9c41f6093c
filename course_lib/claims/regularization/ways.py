"""R10, R12: nine ways against overfitting in one conv net, and seven ways to improve it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import TUNING_SEEDS, images
from course_lib.claims.regularization.convnet import Way, train_way
from course_lib.claims.regularization.dense import wrong_labels
from course_lib.claims.regularization.penalties import percent

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "emoji8")
FEW = 200

# R10 -----------------------------------------------------------------------------------------------------

NONE, BEST = "none of them", "the best together"
LONG = 600  # steps: about a hundred times through the few images, until the net without any knows them by heart
MORE = "four times the data"
WAYS: dict[str, tuple[Way, ...]] = {  # three settings of each way that has any
    MORE: (Way(more=4),),
    "augmentation": (Way(shift=1), Way(shift=2), Way(shift=3)),
    "dropout": (Way(drop=0.2), Way(drop=0.4), Way(drop=0.6)),
    "DropConnect": (Way(connect=0.2), Way(connect=0.4), Way(connect=0.6)),
    "penalty (weight decay)": (Way(decay=0.3), Way(decay=1.0), Way(decay=3.0)),
    "limit on each unit's weights": (Way(limit=0.7), Way(limit=1.2), Way(limit=2.0)),
    "global average pooling": tuple(Way(averages=True, maps=maps) for maps in ((8, 16), (16, 32), (32, 64))),
    "a smaller net": (Way(maps=(4, 8), hidden=32), Way(hidden=16), Way(hidden=32)),
    "early stopping": (Way(stop=True),),
    "stochastic pooling": (Way(stochastic=True),),
}


def parts_of_set(name: str):
    data = images(name, halve=True)
    few = slice(600)  # enough to score on
    return data.train, tuple(v[few] for v in data.valid), tuple(v[few] for v in data.test), data.classes


def together(first: Way, second: Way) -> Way:
    """Both ways at once: whatever the second sets, the rest from the first."""
    plain = Way()
    changed = {
        field.name: getattr(second, field.name)
        for field in fields(Way)
        if getattr(second, field.name) != getattr(plain, field.name)
    }
    return replace(first, **changed)


def best_together(chosen: Mapping[str, tuple[Way, float]], base: float, validated: Callable[[Way], float]) -> Way:
    """Greedily: from the way that validation likes best to the one it likes least, each is added if it helps again."""
    best, error = Way(), base
    for _, (way, alone) in sorted(chosen.items(), key=lambda item: item[1][1]):
        both = together(best, way)
        now = alone if best == Way() else validated(both)
        if now < error:
            best, error = both, now
    return best


def measure_ways(seeds):
    """Each way's best setting by the validation error of the tuning seeds, and the best of them together."""
    found, fits = [], []
    for name in SETS:
        train, valid, test, classes = parts_of_set(name)

        def run(way, seed, data=(train, valid, test, classes)):
            return train_way(way, *data, seed, n=FEW, steps=LONG)

        def validated(way, run=run):
            return sum(run(way, seed)[1] for seed in TUNING_SEEDS) / len(TUNING_SEEDS)

        chosen = {}
        for words, options in WAYS.items():
            tried = {way: validated(way) for way in options}
            way = min(tried, key=tried.get)
            chosen[words] = (way, tried[way])
        free = {words: found for words, found in chosen.items() if words != MORE}  # more data is no choice
        best = best_together(free, validated(Way()), validated)
        ways = {NONE: Way(), **{words: way for words, (way, _) in chosen.items()}, BEST: best}
        errors = {words: [run(way, seed) for seed in seeds] for words, way in ways.items()}
        why = "validation may like a single way better than any two"
        tests = {w: [percent(e[2] for e in v)] for w, v in errors.items()}
        found.append(Series(f"test error, {name}", "% wrong", tests, identical=why))
        learned = {w: [percent(e[0] for e in v)] for w, v in errors.items()}
        same = "several ways may still learn every training image"
        fits.append(Series(f"training error, {name}", "% wrong", learned, identical=same))
    return Measured(series=(*found, *fits))


def decide_ways(measured):
    gains = {
        (name, way): Interval.of_difference(
            f"test error, {way} minus none, {name}",
            "points",
            measured[f"test error, {name}"].values(way),
            measured[f"test error, {name}"].values(NONE),
        )
        for name in SETS
        for way in (*WAYS, BEST)
    }
    helps = [way for way in WAYS if all(gains[name, way].high < 0 for name in SETS)]
    harms = [way for way in WAYS if any(gains[name, way].low > 0 for name in SETS)]
    if len(helps) == len(WAYS):
        verdict, condition = HOLDS, ""
    elif helps:
        verdict = HOLDS_WHEN
        condition = "the way is " + " or ".join(helps) + ": these lower the error on both sets"
        condition += "; it rises on some set with " + " and ".join(harms) if harms else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    errors = [measured[f"test error, {name}"] for name in SETS]
    single = min((way for way in WAYS if way != MORE), key=errors[0].mean)
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SETS[0], BEST],
        figures={
            "none": errors[0].mean(NONE),
            "none2": errors[1].mean(NONE),
            "best": errors[0].mean(BEST),
            "best2": errors[1].mean(BEST),
            "single": f"{single} {errors[0].mean(single):.1f}%",
            "ways": "; ".join(
                f"{way} {gains[SETS[0], way].mean:+.1f} and {gains[SETS[1], way].mean:+.1f}" for way in WAYS
            ),
            "few": FEW,
        },
    )


# R12 -----------------------------------------------------------------------------------------------------

BEFORE, AFTER = "before", "after"
SEVEN = {
    "problem": "half the classes",
    "data": "three times the data",
    "labels": "cleaner labels",
    "pixels": "standardized pixels",
    "shifts": "augmentation",
    "set-up": "a better training set-up",
    "model": "a wider model",
}


def measure_seven(seeds):
    found = []
    for name in SETS:
        train, valid, test, classes = parts_of_set(name)
        half = classes // 2
        fewer = [tuple(v[part[1] < half] for v in part) for part in (train, valid, test)]
        # the pixels as stored, 0 to 255: what standardizing starts from
        raw = [
            (255 * (part[0] - train[0].min()) / (train[0].max() - train[0].min()), part[1])
            for part in (train, valid, test)
        ]
        plain = Way()

        def errors(way, parts, classes, dirty=0.0, seeds=seeds, **how):
            found = []
            for seed in seeds:
                fit = wrong_labels(parts[0], dirty, classes, seed) if dirty else parts[0]
                found.append(train_way(way, fit, *parts[1:], classes, seed, **{"n": FEW, **how})[2])
            return percent(found)

        whole = (train, valid, test)
        base = errors(plain, whole, classes)
        before = [base, base, errors(plain, whole, classes, dirty=0.3), errors(plain, raw, classes), base]
        before += [errors(plain, whole, classes, adam=False, lr=0.01), base]
        after = [
            errors(plain, fewer, half),
            errors(Way(more=3), whole, classes),
            base,
            base,
            errors(Way(shift=1), whole, classes),
            base,
            errors(Way(maps=(32, 64), hidden=128), whole, classes),
        ]
        arms = {BEFORE: before, AFTER: after}
        found.append(Series(f"test error, {name}", "% wrong", arms, "what was changed", tuple(SEVEN)))
    return Measured(series=found)


def decide_seven(measured):
    gains = {
        (name, way): Interval.of_difference(
            f"test error, after minus before, {SEVEN[way]}, {name}",
            "points",
            measured[f"test error, {name}"].values(AFTER, way),
            measured[f"test error, {name}"].values(BEFORE, way),
        )
        for name in SETS
        for way in SEVEN
    }
    helps = [way for way in SEVEN if all(gains[name, way].high < 0 for name in SETS)]
    if len(helps) == len(SEVEN):
        verdict, condition = HOLDS, ""
    elif helps:
        verdict, condition = HOLDS_WHEN, "on both sets for " + "; ".join(SEVEN[way] for way in helps)
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    best = min(SEVEN, key=lambda way: gains[SETS[0], way].mean)
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SETS[0], best],
        figures={
            "ways": "; ".join(
                f"{words} {gains[SETS[0], way].mean:+.1f} and {gains[SETS[1], way].mean:+.1f}"
                for way, words in SEVEN.items()
            )
        },
    )


CLAIMS = (
    Claim(
        id="R10",
        statement="Nine ways against overfitting in a conv net: more data or augmentation, dropout, DropConnect, "
        "penalties, clipping the scale, global average pooling, a smaller net, early stopping, stochastic pooling.",
        headline="{few} training images. Without any the net errs on {none:.1f}% (mnist5k) and {none2:.1f}% "
        "(emoji8). Each "
        "way alone changes that, in points, by: {ways}. What validation liked, together: {best:.1f}% and "
        "{best2:.1f}%; the "
        "best single way on mnist5k, more data aside: {single}.",
        rule="Holds if every way alone lowers the test error on both sets (paired 95% intervals below 0); holds when "
        "… if some do. Each chooses among 3 settings on validation, where it has any. “Together” begins with the way "
        "that validation likes best (more data aside) and adds each next one that lowers the validation error again.",
        measure=measure_ways,
        decide=decide_ways,
        seeds=tuple(range(5)),
    ),
    Claim(
        id="R12",
        statement="Seven ways to improve a CNN: the problem, more data, cleaner data, preprocessing, augmentation, the "
        "training set-up, the model.",
        headline="One before and after for each, in points of test error on mnist5k and emoji8: {ways}.",
        rule="Holds if each of the seven, as tried here, lowers the test error on both sets (paired 95% intervals "
        "below "
        "0); holds when … if some do. Before: 200 images, plain gradient descent for the set-up, three in ten labels "
        "wrong for the cleaning, pixels of 0 to 255 for the preprocessing.",
        measure=measure_seven,
        decide=decide_seven,
        seeds=tuple(range(5)),
    ),
)
