"""R1, R2, R3: both errors against λ; what a larger λ does, and by which rule; ℓ1, ℓ2, biases, and the frameworks."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.experiments import TUNING_SEEDS, images
from course_lib.claims.regularization.dense import Rule, subset, train_dense, wrong_labels
from course_lib.quiet import load_keras

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "animalshape")
FEW, WRONG, STEPS = 300, 0.2, 500
STRENGTHS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def halved(name: str):
    """(train, valid, test) with images (N, 14, 14), standardized, and the number of classes."""
    data = images(name, halve=True)
    return *((x[:, 0], y) for x, y in (data.train, data.valid, data.test)), data.classes


def in_words(values) -> tuple[str, ...]:
    """The values as text: an axis on which 0 and 0.001 can both be seen."""
    return tuple(f"{value:g}" for value in values)


def percent(values) -> list[float]:
    return [100 * float(value) for value in values]


def small_sets(name: str, seeds, *, n: int = FEW, wrong: float = 0.0):
    """Each seed's n training images, some of them with a wrong label; validation, test and the number of classes."""
    train, valid, test, classes = halved(name)
    own = {s: subset(train, n, s) for s in seeds}
    return {s: wrong_labels(d, wrong, classes, s) for s, d in own.items()}, valid, test, classes


# R1 ------------------------------------------------------------------------------------------------------


def measure_both_errors(seeds):
    found = []
    for name in SETS:
        for wrong in (0.0, WRONG):
            own, valid, test, classes = small_sets(name, seeds, wrong=wrong)
            rules = [Rule(s, decay=strength) for strength in STRENGTHS for s in seeds]
            curves = train_dense(rules, own, {"valid": valid, "test": test}, classes=classes, steps=STEPS)
            label = f"{name}, {wrong:.0%} of the labels wrong" if wrong else name
            by = {part: curves.errors[part][-1].view(len(STRENGTHS), -1) for part in ("train", "valid", "test")}
            arms = {f"{part} error": [percent(v) for v in values] for part, values in by.items()}
            same = "a net without a penalty may learn every training image"
            found.append(Series(label, "% wrong", arms, "weight decay λ", in_words(STRENGTHS), identical=same))
    return Measured(series=found)


def decide_both_errors(measured):
    gains, costs, chosen = {}, {}, {}
    for series in measured.series:
        best = min(STRENGTHS[1:], key=lambda s, series=series: series.mean("valid error", f"{s:g}"))
        chosen[series.name] = best
        for part, kept in (("test error", gains), ("train error", costs)):
            kept[series.name] = Interval.of_difference(
                f"{part}, λ = {best:g} minus none, {series.name}",
                "points",
                series.values(part, f"{best:g}"),
                series.values(part, "0"),
            )
    good = [name for name in gains if gains[name].high < 0 and costs[name].high >= 0]
    if len(good) == len(gains):
        verdict, condition = HOLDS, ""
    elif good:
        verdict, condition = HOLDS_WHEN, "measured here: " + "; ".join(good)
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    clean, noisy = measured.series[0].name, measured.series[1].name
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[noisy],
        figures={
            "clean": gains[clean].mean,
            "clean_train": costs[clean].mean,
            "noisy": gains[noisy].mean,
            "noisy_train": costs[noisy].mean,
            "strength": chosen[noisy],
        },
    )


# R2 ------------------------------------------------------------------------------------------------------

PENALTIES = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)


def measure_strength(seeds):
    norms, errors = {}, []
    for name in SETS:
        own, valid, test, classes = small_sets(name, seeds, wrong=WRONG)
        rules = [Rule(s, l2=strength) for strength in PENALTIES for s in seeds]
        curves = train_dense(rules, own, {"valid": valid, "test": test}, classes=classes, steps=STEPS)
        size = (curves.params["w0"].square().sum((1, 2)) + curves.params["w1"].square().sum((1, 2))).sqrt()
        norms[name] = size.view(len(PENALTIES), -1).tolist()
        arms = {
            part: [percent(v) for v in curves.errors[part][-1].view(len(PENALTIES), -1)] for part in ("train", "test")
        }
        errors.append(Series(f"errors, {name}", "% wrong", arms, "ℓ2 penalty λ", in_words(PENALTIES)))
    return Measured(
        series=(
            Series("norm of all weights", "‖w‖", norms, "ℓ2 penalty λ", in_words(PENALTIES)),
            *errors,
            *(measure_rules(name, seeds) for name in SETS),
        )
    )


