"""D5, D6, D7, D9: where to drop and how much, what it gains, what it does to the units, and conv nets."""

import torch
from torch import Tensor

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import Option, images, train_all, tune_and_score
from course_lib.dropout import mutual_information, predictive_entropy
from course_lib.ensembles import MLP, ConvNet, Member, predict

__all__ = ["CLAIMS"]


def percent(values) -> list[float]:
    return [100 * float(value) for value in values]


# D5 ------------------------------------------------------------------------------------------------------

SITES = {"input": "input", "conv maps": "conv", "dense layer": "hidden", "output": "output"}
RATES = (0.0, 0.1, 0.3, 0.5, 0.7)
SETS = ("mnist5k", "emoji8")
FEW = 500  # training images of the conv nets of D5 and D9, in batches of BATCH
BATCH = 32
STEPS = (300, 600, 1200)  # validation picks one; dropout needs many
PASSES = STEPS[-1] * BATCH // FEW


def measure_places(seeds):
    """One conv net, dropout in one place at a time; the number of steps is chosen on validation for each
    point.
    """
    errors, valid_errors = [], []
    for name in SETS:
        data = images(name, halve=True)
        net = ConvNet(data.train[0].shape[1], data.train[0].shape[-1], data.classes, channels=(12, 24), hidden=96)
        members = [Member(seed=s, lr=2e-3, drop={site: p}) for site in SITES.values() for p in RATES[1:] for s in seeds]
        members = [Member(seed=s, lr=2e-3) for s in seeds] + members
        training = {"n_train": FEW, "steps": STEPS[-1], "score_at": STEPS, "batch_size": BATCH}
        curves = train_all(net, members, data, **training)
        by_point = [slice(i, i + len(seeds)) for i in range(0, len(members), len(seeds))]
        chosen = [int(curves.errors["valid"][:, point].mean(1).argmin()) for point in by_point]
        for part, kept in (("test", errors), ("valid", valid_errors)):
            scores = [percent(curves.errors[part][k, point]) for k, point in zip(chosen, by_point, strict=True)]
            arms = {}
            for i, place in enumerate(SITES):
                first = 1 + i * (len(RATES) - 1)
                arms[place] = [scores[0], *scores[first : first + len(RATES) - 1]]
            kept.append(Series(f"{part} error, {name}", "%", arms, "dropout rate p", RATES))
    return Measured(series=(*errors, *valid_errors))


def decide_places(measured):
    """For each place and set: the rate that validation likes best against none, and p = 0.5 against none."""
    gains: dict[tuple[str, str], Interval] = {}
    best: dict[tuple[str, str], float] = {}
    for name in SETS:
        test, valid = measured[f"test error, {name}"], measured[f"valid error, {name}"]
        for place in SITES:
            p = min(RATES[1:], key=lambda rate: valid.mean(place, rate))
            best[name, place] = p
            gains[name, place] = Interval.of_difference(
                f"test error, dropout in the {place} (p = {p}) minus none, {name}",
                "points",
                test.values(place, p),
                test.values(place, 0.0),
            )
    helps = [place for place in SITES if all(gains[name, place].high < 0 for name in SETS)]
    harms = [place for place in SITES if all(gains[name, place].low > 0 for name in SETS)]
    output = [
        Interval.of_difference("", "", s.values("output", 0.5), s.values("output", 0.0))
        for s in measured.series[: len(SETS)]
    ]
    wanted = [place for place in SITES if place != "output"]
    unclear = [place for place in SITES if place not in helps + harms]
    if helps == wanted and all(interval.low > 0 for interval in output):
        verdict, condition = HOLDS, ""
    elif helps:
        verdict = HOLDS_WHEN
        condition = "dropout lowers the error on both data sets in the " + " and the ".join(helps)
        condition += f"; no clear change in the {' and the '.join(unclear)}" if unclear else ""
        condition += f"; it harms in the {' and the '.join(harms)}" if harms else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SETS[0], "dense layer"],
        figures={
            "places": "; ".join(
                f"{place} {gains[SETS[0], place].mean:+.1f} (p = {best[SETS[0], place]}) and "
                f"{gains[SETS[1], place].mean:+.1f} (p = {best[SETS[1], place]})"
                for place in SITES
            ),
            "output": output[0].mean,
            "output2": output[1].mean,
        },
    )


# D6 ------------------------------------------------------------------------------------------------------

