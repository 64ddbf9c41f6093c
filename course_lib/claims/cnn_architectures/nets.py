"""One net after another on small images, by one plain loop, and the same tuning budget for every arm."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.regularizers import random_shift

__all__ = ["SETS", "TUNING_SEEDS", "Data", "How", "fit", "percent", "tuned", "wrong"]

SETS = ("mnist5k", "emoji8")
TUNING_SEEDS = (1000, 1001)  # never among the seeds that are scored


@dataclass(frozen=True)
class Data:
    """Three parts (inputs (N, ...), labels (N,)), and the number of classes."""

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


@dataclass(frozen=True)
class How:
    """How a net is trained: `rule` is adam or sgd (with Nesterov's momentum), `schedule` is none or one cycle."""

    lr: float = 2e-3
    steps: int = 300
    batch: int = 32
    rule: str = "adam"
    schedule: bool = False
    decay: float = 0.0
    smoothing: float = 0.0
    shift: int = 0


def fit(make: Callable[[], nn.Module], data: Data, seed: int, n: int, how: How) -> nn.Module:
    """A net made and trained on n images, both drawn by the seed; in evaluation. The global generator stays as it "
    "was."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(data.train[1]), generator=generator)[:n]
    x, y = data.train[0][index], data.train[1][index]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make()
        if how.rule == "adam":
            optimizer = torch.optim.AdamW(net.parameters(), lr=how.lr, weight_decay=how.decay)
        else:
            optimizer = torch.optim.SGD(
                net.parameters(), lr=how.lr, momentum=0.9, nesterov=True, weight_decay=how.decay
            )
        cycle = None
        if how.schedule:
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.lr, total_steps=how.steps)
        order = index[:0]
        net.train()
        for _ in range(how.steps):
            while len(order) < how.batch:
                order = torch.cat([order, torch.randperm(n, generator=generator)])
            rows, order = order[: how.batch], order[how.batch :]
            images = random_shift(x[rows], how.shift, generator, fill=float(x.min())) if how.shift else x[rows]
            loss = F.cross_entropy(net(images), y[rows], label_smoothing=how.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if cycle is not None:
                cycle.step()
    return net.eval()


def wrong(net: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    """The share of errors, in evaluation."""
    with torch.no_grad():
        logits = torch.cat([net(x) for x in part[0].split(500)])
    return float((logits.argmax(1) != part[1]).float().mean())


def tuned(
    arms: Mapping[str, Sequence[tuple[Callable[[], nn.Module], How]]], data: Data, seeds: Sequence[int], n: int
) -> dict[str, list[nn.Module]]:
    """Each arm's nets, one a seed, by the option with the lowest mean validation error over the tuning seeds.

    Raises ValueError where one arm has more options than another, or a seed is a tuning seed.
    """
    if len({len(options) for options in arms.values()}) != 1:
        raise ValueError("every arm needs as many options: " + str({arm: len(o) for arm, o in arms.items()}))
    if set(seeds) & set(TUNING_SEEDS):
        raise ValueError(f"seeds {sorted(set(seeds) & set(TUNING_SEEDS))} are for tuning only")
    trained = {}
    for arm, options in arms.items():
        make, how = options[0]
        if len(options) > 1:
            scores = [
                sum(wrong(fit(make, data, seed, n, how), data.valid) for seed in TUNING_SEEDS) for make, how in options
            ]
            make, how = options[scores.index(min(scores))]
        trained[arm] = [fit(make, data, seed, n, how) for seed in seeds]
    return trained


def percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]
