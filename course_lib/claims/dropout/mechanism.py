"""D1 to D4: the expected signal, the ensemble, all units at test, and what forgetting the scale costs."""

import torch
from torch import Tensor

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import images, train_all
from course_lib.dropout import (
    all_masks,
    classic_dropout,
    ensemble_average,
    inverted_dropout,
    sample_mask,
    weight_scaled,
)
from course_lib.ensembles import MLP, Member, Params, predict

__all__ = ["CLAIMS"]

RATES = (0.1, 0.3, 0.5, 0.7)
TRAINING = {"n_train": 1000, "steps": 500, "batch_size": 32}


def as_lists(values: Tensor) -> list[list[float]]:
    """(X, seeds) -> lists."""
    return values.double().tolist()


# D1 ------------------------------------------------------------------------------------------------------


def measure_signal(seeds):
    """What the second layer receives from the first, mask by mask, in nets trained with dropout."""
    data = images("mnist5k")
    net = MLP((784, 256, 10))
    curves = train_all(net, [Member(seed=s, drop={"hidden": 0.5}) for s in seeds], data, **TRAINING)
    x = data.test[0][:100].unsqueeze(1).expand(-1, len(seeds), -1, -1, -1)
    h = torch.relu(net.layers(curves.params, x)[0])  # (seeds, 100, 256)
    w = curves.params["w1"]
    ratios = {"no remedy": [], "weights × (1 − p) at test": [], "÷ (1 − p) while training": []}
    spread = {"training": [], "test": []}
    torch.manual_seed(seeds[0])
    for p in RATES:
        test = {
            "no remedy": h @ w,
            "weights × (1 − p) at test": h @ weight_scaled(w, p),
            "÷ (1 − p) while training": h @ w,
        }
        for arm, at_test in test.items():
            scaled = arm.startswith("÷")
            received = torch.zeros_like(at_test)
            for _ in range(100):
                mask = sample_mask(h.shape, p)
                dropped = inverted_dropout(h, p, mask) if scaled else classic_dropout(h, p, mask, training=True)
                received += dropped @ w / 100
            # linear in `received`, so that its noise does not bias the ratio
            ratios[arm].append(at_test.square().sum((1, 2)) / (at_test * received).sum((1, 2)))
        one, two = (inverted_dropout(h, p, sample_mask(h.shape, p)) @ w for _ in range(2))
        size = (h @ w).square().sum((1, 2)).sqrt()
        spread["training"].append(100 * (one - two).square().sum((1, 2)).sqrt() / size)
        one, two = (net.forward(curves.params, x) for _ in range(2))
        spread["test"].append(100 * (one - two).square().sum((1, 2)).sqrt() / size)
    return Measured(
        series=(
            Series(
                "test signal over training signal",
                "times",
                {arm: as_lists(torch.stack(values)) for arm, values in ratios.items()},
                x_name="dropout rate p",
                x=RATES,
            ),
            Series(
                "difference between two passes of the same image",
                "% of the signal",
                {arm: as_lists(torch.stack(values)) for arm, values in spread.items()},
                x_name="dropout rate p",
                x=RATES,
            ),
        )
    )


def decide_signal(measured):
    ratio = measured["test signal over training signal"]
    remedies = [arm for arm in ratio.arms if arm != "no remedy"]
    worst = 0.0
    for arm in remedies:
        for p in RATES:
            interval = Interval.of(arm, "times", ratio.values(arm, p))
            worst = max(worst, abs(interval.low - 1), abs(interval.high - 1))
    return Decision(
        verdict=HOLDS if worst < 0.02 else DOES_NOT_HOLD,
        interval=Interval.of("test signal without a remedy, p = 0.5", "times", ratio.values("no remedy", 0.5)),
        figures={
            "none": ratio.mean("no remedy", 0.5),
            "classic": ratio.mean(remedies[0], 0.5),
            "inverted": ratio.mean(remedies[1], 0.5),
            "worst": 100 * worst,
            "noise": measured["difference between two passes of the same image"].mean("training", 0.5),
        },
    )


