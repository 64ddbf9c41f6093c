"""Keeping a net from fitting noise: penalties, constraints, early stopping, softer targets, more data, honest splits.

Penalties take a weight and return a 0-dim tensor on its device, so they add to a loss; each has its gradient written
by hand beside it. What draws at random takes a generator and hands its draws to a function without any, so that the
same seed gives the same result; draws are made on the generator's device. Index functions return int64 tensors.

Sources: Tikhonov 1943 and Hoerl & Kennard 1970 (ℓ2); Tibshirani 1996 (ℓ1); Zou & Hastie 2005 (elastic net); Parikh &
Boyd 2014 (proximal steps); Srebro & Shraibman 2005, Srivastava et al. 2014 (max-norm); Prechelt 1998 (early stopping);
Szegedy et al. 2016 (label smoothing, arXiv:1512.00567); Zhang et al. 2018 (mixup, arXiv:1710.09412).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "EarlyStopping",
    "class_weights",
    "crop",
    "decay_groups",
    "elastic_net_gradient",
    "elastic_net_penalty",
    "elastic_net_prox",
    "flip",
    "k_fold",
    "l1_gradient",
    "l1_penalty",
    "l2_gradient",
    "l2_penalty",
    "label_smoothing_gradient",
    "label_smoothing_loss",
    "max_norm",
    "max_norm_",
    "mixup",
    "mixup_loss",
    "random_crop",
    "random_flip",
    "random_shift",
    "sample_mixup",
    "shift",
    "smooth_labels",
    "soft_threshold",
    "stratified_k_fold",
    "stratified_split",
    "validation_split",
]

# penalties and constraints ---------------------------------------------------------------------------------


def l1_penalty(weight: Tensor, strength: float) -> Tensor:
    """λ Σ |w|, 0-dim: its gradient has the same size however small a weight is, so weights reach zero."""
    return strength * weight.abs().sum()


def l1_gradient(weight: Tensor, strength: float) -> Tensor:
    """λ sign(w), of weight's shape; 0 at 0, one of the subgradients there."""
    return strength * weight.sign()


def l2_penalty(weight: Tensor, strength: float) -> Tensor:
    """λ/2 Σ w², 0-dim: what `weight_decay=λ` adds to the loss in PyTorch's SGD.

    With the half, the gradient is λ w. Keras's `L2(l2)` has none: it is this penalty with λ = 2 · l2.
    """
    return strength / 2 * weight.square().sum()


def l2_gradient(weight: Tensor, strength: float) -> Tensor:
    """λ w, of weight's shape."""
    return strength * weight


def elastic_net_penalty(weight: Tensor, l1: float, l2: float) -> Tensor:
    """l1 Σ |w| + l2/2 Σ w², 0-dim (Zou & Hastie 2005)."""
    return l1_penalty(weight, l1) + l2_penalty(weight, l2)


def elastic_net_gradient(weight: Tensor, l1: float, l2: float) -> Tensor:
    """l1 sign(w) + l2 w, of weight's shape."""
    return l1_gradient(weight, l1) + l2_gradient(weight, l2)


def soft_threshold(weight: Tensor, threshold: float) -> Tensor:
    """w − clamp(w, −t, t) = sign(w) max(|w| − t, 0): the proximal step of t Σ |w|; small weights become exactly zero.

    A (sub)gradient step of size η on λ Σ |w| makes them jitter around zero; this one, with t = η λ, does not. Its
    derivative is 1 where |w| > t, else 0. The result is torch's `softshrink`. Raises ValueError where t < 0.
    """
    if not threshold >= 0:
        raise ValueError(f"the threshold has to be at least 0, but got {threshold}")
    return _SoftThreshold.apply(weight, threshold) if weight.requires_grad else _shrink(weight, threshold)


def _shrink(weight: Tensor, threshold: float) -> Tensor:
    inner = weight.clamp(-threshold, threshold)
    return torch.sub(weight, inner, out=inner)


