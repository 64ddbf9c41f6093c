"""What batch norm keeps for later: the running statistics in both conventions, and the layer that keeps them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .forward import FORBIDDEN

# ---------------------------------------------------------------- one update


def update_cases(seed):
    """Both conventions on ordinary, square and smallest batches, momenta on both sides of 1/2, float64."""
    rng = np.random.default_rng(seed)

    def case(name, convention, momentum, n=16, c=4, mean=1.0, spread=2.0, dtype=np.float32):
        arrays = {
            "running_mean": rng.normal(size=c),
            "running_var": rng.uniform(0.5, 2.0, c),
            "x": rng.normal(mean, spread, (n, c)),
        }
        arrays = {name: value.astype(dtype) for name, value in arrays.items()}
        return Case(name, arrays | {"momentum": momentum, "convention": convention})

    yield case("PyTorch, momentum 0.1", "torch", 0.1)
    yield case("Keras, momentum 0.99", "keras", 0.99)
    yield case("PyTorch, momentum 0.8", "torch", 0.8)
    yield case("Keras, momentum 0.3, 5 × 5", "keras", 0.3, n=5, c=5)
    yield case("PyTorch, a batch of 2", "torch", 0.3, n=2)
    yield case("Keras, a batch of 2", "keras", 0.7, n=2)
    yield case("PyTorch, momentum 1", "torch", 1.0, n=6)
    yield case("PyTorch, values around 1e3", "torch", 0.2, mean=1e3, spread=1e2)
    yield case("Keras, float64", "keras", 0.9, n=7, dtype=np.float64)


def update_probe(candidate, case):
    import torch

    mean, var, x = (torch.tensor(case[name]) for name in ("running_mean", "running_var", "x"))
    x.requires_grad_()
    new_mean, new_var = candidate(mean, var, x, case["momentum"], case["convention"])
    return {
        "running mean": new_mean,
        "running variance": new_var,
        "no graph hangs on": not (new_mean.requires_grad or new_var.requires_grad),
        "old statistics left as they were": torch.stack([mean, var]),
    }


def update_running(running_mean, running_var, x, momentum, convention):
    """The new (running_mean, running_var), each (C,), after the batch x (N, C), as "torch" or "keras" would have it."""
    x = x.detach()
    weight_of_new = momentum if convention == "torch" else 1 - momentum
    var = x.var(0, correction=1 if convention == "torch" else 0)
    new_mean = (1 - weight_of_new) * running_mean + weight_of_new * x.mean(0)
    return new_mean, (1 - weight_of_new) * running_var + weight_of_new * var


def torch_for_both(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new_mean = (1 - momentum) * running_mean + momentum * x.mean(0)
    return new_mean, (1 - momentum) * running_var + momentum * x.var(0)


def keras_for_both(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new_mean = momentum * running_mean + (1 - momentum) * x.mean(0)
    return new_mean, momentum * running_var + (1 - momentum) * x.var(0, correction=0)


def momenta_exchanged(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new = 1 - momentum if convention == "torch" else momentum
    var = x.var(0, correction=1 if convention == "torch" else 0)
    return (1 - new) * running_mean + new * x.mean(0), (1 - new) * running_var + new * var


def always_torch_momentum(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    var = x.var(0, correction=1 if convention == "torch" else 0)
    return (1 - momentum) * running_mean + momentum * x.mean(0), (1 - momentum) * running_var + momentum * var


def always_biased(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new = momentum if convention == "torch" else 1 - momentum
    var = x.var(0, correction=0)
    return (1 - new) * running_mean + new * x.mean(0), (1 - new) * running_var + new * var


def always_unbiased(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new = momentum if convention == "torch" else 1 - momentum
    return (1 - new) * running_mean + new * x.mean(0), (1 - new) * running_var + new * x.var(0)


def variances_exchanged(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new = momentum if convention == "torch" else 1 - momentum
    var = x.var(0, correction=0 if convention == "torch" else 1)
    return (1 - new) * running_mean + new * x.mean(0), (1 - new) * running_var + new * var


def deviations_averaged(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new = momentum if convention == "torch" else 1 - momentum
    std = x.std(0, correction=1 if convention == "torch" else 0)
    return (1 - new) * running_mean + new * x.mean(0), (1 - new) * running_var + new * std


def around_the_running_mean(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new = momentum if convention == "torch" else 1 - momentum
    n = len(x) - 1 if convention == "torch" else len(x)
    var = (x - running_mean).square().sum(0) / n
    return (1 - new) * running_mean + new * x.mean(0), (1 - new) * running_var + new * var


def graph_kept(running_mean, running_var, x, momentum, convention):
    new = momentum if convention == "torch" else 1 - momentum
    var = x.var(0, correction=1 if convention == "torch" else 0)
    return (1 - new) * running_mean + new * x.mean(0), (1 - new) * running_var + new * var


def old_ones_overwritten(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    new = momentum if convention == "torch" else 1 - momentum
    var = x.var(0, correction=1 if convention == "torch" else 0)
    return running_mean.mul_(1 - new).add_(new * x.mean(0)), running_var.mul_(1 - new).add_(new * var)


def batch_alone(running_mean, running_var, x, momentum, convention):
    x = x.detach()
    return x.mean(0), x.var(0, correction=1 if convention == "torch" else 0)


def update_by_lerp(running_mean, running_var, x, momentum, convention):
    with torch.no_grad():
        var, mean = torch.var_mean(x, dim=0, correction=int(convention == "torch"))
        weight = {"torch": momentum, "keras": 1 - momentum}[convention]
        return torch.lerp(running_mean, mean, weight), torch.lerp(running_var, var, weight)


def update_by_differences(running_mean, running_var, x, momentum, convention):
    n, x = len(x), x.detach()
    mean = x.sum(0) / n
    var = ((x - mean) ** 2).sum(0) / n
    if convention == "torch":
        var = var * n / (n - 1)
    else:
        momentum = 1 - momentum
    return running_mean - momentum * (running_mean - mean), running_var - momentum * (running_var - var)


def update_by_match(running_mean, running_var, x, momentum, convention):
    with torch.no_grad():
        mean = x.mean(dim=0)
        match convention:
            case "torch":
                old, new, var = 1 - momentum, momentum, torch.var(x, dim=0)
            case "keras":
                old, new, var = momentum, 1 - momentum, torch.var(x, dim=0, unbiased=False)
        return old * running_mean + new * mean, old * running_var + new * var


running_statistics = Exercise(
    id="batch_norm.running_statistics",
    lesson="04_batch_norm",
    title="Running statistics, in both conventions",
    answer="update_running",
    criteria=(
        Criterion("running mean", 1, Close(operations=64, scale=1.0)),
        Criterion("running variance", 2, Close(operations=256), requires=("running mean",)),
        Criterion("no graph hangs on", 0),
        Criterion("old statistics left as they were", 0),
    ),
    cases=update_cases,
    probe=update_probe,
    reference=update_running,
    misconceptions=(
        Misconception(
            "torch_for_both",
            torch_for_both,
            "You follow PyTorch in both cases. In Keras momentum is the weight of the *old* value, and the variance is "
            "the biased one.",
            "Look at `convention`: two things depend on it.",
        ),
        Misconception(
            "keras_for_both",
            keras_for_both,
            "You follow Keras in both cases. In PyTorch momentum is the weight of the *new* value, and the variance is "
            "the unbiased one.",
            "Look at `convention`: two things depend on it.",
        ),
        Misconception(
            "momenta_exchanged",
            momenta_exchanged,
            "The two momenta are exchanged: PyTorch's (0.1 by default) is the weight of the new batch, Keras's (0.99) "
            "that of the old average.",
            "PyTorch: (1 − m) · old + m · new. Keras: m · old + (1 − m) · new.",
        ),
        Misconception(
            "always_torch_momentum",
            always_torch_momentum,
            "The variance follows the convention, the momentum does not: yours is the weight of the new batch in both.",
            "Keras: m · old + (1 − m) · new.",
        ),
        Misconception(
            "always_biased",
            always_biased,
            "Your running variance takes the biased variance in both. PyTorch normalizes the batch with it, and yet "
            "keeps the unbiased one; with a batch of 2 that is twice as much.",
            "For PyTorch divide by N − 1: x.var(0).",
        ),
        Misconception(
            "always_unbiased",
            always_unbiased,
            "Your running variance takes the unbiased variance in both. Keras keeps the biased one.",
            "For Keras divide by N: x.var(0, correction=0).",
        ),
        Misconception(
            "variances_exchanged",
            variances_exchanged,
            "Biased and unbiased variance are exchanged.",
            "PyTorch keeps the one with N − 1, Keras the one with N.",
        ),
        Misconception(
            "deviations_averaged",
            deviations_averaged,
            "What you average into the variance is the standard deviation.",
            "x.var(0, …), without a root.",
        ),
        Misconception(
            "around_the_running_mean",
            around_the_running_mean,
            "Your variance is taken around the running mean. Both frameworks take it around the mean of the batch.",
            "Subtract x.mean(0).",
        ),
        Misconception(
            "graph_kept",
            graph_kept,
            "The numbers are right, but the graph of x hangs on the new statistics: step by step it would grow, with "
            "every batch kept in memory.",
            "x.detach(), or with torch.no_grad().",
        ),
        Misconception(
            "old_ones_overwritten",
            old_ones_overwritten,
            "The numbers are right, but the old tensors are overwritten in place; asked are new ones.",
            "Leave out mul_ and add_.",
        ),
        Misconception(
            "batch_alone",
            batch_alone,
            "You return the batch's own statistics. The running ones are an average over many batches, of which this "
            "is only the latest.",
            "Mix old and new by the momentum.",
        ),
    ),
    variants=(
        Variant("update_by_lerp", update_by_lerp),
        Variant("update_by_differences", update_by_differences),
        Variant("update_by_match", update_by_match),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Which of the two values does momentum = 0.99 weigh? Which does 0.1?",
        "PyTorch: (1 − m) · old + m · new, with N − 1. Keras: m · old + (1 − m) · new, with N.",
        "x.var(0, correction=1) divides by N − 1, correction=0 by N. Detach x first.",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- the layer


def module_cases(seed):
    """One batch and several, momenta on both sides of 1/2, batches of 2, small variances, a single row at test."""
    rng = np.random.default_rng(seed)

    def case(name, batches=3, n=12, c=4, momentum=0.1, eps=1e-5, spread=2.0, test=6):
        return Case(
            name,
            {
                "batches": rng.normal(1.0, spread, (batches, n, c)).astype(np.float32),
                "test": rng.normal(0.5, spread, (test, c)).astype(np.float32),
                "weight": rng.uniform(0.5, 2.0, c).astype(np.float32),
                "bias": rng.normal(size=c).astype(np.float32),
                "momentum": momentum,
                "eps": eps,
            },
        )

    yield case("3 batches of 12, momentum 0.1")
    yield case("1 batch, momentum 0.1", batches=1)
    yield case("2 batches, momentum 0.7", batches=2, momentum=0.7)
    yield case("batches of 2, eps = 0.1", n=2, momentum=0.4, spread=0.7, eps=0.1)
    yield case("small variances, eps = 1e-3", spread=0.05, eps=1e-3)
    yield case("one example at test", test=1)


def module_probe(candidate, case):
    import torch

    batches, test = torch.tensor(case["batches"]), torch.tensor(case["test"])
    layer = candidate(batches.shape[2], eps=case["eps"], momentum=case["momentum"])
    if not isinstance(layer, torch.nn.Module):
        raise TypeError(f"{type(layer).__name__} was made where an nn.Module is expected")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(case["weight"]))
        layer.bias.copy_(torch.tensor(case["bias"]))
    layer.train()
    for x in batches[:-1]:
        layer(x)
    x = batches[-1].clone().requires_grad_()
    y = layer(x)
    if y.requires_grad:
        (y * torch.linspace(-1, 2, y.numel()).reshape(y.shape) ** 3).sum().backward()
    mean, var = layer.running_mean, layer.running_var
    facts = {
        "output in training": y,
        "gradient in training": torch.zeros_like(x) if x.grad is None else x.grad,
        "running mean": mean.detach().clone(),
        "running variance": var.detach().clone(),
        "no graph hangs on the statistics": not (mean.grad_fn or var.grad_fn),
    }
    layer.eval()
    facts["output in evaluation"] = layer(test)
    after = torch.stack([layer.running_mean, layer.running_var])
    facts["statistics stand still in evaluation"] = torch.equal(after, torch.stack([mean, var])) and torch.equal(
        after, torch.stack([facts["running mean"], facts["running variance"]])
    )
    layer.train()
    with torch.no_grad():
        facts["output in training, under no_grad"] = layer(batches[0])
    names = ("weight", "bias", "running_mean", "running_var")
    kept, learned = layer.state_dict(), dict(layer.named_parameters())
    facts["missing from state_dict"] = ", ".join(name for name in names if name not in kept) or "nothing"
    facts["learned by the optimizer"] = ", ".join(name for name in names if name in learned) or "nothing"
    return facts


class BatchNorm(nn.Module):
    """Batch norm of (N, C): by the batch in training, by the running statistics in evaluation; as PyTorch's."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class NeverUpdates(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class BatchInEvaluation(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = x.mean(0), x.var(0, correction=0)
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class UpdatesInEvaluation(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean.clone(), self.running_var.clone()
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
        if len(x) > 1:
            with torch.no_grad():
                self.running_mean.lerp_(x.mean(0), self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class RunningInTraining(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(x.mean(0), self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        mean, var = self.running_mean.clone(), self.running_var.clone()
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class AsksForGradients(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if torch.is_grad_enabled():
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * len(x) / max(len(x) - 1, 1), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class PlainAttributes(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.running_mean = torch.zeros(num_features)
        self.running_var = torch.ones(num_features)

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class StatisticsAsParameters(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.running_mean = nn.Parameter(torch.zeros(num_features))
        self.running_var = nn.Parameter(torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class GraphGrows(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
            self.running_var = (1 - self.momentum) * self.running_var + self.momentum * x.var(0)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class StatisticsWithoutGradient(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            with torch.no_grad():
                mean, var = x.mean(0), x.var(0, correction=0)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class MomentumOfKeras(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, 1 - self.momentum)
                self.running_var.lerp_(x.var(0), 1 - self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class BiasedVarianceKept(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class UnbiasedInTraining(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class VarianceStartsAtZero(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.zeros(num_features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


class CopiesIntoBuffers(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        if not self.training:
            scale = self.weight / torch.sqrt(self.running_var + self.eps)
            return x * scale + (self.bias - self.running_mean * scale)
        n = x.shape[0]
        mean = x.sum(0) / n
        var = ((x - mean) ** 2).sum(0) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.copy_((1 - self.momentum) * self.running_mean + self.momentum * mean)
            self.running_var.copy_((1 - self.momentum) * self.running_var + self.momentum * var * n / (n - 1))
        return self.weight * (x - mean) * torch.rsqrt(var + self.eps) + self.bias


class DetachesFirst(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_features,), 1.0))
        self.bias = nn.Parameter(torch.full((num_features,), 0.0))
        self.register_buffer("running_mean", torch.full((num_features,), 0.0))
        self.register_buffer("running_var", torch.full((num_features,), 1.0))
        self.eps, self.momentum = eps, momentum

    def forward(self, x):
        if self.training:
            seen = x.detach()
            self.running_mean += self.momentum * (seen.mean(0) - self.running_mean)
            self.running_var += self.momentum * (seen.var(0, unbiased=True) - self.running_var)
            mean, var = x.mean(0), x.var(0, unbiased=False)
        else:
            mean, var = self.running_mean, self.running_var
        return torch.addcmul(self.bias, self.weight, (x - mean) / (var + self.eps) ** 0.5)


class AssignsNewBuffers(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def statistics(self, x):
        if not self.training:
            return self.running_mean, self.running_var
        var, mean = torch.var_mean(x, dim=0, correction=0)
        old, new = 1 - self.momentum, self.momentum
        self.running_mean = old * self.running_mean + new * mean.detach()
        self.running_var = old * self.running_var + new * var.detach() * (len(x) / (len(x) - 1))
        return mean, var

    def forward(self, x):
        mean, var = self.statistics(x)
        return (x - mean) * (var + self.eps).rsqrt() * self.weight + self.bias


module = Exercise(
    id="batch_norm.module",
    lesson="04_batch_norm",
    title="A batch norm layer",
    answer="BatchNorm",
    criteria=(
        Criterion("output in training", 1, Close(operations=256)),
        Criterion("gradient in training", 0, Close(operations=2048)),
        Criterion("running mean", 0.5, Close(operations=64, scale=1.0), requires=("no graph hangs on the statistics",)),
        Criterion("running variance", 0.5, Close(operations=128), requires=("no graph hangs on the statistics",)),
        Criterion(
            "output in evaluation",
            2,
            Close(operations=256),
            requires=("statistics stand still in evaluation", "output in training, under no_grad"),
        ),
        Criterion("output in training, under no_grad", 0, Close(operations=256)),
        Criterion("statistics stand still in evaluation", 0),
        Criterion("no graph hangs on the statistics", 0),
        Criterion("missing from state_dict", 0.5, requires=("output in training",)),
        Criterion("learned by the optimizer", 0.5, requires=("output in training", "gradient in training")),
    ),
    cases=module_cases,
    probe=module_probe,
    reference=BatchNorm,
    misconceptions=(
        Misconception(
            "NeverUpdates",
            NeverUpdates,
            "The running statistics stay at 0 and 1: training never updates them, so in evaluation nothing is "
            "normalized.",
            "Update both in forward, in training only, under torch.no_grad().",
        ),
        Misconception(
            "BatchInEvaluation",
            BatchInEvaluation,
            "In evaluation you still normalize by the batch: what the net says of one example then depends on the "
            "others, and a batch of one comes out as the bias alone.",
            "if self.training: the batch's statistics; else: the running ones.",
        ),
        Misconception(
            "UpdatesInEvaluation",
            UpdatesInEvaluation,
            "The running statistics move in evaluation too: looking at test data changes the net.",
            "Update them inside `if self.training`.",
        ),
        Misconception(
            "RunningInTraining",
            RunningInTraining,
            "In training you normalize by the running statistics. They lag behind, no gradient flows through them, and "
            "the weights can outgrow them.",
            "In training normalize by the batch; the running ones are for evaluation.",
        ),
        Misconception(
            "AsksForGradients",
            AsksForGradients,
            "Your layer asks whether gradients are on, not whether it is in training. A prediction without no_grad "
            "would then use the batch, and change the statistics.",
            "Ask self.training: model.train() and model.eval() set it.",
        ),
        Misconception(
            "PlainAttributes",
            PlainAttributes,
            "The running statistics are plain attributes: they are missing from state_dict, so a saved and reloaded "
            "net would predict with mean 0 and variance 1; and .to(device) leaves them behind.",
            "self.register_buffer('running_mean', torch.zeros(num_features)).",
        ),
        Misconception(
            "StatisticsAsParameters",
            StatisticsAsParameters,
            "The running statistics are parameters: the optimizer gets them too, as if they were learned.",
            "Parameters are learned; what is only kept is a buffer: self.register_buffer(…).",
        ),
        Misconception(
            "GraphGrows",
            GraphGrows,
            "The graph of each batch hangs on the running statistics: memory grows with every step of training.",
            "Update them under torch.no_grad(), or detach mean and var first.",
        ),
        Misconception(
            "StatisticsWithoutGradient",
            StatisticsWithoutGradient,
            "The batch's mean and variance are computed under no_grad, so the gradient lacks the part that flows "
            "through them. Only the *running* statistics are to be kept out of the graph.",
            "Compute mean and var outside of the no_grad block, and update inside it.",
        ),
        Misconception(
            "MomentumOfKeras",
            MomentumOfKeras,
            "Your momentum is the weight of the old value, as in Keras. In PyTorch, with its default of 0.1, it is the "
            "weight of the new one.",
            "(1 − momentum) · old + momentum · new.",
        ),
        Misconception(
            "BiasedVarianceKept",
            BiasedVarianceKept,
            "Your running variance is too small: that is the biased estimate. PyTorch normalizes by it, but keeps "
            "the unbiased one.",
            "Take x.var(0) into the running variance: it divides by N − 1.",
        ),
        Misconception(
            "UnbiasedInTraining",
            UnbiasedInTraining,
            "In training you normalize by the unbiased variance. That one is only for the running variance.",
            "Normalize by x.var(0, correction=0).",
        ),
        Misconception(
            "VarianceStartsAtZero",
            VarianceStartsAtZero,
            "The running variance starts at 0. A fresh layer in evaluation would blow its input up, and the average "
            "stays too small for many steps.",
            "Start with mean 0 and variance 1.",
        ),
    ),
    variants=(
        Variant("CopiesIntoBuffers", CopiesIntoBuffers),
        Variant("DetachesFirst", DetachesFirst),
        Variant("AssignsNewBuffers", AssignsNewBuffers),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "What is learned is an nn.Parameter; what is kept but not learned is a buffer: self.register_buffer(name, "
        "tensor).",
        "if self.training: statistics of x, and update the running ones under no_grad. Otherwise: the running ones.",
        "Normalize by the biased variance, keep the unbiased one; the running ones start at 0 and 1.",
    ),
    minutes=15,
)
