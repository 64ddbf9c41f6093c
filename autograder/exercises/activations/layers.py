"""What an activation does to a whole layer: units that are dead on all data, and the mean that it passes on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- dead units


def dead_cases(seed):
    """Dead units in each layer, in none, a whole layer; units that fire once, faintly, or stand at exactly 0.

    Three inputs are flags: each is on for the first, a middle or the last example alone, and a unit may wait for it.
    Another is high for every third example, and wakes a unit that is off for the others.
    """
    rng = np.random.default_rng(seed)

    def case(name, widths, dead=(), once="", faint=False, zero=False, batch_size=8, n=27):
        """`dead`: (layer, unit) pairs, or (layer, "all")."""
        x = rng.uniform(0.2, 1.0, (n, 8))
        flags = {"first": 5, "middle": 6, "last": 7}
        x[:, 5:] = 0
        x[0, 5] = x[n // 2, 6] = x[-1, 7] = 1.0
        x[:, 1] = np.where(np.arange(n) % 3 == 0, 1.0, 0.3)
        inputs, sizes = {"x": x, "batch_size": batch_size, "hidden": len(widths)}, (8, *widths, 3)
        for i, (a, b) in enumerate(pairwise(sizes)):
            w, bias = rng.uniform(0.05, 1.0, (b, a)) * rng.choice([-1.0, 1.0, 1.0], (b, a)), rng.uniform(0.5, 1.0, b)
            w[:, 0] = np.abs(w[:, 0])
            for layer, unit in dead:
                if layer == i:
                    bias[slice(None) if unit == "all" else unit] = -60.0
            if i == 0 and b > 4:
                w[4], bias[4] = 0, -0.75
                w[4, 1] = 1.0
            if i == 0 and once:
                w[2], bias[2] = 0, -0.5
                w[2, flags[once]] = 0.5 + 1e-5 if faint else 2.0
            if i == 0 and zero:
                w[3], bias[3] = 0, 0
            inputs |= {f"w{i}": w, f"b{i}": bias}
        return Case(name, inputs)

    yield case("three hidden layers, some dead in each", (6, 5, 5), dead=((0, 1), (1, 0), (1, 4), (2, 2)))
    yield case("two hidden layers, none dead", (5, 4))
    yield case("a unit that fires for the last example alone", (6, 5), dead=((0, 0), (1, 3)), once="last")
    yield case("a unit that fires for the first example alone", (6, 5), dead=((0, 0), (1, 3)), once="first")
    yield case("a unit that fires once, faintly", (6, 5), dead=((1, 1),), once="middle", faint=True)
    yield case("a unit whose z is exactly 0", (6, 4), dead=((1, 2),), zero=True)
    yield case("the whole second of three layers dead", (5, 4, 5), dead=((0, 1), (1, "all"), (2, 3)))
    yield case("the whole first layer dead", (4, 5), dead=((0, "all"), (1, 1)))
    yield case("one hidden layer, one large batch", (6,), dead=((0, 5),), batch_size=100)


def dead_probe(candidate, case):
    """Dead and lost units as 0 and 1, layer after layer; the probe's own net is built from the case's numbers."""
    import torch
    from torch import nn

    layers = []
    for i in range(case["hidden"] + 1):
        weight, bias = torch.tensor(case[f"w{i}"]), torch.tensor(case[f"b{i}"])
        linear = nn.Linear(weight.shape[1], weight.shape[0]).double()
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        layers += [linear, nn.ReLU()]
    dead, lost = candidate(nn.Sequential(*layers[:-1]), torch.tensor(case["x"]), case["batch_size"])
    return {
        "dead": torch.cat([torch.as_tensor(layer) for layer in dead]).to(torch.int64),
        "lost": torch.cat([torch.as_tensor(layer) for layer in lost]).to(torch.int64),
    }


def dead_units(model, x, batch_size):
    """(dead, lost): for each ReLU of a sequential net one tensor of booleans, one for each unit."""
    fired = {}
    with torch.no_grad():
        for h in x.split(batch_size):
            for i, module in enumerate(model):
                h = module(h)
                if isinstance(module, nn.ReLU):
                    fires = (h > 0).any(0)
                    fired[i] = fires | fired[i] if i in fired else fires
    dead = [~fires for fires in fired.values()]
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def first_batch_only(model, x, batch_size):
    h, dead = x[:batch_size], []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append((h <= 0).all(0))
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def dead_in_some_batch(model, x, batch_size):
    found = {}
    for h in x.split(batch_size):
        for i, module in enumerate(model):
            h = module(h)
            if isinstance(module, nn.ReLU):
                dead = (h <= 0).all(0)
                found[i] = found[i] | dead if i in found else dead
    dead = list(found.values())
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def last_batch_only(model, x, batch_size):
    for h in x.split(batch_size):
        dead = []
        for module in model:
            h = module(h)
            if isinstance(module, nn.ReLU):
                dead.append((h <= 0).all(0))
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def off_for_some_example(model, x, batch_size):
    h, dead = x, []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append((h <= 0).any(0))
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def strictly_below_zero(model, x, batch_size):
    h, dead = x, []
    for module in model:
        if isinstance(module, nn.ReLU):
            dead.append((h < 0).all(0))
        h = module(h)
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def nearly_silent(model, x, batch_size):
    h, dead = x, []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append(h.mean(0) < 1e-4)
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def mean_below_zero(model, x, batch_size):
    h, dead = x, []
    for module in model:
        if isinstance(module, nn.ReLU):
            dead.append(h.mean(0) <= 0)
        h = module(h)
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def examples_instead_of_units(model, x, batch_size):
    h, dead = x, []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append((h <= 0).all(1))
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]


def all_lost(model, x, batch_size):
    h, dead = x, []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append((h <= 0).all(0))
    return dead, [layer.clone() for layer in dead]


def none_lost(model, x, batch_size):
    h, dead = x, []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append((h <= 0).all(0))
    return dead, [torch.zeros_like(layer) for layer in dead]


def first_layer_lost_only(model, x, batch_size):
    h, dead = x, []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append((h <= 0).all(0))
    return dead, [layer & (i == 0) for i, layer in enumerate(dead)]


def lost_up_to_the_dead_layer(model, x, batch_size):
    h, dead = x, []
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            dead.append((h <= 0).all(0))
    last = max((i for i, layer in enumerate(dead) if layer.all()), default=0)
    return dead, [layer & (i <= last) for i, layer in enumerate(dead)]


def dead_by_hooks(model, x, batch_size):
    largest, handles = {}, []

    def keep(module, args, output):
        now = output.detach().max(0).values
        largest[module] = torch.maximum(largest[module], now) if module in largest else now

    for module in model.modules():
        if isinstance(module, nn.ReLU):
            handles.append(module.register_forward_hook(keep))
    for start in range(0, len(x), batch_size):
        model(x[start : start + batch_size])
    for handle in handles:
        handle.remove()
    dead = [top == 0 for top in largest.values()]
    stuck = any(layer.all() for layer in dead)
    return dead, [layer if stuck or not i else torch.zeros_like(layer) for i, layer in enumerate(dead)]


@torch.no_grad()
def dead_by_counting(model, x, batch_size):
    counts = None
    for batch in torch.split(x, batch_size):
        h, now = batch, []
        for module in model:
            h = module(h)
            if type(module) is nn.ReLU:
                now.append((h != 0).sum(0))
        counts = now if counts is None else [a + b for a, b in zip(counts, now, strict=True)]
    dead = [count == 0 for count in counts]
    whole = [bool(layer.all()) for layer in dead]
    lost = [layer.clone() for layer in dead]
    if not any(whole):
        for layer in lost[1:]:
            layer.fill_(False)
    return dead, lost


def dead_from_pre_activations(model, x, batch_size):
    linears = [module for module in model if isinstance(module, nn.Linear)][:-1]
    tops = [[] for _ in linears]
    for h in x.split(batch_size):
        for top, linear in zip(tops, linears, strict=True):
            z = h @ linear.weight.detach().T + linear.bias.detach()
            top.append(z.amax(0))
            h = z.clamp(min=0)
    dead = [torch.stack(top).amax(0) <= 0 for top in tops]
    everything = torch.stack([layer.all() for layer in dead]).any()
    return dead, [dead[0], *(layer & everything for layer in dead[1:])]


dead_units_exercise = Exercise(
    id="activations.dead_units",
    lesson="03_activations",
    title="Dead units, and which can come back",
    answer="dead_units",
    criteria=(Criterion("dead", 2), Criterion("lost", 2)),
    cases=dead_cases,
    probe=dead_probe,
    reference=dead_units,
    misconceptions=(
        Misconception(
            "first_batch_only",
            first_batch_only,
            "You look at the first batch alone. In the case “{case}” a unit fires in another one: it is silent there, "
            "not dead.",
            "Go through all batches; a unit is dead only if it fires in none of them.",
        ),
        Misconception(
            "last_batch_only",
            last_batch_only,
            "Only your last batch counts: each one overwrites what the ones before it had shown.",
            "Keep for each unit whether it has fired so far, and join that with each batch by |.",
        ),
        Misconception(
            "dead_in_some_batch",
            dead_in_some_batch,
            "You call a unit dead if some batch leaves it silent. Dead means silent in every batch.",
            "Join the batches by “fired in any”, then turn it round.",
        ),
        Misconception(
            "off_for_some_example",
            off_for_some_example,
            "You count units that are off for at least one example. Nearly every ReLU is, and that is no fault.",
            "A dead unit is off for all examples.",
        ),
        Misconception(
            "strictly_below_zero",
            strictly_below_zero,
            "A unit whose z is exactly 0 everywhere has slope 0 too, and never learns; you count only z < 0.",
            "Dead is z ≤ 0 for every example: the output is never above 0.",
        ),
        Misconception(
            "nearly_silent",
            nearly_silent,
            "You call a unit dead when its mean output is small. In the case “{case}” one fires faintly for a single "
            "example; that is enough to learn from.",
            "Ask whether the output is ever above 0.",
        ),
        Misconception(
            "mean_below_zero",
            mean_below_zero,
            "You judge by the mean of z. A unit with a negative mean may fire for some examples.",
            "Ask whether z is ever above 0.",
        ),
        Misconception(
            "examples_instead_of_units",
            examples_instead_of_units,
            "You look for examples that switch off all units (axis 1). Asked are units that no example switches on.",
            "Go along axis 0, the examples.",
        ),
        Misconception(
            "all_lost",
            all_lost,
            "You call every dead unit lost. Its own weights stand still, but in a deeper layer its inputs change as "
            "long as the layers below learn, and that may wake it.",
            "In which layer do the inputs never change?",
        ),
        Misconception(
            "none_lost",
            none_lost,
            "You call no unit lost. In the first layer the inputs are the data, which stay, and a dead unit's own "
            "weights get no gradient: nothing can wake it.",
            "Ask for each dead unit: what could change its z?",
        ),
        Misconception(
            "first_layer_lost_only",
            first_layer_lost_only,
            "You forget what a wholly dead layer does (the case “{case}”): no gradient passes it, so nothing below "
            "learns any more, and everything above sees the same constant for ever.",
            "If any layer is wholly dead, every dead unit of the net is lost.",
        ),
        Misconception(
            "lost_up_to_the_dead_layer",
            lost_up_to_the_dead_layer,
            "Below a wholly dead layer you see that nothing moves. Above it nothing moves either: its output is 0 for "
            "every example and will stay so.",
            "If any layer is wholly dead, every dead unit of the net is lost.",
        ),
    ),
    variants=(
        Variant("by_hooks", dead_by_hooks),
        Variant("by_counting", dead_by_counting),
        Variant("from_pre_activations", dead_from_pre_activations),
    ),
    hints=(
        "Send each batch through the modules one by one (`for module in model: h = module(h)`), and look after each "
        "nn.ReLU.",
        "A dead unit gets no gradient: its own weights stand still. What else could change its z? What if nothing "
        "below it gets a gradient?",
        "dead: not (h > 0).any(0), over all batches. lost: the dead units of the first layer; and all dead units where "
        "some layer is wholly dead.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- the mean that a layer passes on


def means_cases(seed):
    """Several activations, depths and batch sizes (also with a small last batch), dead units, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, activation, widths, n, batch_size, scale=1.0, dead=False, dtype=np.float32):
        # the examples drift, so that batches differ and a mean of batch means is another number
        x = (rng.normal(0.5, 1.0, (n, 6)) + np.linspace(-1, 1, n)[:, None]) * scale
        sizes = (6, *widths, 3)
        inputs = {"x": x.astype(dtype), "activation": activation, "hidden": len(widths), "batch_size": batch_size}
        for i, (a, b) in enumerate(pairwise(sizes)):
            bias = rng.normal(0.2, 0.3, b)
            if dead and i == 0:
                bias[1] = -100.0
            inputs |= {f"w{i}": (rng.normal(size=(b, a)) * (1.6 / a) ** 0.5).astype(dtype), f"b{i}": bias.astype(dtype)}
        return Case(name, inputs)

    yield case("ReLU, 50 examples in batches of 16", "ReLU", (8, 7), 50, 16)
    yield case("ELU, three hidden layers", "ELU", (8, 6, 5), 45, 20)
    yield case("tanh, one hidden layer", "Tanh", (9,), 33, 32)
    yield case("ReLU with a dead unit", "ReLU", (6, 6), 40, 12, dead=True)
    yield case("one batch holds everything", "SELU", (7, 5), 24, 100)
    yield case("inputs around ±1e4", "LeakyReLU", (6, 5), 30, 8, scale=1e4)
    yield case("float64", "ReLU", (6, 6), 29, 10, dtype=np.float64)


