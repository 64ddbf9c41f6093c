"""course_lib.dropout against PyTorch, Keras and autograd.

Where a framework draws the mask itself, the mask is read off its output and the values must agree; what is random is
held by a test whose false-alarm rate is stated (at most 1e-6).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import dropout as d

ROUNDING = 2  # x · m / (1 − p) against x · m · (1/(1 − p)): at most two roundings apart
SIX_SIGMA = 6.0  # a normal variable strays further with probability 2e-9


def close(got, expected):
    eps = torch.finfo(expected.dtype).eps
    torch.testing.assert_close(got, expected, rtol=ROUNDING * eps, atol=0)


def inputs():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 5, 6, generator=g) + 3  # away from 0, so that a zero was dropped
    return {
        "ordinary": x,
        "one example": x[:1],
        "no example": x[:0],
        "±1e4": x * 1e4 * torch.where(torch.rand(x.shape, generator=g) < 0.5, -1.0, 1.0),
        "not contiguous": x.transpose(1, 3),
        "every other": x[:, :, ::2],
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "float64": x.double(),
        "bfloat16": x.bfloat16(),
    }


RATES = (0.0, 0.1, 0.5, 0.9, 1.0)


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("name", inputs())
def test_inverted_dropout_is_torchs_with_the_same_mask(name, p):
    x = inputs()[name]
    torch.manual_seed(1)
    expected = F.dropout(x, p)
    got = d.inverted_dropout(x, p, (expected != 0).to(x.dtype))
    assert got.dtype == x.dtype and got.shape == x.shape
    close(got, expected)


@pytest.mark.parametrize("dtype", (torch.bool, torch.int64, torch.float32, torch.float64, torch.bfloat16))
def test_a_mask_of_any_dtype_leaves_the_dtype_of_x(dtype):
    x, mask = inputs()["bfloat16"], d.sample_mask((4, 3, 5, 6), 0.5, torch.Generator().manual_seed(0))
    got = d.inverted_dropout(x, 0.5, mask.to(dtype))
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, x * mask.bfloat16() * 2)


@pytest.mark.parametrize("p", RATES)
def test_inverted_dropout_backward_is_autograds(p):
    x = inputs()["float64"].clone().requires_grad_()
    mask = d.sample_mask(x.shape, p, torch.Generator().manual_seed(0))
    y = d.inverted_dropout(x, p, mask)
    grad = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    (expected,) = torch.autograd.grad(y, x, grad)
    close(d.inverted_dropout_backward(grad, p, mask), expected)
    assert torch.isfinite(expected).all()


def test_gradcheck_of_what_is_differentiable():
    mask = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    x = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    w = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    maps = (torch.rand(1, 2, 4, 4, dtype=torch.float64) + 0.1).requires_grad_()
    weights_mask = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 0]])
    assert torch.autograd.gradcheck(lambda x: d.inverted_dropout(x, 0.3, mask), x)
    assert torch.autograd.gradcheck(lambda x: d.classic_dropout(x, 0.3, mask, True), x)
    assert torch.autograd.gradcheck(lambda x, w: d.drop_connect(x, w, None, 0.3, weights_mask), (x, w))
    assert torch.autograd.gradcheck(lambda a: d.stochastic_pool2d(a, 2, training=False), maps)


@pytest.mark.parametrize("p", (0.0, 0.3, 1.0))
@pytest.mark.parametrize("training", (True, False))
def test_classic_is_keep_times_inverted_in_both_phases(p, training):
    x = inputs()["ordinary"]
    mask = d.sample_mask(x.shape, p, torch.Generator().manual_seed(0))
    inverted = d.inverted_dropout(x, p, mask) if training else x
    close(d.classic_dropout(x, p, mask, training), inverted * (1 - p))


def test_weight_scaled_gives_the_expected_signal_of_all_masks():
    w, x, p = torch.rand(3, 4, dtype=torch.float64), torch.rand(4, dtype=torch.float64), 0.3
    masks = d.all_masks(4, dtype=torch.float64)
    expected = d.ensemble_average(lambda x, mask: w @ (x * mask), x, p, masks)
    torch.testing.assert_close(d.weight_scaled(w, p) @ x, expected)


@pytest.mark.parametrize("name", ("ordinary", "one example", "no example", "channels last", "bfloat16", "±1e4"))
@pytest.mark.parametrize("p", (0.0, 0.4, 1.0))
def test_spatial_dropout_is_torchs_feature_dropout(name, p):
    x = inputs()[name]
    torch.manual_seed(3)
    expected = F.dropout2d(x, p)
    got = d.spatial_dropout(x, p, (expected != 0).amax((2, 3)) if x.numel() else torch.ones(x.shape[:2]))
    close(got, expected)


def test_drop_path_keeps_or_drops_whole_examples():
    x = inputs()["ordinary"]
    got = d.drop_path(x, 0.25, torch.tensor([1, 0, 0, 1]))
    close(got[[0, 3]], x[[0, 3]] / 0.75)
    assert not got[[1, 2]].any()


@pytest.mark.parametrize("bias", (True, False))
def test_drop_connect_is_a_linear_layer_with_masked_weights(bias):
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(5, 3, generator=g), torch.randn(4, 3, generator=g)
    b = torch.randn(4, generator=g) if bias else None
    shared = d.sample_mask(w.shape, 0.4, g)
    torch.testing.assert_close(d.drop_connect(x, w, b, 0.4, shared), F.linear(x, w * shared / 0.6, b))
    each = d.sample_mask((5, 4, 3), 0.4, g)
    expected = torch.stack([F.linear(x[i], w * each[i] / 0.6, b) for i in range(5)])
    torch.testing.assert_close(d.drop_connect(x, w, b, 0.4, each), expected)
    assert d.drop_connect(x[:0], w, b, 0.4, shared).shape == (0, 4)


def test_stochastic_pooling_draws_in_proportion_to_the_activation():
    """A chi-square statistic with 2 degrees of freedom exceeds 27.7 with probability 1e-6."""
    window = torch.tensor([[1.0, 2.0], [0.0, 5.0]])
    x = window.expand(4000, 1, 2, 2)
    drawn = d.stochastic_pool2d(x, 2, training=True, generator=torch.Generator().manual_seed(0)).flatten()
    counts = torch.stack([(drawn == value).sum() for value in (1.0, 2.0, 5.0)])
    expected = 4000 * torch.tensor([1 / 8, 2 / 8, 5 / 8])
    assert counts.sum() == 4000  # the 0 is never drawn
    assert ((counts - expected) ** 2 / expected).sum() < 27.7


def test_stochastic_pooling_at_test_is_the_expected_value():
    x = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    squares, sums = (F.avg_pool2d(v, 3, 2) for v in (x.square(), x))
    torch.testing.assert_close(d.stochastic_pool2d(x, 3, 2, training=False), squares / sums)


def test_stochastic_pooling_of_nothing_positive_and_of_huge_values():
    for training in (True, False):
        zero = torch.zeros(1, 1, 4, 4, requires_grad=True)
        pooled = d.stochastic_pool2d(zero, 2, training=training)
        (grad,) = torch.autograd.grad(pooled.sum(), zero)
        assert not pooled.any() and torch.isfinite(grad).all()
        huge = torch.full((1, 1, 2, 2), 1e30)
        assert d.stochastic_pool2d(huge, 2, training=training).item() == pytest.approx(1e30)


def test_stochastic_pooling_sends_the_gradient_to_the_value_it_drew():
    x = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pooled = d.stochastic_pool2d(x, 2, training=True, generator=torch.Generator().manual_seed(1))
    (grad,) = torch.autograd.grad(pooled.sum(), x)
    assert set(grad.unique().tolist()) == {0.0, 1.0} and grad.sum() == pooled.numel()
    torch.testing.assert_close(F.max_pool2d((x * grad).detach(), 2), pooled.detach())


@pytest.mark.parametrize("p", (0.1, 0.5, 0.8))
def test_sample_mask_drops_with_probability_p(p):
    n = 200_000
    kept = d.sample_mask((n,), p, torch.Generator().manual_seed(4)).sum()
    assert abs(kept - n * (1 - p)) < SIX_SIGMA * (n * p * (1 - p)) ** 0.5  # false alarm: 2e-9


def test_sample_mask_at_the_ends_and_its_dtype_and_seed():
    assert d.sample_mask((1000,), 0.0).all() and not d.sample_mask((1000,), 1.0).any()
    assert d.sample_mask((2, 0), 0.5, dtype=torch.float64).dtype == torch.float64
    one, two = (d.sample_mask((50,), 0.5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)


LAYERS = {"Dropout": (d.Dropout, nn.Dropout), "Dropout2d": (d.Dropout2d, nn.Dropout2d)}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", inputs())
def test_layer_keeps_shape_dtype_and_memory_format_and_is_the_identity_in_evaluation(layer, name):
    ours, theirs = (kind(0.4) for kind in LAYERS[layer])
    x = inputs()[name]
    assert ours(x).shape == x.shape and ours(x).dtype == x.dtype
    if name == "channels last":
        assert ours(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_drops_as_often_as_torchs(layer):
    """Both shares of zeros lie within six standard deviations of p (false alarm: 4e-9 together)."""
    x, p = torch.ones(400, 250, 1, 1), 0.3
    torch.manual_seed(5)
    for kind in LAYERS[layer]:
        zeros = (kind(p)(x) == 0).double().mean()
        assert abs(zeros - p) < SIX_SIGMA * (p * (1 - p) / 100_000) ** 0.5


def test_dropout2d_drops_whole_maps():
    torch.manual_seed(0)
    y = d.Dropout2d(0.5)(torch.ones(20, 10, 3, 3))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(y.amax((2, 3)), y.amin((2, 3)))


def test_layers_in_a_net_follow_train_and_eval():
    net = nn.Sequential(d.Dropout(0.5), nn.Sequential(d.DropPath(0.5), d.Dropout(0.5)))
    x = torch.ones(64, 8)
    assert not torch.equal(net(x), net(x))  # equal with probability below 2^-512
    assert torch.equal(net.eval()(x), x)
    assert not torch.equal(net.train()(x), net(x))
    assert "p=0.5" in repr(net)


@pytest.mark.parametrize("p", (-0.1, 1.1, float("nan")))
def test_a_bad_rate_is_refused_with_torchs_words(p):
    x = torch.ones(2, 2)
    wrong = "dropout probability has to be between 0 and 1, but got"
    for call in (
        lambda: d.Dropout(p),
        lambda: d.Dropout2d(p),
        lambda: d.inverted_dropout(x, p, x),
        lambda: d.classic_dropout(x, p, x, True),
        lambda: d.sample_mask((2,), p),
        lambda: d.weight_scaled(x, p),
        lambda: d.mask_probabilities(x, p),
    ):
        with pytest.raises(ValueError, match=wrong):
            call()


def test_masks_of_a_wrong_shape_are_refused():
    x = torch.ones(2, 3, 4, 4)
    with pytest.raises(ValueError, match="spatial dropout needs"):
        d.spatial_dropout(x, 0.5, torch.ones(3, 2))
    with pytest.raises(ValueError, match="spatial dropout needs"):
        d.spatial_dropout(torch.ones(2, 3), 0.5, torch.ones(2, 3))
    with pytest.raises(ValueError, match="drop path needs"):
        d.drop_path(x, 0.5, torch.ones(3))


# Keras ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras")


@pytest.mark.parametrize("p", (0.0, 0.3, 0.9))
def test_keras_dropout_is_ours_with_the_mask_read_off(keras, p):
    x = inputs()["ordinary"]
    expected = np.array(keras.layers.Dropout(p, seed=1)(x.numpy(), training=True))
    got = d.inverted_dropout(x, p, torch.tensor(expected != 0))
    np.testing.assert_allclose(got.numpy(), expected, rtol=ROUNDING * np.finfo(np.float32).eps)
    assert np.array_equal(np.array(keras.layers.Dropout(p)(x.numpy())), x.numpy())  # a bare call is inference


def test_keras_spatial_dropout_is_ours_with_channels_moved(keras):
    x = inputs()["ordinary"]  # Keras wants (N, H, W, C)
    layer = keras.layers.SpatialDropout2D(0.4, seed=2, data_format="channels_last")
    expected = torch.tensor(np.array(layer(x.permute(0, 2, 3, 1).numpy(), training=True))).permute(0, 3, 1, 2)
    close(d.spatial_dropout(x, 0.4, (expected != 0).amax((2, 3))), expected)


def test_keras_drops_with_the_same_p(keras):
    """Both frameworks' p is the share dropped: six standard deviations, false alarm 2e-9."""
    zeros = (np.array(keras.layers.Dropout(0.2, seed=3)(np.ones((400, 250), "float32"), training=True)) == 0).mean()
    assert abs(zeros - 0.2) < SIX_SIGMA * (0.2 * 0.8 / 100_000) ** 0.5