SIZES = {100: 600, 500: 1500, 2500: 3000}  # training images: the most steps; dropout needs many
TABLE_SETS = ("mnist5k", "animalshape")


def measure_gain(seeds):
    """The tuned net without dropout against the tuned net with it, for training sets of several sizes."""
    found, rates = [], {}
    for name in TABLE_SETS:
        data = images(name)
        net = MLP((784, 160, 160, data.classes))
        arms = {"without dropout": [], "with dropout": []}
        options = {
            "without dropout": [
                Option(net, Member(0, lr=lr, weight_decay=decay)) for lr in (1e-3, 3e-3) for decay in (0.0, 0.3)
            ],
            "with dropout": [
                Option(net, Member(0, lr=lr, drop=drop))
                for lr in (1e-3, 3e-3)
                for drop in ({"hidden": 0.25}, {"hidden": 0.5, "input": 0.1})
            ],
        }
        rates[name] = []
        for n, steps in SIZES.items():
            score_at = (steps // 8, steps // 4, steps // 2, steps)
            outcomes = tune_and_score(options, data, seeds, n_train=n, batch_size=32, score_at=score_at)
            for arm, outcome in outcomes.items():
                arms[arm].append(percent(outcome.errors))
            rates[name].append([outcomes["with dropout"].option.member.drop["hidden"]] * len(seeds))
        found.append(Series(f"test error, {name}", "%", arms, "training images", tuple(SIZES)))
    chosen = Series(
        "dropout rate that validation chose",
        "p",
        rates,
        "training images",
        tuple(SIZES),
        identical="two data sets may ask for the same rates",
    )
    return Measured(series=(*found, measure_narrow(seeds), chosen))


def measure_narrow(seeds) -> Series:
    """Nets with few units, half of them dropped: where dropout takes capacity that was needed."""
    data = images("mnist5k")
    widths, arms = (8, 16, 32, 160), {"without dropout": [], "p = 0.5 in the hidden layers": []}
    for width in widths:
        net = MLP((784, width, width, data.classes))
        members = [Member(seed=s, lr=3e-3, drop=drop) for drop in ({}, {"hidden": 0.5}) for s in seeds]
        curves = train_all(net, members, data, n_train=1500, steps=800, score_at=(100, 200, 400), batch_size=32)
        for i, arm in enumerate(arms):
            part = slice(i * len(seeds), (i + 1) * len(seeds))
            k = int(curves.errors["valid"][:, part].mean(1).argmin())
            arms[arm].append(percent(curves.errors["test"][k, part]))
    return Series("test error by width, mnist5k", "%", arms, "units in each hidden layer", widths)


def decide_gain(measured):
    gains = {
        (name, n): Interval.of_difference(
            f"test error, with dropout minus without, {name}, {n} training images",
            "points",
            measured[f"test error, {name}"].values("with dropout", n),
            measured[f"test error, {name}"].values("without dropout", n),
        )
        for name in TABLE_SETS
        for n in SIZES
    }
    helps = [key for key, gain in gains.items() if gain.high < 0]
    harms = [key for key, gain in gains.items() if gain.low > 0]
    narrow = measured["test error by width, mnist5k"]
    hurt = [
        width
        for width in narrow.x
        if Interval.of_difference(
            "", "", narrow.values("p = 0.5 in the hidden layers", width), narrow.values("without dropout", width)
        ).low
        > 0
    ]
    # 95% to 96-97% correct is a fifth to two fifths of the errors gone
    shares = [-gains[key].mean / measured[f"test error, {key[0]}"].mean("without dropout", key[1]) for key in gains]
    large = [key for key, share in zip(gains, shares, strict=True) if share >= 0.2 and gains[key].high < 0]
    if len(large) == len(gains):
        verdict, condition = HOLDS, ""
    elif helps:
        verdict = HOLDS_WHEN
        condition = "a gain beyond the noise at " + ", ".join(f"{n} images of {name}" for name, n in helps)
        condition += "; a fifth of the errors or more at " if large else "; nowhere a fifth of the errors"
        condition += ", ".join(f"{n} of {name}" for name, n in large)
        condition += "; worse at " + ", ".join(f"{n} of {name}" for name, n in harms) if harms else ""
        condition += f"; and the net is wide (p = 0.5 hurts at {', '.join(map(str, hurt))} units)" if hurt else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    best = max(gains, key=lambda key: -gains[key].mean)
    largest = (TABLE_SETS[0], max(SIZES))
    test = measured[f"test error, {TABLE_SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[largest],
        figures={
            "without": test.mean("without dropout", max(SIZES)),
            "with_": test.mean("with dropout", max(SIZES)),
            "n": max(SIZES),
            "share": 100 * shares[list(gains).index(largest)],
            "best": -gains[best].mean,
            "best_at": f"{best[1]} images of {best[0]}",
            "narrow": narrow.mean("p = 0.5 in the hidden layers", narrow.x[0])
            - narrow.mean("without dropout", narrow.x[0]),
            "width": narrow.x[0],
        },
    )


# D7 ------------------------------------------------------------------------------------------------------

GONE = (0.0, 0.1, 0.25, 0.5, 0.75)
MEASURES = ("entropy, 50 passes", "mutual information, 50 passes", "entropy, dropout off")


def measure_units(seeds):
    """How much units lean on each other, with and without dropout, and what the passes disagree about."""
    torch.manual_seed(seeds[0])
    lost, alike, wrong, strange = [], {"without dropout": [], "with dropout": []}, {}, {}
    for name, other in (TABLE_SETS, TABLE_SETS[::-1]):
        data, foreign = images(name), images(other)
        net = MLP((784, 256, 256, data.classes))
        members = [Member(seed=s, drop=drop) for drop in ({}, {"hidden": 0.5}) for s in seeds]
        params = train_all(net, members, data, n_train=1000, steps=600, batch_size=32).params
        pictures, labels = data.test[0][:500], data.test[1][:500]
        half = [
            {key: value[: len(seeds)] for key, value in params.items()},
            {key: value[len(seeds) :] for key, value in params.items()},
        ]
        errors = {}
        for arm, mine in zip(alike, half, strict=True):
            # a random share of the units is gone, the others are scaled up; the mean of 10 draws
            errors[arm] = [
                percent(
                    sum(
                        (predict(net, mine, pictures, rates={"hidden": q}).argmax(-1) != labels).float().mean(1)
                        for _ in range(10 if q else 1)
                    )
                    / (10 if q else 1)
                )
                for q in GONE
            ]
            x = pictures.unsqueeze(1).expand(-1, len(seeds), -1, -1, -1)
            alike[arm].append(correlation(torch.relu(net.layers(mine, x)[1])))
        lost.append(Series(f"test error with units gone, {name}", "%", errors, "share of hidden units gone", GONE))
        wrong[name], strange[name] = uncertainty(net, half[1], pictures, labels, foreign.test[0][:500])
    by_set = {arm: [wrong[name][arm] for name in TABLE_SETS] for arm in MEASURES}
    by_set_strange = {arm: [strange[name][arm] for name in TABLE_SETS] for arm in MEASURES}
    return Measured(
        series=(
            *lost,
            Series("mean absolute correlation of two units", "", alike, "data set", TABLE_SETS),
            Series("AUROC: finding its own errors", "", by_set, "data set", TABLE_SETS),
            Series("AUROC: finding images of the other set", "", by_set_strange, "data set", TABLE_SETS),
        )
    )


def correlation(h: Tensor) -> list[float]:
    """Mean |correlation| over pairs of units that are ever active: h (M, images, units) -> M values."""
    found = []
    for units in h:
        live = units[:, units.std(0) > 1e-6]
        r = torch.corrcoef(live.T).abs()
        found.append(float((r.sum() - r.trace()) / (len(r) * (len(r) - 1))))
    return found


def uncertainty(net, params, pictures: Tensor, labels: Tensor, foreign: Tensor):
    """Each measure's AUROC, net by net: for wrong against right answers, for foreign images against own."""
    wrong, strange = {arm: [] for arm in MEASURES}, {arm: [] for arm in MEASURES}
    both = torch.cat([pictures, foreign])
    passes = torch.stack([predict(net, params, both, rates={"hidden": 0.5}) for _ in range(50)])
    off = predict(net, params, both)
    for i in range(len(off)):
        doubts = (
            predictive_entropy(passes[:, i]),
            mutual_information(passes[:, i]),
            predictive_entropy(off[i : i + 1]),
        )
        mistaken = off[i, : len(labels)].argmax(-1) != labels
        for arm, doubt in zip(MEASURES, doubts, strict=True):
            wrong[arm].append(auroc(doubt[: len(labels)], mistaken))
            strange[arm].append(auroc(doubt, torch.arange(len(both)) >= len(labels)))
    return wrong, strange


def auroc(scores: Tensor, positive: Tensor) -> float:
    """The probability that a positive case scores higher than a negative one, ties counting half."""
    order = torch.searchsorted
    negatives = scores[~positive].sort().values
    below, upto = order(negatives, scores[positive]), order(negatives, scores[positive], right=True)
    return float((below + upto).double().mean() / 2 / len(negatives))


def decide_units(measured):
    robust = [
        Interval.of_difference(
            f"test error with half of the hidden units gone, with dropout minus without, {name}",
            "points",
            measured[f"test error with units gone, {name}"].values("with dropout", 0.5),
            measured[f"test error with units gone, {name}"].values("without dropout", 0.5),
        )
        for name in TABLE_SETS
    ]
    alike = measured["mean absolute correlation of two units"]
    less_alike = [
        Interval.of_difference("", "", alike.values("with dropout", n), alike.values("without dropout", n)).high < 0
        for n in TABLE_SETS
    ]
    errors, foreign = measured["AUROC: finding its own errors"], measured["AUROC: finding images of the other set"]
    mc, off = MEASURES[0], MEASURES[2]
    better = {
        label: [Interval.of_difference("", "", series.values(mc, n), series.values(off, n)).low > 0 for n in TABLE_SETS]
        for label, series in (("its own errors", errors), ("images of another set", foreign))
    }
    finds = [label for label, sets in better.items() if all(sets)]
    if not all(interval.high < 0 for interval in robust):
        verdict, condition = DOES_NOT_HOLD, ""
    elif all(less_alike) and len(finds) == len(better):
        verdict, condition = HOLDS, ""
    else:
        verdict = HOLDS_WHEN
        condition = "“sensitive” means harmed by missing units; the units' activations are "
        condition += "less" if all(less_alike) else "not less"
        condition += " correlated, and averaging passes beats the plain net's entropy at finding "
        condition += " and ".join(finds) if finds else "neither errors nor images of another set on both data sets"
    first = measured[f"test error with units gone, {TABLE_SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=robust[0],
        figures={
            "with_": first.mean("with dropout", 0.5),
            "without": first.mean("without dropout", 0.5),
            "r_with": alike.mean("with dropout", TABLE_SETS[0]),
            "r_without": alike.mean("without dropout", TABLE_SETS[0]),
            "mc": errors.mean(mc, TABLE_SETS[0]),
            "off": errors.mean(off, TABLE_SETS[0]),
            "mc_foreign": foreign.mean(mc, TABLE_SETS[0]),
            "off_foreign": foreign.mean(off, TABLE_SETS[0]),
        },
    )


# D9 ------------------------------------------------------------------------------------------------------


def measure_conv(seeds):
    """One small residual conv net, each remedy alone with four options; nothing is dropped in the dense
    layer.
    """
    series = []
    for name in SETS:
        data = images(name, halve=True)
        shape = {
            "in_channels": data.train[0].shape[1],
            "image_size": data.train[0].shape[-1],
            "classes": data.classes,
            "channels": (12, 24),
            "hidden": 96,
            "residual": True,
        }
        net = ConvNet(**shape)
        rates = (1e-3, 3e-3)
        fixed = [{"lr": lr, "weight_decay": decay} for lr in rates for decay in (0.0, 0.3)]
        options = {"none": [Option(net, Member(0, **how)) for how in fixed]}
        for arm, site, strengths in (
            ("plain dropout on the maps", "conv", (0.15, 0.35)),
            ("spatial dropout", "spatial", (0.1, 0.25)),
            ("drop path", "path", (0.2, 0.5)),
        ):
            options[arm] = [Option(net, Member(0, lr=lr, drop={site: p})) for lr in rates for p in strengths]
        options["stochastic pooling"] = [Option(ConvNet(**shape, stochastic=True), Member(0, **how)) for how in fixed]
        options["batch norm"] = [Option(ConvNet(**shape, norm=True), Member(0, **how)) for how in fixed]
        options["dropout in the dense layer instead"] = [
            Option(net, Member(0, lr=lr, drop={"hidden": p})) for lr in rates for p in (0.3, 0.5)
        ]
        outcomes = tune_and_score(options, data, seeds, n_train=FEW, batch_size=BATCH, score_at=STEPS)
        series.append(Series(f"test error, {name}", "%", {arm: [percent(o.errors)] for arm, o in outcomes.items()}))
    return Measured(series=tuple(series))


def decide_conv(measured):
    arms = [arm for arm in measured.series[0].arms if arm != "none"]
    gains = {
        arm: [
            Interval.of_difference(f"test error, {arm} minus none, {name}", "points", s.values(arm), s.values("none"))
            for name, s in zip(SETS, measured.series, strict=True)
        ]
        for arm in arms
    }
    on_maps = [arm for arm in arms if "dense" not in arm]
    helps = [arm for arm in on_maps if all(gain.high < 0 for gain in gains[arm])]
    harms = [arm for arm in on_maps if all(gain.low > 0 for gain in gains[arm])]
    best = min(on_maps, key=lambda arm: sum(gain.mean for gain in gains[arm]))
    if helps:
        verdict = HOLDS_WHEN
        condition = f"the remedy is {' or '.join(helps)}, which lowers the error on both data sets"
        rest = [arm for arm in on_maps if arm not in helps + harms]
        condition += f"; no clear gain on both from {', '.join(rest)}" if rest else ""
        condition += f"; worse with {', '.join(harms)}" if harms else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[best][0],
        figures={
            "none": measured.series[0].mean("none"),
            "none2": measured.series[1].mean("none"),
            "arms": "; ".join(f"{arm} {gains[arm][0].mean:+.1f} and {gains[arm][1].mean:+.1f}" for arm in arms),
        },
    )


