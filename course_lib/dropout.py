"""Dropout in both phases, and its relatives: functions that look like the formulas, then the layers that
call them.

`p` is always the probability of being **dropped**, as in PyTorch and Keras, and a mask holds 1 where a
unit is **kept**. Every function takes its mask as an argument, so that it is deterministic, and its
derivative can be checked; the layers draw the masks.

Sources: Hinton et al. 2012 (arXiv:1207.0580); Srivastava et al. 2014 (JMLR 15); Wan et al. 2013
(DropConnect); Zeiler & Fergus 2013 (stochastic pooling, arXiv:1301.3557); Tompson et al. 2015 (spatial
dropout, arXiv:1411.4280); Huang et al. 2016 (stochastic depth, arXiv:1603.09382); Gal & Ghahramani 2016
(MC dropout, arXiv:1506.02142).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from course_lib.training import evaluation

__all__ = [
    "DROPOUT_LAYERS",
    "DropPath",
    "Dropout",
    "Dropout2d",
    "StochasticPool2d",
    "all_masks",
    "classic_dropout",
    "drop_connect",
    "drop_path",
    "ensemble_average",
    "inverted_dropout",
    "inverted_dropout_backward",
    "mask_probabilities",
    "mc_dropout",
    "mutual_information",
    "predictive_entropy",
    "sample_mask",
    "spatial_dropout",
    "stochastic_pool2d",
    "weight_scaled",
]


def check_probability(p: float) -> float:
    """Return p; raise ValueError, worded as PyTorch's, unless 0 ≤ p ≤ 1 (which NaN is not either)."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return p


