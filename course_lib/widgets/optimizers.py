"""An interactive figure: the paths of six optimizers over a ravine, a saddle and a slice of a real loss surface.

PathFigure({"a net's loss": measure_slice(images, labels)})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib import optimizers
from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.training import threads
from course_lib.widgets.interactive import Interactive, View, choice, slider
from course_lib.widgets.svg import Axis, Panel, drawing, heading, legend, text

__all__ = ["OPTIMIZERS", "RAVINE", "SADDLE", "TURNED", "Path", "PathFigure", "Surface", "follow", "measure_slice"]

STEPS = 60
GRID = 41  # points a side at which a slice is measured
LEVELS = 12  # contour lines
RATES = tuple(10 ** (k / 8) for k in range(-32, 9))  # from 1e-4 to 10
GOAL = 1000.0

OPTIMIZERS = ("gradient descent", "momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam")
LOOKS = {
    name: (name, colour, dash)
    for name, colour, dash in zip(OPTIMIZERS, COLOURS, ("", "8 4", "2 3", "10 3 2 3", "5 2", "1 3"), strict=True)
}


@dataclass(frozen=True)
class Surface:
    """A loss over two numbers: `value` and `gradient` take a point (2,); drawn over x and y, started at `start`.

    `floor` is the lowest value that it has where it is drawn.
    """

    value: Callable[[Tensor], float]
    gradient: Callable[[Tensor], Tensor]
    x: tuple[float, float]
    y: tuple[float, float]
    start: tuple[float, float]
    floor: float
    names: tuple[str, str] = ("first weight", "second weight")

    @cached_property
    def heights(self) -> np.ndarray:
        """The value at 49 × 49 points, (y, x), for the contour lines."""
        xs, ys = (np.linspace(*side, 49) for side in (self.x, self.y))
        return np.array([[self.value(torch.tensor([x, y], dtype=torch.float64)) for x in xs] for y in ys])


def _ravine_gradient(w: Tensor) -> Tensor:
    return w * torch.tensor([1.0, 60.0], dtype=w.dtype)


RAVINE = Surface(
    lambda w: 0.5 * float(w[0]) ** 2 + 30 * float(w[1]) ** 2,
    _ravine_gradient,
    (-4.5, 1.5),
    (-1.0, 1.0),
    (-4.0, 0.6),
    0.0,
)


def _saddle_gradient(w: Tensor) -> Tensor:
    return torch.stack([w[0], w[1] ** 3 - w[1]])


TURN = torch.tensor([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]], dtype=torch.float64)

TURNED = Surface(  # the same ravine, turned: its floor runs along no axis
    lambda w: RAVINE.value(TURN.T @ w.double()),
    lambda w: TURN @ _ravine_gradient(TURN.T @ w),
    (-4.5, 1.5),
    (-2.4, 1.2),
    tuple((TURN @ torch.tensor(RAVINE.start, dtype=torch.float64)).tolist()),
    0.0,
)

SADDLE = Surface(
    lambda w: 0.5 * float(w[0]) ** 2 - 0.5 * float(w[1]) ** 2 + 0.25 * float(w[1]) ** 4,
    _saddle_gradient,
    (-2.0, 2.0),
    (-1.6, 1.6),
    (-1.6, 0.001),
    -0.25,
)


def measure_slice(images: Tensor, labels: Tensor, *, steps: int = 60, seed: int = 0) -> Surface:
    """A flat slice through the loss of a small net on the images, through its start, where Adam led it, and sideways.

    One axis goes from the start (0) to the trained weights (1); the other is a random direction of the same length.
    The loss is measured on a grid and read between its points by straight lines. About a second.
    """
    x, y = images.flatten(1).double(), labels
    generator = torch.Generator().manual_seed(seed)
    sizes = [(x.shape[1], 16), (16, int(y.max()) + 1)]
    start = [torch.randn(*size, generator=generator, dtype=torch.float64) * (2 / size[0]) ** 0.5 for size in sizes]
    sideways = [torch.randn(*size, generator=generator, dtype=torch.float64) for size in sizes]

    def loss(weights: Sequence[Tensor]) -> Tensor:
        return F.cross_entropy((x @ weights[0]).relu() @ weights[1], y)

    with threads(1):
        weights = [w.clone().requires_grad_() for w in start]
        adam = torch.optim.Adam(weights, lr=0.01)
        for _ in range(steps):
            adam.zero_grad()
            loss(weights).backward()
            adam.step()
        along = [w.detach() - s for w, s in zip(weights, start, strict=True)]
        across = [d * (a.norm() / d.norm()) for d, a in zip(sideways, along, strict=True)]  # layer by layer
        xs, ys = torch.linspace(-0.5, 2.5, GRID).tolist(), torch.linspace(-1.5, 1.5, GRID).tolist()
        with torch.no_grad():
            heights = np.array(
                [
                    [float(loss([s + a * p + b * q for s, p, q in zip(start, along, across, strict=True)])) for a in xs]
                    for b in ys
                ]
            )
    slopes = np.gradient(heights, ys, xs)

    def between(table: np.ndarray, w: Tensor) -> float:
        i = min(max((float(w[1]) - ys[0]) / (ys[1] - ys[0]), 0.0), GRID - 1.001)
        j = min(max((float(w[0]) - xs[0]) / (xs[1] - xs[0]), 0.0), GRID - 1.001)
        (r, u), (c, v) = (int(i), i % 1), (int(j), j % 1)
        low = table[r, c] * (1 - v) + table[r, c + 1] * v
        return float(low * (1 - u) + (table[r + 1, c] * (1 - v) + table[r + 1, c + 1] * v) * u)

    return Surface(
        lambda w: between(heights, w),
        lambda w: torch.tensor([between(slopes[1], w), between(slopes[0], w)], dtype=torch.float64),
        (xs[0], xs[-1]),
        (ys[0], ys[-1]),
        (0.3, 1.2),
        float(heights.min()),
        ("from the start (0) to trained weights (1)", "a random direction"),
    )


@dataclass(frozen=True)
class Path:
    """Where an optimizer went, (STEPS + 1, 2), and the surface's value there, (STEPS + 1,)."""

    name: str
    lr: float
    momentum: float
    points: np.ndarray
    values: np.ndarray

    @property
    def last(self) -> float:
        """The last value; infinite where the path left all bounds."""
        return float(self.values[-1]) if math.isfinite(self.values[-1]) else math.inf


