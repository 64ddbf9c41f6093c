"""A new head on a pretrained net, and a dense layer as a convolution, so that images may have any size."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from course_lib.transfer import linear_to_conv

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- a new head


def head_cases(seed):
    """A head at the top and one inside, without a bias, float64, frozen trunks, and a layer after the head."""
    rng = np.random.default_rng(seed)

    def case(name, kind, classes, bias=True, dtype="float32", frozen=False):
        return Case(
            name,
            {
                "kind": kind,
                "classes": classes,
                "bias": bias,
                "dtype": dtype,
                "frozen": frozen,
                "old": int(rng.integers(9, 14)),
                "width": int(rng.integers(5, 9)),
            },
        )

    yield case("a head at the top level, 10 classes or so to 4", "top", 4)
    yield case("a head inside a classifier", "nested", 3)
    yield case("the head has no bias", "top", 5, bias=False)
    yield case("float64", "nested", 4, dtype="float64")
    yield case("everything was frozen before", "nested", 6, frozen=True)
    yield case("a softmax after the head", "softmax", 2)
    yield case("more classes than before", "top", 20)


def head_probe(candidate, case):
    from collections import OrderedDict

    import torch
    from torch import nn

    width = case["width"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trunk = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        head = nn.Linear(width, case["old"], bias=case["bias"])
        if case["kind"] == "nested":
            classifier = nn.Sequential(OrderedDict(flat=nn.Flatten(), out=head))
            model = nn.Sequential(OrderedDict(features=trunk, classifier=classifier))
        elif case["kind"] == "softmax":
            model = nn.Sequential(OrderedDict(features=trunk, fc=head, probabilities=nn.Softmax(-1)))
        else:
            model = nn.Sequential(OrderedDict(features=trunk, fc=head))
        model.to(getattr(torch, case["dtype"]))
        old = head.weight.detach().clone()
        kept = {name: value.clone() for name, value in trunk.state_dict().items()}
        for parameter in model.parameters():
            parameter.requires_grad_(not case["frozen"])
        torch.manual_seed(4)
        name = candidate(model, case["classes"])
        x = torch.ones(2, 6, dtype=getattr(torch, case["dtype"]))
        output = model(x)
        new = next(p for n, p in reversed(list(model.named_parameters())) if n.endswith("weight"))
    rows = min(len(old), len(new))
    copied = new.shape[1:] == old.shape[1:] and bool((new[:rows] == old[:rows]).all())
    return {
        "name": str(name),
        "logits": f"{tuple(output.shape)} {output.dtype}",
        "parameters": ", ".join(
            f"{n} {tuple(p.shape)} {'trains' if p.requires_grad else 'frozen'}" for n, p in model.named_parameters()
        ),
        "the head starts afresh": not copied,
        "the trunk as before": all(torch.equal(kept[n], value) for n, value in trunk.state_dict().items()),
    }


def replace_head(model, classes):
    """The name of the last nn.Linear, in whose place a fresh one with `classes` outputs now stands."""
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    like = {"device": old.weight.device, "dtype": old.weight.dtype}
    setattr(model.get_submodule(parent), last, nn.Linear(old.in_features, classes, bias=old.bias is not None, **like))
    return name


def number_changed(model, classes):
    name, head = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    head.out_features = classes
    return name


def put_on_top(model, classes):
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    more = nn.Linear(old.out_features, classes, dtype=old.weight.dtype)
    setattr(model.get_submodule(parent), last, nn.Sequential(old, more))
    return name


def rows_kept(model, classes):
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    new = nn.Linear(old.in_features, classes, bias=old.bias is not None, dtype=old.weight.dtype)
    with torch.no_grad():
        rows = min(classes, old.out_features)
        new.weight[:rows] = old.weight[:rows]
    setattr(model.get_submodule(parent), last, new)
    return name


def frozen_with_the_rest(model, classes):
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    new = nn.Linear(old.in_features, classes, bias=old.bias is not None, dtype=old.weight.dtype)
    setattr(model.get_submodule(parent), last, new)
    model.requires_grad_(False)
    return name


def flag_of_the_old_head(model, classes):
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    new = nn.Linear(old.in_features, classes, bias=old.bias is not None, dtype=old.weight.dtype)
    new.requires_grad_(old.weight.requires_grad)
    setattr(model.get_submodule(parent), last, new)
    return name


def bias_everywhere(model, classes):
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Linear(old.in_features, classes, dtype=old.weight.dtype))
    return name


def dtype_forgotten(model, classes):
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Linear(old.in_features, classes, bias=old.bias is not None))
    return name


def first_linear(model, classes):
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear))
    parent, _, last = name.rpartition(".")
    new = nn.Linear(old.in_features, classes, bias=old.bias is not None, dtype=old.weight.dtype)
    setattr(model.get_submodule(parent), last, new)
    return name


def last_child(model, classes):
    name, old = list(model.named_children())[-1]
    new = nn.Linear(old.in_features, classes, bias=old.bias is not None, dtype=old.weight.dtype)
    setattr(model, name, new)
    return name


def head_by_walk(model, classes):
    where = None

    def walk(module, path):
        nonlocal where
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                where = (module, name, [*path, name])
            walk(child, [*path, name])

    walk(model, [])
    parent, name, path = where
    old = getattr(parent, name)
    setattr(parent, name, nn.Linear(old.weight.shape[1], classes, bias=old.bias is not None).to(old.weight))
    return ".".join(path)


def head_in_place(model, classes):
    name, head = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    head.out_features = classes
    head.weight = nn.Parameter(torch.empty(classes, head.in_features, dtype=head.weight.dtype))
    if head.bias is not None:
        head.bias = nn.Parameter(torch.empty(classes, dtype=head.weight.dtype))
    head.reset_parameters()
    return name


def head_by_set_submodule(model, classes):
    import copy

    names = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    old = model.get_submodule(names[-1])
    new = copy.deepcopy(old).requires_grad_(True)
    new.__init__(old.in_features, classes, old.bias is not None, dtype=old.weight.dtype)
    model.set_submodule(names[-1], new)
    return names[-1]


head_exercise = Exercise(
    id="transfer_learning.replace_head",
    lesson="05_transfer_learning",
    title="A new head on a pretrained net",
    answer="replace_head",
    criteria=(
        Criterion("name", 0.5, requires=("parameters",)),
        Criterion("logits", 1, requires=("parameters",)),
        Criterion("parameters", 1),
        Criterion("the head starts afresh", 0.5, requires=("parameters",)),
        Criterion("the trunk as before", 0),
    ),
    cases=head_cases,
    probe=head_probe,
    reference=replace_head,
    misconceptions=(
        Misconception(
            "number_changed",
            number_changed,
            "You set `out_features`, which is only a label: the weights still have the old shape, and the net still "
            "gives "
            "the old classes.",
            "Make a new nn.Linear and put it in the old one's place.",
        ),
        Misconception(
            "put_on_top",
            put_on_top,
            "The new layer stands on top of the old head. The new classes then see only what the old classes' scores "
            "say.",
            "Put it in the place of the old head: it takes old.in_features.",
        ),
        Misconception(
            "rows_kept",
            rows_kept,
            "The new head starts with rows of the old one: your class 0 begins as the old net's class 0, which it has "
            "nothing to do with.",
            "Leave the new layer as nn.Linear draws it.",
        ),
        Misconception(
            "frozen_with_the_rest",
            frozen_with_the_rest,
            "Everything is frozen, the new head too: nothing is left to train. (d2l's fine-tuning exercise shipped "
            "this.)",
            "Leave the flags of the trunk as they are; the new layer trains by itself.",
        ),
        Misconception(
            "flag_of_the_old_head",
            flag_of_the_old_head,
            "In the case “{case}” the old head was frozen, and you freeze the new one like it. A head that starts at "
            "random has to train.",
            "Leave the new layer's requires_grad at True.",
        ),
        Misconception(
            "bias_everywhere",
            bias_everywhere,
            "In the case “{case}” the old head had no bias; yours has.",
            "bias=old.bias is not None.",
        ),
        Misconception(
            "dtype_forgotten",
            dtype_forgotten,
            "The new layer is float32 while the net is float64: its input no longer fits.",
            "Pass dtype=old.weight.dtype and device=old.weight.device.",
        ),
        Misconception(
            "first_linear",
            first_linear,
            "You replace the first linear layer that you find. That is the net's bottom, what was to be kept.",
            "The head is the last one.",
        ),
        Misconception(
            "last_child",
            last_child,
            "You replace the model's last child. In nets with a classifier part, or something after the head, that is "
            "no "
            "linear layer.",
            "Look through model.named_modules() for the last nn.Linear; model.get_submodule(path) finds its parent.",
        ),
    ),
    variants=(
        Variant("head_by_walk", head_by_walk),
        Variant("head_in_place", head_in_place),
        Variant("head_by_set_submodule", head_by_set_submodule),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "[(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)] lists them in "
        "order.",
        'The name "classifier.out" has a parent, "classifier": name.rpartition(".") splits it, '
        "model.get_submodule(parent) "
        "finds it.",
        "setattr(parent_module, last_part, nn.Linear(old.in_features, classes, bias=old.bias is not None, "
        "dtype=old.weight.dtype)); return the name.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- dense to convolution


def conv_cases(seed):
    """Square and oblong maps, one place, one channel, no bias, float64, larger images."""
    rng = np.random.default_rng(seed)

    def case(name, shape, out, larger, bias=True, dtype=np.float32):
        channels, height, width = shape
        return Case(
            name,
            {
                "channels": channels,
                "height": height,
                "width": width,
                "weight": rng.normal(size=(out, channels * height * width)).astype(dtype),
                "bias": rng.normal(size=out).astype(dtype) if bias else np.zeros(0, dtype),
                "x": rng.normal(size=(3, *shape)).astype(dtype),
                "large": rng.normal(size=(2, channels, *larger)).astype(dtype),
            },
        )

    yield case("4 maps of 3 × 3", (4, 3, 3), 5, (5, 6))
    yield case("maps that are not square", (3, 2, 4), 4, (3, 6))
    yield case("one channel", (1, 3, 2), 3, (4, 4))
    yield case("1 × 1: already a row of channels", (6, 1, 1), 4, (2, 3))
    yield case("without a bias", (2, 3, 3), 4, (4, 5), bias=False)
    yield case("float64", (3, 2, 2), 2, (3, 3), dtype=np.float64)


def conv_probe(candidate, case):
    import torch
    from torch import nn

    dtype = torch.tensor(case["weight"]).dtype
    linear = nn.Linear(case["weight"].shape[1], len(case["weight"]), bias=bool(case["bias"].size), dtype=dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(case["weight"]))
        if case["bias"].size:
            linear.bias.copy_(torch.tensor(case["bias"]))
    before = linear.weight.detach().clone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        conv = candidate(linear, (case["channels"], case["height"], case["width"]))
    with torch.no_grad():
        small, large = conv(torch.tensor(case["x"])), conv(torch.tensor(case["large"]))
    return {
        "the old size": small,
        "a larger size": large,
        "parameters": f"{sum(p.numel() for p in conv.parameters())} weights",
        "the linear layer as before": torch.equal(before, linear.weight),
    }


def height_and_width_exchanged(linear, shape):
    channels, height, width = shape
    conv = nn.Conv2d(channels, linear.out_features, (height, width), bias=linear.bias is not None).to(linear.weight)
    with torch.no_grad():
        kernel = linear.weight.reshape(-1, channels, width, height).transpose(2, 3)
        conv.weight.copy_(kernel)
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def channels_last(linear, shape):
    channels, height, width = shape
    conv = nn.Conv2d(channels, linear.out_features, (height, width), bias=linear.bias is not None).to(linear.weight)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, height, width, channels).permute(0, 3, 1, 2))
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def kernel_turned_round(linear, shape):
    channels, height, width = shape
    conv = nn.Conv2d(channels, linear.out_features, (height, width), bias=linear.bias is not None).to(linear.weight)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, channels, height, width).flip(2, 3))
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def padded(linear, shape):
    channels, height, width = shape
    like = {"bias": linear.bias is not None, "dtype": linear.weight.dtype}
    padding = (height // 2, width // 2)
    conv = nn.Conv2d(channels, linear.out_features, (height, width), padding=padding, **like)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, channels, height, width))
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def strided(linear, shape):
    channels, height, width = shape
    like = {"bias": linear.bias is not None, "dtype": linear.weight.dtype}
    conv = nn.Conv2d(channels, linear.out_features, (height, width), stride=(height, width), **like)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, channels, height, width))
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def one_by_one(linear, shape):
    channels, height, width = shape
    like = {"bias": linear.bias is not None, "dtype": linear.weight.dtype}
    conv = nn.Conv2d(channels, linear.out_features, 1, **like)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, channels, height, width).sum((2, 3), keepdim=True))
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def bias_lost(linear, shape):
    channels, height, width = shape
    conv = nn.Conv2d(channels, linear.out_features, (height, width), bias=False, dtype=linear.weight.dtype)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, channels, height, width))
    return conv


def weights_not_copied(linear, shape):
    channels, height, width = shape
    like = {"bias": linear.bias is not None, "dtype": linear.weight.dtype}
    return nn.Conv2d(channels, linear.out_features, (height, width), **like)


def conv_by_state(linear, shape):
    channels, height, width = shape
    conv = nn.Conv2d(channels, linear.out_features, (height, width), bias=linear.bias is not None)
    state = {name: value.clone() for name, value in linear.state_dict().items()}
    state["weight"] = state["weight"].view(-1, *shape)
    conv.load_state_dict(state, assign=True)
    return conv


def conv_by_units(linear, shape):
    conv = nn.Conv2d(shape[0], linear.out_features, shape[1:], bias=linear.bias is not None).to(linear.weight)
    for unit in range(linear.out_features):
        conv.weight.data[unit] = linear.weight.data[unit].unflatten(0, shape)
        if linear.bias is not None:
            conv.bias.data[unit] = linear.bias.data[unit]
    return conv


def conv_module_of_own(linear, shape):
    class Slide(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(linear.weight.detach().clone())
            self.bias = nn.Parameter(linear.bias.detach().clone()) if linear.bias is not None else None

        def forward(self, x):
            rows, columns = x.shape[2] - shape[1] + 1, x.shape[3] - shape[2] + 1
            places = torch.nn.functional.unfold(x, shape[1:])  # (N, C·h·w, places)
            y = self.weight @ places
            y = y if self.bias is None else y + self.bias[:, None]
            return y.unflatten(2, (rows, columns))

    return Slide()


conv_exercise = Exercise(
    id="transfer_learning.linear_to_conv",
    lesson="05_transfer_learning",
    title="A dense layer as a convolution",
    answer="linear_to_conv",
    criteria=(
        Criterion("the old size", 1, Close(operations=128, scale=4.0)),
        Criterion("a larger size", 1, Close(operations=128, scale=4.0), requires=("the old size",)),
        Criterion("parameters", 0),
        Criterion("the linear layer as before", 0),
    ),
    cases=conv_cases,
    probe=conv_probe,
    reference=linear_to_conv,
    misconceptions=(
        Misconception(
            "height_and_width_exchanged",
            height_and_width_exchanged,
            "Height and width are exchanged. With square maps it shows only in the numbers; in the case “{case}” the "
            "pixels meet the wrong weights.",
            "nn.Flatten lays out channels, then rows, then columns: weight.view(out, C, h, w).",
        ),
        Misconception(
            "channels_last",
            channels_last,
            "You read the row as height, width, channels. That is Keras's order; PyTorch's nn.Flatten puts channels "
            "first.",
            "weight.view(out, C, h, w).",
        ),
        Misconception(
            "kernel_turned_round",
            kernel_turned_round,
            "Your kernel is turned round by half a turn. What deep learning calls convolution does not flip its "
            "kernel.",
            "Leave the flip out.",
        ),
        Misconception(
            "padded",
            padded,
            "You pad the maps. At the old size there is one place where the whole kernel fits, so one answer; you get "
            "one "
            "for each pixel.",
            "No padding.",
        ),
        Misconception(
            "strided",
            strided,
            "The old size is right, but at a larger one your kernel jumps its own width: places in between are left "
            "out.",
            "Leave the stride at 1.",
        ),
        Misconception(
            "one_by_one",
            one_by_one,
            "A 1 × 1 kernel looks at one pixel. The dense layer has a weight of its own for each place.",
            "The kernel is as large as the maps that the dense layer was made for.",
        ),
        Misconception(
            "bias_lost",
            bias_lost,
            "The bias is lost.",
            "bias=linear.bias is not None, and copy it.",
        ),
        Misconception(
            "weights_not_copied",
            weights_not_copied,
            "The shapes are right, but the convolution has its own random weights.",
            "Copy linear.weight, in the kernel's shape, and linear.bias, under torch.no_grad().",
        ),
    ),
    variants=(
        Variant("conv_by_state", conv_by_state),
        Variant("conv_by_units", conv_by_units),
        Variant("conv_module_of_own", conv_module_of_own),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "The dense layer has a weight for each channel and place. Which kernel has as many?",
        "A kernel of the size of the maps fits exactly once, and then computes the same sum.",
        "conv = nn.Conv2d(C, linear.out_features, (h, w), bias=…); conv.weight.copy_(linear.weight.view(-1, C, h, w)) "
        "under "
        "torch.no_grad(), and the bias likewise; dtype as the linear layer's.",
    ),
    minutes=10,
)
