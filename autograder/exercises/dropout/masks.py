"""Dropout with the mask given: inverted, classic, spatial. Deterministic, so values and gradients can be compared."""

from __future__ import annotations

import numpy as np
import torch

from course_lib import dropout as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

FORBIDDEN = (
    "torch.nn.functional.dropout",
    "torch.nn.functional.dropout2d",
    "torch.feature_dropout",
    "torch.dropout",
    "torch.nn.Dropout",
    "torch.nn.Dropout2d",
    "course_lib.dropout",
)

# ---------------------------------------------------------------- inverted dropout


def _mask(rng: np.random.Generator, shape: tuple[int, ...], p: float) -> np.ndarray:
    return (rng.random(shape) >= p).astype(np.float32)


def inverted_cases(seed):
    """Ordinary rates on both sides of 1/2, one row, nothing and everything dropped, large values, float64."""
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 2.0, (16, 8)).astype(np.float32)
    yield Case("16 × 8, p = 0.3", {"x": x, "p": 0.3, "mask": _mask(rng, x.shape, 0.3)})
    yield Case("16 × 8, p = 0.8", {"x": x, "p": 0.8, "mask": _mask(rng, x.shape, 0.8)})
    yield Case("one row, p = 0.5", {"x": x[:1], "p": 0.5, "mask": _mask(rng, (1, 8), 0.5)})
    yield Case("mask of all ones, p = 0.2", {"x": x, "p": 0.2, "mask": np.ones_like(x)})
    yield Case("p = 0", {"x": x, "p": 0.0, "mask": np.ones_like(x)})
    yield Case("p = 0.999, everything dropped", {"x": x, "p": 0.999, "mask": np.zeros_like(x)})
    yield Case("values around ±1e4", {"x": x * 1e4, "p": 0.25, "mask": _mask(rng, x.shape, 0.25)})
    yield Case(
        "float64, feature maps",
        {"x": rng.normal(size=(2, 3, 4, 4)), "p": 0.4, "mask": np.float64(rng.random((2, 3, 4, 4)) >= 0.4)},
    )


def inverted_probe(candidate, case):
    import torch

    x = torch.tensor(case["x"], requires_grad=True)
    y = candidate(x, case["p"], torch.tensor(case["mask"]))
    weights = torch.linspace(-1, 2, y.numel(), dtype=x.dtype).reshape(y.shape)  # a gradient that differs everywhere
    (y * weights).sum().backward()
    return {"output": y, "gradient": x.grad, "input left as it was": x}


def unscaled(x, p, mask):
    return x * mask


def scaled_by_p(x, p, mask):
    return x * mask / p if p > 0 else x * mask


def multiplied_by_keep(x, p, mask):
    return x * mask * (1 - p)


def mask_turned_round(x, p, mask):
    return x * (1 - mask) / (1 - p)


def scaled_by_mask_mean(x, p, mask):
    return x * mask / mask.mean().clamp(min=1e-12)


def all_scaled(x, p, mask):
    return torch.where(mask.bool(), x / (1 - p), x)


def p_is_keep(x, p, mask):
    return x * mask * p


def mask_outside_the_graph(x, p, mask):
    return x + (x * mask / (1 - p) - x).detach()


def overwrites_input(x, p, mask):
    with torch.no_grad():
        x.mul_(mask).div_(1 - p)
    return x * 1


def filled_by_where(x, p, mask):
    scaled = x / (1 - p)
    return torch.where(mask > 0.5, scaled, torch.zeros_like(scaled))


def filled_by_masked_fill(x, p, mask):
    return (x * (1.0 / (1.0 - p))).masked_fill(mask == 0, 0.0)


def scaled_mask_first(x, p, mask):
    scale = mask.to(x.dtype).div(1 - p)
    return scale * x


def own_backward(x, p, mask):
    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, p, mask):
            ctx.scale = mask / (1 - p)
            return x * ctx.scale

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.scale, None, None

    return Backward.apply(x, p, mask)