def follow(surface: Surface, name: str, lr: float, momentum: float = 0.9) -> Path:
    """The path of one optimizer over the surface. `momentum` is μ, or Adam's β₁; the others have none.

    Raises PlotError for an optimizer that is not in OPTIMIZERS.
    """
    if name not in OPTIMIZERS:
        raise PlotError(f"There is no optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}.")
    with threads(1), torch.no_grad():
        return _follow(surface, name, lr, momentum)


def _follow(surface: Surface, name: str, lr: float, momentum: float) -> Path:
    w = torch.tensor(surface.start, dtype=torch.float64)
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    points, values = [w], [surface.value(w)]
    for step in range(1, STEPS + 1):
        grad = surface.gradient(w)
        match name:
            case "gradient descent":
                w = optimizers.sgd_step(w, grad, lr=lr)
            case "momentum":
                w, first = optimizers.momentum_step(w, grad, first, lr=lr, momentum=momentum)
            case "Nesterov":
                w, first = optimizers.nesterov_step(w, grad, first, lr=lr, momentum=momentum)
            case "AdaGrad":
                w, first = optimizers.adagrad_step(w, grad, first, lr=lr)
            case "RMSProp":
                w, first, _, _ = optimizers.rmsprop_step(w, grad, first, lr=lr, alpha=0.9)
            case "Adam":
                w, first, second = optimizers.adam_step(w, grad, first, second, step, lr=lr, betas=(momentum, 0.999))
        w = w.clamp(-1e6, 1e6)  # a path that blows up can still be drawn
        points.append(w)
        values.append(surface.value(w))
    return Path(name, lr, momentum, torch.stack(points).numpy(), np.array(values))