class _SoftThreshold(torch.autograd.Function):
    """Autograd's own way, through clamp and a subtraction, was measured at eight times the cost."""

    @staticmethod
    def forward(ctx, weight, threshold):
        shrunk = _shrink(weight, threshold)
        ctx.save_for_backward(shrunk)
        return shrunk

    @staticmethod
    def backward(ctx, grad):
        (shrunk,) = ctx.saved_tensors
        # grad where |shrunk| > 0, which is where |w| > t; this kernel (ReLU's) is ten times as fast as a where
        return torch.ops.aten.threshold_backward(grad, shrunk.abs(), 0), None


def elastic_net_prox(weight: Tensor, lr: float, l1: float, l2: float) -> Tensor:
    """soft_threshold(w, η l1) / (1 + η l2): argmin over u of ‖u − w‖²/(2η) + l1 Σ |u| + l2/2 Σ u²."""
    return soft_threshold(weight, lr * l1) / (1 + lr * l2)


def max_norm(weight: Tensor, max_value: float, dim: int | Sequence[int] | None = None) -> Tensor:
    """The weight with every unit's incoming norm at most max_value: w · min(1, max_value / ‖w‖).

    `dim` are the dimensions the norm runs over: all but the first unless given, which is right for PyTorch's
    (out, in, ...) layout; Keras's Dense kernels need 0. Weights within the limit stay untouched to the bit (Keras's
    MaxNorm shrinks them too, by 1e-7 of their norm). Raises ValueError where max_value is negative.
    """
    return weight * _norm_scale(weight, max_value, dim)


def max_norm_(weight: Tensor, max_value: float, dim: int | Sequence[int] | None = None) -> Tensor:
    """`max_norm` in place, without a gradient, as one calls it after `optimizer.step()`; returns weight."""
    with torch.no_grad():
        return weight.mul_(_norm_scale(weight, max_value, dim))


def _norm_scale(weight: Tensor, max_value: float, dim: int | Sequence[int] | None) -> Tensor:
    if not max_value >= 0:
        raise ValueError(f"max_value has to be at least 0, but got {max_value}")
    if dim is None:
        dim = tuple(range(1, weight.dim()))
    norm = weight.abs() if dim == () else torch.linalg.vector_norm(weight, dim=dim, keepdim=True)
    above = norm > max_value
    return torch.where(above, max_value / torch.where(above, norm, 1.0), 1.0)  # no 0/0, in the gradient either


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups for an optimizer: weights, which decay; biases and normalization's scales, which do not.

    What has two dimensions or more is a weight. Frozen parameters are in neither.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trainable if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.dim() < 2], "weight_decay": 0.0},
    ]


