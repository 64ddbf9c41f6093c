"""An interactive figure: the gradient's norm in every layer of a deep net, against depth, activation and start.

GradientFigure(images, labels)      # sliders and figure; a few settings in one drawing without a widget manager
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from course_lib.activations import relu, relu_derivative, sigmoid, sigmoid_derivative, tanh, tanh_derivative
from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.training import threads
from course_lib.widgets.interactive import Interactive, View, choice, rows, slider
from course_lib.widgets.svg import Axis, Panel, drawing, legend, power_of_10, text

__all__ = ["ACTIVATIONS", "GradientFigure", "Gradients", "measure_gradients"]

Function = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "sigmoid": (sigmoid, sigmoid_derivative),
    "tanh": (tanh, tanh_derivative),
    "ReLU": (relu, relu_derivative),
}
IMAGES, MAX_DEPTH = 128, 30
EXPONENTS = (-3.0, 5.0)  # of 2: the scales of the start that the slider covers
GOAL_DEPTH, GOAL_WITHIN = 20, 2.0
LOWEST, HIGHEST = 1e-20, 1e10  # of the norms drawn


@dataclass(frozen=True)
class Gradients:
    """A net at its start: the norm of the loss's gradient for each hidden layer's weights, and the mean slopes."""

    activation: str
    depth: int
    scale: float
    norms: tuple[float, ...]
    slopes: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The first hidden layer's norm over the last one's: 1 where both learn at one pace."""
        return self.norms[0] / self.norms[-1] if self.norms[-1] else math.nan


