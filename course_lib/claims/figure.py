"""A series as a small inline SVG: means with intervals, arms told apart by colour, marker and line style."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import floor, log10

from course_lib.claims.claim import Series
from course_lib.claims.intervals import bca_interval

__all__ = ["number", "numbers", "series_svg"]

# Okabe and Ito's palette without its yellow: told apart by colour-blind readers, on light and on dark
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "1 3", "10 4", "4 1")
WIDTH, LEFT, RIGHT, TOP, PLOT = 400, 52, 12, 26, 150
SIDE = 24  # free at both ends of the x axis
SPAN = WIDTH - LEFT - RIGHT - 2 * SIDE
LETTER, BOLD, LINE = 5.9, 6.4, 13  # about the width of a letter of 11 pixels, and from one line to the next
INK = "var(--jp-ui-font-color1,#212121)"
GRID = "var(--jp-border-color2,#d0d0d0)"


def number(value: float) -> str:
    """A figure for a reader: three significant digits, thousands with commas."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def numbers(mean: float, low: float, high: float) -> tuple[str, str, str]:
    """A mean and its interval, with as many decimals as show the interval's width to two digits."""
    if high == low or not 1e-3 <= high - low <= 1e3:
        return number(mean), number(low), number(high)
    decimals = max(0, 1 - floor(log10(high - low)))
    return tuple(f"{value:,.{decimals}f}" for value in (mean, low, high))


@dataclass(frozen=True)
class Axis:
    """Maps data in [low, high] to pixels in [start, end], by logarithm where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        scale: Callable[[float], float] = log10 if self.log else float
        low, high = scale(self.low), scale(self.high)
        return self.start + (scale(value) - low) / ((high - low) or 1) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = floor(log10(self.low)), floor(log10(self.high))
            step = max(1, (last - first) // 4)
            return [10.0**e for e in range(first, last + 1, step) if 10.0**e >= self.low] or [self.low]
        step = 10.0 ** floor(log10((self.high - self.low) or 1))
        step = next(s for s in (step / 5, step / 2, step, step * 2) if (self.high - self.low) / s <= 6)
        first = int(self.low / step) - 1
        ticks = (round(i * step, 12) for i in range(first, first + 12))
        return [tick for tick in ticks if self.low <= tick <= self.high]


def series_svg(series: Series) -> str:
    """The figure of a series, with axes, units, a legend and a text for those who can't see it."""
    points = {arm: [(sum(v) / len(v), *bca_interval(v)) for v in by_x] for arm, by_x in series.arms.items()}
    numeric = all(isinstance(x, int | float) for x in series.x)
    xs = x_positions(series.x, numeric)
    title = wrapped(f"{series.name}{f' ({series.unit})' if series.unit else ''}", (WIDTH - 8) / BOLD)
    labels = x_labels(series.x, xs, numeric)
    top = TOP + LINE * (len(title) - 1)
    below = top + PLOT + 2 + LINE * max(len(label) for label in labels)  # of the x axis's labels
    legend = below + (29 if series.x_name else 11)
    height = legend + 15 * len(points) + 4
    y = y_axis([end for arm in points.values() for point in arm for end in point], top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(alternative(series, points))}" '
        f'style="max-width:100%;height:auto" font-family="sans-serif" font-size="11" fill="{INK}">',
        *(words(4, 14 + LINE * i, row, weight="600") for i, row in enumerate(title)),
    ]
    for tick in y.ticks():
        parts.append(line(LEFT, y(tick), WIDTH - RIGHT, y(tick), GRID))
        parts.append(words(LEFT - 5, y(tick) + 4, number(tick), anchor="end"))
    size = label_size(labels) if not numeric else 11
    for label, at in zip(labels, xs, strict=True):
        rows = enumerate(label)
        parts += [words(at, top + PLOT + 15 + LINE * i, row, anchor="middle", size=size) for i, row in rows]
    if series.x_name:
        parts.append(words((LEFT + WIDTH - RIGHT) / 2, below + 16, series.x_name, anchor="middle"))
    for i, (arm, values) in enumerate(points.items()):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        apart = 3 if numeric else min(26 if len(xs) == 1 else 14, 0.8 * SPAN / len(xs) / len(points))
        shift = (i - (len(points) - 1) / 2) * apart
        places = [at + shift for at in xs]
        if numeric and len(xs) > 1:
            path = " ".join(f"{at:.1f},{y(v[0]):.1f}" for at, v in zip(places, values, strict=True))
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" '
                f'stroke-dasharray="{dash}"/>'
            )
        for at, (mean, low, high) in zip(places, values, strict=True):
            parts.append(line(at, y(low), at, y(high), colour, 1.6))
            parts.append(marker(i, at, y(mean), colour))
        at = legend + 15 * i
        parts += [
            f'<line x1="8" x2="36" y1="{at}" y2="{at}" stroke="{colour}" stroke-width="1.6" '
            f'stroke-dasharray="{dash}"/>',
            marker(i, 22, at, colour),
            words(42, at + 4, arm),
        ]
    return "".join([*parts, "</svg>"])


