"""Batch norm with the batch's own statistics: of rows (N, C), and of feature maps (N, C, H, W)."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

FORBIDDEN = (
    "torch.nn.functional.batch_norm",
    "torch.batch_norm",
    "torch.native_batch_norm",
    "torch.nn.BatchNorm1d",
    "torch.nn.BatchNorm2d",
    "course_lib.normalization",
)

# ---------------------------------------------------------------- rows


def forward_cases(seed):
    """Ordinary and square batches, two rows, a constant feature, variances below eps, a mean far from 0, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n=32, c=6, mean=1.0, spread=2.0, eps=1e-5, dtype=np.float32):
        x = (rng.normal(size=(n, c)) * spread * np.linspace(0.5, 1.5, c) + mean).astype(dtype)
        weight, bias = rng.uniform(0.5, 2.0, c).astype(dtype), rng.normal(size=c).astype(dtype)
        return Case(name, {"x": x, "weight": weight, "bias": bias, "eps": eps})

    yield case("32 × 6")
    yield case("as many rows as features, 6 × 6", n=6)
    yield case("a batch of 2, eps = 0.1", n=2, spread=0.7, eps=0.1)
    constant = case("the first feature is constant")
    constant["x"][:, 0] = 3.0
    yield constant
    yield case("variances far below eps, eps = 1e-3", mean=0.2, spread=3e-3, eps=1e-3)
    yield case("mean 500, spread 1", mean=500.0, spread=1.0)
    yield case("values around ±1e4", mean=0.0, spread=1e4)
    yield case("float64", n=9, c=4, dtype=np.float64)


def forward_probe(candidate, case):
    import torch

    x = torch.tensor(case["x"], requires_grad=True)
    y = candidate(x, torch.tensor(case["weight"]), torch.tensor(case["bias"]), case["eps"])
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"{type(y).__name__} was returned where one tensor is expected")
    if y.requires_grad:
        slopes = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape) ** 3  # differ everywhere
        (y * slopes).sum().backward()
    gradient = torch.zeros_like(x) if x.grad is None else x.grad
    return {"output": y, "gradient": gradient, "input left as it was": x}


def batch_norm(x, weight, bias, eps):
    """x (N, C) normalized over the batch, times weight (C,), plus bias (C,)."""
    mean = x.mean(0)
    var = (x - mean).square().mean(0)
    return (x - mean) / (var + eps).sqrt() * weight + bias


def unbiased_variance(x, weight, bias, eps):
    return (x - x.mean(0)) / (x.var(0) + eps).sqrt() * weight + bias


def eps_outside_the_root(x, weight, bias, eps):
    return (x - x.mean(0)) / (x.var(0, correction=0).sqrt() + eps) * weight + bias


def std_of_torch(x, weight, bias, eps):
    return (x - x.mean(0)) / (x.std(0) + eps) * weight + bias


def eps_forgotten(x, weight, bias, eps):
    return (x - x.mean(0)) / x.var(0, correction=0).sqrt() * weight + bias


def divided_by_the_variance(x, weight, bias, eps):
    return (x - x.mean(0)) / (x.var(0, correction=0) + eps) * weight + bias


def over_the_features(x, weight, bias, eps):
    mean = x.mean(1, keepdim=True)
    return (x - mean) / (x.var(1, correction=0, keepdim=True) + eps).sqrt() * weight + bias


def over_everything(x, weight, bias, eps):
    return (x - x.mean()) / (x.var(correction=0) + eps).sqrt() * weight + bias


def statistics_outside_the_graph(x, weight, bias, eps):
    with torch.no_grad():
        mean, var = x.mean(0), x.var(0, correction=0)
    return (x - mean) / (var + eps).sqrt() * weight + bias


