"""An interactive figure: how much signal the next layer gets in training and at test, while a slider moves p.

net = train_signal_net(images, labels)          # about a second: a small net trained with dropout
SignalFigure(images, net)                       # sliders and figure; several fixed panels without a widget manager
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.training import threads
from course_lib.widgets.interactive import Interactive, View, choice, rows, slider
from course_lib.widgets.svg import Axis, Panel, drawing, heading, legend, power_of_2, text

__all__ = ["RULES", "Signal", "SignalFigure", "measure_signal", "random_signal_net", "train_signal_net"]

RULES = {
    "none": "nothing scaled",
    "test": "weights × (1 − p) at test",
    "inverted": "kept units × 1/(1 − p) in training",
}
DEPTH = 6  # hidden layers of the net, hence the most dropouts that a signal passes
IMAGES, MASKS = 256, 8  # enough for smooth outlines, few enough for a slider to move smoothly
P_MAX = 0.9
GOAL = 3.0
GOAL_DEPTH = 4
GOAL_WITHIN = 0.05

TRAINING, TEST = COLOURS[0], COLOURS[1]


def _flat(images: Tensor) -> Tensor:
    """Images as float rows: (N, H, W) or (N, H, W, C), uint8 or 0 to 1 -> (N, H·W·C), 0 to 1."""
    x = rows(images)
    return x.to(torch.float32) / (255.0 if x.dtype == torch.uint8 else 1.0)


def random_signal_net(in_features: int, *, width: int = 64, classes: int = 10, seed: int = 0) -> list[Tensor]:
    """Weights (out, in) of a ReLU net with 6 hidden layers and no biases, drawn after He et al. (2015)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [in_features] + [width] * DEPTH + [classes]
    return [
        torch.randn(out_features, fan_in, generator=generator) * math.sqrt(2 / fan_in)
        for fan_in, out_features in pairwise(sizes)
    ]


