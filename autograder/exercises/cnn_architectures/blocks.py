"""Two blocks that nets are built of: the depthwise separable convolution, and the residual block with a projection."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_lib import architectures
from course_lib import convolution as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "09_cnn_architectures"

# ---------------------------------------------------------------- depthwise separable


def separable_cases(seed):
    """Kernels of 3 and 5, stride 1 and 2, one map, more maps out than in and fewer, ±1e3, float64."""
    rng = np.random.default_rng(seed)

    def case(name, x, out, k=3, stride=1, dtype=np.float32, size=1.0):
        return Case(
            name,
            {
                "x": (size * rng.normal(0.3, 1.0, x)).astype(dtype),
                "depthwise": rng.normal(size=(x[1], 1, k, k)).astype(dtype),
                "pointwise": rng.normal(size=(out, x[1], 1, 1)).astype(dtype),
                "bias": rng.normal(size=out).astype(dtype),
                "stride": stride,
            },
        )

    yield case("4 maps to 6", (2, 4, 7, 6), 6)
    yield case("stride 2, an even side", (2, 4, 8, 8), 5, stride=2)
    yield case("kernel 5", (1, 3, 9, 9), 4, k=5)
    yield case("kernel 5, stride 2, an odd side", (2, 3, 9, 7), 2, k=5, stride=2)
    yield case("a single map", (2, 1, 6, 6), 3)
    yield case("values around ±1e3", (1, 4, 6, 6), 4, size=1e3)
    yield case("float64", (1, 3, 6, 6), 5, dtype=np.float64)


def separable_probe(candidate, case):
    import torch

    x, depthwise, pointwise, bias = (
        torch.tensor(case[name], requires_grad=True) for name in ("x", "depthwise", "pointwise", "bias")
    )
    y = candidate(x, depthwise, pointwise, bias, case["stride"])
    slope = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    gradient = torch.autograd.grad((y * slope).sum(), depthwise, allow_unused=True)[0]
    return {
        "output": y.clone(),
        "gradient of depthwise": torch.zeros_like(depthwise) if gradient is None else gradient,
    }


def separable_answer(x, depthwise, pointwise, bias, stride):
    return reference.depthwise_separable_conv2d(x, depthwise, pointwise, bias, stride, depthwise.shape[-1] // 2)


def relu_between(x, depthwise, pointwise, bias, stride):
    y = F.conv2d(x, depthwise, stride=stride, padding=depthwise.shape[-1] // 2, groups=x.shape[1])
    return F.conv2d(y.relu(), pointwise, bias)


def no_padding(x, depthwise, pointwise, bias, stride):
    return F.conv2d(F.conv2d(x, depthwise, stride=stride, groups=x.shape[1]), pointwise, bias)


def strides_twice(x, depthwise, pointwise, bias, stride):
    y = F.conv2d(x, depthwise, stride=stride, padding=depthwise.shape[-1] // 2, groups=x.shape[1])
    return F.conv2d(y, pointwise, bias, stride=stride)


def stride_left_out(x, depthwise, pointwise, bias, stride):
    y = F.conv2d(x, depthwise, padding=depthwise.shape[-1] // 2, groups=x.shape[1])
    return F.conv2d(y, pointwise, bias)


def one_kernel_for_all(x, depthwise, pointwise, bias, stride):
    kernel = depthwise[:1].expand_as(depthwise)
    y = F.conv2d(x, kernel, stride=stride, padding=depthwise.shape[-1] // 2, groups=x.shape[1])
    return F.conv2d(y, pointwise, bias)


def maps_summed_first(x, depthwise, pointwise, bias, stride):
    kernels = depthwise.expand(-1, x.shape[1], -1, -1)
    y = F.conv2d(x, kernels, stride=stride, padding=depthwise.shape[-1] // 2)
    return F.conv2d(y, pointwise, bias)


def bias_not_added(x, depthwise, pointwise, bias, stride):
    y = F.conv2d(x, depthwise, stride=stride, padding=depthwise.shape[-1] // 2, groups=x.shape[1])
    return F.conv2d(y, pointwise)


def groups_forgotten(x, depthwise, pointwise, bias, stride):
    return F.conv2d(F.conv2d(x, depthwise, stride=stride, padding=depthwise.shape[-1] // 2), pointwise, bias)


def separable_by_layers(x, depthwise, pointwise, bias, stride):
    maps, k = x.shape[1], depthwise.shape[-1]
    y = F.conv2d(x, depthwise, None, stride, k // 2, 1, maps)
    return torch.einsum("nchw,oc->nohw", y, pointwise[:, :, 0, 0]) + bias.view(-1, 1, 1)


def separable_as_one_kernel(x, depthwise, pointwise, bias, stride):
    kernel = pointwise * depthwise.transpose(0, 1)  # (out, C, 1, 1) · (1, C, k, k)
    return F.conv2d(x, kernel, bias, stride=stride, padding=depthwise.shape[-1] // 2)


def separable_map_by_map(x, depthwise, pointwise, bias, stride):
    pad = (depthwise.shape[-1] - 1) // 2
    maps = [F.conv2d(x[:, c : c + 1], depthwise[c : c + 1], stride=stride, padding=pad) for c in range(x.shape[1])]
    return F.conv2d(torch.cat(maps, dim=1), pointwise, bias=bias)


separable = Exercise(
    id="cnn_architectures.separable",
    lesson=LESSON,
    title="A depthwise separable convolution",
    answer="separable_conv2d",
    criteria=(
        Criterion("output", 2, Close(operations=512)),
        Criterion("gradient of depthwise", 0, Close(operations=1024)),
    ),
    cases=separable_cases,
    probe=separable_probe,
    reference=separable_answer,
    misconceptions=(
        Misconception(
            "relu_between",
            relu_between,
            "There is a ReLU between the two convolutions. Nets often put one there, but the separable convolution by "
            "itself has none: it stands for one convolution.",
            "Leave the activation to whoever calls it.",
        ),
        Misconception(
            "no_padding",
            no_padding,
            "Without padding the maps shrink by the kernel.",
            "padding = k // 2 in the first of the two.",
        ),
        Misconception(
            "strides_twice",
            strides_twice,
            "Both convolutions stride, so the maps shrink twice.",
            "The stride belongs to the first; the 1 × 1 convolution looks at every pixel that is left.",
        ),
        Misconception(
            "stride_left_out",
            stride_left_out,
            "`stride` is not used.",
            "Pass it to the first of the two.",
        ),
        Misconception(
            "one_kernel_for_all",
            one_kernel_for_all,
            "Every map is filtered with the first kernel.",
            "Map c has its own kernel, depthwise[c].",
        ),
        Misconception(
            "maps_summed_first",
            maps_summed_first,
            "Your first convolution adds all maps up: it filters their sum. Depthwise means that each map is filtered "
            "by itself.",
            "groups = the number of maps.",
        ),
        Misconception(
            "bias_not_added",
            bias_not_added,
            "The bias is missing.",
            "It comes with the second convolution.",
        ),
        Misconception(
            "groups_forgotten",
            groups_forgotten,
            "The first convolution stops with an error: a kernel of one map meets several.",
            "groups = the number of maps: each kernel then sees one.",
        ),
    ),
    variants=(
        Variant("separable_by_layers", separable_by_layers),
        Variant("separable_as_one_kernel", separable_as_one_kernel),
        Variant("separable_map_by_map", separable_map_by_map),
    ),
    forbidden=("course_lib.convolution",),
    hints=(
        "Two convolutions in a row: one that looks at the neighbourhood in each map, one that mixes the maps in each "
        "pixel.",
        "F.conv2d(..., groups=C) gives every map its own kernel.",
        "F.conv2d(F.conv2d(x, depthwise, stride=stride, padding=k // 2, groups=C), pointwise, bias).",
    ),
    minutes=8,
)

# ---------------------------------------------------------------- the residual block


def residual_cases(seed):
    """Equal shapes, more maps, a stride, both, fewer maps, an odd side; in training and in evaluation."""
    rng = np.random.default_rng(seed)

    def case(name, in_channels, out_channels, stride, side=6):
        return Case(
            name,
            {
                "in_channels": in_channels,
                "out_channels": out_channels,
                "stride": stride,
                "x": rng.normal(0.2, 1.0, (3, in_channels, side, side)).astype(np.float32),
                "values": rng.normal(size=4000).astype(np.float32),
            },
        )

    yield case("equal shapes", 4, 4, 1)
    yield case("more maps", 3, 5, 1)
    yield case("equal maps, stride 2", 4, 4, 2)
    yield case("more maps, stride 2", 3, 6, 2)
    yield case("fewer maps, an odd side", 5, 2, 2, side=7)
    yield case("a single map", 1, 1, 1)


def residual_probe(candidate, case):
    import torch

    block = candidate(case["in_channels"], case["out_channels"], case["stride"])
    names, values = [], torch.tensor(case["values"])
    with torch.no_grad():
        for name, tensor in sorted(block.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            names.append(f"{name} {tuple(tensor.shape)}")
            start = sum(map(ord, name)) % 100
            drawn = 0.4 * values[start : start + tensor.numel()].view_as(tensor)
            tensor.copy_(drawn.abs() + 0.5 if "var" in name else drawn)
    x = torch.tensor(case["x"], requires_grad=True)
    y = block.eval()(x)
    slope = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
    gradient = torch.autograd.grad((y * slope).sum(), x, allow_unused=True)[0]
    return {
        "parts": ", ".join(names),
        "output in evaluation": y.clone(),
        "gradient of x": torch.zeros_like(x) if gradient is None else gradient,
        "output in training": block.train()(x).clone(),
        "x as it was": x,
    }


class ResidualAnswer(nn.Module):
    """relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        whole = architectures.ResidualBlock(in_channels, out_channels, stride)
        self.conv1, self.norm1 = whole.branch.conv1, whole.branch.norm1
        self.conv2, self.norm2 = whole.branch.conv2, whole.branch.norm2
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(whole.shortcut.conv, whole.shortcut.norm)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class NoShortcut(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)))


