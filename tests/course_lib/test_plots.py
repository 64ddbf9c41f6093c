"""Figures: each with alt text and caption, light, in the page's own ink, nothing left open, nothing on stderr."""

import gc
import os
import re
import subprocess
import sys
import weakref
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pytest

from course_lib import plots
from course_lib.plots import Figure, PlotError
from course_lib.training import History

WORDS = {"alt": "Two arms; <one> is higher.", "caption": "See how one & the other differ."}


@dataclass(frozen=True)
class Short:
    train_loss: tuple[float, ...]
    seconds: float


def arms(**changes):
    given = {"measurements": {"off": [94.0, 94.2, 94.1], "on": [95.0, 95.3, 94.9]}, "xlabel": "accuracy (%)"}
    return plots.arms(**{**given, **WORDS, **changes})


def series(**changes):
    given = {
        "x": [1, 2, 4],
        "values": {"off": [[1, 2, 3], [2, 3, 4]], "on": [3, 4, 5]},
        "xlabel": "n",
        "ylabel": "loss",
    }
    return plots.series(**{**given, **WORDS, **changes})


def history(run=None, **changes):
    run = run or History((1.2, 0.8), (1.0, 0.5), (0.6, 0.7), (1.1, 0.6), (0.5, 0.6), 1.0)
    return plots.history(run, **{**WORDS, **changes})


def grid(**changes):
    given = {"images": np.zeros((12, 8, 8), np.uint8), "labels": list(range(12))}
    return plots.grid(**{**given, **WORDS, **changes})


def histograms(**changes):
    values = np.linspace(-1, 1, 500)
    given = {"layers": {"layer 1": {"training": values, "test": 2 * values}, "layer 2": {"training": values}}}
    return plots.histograms(**{**given, "xlabel": "z", **WORDS, **changes})


ALL = [arms, series, history, grid, histograms]


@pytest.mark.parametrize("draw", ALL)
def test_a_figure_has_its_words_in_every_form(draw):
    figure = draw()
    bundle = figure._repr_mimebundle_()
    assert bundle["text/plain"] == str(figure) == WORDS["alt"]
    assert 'aria-label="Two arms; &lt;one&gt; is higher."' in bundle["text/html"]
    assert "<figcaption" in bundle["text/html"]
    assert "one &amp; the other" in bundle["text/html"]


@pytest.mark.parametrize("draw", ALL)
def test_the_svg_is_whole_small_and_in_the_pages_ink(draw):
    svg = draw().svg
    ElementTree.fromstring(svg)
    assert len(svg) < 120_000
    assert plots.INK not in svg.lower()
    assert draw is grid or "currentColor" in svg
    assert "#000000" not in svg and "#ffffff" not in svg  # a fixed black or white is lost in one of the themes


@pytest.mark.parametrize("draw", ALL)
def test_references_stay_within_the_figure(draw):
    svg = draw().svg
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
    assert used <= ids
    assert all(re.match(r"f[0-9a-f]{8}-", name) for name in ids)


def test_two_figures_on_a_page_share_no_id():
    one, two = (set(re.findall(r'\bid="([^"]+)"', series(xlabel=label).svg)) for label in ("n", "m"))
    assert not one & two


@pytest.mark.parametrize("draw", ALL)
def test_the_same_figure_has_the_same_bytes(draw):
    assert draw().svg == draw().svg


@pytest.mark.parametrize("words", [{"alt": ""}, {"caption": " "}])
@pytest.mark.parametrize("draw", ALL)
def test_no_figure_without_alt_text_and_caption(draw, words):
    with pytest.raises(PlotError, match="alt text"):
        draw(**words)


def test_arms_differ_in_colour_and_in_line():
    svg = series(values={name: [1, 2, k] for k, name in enumerate("abcdef")}).svg
    for colour in plots.COLOURS:
        assert colour.lower() in svg
    dashes = set(re.findall(r"stroke-dasharray: ([^;\"]+)", svg))
    assert len(dashes) >= len(plots.LINES) - 1  # the first line is solid


@pytest.mark.parametrize(
    ("draw", "wrong", "said"),
    [
        (arms, {"measurements": {}}, "no arm"),
        (arms, {"measurements": {"off": []}}, "off: needs 1-dimensional"),
        (arms, {"measurements": {"off": [1.0, float("nan")]}}, "off: 1 of its values"),
        (series, {"values": {}}, "no arm"),
        (series, {"values": {"on": [1, 2]}}, "on: 2 values a seed for 3"),
        (series, {"x": [1, 2, np.inf]}, "x: 1 of its values"),
        (history, {"run": {"seconds": [1.0]}}, "no loss or accuracy"),
        (history, {"run": Short((float("nan"),), 1.0)}, "train_loss: 1 of its values"),
        (grid, {"images": np.zeros((8, 8))}, "don't make a grid"),
        (grid, {"labels": [1]}, "don't make a grid"),
        (grid, {"predicted": [1]}, "1 predicted labels for 12"),
        (histograms, {"layers": {}}, "no layer"),
        (histograms, {"layers": {"layer 1": {}}}, "no layer"),
        (histograms, {"layers": {"layer 1": {"test": [np.inf]}}}, "layer 1, test: 1 of"),
    ],
)
def test_what_can_not_be_drawn_is_refused_by_name(draw, wrong, said):
    with pytest.raises(PlotError, match=said):
        draw(**wrong)


def test_intervals_are_drawn_where_given():
    assert arms(intervals={"off": (93.0, 95.0), "on": (94.0, 96.0)}).svg != arms().svg
    assert series(intervals={"off": ([0] * 3, [5] * 3), "on": ([2] * 3, [6] * 3)}).svg != series().svg


def test_wrong_predictions_are_marked():
    assert grid(predicted=list(range(12))).svg == grid().svg
    assert grid(predicted=[0] * 12).svg != grid().svg


def test_histograms_take_equal_values():
    assert histograms(layers={"dead": {"training": np.zeros(50)}}).svg


def test_colour_images_and_shares_are_drawn():
    assert grid(images=np.random.default_rng(0).random((12, 8, 8, 3))).svg


def test_figures_are_not_kept(monkeypatch):
    """No canvas outlives its function: three figures later none is alive, nor known to pyplot."""
    import matplotlib.figure

    alive = weakref.WeakSet()
    create = matplotlib.figure.Figure.__init__

    def watched(self, *args, **kwargs):
        create(self, *args, **kwargs)
        alive.add(self)

    monkeypatch.setattr(matplotlib.figure.Figure, "__init__", watched)
    for draw in (arms, series, histograms):
        draw()
    gc.collect()
    assert len(alive) == 0
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_the_style_ends_with_its_block():
    import logging

    import matplotlib

    before, level = dict(matplotlib.rcParams), logging.getLogger("matplotlib").level
    with plots.style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert dict(matplotlib.rcParams) == before
    assert logging.getLogger("matplotlib").level == level


def test_matplotlib_comes_late_and_nothing_goes_to_stderr(tmp_path):
    """Even at the first drawing on a machine, with no font cache and nowhere to keep one."""
    code = (
        "import sys; from course_lib import plots; assert 'matplotlib' not in sys.modules;"
        "plots.series([1, 2], {'a': [1, 2]}, xlabel='x', ylabel='y', alt='alt', caption='caption')"
    )
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "file"), "HOME": str(tmp_path / "file")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_figure_of_its_own():
    figure = Figure("<svg></svg>", "alt", "caption")
    assert repr(figure) == "Figure('alt')"
