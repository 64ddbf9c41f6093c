"""What all interactive figures share: axes that cut and never lie, a form that draws, a goal that stays reached."""

import math
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from course_lib.plots import Figure, PlotError
from course_lib.widgets.interactive import Interactive, View, choice, rows, slider
from course_lib.widgets.svg import Axis, Panel, drawing, legend, power_of_2, power_of_10, text

WIDGET = "application/vnd.jupyter.widget-view+json"


class Doubled(Interactive):
    """Twice a number; the goal is 6."""

    caption = "Twice the number, in <words>."

    def controls(self):
        return {"number": slider("Number", 1, 0, 5, 1), "sign": choice("Sign", {"plus": 1, "minus": -1}, 1)}

    def view(self, number, sign):
        value = 2 * number * sign
        return View(drawing(10, 10, text(5, 5, str(value)), f"it is {value}"), f"Find 6 & stop: {value}", value == 6)

    def static(self):
        view = self.view(1, 1)
        return Figure(view.svg, "Twice one.", self.caption)


def test_every_control_redraws_and_the_goal_stays_reached():
    goal, number, sign, picture, caption = Doubled().widget().children
    assert ">2<" in picture.value and "Find 6 &amp; stop: 2" in goal.value
    number.value = 3
    assert ">6<" in picture.value and "stop: 6" in goal.value
    sign.value = -1
    assert ">-6<" in picture.value and "stop: 6" in goal.value
    assert "&lt;words&gt;" in caption.value


def test_both_forms_travel_together_and_the_text_is_the_alt_text(monkeypatch):
    figure = Doubled()
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", WIDGET} and bundle["text/plain"] == str(figure) == "Twice one."
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(figure._repr_mimebundle_()) == {"text/plain", "text/html"}


@pytest.mark.parametrize(
    ("value", "share"), [(1, 0), (4, 0.5), (16, 1), (0.01, 0), (99, 1), (math.inf, 1), (math.nan, 1)]
)
def test_a_log_axis_gives_equal_lengths_to_equal_ratios_and_cuts_what_lies_beyond(value, share):
    assert Axis("ratio", 1, 16, log=True).share(value) == pytest.approx(share)


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, 1, True)])
def test_an_axis_without_length_is_refused(low, high, log):
    with pytest.raises(PlotError, match="can't go from"):
        Axis("x", low, high, log=log)


def test_a_panel_draws_into_its_rectangle_and_says_what_its_axes_are():
    panel = Panel(10, 20, 100, 50, Axis("depth (layers)", 0, 4, {0: "0", 4: "4"}), Axis("share <1", 0, 1, {1: "100%"}))
    assert (panel.x_of(2), panel.y_of(1), panel.y_of(0)) == (60, 20, 70)
    body = panel.frame(strong=1) + panel.curve([0, 4], [0, 9], "red", dots=True) + panel.histogram([0.5, 1], "blue")
    drawn = drawing(200, 100, body + legend([("line", "red", "7 4")], 0, 9), 'a "panel"')
    root = ElementTree.fromstring(drawn)
    assert root.attrib["aria-label"] == 'a "panel"'
    words = [element.text for element in root.iter() if element.text]
    assert {"depth (layers)", "share <1", "100%", "line"} <= set(words)
    assert "10.0,70.0 110.0,20.0" in drawn  # 9 lies above the axis: cut at its end
    with pytest.raises(ValueError, match="zip"):
        panel.curve([0, 1], [0], "red")


def test_powers_read_as_learners_write_them():
    assert [power_of_2(k) for k in (-2, 0, 4)] == ["1/4", "1", "16"]
    assert [power_of_10(k) for k in (-16, 0, 3)] == ["10⁻¹⁶", "1", "10³"]


def test_images_become_rows_of_their_own_kind_and_nothing_else_does():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert rows(images).tolist() == images.reshape(2, 12).tolist() and rows(images).dtype == torch.uint8
    for wrong in (np.zeros((0, 8, 8)), torch.zeros(5)):
        with pytest.raises(PlotError, match="Images are needed"):
            rows(wrong)


def test_names_can_be_options_themselves():
    assert choice("Net", ["a", "b"], "b").options == ("a", "b") and choice("Net", {"a": 1}, 1).options == (("a", 1),)
