"""What experiments share: images as tensors, nets in batches, and one tuning budget for every arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.datasets import as_tensors, load
from course_lib.ensembles import Curves, Member, Net, train_ensemble

__all__ = ["Images", "Option", "Outcome", "images", "train_all", "tune_and_score"]

TUNING_SEEDS = (1000, 1001)  # never among the seeds that are scored
NETS_AT_ONCE = 4  # about what a processor's cache holds: more were slower


@dataclass(frozen=True)
class Images:
    """A data set's three parts, each (images (N, C, H, W) float, labels (N,)), standardized as one number."""

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


def images(name: str, *, halve: bool = False) -> Images:
    """An embedded data set; with `halve`, each image at half its width and height (the mean of 2 × 2 pixels)."""
    data = load(name)
    parts = [as_tensors(*part) for part in (data.train, data.valid, data.test)]
    mean, std = parts[0][0].mean(), parts[0][0].std()
    parts = [((x - mean) / std, y) for x, y in parts]
    if halve:
        parts = [(F.avg_pool2d(x, 2), y) for x, y in parts]
    return Images(*parts, classes=len(data.classes))


def train_all(net: Net, members: Sequence[Member], data: Images, **training) -> Curves:
    """`train_ensemble` on the training part, a cacheful of members after another; scored on valid and test."""
    curves = [
        train_ensemble(
            net,
            members[i : i + NETS_AT_ONCE],
            data.train,
            score_on={"valid": data.valid, "test": data.test},
            **training,
        )
        for i in range(0, len(members), NETS_AT_ONCE)
    ]
    return Curves(
        steps=curves[0].steps,
        errors={part: torch.cat([c.errors[part] for c in curves], dim=1) for part in ("valid", "test")},
        losses={part: torch.cat([c.losses[part] for c in curves], dim=1) for part in ("valid", "test")},
        params={name: torch.cat([c.params[name] for c in curves]) for name in curves[0].params},
    )


@dataclass(frozen=True)
class Option:
    """One setting that an arm may choose: a net and how its members train (their seed is filled in)."""

    net: Net
    member: Member = field(default_factory=lambda: Member(seed=0))


@dataclass(frozen=True)
class Outcome:
    """What an arm chose on validation images, and its test errors, shares of 1, one for each seed."""

    option: Option
    steps: int
    errors: tuple[float, ...]


def tune_and_score(
    arms: Mapping[str, Sequence[Option]], data: Images, seeds: Sequence[int], *, score_at: Sequence[int], **training
) -> dict[str, Outcome]:
    """Let every arm choose among as many options, then score its choice on the test images with fresh seeds.

    An arm chooses its option and its number of steps (from `score_at`) by the mean validation error over the
    tuning seeds. Raises ValueError where one arm has more options than another, or a seed is a tuning seed.
    """
    if len({len(options) for options in arms.values()}) != 1:
        raise ValueError("every arm needs the same number of options: " + str({k: len(v) for k, v in arms.items()}))
    if set(seeds) & set(TUNING_SEEDS):
        raise ValueError(f"seeds {sorted(set(seeds) & set(TUNING_SEEDS))} are for tuning only")
    training = {**training, "steps": max(score_at), "score_at": score_at}
    tuning = [(arm, option, seed) for arm, options in arms.items() for option in options for seed in TUNING_SEEDS]
    curves = run_grouped(tuning, data, **training)
    best: dict[str, tuple[float, int, Option]] = {}
    for i, (arm, option, _) in enumerate(tuning[:: len(TUNING_SEEDS)]):
        rows = slice(i * len(TUNING_SEEDS), (i + 1) * len(TUNING_SEEDS))
        valid = curves["valid"][:, rows].mean(1)
        k = int(valid.argmin())
        if arm not in best or float(valid[k]) < best[arm][0]:
            best[arm] = (float(valid[k]), k, option)
    final = [(arm, best[arm][2], seed) for arm in arms for seed in seeds]
    curves = run_grouped(final, data, **training)
    steps = sorted(score_at)
    return {
        arm: Outcome(
            option=best[arm][2],
            steps=steps[best[arm][1]],
            errors=tuple(curves["test"][best[arm][1], i * len(seeds) : (i + 1) * len(seeds)].tolist()),
        )
        for i, arm in enumerate(arms)
    }


def run_grouped(runs: Sequence[tuple[str, Option, int]], data: Images, **training) -> dict[str, Tensor]:
    """Train each (arm, option, seed), nets of one kind together: the errors (K, runs) on valid and on test."""
    errors: dict[str, list[Tensor]] = {"valid": [None] * len(runs), "test": [None] * len(runs)}
    for net in dict.fromkeys(option.net for _, option, _ in runs):
        rows = [i for i, (_, option, _) in enumerate(runs) if option.net == net]
        members = [replace(runs[i][1].member, seed=runs[i][2]) for i in rows]
        curves = train_all(net, members, data, **training)
        for part, kept in errors.items():
            for column, i in enumerate(rows):
                kept[i] = curves.errors[part][:, column]
    return {part: torch.stack(kept, dim=1) for part, kept in errors.items()}