def y_axis(ends: Sequence[float], top: float) -> Axis:
    low, high = min(ends), max(ends)
    if low > 0 and high / low > 300:
        return Axis(low / 2, high * 2, top + PLOT, top, log=True)
    pad = (high - low) * 0.08 or abs(high) * 0.1 or 1
    low = 0.0 if 0 <= low < (high - low) * 0.5 else low - pad
    return Axis(low, high + pad, top + PLOT, top)


def x_positions(x: Sequence[float | str], numeric: bool) -> list[float]:
    start, end = LEFT + SIDE, WIDTH - RIGHT - SIDE
    if not numeric or len(x) == 1:
        return [start + (end - start) * (i + 0.5) / len(x) for i in range(len(x))]
    axis = Axis(min(x), max(x), start, end, log=min(x) > 0 and max(x) / min(x) > 20)
    return [axis(value) for value in x]


def x_labels(x: Sequence[float | str], at: Sequence[float], numeric: bool) -> list[list[str]]:
    """The rows of text under each place: words in rows as wide as the place allows, every so many numbers as fit."""
    if not numeric:
        room = SPAN / len(x) / LETTER
        return [wrapped(str(value), room) for value in x]
    texts = [number(value) for value in x]
    halves = [len(text) * LETTER / 2 + 3 for text in texts]
    for every in range(1, len(x) + 1):
        shown = range(0, len(x), every)
        if all(abs(at[b] - at[a]) >= halves[a] + halves[b] for a, b in pairwise(shown)):
            break
    return [[text] if i in shown else [] for i, text in enumerate(texts)]


def label_size(labels: Sequence[Sequence[str]]) -> float:
    """The size of letters, 11 pixels or less, at which the longest row fits into its share of the width."""
    longest = max((len(row) for label in labels for row in label), default=1)
    return min(11.0, round(11 * SPAN / len(labels) / ((longest + 0.5) * LETTER), 1))


def wrapped(text: str, letters: float) -> list[str]:
    """The text in rows of at most so many letters; a longer word keeps its row."""
    return textwrap.wrap(text, max(4, int(letters)), break_long_words=False, break_on_hyphens=False) or [""]


def marker(i: int, x: float, y: float, colour: str) -> str:
    shape = i % 3
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour}"/>'
    if shape == 1:
        return f'<rect x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4" fill="{colour}"/>'
    return f'<path d="M{x:.1f} {y - 4.2:.1f}l4 7h-8z" fill="{colour}"/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def words(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400", size: float = 11) -> str:
    smaller = f' font-size="{size:g}"' if size < 11 else ""
    at = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {at}{smaller}>{escape(text)}</text>"


def alternative(series: Series, points: dict[str, list[tuple[float, float, float]]]) -> str:
    """What the figure shows, in words."""
    told = []
    for arm, values in points.items():
        at = [f"{number(v[0])}{f' at {x}' if str(x) else ''}" for x, v in zip(series.x, values, strict=True)]
        told.append(f"{arm}: {', '.join(at)}")
    by = f" by {series.x_name}" if series.x_name else ""
    return f"{series.name} in {series.unit or 'no unit'}{by}. " + "; ".join(told) + "."
