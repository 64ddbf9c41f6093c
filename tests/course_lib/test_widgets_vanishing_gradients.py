"""The interactive figure of lesson 1: its gradients are autograd's, its goal can be reached, it answers fast."""

import statistics
import time
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib.plots import PlotError
from course_lib.widgets.vanishing_gradients import ACTIVATIONS, GradientFigure, _Net, measure_gradients

UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.integers(0, 17, (200, 8, 8), dtype=np.uint8), np.arange(200) % 10


@pytest.fixture(scope="module")
def figure(data):
    return GradientFigure(*data)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_norms_are_those_that_autograd_finds(data, activation):
    found = measure_gradients(*data, activation=activation, depth=5, scale=1.5)
    net = _Net(*data)
    weights = [(1.5 * draw).requires_grad_() for draw in net.draws[:5]]
    h = net.x
    for weight in weights:
        h = ACTIVATIONS[activation][0](h @ weight)
    grads = torch.autograd.grad(F.cross_entropy(h @ net.out, net.labels), weights)
    assert found.norms == pytest.approx([float(grad.norm()) for grad in grads], rel=1e-9)


def test_a_sigmoid_net_loses_its_gradient_and_the_slope_is_at_most_a_quarter(data):
    found = measure_gradients(*data, activation="sigmoid", depth=10)
    assert found.ratio < 1e-4
    assert max(found.slopes) <= 0.25


def test_with_relu_the_scale_changes_all_layers_alike(data):
    """Without biases ReLU is homogeneous: ⟨W, ∂L/∂W⟩ is the same in every layer."""
    ratios = [measure_gradients(*data, activation="ReLU", scale=scale).ratio for scale in (4.0, 16.0)]
    assert ratios[0] == pytest.approx(ratios[1], rel=0.1)


def test_the_goal_can_be_reached_with_the_slider_and_by_nothing_else(figure):
    exponents = np.round(np.arange(-3, 5.05, 0.1), 1)
    assert any(figure.view("sigmoid", 20, float(exponent)).reached for exponent in exponents)
    assert not figure.view("sigmoid", 20, 0.0).reached
    assert not figure.view("tanh", 20, 0.0).reached


@pytest.mark.parametrize(
    ("activation", "depth", "exponent"), [("sigmoid", 30, -3.0), ("ReLU", 30, 5.0), ("tanh", 2, 0.0)]
)
def test_every_setting_gives_a_drawing_with_a_label(figure, activation, depth, exponent):
    root = ElementTree.fromstring(figure.view(activation, depth, exponent).svg)
    assert activation in root.get("aria-label")
    assert "nan" not in figure.view(activation, depth, exponent).svg


def test_an_update_is_quick(figure):
    figure.view("sigmoid", 30, 0.0)
    taken = []
    for exponent in np.linspace(-3, 5, 9):
        began = time.process_time()
        figure.view("sigmoid", 30, float(exponent))
        taken.append(time.process_time() - began)
    assert statistics.median(taken) < UPDATE_SECONDS


def test_the_static_form_tells_the_story_in_words(figure):
    static = figure.static()
    ElementTree.fromstring(static.svg)
    assert static.alt.count("hidden layers") == 5 and str(figure) == static.alt


@pytest.mark.parametrize("bad", [{"activation": "step"}, {"depth": 0}, {"depth": 99}, {"scale": 0.0}])
def test_values_out_of_range_are_refused(data, bad):
    with pytest.raises(PlotError, match="Give an activation"):
        measure_gradients(*data, **bad)


def test_images_without_labels_are_refused(data):
    with pytest.raises(PlotError, match="as many labels"):
        GradientFigure(data[0], data[1][:5])
