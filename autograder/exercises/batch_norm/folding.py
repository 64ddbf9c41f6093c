"""Folding a batch norm in evaluation into the convolution before it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant


def fold_cases(seed):
    """With and without a bias, as many inputs as outputs, small variances, groups, 1 × 1, no scale and shift."""
    rng = np.random.default_rng(seed)

    def case(name, inputs=3, outputs=5, kernel=3, groups=1, bias=True, affine=True, eps=1e-5, var=1.0):
        return Case(
            name,
            {
                "x": rng.normal(size=(2, inputs, 6, 6)).astype(np.float32),
                "weight": rng.normal(size=(outputs, inputs // groups, kernel, kernel)).astype(np.float32),
                "bias": rng.normal(size=outputs).astype(np.float32),
                "mean": rng.normal(size=outputs).astype(np.float32),
                "var": (rng.uniform(0.3, 3.0, outputs) * var).astype(np.float32),
                "gamma": rng.uniform(0.5, 2.0, outputs).astype(np.float32),
                "beta": rng.normal(size=outputs).astype(np.float32),
                "groups": groups,
                "has_bias": bias,
                "affine": affine,
                "eps": eps,
            },
        )

    yield case("3 → 5 maps")
    yield case("4 → 4 maps", inputs=4, outputs=4)
    yield case("a conv without bias", bias=False)
    yield case("small variances, eps = 1e-2", var=1e-2, eps=1e-2)
    yield case("two groups, 4 → 6 maps", inputs=4, outputs=6, groups=2)
    yield case("1 × 1, a batch norm without weight and bias", kernel=1, affine=False)


def fold_probe(candidate, case):
    import torch
    from torch import nn

    x = torch.tensor(case["x"])
    outputs, per_group, kernel, _ = case["weight"].shape
    conv = nn.Conv2d(
        per_group * case["groups"], outputs, kernel, groups=case["groups"], padding=kernel // 2, bias=case["has_bias"]
    )
    norm = nn.BatchNorm2d(outputs, eps=case["eps"], affine=case["affine"])
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(case["weight"]))
        if case["has_bias"]:
            conv.bias.copy_(torch.tensor(case["bias"]))
        if case["affine"]:
            norm.weight.copy_(torch.tensor(case["gamma"]))
            norm.bias.copy_(torch.tensor(case["beta"]))
        norm.running_mean.copy_(torch.tensor(case["mean"]))
        norm.running_var.copy_(torch.tensor(case["var"]))
    conv.eval(), norm.eval()
    before = [tensor.clone() for module in (conv, norm) for tensor in module.state_dict().values()]
    folded = candidate(conv, norm)
    if not isinstance(folded, nn.Conv2d):
        raise TypeError(f"{type(folded).__name__} was returned where one nn.Conv2d is expected")
    facts = {"both layers left as they were": folded is not conv}
    with torch.no_grad():
        facts["output"] = folded(x)
    after = [tensor for module in (conv, norm) for tensor in module.state_dict().values()]
    facts["both layers left as they were"] &= all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return facts


def fold(conv, norm):
    """A new nn.Conv2d that gives what norm(conv(x)) gives in evaluation."""
    scale = 1 / (norm.running_var + norm.eps).sqrt()
    shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    if norm.affine:
        scale = scale * norm.weight
    folded = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    with torch.no_grad():
        folded.weight.copy_(conv.weight * scale[:, None, None, None])
        folded.bias.copy_(shift * scale + (norm.bias if norm.affine else 0))
    return folded


def conv_bias_not_scaled(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter(bias - norm.running_mean * scale + beta)
    return folded


def conv_bias_forgotten(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter(beta - norm.running_mean * scale)
    return folded


def mean_not_scaled(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter(bias * scale - norm.running_mean + beta)
    return folded


def mean_forgotten(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter(bias * scale + beta)
    return folded


def beta_scaled_too(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter((bias - norm.running_mean + beta) * scale)
    return folded


def eps_left_out(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / norm.running_var.sqrt()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter((bias - norm.running_mean) * scale + beta)
    return folded


def variance_for_deviation(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps)
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter((bias - norm.running_mean) * scale + beta)
    return folded


def gamma_and_beta_forgotten(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter((bias - norm.running_mean) * scale)
    return folded


def scaled_along_the_inputs(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    beta = torch.zeros(conv.out_channels)
    if norm.affine:
        scale, beta = scale * norm.weight, norm.bias
    folded.weight = nn.Parameter(conv.weight * scale[None, :, None, None])
    folded.bias = nn.Parameter((bias - norm.running_mean) * scale + beta)
    return folded


def only_the_weights(conv, norm):
    import copy

    folded, scale = copy.deepcopy(conv), 1 / (norm.running_var + norm.eps).sqrt()
    if norm.affine:
        scale = scale * norm.weight
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    return folded


def changed_in_place(conv, norm):
    with torch.no_grad():
        scale = 1 / (norm.running_var + norm.eps).sqrt()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
        beta = torch.zeros(conv.out_channels)
        if norm.affine:
            scale, beta = scale * norm.weight, norm.bias
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias = nn.Parameter((bias - norm.running_mean) * scale + beta)
    return conv


def fold_by_probing(conv, norm):
    import copy

    folded = copy.deepcopy(conv)
    with torch.no_grad():  # batch norm in evaluation is a straight line: two points tell it
        zero = norm(torch.zeros(1, conv.out_channels, 1, 1)).flatten()
        slope = norm(torch.ones(1, conv.out_channels, 1, 1)).flatten() - zero
        folded.weight = nn.Parameter(conv.weight * slope.view(-1, 1, 1, 1))
        bias = 0 if conv.bias is None else conv.bias
        folded.bias = nn.Parameter(zero + slope * bias)
    return folded


def fold_by_matrix(conv, norm):
    import copy

    n = conv.out_channels
    gamma = norm.weight if norm.weight is not None else torch.ones(n)
    beta = norm.bias if norm.bias is not None else torch.zeros(n)
    diagonal = torch.diag(gamma / torch.sqrt(norm.running_var + norm.eps))
    bias = conv.bias if conv.bias is not None else torch.zeros(n)
    folded = copy.deepcopy(conv)
    folded.weight = nn.Parameter((diagonal @ conv.weight.flatten(1)).view_as(conv.weight).detach())
    folded.bias = nn.Parameter((diagonal @ (bias - norm.running_mean) + beta).detach())
    return folded


def fold_in_double(conv, norm):
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if conv.bias is not None:
        shift = shift + conv.bias.detach().double() * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    made = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, groups=conv.groups, bias=True
    )
    made.load_state_dict(
        {"weight": torch.einsum("o...,o->o...", conv.weight.double(), scale).float(), "bias": shift.float()}
    )
    return made


folding = Exercise(
    id="batch_norm.fold",
    lesson="04_batch_norm",
    title="Fold a batch norm into the convolution before it",
    answer="fold",
    criteria=(
        Criterion("output", 3, Close(operations=84)),  # 84 roundings of float32: 1e-5
        Criterion("both layers left as they were", 0),
    ),
    cases=fold_cases,
    probe=fold_probe,
    reference=fold,
    misconceptions=(
        Misconception(
            "conv_bias_not_scaled",
            conv_bias_not_scaled,
            "The conv's own bias is added as it is. It passes through the batch norm as well, so it is scaled too.",
            "(conv.bias − running_mean) · scale + norm.bias.",
        ),
        Misconception(
            "conv_bias_forgotten",
            conv_bias_forgotten,
            "The conv's own bias is lost.",
            "(conv.bias − running_mean) · scale + norm.bias, where it has one.",
        ),
        Misconception(
            "mean_not_scaled",
            mean_not_scaled,
            "The running mean is subtracted unscaled. It is subtracted before the division.",
            "(conv.bias − running_mean) · scale + norm.bias.",
        ),
        Misconception(
            "mean_forgotten",
            mean_forgotten,
            "The running mean is missing.",
            "Write norm(z) = (z − mean) · scale + norm.bias and put z = W x + b in.",
        ),
        Misconception(
            "beta_scaled_too",
            beta_scaled_too,
            "norm.bias is scaled too. It is added last.",
            "(conv.bias − running_mean) · scale + norm.bias.",
        ),
        Misconception(
            "eps_left_out",
            eps_left_out,
            "norm.eps is missing. In the case “{case}” it is as large as the variances.",
            "(running_var + norm.eps).sqrt().",
        ),
        Misconception(
            "variance_for_deviation",
            variance_for_deviation,
            "You divide by the variance instead of by its root.",
            "(running_var + norm.eps).sqrt().",
        ),
        Misconception(
            "gamma_and_beta_forgotten",
            gamma_and_beta_forgotten,
            "The batch norm's own weight and bias, γ and β, are missing.",
            "scale = norm.weight / (running_var + eps).sqrt(); add norm.bias at the end.",
        ),
        Misconception(
            "scaled_along_the_inputs",
            scaled_along_the_inputs,
            "You scale along axis 1 of the filters, the inputs. Where both are equally many nothing complains.",
            "One factor an output channel, which is axis 0: scale[:, None, None, None].",
        ),
        Misconception(
            "only_the_weights",
            only_the_weights,
            "Only the weights are folded. What batch norm subtracts and adds has to go into the bias.",
            "bias = (conv.bias − running_mean) · scale + norm.bias.",
        ),
        Misconception(
            "changed_in_place",
            changed_in_place,
            "The output is right, but you changed the conv that was handed in: the original net now normalizes twice.",
            "Work on a new layer: copy.deepcopy(conv).",
        ),
    ),
    variants=(
        Variant("fold_by_probing", fold_by_probing),
        Variant("fold_by_matrix", fold_by_matrix),
        Variant("fold_in_double", fold_in_double),
    ),
    forbidden=(
        "torch.nn.utils.fusion.fuse_conv_bn_eval",
        "torch.nn.utils.fuse_conv_bn_eval",
        "course_lib.normalization",
    ),
    hints=(
        "In evaluation batch norm is (z − mean) · scale + bias, with constants. What does that make of z = W x + b?",
        "scale = norm.weight / (running_var + eps).sqrt(), one number an output channel, axis 0 of the filters.",
        "New weight: W · scale[:, None, None, None]. New bias: (b − mean) · scale + norm.bias. b may be None.",
    ),
    minutes=15,
)
