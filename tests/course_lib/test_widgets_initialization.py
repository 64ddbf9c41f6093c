"""The interactive figure of lesson 2: what it measures is right, it answers fast, and it has a static form."""

import statistics
import time
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from course_lib.plots import PlotError
from course_lib.widgets.initialization import ACTIVATIONS, DEPTH, FlowFigure, measure_flow

UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure; a median, so that one pause does not count


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (70, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def figure(images):
    return FlowFigure(images)


def test_a_linear_net_scales_exactly_by_the_scale_in_every_layer(images):
    """The random numbers stay, so doubling the variance doubles every layer's factor."""
    one, two = (measure_flow(images, scale=scale, activation="linear") for scale in (1.0, 2.0))
    layers = np.arange(1, DEPTH + 1)
    np.testing.assert_allclose(np.array(two.signal) / one.signal, 2.0**layers, rtol=1e-9)
    np.testing.assert_allclose(np.array(two.gradient) / one.gradient, 2.0 ** (DEPTH - layers), rtol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_is_autograds(images, activation):
    """The backward pass by hand against autograd, at the first layer, where every step of it has been taken."""
    from course_lib.widgets import initialization

    net, function = initialization._Net(images, 0), {"linear": lambda z: z, "relu": torch.relu}
    function |= {"tanh": torch.tanh, "sigmoid": torch.sigmoid}
    first = (1.3**0.5 * (net.x @ net.draws[0].T)).requires_grad_()
    z = first
    for draw in net.draws[1:]:
        z = 1.3**0.5 * (function[activation](z) @ draw.T)
    (gradient,) = torch.autograd.grad((z * net.noise).sum(), first)
    assert net.measure(1.3, activation).gradient[0] == pytest.approx(float(gradient.square().mean()), rel=1e-9)


def test_hes_scale_keeps_relus_signal_and_lecuns_loses_it(images):
    he, lecun = (measure_flow(images, scale=scale).signal[-1] for scale in (2.0, 1.0))
    assert 0.05 < he < 20 and lecun < 1e-12


def test_the_goal_can_be_reached_and_not_by_any_scale(figure):
    reached = [scale for scale in np.arange(0.1, 5.0, 0.02) if figure.view(round(scale, 2), "relu").reached]
    assert 1 <= len(reached) <= 8 and all(1.7 < scale < 2.3 for scale in reached)
    assert not figure.view(2.0, "tanh").reached


def test_what_is_out_of_range_is_refused(images):
    with pytest.raises(PlotError, match=r"Give 0\.1 ≤ scale ≤ 5"):
        measure_flow(images, scale=0.0)
    with pytest.raises(PlotError, match="an activation of linear, relu"):
        measure_flow(images, scale=1.0, activation="swish")
    with pytest.raises(PlotError, match="Images are needed"):
        FlowFigure(np.zeros((0, 8, 8)))


def test_the_drawings_are_sound_and_the_static_form_says_what_they_show(figure):
    static = figure.static()
    assert "mean square" in static.alt and static.caption
    for svg in (static.svg, figure.view(5.0, "linear").svg, figure.view(0.1, "sigmoid").svg):
        root = ElementTree.fromstring(svg)
        assert "nan" not in svg and root.get("aria-label")


def test_an_update_is_fast_and_leaves_torchs_generator_alone(figure):
    before, seconds = torch.get_rng_state(), []
    for scale in (0.5, 1.0, 1.5, 2.0, 2.5):
        begin = time.process_time()
        figure.view(scale, "tanh")
        seconds.append(time.process_time() - begin)
    assert torch.equal(torch.get_rng_state(), before)
    assert statistics.median(seconds) < UPDATE_SECONDS


def test_the_form_has_two_controls_and_moves_its_drawing(figure):
    form = figure.widget()
    goal, scale, activation, picture, _ = form.children
    shown = picture.value
    scale.value = 2.0
    assert picture.value != shown and "Your goal" in goal.value and activation.value == "relu"
