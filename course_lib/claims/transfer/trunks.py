"""What the transfer claims share: target sets seen through the pretrained net, heads, and fine-tuning from any depth.

The frozen part of a net gives the same activations for an image whatever is trained above it, so they are computed once
for each image and kept as float32; a policy then pays only for what it trains.
"""

import copy
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import pretrained
from course_lib.datasets import load
from course_lib.pretrained import preprocess
from course_lib.transfer import Standardize

__all__ = ["Target", "conv_net", "fine_tune", "fit_head", "percent_wrong", "pretrained_net", "train_scratch", "upper"]

PIXELS = 48
POOL = 1500  # training images to draw from: the first ones, which mix the classes
TESTED = 200  # test images of each set: the first ones, which mix the classes
BATCH = 16
IMAGES, STEM = -2, -1  # depths before the first block: the images themselves, the stem's output
LAST = 15


@functools.cache
def pretrained_net() -> nn.Module:
    """The net, read once; whoever trains takes copies of its parts."""
    return pretrained.load().requires_grad_(False)


class Target:
    """A data set through the frozen net: outputs of the blocks asked for, and pooled features, of every image."""

    def __init__(self, name: str, *, depths: Sequence[int] = (4, 10, 14), pixels: int = PIXELS, tested: int = TESTED):
        data = load(name)
        self.name, self.classes, self.pixels = name, len(data.classes), pixels
        self.data = data
        chosen = {
            "train": data.split.train[:POOL],
            "valid": data.split.valid[:tested],
            "test": data.split.test[:tested],
        }
        self.images = {part: torch.tensor(data.images[index]) for part, index in chosen.items()}
        self.labels = {part: torch.tensor(data.labels[index]) for part, index in chosen.items()}
        started = time.process_time()
        seen = {part: see(images, depths, pixels) for part, images in self.images.items()}
        self.seconds_per_image = (time.process_time() - started) / sum(len(y) for y in self.labels.values())
        self.maps = {depth: {part: outputs[depth] for part, outputs in seen.items()} for depth in depths}
        self.features = {part: outputs["features"] for part, outputs in seen.items()}

    def draw(self, per_class: int, seed: int) -> Tensor:
        """Rows of the training part: `per_class` of each class, drawn by seed; one seed's draws are nested."""
        order = torch.randperm(len(self.labels["train"]), generator=torch.Generator().manual_seed(1000 + seed))
        labels = self.labels["train"][order]
        rows = [order[labels == label][:per_class] for label in range(self.classes)]
        return torch.cat(rows)

    def at(self, depth: int, part: str) -> Tensor:
        """What a trunk from `depth` on takes: images (uint8) or the output of the block at that depth."""
        return self.images[part] if depth == IMAGES else self.maps[depth][part]


@torch.no_grad()
def see(images: Tensor, depths: Sequence[int], pixels: int) -> dict:
    """The outputs of the blocks at `depths` and the pooled features (N, 1280), by the frozen net."""
    net = pretrained_net()
    found: dict = {depth: [] for depth in depths} | {"features": []}
    for batch in images.split(64):
        x = net.stem(preprocess(batch, pixels))
        for i, block in enumerate(net.blocks):
            x = block(x)
            if i in depths:
                found[i].append(x)
        found["features"].append(net.top(x).mean((2, 3)))
    return {key: torch.cat(parts) for key, parts in found.items()}


def places(maps: Tensor, size: int = 3) -> Tensor:
    """Feature maps as rows that still know places: averaged to size × size, flattened."""
    return F.adaptive_avg_pool2d(maps, size).flatten(1)