class NoLastReLU(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(y)) + self.shortcut(x)


class ReLUBeforeTheSum(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y))) + self.shortcut(x)


class StrideInTheSecond(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class BiasesBeforeTheNorm(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ProjectedAlways(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ProjectedForMapsOnly(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class NoNormInTheShortcut(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class OneNormForBoth(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm1(self.conv2(y)) + self.shortcut(x))


class BlockByBranch(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        kernel = {"kernel_size": 3, "padding": 1, "bias": False}
        self.conv1 = nn.Conv2d(in_channels, out_channels, stride=stride, **kernel)
        self.conv2 = nn.Conv2d(out_channels, out_channels, **kernel)
        self.norm1, self.norm2 = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        projection = [nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)]
        self.shortcut = nn.Sequential() if same else nn.Sequential(*projection)

    def forward(self, x):
        branch = nn.Sequential(self.conv1, self.norm1, nn.ReLU(), self.conv2, self.norm2)
        return torch.relu(branch(x) + self.shortcut(x))


class BlockWithClamp(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.shortcut = nn.Identity()
        if (in_channels, 1) != (out_channels, stride):
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        side = self.shortcut(x)
        y = self.conv1(x)
        y = self.norm1(y).clamp(min=0)
        y = self.norm2(self.conv2(y))
        return (side + y).clamp(min=0)


class BlockWithNoShortcutModule(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, (3, 3), (stride, stride), (1, 1), bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, (3, 3), padding="same", bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = None
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        kept = x if self.shortcut is None else self.shortcut(x)
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(y + kept)


residual_block = Exercise(
    id="cnn_architectures.residual_block",
    lesson=LESSON,
    title="A residual block, with a projection where shapes differ",
    answer="ResidualBlock",
    criteria=(
        Criterion("parts", 1, requires=("output in evaluation",)),
        Criterion("output in evaluation", 2, Close(operations=1024)),
        Criterion("output in training", 1, Close(operations=2048), requires=("output in evaluation",)),
        Criterion("gradient of x", 0, Close(operations=2048)),
        Criterion("x as it was", 0),
    ),
    cases=residual_cases,
    probe=residual_probe,
    reference=ResidualAnswer,
    misconceptions=(
        Misconception(
            "no_shortcut",
            NoShortcut,
            "The shortcut is made and never added: this is a plain block of two convolutions.",
            "Add self.shortcut(x) before the last ReLU.",
        ),
        Misconception(
            "no_last_relu",
            NoLastReLU,
            "The ReLU behind the sum is missing.",
            "relu(branch + shortcut).",
        ),
        Misconception(
            "relu_before_the_sum",
            ReLUBeforeTheSum,
            "You bend the branch before the sum: it can then only add, never take away.",
            "Sum first, then ReLU.",
        ),
        Misconception(
            "stride_in_the_second",
            StrideInTheSecond,
            "The second convolution strides instead of the first. The shape is right, and the first convolution "
            "works at four times the pixels.",
            "Stride in conv1.",
        ),
        Misconception(
            "biases_before_the_norm",
            BiasesBeforeTheNorm,
            "Your convolutions have biases. The batch norm behind them takes the mean away, and the bias with it: they "
            "are parameters that do nothing.",
            "bias=False in every convolution that a batch norm follows.",
        ),
        Misconception(
            "projected_always",
            ProjectedAlways,
            "The shortcut is projected even where the shapes agree. Then it is no shortcut any more: the gradient "
            "passes through weights on every path.",
            "nn.Identity() where stride is 1 and the maps are as many.",
        ),
        Misconception(
            "projected_for_maps_only",
            ProjectedForMapsOnly,
            "Where the maps are as many and the stride is 2, the branch is half as large as your shortcut.",
            "Project where the number of maps or the size changes.",
        ),
        Misconception(
            "no_norm_in_the_shortcut",
            NoNormInTheShortcut,
            "The projection has no batch norm, so what it adds is of another size than the branch.",
            "nn.Sequential(conv, batch norm).",
        ),
        Misconception(
            "one_norm_for_both",
            OneNormForBoth,
            "norm1 is used twice: its averages mix two layers, and norm2 learns nothing.",
            "norm2 behind conv2.",
        ),
    ),
    variants=(
        Variant("block_by_branch", BlockByBranch),
        Variant("block_with_clamp", BlockWithClamp),
        Variant("block_with_no_shortcut_module", BlockWithNoShortcutModule),
    ),
    forbidden=("course_lib.architectures",),
    hints=(
        "Write the branch as five steps in a row: conv1, norm1, ReLU, conv2, norm2. Only then think of the sum.",
        "What has to be true of stride and maps for x to fit the branch's output as it is?",
        "Otherwise: nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), "
        "nn.BatchNorm2d(out_channels)).",
    ),
    minutes=15,
)
