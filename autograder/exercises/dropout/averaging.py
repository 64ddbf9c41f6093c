"""What dropout nets compute on average: the expected signal, the mean of all thinned nets, the samples' uncertainty."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from course_lib import dropout as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .masks import FORBIDDEN

# ---------------------------------------------------------------- the expected signal


def signal_cases(seed):
    """Rates on both sides of 1/2, a square layer, one example, nothing dropped, silent inputs, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, p, n=12, inputs=6, outputs=5, scale=1.0, dtype=np.float32):
        x = (rng.normal(0.5, 1.5, (n, inputs)) * scale).astype(dtype)
        return Case(name, {"x": x, "weight": rng.normal(size=(outputs, inputs)).astype(dtype), "p": p})

    yield case("6 inputs, 5 outputs, p = 0.3", 0.3)
    yield case("6 inputs, 5 outputs, p = 0.8", 0.8)
    yield case("square layer of 6, p = 0.4", 0.4, outputs=6)
    yield case("one example, p = 0.5", 0.5, n=1)
    yield case("p = 0", 0.0)
    silent = case("half of the inputs are 0, p = 0.25", 0.25)
    silent["x"][:, ::2] = 0
    yield silent
    yield case("values around ±1e4, p = 0.6", 0.6, scale=1e4)
    yield case("float64, p = 0.95", 0.95, n=3, inputs=20, outputs=2, dtype=np.float64)


def signal_probe(candidate, case):
    import torch

    mean, variance = candidate(torch.tensor(case["x"]), torch.tensor(case["weight"]), case["p"])
    return {"mean": mean, "variance": variance}


def expected_signal(x, weight, p):
    """Mean and variance of weight @ inverted_dropout(x) over the masks: x (N, in), weight (out, in) -> two (N, out)."""
    return x @ weight.T, p / (1 - p) * x.square() @ weight.square().T


def variance_of_the_mask(x, weight, p):
    return x @ weight.T, p * (1 - p) * (x**2 @ (weight**2).T)


def deviation_for_variance(x, weight, p):
    return x @ weight.T, (p / (1 - p) * (x**2 @ (weight**2).T)).sqrt()


def squared_after_the_sum(x, weight, p):
    return x @ weight.T, p / (1 - p) * (x @ weight.T) ** 2


def weight_not_squared(x, weight, p):
    return x @ weight.T, p / (1 - p) * (x**2 @ weight.T)


def input_not_squared(x, weight, p):
    return x @ weight.T, p / (1 - p) * (x @ (weight**2).T)


def odds_turned_round(x, weight, p):
    return x @ weight.T, (1 - p) / max(p, 1e-12) * (x**2 @ (weight**2).T)


def mean_shrunk(x, weight, p):
    return (1 - p) * x @ weight.T, p / (1 - p) * (x**2 @ (weight**2).T)


def mean_grown(x, weight, p):
    return x @ weight.T / (1 - p), p / (1 - p) * (x**2 @ (weight**2).T)


def second_moment(x, weight, p):
    return x @ weight.T, x**2 @ (weight**2).T / (1 - p)


def classic_instead(x, weight, p):
    return (1 - p) * x @ weight.T, p * (1 - p) * (x**2 @ (weight**2).T)


def weight_untransposed(x, weight, p):
    return x @ weight, p / (1 - p) * (x**2 @ weight**2)


def variance_over_the_batch(x, weight, p):
    signal = x @ weight.T
    return signal, signal.var(0, unbiased=False).expand_as(signal)


def signal_by_linear(x, weight, p):
    return F.linear(x, weight), F.linear(x * x, weight * weight) * (p / (1 - p))


def signal_by_terms(x, weight, p):
    terms = x.unsqueeze(1) * weight.unsqueeze(0)  # (N, out, in)
    return terms.sum(-1), (terms**2).sum(-1) * p / (1 - p)


def signal_by_moments(x, weight, p):
    terms = torch.einsum("ni,oi->noi", x.double(), weight.double())
    first, second = terms, terms**2 / (1 - p)  # of one kept-or-dropped term
    return first.sum(-1).to(x.dtype), (second - first**2).sum(-1).to(x.dtype)


