"""An interactive figure: a curve fitted to a few noisy points, held back by a penalty or by stopping early.

BrakeFigure()                                   # sliders and figure; fixed panels without a widget manager

The net has one hidden layer of fixed ReLU units; its last layer is fitted exactly, so each setting is a formula: with
the singular values s of what the units give, a direction is learned to the share s²/(s² + λ) under a penalty λ, and to
1 − exp(−s² t) after gradient descent for a time t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.widgets.interactive import Interactive, View, choice, slider
from course_lib.widgets.svg import Axis, Panel, drawing, heading, legend, text

__all__ = ["BRAKES", "BrakeFigure", "Fit", "fit"]

BRAKES = {"penalty": "ℓ2 penalty, larger and larger", "stopping": "early stopping, sooner and sooner"}
UNITS = 80
GRID = np.linspace(-1, 1, 161)
STRENGTHS = np.linspace(0, 1, 51)
POINTS, NOISE = 15, 0.3  # what the goal is set for
WITHIN = 0.05
DATA, TRUTH, FITTED = COLOURS[3], COLOURS[2], COLOURS[0]
TRAINING, TEST = COLOURS[0], COLOURS[1]


def curve(x: np.ndarray) -> np.ndarray:
    """The curve that the noisy points come from."""
    return np.sin(3.5 * x) + 0.5 * x


def shares(squares: np.ndarray, brake: str, strength: float) -> np.ndarray:
    """How much of each direction, of squared singular value s², is learned at a strength of the brake from 0 to 1."""
    if brake == "penalty":
        return squares / (squares + amount(brake, strength))
    return -np.expm1(-squares * amount(brake, strength))


def amount(brake: str, strength: float) -> float:
    """λ, from 1e-6 to 1e3; or the time of gradient descent, from 1e6 down to 1e-3."""
    return 10.0 ** (9 * strength - 6 if brake == "penalty" else 6 - 9 * strength)


@dataclass(frozen=True)
class Fit:
    """A fitted curve on GRID, the points, and both errors (root of the mean square) at every strength.

    `test` is measured against new noisy points, so it can't fall below the noise.
    """

    brake: str
    strength: float
    noise: float
    points: tuple[np.ndarray, np.ndarray]
    fitted: np.ndarray
    training_error: float
    test_error: float
    training: np.ndarray
    test: np.ndarray
    norm: float

    @property
    def best(self) -> float:
        """The lowest test error over all strengths."""
        return float(self.test.min())


@lru_cache(maxsize=64)
def _solved(points: int, noise: float, seed: int):
    """What the strength leaves alone: the points, the units' outputs in their singular directions, the targets."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-1, 1, 60)[:points])
    y = curve(x) + noise * rng.normal(size=60)[:points]
    slope, knot = rng.choice([-1.0, 1.0], UNITS), rng.uniform(-1.1, 1.1, UNITS)

    def units(x):
        return np.maximum(0, slope * (x[:, None] - knot))

    centre = units(x).mean(0)
    left, size, right = np.linalg.svd(units(x) - centre, full_matrices=False)
    keep = size > 1e-9
    left, size, right = left[:, keep], size[keep], right[keep]
    return x, y, left, size, (units(GRID) - centre) @ right.T / size


def fit(brake: str, strength: float, points: int = POINTS, noise: float = NOISE, seed: int = 3) -> Fit:
    """The curve fitted under a brake of BRAKES. Raises PlotError for values out of range."""
    if brake not in BRAKES or not 0 <= strength <= 1 or not 5 <= points <= 60 or not 0 <= noise <= 1:
        raise PlotError(f"Give a brake of {', '.join(BRAKES)}, a strength and a noise from 0 to 1, 5 to 60 points.")
    x, y, left, size, along = _solved(points, noise, seed)
    target = left.T @ (y - y.mean())  # the least-squares answer in the singular directions

    def at(strength):
        return shares(size**2, brake, strength) * target

    truth = curve(GRID)

    def errors(learned):
        training = np.sqrt(np.mean((left @ learned + y.mean() - y) ** 2))
        test = np.sqrt(np.mean((along @ learned + y.mean() - truth) ** 2) + noise**2)
        return training, test

    learned = at(strength)
    every = np.array([errors(at(s)) for s in STRENGTHS])
    now = errors(learned)
    norm = float(np.linalg.norm(learned / size))
    fitted = along @ learned + y.mean()
    return Fit(brake, strength, noise, (x, y), fitted, *map(float, now), every[:, 0], every[:, 1], norm)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────

CURVES = (("the curve behind", TRUTH, "7 4"), ("fitted", FITTED, ""))
ERRORS = (("training error", TRAINING, ""), ("test error", TEST, "7 4"))


