"""Many small dense nets at once, each with its own penalty: 196 numbers (an image at half size) → hidden → classes.

Parameters of M nets are stacked, (M, in, out). Members of one seed start alike, train on the same images in the same
order: what differs between them is what their `Rule` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.regularizers import random_shift

__all__ = ["Data", "DenseCurves", "Rule", "subset", "train_dense", "wrong_labels"]

Data = tuple[Tensor, Tensor]  # x (N, side, side), y (N,)


@dataclass(frozen=True)
class Rule:
    """How one net is trained. l1 and l2 are added to the loss (λ Σ|w|, λ/2 Σw²); `decay` shrinks weights by itself,
    lr·λ·w a step; `prox` takes l1's step by the soft threshold; `biases` are penalized too where it is set."""

    seed: int
    l1: float = 0.0
    l2: float = 0.0
    decay: float = 0.0
    prox: bool = False
    biases: bool = False
    drop: float = 0.0
    lr: float = 2e-3
    adam: bool = True


@dataclass(frozen=True)
class DenseCurves:
    """After `steps`: errors (shares) and losses (nats) by part, each (K, M). `running` is the share of right answers
    on each step's batch as it was trained on, (steps, M)."""

    steps: tuple[int, ...]
    errors: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
    params: Mapping[str, Tensor]
    running: Tensor


def subset(pool: Data, n: int, seed: int) -> Data:
    """n of the pool's examples, drawn by the seed."""
    index = torch.randperm(len(pool[1]), generator=torch.Generator().manual_seed(seed))[:n]
    return pool[0][index], pool[1][index]


def wrong_labels(data: Data, share: float, classes: int, seed: int) -> Data:
    """The data with a share of the labels replaced by another class each."""
    g = torch.Generator().manual_seed(seed)
    hit = torch.rand(len(data[1]), generator=g) < share
    other = (data[1] + torch.randint(1, classes, data[1].shape, generator=g)) % classes
    return data[0], torch.where(hit, other, data[1])


def train_dense(
    rules: Sequence[Rule],
    train: Mapping[int, Data],
    score_on: Mapping[str, Data],
    *,
    classes: int,
    steps: int,
    score_at: Sequence[int] = (),
    batch_size: int = 32,
    hidden: int = 64,
    shift: int = 0,
) -> DenseCurves:
    """Train a net for each rule on the data of its seed, `train[seed]` (all of one size), in batches.

    Scores on "train" (each net's own) and on each of `score_on`. `shift` moves each image of a batch by up to so many
    pixels. Deterministic; the global generator is left as it was.
    """
    seeds = sorted({rule.seed for rule in rules})
    which = torch.tensor([seeds.index(rule.seed) for rule in rules])
    x, y = (torch.stack([train[s][i] for s in seeds]) for i in (0, 1))  # (S, n, side, side), (S, n)
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    features = x[0, 0].numel()
    starts = [
        (torch.randn(features, hidden, generator=g) * (2 / features) ** 0.5, torch.randn(hidden, classes, generator=g))
        for g in generators
    ]
    params = {
        "w0": torch.stack([starts[i][0] for i in which]),
        "b0": torch.zeros(len(rules), 1, hidden),
        "w1": torch.stack([starts[i][1] * (2 / hidden) ** 0.5 for i in which]),
        "b1": torch.zeros(len(rules), 1, classes),
    }
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in params.items()}
    column = {
        key: torch.tensor([float(getattr(rule, key)) for rule in rules]).view(-1, 1, 1)
        for key in ("l1", "l2", "decay", "prox", "biases", "drop", "lr", "adam")
    }
    orders = [torch.empty(0, dtype=torch.int64) for _ in seeds]
    at, found, running = sorted({*score_at, steps}), {name: [] for name in ("train", *score_on)}, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(seeds) + 1)
        for step in range(1, steps + 1):
            rows = []
            for i, g in enumerate(generators):
                if len(orders[i]) < batch_size:
                    orders[i] = torch.cat([orders[i], torch.randperm(y.shape[1], generator=g)])
                rows.append(orders[i][:batch_size])
                orders[i] = orders[i][batch_size:]
            rows = torch.stack(rows)  # (S, B)
            batch, labels = x[torch.arange(len(seeds))[:, None], rows], y.gather(1, rows)
            if shift:
                batch = random_shift(batch.flatten(0, 1), shift, fill=float(x.min())).view_as(batch)
            batch, labels = batch.flatten(2)[which], labels[which]  # (M, B, features), (M, B)
            leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
            logits = forward(leaves, batch, column["drop"])
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / batch_size
            running.append((logits.detach().argmax(-1) == labels).float().mean(1))
            grads = torch.autograd.grad(loss, list(leaves.values()))
            for (name, p), grad in zip(params.items(), grads, strict=True):
                params[name] = stepped(name, p, grad, moments[name], step, column)
            if step in at:
                for name in found:
                    data = (x[which], y[which]) if name == "train" else score_on[name]
                    found[name].append(scored(params, *data))
    return DenseCurves(
        tuple(at),
        {name: torch.stack([error for error, _ in values]) for name, values in found.items()},
        {name: torch.stack([loss for _, loss in values]) for name, values in found.items()},
        params,
        torch.stack(running),
    )


def forward(params: Mapping[str, Tensor], x: Tensor, drop: Tensor | None = None) -> Tensor:
    """Logits (M, B, classes) of x (M, B, features); hidden units dropped with each net's rate where it is given."""
    h = torch.baddbmm(params["b0"], x, params["w0"]).relu()
    if drop is not None and drop.any():
        h = h * ((torch.rand_like(h) >= drop) / (1 - drop))
    return torch.baddbmm(params["b1"], h, params["w1"])


def stepped(name, p, grad, moments, step, column):
    """One step of Adam, or of plain gradient descent, with the penalties of each net."""
    penalized = torch.ones_like(column["biases"]) if name.startswith("w") else column["biases"]
    by_gradient = column["l1"] * (1 - column["prox"]) * penalized
    grad = grad + by_gradient * p.sign() + column["l2"] * penalized * p
    m, v = moments
    m.lerp_(grad, 0.1)
    v.mul_(0.999).addcmul_(grad, grad, value=0.001)
    adam = (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    new = p * (1 - column["lr"] * column["decay"] * penalized)
    new = new - column["lr"] * torch.where(column["adam"] > 0, adam, grad)
    threshold = column["lr"] * column["l1"] * column["prox"] * penalized
    return torch.where(threshold > 0, new - new.clamp(-threshold, threshold), new)


def scored(params: Mapping[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each net's error and loss; x (N, …) the same for all, or (M, N, …) each its own."""
    nets = len(params["w0"])
    x = x.flatten(1).expand(nets, -1, -1) if y.dim() == 1 else x.flatten(2)
    y = y.expand(nets, -1)
    logits = forward(params, x)
    loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(nets, -1).mean(1)
    return (logits.argmax(-1) != y).float().mean(1), loss
