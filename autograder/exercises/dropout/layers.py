"""Dropout as a layer that draws its own mask. Random, so what is compared are facts about many draws."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from course_lib import dropout as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, SameShare, Variant
from .masks import FORBIDDEN


def module_cases(seed):
    """Rates on both sides of 1/2, none, nearly all, feature maps, half and double precision."""
    rng = np.random.default_rng(seed)

    def case(name, p, shape=(100, 60), dtype=np.float32):
        x = rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)  # no 0, which would look like dropped
        return Case(name, {"x": x.astype(dtype), "p": p})

    yield case("100 × 60, p = 0.3", 0.3)
    yield case("100 × 60, p = 0.8", 0.8)
    yield case("p = 0.5", 0.5)
    yield case("p = 0", 0.0, (20, 10))
    yield case("feature maps, p = 0.25", 0.25, (20, 10, 6, 6))
    yield case("float64, p = 0.6", 0.6, dtype=np.float64)
    yield case("float16, p = 0.5", 0.5, dtype=np.float16)


def module_probe(candidate, case):
    """Share and size of what is kept, and what must hold of every draw; all facts have one right value."""
    import torch
    from torch import nn

    net = nn.Sequential(candidate(case["p"]))  # as in a model: the parent sets the phase
    net.train()
    x = torch.tensor(case["x"], requires_grad=True)
    y = net(x)
    y.sum().backward()
    kept = y.detach() != 0
    ratio = (y.detach() / x.detach())[kept].to(torch.float16 if x.dtype == torch.float16 else torch.float32)
    with torch.no_grad():
        again = net(x) != 0
    net.eval()
    still = net(x).detach()
    net.train()

    class Follow(torch.overrides.TorchFunctionMode):
        """Sees whether a tensor that was made without a device meets one that was not: on a GPU that fails."""

        loose, met = (), False

        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            out = function(*args, **kwargs)
            if not isinstance(out, torch.Tensor) or not out.dim():  # single numbers may live anywhere
                return out
            given = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor) and a.dim()]
            loose = [tensor for tensor in given if any(tensor is other for other in self.loose)]
            if function.__name__ in ("to", "type_as", "as_tensor") and any(
                isinstance(a, torch.Tensor | torch.device) for a in (*args[1:], *kwargs.values())
            ):
                self.loose = tuple(
                    tensor for tensor in self.loose if tensor is not out
                )  # .to may return its own tensor
                return out
            if len(loose) < len(given):
                self.met = self.met or bool(loose)
            elif kwargs.get("device") is None:
                self.loose = (*self.loose, out)
            return out

    with Follow() as follow:
        later = net(x).detach() != 0
    device = "the processor" if follow.met else "the input's"

    if torch.equal(still, x):
        evaluation = "unchanged"
    elif bool((still == 0).any()):
        evaluation = "some units are dropped"
    else:
        evaluation = f"{float((still / x.detach()).median()):.3g} × the input"

    groups, common = kept, []  # a draw that many units share counts once, so that the draws are independent
    for axis in range(x.dim()):
        if (kept == kept.narrow(axis, 0, 1)).all():
            groups = groups.narrow(axis, 0, 1)
            common.append(str(axis))
    drawn = f"all units along axis {' and '.join(common)} share one draw" if common else "every unit has its own draw"

    def refused(p):
        try:
            candidate(p)
        except Exception as error:
            return type(error).__name__
        return "accepted"

    return {
        "share of units kept": groups.flatten(),
        "size of kept units": torch.stack([ratio.min(), ratio.max()]),
        "in evaluation": evaluation,
        "different masks in three calls": len({mask.numpy().tobytes() for mask in (kept, again, later)}),
        "the mask": "no unit is dropped" if kept.all() else drawn,
        "drops without a graph too": not again.all(),
        "gradient passes where the output does": torch.equal(x.grad != 0, kept),
        "dtype and device": f"dtype {y.dtype}, device {device}",
        "refuses p outside 0…1": ", ".join(refused(p) for p in (-0.1, 1.5)),
    }


class PhaseIgnored(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


class PhasesExchanged(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        if self.training:
            return x
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


class GradientAsked(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        if not torch.is_grad_enabled():
            return x
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


class Unscaled(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) >= self.p) if self.training else x


class ScaledInEvaluation(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) >= self.p) if self.training else x * (1 - self.p)


class ScaledInBoth(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        if self.training:
            return x * (torch.rand_like(x) >= self.p) / (1 - self.p)
        return x * (1 - self.p)


class RateIsKeep(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) < self.p) / max(self.p, 1e-12) if self.training else x


class KeepsWithRate(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) < self.p) / (1 - self.p) if self.training else x


class OneMaskForever(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p
        self.mask = None

    def forward(self, x):
        if not self.training:
            return x
        if self.mask is None or self.mask.shape != x.shape:
            self.mask = (torch.rand_like(x) >= self.p).to(x.dtype)
        return x * self.mask / (1 - self.p)


class SameMaskForTheBatch(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x[:1]) >= self.p) / (1 - self.p) if self.training else x


class WholeExamples(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        keep = torch.rand(len(x), *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device) >= self.p
        return x * keep / (1 - self.p)


class NormalNoise(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.randn_like(x) >= self.p) / (1 - self.p) if self.training else x


class MaskOfOtherDtype(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        mask = torch.from_numpy(np.random.binomial(1, 1 - self.p, tuple(x.shape)) / (1 - self.p))
        return x * mask


class MaskOnTheProcessor(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        return x * (torch.rand(x.shape) >= self.p) / (1 - self.p) if self.training else x


class AnyRateAccepted(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p) if self.training else x


class ByBernoulli(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError(f"p has to be between 0 and 1, but got {p}")
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        mask = torch.empty_like(x).bernoulli_(1 - self.p)
        return x * mask / (1 - self.p)


class ByDistribution(nn.Module):
    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError("p must lie in [0, 1]")
        self.keep = 1.0 - p

    def forward(self, x):
        if self.training:
            mask = torch.distributions.Bernoulli(self.keep).sample(x.shape).to(x)
            x = mask.mul(x).div(self.keep)
        return x


class ByMaskedFill(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        if not self.training:
            return x.clone()
        drop = torch.rand(x.shape, device=x.device) < self.p
        return x.masked_fill(drop, 0) * (1 / (1 - self.p))


class ByIndexing(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.register_buffer("keep", torch.tensor(1.0 - p))

    def forward(self, x):
        if not self.training:
            return x
        y = x / float(self.keep)
        y[torch.rand_like(x, dtype=torch.float64) >= float(self.keep)] = 0
        return y


class ByNumpy(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(p)
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        mask = np.random.binomial(1, 1 - self.p, size=tuple(x.shape)) / (1 - self.p)
        return x * torch.as_tensor(mask, dtype=x.dtype, device=x.device)


dropout_module = Exercise(
    id="dropout.module",
    lesson="08_dropout",
    title="Dropout as a layer",
    answer="Dropout",
    criteria=(
        Criterion(
            "share of units kept",
            1,
            SameShare(),
            requires=("the mask", "different masks in three calls", "drops without a graph too"),
        ),
        Criterion("size of kept units", 1, Close(operations=8)),
        Criterion("in evaluation", 1, requires=("share of units kept", "size of kept units")),
        Criterion("the mask", 0),
        Criterion("different masks in three calls", 0),
        Criterion("drops without a graph too", 0),
        Criterion("gradient passes where the output does", 0),
        Criterion("dtype and device", 0),
        Criterion("refuses p outside 0…1", 1, requires=("share of units kept",)),
    ),
    cases=module_cases,
    probe=module_probe,
    reference=reference.Dropout,
    misconceptions=(
        Misconception(
            "phase_ignored",
            PhaseIgnored,
            "The layer also drops units after model.eval(): it never asks which phase it is in, or asks a flag of its "
            "own that eval() does not set.",
            "Ask self.training, which nn.Module keeps and which .train() and .eval() set in every layer of a model.",
        ),
        Misconception(
            "phases_exchanged",
            PhasesExchanged,
            "The phases are exchanged: the layer drops units in evaluation and lets everything pass in training.",
            "self.training is True while training: drop there.",
        ),
        Misconception(
            "gradient_asked",
            GradientAsked,
            "The layer decides by torch.is_grad_enabled(). Whether a graph is built and which phase it is are two "
            "things: after model.eval() without no_grad yours drops units, and under no_grad in training it does not.",
            "Ask self.training.",
        ),
        Misconception(
            "unscaled",
            Unscaled,
            "The kept units are not scaled up, so in evaluation, where the input passes unchanged, the signal is "
            "larger than it was in training.",
            "Divide by 1 − p while training.",
        ),
        Misconception(
            "scaled_in_evaluation",
            ScaledInEvaluation,
            "This is classic dropout: scaled by 1 − p in evaluation instead of by 1/(1 − p) in training. Sound, but "
            "this layer is to leave its input alone in evaluation.",
            "Move the scaling to training: divide by 1 − p there.",
        ),
        Misconception(
            "scaled_in_both",
            ScaledInBoth,
            "You scale in both phases: up while training, and down in evaluation. One of the two is enough.",
            "Return x unchanged in evaluation.",
        ),
        Misconception(
            "rate_is_keep",
            RateIsKeep,
            "The layer keeps a share p of the units. In PyTorch and Keras p is the rate that is dropped.",
            "Keep a unit where a uniform number is at least p, and divide by 1 − p.",
        ),
        Misconception(
            "keeps_with_rate",
            KeepsWithRate,
            "The comparison is turned round: units are kept with probability p, yet scaled as if with 1 − p.",
            "Keep a unit where a uniform number is at least p.",
        ),
        Misconception(
            "one_mask_forever",
            OneMaskForever,
            "The mask is drawn once and used for every call: one thinned net is trained, and its dropped units never "
            "learn.",
            "Draw the mask inside forward, each time.",
        ),
        Misconception(
            "same_mask_for_the_batch",
            SameMaskForTheBatch,
            "All examples of a batch share one mask: the units of one column drop together.",
            "Draw the mask in the shape of x.",
        ),
        Misconception(
            "whole_examples",
            WholeExamples,
            "Whole examples are dropped: all units of a row share one draw.",
            "Draw the mask in the shape of x.",
        ),
        Misconception(
            "normal_noise",
            NormalNoise,
            "The share of units kept is {got:.2f} instead of about {expected:.2f}: the mask comes from normal numbers "
            "(randn), for which “at least p” does not have probability 1 − p.",
            "Use uniform numbers: torch.rand_like(x), or bernoulli_.",
        ),
        Misconception(
            "mask_of_other_dtype",
            MaskOfOtherDtype,
            "The mask has a dtype and a place of its own (float64, on the CPU), so the output is not what the "
            "next layer expects, and on a GPU it fails.",
            "Make the mask with torch.rand_like(x), or give it dtype=x.dtype and device=x.device.",
        ),
        Misconception(
            "mask_on_the_processor",
            MaskOnTheProcessor,
            "The mask is always made on the CPU, in float32: with a model on a GPU this fails.",
            "Use torch.rand_like(x), or pass device=x.device.",
        ),
        Misconception(
            "any_rate_accepted",
            AnyRateAccepted,
            "The layer takes any p: with −0.1 or 1.5 a typing error would go unnoticed.",
            "In __init__ raise ValueError unless 0 <= p <= 1.",
        ),
    ),
    variants=(
        Variant("by_bernoulli", ByBernoulli),
        Variant("by_distribution", ByDistribution),
        Variant("by_masked_fill", ByMaskedFill),
        Variant("by_indexing", ByIndexing),
        Variant("by_numpy", ByNumpy),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Which attribute of an nn.Module do .train() and .eval() set? Ask it in forward.",
        "torch.rand_like(x) is uniform in [0, 1), with the shape, dtype and device of x. Which comparison is true "
        "with probability 1 − p?",
        "In training: x * (torch.rand_like(x) >= self.p) / (1 - self.p). In evaluation: x. In __init__: "
        "super().__init__(), check p, keep it.",
    ),
    minutes=12,
)