# MC dropout ----------------------------------------------------------------------------------------------


def mc_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))


@pytest.mark.parametrize("training", (True, False))
def test_mc_dropout_samples_and_leaves_every_mode_and_statistic(training):
    net = mc_net().train(training)
    net[1].eval()
    modes, mean = [m.training for m in net.modules()], net[1].running_mean.clone()
    x = torch.randn(5, 4)
    logits = d.mc_dropout(net, x, 7)
    assert logits.shape == (7, 5, 3) and not logits.requires_grad
    assert not torch.equal(logits[0], logits[1])
    assert [m.training for m in net.modules()] == modes and torch.equal(net[1].running_mean, mean)


def test_mc_dropout_centres_on_the_plain_net_where_that_is_linear_in_the_mask():
    """The mean of 4000 passes lies within six standard errors for each of 15 logits: false alarm 3e-8."""
    net, x = mc_net().eval(), torch.randn(5, 4)
    torch.manual_seed(1)
    logits = d.mc_dropout(net, x, 4000)
    with torch.no_grad():
        strayed = (logits.mean(0) - net(x)).abs() / (logits.std(0) / 4000**0.5)
    assert strayed.max() < SIX_SIGMA


def test_mc_dropout_restores_the_modes_after_an_error():
    net = mc_net().train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        d.mc_dropout(net, torch.randn(5, 9), 2)
    assert all(m.training for m in net.modules())