# D2 ------------------------------------------------------------------------------------------------------

SAMPLES = (1, 3, 10, 30, 100)
P = 0.5


def centred(logits: Tensor) -> Tensor:
    """Logits less their mean over the classes: what the softmax sees."""
    return logits - logits.mean(-1, keepdim=True)


def relative(difference: Tensor, size: Tensor) -> Tensor:
    """Root mean square of the difference, in % of that of size: (M, N, C) -> (M,)."""
    return 100 * (difference.square().mean((1, 2)) / size.square().mean((1, 2))).sqrt()


def measure_ensemble(seeds):
    """The test-time net against the mean of K thinned nets, and against all 2ⁿ of a net that is small enough."""
    data = images("mnist5k")
    nets = {
        "linear net": MLP((784, 256, 256, 256, 10), activation=torch.clone),
        "one hidden layer, ReLU": MLP((784, 256, 10)),
        "three hidden layers, ReLU": MLP((784, 256, 256, 256, 10)),
    }
    members = [Member(seed=s, drop={"hidden": P}) for s in seeds]
    pictures, labels = data.test[0][:600], data.test[1][:600]
    distance, error, left = {}, {}, {}
    torch.manual_seed(seeds[0])
    for arm, net in nets.items():
        params = train_all(net, members, data, **TRAINING).params
        scaled = centred(predict(net, params, pictures))
        total, squares, shares = torch.zeros_like(scaled), torch.zeros_like(scaled), torch.zeros_like(scaled)
        far, wrong = [], []
        for k in range(1, max(SAMPLES) + 1):
            logits = centred(predict(net, params, pictures, rates={"hidden": P}))
            total, squares, shares = total + logits, squares + logits.square(), shares + logits.softmax(-1)
            if k in SAMPLES:
                far.append(relative(total / k - scaled, scaled))
                wrong.append(100 * (shares.argmax(-1) != labels).float().mean(1))
        # the variance of the mean of K nets, taken off the squared distance: what stays as K grows
        noise = (squares / k - (total / k).square()) / (k - 1)
        bias = ((total / k - scaled).square() - noise).mean((1, 2)) / scaled.square().mean((1, 2))
        left[arm] = [(100 * bias.clamp(min=0).sqrt()).tolist()]
        distance[arm] = as_lists(torch.stack(far))
        error[f"{arm}: mean of K nets"] = as_lists(torch.stack(wrong))
        at_test = 100 * (scaled.argmax(-1) != labels).float().mean(1)
        error[f"{arm}: test-time net"] = [at_test.tolist()] * len(SAMPLES)
    return Measured(
        series=(
            Series("distance from the test-time logits", "%", distance, "thinned nets averaged, K", SAMPLES),
            Series("distance that stays as K grows", "%", left),
            Series("test error", "%", error, "thinned nets averaged, K", SAMPLES),
            Series("distance from all 4,096 thinned nets", "%", measure_exactly(seeds)),
        )
    )


def measure_exactly(seeds) -> dict[str, list[list[float]]]:
    """Every one of the 2¹² masks, in float64: the relative distance from the weight-scaled net."""
    data = images("mnist5k", halve=True)
    pictures = data.test[0][:50].flatten(1).double()
    masks = all_masks(12, dtype=torch.float64)
    found = {}
    for arm, sizes, activation in (
        ("linear net", (196, 6, 6, 10), torch.clone),
        ("one hidden layer, ReLU", (196, 12, 10), torch.relu),
        ("two hidden layers, ReLU", (196, 6, 6, 10), torch.relu),
    ):
        net = MLP(sizes, activation=activation)
        members = [Member(seed=s, lr=3e-3, drop={"hidden": P}) for s in seeds]
        params = train_all(net, members, data, **TRAINING).params
        params = {name: value.double() for name, value in params.items()}
        found[arm] = [
            [
                exact_distance({name: value[i] for name, value in params.items()}, activation, pictures, masks)
                for i in range(len(seeds))
            ]
        ]
    return found