def sample_mask(
    shape: Sequence[int],
    p: float,
    generator: torch.Generator | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A mask of the given shape: each entry independently 0 with probability p (dropped), else 1 (kept).

    Raises ValueError unless 0 ≤ p ≤ 1.
    """
    check_probability(p)
    if device is None and generator is not None:
        device = generator.device
    # rand is in [0, 1): p = 0 keeps every unit and p = 1 none
    kept = torch.rand(tuple(shape), generator=generator, device=device, dtype=torch.float32) >= p
    return kept.to(dtype or torch.get_default_dtype())


def inverted_dropout(x: Tensor, p: float, mask: Tensor) -> Tensor:
    """x · mask / (1 − p): dropout that keeps the expected signal while training, so that inference needs
    nothing.

    `mask` broadcasts against x (any dtype, 1 = kept). With p = 1 nothing is kept: zeros, also as gradients.
    Raises ValueError unless 0 ≤ p ≤ 1. Infinite values that are dropped become NaN, as in PyTorch.
    """
    check_probability(p)
    if p == 1:
        return x * torch.zeros_like(mask, dtype=x.dtype)
    return x * mask.to(x.dtype) / (1 - p)


def inverted_dropout_backward(grad: Tensor, p: float, mask: Tensor) -> Tensor:
    """grad · mask / (1 − p): what reaches x from the gradient at `inverted_dropout`'s output, through the
    same mask.
    """
    return inverted_dropout(grad, p, mask)


def classic_dropout(x: Tensor, p: float, mask: Tensor, training: bool) -> Tensor:
    """x · mask while training, x · (1 − p) at test: dropout as first published (Hinton et al. 2012).

    Each phase is 1 − p times the same phase of `inverted_dropout`. At test the mask is not looked at.
    """
    check_probability(p)
    return x * mask.to(x.dtype) if training else x * (1 - p)


def weight_scaled(weight: Tensor, p: float) -> Tensor:
    """weight · (1 − p): the test-time weights of a layer whose inputs were dropped, unscaled, with
    probability p.
    """
    check_probability(p)
    return weight * (1 - p)


def spatial_dropout(x: Tensor, p: float, mask: Tensor) -> Tensor:
    """Inverted dropout of whole feature maps: x is (N, C, *spatial), mask (N, C).

    Neighbouring pixels of a map say nearly the same, so dropping single ones hides nothing (Tompson et al.
    2015). Raises ValueError where mask is not of shape (N, C).
    """
    if x.dim() < 3 or mask.shape != x.shape[:2]:
        raise ValueError(
            f"spatial dropout needs x (N, C, ...) and mask (N, C), got {tuple(x.shape)} and {tuple(mask.shape)}"
        )
    return x * each_scale(x, p, mask)


def drop_path(x: Tensor, p: float, mask: Tensor) -> Tensor:
    """Inverted dropout of a whole residual branch, example by example: x is (N, ...), mask (N,) (Huang et
    al. 2016).

    The block computes `shortcut + drop_path(branch, p, mask)`. Raises ValueError where mask is not of
    shape (N,).
    """
    if x.dim() < 1 or mask.shape != x.shape[:1]:
        raise ValueError(f"drop path needs x (N, ...) and mask (N,), got {tuple(x.shape)} and {tuple(mask.shape)}")
    return x * each_scale(x, p, mask)


def each_scale(x: Tensor, p: float, mask: Tensor) -> Tensor:
    """mask / (1 − p), shaped to multiply x, whose first dimensions are mask's: one pass over x, not two."""
    scale = inverted_dropout(torch.ones_like(mask, dtype=x.dtype), p, mask)
    return scale.reshape(*mask.shape, *[1] * (x.dim() - mask.dim()))


def drop_connect(x: Tensor, weight: Tensor, bias: Tensor | None, p: float, mask: Tensor) -> Tensor:
    """A linear layer whose weights are dropped, not its units: x (N, in), weight (out, in) → (N, out).

    `mask` is (out, in), one for the batch, or (N, out, in), one for each example as Wan et al. 2013 do.
    The bias stays.
    """
    w = inverted_dropout(weight, p, mask)  # (out, in) or (N, out, in)
    y = (w @ x.unsqueeze(-1)).squeeze(-1)
    return y if bias is None else y + bias


def stochastic_pool2d(
    x: Tensor,
    kernel_size: int,
    stride: int | None = None,
    *,
    training: bool,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pool each window to one of its values, drawn with probability aᵢ / Σa; at test to their mean Σ aᵢ² /
    Σa.

    x is (N, C, H, W), non-negative as after a ReLU (a negative value is never drawn and weighs nothing);
    the result is (N, C, (H − k)//s + 1, (W − k)//s + 1). A window without a positive value gives 0. Zeiler
    & Fergus 2013.
    """
    stride = stride or kernel_size
    # (N, C, H, W) -> (N, C, H', W', k²)
    windows = x.clamp(min=0).unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    if training:
        # a race of exponential clocks: argmax aᵢ / Eᵢ is i with probability aᵢ / Σa, and never an aᵢ = 0
        clocks = torch.empty(windows.shape, device=x.device, dtype=torch.float32).exponential_(generator=generator)
        winner = (windows.detach() / clocks).argmax(-1, keepdim=True)
        return windows.gather(-1, winner).squeeze(-1)
    total = windows.sum(-1, keepdim=True)
    return (windows * (windows / torch.where(total > 0, total, 1))).sum(-1)


class Dropout(nn.Module):
    """Inverted dropout while training, the identity in evaluation. Raises ValueError unless 0 ≤ p ≤ 1."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = check_probability(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return inverted_dropout(x, self.p, sample_mask(x.shape, self.p, device=x.device, dtype=x.dtype))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """Spatial dropout of x (N, C, H, W) while training: a feature map is kept or dropped as a whole."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return spatial_dropout(x, self.p, sample_mask(x.shape[:2], self.p, device=x.device, dtype=x.dtype))


class DropPath(Dropout):
    """Stochastic depth for a residual branch (N, ...) while training: dropped or kept for each example as
    a whole.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return drop_path(x, self.p, sample_mask(x.shape[:1], self.p, device=x.device, dtype=x.dtype))


class StochasticPool2d(nn.Module):
    """`stochastic_pool2d`: a random value of each window while training, their weighted mean in evaluation."""

    def __init__(self, kernel_size: int, stride: int | None = None):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride or kernel_size

    def forward(self, x: Tensor) -> Tensor:
        return stochastic_pool2d(x, self.kernel_size, self.stride, training=self.training)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


DROPOUT_LAYERS: tuple[type[nn.Module], ...] = (
    Dropout,  # with its subclasses Dropout2d and DropPath
    StochasticPool2d,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def mc_dropout(
    model: nn.Module, x: Tensor, samples: int, *, layers: tuple[type[nn.Module], ...] = DROPOUT_LAYERS
) -> Tensor:
    """Logits of `samples` forward passes with only the dropout layers random: (samples, N, classes).

    Batch norm and everything else stays in inference; the mode of every module is as before afterwards,
    also after an error; no gradient is kept. A dropout layer of your own is found when `layers` names its
    class. A call of `F.dropout(x, training=self.training)` inside a forward is not a layer and stays off.
    Raises ValueError for fewer than one sample and where the model holds no such layer: all samples would
    be the same. Gal & Ghahramani 2016.
    """
    if samples < 1:
        raise ValueError(f"samples has to be at least 1, but got {samples}")
    random_layers = [module for module in model.modules() if isinstance(module, layers)]
    if not random_layers:
        raise ValueError("the model holds no dropout layer, so every sample would be the same")
    with evaluation(model):
        for layer in random_layers:
            layer.train()
        return torch.stack([model(x) for _ in range(samples)])


def predictive_entropy(logits: Tensor) -> Tensor:
    """Entropy, in nats, of the mean prediction: logits (samples, N, classes) → (N,). All uncertainty
    together.
    """
    return torch.special.entr(logits.softmax(-1).mean(0)).sum(-1)


def mutual_information(logits: Tensor) -> Tensor:
    """Entropy of the mean prediction minus the mean entropy, in nats: logits (samples, N, classes) → (N,).

    It is what the sampled nets disagree about (the model's uncertainty); 0 where all of them predict the
    same.
    """
    mean_entropy = torch.special.entr(logits.softmax(-1)).sum(-1).mean(0)
    return (predictive_entropy(logits) - mean_entropy).clamp(min=0)  # rounding can fall just below 0


def all_masks(n: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Every mask over n units, (2ⁿ, n). Raises ValueError unless 0 ≤ n ≤ 20 (a million masks)."""
    if not 0 <= n <= 20:
        raise ValueError(f"all masks of n units are listed for n from 0 to 20, but got {n}")
    bits = torch.arange(2**n, device=device).unsqueeze(1) >> torch.arange(n, device=device)
    return (bits & 1).to(dtype or torch.get_default_dtype())


def mask_probabilities(masks: Tensor, p: float) -> Tensor:
    """∏ (1 − p)^mask · p^(1 − mask): the probability of each of the masks (M, n) → (M,)."""
    check_probability(p)
    return (masks * (1 - p) + (1 - masks) * p).prod(-1)


def ensemble_average(net: Callable[[Tensor, Tensor], Tensor], x: Tensor, p: float, masks: Tensor) -> Tensor:
    """Σ P(mask) · net(x, mask) / Σ P(mask): the mean output of the thinned nets that `masks` (M, n) select.

    With `all_masks(n)` it is the exact ensemble. For the renormalized *geometric* mean of predictions let
    net return log-probabilities, and take the softmax of the result.
    """
    weights = mask_probabilities(masks, p)
    weights = weights / weights.sum()
    return sum(weight * net(x, mask) for weight, mask in zip(weights, masks, strict=True))
