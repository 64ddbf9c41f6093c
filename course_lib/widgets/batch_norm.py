"""An interactive figure: what enters each layer's activation, with and without batch norm, while the weights are
scaled, shifted, and seen in smaller batches.

    NormFigure(images)          # sliders and figure; three fixed settings without a widget manager

Nothing is trained: the net has 8 ReLU layers with He's weights, times the scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.training import threads
from course_lib.widgets.interactive import Interactive, View, rows, slider
from course_lib.widgets.svg import Axis, Panel, drawing, heading, legend, text

__all__ = ["DEPTH", "NormFigure", "Spread", "measure_spread"]

DEPTH, WIDTH, IMAGES = 8, 64, 256
EPS = 1e-5
SCALES, SHIFTS, EXPONENTS = (0.1, 3.0), (-3.0, 3.0), (1, 8)
GOAL = 2.0  # the spread at the last layer over that at the first, at most, and at least its inverse
REACH, BINS = 5.0, 60

PLAIN, BATCH, RUNNING = COLOURS[1], COLOURS[0], COLOURS[2]
LOOKS = (
    ("without batch norm", PLAIN, "7 4"),
    ("with, by the batch", BATCH, ""),
    ("with, by running statistics", RUNNING, "2 3"),
)


@dataclass(frozen=True)
class Spread:
    """What enters the activations at one setting. Spreads are standard deviations over the batch and its units, layer
    by layer; `apart` is the root mean square of (by the batch − by running statistics) for the same examples.

    `values` holds the three distributions at `layer`: without, by the batch, by running statistics.
    """

    scale: float
    shift: float
    batch: int
    layer: int
    plain: tuple[float, ...]
    normed: tuple[float, ...]
    apart: tuple[float, ...]
    values: tuple[Tensor, Tensor, Tensor]


class _Net:
    """The layers and the images, ready to be sent through at any setting."""

    def __init__(self, images: Tensor, seed: int) -> None:
        x = rows(images)[:IMAGES].to(torch.float32)
        if len(x) < IMAGES:
            raise PlotError(f"The figure needs {IMAGES} images, not {len(x)}.")
        self.x = (x - x.mean()) / x.std().clamp(min=1e-6)
        generator = torch.Generator().manual_seed(seed)
        sizes = [self.x.shape[1]] + [WIDTH] * DEPTH
        self.weights = [
            torch.randn(n_in, n_out, generator=generator) * math.sqrt(2 / n_in) for n_in, n_out in pairwise(sizes)
        ]

    def measure(self, scale: float, shift: float, batch: int, layer: int) -> Spread:
        low, high = (2**k for k in EXPONENTS)
        if scale <= 0 or not low <= batch <= high or not 1 <= layer <= DEPTH:
            raise PlotError(f"Give a scale above 0, a batch of {low} to {high} and a layer of 1 to {DEPTH}.")
        with threads(1), torch.no_grad():
            return self._measure(scale, shift, batch, layer)

    def _measure(self, scale: float, shift: float, batch: int, layer: int) -> Spread:
        plain = by_batch = self.x[:batch]
        by_running = self.x  # all images: what the running statistics have seen
        spreads, shown = ([], [], []), None
        for k, weight in enumerate(self.weights, 1):
            plain, by_batch, by_running = (h @ (weight * scale) + shift for h in (plain, by_batch, by_running))
            by_batch, by_running = (
                (z - z.mean(0)) * (z.var(0, correction=0) + EPS).rsqrt() for z in (by_batch, by_running)
            )
            same = by_running[:batch]
            for found, value in zip(spreads, (spread(plain), spread(by_batch), rms(by_batch - same)), strict=True):
                found.append(value)
            if k == layer:
                shown = plain.flatten(), by_batch.flatten(), same.flatten()
            plain, by_batch, by_running = plain.relu(), by_batch.relu(), by_running.relu()
        return Spread(scale, shift, batch, layer, *map(tuple, spreads), shown)


def spread(z: Tensor) -> float:
    """Over everything in z, around the mean of each unit."""
    return float((z - z.mean(0)).square().mean().sqrt())


def rms(z: Tensor) -> float:
    return float(z.square().mean().sqrt())


def measure_spread(
    images: Tensor, *, scale: float = 1.0, shift: float = 0.0, batch: int = 32, layer: int = DEPTH, seed: int = 0
) -> Spread:
    """What enters the activations of 8 ReLU layers, with and without batch norm, for the first `batch` images.

    Every weight is He's times `scale`; `shift` is added to every pre-activation before batch norm. Raises PlotError for
    fewer than 256 images or a value out of range.
    """
    return _Net(images, seed).measure(scale, shift, batch, layer)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _shares(values: Tensor) -> list[float]:
    values = values[values.isfinite()]
    return (torch.histc(values, BINS, -REACH, REACH) / max(len(values), 1)).tolist()


def _histograms(s: Spread, left: float, top: float, width: float, height: float) -> str:
    """The three distributions at the layer looked at. The axes stay, whatever the setting: what moves is the signal."""
    highest = 0.25
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis(f"what enters the activation of layer {s.layer}", -REACH, REACH, {v: f"{v:g}" for v in (-4, -2, 0, 2, 4)}),
        Axis("share of values", 0.0, highest, {0.0: "0", 0.1: "10%", 0.2: "20%"}),
    )
    parts = [panel.frame()]
    for values, (_, colour, dash), fill in zip(s.values, LOOKS, (0.0, 0.25, 0.0), strict=True):
        parts.append(panel.histogram(_shares(values), colour, fill=fill, dash=dash))
    beyond = 1 - sum(_shares(s.values[0]))
    if beyond > 0.02:
        parts.append(text(left + 4, top - 4, f"{beyond:.0%} of the values without lie beyond", anchor="start", size=11))
    return "".join(parts)


def _by_layer(s: Spread, left: float, top: float, width: float, height: float) -> str:
    """The spread by layer, and how far an example's value depends on its batch."""
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis("layer", 0.5, DEPTH + 0.5, {k: str(k) for k in range(1, DEPTH + 1)}),
        Axis(
            "spread (standard deviation)",
            1e-3,
            1e3,
            {1e-3: "0.001", 1e-2: "0.01", 1e-1: "0.1", 1.0: "1", 1e1: "10", 1e2: "100", 1e3: "1000"},
            log=True,
        ),
    )
    layers = range(1, DEPTH + 1)
    return "".join(
        (
            panel.frame(strong=1.0, indent=44),
            panel.curve(layers, s.plain, PLAIN, dash="7 4", dots=True),
            panel.curve(layers, s.normed, BATCH, dots=True),
            panel.curve(layers, s.apart, RUNNING, dash="2 3", dots=True),
            text(left + 4, top - 4, "dotted: by the batch minus by running statistics", anchor="start", size=11),
        )
    )


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 1000 else f"{value:,.0f}"


