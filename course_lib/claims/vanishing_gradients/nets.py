"""Deep dense nets trained side by side, one for each seed, with everything that the remedies change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.claims.experiments import Images
from course_lib.ensembles import Params

__all__ = ["BENDS", "STARTS", "Deep", "Run", "batch_gradients", "drawn", "layer_gradients", "train_deep"]

# standard deviation of a dense weight from its fans
STARTS: dict[str, Callable[[int, int], float]] = {
    "N(0, 1)": lambda n_in, n_out: 1.0,
    "PyTorch's default": lambda n_in, n_out: (3 * n_in) ** -0.5,
    "Glorot": lambda n_in, n_out: (2 / (n_in + n_out)) ** 0.5,
    "He": lambda n_in, n_out: (2 / n_in) ** 0.5,
}
BENDS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "ReLU": torch.relu}
Statistics = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Deep:
    """`depth` hidden layers of `width` units, then the logits. `scale` multiplies every start; biases start at 0.

    With `norm`, each hidden layer is normalized over the batch before its activation, with a scale and shift.
    """

    depth: int
    width: int
    activation: str = "sigmoid"
    start: str = "Glorot"
    scale: float = 1.0
    norm: bool = False

    def sizes(self, inputs: int, classes: int) -> list[int]:
        return [inputs] + [self.width] * self.depth + [classes]

    def init(self, inputs: int, classes: int, seeds: Sequence[int]) -> Params:
        """Stacked parameters (seeds, ...): w0, b0, …; nets of one seed and one start differ by their scale alone."""
        params: Params = {}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for i, (n_in, n_out) in enumerate(pairwise(self.sizes(inputs, classes))):
            std = self.scale * STARTS[self.start](n_in, n_out)
            params[f"w{i}"] = torch.stack([std * torch.randn(n_in, n_out, generator=g) for g in generators])
            params[f"b{i}"] = torch.zeros(len(seeds), 1, n_out)
            if self.norm and i < self.depth:
                params[f"g{i}"] = torch.ones(len(seeds), 1, n_out)
        return params

    def layers(
        self, params: Params, x: Tensor, statistics: Statistics | None = None
    ) -> tuple[list[Tensor], Statistics]:
        """Pre-activations (M, B, units) of every layer for x (M, B, inputs), and the statistics of batch norm used."""
        bend, z, used = BENDS[self.activation], [], []
        for i in range(self.depth + 1):
            if self.norm and i < self.depth:
                h = x @ params[f"w{i}"]
                var, mean = torch.var_mean(h, dim=1, keepdim=True, correction=0)
                if statistics is not None:
                    mean, var = statistics[i]
                used.append((mean, var))
                z.append((h - mean) * (params[f"g{i}"] / (var + 1e-5).sqrt()) + params[f"b{i}"])
            else:
                z.append(torch.baddbmm(params[f"b{i}"], x, params[f"w{i}"]))
            x = bend(z[-1])
        return z, used


@dataclass(frozen=True)
class Run:
    """What training left: parameters at the start and the end; the loss on the training images and the error on the
    test images, both (seeds,); NaN losses where a net diverged. `errors` on the validation images, (seeds,).
    """

    start: Params
    params: Params
    losses: Tensor
    errors: Mapping[str, Tensor] = field(default_factory=dict)


def batch_gradients(net: Deep, params: Params, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Each net's mean cross-entropy (M,) and the gradients of its own parameters, x (M, B, inputs), y (M, B)."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    logits = net.layers(leaves, x)[0][-1]
    losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)
    grads = torch.autograd.grad(losses.sum(), list(leaves.values()))
    return losses.detach(), dict(zip(leaves, grads, strict=True))


def layer_gradients(net: Deep, params: Params, data: tuple[Tensor, Tensor]) -> Tensor:
    """‖∂loss/∂W‖ of every layer, (layers, M), over all of data = (x (M, N, inputs), labels (M, N))."""
    _, grads = batch_gradients(net, params, *data)
    return torch.stack([grads[f"w{i}"].flatten(1).norm(dim=1) for i in range(net.depth + 1)])


def drawn(data: Images, n_train: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """For each seed, n_train of the training images: x (M, n, inputs), labels (M, n)."""
    images, labels = data.train
    rows = torch.stack(
        [torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:n_train] for seed in seeds]
    )
    return images.flatten(1)[rows], labels[rows]


def train_deep(
    net: Deep,
    data: Images,
    seeds: Sequence[int],
    *,
    lr: float,
    steps: int,
    n_train: int = 1000,
    batch_size: int = 64,
    optimizer: str = "SGD",
    clip: float | None = None,
    start: Params | None = None,
) -> Run:
    """Train one net a seed, all at once, with plain SGD or Adam; `clip` bounds each net's own gradient norm.

    `start` replaces the net's own start. Deterministic, whatever ran before.
    """
    x, y = drawn(data, n_train, seeds)
    first = net.init(x.shape[2], data.classes, seeds) if start is None else start
    params = {name: value.clone() for name, value in first.items()}
    rules = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
    rule = rules[optimizer](list(params.values()), lr=lr)
    generators = [torch.Generator().manual_seed(10_000 + seed) for seed in seeds]
    for _ in range(steps):
        rows = torch.stack([torch.randint(n_train, (batch_size,), generator=g) for g in generators])
        batch = x.gather(1, rows[..., None].expand(-1, -1, x.shape[2])), y.gather(1, rows)
        _, grads = batch_gradients(net, params, *batch)
        if clip is not None:
            norm = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)  # (M,)
            factor = (clip / (norm + 1e-6)).clamp(max=1.0)[:, None, None]
            grads = {name: grad * factor for name, grad in grads.items()}
        for name, value in params.items():
            value.grad = grads[name]
        rule.step()
    params = {name: value.detach() for name, value in params.items()}
    errors = {part: share_wrong(net, params, x, getattr(data, part)) for part in ("valid", "test")}
    losses, wrong = loss_and_error(net, params, x, x, y)
    return Run(first, params, losses, errors | {"train": wrong})


def loss_and_error(net: Deep, params: Params, reference: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each net's mean loss and share of errors on x (M, N, inputs); batch norm by the statistics of `reference`."""
    with torch.no_grad():
        statistics = net.layers(params, reference)[1]
        logits = net.layers(params, x, statistics)[0][-1]
        losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)
        right = (logits.argmax(-1) == y) & logits.isfinite().all(-1)
    return losses, 1 - right.float().mean(1)


def share_wrong(net: Deep, params: Params, reference: Tensor, part: tuple[Tensor, Tensor]) -> Tensor:
    """Each net's share of errors on images (N, ...), (M,); an output that is not finite counts as wrong."""
    images, labels = part
    x = images.flatten(1).expand(len(reference), -1, -1)
    return loss_and_error(net, params, reference, x, labels.expand(len(reference), -1))[1]