def test_mc_dropout_takes_a_layer_class_of_ones_own_and_refuses_what_is_not_random():
    class Mine(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5) if self.training else x

    net = nn.Sequential(nn.Linear(4, 8), Mine())
    with pytest.raises(ValueError, match="holds no dropout layer"):
        d.mc_dropout(net, torch.randn(2, 4), 3)
    one, two = d.mc_dropout(net, torch.randn(2, 4), 2, layers=(Mine,))
    assert not torch.equal(one, two)
    with pytest.raises(ValueError, match="at least 1"):
        d.mc_dropout(net, torch.randn(2, 4), 0)


@pytest.mark.parametrize("scale", (1.0, 1e4))
def test_entropies_against_their_definitions(scale):
    logits = scale * torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = logits.softmax(-1).numpy()

    def entropy(p):
        return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)

    total = entropy(shares.mean(0))
    np.testing.assert_allclose(d.predictive_entropy(logits), total, atol=1e-12)
    np.testing.assert_allclose(d.mutual_information(logits), total - entropy(shares).mean(0), atol=1e-12)


def test_passes_that_agree_have_no_mutual_information():
    logits = torch.randn(1, 4, 3).expand(5, 4, 3)
    assert (d.mutual_information(logits) < 1e-6).all() and (d.mutual_information(logits) >= 0).all()
    assert (d.predictive_entropy(logits) > 0).all()


