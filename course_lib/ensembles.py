"""Many small nets trained at once, as one batched computation, so that seeds and intervals cost little.

A `Member` says how one net differs from the others: seed, learning rate, weight decay, and where it drops how
much. Members with the same seed start from the same weights, see the same training images and the same
order of batches, whatever their other settings: comparisons between them are paired. Parameters of M nets
are stacked along a first axis, (M, ...).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.dropout import stochastic_pool2d

__all__ = ["MLP", "ConvNet", "Curves", "Member", "Net", "predict", "train_ensemble"]

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Member:
    """One net of an ensemble. `drop` maps a site of the net (such as "input" or "hidden") to its rate p < 1."""

    seed: int
    lr: float = 1e-3
    weight_decay: float = 0.0  # decoupled from the gradient, as in AdamW
    drop: Mapping[str, float] = field(default_factory=dict)


class Net(Protocol):
    """What an ensemble trains: `sites` are the places that can drop, `forward` maps (B, M, ...) to (M, B,
    out).
    """

    sites: tuple[str, ...]

    def init(self, generator: torch.Generator) -> Params: ...

    def forward(self, params: Params, x: Tensor, rates: Mapping[str, Tensor] | None) -> Tensor: ...


@dataclass(frozen=True)
class MLP:
    """Dense layers of the given sizes with ReLU between (or `activation`), from He's initialization.

    Dropout sites: "input", "hidden" (after every hidden layer), "output" (the logits).
    """

    sizes: tuple[int, ...]
    activation: Callable[[Tensor], Tensor] = torch.relu
    sites = ("input", "hidden", "output")

    def init(self, generator: torch.Generator) -> Params:
        params = {}
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            params[f"w{i}"] = torch.randn(n_in, n_out, generator=generator) * (2 / n_in) ** 0.5
            params[f"b{i}"] = torch.zeros(1, n_out)
        return params

    def forward(self, params: Params, x: Tensor, rates: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.layers(params, x, rates)[-1]

    def layers(self, params: Params, x: Tensor, rates: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The pre-activation of every layer, each (M, B, units); the last are the logits."""
        h = drop(x.transpose(0, 1).flatten(2), rates, "input")  # (B, M, ...) -> (M, B, features)
        last, z = len(self.sizes) - 2, []
        for i in range(last + 1):
            z.append(torch.baddbmm(params[f"b{i}"], h, params[f"w{i}"]))
            if i < last:
                h = drop(self.activation(z[-1]), rates, "hidden")
        z[-1] = drop(z[-1], rates, "output")
        return z


