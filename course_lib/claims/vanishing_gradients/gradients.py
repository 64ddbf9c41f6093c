"""V1, V3, V4: gradients that vanish and that explode layer by layer, and whether saturation is the cause."""

from __future__ import annotations

import torch
from torch import Tensor

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import TUNING_SEEDS, images
from course_lib.claims.vanishing_gradients.nets import Deep, drawn, layer_gradients, train_deep

__all__ = ["CLAIMS"]

NETS = {start: Deep(10, 200, start=start) for start in ("PyTorch's default", "Glorot", "N(0, 1)")}
LAYERS = tuple(range(1, NETS["Glorot"].depth + 2))
EQUAL = slice(1, NETS["Glorot"].depth)  # layers 2 to 10, from 200 units to 200
STEPS = 150
PHASES = ("start", f"after {STEPS} steps")


def as_lists(values: Tensor) -> list[list[float]]:
    return values.double().tolist()


def factor_per_layer(norms: Tensor) -> Tensor:
    """The factor (M,) from one layer to the one below, fitted to log norms (layers, M) by least squares."""
    logs = norms.double().clamp(min=1e-30).log()
    place = torch.arange(len(logs), dtype=torch.float64)
    place = place - place.mean()
    return (-(place[:, None] * logs).sum(0) / place.square().sum()).exp()


# V1 ------------------------------------------------------------------------------------------------------


def measure_vanishing(seeds):
    """‖∂loss/∂W‖ of every layer on 500 training images, at the start and after some training by plain SGD."""
    data = images("mnist5k", halve=True)
    seen = drawn(data, 500, seeds)
    norms = {phase: {} for phase in PHASES}
    factors = {}
    for start, net in NETS.items():
        run = train_deep(net, data, seeds, lr=0.1, steps=STEPS)
        found = [layer_gradients(net, params, seen) for params in (run.start, run.params)]
        for phase, values in zip(PHASES, found, strict=True):
            norms[phase][start] = as_lists(values)
        factors[start] = as_lists(torch.stack([factor_per_layer(values[EQUAL]) for values in found]))
    series = [
        Series(f"gradient norm of the weights, {phase}", "", arms, x_name="layer, 1 next to the input", x=LAYERS)
        for phase, arms in norms.items()
    ]
    return Measured((*series, Series("factor from a layer to the one below", "times", factors, "phase", PHASES)))


def decide_vanishing(measured):
    factor = measured["factor from a layer to the one below"]
    shrinks = {
        start: all(Interval.of(start, "times", factor.values(start, phase)).high < 1 for phase in PHASES)
        for start in factor.arms
    }
    norm = measured[f"gradient norm of the weights, {PHASES[0]}"]
    which = [start for start, yes in shrinks.items() if yes]
    verdict = HOLDS if all(shrinks.values()) else HOLDS_WHEN if which else DOES_NOT_HOLD
    return Decision(
        verdict=verdict,
        condition=f"the weights start small: {' or '.join(which)}" if verdict == HOLDS_WHEN else "",
        interval=Interval.of("factor from a layer to the one below, Glorot", "times", factor.values("Glorot", "start")),
        figures={
            "default": factor.mean("PyTorch's default", "start"),
            "glorot": factor.mean("Glorot", "start"),
            "later": factor.mean("Glorot", PHASES[1]),
            "wide": factor.mean("N(0, 1)", "start"),
            "ratio": norm.mean("Glorot", LAYERS[-2]) / norm.mean("Glorot", 1),
            "steps": STEPS,
        },
    )


# V3 ------------------------------------------------------------------------------------------------------

SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
RATES = (0.003, 0.03, 0.3)
CLIPS = {"plain SGD": None, "clipped at norm 1": 1.0}


