"""Saturated units: where the activation is so flat that hardly any gradient passes."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .backward import LESSON


def share_cases(seed):
    """Sigmoid, tanh, both, deep, small and large weights, shifted to one side, parts within parts. In float64, so that
    no value stands on the limit by rounding.
    """
    rng = np.random.default_rng(seed)

    def case(name, kinds, scale=1.0, shift=0.0, n=40, width=10, nested=False):
        layers = len(kinds.split())
        return Case(
            name,
            {
                "x": rng.normal(size=(n, width)),
                "weights": scale * rng.normal(size=(layers, width, width)),
                "bias": shift + rng.normal(size=(layers, width)),
                "kinds": kinds,
                "nested": nested,
            },
        )

    yield case("two sigmoid layers", "sigmoid sigmoid", scale=1.5)
    yield case("two tanh layers", "tanh tanh")
    yield case("sigmoid, then tanh", "sigmoid tanh", scale=1.2)
    yield case("ReLU between", "sigmoid relu tanh", scale=0.8)
    yield case("shifted to the upper side", "sigmoid tanh", shift=4.0)
    yield case("shifted to the lower side", "sigmoid tanh", shift=-4.0)
    yield case("small weights: nobody is flat", "sigmoid sigmoid", scale=0.01)
    yield case("parts within parts", "tanh sigmoid", scale=2.0, nested=True)
    yield case("one example", "sigmoid tanh", n=1, scale=2.0, width=30)


def share_probe(candidate, case):
    import torch
    from torch import nn

    made = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
    parts = []
    for kind, weight, bias in zip(case["kinds"].split(), case["weights"], case["bias"]):  # noqa: B905
        layer = nn.Linear(*weight.shape).double()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
        parts.append([layer, made[kind]()])
    if case["nested"]:
        model = nn.Sequential(*(nn.Sequential(*part) for part in parts))
    else:
        model = nn.Sequential(*(module for part in parts for module in part))
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    shares = candidate(model, torch.tensor(case["x"]))
    if isinstance(shares, (list, tuple)):
        shares = torch.stack([torch.as_tensor(share, dtype=torch.float32) for share in shares])
    left = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    return {"shares": torch.as_tensor(shares, dtype=torch.float32), "hooks left behind": left - hooks}


def saturated_share(model, x):
    """For each Sigmoid and Tanh, in order: the share of its values at which the slope is under 5% of its steepest."""
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((relative < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return torch.stack(shares)


def near_the_ends(model, x):
    shares = []

    def look(module, args, y):
        low, high = (0.0, 1.0) if isinstance(module, nn.Sigmoid) else (-1.0, 1.0)
        margin = 0.05 * (high - low)
        shares.append(((y < low + margin) | (y > high - margin)).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def upper_side_only(model, x):
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        middle = 0.5 if isinstance(module, nn.Sigmoid) else 0.0
        shares.append(((relative < 0.05) & (y > middle)).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def limit_not_relative(model, x):
    shares = []

    def look(module, args, y):
        slope = y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((slope < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def one_formula_for_both(model, x):
    shares = []

    def look(module, args, y):
        shares.append((4 * y * (1 - y) < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def slope_of_the_output(model, x):
    shares = []

    def look(module, args, y):
        if isinstance(module, nn.Sigmoid):
            relative = 4 * torch.sigmoid(y) * (1 - torch.sigmoid(y))
        else:
            relative = 1 - torch.tanh(y).square()
        shares.append((relative < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def only_sigmoids(model, x):
    shares = []

    def look(module, args, y):
        shares.append((4 * y * (1 - y) < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid)]
    model(x)
    for handle in handles:
        handle.remove()
    return torch.stack(shares) if shares else torch.zeros(0)


def units_flat_everywhere(model, x):
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((relative < 0.05).all(0).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def units_flat_somewhere(model, x):
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((relative < 0.05).any(0).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def counted_not_shared(model, x):
    counts = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        counts.append((relative < 0.05).sum())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return counts


def share_that_is_not_flat(model, x):
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((relative >= 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def mean_of_the_layers(model, x):
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((relative < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return sum(shares) / len(shares)


def share_in_percent(model, x):
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append(100 * (relative < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    model(x)
    for handle in handles:
        handle.remove()
    return shares


def hooks_stay(model, x):
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((relative < 0.05).float().mean())

    for module in model.modules():
        if isinstance(module, nn.Sigmoid | nn.Tanh):
            module.register_forward_hook(look)
    model(x)
    return shares


def share_by_walking(model, x):
    shares, h = [], x
    for module in (m for m in model.modules() if not isinstance(m, nn.Sequential)):
        z, h = h, module(h)
        if isinstance(module, nn.Sigmoid):
            shares.append((torch.sigmoid(z) * torch.sigmoid(-z) < 0.0125).double().mean())
        elif isinstance(module, nn.Tanh):
            shares.append((1 / torch.cosh(z) ** 2 < 0.05).double().mean())
    return torch.stack(shares).detach()


def share_by_autograd(model, x):
    found = []

    def look(module, args):
        z = args[0].detach().clone().requires_grad_()
        slope = torch.autograd.grad(module.forward(z).sum(), z)[0]
        steepest = 0.25 if isinstance(module, nn.Sigmoid) else 1.0
        found.append(float((slope / steepest < 0.05).double().mean()))

    handles = [m.register_forward_pre_hook(look) for m in model.modules() if type(m) in (nn.Sigmoid, nn.Tanh)]
    try:
        model(x)
    finally:
        [handle.remove() for handle in handles]
    return found


def share_by_limits_of_z(model, x):
    found, handles = [], []
    half = float(np.arccosh(np.sqrt(20.0)))  # tanh'(z) = 1/cosh²(z) = 0.05; the sigmoid's z is twice as large

    def watch(limit):
        return lambda module, args, y: found.append((args[0].abs() > limit).sum().item() / args[0].numel())

    for module in model.modules():
        if isinstance(module, nn.Sigmoid):
            handles.append(module.register_forward_hook(watch(2 * half)))
        if isinstance(module, nn.Tanh):
            handles.append(module.register_forward_hook(watch(half)))
    with torch.inference_mode():
        model(x)
    for handle in handles:
        handle.remove()
    return np.array(found)


saturated_share_exercise = Exercise(
    id="vanishing_gradients.saturated_share",
    lesson=LESSON,
    title="How many units are saturated?",
    answer="saturated_share",
    criteria=(Criterion("shares", 2, Close(operations=16, scale=1.0)), Criterion("hooks left behind", 0)),
    cases=share_cases,
    probe=share_probe,
    reference=saturated_share,
    misconceptions=(
        Misconception(
            "near_the_ends",
            near_the_ends,
            "You count outputs within 5% of the ends. The slope falls off more slowly than the output nears its end: "
            "at y = 0.05 the sigmoid still has 19% of its steepest slope.",
            "Compute the slope, and compare that.",
        ),
        Misconception(
            "upper_side_only",
            upper_side_only,
            "You count only the upper end. At the lower end the function is just as flat: see the case “{case}”.",
            "Compare the slope, whichever side the unit is on.",
        ),
        Misconception(
            "limit_not_relative",
            limit_not_relative,
            "You compare the slope itself with 0.05. The sigmoid's steepest slope is 1/4, so 5% of that is 0.0125. "
            "(For tanh, whose steepest is 1, it makes no difference.)",
            "Divide the slope by the steepest first.",
        ),
        Misconception(
            "one_formula_for_both",
            one_formula_for_both,
            "You use y (1 − y) for tanh too. Its slope is 1 − y².",
            "Ask isinstance(module, nn.Sigmoid), and use each one's own slope.",
        ),
        Misconception(
            "slope_of_the_output",
            slope_of_the_output,
            "You put the output into the function again before you take the slope.",
            "With y the layer's output, the slope is y (1 − y), or 1 − y² for tanh.",
        ),
        Misconception(
            "only_sigmoids",
            only_sigmoids,
            "The tanh layers are missing.",
            "Look at nn.Sigmoid and nn.Tanh.",
        ),
        Misconception(
            "units_flat_everywhere",
            units_flat_everywhere,
            "You count units that are flat for all examples. Asked is the share of all values: a unit may be flat for "
            "one example and not for the next.",
            "Average over examples and units at once.",
        ),
        Misconception(
            "units_flat_somewhere",
            units_flat_somewhere,
            "You count units that are flat for any example: that share grows with the batch.",
            "Average over examples and units at once.",
        ),
        Misconception(
            "counted_not_shared",
            counted_not_shared,
            "You return counts. Asked are shares, between 0 and 1.",
            "Use .float().mean() in place of .sum().",
        ),
        Misconception(
            "share_that_is_not_flat",
            share_that_is_not_flat,
            "You return the share of units that are not flat.",
            "Count slopes under 5% of the steepest.",
        ),
        Misconception(
            "mean_of_the_layers",
            mean_of_the_layers,
            "You return one number for the whole net. Where the flat layers are is what you want to know.",
            "Return one share a layer.",
        ),
        Misconception(
            "share_in_percent",
            share_in_percent,
            "Your shares are in percent. Asked are shares between 0 and 1.",
            "Leave the factor 100 out.",
        ),
        Misconception(
            "hooks_stay",
            hooks_stay,
            "The shares are right, but your hooks stay on the model: each later forward pass runs them again, and "
            "their list grows.",
            "Keep the handles that register_forward_hook returns, and call .remove() on each.",
        ),
    ),
    variants=(
        Variant("share_by_walking", share_by_walking),
        Variant("share_by_autograd", share_by_autograd),
        Variant("share_by_limits_of_z", share_by_limits_of_z),
    ),
    forbidden=("course_lib.diagnostics",),
    hints=(
        "From its output y alone you get each activation's slope: y (1 − y) for the sigmoid, 1 − y² for tanh. How "
        "large are they at most?",
        "module.register_forward_hook(f) calls f(module, args, output) in each forward pass, and returns a handle "
        "whose .remove() takes the hook off again.",
        "Relative slope: 4 y (1 − y) for the sigmoid, 1 − y² for tanh. (relative < 0.05).float().mean() for each "
        "layer.",
    ),
    minutes=12,
)