class _Net:
    """Images and one draw of the weights, kept: a moving slider changes their scale, not the draw."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int = 0) -> None:
        x, labels = rows(images), torch.as_tensor(np.asarray(labels)).long()
        if len(x) != len(labels):
            raise PlotError(f"{len(x)} images and as many labels are needed, not {len(labels)}.")
        x = x[:IMAGES].double()  # float32 would overflow where a gradient explodes
        self.x = (x - x.mean()) / x.std().clamp(min=1e-12)
        self.labels = labels[:IMAGES]
        classes, self.width = int(labels.max()) + 1, self.x.shape[1]
        generator = torch.Generator().manual_seed(seed)
        shape = (MAX_DEPTH, self.width, self.width)
        self.draws = torch.randn(shape, generator=generator).double() / self.width**0.5
        self.out = torch.randn(self.width, classes, generator=generator).double() / self.width**0.5

    def measure(self, activation: str, depth: int, scale: float) -> Gradients:
        if activation not in ACTIVATIONS or not 1 <= depth <= MAX_DEPTH or not 0 < scale < math.inf:
            raise PlotError(f"Give an activation of {', '.join(ACTIVATIONS)}, 1 ≤ depth ≤ {MAX_DEPTH}, and scale > 0.")
        with threads(1), torch.no_grad():
            return self._measure(activation, depth, scale)

    def _measure(self, activation: str, depth: int, scale: float) -> Gradients:
        bend, derivative = ACTIVATIONS[activation]
        inputs, slopes = [self.x], []
        for weight in self.draws[:depth]:
            z = inputs[-1] @ (scale * weight)
            inputs.append(bend(z))
            slopes.append(derivative(z))
        # the gradient of the mean cross-entropy at the logits: (softmax − one-hot) / N
        grad = (inputs[-1] @ self.out).softmax(1)
        grad[torch.arange(len(grad)), self.labels] -= 1
        grad = grad / len(grad) @ self.out.T
        norms = []
        for i in range(depth - 1, -1, -1):
            grad = grad * slopes[i]
            norms.append(float((inputs[i].T @ grad).norm()))
            grad = grad @ (scale * self.draws[i]).T
        means = tuple(float(slope.mean()) for slope in slopes)
        return Gradients(activation, depth, scale, tuple(norms[::-1]), means)


def measure_gradients(
    images: Tensor, labels: Tensor, *, activation: str = "sigmoid", depth: int = 20, scale: float = 1.0, seed: int = 0
) -> Gradients:
    """The gradients of a net of `depth` equal hidden layers at its start, on (at most 128 of) the images.

    Its weights are drawn from a normal distribution with a standard deviation of scale / √fan_in, without biases.
    Raises PlotError for values out of range.
    """
    return _Net(images, labels, seed).measure(activation, depth, scale)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _panels(depth: int) -> tuple[Panel, Panel]:
    layers = {n: str(n) for n in range(1, depth + 1) if depth <= 10 or n == 1 or n % 5 == 0}
    x = Axis("hidden layer, 1 next to the input", 0.5, depth + 0.5, layers)
    powers = {10.0**p: power_of_10(p) for p in range(-20, 11, 5)}
    norm = Axis("gradient norm of the weights", LOWEST, HIGHEST, powers, log=True)
    slope = Axis("mean slope of the activation", 0.0, 1.05, {0.0: "0", 0.25: "1/4", 0.5: "1/2", 1.0: "1"})
    return Panel(72, 34, 360, 220, x, norm), Panel(510, 34, 240, 220, x, slope)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "no number"
    if value == 0 or 0.01 <= value < 1000:
        return f"{value:.2g}"
    exponent = math.floor(math.log10(abs(value)))
    return f"{value / 10.0**exponent:.1f} · {power_of_10(exponent)}"


def _name(found: Gradients) -> str:
    return f"{found.activation}, × {found.scale:.2f}"


def _sentence(found: Gradients) -> str:
    return (
        f"{found.activation}, {found.depth} hidden layers, weights × {found.scale:.2f}: the first layer's gradient is "
        f"{_number(found.ratio)} times the last one's."
    )


def _draw(settings: list[Gradients], label: str) -> str:
    depth = settings[0].depth
    left, right = _panels(depth)
    dashes = ("", "7 4", "2 3", "9 3 2 3", "12 4")
    looks = [(_name(found), COLOURS[k % len(COLOURS)], dashes[k % len(dashes)]) for k, found in enumerate(settings)]
    layers = range(1, depth + 1)
    parts = [legend(looks, 72, 14, step=140), left.frame(strong=1.0, indent=50), right.frame(strong=0.25)]
    for found, (_, colour, dash) in zip(settings, looks, strict=True):
        parts.append(left.curve(layers, found.norms, colour, dash=dash, dots=len(settings) == 1))
        parts.append(right.curve(layers, found.slopes, colour, dash=dash, dots=len(settings) == 1))
        if len(settings) == 1 and min(found.norms) < LOWEST:
            parts.append(text(80, 248, "↓ smaller than can be drawn", anchor="start", size=11))
        if len(settings) == 1 and max(found.norms) > HIGHEST:
            parts.append(text(80, 48, "↑ larger than can be drawn", anchor="start", size=11))
    return drawing(770, 305, "".join(parts), label)


CAPTION = (
    "Left: the norm of the gradient for each hidden layer's weights, before any training, on a log axis: a straight "
    "line is a constant factor a layer. Right: the mean slope of the activation in each layer; the line at 1/4 is the "
    "most that a sigmoid can have. The weights are drawn with a standard deviation of (scale) / √fan_in; there are no "
    "biases. Look at how steep the left line is for each activation. With ReLU it is flat at every scale: there the "
    "gradient shrinks or grows in all layers alike, so look at its height."
)


class GradientFigure(Interactive):
    """The figure with its controls; where no widget manager is, `static()`: five settings in one drawing."""

    caption = CAPTION

    def __init__(self, images: Tensor, labels: Tensor, *, seed: int = 0) -> None:
        self.net = _Net(images, labels, seed)

    def static(self, *, depth: int = GOAL_DEPTH) -> Figure:
        """The figure for readers: sigmoid, tanh and ReLU at a common start, and two that are larger."""
        chosen = (("sigmoid", 1.0), ("sigmoid", 12.0), ("tanh", 1.0), ("ReLU", 1.0), ("ReLU", 2**0.5))
        settings = [self.net.measure(activation, depth, scale) for activation, scale in chosen]
        alt = "Gradient norms, layer by layer. " + " ".join(map(_sentence, settings))
        return Figure(_draw(settings, alt), alt, CAPTION)

    def controls(self) -> dict[str, object]:
        return {
            "activation": choice("Activation", ACTIVATIONS.keys(), "sigmoid"),
            "depth": slider("Hidden layers", 10, 2, MAX_DEPTH, 1, tip="How many hidden layers the net has"),
            "exponent": slider(
                "log₂ of the scale",
                0.0,
                *EXPONENTS,
                0.1,
                tip="The weights' standard deviation is 2 to this power, over √fan_in",
                format=".1f",
            ),
        }

    def view(self, activation: str, depth: int, exponent: float) -> View:
        found = self.net.measure(activation, depth, 2.0**exponent)
        close = 1 / GOAL_WITHIN <= found.ratio <= GOAL_WITHIN
        reached = activation == "sigmoid" and depth == GOAL_DEPTH and close
        ask = (
            f"Your goal: {GOAL_DEPTH} hidden layers of sigmoid units. Find the scale of the weights at which the first "
            f"layer's gradient is as large as the last one's (within a factor of {GOAL_WITHIN:g})."
        )
        if reached:
            ask += (
                f" ✓ Found, × {found.scale:.2f}: {_number(found.ratio)} times. Now look at the right panel: at which "
                "price? Then try tanh and ReLU, and see what the scale does to all layers at once."
            )
        return View(_draw([found], _sentence(found)), ask if reached else f"{ask} Now: {_sentence(found)}", reached)
