"""Batch, layer, instance and group norm: the same function over other axes."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

KINDS = ("batch", "layer", "instance", "group")


def norm_cases(seed):
    """Each kind on ordinary maps and on a cube of equal sides, one picture, groups of two sizes, float64."""
    rng = np.random.default_rng(seed)

    def case(name, kind, shape, groups, eps=1e-5, dtype=np.float32):
        n, c = shape[:2]
        loud = np.linspace(0.5, 2.0, c).reshape(1, c, 1, 1) * np.linspace(1.0, 2.0, n).reshape(n, 1, 1, 1)
        offset = rng.normal(size=(n, c, 1, 1))
        x = (rng.normal(size=shape) * loud + offset).astype(dtype)
        return Case(name, {"x": x, "kind": kind, "groups": groups, "eps": eps})

    for kind in KINDS:
        yield case(f"{kind}, 5 × 6 × 3 × 4, 2 groups", kind, (5, 6, 3, 4), 2)
        yield case(f"{kind}, 4 × 4 × 4 × 4, 2 groups, eps = 0.1", kind, (4, 4, 4, 4), 2, eps=0.1)
    yield case("group, 3 groups of 2", "group", (4, 6, 3, 3), 3)
    yield case("group, one picture", "group", (1, 8, 2, 3), 4)
    yield case("layer, float64", "layer", (2, 3, 2, 2), 3, dtype=np.float64)


def norm_probe(candidate, case):
    import torch

    x = torch.tensor(case["x"])
    y = candidate(x, case["kind"], case["groups"], case["eps"])
    return {case["kind"]: y}


def normalize(x, kind, groups, eps):
    """x (N, C, H, W) normalized by the norm of that kind, without scale and shift; same shape."""
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x  # (N, groups, C/groups, H, W)
    mean = z.mean(axes, keepdim=True)
    var = z.var(axes, correction=0, keepdim=True)
    return ((z - mean) / (var + eps).sqrt()).reshape(x.shape)


def layer_over_channels_only(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1,), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def layer_over_the_batch_too(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (0, 1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def batch_over_the_batch_axis_only(x, kind, groups, eps):
    axes = {"batch": (0,), "layer": (1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def instance_like_layer(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (1, 2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def layer_and_instance_exchanged(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (2, 3), "instance": (1, 2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def groups_interleaved(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (1, 3, 4)}[kind]
    z = x.unflatten(1, (-1, groups)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def channels_per_group(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (-1, groups)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def group_over_the_batch_too(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (0, 2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def group_within_each_channel(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape)


def unbiased_everywhere(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.var(axes, keepdim=True) + eps).sqrt()).reshape(x.shape)


def eps_after_the_root(x, kind, groups, eps):
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x
    return ((z - z.mean(axes, keepdim=True)) / (z.std(axes, correction=0, keepdim=True) + eps)).reshape(x.shape)


def norms_by_rows(x, kind, groups, eps):
    def rows(z):
        z = z.flatten(1)
        centred = z - z.mean(1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + eps)

    n, c, h, w = x.shape
    if kind == "batch":
        return rows(x.permute(1, 0, 2, 3)).view(c, n, h, w).permute(1, 0, 2, 3)
    groups = {"layer": 1, "instance": c, "group": groups}[kind]
    return rows(x.reshape(n * groups, c // groups, h, w)).view(n, c, h, w)


def norms_by_loop(x, kind, groups, eps):
    y = torch.empty_like(x)
    everyone, n, c = slice(None), range(x.shape[0]), range(x.shape[1])
    size = x.shape[1] // groups
    parts = {
        "batch": [(everyone, k) for k in c],
        "layer": [(i, everyone) for i in n],
        "instance": [(i, k) for i in n for k in c],
        "group": [(i, slice(g * size, (g + 1) * size)) for i in n for g in range(groups)],
    }[kind]
    for part in parts:
        z = x[part].double()
        y[part] = ((z - z.mean()) / (z.var(correction=0) + eps).sqrt()).to(x.dtype)
    return y


def norms_by_if(x, kind, groups, eps):
    shape = x.shape
    if kind == "group":
        x = x.reshape(shape[0], groups, shape[1] // groups, shape[2], shape[3])
        axes = (2, 3, 4)
    elif kind == "batch":
        axes = (0, 2, 3)
    elif kind == "layer":
        axes = (1, 2, 3)
    else:
        axes = (2, 3)
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return ((x - mean) / torch.sqrt(var + eps)).reshape(shape)


norms = Exercise(
    id="batch_norm.norms",
    lesson="04_batch_norm",
    title="Four norms, one function",
    answer="normalize",
    criteria=(
        Criterion("batch", 0.5, Close(operations=256)),
        Criterion("layer", 1, Close(operations=256)),
        Criterion("instance", 0.5, Close(operations=256)),
        Criterion("group", 1, Close(operations=256)),
    ),
    cases=norm_cases,
    probe=norm_probe,
    reference=normalize,
    misconceptions=(
        Misconception(
            "layer_over_channels_only",
            layer_over_channels_only,
            "Your layer norm averages over the channels alone, so each place of a picture is normalized by itself. "
            "That is what is done to words in a sentence; here layer norm takes all numbers of one example.",
            "Axes 1, 2 and 3.",
        ),
        Misconception(
            "layer_over_the_batch_too",
            layer_over_the_batch_too,
            "Your layer norm averages over the batch as well. The point of layer norm is that no example sees another.",
            "Leave axis 0 alone: 1, 2 and 3.",
        ),
        Misconception(
            "batch_over_the_batch_axis_only",
            batch_over_the_batch_axis_only,
            "Your batch norm averages over the batch axis alone, so each place of a map has its own statistics.",
            "Axes 0, 2 and 3: one channel, all pictures, all places.",
        ),
        Misconception(
            "instance_like_layer",
            instance_like_layer,
            "Your instance norm is layer norm: it averages over the channels too.",
            "One channel of one picture: axes 2 and 3.",
        ),
        Misconception(
            "layer_and_instance_exchanged",
            layer_and_instance_exchanged,
            "Layer norm and instance norm are exchanged.",
            "Layer: all of one example. Instance: one channel of one example.",
        ),
        Misconception(
            "groups_interleaved",
            groups_interleaved,
            "Your groups take every second channel (or every third). A group is made of neighbouring channels.",
            "(N, C, H, W) -> (N, groups, C/groups, H, W), then axes 2, 3 and 4.",
        ),
        Misconception(
            "channels_per_group",
            channels_per_group,
            "You read `groups` as the number of channels in a group. It is the number of groups.",
            "x.unflatten(1, (groups, -1)).",
        ),
        Misconception(
            "group_over_the_batch_too",
            group_over_the_batch_too,
            "Your group norm averages over the batch as well. Like layer norm it looks at one example at a time.",
            "After the reshape: axes 2, 3 and 4.",
        ),
        Misconception(
            "group_within_each_channel",
            group_within_each_channel,
            "Your group norm averages over the places only: each channel by itself, which is instance norm.",
            "After the reshape axis 2 holds the channels of a group: average over 2, 3 and 4.",
        ),
        Misconception(
            "unbiased_everywhere",
            unbiased_everywhere,
            "You divide by the number of values less one. All four norms use the mean of the squares.",
            "correction=0.",
        ),
        Misconception(
            "eps_after_the_root",
            eps_after_the_root,
            "eps is added after the root.",
            "(var + eps).sqrt().",
        ),
    ),
    variants=(
        Variant("norms_by_rows", norms_by_rows),
        Variant("norms_by_loop", norms_by_loop),
        Variant("norms_by_if", norms_by_if),
    ),
    forbidden=(
        "torch.nn.functional.batch_norm",
        "torch.nn.functional.layer_norm",
        "torch.nn.functional.instance_norm",
        "torch.nn.functional.group_norm",
        "torch.nn.LayerNorm",
        "torch.nn.GroupNorm",
        "torch.nn.InstanceNorm2d",
        "torch.nn.BatchNorm2d",
        "course_lib.normalization",
    ),
    hints=(
        "For each norm write down which numbers share one mean. Those are the axes to average over.",
        "batch (0, 2, 3), layer (1, 2, 3), instance (2, 3); keepdim=True keeps the result ready to subtract.",
        "Group: x.unflatten(1, (groups, -1)) has five axes; average over 2, 3 and 4, then reshape back.",
    ),
    minutes=12,
)
