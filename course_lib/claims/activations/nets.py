"""What the activation claims share: dense nets of any activation, each tuned alike, and the time of a step."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.claims.experiments import TUNING_SEEDS, Images
from course_lib.ensembles import Member, Params, train_ensemble

__all__ = ["ACTIVATIONS", "LABELS", "Dense", "Tuned", "hidden_outputs", "step_seconds", "tune"]

Function = Callable[[Tensor], Tensor]

LEAK = 0.01  # the source's α

# each with the initialization that it is paired with in the literature, by the variance of a weight
ACTIVATIONS: dict[str, tuple[Function, str]] = {
    "sigmoid": (torch.sigmoid, "glorot"),
    "tanh": (torch.tanh, "glorot"),
    "relu": (torch.relu, "he"),
    "leaky_relu": (lambda z: F.leaky_relu(z, LEAK), "he"),
    "elu": (F.elu, "he"),
    "selu": (F.selu, "lecun"),
    "gelu": (F.gelu, "he"),
    "silu": (F.silu, "he"),
}
LABELS = {
    "sigmoid": "logistic",
    "tanh": "tanh",
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
}


def start_variance(rule: str, n_in: int, n_out: int) -> float:
    """Of a weight: Glorot & Bengio 2010, He et al. 2015, or LeCun et al. 1998."""
    return {"glorot": 2 / (n_in + n_out), "he": 2 / n_in, "lecun": 1 / n_in}[rule]


@dataclass(frozen=True)
class Dense:
    """Dense layers with one activation between them, from its fitting initialization; for `train_ensemble`.

    `slope`: what leaky ReLU multiplies negative z by. `norm`: batch normalization before each activation. "prelu"
    learns one slope a layer, from 0.25 on.
    """

    sizes: tuple[int, ...]
    activation: str = "relu"
    norm: bool = False
    slope: float = LEAK
    sites = ()

    def init(self, generator: torch.Generator) -> Params:
        params = {}
        rule = ACTIVATIONS[self.activation][1] if self.activation in ACTIVATIONS else "he"
        for i, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            std = start_variance(rule, n_in, n_out) ** 0.5
            params[f"w{i}"] = torch.randn(n_in, n_out, generator=generator) * std
            params[f"b{i}"] = torch.zeros(1, n_out)
            if i < len(self.sizes) - 2:
                if self.norm:
                    params[f"g{i}"] = torch.ones(1, n_out)
                    params[f"mean_{i}"] = torch.zeros(1, n_out)
                    params[f"var_{i}"] = torch.ones(1, n_out)
                if self.activation == "prelu":
                    params[f"a{i}"] = torch.full((1, 1), 0.25)
        return params

    def forward(self, params: Params, x: Tensor, rates: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.layers(params, x, training=rates is not None)[-1]

    def layers(self, params: Params, x: Tensor, *, training: bool = False) -> list[Tensor]:
        """What each activation gets, (M, B, units), for x (B, M, ...); the last are the logits."""
        h, z = x.transpose(0, 1).flatten(2), []
        for i in range(len(self.sizes) - 1):
            if i:
                h = self.bend(params, z[-1], i - 1)
            if self.norm and i < len(self.sizes) - 2:
                z.append(self.normalized(params, h @ params[f"w{i}"], i, training))
            else:
                z.append(torch.baddbmm(params[f"b{i}"], h, params[f"w{i}"]))
        return z

    def bend(self, params: Params, z: Tensor, i: int) -> Tensor:
        if self.activation == "prelu":
            return torch.where(z > 0, z, params[f"a{i}"] * z)
        if self.activation == "leaky_relu":
            return F.leaky_relu(z, self.slope)
        return ACTIVATIONS[self.activation][0](z)

    def normalized(self, params: Params, z: Tensor, i: int, training: bool) -> Tensor:
        mean, var = params[f"mean_{i}"], params[f"var_{i}"]
        if training:
            now_var, now_mean = torch.var_mean(z, dim=1, correction=0, keepdim=True)
            with torch.no_grad():
                mean.lerp_(now_mean, 0.1)
                var.lerp_(now_var, 0.1)
            mean, var = now_mean, now_var
        return (z - mean) * (params[f"g{i}"] / (var + 1e-5).sqrt()) + params[f"b{i}"]


@torch.no_grad()
def hidden_outputs(net: Dense, params: Params, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(z, output) of each hidden layer in evaluation, each (M, N, units), for images (N, ...)."""
    nets = len(params["w0"])
    z = net.layers(params, images.unsqueeze(1).expand(-1, nets, *images.shape[1:]))[:-1]
    return [(layer, net.bend(params, layer, i)) for i, layer in enumerate(z)]


@dataclass(frozen=True)
class Tuned:
    """The rate that an arm chose, and with it after each of `steps`: test errors (%) and losses (nats) (K, seeds)."""

    rate: float
    steps: tuple[int, ...]
    errors: Tensor
    losses: Tensor


def tune(
    nets: Mapping[str, Dense],
    rates: Sequence[float],
    data: Images,
    seeds: Sequence[int],
    *,
    loss_below: float | None = None,
    **training,
) -> dict[str, Tuned]:
    """Each arm tries every rate with the tuning seeds, keeps the best on validation images, and is scored afresh.

    Best is the lowest mean validation error at the end; with `loss_below` the fewest steps to that validation loss,
    and what is scored is then the validation set.
    """
    found = {}
    score_on = {"valid": data.valid, "test": data.test if loss_below is None else data.valid}
    for name, net in nets.items():
        members = [Member(seed=s, lr=rate) for rate in rates for s in TUNING_SEEDS]
        curves = train_ensemble(net, members, data.train, score_on={"valid": data.valid}, **training)
        if loss_below is None:
            costs = curves.errors["valid"][-1]
        else:
            costs = steps_to(curves.steps, curves.losses["valid"], loss_below)
        rate = rates[int(costs.view(len(rates), -1).mean(1).argmin())]
        curves = train_ensemble(
            net, [Member(seed=s, lr=rate) for s in seeds], data.train, score_on=score_on, **training
        )
        found[name] = Tuned(rate, curves.steps, 100 * curves.errors["test"], curves.losses["test"])
    return found


def steps_to(steps: Sequence[int], losses: Tensor, below: float) -> Tensor:
    """For each net the first of `steps` with a loss, (K, M), under `below`; twice the last step where there is none."""
    reached = losses < below
    first = reached.float().argmax(0)
    return torch.where(reached.any(0), torch.tensor(steps, dtype=torch.float)[first], 2.0 * max(steps))


MODULES = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
STEPS_TIMED = 20


def step_seconds(
    names: Sequence[str], sizes: Sequence[int], rounds: int, *, norm: bool = False, batch_size: int = 64
) -> dict[str, list[float]]:
    """Seconds of one training step (forward, backward, Adam) of one plain net for each activation, once a round.

    In each round every activation has its turn, so that what else the machine does falls on all alike; a round's
    figure is the fastest of its steps.
    """
    made = {}
    for name in names:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), *([nn.BatchNorm1d(n_out)] if norm else []), MODULES[name]()]
        net = nn.Sequential(*layers[: -2 if norm else -1])
        made[name] = net, torch.optim.Adam(net.parameters())
    x, labels = torch.randn(batch_size, sizes[0]), torch.arange(batch_size) % sizes[-1]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, (net, optimizer) in made.items():
            taken = []
            for _ in range(STEPS_TIMED):
                started = time.perf_counter()
                loss = F.cross_entropy(net(x), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                taken.append(time.perf_counter() - started)
            seconds[name].append(min(taken))
    return seconds