def signal_by_loop(x, weight, p):
    mean = torch.zeros(len(x), len(weight), dtype=x.dtype)
    variance = torch.zeros_like(mean)
    for n in range(len(x)):
        for o in range(len(weight)):
            mean[n, o] = x[n].dot(weight[o])
            variance[n, o] = p / (1 - p) * (x[n] * weight[o]).square().sum()
    return mean, variance


expected_signal_exercise = Exercise(
    id="dropout.expected_signal",
    lesson="08_dropout",
    title="The signal that the next layer sees",
    answer="expected_signal",
    criteria=(
        Criterion("mean", 1, Close(operations=64)),
        Criterion("variance", 1, Close(operations=64, scale=1.0), requires=("mean",)),
    ),
    cases=signal_cases,
    probe=signal_probe,
    reference=expected_signal,
    misconceptions=(
        Misconception(
            "variance_of_the_mask",
            variance_of_the_mask,
            "p (1 − p) is the variance of the mask itself. Inverted dropout divides the mask by 1 − p, and that "
            "divides its variance by (1 − p)²: in the case “{case}” yours is {ratio:.2f} × the right one.",
            "Work out the variance of mask / (1 − p).",
        ),
        Misconception(
            "deviation_for_variance",
            deviation_for_variance,
            "What you return second is the standard deviation, the root of the variance.",
            "Leave the root out.",
        ),
        Misconception(
            "squared_after_the_sum",
            squared_after_the_sum,
            "You square the whole sum x Wᵀ. That would hold if all units dropped together; they drop independently, "
            "so the variances of the single terms add up.",
            "Square each term x·w first, then sum: x² times the squared weights.",
        ),
        Misconception(
            "weight_not_squared",
            weight_not_squared,
            "The weights are not squared. Var(w·z) = w²·Var(z), so a negative weight can't make a variance negative.",
            "Use weight² in the variance.",
        ),
        Misconception(
            "input_not_squared",
            input_not_squared,
            "The inputs are not squared. A unit of size x is worth x/(1 − p) or nothing: its variance grows with x².",
            "Use x² in the variance.",
        ),
        Misconception(
            "odds_turned_round",
            odds_turned_round,
            "The factor is turned round: (1 − p)/p would be large where hardly anything is dropped. With p = 0 "
            "nothing is random, so the variance must be 0.",
            "Check your factor at p = 0, and near p = 1. (With p = 0.5 both give 1: that hides the mistake.)",
        ),
        Misconception(
            "classic_instead",
            classic_instead,
            "These are mean and variance of x·mask, without scaling: classic dropout. Here the kept units are divided "
            "by 1 − p.",
            "Divide the mean by 1 − p, and the variance by (1 − p)².",
        ),
        Misconception(
            "mean_shrunk",
            mean_shrunk,
            "Your mean is {ratio:.2f} × the right one in the case “{case}”. Inverted dropout scales the kept units up "
            "just so that the mean does not shrink.",
            "The mean of mask / (1 − p) is 1: what remains of the formula?",
        ),
        Misconception(
            "mean_grown",
            mean_grown,
            "Your mean is {ratio:.2f} × the right one in the case “{case}”. The division by 1 − p only makes up for "
            "the units that are missing.",
            "The mean of mask / (1 − p) is 1: what remains of the formula?",
        ),
        Misconception(
            "second_moment",
            second_moment,
            "What you return second is the sum of the terms' mean squares, E[z²]. The variance is E[z²] − E[z]²; with "
            "p = 0 it must be 0.",
            "Subtract the square of each term's mean.",
        ),
        Misconception(
            "weight_untransposed",
            weight_untransposed,
            "The weight is used without its transpose. It is (out, in) as in nn.Linear, so x @ weight runs only for "
            "square layers, and is wrong there too.",
            "Use weight.T.",
        ),
        Misconception(
            "variance_over_the_batch",
            variance_over_the_batch,
            "Your variance is the spread between the examples of the batch. Asked is the spread over the random "
            "masks, for each example on its own.",
            "Keep x fixed, and let only the mask be random.",
        ),
    ),
    variants=(
        Variant("signal_by_linear", signal_by_linear),
        Variant("signal_by_terms", signal_by_terms),
        Variant("signal_by_moments", signal_by_moments),
        Variant("signal_by_loop", signal_by_loop),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "One term of the sum is w · x · mask / (1 − p), and only the mask is random. What are its mean and its "
        "variance?",
        "A mask entry has mean 1 − p and variance p (1 − p). Independent terms: means add up, variances add up.",
        "Variance of one term: w² x² p (1 − p) / (1 − p)². Sum over the inputs with a matrix product of the squares.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- all thinned nets


def thinned_cases(seed):
    """Rates on both sides of 1/2, one input, one example, nothing dropped, logits of several hundred."""
    rng = np.random.default_rng(seed)

    def case(name, p, n=5, inputs=4, classes=3, scale=1.0):
        masks = (np.arange(2**inputs)[:, None] >> np.arange(inputs)) & 1
        return Case(
            name,
            {
                "x": rng.normal(0.3, 1.0, (n, inputs)).astype(np.float32),
                "weight": (rng.normal(size=(classes, inputs)) * scale).astype(np.float32),
                "bias": rng.normal(size=classes).astype(np.float32),
                "p": p,
                "masks": rng.permutation(masks).astype(np.float32),
            },
        )

    yield case("4 inputs, 3 classes, p = 0.5", 0.5)
    yield case("4 inputs, 3 classes, p = 0.3", 0.3)
    yield case("4 inputs, 3 classes, p = 0.8", 0.8)
    yield case("one example of 6 inputs, 2 classes, p = 0.4", 0.4, n=1, inputs=6, classes=2)
    yield case("one input, p = 0.1", 0.1, inputs=1)
    yield case("as many examples as classes and inputs, p = 0.7", 0.7, n=4, inputs=4, classes=4)
    yield case("p = 0: only the full net counts", 0.0)
    yield case("logits of several hundred, p = 0.6", 0.6, n=20, scale=200.0)


def thinned_probe(candidate, case):
    import torch

    x, weight, bias, masks = (torch.tensor(case[name]) for name in ("x", "weight", "bias", "masks"))
    arithmetic, geometric, scaled = candidate(x, weight, bias, case["p"], masks)
    return {"arithmetic": arithmetic, "geometric": geometric, "scaled": scaled}


def thinned_nets(x, weight, bias, p, masks):
    """Three (N, classes) predictions: the masks' weighted arithmetic and geometric mean, and the one scaled net."""
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1)).view(-1, 1, 1)
    logits = (x * masks.unsqueeze(1)) @ weight.T + bias  # (M, N, classes)
    arithmetic = (chance * logits.softmax(-1)).sum(0)
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return arithmetic, geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def masks_unweighted(x, weight, bias, p, masks):
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = logits.log_softmax(-1).mean(0).softmax(-1)
    return logits.softmax(-1).mean(0), geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def kept_and_dropped_exchanged(x, weight, bias, p, masks):
    chance = (p ** masks.sum(-1) * (1 - p) ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return (chance * logits.softmax(-1)).sum(0), geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def logits_averaged(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits).sum(0).softmax(-1)
    return geometric, geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def means_exchanged(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    arithmetic = (chance * logits.softmax(-1)).sum(0)
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return geometric, arithmetic, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def not_renormalized(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits.log_softmax(-1)).sum(0).exp()
    return (chance * logits.softmax(-1)).sum(0), geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def product_underflows(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    probability = ((x * masks[:, None]) @ weight.T + bias).softmax(-1)
    geometric = (probability**chance).prod(0)
    geometric = geometric / geometric.sum(-1, keepdim=True)
    return (chance * probability).sum(0), geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def bias_scaled_too(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return (chance * logits.softmax(-1)).sum(0), geometric, ((x @ weight.T + bias) * (1 - p)).softmax(-1)


def net_unscaled(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return (chance * logits.softmax(-1)).sum(0), geometric, (x @ weight.T + bias).softmax(-1)


def net_scaled_by_p(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return (chance * logits.softmax(-1)).sum(0), geometric, (x @ (weight * p).T + bias).softmax(-1)


def net_scaled_up(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return (chance * logits.softmax(-1)).sum(0), geometric, (x @ (weight / (1 - p)).T + bias).softmax(-1)


def inverted_members(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None] / (1 - p)) @ weight.T + bias
    geometric = (chance * logits.log_softmax(-1)).sum(0).softmax(-1)
    return (chance * logits.softmax(-1)).sum(0), geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def softmax_over_the_masks(x, weight, bias, p, masks):
    chance = ((1 - p) ** masks.sum(-1) * p ** (1 - masks).sum(-1))[:, None, None]
    logits = (x * masks[:, None]) @ weight.T + bias
    geometric = (chance * logits.log_softmax(0)).sum(0).softmax(-1)
    return (chance * logits.softmax(0)).sum(0), geometric, (x @ (weight * (1 - p)).T + bias).softmax(-1)


def thinned_by_loop(x, weight, bias, p, masks):
    arithmetic, logs = 0, 0
    for mask in masks:
        kept = int(mask.sum())
        chance = (1 - p) ** kept * p ** (len(mask) - kept)
        log_probability = torch.log_softmax(F.linear(x * mask, weight, bias), dim=1)
        arithmetic = arithmetic + chance * log_probability.exp()
        logs = logs + chance * log_probability
    geometric = torch.exp(logs - torch.logsumexp(logs, dim=1, keepdim=True))
    return arithmetic, geometric, F.softmax(F.linear(x, (1 - p) * weight, bias), dim=1)


def thinned_by_einsum(x, weight, bias, p, masks):
    kept = masks.sum(1)
    chance = (1 - p) ** kept * p ** (masks.shape[1] - kept)
    logits = torch.einsum("ni,mi,ci->nmc", x, masks, weight) + bias
    arithmetic = torch.einsum("m,nmc->nc", chance, torch.softmax(logits, -1))
    mean_logits = torch.einsum("m,nmc->nc", chance, logits)
    return arithmetic, torch.softmax(mean_logits, -1), torch.softmax(F.linear(x * (1 - p), weight, bias), -1)


def thinned_by_masked_weights(x, weight, bias, p, masks):
    wide = x.double()
    chance = torch.where(masks.bool(), 1 - p, p).double().prod(dim=1)
    logits = torch.stack([F.linear(wide, weight.double() * mask, bias.double()) for mask in masks])
    log_probability = F.log_softmax(logits, dim=2)
    arithmetic = torch.tensordot(chance, log_probability.exp(), dims=1)
    geometric = F.softmax(torch.tensordot(chance, log_probability, dims=1), dim=1)
    scaled = F.softmax(F.linear(wide, weight.double() * (1 - p), bias.double()), dim=1)
    return arithmetic.to(x.dtype), geometric.to(x.dtype), scaled.to(x.dtype)


THINNED = Close(operations=1024)  # a logit of some hundreds, off by one rounding, moves the softmax by as many

thinned_nets_exercise = Exercise(
    id="dropout.thinned_nets",
    lesson="08_dropout",
    title="The mean of all thinned nets, and the one scaled net",
    answer="thinned_nets",
    criteria=(
        Criterion("arithmetic", 1, THINNED),
        Criterion("geometric", 1, THINNED),
        Criterion("scaled", 1, THINNED),
    ),
    cases=thinned_cases,
    probe=thinned_probe,
    reference=thinned_nets,
    misconceptions=(
        Misconception(
            "masks_unweighted",
            masks_unweighted,
            "All masks count the same in your means. They are equally likely only for p = 0.5; with p = {p} in the "
            "case “{case}” they are not.",
            "Weigh each mask by its probability: (1 − p) for each unit kept times p for each unit dropped.",
        ),
        Misconception(
            "kept_and_dropped_exchanged",
            kept_and_dropped_exchanged,
            "In the masks' probabilities p and 1 − p are exchanged: p belongs to the units that are dropped.",
            "Use (1 − p) to the power of the units kept, times p to the power of the units dropped.",
        ),
        Misconception(
            "logits_averaged",
            logits_averaged,
            "Your arithmetic mean averages the logits and applies softmax afterwards. That is the geometric mean in "
            "disguise, so the difference that this exercise is about has vanished.",
            "Apply softmax to each thinned net's logits, then average the probabilities.",
        ),
        Misconception(
            "means_exchanged",
            means_exchanged,
            "The two means are exchanged.",
            "Return (arithmetic, geometric, scaled), in this order.",
        ),
        Misconception(
            "not_renormalized",
            not_renormalized,
            "The probabilities of your geometric mean don't add up to 1: a geometric mean of distributions has to be "
            "divided by its sum over the classes.",
            "Divide by the sum over the classes; for logarithms a softmax does it.",
        ),
        Misconception(
            "product_underflows",
            product_underflows,
            "The geometric mean multiplies probabilities. In the case “{case}” every class is impossible to some "
            "thinned net: all products become 0, and 0/0 is NaN.",
            "Add up logarithms instead: the weighted sum of log_softmax, then softmax.",
        ),
        Misconception(
            "bias_scaled_too",
            bias_scaled_too,
            "In the scaled net the bias is scaled as well. Only the inputs are dropped, so only what they are "
            "multiplied by is scaled.",
            "Leave the bias out of the scaling.",
        ),
        Misconception(
            "net_unscaled",
            net_unscaled,
            "The third result is the full net without scaling: its inputs are all on, and its logits too large.",
            "Multiply the weight by 1 − p.",
        ),
        Misconception(
            "net_scaled_by_p",
            net_scaled_by_p,
            "The scaled net uses p times the weight. p is the share dropped; a unit is on in 1 − p of the thinned "
            "nets.",
            "Multiply the weight by 1 − p.",
        ),
        Misconception(
            "net_scaled_up",
            net_scaled_up,
            "The scaled net divides the weight by 1 − p. The full net has more units on than the thinned ones, so "
            "each counts less.",
            "Multiply the weight by 1 − p.",
        ),
        Misconception(
            "inverted_members",
            inverted_members,
            "The thinned nets get inputs divided by 1 − p. That is inverted dropout; with it the scaling at test is "
            "not needed, and your third result does not belong to these nets.",
            "Leave the kept inputs as they are: x × mask.",
        ),
        Misconception(
            "softmax_over_the_masks",
            softmax_over_the_masks,
            "The softmax runs over the masks instead of the classes: each net's probabilities don't add up to 1.",
            "Apply softmax along the last axis, the classes.",
        ),
    ),
    variants=(
        Variant("thinned_by_loop", thinned_by_loop),
        Variant("thinned_by_einsum", thinned_by_einsum),
        Variant("thinned_by_masked_weights", thinned_by_masked_weights),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "How likely is one mask? Each unit is kept with 1 − p and dropped with p, independently.",
        "Give the masks an axis of their own: x * masks[:, None] is (M, N, n), and the logits are (M, N, classes).",
        "arithmetic: sum of probability × softmax. geometric: the sum of probability × log_softmax, then softmax over "
        "the classes. scaled: softmax of x @ (weight * (1 - p)).T + bias.",
    ),
    minutes=20,
)

# ---------------------------------------------------------------- uncertainty of sampled nets


def uncertainty_cases(seed):
    """Ordinary logits, nets that agree and nets that don't, equal sizes of all axes, one sample, logits of ±1e4."""
    rng = np.random.default_rng(seed)

    def logits(*shape, scale=2.0):
        return (rng.normal(size=shape) * scale).astype(np.float32)

    yield Case("8 samples, 6 examples, 5 classes", {"logits": logits(8, 6, 5)})
    yield Case("4 samples, 4 examples, 4 classes", {"logits": logits(4, 4, 4)})
    yield Case("2 classes, one example", {"logits": logits(20, 1, 2)})
    yield Case("one sample", {"logits": logits(1, 3, 4)})
    yield Case("all nets agree", {"logits": np.repeat(logits(1, 4, 3, scale=1.0), 6, axis=0)})
    yield Case("equal logits: nothing is known", {"logits": np.zeros((3, 2, 7), np.float32)})
    sure = np.full((4, 3, 4), -1e4, np.float32)
    sure[:, 0, 1] = 1e4  # all nets sure of the same class
    sure[np.arange(4), 1, np.arange(4)] = 1e4  # each sure of another one
    sure[:, 2] = logits(4, 4)
    yield Case("logits of ±1e4", {"logits": sure})


def uncertainty_probe(candidate, case):
    import torch

    probability, entropy, information = candidate(torch.tensor(case["logits"]))
    return {"mean probability": probability, "predictive entropy": entropy, "mutual information": information}


def uncertainty(logits):
    """Of logits (K, N, C): mean probability (N, C), its entropy (N,), and the mutual information (N,), in nats."""
    information = reference.mutual_information(logits)
    return logits.softmax(-1).mean(0), reference.predictive_entropy(logits), information


def softmax_of_the_mean(logits):
    mean = logits.mean(0).softmax(-1)
    entropy = torch.special.entr(mean).sum(-1)
    return mean, entropy, entropy - torch.special.entr(logits.softmax(-1)).sum(-1).mean(0)


def mean_of_entropies(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    each = torch.special.entr(probability).sum(-1).mean(0)
    return mean, each, torch.special.entr(mean).sum(-1) - each


def in_bits(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    entropy = torch.special.entr(mean).sum(-1) / np.log(2)
    return mean, entropy, entropy - torch.special.entr(probability).sum(-1).mean(0) / np.log(2)


def zero_times_log_zero(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    entropy = -(mean * mean.log()).sum(-1)
    return mean, entropy, entropy + (probability * probability.log()).sum(-1).mean(0)


def softmax_by_hand(logits):
    probability = logits.exp() / logits.exp().sum(-1, keepdim=True)
    mean = probability.mean(0)
    entropy = torch.special.entr(mean).sum(-1)
    return mean, entropy, entropy - torch.special.entr(probability).sum(-1).mean(0)


def softmax_over_samples(logits):
    probability = logits.softmax(0)
    mean = probability.mean(0)
    entropy = torch.special.entr(mean).sum(-1)
    return mean, entropy, entropy - torch.special.entr(probability).sum(-1).mean(0)


def softmax_over_examples(logits):
    probability = logits.softmax(1)
    mean = probability.mean(0)
    entropy = torch.special.entr(mean).sum(-1)
    return mean, entropy, entropy - torch.special.entr(probability).sum(-1).mean(0)


def variance_for_information(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    return mean, torch.special.entr(mean).sum(-1), probability.var(0, unbiased=False).sum(-1)


def information_sign_turned(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    entropy = torch.special.entr(mean).sum(-1)
    return mean, entropy, torch.special.entr(probability).sum(-1).mean(0) - entropy


def expected_entropy_for_information(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    return mean, torch.special.entr(mean).sum(-1), torch.special.entr(probability).sum(-1).mean(0)


def entropy_and_information_exchanged(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    entropy = torch.special.entr(mean).sum(-1)
    return mean, entropy - torch.special.entr(probability).sum(-1).mean(0), entropy


def entropy_sign_forgotten(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    entropy = torch.special.xlogy(mean, mean).sum(-1)
    return mean, entropy, entropy - torch.special.xlogy(probability, probability).sum(-1).mean(0)


def averaged_over_examples(logits):
    probability = logits.softmax(-1)
    mean = probability.mean(0)
    entropy = torch.special.entr(mean).sum(-1).mean()
    return mean, entropy, entropy - torch.special.entr(probability).sum(-1).mean()


def uncertainty_by_xlogy(logits):
    probability = F.softmax(logits, dim=2)
    mean = torch.mean(probability, dim=0)
    entropy = -torch.xlogy(mean, mean).sum(dim=1)
    each = -torch.xlogy(probability, probability).sum(dim=2)
    return mean, entropy, (entropy - each.mean(dim=0)).clamp(min=0)


def uncertainty_by_clamp(logits):
    p = torch.softmax(logits, -1)
    mean = p.mean(0)
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum(-1)
    each = -(p * (p + 1e-12).log()).sum(-1)
    return mean, entropy, entropy - each.mean(0)


def uncertainty_by_distributions(logits):
    members = torch.distributions.Categorical(logits=logits)
    mixture = torch.distributions.Categorical(probs=members.probs.mean(0))
    return members.probs.mean(0), mixture.entropy(), mixture.entropy() - members.entropy().mean(0)


def uncertainty_by_divergence(logits):
    log_p = logits.double().log_softmax(-1)
    p = log_p.exp()
    mean = p.mean(0)
    log_mean = torch.logsumexp(log_p, 0) - float(np.log(len(logits)))
    entropy = -torch.where(mean > 0, mean * log_mean, 0.0).sum(-1)
    information = torch.where(p > 0, p * (log_p - log_mean), 0.0).sum(-1).mean(0)  # mean KL from the mixture
    return mean.to(logits.dtype), entropy.to(logits.dtype), information.to(logits.dtype)


NATS = Close(operations=64, scale=1.0)  # entropies are of order 1, and their difference may cancel to 0

uncertainty_exercise = Exercise(
    id="dropout.uncertainty",
    lesson="08_dropout",
    title="How unsure the sampled nets are, and why",
    answer="uncertainty",
    criteria=(
        Criterion("mean probability", 1, Close(operations=32)),
        Criterion("predictive entropy", 1, NATS),
        Criterion("mutual information", 1, NATS),
    ),
    cases=uncertainty_cases,
    probe=uncertainty_probe,
    reference=uncertainty,
    misconceptions=(
        Misconception(
            "softmax_of_the_mean",
            softmax_of_the_mean,
            "You average the logits and apply softmax once. The average of the nets' predictions is the mean of their "
            "probabilities; one net with very large logits would outvote all the others in yours.",
            "Apply softmax to each sample first, then take the mean over the samples.",
        ),
        Misconception(
            "mean_of_entropies",
            mean_of_entropies,
            "What you return as predictive entropy is the mean of the single nets' entropies. It misses what the nets "
            "disagree about.",
            "Take the entropy of the mean probability.",
        ),
        Misconception(
            "in_bits",
            in_bits,
            "Your entropies are in bits ({ratio:.3f} × the expected ones): they use log2.",
            "Use the natural logarithm: nats.",
        ),
        Misconception(
            "zero_times_log_zero",
            zero_times_log_zero,
            "In the case “{case}” some probabilities are exactly 0, and 0 · log 0 gives NaN. Its limit is 0.",
            "torch.special.entr(p) or torch.xlogy know that limit; or clamp p inside the logarithm.",
        ),
        Misconception(
            "softmax_by_hand",
            softmax_by_hand,
            "exp overflows in the case “{case}”: exp(1e4) is infinite, and inf/inf is NaN.",
            "Use logits.softmax(-1), which subtracts the largest logit first.",
        ),
        Misconception(
            "softmax_over_samples",
            softmax_over_samples,
            "The softmax runs over the samples (axis 0): a net's probabilities don't add up to 1 over the classes.",
            "Apply softmax along the last axis.",
        ),
        Misconception(
            "softmax_over_examples",
            softmax_over_examples,
            "The softmax runs over the examples (axis 1), so that one example's prediction depends on the others in "
            "the batch.",
            "Apply softmax along the last axis.",
        ),
        Misconception(
            "variance_for_information",
            variance_for_information,
            "What you return third is the variance of the probabilities. It also grows where the nets disagree, but "
            "it is not the mutual information, and it is not in nats.",
            "Subtract the mean of the single entropies from the entropy of the mean.",
        ),
        Misconception(
            "information_sign_turned",
            information_sign_turned,
            "Your mutual information is negative. The entropy of a mean is never less than the mean of the entropies.",
            "Subtract the other way round: entropy of the mean minus mean of the entropies.",
        ),
        Misconception(
            "expected_entropy_for_information",
            expected_entropy_for_information,
            "What you return third is the mean of the single nets' entropies: what would remain unsure even if the "
            "nets agreed. In the case “{case}” it is {got:.3f} instead of {expected:.3f}.",
            "The mutual information is the rest: predictive entropy minus that.",
        ),
        Misconception(
            "entropy_and_information_exchanged",
            entropy_and_information_exchanged,
            "The second and the third result are exchanged.",
            "Return (mean probability, predictive entropy, mutual information).",
        ),
        Misconception(
            "entropy_sign_forgotten",
            entropy_sign_forgotten,
            "Your entropies are negative: the minus in −Σ p log p is missing.",
            "Put the minus in front of the sum.",
        ),
        Misconception(
            "averaged_over_examples",
            averaged_over_examples,
            "You return one number for the whole batch. Asked is the uncertainty of each example: that is what tells "
            "you which ones to look at.",
            "Sum over the classes, average over the samples, and leave the axis of the examples alone.",
        ),
    ),
    variants=(
        Variant("uncertainty_by_xlogy", uncertainty_by_xlogy),
        Variant("uncertainty_by_clamp", uncertainty_by_clamp),
        Variant("uncertainty_by_distributions", uncertainty_by_distributions),
        Variant("uncertainty_by_divergence", uncertainty_by_divergence),
    ),
    forbidden=("course_lib.dropout",),
    hints=(
        "The axes are (sample, example, class). Which of them does softmax run over, and which does the mean?",
        "There are two entropies: the entropy of the mean prediction, and the mean of the single predictions' "
        "entropies.",
        "Their difference is the mutual information. torch.special.entr(p) is −p log p, and 0 for p = 0.",
    ),
    minutes=15,
)
