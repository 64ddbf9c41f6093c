"""The activation figure: what it measures is right, it answers fast, and it has a static form."""

import statistics
import time
from xml.etree import ElementTree

import pytest
import torch

from course_lib.plots import PlotError
from course_lib.widgets.activations import GOAL, GOAL_WITHIN, NAMES, LayerFigure

UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure


@pytest.fixture(scope="module")
def figure():
    generator = torch.Generator().manual_seed(0)
    return LayerFigure(torch.rand(200, 1, 12, 12, generator=generator))


def test_the_numbers_are_those_of_the_outputs(figure):
    layer = figure.probe.measure("relu", 1.0, -0.5)
    h = (figure.probe.z - 0.5).relu()
    assert layer.mean == pytest.approx(float(h.mean()), rel=1e-5)
    assert layer.constant == pytest.approx(float(h.mean(0).square().sum() / h.square().mean(0).sum()), rel=1e-5)
    assert layer.silent == pytest.approx(float((h == 0).all(0).float().mean()))
    assert sum(layer.before) == pytest.approx(1, abs=1e-5) and sum(layer.after) == pytest.approx(1, abs=1e-5)


def test_only_relu_has_units_out_of_reach(figure):
    silent = {name: figure.probe.measure(name, 0.01, -4.0).silent for name in NAMES.values()}
    assert silent["relu"] > 0.5
    assert all(share == 0 for name, share in silent.items() if name != "relu")


def test_alpha_reaches_elu_and_leaky_relu_and_no_other(figure):
    for name in NAMES.values():
        low, high = (figure.probe.measure(name, alpha, 0.0).mean for alpha in (0.1, 2.0))
        assert (low != high) == (name in ("elu", "leaky_relu")), name


def test_the_goal_can_be_reached_and_only_with_relu(figure):
    shift = figure.deadly()
    assert abs(figure.probe.measure("relu", 1.0, shift).silent - GOAL) <= GOAL_WITHIN
    assert figure.view("relu", shift, 1.0).reached and "✓" in figure.view("relu", shift, 1.0).goal
    assert not figure.view("leaky_relu", shift, 0.0001).reached
    assert not figure.view("relu", 0.0, 1.0).reached


def test_every_setting_draws_well_formed_svg_fast(figure):
    seconds = []
    for name in NAMES.values():
        for bias in (-6.0, 0.0, 6.0):
            started = time.perf_counter()
            view = figure.view(name, bias, 3.0)
            seconds.append(time.perf_counter() - started)
            assert ElementTree.fromstring(view.svg).attrib["aria-label"]
    assert statistics.median(seconds) < UPDATE_SECONDS


def test_the_static_form_shows_three_settings_and_the_widget_answers(figure):
    static = figure.static()
    assert static.alt.count("mean output") == 3 and static.svg.count("<polyline") >= 6
    goal, name, bias, _alpha, picture, _caption = figure.widget().children
    before = picture.value
    name.value, bias.value = "gelu", 1.0
    assert picture.value != before and "third" in goal.value


def test_what_is_no_image_or_no_activation_is_refused(figure):
    with pytest.raises(PlotError, match="Images are needed"):
        LayerFigure(torch.zeros(5))
    with pytest.raises(PlotError, match="no activation 'relo'"):
        figure.probe.measure("relo", 1.0, 0.0)