inverted_dropout = Exercise(
    id="dropout.inverted_dropout",
    lesson="08_dropout",
    title="Inverted dropout",
    answer="inverted_dropout",
    criteria=(
        Criterion("output", 2, Close(operations=4)),
        Criterion("gradient", 1, Close(operations=8)),
        Criterion("input left as it was", 0),
    ),
    cases=inverted_cases,
    probe=inverted_probe,
    reference=reference.inverted_dropout,
    misconceptions=(
        Misconception(
            "unscaled",
            unscaled,
            "The kept units are not scaled up: in the case “{case}” your output is {ratio:.2f} × the expected one, so "
            "the next layer sees a weaker signal in training than it will see at test time.",
            "Divide by the probability of being kept.",
        ),
        Misconception(
            "scaled_by_p",
            scaled_by_p,
            "You scale by 1/p. Here p is the share that is dropped; what is kept is 1 − p.",
            "Divide by 1 − p. (With p = 0.5 both give the same: that is why this mistake hides so well.)",
        ),
        Misconception(
            "multiplied_by_keep",
            multiplied_by_keep,
            "You multiply by 1 − p while training. That is what classic dropout does at test time; inverted dropout "
            "makes the kept units larger, not smaller.",
            "Divide by 1 − p instead of multiplying.",
        ),
        Misconception(
            "mask_turned_round",
            mask_turned_round,
            "The mask is read the wrong way round: the units that should be kept are dropped, and the others kept.",
            "In the mask, 1 stands for kept.",
        ),
        Misconception(
            "scaled_by_mask_mean",
            scaled_by_mask_mean,
            "You divide by the share of this mask's ones instead of by 1 − p. It is right on average, but the scale "
            "then changes from batch to batch and depends on the other examples in it.",
            "Divide by the probability, which is a constant.",
        ),
        Misconception(
            "all_scaled",
            all_scaled,
            "The dropped units still pass: they keep their value x instead of becoming 0.",
            "A dropped unit sends nothing to the next layer.",
        ),
        Misconception(
            "p_is_keep",
            p_is_keep,
            "You multiply by p, as if p were the probability of being kept and this were test time.",
            "In PyTorch and Keras p is the rate that is dropped. Divide by 1 − p.",
        ),
        Misconception(
            "mask_outside_the_graph",
            mask_outside_the_graph,
            "The output is right, but the gradient does not pass through the mask: dropped units receive a gradient, "
            "and kept ones are not scaled.",
            "Compute the output from x by ordinary operations, without .detach(), .data or torch.no_grad().",
        ),
        Misconception(
            "overwrites_input",
            overwrites_input,
            "Your function changes x in place: the caller's tensor is overwritten, and its values are lost to the "
            "backward pass.",
            "Make a new tensor: x * mask, not x *= mask or x.mul_(mask).",
        ),
    ),
    variants=(
        Variant("filled_by_where", filled_by_where),
        Variant("filled_by_masked_fill", filled_by_masked_fill),
        Variant("scaled_mask_first", scaled_mask_first),
        Variant("own_backward", own_backward),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "What is the mean of mask over many draws? So what is the mean of mask × x?",
        "Which factor brings that mean back to x?",
        "x * mask / (1 - p), in one line, with no loop.",
    ),
    minutes=8,
)

# ---------------------------------------------------------------- classic dropout


def classic_cases(seed):
    """Rates on both sides of 1/2, one row, nothing and everything dropped, large values, float64."""
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 2.0, (16, 8)).astype(np.float32)
    yield Case("16 × 8, p = 0.3", {"x": x, "p": 0.3, "mask": _mask(rng, x.shape, 0.3)})
    yield Case("16 × 8, p = 0.8", {"x": x, "p": 0.8, "mask": _mask(rng, x.shape, 0.8)})
    yield Case("one row, p = 0.5", {"x": x[:1], "p": 0.5, "mask": _mask(rng, (1, 8), 0.5)})
    yield Case("mask of all ones, p = 0.2", {"x": x, "p": 0.2, "mask": np.ones_like(x)})
    yield Case("p = 0", {"x": x, "p": 0.0, "mask": np.ones_like(x)})
    yield Case("p = 0.9, everything dropped", {"x": x, "p": 0.9, "mask": np.zeros_like(x)})
    yield Case("values around ±1e4", {"x": x * 1e4, "p": 0.25, "mask": _mask(rng, x.shape, 0.25)})
    yield Case(
        "float64, feature maps",
        {"x": rng.normal(size=(2, 3, 4, 4)), "p": 0.4, "mask": np.float64(rng.random((2, 3, 4, 4)) >= 0.4)},
    )


