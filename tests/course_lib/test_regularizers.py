"""course_lib.regularizers against PyTorch, Keras and what the definitions say."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import regularizers as r
from course_lib.conventions.regularizers import CONVENTIONS
from course_lib.quiet import load_keras

CONVENTION = {convention.id: convention for convention in CONVENTIONS}
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SAME = {"rtol": 1e-12, "atol": 1e-14}
SIX_SIGMA = 6.0  # a normal variable strays further with probability 2e-9


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def weights():
    w = torch.randn(6, 5, dtype=torch.float64, generator=seeded())
    return {
        "ordinary": w,
        "one row": w[:1],
        "no row": w[:0],
        "±1e4": w * 1e4,
        "denormal": w * 1e-310,
        "not contiguous": w.T,
        "conv": torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=seeded()),
        "zeros": torch.zeros(2, 3, dtype=torch.float64),
        "float32": w.float(),
        "bfloat16": w.bfloat16(),
    }


def close(got, expected, roundings=4):
    eps = max(torch.finfo(got.dtype).eps, 1e-14)
    torch.testing.assert_close(got, expected, rtol=roundings * eps, atol=1e-14)


# penalties -------------------------------------------------------------------------------------------------

PENALTIES = {
    "l1": (lambda w: r.l1_penalty(w, 0.3), lambda w: r.l1_gradient(w, 0.3)),
    "l2": (lambda w: r.l2_penalty(w, 0.3), lambda w: r.l2_gradient(w, 0.3)),
    "elastic": (lambda w: r.elastic_net_penalty(w, 0.3, 0.2), lambda w: r.elastic_net_gradient(w, 0.3, 0.2)),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", weights())
@pytest.mark.parametrize("kind", PENALTIES)
def test_a_penaltys_gradient_is_autograds(kind, name, device):
    penalty, gradient = PENALTIES[kind]
    w = weights()[name].to(device).clone().requires_grad_()
    value = penalty(w)
    assert value.shape == () and value.dtype == w.dtype and value.device == w.device
    (expected,) = torch.autograd.grad(value, w)
    close(gradient(w.detach()), expected)


def test_penalties_are_their_formulas():
    w = torch.tensor([3.0, -4.0, 0.0])
    assert r.l1_penalty(w, 0.5) == 3.5
    assert r.l2_penalty(w, 0.5) == 6.25
    assert r.elastic_net_penalty(w, 0.5, 0.5) == 9.75
    assert torch.equal(r.l1_gradient(w, 0.5), torch.tensor([0.5, -0.5, 0.0]))


def test_l2_is_torchs_weight_decay():
    w = nn.Parameter(torch.randn(4, dtype=torch.float64, generator=seeded()))
    expected = w.detach() - 0.1 * r.l2_gradient(w.detach(), 0.3)
    w.grad = torch.zeros_like(w)
    torch.optim.SGD([w], lr=0.1, weight_decay=0.3).step()
    torch.testing.assert_close(w.detach(), expected, **SAME)


@pytest.mark.parametrize("name", weights())
@pytest.mark.parametrize("threshold", (0.0, 0.5, 1e4))
def test_soft_threshold_is_torchs_softshrink(name, threshold):
    w = weights()[name].clone().requires_grad_()
    got = r.soft_threshold(w, threshold)
    torch.testing.assert_close(got, F.softshrink(w, threshold), rtol=0, atol=0)
    (mine,) = torch.autograd.grad(got.sum(), w)
    assert torch.equal(mine, (w.abs() > threshold).to(w.dtype))


def test_soft_threshold_at_infinities_and_nan_and_bad_thresholds():
    w = torch.tensor([math.inf, -math.inf, math.nan, 1.0, -1.0])
    got = r.soft_threshold(w, 1.0)
    assert got[:2].tolist() == [math.inf, -math.inf] and got[2].isnan() and not got[3:].any()
    assert not r.soft_threshold(torch.tensor([1.0, -2.0]), math.inf).any()
    for threshold in (-0.1, math.nan):
        with pytest.raises(ValueError, match="threshold has to be at least 0"):
            r.soft_threshold(w, threshold)


def test_the_proximal_steps_minimize_what_they_say():
    """Against a grid of 200 001 points around each weight."""
    lr, l1, l2 = 0.5, 0.6, 0.8
    grid = torch.linspace(-3, 3, 200_001, dtype=torch.float64)
    for w in (-2.0, -0.31, -0.1, 0.0, 0.29, 1.7):
        at = torch.tensor(w, dtype=torch.float64)
        lasso = ((grid - w) ** 2 / (2 * lr) + l1 * grid.abs()).argmin()
        elastic = ((grid - w) ** 2 / (2 * lr) + l1 * grid.abs() + l2 / 2 * grid.square()).argmin()
        assert r.soft_threshold(at, lr * l1).item() == pytest.approx(grid[lasso].item(), abs=4e-5)
        assert r.elastic_net_prox(at, lr, l1, l2).item() == pytest.approx(grid[elastic].item(), abs=4e-5)


def test_only_the_proximal_step_makes_weights_exactly_zero():
    """Lasso on 3 useful of 10 inputs: proximal descent zeroes the others; subgradient descent zeroes none."""
    g = seeded()
    x = torch.randn(200, 10, generator=g, dtype=torch.float64)
    y = x[:, :3] @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    proximal = subgradient = torch.zeros(10, dtype=torch.float64)
    for _ in range(500):
        proximal = r.soft_threshold(proximal - 0.1 * x.T @ (x @ proximal - y) / 200, 0.1 * 0.2)
        slope = x.T @ (x @ subgradient - y) / 200 + r.l1_gradient(subgradient, 0.2)
        subgradient = subgradient - 0.1 * slope
    assert (proximal != 0).tolist() == [True] * 3 + [False] * 7
    assert (subgradient != 0).all()
    torch.testing.assert_close(subgradient, proximal, rtol=0, atol=0.05)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name in weights() if name != "denormal"])
@pytest.mark.parametrize("max_value", (0.0, 0.5, 2.0, 1e9))
def test_max_norm_is_torchs_renorm(name, max_value, device):
    """renorm divides by norm + 1e-7, so it ends that much lower."""
    w = weights()[name].to(device)
    got = r.max_norm(w, max_value)
    rtol = max(2e-7 / max(max_value, 0.1), 8 * torch.finfo(w.dtype).eps)
    torch.testing.assert_close(got, torch.renorm(w, 2, 0, max_value), rtol=rtol, atol=1e-12)
    within = torch.linalg.vector_norm(w, dim=tuple(range(1, w.dim())), keepdim=True) <= max_value
    assert torch.equal(torch.where(within, got, 0), torch.where(within, w, 0))
    twin = w.clone().requires_grad_()
    assert r.max_norm_(twin, max_value) is twin
    assert torch.equal(twin, got) and twin.requires_grad


def test_max_norm_over_other_dimensions_and_its_gradient():
    w = torch.tensor([[3.0, 0.6], [4.0, 0.8]], dtype=torch.float64)
    expected = torch.tensor([[1.2, 0.6], [1.6, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(r.max_norm(w, 2.0, 0), expected)
    assert torch.linalg.vector_norm(r.max_norm(w, 2.0, (0, 1))).item() == pytest.approx(2)
    torch.testing.assert_close(r.max_norm(torch.tensor([3.0, -1.0, 0.0]), 2.0), torch.tensor([2.0, -1.0, 0.0]))
    assert torch.autograd.gradcheck(lambda w: r.max_norm(w, 2.0), w.clone().requires_grad_())
    zero = torch.zeros(2, 2, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(r.max_norm(zero, 0.0).sum(), zero)[0]).all()
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_value has to be at least 0"):
            r.max_norm(w, wrong)


def test_decay_groups_spare_biases_and_scales_and_leave_out_what_is_frozen():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    net[0].weight.requires_grad_(False)
    decay, spared = r.decay_groups(net, 0.1)
    assert [id(p) for p in decay["params"]] == [id(net[3].weight)] and decay["weight_decay"] == 0.1
    assert len(spared["params"]) == 4 and spared["weight_decay"] == 0
    torch.optim.SGD([decay, spared], lr=0.1)


# early stopping --------------------------------------------------------------------------------------------


def stopped_at(metrics, **options):
    stopping = r.EarlyStopping(**options)
    return next((epoch for epoch, metric in enumerate(metrics) if stopping.step(metric)), None), stopping


def test_it_stops_after_patience_epochs_without_improvement():
    metrics = [1.0, 0.8, 0.9, 0.85, 0.7, 0.75, 0.72, 0.71, 0.7]
    assert stopped_at(metrics, patience=3)[0] == 7
    assert stopped_at(metrics, patience=2)[0] == 3
    assert stopped_at(metrics, patience=0)[0] == stopped_at(metrics, patience=1)[0] == 2
    assert stopped_at(metrics, patience=9)[0] is None
    assert stopped_at([-m for m in metrics], patience=2, maximize=True)[0] == 3
    assert stopped_at(metrics, patience=2, min_delta=0.5)[0] == 2
    assert stopped_at(metrics, patience=1, start_from_epoch=2)[0] == 5
    assert stopped_at(metrics, patience=2, baseline=0.1)[0] == 2
    _, stopping = stopped_at(metrics, patience=3)
    assert (stopping.best, stopping.best_epoch) == (0.7, 4)


def test_the_best_weights_come_back_buffers_included():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    stopping = r.EarlyStopping(patience=2)
    with pytest.raises(RuntimeError, match="no weights were kept"):
        stopping.restore(net)
    best = None
    for epoch, metric in enumerate((3.0, 1.0, 2.0, 2.0)):
        with torch.no_grad():
            net[0].weight.fill_(epoch)
            net[1].running_mean.fill_(epoch)
        if metric == 1.0:
            best = {k: v.clone() for k, v in net.state_dict().items()}
        stop = stopping.step(torch.tensor(metric), net)
    assert stop
    stopping.restore(net)
    assert all(torch.equal(v, best[k]) for k, v in net.state_dict().items())


def test_a_nan_is_never_the_best():
    assert stopped_at([math.nan, 3.0, 2.0, 1.0, 0.5], patience=2)[0] is None
    at, stopping = stopped_at([1.0, math.nan, math.nan, 0.5], patience=2)
    assert at == 2 and stopping.best == 1.0
    assert stopped_at([math.nan] * 5, patience=2)[1].best is None


def test_early_stopping_resumes():
    metrics = [1.0, 0.8, 0.9, 0.85, 0.95]
    net = nn.Linear(1, 1)
    first = r.EarlyStopping(patience=3)
    assert not any(first.step(m, net) for m in metrics[:3])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = r.EarlyStopping(patience=3)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [second.step(m) for m in metrics[3:]] == [False, True]
    second.restore(net)
    for wrong in ({"patience": -1}, {"min_delta": -0.1}, {"min_delta": math.nan}):
        with pytest.raises(ValueError, match="have to be at least 0"):
            r.EarlyStopping(**wrong)


# softer targets --------------------------------------------------------------------------------------------


def classified(shape=(7, 5), scale=1.0, dtype=torch.float64):
    logits = (torch.randn(shape, generator=seeded(), dtype=torch.float64) * scale).to(dtype)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=seeded(1))
    return logits, labels


@pytest.mark.parametrize("shape", ((7, 5), (1, 2), (4, 3, 2, 2), (3, 1)))
@pytest.mark.parametrize("smoothing", (0.0, 0.1, 1.0))
@pytest.mark.parametrize("scale", (1.0, 1e4))
@pytest.mark.parametrize("weighted", (False, True))
@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_label_smoothing_loss_is_torchs(shape, smoothing, scale, weighted, reduction):
    logits, labels = classified(shape, scale)
    logits.requires_grad_()
    weight = torch.rand(shape[1], dtype=torch.float64, generator=seeded(2)) + 0.1 if weighted else None
    expected = F.cross_entropy(logits, labels, weight, label_smoothing=smoothing, reduction=reduction)
    got = r.label_smoothing_loss(logits, labels, smoothing, weight=weight, reduction=reduction)
    torch.testing.assert_close(got, expected, **SAME)
    one, other = (torch.autograd.grad(loss.sum(), logits)[0] for loss in (got, expected))
    torch.testing.assert_close(one, other, **SAME)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_label_smoothing_loss_in_lower_precision(dtype):
    """Six roundings of half an ulp: log-softmax, its mean, two products, their sum, the mean over the examples."""
    logits, labels = classified(dtype=dtype)
    got = r.label_smoothing_loss(logits, labels, 0.1)
    exact = F.cross_entropy(logits.double(), labels, label_smoothing=0.1)
    assert got.dtype == dtype
    assert abs(got.double() - exact) <= 3 * torch.finfo(dtype).eps * exact


@pytest.mark.parametrize("smoothing", (0.0, 0.1, 1.0))
@pytest.mark.parametrize("scale", (1.0, 1e4))
def test_label_smoothing_gradient_is_autograds(smoothing, scale):
    logits, labels = classified(scale=scale)
    logits.requires_grad_()
    (expected,) = torch.autograd.grad(r.label_smoothing_loss(logits, labels, smoothing), logits)
    torch.testing.assert_close(r.label_smoothing_gradient(logits.detach(), labels, smoothing), expected, **SAME)


def test_smooth_labels_are_probabilities_and_the_loss_is_cross_entropy_against_them():
    logits, labels = classified()
    targets = r.smooth_labels(labels, 5, 0.2, dtype=torch.float64)
    torch.testing.assert_close(targets.sum(-1), torch.ones(7, dtype=torch.float64), **SAME)
    assert targets[0, labels[0]].item() == pytest.approx(0.84)
    torch.testing.assert_close(F.cross_entropy(logits, targets), r.label_smoothing_loss(logits, labels, 0.2), **SAME)
    for call in (
        lambda: r.smooth_labels(labels, 5, 1.1),
        lambda: r.label_smoothing_loss(logits, labels, -0.1),
        lambda: r.label_smoothing_loss(logits, labels, math.nan),
    ):
        with pytest.raises(ValueError, match="smoothing has to lie between 0 and 1"):
            call()
    with pytest.raises(ValueError, match="reduction has to be"):
        r.label_smoothing_loss(logits, labels, 0.1, reduction="max")


def test_mixup_blends_and_its_loss_is_that_of_blended_targets():
    logits, labels = classified()
    x, order = torch.randn(7, 3, 4, 4, dtype=torch.float64), torch.randperm(7, generator=seeded())
    lam = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(r.mixup(x, lam, order), 0.3 * x + 0.7 * x[order])
    each = torch.rand(7)
    torch.testing.assert_close(
        r.mixup(x, each, order)[2], each[2].double() * x[2] + (1 - each[2].double()) * x[order[2]]
    )
    onehot = F.one_hot(labels, 5).double()
    expected = F.cross_entropy(logits, r.mixup(onehot, lam, order))
    torch.testing.assert_close(r.mixup_loss(logits, labels, lam, order), expected, **SAME)
    assert torch.equal(r.mixup(x, 1.0, order), x)
    with pytest.raises(ValueError, match="order of as many"):
        r.mixup(x, lam, order[:3])


@pytest.mark.parametrize("alpha", (0.2, 1.0, 4.0))
def test_sample_mixup_draws_from_beta(alpha):
    """Mean ½ and variance 1/(4(2α + 1)) of 3000 draws: each within six standard errors, false alarm below 1e-8.

    The variance of a squared deviation is below 1/16, so its standard error is below 1/(4 √3000).
    """
    g = seeded(3)
    lam = torch.stack([r.sample_mixup(2, alpha, g)[0] for _ in range(3000)]).double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(lam.mean() - 0.5) < SIX_SIGMA * (variance / 3000) ** 0.5
    assert abs((lam - 0.5).square().mean() - variance) < SIX_SIGMA / 4 / 3000**0.5
    one, two = (r.sample_mixup(50, alpha, seeded(5)) for _ in range(2))
    assert one[0] == two[0] and torch.equal(one[1], two[1]) and sorted(one[1].tolist()) == list(range(50))
    with pytest.raises(ValueError, match="alpha has to be above 0"):
        r.sample_mixup(2, 0.0)


# augmentation ----------------------------------------------------------------------------------------------


def pictures(dtype=torch.float32, shape=(6, 3, 5, 7)):
    return (torch.rand(shape, generator=seeded()) * 254 + 1).to(dtype)  # no zero: what is 0 came from outside


def moved(image, down, right, fill):
    """The definition, pixel by pixel."""
    out = torch.full_like(image, fill)
    height, width = image.shape[-2:]
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                out[..., i, j] = image[..., i - down, j - right]
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", (torch.float32, torch.uint8, torch.bfloat16, torch.int64))
@pytest.mark.parametrize("shape", ((6, 3, 5, 7), (6, 5, 7), (6, 2, 3, 5, 7), (1, 1, 1, 1), (0, 3, 5, 7)))
def test_shift_is_its_definition(dtype, shape, device):
    images = pictures(dtype, shape).to(device)
    down = torch.tensor([0, 1, -2, 4, -9, 3])[: shape[0]]
    right = torch.tensor([0, -1, 3, 6, 2, -7])[: shape[0]]
    got = r.shift(images, down.to(device), right.to(device), fill=9)
    assert got.dtype == dtype and got.shape == images.shape
    for image, out, d, x in zip(images, got, down.tolist(), right.tolist(), strict=True):
        assert torch.equal(out, moved(image, d, x, 9))


@pytest.mark.parametrize("layout", ("contiguous", "channels last", "not contiguous"))
def test_crop_flip_and_shift_take_any_layout_and_leave_the_images(layout):
    images = pictures()
    if layout == "channels last":
        images = images.contiguous(memory_format=torch.channels_last)
    if layout == "not contiguous":
        images = images.transpose(2, 3).contiguous().transpose(2, 3)[:, ::2]
    before = images.clone()
    top, left = torch.tensor([0, 1, -1, 2, 3, -5]), torch.tensor([0, 2, 3, -2, 6, 1])
    got = r.crop(images, top, left, (4, 3))
    padded = F.pad(images, (9, 9, 9, 9))
    for i in range(6):
        t, x = top[i] + 9, left[i] + 9
        assert torch.equal(got[i], padded[i, :, t : t + 4, x : x + 3])
    mask = torch.tensor([1, 0, 1, 1, 0, 0])
    flipped = r.flip(images, mask)
    assert torch.equal(flipped[0], images[0].flip(-1)) and torch.equal(flipped[1], images[1])
    assert torch.equal(r.flip(flipped, mask), images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("device", DEVICES)
def test_random_augmentation_follows_the_generator(device):
    images = pictures(shape=(200, 1, 8, 8)).to(device)
    draws = {
        "shift": lambda g: r.random_shift(images, 2, g),
        "flip": lambda g: r.random_flip(images, g),
        "crop": lambda g: r.random_crop(images, (8, 8), g, padding=2),
    }
    for draw in draws.values():
        one, two, other = draw(seeded(1)), draw(seeded(1)), draw(seeded(2))
        assert torch.equal(one, two) and one.shape == images.shape and one.device == images.device
        assert not torch.equal(one, other)  # 200 images: equal with probability below 2^-200
        state = torch.random.get_rng_state()
        draw(seeded(1))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert r.random_flip(images).shape == images.shape and r.random_shift(images, 0).equal(images)


def test_random_augmentation_draws_every_place_equally_often():
    """Of 25 places, 10 000 images: each count within six standard deviations, false alarm 25 · 2e-9."""
    n = 10_000
    images = torch.zeros(n, 5, 5)
    images[:, 2, 2] = 1
    for got in (r.random_shift(images, 2, seeded(4)), r.random_crop(images, (5, 5), seeded(5), padding=2)):
        counts = got.sum(0)
        assert counts.sum() == n
        assert ((counts - n / 25).abs() < SIX_SIGMA * (n / 25 * 24 / 25) ** 0.5).all()
    images = torch.tensor([0.0, 1.0]).expand(n, 1, 2)
    flipped = (r.random_flip(images, seeded(6), p=0.3)[:, 0, 0] == 1).sum()
    assert abs(flipped - 0.3 * n) < SIX_SIGMA * (n * 0.3 * 0.7) ** 0.5


def test_augmentation_refuses_what_does_not_fit():
    images = pictures()
    with pytest.raises(ValueError, match="no window of"):
        r.random_crop(images, (6, 7))
    with pytest.raises(ValueError, match="need as many places"):
        r.shift(images, torch.zeros(3), torch.zeros(6))
    with pytest.raises(ValueError, match="p has to lie between"):
        r.random_flip(images, p=1.5)


# splits ----------------------------------------------------------------------------------------------------


def assert_partition(folds, n):
    assert sorted(torch.cat([valid for _, valid in folds]).tolist()) == list(range(n))
    for train, valid in folds:
        assert sorted([*train.tolist(), *valid.tolist()]) == list(range(n))
        assert train.dtype == torch.int64


@pytest.mark.parametrize(("n", "k"), ((10, 2), (10, 3), (11, 11), (103, 7)))
def test_k_fold_validates_every_example_once(n, k):
    for generator in (None, seeded()):
        folds = r.k_fold(n, k, generator)
        assert len(folds) == k
        assert_partition(folds, n)
        sizes = [len(valid) for _, valid in folds]
        assert max(sizes) - min(sizes) <= 1
    assert folds[0][1].tolist() == r.k_fold(n, k, seeded())[0][1].tolist()
    assert r.k_fold(10, 3)[0][1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("k", (2, 3, 5))
@pytest.mark.parametrize("generator", (None, 3))
def test_stratified_k_fold_deals_every_class_evenly(k, generator):
    labels = torch.tensor([0] * 5 + [1] * 13 + [3] * 31 + [2] * 8)[torch.randperm(57, generator=seeded())]
    folds = r.stratified_k_fold(labels, k, None if generator is None else seeded(generator))
    assert_partition(folds, 57)
    counts = torch.stack([torch.bincount(labels[valid], minlength=4) for _, valid in folds])
    assert ((counts.amax(0) - counts.amin(0)) <= 1).all()
    assert counts.sum(1).max() - counts.sum(1).min() <= 1


@pytest.mark.parametrize("share", (0.01, 0.2, 0.5, 0.99))
def test_stratified_split_keeps_the_shares(share):
    labels = torch.tensor([0] * 5 + [1] * 100 + [2] * 2)[torch.randperm(107, generator=seeded())]
    train, valid = r.stratified_split(labels, share, seeded())
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(107))
    counts = torch.bincount(labels[valid], minlength=3).tolist()
    assert counts == [min(max(round(share * n), 1), n - 1) for n in (5, 100, 2)]


def test_splits_refuse_what_cannot_be_split():
    labels = torch.tensor([0, 0, 0, 1])
    for k in (0, 1, 5):
        with pytest.raises(ValueError, match="the number of folds has to lie between 2 and 4"):
            r.k_fold(4, k)
    for wrong in (labels, labels[:0]):
        with pytest.raises(ValueError, match="the number of folds"):
            r.stratified_k_fold(wrong, 2)
        with pytest.raises(ValueError, match="at least 2 examples"):
            r.stratified_split(wrong, 0.5)
    with pytest.raises(ValueError, match="share has to lie"):
        r.stratified_split(labels, 1.0)
    for share in (0.0, 0.99, 1.0):
        with pytest.raises(ValueError, match="leaves nothing"):
            r.validation_split(4, share)


def test_class_weights_balance_the_classes():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = r.class_weights(labels, 3)
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    assert weights[labels].mean().item() == pytest.approx(1)
    for wrong in (2, 4):
        with pytest.raises(ValueError, match="classes needs an example"):
            r.class_weights(labels, wrong)


# Keras -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    return load_keras()


@pytest.mark.slow
def test_keras_penalties_are_ours(keras):
    w = weights()["ordinary"]
    halve = CONVENTION["regularizers.l2"].to_keras
    for ours, theirs in (
        (r.l1_penalty(w, 0.25), keras.regularizers.L1(0.25)),
        (r.l2_penalty(w, 0.25), keras.regularizers.L2(halve(0.25))),
        (r.elastic_net_penalty(w, 0.25, 0.5), keras.regularizers.L1L2(0.25, halve(0.5))),
    ):
        assert ours.item() == pytest.approx(float(theirs(keras.ops.convert_to_tensor(w.numpy()))), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("max_value", (0.5, 2.0))
def test_keras_max_norm_is_ours_but_for_its_eps(keras, max_value):
    """Keras divides by norm + 1e-7: a relative 1e-7 / norm below ours, and the norms here are above 0.5."""
    w = weights()["ordinary"]  # (out, in)
    axis = CONVENTION["regularizers.max_norm_axis"].to_keras(1)
    theirs = keras.constraints.MaxNorm(max_value, axis=axis)(keras.ops.convert_to_tensor(w.T.numpy()))
    np.testing.assert_allclose(np.array(theirs).T, r.max_norm(w, max_value).numpy(), rtol=2e-7)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", (0.0, 0.25))
def test_keras_label_smoothing_is_ours(keras, smoothing):
    logits, labels = classified()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, dtype="float64")
    theirs = float(loss(F.one_hot(labels, 5).double().numpy(), logits.numpy()))
    assert r.label_smoothing_loss(logits, labels, smoothing).item() == pytest.approx(theirs, rel=1e-12)


class ScriptedStop:
    """Runs Keras's callback over given metrics, one weight set to the epoch's number."""

    def __init__(self, keras, metrics, **options):
        callback = keras.callbacks.EarlyStopping(monitor="loss", restore_best_weights=True, **options)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        callback.set_model(model)
        callback.on_train_begin()
        model.stop_training = False
        self.stopped = None
        for epoch, metric in enumerate(metrics):
            model.layers[0].bias.assign([epoch])
            callback.on_epoch_end(epoch, {"loss": metric})
            if model.stop_training:
                self.stopped = epoch
                break
        callback.on_train_end()
        self.restored = int(np.array(model.layers[0].bias)[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    (
        {},
        {"patience": 1},
        {"patience": 3},
        {"patience": 2, "min_delta": 0.105},  # no ties: Keras compares in float32
        {"patience": 2, "baseline": 0.6},
        {"patience": 1, "start_from_epoch": 3},
    ),
    ids=str,
)
@pytest.mark.parametrize("mode", ("min", "max"))
def test_keras_early_stopping_is_ours(keras, seed, options, mode):
    g = seeded(seed)
    metrics = [round(math.exp(-i / 5) + 0.4 * torch.rand((), generator=g).item(), 2) for i in range(25)]
    metrics = metrics if mode == "min" else [1.5 - m for m in metrics]
    theirs = ScriptedStop(keras, metrics, mode=mode, **options)
    stopping, net = r.EarlyStopping(maximize=mode == "max", **options), nn.Linear(1, 1)
    stopped = None
    for epoch, metric in enumerate(metrics):
        net.bias.data.fill_(epoch)
        if stopping.step(metric, net):
            stopped = epoch
            break
    stopping.restore(net)
    assert (stopped, int(net.bias.item())) == (theirs.stopped, theirs.restored)


@pytest.mark.slow
def test_keras_validation_split_is_ours(keras):
    from keras.src.trainers.data_adapters.array_slicing import train_validation_split

    for n, share in ((10, 0.2), (7, 0.5), (101, 0.33), (10, 0.1), (1000, 0.7)):
        (train,), (valid,) = train_validation_split((np.arange(n),), share)
        ours = r.validation_split(n, share)
        assert ours[0].tolist() == list(train) and ours[1].tolist() == list(valid)
        assert valid[-1] == n - 1


@pytest.mark.slow
def test_keras_class_weights_give_torchs_mean_through_the_record(keras):
    logits, labels = classified((8, 3))
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    given = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)
    theirs = CONVENTION["regularizers.class_weight"].to_keras((given, labels))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    weights = np.array([theirs[label] for label in labels.tolist()])
    got = float(loss(labels.numpy(), logits.numpy(), sample_weight=weights))
    assert got == pytest.approx(F.cross_entropy(logits, labels, given).item(), rel=1e-12)


@pytest.mark.slow
def test_conventions_are_as_told(keras):
    found = {c.id.split(".")[1]: (c.torch(), c.keras(keras)) for c in CONVENTIONS}
    assert found["l2"] == ("1 λ w", "2 λ w")
    assert found["max_norm_axis"] == (1, 0)
    assert found["max_norm_within"][0] == 1 and 0 < 1 - found["max_norm_within"][1] < 2e-7
    assert found["class_weight"] == (1.0, 3.0)
    assert found["early_stopping_patience"][1] == (2, 2)
    assert found["early_stopping_nan"][1] == 3
    assert all(c.what and c.trap for c in CONVENTIONS)


def test_everything_named_is_there_and_documented():
    for name in r.__all__:
        assert getattr(r, name).__doc__