def _sentence(s: Spread) -> str:
    return (
        f"Weights times {s.scale:g}, shift {s.shift:g}, a batch of {s.batch}: without batch norm the spread goes from "
        f"{_number(s.plain[0])} in layer 1 to {_number(s.plain[-1])} in layer {DEPTH}; with it from "
        f"{_number(s.normed[0])} to {_number(s.normed[-1])}, and an example's value in layer {DEPTH} differs by "
        f"{_number(s.apart[-1])} from that by running statistics."
    )


def _draw(s: Spread) -> str:
    body = legend(LOOKS, 60, 14, step=190) + _histograms(s, 60, 44, 330, 200) + _by_layer(s, 490, 44, 270, 200)
    return drawing(770, 290, body, _sentence(s))


def _on_goal(s: Spread) -> bool:
    return s.batch >= 32 and 1 / GOAL <= s.plain[-1] / max(s.plain[0], 1e-30) <= GOAL


def _goal(s: Spread, *, reached: bool) -> str:
    ask = (
        f"Your goal: without batch norm (orange), scale the weights so that in layer {DEPTH} the spread is still "
        f"within a factor of {GOAL:g} of that in layer 1, in a batch of at least 32."
    )
    if not reached:
        return ask
    return (
        f"{ask} ✓ Found, at a scale of {s.scale:g}. How far may you move from there, and how far if you look at the "
        f"blue curve? Then make the batch smaller and watch the green one."
    )


CAPTION = (
    "Digits, sent through 8 layers with random weights. Left: what enters the activation of the layer you chose. "
    "Right: its spread, layer by layer. Look at how the orange curve vanishes or explodes as soon as the scale leaves "
    "a narrow window, while the blue one stays at 1; and at the price: in a small batch an example's value by the "
    "batch's statistics is far from its value by the running ones (dotted)."
)


class NormFigure(Interactive):
    """The figure with its sliders; where no widget manager is, three settings below each other."""

    caption = CAPTION

    def __init__(self, images: Tensor, *, seed: int = 0) -> None:
        self.net = _Net(images, seed)

    def static(self) -> Figure:
        """The figure for readers: weights too small, as He has them, and a batch of two."""
        settings = [self.net.measure(*setting, 4) for setting in ((0.5, 0.0, 64), (1.0, 1.0, 64), (1.0, 0.0, 2))]
        body, row = legend(LOOKS, 60, 14, step=190), 300
        for index, s in enumerate(settings):
            top = 76 + row * index
            words = f"weights × {s.scale:g}, shift {s.shift:g}, a batch of {s.batch}"
            body += heading(60, top - 24, index, words)
            body += _histograms(s, 60, top, 330, 200) + _by_layer(s, 490, top, 270, 200)
        alt = "What enters the activations of 8 layers. " + " ".join(map(_sentence, settings))
        return Figure(drawing(770, 50 + row * len(settings), body, alt), alt, CAPTION)

    def controls(self) -> dict[str, object]:
        return {
            "scale": slider("Weights times", 0.5, *SCALES, 0.01, tip="He's initialization times this"),
            "shift": slider("Shift", 0.0, *SHIFTS, 0.1, tip="Added to every pre-activation", format=".1f"),
            "batch": slider("Batch of 2ᵏ, k", 6, *EXPONENTS, 1, tip="How many images share their statistics: 2 to 256"),
            "layer": slider("Layer shown left", 4, 1, DEPTH, 1),
        }

    def view(self, scale: float, shift: float, batch: int, layer: int) -> View:
        found = self.net.measure(scale, shift, 2**batch, layer)
        reached = _on_goal(found)
        return View(_draw(found), _goal(found, reached=reached), reached)