def exact_distance(params: Params, activation, x: Tensor, masks: Tensor) -> float:
    """One small net's distance, in %, between its scaled weights and the mean of its thinned nets' logits."""
    layers = len(params) // 2

    def thinned(x: Tensor, mask: Tensor) -> Tensor:
        used = 0
        for i in range(layers):
            x = x @ params[f"w{i}"] + params[f"b{i}"]
            if i < layers - 1:
                width = x.shape[-1]
                x = inverted_dropout(activation(x), P, mask[..., used : used + width])
                used += width
        return x

    whole = x
    for i in range(layers):
        whole = whole @ params[f"w{i}"] + params[f"b{i}"]
        whole = activation(whole) if i < layers - 1 else whole
    mean = ensemble_average(thinned, x, P, masks)
    return float(relative(centred(mean - whole)[None], centred(whole)[None]))


def decide_ensemble(measured):
    exact = measured["distance from all 4,096 thinned nets"]
    error = measured["test error"]
    arm = "three hidden layers, ReLU"
    k = SAMPLES[-1]
    difference = Interval.of_difference(
        "test error, mean of K thinned nets minus test-time net, three hidden layers",
        "points",
        error.values(f"{arm}: mean of K nets", k),
        error.values(f"{arm}: test-time net", k),
    )
    linear = max(exact.values("linear net").max(), exact.values("one hidden layer, ReLU").max())
    close = difference.low > -1.0 and difference.high < 1.0
    verdict = DOES_NOT_HOLD if linear > 1e-6 or not close else HOLDS_WHEN
    deep = measured["distance that stays as K grows"].mean(arm)
    return Decision(
        verdict=verdict,
        condition=""
        if verdict == DOES_NOT_HOLD
        else "exact where the logits depend linearly on each mask (a linear net, or one dropped hidden layer); "
        "an approximation in a deeper net",
        interval=difference,
        figures={
            "linear": exact.mean("linear net"),
            "two": exact.mean("two hidden layers, ReLU"),
            "deep": deep,
            "k": k,
            "mean": error.mean(f"{arm}: mean of K nets", k),
            "scaled": error.mean(f"{arm}: test-time net", k),
            "one": error.mean(f"{arm}: mean of K nets", 1),
        },
    )


# D3 ------------------------------------------------------------------------------------------------------


def measure_all_units(seeds):
    """Test errors of nets trained with dropout: all units, dropout left on, and the mean of 30 such passes."""
    series = []
    for name in ("mnist5k", "animalshape"):
        data = images(name)
        net = MLP((784, 256, 256, data.classes))
        members = [Member(seed=s, drop={"hidden": p}) for p in RATES for s in seeds]
        params = train_all(net, members, data, **TRAINING).params
        pictures, labels = data.test[0][:500], data.test[1][:500]
        arms = {"all units": [], "dropout left on": [], "mean of 30 passes left on": []}
        torch.manual_seed(seeds[0])
        for i, p in enumerate(RATES):
            mine = {key: value[i * len(seeds) : (i + 1) * len(seeds)] for key, value in params.items()}
            passes = [predict(net, mine, pictures, rates={"hidden": p}).softmax(-1) for _ in range(30)]
            shown = (predict(net, mine, pictures), passes[0], sum(passes))
            for arm, scores in zip(arms, shown, strict=True):
                arms[arm].append((100 * (scores.argmax(-1) != labels).float().mean(1)).tolist())
        series.append(Series(f"test error, {name}", "%", arms, "dropout rate p", RATES))
    return Measured(series=tuple(series))