def without_scale_and_shift(x, weight, bias, eps):
    return (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt()


def shifted_before_scaling(x, weight, bias, eps):
    return ((x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() + bias) * weight


def not_centred(x, weight, bias, eps):
    return x / (x.var(0, correction=0) + eps).sqrt() * weight + bias


def variance_in_one_pass(x, weight, bias, eps):
    mean = x.mean(0)
    return (x - mean) / ((x * x).mean(0) - mean * mean + eps).clamp(min=1e-12).sqrt() * weight + bias


def overwrites_the_input(x, weight, bias, eps):
    with torch.no_grad():
        x.sub_(x.mean(0))
    return (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() * weight + bias


def forward_by_var_mean(x, weight, bias, eps):
    var, mean = torch.var_mean(x, dim=0, correction=0)
    return torch.addcmul(bias, (x - mean) * torch.rsqrt(var + eps), weight)


def forward_in_double(x, weight, bias, eps):
    wide = x.double()
    centred = wide - wide.mean(dim=0, keepdim=True)
    scale = weight.double() / torch.sqrt((centred**2).mean(dim=0) + eps)
    return (centred * scale + bias.double()).to(x.dtype)


def forward_by_columns(x, weight, bias, eps):
    columns = []
    for c in range(x.shape[1]):
        centred = x[:, c] - x[:, c].sum() / len(x)
        columns.append(weight[c] * centred / ((centred * centred).sum() / len(x) + eps) ** 0.5 + bias[c])
    return torch.stack(columns, dim=1)


forward = Exercise(
    id="batch_norm.forward",
    lesson="04_batch_norm",
    title="Batch norm in training",
    answer="batch_norm",
    criteria=(
        Criterion("output", 2, Close(operations=512)),  # where the mean is 500, subtracting it costs three digits
        Criterion("gradient", 1, Close(operations=4096), requires=("output",)),
        Criterion("input left as it was", 0),
    ),
    cases=forward_cases,
    probe=forward_probe,
    reference=batch_norm,
    misconceptions=(
        Misconception(
            "unbiased_variance",
            unbiased_variance,
            "You divide by N − 1 in the variance: x.var(0) does so unless told otherwise. In training batch norm "
            "normalizes by the variance of this batch itself, the mean of (x − μ)².",
            "x.var(0, correction=0), or (x - mean).square().mean(0).",
        ),
        Misconception(
            "eps_outside_the_root",
            eps_outside_the_root,
            "eps stands outside the root: √σ² + eps. Where a feature hardly varies that divides by far too little.",
            "Add eps to the variance, then take the root.",
        ),
        Misconception(
            "std_of_torch",
            std_of_torch,
            "x.std(0) + eps has two slips: std divides by N − 1, and eps is added after the root.",
            "Take the mean of (x − μ)², add eps, then take the root.",
        ),
        Misconception(
            "eps_forgotten",
            eps_forgotten,
            "eps is missing: in the case “{case}” you divide by (nearly) nothing.",
            "Add eps to the variance before the root.",
        ),
        Misconception(
            "divided_by_the_variance",
            divided_by_the_variance,
            "You divide by the variance. Twice as wide a feature would come out half as wide, instead of at spread 1.",
            "Divide by the root of the variance (plus eps).",
        ),
        Misconception(
            "over_the_features",
            over_the_features,
            "You take mean and variance over the features of each example, axis 1. That is layer norm; batch norm "
            "takes them over the batch, for each feature by itself.",
            "Use axis 0.",
        ),
        Misconception(
            "over_everything",
            over_everything,
            "There is one mean and one variance for the whole batch. Each feature needs its own.",
            "Give the axis: x.mean(0).",
        ),
        Misconception(
            "statistics_outside_the_graph",
            statistics_outside_the_graph,
            "The output is right, but the statistics are computed under no_grad (or detached). They depend on x, so a "
            "part of the gradient flows through them, and yours lacks it.",
            "Compute mean and variance by ordinary operations.",
        ),
        Misconception(
            "without_scale_and_shift",
            without_scale_and_shift,
            "You stop at the normalized x. The learned scale and shift are missing, without which every unit would be "
            "held at mean 0 and spread 1 for good.",
            "Multiply by weight and add bias.",
        ),
        Misconception(
            "shifted_before_scaling",
            shifted_before_scaling,
            "You add the bias before you scale, so the shift is scaled too.",
            "First times weight, then plus bias.",
        ),
        Misconception(
            "not_centred",
            not_centred,
            "The mean is not subtracted: you only divide by the spread.",
            "Start from x - x.mean(0).",
        ),
        Misconception(
            "variance_in_one_pass",
            variance_in_one_pass,
            "The variance as E[x²] − E[x]² is right on paper. In the case “{case}” it is the small difference of two "
            "large numbers, and float32 has lost its digits.",
            "Subtract the mean first, then square: (x - mean).square().mean(0).",
        ),
        Misconception(
            "overwrites_the_input",
            overwrites_the_input,
            "Your function changes x in place: whoever called it finds another tensor than the one passed in.",
            "Make a new tensor: x - mean, not x -= mean.",
        ),
    ),
    variants=(
        Variant("forward_by_var_mean", forward_by_var_mean),
        Variant("forward_in_double", forward_in_double),
        Variant("forward_by_columns", forward_by_columns),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Over which axis must you average so that one number for each feature is left?",
        "Three lines: the mean; the mean of (x − mean)²; then normalize, scale, shift.",
        "(x - mean) / (var + eps).sqrt() * weight + bias, with both statistics over axis 0.",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- feature maps


def maps_cases(seed):
    """Ordinary maps, as many channels as columns, one picture, maps of one pixel, a large mean, float64."""
    rng = np.random.default_rng(seed)

    def case(name, shape, mean=0.5, spread=1.0, dtype=np.float32):
        c = shape[1]
        loud = np.linspace(0.5, 3.0, c).reshape(1, c, 1, 1)  # each channel of another size
        tilt = np.linspace(0, 1, shape[2] * shape[3]).reshape(1, 1, *shape[2:])  # and each place
        x = ((rng.normal(size=shape) + tilt + rng.normal(size=(shape[0], 1, 1, 1))) * loud * spread + mean).astype(
            dtype
        )
        weight, bias = rng.uniform(0.5, 2.0, c).astype(dtype), rng.normal(size=c).astype(dtype)
        return Case(name, {"x": x, "weight": weight, "bias": bias, "eps": 1e-5})

    yield case("8 pictures, 3 maps of 5 × 6", (8, 3, 5, 6))
    yield case("4 × 4 × 4 × 4", (4, 4, 4, 4))
    yield case("one picture", (1, 3, 5, 5))
    yield case("maps of one pixel", (8, 3, 1, 1))
    yield case("one map", (6, 1, 4, 4))
    yield case("mean 300, spread 1", (6, 3, 4, 4), mean=300.0)
    yield case("float64", (3, 2, 4, 3), dtype=np.float64)


def maps_probe(candidate, case):
    import torch

    x = torch.tensor(case["x"])
    y, mean, var = candidate(x, torch.tensor(case["weight"]), torch.tensor(case["bias"]), case["eps"])
    return {"output": y, "mean": mean, "variance": var}


def batch_norm_2d(x, weight, bias, eps):
    """(y, mean, var): x (N, C, H, W) normalized channel by channel; mean and biased var are (C,)."""
    mean = x.mean((0, 2, 3))
    centred = x - mean[:, None, None]
    var = centred.square().mean((0, 2, 3))
    y = centred / (var + eps).sqrt()[:, None, None] * weight[:, None, None] + bias[:, None, None]
    return y, mean, var


def each_pixel_by_itself(x, weight, bias, eps):
    mean, var = x.mean(0), x.var(0, correction=0)
    y = (x - mean) / (var + eps).sqrt() * weight[:, None, None] + bias[:, None, None]
    return y, mean, var


def each_picture_by_itself(x, weight, bias, eps):
    mean = x.mean((2, 3), keepdim=True)
    var = x.var((2, 3), correction=0, keepdim=True)
    y = (x - mean) / (var + eps).sqrt() * weight[:, None, None] + bias[:, None, None]
    return y, mean.mean((0, 2, 3)), var.mean((0, 2, 3))


def all_channels_together(x, weight, bias, eps):
    mean, var = x.mean(), x.var(correction=0)
    y = (x - mean) / (var + eps).sqrt() * weight[:, None, None] + bias[:, None, None]
    return y, mean.expand(x.shape[1]), var.expand(x.shape[1])


def channels_last_assumed(x, weight, bias, eps):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2), correction=0)
    return (x - mean) / (var + eps).sqrt() * weight + bias, mean, var


def weight_along_the_columns(x, weight, bias, eps):
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    y = (x - mean[:, None, None]) / (var + eps).sqrt()[:, None, None] * weight + bias
    return y, mean, var


def statistics_along_the_columns(x, weight, bias, eps):
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    return (x - mean) / (var + eps).sqrt() * weight + bias, mean, var


def reshaped_without_moving_the_channels(x, weight, bias, eps):
    rows = x.reshape(x.shape[1], -1)
    mean, var = rows.mean(1), rows.var(1, correction=0)
    rows = (rows - mean[:, None]) / (var + eps).sqrt()[:, None] * weight[:, None] + bias[:, None]
    return rows.reshape(x.shape), mean, var


def variance_of_the_maps_means(x, weight, bias, eps):
    means = x.mean((2, 3))
    mean, var = means.mean(0), means.var(0, correction=0)
    y = (x - mean[:, None, None]) / (var + eps).sqrt()[:, None, None] * weight[:, None, None] + bias[:, None, None]
    return y, mean, var


def mean_of_the_maps_variances(x, weight, bias, eps):
    mean, var = x.mean((0, 2, 3)), x.var((2, 3), correction=0).mean(0)
    y = (x - mean[:, None, None]) / (var + eps).sqrt()[:, None, None] * weight[:, None, None] + bias[:, None, None]
    return y, mean, var


def unbiased_over_the_maps(x, weight, bias, eps):
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    y = (x - mean[:, None, None]) / (var + eps).sqrt()[:, None, None] * weight[:, None, None] + bias[:, None, None]
    return y, mean, var


def deviation_returned(x, weight, bias, eps):
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    std = (var + eps).sqrt()
    y = (x - mean[:, None, None]) / std[:, None, None] * weight[:, None, None] + bias[:, None, None]
    return y, mean, std


def maps_as_rows(x, weight, bias, eps):
    n, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, c)  # (N·H·W, C): every pixel is an example
    mean = rows.mean(0)
    var = ((rows - mean) ** 2).mean(0)
    rows = (rows - mean) / torch.sqrt(var + eps) * weight + bias
    return rows.reshape(n, h, w, c).permute(0, 3, 1, 2), mean, var


def maps_with_keepdim(x, weight, bias, eps):
    axes = (0, 2, 3)
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(var + eps)
    return y * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1), mean.flatten(), var.flatten()


def maps_by_channel(x, weight, bias, eps):
    y, means, variances = torch.empty_like(x), [], []
    for c in range(x.shape[1]):
        channel = x[:, c].double()
        mean, var = channel.mean(), channel.var(correction=0)
        y[:, c] = ((channel - mean) / (var + eps).sqrt() * weight[c] + bias[c]).to(x.dtype)
        means.append(mean.to(x.dtype))
        variances.append(var.to(x.dtype))
    return y, torch.stack(means), torch.stack(variances)


maps = Exercise(
    id="batch_norm.maps",
    lesson="04_batch_norm",
    title="Batch norm of feature maps",
    answer="batch_norm_2d",
    criteria=(
        Criterion("output", 2, Close(operations=512)),
        Criterion("mean", 0.5, Close(operations=64), requires=("output",)),
        Criterion("variance", 0.5, Close(operations=512), requires=("output",)),
    ),
    cases=maps_cases,
    probe=maps_probe,
    reference=batch_norm_2d,
    misconceptions=(
        Misconception(
            "each_pixel_by_itself",
            each_pixel_by_itself,
            "You average over the batch alone, so each place of each map gets statistics of its own. A convolution "
            "uses one filter at all places; its map is one feature and needs one mean.",
            "Average over the places too: axes 0, 2 and 3.",
        ),
        Misconception(
            "each_picture_by_itself",
            each_picture_by_itself,
            "You normalize each map of each picture by itself, over axes 2 and 3. That is instance norm: it takes away "
            "how strongly this picture excites the filter.",
            "Average over the batch too: axes 0, 2 and 3.",
        ),
        Misconception(
            "all_channels_together",
            all_channels_together,
            "One mean and one variance serve for all channels. Each channel needs its own.",
            "Average over axes 0, 2 and 3, and leave axis 1.",
        ),
        Misconception(
            "channels_last_assumed",
            channels_last_assumed,
            "You keep the last axis. That is where Keras has its channels; here they are axis 1.",
            "Average over axes 0, 2 and 3, and give the (C,) results the shape (C, 1, 1).",
        ),
        Misconception(
            "weight_along_the_columns",
            weight_along_the_columns,
            "weight and bias, of shape (C,), broadcast along the last axis, the columns of a map. Where C is not W "
            "that raises; where it is, it is silently wrong.",
            "weight[:, None, None] has the shape (C, 1, 1).",
        ),
        Misconception(
            "statistics_along_the_columns",
            statistics_along_the_columns,
            "The statistics are right, but (C,) broadcasts along the last axis, the columns of a map. Where C is not W "
            "that raises; where it is, it is silently wrong.",
            "mean[:, None, None] has the shape (C, 1, 1); the same for variance, weight and bias.",
        ),
        Misconception(
            "reshaped_without_moving_the_channels",
            reshaped_without_moving_the_channels,
            "x.reshape(C, -1) does not bring the channels to the front: it cuts the numbers as they lie in memory, "
            "picture after picture.",
            "Name the axes, x.mean((0, 2, 3)), or move the channels first: x.transpose(0, 1).reshape(C, -1).",
        ),
        Misconception(
            "variance_of_the_maps_means",
            variance_of_the_maps_means,
            "You average each map first, and take the variance of those averages. What varies within the maps is lost.",
            "Take the variance over all three axes at once.",
        ),
        Misconception(
            "mean_of_the_maps_variances",
            mean_of_the_maps_variances,
            "You average the variances of the single maps. How the maps' means differ between pictures is lost.",
            "Take the variance over all three axes at once.",
        ),
        Misconception(
            "unbiased_over_the_maps",
            unbiased_over_the_maps,
            "You divide by N·H·W − 1 in the variance: x.var does so unless told otherwise.",
            "correction=0, or the mean of the squares.",
        ),
        Misconception(
            "deviation_returned",
            deviation_returned,
            "The output is right. What you return third is the standard deviation, asked is the variance, without eps.",
            "Return var itself.",
        ),
    ),
    variants=(
        Variant("maps_as_rows", maps_as_rows),
        Variant("maps_with_keepdim", maps_with_keepdim),
        Variant("maps_by_channel", maps_by_channel),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "One filter makes one map, at all places alike. What plays the part of “examples” for one channel?",
        "Average over the axes 0, 2 and 3: one number a channel is left.",
        "A (C,) tensor broadcasts along the last axis; [:, None, None] turns it into (C, 1, 1).",
    ),
    minutes=12,
)
