"""Many small nets trained at once, as one batched computation, so that seeds and intervals cost little.

A `Member` says how one net differs from the others: seed, learning rate, weight decay, and where it drops how
much. Members with the same seed start from the same weights, see the same training images and the same
order of batches, whatever their other settings: comparisons between them are paired. Parameters of M nets
are stacked along a first axis, (M, ...).

Two trainers: `train_ensemble` takes any `Net` and goes through autograd; `train_mlps` is for dense nets without
dropout, whose backward pass is written out into memory that is kept from step to step. The second is the faster by
far where nets are small (`course bench` says by how much), and its members may differ in activation and start too.

What is saved is all that a step costs besides its matrix products: most of a small batch's time, little of a large
one's. Conv nets save nothing on a CPU, where M nets side by side are a grouped convolution that takes as long as M: for
them an ensemble is a convenience (paired seeds, one call), not a speed-up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.dropout import stochastic_pool2d
from course_lib.training import threads

__all__ = [
    "IN_PLACE_ACTIVATIONS",
    "MLP",
    "ConvNet",
    "Curves",
    "InPlaceActivation",
    "MLPMember",
    "Member",
    "Net",
    "fused_adamw",
    "he_normal",
    "predict",
    "train_ensemble",
    "train_mlps",
]

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


# many MLPs, by a backward pass of their own ----------------------------------------------------------------


@dataclass(frozen=True)
class InPlaceActivation:
    """A function of each pre-activation z, and its derivative, without new memory.

    `forward(z, out)` writes f(z) to out; `backward(grad, kept)` multiplies grad by f′(z) in place. What is kept for it
    is the output f(z), so that out may be z itself, or, where `needs_input`, z.
    """

    forward: Callable[[Tensor, Tensor], Any]
    backward: Callable[[Tensor, Tensor], Any]
    needs_input: bool = False


LEAKY_SLOPE = 0.01  # PyTorch's
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
aten = torch.ops.aten

IN_PLACE_ACTIVATIONS: dict[str, InPlaceActivation] = {
    "identity": InPlaceActivation(lambda z, out: out is z or out.copy_(z), lambda grad, kept: None),
    "relu": InPlaceActivation(
        lambda z, out: aten.relu.out(z, out=out),
        lambda grad, f: aten.threshold_backward.grad_input(grad, f, 0, grad_input=grad),
    ),
    "leaky_relu": InPlaceActivation(
        lambda z, out: aten.leaky_relu.out(z, LEAKY_SLOPE, out=out),
        lambda grad, f: aten.leaky_relu_backward.grad_input(grad, f, LEAKY_SLOPE, True, grad_input=grad),
    ),
    "tanh": InPlaceActivation(
        lambda z, out: torch.tanh(z, out=out),
        lambda grad, f: aten.tanh_backward.grad_input(grad, f, grad_input=grad),
    ),
    "sigmoid": InPlaceActivation(
        lambda z, out: torch.sigmoid(z, out=out),
        lambda grad, f: aten.sigmoid_backward.grad_input(grad, f, grad_input=grad),
    ),
    "elu": InPlaceActivation(
        lambda z, out: aten.elu.out(z, 1, 1, 1, out=out),
        lambda grad, f: aten.elu_backward.grad_input(grad, 1, 1, 1, True, f, grad_input=grad),
    ),
    "selu": InPlaceActivation(
        lambda z, out: aten.elu.out(z, SELU_ALPHA, SELU_SCALE, 1, out=out),
        lambda grad, f: aten.elu_backward.grad_input(grad, SELU_ALPHA, SELU_SCALE, 1, True, f, grad_input=grad),
    ),
    "gelu": InPlaceActivation(
        lambda z, out: aten.gelu.out(z, out=out),
        lambda grad, z: aten.gelu_backward.grad_input(grad, z, grad_input=grad),
        needs_input=True,
    ),
    "silu": InPlaceActivation(
        lambda z, out: aten.silu.out(z, out=out),
        lambda grad, z: aten.silu_backward.grad_input(grad, z, grad_input=grad),
        needs_input=True,
    ),
}


def he_normal(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    """Weights (n_in, n_out) from N(0, 2 / n_in) (He et al. 2015): how `MLP` starts."""
    return torch.randn(n_in, n_out, generator=generator) * (2 / n_in) ** 0.5


@dataclass(frozen=True)
class MLPMember(Member):
    """One MLP of `train_mlps`: a `Member` without dropout that also chooses its activation, by its name in
    `IN_PLACE_ACTIVATIONS`, and its start, a function (n_in, n_out, generator) → weights (n_in, n_out). Biases start
    at 0.
    """

    activation: str = "relu"
    start: Callable[[int, int, torch.Generator], Tensor] = he_normal


def fused_adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW that reads and writes each number once a step. The groups hold params, lr and weight_decay."""
    return torch.optim.AdamW(groups, fused=True)


