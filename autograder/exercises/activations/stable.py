"""Sigmoid, softplus and log-softmax that stay finite and keep their digits, in value and in gradient."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

FORBIDDEN = (
    "torch.sigmoid",
    "torch.nn.functional.sigmoid",
    "torch.special.expit",
    "torch.nn.Sigmoid",
    "torch.nn.functional.softplus",
    "torch.nn.Softplus",
    "torch.nn.functional.logsigmoid",
    "torch.nn.LogSigmoid",
    "torch.softmax",
    "torch.nn.functional.softmax",
    "torch.log_softmax",
    "torch.nn.functional.log_softmax",
    "torch.special.log_softmax",
    "torch.logsumexp",
    "torch.logaddexp",
    "torch.nn.LogSoftmax",
    "torch.nn.Softmax",
    "course_lib.activations",
)


def stable_cases(seed):
    """Ordinary logits, ±1e4 in one row and in rows apart, far left where log1p is needed, a long row, float64."""
    rng = np.random.default_rng(seed)
    yield Case("6 × 5", {"z": rng.normal(0.0, 2.0, (6, 5)).astype(np.float32)})
    far = (rng.choice([-1.0, 1.0], (4, 5)) * rng.uniform(0.9e4, 1e4, (4, 5))).astype(np.float32)
    far[0, :2] = (1e4, -1e4)
    yield Case("values of ±1e4 mixed", {"z": far})
    rows = rng.normal(0.0, 1.0, (3, 4)) + np.array([[1e4], [0.0], [-1e4]])
    yield Case("rows near 1e4, 0 and −1e4", {"z": rows.astype(np.float32)})
    yield Case("values near −20", {"z": (-20 + rng.normal(0.0, 1.0, (3, 4))).astype(np.float32)})
    yield Case("values near 30", {"z": (30 + rng.normal(0.0, 1.0, (3, 4))).astype(np.float32)})
    yield Case(
        "one row, 150 between its ends",
        {"z": np.linspace(-75, 75, 7, dtype=np.float32)[None] + np.float32(rng.normal())},
    )
    yield Case("float64, ±1e4", {"z": rng.normal(0.0, 3e3, (5, 6))})


def stable_probe(candidate, case):
    """Values, and what autograd finds when it goes through them."""
    import torch

    z = torch.tensor(case["z"], requires_grad=True)
    sigmoid, softplus, log_softmax = candidate(z)
    slopes = []
    for y in (sigmoid, softplus, log_softmax):
        weights = torch.linspace(-1, 2, y.numel(), dtype=z.dtype).reshape(y.shape)
        slopes.append(torch.autograd.grad((y * weights).sum(), z, retain_graph=True)[0])
    return {
        "sigmoid": sigmoid,
        "softplus": softplus,
        "log_softmax": log_softmax,
        "gradients": torch.stack(slopes),
    }


def stable(z):
    """(σ(z), softplus(z), log-softmax of each row of z), from exp and log alone."""
    small = torch.exp(-z.abs())  # between 0 and 1, whatever z is
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    softplus = z.clamp(min=0) + torch.log1p(small)
    shifted = z - z.amax(-1, keepdim=True)
    return sigmoid, softplus, shifted - shifted.exp().sum(-1, keepdim=True).log()


def textbook(z):
    sigmoid = torch.exp(z) / (1 + torch.exp(z))
    softplus = torch.log(1 + torch.exp(z))
    share = torch.exp(z) / torch.exp(z).sum(-1, keepdim=True)
    return sigmoid, softplus, torch.log(share)


def sigmoid_gradient_lost(z):
    small = torch.exp(-z.abs())
    shifted = z - z.amax(-1, keepdim=True)
    log_softmax = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return 1 / (1 + torch.exp(-z)), z.clamp(min=0) + torch.log1p(small), log_softmax


def softplus_by_where(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    shifted = z - z.amax(-1, keepdim=True)
    log_softmax = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return sigmoid, torch.where(z > 20, z, torch.log1p(torch.exp(z))), log_softmax


def softplus_overflows(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    shifted = z - z.amax(-1, keepdim=True)
    log_softmax = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return sigmoid, torch.log1p(torch.exp(z)), log_softmax


def log_without_log1p(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    shifted = z - z.amax(-1, keepdim=True)
    log_softmax = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return sigmoid, z.clamp(min=0) + torch.log(1 + small), log_softmax


def log_of_softmax(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    power = torch.exp(z - z.amax(-1, keepdim=True))
    return sigmoid, z.clamp(min=0) + torch.log1p(small), torch.log(power / power.sum(-1, keepdim=True))


def log_with_epsilon(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    power = torch.exp(z - z.amax(-1, keepdim=True))
    log_softmax = torch.log(power / power.sum(-1, keepdim=True) + 1e-9)
    return sigmoid, z.clamp(min=0) + torch.log1p(small), log_softmax


def log_softmax_unshifted(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    return sigmoid, z.clamp(min=0) + torch.log1p(small), z - torch.exp(z).sum(-1, keepdim=True).log()


def one_maximum_for_all(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    shifted = z - z.max()
    log_softmax = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return sigmoid, z.clamp(min=0) + torch.log1p(small), log_softmax


def over_the_batch(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    shifted = z - z.amax(0, keepdim=True)
    log_softmax = shifted - shifted.exp().sum(0, keepdim=True).log()
    return sigmoid, z.clamp(min=0) + torch.log1p(small), log_softmax


def clipped(z):
    c = z.clamp(-50, 50)
    shifted = c - c.amax(-1, keepdim=True)
    log_softmax = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return 1 / (1 + torch.exp(-c)), torch.log1p(torch.exp(c)), log_softmax


def softmax_not_its_log(z):
    small = torch.exp(-z.abs())
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    power = torch.exp(z - z.amax(-1, keepdim=True))
    return sigmoid, z.clamp(min=0) + torch.log1p(small), power / power.sum(-1, keepdim=True)


def stable_by_tanh(z):
    sigmoid = 0.5 * (1 + torch.tanh(z / 2))
    low, high = z.clamp(max=0), z.clamp(min=0)
    softplus = torch.where(z > 0, high + torch.exp(-high).log1p(), torch.exp(low).log1p())
    m = z.max(dim=-1, keepdim=True).values.detach()
    return sigmoid, softplus, z - m - torch.log(torch.sum(torch.exp(z - m), dim=-1, keepdim=True))


def stable_by_clamps(z):
    low, high = torch.exp(z.clamp(max=0)), torch.exp(-z.clamp(min=0))
    sigmoid = torch.where(z < 0, low / (1 + low), 1 / (1 + high))
    softplus = torch.where(z < 0, torch.log1p(low), z + torch.log1p(high))
    shifted = z - z.detach().amax(dim=1).unsqueeze(1)
    return sigmoid, softplus, shifted - shifted.exp().sum(dim=1, keepdim=True).log()


def stable_by_rows(z):
    small = (-z.abs()).exp()
    sigmoid = torch.where(z > 0, torch.ones_like(z), small) / (1 + small)
    softplus = torch.maximum(z, torch.zeros_like(z)) + small.log1p()
    rows = []
    for row in z:
        shifted = row - row.max()
        rows.append(shifted - shifted.exp().sum().log())
    return sigmoid, softplus, torch.stack(rows)


stable_exercise = Exercise(
    id="activations.stable",
    lesson="03_activations",
    title="Sigmoid, softplus and log-softmax at ±10,000",
    answer="stable",
    criteria=(
        # by tanh the sigmoid is a difference of ones in its left tail
        Criterion("sigmoid", 1, Close(operations=8, scale=1.0)),
        Criterion("softplus", 1, Close(operations=16)),
        Criterion("log_softmax", 1, Close(operations=32)),
        Criterion("gradients", 1, Close(operations=128, scale=2.0), requires=("softplus", "log_softmax")),
    ),
    cases=stable_cases,
    probe=stable_probe,
    reference=stable,
    misconceptions=(
        Misconception(
            "textbook",
            textbook,
            "These are the formulas as books print them. At 1e4 eᶻ is infinite, and ∞/∞ is NaN; at −1e4 it is 0, and "
            "log 0 is −∞.",
            "Rearrange each so that only exponentials of numbers up to 0 occur: e^(−|z|), and e^(z − max z).",
        ),
        Misconception(
            "sigmoid_gradient_lost",
            sigmoid_gradient_lost,
            "All values are right, but the sigmoid's gradient is NaN at −1e4: e^(−z) is infinite there, and backward "
            "multiplies 0 by it.",
            "For z < 0 use eᶻ / (1 + eᶻ), and let each exponential see a number up to 0 only: e^(−|z|).",
        ),
        Misconception(
            "softplus_by_where",
            softplus_by_where,
            "The values are right, but softplus's gradient is NaN at large z: torch.where computes both sides, and "
            "backward multiplies the infinite one by 0.",
            "max(z, 0) + log1p(e^(−|z|)) needs no case at all.",
        ),
        Misconception(
            "softplus_overflows",
            softplus_overflows,
            "Your softplus is infinite at 1e4, since eᶻ is. It should be z there.",
            "Take z out of the logarithm where it is positive: max(z, 0) + log1p(e^(−|z|)).",
        ),
        Misconception(
            "log_without_log1p",
            log_without_log1p,
            "Near −20 your softplus has lost its digits, {got:.3g} instead of {expected:.3g}: 1 + e^(−20) is rounded "
            "to a neighbour of 1.",
            "torch.log1p(x) is log(1 + x) without that sum.",
        ),
        Misconception(
            "log_of_softmax",
            log_of_softmax,
            "Your log-softmax is −∞ where a probability is too small for its dtype: the softmax is rounded to 0 before "
            "the logarithm sees it.",
            "Take the logarithm on paper: z − max − log Σ e^(z − max).",
        ),
        Misconception(
            "log_with_epsilon",
            log_with_epsilon,
            "The 1e-9 inside the logarithm keeps it finite and wrong: no log-probability can get below −20.7, and its "
            "gradient is 0 there, just where the net is most wrong.",
            "Take the logarithm on paper: z − max − log Σ e^(z − max).",
        ),
        Misconception(
            "log_softmax_unshifted",
            log_softmax_unshifted,
            "Your log-softmax overflows at 1e4 (and is infinite where a whole row is near −1e4): e^z leaves the range.",
            "Subtract the row's maximum first; log-softmax does not change when a number is added to the whole row.",
        ),
        Misconception(
            "one_maximum_for_all",
            one_maximum_for_all,
            "You subtract one maximum from all rows. In the case “{case}” another row lies far below it, and all of "
            "its exponentials become 0.",
            "Each row its own maximum: z.amax(-1, keepdim=True).",
        ),
        Misconception(
            "over_the_batch",
            over_the_batch,
            "Your log-softmax runs down the batch: each class's probabilities sum to 1 over the examples.",
            "Sum over the last axis, dim=-1.",
        ),
        Misconception(
            "clipped",
            clipped,
            "You clip z to ±50. Nothing overflows any more, but softplus(1e4) is 1e4, not 50, and clipped logits have "
            "no gradient.",
            "Rearrange the formula instead of changing the input.",
        ),
        Misconception(
            "softmax_not_its_log",
            softmax_not_its_log,
            "The third result is the softmax itself. Asked is its logarithm.",
            "z − max − log Σ e^(z − max).",
        ),
    ),
    variants=(
        Variant("by_tanh", stable_by_tanh),
        Variant("by_clamps", stable_by_clamps),
        Variant("by_rows", stable_by_rows),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Which exponentials can't overflow? Those of numbers that are never positive, such as −|z| and z − max z.",
        "log(1 + eᶻ) = max(z, 0) + log(1 + e^(−|z|)): check it for both signs of z. And adding a constant to all "
        "logits of a row does not change their softmax.",
        "small = torch.exp(-z.abs()). σ is 1/(1 + small) for z ≥ 0 and small/(1 + small) below; softplus is "
        "z.clamp(min=0) + torch.log1p(small); log-softmax is s − log Σ eˢ with s = z − z.amax(-1, keepdim=True).",
    ),
    minutes=15,
)