def best_path(surface: Surface, name: str) -> Path:
    """The path of the rate, among 41 from 1e-4 to 10, that ends lowest; momentum 0.9."""
    return min((follow(surface, name, lr) for lr in RATES), key=lambda path: path.last)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _contours(surface: Surface, panel: Panel) -> str:
    """Lines of equal loss, by marching over the squares of the grid; equal steps of the root of the height."""
    h = surface.heights
    xs, ys = np.linspace(*surface.x, h.shape[1]), np.linspace(*surface.y, h.shape[0])
    low, high = float(h.min()), float(h.max())
    parts = []
    for level in low + (high - low) * (np.arange(1, LEVELS) / LEVELS) ** 2:
        segments = []
        for i in range(h.shape[0] - 1):
            for j in range(h.shape[1] - 1):
                corners = ((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j))
                cut = []
                for (r, c), (s, d) in zip(corners, corners[1:] + corners[:1], strict=True):
                    a, b = h[r, c], h[s, d]
                    if (a < level) != (b < level):
                        t = (level - a) / (b - a)
                        cut.append((xs[c] + t * (xs[d] - xs[c]), ys[r] + t * (ys[s] - ys[r])))
                for (x0, y0), (x1, y1) in zip(cut[::2], cut[1::2], strict=True):
                    segments.append(
                        f"M{panel.x_of(x0):.1f} {panel.y_of(y0):.1f}L{panel.x_of(x1):.1f} {panel.y_of(y1):.1f}"
                    )
        parts.append(f'<path d="{"".join(segments)}" stroke="currentColor" stroke-width="0.7" opacity="0.4"/>')
    return "".join(parts)


def _ticks(low: float, high: float) -> dict[float, str]:
    step = 1.0 if high - low > 3 else 0.5
    values = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    return {float(v): f"{v:g}" for v in values}


def _map_panel(surface: Surface, left: float, top: float, width: float, height: float) -> Panel:
    return Panel(
        left,
        top,
        width,
        height,
        Axis(surface.names[0], *surface.x, _ticks(*surface.x)),
        Axis(surface.names[1], *surface.y, _ticks(*surface.y)),
    )


def _draw_paths(surface: Surface, panel: Panel, contours: str, paths: Sequence[Path], bold: str | None) -> str:
    parts = [panel.frame(), contours]
    for path in paths:
        _, colour, dash = LOOKS[path.name]
        inside = path.points[np.isfinite(path.points).all(1)]
        thin = bold is not None and path.name != bold
        curve = panel.curve(inside[:, 0], inside[:, 1], colour, dash=dash, dots=not thin and bold is not None)
        parts.append(f'<g opacity="{0.55 if thin else 1}">{curve}</g>')
    x, y = panel.x_of(surface.start[0]), panel.y_of(surface.start[1])
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="currentColor" stroke-width="2"/>')
    parts.append(text(x, y - 9, "start", size=11))
    return "".join(parts)


def _loss_panel(surface: Surface, left: float, top: float, width: float, height: float) -> Panel:
    decades = {10.0**k: f"1e{k}" for k in range(-8, 3, 2)}
    return Panel(
        left,
        top,
        width,
        height,
        Axis("steps", 0, STEPS, {float(s): str(s) for s in range(0, STEPS + 1, 20)}),
        Axis("loss above the lowest", 1e-8, 1e2, decades, log=True),
    )


def _draw_losses(surface: Surface, panel: Panel, paths: Sequence[Path], bold: str | None) -> str:
    parts = [panel.frame(indent=44)]
    for path in paths:
        _, colour, dash = LOOKS[path.name]
        gap = np.nan_to_num(path.values, nan=1e6, posinf=1e6) - surface.floor
        thin = bold is not None and path.name != bold
        curve = panel.curve(range(STEPS + 1), np.clip(gap, 1e-8, 1e6), colour, dash=dash)
        parts.append(f'<g opacity="{0.55 if thin else 1}">{curve}</g>')
    return "".join(parts)


def _ends(surface: Surface, paths: Sequence[Path]) -> str:
    return ", ".join(f"{path.name} {path.last - surface.floor:.2g} (rate {path.lr:.2g})" for path in paths)


CAPTION = (
    "Left: lines of equal loss, and the way each optimizer takes in 60 steps; the one that you steer has dots, one for "
    "each step, the others are drawn at the best of 41 rates for each. Right: how far each is above the lowest loss, "
    "on a log axis. In the ravine look at plain gradient descent jumping from wall to wall; in the turned one, at what "
    "is left of the advantage of those that keep a rate for each axis; at the saddle, at who leaves it in time."
)


