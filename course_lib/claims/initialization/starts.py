"""What the experiments share: starts by name, the sizes of signal and gradient in a net, one tuning budget an arm."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from course_lib.claims.experiments import TUNING_SEEDS, Images
from course_lib.ensembles import MLPMember, train_mlps
from course_lib.initializers import (
    Fans,
    glorot_normal_,
    glorot_uniform_,
    he_normal_,
    he_uniform_,
    lecun_normal_,
    lenet_uniform_,
    orthogonal_,
)

__all__ = ["Arm", "Scored", "Start", "flow", "he_times", "tune_starts"]

Start = Callable[[int, int, torch.Generator], Tensor]


def he(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return he_normal_(torch.empty(n_in, n_out), generator=generator, fans=Fans(n_in, n_out))


def he_uniform(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return he_uniform_(torch.empty(n_in, n_out), generator=generator, fans=Fans(n_in, n_out))


def glorot(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return glorot_normal_(torch.empty(n_in, n_out), generator=generator, fans=Fans(n_in, n_out))


def glorot_uniform(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return glorot_uniform_(torch.empty(n_in, n_out), generator=generator, fans=Fans(n_in, n_out))


def glorot_times_four(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    """What Glorot and Bengio give the logistic function: its slope at 0 is 1/4."""
    return 4 * glorot(n_in, n_out, generator)


def lecun(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return lecun_normal_(torch.empty(n_in, n_out), generator=generator, fans=Fans(n_in, n_out))


def one_hundredth(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n_in, n_out, generator=generator) * 0.01


def lenet(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return lenet_uniform_(torch.empty(n_in, n_out), generator=generator, fans=Fans(n_in, n_out))


def orthogonal(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    return orthogonal_(torch.empty(n_out, n_in), 2**0.5, generator).T.contiguous()


def he_times(scale: float) -> Start:
    """He's draw, its deviation multiplied."""
    return lambda n_in, n_out, generator: scale * he(n_in, n_out, generator)


def flow(
    start: Start, sizes: Sequence[int], activation: Callable[[Tensor], Tensor], images: Tensor, seed: int
) -> tuple[list[float], list[float]]:
    """(forward, backward): the variance of each layer's z, and the mean square of the gradient at it.

    The gradient starts as standard normal noise at the last z; images are (N, sizes[0]).
    """
    generator = torch.Generator().manual_seed(seed)
    z, h = [], images
    for n_in, n_out in pairwise(sizes):
        z.append((h @ start(n_in, n_out, generator)).requires_grad_())
        h = activation(z[-1])
    noise = torch.randn(z[-1].shape, generator=generator)
    gradients = torch.autograd.grad((z[-1] * noise).sum(), z)
    return [float(a.detach().double().var()) for a in z], [float(g.double().square().mean()) for g in gradients]


@dataclass(frozen=True)
class Arm:
    """One way to start a dense net, and its activation."""

    start: Start
    activation: str = "relu"


@dataclass(frozen=True)
class Scored:
    """The rate that an arm chose on validation images, and its test errors in %, one for each seed."""

    lr: float
    errors: tuple[float, ...]


def tune_starts(
    arms: Mapping[str, Arm],
    data: Images,
    seeds: Sequence[int],
    *,
    hidden: Sequence[int],
    rates: Sequence[float],
    steps: int,
    n_train: int = 1000,
    batch_size: int = 32,
) -> dict[str, Scored]:
    """Let every arm choose its rate on validation images with the tuning seeds; score its choice with `seeds`."""
    sizes = (data.train[0][0].numel(), *hidden, data.classes)
    training = {"n_train": n_train, "steps": steps, "batch_size": batch_size}
    tuning = [
        MLPMember(seed, lr, activation=arm.activation, start=arm.start)
        for arm in arms.values()
        for lr in rates
        for seed in TUNING_SEEDS
    ]
    valid = train_mlps(sizes, tuning, data.train, score_on={"valid": data.valid}, **training).errors["valid"][-1]
    best = valid.view(len(arms), len(rates), len(TUNING_SEEDS)).mean(2).argmin(1)
    chosen = {name: rates[i] for name, i in zip(arms, best.tolist(), strict=True)}
    final = [
        MLPMember(seed, chosen[name], activation=arm.activation, start=arm.start)
        for name, arm in arms.items()
        for seed in seeds
    ]
    test = train_mlps(sizes, final, data.train, score_on={"test": data.test}, **training).errors["test"][-1]
    errors = 100 * test.view(len(arms), len(seeds))
    return {name: Scored(chosen[name], tuple(row)) for name, row in zip(arms, errors.tolist(), strict=True)}