def _curve_panel(found: Fit, left: float, top: float, width: float, height: float) -> str:
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis("x", -1, 1, {-1: "−1", 0: "0", 1: "1"}),
        Axis("y", -3, 3, {value: f"{value:+d}".replace("-", "−") if value else "0" for value in range(-3, 4)}),
    )
    parts = [panel.frame(indent=30), panel.curve(GRID, curve(GRID), TRUTH, dash="7 4")]
    parts.append(panel.curve(GRID, found.fitted, FITTED))
    for x, y in zip(*found.points, strict=True):
        parts.append(
            f'<circle cx="{panel.x_of(x):.1f}" cy="{panel.y_of(y):.1f}" r="4" fill="{DATA}" stroke="currentColor"/>'
        )
    return "".join(parts)


def _error_panel(found: Fit, left: float, top: float, width: float, height: float) -> str:
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis("strength of the brake", 0, 1, {0: "none", 0.5: "½", 1: "full"}),
        Axis("error (root mean square)", 0.003, 10, {0.01: "0.01", 0.1: "0.1", 1: "1", 10: "10"}, log=True),
    )
    parts = [panel.frame()]
    for values, now, (_, colour, dash) in zip(
        (found.training, found.test), (found.training_error, found.test_error), ERRORS, strict=True
    ):
        parts.append(panel.curve(STRENGTHS, values, colour, dash=dash))
        x, y = panel.x_of(found.strength), panel.y_of(now)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}" stroke="currentColor"/>')
        above = colour == TEST  # the test error is the larger one: the two figures stay apart
        parts.append(text(x + 16, y - 11 if above else y + 22, f"{now:.2f}", extra='font-weight="700"'))
    return "".join(parts)


def _sentence(found: Fit) -> str:
    how = f"λ = {amount(found.brake, found.strength):.2g}"
    if found.brake == "stopping":
        how = f"stopped after a time of {amount(found.brake, found.strength):.2g}"
    return (
        f"{len(found.points[0])} points, noise {found.noise:.2f}, {how}: training error {found.training_error:.2f}, "
        f"test error {found.test_error:.2f}, norm of the weights {found.norm:.1f}."
    )


def _draw(found: Fit) -> str:
    body = legend(CURVES, 60, 14) + legend(ERRORS, 470, 14, step=150)
    body += _curve_panel(found, 52, 30, 350, 210) + _error_panel(found, 480, 30, 270, 210)
    body += text(400, 306, _sentence(found), size=12)
    return drawing(780, 315, body, _sentence(found))


CAPTION = (
    "Left: noisy points (circles), the curve they come from (dashed), and what the net fits. Right: the error on these "
    "points and on new ones, at every strength of the brake; the circles mark where you are. Without a brake the curve "
    "runs through every point and the test error is large; with too much of it the curve is flat, and both errors are. "
    "Look at where the test error is lowest, and whether the training error tells you."
)


class BrakeFigure(Interactive):
    """The figure with its sliders; where no widget manager is, `static()`: no brake, the best strength, too much."""

    caption = CAPTION

    def static(self) -> Figure:
        best = float(STRENGTHS[int(fit("penalty", 0.5).test.argmin())])
        settings = (("no brake", 0.0), ("the strength with the lowest test error", best), ("too much", 0.95))
        body, row = legend(CURVES, 60, 14) + legend(ERRORS, 470, 14, step=150), 295
        told = []
        for index, (words, strength) in enumerate(settings):
            found = fit("penalty", strength)
            top = 58 + row * index
            told.append(_sentence(found))
            body += heading(52, top - 12, index, f"{words}, λ = {amount('penalty', strength):.2g}")
            body += _curve_panel(found, 52, top, 350, 210) + _error_panel(found, 480, top, 270, 210)
        alt = "A curve fitted to noisy points under an ℓ2 penalty. " + " ".join(told)
        return Figure(drawing(780, 58 + row * len(settings), body, alt), alt, CAPTION)

    def controls(self) -> dict[str, object]:
        return {
            "strength": slider("Strength", 0.0, 0, 1, 0.01, tip="0: no brake; 1: hardly anything is learned"),
            "brake": choice("Brake", {words: name for name, words in BRAKES.items()}, "penalty"),
            "points": slider("Points", POINTS, 5, 60, 1, tip="How many noisy points the net is fitted to"),
            "noise": slider("Noise", NOISE, 0.0, 1.0, 0.05, tip="Spread of the noise around the curve"),
        }

    def view(self, strength: float, brake: str, points: int, noise: float) -> View:
        found = fit(brake, round(strength, 2), points, round(noise, 2))
        asked = points == POINTS and round(noise, 2) == NOISE and brake == "stopping"
        reached = asked and found.test_error <= (1 + WITHIN) * found.best
        ask = (
            f"Your goal: {POINTS} points, noise {NOISE:g}. Find the best strength of the penalty; then change to early "
            f"stopping, and bring its test error to within {WITHIN:.0%} of the lowest that it can reach."
        )
        if reached:
            ask += (
                f" ✓ Found: test error {found.test_error:.2f}, norm of the weights {found.norm:.1f}. Was the penalty's "
                "lowest error about the same? What happens to the best strength with 60 points?"
            )
        return View(_draw(found), ask, reached)
