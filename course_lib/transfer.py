"""Transfer learning: what trains and what stays, at which rate, from which weights, and how far features move.

Everything here works on any `nn.Module` by the names of its parameters. A pattern is a shell pattern over those names:
"stem.*", "blocks.1?.*", "*.bias", "*" (a `*` crosses dots).

    replace_head(net, 26)
    print(freeze(net, "*", keep=["classifier.*"]))      # says what still trains, and refuses where nothing would
    optimizer = torch.optim.AdamW(parameter_groups(net, {"classifier.*": 1e-3, "*": 1e-4}))

In PyTorch a frozen batch norm still normalizes by the batch and still moves its running statistics: `requires_grad`
knows nothing of buffers. Keras's `trainable = False` puts it into inference. `freeze` does what Keras does, unless told
otherwise.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from course_lib.training import evaluation

__all__ = [
    "FreezeError",
    "GradualUnfreezing",
    "LoadReport",
    "Standardize",
    "TrainingReport",
    "features_moved",
    "freeze",
    "fully_convolutional",
    "hold_norms",
    "layerwise_rates",
    "linear_cka",
    "linear_to_conv",
    "load_partial",
    "open_stages",
    "parameter_groups",
    "precompute_features",
    "pretrain_autoencoder",
    "pretrain_greedily",
    "relative_distance",
    "release_norms",
    "replace_head",
    "trains",
    "unfreeze",
    "weights_moved",
]


# ---------------------------------------------------------------- what trains


class FreezeError(ValueError):
    """A freeze that would leave nothing to train, or a pattern that names nothing."""


@dataclass(frozen=True)
class TrainingReport:
    """What trains and what is frozen, by name, with the number of weights; and the norms held in inference."""

    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    trainable_weights: int
    frozen_weights: int
    held_norms: tuple[str, ...]

    def __str__(self) -> str:
        total = self.trainable_weights + self.frozen_weights
        share = self.trainable_weights / total if total else 0.0
        return (
            f"{self.trainable_weights:,} of {total:,} weights train ({share:.1%}), in {len(self.trainable)} tensors: "
            f"{_shortened(self.trainable)}; {len(self.frozen)} tensors are frozen; "
            f"{len(self.held_norms)} batch norms are held in inference"
        )


def trains(model: nn.Module) -> TrainingReport:
    """What of the model trains as it stands."""
    on = [(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    off = [(name, p.numel()) for name, p in model.named_parameters() if not p.requires_grad]
    return TrainingReport(
        trainable=tuple(name for name, _ in on),
        frozen=tuple(name for name, _ in off),
        trainable_weights=sum(n for _, n in on),
        frozen_weights=sum(n for _, n in off),
        held_norms=tuple(name for name, module in model.named_modules() if _is_held(module)),
    )


def freeze(model: nn.Module, *patterns: str, keep: Iterable[str] = (), norms: bool = True) -> TrainingReport:
    """Freezes the parameters that a pattern names, but not those that `keep` names; says what still trains.

    With `norms` (the default) a batch norm whose parameters are now all frozen is held in inference, also through
    `model.train()`: otherwise its running statistics would drift and "frozen" features with them. Nothing changes where
    it raises FreezeError: for a pattern that names no parameter (a slip), and where nothing would be left to train, the
    head included: then training runs, and learns nothing.
    """
    keep = tuple(keep)
    names = dict(model.named_parameters())
    chosen = _matching(names, patterns) - _matching(names, keep)
    left = [name for name, p in names.items() if p.requires_grad and name not in chosen]
    if not left:
        raise FreezeError(
            f"freeze({', '.join(map(repr, patterns))}) would leave nothing to train, the head included: "
            "keep the head, as in keep=['classifier.*'], or replace the head after freezing"
        )
    for name in chosen:
        names[name].requires_grad_(False)
    if norms:
        hold_norms(model)
    return trains(model)


def unfreeze(model: nn.Module, *patterns: str, norms: bool = False) -> TrainingReport:
    """Lets the parameters train that a pattern names; says what trains now.

    A batch norm whose parameters train again leaves inference, unless `norms=True` keeps it there (with small batches
    and few steps that is often the better choice). An optimizer made before knows nothing of these parameters: give it
    `optimizer.add_param_group`. Raises FreezeError for a pattern that names no parameter.
    """
    names = dict(model.named_parameters())
    for name in _matching(names, patterns):
        names[name].requires_grad_(True)
    if not norms:
        for module in model.modules():
            if _is_held(module) and any(p.requires_grad for p in module.parameters()):
                _release(module)
    return trains(model)


def hold_norms(model: nn.Module, *, all_of_them: bool = False) -> tuple[str, ...]:
    """Holds the batch norms whose parameters are frozen (or every one) in inference, also through `model.train()`.

    A norm without parameters of its own cannot be frozen by name, so only `all_of_them` holds it. Returns the names of
    those held now.
    """
    held = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            own = list(module.parameters(recurse=False))
            if all_of_them or (own and not any(p.requires_grad for p in own)):
                module.eval()
                module.train = partial(_stay_in_inference, module)  # unlike a method, it can be pickled
                held.append(name)
    return tuple(held)


def release_norms(model: nn.Module) -> None:
    """Lets every held batch norm follow `model.train()` again, and puts it in the model's present mode."""
    for module in model.modules():
        if _is_held(module):
            _release(module)
            module.train(model.training)


