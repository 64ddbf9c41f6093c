"""Figures as inline SVG: no script, no font, nothing loaded, in the page's own colours for light and dark.

Each is drawn on a width of 360, what a phone has, so that its text stays readable there; wide pages set two beside
each other. States differ in colour (after Okabe & Ito) and in hatching; the text of each figure says what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .measures import Discrimination

__all__ = ["HATCHES", "Row", "histogram", "items", "legend", "log_edges", "states"]

WIDTH = 360
LEFT, RIGHT = 40, 12  # margins around the axes
ROW = 34  # a label, and what it labels below it
Row = tuple[str, Mapping[str, int]]

# One definition a page; figures refer to it.
HATCHES = (
    '<svg width="0" height="0" aria-hidden="true" focusable="false" class="defs"><defs>'
    '<pattern id="hatch-partial" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="fill-partial" width="6" height="6"/><rect class="cut" width="1.8" height="6"/></pattern>'
    '<pattern id="hatch-zero" width="7" height="7" patternUnits="userSpaceOnUse">'
    '<rect class="fill-zero" width="7" height="7"/><circle class="cut" cx="3.5" cy="3.5" r="1.5"/></pattern>'
    '<pattern id="hatch-none" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect class="fill-blank" width="5" height="5"/><rect class="cut" width="5" height="2"/></pattern>'
    "</defs></svg>"
)


def _svg(id: str, title: str, told: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {_n(height)}" role="img" aria-labelledby="{id}-title {id}-text">'
        f'<title id="{id}-title">{escape(title)}</title><desc id="{id}-text">{escape(told)}</desc>'
        + "".join(parts)
        + "</svg>"
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _whole_steps(top: int) -> list[int]:
    """At most five whole numbers from 0 to at least `top`."""
    step = next(s for s in (m * 10**k for k in range(9) for m in (1, 2, 5)) if 4 * s >= top)
    return list(range(0, top + step, step))


def histogram(
    id: str,
    title: str,
    counts: Sequence[int],
    ticks: Sequence[tuple[float, str]],
    *,
    unit: str,
    what: str,
    told: str,
) -> str:
    """Bars side by side. `ticks` places the horizontal axis's numbers, from 0 at its left end to 1 at its right."""
    floor, height, end = 196, 168, WIDTH - RIGHT
    width = (end - LEFT) / len(counts)
    steps = _whole_steps(max(counts))
    parts = []
    for step in steps:
        y = floor - height * step / steps[-1]
        parts += [_line(LEFT, y, end, y, "grid"), _text(LEFT - 6, y + 4, str(step), anchor="end")]
    for i, count in enumerate(counts):
        x, tall = LEFT + i * width, height * count / steps[-1]
        if count:
            box = f'x="{_n(x + 1.5)}" y="{_n(floor - tall)}" width="{_n(width - 3)}" height="{_n(tall)}"'
            parts.append(f'<rect class="bar" {box}/>')
    parts += [_line(LEFT, floor, end, floor)]
    parts += [_line(LEFT + at * (end - LEFT), floor, LEFT + at * (end - LEFT), floor + 4) for at, _ in ticks]
    parts += [_text(LEFT + at * (end - LEFT), floor + 18, label) for at, label in ticks]
    parts.append(_text((LEFT + end) / 2, floor + 38, unit))
    parts.append(_text(LEFT - 26, 14, what, anchor="start"))
    return _svg(id, title, told, floor + 46, parts)


def log_edges(values: Sequence[float]) -> tuple[list[float], list[tuple[float, str]]]:
    """Bin edges that grow by a fifth of a decade around all (positive) values, and the ticks 1, 2, 5, 10 … there."""
    first = math.floor(5 * math.log10(min(values)) + 1e-9)
    last = max(first + 5, math.floor(5 * math.log10(max(values)) + 1e-9) + 1)
    edges = [10 ** (k / 5) for k in range(first, last + 1)]
    nice = [m * 10.0**k for k in range(-4, 8) for m in (1, 2, 5)]
    span = math.log10(edges[-1] / edges[0])
    places = [(math.log10(value / edges[0]) / span, f"{value:g}") for value in nice]
    return edges, [(at, label) for at, label in places if -1e-9 <= at <= 1 + 1e-9]