def train_mlps(
    sizes: Sequence[int],
    members: Sequence[MLPMember],
    pool: tuple[Tensor, Tensor],
    *,
    n_train: int,
    steps: int,
    batch_size: int,
    score_on: Mapping[str, tuple[Tensor, Tensor]],
    score_at: Sequence[int] = (),
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] = fused_adamw,
    intra_op_threads: int | None = 1,
) -> Curves:
    """Train MLPs of the given layer sizes all at once on cross-entropy; like `train_ensemble`, for dense nets only.

    Each member trains as it would alone: the images and the order of batches are those that `train_ensemble` draws
    from its seed, whatever its start. Data's dtype and device are the nets'. `params` of the result are named as by
    `MLP`: w0 (M, in, out), b0 (M, 1, out), … `optimizer` gets parameter groups of stacked nets that share a rate, so
    its rule has to treat every number by itself (not so: clipping by a norm, LARS). A step is 6 · M · B · Σ nᵢ nᵢ₊₁
    operations in three batched matrix products a layer, and almost nothing else. Deterministic; the global generator
    is left alone. Raises ValueError for an empty ensemble, a pool of fewer than n_train images, an unknown activation,
    images whose numbers are not sizes[0], and a member that drops.
    """
    images, labels = pool[0].flatten(1), pool[1]
    check_mlps(sizes, members, images, n_train)
    order = sorted(range(len(members)), key=lambda i: (members[i].activation, members[i].lr, members[i].weight_decay))
    ranked = [members[i] for i in order]
    seeds = sorted({m.seed for m in members})
    which = torch.tensor([seeds.index(m.seed) for m in ranked])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    starts = {seed: MLP(tuple(sizes)).init(g) for seed, g in zip(seeds, generators, strict=True)}  # as train_ensemble
    subset = torch.stack([torch.randperm(len(labels), generator=g)[:n_train] for g in generators])  # (S, n)
    batches = Batches(subset, batch_size, generators)
    with threads(intra_op_threads), torch.no_grad():
        stack = Stack(sizes, ranked, starts, images)
        rule = optimizer(stack.groups(ranked))
        at = sorted({*score_at, steps})
        scores: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in score_on}
        for step in range(1, steps + 1):
            rows = batches.next()[which].to(images.device)  # (M, B)
            stack.gradients_(images, labels, rows)
            rule.step()
            if step in at:
                for name, (x, y) in score_on.items():
                    scores[name].append(stack.score(x.flatten(1), y))
    back = torch.tensor(order).argsort()
    return Curves(
        steps=tuple(at),
        errors={name: torch.stack([error[back] for error, _ in found]) for name, found in scores.items()},
        losses={name: torch.stack([loss[back] for _, loss in found]) for name, found in scores.items()},
        params={name: value[back] for name, value in stack.params.items()},
    )


def check_mlps(sizes: Sequence[int], members: Sequence[MLPMember], images: Tensor, n_train: int) -> None:
    if not members:
        raise ValueError("an ensemble needs at least one member")
    if n_train > len(images):
        raise ValueError(f"the pool holds {len(images)} images, fewer than the {n_train} asked for")
    if images.shape[1] != sizes[0]:
        raise ValueError(f"the first size is {sizes[0]}, but an image holds {images.shape[1]} numbers")
    if unknown := {m.activation for m in members} - set(IN_PLACE_ACTIVATIONS):
        raise ValueError(f"there is no activation {sorted(unknown)}; there are {list(IN_PLACE_ACTIVATIONS)}")
    if any(p for m in members for p in m.drop.values()):
        raise ValueError("train_mlps drops nothing: train_ensemble does")