def measure_rules(name: str, seeds) -> Series:
    """The penalty in the loss against a decay of the weights beside it, under both step rules; λ by validation."""
    own, valid, test, classes = small_sets(name, (*TUNING_SEEDS, *seeds), wrong=WRONG)
    arms = {}
    options = {True: (3e-3, 1e-2, 3e-2, 0.1), False: (3e-3, 1e-2, 3e-2, 0.1)}
    for adam, lr in ((False, 0.1), (True, 2e-3)):
        # under Adam a decay of λ/lr·… is another thing than a penalty of λ: it gets a range of its own
        decays = tuple(30 * o for o in options[adam]) if adam else options[adam]
        for arm, key, values in (("penalty in the loss", "l2", options[adam]), ("decay beside it", "decay", decays)):
            every = (*TUNING_SEEDS, *seeds)
            rules = [Rule(s, adam=adam, lr=lr, **{key: value}) for value in values for s in every]
            curves = train_dense(rules, own, {"valid": valid, "test": test}, classes=classes, steps=STEPS)
            k = len(TUNING_SEEDS)
            validated = curves.errors["valid"][-1].view(len(values), -1)[:, :k].mean(1)
            tested = curves.errors["test"][-1].view(len(values), -1)[int(validated.argmin()), k:]
            arms[f"{'Adam' if adam else 'gradient descent'}, {arm}"] = [percent(tested)]
    same = "under plain gradient descent the two are one rule; on the same λ they differ by rounding at most"
    return Series(f"test error by rule, {name}", "% wrong", arms, identical=same)


def decide_strength(measured):
    norm = measured["norm of all weights"]
    falling = all(
        all(a > b for a, b in pairwise(values))
        for values in ([norm.mean(name, s) for s in in_words(PENALTIES)] for name in SETS)
    )
    over, under, best_at = {}, {}, {}
    for name in SETS:
        errors = measured[f"errors, {name}"]
        best = min(in_words(PENALTIES), key=lambda s, errors=errors: errors.mean("test", s))
        best_at[name] = best
        over[name] = Interval.of_difference("", "", errors.values("test", best), errors.values("test", "0"))
        under[name] = Interval.of_difference(
            f"test error, λ = {PENALTIES[-1]:g} minus λ = {best}, {name}",
            "points",
            errors.values("test", f"{PENALTIES[-1]:g}"),
            errors.values("test", best),
        )
    bent = all(over[name].high < 0 < under[name].low for name in SETS)
    rules = [measured[f"test error by rule, {name}"] for name in SETS]
    adam = [
        Interval.of_difference("", "", r.values("Adam, decay beside it"), r.values("Adam, penalty in the loss"))
        for r in rules
    ]
    plain = max(
        float(
            np.abs(
                r.values("gradient descent, decay beside it") - r.values("gradient descent, penalty in the loss")
            ).max()
        )
        for r in rules
    )
    first = measured[f"errors, {SETS[0]}"]
    return Decision(
        verdict=HOLDS if falling and bent else DOES_NOT_HOLD,
        interval=under[SETS[0]],
        figures={
            "none": first.mean("test", "0"),
            "best": first.mean("test", best_at[SETS[0]]),
            "best_at": best_at[SETS[0]],
            "most": first.mean("test", f"{PENALTIES[-1]:g}"),
            "norm": norm.mean(SETS[0], f"{PENALTIES[-1]:g}") / norm.mean(SETS[0], "0"),
            "plain": plain,
            "adam": f"{adam[0].mean:+.1f} ({adam[0].low:+.1f} to {adam[0].high:+.1f})",
            "adam2": f"{adam[1].mean:+.1f} ({adam[1].low:+.1f} to {adam[1].high:+.1f})",
        },
    )


# R3 ------------------------------------------------------------------------------------------------------

LASSO = (1e-4, 3e-4, 1e-3, 3e-3)