def means_probe(candidate, case):
    import torch
    from torch import nn

    layers = []
    for i in range(case["hidden"] + 1):
        weight, bias = torch.tensor(case[f"w{i}"]), torch.tensor(case[f"b{i}"])
        linear = nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        layers += [linear, getattr(nn, case["activation"])()]
    mean, constant = candidate(nn.Sequential(*layers[:-1]), torch.tensor(case["x"]), case["batch_size"])
    return {
        name: torch.as_tensor(value).to(torch.float32)  # a list of floats will do as well as a tensor
        for name, value in (("mean", mean), ("constant share", constant))
    }


def layer_means(model, x, batch_size):
    """(mean, constant share) of each activation's outputs over all of x, two tensors (layers,)."""
    sums, squares = [], []
    with torch.no_grad():
        for batch in x.split(batch_size):
            h, depth = batch, 0
            for i, module in enumerate(model):
                h = module(h)
                if i % 2 == 0:
                    continue
                if depth == len(sums):
                    sums.append(torch.zeros(h.shape[1], dtype=torch.float64))
                    squares.append(torch.zeros(h.shape[1], dtype=torch.float64))
                sums[depth] += h.double().sum(0)
                squares[depth] += h.double().square().sum(0)
                depth += 1
    means = [total / len(x) for total in sums]
    share = [m.square().sum() / (s.sum() / len(x)) for m, s in zip(means, squares, strict=True)]
    return torch.stack([m.mean() for m in means]), torch.stack(share)