def train_signal_net(
    images: Tensor,
    labels: Tensor,
    *,
    p: float = 0.5,
    steps: int = 400,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
) -> list[Tensor]:
    """The same net trained with classic dropout: units are dropped before each layer but the first, none is scaled.

    Returns its weights. No biases, so that the signal at p can be compared with the signal at another p: without
    biases a net whose input doubles gives twice the output.
    """
    x, y = _flat(images), torch.tensor(np.asarray(labels)).long()
    weights = [w.requires_grad_() for w in random_signal_net(x.shape[1], classes=int(y.max()) + 1, seed=seed)]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(weights, lr=lr)
    with threads(1):  # so small a net was measured to be 10 times slower on two busy cores
        for _ in range(steps):
            index = torch.randint(len(x), (batch_size,), generator=generator)
            a = x[index]
            for layer, weight in enumerate(weights):
                if layer:
                    a = a.relu() * (torch.rand(a.shape, generator=generator) >= p)
                a = a @ weight.T
            loss = torch.nn.functional.cross_entropy(a, y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [w.detach() for w in weights]


@dataclass(frozen=True)
class Signal:
    """The pre-activations of the layer after `depth` dropouts, and the ratio of the signal at every depth.

    `ratios[d - 1]`: the signal at test over that in training after d dropouts, 1/c where c · z_test fits best the
    pre-activations in training, averaged over masks. 1 means that the next layer finds what it was trained on.
    `training`, `test`: (values,) of the layer at `depth`. `octaves`: the powers of 2 between which to draw them,
    the same for every p and rule.
    """

    p: float
    depth: int
    rule: str
    ratios: tuple[float, ...]
    training: Tensor
    test: Tensor
    octaves: tuple[int, int]

    @property
    def ratio(self) -> float:
        return self.ratios[self.depth - 1]


class _Probe:
    """A net on some images, ready to be measured at any p: keeps the random numbers and what p leaves alone."""

    def __init__(self, images: Tensor, weights: Sequence[Tensor], seed: int = 0) -> None:
        if len(weights) != DEPTH + 1:
            raise PlotError(f"The figure needs a net of {DEPTH + 1} weight matrices, not {len(weights)}.")
        x = _flat(images)[:IMAGES]
        if x.shape[1] != weights[0].shape[1]:
            raise PlotError(f"The net takes {weights[0].shape[1]} numbers, an image has {x.shape[1]}.")
        self.weights = [w.detach().to(torch.float32) for w in weights]
        self.first = (x @ self.weights[0].T).relu()  # the input is never dropped
        generator = torch.Generator().manual_seed(seed)
        # The same draws at every p: moving the slider moves the curve, not the noise. Over the masks a unit's draws
        # are spread evenly from 0 to 1, so a share p of them drops it, not a share that happens to be near p.
        spread = torch.arange(MASKS).view(-1, 1, 1) / MASKS
        self.draws = [(torch.rand(self._shape(d), generator=generator) + spread) % 1 for d in range(1, DEPTH + 1)]
        self.octaves = self._octaves()

    @torch.no_grad()
    def _octaves(self) -> list[tuple[int, int]]:
        """For each depth the axis: from a little above the whole net's largest signal down 12 powers of 2."""
        spans, a = [], self.first
        for weight in self.weights[1:]:
            z = a @ weight.T
            highest = math.ceil(math.log2(max(float(z.quantile(0.995)), 1e-6))) + 1
            spans.append((highest - 12, highest))
            a = z.relu()
        return spans

    def _shape(self, depth: int) -> tuple[int, int]:
        return len(self.first), self.weights[depth].shape[1]

    def measure(self, p: float, depth: int, rule: str) -> Signal:
        if not 0 <= p <= P_MAX or not 1 <= depth <= DEPTH or rule not in RULES:
            raise PlotError(f"Give 0 ≤ p ≤ {P_MAX}, 1 ≤ depth ≤ {DEPTH} and a rule of {', '.join(RULES)}.")
        with threads(1), torch.no_grad():
            return self._measure(p, depth, rule)

    def _measure(self, p: float, depth: int, rule: str) -> Signal:
        in_training = 1 / (1 - p) if rule == "inverted" else 1.0
        at_test = 1 - p if rule == "test" else 1.0
        thinned, whole = self.first.expand(MASKS, -1, -1), self.first
        ratios, shown = [], None
        for d in range(1, DEPTH + 1):
            weight = self.weights[d]
            z_training = (thinned * (self.draws[d - 1] >= p) * in_training) @ weight.T  # (masks, images, units)
            z_test = whole @ (weight * at_test).T  # (images, units)
            mean = z_training.mean(0)
            # fitted this way round, the masks' noise in the mean averages out instead of adding to a square
            ratios.append(float(z_test.square().sum() / (z_test * mean).sum().clamp_min(1e-30)))
            if d == depth:
                shown = z_training.flatten(), z_test.flatten()
            thinned, whole = z_training.relu(), z_test.relu()
        return Signal(p, depth, rule, tuple(ratios), *shown, self.octaves[depth - 1])


def measure_signal(
    images: Tensor, weights: Sequence[Tensor], *, p: float = 0.5, depth: int = 4, rule: str = "none", seed: int = 0
) -> Signal:
    """The signal of a 7-layer net on (at most 256 of) the images, in training and at test, by a switch rule of RULES.

    Raises PlotError for values out of range or a net that does not fit the images.
    """
    return _Probe(images, weights, seed).measure(p, depth, rule)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────


LOOKS = (("training (dropout on)", TRAINING, ""), ("test (all units on)", TEST, "7 4"))


def _histogram_panel(signal: Signal, left: float, top: float, width: float, height: float) -> str:
    """Both distributions of z > 0 on one log axis: training filled, test as a dashed outline.

    On a log axis a factor is a shift: a signal 4 times as large is the same hill, two powers of 2 to the right.
    """
    low, high = signal.octaves
    curves = []
    for values in (signal.training, signal.test):
        with threads(1):
            found = values[values > 0]
            counts = torch.histc(found.log2(), bins=3 * (high - low), min=low, max=high)
        curves.append((counts / max(len(found), 1)).tolist())
    peak = max(max(curve) for curve in curves) or 1.0
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis(
            f"positive pre-activation z after {_dropouts(signal.depth)}",
            2.0**low,
            2.0**high,
            {2.0**power: power_of_2(power) for power in range(low, high + 1, 2)},
            log=True,
        ),
        Axis("share of values", 0.0, peak * height / (height - 20), {0.0: "0", peak: f"{peak:.1%}"}),
    )
    parts = [panel.frame(indent=26)]
    for curve, fill, (_, colour, dash) in zip(curves, (0.25, 0.0), LOOKS, strict=True):
        parts.append(panel.histogram(curve, colour, fill=fill, dash=dash))
    if (beyond := 1 - sum(curves[0])) > 0.02:
        parts.append(text(left + 4, top + 10, f"← {beyond:.0%} of training lies further left", anchor="start", size=11))
    return "".join(parts)


def _ratio_panel(signal: Signal, left: float, top: float, width: float, height: float) -> str:
    """Test over training after 1 … 6 dropouts, on a log axis from 1/2 to 64; what lies above is cut and says so."""
    lowest, highest = -1, 6
    panel = Panel(
        left,
        top,
        width,
        height,
        Axis("dropouts passed (layers)", 0.5, DEPTH + 0.5),
        Axis(
            "signal at test ÷ in training",
            2.0**lowest,
            2.0**highest,
            {2.0**power: power_of_2(power) for power in range(lowest, highest + 1)},
            log=True,
        ),
    )
    parts = [panel.frame(strong=1.0), panel.curve(range(1, DEPTH + 1), signal.ratios, TEST)]
    for d, ratio in enumerate(signal.ratios, 1):
        x, y = panel.x_of(d), panel.y_of(ratio)
        # the layer looked at: larger, ringed and in bold
        radius, ring, size, bold = (7, 2, 12.5, 'font-weight="700"') if d == signal.depth else (4, 0, 10.5, "")
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{TEST}" stroke="currentColor" '
            f'stroke-width="{ring}"/>'
        )
        words = f"{_factor(ratio)}×" + (" ↑" if ratio > 2**highest else "")
        parts.append(text(x, y - 11 if y - 11 > top else y + 20, words, size=size, extra=bold))
        parts.append(text(x, top + height + 18, str(d), extra=bold))
    return "".join(parts)


