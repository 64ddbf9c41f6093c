"""An interactive figure: how much signal the next layer gets in training and at test, while a slider moves p.

    net = train_signal_net(images, labels)          # about a second: a small net trained with dropout
    SignalFigure(images, net)                       # sliders and figure; several fixed panels without a widget manager

The figure is SVG written by hand: an update takes some milliseconds, and it takes the page's own colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from course_lib.plots import COLOURS, FONT, Figure, PlotError
from course_lib.training import threads

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
    images = images if isinstance(images, Tensor) else torch.tensor(np.asarray(images))
    if images.ndim < 2 or len(images) == 0:
        raise PlotError(f"Images are needed, (N, H, W) or (N, H, W, C), not shape {tuple(images.shape)}.")
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    return images.flatten(1).to(torch.float32) / scale


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


def _text(x: float, y: float, words: str, *, anchor: str = "middle", size: float = 12, extra: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="currentColor" {extra}>'
        f"{escape(words)}</text>"
    )


def _power(exponent: int) -> str:
    """2 to that power as a learner reads it: 1/4, 1, 16."""
    return f"{2**exponent}" if exponent >= 0 else f"1/{2**-exponent}"


def _histogram_panel(signal: Signal, left: float, top: float, width: float, height: float) -> str:
    """Both distributions of z > 0 on one log axis: training filled, test as a dashed outline.

    On a log axis a factor is a shift: a signal 4 times as large is the same hill, two powers of 2 to the right.
    """
    low, high = signal.octaves
    bins = 3 * (high - low)
    base = top + height
    parts = []
    for power in range(low, high + 1, 2):
        x = left + width * (power - low) / (high - low)
        parts.append(f'<path d="M{x:.1f} {top}V{base + 4:.1f}" stroke="currentColor" opacity="0.15"/>')
        parts.append(_text(x, base + 18, _power(power)))
    parts.append(f'<path d="M{left} {base}h{width}" stroke="currentColor"/>')
    curves = []
    for values in (signal.training, signal.test):
        with threads(1):
            found = values[values > 0]
            counts = torch.histc(found.log2(), bins=bins, min=low, max=high)
        curves.append((counts / max(len(found), 1)).tolist())
    peak = max(max(curve) for curve in curves) or 1.0
    looks = ((TRAINING, 0.25, ""), (TEST, 0.0, 'stroke-dasharray="7 4"'))
    for curve, (colour, fill, dash) in zip(curves, looks, strict=True):
        line = f"M{left:.1f} {base:.1f}"
        for k, share in enumerate(curve):
            line += f"V{base - share / peak * (height - 20):.1f}H{left + width * (k + 1) / bins:.1f}"
        parts.append(
            f'<path d="{line}V{base:.1f}" fill="{colour}" fill-opacity="{fill}" stroke="{colour}" '
            f'stroke-width="2.2" {dash}/>'
        )
    if (beyond := 1 - sum(curves[0])) > 0.02:
        parts.append(
            _text(left + 4, top + 10, f"← {beyond:.0%} of training lies further left", anchor="start", size=11)
        )
    parts.append(_text(left + width / 2, base + 37, f"positive pre-activation z after {_dropouts(signal.depth)}"))
    for share, y in ((0.0, base), (peak, top + 20)):
        parts.append(_text(left - 5, y + 4, f"{share:.1%}" if share else "0", anchor="end", size=11))
    y = top + height / 2
    turned = f'transform="rotate(-90 {left - 26:.1f} {y:.1f})"'
    parts.append(_text(left - 26, y, "share of values", extra=turned))
    return "".join(parts)


def _ratio_panel(signal: Signal, left: float, top: float, width: float, height: float) -> str:
    """Test over training after 1 … 6 dropouts, on a log axis from 1/2 to 64; what lies above is cut and says so."""
    lowest, highest = -1, 6
    y_of = lambda ratio: (
        top + height * (highest - min(max(math.log2(max(ratio, 1e-9)), lowest), highest)) / (highest - lowest)
    )
    x_of = lambda depth: left + width * (depth - 0.5) / DEPTH
    parts = []
    for power in range(lowest, highest + 1):
        y = y_of(2**power)
        strong = power == 0
        dash = "" if strong else 'stroke-dasharray="2 4"'
        parts.append(
            f'<path d="M{left} {y:.1f}h{width}" stroke="currentColor" opacity="{0.9 if strong else 0.3}" {dash}/>'
        )
        parts.append(_text(left - 6, y + 4, _power(power), anchor="end"))
    points = " ".join(f"{x_of(d):.1f},{y_of(r):.1f}" for d, r in enumerate(signal.ratios, 1))
    parts.append(f'<polyline points="{points}" fill="none" stroke="{TEST}" stroke-width="2"/>')
    for d, ratio in enumerate(signal.ratios, 1):
        x, y = x_of(d), y_of(ratio)
        # the layer looked at: larger, ringed and in bold
        radius, ring, size, bold = (7, 2, 12.5, 'font-weight="700"') if d == signal.depth else (4, 0, 10.5, "")
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{TEST}" stroke="currentColor" '
            f'stroke-width="{ring}"/>'
        )
        words = f"{_factor(ratio)}×" + (" ↑" if ratio > 2**highest else "")
        parts.append(_text(x, y - 11 if y - 11 > top else y + 20, words, size=size, extra=bold))
        parts.append(_text(x, top + height + 18, str(d), extra=bold))
    parts.append(_text(left + width / 2, top + height + 37, "dropouts passed (layers)"))
    y = top + height / 2
    turned = f'transform="rotate(-90 {left - 34:.1f} {y:.1f})"'
    parts.append(_text(left - 34, y, "signal at test ÷ in training", extra=turned))
    return "".join(parts)


def _legend(left: float, y: float) -> str:
    return (
        f'<path d="M{left} {y}h26" stroke="{TRAINING}" stroke-width="8" opacity="0.45"/>'
        + _text(left + 32, y + 4, "training (dropout on)", anchor="start")
        + f'<path d="M{left + 170} {y}h26" stroke="{TEST}" stroke-width="2.4" stroke-dasharray="7 4"/>'
        + _text(left + 202, y + 4, "test (all units on)", anchor="start")
    )


def _dropouts(count: int) -> str:
    return f"{count} dropout{'s' if count > 1 else ''}"


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def _sentence(signal: Signal) -> str:
    return (
        f"p = {signal.p:.2f}, {RULES[signal.rule]}: after {_dropouts(signal.depth)} the signal at test is "
        f"{_factor(signal.ratio)} × the signal in training."
    )


def _svg(width: float, height: float, body: str, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(label)}" style="max-width:100%;height:auto;font-family:{FONT}">{body}</svg>'
    )


def _draw(signal: Signal) -> str:
    body = _legend(60, 14) + _histogram_panel(signal, 52, 30, 350, 200) + _ratio_panel(signal, 490, 30, 270, 200)
    return _svg(770, 275, body, _sentence(signal))


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


class SignalFigure:
    """The figure with its sliders; where no widget manager is, `static()`: one row of panels for each rule.

    `nets` is the trained net's weights, or several nets by name to choose from. Text form: the static form's alt text.
    """

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
        body, row = _legend(60, 14), 285
        for index, signal in enumerate(signals):
            top = 58 + row * index
            body += _text(
                52,
                top - 12,
                f"{'abc'[index]}) {RULES[signal.rule]}, p = {p:g}",
                anchor="start",
                size=13,
                extra='font-weight="700"',
            )
            body += _histogram_panel(signal, 52, top, 350, 200) + _ratio_panel(signal, 490, top, 270, 200)
        alt = "Distributions of pre-activations in training and at test. " + " ".join(map(_sentence, signals))
        return Figure(_svg(770, 58 + row * len(signals), body, alt), alt, CAPTION)

    def __str__(self) -> str:
        return self.static().alt

    __repr__ = __str__

    def widget(self):
        """The ipywidgets form, or None without ipywidgets."""
        try:
            import ipywidgets
        except ImportError:
            return None
        label = {"description_width": "9.5em"}
        wide = ipywidgets.Layout(width="36em", max_width="100%")
        p = ipywidgets.FloatSlider(
            value=0.5,
            min=0,
            max=P_MAX,
            step=0.01,
            description="p, drop rate",
            style=label,
            layout=wide,
            description_tooltip="Share of units that each dropout drops",
        )
        depth = ipywidgets.IntSlider(
            value=2,
            min=1,
            max=DEPTH,
            description="Dropouts passed",
            style=label,
            layout=wide,
            description_tooltip="Which layer to look at: the one after so many dropouts",
        )
        # not a drop-down list: JupyterLab takes its arrow keys away; here Tab moves and Space chooses
        options = [(words, name) for name, words in RULES.items()]
        rule = ipywidgets.RadioButtons(
            options=options, value="none", description="Switch rule", style=label, layout=wide
        )
        net = ipywidgets.RadioButtons(options=list(self.probes), description="Net", style=label, layout=wide)
        picture, goal = ipywidgets.HTML(), ipywidgets.HTML()
        found = False

        def update(_change=None) -> None:
            nonlocal found
            signal = self.probes[net.value].measure(p.value, depth.value, rule.value)
            picture.value = _draw(signal)
            now = net.index == 0 and _on_goal(signal)  # the goal is set for the first net
            if now or not found or not goal.value:
                edge = COLOURS[2] if now else TRAINING
                goal.value = _panel(_goal(signal, net.options[0], reached=now), edge)
            found = found or now

        for control in (p, depth, rule, net):
            control.observe(update, names="value")
        update()
        caption = ipywidgets.HTML(f'<div style="max-width:46em;line-height:1.4">{escape(CAPTION)}</div>')
        controls = [p, depth, rule] + [net] * (len(self.probes) > 1)
        return ipywidgets.VBox([goal, *controls, picture, caption])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        static = self.static()
        bundle: dict[str, object] = {"text/plain": static.alt, "text/html": static.html()}
        if (form := self.widget()) is not None:
            # the form's own text/plain is "VBox(...)": keep ours
            view = "application/vnd.jupyter.widget-view+json"
            bundle[view] = form._repr_mimebundle_()[view]
        return bundle


def _panel(words: str, edge: str) -> str:
    return (
        f'<div role="status" style="border-left:4px solid {edge};padding:0.3em 0.8em;max-width:46em;line-height:1.45;'
        f'color:var(--jp-ui-font-color1,inherit)">{escape(words)}</div>'
    )