def measure_kinds(seeds):
    """ℓ1 by its gradient and by the soft threshold, ℓ2, both: zeros and test error; biases in or out."""
    zeros, errors, biases = [], {}, {}
    arms = {
        "no penalty": [{}] * 4,
        "ℓ1, soft threshold": [{"l1": s, "prox": True} for s in LASSO],
        "ℓ1, by its gradient": [{"l1": s} for s in LASSO],
        "ℓ2": [{"l2": s} for s in (3e-3, 1e-2, 3e-2, 0.1)],
        "both, soft threshold": [
            {"l1": s, "prox": True, "l2": r} for s, r in zip(LASSO, (3e-3, 1e-2) * 2, strict=True)
        ],
    }
    every = (*TUNING_SEEDS, *seeds)
    k = len(TUNING_SEEDS)
    for name in SETS:
        own, valid, test, classes = small_sets(name, every, wrong=WRONG)
        parts = {"valid": valid, "test": test}
        errors[name], share, biases[name] = {}, {}, {}
        for arm, options in arms.items():
            rules = [Rule(s, adam=False, lr=0.1, **option) for option in options for s in every]
            curves = train_dense(rules, own, parts, classes=classes, steps=STEPS)
            best = int(curves.errors["valid"][-1].view(4, -1)[:, :k].mean(1).argmin())
            rows = slice(best * len(every) + k, (best + 1) * len(every))
            errors[name][arm] = [percent(curves.errors["test"][-1][rows])]
            share[arm] = [percent((curves.params["w0"][rows] == 0).float().mean((1, 2)))]
        same = "without a soft threshold no weight may be exactly 0"
        zeros.append(Series(f"weights of the first layer at exactly 0, {name}", "%", share, identical=same))
        for both in (False, True):
            rules = [Rule(s, adam=False, lr=0.1, l2=r, biases=both) for r in (3e-3, 1e-2, 3e-2, 0.1) for s in every]
            curves = train_dense(rules, own, parts, classes=classes, steps=STEPS)
            best = int(curves.errors["valid"][-1].view(4, -1)[:, :k].mean(1).argmin())
            rows = slice(best * len(every) + k, (best + 1) * len(every))
            biases[name]["biases penalized too" if both else "weights alone"] = percent(curves.errors["test"][-1][rows])
    by_bias = {arm: [biases[name][arm] for name in SETS] for arm in ("weights alone", "biases penalized too")}
    return Measured(
        series=(
            *zeros,
            *(Series(f"test error, {name}", "% wrong", errors[name]) for name in SETS),
            Series("test error with ℓ2, biases left out or in", "% wrong", by_bias, "data set", SETS),
        ),
        tables=(collected_penalties(),),
    )


def collected_penalties() -> Table:
    """How each framework collects Σw² over a net of 5 → 4 → 3 with a bias each: which parameters it reaches."""
    keras = load_keras()
    rows = []
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    for words, groups in (
        ("SGD(model.parameters(), weight_decay=λ)", [{"params": list(net.parameters())}]),
        (
            "two groups, weight_decay=0 for the biases",
            [
                {"params": [p for p in net.parameters() if p.dim() > 1]},
                {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0},
            ],
        ),
    ):
        with torch.no_grad():
            for p in net.parameters():
                p.fill_(1.0)
        optimizer = torch.optim.SGD(groups, lr=1.0, weight_decay=0.1)
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        moved = [name for name, p in net.named_parameters() if float(p.flatten()[0].detach()) < 1]
        kinds = sorted({name.rpartition(".")[2] for name in moved})
        seen = float(net[0].weight[0, 0].detach())
        rows.append(
            ("PyTorch", words, " and ".join(kinds), f"a step without gradient: w from 1 to {seen:.2f} (lr·λ = 0.1)")
        )

    def built(**how):
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, **how), keras.layers.Dense(3, **how)])
        for weight in model.weights:
            weight.assign(np.ones(weight.shape, "float32"))
        return model

    def seen(model) -> str:
        return f"{sum(float(loss) for loss in model.losses):.1f}" if model.losses else "nothing"

    rule = keras.regularizers.L2(0.1)
    late = built()
    for layer in late.layers:
        layer.kernel_regularizer = rule
    variable = built()
    for layer in variable.layers:
        layer.kernel.regularizer = rule
    kernels = 5 * 4 + 4 * 3
    for words, model, reached in (
        ("kernel_regularizer=L2(λ) when the layer is made", built(kernel_regularizer=rule), "kernels"),
        (
            "kernel_ and bias_regularizer",
            built(kernel_regularizer=rule, bias_regularizer=rule),
            "kernels and biases",
        ),
        ("layer.kernel_regularizer = L2(λ) once it is built", late, "none"),
        ("layer.kernel.regularizer = L2(λ) once it is built", variable, "kernels"),
    ):
        expected = f"λ Σw² over the kernels is {0.1 * kernels:.1f}"
        rows.append(("Keras", words, reached, f"model.losses: {seen(model)} ({expected})"))
    return Table("how a penalty is collected", ("framework", "way", "what is penalized", "what was seen"), rows)