def decide_all_units(measured):
    intervals = [
        Interval.of_difference("", "points", s.values("dropout left on", p), s.values("all units", p))
        for s in measured.series
        for p in RATES
    ]
    worse = [p for p in RATES if all(intervals[i * len(RATES) + RATES.index(p)].low > 0 for i in (0, 1))]
    if len(worse) == len(RATES):
        verdict, condition = HOLDS, ""
    elif worse:
        verdict, condition = HOLDS_WHEN, f"p is at least {min(worse)}; below, the difference is within the noise"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = measured.series[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of_difference(
            "test error, dropout left on minus all units, mnist5k, p = 0.5",
            "points",
            first.values("dropout left on", 0.5),
            first.values("all units", 0.5),
        ),
        figures={
            "off": first.mean("all units", 0.5),
            "on": first.mean("dropout left on", 0.5),
            "averaged": first.mean("mean of 30 passes left on", 0.5),
            "off2": measured.series[1].mean("all units", 0.5),
            "on2": measured.series[1].mean("dropout left on", 0.5),
        },
    )


# D4 ------------------------------------------------------------------------------------------------------

DEPTHS = (1, 2, 3, 4)
ACTIVATIONS = {"ReLU": torch.relu, "tanh": torch.tanh}


def measure_unscaled(seeds):
    """Nets with p = 0.5 in every hidden layer, at test with the scale and without it.

    A net trained with classic dropout has weights 1/(1 − p) times those of the same net trained with inverted
    dropout; leaving its scaling out at test multiplies every hidden layer's output by 1/(1 − p).
    """
    data = images("mnist5k")
    pictures, labels = data.test[0][:500], data.test[1][:500]
    arms = [f"{name}, {scaled}" for name in ACTIVATIONS for scaled in ("scaled", "not scaled")]
    signal, error, loss = ({arm: [] for arm in arms} for _ in range(3))
    torch.manual_seed(seeds[0])
    for name, activation in ACTIVATIONS.items():
        for depth in DEPTHS:
            net = MLP((784, *[256] * depth, 10), activation=activation)
            members = [Member(seed=s, drop={"hidden": P}) for s in seeds]
            params = train_all(net, members, data, **TRAINING).params
            passes = [predict(net, params, pictures, rates={"hidden": P}) for _ in range(30)]
            trained = centred(sum(passes) / len(passes))
            forgotten = {
                key: value / (1 - P) if key.startswith("w") and key != "w0" else value for key, value in params.items()
            }
            for scaled, weights in (("scaled", params), ("not scaled", forgotten)):
                logits, arm = predict(net, weights, pictures), f"{name}, {scaled}"
                size = centred(logits).square().sum((1, 2)).sqrt()
                signal[arm].append((size / trained.square().sum((1, 2)).sqrt()).tolist())
                error[arm].append((100 * (logits.argmax(-1) != labels).float().mean(1)).tolist())
                right = logits.log_softmax(-1)[:, torch.arange(len(labels)), labels]
                loss[arm].append((-right.mean(1)).tolist())
    x_name = "hidden layers with dropout"
    return Measured(
        series=(
            Series("size of the logits at test over training", "times", signal, x_name, DEPTHS),
            Series("test error", "%", error, x_name, DEPTHS),
            Series("test loss", "nats", loss, x_name, DEPTHS),
        )
    )


