"""A2, A3, A5: units that die, whether a leak keeps them alive, and the mean that a layer passes on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.activations import elu_derivative
from course_lib.claims.activations.nets import LABELS, LEAK, Dense, hidden_outputs
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import images
from course_lib.ensembles import Member, MLPMember, Params, fused_adamw, train_ensemble, train_mlps

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "animalshape")
N_TRAIN, BATCH = 2500, 64


def silent(net: Dense, params: Params, pictures: Tensor) -> Tensor:
    """Whether each hidden unit's z is at most 0 on every picture: (M, units of all layers)."""
    return torch.cat([(z <= 0).all(1) for z, _ in hidden_outputs(net, params, pictures)], dim=1)


# A2 ------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": (torch.optim.SGD, (0.01, 0.1, 0.3, 1.0, 2.0)),
    "Adam": (fused_adamw, (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
}
TIMES = (1, 10, 100, 400)


def measure_death(seeds):
    """The share of ReLU units that are dead on all training images, by rate and by steps trained."""
    found = []
    for dataset in SETS:
        data = images(dataset, halve=True)
        layers = (196, 64, 64, data.classes)
        net, pictures = Dense(layers), data.train[0]
        for name, (optimizer, rates) in OPTIMIZERS.items():
            arms = {f"after {steps} step{'s' if steps > 1 else ''}": [] for steps in TIMES}
            for arm, steps in zip(arms, TIMES, strict=True):
                for rate in rates:
                    curves = train_mlps(
                        layers,
                        [MLPMember(seed=s, lr=rate) for s in seeds],
                        data.train,
                        n_train=N_TRAIN,
                        steps=steps,
                        batch_size=BATCH,
                        score_on={},
                        optimizer=optimizer,
                    )
                    dead = silent(net, curves.params, pictures)
                    arms[arm].append((100 * dead.double().mean(1)).tolist())
            found.append(Series(f"dead units, {name}, {dataset}", "%", arms, "learning rate", rates))
    return Measured(series=tuple(found))


def decide_death(measured):
    late, early = f"after {TIMES[-1]} steps", f"after {TIMES[1]} steps"
    grown, sooner, more = {}, {}, []
    for series in measured.series:
        low, high = series.x[0], series.x[-1]
        for kept, arm in ((grown, late), (sooner, early)):
            kept[series.name] = Interval.of_difference(
                f"{series.name}, {arm}, rate {high:g} minus rate {low:g}",
                "points",
                series.values(arm, high),
                series.values(arm, low),
            )
        more.append(series.name if grown[series.name].low > 10 and sooner[series.name].low > 0 else "")
    if all(more):
        verdict, condition = HOLDS, ""
    elif any(more):
        verdict = HOLDS_WHEN
        where = [name.removeprefix("dead units, ") for name in more if name]
        condition = f"trained with {'; '.join(where)}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    adam, sgd = measured[f"dead units, Adam, {SETS[0]}"], measured[f"dead units, SGD, {SETS[0]}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=grown[adam.name],
        figures={
            "small": adam.x[0],
            "middle": adam.x[2],
            "large": adam.x[-1],
            "at_small": adam.mean(late, adam.x[0]),
            "at_middle": adam.mean(late, adam.x[2]),
            "at_large": adam.mean(late, adam.x[-1]),
            "early": TIMES[1],
            "early_large": adam.mean(early, adam.x[-1]),
            "late": TIMES[-1],
            "sgd_small": sgd.x[0],
            "sgd_large": sgd.x[-1],
            "sgd_at_small": sgd.mean(late, sgd.x[0]),
            "sgd_at_large": sgd.mean(late, sgd.x[-1]),
        },
    )


# A3 ------------------------------------------------------------------------------------------------------

SLOPES = (0.0, 0.001, LEAK, 0.1, 0.3)
LARGE_RATE = 0.03
THEN, NOW = 50, 400


