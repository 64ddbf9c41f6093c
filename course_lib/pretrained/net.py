"""EfficientNet-Lite0 in PyTorch: the net whose weights come with the course, written to be read.

It is a stem, sixteen inverted residual blocks, one more convolution and a classifier. A block widens its input by a
1 x 1 convolution, looks around in each channel alone (depthwise convolution), and projects back to few channels; where
shapes agree, the input is added. "Lite" means: ReLU6 instead of swish, no squeeze-and-excitation. Tan & Le 2019
(EfficientNet), Sandler et al. 2018 (the block).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BLOCKS", "BlockPlan", "ConvBN", "EfficientNetLite0", "InvertedResidual", "same_padding"]

EPS = 1e-3  # of every batch norm; TensorFlow's habit, PyTorch's own is 1e-5
MOMENTUM = 0.01  # the share of the new batch; TensorFlow calls the same rule 0.99
STEM, TOP = 32, 1280  # channels after the stem, and of the features that the classifier sees


@dataclass(frozen=True)
class BlockPlan:
    """One inverted residual block: channels in and out, size of the depthwise kernel, its stride, the widening."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    expand: int

    @property
    def shortcut(self) -> bool:
        return self.stride == 1 and self.in_channels == self.out_channels


def _plans() -> tuple[BlockPlan, ...]:
    plans, channels = [], STEM
    for repeats, out_channels, kernel_size, stride, expand in (
        (1, 16, 3, 1, 1),
        (2, 24, 3, 2, 6),
        (2, 40, 5, 2, 6),
        (3, 80, 3, 2, 6),
        (3, 112, 5, 1, 6),
        (4, 192, 5, 2, 6),
        (1, 320, 3, 1, 6),
    ):
        for i in range(repeats):
            plans.append(BlockPlan(channels, out_channels, kernel_size, stride if i == 0 else 1, expand))
            channels = out_channels
    return tuple(plans)


BLOCKS = _plans()


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size`, as TensorFlow's "same" lays them: the output has ⌈size/stride⌉.

    total = max((⌈size/stride⌉ − 1)·stride + kernel_size − size, 0), the smaller half before. With stride 2 and an even
    size the halves differ, and PyTorch's one number per axis cannot say so.
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


class ConvBN(nn.Module):
    """Convolution with "same" padding, batch norm, ReLU6 unless `relu6=False`: (N, C, H, W) → (N, C', ⌈H/s⌉, ⌈W/s⌉)."""

    def __init__(self, in_channels, out_channels, kernel_size, *, stride=1, groups=1, relu6=True):
        super().__init__()
        padding = kernel_size // 2 if stride == 1 else 0  # stride 1: both halves are equal; else see forward
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=padding, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=EPS, momentum=MOMENTUM)
        self.relu6 = relu6

    def forward(self, x: Tensor) -> Tensor:
        (size, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        if stride > 1:
            x = F.pad(x, (*same_padding(x.shape[-1], size, stride), *same_padding(x.shape[-2], size, stride)))
        x = self.bn(self.conv(x))
        return F.relu6(x, inplace=True) if self.relu6 else x


class InvertedResidual(nn.Module):
    """Widen, look around, project; plus the input where shapes agree: (N, in, H, W) → (N, out, ⌈H/s⌉, ⌈W/s⌉)."""

    def __init__(self, plan: BlockPlan):
        super().__init__()
        self.plan = plan
        width = plan.in_channels * plan.expand
        self.expand = ConvBN(plan.in_channels, width, 1) if plan.expand > 1 else nn.Identity()
        self.depthwise = ConvBN(width, width, plan.kernel_size, stride=plan.stride, groups=width)
        self.project = ConvBN(width, plan.out_channels, 1, relu6=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return y + x if self.plan.shortcut else y


class EfficientNetLite0(nn.Module):
    """x (N, 3, H, W), as `preprocess` gives it, → logits (N, num_classes). Any H, W from 32 on.

    `EfficientNetLite0()` has random weights; `course_lib.pretrained.load()` has the trained ones. The published net
    has dropout of 0.2 before the classifier; give `dropout` where you train on.
    """

    def __init__(self, num_classes: int = 1000, *, dropout: float = 0.0):
        super().__init__()
        self.stem = ConvBN(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(plan) for plan in BLOCKS)
        self.top = ConvBN(BLOCKS[-1].out_channels, TOP, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(TOP, num_classes)

    def feature_maps(self, x: Tensor) -> Tensor:
        """What the net has seen before it averages over places: (N, 3, H, W) → (N, 1280, ⌈H/32⌉, ⌈W/32⌉)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.top(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.feature_maps(x).mean((2, 3))))