def measure_explosion(seeds):
    """Gradient norms at starts from too small to too large; training there, with and without clipping."""
    data = images("mnist5k", halve=True)
    seen = drawn(data, 500, seeds)
    norms = {"ReLU, He × scale": [], "sigmoid, Glorot × scale": []}
    errors = {arm: [] for arm in CLIPS}
    for scale in SCALES:
        relu = Deep(10, 64, "ReLU", "He", scale=scale)
        for arm, net in zip(norms, (relu, Deep(10, 64, "sigmoid", "Glorot", scale=scale)), strict=True):
            start = net.init(seen[0].shape[2], data.classes, seeds)
            norms[arm].append(layer_gradients(net, start, seen).norm(dim=0).tolist())
        for arm, clip in CLIPS.items():
            how = {"steps": 300, "clip": clip}
            valid = [float(train_deep(relu, data, TUNING_SEEDS, lr=lr, **how).errors["valid"].mean()) for lr in RATES]
            best = RATES[valid.index(min(valid))]
            errors[arm].append((100 * train_deep(relu, data, seeds, lr=best, **how).errors["test"]).tolist())
    axis = {"x_name": "scale of the initial weights", "x": SCALES}
    return Measured(
        (
            Series("gradient norm of the whole net at the start", "", norms, **axis),
            Series("test error, ReLU net", "%", errors, **axis),
        )
    )


def decide_explosion(measured):
    norm, error = measured["gradient norm of the whole net at the start"], measured["test error, ReLU net"]
    arm = "ReLU, He × scale"
    times = {scale: norm.values(arm, scale) / norm.values(arm, 1.0) for scale in SCALES}
    exploded = [scale for scale in SCALES if Interval.of("", "", times[scale]).low > 100]
    harmed = [
        scale
        for scale in exploded
        if Interval.of_difference("", "", error.values("plain SGD", scale), error.values("plain SGD", 1.0)).low > 20
    ]
    rescued = [
        scale
        for scale in SCALES
        if Interval.of_difference(
            "", "", error.values("clipped at norm 1", scale), error.values("plain SGD", scale)
        ).high
        < -10
    ]
    worst = harmed[0] if harmed else SCALES[-1]
    return Decision(
        verdict=HOLDS if harmed else DOES_NOT_HOLD,
        interval=Interval.of_difference(
            f"test error with clipping minus without, weights × {worst:g}",
            "points",
            error.values("clipped at norm 1", worst),
            error.values("plain SGD", worst),
        ),
        figures={
            "scale": worst,
            "times": float(times[worst].mean()),
            "sigmoid": norm.mean("sigmoid, Glorot × scale", worst) / norm.mean("sigmoid, Glorot × scale", 1.0),
            "plain": error.mean("plain SGD", worst),
            "clipped": error.mean("clipped at norm 1", worst),
            "good": error.mean("plain SGD", 1.0),
            "rescued": " and ".join(f"× {scale:g}" for scale in rescued) or "none of these",
        },
    )


# V4 ------------------------------------------------------------------------------------------------------


def activation_factors(net, params, data):
    """(measured, predicted, bound), each (M,): the factor of one layer on the gradient, the geometric mean over the
    layers 2 to 10; and the share of saturated values of every hidden layer, (depth, M).
    """
    x, y = data
    params = {name: value.detach().requires_grad_() for name, value in params.items()}
    z, _ = net.layers(params, x)
    losses = torch.nn.functional.cross_entropy(z[-1].flatten(0, 1), y.flatten(), reduction="sum")
    at_z = torch.autograd.grad(losses, z)
    slopes = [torch.sigmoid(v) * torch.sigmoid(-v) for v in z[:-1]]
    measured, predicted, bound = [], [], []
    for i in range(1, net.depth):
        weight = params[f"w{i}"].detach()  # (M, in, out)
        below, above = at_z[i] @ weight.mT, at_z[i + 1] @ params[f"w{i + 1}"].detach().mT
        measured.append(below.flatten(1).norm(dim=1) / above.flatten(1).norm(dim=1).clamp(min=1e-30))
        squares = (slopes[i].square().mean(1) * weight.square().sum(1)).sum(1) / weight.shape[2]
        predicted.append(squares.sqrt())
        bound.append(torch.linalg.matrix_norm(weight, 2) / 4)
    flat = torch.stack([(slope < 0.05 / 4).float().mean((1, 2)) for slope in slopes])
    means = [torch.stack(values).clamp(min=1e-30).log().mean(0).exp() for values in (measured, predicted, bound)]
    return *(mean.detach() for mean in means), flat.detach()