CLAIMS = (
    Claim(
        id="D5",
        statement="Units of any layer but the output may be dropped; p is typically 0.5.",
        headline="Change of the test error at the rate that validation chose, in points on mnist5k and emoji8: "
        "{places}. Dropping half of the outputs changes it by {output:+.1f} and {output2:+.1f} points.",
        rule="Holds if, on both data sets, dropout in the input, the conv maps and the dense layer each lowers the "
        "test error at the rate chosen on validation (paired 95% interval below 0), and p = 0.5 on the outputs "
        f"raises it. Every point trains for at most {STEPS[-1]} steps ({PASSES} passes over {FEW} images); validation "
        "picks.",
        measure=measure_places,
        decide=decide_places,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="D6",
        statement="A 95% accurate network can reach 96 to 97% with dropout: a fifth to two fifths of its errors gone.",
        headline="With {n} training images of mnist5k the tuned net errs on {without:.1f}% without dropout and "
        "{with_:.1f}% with it: {share:.0f}% of the errors gone. The largest gain is {best:.1f} points, at {best_at}. "
        "In a net of {width} units a layer p = 0.5 costs {narrow:.1f} points.",
        rule="Holds if at every size of both sets a fifth of the errors or more is gone, beyond the noise (paired "
        "95% interval below 0); holds when … if the error falls beyond the noise somewhere. Each arm chooses among 4 "
        "settings and 4 numbers of steps, at most 38 passes over 2,500 images and more over fewer.",
        measure=measure_gain,
        decide=decide_gain,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="D7",
        statement="Each step trains another thinned network, so units grow less sensitive to their neighbours; and the "
        "passes' disagreement tells where the net is unsure.",
        headline="With half of the hidden units gone the test error is {with_:.1f}% in nets trained with dropout, "
        "{without:.1f}% without (mnist5k). Two units' activations correlate by {r_with:.2f} against {r_without:.2f}. "
        "The entropy of 50 passes finds the net's errors with AUROC {mc:.3f}, of one plain pass {off:.3f}; images of "
        "another set with {mc_foreign:.3f} against {off_foreign:.3f}.",
        rule="Does not hold unless, on both data sets, nets trained with dropout lose less when half of the units are "
        "gone; holds outright if units are also less correlated and the passes' entropy beats the plain net's, both "
        "for its errors and for images of the other set (paired 95% intervals).",
        measure=measure_units,
        decide=decide_units,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="D9",
        statement="Dropout is rarely used on conv layers; other ways of regularizing them serve instead.",
        headline="Without any the conv net errs on {none:.1f}% (mnist5k) and {none2:.1f}% (emoji8); each tuned remedy "
        "alone changes that, in points, by: {arms}.",
        rule="Holds when a remedy on the conv maps lowers the test error on both sets (paired 95% intervals below "
        f"0); does not hold if none does. Each arm chooses among 4 settings and {len(STEPS)} numbers of steps, at most "
        f"{STEPS[-1]} ({PASSES} passes over {FEW} images).",
        measure=measure_conv,
        decide=decide_conv,
        seeds=tuple(range(8)),
    ),
)