def measure_leak(seeds):
    """Nets trained at a large rate with several leaks: who is silent, who wakes up, what reaches the silent ones."""
    found, names = [], [f"{slope:g}" for slope in SLOPES]  # as words: on an axis of numbers the small ones meet
    for dataset in SETS:
        data = images(dataset, halve=True)
        pictures, labels = data.train[0], data.train[1]
        early, both, share, reach, error = ([] for _ in range(5))
        for slope in SLOPES:
            net = Dense((196, 64, 64, data.classes), "leaky_relu", slope=slope)
            members = [Member(seed=s, lr=LARGE_RATE) for s in seeds]
            training = {"n_train": N_TRAIN, "batch_size": BATCH}
            before = train_ensemble(net, members, data.train, steps=THEN, score_on={}, **training).params
            after = train_ensemble(net, members, data.train, steps=NOW, score_on={"test": data.test}, **training)
            was, still = silent(net, before, pictures), silent(net, after.params, pictures)
            share.append((100 * still.double().mean(1)).tolist())
            early.append((100 * was.double().mean(1)).tolist())
            both.append((100 * (was & still).double().mean(1)).tolist())
            reach.append((100 * reaching(net, before, pictures[:500], labels[:500], was)).tolist())
            error.append((100 * after.errors["test"][-1]).tolist())
        for name, unit, values in (
            (f"silent units after {NOW} steps", "%", share),
            (f"silent units after {THEN} steps", "%", early),
            (f"silent after {THEN} and {NOW} steps", "%", both),
            ("a silent unit's gradient over a live one's", "%", reach),
            ("test error", "%", error),
        ):
            found.append(Series(f"{name}, {dataset}", unit, {"leaky ReLU": values}, "slope α below 0", names))
    return Measured(series=tuple(found))


def reaching(net: Dense, params: Params, pictures: Tensor, labels: Tensor, was: Tensor) -> Tensor:
    """The mean norm over the pictures of a silent unit's gradient at z, over that of a live unit: (M,)."""
    nets = len(was)
    z = net.layers(params, pictures.unsqueeze(1).expand(-1, nets, *pictures.shape[1:]))[0].detach().requires_grad_()
    h, seen = net.bend(params, z, 0), [z]
    for i in range(1, len(net.sizes) - 1):
        seen.append(torch.baddbmm(params[f"b{i}"], h, params[f"w{i}"]))
        h = net.bend(params, seen[-1], i)
    loss = F.cross_entropy(seen[-1].flatten(0, 1), labels.repeat(nets), reduction="sum")
    grads = torch.autograd.grad(loss, seen[:-1])
    norms = torch.cat([grad.norm(dim=1) for grad in grads], dim=1)  # (M, units)
    quiet, live = ((norms * chosen).sum(1) / chosen.sum(1).clamp(min=1) for chosen in (was, ~was))
    return quiet / live.clamp(min=1e-30)


def decide_leak(measured):
    fewer, stay = {}, {}
    for dataset in SETS:
        share = measured[f"silent units after {NOW} steps, {dataset}"]
        early = measured[f"silent units after {THEN} steps, {dataset}"]
        both = measured[f"silent after {THEN} and {NOW} steps, {dataset}"]
        for slope in SLOPES[1:]:
            fewer[dataset, slope] = Interval.of_difference(
                f"silent units, α = {slope:g} minus α = 0, {dataset}",
                "points",
                share.values("leaky ReLU", f"{slope:g}"),
                share.values("leaky ReLU", "0"),
            )
            stay[dataset, slope] = Interval.of_difference(
                "", "points", both.values("leaky ReLU", f"{slope:g}"), early.values("leaky ReLU", f"{slope:g}") / 2
            )
    alive = [
        slope
        for slope in SLOPES[1:]
        if all(fewer[dataset, slope].high < 0 and stay[dataset, slope].high <= 0 for dataset in SETS)
    ]
    if LEAK in alive:
        verdict, condition = HOLDS, ""
    elif alive:
        verdict = HOLDS_WHEN
        condition = f"α is {' or '.join(f'{slope:g}' for slope in alive)}: then most silent units wake up again"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    of = lambda name, slope, dataset=SETS[0]: measured[f"{name}, {dataset}"].mean("leaky ReLU", f"{slope:g}")

    def woken(slope: float) -> float:
        """Of the units silent early, the share in % that is awake at the end, on the first set."""
        stayed = of(f"silent after {THEN} and {NOW} steps", slope)
        return 100 * (1 - stayed / max(of(f"silent units after {THEN} steps", slope), 1e-9))

    return Decision(
        verdict=verdict,
        condition=condition,
        interval=fewer[SETS[0], LEAK],
        figures={
            "rate": LARGE_RATE,
            "leak": LEAK,
            "steps": NOW,
            "then": THEN,
            "relu": of(f"silent units after {NOW} steps", 0.0),
            "leaky": of(f"silent units after {NOW} steps", LEAK),
            "large": SLOPES[-1],
            "leakiest": of(f"silent units after {NOW} steps", SLOPES[-1]),
            "woken0": woken(0.0),
            "woken": woken(LEAK),
            "woken_large": woken(SLOPES[-1]),
            "reach": of("a silent unit's gradient over a live one's", LEAK),
            "error0": of("test error", 0.0),
            "error": of("test error", LEAK),
            "error_large": of("test error", SLOPES[-1]),
        },
    )