def batch_means_averaged(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        outputs = [[model[: i + 1](b).double() for b in x.split(batch_size)] for i in range(1, len(model), 2)]
    for parts in outputs:
        units = torch.stack([h.mean(0) for h in parts]).mean(0)
        squares = torch.stack([h.square().mean(0) for h in parts]).mean(0)
        mean.append(units.mean())
        share.append(units.square().sum() / squares.sum())
    return torch.stack(mean), torch.stack(share)


def one_batch_only(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x[:batch_size]).double()
            mean.append(h.mean())
            share.append(h.mean(0).square().sum() / h.square().mean(0).sum())
    return torch.stack(mean), torch.stack(share)


def before_the_activation(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[:i](x).double()
            mean.append(h.mean())
            share.append(h.mean(0).square().sum() / h.square().mean(0).sum())
    return torch.stack(mean), torch.stack(share)


def logits_counted(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in [*range(1, len(model), 2), len(model) - 1]:
            h = model[: i + 1](x).double()
            mean.append(h.mean())
            share.append(h.mean(0).square().sum() / h.square().mean(0).sum())
    return torch.stack(mean), torch.stack(share)


def size_instead_of_mean(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x).double()
            mean.append(h.abs().mean())
            share.append(h.mean(0).square().sum() / h.square().mean(0).sum())
    return torch.stack(mean), torch.stack(share)


def active_values_only(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x).double()
            mean.append(h[h > 0].mean())
            share.append(h.mean(0).square().sum() / h.square().mean(0).sum())
    return torch.stack(mean), torch.stack(share)


def one_mean_for_the_layer(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x).double()
            mean.append(h.mean())
            share.append(h.mean().square() / h.square().mean())
    return torch.stack(mean), torch.stack(share)


def root_of_the_share(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x).double()
            mean.append(h.mean())
            share.append((h.mean(0).square().sum() / h.square().mean(0).sum()).sqrt())
    return torch.stack(mean), torch.stack(share)


def varying_share(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x).double()
            mean.append(h.mean())
            share.append(1 - h.mean(0).square().sum() / h.square().mean(0).sum())
    return torch.stack(mean), torch.stack(share)


def over_the_variance(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x).double()
            mean.append(h.mean())
            share.append(h.mean(0).square().sum() / h.var(0, correction=0).sum())
    return torch.stack(mean), torch.stack(share)


def mean_of_the_units_shares(model, x, batch_size):
    mean, share = [], []
    with torch.no_grad():
        for i in range(1, len(model), 2):
            h = model[: i + 1](x).double()
            mean.append(h.mean())
            share.append((h.mean(0).square() / h.square().mean(0)).mean())
    return torch.stack(mean), torch.stack(share)


def means_by_hooks(model, x, batch_size):
    kept = {}
    handles = [
        module.register_forward_hook(lambda m, a, out: kept.setdefault(m, []).append(out.detach().double()))
        for module in model
        if not isinstance(module, nn.Linear)
    ]
    for start in range(0, len(x), batch_size):
        model(x[start : start + batch_size])
    for handle in handles:
        handle.remove()
    outputs = [torch.cat(parts) for parts in kept.values()]
    share = [(h.mean(0) ** 2).sum() / (h**2).mean(0).sum() for h in outputs]
    return torch.stack([h.mean() for h in outputs]), torch.stack(share)


@torch.no_grad()
def means_by_slicing(model, x, batch_size):
    mean, share = [], []
    for i in range(1, len(model), 2):
        h = torch.cat([model[: i + 1](part) for part in x.split(batch_size)]).double()
        mean.append(h.mean().item())
        share.append((h.mean(0).square().mean() / h.square().mean()).item())
    return mean, share


@torch.no_grad()
def means_by_variance(model, x, batch_size):
    mean, share, parts = [], [], list(x.double().split(batch_size))
    wide = __import__("copy").deepcopy(model).double()
    for module in wide:
        parts = [module(part) for part in parts]
        if isinstance(module, nn.Linear):
            continue
        h = torch.cat(parts)
        total = h.square().mean(0).sum()
        mean.append(h.mean())
        share.append((total - h.var(0, correction=0).sum()) / total)
    return torch.stack(mean), torch.stack(share)


layer_means_exercise = Exercise(
    id="activations.layer_means",
    lesson="03_activations",
    title="The mean that a layer passes on",
    answer="layer_means",
    criteria=(
        # float32 activations of two layouts, summed in another order
        Criterion("mean", 1, Close(operations=128)),
        Criterion("constant share", 2, Close(operations=128)),
    ),
    cases=means_cases,
    probe=means_probe,
    reference=layer_means,
    misconceptions=(
        Misconception(
            "batch_means_averaged",
            batch_means_averaged,
            "You average the batches' means. In the case “{case}” the last batch is smaller, so its examples count "
            "more than the others.",
            "Add up sums over examples, and divide by their number at the end.",
        ),
        Misconception(
            "one_batch_only",
            one_batch_only,
            "You measure on the first batch only; a mean over the data set needs all of them.",
            "Go through x.split(batch_size).",
        ),
        Misconception(
            "before_the_activation",
            before_the_activation,
            "You measure z, before the activation. What the next layer gets is what comes out of it.",
            "Measure after each activation module.",
        ),
        Misconception(
            "logits_counted",
            logits_counted,
            "Your list is one too long: the last linear layer's outputs are the logits, which no activation bends.",
            "One entry for each activation.",
        ),
        Misconception(
            "size_instead_of_mean",
            size_instead_of_mean,
            "Your mean is that of the absolute values. Negative outputs then push it up, where they should pull it "
            "to 0.",
            "Take the mean of the outputs as they are.",
        ),
        Misconception(
            "active_values_only",
            active_values_only,
            "Your mean leaves out what is not positive. The next layer sees the zeros and the negative values too.",
            "Take the mean of all outputs.",
        ),
        Misconception(
            "one_mean_for_the_layer",
            one_mean_for_the_layer,
            "For the constant share you square one mean for the whole layer. A unit at +1 and one at −1 then cancel, "
            "although both pass on a constant.",
            "Square each unit's own mean, then add up over the units.",
        ),
        Misconception(
            "root_of_the_share",
            root_of_the_share,
            "Your constant share is the square root of the right one.",
            "It is a ratio of squares; leave the root out.",
        ),
        Misconception(
            "varying_share",
            varying_share,
            "You return 1 minus the constant share: the part that changes from example to example.",
            "The squared means stand above the line.",
        ),
        Misconception(
            "over_the_variance",
            over_the_variance,
            "You divide by the variance. A share divides by the whole, the mean square, of which the variance is the "
            "other part.",
            "Divide by the sum of the units' mean squares.",
        ),
        Misconception(
            "mean_of_the_units_shares",
            mean_of_the_units_shares,
            "You average the units' own shares. A faint unit then counts as much as a strong one, and a dead one "
            "is 0/0.",
            "Sum above the line and below it over the units first, then divide.",
        ),
    ),
    variants=(
        Variant("by_hooks", means_by_hooks),
        Variant("by_slicing", means_by_slicing),
        Variant("by_variance", means_by_variance),
    ),
    hints=(
        "Keep two running sums for each unit: of its outputs, and of their squares.",
        "With mₖ a unit's mean and sₖ its mean square over the data set, the constant share is Σ mₖ² / Σ sₖ.",
        "for i, module in enumerate(model): h = module(h); every odd i is an activation. Sum h and h.square() over the "
        "examples of all batches, divide by len(x), then put the two together.",
    ),
    minutes=12,
)
