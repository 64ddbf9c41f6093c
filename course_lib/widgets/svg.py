"""Drawing by hand: axes, curves and histograms as SVG in the page's own ink; an update takes some milliseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from course_lib.plots import FONT, PlotError

__all__ = ["Axis", "Panel", "drawing", "heading", "legend", "power_of_2", "power_of_10", "text"]


def text(x: float, y: float, words: str, *, anchor: str = "middle", size: float = 12, extra: str = "") -> str:
    """Words at (x, y); `extra` holds further attributes, such as a rotation."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="currentColor" {extra}>'
        f"{escape(words)}</text>"
    )


def heading(x: float, y: float, index: int, words: str) -> str:
    """The name of one row of a figure: "a) words" for the first, in bold."""
    return text(x, y, f"{'abcdefgh'[index]}) {words}", anchor="start", size=13, extra='font-weight="700"')


def drawing(width: float, height: float, body: str, label: str) -> str:
    """The whole drawing around its parts; `label` says what it shows, to those who can't see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(label)}" style="max-width:100%;height:auto;font-family:{FONT}">{body}</svg>'
    )


def power_of_2(exponent: int) -> str:
    """2 to that power as a learner reads it: 1/4, 1, 16."""
    return f"{2**exponent}" if exponent >= 0 else f"1/{2**-exponent}"


def power_of_10(exponent: int) -> str:
    """10 to that power as a learner reads it: 10⁻⁵, 1, 10³."""
    return f"10{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}" if exponent else "1"


def legend(entries: Sequence[tuple[str, str, str]], x: float, y: float, *, step: float = 170) -> str:
    """One sample of each line, (words, colour, dash), from left to right, `step` apart."""
    return "".join(
        f'<path d="M{x + i * step:.1f} {y}h26" stroke="{colour}" stroke-width="2.4" stroke-dasharray="{dash}"/>'
        + text(x + i * step + 32, y + 4, words, anchor="start")
        for i, (words, colour, dash) in enumerate(entries)
    )


@dataclass(frozen=True)
class Axis:
    """One axis: its name with units, its ends, the words at its ticks; `log` where equal ratios are equal lengths."""

    name: str
    low: float
    high: float
    ticks: Mapping[float, str] = field(default_factory=dict)
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise PlotError(f"The axis {self.name!r} can't go from {self.low} to {self.high}.")

    def share(self, value: float) -> float:
        """Where a value lies, from 0 at the low end to 1 at the high one; what lies beyond (or is no number) is cut."""
        if math.isnan(value):
            return 1.0
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Panel:
    """A rectangle with two axes, in the drawing's units. Its methods give the parts; a figure joins them."""

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    def x_of(self, value: float) -> float:
        return self.left + self.width * self.x.share(value)

    def y_of(self, value: float) -> float:
        return self.top + self.height * (1 - self.y.share(value))

    def frame(self, *, strong: float | None = None, indent: float = 34) -> str:
        """Grid, ticks and names of both axes; the grid line at `strong` (where y should be) is drawn full.

        `indent`: how far left of the panel the name of the y axis stands.
        """
        base = self.top + self.height
        parts = [f'<path d="M{self.left} {base}h{self.width}" stroke="currentColor"/>']
        for value, words in self.x.ticks.items():
            x = self.x_of(value)
            parts.append(f'<path d="M{x:.1f} {self.top}V{base + 4:.1f}" stroke="currentColor" opacity="0.15"/>')
            parts.append(text(x, base + 18, words))
        for value, words in self.y.ticks.items():
            y, full = self.y_of(value), value == strong
            look = 'opacity="0.9"' if full else 'opacity="0.3" stroke-dasharray="2 4"'
            parts.append(f'<path d="M{self.left} {y:.1f}h{self.width}" stroke="currentColor" {look}/>')
            parts.append(text(self.left - 6, y + 4, words, anchor="end", size=11))
        parts.append(text(self.left + self.width / 2, base + 37, self.x.name))
        x, y = self.left - indent, self.top + self.height / 2
        parts.append(text(x, y, self.y.name, extra=f'transform="rotate(-90 {x:.1f} {y:.1f})"'))
        return "".join(parts)

    def curve(
        self, xs: Sequence[float], ys: Sequence[float], colour: str, *, dash: str = "", dots: bool = False
    ) -> str:
        """A line through the points, cut at the panel's ends; with `dots` each point is marked."""
        points = [(self.x_of(x), self.y_of(y)) for x, y in zip(xs, ys, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn = (
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"/>'
        )
        if dots:
            drawn += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
        return drawn

    def histogram(self, shares: Sequence[float], colour: str, *, fill: float = 0.25, dash: str = "") -> str:
        """Equal bins over the x axis, each as high as its share on the y axis, outlined and filled."""
        base, bins = self.top + self.height, len(shares)
        line = f"M{self.left:.1f} {base:.1f}" + "".join(
            f"V{self.y_of(share):.1f}H{self.left + self.width * (k + 1) / bins:.1f}" for k, share in enumerate(shares)
        )
        return (
            f'<path d="{line}V{base:.1f}" fill="{colour}" fill-opacity="{fill}" stroke="{colour}" stroke-width="2.2" '
            f'stroke-dasharray="{dash}"/>'
        )
