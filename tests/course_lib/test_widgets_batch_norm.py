"""The lesson's interactive figure: what it measures is right, it answers fast, and it has a static form."""

import statistics
import time
from xml.etree import ElementTree

import pytest
import torch

from course_lib.normalization import batch_norm
from course_lib.plots import PlotError
from course_lib.widgets.batch_norm import DEPTH, NormFigure, measure_spread

UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure


@pytest.fixture(scope="module")
def images():
    return torch.randn(256, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def figure(images):
    return NormFigure(images)


def test_normalized_values_are_those_of_the_courses_own_batch_norm(images):
    found = measure_spread(images, batch=32, layer=1)
    expected, _, _ = batch_norm(found.values[0].view(32, -1))
    torch.testing.assert_close(found.values[1].view(32, -1), expected, rtol=0, atol=1e-4)


def test_with_batch_norm_the_spread_is_one_at_every_scale_and_layer(images):
    for scale in (0.3, 1.0, 3.0):
        assert measure_spread(images, scale=scale, batch=64).normed == pytest.approx([1] * DEPTH, abs=0.02)


def test_without_it_the_spread_grows_with_the_scale_to_the_power_of_the_layer(images):
    one, two = (measure_spread(images, scale=scale, batch=64).plain for scale in (1.0, 2.0))
    assert [b / a for a, b in zip(one, two, strict=True)] == pytest.approx([2.0**k for k in range(1, DEPTH + 1)])


def test_a_batch_of_two_leaves_two_values(images):
    values = measure_spread(images, batch=2, layer=1).values[1]
    assert values.abs().quantile(0.1) > 0.99


def test_statistics_of_all_images_are_the_running_ones_and_a_small_batch_is_far_from_them(images):
    assert max(measure_spread(images, batch=256).apart) < 1e-5
    assert measure_spread(images, batch=4).apart[-1] > measure_spread(images, batch=64).apart[-1] > 0.05


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"batch": 1}, {"batch": 512}, {"layer": 0}, {"layer": 9}])
def test_what_is_out_of_range_is_refused(images, wrong):
    with pytest.raises(PlotError, match="Give a scale above 0"):
        measure_spread(images, **wrong)


def test_too_few_images_are_refused():
    with pytest.raises(PlotError, match="needs 256 images"):
        NormFigure(torch.zeros(10, 8, 8))


def test_black_images_give_a_figure_all_the_same():
    assert "nan" not in NormFigure(torch.zeros(256, 8, 8)).static().svg


def test_an_update_takes_less_than_the_limit(figure):
    _, scale, *_ = figure.widget().children
    seconds = []
    for k in range(20):
        begun = time.perf_counter()
        scale.value = 0.5 + 0.05 * k
        seconds.append(time.perf_counter() - begun)
    assert statistics.median(seconds) < UPDATE_SECONDS


def test_every_control_changes_the_picture(figure):
    _, scale, shift, batch, layer, picture, _ = figure.widget().children
    seen = {picture.value}
    for control, value in ((scale, 0.8), (shift, 1.0), (batch, 2), (layer, 7)):
        control.value = value
        seen.add(picture.value)
    assert len(seen) == 5
    assert all(control.description for control in (scale, shift, batch, layer))


def test_the_goal_is_a_narrow_window_that_the_slider_can_reach(figure):
    goal, scale, *_ = figure.widget().children
    assert "✓" not in goal.value
    found = [k / 100 for k in range(10, 301) if figure.view(k / 100, 0.0, 6, 4).reached]
    assert 5 <= len(found) <= 40
    scale.value = found[0]
    assert "✓ Found" in goal.value


def test_the_drawing_is_whole_and_says_what_it_shows(figure):
    for setting in ((0.1, -3.0, 1, 1), (3.0, 3.0, 8, DEPTH)):
        svg = figure.view(*setting).svg
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img" and "without batch norm the spread goes from" in root.attrib["aria-label"]
        assert "nan" not in svg and len(svg) < 20_000
    static = figure.static()
    ElementTree.fromstring(static.svg)
    assert static.alt == str(figure) and "a batch of 2" in static.alt
