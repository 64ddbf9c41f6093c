"""An interactive figure: an activation, its slope, and what a layer of real data becomes when it goes through it.

LayerFigure(images)                             # sliders and figure; three fixed settings without a widget manager
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.activations import ACTIVATIONS
from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.training import threads
from course_lib.widgets.interactive import Interactive, View, choice, rows, slider
from course_lib.widgets.svg import Axis, Panel, drawing, legend, text

__all__ = ["NAMES", "Layer", "LayerFigure"]

NAMES = {
    "ReLU": "relu",
    "leaky ReLU": "leaky_relu",
    "ELU": "elu",
    "GELU": "gelu",
    "SiLU": "silu",
    "tanh": "tanh",
    "logistic": "sigmoid",
}
WITH_ALPHA = ("relu", "leaky_relu", "elu")  # ReLU is the leaky one with α = 0
IMAGES, UNITS = 300, 150
BIAS_MAX = 6.0
GOAL, GOAL_WITHIN = 1 / 3, 0.01

VALUE, SLOPE, BEFORE = COLOURS[0], COLOURS[1], COLOURS[2]
LOOKS = (("f(z)", VALUE, ""), ("its slope", SLOPE, "7 4"), ("z, before", BEFORE, "2 3"))
BINS, LOW, HIGH = 48, -6.0, 6.0


@dataclass(frozen=True)
class Layer:
    """What a layer gives through an activation: its outputs' mean, how much of it is constant, and who is silent.

    `constant`: Σ of the units' squared means over Σ of their mean squares. `silent`: the share of units whose slope
    is exactly 0 on every image, which no gradient can move. `before`, `after`: shares of z and f(z) in equal bins.
    """

    name: str
    alpha: float
    bias: float
    mean: float
    constant: float
    silent: float
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def label(self) -> str:
        words = next(words for words, name in NAMES.items() if name == self.name)
        return f"{words}, α = {self.alpha:g}" if self.name in WITH_ALPHA[1:] else words


def _options(name: str, alpha: float) -> tuple[float, ...]:
    return (alpha,) if name in WITH_ALPHA[1:] else ()


def _shares(values: Tensor) -> tuple[float, ...]:
    counts = torch.histc(values.clamp(LOW, HIGH), bins=BINS, min=LOW, max=HIGH)
    return tuple((counts / values.numel()).tolist())


class _Probe:
    """A layer of random weights (He et al. 2015) on standardized images, ready to be measured with any bias."""

    def __init__(self, images: Tensor, seed: int = 0) -> None:
        x = rows(images)[:IMAGES].to(torch.float32)
        if len(x) < 2:
            raise PlotError("The figure needs at least two images.")
        x = (x - x.mean()) / x.std().clamp(min=1e-6)
        weight = torch.randn(x.shape[1], UNITS, generator=torch.Generator().manual_seed(seed)) * (2 / x.shape[1]) ** 0.5
        self.z = x @ weight

    @torch.no_grad()
    def measure(self, name: str, alpha: float, bias: float) -> Layer:
        if name not in ACTIVATIONS:
            raise PlotError(f"There is no activation {name!r}: there are {', '.join(NAMES.values())}.")
        activation, options = ACTIVATIONS[name], _options(name, alpha)
        with threads(1):
            z = self.z + bias
            h = activation.value(z, *options)
            silent = (activation.derivative(z, *options) == 0).all(0)
            constant = h.mean(0).square().sum() / h.square().mean(0).sum().clamp(min=1e-30)
            return Layer(
                name,
                alpha,
                bias,
                float(h.mean()),
                float(constant),
                float(silent.double().mean()),
                _shares(z),
                _shares(h),
            )


def _curves(layer: Layer, left: float, top: float, width: float, height: float) -> str:
    """The activation and its slope over z, each in its own colour and line."""
    z = torch.linspace(-4, 4, 161)
    activation, options = ACTIVATIONS[layer.name], _options(layer.name, layer.alpha)
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis("pre-activation z", -4, 4, {k: str(k) for k in (-4, -2, 0, 2, 4)}),
        Axis("f(z), and its slope", -3, 4, {k: str(k) for k in range(-3, 5)}),
    )
    return "".join(
        (
            panel.frame(strong=0, indent=28),
            panel.curve(z.tolist(), activation.value(z, *options).tolist(), VALUE),
            panel.curve(z.tolist(), activation.derivative(z, *options).tolist(), SLOPE, dash="7 4"),
        )
    )


def _distributions(layer: Layer, left: float, top: float, width: float, height: float) -> str:
    """z as an outline, f(z) filled, on one axis, and the mean of f(z) as a line."""
    peak = 0.2
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis("z (dotted outline) and f(z) (filled)", LOW, HIGH, {k: str(k) for k in (-6, -3, 0, 3, 6)}),
        Axis("share of values", 0, peak, {0: "0", 0.1: "10%", 0.2: "20%"}),
    )
    x = panel.x_of(layer.mean)
    parts = [
        panel.frame(indent=36),
        panel.histogram(layer.after, VALUE, fill=0.35),
        panel.histogram(layer.before, BEFORE, fill=0, dash="2 3"),
        f'<path d="M{x:.1f} {top}v{height}" stroke="currentColor" stroke-width="1.6"/>',
        text(
            x + 5 if x < left + width - 90 else x - 5,
            top + 12,
            f"mean {layer.mean:+.2f}",
            size=11,
            anchor="start" if x < left + width - 90 else "end",
        ),
    ]
    if (highest := max(layer.after)) > peak:
        at = panel.x_of(LOW + (HIGH - LOW) * (layer.after.index(highest) + 0.5) / BINS)
        parts.append(text(at - 8, top + 26, f"{highest:.0%} ↑", size=11, anchor="end"))
    return "".join(parts)


def _facts(layer: Layer) -> str:
    return (
        f"mean output {layer.mean:+.2f}; {layer.constant:.0%} of the signal is the same for every image; "
        f"{layer.silent:.1%} of the units have slope 0 on every image"
    )


def _sentence(layer: Layer) -> str:
    return f"{layer.label}, bias shift {layer.bias:+.2f}: {_facts(layer)}."


def _row(layer: Layer, top: float) -> str:
    return (
        text(46, top, f"{layer.label}, bias shift {layer.bias:+.2f}", anchor="start", extra='font-weight="700"')
        + text(46, top + 17, _facts(layer), anchor="start")
        + _curves(layer, 46, top + 30, 290, 190)
        + _distributions(layer, 425, top + 30, 330, 190)
    )


class LayerFigure(Interactive):
    """The figure with its controls; where no widget manager is, `static()`: three settings, one below the other."""

    caption = (
        "Left: the activation and its slope. Right: what a layer of random weights makes of real images before "
        "(dotted) and after the activation (filled), over all units and images; the upright line is the mean output. "
        "Look at how much of the hill ReLU piles up at 0, where the mean goes, and which activations keep some slope "
        "on every image however far the bias is shifted."
    )

    def __init__(self, images: Tensor, *, seed: int = 0) -> None:
        self.probe = _Probe(images, seed)

    def controls(self) -> dict[str, object]:
        return {
            "name": choice("Activation", NAMES, "relu"),
            "bias": slider("Bias shift", 0.0, -BIAS_MAX, BIAS_MAX, 0.05, tip="Added to the bias of every unit"),
            "alpha": slider("α", 1.0, 0.0, 3.0, 0.01, tip="For leaky ReLU its slope below 0, for ELU its depth"),
        }

    def view(self, name: str, bias: float, alpha: float) -> View:
        layer = self.probe.measure(name, alpha, bias)
        reached = name == "relu" and abs(layer.silent - GOAL) <= GOAL_WITHIN
        words = (
            "Your goal: with ReLU, find the bias shift at which a third of the units are dead "
            f"(slope 0 on every image; within {GOAL_WITHIN:.0%})."
        )
        if reached:
            words += (
                f" ✓ Found, at {bias:+.2f}: {layer.silent:.1%}. Now keep the shift and choose leaky ReLU with a small "
                "α, then GELU: how many units are out of reach of the gradient there?"
            )
        return View(self.draw(layer), words, reached)

    def draw(self, layer: Layer) -> str:
        return drawing(770, 305, legend(LOOKS, 60, 12, step=110) + _row(layer, 40), _sentence(layer))

    def deadly(self) -> float:
        """The bias shift at which the dead share of ReLU is nearest the goal."""
        shifts = [-BIAS_MAX + 0.05 * k for k in range(round(BIAS_MAX / 0.05) + 1)]
        return min(shifts, key=lambda bias: abs(self.probe.measure("relu", 1.0, bias).silent - GOAL))

    def static(self) -> Figure:
        layers = [
            self.probe.measure("relu", 1.0, 0.0),
            self.probe.measure("relu", 1.0, self.deadly() * 0.75),
            self.probe.measure("elu", 1.0, 0.0),
        ]
        body = legend(LOOKS, 60, 12, step=110) + "".join(_row(layer, 40 + 290 * k) for k, layer in enumerate(layers))
        alt = "Activations, their slopes and a layer's outputs. " + " ".join(map(_sentence, layers))
        return Figure(drawing(770, 290 * len(layers) + 25, body, alt), alt, self.caption)
