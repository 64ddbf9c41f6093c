"""An interactive figure: the size of signal and gradient through 50 layers, while sliders change how weights are drawn.

    FlowFigure(images)           # sliders and figure; three fixed scales side by side without a widget manager

The random numbers stay; the sliders only scale them, so that a curve moves and its noise does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from course_lib import activations
from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.training import threads
from course_lib.widgets.interactive import Interactive, View, choice, rows, slider
from course_lib.widgets.svg import Axis, Panel, drawing, legend, power_of_10

__all__ = ["ACTIVATIONS", "Flow", "FlowFigure", "measure_flow"]

DEPTH, WIDTH, IMAGES = 50, 128, 64  # enough for smooth curves, few enough for a slider to move smoothly
ACTIVATIONS = {"linear": "none (linear)", "relu": "ReLU", "tanh": "tanh", "sigmoid": "logistic"}
LOWEST, HIGHEST = 0.1, 5.0  # of fan_in · Var(w)
ENDS = 1e-16, 1e16  # of both axes; what lies beyond is cut
STATIC = (1.0, 2.0, 3.0)
WITHIN = 2.0  # the goal: layer 50 within this factor of 1
LOOKS = tuple(zip(COLOURS, ("", "7 4", "2 3"), strict=False))


@dataclass(frozen=True)
class Flow:
    """Mean squares by layer, 50 each: of what a layer passes on, and of the gradient that comes back to its z.

    `scale` is fan_in · Var(w). The gradient starts at the last layer with a mean square of 1.
    """

    scale: float
    activation: str
    signal: tuple[float, ...]
    gradient: tuple[float, ...]


def _act(name: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """The activation's value and its slope."""
    if name == "linear":
        return z, torch.ones_like(z)
    activation = activations.ACTIVATIONS[name]
    return activation.value(z), activation.derivative(z)


class _Net:
    """The random numbers of a net, and the images that it sees, of mean square 1."""

    def __init__(self, images: Tensor, seed: int) -> None:
        x = rows(images)[:IMAGES].double()  # the sizes of 50 layers go beyond what float32 holds
        x = x - x.mean()
        self.x = x / x.square().mean().sqrt().clamp_min(1e-9)
        generator = torch.Generator().manual_seed(seed)
        sizes = [x.shape[1], *[WIDTH] * DEPTH]
        self.draws = [
            torch.randn(n_out, n_in, generator=generator).double() / math.sqrt(n_in) for n_in, n_out in pairwise(sizes)
        ]
        self.noise = torch.randn(len(x), WIDTH, generator=generator).double()
        self.noise /= self.noise.square().mean().sqrt()

    def measure(self, scale: float, activation: str) -> Flow:
        if not LOWEST <= scale <= HIGHEST or activation not in ACTIVATIONS:
            raise PlotError(f"Give {LOWEST} ≤ scale ≤ {HIGHEST} and an activation of {', '.join(ACTIVATIONS)}.")
        factor, h, slopes, signal = math.sqrt(scale), self.x, [], []
        with threads(1), torch.no_grad():
            for draw in self.draws:
                h, slope = _act(activation, factor * (h @ draw.T))
                slopes.append(slope)
                signal.append(float(h.square().mean()))
            back, gradient = self.noise, [1.0]
            for draw, slope in zip(self.draws[:0:-1], slopes[-2::-1], strict=True):
                back = factor * (back @ draw) * slope
                gradient.append(float(back.square().mean()))
        return Flow(scale, activation, tuple(signal), tuple(gradient[::-1]))


def measure_flow(images: Tensor, *, scale: float, activation: str = "relu", seed: int = 0) -> Flow:
    """The sizes in a net of 50 layers of 128 units on (at most 64 of) the images, for weights of variance scale/fan_in.

    Raises PlotError for a scale outside [0.1, 5], an unknown activation, and no images.
    """
    return _Net(images, seed).measure(scale, activation)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────

