"""The figure of lesson 7: its formulas are what training gives, it answers fast, its goal can be reached."""

import statistics
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from course_lib.plots import PlotError
from course_lib.widgets.regularization import BRAKES, GRID, NOISE, STRENGTHS, BrakeFigure, _solved, amount, fit

UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure


def test_a_penalty_is_ridge_regression():
    _, y, left, size, along = _solved(15, 0.3, 3)
    features = left * size  # the units' outputs, in their singular directions
    strength = 0.6
    eye = np.eye(len(size))
    weights = np.linalg.solve(features.T @ features + amount("penalty", strength) * eye, features.T @ (y - y.mean()))
    expected = along * size @ weights + y.mean()
    np.testing.assert_allclose(fit("penalty", strength).fitted, expected, rtol=1e-6, atol=1e-8)


def test_stopping_is_gradient_descent_cut_short():
    _, y, left, size, along = _solved(15, 0.3, 3)
    features, weights = left * size, np.zeros(len(size))
    time_left, lr = amount("stopping", 0.7), 1e-3
    for _ in range(round(time_left / lr)):
        weights -= lr * features.T @ (features @ weights - (y - y.mean()))
    np.testing.assert_allclose(fit("stopping", 0.7).fitted, along * size @ weights + y.mean(), atol=0.02)


@pytest.mark.parametrize("brake", BRAKES)
def test_training_error_grows_with_the_brake_and_test_error_has_a_valley(brake):
    found = fit(brake, 0.5)
    assert (np.diff(found.training) >= -1e-9).all()
    assert found.best < 0.7 * found.test[0] and found.best < 0.7 * found.test[-1]
    assert found.best >= NOISE
    norms = [fit(brake, s).norm for s in (0.0, 0.3, 0.6, 1.0)]
    assert norms == sorted(norms, reverse=True)


@pytest.mark.parametrize(
    "wrong", [{"strength": -0.1}, {"strength": 1.1}, {"points": 4}, {"noise": 2.0}, {"brake": "x"}]
)
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(PlotError, match="Give a brake of penalty, stopping"):
        fit(**{"brake": "penalty", "strength": 0.5, **wrong})


def test_an_update_takes_less_than_the_limit():
    _, strength, *_ = BrakeFigure().widget().children
    seconds = []
    for k in range(30):
        begun = time.perf_counter()
        strength.value = 0.2 + 0.01 * k
        seconds.append(time.perf_counter() - begun)
    assert statistics.median(seconds) < UPDATE_SECONDS


def test_every_control_changes_the_picture_and_has_a_name():
    _, strength, brake, points, noise, picture, _ = BrakeFigure().widget().children
    seen = {picture.value}
    for control, value in ((strength, 0.4), (brake, "stopping"), (points, 40), (noise, 0.6)):
        assert control.description
        control.value = value
        seen.add(picture.value)
    assert len(seen) == 5


def test_the_goal_is_reached_by_stopping_at_the_right_time_only():
    goal, strength, brake, *_ = BrakeFigure().widget().children
    for value in STRENGTHS:
        strength.value = float(value)
    assert "✓" not in goal.value, "the penalty alone is half of the goal"
    brake.value = "stopping"
    strength.value = 0.0
    assert "✓" not in goal.value
    for value in STRENGTHS:
        strength.value = float(value)
    assert "✓ Found" in goal.value


@pytest.mark.parametrize("brake", BRAKES)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("points", "noise"), [(5, 1.0), (60, 0.0)])
def test_the_drawing_is_whole_and_says_what_it_shows(brake, strength, points, noise):
    view = BrakeFigure().view(strength, brake, points, noise)
    root = ElementTree.fromstring(view.svg)
    assert f"{points} points" in root.attrib["aria-label"]
    assert "nan" not in view.svg and "inf" not in view.svg
    assert len(view.svg) < 30_000


def test_what_a_reader_sees_without_a_widget_manager():
    static = BrakeFigure().static()
    ElementTree.fromstring(static.svg)
    assert "no brake" in static.svg and "too much" in static.svg and static.alt.count("test error") == 3
    assert len(fit("penalty", 0.5).fitted) == len(GRID)