def fit_head(x: Tensor, y: Tensor, classes: int, *, decay: float = 1e-3, iterations: int = 40) -> nn.Sequential:
    """Standardized features and a linear layer, fitted by L-BFGS to the cross-entropy plus decay/2 · |W|²."""
    scale = Standardize(x)
    z, head = scale(x), nn.Linear(x.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(head(z), y) + decay / 2 * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return nn.Sequential(scale, head)


@dataclass(frozen=True)
class Schedule:
    """How a part of the net is trained on: rates, steps, and whether the rate falls with the depth."""

    trunk_lr: float = 3e-4
    head_lr: float = 1e-3
    steps: int = 60
    batch: int = BATCH


class Upper(nn.Module):
    """The pretrained net above `depth`, batch norms in inference, and a head on its pooled features."""

    def __init__(self, depth: int, head: nn.Module, pixels: int):
        super().__init__()
        net = pretrained_net()
        self.depth, self.pixels = depth, pixels
        lower = [net.stem] if depth < STEM else []
        self.body = copy.deepcopy(nn.Sequential(*lower, *net.blocks[max(depth + 1, 0) :], net.top))
        self.body.requires_grad_(True)
        self.head = head
        self.eval()  # the batch norms stay in inference while their scales and shifts train

    def forward(self, x: Tensor) -> Tensor:
        if self.depth == IMAGES:
            x = preprocess(x, self.pixels)
        return self.head(self.body(x).mean((2, 3)))


def upper(depth: int, head: nn.Module, pixels: int = PIXELS) -> Upper:
    """A trainable copy of the net above a block (14: the last block and the top; −2: all of it) with a copied head."""
    return Upper(depth, copy.deepcopy(head), pixels)


def fine_tune(model: Upper, x: Tensor, y: Tensor, seed: int, how: Schedule) -> None:
    """AdamW on the head and on what lies above the model's depth; the rate rises for a sixth of the steps, then falls.

    Adam's first steps have full size whatever the gradient: without the rise they alone can spoil a trunk.
    """
    groups = [{"params": list(model.body.parameters()), "lr": how.trunk_lr}]
    head = [p for p in model.head.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([*groups, {"params": head, "lr": how.head_lr}], weight_decay=1e-3, fused=True)
    rise = max(how.steps // 6, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (how.steps - step) / (how.steps - rise + 1))
    )
    for rows in batches(len(y), how.batch, how.steps, seed):
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def batches(n: int, size: int, steps: int, seed: int):
    """`steps` batches of rows: shuffled passes over n examples, one after another."""
    generator = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(queue) < min(size, n):
            queue = torch.cat([queue, torch.randperm(n, generator=generator)])
        rows, queue = queue[:size], queue[size:]
        yield rows


@torch.no_grad()
def percent_wrong(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of wrong answers in per cent."""
    wrong = sum(int((model(a).argmax(-1) != b).sum()) for a, b in zip(x.split(100), y.split(100), strict=True))
    return 100 * wrong / len(y)


def conv_net(channels: int, classes: int, *, widths: Sequence[int] = (16, 32, 64)) -> nn.Sequential:
    """A small conv net with batch norm: (N, channels, 32, 32) → (N, classes). Random weights: seed before."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (32 >> len(widths)) ** 2, classes))


def small(images: Tensor) -> Tensor:
    """uint8 images as (N, C, 32, 32) around 0: what the small conv net takes."""
    x = images[:, None].float() if images.ndim == 3 else images.permute(0, 3, 1, 2).float()
    x = x if x.shape[-1] == 32 else F.interpolate(x, (32, 32), mode="bilinear", antialias=True)
    return (x - 127) / 128


def train_scratch(x: Tensor, y: Tensor, classes: int, seed: int, *, lr: float, steps: int, batch: int = 32):
    """The small conv net on images (N, C, 32, 32), from random weights; in evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = conv_net(x.shape[1], classes)
    train_net(net, x, y, seed, lr=lr, steps=steps, batch=batch)
    return net


def train_net(net: nn.Module, x: Tensor, y: Tensor, seed: int, *, lr: float, steps: int, batch: int = 32) -> None:
    """AdamW on the net's parameters that train, the rate falling to 0; the net is left in evaluation."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for rows in batches(len(y), batch, steps, seed):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
