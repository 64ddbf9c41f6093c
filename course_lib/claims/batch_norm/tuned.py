"""B2 and B6: where it stands, and whether it regularizes. Every arm chooses rate and steps on validation images."""

from collections.abc import Sequence

import torch

from course_lib.claims.batch_norm.nets import NormMLP
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import Option, images, tune_and_score
from course_lib.ensembles import Member, train_ensemble

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "emoji8")
LRS = (3e-4, 1e-3, 3e-3, 1e-2)


def percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


# B2 ------------------------------------------------------------------------------------------------------

ACTIVATIONS = {"ReLU": torch.relu, "tanh": torch.tanh}
PLACES = {"none": "no batch norm", "before": "before the activation", "after": "after the activation"}


def measure_place(seeds):
    """Three hidden layers of 96 units, batch norm nowhere, before or after each activation; four rates each."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        features = data.train[0][0].numel()
        for label, activation in ACTIVATIONS.items():
            options = {
                arm: [
                    Option(NormMLP((features, 96, 96, 96, data.classes), place, activation), Member(0, lr=lr))
                    for lr in LRS
                ]
                for place, arm in PLACES.items()
            }
            outcomes = tune_and_score(options, data, seeds, n_train=800, batch_size=32, score_at=(100, 200, 400))
            errors = {arm: [percent(outcome.errors)] for arm, outcome in outcomes.items()}
            series.append(Series(f"test error, {name}, {label}", "%", errors))
    return Measured(series=tuple(series))


def decide_place(measured):
    gains = {
        (name, label): Interval.of_difference(
            f"test error, before minus after, {name}, {label}",
            "points",
            measured[f"test error, {name}, {label}"].values(PLACES["before"]),
            measured[f"test error, {name}, {label}"].values(PLACES["after"]),
        )
        for name in SETS
        for label in ACTIVATIONS
    }
    better = [where for where, gain in gains.items() if gain.high < 0]
    worse = [where for where, gain in gains.items() if gain.low > 0]
    if len(better) == len(gains):
        verdict, condition = HOLDS, ""
    elif better:
        verdict = HOLDS_WHEN
        condition = "the case is " + " or ".join(", ".join(where) for where in better)
        condition += "; elsewhere after is better or the difference is within the noise"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SETS[0], "ReLU"],
        figures={
            "gains": "; ".join(f"{', '.join(where)} {gain.mean:+.1f}" for where, gain in gains.items()),
            "better": len(better),
            "worse": len(worse),
            "all": len(gains),
        },
    )


# B6 ------------------------------------------------------------------------------------------------------

BATCHES = (8, 32, 128)
IMAGES, PASSES = 400, (5, 10, 20)
ARMS = {
    "neither": ("none", 0.0),
    "batch norm": ("before", 0.0),
    "dropout": ("none", 0.3),
    "both": ("before", 0.3),
}
RATES = (1e-3, 5e-3)


def measure_regularizer(seeds):
    """Two hidden layers of 128 units on 400 images: errors on these and on test images, by batch size."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        sizes = (data.train[0][0].numel(), 128, 128, data.classes)
        test, gap = {arm: [] for arm in ARMS}, {arm: [] for arm in ARMS}
        for batch in BATCHES:
            by_seed = [one_seed(sizes, data, seed, batch) for seed in seeds]
            for arm in ARMS:
                test[arm].append([100 * found[arm][0] for found in by_seed])
                gap[arm].append([100 * (found[arm][0] - found[arm][1]) for found in by_seed])
        series.append(Series(f"test error, {name}", "%", test, "images in a batch", BATCHES))
        series.append(Series(f"test minus training error, {name}", "points", gap, "images in a batch", BATCHES))
    return Measured(series=tuple(series))