# A5 ------------------------------------------------------------------------------------------------------

LAYERS = (1, 2, 3, 4)
SHOWN = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh")
ALPHAS = (0.25, 0.5, 1.0, 1.5, 2.0)
MOMENTS = ("at the start", "after training")


def measure_means(seeds):
    """Mean output and constant share of each hidden layer, and the jump of ELU's slope at 0."""
    found = []
    for dataset in SETS:
        data = images(dataset, halve=True)
        means = {moment: {} for moment in MOMENTS}
        shares = {moment: {} for moment in MOMENTS}
        for name in SHOWN:
            net = Dense((196, 64, 64, 64, 64, data.classes), name)
            starts = [net.init(torch.Generator().manual_seed(seed)) for seed in seeds]
            start = {key: torch.stack([s[key] for s in starts]) for key in starts[0]}
            members = [Member(seed=s, lr=3e-3) for s in seeds]
            training = {"n_train": N_TRAIN, "steps": 300, "batch_size": BATCH, "score_on": {}}
            end = train_ensemble(net, members, data.train, **training).params
            for moment, params in zip(MOMENTS, (start, end), strict=True):
                outputs = [h for _, h in hidden_outputs(net, params, data.valid[0])]
                means[moment][LABELS[name]] = [h.mean((1, 2)).tolist() for h in outputs]
                shares[moment][LABELS[name]] = [constant_share(h).tolist() for h in outputs]
        for moment in MOMENTS:
            found.append(Series(f"mean output {moment}, {dataset}", "", means[moment], "hidden layer", LAYERS))
            found.append(Series(f"constant share {moment}, {dataset}", "%", shares[moment], "hidden layer", LAYERS))
    jumps = {"ELU": [[jump(alpha)] * len(seeds) for alpha in ALPHAS]}
    found.append(Series("jump of the slope at 0", "", jumps, "α", ALPHAS))
    return Measured(series=tuple(found))


def constant_share(h: Tensor) -> Tensor:
    """Of outputs (M, N, units): the share, in %, of the mean square that is the units' squared means, (M,)."""
    return 100 * h.mean(1).square().sum(1) / h.square().mean(1).sum(1)


def jump(alpha: float) -> float:
    """How far ELU's slope just right of 0 lies from that just left of it."""
    sides = torch.tensor([-1e-9, 1e-9], dtype=torch.float64)
    left, right = elu_derivative(sides, alpha).tolist()
    return abs(right - left)


