"""The interactive figure: what it measures is right, it answers fast, and it has a static form."""

import statistics
import sys
import time
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from course_lib.plots import PlotError
from course_lib.widgets import dropout as widgets
from course_lib.widgets.dropout import DEPTH, RULES, SignalFigure, measure_signal, random_signal_net, train_signal_net

WIDGET = "application/vnd.jupyter.widget-view+json"
UPDATE_SECONDS = 0.150  # the course's limit for an interactive figure


@pytest.fixture(scope="module")
def images():
    """320 grey pictures of 8 × 8, uint8: blobs at ten places, their place the label."""
    rng = np.random.default_rng(0)
    labels = np.arange(320) % 10
    pictures = rng.integers(0, 60, (320, 8, 8), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[label % 8, label // 8 * 4 : label // 8 * 4 + 4] = 250
    return pictures, labels


@pytest.fixture(scope="module")
def trained(images):
    return train_signal_net(*images, steps=250)


@pytest.fixture(scope="module")
def figure(images, trained):
    return SignalFigure(images[0], {"trained": trained, "random": random_signal_net(64)})


# ── the measurement ──


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75])
def test_after_one_dropout_nothing_scaled_the_signal_is_exactly_one_over_keep(images, trained, p):
    """The masks are spread evenly: at p = k/8 each unit is dropped in exactly k of 8, so no chance is left."""
    assert measure_signal(images[0], trained, p=p, depth=1).ratio == pytest.approx(1 / (1 - p), rel=1e-4)


@pytest.mark.parametrize("rule", ["test", "inverted"])
def test_after_one_dropout_both_remedies_bring_the_signal_back_to_one(images, trained, rule):
    assert measure_signal(images[0], trained, p=0.5, depth=1, rule=rule).ratio == pytest.approx(1, rel=1e-4)


def test_without_scaling_the_signal_grows_with_every_layer(images, trained):
    ratios = measure_signal(images[0], trained, p=0.5).ratios
    assert len(ratios) == DEPTH
    assert all(later > 1.5 * earlier for earlier, later in pairwise(ratios))