def _stay_in_inference(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _is_held(module: nn.Module) -> bool:
    return getattr(module.__dict__.get("train"), "func", None) is _stay_in_inference


def _release(module: nn.Module) -> None:
    del module.train


def _matching(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise FreezeError(f"no parameter is named {pattern!r}: there are {_shortened(list(names))}")
        chosen |= found
    return chosen


def _shortened(names: Sequence[str]) -> str:
    shown = names if len(names) <= 4 else [*names[:2], "…", *names[-2:]]
    return ", ".join(shown) if shown else "none"


# ---------------------------------------------------------------- rates


def parameter_groups(model: nn.Module, rates: Mapping[str, float]) -> list[dict]:
    """Groups for an optimizer: each trainable parameter at the rate of the first pattern that names it.

    Frozen parameters are in no group, so neither weight decay nor a momentum left over can move them. Each group is
    {"params", "lr", "name"}, in the order of `rates`; empty ones are left out. Raises ValueError where a trainable
    parameter has no rate, and FreezeError for a pattern that names no parameter.
    """
    members: dict[str, list[nn.Parameter]] = {pattern: [] for pattern in rates}
    names = dict(model.named_parameters())
    for pattern in rates:
        _matching(names, [pattern])
    for name, parameter in names.items():
        if parameter.requires_grad:
            pattern = next((pattern for pattern in rates if fnmatchcase(name, pattern)), None)
            if pattern is None:
                raise ValueError(f"{name} trains, but no pattern gives it a rate: add one, or '*' as the last")
            members[pattern].append(parameter)
    return [{"params": found, "lr": rates[name], "name": name} for name, found in members.items() if found]


def layerwise_rates(stages: Sequence[str], lr: float, *, factor: float = 2.6) -> dict[str, float]:
    """Rates that fall from the head to the input: stage i of n, counted from the input, gets lr / factor^(n − 1 − i).

    Early layers hold what is general and need little change. 2.6 is Howard & Ruder's choice (ULMFiT, 2018). Raises
    ValueError unless lr > 0 and factor ≥ 1.
    """
    if lr <= 0 or factor < 1:
        raise ValueError(f"lr has to be positive and factor at least 1, but got {lr} and {factor}")
    return {stage: lr / factor ** (len(stages) - 1 - i) for i, stage in enumerate(stages)}


def open_stages(epoch: int, stages: int, *, every: int = 1) -> int:
    """How many stages train in `epoch` (from 0), the head first: min(1 + ⌊epoch / every⌋, stages)."""
    return min(1 + epoch // every, stages)


class GradualUnfreezing:
    """Trains the head first, then one stage more every `every` epochs, down to the input (Howard & Ruder 2018).

    `stages` gives a rate to each pattern, the head first. `start_epoch` freezes and unfreezes, and adds what is new to
    the optimizer; what belongs to no stage stays frozen. Batch norms stay in inference, opened or not, unless
    `norms=False`. Raises ValueError for no stages or `every` below 1, and
    FreezeError for a pattern that names no parameter.

        schedule = GradualUnfreezing(net, {"classifier.*": 1e-3, "top.*": 4e-4, "blocks.15.*": 1e-4})
        optimizer = torch.optim.AdamW(schedule.groups(0))
        for epoch in range(6):
            print(schedule.start_epoch(epoch, optimizer))
            ...
    """

    def __init__(self, model: nn.Module, stages: Mapping[str, float], *, every: int = 1, norms: bool = True):
        if not stages or every < 1:
            raise ValueError(f"gradual unfreezing needs a stage and every ≥ 1, but got {len(stages)} and {every}")
        self.model, self.stages, self.every, self.norms = model, dict(stages), every, norms
        _matching(dict(model.named_parameters()), self.stages)

    def start_epoch(self, epoch: int, optimizer: torch.optim.Optimizer | None = None) -> TrainingReport:
        """Opens the stages of this epoch; parameters that the optimizer lacks join it at their stage's rate."""
        report = self._open(epoch)
        if optimizer is not None:
            known = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for group in self.groups(epoch):
                if new := [p for p in group["params"] if id(p) not in known]:
                    optimizer.add_param_group(group | {"params": new})
        return report

    def groups(self, epoch: int) -> list[dict]:
        """The optimizer's groups in this epoch, as `parameter_groups` gives them."""
        self._open(epoch)
        return parameter_groups(self.model, self.stages)

    def _open(self, epoch: int) -> TrainingReport:
        is_open = list(self.stages)[: open_stages(epoch, len(self.stages), every=self.every)]
        unfreeze(self.model, *is_open)
        freeze(self.model, "*", keep=is_open)
        if self.norms:
            hold_norms(self.model, all_of_them=True)
        return trains(self.model)


# ---------------------------------------------------------------- heads


def replace_head(model: nn.Module, num_classes: int, *, name: str | None = None) -> str:
    """Puts a fresh linear layer of `num_classes` in the place of the head, and returns its name.

    The head is the last `nn.Linear` in the model, or the module called `name`. The new one starts as `nn.Linear` does,
    has a bias where the old one had, lies on its device in its dtype, and trains. Replace the head after freezing, or
    keep it: a new one is never frozen by an earlier `freeze`. Raises ValueError where there is no such linear layer, or
    fewer than one class.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes has to be at least 1, but got {num_classes}")
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    name = name if name is not None else next(reversed(linear), None)
    if name not in linear or name == "":
        raise ValueError(f"the model has no linear layer {name!r} to replace: there are {_shortened(list(linear))}")
    old = linear[name]
    parent, _, last = name.rpartition(".")
    new = nn.Linear(
        old.in_features, num_classes, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype
    )
    setattr(model.get_submodule(parent), last, new)
    return name


def linear_to_conv(linear: nn.Linear, in_shape: tuple[int, int, int]) -> nn.Conv2d:
    """The convolution that does what `linear` does on flattened maps (C, h, w), but at every place of larger ones.

    y = W · flatten(x) + b becomes a kernel of h x w: weight (out, C·h·w) → (out, C, h, w), no padding; on (N, C, h, w)
    it gives (N, out, 1, 1), equal to the linear layer. Raises ValueError where in_features is not C·h·w. Long et al.
    2015.
    """
    channels, height, width = in_shape
    if linear.in_features != channels * height * width:
        held = channels * height * width
        raise ValueError(f"the layer takes {linear.in_features} features, maps of {in_shape} have {held}")
    like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
    conv = nn.utils.skip_init(
        nn.Conv2d, channels, linear.out_features, (height, width), bias=linear.bias is not None, **like
    )
    with torch.no_grad():
        conv.weight.copy_(linear.weight.view_as(conv.weight))
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv.train(linear.training)


def fully_convolutional(model: nn.Sequential, in_shape: tuple[int, int, int]) -> nn.Sequential:
    """`model`, a Sequential that flattens maps and goes on with linear layers, with convolutions in their place.

    On (N, *in_shape) it gives (N, out, 1, 1), equal to the model; on larger images a map of such outputs. The weights
    are copied. The layers up to the flattening are shared. Raises ValueError where the model has no `nn.Flatten` right
    before its first linear layer.
    """
    layers = list(model)
    at = next((i for i, layer in enumerate(layers) if isinstance(layer, nn.Flatten)), None)
    if at is None or not any(isinstance(layer, nn.Linear) for layer in layers[at:]):
        raise ValueError("the model needs an nn.Flatten and then linear layers, at the level of the Sequential")
    weight = next(layer.weight for layer in layers[at:] if isinstance(layer, nn.Linear))
    trunk = nn.Sequential(*layers[:at])
    with evaluation(trunk):
        shape = tuple(trunk(weight.new_zeros(1, *in_shape)).shape[1:])
    converted: list[nn.Module] = []
    for layer in layers[at + 1 :]:
        if isinstance(layer, nn.Linear):
            layer = linear_to_conv(layer, shape)
            shape = (layer.out_channels, 1, 1)
        converted.append(layer)
    return nn.Sequential(*layers[:at], *converted).train(model.training)


# ---------------------------------------------------------------- precomputed features


def precompute_features(
    trunk: Callable[[Tensor], Tensor], inputs: Tensor, *, batch_size: int = 64, cache: Path | str | None = None
) -> Tensor:
    """The outputs of the frozen trunk for all inputs, computed once: (N, …) → (N, …), in evaluation, without a graph.

    Equal to what the trunk gives in evaluation, batch by batch; every module keeps its mode. With `cache`, a folder,
    the features are kept there under a digest of the trunk's weights and the inputs, so that a changed trunk or other
    inputs never find old features. Inputs move to the trunk's device, features come back to the inputs'. Raises
    ValueError for a batch size below 1, TypeError where a cache is asked for and the trunk is no `nn.Module`, or its
    features are bfloat16, which numpy's files cannot hold.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size has to be at least 1, but got {batch_size}")
    path = Path(cache) / f"{_digest(trunk, inputs)}.npy" if cache is not None else None
    if path is not None and path.exists():
        with suppress(ValueError, EOFError):  # a damaged file is made anew
            return torch.from_numpy(np.load(path, allow_pickle=False)).to(inputs.device)
    is_module = isinstance(trunk, nn.Module)
    device = next((p.device for p in trunk.parameters()), inputs.device) if is_module else inputs.device
    with evaluation(trunk) if is_module else torch.no_grad():
        batches = inputs.split(batch_size) if len(inputs) else (inputs,)
        result = torch.cat([trunk(batch.to(device)).to(inputs.device) for batch in batches])
    if path is not None:
        if result.dtype == torch.bfloat16:
            raise TypeError("a cache cannot hold bfloat16 features: leave the cache out, or take .float() of the trunk")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.save(file, result.cpu().numpy())
        os.replace(file.name, path)  # a run that is killed leaves no half a file under the name
    return result


class Standardize(nn.Module):
    """(x − mean) / deviation by feature, with the numbers of the features it was made from: x (N, d) → (N, d).

    A linear head on raw features trains badly, for they differ in scale; learners would blame the backbone. A feature
    that never varies (its deviation is below `eps` of its own size) comes out 0. Mean and deviation are buffers: they
    travel with the state_dict.
    """

    def __init__(self, features: Tensor, *, eps: float = 1e-6):
        super().__init__()
        mean = features.mean(0)
        deviation = features.std(0, correction=0)
        constant = deviation <= eps * mean.abs()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(constant, torch.zeros_like(mean), 1 / deviation))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale


def _digest(trunk: Callable, inputs: Tensor) -> str:
    if not isinstance(trunk, nn.Module):
        raise TypeError("a cache needs an nn.Module: a plain function's weights cannot be told apart")
    digest = hashlib.sha256(repr(trunk).encode())
    for name, tensor in [*trunk.state_dict().items(), ("inputs", inputs)]:
        array = tensor.detach().contiguous().cpu()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.view(torch.uint8).numpy().data if array.numel() and array.ndim else str(array).encode())
    return digest.hexdigest()


# ---------------------------------------------------------------- loading by name


@dataclass(frozen=True)
class LoadReport:
    """What a partial loading did, by name; `misshapen` has (name, shape in the state, shape in the model)."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # in the model, not in the state
    unexpected: tuple[str, ...]  # in the state, not in the model
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __str__(self) -> str:
        wrong = [f"{name} {got} for {wanted}" for name, got, wanted in self.misshapen]
        return (
            f"{len(self.loaded)} loaded; missing: {_shortened(self.missing)}; "
            f"unexpected: {_shortened(self.unexpected)}; misshapen: {_shortened(wrong)}"
        )


@torch.no_grad()
def load_partial(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    rename: Callable[[str], str | None] = lambda name: name,
    must_load: Iterable[str] = (),
) -> LoadReport:
    """Copies into the model, in place, every tensor of `state` that has a place of its name and shape; says the rest.

    `load_state_dict(strict=False)` forgives names in silence and still raises for a shape; this forgives both and
    reports both. `rename` maps a name of the state to the model's (None leaves it out); a tensor takes the model's
    dtype and device. Nothing changes where it raises ValueError: where nothing would be loaded, two names become one,
    or a name that a pattern of `must_load` stands for would not be loaded.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours = rename(name)
        if ours is not None:
            if ours in renamed:
                raise ValueError(f"two tensors of the state become {ours!r}")
            renamed[ours] = tensor
    places = model.state_dict()  # its tensors share memory with the model's
    loaded = tuple(name for name in renamed if name in places and renamed[name].shape == places[name].shape)
    misshapen = tuple(
        (name, tuple(renamed[name].shape), tuple(places[name].shape))
        for name in renamed
        if name in places and renamed[name].shape != places[name].shape
    )
    report = LoadReport(
        loaded=loaded,
        missing=tuple(name for name in places if name not in renamed),
        unexpected=tuple(name for name in renamed if name not in places),
        misshapen=misshapen,
    )
    if not loaded:
        raise ValueError(f"nothing of the state fits the model: {report}")
    for pattern in must_load:
        wanted = [name for name in places if fnmatchcase(name, pattern)]
        if not wanted or not set(wanted) <= set(loaded):
            raise ValueError(f"{pattern!r} has to be loaded whole, but is not: {report}")
    for name in loaded:
        places[name].copy_(renamed[name])
    return report


# ---------------------------------------------------------------- greedy layer-wise pretraining


def pretrain_autoencoder(
    layer: nn.Linear,
    x: Tensor,
    *,
    activation: Callable[[Tensor], Tensor] = torch.sigmoid,
    noise: float = 0.0,
    epochs: int = 10,
    lr: float = 1e-2,
    batch_size: int = 64,
    seed: int = 0,
) -> tuple[float, ...]:
    """Trains the layer in place to keep what x (N, in) says, and returns the mean squared error of each epoch.

    h = activation(W x̃ + b), x̂ = Wᵀ h + c: tied weights; W and b are the layer's, c is thrown away. x̃ is x with a share
    `noise` of its entries set to 0 (Vincent et al. 2008), x itself by default. Adam; the same seed gives the same run,
    and the global generator is left alone. Raises ValueError unless 0 ≤ noise < 1, epochs ≥ 1 and batch_size ≥ 1.
    """
    if not 0 <= noise < 1 or epochs < 1 or batch_size < 1:
        raise ValueError(
            f"noise has to be in [0, 1), epochs and batch_size at least 1, but got {noise}, {epochs} and {batch_size}"
        )
    generator = torch.Generator(x.device).manual_seed(seed)
    decoder_bias = x.mean(0).clone().requires_grad_()  # the best guess of a code that says nothing yet
    own = [p for p in (layer.weight, layer.bias) if p is not None]
    wanted_grad = [p.requires_grad for p in own]
    optimizer = torch.optim.Adam([*(p.requires_grad_() for p in own), decoder_bias], lr=lr)
    losses = []
    with torch.enable_grad():
        for _ in range(epochs):
            total = x.new_zeros(())
            for batch in torch.randperm(len(x), generator=generator, device=x.device).split(batch_size):
                clean = x[batch]
                kept = torch.rand(clean.shape, generator=generator, device=x.device) >= noise if noise else 1
                code = activation(layer(clean * kept))
                loss = F.mse_loss(F.linear(code, layer.weight.t(), decoder_bias), clean)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(batch)
            losses.append(total / len(x))
    for parameter, wanted in zip(own, wanted_grad, strict=True):
        parameter.grad = None
        parameter.requires_grad_(wanted)
    return tuple(torch.stack(losses).tolist())


def pretrain_greedily(
    layers: Sequence[nn.Linear],
    x: Tensor,
    *,
    activation: Callable[[Tensor], Tensor] = torch.sigmoid,
    **options,
) -> tuple[tuple[float, ...], ...]:
    """Trains the layers in place one after the other, each as an autoencoder of the codes below it.

    x (N, in) → layer 1's codes → layer 2's …; `options` go to `pretrain_autoencoder`. Returns each layer's losses.
    Afterwards the net is trained as a whole: pretraining only chooses where it starts. Raises ValueError where widths
    do not follow each other. Bengio et al. 2007.
    """
    for before, after in pairwise(layers):
        if before.out_features != after.in_features:
            raise ValueError(f"a layer gives {before.out_features} codes, the next takes {after.in_features}")
    histories = []
    for layer in layers:
        histories.append(pretrain_autoencoder(layer, x, activation=activation, **options))
        with torch.no_grad():
            x = activation(layer(x))
    return tuple(histories)


# ---------------------------------------------------------------- how far features move


def relative_distance(before: Tensor, after: Tensor) -> Tensor:
    """‖after − before‖ / ‖before‖, a scalar: 0 where nothing moved, 1 where the move is as large as what was there.

    0 where both are zero, infinite where only `before` is. Raises ValueError where shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"shapes differ: {tuple(before.shape)} and {tuple(after.shape)}")
    largest = before.abs().amax().clamp(min=torch.finfo(before.dtype).tiny) if before.numel() else before.new_ones(())
    moved = torch.linalg.vector_norm((after - before) / largest)
    size = torch.linalg.vector_norm(before / largest)
    return torch.where(moved == 0, torch.zeros_like(moved), moved / size)


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Likeness of two sets of features of the same N examples, in [0, 1]: x (N, …), y (N, …) → scalar.

    ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖) in Frobenius norms, columns centred. It does not see rotations and a common scale, so it
    compares what two nets know, where `relative_distance` compares units one by one. NaN where a side never varies.
    Raises ValueError where the numbers of examples differ. Kornblith et al. 2019.
    """
    if len(x) != len(y):
        raise ValueError(f"as many examples on both sides: got {len(x)} and {len(y)}")

    def unit(features):
        features = features.flatten(1)
        features = features - features.mean(0)
        features = features / features.abs().amax()
        return features / torch.linalg.matrix_norm(features)

    x, y = unit(x), unit(y)
    if len(x) <= max(x.shape[1], y.shape[1]):  # (N, N) products are the smaller ones; the three norms are the same
        gram_x, gram_y = x @ x.T, y @ y.T
        return (gram_x * gram_y).sum() / (torch.linalg.matrix_norm(gram_x) * torch.linalg.matrix_norm(gram_y))
    cross = torch.linalg.matrix_norm(y.T @ x).square()
    return cross / (torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y))