def classic_probe(candidate, case):
    import torch

    x, other, mask = torch.tensor(case["x"]), torch.tensor(case["x"]), torch.tensor(case["mask"])
    return {
        "output in training": candidate(x, case["p"], mask, True),
        "output at test": candidate(other, case["p"], mask, False),
        "input left as it was": torch.stack([x, other]),
    }


def inverted_instead(x, p, mask, training):
    return x * mask / (1 - p) if training else x


def no_scaling_at_test(x, p, mask, training):
    return x * mask if training else x


def scaled_by_p_at_test(x, p, mask, training):
    return x * mask if training else x * p


def scaled_up_at_test(x, p, mask, training):
    return x * mask if training else x / (1 - p)


def scaled_in_both(x, p, mask, training):
    return x * mask / (1 - p) if training else x * (1 - p)


def dropped_at_test(x, p, mask, training):
    return x * mask if training else x * mask * (1 - p)


def training_ignored(x, p, mask, training):
    return x * mask


def phases_exchanged(x, p, mask, training):
    return x * (1 - p) if training else x * mask


def scaled_by_the_mask_seen(x, p, mask, training):
    return x * mask if training else x * mask.mean()


def zeroes_the_input(x, p, mask, training):
    if not training:
        return x * (1 - p)
    x[mask == 0] = 0
    return x * 1


def classic_by_masked_fill(x, p, mask, training):
    if training:
        return x.masked_fill(~mask.bool(), 0)
    return x - p * x


def classic_by_one_factor(x, p, mask, training):
    factor = mask.to(x) if training else torch.full_like(x, 1.0 - p)
    return torch.mul(x, factor)


def classic_in_double(x, p, mask, training):
    wide = x.double()
    return (torch.where(mask > 0, wide, torch.zeros_like(wide)) if training else wide * (1 - p)).to(x.dtype)


classic_dropout = Exercise(
    id="dropout.classic_dropout",
    lesson="08_dropout",
    title="Classic dropout, scaled at test time",
    answer="classic_dropout",
    criteria=(
        Criterion("output in training", 1, Close(operations=4)),
        Criterion("output at test", 1, Close(operations=16)),  # x - p * x loses a digit where p is 0.9
        Criterion("input left as it was", 0),
    ),
    cases=classic_cases,
    probe=classic_probe,
    reference=reference.classic_dropout,
    misconceptions=(
        Misconception(
            "inverted_instead",
            inverted_instead,
            "This is inverted dropout: you scale up while training and leave the test phase alone. It is what the "
            "frameworks do, and just as right on average, but here the first published form is asked for.",
            "Move the scaling from training to test: there every unit is on, so each is multiplied by 1 − p.",
        ),
        Misconception(
            "no_scaling_at_test",
            no_scaling_at_test,
            "At test all units are on and at full strength: in the case “{case}” the output there is {ratio:.2f} × "
            "the expected one. The next layer has learned from a signal of 1 − p times that size.",
            "Multiply by 1 − p at test.",
        ),
        Misconception(
            "scaled_by_p_at_test",
            scaled_by_p_at_test,
            "At test you multiply by p. Here p is the share that was dropped; what the next layer is used to is the "
            "share that was kept.",
            "Multiply by 1 − p. (With p = 0.5 both give the same: that is why this mistake hides so well.)",
        ),
        Misconception(
            "scaled_up_at_test",
            scaled_up_at_test,
            "At test you divide by 1 − p, so the signal grows: in the case “{case}” it is {ratio:.2f} × the expected "
            "one. More units are on than in training, so each must count less, not more.",
            "Multiply by 1 − p at test.",
        ),
        Misconception(
            "scaled_in_both",
            scaled_in_both,
            "You scale in both phases: up while training, and down at test. Each of the two would do alone; together "
            "the next layer sees 1 − p times the signal it has learned from.",
            "Leave the kept units as they are while training.",
        ),
        Misconception(
            "dropped_at_test",
            dropped_at_test,
            "You scale at test, as you should, but you still drop units there.",
            "At test ignore the mask: every unit is on.",
        ),
        Misconception(
            "training_ignored",
            training_ignored,
            "`training` changes nothing: units are dropped at test too, so the same image would get another answer "
            "each time.",
            "Which units are on when training is False, and how much should each send?",
        ),
        Misconception(
            "phases_exchanged",
            phases_exchanged,
            "The two phases are exchanged: you drop at test and scale in training.",
            "Turn the condition round: the mask belongs to training=True.",
        ),
        Misconception(
            "scaled_by_the_mask_seen",
            scaled_by_the_mask_seen,
            "At test you multiply by the share of ones in this mask. That share changes from draw to draw, and at "
            "test there is no mask to look at.",
            "Multiply by the probability 1 − p, a constant.",
        ),
        Misconception(
            "zeroes_the_input",
            zeroes_the_input,
            "Your function writes zeros into x itself: the caller's tensor has lost its values.",
            "Make a new tensor: x * mask, not x[mask == 0] = 0.",
        ),
    ),
    variants=(
        Variant("classic_by_masked_fill", classic_by_masked_fill),
        Variant("classic_by_one_factor", classic_by_one_factor),
        Variant("classic_in_double", classic_in_double),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "While training, what does a kept unit send on, and what a dropped one?",
        "A unit that is on in a share 1 − p of the training steps sends, on average, how much? At test it is always "
        "on.",
        "Return x * mask while training, and x * (1 - p) otherwise.",
    ),
    minutes=6,
)