def test_both_remedies_are_equal_at_every_depth(images, trained):
    """Without biases the two rules differ by the same factor in training and at test."""
    at_test, inverted = (measure_signal(images[0], trained, p=0.4, rule=rule).ratios for rule in ("test", "inverted"))
    assert at_test == pytest.approx(inverted, rel=1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_without_dropout_there_is_no_difference(images, trained, rule):
    signal = measure_signal(images[0], trained, p=0.0, depth=6, rule=rule)
    assert signal.ratios == pytest.approx([1] * DEPTH, rel=1e-4)


def test_the_measurement_is_repeatable_and_smooth(images, trained):
    """Common random numbers: the same p gives the same figure, a step of 0.01 a small change."""
    one, same, next_ = (measure_signal(images[0], trained, p=p, depth=4).ratio for p in (0.30, 0.30, 0.31))
    assert one == same
    assert 1.0 < next_ / one < 1.15


def test_the_axis_stays_while_p_and_rule_change(figure):
    probe = figure.probes["trained"]
    assert len({probe.measure(p, 3, rule).octaves for p in (0.0, 0.5, 0.9) for rule in RULES}) == 1


def test_measuring_leaves_torchs_own_generator_alone(images, trained):
    before = torch.get_rng_state()
    measure_signal(images[0], trained)
    random_signal_net(64)
    train_signal_net(*images, steps=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_lowers_the_loss_and_repeats(images, trained):
    x, y = torch.tensor(images[0]).flatten(1) / 255, torch.tensor(images[1])

    def loss(weights):
        a = x
        for layer, weight in enumerate(weights):
            a = (a.relu() * 0.5 if layer else a) @ weight.T
        return torch.nn.functional.cross_entropy(a, y).item()

    assert loss(trained) < 0.7 * loss(random_signal_net(64))
    once, again = train_signal_net(*images, steps=10), train_signal_net(*images, steps=10)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not any(w.requires_grad for w in once)


@pytest.mark.parametrize("wrong", [{"p": -0.1}, {"p": 0.95}, {"depth": 0}, {"depth": 7}, {"rule": "both"}])
def test_what_is_out_of_range_is_refused(images, trained, wrong):
    with pytest.raises(PlotError, match=r"Give 0 ≤ p ≤ 0\.9"):
        measure_signal(images[0], trained, **wrong)


def test_a_net_that_does_not_fit_is_refused(images, trained):
    with pytest.raises(PlotError, match="needs a net of 7 weight matrices, not 3"):
        SignalFigure(images[0], trained[:3])
    with pytest.raises(PlotError, match="takes 64 numbers, an image has 16"):
        SignalFigure(np.zeros((4, 4, 4), np.uint8), trained)
    with pytest.raises(PlotError, match="Images are needed"):
        SignalFigure(np.zeros(4), trained)
    with pytest.raises(PlotError, match="needs a net"):
        SignalFigure(images[0], {})


def test_black_images_give_a_figure_all_the_same(trained):
    assert SignalFigure(np.zeros((3, 8, 8), np.uint8), trained).static().svg


# ── the figure ──


def controls(form):
    """Goal, p, depth, rule, net and picture of the form."""
    return form.children[:6]


@pytest.mark.slow
def test_real_images_give_the_expected_powers():
    from course_lib.datasets import load

    train = load("mnist5k").train
    ratios = measure_signal(train.images, train_signal_net(train.images, train.labels), p=0.5).ratios
    assert ratios[:4] == pytest.approx([2, 4, 8, 16], rel=0.15)


def test_an_update_takes_less_than_the_limit(figure):
    """From a slider's new value to the finished drawing; the median, for the machine may be busy."""
    _, p, *_ = controls(figure.widget())
    seconds = []
    for k in range(30):
        begun = time.perf_counter()
        p.value = 0.2 + 0.01 * k
        seconds.append(time.perf_counter() - begun)
    assert statistics.median(seconds) < UPDATE_SECONDS


def test_every_control_changes_the_picture(figure):
    _, p, depth, rule, net, picture = controls(figure.widget())
    seen = {picture.value}
    for control, value in ((p, 0.3), (depth, 5), (rule, "inverted"), (net, "random")):
        control.value = value
        seen.add(picture.value)
    assert len(seen) == 5
    assert "after 5 dropouts" in picture.value


def test_every_control_has_a_name_on_the_page(figure):
    _, *named, _ = controls(figure.widget())
    assert all(control.description for control in named)


def test_the_goal_can_be_reached_and_stays_reached(figure):
    goal, p, depth, _rule, _net, _ = controls(figure.widget())
    assert "Your goal" in goal.value and "✓" not in goal.value
    depth.value = widgets.GOAL_DEPTH
    found = []
    for k in range(91):
        p.value = k / 100
        found.append("✓ Found" in goal.value)
    assert not found[10] and found[-1]
    first = found.index(True)
    assert figure.probes["trained"].measure(first / 100, 4, "none").ratio == pytest.approx(widgets.GOAL, rel=0.05)


def test_the_goal_is_that_of_the_first_net_whatever_its_name(figure):
    named = widgets.SignalFigure.__new__(widgets.SignalFigure)
    named.probes = {"any other name": figure.probes["trained"]}
    goal, p, depth, *_ = controls(named.widget())
    assert "any other name" in goal.value
    depth.value = widgets.GOAL_DEPTH
    for k in range(91):
        p.value = k / 100
    assert "✓ Found" in goal.value


@pytest.mark.parametrize(("depth", "net"), [(3, "trained"), (4, "random")])
def test_three_times_the_signal_elsewhere_is_not_the_goal(figure, depth, net):
    goal, p, depth_slider, _rule, nets, _ = controls(figure.widget())
    nets.value, depth_slider.value = net, depth
    ratios = []
    for k in range(91):
        p.value = k / 100
        ratios.append(figure.probes[net].measure(k / 100, depth, "none").ratio)
    assert any(abs(ratio / widgets.GOAL - 1) <= 0.05 for ratio in ratios)
    assert "✓" not in goal.value


@pytest.mark.parametrize("p", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("depth", [1, 6])
@pytest.mark.parametrize("rule", RULES)
def test_the_drawing_is_whole_and_says_what_it_shows(figure, p, depth, rule):
    for probe in figure.probes.values():
        svg = widgets._draw(probe.measure(p, depth, rule))
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert f"p = {p:.2f}" in root.attrib["aria-label"]
        assert "nan" not in svg and "inf" not in svg.replace("info", "")
        assert "pre-activation" in svg and "signal at test ÷ in training" in svg
        assert len(svg) < 20_000


def test_what_a_reader_sees_without_a_widget_manager(figure):
    static = figure.static()
    for words in RULES.values():
        assert words in static.alt
        assert words in static.svg
    assert str(figure) == static.alt
    assert "on a log axis" in static.caption
    ElementTree.fromstring(static.svg)


def test_the_bundle_holds_both_forms(figure):
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", WIDGET}
    assert "VBox" not in bundle["text/plain"]
    assert "<figcaption" in bundle["text/html"]


def test_without_ipywidgets_the_static_form_is_left(figure, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(figure._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_nothing_is_written(figure, capfd):
    figure._repr_mimebundle_()
    assert capfd.readouterr() == ("", "")