def measure_saturation(seeds):
    """Saturated shares and factors per layer, on 500 training images, at three starts, before training."""
    data = images("mnist5k", halve=True)
    seen = drawn(data, 500, seeds)
    flat = {}
    factors = {"measured": [], "predicted from slopes and weights": [], "bound: ¼ × the most that W stretches": []}
    for start, net in NETS.items():
        *means, shares = activation_factors(net, net.init(seen[0].shape[2], data.classes, seeds), seen)
        flat[start] = as_lists(100 * shares)
        for arm, values in zip(factors, means, strict=True):
            factors[arm].append(values.tolist())
    nobody = "where the weights are small, no unit is saturated"
    return Measured(
        (
            Series("saturated units", "%", flat, "hidden layer, 1 next to the input", LAYERS[:-1], identical=nobody),
            Series("factor of one layer on the gradient", "times", factors, "start of the weights", tuple(NETS)),
        )
    )


def decide_saturation(measured):
    factor, flat = measured["factor of one layer on the gradient"], measured["saturated units"]
    shares = {
        start: [sum(values) / len(values) for values in zip(*flat.arms[start], strict=True)] for start in flat.arms
    }
    shrinking = [start for start in NETS if Interval.of("", "", factor.values("measured", start)).high < 0.5]
    unsaturated = [start for start in shrinking if Interval.of("", "", shares[start]).high < 5]
    return Decision(
        verdict=DOES_NOT_HOLD if unsaturated or not shrinking else HOLDS,
        interval=Interval.of("saturated units with N(0, 1), over all layers", "%", shares["N(0, 1)"]),
        figures={
            "glorot_share": sum(shares["Glorot"]) / len(shares["Glorot"]),
            "glorot": factor.mean("measured", "Glorot"),
            "predicted": factor.mean("predicted from slopes and weights", "Glorot"),
            "bound": factor.mean("bound: ¼ × the most that W stretches", "Glorot"),
            "wide_share": sum(shares["N(0, 1)"]) / len(shares["N(0, 1)"]),
            "wide": factor.mean("measured", "N(0, 1)"),
        },
    )


CLAIMS = (
    Claim(
        id="V1",
        statement="In a 10-layer net of hundreds of sigmoid units the gradient shrinks layer by layer toward the "
        "input.",
        headline="From each layer to the one below, the gradient of the weights is multiplied by {default:.2f} with "
        "PyTorch's default weights and by {glorot:.2f} with Glorot's ({later:.2f} after {steps} steps of SGD): with "
        "Glorot's, the first layer's is {ratio:,.0f} times smaller than the tenth's. With weights from N(0, 1) the "
        "factor is {wide:.2f}.",
        rule="Holds if for every start of the weights, before and after training, the 95% interval of the fitted "
        "factor lies below 1; holds when … if for some starts only.",
        measure=measure_vanishing,
        decide=decide_vanishing,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="V3",
        statement="The opposite, explosion, exists too.",
        headline="With 10 ReLU layers and initial weights {scale:g} times He's, the gradient is {times:,.0f} times "
        "larger (in a sigmoid net {sigmoid:,.0f} times), and the test error after training is {plain:.0f}% instead of "
        "{good:.0f}%; with the gradient clipped at norm 1 it is {clipped:.0f}%. Clipping rescues the run at weights "
        "{rescued}.",
        rule="Holds if at some scale of the initial weights the gradient is over 100 times that at scale 1, and the "
        "test error there over 20 points higher (95% intervals). Clipping rescues where it lowers the error by over 10 "
        "points. Each arm chooses among 3 rates at each scale, on validation images.",
        measure=measure_explosion,
        decide=decide_explosion,
        seeds=tuple(range(6)),
    ),
    Claim(
        id="V4",
        statement="The cause is saturation: the sigmoid's slope is near 0 for large inputs.",
        headline="With Glorot's weights {glorot_share:.1f}% of the units are saturated, and still each layer "
        "multiplies the gradient by {glorot:.2f}; slopes and weights predict {predicted:.2f}, and no more than "
        "{bound:.2f} is possible. With weights from N(0, 1), {wide_share:.0f}% are saturated, and the factor is "
        "{wide:.2f}.",
        rule="Does not hold if at some start the gradient shrinks by more than half a layer (95% interval of the "
        "factor below 0.5) while under 5% of the units are saturated (slope under 5% of its steepest).",
        measure=measure_saturation,
        decide=decide_saturation,
        seeds=tuple(range(6)),
    ),
)
