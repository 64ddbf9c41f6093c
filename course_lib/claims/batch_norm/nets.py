"""Dense nets with and without batch norm, many at once, and plain SGD on them: what B2 to B6 train."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.claims.experiments import NETS_AT_ONCE, Images
from course_lib.ensembles import Batches, Params, drop, predict

__all__ = ["CAP", "NormMLP", "Run", "Trace", "train_sgd"]

CAP = 10.0  # nats; a loss above it, or one that is no number, counts as this much
EPS, MOMENTUM = 1e-5, 0.1  # PyTorch's defaults


@dataclass(frozen=True)
class NormMLP:
    """Dense layers of the given sizes; `norm` puts batch norm "before" or "after" each activation, or "none".

    He's initialization for ReLU, Glorot's for the others. Dropout site: "hidden". A `Net` of `course_lib.ensembles`:
    it is in training where rates are given.
    """

    sizes: tuple[int, ...]
    norm: str = "none"
    activation: Callable[[Tensor], Tensor] = torch.relu
    sites = ("hidden",)

    def init(self, generator: torch.Generator) -> Params:
        params = {}
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            variance = 2 / n_in if self.activation is torch.relu else 2 / (n_in + n_out)
            params[f"w{i}"] = torch.randn(n_in, n_out, generator=generator) * variance**0.5
            params[f"b{i}"] = torch.zeros(1, n_out)
            if self.norm != "none" and i < len(self.sizes) - 2:
                params[f"g{i}"], params[f"c{i}"] = torch.ones(1, n_out), torch.zeros(1, n_out)
                params[f"mean_{i}"], params[f"var_{i}"] = torch.zeros(1, n_out), torch.ones(1, n_out)
        return params

    def forward(self, params: Params, x: Tensor, rates=None) -> Tensor:
        """(B, M, ...) -> logits (M, B, classes)."""
        h = x.transpose(0, 1).flatten(2)
        last = len(self.sizes) - 2
        for i in range(last):
            z = torch.baddbmm(params[f"b{i}"], h, params[f"w{i}"])
            z = self.normalize(params, i, z, rates) if self.norm == "before" else z
            h = self.activation(z)
            h = self.normalize(params, i, h, rates) if self.norm == "after" else h
            h = drop(h, rates, "hidden")
        return torch.baddbmm(params[f"b{last}"], h, params[f"w{last}"])

    def normalize(self, params: Params, i: int, z: Tensor, rates) -> Tensor:
        mean, var = params[f"mean_{i}"], params[f"var_{i}"]
        if rates is not None:
            now_var, now_mean = torch.var_mean(z, dim=1, correction=0, keepdim=True)
            with torch.no_grad():
                mean.lerp_(now_mean, MOMENTUM)
                var.lerp_(now_var * (z.shape[1] / (z.shape[1] - 1)), MOMENTUM)
            mean, var = now_mean, now_var
        return (z - mean) * (params[f"g{i}"] / (var + EPS).sqrt()) + params[f"c{i}"]


@dataclass(frozen=True)
class Run:
    """One net: its seed, its learning rate, and what its initial weights are multiplied by."""

    seed: int
    lr: float
    scale: float = 1.0


@dataclass(frozen=True)
class Trace:
    """Scores after `steps`, each (K, M): training loss (nats, on up to 500 training images) and test error (share)."""

    steps: tuple[int, ...]
    loss: Tensor
    error: Tensor


def train_sgd(net: NormMLP, runs: Sequence[Run], data: Images, *, record_at: Sequence[int], **training) -> Trace:
    """Train every run by SGD with momentum 0.9, a cacheful of nets after another. Runs of one seed are paired."""
    traces = [
        _train(net, runs[i : i + NETS_AT_ONCE], data, sorted(record_at), **training)
        for i in range(0, len(runs), NETS_AT_ONCE)
    ]
    return Trace(tuple(sorted(record_at)), *(torch.cat([t[k] for t in traces], dim=1) for k in (0, 1)))


def _train(net, runs, data, record_at, *, n_train, batch_size, momentum=0.9):
    images, labels = data.train
    generators = [torch.Generator().manual_seed(run.seed) for run in runs]
    starts = [net.init(generator) for generator in generators]
    params = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    scale, lr = (torch.tensor([getattr(run, name) for run in runs]).view(-1, 1, 1) for name in ("scale", "lr"))
    for name in params:
        params[name] = params[name] * scale if name.startswith("w") else params[name]
    learned = [name for name in params if not name.startswith(("mean_", "var_"))]
    velocity = {name: torch.zeros_like(params[name]) for name in learned}
    subset = torch.stack([torch.randperm(len(labels), generator=g)[:n_train] for g in generators])
    batches, rates = Batches(subset, batch_size, generators), {"hidden": torch.zeros(len(runs))}
    losses, errors = [], []
    for step in range(1, record_at[-1] + 1):
        rows = batches.next().T  # (B, M)
        for name in learned:
            params[name].requires_grad_(True)
        logits = net.forward(params, images[rows], rates)
        loss = F.cross_entropy(logits.flatten(0, 1), labels[rows.T].flatten(), reduction="sum") / len(rows)
        grads = torch.autograd.grad(loss, [params[name] for name in learned])
        with torch.no_grad():
            for name, grad in zip(learned, grads, strict=True):
                velocity[name].mul_(momentum).add_(grad)
                params[name] = params[name].detach().sub_(lr * velocity[name])
        if step in record_at:
            seen = subset[:, :500].T
            with torch.no_grad():
                logits = net.forward(params, images[seen])
            found = F.cross_entropy(logits.flatten(0, 1), labels[seen.T].flatten(), reduction="none")
            losses.append(found.view(len(runs), -1).mean(1).nan_to_num(CAP, CAP, CAP).clamp(max=CAP))
            wrong = predict(net, params, data.test[0]).nan_to_num().argmax(-1) != data.test[1]
            errors.append(wrong.float().mean(1))
    return torch.stack(losses), torch.stack(errors)
