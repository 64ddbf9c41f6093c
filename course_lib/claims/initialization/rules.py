"""I2, I3: Glorot's rule for the logistic function, He's for ReLU and its kin."""

import torch
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import images
from course_lib.claims.initialization.starts import (
    Arm,
    flow,
    glorot,
    glorot_times_four,
    glorot_uniform,
    he,
    one_hundredth,
    tune_starts,
)
from course_lib.quiet import load_keras

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "animalshape")
WIDTH = 64

# I2 ------------------------------------------------------------------------------------------------------

STARTS = {
    "Glorot, normal": glorot,
    "Glorot, uniform": glorot_uniform,
    "Glorot × 4": glorot_times_four,
    "He, normal": he,
    "N(0, 0.01²)": one_hundredth,
}
SATURATING = {"logistic": "sigmoid", "tanh": "tanh"}
LAYERS = 5


def measure_glorot(seeds):
    """What the frameworks' Glorot draws measure, and sigmoid and tanh nets from five starts."""
    series = [drawn_deviations(seeds)]
    for name in SETS:
        arms = {
            f"{start}, {activation}": Arm(function, SATURATING[activation])
            for activation in SATURATING
            for start, function in STARTS.items()
        }
        scored = tune_starts(
            arms, images(name, halve=True), seeds, hidden=[WIDTH] * LAYERS, rates=(1e-3, 3e-3, 1e-2), steps=400
        )
        errors = {start: [list(scored[f"{start}, {act}"].errors) for act in SATURATING] for start in STARTS}
        series.append(
            Series(f"test error, {LAYERS} hidden layers, {name}", "%", errors, "activation", tuple(SATURATING))
        )
    return Measured(series=tuple(series))


def drawn_deviations(seeds) -> Series:
    """The deviation of 200 × 300 weights over the rule's, drawn by each framework."""
    keras, rule = load_keras(), (2 / 500) ** 0.5
    found = {"normal": [[], []], "uniform": [[], []]}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(200, 300)
        for kind, torch_draw, keras_draw in (
            ("normal", nn.init.xavier_normal_, keras.initializers.GlorotNormal),
            ("uniform", nn.init.xavier_uniform_, keras.initializers.GlorotUniform),
        ):
            found[kind][0].append(float(torch_draw(weight, generator=generator).std()) / rule)
            found[kind][1].append(float(keras.ops.convert_to_numpy(keras_draw(seed=seed)((300, 200))).std()) / rule)
    return Series("deviation drawn over √(2/(fan_in + fan_out))", "times", found, "framework", ("PyTorch", "Keras"))


def decide_glorot(measured):
    drawn, *errors = measured.series
    beats, beaten = {}, {}
    for activation in SATURATING:
        naive = [
            Interval.of_difference(
                "", "points", s.values("Glorot, normal", activation), s.values("N(0, 0.01²)", activation)
            )
            for s in errors
        ]
        beats[activation] = all(interval.high < 0 for interval in naive)
        beaten[activation] = [
            other
            for other in STARTS
            if not other.startswith("Glorot, ")
            and any(
                Interval.of_difference(
                    "", "points", s.values("Glorot, normal", activation), s.values(other, activation)
                ).low
                > 1
                for s in errors
            )
        ]
    good = [activation for activation in SATURATING if beats[activation] and not beaten[activation]]
    if "logistic" in good:
        verdict, condition = HOLDS, ""
    elif good:
        verdict, condition = HOLDS_WHEN, "the activation is tanh; with the logistic function "
        condition += f"{' and '.join(beaten['logistic'])} did better" if beaten["logistic"] else "it gains nothing"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = errors[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of_difference(
            f"test error, Glorot minus Glorot × 4, logistic, {SETS[0]}",
            "points",
            first.values("Glorot, normal", "logistic"),
            first.values("Glorot × 4", "logistic"),
        ),
        figures={
            "off": 100 * max(abs(drawn.mean(arm, f) - 1) for arm in drawn.arms for f in drawn.x),
            "layers": LAYERS,
            "logistic": first.mean("Glorot, normal", "logistic"),
            "four": first.mean("Glorot × 4", "logistic"),
            "naive": first.mean("N(0, 0.01²)", "logistic"),
            "tanh": first.mean("Glorot, normal", "tanh"),
            "tanh_naive": first.mean("N(0, 0.01²)", "tanh"),
        },
    )


# I3 ------------------------------------------------------------------------------------------------------

RECTIFIERS = {"ReLU": ("relu", torch.relu), "ELU": ("elu", torch.nn.functional.elu)}
DEPTHS = (4, 12, 24)
DEEP = 50
PAIR = {"Glorot": glorot, "He": he}