class PathFigure(Interactive):
    """The figure with its controls; `static()` shows the surfaces side by side, every optimizer at its best rate.

    `slices` are further surfaces by name, such as one from `measure_slice`.
    """

    caption = CAPTION

    def __init__(self, slices: Mapping[str, Surface] | None = None) -> None:
        self.surfaces: dict[str, Surface] = {
            "ravine": RAVINE,
            "ravine, turned": TURNED,
            "saddle": SADDLE,
            **(slices or {}),
        }
        self.best = {name: [best_path(surface, rule) for rule in OPTIMIZERS] for name, surface in self.surfaces.items()}
        self.contours = {
            name: _contours(surface, _map_panel(surface, 58, 56, 400, 240)) for name, surface in self.surfaces.items()
        }

    @property
    def target(self) -> float:
        """The loss to reach in the ravine: a thousandth of where gradient descent ends at its best rate."""
        return self.best["ravine"][0].last / GOAL

    def controls(self) -> dict[str, object]:
        return {
            "surface": choice("Surface", self.surfaces.keys(), "ravine"),
            "optimizer": choice("Optimizer you steer", OPTIMIZERS, "gradient descent"),
            "rate": slider("log₁₀ of the rate", -2.0, -4.0, 1.0, 0.05, tip="−2 is a rate of 0.01"),
            "momentum": slider(
                "Momentum, β₁", 0.9, 0.0, 0.99, 0.01, tip="μ of momentum and Nesterov, β₁ of Adam; the others have none"
            ),
        }

    def view(self, surface: str, optimizer: str, rate: float, momentum: float) -> View:
        ground = self.surfaces[surface]
        mine = follow(ground, optimizer, 10**rate, momentum)
        paths = [*(path for path in self.best[surface] if path.name != optimizer), mine]
        reached = surface == "ravine" and optimizer == "momentum" and mine.last <= self.target
        panel = _map_panel(ground, 58, 56, 400, 240)
        label = (
            f"{surface}: {optimizer} at the rate {mine.lr:.2g} ends {mine.last - ground.floor:.2g} above the lowest "
            f"loss; the others at their best rates: {_ends(ground, self.best[surface])}."
        )
        body = _legend() + _draw_paths(ground, panel, self.contours[surface], paths, optimizer)
        body += _draw_losses(ground, _loss_panel(ground, 545, 56, 215, 240), paths, optimizer)
        return View(drawing(770, 345, body, label), self._goal(mine, ground, reached=reached), reached)

    def _goal(self, mine: Path, ground: Surface, *, reached: bool) -> str:
        ask = (
            f"Your goal: in the ravine, steer momentum. Find a rate and a momentum with which its loss ends at "
            f"{self.target:.1g} or lower, a thousandth of where gradient descent ends at its best rate."
        )
        now = f" Now: {mine.name}, rate {mine.lr:.3g}, ends at {mine.last - ground.floor:.2g}."
        if not reached:
            return ask + now
        return (
            f"{ask} ✓ Reached with the rate {mine.lr:.3g} and momentum {mine.momentum:.2f}: {mine.last:.1g}. "
            "What happens at a momentum of 0.99, and why?"
        )

    def static(self) -> Figure:
        """The figure for readers: one row a surface, every optimizer at its best rate."""
        body, row, words = _legend(), 345, []
        for index, (name, ground) in enumerate(self.surfaces.items()):
            top = 76 + row * index
            panel = _map_panel(ground, 58, top, 400, 240)
            body += heading(58, top - 10, index, name)
            body += _draw_paths(ground, panel, _contours(ground, panel), self.best[name], None)
            body += _draw_losses(ground, _loss_panel(ground, 545, top, 215, 240), self.best[name], None)
            words.append(f"{name}: {_ends(ground, self.best[name])}")
        alt = "Paths of six optimizers, each at its best rate; last loss above the lowest. " + "; ".join(words) + "."
        return Figure(drawing(770, 56 + row * len(self.surfaces), body, alt), alt, CAPTION)


def _legend() -> str:
    looks = list(LOOKS.values())
    return legend(looks[:3], 60, 14, step=180) + legend(looks[3:], 60, 34, step=180)