TICKS = {10.0**exponent: power_of_10(exponent) for exponent in range(-16, 17, 8)}
LAYER_TICKS = {float(k): str(k) for k in (1, 10, 20, 30, 40, 50)}


def _panels(top: float) -> tuple[Panel, Panel]:
    names = ("mean square of the output", "mean square of the gradient")
    return tuple(
        Panel(left, top, 290, 210, Axis("layer", 1, DEPTH, LAYER_TICKS), Axis(name, *ENDS, TICKS, log=True))
        for left, name in zip((70, 460), names, strict=True)
    )


def _body(flows: tuple[Flow, ...], top: float) -> str:
    layers = range(1, DEPTH + 1)
    parts = []
    for panel, values in zip(_panels(top), ("signal", "gradient"), strict=True):
        parts.append(panel.frame(strong=1.0, indent=48))
        for flow, (colour, dash) in zip(flows, LOOKS, strict=False):
            parts.append(panel.curve(layers, getattr(flow, values), colour, dash=dash))
    return "".join(parts)


def _size(value: float) -> str:
    return f"{value:.2g}" if 0.01 <= value < 1000 else f"{value:.0e}" if value > 0 else "0"


def _sentence(flow: Flow) -> str:
    return (
        f"{ACTIVATIONS[flow.activation]}, fan_in × Var(w) = {flow.scale:.2f}: layer {DEPTH} passes on a mean square of "
        f"{_size(flow.signal[-1])}; the gradient arrives at layer 1 with {_size(flow.gradient[0])}."
    )


CAPTION = (
    f"Real digits go through {DEPTH} layers of {WIDTH} units, and random gradients come back. Left: the mean square of "
    "each layer's output (behind its activation). Right: that of the gradient at each layer, read from the right, "
    "where it starts with 1. Both axes are logarithmic: a straight slope is the same factor in every layer. Look at "
    "how small a change of the scale tilts both lines. The random numbers are one draw, and the same at every scale; "
    "with other numbers, or fewer units, the best scale lies some percent off."
)


def _goal(flow: Flow, reached: bool) -> str:
    ask = (
        f"Your goal: with ReLU, find the scale at which layer {DEPTH} still passes on a signal of unit variance (a "
        f"mean square between {1 / WITHIN:g} and {WITHIN:g})."
    )
    if not reached:
        return ask
    return (
        f"{ask} ✓ Found, fan_in × Var(w) = {flow.scale:.2f}: {_size(flow.signal[-1])}. Why this number? Which one does "
        "the linear net need, and is there one for tanh?"
    )


class FlowFigure(Interactive):
    """The figure with its sliders; where no widget manager is, `static()`: ReLU at three scales."""

    caption = CAPTION

    def __init__(self, images: Tensor, *, seed: int = 5) -> None:
        self.net = _Net(images, seed)

    def static(self) -> Figure:
        """The figure for readers: ReLU under LeCun's scale, He's, and a larger one."""
        flows = tuple(self.net.measure(scale, "relu") for scale in STATIC)
        entries = [(f"Var(w) = {flow.scale:g}/fan_in", *look) for flow, look in zip(flows, LOOKS, strict=False)]
        alt = "Mean squares of the signal and of the gradient by layer. " + " ".join(map(_sentence, flows))
        return Figure(drawing(770, 305, legend(entries, 70, 16, step=200) + _body(flows, 40), alt), alt, CAPTION)

    def controls(self) -> dict[str, object]:
        return {
            "scale": slider(
                "fan_in × Var(w)",
                1.0,
                LOWEST,
                HIGHEST,
                0.02,
                tip="The variance of the weights, times the inputs of a unit",
            ),
            "activation": choice("Activation", {words: name for name, words in ACTIVATIONS.items()}, "relu"),
        }

    def view(self, scale: float, activation: str) -> View:
        flow = self.net.measure(scale, activation)
        reached = activation == "relu" and 1 / WITHIN <= flow.signal[-1] <= WITHIN
        return View(drawing(770, 285, _body((flow,), 20), _sentence(flow)), _goal(flow, reached), reached)