# ---------------------------------------------------------------- spatial dropout


def spatial_cases(seed):
    """Maps of several sizes; sizes that agree by chance, so that a mask laid over the wrong axes runs; float64."""
    rng = np.random.default_rng(seed)

    def case(name, shape, p, scale=1.0, dtype=np.float32):
        mask = _mask(rng, shape[:2], p)
        mask[0, 0], mask[-1, -1] = 0, 1  # neither all dropped nor all kept, and not the same for all images
        return Case(
            name, {"x": (rng.normal(1.0, 2.0, shape) * scale).astype(dtype), "p": p, "mask": mask.astype(dtype)}
        )

    yield case("4 images of 8 maps, 5 × 6, p = 0.3", (4, 8, 5, 6), 0.3)
    yield case("6 images of 4 maps, 6 × 4 (N = H, C = W), p = 0.4", (6, 4, 6, 4), 0.4)
    yield case("5 images of 5 maps, 5 × 5, p = 0.7", (5, 5, 5, 5), 0.7)
    yield case("one image of 6 maps, p = 0.5", (1, 6, 4, 4), 0.5)
    yield case("maps of one pixel, p = 0.2", (5, 7, 1, 1), 0.2)
    x = rng.normal(size=(3, 4, 2, 3)).astype(np.float32)
    yield Case("mask of all ones, p = 0.25", {"x": x, "p": 0.25, "mask": np.ones((3, 4), np.float32)})
    yield case("values around ±1e4, p = 0.8", (3, 6, 4, 3), 0.8, scale=1e4)
    yield case("float64, p = 0.6", (2, 5, 3, 4), 0.6, dtype=np.float64)


def one_mask_for_all_images(x, p, mask):
    return x * mask[0].view(1, -1, 1, 1) / (1 - p)


def mask_over_pixels(x, p, mask):
    return x * mask / (1 - p)


def one_axis_short(x, p, mask):
    return x * mask.unsqueeze(-1) / (1 - p)


def channels_last(x, p, mask):
    return x * mask[:, None, None, :] / (1 - p)


def whole_images(x, p, mask):
    return x * mask[:, :1, None, None] / (1 - p)


def maps_unscaled(x, p, mask):
    return x * mask[:, :, None, None]


def maps_scaled_by_p(x, p, mask):
    return x * mask[:, :, None, None] / p


def maps_scaled_by_share(x, p, mask):
    return x * mask[:, :, None, None] / mask.mean().clamp(min=1e-12)


def maps_scaled_per_image(x, p, mask):
    share = mask.mean(1).clamp(min=1e-12)[:, None, None, None]
    return x * mask[:, :, None, None] / share


def maps_turned_round(x, p, mask):
    return x * (1 - mask)[:, :, None, None] / (1 - p)