@torch.no_grad()
def weights_moved(model: nn.Module, start: Mapping[str, Tensor]) -> dict[str, float]:
    """`relative_distance` of each floating-point tensor of the model from its value in `start`, an earlier state_dict.

    Take `start` as a copy (`copy.deepcopy(model.state_dict())`): a plain state_dict moves with the model. Names that
    only one side has, or in another shape, are left out.
    """
    now = model.state_dict()
    return {
        name: float(relative_distance(start[name].to(value.device), value))
        for name, value in now.items()
        if name in start and value.is_floating_point() and start[name].shape == value.shape
    }


def features_moved(
    before: nn.Module, after: nn.Module, x: Tensor, layers: Sequence[str], *, measure=relative_distance
) -> dict[str, float]:
    """How far the outputs of the named layers moved between two versions of a net, on x, both in evaluation.

    `measure(features before, features after)` gives the number of each layer. Raises ValueError for a name that is no
    module of the net.
    """
    one, other = _outputs(before, x, layers), _outputs(after, x, layers)
    return {name: float(measure(one[name], other[name])) for name in layers}


def _outputs(model: nn.Module, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    modules = dict(model.named_modules())
    if absent := [name for name in layers if name not in modules]:
        raise ValueError(f"the net has no layer {absent[0]!r}: there are {_shortened([n for n in modules if n])}")
    found: dict[str, Tensor] = {}
    # a copy, because the next layer may work in place
    handles = [
        modules[name].register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.clone()}))
        for name in layers
    ]
    try:
        with evaluation(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found