def _dropouts(count: int) -> str:
    return f"{count} dropout{'s' if count > 1 else ''}"


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def _sentence(signal: Signal) -> str:
    return (
        f"p = {signal.p:.2f}, {RULES[signal.rule]}: after {_dropouts(signal.depth)} the signal at test is "
        f"{_factor(signal.ratio)} × the signal in training."
    )


def _draw(signal: Signal) -> str:
    body = legend(LOOKS, 60, 14) + _histogram_panel(signal, 52, 30, 350, 200) + _ratio_panel(signal, 490, 30, 270, 200)
    return drawing(770, 275, body, _sentence(signal))


def _goal(signal: Signal, net: str, *, reached: bool) -> str:
    ask = (
        f"Your goal: the net “{net}”, nothing scaled, {GOAL_DEPTH} dropouts passed. Find the p at which the next layer "
        f"gets {GOAL:g} × the signal it was trained on (within {GOAL_WITHIN:.0%})."
    )
    if not reached:
        return ask
    return (
        f"{ask} ✓ Found, p = {signal.p:.2f}: {_factor(signal.ratio)} ×. "
        f"Which formula in p and {GOAL_DEPTH} gives this? Try it at another depth."
    )


def _on_goal(signal: Signal) -> bool:
    there = signal.rule == "none" and signal.depth == GOAL_DEPTH
    return there and abs(signal.ratio / GOAL - 1) <= GOAL_WITHIN


CAPTION = (
    "Left: the positive pre-activations (what ReLU lets through) of the layer you chose, over units, "
    "images and masks, on a log axis: twice the signal is the same hill, one power of 2 to the right. Right: the "
    "factor by which the signal at test exceeds its average over masks in training; on the line at 1 the next layer "
    "finds what it was trained on. Look at how the factor grows with depth when nothing is scaled, and at which "
    "rules bring it back to 1 or near it."
)


class SignalFigure(Interactive):
    """The figure with its sliders; where no widget manager is, `static()`: one row of panels for each rule.

    `nets` is the trained net's weights, or several nets by name to choose from.
    """

    caption = CAPTION

    def __init__(
        self, images: Tensor, nets: Sequence[Tensor] | Mapping[str, Sequence[Tensor]], *, seed: int = 0
    ) -> None:
        nets = nets if isinstance(nets, Mapping) else {"trained": nets}
        if not nets:
            raise PlotError("The figure needs a net.")
        self.probes = {name: _Probe(images, weights, seed) for name, weights in nets.items()}

    def static(self, *, p: float = 0.5, depth: int = GOAL_DEPTH) -> Figure:
        """The figure for readers: all three rules at one p and depth, one below the other."""
        probe = next(iter(self.probes.values()))
        signals = [probe.measure(p, depth, rule) for rule in RULES]
        body, row = legend(LOOKS, 60, 14), 285
        for index, signal in enumerate(signals):
            top = 58 + row * index
            body += heading(52, top - 12, index, f"{RULES[signal.rule]}, p = {p:g}")
            body += _histogram_panel(signal, 52, top, 350, 200) + _ratio_panel(signal, 490, top, 270, 200)
        alt = "Distributions of pre-activations in training and at test. " + " ".join(map(_sentence, signals))
        return Figure(drawing(770, 58 + row * len(signals), body, alt), alt, CAPTION)

    def controls(self) -> dict[str, object]:
        found = {
            "p": slider("p, drop rate", 0.5, 0, P_MAX, 0.01, tip="Share of units that each dropout drops"),
            "depth": slider(
                "Dropouts passed", 2, 1, DEPTH, 1, tip="Which layer to look at: the one after so many dropouts"
            ),
            "rule": choice("Switch rule", {words: name for name, words in RULES.items()}, "none"),
        }
        if len(self.probes) > 1:
            found["net"] = choice("Net", self.probes.keys(), next(iter(self.probes)))
        return found

    def view(self, p: float, depth: int, rule: str, net: str | None = None) -> View:
        first = next(iter(self.probes))  # the net for which the goal is set
        signal = self.probes[net or first].measure(p, depth, rule)
        reached = net in (None, first) and _on_goal(signal)
        return View(_draw(signal), _goal(signal, first, reached=reached), reached)