def one_seed(sizes, data, seed: int, batch: int) -> dict[str, tuple[float, float]]:
    """Each arm's (test, training) error, shares, at the rate and number of passes with the lowest validation error."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    rows = torch.randperm(len(data.train[1]), generator=generator)[:IMAGES]
    pool = data.train[0][rows], data.train[1][rows]
    at = [passes * IMAGES // batch for passes in PASSES]
    best = {}
    for norm in ("none", "before"):
        arms = [(arm, p) for arm, (which, p) in ARMS.items() if which == norm]
        members = [Member(seed, lr=lr, drop={"hidden": p}) for _, p in arms for lr in RATES]
        curves = train_ensemble(
            NormMLP(sizes, norm),
            members,
            pool,
            n_train=IMAGES,
            steps=at[-1],
            batch_size=batch,
            score_on={"train": pool, "valid": data.valid, "test": data.test},
            score_at=at,
        ).errors
        for i, (arm, _) in enumerate(arms):
            mine = slice(i * len(RATES), (i + 1) * len(RATES))
            k = int(curves["valid"][:, mine].flatten().argmin())
            best[arm] = tuple(float(curves[part][:, mine].flatten()[k]) for part in ("test", "train"))
    return best


def decide_regularizer(measured):
    def difference(quantity, a, b, name, batch):
        series = measured[f"{quantity}, {name}"]
        what = f"{quantity}, {a} minus {b}, {name}, batches of {batch}"
        return Interval.of_difference(what, "points", series.values(a, batch), series.values(b, batch))

    lower = [b for b in BATCHES if all(difference("test error", "batch norm", "neither", n, b).high < 0 for n in SETS)]
    narrower = [
        b
        for b in BATCHES
        if all(difference("test minus training error", "batch norm", "neither", n, b).high < 0 for n in SETS)
    ]
    both = [b for b in lower if b in narrower]
    if both == list(BATCHES):
        verdict, condition = HOLDS, ""
    elif lower:
        verdict = HOLDS_WHEN
        condition = "it is judged by the test error, in batches of " + ", ".join(map(str, lower))
        condition += (
            f"; the gap to the training error narrows only in batches of {', '.join(map(str, narrower))}"
            if narrower
            else "; the gap to the training error does not narrow on both sets at any batch size"
        )
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    small, large = BATCHES[0], BATCHES[-1]
    drop_without, drop_with = (
        difference("test error", a, b, SETS[0], 32).mean for a, b in (("dropout", "neither"), ("both", "batch norm"))
    )
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=difference("test error", "batch norm", "neither", SETS[0], 32),
        figures={
            "small": small,
            "large": large,
            "at_small": difference("test error", "batch norm", "neither", SETS[0], small).mean,
            "at_large": difference("test error", "batch norm", "neither", SETS[0], large).mean,
            "at_small2": difference("test error", "batch norm", "neither", SETS[1], small).mean,
            "at_large2": difference("test error", "batch norm", "neither", SETS[1], large).mean,
            "gap_large": difference("test minus training error", "batch norm", "neither", SETS[0], large).mean,
            "drop_without": drop_without,
            "drop_with": drop_with,
        },
    )


CLAIMS = (
    Claim(
        id="B2",
        statement="Batch norm stands just before the activation.",
        headline="Test error with batch norm before the activation minus after it, in points: {gains}. Before is "
        "clearly better in {better} of {all} cases, after in {worse}.",
        rule="Holds if before gives a lower test error than after on both data sets with both activations (paired 95% "
        "interval below 0); holds when … if in some of the four; does not hold if in none. Each arm chooses among 4 "
        "rates and 3 numbers of steps on validation images.",
        measure=measure_place,
        decide=decide_place,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="B6",
        statement="It acts like a regularizer, reducing the need for other regularization.",
        headline="Batch norm changes the test error by {at_small:+.1f} points in batches of {small} and "
        "{at_large:+.1f} in batches of {large} (mnist5k), {at_small2:+.1f} and {at_large2:+.1f} (emoji8). Dropout adds "
        "{drop_without:+.1f} points without batch norm and {drop_with:+.1f} with it (mnist5k, batches of 32).",
        rule="Holds if at each batch size, on both data sets, batch norm lowers the test error and narrows the gap "
        "between training and test error (paired 95% intervals below 0); holds when … if it lowers the test error on "
        "both sets at some batch size. Every arm chooses among 2 rates and 3 numbers of passes over 400 images.",
        measure=measure_regularizer,
        decide=decide_regularizer,
        seeds=tuple(range(8)),
    ),
)