class EarlyStopping:
    """Says when to stop: after `patience` epochs in a row without an improvement; keeps the best epoch's weights.

    >>> stopping = EarlyStopping(patience=5)
    >>> for epoch in range(epochs):
    ...     if stopping.step(validation_loss, model):
    ...         break
    >>> stopping.restore(model)

    A metric improves where it beats the best by more than min_delta. As in Keras, patience 0 and 1 both stop at the
    first epoch that does not improve, never at the very first one; `start_from_epoch` epochs are not looked at; with a
    `baseline` only an epoch that beats it too ends the wait. Unlike Keras's, a NaN is never an improvement (there, a
    NaN in the first epoch stays the best for ever). Weights are copied where they lie, buffers included, and only where
    `step` is given the model. Raises ValueError for a negative patience or min_delta.
    """

    def __init__(
        self,
        *,
        patience: int = 0,
        min_delta: float = 0.0,
        maximize: bool = False,
        baseline: float | None = None,
        start_from_epoch: int = 0,
    ):
        if patience < 0 or not min_delta >= 0:
            raise ValueError(f"patience and min_delta have to be at least 0, but got {patience} and {min_delta}")
        self.patience, self.min_delta, self.maximize = patience, min_delta, maximize
        self.baseline, self.start_from_epoch = baseline, start_from_epoch
        self.epoch = -1  # the last one seen, counted from 0
        self.wait = 0
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: dict[str, Tensor] | None = None

    def step(self, metric: float | Tensor, model: nn.Module | None = None) -> bool:
        """Take the epoch's metric in; returns whether to stop."""
        metric = float(metric)
        self.epoch += 1
        if self.epoch < self.start_from_epoch:
            return False
        self.wait += 1
        if self._improves(metric, self.best):
            self.best, self.best_epoch = metric, self.epoch
            if model is not None:
                self.best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
            if self.baseline is None or self._improves(metric, self.baseline):
                self.wait = 0
            return False
        return self.wait >= self.patience and self.epoch > 0

    def restore(self, model: nn.Module) -> None:
        """Put the best epoch's weights into the model. Raises RuntimeError where none were kept."""
        if self.best_weights is None:
            raise RuntimeError("no weights were kept: give step() the model, and a metric that is not NaN")
        model.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs, the best weights included."""
        names = ("epoch", "wait", "best", "best_epoch", "best_weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        for name in self.state_dict():
            setattr(self, name, state[name])

    def _improves(self, metric: float, reference: float | None) -> bool:
        if reference is None:
            return not math.isnan(metric)
        return metric - self.min_delta > reference if self.maximize else metric + self.min_delta < reference


# softer targets --------------------------------------------------------------------------------------------


def smooth_labels(labels: Tensor, classes: int, smoothing: float, *, dtype: torch.dtype | None = None) -> Tensor:
    """(1 − s) onehot(labels) + s / classes: labels (N, ...) of int64 → targets (N, ..., classes).

    Every class gets s / classes, the right one too (Szegedy et al. 2016). Raises ValueError unless 0 ≤ s ≤ 1.
    """
    _check_share(smoothing, "smoothing")
    onehot = F.one_hot(labels, classes).to(dtype or torch.get_default_dtype())
    return onehot * (1 - smoothing) + smoothing / classes


def label_smoothing_loss(
    logits: Tensor, labels: Tensor, smoothing: float, *, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """(1 − s) · cross-entropy + s · mean over classes of −log p: logits (N, C, ...), labels (N, ...) of int64.

    The value of `cross_entropy(logits, labels, weight, label_smoothing=s)`. With class weights (C,) each term −log p_c
    counts w_c times, and the mean divides by the sum of the labels' weights. `reduction` is "mean", "sum" or "none".
    Raises ValueError for another one, and unless 0 ≤ s ≤ 1.
    """
    _check_share(smoothing, "smoothing")
    log_p = F.log_softmax(logits, 1)
    if weight is not None:
        log_p = log_p * weight.reshape(-1, *[1] * (logits.dim() - 2))  # (C,) against (N, C, ...)
    loss = (1 - smoothing) * F.nll_loss(log_p, labels, reduction="none")
    if smoothing:
        loss = loss - smoothing * log_p.mean(1)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction != "mean":
        raise ValueError(f"reduction has to be mean, sum or none, but got {reduction}")
    return loss.mean() if weight is None else loss.sum() / weight[labels].sum()


def label_smoothing_gradient(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """(softmax(z) − targets) / N: the gradient of the mean loss at the logits (N, C), targets from `smooth_labels`.

    It vanishes at a finite gap between the logits, so the net need not push them apart for ever.
    """
    targets = smooth_labels(labels, logits.shape[1], smoothing, dtype=logits.dtype)
    return (logits.softmax(1) - targets) / logits.shape[0]


def mixup(x: Tensor, lam: Tensor | float, order: Tensor) -> Tensor:
    """λ x + (1 − λ) x[order]: each example blended with another. x (N, ...); λ a number, 0-dim or (N,); order (N,).

    Also for targets that are probabilities; labels go to `mixup_loss`. Raises ValueError where order is not (N,).
    """
    if order.shape != x.shape[:1]:
        raise ValueError(f"mixup of {len(x)} examples needs an order of as many, got {tuple(order.shape)}")
    if isinstance(lam, Tensor) and lam.dim():
        lam = lam.reshape(-1, *[1] * (x.dim() - 1)).to(x.dtype)
    return lam * x + (1 - lam) * x[order]


def mixup_loss(
    logits: Tensor,
    labels: Tensor,
    lam: Tensor | float,
    order: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Tensor:
    """λ loss(logits, labels) + (1 − λ) loss(logits, labels[order]), λ a number or 0-dim.

    For cross-entropy it is the loss against the blended one-hot targets, without making them.
    """
    return lam * loss_fn(logits, labels) + (1 - lam) * loss_fn(logits, labels[order])


def sample_mixup(
    n: int, alpha: float, generator: torch.Generator | None = None, *, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """λ from Beta(α, α), 0-dim, and a random order (n,): what `mixup` needs for one batch.

    Raises ValueError unless α > 0.
    """
    if not alpha > 0:
        raise ValueError(f"alpha has to be above 0, but got {alpha}")
    source = generator.device if generator is not None else device
    pair = torch.full((2,), float(alpha), device=source, dtype=torch.float64)
    lam = torch._sample_dirichlet(pair, generator)[0].to(torch.float32)
    order = torch.randperm(n, generator=generator, device=source)
    return lam.to(device or source), order.to(device or source)


# augmentation ----------------------------------------------------------------------------------------------


def shift(images: Tensor, down: Tensor, right: Tensor, fill: float = 0.0) -> Tensor:
    """Each image (N, ..., H, W) moved by its own whole numbers of pixels, down (N,) and right (N,), negative too.

    What comes in from outside is `fill`. Any dtype; the shape stays.
    """
    height, width = images.shape[-2:]
    return _window(images, -down, -right, height, width, fill)


def flip(images: Tensor, mask: Tensor) -> Tensor:
    """The images (N, ..., H, W) mirrored left to right where mask (N,) is true, the others as they are."""
    return torch.where(mask.reshape(-1, *[1] * (images.dim() - 1)).bool(), images.flip(-1), images)


def crop(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """From each image (N, ..., H, W) the window of the given (height, width) whose corner is at top (N,), left (N,).

    The corner may lie outside: what is outside is 0, so a negative one crops from a padded image.
    """
    return _window(images, top, left, *size, 0.0)


def random_shift(
    images: Tensor, max_shift: int, generator: torch.Generator | None = None, *, fill: float = 0.0
) -> Tensor:
    """Each image moved by up to max_shift pixels in both directions, every whole number equally likely."""
    down, right = (_draw(images, -max_shift, max_shift + 1, generator) for _ in range(2))
    return shift(images, down, right, fill)


def random_flip(images: Tensor, generator: torch.Generator | None = None, *, p: float = 0.5) -> Tensor:
    """Each image mirrored left to right with probability p. Not for letters and digits: it changes what they are.

    Raises ValueError unless 0 ≤ p ≤ 1.
    """
    _check_share(p, "p")
    source = generator.device if generator is not None else images.device
    drawn = torch.rand(len(images), generator=generator, device=source) < p
    return flip(images, drawn.to(images.device))


def random_crop(
    images: Tensor, size: tuple[int, int], generator: torch.Generator | None = None, *, padding: int = 0
) -> Tensor:
    """From each image, padded with zeros on all sides, a window of (height, width), every place equally likely.

    Raises ValueError where the window is larger than the padded image.
    """
    room = [have + 2 * padding - want for have, want in zip(images.shape[-2:], size, strict=True)]
    if min(room) < 0:
        raise ValueError(f"no window of {tuple(size)} in images of {tuple(images.shape[-2:])} padded by {padding}")
    top, left = (_draw(images, -padding, free - padding + 1, generator) for free in room)
    return crop(images, top, left, size)


def _draw(images: Tensor, low: int, high: int, generator: torch.Generator | None) -> Tensor:
    source = generator.device if generator is not None else images.device
    return torch.randint(low, high, (len(images),), generator=generator, device=source).to(images.device)


def _window(images: Tensor, top: Tensor, left: Tensor, height: int, width: int, fill: float) -> Tensor:
    if top.shape != images.shape[:1] or left.shape != images.shape[:1]:
        raise ValueError(f"{len(images)} images need as many places, got {tuple(top.shape)} and {tuple(left.shape)}")
    n = images.shape[0]
    flat = images.reshape(n, math.prod(images.shape[1:-2]), *images.shape[-2:])
    rows = top.reshape(-1, 1) + torch.arange(height, device=images.device)  # (N, height)
    columns = left.reshape(-1, 1) + torch.arange(width, device=images.device)  # (N, width)
    have_rows, have_columns = images.shape[-2:]
    inside_rows, inside_columns = (rows >= 0) & (rows < have_rows), (columns >= 0) & (columns < have_columns)
    rows, columns = rows.clamp(0, have_rows - 1), columns.clamp(0, have_columns - 1)
    examples = torch.arange(n, device=images.device).reshape(-1, 1, 1, 1)
    maps = torch.arange(flat.shape[1], device=images.device).reshape(1, -1, 1, 1)
    taken = flat[examples, maps, rows[:, None, :, None], columns[:, None, None, :]]
    outside = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    return taken.masked_fill_(outside.unsqueeze(1), fill).reshape(*images.shape[:-2], height, width)


# splits ----------------------------------------------------------------------------------------------------


def validation_split(n: int, share: float) -> tuple[Tensor, Tensor]:
    """(train, valid) indices as Keras's `validation_split` takes them: the LAST share of n, nothing shuffled.

    ⌊n (1 − share)⌋ train. Data sorted by class leave classes out of training: shuffle first. Raises ValueError where
    either part would be empty.
    """
    at = math.floor(n * (1.0 - share))
    if not 0 < at < n:
        raise ValueError(f"a share of {share} of {n} examples leaves nothing to train on, or nothing to validate on")
    index = torch.arange(n)
    return index[:at], index[at:]


def k_fold(n: int, k: int, generator: torch.Generator | None = None) -> list[tuple[Tensor, Tensor]]:
    """k pairs (train, valid) of indices: every example validates once. Shuffled by the generator; in order without.

    Sizes differ by at most 1. Raises ValueError unless 2 ≤ k ≤ n.
    """
    _check_folds(k, n)
    order = torch.arange(n) if generator is None else _shuffled(n, generator)
    return _folds(list(order.tensor_split(k)))


def stratified_k_fold(labels: Tensor, k: int, generator: torch.Generator | None = None) -> list[tuple[Tensor, Tensor]]:
    """`k_fold` that deals every class out evenly: its numbers in any two folds differ by at most 1, as do the sizes.

    labels (N,) of int64. Raises ValueError unless 2 ≤ k and every class has at least k examples.
    """
    rarest = int(torch.unique(labels, return_counts=True)[1].min()) if len(labels) else 0
    _check_folds(k, rarest)
    dealt = _by_class(labels, generator)
    return _folds([dealt[fold::k] for fold in range(k)])


def stratified_split(labels: Tensor, share: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """(train, valid) indices with share · n_c examples of every class c in valid, rounded, at least 1 in each part.

    labels (N,) of int64. Raises ValueError unless 0 < share < 1 and every class has at least 2 examples.
    """
    if not 0 < share < 1:
        raise ValueError(f"share has to lie between 0 and 1, but got {share}")
    counts = torch.unique(labels, return_counts=True)[1].tolist()
    if not counts or min(counts) < 2:
        raise ValueError("every class needs at least 2 examples, one to train on and one to validate on")
    train, valid = [], []
    for of_class in _by_class(labels, generator).split(counts):
        at = min(max(round(share * len(of_class)), 1), len(of_class) - 1)
        valid.append(of_class[:at])
        train.append(of_class[at:])
    return torch.cat(train).sort().values, torch.cat(valid).sort().values


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """N / (classes · N_c) for each class c, (classes,): rare classes then count as much as common ones.

    For `cross_entropy(weight=...)`. The mean over the labels' weights is 1. Raises ValueError where a class has no
    example.
    """
    counts = torch.bincount(labels, minlength=classes)
    if len(counts) > classes or not bool((counts > 0).all()):
        raise ValueError(
            f"each of {classes} classes needs an example, and no label may be above: got {counts.tolist()}"
        )
    return len(labels) / (classes * counts.to(torch.get_default_dtype()))


def _check_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} has to lie between 0 and 1, but got {value}")


def _check_folds(k: int, at_most: int) -> None:
    if not 2 <= k <= at_most:
        raise ValueError(f"the number of folds has to lie between 2 and {at_most}, but got {k}")


def _shuffled(n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator, device=generator.device).cpu()


def _by_class(labels: Tensor, generator: torch.Generator | None) -> Tensor:
    """All indices, class after class, shuffled within each where there is a generator."""
    labels = labels.cpu()
    order = torch.arange(len(labels)) if generator is None else _shuffled(len(labels), generator)
    return order[labels[order].argsort(stable=True)]


def _folds(parts: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    parts = list(parts)
    return [(torch.cat(parts[:i] + parts[i + 1 :]).sort().values, part.sort().values) for i, part in enumerate(parts)]
