"""course_lib.schedules against torch.optim.lr_scheduler and Keras's schedules and callbacks."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from course_lib import schedules as s
from course_lib.conventions.optimizers import CONVENTIONS, _keras_plateau
from course_lib.quiet import load_keras

CONVENTION = {convention.id: convention for convention in CONVENTIONS}
SAME = 1e-12  # float64, the same formula
FLOAT32 = 2e-6  # Keras computes rates in float32: about 16 roundings


def an_optimizer(groups=1, lr=0.1, **options):
    parameters = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(groups)]
    return torch.optim.SGD(parameters, lr=lr, **options)


def torchs(kind, steps, lr=0.1, **options):
    optimizer = an_optimizer(lr=lr)
    scheduler = kind(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


# name: our schedule, PyTorch's class, its options, steps
TORCH = {
    "constant": (partial(s.constant, lr=0.1), lr_scheduler.ConstantLR, {"factor": 1.0}, 20),
    "step": (
        partial(s.step_decay, lr=0.1, step_size=7, gamma=0.3),
        lr_scheduler.StepLR,
        {"step_size": 7, "gamma": 0.3},
        40,
    ),
    "piecewise": (
        partial(s.piecewise_constant, boundaries=[3, 10], values=[0.1, 0.05, 0.025]),
        lr_scheduler.MultiStepLR,
        {"milestones": [3, 10], "gamma": 0.5},
        20,
    ),
    "exponential": (partial(s.exponential, lr=0.1, gamma=0.9), lr_scheduler.ExponentialLR, {"gamma": 0.9}, 100),
    "cosine": (
        partial(s.cosine, lr=0.1, total_steps=30, min_lr=0.01),
        lr_scheduler.CosineAnnealingLR,
        {"T_max": 30, "eta_min": 0.01},
        31,
    ),
    "polynomial": (
        partial(s.polynomial, lr=0.1, total_steps=20, power=2.0),
        lr_scheduler.PolynomialLR,
        {"total_iters": 20, "power": 2.0},
        20,
    ),
    "warm-up": (
        partial(s.linear_warmup, lr=0.1, warmup_steps=8, start_lr=0.025),
        lr_scheduler.LinearLR,
        {"start_factor": 0.25, "total_iters": 8},
        20,
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_rates_are_torchs(name):
    ours, kind, options, steps = TORCH[name]
    assert [ours(t) for t in range(steps)] == pytest.approx(torchs(kind, steps, **options), rel=SAME, abs=1e-15)


@pytest.mark.parametrize("total", (10, 97))
@pytest.mark.parametrize("pct_start", (0.25, 0.3, 0.45))
@pytest.mark.parametrize("linear", (False, True))
@pytest.mark.parametrize("three_phase", (False, True))
def test_one_cycle_is_torchs_rate_and_momentum(total, pct_start, linear, three_phase):
    optimizer = an_optimizer(momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.5,
        total_steps=total,
        pct_start=pct_start,
        anneal_strategy="linear" if linear else "cos",
        three_phase=three_phase,
        div_factor=10.0,
        final_div_factor=100.0,
    )
    options = {"total_steps": total, "pct_start": pct_start, "linear": linear, "three_phase": three_phase}
    for t in range(total):
        group = optimizer.param_groups[0]
        assert s.one_cycle(t, max_lr=0.5, div_factor=10.0, final_div_factor=100.0, **options) == pytest.approx(
            group["lr"], rel=SAME, abs=1e-15
        )
        assert s.one_cycle_momentum(t, **options) == pytest.approx(group["momentum"], rel=SAME)
        optimizer.step()
        scheduler.step()


def test_one_cycle_starts_peaks_and_ends_where_it_says():
    rate = partial(s.one_cycle, max_lr=1.0, total_steps=100)
    assert rate(0) == pytest.approx(1 / 25) and rate(29) == 1.0 and rate(99) == pytest.approx(1 / 25e4)
    assert rate(100) == rate(99)
    assert max(range(100), key=rate) == 29
    momentum = partial(s.one_cycle_momentum, total_steps=100)
    assert (momentum(0), momentum(29), momentum(99)) == pytest.approx((0.95, 0.85, 0.95))
    with pytest.raises(ValueError, match="has 100 steps, but got step 101"):
        rate(101)
    for pct_start in (0.0, 1.0, 0.01):
        with pytest.raises(ValueError, match="without length"):
            s.one_cycle(0, max_lr=1.0, total_steps=100, pct_start=pct_start)


def test_warmup_then_cosine_is_torchs_sequence():
    optimizer = an_optimizer()
    parts = [
        lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=5),
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=15, eta_min=0.001),
    ]
    sequence = lr_scheduler.SequentialLR(optimizer, parts, milestones=[5])
    rate = partial(s.warmup_cosine, lr=0.1, warmup_steps=5, total_steps=20, min_lr=0.001, start_lr=0.01)
    for t in range(21):
        assert rate(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=SAME)
        optimizer.step()
        sequence.step()
    assert rate(5) == pytest.approx(0.1) and rate(1000) == pytest.approx(0.001)
    with pytest.raises(ValueError, match="total_steps above 0"):
        s.warmup_cosine(0, lr=0.1, warmup_steps=5, total_steps=5)


def test_cosine_stays_at_its_end_where_torchs_rises_again():
    rates = torchs(lr_scheduler.CosineAnnealingLR, 60, T_max=30)
    assert s.cosine(59, lr=0.1, total_steps=30) == 0 and rates[59] > 0.09


def test_inverse_sqrt_is_the_papers():
    """lrate = width^−½ min(t^−½, t w^(−3/2)), t from 1 (Vaswani et al. 2017)."""
    width, w = 512, 400
    rate = partial(s.inverse_sqrt, lr=(width * w) ** -0.5, warmup_steps=w)
    for t in (1, 2, 399, 400, 401, 10_000):
        assert rate(t - 1) == pytest.approx(width**-0.5 * min(t**-0.5, t * w**-1.5), rel=SAME)


def test_the_first_warmed_up_step_does_nothing_unless_told():
    assert s.linear_warmup(0, lr=0.1, warmup_steps=10) == 0
    assert s.linear_warmup(10, lr=0.1, warmup_steps=10) == 0.1
    assert s.linear_warmup(0, lr=0.1, warmup_steps=0) == 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda: s.constant(-1, lr=0.1), "counted from 0, but got -1"),
        (lambda: s.step_decay(0, lr=0.1, step_size=0), "step_size above 0"),
        (lambda: s.exponential(float("nan"), lr=0.1, gamma=0.9), "counted from 0"),
        (lambda: s.exponential(0, lr=0.1, gamma=0.9, decay_steps=0), "decay_steps above 0"),
        (lambda: s.inverse_time(0, lr=0.1, decay_rate=1, decay_steps=0), "decay_steps above 0"),
        (lambda: s.cosine(0, lr=0.1, total_steps=0), "total_steps above 0"),
        (lambda: s.polynomial(0, lr=0.1, total_steps=-1), "total_steps above 0"),
        (lambda: s.inverse_sqrt(0, lr=0.1, warmup_steps=0), "warmup_steps above 0"),
        (lambda: s.linear_warmup(-1, lr=0.1, warmup_steps=0), "counted from 0"),
        (lambda: s.piecewise_constant(0, boundaries=[1], values=[1.0]), "one value more"),
        (lambda: s.piecewise_constant(0, boundaries=[2, 2], values=[1.0, 1.0, 1.0]), "increasing boundaries"),
    ),
)
def test_what_makes_no_schedule_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the classes -----------------------------------------------------------------------------------------------


def test_scheduler_sets_every_group_now_and_after_each_step():
    optimizer = an_optimizer(2)
    scheduler = s.Scheduler(optimizer, [partial(s.constant, lr=0.5), lambda step: step / 10])
    assert scheduler.last_lr == [0.5, 0.0]
    scheduler.step()
    scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.2]
    again = s.Scheduler(an_optimizer(2), lambda step: step)
    again.load_state_dict(scheduler.state_dict())
    assert again.last_lr == [2, 2]
    assert s.Scheduler(an_optimizer(), lambda step: step, step=7).last_lr == [7]
    with pytest.raises(ValueError, match="2 groups, but there are 1 schedules"):
        s.Scheduler(an_optimizer(2), [lambda step: 0.1])


def metrics(seed, n=120, sign=1.0):
    """A noisy fall with plateaus, some of it equal to the digit."""
    g = torch.Generator().manual_seed(seed)
    noise = torch.rand(n, generator=g)
    return [round(sign * (math.exp(-i / 20) + 0.2 * noise[i].item() * (i % 3)), 3) for i in range(n)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("maximize", (False, True))
@pytest.mark.parametrize("relative", (False, True))
@pytest.mark.parametrize(("patience", "cooldown"), ((0, 0), (2, 0), (3, 2), (0, 4)))
def test_plateau_is_torchs(seed, maximize, relative, patience, cooldown):
    values = [1 - v for v in metrics(seed)] if maximize else metrics(seed)
    values = [abs(v) + 0.1 for v in values]  # positive: with negative ones torch's relative threshold turns round
    shared = {"factor": 0.7, "patience": patience, "threshold": 0.01, "cooldown": cooldown, "min_lr": 1e-4}
    mine, its = an_optimizer(2), an_optimizer(2)
    ours = s.ReduceOnPlateau(mine, maximize=maximize, relative=relative, **shared)
    theirs = lr_scheduler.ReduceLROnPlateau(
        its, mode="max" if maximize else "min", threshold_mode="rel" if relative else "abs", **shared
    )
    for value in values:
        ours.step(torch.tensor(value, dtype=torch.float64))
        theirs.step(value)
        assert mine.param_groups[1]["lr"] == pytest.approx(its.param_groups[1]["lr"], rel=SAME)
    assert mine.param_groups[0]["lr"] < 0.1


def test_plateau_resumes_and_stops_at_min_lr():
    optimizer = an_optimizer(lr=1.0)
    whole = s.ReduceOnPlateau(optimizer, patience=1, factor=0.5, cooldown=1, min_lr=0.3)
    falls = [whole.step(1.0) for _ in range(12)]
    assert [i for i, fell in enumerate(falls) if fell] == [2, 5, 8, 11]
    assert optimizer.param_groups[0]["lr"] == 0.3
    first = s.ReduceOnPlateau(an_optimizer(lr=1.0), patience=1, factor=0.5, cooldown=1)
    start = [first.step(1.0) for _ in range(4)]
    second = s.ReduceOnPlateau(first.optimizer, patience=1, factor=0.5, cooldown=1)
    second.load_state_dict(first.state_dict())
    assert start + [second.step(1.0) for _ in range(8)] == falls
    for factor in (0.0, 1.0):
        with pytest.raises(ValueError, match="factor has to lie between"):
            s.ReduceOnPlateau(optimizer, factor=factor)


def test_plateau_takes_nan_and_infinity_as_bad_and_negative_metrics_as_numbers():
    state = s.PlateauState()
    for metric in (math.nan, math.inf):
        fell, state = s.plateau_step(metric, state, patience=5)
        assert not fell and state.best is None
    assert state.bad_epochs == 2
    _, state = s.plateau_step(-1.0, state)
    _, state = s.plateau_step(-1.00001, state)
    assert state == s.PlateauState(-1.0, 1, 0)  # not better by the relative threshold
    its = lr_scheduler.ReduceLROnPlateau(an_optimizer())
    for metric in (-1.0, -0.99995):  # worse, and yet:
        its.step(metric)
    assert its.best == -0.99995
    _, state = s.plateau_step(-math.inf, state)
    assert s.plateau_step(-5.0, state)[1].best == -math.inf


# the range test --------------------------------------------------------------------------------------------


def a_problem():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=g)
    y = (x[:, 0] > 0).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    return net, [(x[:32], y[:32]), (x[32:], y[32:])]


def test_range_test_finds_a_rate_and_leaves_the_model():
    net, batches = a_problem()
    before = [p.detach().clone() for p in net.parameters()]
    net.eval()
    result = s.rate_range_test(net, batches, min_lr=1e-4, max_lr=1e3, steps=60)
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(net.parameters(), before, strict=True))
    assert not net.training
    assert result.rates[0] == pytest.approx(1e-4) and len(result.rates) == len(result.losses) == len(result.smoothed)
    assert result.rates[1] / result.rates[0] == pytest.approx(1e7 ** (1 / 59))
    assert min(result.smoothed) < result.smoothed[0] * 0.8
    assert 1e-3 < result.suggestion < 50
    full = s.rate_range_test(
        net, batches, min_lr=1e-4, max_lr=1.0, steps=20, optimizer=torch.optim.Adam, stop_factor=1e9
    )
    assert full.rates[-1] == pytest.approx(1.0) and len(full.rates) == 20


def test_range_test_stops_where_it_diverges():
    net, batches = a_problem()
    square = lambda logits, y: logits.square().sum()
    result = s.rate_range_test(net, batches, min_lr=1e-3, max_lr=1e6, steps=100, loss_fn=square)
    assert len(result.rates) < 100
    assert result.smoothed[-1] > 4 * min(result.smoothed) or not math.isfinite(result.smoothed[-1])
    nothing = s.rate_range_test(net, batches, loss_fn=lambda logits, y: logits.sum() * math.nan)
    assert len(nothing.rates) == 1
    with pytest.raises(ValueError, match="no rate gave a finite loss"):
        _ = nothing.suggestion


@pytest.mark.parametrize("wrong", ({"steps": 1}, {"min_lr": 0.0}, {"min_lr": 2.0, "max_lr": 1.0}, {"batches": []}))
def test_range_test_refuses_what_is_no_range(wrong):
    net, batches = a_problem()
    with pytest.raises(ValueError, match="0 < min_lr < max_lr"):
        s.rate_range_test(net, **{"batches": batches, **wrong})


# Keras -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    return load_keras()


@pytest.mark.slow
def test_keras_schedules_are_ours(keras):
    k = keras.optimizers.schedules
    boundary = CONVENTION["optimizers.boundary"].to_keras
    pairs = (
        (partial(s.exponential, lr=0.1, gamma=0.5, decay_steps=7), k.ExponentialDecay(0.1, 7, 0.5)),
        (partial(s.step_decay, lr=0.1, gamma=0.5, step_size=7), k.ExponentialDecay(0.1, 7, 0.5, staircase=True)),
        (partial(s.inverse_time, lr=0.1, decay_rate=0.5, decay_steps=7), k.InverseTimeDecay(0.1, 7, 0.5)),
        (
            partial(s.polynomial, lr=0.1, total_steps=20, min_lr=0.01, power=1.5),
            k.PolynomialDecay(0.1, 20, end_learning_rate=0.01, power=1.5),
        ),
        (partial(s.cosine, lr=0.1, total_steps=20, min_lr=0.01), k.CosineDecay(0.1, 20, alpha=0.1)),
        (
            partial(s.warmup_cosine, lr=0.1, warmup_steps=6, total_steps=20, start_lr=0.02),
            k.CosineDecay(0.02, 14, warmup_target=0.1, warmup_steps=6),
        ),
        (
            partial(s.piecewise_constant, boundaries=[5, 9], values=[0.1, 0.05, 0.01]),
            k.PiecewiseConstantDecay([boundary(5), boundary(9)], [0.1, 0.05, 0.01]),
        ),
    )
    for ours, theirs in pairs:
        for t in range(30):
            assert ours(t) == pytest.approx(float(theirs(t)), rel=FLOAT32, abs=1e-8), (ours, t)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("patience", "cooldown"), ((0, 0), (2, 0), (3, 2), (0, 4)))
def test_keras_plateau_is_ours_with_one_epoch_more_of_both(keras, seed, patience, cooldown):
    values = metrics(seed)
    theirs = _keras_plateau(
        keras,
        values,
        patience=CONVENTION["optimizers.plateau_patience"].to_keras(patience),
        cooldown=CONVENTION["optimizers.plateau_cooldown"].to_keras(cooldown),
        **CONVENTION["optimizers.plateau_threshold"].to_keras(0.01),
    )
    optimizer = an_optimizer(lr=1.0)
    ours = s.ReduceOnPlateau(
        optimizer, factor=0.5, patience=patience, cooldown=cooldown, threshold=0.01, relative=False, eps=0.0
    )
    for value, rate in zip(values, theirs, strict=True):
        ours.step(value)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=FLOAT32)


def test_everything_named_is_there_and_documented():
    for name in s.__all__:
        assert getattr(s, name).__doc__