def decide_means(measured):
    gains = {}
    for dataset in SETS:
        for moment in MOMENTS:
            series = measured[f"mean output {moment}, {dataset}"]
            for layer in LAYERS:
                gains[dataset, moment, layer] = Interval.of_difference(
                    f"|mean output|, ELU minus ReLU, layer {layer} {moment}, {dataset}",
                    "",
                    abs(series.values("ELU", layer)),
                    abs(series.values("ReLU", layer)),
                )
    jumps = measured["jump of the slope at 0"]
    smooth = [alpha for alpha in ALPHAS if jumps.mean("ELU", alpha) < 1e-6]
    nearer = [key for key, gain in gains.items() if gain.high < 0]
    if len(nearer) < len(gains) and not smooth:
        verdict, condition = DOES_NOT_HOLD, ""
    elif len(nearer) == len(gains) and len(smooth) == len(ALPHAS):
        verdict, condition = HOLDS, ""
    elif smooth:
        verdict = HOLDS_WHEN
        condition = f"α = {' or '.join(f'{alpha:g}' for alpha in smooth)}: for every other α the slope jumps at 0"
        if len(nearer) < len(gains):
            condition += f"; the mean is nearer 0 in {len(nearer)} of {len(gains)} layers looked at"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    after = measured[f"mean output after training, {SETS[0]}"]
    share = measured[f"constant share after training, {SETS[0]}"]
    last = LAYERS[-1]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SETS[0], MOMENTS[1], last],
        figures={
            "layer": last,
            "relu": after.mean("ReLU", last),
            "elu": after.mean("ELU", last),
            "selu": after.mean("SELU", last),
            "tanh": after.mean("tanh", last),
            "relu_share": share.mean("ReLU", last),
            "elu_share": share.mean("ELU", last),
            "half": ALPHAS[1],
            "jump": jumps.mean("ELU", ALPHAS[1]),
            "nearer": len(nearer),
            "all": len(gains),
        },
    )


CLAIMS = (
    Claim(
        id="A2",
        statement="ReLU units die: they output 0 for every input, sooner with a large learning rate.",
        headline="Dead on every training image of mnist5k after {late} steps of Adam: {at_small:.1f}% of the units at "
        "rate {small:g}, {at_middle:.1f}% at {middle:g}, {at_large:.0f}% at {large:g}, where {early_large:.0f}% are so "
        "after {early} steps already. With SGD {sgd_at_small:.1f}% at rate {sgd_small:g} and {sgd_at_large:.0f}% at "
        "{sgd_large:g}.",
        rule=f"Holds if with both optimizers and on both data sets the dead share after {TIMES[-1]} steps at the "
        f"largest rate exceeds that at the smallest by 10 points or more (paired 95% interval), and after {TIMES[1]} "
        "steps by more than 0; holds when … if so in some of the four.",
        measure=measure_death,
        decide=decide_death,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="A3",
        statement="Leaky ReLU, max(αz, z) with α = 0.01, never dies.",
        headline="At the large rate {rate:g} (Adam, mnist5k) {relu:.0f}% of ReLU's units are silent on every image "
        "after {steps} steps, with α = {leak:g} {leaky:.0f}%, with α = {large:g} {leakiest:.0f}%. Of those silent "
        "after {then} steps {woken0:.0f}%, {woken:.0f}% and {woken_large:.0f}% are awake again. The gradient that "
        "reaches a silent unit is {reach:.1f}% of a live one's with α = {leak:g}. Test errors: {error0:.1f}, "
        "{error:.1f} and {error_large:.1f}%.",
        rule="A slope that is never 0 can't die by definition; what counts is whether silent units wake up. Holds if "
        f"on both data sets fewer units are silent on every image with α = {LEAK:g} than with α = 0 (paired 95% "
        f"interval below 0), and of those silent after {THEN} steps at most half are so after {NOW} too (95% "
        "interval); holds when … if so for other α only.",
        measure=measure_leak,
        decide=decide_leak,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="A5",
        statement="ELU's mean output is nearer 0, its gradient is not zero for z < 0, and it is smooth everywhere.",
        headline="Mean output of hidden layer {layer} after training (mnist5k): ReLU {relu:.2f}, ELU {elu:.2f}, SELU "
        "{selu:.2f}, tanh {tanh:.2f}; nearer 0 with ELU than with ReLU in {nearer} of {all} layers looked at. What is "
        "the same for every image makes up {relu_share:.0f}% of the mean square with ReLU and {elu_share:.0f}% with "
        "ELU. For α = {half:g} the slope jumps by {jump:.2g} at 0.",
        rule="Holds if in every layer, at the start and after training, on both data sets, the paired 95% interval of "
        "|mean of ELU| − |mean of ReLU| lies below 0, and the slope does not jump at 0 for any α tried; holds when … "
        "if it does not jump for some.",
        measure=measure_means,
        decide=decide_means,
        seeds=tuple(range(8)),
    ),
)