STATE_FILLS = {
    "full": 'class="fill-full"',
    "partial": 'fill="url(#hatch-partial)"',
    "zero": 'fill="url(#hatch-zero)"',
    "blank": 'class="hollow"',
    "none": 'fill="url(#hatch-none)"',
}
STATE_NAMES = {
    "full": "all points",
    "partial": "some",
    "zero": "none",
    "blank": "left blank",
    "none": "no verdict yet",
}


def legend() -> str:
    """What the states' fills mean."""
    return (
        '<ul class="legend">'
        + "".join(
            f'<li><svg width="22" height="14" aria-hidden="true" focusable="false">'
            f'<rect {fill} x="1" y="1" width="20" height="12"/></svg> {STATE_NAMES[state]}</li>'
            for state, fill in STATE_FILLS.items()
        )
        + "</ul>"
    )


def states(id: str, title: str, rows: Sequence[Row], *, told: str) -> str:
    """A bar for each exercise, cut by how many learners got all, some or none of its points."""
    left, end = 4, WIDTH - 14
    scale = (end - left) / 100
    floor = len(rows) * ROW + 4
    parts = [_line(left + 25 * k * scale, 0, left + 25 * k * scale, floor, "grid") for k in range(5)]
    for number, (label, counts) in enumerate(rows):
        y, x = number * ROW, float(left)
        parts.append(_text(left, y + 12, _fits(label), anchor="start", kind="label"))
        whole = sum(counts.values()) or 1
        for state, fill in STATE_FILLS.items():
            count = counts.get(state, 0)
            width = 100 * scale * count / whole
            if not count:
                continue
            parts.append(f'<rect {fill} x="{_n(x)}" y="{y + 17}" width="{_n(width)}" height="14"/>')
            if width >= 9 * len(str(count)) + 6:
                parts.append(_text(x + width / 2, y + 28.5, str(count), kind="count"))
            x += width
    parts.append(_line(left, floor, end, floor))
    for k in range(5):
        anchor = "start" if k == 0 else "end" if k == 4 else "middle"
        parts.append(_text(left + 25 * k * scale, floor + 16, str(25 * k), anchor=anchor))
    parts.append(_text((left + end) / 2, floor + 36, "share of the learners (%)"))
    return _svg(id, title, told, floor + 44, parts)


def items(id: str, title: str, rows: Sequence[tuple[str, float | None, Discrimination]], *, told: str) -> str:
    """Beside each other for each exercise: the mean share of its points, and its discrimination with the interval."""
    left, middle, right, end = 4, 164, 196, WIDTH - 14
    floor = len(rows) * ROW + 4
    ease = lambda share: left + share * (middle - left)
    r_at = lambda r: right + (r + 1) / 2 * (end - right)
    parts = [_line(ease(k / 2), 0, ease(k / 2), floor, "grid") for k in range(3)]
    parts += [_line(r_at(k), 0, r_at(k), floor, "axis" if k == 0 else "grid") for k in (-1, 0, 1)]
    for number, (label, share, found) in enumerate(rows):
        y = number * ROW + 24
        parts.append(_text(left, y - 12, _fits(label), anchor="start", kind="label"))
        if share is not None:
            parts += [
                _line(left, y, ease(share), y, "stem"),
                f'<circle class="bar" cx="{_n(ease(share))}" cy="{y}" r="5"/>',
            ]
        if found.r is None:
            parts.append(_text((right + end) / 2, y + 4, found.told, kind="count"))
            continue
        x = r_at(found.r)
        parts.append(_line(r_at(found.low), y, r_at(found.high), y, "whisker"))
        parts.append(f'<rect class="mark" x="{_n(x - 4.5)}" y="{_n(y - 4.5)}" width="9" height="9"/>')
    parts += [_line(left, floor, middle, floor), _line(right, floor, end, floor)]
    for at, label, anchor in ((0, "0", "start"), (0.5, "50", "middle"), (1, "100", "middle")):
        parts.append(_text(ease(at), floor + 16, label, anchor=anchor))
    for r in (-1, 0, 1):
        parts.append(_text(r_at(r), floor + 16, str(r).replace("-", "−")))
    parts.append(_text((left + middle) / 2, floor + 36, "mean share (%)"))
    parts.append(_text((right + end) / 2, floor + 36, "discrimination (r)"))
    return _svg(id, title, told, floor + 44, parts)


def _fits(label: str) -> str:
    return label if len(label) <= 50 else label[:49] + "…"