# the ensemble --------------------------------------------------------------------------------------------


def test_all_masks_lists_each_once_with_probabilities_that_sum_to_one():
    masks = d.all_masks(5)
    assert masks.shape == (32, 5) and len({tuple(row) for row in masks.tolist()}) == 32
    p = d.mask_probabilities(masks.double(), 0.3)
    assert p.sum().item() == pytest.approx(1)
    assert p[masks.bool().all(1)].item() == pytest.approx(0.7**5)
    assert d.all_masks(0).shape == (1, 0)
    for n in (-1, 21):
        with pytest.raises(ValueError, match="from 0 to 20"):
            d.all_masks(n)


@pytest.mark.parametrize("p", (0.2, 0.5))
def test_ensemble_of_a_linear_net_is_the_scaled_net_and_of_a_deep_one_is_not(p):
    g = torch.Generator().manual_seed(0)
    w, v, x = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((4, 3), (2, 4), (5, 3)))
    masks = d.all_masks(4, dtype=torch.float64)
    scaled = (x @ w.T) @ d.weight_scaled(v, p).T
    linear = d.ensemble_average(lambda x, m: (x @ w.T * m) @ v.T, x, p, masks)
    deep = d.ensemble_average(lambda x, m: torch.relu((x @ w.T * m) @ v.T), x, p, masks)
    torch.testing.assert_close(linear, scaled)
    assert (deep - torch.relu(scaled)).abs().max() > 1e-3


def test_the_geometric_mean_of_softmax_predictions_is_the_scaled_nets_prediction():
    """Exact for one dropped layer before the softmax (Hinton et al. 2012)."""
    g = torch.Generator().manual_seed(0)
    h, w = torch.randn(5, 4, generator=g).double(), torch.randn(3, 4, generator=g).double()
    masks = d.all_masks(4, dtype=torch.float64)
    logs = d.ensemble_average(lambda h, m: ((h * m) @ w.T).log_softmax(-1), h, 0.5, masks)
    torch.testing.assert_close(logs.softmax(-1), (h @ d.weight_scaled(w, 0.5).T).softmax(-1))


def test_everything_named_is_there_and_documented():
    for name in d.__all__:
        thing = getattr(d, name)
        assert not callable(thing) or thing.__doc__
