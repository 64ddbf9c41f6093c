"""What the optimizer claims share: many small nets trained at once, each at its own rate, by one rule and schedule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from course_lib import optimizers
from course_lib.claims.experiments import TUNING_SEEDS, Images, images
from course_lib.ensembles import MLP, Batches, MLPMember, Stack
from course_lib.schedules import PlateauState, plateau_step

__all__ = ["GRIDS", "RULES", "SETS", "STEPS", "Runs", "grid", "small", "train", "tune"]

SETS = ("mnist5k", "animalshape")
N_TRAIN, BATCH, STEPS, EVERY = 1000, 50, 600, 20  # 20 steps are one epoch
HIDDEN = (48, 48)
NETS_AT_ONCE = 16

# A rule: (param, grad, state, step, lr) -> (param, state). The rate is a tensor, one value a net: the step functions
# that the lesson teaches broadcast it.
Rule = Callable[[Tensor, Tensor, list[Tensor], int, Tensor], tuple[Tensor, list[Tensor]]]


def plain(param, grad, state, step, lr):
    return optimizers.sgd_step(param, grad, lr=lr), state


def momentum(param, grad, state, step, lr):
    param, buffer = optimizers.momentum_step(param, grad, state[0], lr=lr)
    return param, [buffer]


def nesterov(param, grad, state, step, lr):
    param, buffer = optimizers.nesterov_step(param, grad, state[0], lr=lr)
    return param, [buffer]


def adagrad(param, grad, state, step, lr):
    param, total = optimizers.adagrad_step(param, grad, state[0], lr=lr)
    return param, [total]


def rmsprop(param, grad, state, step, lr):
    param, square_avg, _, _ = optimizers.rmsprop_step(param, grad, state[0], lr=lr, alpha=0.9)
    return param, [square_avg]


def adam(param, grad, state, step, lr):
    param, m, v = optimizers.adam_step(param, grad, *state, step, lr=lr)
    return param, [m, v]


def adamw(param, grad, state, step, lr, weight_decay=0.1):
    param, m, v = optimizers.adamw_step(param, grad, *state, step, lr=lr, weight_decay=weight_decay)
    return param, [m, v]


RULES: dict[str, tuple[Rule, int]] = {  # and how many tensors of state each parameter has
    "gradient descent": (plain, 0),
    "momentum": (momentum, 1),
    "Nesterov": (nesterov, 1),
    "AdaGrad": (adagrad, 1),
    "RMSProp": (rmsprop, 1),
    "Adam": (adam, 2),
    "AdamW": (partial(adamw, weight_decay=0.1), 2),
}


def grid(highest: float, count: int = 8) -> tuple[float, ...]:
    """Rates from the highest down, each about a third of the one before."""
    return tuple(float(f"{highest * 10 ** (-i / 2):.2g}") for i in range(count))


GRIDS = {  # as many rates for each; the best one should lie inside
    "gradient descent": grid(3.2),
    "momentum": grid(1.0),
    "Nesterov": grid(1.0),
    "AdaGrad": grid(0.32),
    "RMSProp": grid(0.032),
    "Adam": grid(0.1),
    "AdamW": grid(0.1),
}


def small(name: str) -> Images:
    """A data set at half its width and height: an experiment takes a quarter of the time."""
    return images(name, halve=True)


@dataclass(frozen=True)
class Runs:
    """Losses (nats) and errors (shares), each (K, nets), after `steps` (K of them), by part: train, valid, test."""

    steps: tuple[int, ...]
    losses: Mapping[str, Tensor]
    errors: Mapping[str, Tensor]

    def last(self, part: str) -> Tensor:
        """The loss of a part after the last step, (nets,); a net that blew up counts with 10 nats."""
        return bounded(self.losses[part][-1])


def bounded(losses: Tensor) -> Tensor:
    return losses.nan_to_num(10.0, 10.0, 10.0).clamp(max=10.0)


def train(
    rule: str,
    rates: Sequence[float],
    seeds: Sequence[int],
    data: Images,
    *,
    schedule: Callable[[int], float] | str = "constant",
    score_at: Sequence[int] = (),
    steps: int = STEPS,
) -> Runs:
    """Train one net for each pair (rates[i], seeds[i]), whose seed draws its start, images and order of batches.

    `schedule` maps the step, from 0, to a factor of the rate; "plateau" halves a net's rate when its validation loss
    has not improved for more than two epochs.
    """
    parts = [
        _train(
            rule,
            rates[i : i + NETS_AT_ONCE],
            seeds[i : i + NETS_AT_ONCE],
            data,
            schedule,
            sorted({*score_at, steps}),
            steps,
        )
        for i in range(0, len(seeds), NETS_AT_ONCE)
    ]
    return Runs(
        steps=parts[0].steps,
        losses={part: torch.cat([p.losses[part] for p in parts], dim=1) for part in parts[0].losses},
        errors={part: torch.cat([p.errors[part] for p in parts], dim=1) for part in parts[0].errors},
    )


@torch.no_grad()
def _train(rule, rates, seeds, data, schedule, score_at, steps) -> Runs:
    pool, labels = data.train[0].flatten(1), data.train[1]
    sizes = (pool.shape[1], *HIDDEN, data.classes)
    unique = sorted(set(seeds))
    generators = [torch.Generator().manual_seed(seed) for seed in unique]
    starts = {seed: MLP(sizes).init(g) for seed, g in zip(unique, generators, strict=True)}
    subset = torch.stack([torch.randperm(len(labels), generator=g)[:N_TRAIN] for g in generators])
    batches = Batches(subset, BATCH, generators)
    which = torch.tensor([unique.index(seed) for seed in seeds])
    stack = Stack(sizes, [MLPMember(seed=seed) for seed in seeds], starts, pool)
    step_rule, slots = RULES[rule]
    params, grads = stack.weights + stack.biases, stack.weight_grads + stack.bias_grads
    states = [[torch.zeros_like(param) for _ in range(slots)] for param in params]
    lr, factor = torch.tensor(rates), torch.ones(len(rates))
    plateaus = [PlateauState()] * len(rates)
    losses: dict[str, list[Tensor]] = {part: [] for part in ("train", "valid", "test")}
    errors: dict[str, list[Tensor]] = {part: [] for part in ("train", "valid", "test")}
    for step in range(steps):
        stack.gradients_(pool, labels, batches.next()[which])
        if callable(schedule):
            factor = torch.full_like(lr, schedule(step))
        rate = (lr * factor).view(-1, 1, 1)
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            new, states[i] = step_rule(param, grad, states[i], step + 1, rate)
            param.copy_(new)
        done = step + 1
        if schedule == "plateau" and done % EVERY == 0:
            _, valid = stack.score(data.valid[0].flatten(1), data.valid[1])
            for i, loss in enumerate(bounded(valid).tolist()):
                fall, plateaus[i] = plateau_step(loss, plateaus[i], patience=2)
                factor[i] *= 0.5 if fall else 1.0
        if done in score_at:
            own = [own_scores(stack, pool[rows], labels[rows], net) for net, rows in enumerate(subset[which])]
            for part, (error, loss) in {
                "train": tuple(torch.stack(values) for values in zip(*own, strict=True)),
                "valid": stack.score(data.valid[0].flatten(1), data.valid[1]),
                "test": stack.score(data.test[0].flatten(1), data.test[1]),
            }.items():
                errors[part].append(error)
                losses[part].append(loss)
    return Runs(
        tuple(score_at),
        {part: torch.stack(values) for part, values in losses.items()},
        {part: torch.stack(values) for part, values in errors.items()},
    )


def own_scores(stack: Stack, x: Tensor, y: Tensor, net: int) -> tuple[Tensor, Tensor]:
    """One net's error and loss on its own training images: the nets do not share them."""
    h = x
    for i, (w, b) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        h = h @ w[net] + b[net]
        h = h.relu() if i < len(stack.weights) - 1 else h
    return (h.argmax(-1) != y).float().mean(), torch.nn.functional.cross_entropy(h, y)


def tune(rule: str, rates: Sequence[float], data: Images, **training) -> dict[str, float]:
    """The best rates of the grid over the tuning seeds: one by the training loss, one by the validation error."""
    pairs = [(lr, seed) for lr in rates for seed in TUNING_SEEDS]
    runs = train(rule, [lr for lr, _ in pairs], [seed for _, seed in pairs], data, **training)
    chosen = {}
    for part, scores in (("train", runs.last("train")), ("valid", runs.errors["valid"][-1])):
        means = scores.view(len(rates), len(TUNING_SEEDS)).mean(1)
        chosen[part] = rates[int(means.argmin())]
    return chosen
