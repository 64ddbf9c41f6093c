"""The clinic: half of the units dead after one large step, and a softmax applied twice. Then, in your own words."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

# ---------------------------------------------------------------- units that one step kills


def rate_cases(seed):
    """One to three hidden layers, rates in any order, a limit that all or no rate keeps, uneven layers."""
    rng = np.random.default_rng(seed)

    def case(name, widths, rates, limit, n=40, lift=0.8):
        inputs = {
            "x": rng.uniform(0.0, 1.0, (n, 8)) + lift,
            "labels": rng.integers(0, 4, n),
            "rates": np.array(rates),
            "limit": limit,
            "hidden": len(widths),
        }
        sizes = (8, *widths, 4)
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            inputs |= {f"w{i}": rng.normal(size=(b, a)) * (2 / a) ** 0.5, f"b{i}": rng.normal(0, 0.3, b)}
        return Case(name, inputs)

    yield case("two layers of 12, rates rising", (12, 12), (0.01, 0.3, 1.0, 3.0, 10.0), 0.4)
    yield case("one layer of 20, rates falling", (20,), (30.0, 3.0, 0.5, 0.02), 0.35)
    yield case("three layers, rates in no order", (14, 10, 8), (1.0, 0.01, 20.0, 0.2), 0.45)
    yield case("layers of 24 and 4", (24, 4), (0.05, 0.5, 2.0, 8.0), 0.4)
    yield case("a limit that every rate keeps", (10, 10), (0.01, 0.1, 2.0), 1.0)
    yield case("a limit that no rate keeps", (10, 10), (0.5, 5.0, 50.0), -0.01)


def rate_probe(candidate, case):
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
    model = nn.Sequential(*layers[:-1])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    rates = [float(rate) for rate in case["rates"]]
    shares, rate = candidate(model, torch.tensor(case["x"]), torch.tensor(case["labels"]), rates, case["limit"])
    same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return {
        "dead shares": torch.as_tensor(shares, dtype=torch.float64),
        "largest rate": torch.as_tensor(rate, dtype=torch.float64),
        "the model afterwards": "as it was" if same else "changed",
    }


def largest_safe_rate(model, x, labels, rates, limit):
    """(dead shares after one step at each rate, the largest rate with a share of at most limit, or 0.0)."""
    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        net.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def steps_pile_up(model, x, labels, rates, limit):
    import copy

    net = copy.deepcopy(model)
    shares = []
    for rate in rates:
        net.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def model_left_changed(model, x, labels, rates, limit):
    import copy

    net = copy.deepcopy(model)
    shares = []
    for rate in rates:
        model.load_state_dict(net.state_dict())
        model.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in model:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def gradients_pile_up(model, x, labels, rates, limit):
    import copy

    start = copy.deepcopy(model.state_dict())
    net = copy.deepcopy(model)
    shares = []
    for rate in rates:
        net.load_state_dict(start)
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def step_upwards(model, x, labels, rates, limit):
    import copy

    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def looked_before_the_step(model, x, labels, rates, limit):
    import copy

    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        dead, h = [], x
        for module in net:
            h = module(h)
            if isinstance(module, nn.ReLU):
                dead.append((h <= 0).all(0))
        F.cross_entropy(h, labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def zeros_counted(model, x, labels, rates, limit):
    import copy

    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            off, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    off.append((h <= 0).double().mean(0))
        shares.append(float(torch.cat(off).mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def layers_count_alike(model, x, labels, rates, limit):
    import copy

    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0).double().mean())
        shares.append(float(torch.stack(dead).mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def loss_summed(model, x, labels, rates, limit):
    import copy

    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        F.cross_entropy(net(x), labels, reduction="sum").backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def weights_stepped_only(model, x, labels, rates, limit):
    import copy

    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for module in net:
                if isinstance(module, nn.Linear):
                    module.weight -= rate * module.weight.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)


def first_that_fits(model, x, labels, rates, limit):
    import copy

    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, next((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), 0.0)


def rate_by_optimizer(model, x, labels, rates, limit):
    import copy

    shares = torch.zeros(len(rates), dtype=torch.float64)
    for k, rate in enumerate(rates):
        net = copy.deepcopy(model)
        optimizer = torch.optim.SGD(net.parameters(), lr=rate)
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(net(x), labels).backward()
        optimizer.step()
        fired = []
        handles = [
            module.register_forward_hook(lambda m, a, out, fired=fired: fired.append((out > 0).any(0)))
            for module in net
            if isinstance(module, nn.ReLU)
        ]
        with torch.no_grad():
            net(x)
        for handle in handles:
            handle.remove()
        shares[k] = 1 - torch.cat(fired).double().mean()
    fitting = [rate for rate, share in zip(rates, shares, strict=True) if share <= limit]
    return shares, max(fitting) if fitting else 0.0


def rate_by_restoring(model, x, labels, rates, limit):
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(model(x), labels), parameters)
    start = [parameter.detach().clone() for parameter in parameters]
    shares, best = [], 0.0
    with torch.no_grad():
        for rate in rates:
            for parameter, p, g in zip(parameters, start, gradients, strict=True):
                parameter.copy_(p - rate * g)
            h, dead, units = x, 0, 0
            for module in model:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead += int((h.amax(0) == 0).sum())
                    units += h.shape[1]
            shares.append(dead / units)
            if shares[-1] <= limit:
                best = max(best, rate)
        for parameter, p in zip(parameters, start, strict=True):
            parameter.copy_(p)
    return shares, best


def rate_by_functional_call(model, x, labels, rates, limit):
    names = dict(model.named_parameters())
    gradients = torch.autograd.grad(F.cross_entropy(model(x), labels), list(names.values()))
    relus = [i for i, module in enumerate(model) if isinstance(module, nn.ReLU)]
    shares = []
    for rate in rates:
        moved = {name: p.detach() - rate * g for (name, p), g in zip(names.items(), gradients, strict=True)}
        h, dead = x, []
        for i in range(len(model)):
            own = {name.split(".")[1]: p for name, p in moved.items() if name.split(".")[0] == str(i)}
            h = torch.func.functional_call(model[i], own, (h,))
            if i in relus:
                dead += (h <= 0).all(dim=0).tolist()
        shares.append(sum(dead) / len(dead))
    return np.array(shares), max([0.0] + [r for r, s in zip(rates, shares, strict=True) if s <= limit])


clinic_dead = Exercise(
    id="activations.clinic_dead",
    lesson="03_activations",
    title="Clinic: half of the units dead after one large step",
    answer="largest_safe_rate",
    criteria=(
        Criterion("dead shares", 2, Close(operations=16)),
        Criterion("largest rate", 1, Close(operations=4), requires=("dead shares",)),
        Criterion("the model afterwards", 1, requires=("dead shares",)),
    ),
    cases=rate_cases,
    probe=rate_probe,
    reference=largest_safe_rate,
    misconceptions=(
        Misconception(
            "steps_pile_up",
            steps_pile_up,
            "Each rate starts where the one before has left the net. You measure many steps in a row, not one step at "
            "each rate.",
            "Start every rate from the same weights: copy.deepcopy(model).",
        ),
        Misconception(
            "model_left_changed",
            model_left_changed,
            "The numbers are right, but the model comes back with the weights of your last trial.",
            "Step a copy, or put the weights back.",
        ),
        Misconception(
            "gradients_pile_up",
            gradients_pile_up,
            "You put the weights back, but not the gradients: backward() adds to .grad, so the second rate steps by "
            "twice the gradient, the third by three times.",
            "Set the gradients to zero before each backward().",
        ),
        Misconception(
            "step_upwards",
            step_upwards,
            "Your step goes up the loss: the gradient is added.",
            "parameter − rate · gradient.",
        ),
        Misconception(
            "looked_before_the_step",
            looked_before_the_step,
            "You look at the units before the step: the dead shares are the same at every rate.",
            "Send x through the net again after the step.",
        ),
        Misconception(
            "zeros_counted",
            zeros_counted,
            "You measure how many outputs are 0. A living ReLU is off for about half of its examples; a dead "
            "one for all.",
            "(h <= 0).all(0), then the share over the units.",
        ),
        Misconception(
            "layers_count_alike",
            layers_count_alike,
            "You average the layers' shares. In the case “{case}” the layers differ in size, so a unit of the small "
            "one counts more.",
            "Put the units of all layers in one list, then take its mean.",
        ),
        Misconception(
            "loss_summed",
            loss_summed,
            "You step by the gradient of the summed loss, as many times larger as there are examples.",
            "F.cross_entropy's default is the mean.",
        ),
        Misconception(
            "weights_stepped_only",
            weights_stepped_only,
            "Your step moves the weights and leaves the biases. It is often the bias that carries a unit out of reach.",
            "Step every parameter of model.parameters().",
        ),
        Misconception(
            "first_that_fits",
            first_that_fits,
            "You return the first rate that keeps the limit. The rates come in any order.",
            "Take the maximum of those that keep it.",
        ),
    ),
    variants=(
        Variant("by_optimizer", rate_by_optimizer),
        Variant("by_restoring", rate_by_restoring),
        Variant("by_functional_call", rate_by_functional_call),
    ),
    hints=(
        "For each rate: a copy of the net, one backward, one step, then x again through the copy.",
        "copy.deepcopy(model) takes the weights along. Collect (h <= 0).all(0) after each nn.ReLU; torch.cat "
        "joins them.",
        "The largest of the rates with a share of at most limit: max((…), default=0.0).",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- softmax applied twice


def twice_cases(seed):
    """Logits of all kinds (some look like probabilities), probabilities, their logarithms; 2 to 10 classes."""
    rng = np.random.default_rng(seed)

    def softmax(z):
        power = np.exp(z - z.max(-1, keepdims=True))
        return power / power.sum(-1, keepdims=True)

    def case(name, outputs, dtype=np.float32):
        outputs = np.asarray(outputs)
        return Case(name, {"outputs": outputs.astype(dtype), "labels": rng.integers(0, outputs.shape[1], len(outputs))})

    z = rng.normal(0.0, 2.0, (12, 10))
    yield case("logits, 10 classes", z)
    yield case("probabilities, 10 classes", softmax(z))
    yield case("logarithms of probabilities", np.log(softmax(rng.normal(0.0, 3.0, (9, 4)))))
    yield case("logits, all positive", rng.uniform(0.1, 3.0, (8, 5)))
    summing = rng.normal(0.0, 2.0, (8, 5))
    yield case("logits whose rows sum to 1", summing + (1 - summing.sum(-1, keepdims=True)) / 5)
    yield case("logits, all negative", rng.uniform(-9.0, -4.0, (8, 3)))
    yield case("probabilities, 2 classes, float64", softmax(rng.normal(0.0, 1.0, (7, 2))), np.float64)
    yield case("one row of probabilities", softmax(rng.normal(0.0, 1.0, (1, 6))))


def twice_probe(candidate, case):
    import torch

    kind, loss, floor = candidate(torch.tensor(case["outputs"]), torch.tensor(case["labels"]))
    if not isinstance(kind, str):
        raise TypeError('the first of the three results is a text: "logits", "probabilities" or "log-probabilities"')
    return {
        "kind": kind,
        "loss": torch.as_tensor(loss).detach().to(torch.float32),
        "floor": torch.as_tensor(floor).detach().to(torch.float32),
    }


def diagnose_outputs(outputs, labels):
    """(what the outputs are, the loss they deserve, the least that F.cross_entropy of such outputs can get to)."""
    ones = torch.ones(len(outputs), dtype=outputs.dtype)
    classes = outputs.shape[1]
    if (outputs >= 0).all() and torch.allclose(outputs.sum(1), ones, atol=1e-4):
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all() and torch.allclose(outputs.exp().sum(1), ones, atol=1e-4):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def always_cross_entropy(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    classes, loss = outputs.shape[1], F.cross_entropy(outputs, labels)
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", loss, math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", loss, 0.0
    return "logits", loss, 0.0


def logarithm_forgotten(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    classes = outputs.shape[1]
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", F.nll_loss(outputs, labels), math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def judged_by_sign(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    classes = outputs.shape[1]
    if (outputs >= 0).all():
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def judged_by_sum(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    classes = outputs.shape[1]
    if near_one(outputs):
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def negative_is_logarithm(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    classes = outputs.shape[1]
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all():
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def no_third_kind(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    classes = outputs.shape[1]
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(math.e + classes - 1) - 1
    return "logits", F.cross_entropy(outputs, labels), 0.0


def floor_of_zero(outputs, labels):
    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", F.nll_loss(outputs.log(), labels), 0.0
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def floor_of_guessing(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(outputs.shape[1])
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def floor_of_all_classes(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(math.e + outputs.shape[1]) - 1
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0


def losses_summed(outputs, labels):
    import math

    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    classes = outputs.shape[1]
    if (outputs >= 0).all() and near_one(outputs):
        loss = F.nll_loss(outputs.log(), labels, reduction="sum")
        return "probabilities", loss, math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels, reduction="sum"), 0.0
    return "logits", F.cross_entropy(outputs, labels, reduction="sum"), 0.0


def outputs_by_picking(outputs, labels):
    import math

    picked = outputs[torch.arange(len(labels)), labels]
    one = lambda sums: bool(torch.all(torch.abs(sums - 1) < 1e-3))
    if outputs.min() >= 0 and one(outputs.sum(-1)):
        c = outputs.shape[-1]
        return "probabilities", -picked.log().mean(), -math.log(math.e / (math.e + (c - 1)))
    if outputs.max() <= 0 and one(outputs.exp().sum(-1)):
        return "log-probabilities", -picked.mean(), 0
    return "logits", (outputs.logsumexp(-1) - picked).mean(), 0


def outputs_by_trial(outputs, labels):
    spread = outputs.shape[1]
    if torch.allclose(torch.logsumexp(outputs, 1), torch.zeros(len(outputs), dtype=outputs.dtype), atol=1e-4):
        return "log-probabilities", float(F.cross_entropy(outputs, labels)), 0.0
    rows_sum = (outputs.sum(1) - 1).abs().max() < 1e-4
    if rows_sum and bool((outputs >= 0).all()):
        best = torch.zeros(1, spread, dtype=torch.float64)
        best[0, 0] = 1  # the surest answer that probabilities can give
        floor = F.cross_entropy(best, torch.zeros(1, dtype=torch.long))
        return "probabilities", float(F.cross_entropy(outputs.log(), labels)), float(floor)
    return "logits", float(F.cross_entropy(outputs, labels)), 0.0


def outputs_in_numpy(outputs, labels):
    rows, right = outputs.double().numpy(), labels.numpy()
    at = np.arange(len(right)), right
    if rows.min() >= 0 and np.allclose(rows.sum(1), 1, atol=1e-4):
        return "probabilities", -np.log(rows[at]).mean(), np.log(1 + (rows.shape[1] - 1) / np.e)
    if rows.max() <= 0 and np.allclose(np.exp(rows).sum(1), 1, atol=1e-4):
        return "log-probabilities", -rows[at].mean(), 0.0
    top = rows.max(1)
    return "logits", (top + np.log(np.exp(rows - top[:, None]).sum(1)) - rows[at]).mean(), 0.0


clinic_softmax = Exercise(
    id="activations.clinic_softmax",
    lesson="03_activations",
    title="Clinic: softmax applied twice",
    answer="diagnose_outputs",
    criteria=(
        Criterion("kind", 1),
        Criterion("loss", 1, Close(operations=64, scale=1.0)),
        Criterion("floor", 1, Close(operations=16, scale=1.0), requires=("kind",)),
    ),
    cases=twice_cases,
    probe=twice_probe,
    reference=diagnose_outputs,
    misconceptions=(
        Misconception(
            "always_cross_entropy",
            always_cross_entropy,
            "You give the outputs to F.cross_entropy whatever they are. In the case “{case}” they are probabilities "
            "already, and it takes a softmax of them once more: this is the very fault of the clinic.",
            "For probabilities the loss is −log of the right class's probability.",
        ),
        Misconception(
            "logarithm_forgotten",
            logarithm_forgotten,
            "Your loss for probabilities is negative: F.nll_loss takes logarithms of probabilities, despite its name, "
            "and takes no logarithm itself.",
            "F.nll_loss(outputs.log(), labels).",
        ),
        Misconception(
            "judged_by_sign",
            judged_by_sign,
            "You call everything positive probabilities. In the case “{case}” all logits happen to be positive, and "
            "their rows do not sum to 1.",
            "Ask for both: no value below 0, and rows that sum to 1.",
        ),
        Misconception(
            "judged_by_sum",
            judged_by_sum,
            "You call everything probabilities whose rows sum to 1. In the case “{case}” there are negative "
            "values too.",
            "Ask for both: no value below 0, and rows that sum to 1.",
        ),
        Misconception(
            "negative_is_logarithm",
            negative_is_logarithm,
            "You call everything negative log-probabilities. In the case “{case}” the exponentials do not sum to 1.",
            "Ask for both: no value above 0, and rows of outputs.exp() that sum to 1.",
        ),
        Misconception(
            "no_third_kind",
            no_third_kind,
            "You call log-probabilities logits. The loss is the same (softmax of them gives the probabilities back), "
            "but there are three kinds to tell apart.",
            "Rows of outputs.exp() that sum to 1 are log-probabilities.",
        ),
        Misconception(
            "floor_of_zero",
            floor_of_zero,
            "Your floor is 0 for probabilities too. F.cross_entropy takes them for logits, and logits between 0 and 1 "
            "can't be sure: the surest row is 1 for one class and 0 for the "
            "others, and the softmax of that is far from it.",
            "Work out F.cross_entropy for a row that is 1 for its label and 0 elsewhere.",
        ),
        Misconception(
            "floor_of_guessing",
            floor_of_guessing,
            "Your floor is log C, the loss of guessing among C classes. It is the best case that is asked, not the "
            "blind one.",
            "Work out F.cross_entropy for a row that is 1 for its label and 0 elsewhere.",
        ),
        Misconception(
            "floor_of_all_classes",
            floor_of_all_classes,
            "Under the logarithm you count one class too many: e for the right one and 1 for each of the C − 1 others.",
            "log(e + C − 1) − 1.",
        ),
        Misconception(
            "losses_summed",
            losses_summed,
            "Your loss is the sum over the examples, {ratio:.0f} × the mean.",
            "Take the mean.",
        ),
    ),
    variants=(
        Variant("by_picking", outputs_by_picking),
        Variant("by_trial", outputs_by_trial),
        Variant("in_numpy", outputs_in_numpy),
    ),
    hints=(
        "What do all rows of probabilities have in common? And the exponentials of log-probabilities?",
        "The loss is −log of the right class's probability, a mean over the examples: which steps are done already?",
        "The surest row of probabilities is (1, 0, …, 0). Its cross-entropy, taken for logits, is "
        "−log(e / (e + C − 1)).",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- in your own words

explain = Explanation(
    id="activations.explain",
    lesson="03_activations",
    title="Advise a colleague",
    rubric={
        "Zeros are not death: a living ReLU is off for many examples; dead is a unit that is off for every example of "
        "the data set": 1,
        "Why it stays dead: slope 0 everywhere, so its own weights get no gradient; in a deeper layer changing inputs "
        "may wake it, in the first nothing can": 1,
        "The likely cause and its test: too large a step (or a large negative bias); measure the dead share before and "
        "after one step at several rates": 1,
        "The mend, with its limits: a smaller rate or warm-up and a fitting initialization, or a slope below 0 (leaky "
        "ReLU, ELU); no activation is best everywhere, so tune the rate for each before comparing": 1,
    },
    minutes=10,
)