def decide_unscaled(measured):
    signal, error, loss = measured.series
    extra = {
        (name, depth): (
            Interval.of_difference(
                f"test error, not scaled minus scaled, {depth} {name} layers",
                "points",
                error.values(f"{name}, not scaled", depth),
                error.values(f"{name}, scaled", depth),
            ),
            Interval.of_difference(
                "", "nats", loss.values(f"{name}, not scaled", depth), loss.values(f"{name}, scaled", depth)
            ),
        )
        for name in ACTIVATIONS
        for depth in DEPTHS
    }
    harmed = [f"{depth} {name}" for (name, depth), (by_error, _) in extra.items() if by_error.low > 0]
    costly = [key for key, (_, by_loss) in extra.items() if by_loss.low > 0]
    if len(harmed) == len(extra):
        verdict, condition = HOLDS, ""
    elif len(costly) == len(extra):
        verdict = HOLDS_WHEN
        condition = "judged by the loss, which is worse at every depth; the share of wrong answers rises beyond the "
        condition += f"noise only with {', '.join(harmed)} layers" if harmed else "noise nowhere"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    deepest, relu = DEPTHS[-1], "ReLU, not scaled"
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=extra["ReLU", deepest][0],
        figures={
            "one": signal.mean(relu, 1),
            "deepest": deepest,
            "deep": signal.mean(relu, deepest),
            "error": error.mean("ReLU, scaled", deepest),
            "error_without": error.mean(relu, deepest),
            "loss": loss.mean("ReLU, scaled", deepest),
            "loss_without": loss.mean(relu, deepest),
            "tanh": error.mean("tanh, scaled", deepest),
            "tanh_without": error.mean("tanh, not scaled", deepest),
        },
    )


CLAIMS = (
    Claim(
        id="D1",
        statement="While training, the next layer sees only part of the signal; scaling the weights at test, or by "
        "1/(1 − p) while training, makes the expected signal equal in both phases.",
        headline="Without a remedy the next layer gets {none:.2f} times its training signal at test (p = 0.5). With "
        "weights × (1 − p) it gets {classic:.3f} times, with ÷ (1 − p) while training {inverted:.3f} times; over all "
        "rates neither strays by more than {worst:.1f}%. Two training passes of one image differ by {noise:.0f}% of "
        "the signal, two test passes not at all.",
        rule="Holds if for both remedies and every p the 95% interval of the ratio lies within 1 ± 0.02.",
        measure=measure_signal,
        decide=decide_signal,
    ),
    Claim(
        id="D2",
        statement="A trained dropout net is the average of many thinned nets.",
        headline="Against all 4,096 thinned nets the test-time logits of a linear net are off by {linear:.1e}%, those "
        "of a net with two ReLU layers by {two:.0f}%. In a net with three hidden layers {deep:.0f}% stays however many "
        "are averaged; its test error is {scaled:.1f}%, that of {k} averaged nets {mean:.1f}%, of one {one:.1f}%.",
        rule="Does not hold if a net that is linear in its masks differs from the exact average by more than "
        "0.000001%, or if the deep net's test error differs from the average's by a point or more (95% interval); "
        "otherwise it holds exactly for the first and approximately for the second.",
        measure=measure_ensemble,
        decide=decide_ensemble,
    ),
    Claim(
        id="D3",
        statement="At test you want all units: dropout off.",
        headline="At p = 0.5 the test error is {off:.1f}% with all units and {on:.1f}% with dropout left on (mnist5k); "
        "{off2:.1f}% and {on2:.1f}% (animalshape). Averaging 30 passes with it on gives {averaged:.1f}% (mnist5k).",
        rule="Holds if at every p and on both data sets the paired 95% interval of the extra error lies above 0.",
        measure=measure_all_units,
        decide=decide_all_units,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="D4",
        statement="Without scaling, units receive about twice the signal at test (p = 0.5) and do badly.",
        headline="Without scaling the logits grow {one:.1f} times with one dropped layer and {deep:.0f} times with "
        "{deepest} (ReLU). There the loss is {loss_without:.2f} instead of {loss:.2f} nats, yet the test error only "
        "{error_without:.1f}% instead of {error:.1f}%; with {deepest} tanh layers {tanh_without:.1f}% instead of "
        "{tanh:.1f}%.",
        rule="Holds if the paired 95% interval of the extra test error lies above 0 at every depth; holds when … if "
        "only that of the loss does.",
        measure=measure_unscaled,
        decide=decide_unscaled,
        seeds=tuple(range(8)),
    ),
)