def measure_he(seeds):
    """The signal after 50 layers, and nets of growing depth, under Glorot's and He's draw."""
    pictures = images(SETS[0], halve=True).test[0][:256].flatten(1)
    sizes = (196, *[WIDTH] * DEEP)
    kept = {name: [] for name in PAIR}
    for _, function in RECTIFIERS.values():
        for name, start in PAIR.items():
            flows = [flow(start, sizes, function, pictures, seed)[0] for seed in seeds]
            kept[name].append([there[-1] / there[0] for there in flows])
    series = [Series(f"variance after {DEEP} layers over the first's", "times", kept, "activation", tuple(RECTIFIERS))]
    for name in SETS:
        data = images(name, halve=True)
        errors = {f"{start}, {activation}": [] for activation in RECTIFIERS for start in PAIR}
        for depth in DEPTHS:
            arms = {
                f"{start}, {activation}": Arm(function, by_name)
                for activation, (by_name, _) in RECTIFIERS.items()
                for start, function in PAIR.items()
            }
            scored = tune_starts(arms, data, seeds, hidden=[WIDTH] * depth, rates=(3e-4, 1e-3, 3e-3), steps=300)
            for arm, outcome in scored.items():
                errors[arm].append(list(outcome.errors))
        series.append(Series(f"test error, {name}", "%", errors, "hidden layers", DEPTHS))
    return Measured(series=tuple(series))


def decide_he(measured):
    kept, *errors = measured.series
    gains = {
        (activation, depth): [
            Interval.of_difference(
                f"{s.name}, Glorot minus He, {activation}, {depth} hidden layers",
                "points",
                s.values(f"Glorot, {activation}", depth),
                s.values(f"He, {activation}", depth),
            )
            for s in errors
        ]
        for activation in RECTIFIERS
        for depth in DEPTHS
    }
    better = [key for key, found in gains.items() if all(interval.low > 0 for interval in found)]
    worse = [key for key, found in gains.items() if all(interval.high < 0 for interval in found)]
    if len(better) == len(gains):
        verdict, condition = HOLDS, ""
    elif better:
        verdict = HOLDS_WHEN
        condition = "He's draw is the better one, on both data sets, with "
        condition += ", ".join(f"{depth} {activation} layers" for activation, depth in better)
        condition += "; the worse one with " if worse else "; elsewhere the two don't differ beyond the noise"
        condition += ", ".join(f"{depth} {activation} layers" for activation, depth in worse)
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    deepest, first = DEPTHS[-1], errors[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains["ReLU", deepest][0],
        figures={
            "deep": DEEP,
            "glorot_kept": kept.mean("Glorot", "ReLU"),
            "he_kept": kept.mean("He", "ReLU"),
            "glorot_elu": kept.mean("Glorot", "ELU"),
            "he_elu": kept.mean("He", "ELU"),
            "deepest": deepest,
            "glorot": first.mean("Glorot, ReLU", deepest),
            "he": first.mean("He, ReLU", deepest),
            "elu_glorot": first.mean("Glorot, ELU", deepest),
            "elu_he": first.mean("He, ELU", deepest),
        },
    )


CLAIMS = (
    Claim(
        id="I2",
        statement="With the logistic function, start from Glorot's draw: normal with variance 2/(fan_in + fan_out), "
        "or uniform in ±√(6/(fan_in + fan_out)).",
        headline="Both frameworks draw that deviation within {off:.1f}%. With {layers} logistic layers the test "
        "error is {logistic:.1f}% from it, {four:.1f}% from four times it and {naive:.1f}% from N(0, "
        "0.01²); with tanh {tanh:.1f}%, and {tanh_naive:.1f}% from N(0, 0.01²) (mnist5k).",
        rule="Good for an activation if on both data sets Glorot's normal draw beats N(0, 0.01²) (paired 95% "
        "interval of the test error below 0) and no other start beats it by more than a point on either. "
        "Holds if good for the logistic function; holds when … if for tanh alone.",
        measure=measure_glorot,
        decide=decide_glorot,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="I3",
        statement="He's initialization is the one to pair with ReLU and its kin.",
        headline="After {deep} ReLU layers {he_kept:.2g} of the first layer's variance is left under He's draw, "
        "{glorot_kept:.0e} under Glorot's; with ELU {he_elu:.2g} and {glorot_elu:.0e}. With {deepest} "
        "hidden layers the test error is {he:.1f}% against {glorot:.1f}% (ReLU) and {elu_he:.1f}% against "
        "{elu_glorot:.1f}% (ELU), mnist5k.",
        rule="Holds if for ReLU and ELU, at every depth and on both data sets, the paired 95% interval of the "
        "extra test error under Glorot's draw lies above 0; holds when … if for some of them.",
        measure=measure_he,
        decide=decide_he,
        seeds=tuple(range(6)),
    ),
)