class Stack:
    """M MLPs as stacked parameters, with their gradients and the memory that a step needs, all of it kept.

    Memory for each batch anew costs more than the arithmetic of small nets: the allocator hands large pieces back to
    the system, which clears them page by page before they come again.
    """

    def __init__(self, sizes: Sequence[int], members: Sequence[MLPMember], starts: Mapping[int, Params], like: Tensor):
        """`starts` holds for each seed the parameters from `he_normal`; other starts draw their own."""
        generators = [torch.Generator().manual_seed(m.seed) for m in members]
        shapes = list(pairwise(sizes))
        new = {"dtype": like.dtype, "device": like.device}
        self.weights = [
            torch.stack(
                [
                    starts[m.seed][f"w{i}"] if m.start is he_normal else m.start(*shape, g)
                    for m, g in zip(members, generators, strict=True)
                ]
            ).to(**new)
            for i, shape in enumerate(shapes)
        ]
        self.biases = [torch.zeros(len(members), 1, n_out, **new) for _, n_out in shapes]
        self.weight_grads = [torch.zeros_like(w) for w in self.weights]
        self.bias_grads = [torch.zeros_like(b) for b in self.biases]
        runs = [(name, len(list(run))) for name, run in groupby(m.activation for m in members)]
        ends = torch.tensor([n for _, n in runs]).cumsum(0).tolist()
        self.activations = [
            (IN_PLACE_ACTIVATIONS[name], slice(end - n, end)) for (name, n), end in zip(runs, ends, strict=True)
        ]
        self.in_place = not any(activation.needs_input for activation, _ in self.activations)
        self.memory: tuple[int, list[Tensor], list[Tensor], list[Tensor]] = (-1, [], [], [])

    @property
    def params(self) -> Params:
        named = [(f"w{i}", w, f"b{i}", b) for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True))]
        return {name: value for w, weight, b, bias in named for name, value in ((w, weight), (b, bias))}

    def groups(self, members: Sequence[MLPMember]) -> list[dict[str, Any]]:
        """Parameter groups, one for each run of members of one rate and decay: views, with views of the gradients."""
        pairs = list(zip(self.weights + self.biases, self.weight_grads + self.bias_grads, strict=True))
        groups, start = [], 0
        for (lr, decay), run in groupby((m.lr, m.weight_decay) for m in members):
            end = start + len(list(run))
            params = []
            for whole, grad in pairs:
                param = whole[start:end]
                param.grad = grad[start:end]
                params.append(param)
            groups.append({"params": params, "lr": lr, "weight_decay": decay})
            start = end
        return groups

    def buffers(self, batch: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """For each layer, memory for what enters it (M, B, in), for its z and for the gradient at z (M, B, out)."""
        if self.memory[0] != batch:
            nets, first = self.weights[0].shape[:2]
            inputs = [self.weights[0].new_empty(nets, batch, first)]
            inputs += [w.new_empty(nets, batch, w.shape[2]) for w in self.weights]
            grads = [torch.empty_like(h) for h in inputs[1:]]
            pre = inputs[1:] if self.in_place else [*(torch.empty_like(h) for h in inputs[1:-1]), inputs[-1]]
            self.memory = (batch, inputs, pre, grads)
        return self.memory[1:]

    def gradients_(self, images: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Write each net's gradient of its mean cross-entropy on its images, rows (M, B), to the gradients."""
        h, z, grad = self.buffers(rows.shape[1])
        last = len(self.weights) - 1
        torch.index_select(images, 0, rows.flatten(), out=h[0].view(-1, h[0].shape[2]))
        for i in range(last + 1):
            torch.baddbmm(self.biases[i], h[i], self.weights[i], out=z[i])
            if i < last:
                for activation, nets in self.activations:
                    activation.forward(z[i][nets], h[i + 1][nets])
        # the loss's gradient at the logits: (softmax − one-hot) / B
        torch.softmax(z[last], -1, out=grad[last])
        grad[last].scatter_add_(2, labels[rows].unsqueeze(2), -torch.ones_like(grad[last][..., :1]))
        grad[last].div_(rows.shape[1])
        for i in range(last, -1, -1):
            torch.bmm(h[i].mT, grad[i], out=self.weight_grads[i])
            torch.sum(grad[i], 1, keepdim=True, out=self.bias_grads[i])
            if i:
                torch.bmm(grad[i], self.weights[i].mT, out=grad[i - 1])
                for activation, nets in self.activations:
                    kept = z[i - 1] if activation.needs_input else h[i]
                    activation.backward(grad[i - 1][nets], kept[nets])

    def logits(self, images: Tensor) -> Tensor:
        """(M, N, classes) for images (N, features)."""
        h = images.expand(len(self.weights[0]), *images.shape)
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(b, h, w)
            if i < len(self.weights) - 1:
                for activation, nets in self.activations:
                    activation.forward(h[nets], h[nets])
        return h

    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each net's error (share) and mean cross-entropy (nats): two tensors (M,)."""
        chunk = max(1, 8192 // len(self.weights[0]))
        logits = torch.cat([self.logits(x) for x in images.split(chunk)], dim=1)
        error = (logits.argmax(-1) != labels).to(logits.dtype).mean(1)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
        return error, loss.view(len(logits), -1).mean(1)