@dataclass(frozen=True)
class ConvNet:
    """conv → pool → conv → residual block (where `residual`) → pool → dense → logits, for small images.

    Dropout sites: "input", "conv" (single values of the maps), "spatial" (whole maps), "path" (the residual
    branch of an example), "hidden" (the dense layer), "output" (the logits). `norm` puts batch normalization
    before each of the convs' ReLUs; `stochastic` pools by `stochastic_pool2d` instead of by the maximum.
    """

    in_channels: int
    image_size: int
    classes: int
    channels: tuple[int, int] = (16, 32)
    hidden: int = 128
    residual: bool = False
    norm: bool = False
    stochastic: bool = False
    sites = ("input", "conv", "spatial", "path", "hidden", "output")

    def init(self, generator: torch.Generator) -> Params:
        a, b = self.channels
        shapes = {"k0": (a, self.in_channels, 3, 3), "k1": (b, a, 3, 3)}
        if self.residual:
            shapes["k2"] = (b, b, 3, 3)
        shapes["w0"] = (b * (self.image_size // 4) ** 2, self.hidden)
        shapes["w1"] = (self.hidden, self.classes)
        params = {}
        for name, shape in shapes.items():
            conv = name.startswith("k")
            fan_in = shape[1] * 9 if conv else shape[0]
            params[name] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
            params["b" + name] = torch.zeros(shape[0]) if conv else torch.zeros(1, shape[1])
            if conv and self.norm:
                params["g" + name] = torch.ones(shape[0])  # the scale; the shift is the conv's bias
                params["mean_" + name] = torch.zeros(shape[0])
                params["var_" + name] = torch.ones(shape[0])
        return params

    def forward(self, params: Params, x: Tensor, rates: Mapping[str, Tensor] | None = None) -> Tensor:
        h = drop(x.transpose(0, 1), rates, "input").transpose(0, 1)
        h = self.pool(self.map_dropout(self.conv_unit(params, "k0", h, rates).relu(), rates), rates)
        h = self.map_dropout(self.conv_unit(params, "k1", h, rates).relu(), rates)
        if self.residual:
            branch = self.conv_unit(params, "k2", h, rates).transpose(0, 1)
            branch = drop(branch, rates, "path", shared=3).transpose(0, 1)  # one draw an example
            h = self.map_dropout((h + branch).relu(), rates)
        h = self.pool(h, rates).transpose(0, 1).flatten(2)  # (B, M, C, H, W) -> (M, B, features)
        h = drop(torch.baddbmm(params["bw0"], h, params["w0"]).relu(), rates, "hidden")
        return drop(torch.baddbmm(params["bw1"], h, params["w1"]), rates, "output")

    def conv_unit(self, params: Params, name: str, h: Tensor, rates: Mapping[str, Tensor] | None) -> Tensor:
        k, bias = params[name], params["b" + name]
        batch, nets = h.shape[:2]
        # M nets side by side are one grouped convolution
        z = F.conv2d(h.flatten(1, 2), k.flatten(0, 1), padding=1, groups=nets)
        z = z.reshape(batch, nets, k.shape[1], *z.shape[2:])
        if self.norm:
            mean, var = params["mean_" + name], params["var_" + name]
            if rates is not None:
                now_var, now_mean = torch.var_mean(z, dim=(0, 3, 4), correction=0)
                with torch.no_grad():
                    mean.lerp_(now_mean, 0.1)
                    var.lerp_(now_var, 0.1)
                mean, var = now_mean, now_var
            scale = params["g" + name] / (var + 1e-5).sqrt()
            z = (z - mean[..., None, None]) * scale[..., None, None]
        return z + bias[..., None, None]

    def pool(self, h: Tensor, rates: Mapping[str, Tensor] | None) -> Tensor:
        maps = h.flatten(1, 2)
        training = rates is not None
        maps = stochastic_pool2d(maps, 2, training=training) if self.stochastic else F.max_pool2d(maps, 2)
        return maps.reshape(*h.shape[:3], *maps.shape[2:])

    def map_dropout(self, h: Tensor, rates: Mapping[str, Tensor] | None) -> Tensor:
        h = drop(h.transpose(0, 1), rates, "conv")
        return drop(h, rates, "spatial", shared=2).transpose(0, 1)  # one draw a map


def drop(h: Tensor, rates: Mapping[str, Tensor] | None, site: str, *, shared: int = 0) -> Tensor:
    """Inverted dropout of h (M, B, ...) with the rate of each net at this site; identity where rates is None.

    The last `shared` axes fall together: 2 for a whole feature map, 3 for all maps of an example.
    """
    if rates is None or not (p := rates[site]).any():
        return h
    shape = h.shape[: h.dim() - shared] + (1,) * shared
    p = p.view(-1, *[1] * (h.dim() - 1))
    return h * ((torch.rand(shape, device=h.device) >= p) / (1 - p))


@dataclass(frozen=True)
class Curves:
    """What training showed after `steps` (K of them): for each set scored, errors (shares) and losses (nats),
    both (K, M); and the parameters at the end.
    """

    steps: tuple[int, ...]
    errors: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
    params: Params


def train_ensemble(
    net: Net,
    members: Sequence[Member],
    pool: tuple[Tensor, Tensor],
    *,
    n_train: int,
    steps: int,
    batch_size: int,
    score_on: Mapping[str, tuple[Tensor, Tensor]],
    score_at: Sequence[int] = (),
) -> Curves:
    """Train all members at once with AdamW on cross-entropy, each on the n_train images its seed draws
    from pool.

    `pool` and each value of `score_on` are (images (N, C, H, W) float, labels (N,)). Scores are taken
    after the steps in `score_at` and after the last. Deterministic; the global generator is left as it
    was. Raises ValueError where the pool holds fewer than n_train images, or a rate is for a site that the
    net lacks.
    """
    images, labels = pool
    if n_train > len(labels):
        raise ValueError(f"the pool holds {len(labels)} images, fewer than the {n_train} asked for")
    if unknown := {site for m in members for site in m.drop} - set(net.sites):
        raise ValueError(f"{type(net).__name__} has no dropout site {sorted(unknown)}; it has {list(net.sites)}")
    seeds = sorted({m.seed for m in members})
    which = torch.tensor([seeds.index(m.seed) for m in members])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    starts = [net.init(generator) for generator in generators]
    params = {name: torch.stack([starts[i][name] for i in which]) for name in starts[0]}
    learned = [name for name in params if not name.startswith(("mean_", "var_"))]
    rates = {site: torch.tensor([m.drop.get(site, 0.0) for m in members]) for site in net.sites}
    lr = torch.tensor([m.lr for m in members])
    decay = torch.tensor([m.weight_decay for m in members])
    moments = {name: (torch.zeros_like(params[name]), torch.zeros_like(params[name])) for name in learned}
    subset = torch.stack([torch.randperm(len(labels), generator=g)[:n_train] for g in generators])  # (S, n)
    batches = Batches(subset, batch_size, generators)
    at = sorted({*score_at, steps})
    errors: dict[str, list[Tensor]] = {name: [] for name in score_on}
    losses: dict[str, list[Tensor]] = {name: [] for name in score_on}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hash_of(members))
        for step in range(1, steps + 1):
            rows = batches.next()[which].T  # (B, M)
            for name in learned:
                params[name].requires_grad_(True)
            logits = net.forward(params, images[rows], rates)
            # the sum over nets of mean losses: each net's gradient is its own
            loss = F.cross_entropy(logits.flatten(0, 1), labels[rows.T].flatten(), reduction="sum") / len(rows)
            grads = torch.autograd.grad(loss, [params[name] for name in learned])
            with torch.no_grad():
                for name, grad in zip(learned, grads, strict=True):
                    params[name] = params[name].detach()
                    adamw_step_(params[name], grad, *moments[name], step, lr, decay)
            if step in at:
                for name, data in score_on.items():
                    error, loss = score(net, params, *data)
                    errors[name].append(error)
                    losses[name].append(loss)
    return Curves(
        steps=tuple(at),
        errors={name: torch.stack(values) for name, values in errors.items()},
        losses={name: torch.stack(values) for name, values in losses.items()},
        params=params,
    )


def predict(net: Net, params: Params, images: Tensor, *, rates: Mapping[str, float] | None = None) -> Tensor:
    """Logits (M, N, classes) of every member for images (N, C, H, W); in evaluation unless `rates` are given.

    `rates` maps sites to the rate at which every member drops there now (MC dropout, or a forgotten eval).
    """
    nets = len(next(iter(params.values())))
    spread = None
    if rates is not None:
        spread = {site: torch.full((nets,), rates.get(site, 0.0)) for site in net.sites}
    with torch.no_grad():
        chunks = images.split(max(1, 8192 // nets))
        return torch.cat(
            [net.forward(params, x.unsqueeze(1).expand(-1, nets, *x.shape[1:]), spread) for x in chunks], dim=1
        )


def score(net: Net, params: Params, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each member's error (share) and mean cross-entropy (nats), in evaluation: two tensors (M,)."""
    logits = predict(net, params, images)
    error = (logits.argmax(-1) != labels).float().mean(1)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return error, loss.view(len(logits), -1).mean(1)


def adamw_step_(param, grad, m, v, step, lr, decay, *, betas=(0.9, 0.999), eps=1e-8) -> None:
    """One AdamW update in place for M nets at once: param (M, ...), lr and decay (M,)."""
    beta1, beta2 = betas
    lr = lr.view(-1, *[1] * (param.dim() - 1))
    m.lerp_(grad, 1 - beta1)
    v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    root = (v / (1 - beta2**step)).sqrt_().add_(eps)
    if decay.any():
        param.mul_(1 - lr * decay.view_as(lr))
    param.sub_((m / root).mul_(lr / (1 - beta1**step)))


class Batches:
    """Endless batches of indices (S, batch_size), every seed running through its own subset in its own order."""

    def __init__(self, subset: Tensor, batch_size: int, generators: Sequence[torch.Generator]):
        self.subset, self.generators = subset, generators
        self.batch_size = min(batch_size, subset.shape[1])
        self.waiting = subset[:, :0]

    def next(self) -> Tensor:
        while self.waiting.shape[1] < self.batch_size:
            orders = torch.stack([torch.randperm(self.subset.shape[1], generator=g) for g in self.generators])
            self.waiting = torch.cat([self.waiting, self.subset.gather(1, orders)], dim=1)
        batch, self.waiting = self.waiting[:, : self.batch_size], self.waiting[:, self.batch_size :]
        return batch


def hash_of(members: Sequence[Member]) -> int:
    """A seed for the masks, the same for the same members."""
    return sum((i + 1) * (m.seed + 1) for i, m in enumerate(members)) % 2**31
