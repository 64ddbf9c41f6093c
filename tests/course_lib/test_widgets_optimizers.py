"""The interactive figure of the optimizers: its paths are the optimizers' own, it answers fast, its goal can be met."""

import statistics
import time
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from course_lib.plots import PlotError
from course_lib.widgets.optimizers import OPTIMIZERS, RAVINE, SADDLE, STEPS, TURNED, PathFigure, follow, measure_slice

WIDGET = "application/vnd.jupyter.widget-view+json"
UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure


@pytest.fixture(scope="module")
def slice_of_a_net():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(40, 1, 4, 4, generator=generator), torch.arange(40) % 4
    return measure_slice(images, labels, steps=30)


@pytest.fixture(scope="module")
def figure(slice_of_a_net):
    return PathFigure({"a net's loss": slice_of_a_net})


MAKERS = {
    "gradient descent": lambda w: torch.optim.SGD(w, 0.01),
    "momentum": lambda w: torch.optim.SGD(w, 0.01, momentum=0.9),
    "Nesterov": lambda w: torch.optim.SGD(w, 0.01, momentum=0.9, nesterov=True),
    "AdaGrad": lambda w: torch.optim.Adagrad(w, 0.01, eps=1e-10),
    "RMSProp": lambda w: torch.optim.RMSprop(w, 0.01, alpha=0.9),
    "Adam": lambda w: torch.optim.Adam(w, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_path_is_pytorchs(name):
    w = torch.tensor(RAVINE.start, dtype=torch.float64, requires_grad=True)
    optimizer = MAKERS[name]([w])
    for _ in range(STEPS):
        optimizer.zero_grad()
        w.grad = RAVINE.gradient(w.detach())
        optimizer.step()
    np.testing.assert_allclose(follow(RAVINE, name, 0.01).points[-1], w.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("surface", [RAVINE, TURNED, SADDLE], ids=["ravine", "turned", "saddle"])
def test_a_gradient_is_the_slope_of_the_value(surface):
    w, h = torch.tensor([0.7, -0.4], dtype=torch.float64), 1e-5
    slopes = [(surface.value(w + h * e) - surface.value(w - h * e)) / (2 * h) for e in torch.eye(2, dtype=w.dtype)]
    np.testing.assert_allclose(surface.gradient(w).numpy(), slopes, rtol=1e-6)


def test_a_slice_falls_toward_the_trained_weights(slice_of_a_net):
    at = [slice_of_a_net.value(torch.tensor([a, 0.0])) for a in (0.0, 0.5, 1.0)]
    assert at[0] > at[1] > at[2]


def test_a_rate_beyond_the_ravines_limit_blows_up_and_is_still_drawn(figure):
    assert follow(RAVINE, "gradient descent", 2.1 / 60).last > RAVINE.value(torch.tensor(RAVINE.start))
    ElementTree.fromstring(figure.view("ravine", "momentum", 1.0, 0.99).svg)


def test_the_goal_can_be_reached_and_is_not_reached_at_the_start(figure):
    start = {name: control.value for name, control in figure.controls().items()}
    assert not figure.view(**start).reached
    assert figure.view("ravine", "momentum", -1.3, 0.6).reached
    assert not figure.view("ravine", "gradient descent", -1.5, 0.6).reached


def test_unknown_optimizers_are_refused():
    with pytest.raises(PlotError, match="choose one of"):
        follow(RAVINE, "Adam2", 0.1)


def test_the_static_form_names_every_optimizer_and_surface(figure):
    static = figure.static()
    ElementTree.fromstring(static.svg)
    assert all(name in static.alt for name in (*OPTIMIZERS, *figure.surfaces))
    assert WIDGET in figure._repr_mimebundle_()


def test_an_update_is_fast(figure):
    durations = []
    for k in range(9):
        begin = time.process_time()
        figure.view("a net's loss", OPTIMIZERS[k % 6], -2 + 0.1 * k, 0.9)
        durations.append(time.process_time() - begin)
    assert statistics.median(durations) < UPDATE_SECONDS