def spatial_by_view(x, p, mask):
    n, c = mask.shape
    return x * (mask / (1.0 - p)).view(n, c, 1, 1)


def spatial_by_einsum(x, p, mask):
    return torch.einsum("nchw,nc->nchw", x, mask) / (1 - p)


def spatial_by_loop(x, p, mask):
    out = torch.zeros_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            if mask[n, c]:
                out[n, c] = x[n, c] / (1 - p)
    return out


def spatial_by_expanded_mask(x, p, mask):
    keep = mask.bool().unsqueeze(2).unsqueeze(3).expand_as(x)
    return torch.where(keep, x.div(1 - p), torch.zeros_like(x))


spatial_dropout = Exercise(
    id="dropout.spatial_dropout",
    lesson="08_dropout",
    title="Spatial dropout: whole feature maps",
    answer="spatial_dropout",
    criteria=(
        Criterion("output", 1, Close(operations=4)),
        Criterion("gradient", 1, Close(operations=8)),
        Criterion("input left as it was", 0),
    ),
    cases=spatial_cases,
    probe=inverted_probe,
    reference=reference.spatial_dropout,
    misconceptions=(
        Misconception(
            "mask_over_pixels",
            mask_over_pixels,
            "The mask (N, C) is laid over the last two axes of x, which are rows and columns of pixels. That runs "
            "only where the sizes happen to agree, and drops pixels, not maps.",
            "Give the mask two more axes of size 1 at its end: shape (N, C, 1, 1).",
        ),
        Misconception(
            "one_axis_short",
            one_axis_short,
            "The mask has three axes, (N, C, 1). Broadcasting counts axes from the last one, so N meets the maps and "
            "C the rows.",
            "Give it one axis more: (N, C, 1, 1).",
        ),
        Misconception(
            "channels_last",
            channels_last,
            "The mask is laid along the last axis, as if the maps stood there. That is Keras's usual order, (N, H, W, "
            "C); PyTorch's is (N, C, H, W).",
            "Which axis of x holds the maps? Put the second axis of the mask there.",
        ),
        Misconception(
            "one_mask_for_all_images",
            one_mask_for_all_images,
            "All images lose the maps that the first image loses: only mask[0] is used. Each example must meet its "
            "own thinned net.",
            "Use every row of the mask: shape (N, C, 1, 1).",
        ),
        Misconception(
            "whole_images",
            whole_images,
            "Whole images vanish: the first map's mask is used for all maps of its image.",
            "Keep the mask's second axis: one entry for each map.",
        ),
        Misconception(
            "maps_unscaled",
            maps_unscaled,
            "The kept maps are not scaled up: in the case “{case}” your output is {ratio:.2f} × the expected one.",
            "Divide by the probability of being kept, as in inverted dropout.",
        ),
        Misconception(
            "maps_scaled_by_p",
            maps_scaled_by_p,
            "You scale by 1/p. Here p is the share of maps that are dropped; what is kept is 1 − p.",
            "Divide by 1 − p.",
        ),
        Misconception(
            "maps_scaled_by_share",
            maps_scaled_by_share,
            "You divide by the share of maps that this mask keeps, instead of by 1 − p. The scale then changes from "
            "batch to batch.",
            "Divide by the probability, which is a constant.",
        ),
        Misconception(
            "maps_scaled_per_image",
            maps_scaled_per_image,
            "You divide each image by the share of maps that it happens to keep, instead of by 1 − p.",
            "Divide all by the probability 1 − p.",
        ),
        Misconception(
            "maps_turned_round",
            maps_turned_round,
            "The mask is read the wrong way round: the maps that should be kept are dropped, and the others kept.",
            "In the mask, 1 stands for kept.",
        ),
    ),
    variants=(
        Variant("spatial_by_view", spatial_by_view),
        Variant("spatial_by_einsum", spatial_by_einsum),
        Variant("spatial_by_loop", spatial_by_loop),
        Variant("spatial_by_expanded_mask", spatial_by_expanded_mask),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Which two axes of x does the mask (N, C) belong to?",
        "Broadcasting lines shapes up from the last axis. Which shape must the mask have to meet (N, C, H, W) at N "
        "and C?",
        "mask[:, :, None, None] has it. The rest is inverted dropout.",
    ),
    minutes=8,
)
