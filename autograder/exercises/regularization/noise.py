"""Noise inside the net: DropConnect drops weights, stochastic pooling draws one value of each window. Draws given."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "07_regularization"

# ---------------------------------------------------------------- DropConnect


def connect_cases(seed):
    """Rates on both sides of 1/2, a square layer, one example, nothing and everything dropped, ±1e3, float64."""
    rng = np.random.default_rng(seed)

    def case(name, p, n=6, inputs=5, outputs=4, scale=1.0, dtype=np.float32, mask=None):
        drawn = (rng.random((n, outputs, inputs)) >= p).astype(dtype)
        return Case(
            name,
            {
                "x": (rng.normal(size=(n, inputs)) * scale).astype(dtype),
                "weight": rng.normal(size=(outputs, inputs)).astype(dtype),
                "bias": rng.normal(1.0, 2.0, outputs).astype(dtype),
                "p": p,
                "mask": drawn if mask is None else np.full_like(drawn, mask),
            },
        )

    yield case("6 examples, p = 0.3", 0.3)
    yield case("6 examples, p = 0.8", 0.8)
    yield case("a square layer, as many examples, p = 0.4", 0.4, n=5, inputs=5, outputs=5)
    yield case("one example, p = 0.25", 0.25, n=1)
    yield case("mask of all ones, p = 0.6", 0.6, mask=1.0)
    yield case("everything dropped, p = 0.9", 0.9, mask=0.0)
    yield case("inputs around ±1e3, p = 0.7", 0.7, scale=1e3)
    yield case("float64, p = 0.35", 0.35, dtype=np.float64)


def connect_probe(candidate, case):
    import torch

    x, weight, bias = (torch.tensor(case[name], requires_grad=True) for name in ("x", "weight", "bias"))
    y = candidate(x, weight, bias, case["p"], torch.tensor(case["mask"]))
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
    return {"output": y, "gradient at the weights": weight.grad}


def drop_connect(x, weight, bias, p, mask):
    """Each example meets its own thinned weights, scaled up by 1/(1 − p); the bias stays."""
    return torch.einsum("ni,noi->no", x, weight * mask / (1 - p)) + bias


def inputs_dropped(x, weight, bias, p, mask):
    return (x * mask[:, 0, :] / (1 - p)) @ weight.T + bias


def outputs_dropped(x, weight, bias, p, mask):
    return (x @ weight.T + bias) * mask[:, :, 0] / (1 - p)


def one_mask_for_the_batch(x, weight, bias, p, mask):
    return x @ (weight * mask[0] / (1 - p)).T + bias


def weights_unscaled(x, weight, bias, p, mask):
    return torch.einsum("ni,noi->no", x, weight * mask) + bias


def weights_scaled_by_p(x, weight, bias, p, mask):
    return torch.einsum("ni,noi->no", x, weight * mask / p) + bias


def weights_scaled_down(x, weight, bias, p, mask):
    return torch.einsum("ni,noi->no", x, weight * mask * (1 - p)) + bias


def bias_scaled(x, weight, bias, p, mask):
    return (torch.einsum("ni,noi->no", x, weight * mask) + bias) / (1 - p)


def bias_left_out(x, weight, bias, p, mask):
    return torch.einsum("ni,noi->no", x, weight * mask / (1 - p))


def mask_turned_round(x, weight, bias, p, mask):
    return torch.einsum("ni,noi->no", x, weight * (1 - mask) / (1 - p)) + bias


def scaled_by_share_kept(x, weight, bias, p, mask):
    return torch.einsum("ni,noi->no", x, weight * mask / mask.mean().clamp(min=1e-12)) + bias


def whole_weights(x, weight, bias, p, mask):
    return x @ weight.T + bias


def connect_by_matmul(x, weight, bias, p, mask):
    thinned = mask * weight.unsqueeze(0) / (1 - p)  # (N, out, in)
    return (thinned @ x.unsqueeze(2)).squeeze(2) + bias


def connect_by_loop(x, weight, bias, p, mask):
    rows = [F.linear(x[n], weight.where(mask[n] > 0, torch.zeros_like(weight)) / (1 - p), bias) for n in range(len(x))]
    return torch.stack(rows)


def connect_by_terms(x, weight, bias, p, mask):
    terms = x[:, None, :] * weight[None, :, :] * mask
    return terms.sum(-1) * (1 / (1 - p)) + bias


drop_connect_exercise = Exercise(
    id="regularization.drop_connect",
    lesson=LESSON,
    title="DropConnect: weights drop, not units",
    answer="drop_connect",
    criteria=(
        Criterion("output", 1, Close(operations=64, scale=1.0)),
        Criterion("gradient at the weights", 1, Close(operations=64, scale=1.0), requires=("output",)),
    ),
    cases=connect_cases,
    probe=connect_probe,
    reference=drop_connect,
    misconceptions=(
        Misconception(
            "inputs_dropped",
            inputs_dropped,
            "You drop inputs: that is dropout. In DropConnect one input may reach one unit and not its neighbour.",
            "Multiply the weights, not x, by the mask.",
        ),
        Misconception(
            "outputs_dropped",
            outputs_dropped,
            "You drop whole units: that is dropout after the layer. In DropConnect single weights drop.",
            "Multiply the weights by the mask, before the sum.",
        ),
        Misconception(
            "one_mask_for_the_batch",
            one_mask_for_the_batch,
            "All examples meet the first one's mask.",
            "mask[n] thins the weights for example n: weight * mask has shape (N, out, in).",
        ),
        Misconception(
            "weights_unscaled",
            weights_unscaled,
            "The kept weights are not scaled up: the sum is about 1 − p times as large as it will be at test, when all "
            "weights are there.",
            "Divide by 1 − p.",
        ),
        Misconception(
            "weights_scaled_by_p",
            weights_scaled_by_p,
            "You divide by p, the share that is dropped. What is kept is 1 − p.",
            "Divide by 1 − p.",
        ),
        Misconception(
            "weights_scaled_down",
            weights_scaled_down,
            "You scale the kept weights down. They have to stand for those that are missing.",
            "Divide by 1 − p instead of multiplying.",
        ),
        Misconception(
            "bias_scaled",
            bias_scaled,
            "The bias is scaled up too. No bias was dropped, so nothing is to be made up for.",
            "Scale the weighted sum, then add the bias.",
        ),
        Misconception("bias_left_out", bias_left_out, "The bias is missing.", "Add it at the end."),
        Misconception(
            "mask_turned_round",
            mask_turned_round,
            "The mask is read the wrong way round: 1 stands for kept.",
            "Multiply by mask, not by 1 − mask.",
        ),
        Misconception(
            "scaled_by_share_kept",
            scaled_by_share_kept,
            "You divide by the share of ones in this mask; it changes from draw to draw.",
            "Divide by the probability 1 − p.",
        ),
        Misconception(
            "whole_weights",
            whole_weights,
            "The mask is not used.",
            "Multiply the weights by mask / (1 − p).",
        ),
    ),
    variants=(
        Variant("connect_by_matmul", connect_by_matmul),
        Variant("connect_by_loop", connect_by_loop),
        Variant("connect_by_terms", connect_by_terms),
    ),
    forbidden=("course_lib.dropout",),
    hints=(
        "Whose shape does the mask (N, out, in) fit, if you leave N aside?",
        "weight * mask gives one thinned matrix for each example. Each must meet its own row of x.",
        'torch.einsum("ni,noi->no", x, weight * mask / (1 - p)) + bias',
    ),
    minutes=8,
)

# ---------------------------------------------------------------- stochastic pooling


def pool_cases(seed):
    """Dense and sparse maps, windows of nothing but 0, one window, large values, float64. u never near a boundary."""
    rng = np.random.default_rng(seed)

    def case(name, shape, training, sparse=0.3, scale=1.0, dtype=np.float32):
        x = rng.gamma(1.0, 1.0, shape) * (rng.random(shape) >= sparse) * scale
        if sparse:
            x[..., :2, :2] = 0.0  # a window without any signal
        n, c, h, w = shape
        cells = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
        p = cells / np.where(cells.sum(-1) > 0, cells.sum(-1), 1)[..., None]
        p = np.where(cells.sum(-1, keepdims=True) > 0, p, 0.25)
        drawn = (rng.random(p.shape) * (p > 0.01)).argmax(-1)[..., None]  # any cell with a fair chance
        below = np.take_along_axis(p.cumsum(-1) - p, drawn, -1)[..., 0]
        u = below + rng.uniform(0.2, 0.8, below.shape) * np.take_along_axis(p, drawn, -1)[..., 0]
        return Case(name, {"x": x.astype(dtype), "u": u.astype(dtype), "training": training})

    yield case("2 images of 3 maps, 6 × 8, in training", (2, 3, 6, 8), True)
    yield case("2 images of 3 maps, 6 × 8, at test", (2, 3, 6, 8), False)
    yield case("no zeros, in training", (2, 2, 4, 4), True, sparse=0.0)
    yield case("no zeros, at test", (2, 2, 4, 4), False, sparse=0.0)
    yield case("mostly zeros, in training", (2, 4, 6, 6), True, sparse=0.8)
    yield case("mostly zeros, at test", (2, 4, 6, 6), False, sparse=0.8)
    yield case("one window, in training", (1, 1, 2, 2), True, sparse=0.0)
    yield case("values around 1e4, at test", (1, 3, 4, 6), False, scale=1e4)
    yield case("float64, in training", (2, 2, 4, 6), True, dtype=np.float64)


def pool_probe(candidate, case):
    import torch

    y = candidate(torch.tensor(case["x"]), torch.tensor(case["u"]), case["training"])
    return {"in training" if case["training"] else "at test": y}


def stochastic_pool(x, u, training):
    """In training the value that u draws in proportion to the values; at test their mean in the same proportion."""
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)  # (N, C, H/2, W/2, 4), row by row
    total = a.sum(-1, keepdim=True)
    p = a / torch.where(total > 0, total, 1)
    if not training:
        return (p * a).sum(-1)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def mean_at_test(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    if not training:
        return a.mean(-1)
    p = a / a.sum(-1, keepdim=True).clamp(min=1e-12)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def largest_at_test(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    if not training:
        return a.amax(-1)
    p = a / a.sum(-1, keepdim=True).clamp(min=1e-12)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def drawn_at_test_too(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    p = a / a.sum(-1, keepdim=True).clamp(min=1e-12)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def averaged_in_training_too(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    return (a * a).sum(-1) / a.sum(-1).clamp(min=1e-12)


def phases_exchanged(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    p = a / a.sum(-1, keepdim=True).clamp(min=1e-12)
    if training:
        return (p * a).sum(-1)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def all_equally_likely(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    if not training:
        return (a * a).sum(-1) / a.sum(-1).clamp(min=1e-12)
    return a.gather(-1, (u * 4).long().clamp(max=3)[..., None])[..., 0]


def softmax_chances(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    p = a.softmax(-1)
    if not training:
        return (p * a).sum(-1)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def nothing_by_nothing(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    p = a / a.sum(-1, keepdim=True)
    if not training:
        return (p * a).sum(-1)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def column_by_column(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 2, 4, 5, 3).flatten(-2)
    p = a / a.sum(-1, keepdim=True).clamp(min=1e-12)
    if not training:
        return (p * a).sum(-1)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def values_unnormalized(x, u, training):
    n, c, h, w = x.shape
    a = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(-2)
    if not training:
        return (a * a).sum(-1)
    drawn = (a.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]


def largest_always(x, u, training):
    return F.max_pool2d(x, 2)


def pool_by_unfold(x, u, training):
    a = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    total = a.sum(-1)
    safe = total.clamp(min=torch.finfo(x.dtype).tiny)
    if not training:
        return a.square().sum(-1) / safe
    below = torch.searchsorted(a.cumsum(-1).contiguous(), (u * total).unsqueeze(-1).contiguous(), right=True)
    return a.gather(-1, below.clamp(max=3)).squeeze(-1)


def pool_by_four_parts(x, u, training):
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    total = a + b + c + d
    if not training:
        return torch.where(total > 0, (a * a + b * b + c * c + d * d) / total, torch.zeros_like(total))
    at = u * total
    drawn = torch.where(at < a, a, torch.where(at < a + b, b, torch.where(at < a + b + c, c, d)))
    return torch.where(total > 0, drawn, torch.zeros_like(total))


def pool_by_loop(x, u, training):
    n, c, h, w = x.shape
    out = torch.zeros(n, c, h // 2, w // 2, dtype=x.dtype)
    for i in np.ndindex(*out.shape):
        window = x[i[0], i[1], 2 * i[2] : 2 * i[2] + 2, 2 * i[3] : 2 * i[3] + 2].flatten()
        if window.sum() == 0:
            continue
        p = window / window.sum()
        if training:
            k = 0
            while k < 3 and p[: k + 1].sum() <= u[i]:
                k += 1
            out[i] = window[k]
        else:
            out[i] = p.dot(window)
    return out


stochastic_pool_exercise = Exercise(
    id="regularization.stochastic_pool",
    lesson=LESSON,
    title="Stochastic pooling in both phases",
    answer="stochastic_pool",
    criteria=(
        Criterion("in training", 2, Close(operations=4)),
        Criterion("at test", 1, Close(operations=32), requires=("in training",)),
    ),
    cases=pool_cases,
    probe=pool_probe,
    reference=stochastic_pool,
    misconceptions=(
        Misconception(
            "mean_at_test",
            mean_at_test,
            "At test you take the plain mean. In training a value is drawn in proportion to its size, so on average "
            "the next layer sees the mean weighted by these chances.",
            "At test return Σ p·a, with the chances p of the training phase.",
        ),
        Misconception(
            "largest_at_test",
            largest_at_test,
            "At test you take the largest value. The weights that follow have learned from draws, which are smaller on "
            "average.",
            "At test return Σ p·a.",
        ),
        Misconception(
            "drawn_at_test_too",
            drawn_at_test_too,
            "A value is drawn at test too, so one image gets another answer each time.",
            "At test return the average of the draw, Σ p·a.",
        ),
        Misconception(
            "averaged_in_training_too",
            averaged_in_training_too,
            "Nothing is drawn in training: you return the average there too, so there is no noise, and nothing is "
            "regularized.",
            "In training return the value that u points at.",
        ),
        Misconception(
            "phases_exchanged",
            phases_exchanged,
            "The phases are exchanged: you draw at test and average in training.",
            "Draw where training is True.",
        ),
        Misconception(
            "all_equally_likely",
            all_equally_likely,
            "Each of the four values is equally likely. Here a value is drawn in proportion to its size, so zeros are "
            "never drawn.",
            "The chances are a / a.sum().",
        ),
        Misconception(
            "softmax_chances",
            softmax_chances,
            "The chances come from a softmax. That gives zeros a chance too; asked is plain proportion.",
            "The chances are a / a.sum().",
        ),
        Misconception(
            "nothing_by_nothing",
            nothing_by_nothing,
            "Where a window holds nothing but 0, you divide 0 by 0: NaN, which then spreads through the net.",
            "Give such windows 0: divide by 1 where the sum is 0.",
        ),
        Misconception(
            "column_by_column",
            column_by_column,
            "The cells of a window are numbered column by column. Asked is row by row.",
            "Order: top left, top right, bottom left, bottom right.",
        ),
        Misconception(
            "values_unnormalized",
            values_unnormalized,
            "The values are not divided by their sum, so they are no chances: u lies between 0 and 1.",
            "Divide by the window's sum.",
        ),
        Misconception(
            "largest_always",
            largest_always,
            "This is max pooling: nothing is drawn.",
            "Draw by u in training, average at test.",
        ),
    ),
    variants=(
        Variant("pool_by_unfold", pool_by_unfold),
        Variant("pool_by_four_parts", pool_by_four_parts),
        Variant("pool_by_loop", pool_by_loop),
    ),
    forbidden=("course_lib.dropout",),
    hints=(
        "Values 1, 0, 3, 4: what are the chances of the four? Which cell does u = 0.4 point at?",
        "Add the chances up from the left: 0.125, 0.125, 0.5, 1. The first that exceeds u is drawn. And the average of "
        "the draw is Σ p·a.",
        "a = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2) gives the windows row by row; count how many of "
        "p.cumsum(-1) are ≤ u.",
    ),
    minutes=15,
)