def decide_kinds(measured):
    sparse, fair = {}, {}
    for name in SETS:
        zeros, errors = measured[f"weights of the first layer at exactly 0, {name}"], measured[f"test error, {name}"]
        sparse[name] = (zeros.mean("ℓ1, soft threshold"), zeros.mean("ℓ1, by its gradient"))
        fair[name] = {
            arm: Interval.of_difference("", "", errors.values(arm), errors.values("no penalty"))
            for arm in ("ℓ1, soft threshold", "ℓ2", "both, soft threshold")
        }
    bias = measured["test error with ℓ2, biases left out or in"]
    out = {
        name: Interval.of_difference(
            f"test error, biases penalized too minus weights alone, {name}",
            "points",
            bias.values("biases penalized too", name),
            bias.values("weights alone", name),
        )
        for name in SETS
    }
    helps = all(interval.high < 0 for arms in fair.values() for interval in arms.values())
    better_out = all(interval.low > 0 for interval in out.values())
    if helps and better_out:
        verdict, condition = HOLDS, ""
    elif helps:
        verdict = HOLDS_WHEN
        condition = "it is about the kinds of penalty: each lowers the test error here; leaving the biases out gains "
        condition += "nothing that can be seen" if all(i.high >= 0 for i in out.values()) else "nothing, it costs"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = SETS[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=out[first],
        figures={
            "zeros": sparse[first][0],
            "zeros_gradient": sparse[first][1],
            "gains": "; ".join(f"{arm} {i.mean:+.1f}" for arm, i in fair[first].items()),
            "gains2": "; ".join(f"{arm} {i.mean:+.1f}" for arm, i in fair[SETS[1]].items()),
            "bias": out[first].mean,
            "bias2": out[SETS[1]].mean,
        },
    )


CLAIMS = (
    Claim(
        id="R1",
        statement="Regularization lowers generalization error, not training error.",
        headline="mnist5k, 300 images: weight decay changes the test error by {clean:+.1f} points and the training "
        "error by {clean_train:+.1f}. With a fifth of the labels wrong: the test error by {noisy:+.1f}, the training "
        "error by {noisy_train:+.1f} (λ = {strength:g}).",
        rule="For each of two sets, with clean labels and with a fifth wrong: the λ that validation prefers must lower "
        "the test error (paired 95% interval below 0) without lowering the training error. Holds if so in all four, "
        "holds when … if in some.",
        measure=measure_both_errors,
        decide=decide_both_errors,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="R2",
        statement="Weight decay adds λ·wᵀw to the cost: a larger λ gives smaller weights and less overfitting, then "
        "underfitting.",
        headline="mnist5k with a fifth of the labels wrong: test error {none:.1f}% without, {best:.1f}% at "
        "λ = {best_at}, {most:.1f}% at the largest λ, whose weights are {norm:.2f} × as large. Penalty or decay: "
        "under "
        "gradient descent they differ by {plain:.1f} points at most; under Adam decay minus penalty is {adam} points "
        "on "
        "mnist5k, {adam2} on animalshape.",
        rule="Holds if on both sets the norm falls with every λ, some λ beats none, and the largest is worse than the "
        "best (paired 95% intervals). The two rules are compared with λ chosen from 4 values on validation.",
        measure=measure_strength,
        decide=decide_strength,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="R3",
        statement="Penalize by ℓ1, ℓ2 or both; the weights, not the biases.",
        headline="A fifth of the labels wrong. Against no penalty, in points of test error: {gains} (mnist5k); "
        "{gains2} "
        "(animalshape). Weights at exactly 0 under ℓ1: {zeros:.0f}% with the soft threshold, {zeros_gradient:.0f}% by "
        "its gradient. Penalizing biases too changes {bias:+.2f} and {bias2:+.2f} points.",
        rule="Holds if on both sets every kind lowers the test error against none, and penalizing the biases too "
        "raises "
        "it (paired 95% intervals); holds when … if only the first is so. Each arm chooses among 4 strengths.",
        measure=measure_kinds,
        decide=decide_kinds,
        seeds=tuple(range(8)),
    ),
)
