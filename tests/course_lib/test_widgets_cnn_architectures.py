"""The figure of lesson 9: its plan is what a net does, it answers fast, its goal can be reached."""

import statistics
import time
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.plots import PlotError
from course_lib.widgets.cnn_architectures import MOST_PARAMETERS, MOST_PRODUCTS, StackFigure, planned

UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure
SIDE = 28


def figure():
    return StackFigure(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8))


@pytest.mark.parametrize("settings", [(3, 2, 0, 1), (5, 3, 2, 1), (3, 6, 3, 1), (3, 2, 1, 3)])
def test_what_the_middle_value_sees_is_what_its_gradient_reaches(settings):
    kernel, depth, halvings, dilation = settings
    stack = planned(SIDE, kernel, depth, halvings, dilation, "flat")
    x = torch.zeros(1, 1, SIDE, SIDE, requires_grad=True)
    y = x
    for row in stack.account.layers:
        if row.kind == "Conv2d":
            conv = nn.Conv2d(y.shape[1], row.output_shape[0], kernel, padding="same", dilation=dilation)
            nn.init.constant_(conv.weight, 0.01)
            y = conv(y)
        elif row.kind == "MaxPool2d":
            y = nn.functional.avg_pool2d(y, 2)  # it sees the same and has a gradient everywhere
    assert y.shape[2] == stack.last_side
    middle = stack.last_side // 2
    (gradient,) = torch.autograd.grad(y[0, 0, middle, middle], x)
    reached = gradient[0, 0].nonzero()[:, 0]
    assert (int(reached.min()), int(reached.max()) + 1) == stack.seen


def test_an_averaged_head_has_fewer_parameters_and_all_settings_are_told_apart():
    assert (
        planned(SIDE, 3, 3, 1, 1, "average").account.parameters < planned(SIDE, 3, 3, 1, 1, "flat").account.parameters
    )
    with pytest.raises(PlotError, match="odd kernel"):
        planned(SIDE, 4, 3, 1, 1, "flat")
    with pytest.raises(PlotError, match="can't be halved"):
        planned(4, 3, 4, 3, 1, "flat")
    with pytest.raises(PlotError, match="square picture"):
        StackFigure(np.zeros((4, 5)))


def test_an_update_takes_less_than_the_limit():
    planned.cache_clear()
    _, depth, *_ = figure().widget().children
    seconds = []
    for k in (3, 4, 5, 6, 7, 8, 1):
        begun = time.perf_counter()
        depth.value = k
        seconds.append(time.perf_counter() - begun)
    assert statistics.median(seconds) < UPDATE_SECONDS


def test_every_control_changes_the_picture_and_has_a_name():
    _, *controls, picture, _ = figure().widget().children
    seen = {picture.value}
    for control, value in zip(controls, (4, 5, 2, 2, "average"), strict=True):
        assert control.description
        control.value = value
        seen.add(picture.value)
    assert len(seen) == 6


def test_the_goal_is_reached_by_depth_and_halvings_and_not_by_dilation():
    goal, depth, kernel, halvings, dilation, head, *_ = figure().widget().children
    depth.value, dilation.value = 8, 4
    assert "✓" not in goal.value
    dilation.value = 1
    assert "✓" not in goal.value
    reached = [
        (d, k, h, how)
        for d in range(1, 9)
        for k in (3, 5, 7)
        for h in range(4)
        for how in ("flat", "average")
        if figure().view(d, k, h, 1, how).reached
    ]
    assert 0 < len(reached) < 60, "there is something to find, and not everything will do"
    depth.value, kernel.value, halvings.value, head.value = reached[0]
    assert "✓ Found" in goal.value
    plan = planned(SIDE, reached[0][1], reached[0][0], reached[0][2], 1, reached[0][3]).account
    assert plan.parameters <= MOST_PARAMETERS and plan.multiply_adds <= MOST_PRODUCTS


@pytest.mark.parametrize("setting", [(1, 1, 0, 1, "flat"), (8, 7, 3, 4, "average"), (2, 3, 3, 1, "flat")])
def test_the_drawing_is_whole_and_says_what_it_shows(setting):
    view = figure().view(*setting)
    root = ElementTree.fromstring(view.svg)
    assert "multiply-adds" in root.attrib["aria-label"]
    assert "nan" not in view.svg and len(view.svg) < 150_000


def test_what_a_reader_sees_without_a_widget_manager():
    static = figure().static()
    ElementTree.fromstring(static.svg)
    assert static.alt.count("parameters") == 3 and "halved twice" in static.svg
