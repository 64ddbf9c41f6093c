"""course_lib.optimizers against PyTorch's and Keras's optimizers, and the classes against the step functions.

Gradients are drawn once and fed to both sides, so that a rounding difference is not fed back through a loss.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib import optimizers as o
from course_lib.conventions.optimizers import CONVENTIONS
from course_lib.quiet import load_keras

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
STEPS = 100
SAME = {"rtol": 1e-12, "atol": 1e-14}  # float64, the same algorithm: atol for what passes through 0
SHAPES = ((3, 4), (5,), (), (1, 1), (2, 3, 2), (0, 3), (7, 5))

# ours, torch's, options
RULES = {
    "SGD": (o.SGD, torch.optim.SGD, {"lr": 0.05}),
    "SGD decay": (o.SGD, torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.1}),
    "momentum": (o.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "dampened": (o.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": (o.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "SGD maximize": (o.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.5, "maximize": True, "weight_decay": 0.1}),
    "AdaGrad": (o.AdaGrad, torch.optim.Adagrad, {}),
    "AdaGrad all": (
        o.AdaGrad,
        torch.optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1, "maximize": True},
    ),
    "RMSProp": (o.RMSProp, torch.optim.RMSprop, {}),
    "RMSProp momentum": (o.RMSProp, torch.optim.RMSprop, {"momentum": 0.9, "alpha": 0.9, "weight_decay": 0.1}),
    "RMSProp all": (
        o.RMSProp,
        torch.optim.RMSprop,
        {"momentum": 0.5, "centered": True, "eps": 1e-3, "maximize": True, "weight_decay": 0.1},
    ),
    "Adam": (o.Adam, torch.optim.Adam, {}),
    "Adam large eps": (o.Adam, torch.optim.Adam, {"eps": 0.1, "betas": (0.5, 0.9), "lr": 0.1}),
    "Adam decay": (o.Adam, torch.optim.Adam, {"weight_decay": 0.1, "maximize": True}),
    "Adam decoupled": (o.Adam, torch.optim.Adam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "AMSGrad": (o.Adam, torch.optim.Adam, {"amsgrad": True}),
    "AdamW": (o.AdamW, torch.optim.AdamW, {}),
    "AdamW all": (
        o.AdamW,
        torch.optim.AdamW,
        {"weight_decay": 0.3, "amsgrad": True, "maximize": True, "betas": (0.8, 0.99)},
    ),
}


def parameters(dtype=torch.float64, shapes=SHAPES, device="cpu", seed=0):
    g = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=g, dtype=torch.float64).to(device, dtype)) for s in shapes]


def gradients(steps=STEPS, dtype=torch.float64, shapes=SHAPES, device="cpu", scale=1.0):
    """One list a step. Half the entries of every second tensor are zero, and a step now and then has no gradient."""
    g = torch.Generator().manual_seed(1)
    for step in range(steps):
        grads = []
        for i, shape in enumerate(shapes):
            grad = torch.randn(shape, generator=g, dtype=torch.float64) * scale
            if i % 2:
                grad = grad * (torch.rand(shape, generator=g) < 0.5)
            grads.append(None if (i == 4 and step % 3) else grad.to(device, dtype))
        yield grads


def feed(optimizer, params, steps):
    for grads in steps:
        for param, grad in zip(params, grads, strict=True):
            param.grad = None if grad is None else grad.clone()
        optimizer.step()


def groups(params, options):
    """Three groups: as given, ten times the rate, no decay."""
    return [
        {"params": params[:3]},
        {"params": params[3:5], "lr": 10 * options.get("lr", 1e-3)},
        {"params": params[5:], "weight_decay": 0.0},
    ]


def assert_same(ours, theirs, **tolerance):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), **(tolerance or SAME))


def assert_same_state(ours, theirs):
    for mine, its in zip(ours.param_groups, theirs.param_groups, strict=True):
        for p, q in zip(mine["params"], its["params"], strict=True):
            for name, value in theirs.state[q].items():
                got = ours.state[p][name]
                torch.testing.assert_close(torch.as_tensor(got, dtype=value.dtype), value, **SAME)


# parity with PyTorch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", RULES)
def test_a_hundred_steps_with_groups_are_torchs(name, device):
    ours, theirs, options = RULES[name]
    mine, its = parameters(device=device), parameters(device=device)
    one, other = ours(groups(mine, options), **options), theirs(groups(its, options), **options)
    feed(one, mine, gradients(device=device))
    feed(other, its, gradients(device=device))
    assert_same(mine, its)
    assert_same_state(one, other)
    assert not torch.equal(mine[0], parameters(device=device)[0])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("scale", (1e-10, 1e4), ids=("tiny", "huge"))
def test_tiny_and_huge_gradients_are_torchs(name, scale):
    """1e-10 is where ε decides; 1e4 where squares are 1e8."""
    ours, theirs, options = RULES[name]
    mine, its = parameters(), parameters()
    feed(ours(mine, **options), mine, gradients(20, scale=scale))
    feed(theirs(its, **options), its, gradients(20, scale=scale))
    assert_same(mine, its)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("name", RULES)
def test_lower_precision_stays_within_its_rounding(name, dtype):
    """Error model: each step rounds a parameter once (half an ulp of its size) and its update some times.

    An update is measured, in float64 on the same gradients, by its largest entry so far, because terms that cancel
    leave their roundings behind. A float32 one errs by 16 ulps of that. A bfloat16 moment loses up to an ulp of its
    size in every step it has made: there 10 steps are made, and an update errs by 16 ulps and one for each of them.
    """
    ours, _, options = RULES[name]
    steps, roundings = (STEPS, 16) if dtype == torch.float32 else (10, 26)
    low = parameters(dtype)
    exact = [nn.Parameter(p.detach().double()) for p in low]
    one, other = ours(low, **options), ours(exact, **options)
    bounds, largest = [torch.zeros_like(p) for p in exact], [torch.zeros((), dtype=torch.float64) for _ in exact]
    for given in gradients(steps, dtype):
        before = [p.detach().clone() for p in exact]
        feed(one, low, [given])
        feed(other, exact, [[g if g is None else g.double() for g in given]])
        for i, (p, old) in enumerate(zip(exact, before, strict=True)):
            update = (p.detach() - old).abs()
            largest[i] = torch.maximum(largest[i], update.max()) if update.numel() else largest[i]
            bounds[i] += torch.finfo(dtype).eps * (p.detach().abs() / 2 + roundings * largest[i])
    for p, q, bound in zip(low, exact, bounds, strict=True):
        assert p.dtype == dtype and ((p.detach().double() - q.detach()).abs() <= bound).all()


@pytest.mark.parametrize("name", RULES)
def test_mixed_dtypes_and_layouts_step_together(name):
    ours, theirs, options = RULES[name]
    base = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def make():
        return [
            nn.Parameter(base.clone().contiguous(memory_format=torch.channels_last)),
            nn.Parameter(base.double().transpose(0, 3)),
            nn.Parameter(base[0, 0].clone()),
        ]

    mine, its = make(), make()
    for params, optimizer in ((mine, ours(mine, **options)), (its, theirs(its, **options))):
        for step in range(5):
            for param in params:
                param.grad = torch.sin(param.detach() * (step + 1))
            optimizer.step()
    # float32: a few roundings in each of 5 steps, against a rate of at most 0.1
    assert_same(mine, its, rtol=2e-6, atol=2e-6)
    assert mine[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", RULES)
def test_large_tensors_are_stepped_in_pieces_with_the_same_result(name, monkeypatch):
    ours, _, options = RULES[name]
    mine, its = parameters(), parameters()
    feed(ours(mine, **options), mine, gradients(5))
    monkeypatch.setattr(o, "CACHED_NUMBERS", 13)
    feed(ours(its, **options), its, gradients(5))
    assert_same(mine, its, rtol=0, atol=0)


def test_the_pieces_hold_everything_once():
    params = parameters()
    pieces = list(o._in_cache((params, params, [])))
    assert len(pieces) == 1
    tiny = [nn.Parameter(torch.zeros(2**15)) for _ in range(5)] + [nn.Parameter(torch.zeros(2**17))]
    pieces = list(o._in_cache((tiny, tiny, tiny)))
    assert [len(p) for p, _, _ in pieces] == [2, 2, 1, 1]
    assert [p for piece, _, _ in pieces for p in piece] == tiny


@pytest.mark.parametrize("name", RULES)
def test_state_goes_to_torch_and_comes_back(name):
    """50 steps on one side, the state handed over, 50 on the other: as 100 on either."""
    ours, theirs, options = RULES[name]
    steps = list(gradients())
    reference = parameters()
    feed(theirs(reference, **options), reference, steps)
    for first, second in ((ours, theirs), (theirs, ours), (ours, ours)):
        params = parameters()
        one = first(params, **options)
        feed(one, params, steps[:50])
        buffer = io.BytesIO()
        torch.save(one.state_dict(), buffer)
        buffer.seek(0)
        other = second(params)  # the options come with the state
        other.load_state_dict(torch.load(buffer, weights_only=True))
        feed(other, params, steps[50:])
        assert_same(params, reference)


@pytest.mark.parametrize("name", RULES)
def test_state_before_the_first_step_goes_to_torch(name):
    ours, theirs, options = RULES[name]
    mine, its = parameters(), parameters()
    other = theirs(its)
    other.load_state_dict(ours(mine, **options).state_dict())
    one = ours(mine)
    one.load_state_dict(theirs(its, **options).state_dict())
    feed(one, mine, gradients(3))
    feed(other, its, gradients(3))
    assert_same(mine, its)


@pytest.mark.parametrize("name", RULES)
def test_a_copy_steps_on_like_the_original(name):
    ours, _, options = RULES[name]
    params = parameters()
    pair = {"optimizer": ours(params, **options), "params": params}
    feed(pair["optimizer"], params, gradients(3))
    twin = copy.deepcopy(pair)
    for each in (pair, twin):
        feed(each["optimizer"], each["params"], gradients(3))
    assert_same(pair["params"], twin["params"], rtol=0, atol=0)


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", RULES)
def test_a_step_reads_nothing_from_the_device_and_leaves_gradients_alone(name):
    ours, _, options = RULES[name]
    params = parameters()
    optimizer = ours(params, **options)
    feed(optimizer, params, gradients(2))
    kept = [None if p.grad is None else p.grad.clone() for p in params]
    with Operations() as seen:
        optimizer.step()
    assert not [n for n in seen.names if "_local_scalar_dense" in n or "nonzero" in n or "to_copy" in n]
    assert all(g is None or torch.equal(p.grad, g) for p, g in zip(params, kept, strict=True))


def test_the_number_of_calls_does_not_grow_with_the_number_of_parameters():
    def calls(n):
        params = [nn.Parameter(torch.ones(3)) for _ in range(n)]
        optimizer = o.Adam(params)
        for _ in range(2):
            for p in params:
                p.grad = torch.ones(3)
            with Operations() as seen:
                optimizer.step()
        return len(seen.names)

    assert calls(50) == calls(2)


# the functions ---------------------------------------------------------------------------------------------


def test_every_class_is_its_function():
    """Scalars apart, the classes apply the functions' rule: 100 steps, float64."""
    grads = [g[0] for g in gradients()]
    start = parameters()[0].detach()

    def run(optimizer, **options):
        param = nn.Parameter(start.clone())
        feed(optimizer([param], **options), [param], [[g] for g in grads])
        return param.detach()

    zero = torch.zeros_like(start)
    w = start
    for g in grads:
        w = o.sgd_step(w, g, lr=0.1)
    torch.testing.assert_close(run(o.SGD, lr=0.1), w, **SAME)

    for rule, options in ((o.momentum_step, {}), (o.nesterov_step, {"nesterov": True})):
        w, b = start, zero
        for g in grads:
            w, b = rule(w, g, b, lr=0.1, momentum=0.8)
        torch.testing.assert_close(run(o.SGD, lr=0.1, momentum=0.8, **options), w, **SAME)

    for inside in (False, True):
        w, s = start, zero + 0.1
        for g in grads:
            w, s = o.adagrad_step(w, g, s, lr=0.1, eps=1e-3, eps_inside_root=inside)
        got = run(o.AdaGrad, lr=0.1, eps=1e-3, initial_accumulator_value=0.1, eps_inside_root=inside)
        torch.testing.assert_close(got, w, **SAME)

        w, state = start, (zero, zero, zero)
        for g in grads:
            w, *state = o.rmsprop_step(w, g, *state, momentum=0.5, eps=1e-3, eps_inside_root=inside)
        got = run(o.RMSProp, centered=True, momentum=0.5, eps=1e-3, eps_inside_root=inside)
        torch.testing.assert_close(got, w, rtol=1e-10, atol=1e-12)  # v − mean² cancels: 2 digits lost

        w, state = start, (zero, None, None)
        for g in grads:
            w, *state = o.rmsprop_step(w, g, *state, eps_inside_root=inside)
        assert state[1] is None and state[2] is None
        torch.testing.assert_close(run(o.RMSProp, eps_inside_root=inside), w, **SAME)

    for rule, optimizer, extra in (
        (o.adam_step, o.Adam, ()),
        (o.adamw_step, o.AdamW, ()),
        (o.amsgrad_step, lambda p: o.Adam(p, amsgrad=True), (zero,)),
    ):
        w, state = start, (zero, zero, *extra)
        for t, g in enumerate(grads, 1):
            w, *state = rule(w, g, *state, t)
        torch.testing.assert_close(run(optimizer), w, **SAME)


def test_step_functions_leave_their_inputs_and_may_be_differentiated():
    w, g, z = (torch.rand(3, dtype=torch.float64).requires_grad_() for _ in range(3))
    calls = (
        lambda w, g, z: o.sgd_step(w, g, lr=0.1),
        lambda w, g, z: o.momentum_step(w, g, z, lr=0.1)[0],
        lambda w, g, z: o.nesterov_velocity_step(w, g, z, lr=0.1)[0],
        lambda w, g, z: o.adagrad_step(w, g, z)[0],
        lambda w, g, z: o.rmsprop_step(w, g, z, buffer=z)[0],
        lambda w, g, z: o.adam_step(w, g, z, z, 3)[0],
        lambda w, g, z: o.adamw_step(w, g, z, z, 3)[0],
    )
    before = [t.detach().clone() for t in (w, g, z)]
    for call in calls:
        assert torch.autograd.gradcheck(call, (w, g, z))
    assert all(torch.equal(a, b) for a, b in zip((w, g, z), before, strict=True))


def test_velocity_is_the_buffer_times_the_rate_until_the_rate_changes():
    to_velocity = CONVENTION["optimizers.sgd_velocity"].to_keras
    for ours, keras_way in ((o.momentum_step, o.velocity_step), (o.nesterov_step, o.nesterov_velocity_step)):
        w = x = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        b = v = torch.zeros_like(w)
        for (g,) in gradients(20, shapes=((4,),)):
            w, b = ours(w, g, b, lr=0.1)
            x, v = keras_way(x, g, v, lr=0.1)
            torch.testing.assert_close(x, w, **SAME)
            torch.testing.assert_close(v, to_velocity((b, 0.1)), **SAME)
        (g,) = next(gradients(1, shapes=((4,),)))
        assert not torch.allclose(ours(w, g, b, lr=0.01)[0], keras_way(x, g, v, lr=0.01)[0])


def test_adam_with_eps_in_the_wrong_place_is_told_apart_by_tiny_gradients():
    w, g = torch.zeros(1, dtype=torch.float64), torch.full((1,), 1e-8, dtype=torch.float64)
    step = -o.adam_step(w, g, w, w, 1, lr=1.0)[0].item()
    assert step == pytest.approx(0.5)  # g / (g + ε)
    assert o.adagrad_step(w, g, w, lr=1.0, eps=1e-8, eps_inside_root=True)[0].item() == pytest.approx(-1e-4, rel=1e-6)


# what the frameworks get wrong, or leave to chance ---------------------------------------------------------


def test_centered_rmsprop_stays_finite_under_a_constant_gradient_where_torchs_is_nan():
    """The variance of what never changes is 0, and rounding takes v − mean² below it."""
    ends = []
    for kind in (o.RMSProp, torch.optim.RMSprop):
        param = nn.Parameter(torch.linspace(0.5, 1.5, 101))
        optimizer = kind([param], lr=1e-6, alpha=0.5, centered=True)
        start = param.detach().clone()
        feed(optimizer, [param], [[start]] * 200)
        ends.append(param.detach())
    assert torch.isfinite(ends[0]).all()
    assert torch.isnan(ends[1]).any()


def test_a_group_added_later_starts_at_its_own_step_one():
    params = parameters(shapes=((3,), (3,)))
    for kind in (o.Adam, o.AdaGrad, o.SGD):
        first, second = (nn.Parameter(p.detach().clone()) for p in params)
        optimizer = kind([first], lr=0.1)
        feed(optimizer, [first], [[torch.ones(3).double()]] * 5)
        optimizer.add_param_group({"params": [second], "lr": 0.2})
        feed(optimizer, [first, second], [[torch.ones(3).double()] * 2])
        alone = nn.Parameter(params[1].detach().clone())
        feed(kind([alone], lr=0.2), [alone], [[torch.ones(3).double()]])
        torch.testing.assert_close(second, alone, **SAME)


def test_decoupled_decay_of_momentum_shrinks_weights_by_the_rate_alone():
    for kind, options in ((o.SGD, {"momentum": 0.9}), (o.AdaGrad, {}), (o.RMSProp, {"momentum": 0.9}), (o.AdamW, {})):
        decoupled = {} if kind is o.AdamW else {"decoupled_weight_decay": True}
        param = nn.Parameter(torch.ones(3, dtype=torch.float64))
        feed(kind([param], lr=0.1, weight_decay=0.5, **options, **decoupled), [param], [[torch.zeros(3).double()]] * 4)
        torch.testing.assert_close(param.detach(), torch.full((3,), 0.95**4, dtype=torch.float64), **SAME)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch's Adagrad
@pytest.mark.parametrize(("ours", "theirs"), ((o.SGD, torch.optim.SGD), (o.AdaGrad, torch.optim.Adagrad)))
def test_sparse_gradients_are_torchs(ours, theirs):
    def make(kind):
        torch.manual_seed(0)
        table = nn.Embedding(10, 3, sparse=True, dtype=torch.float64)
        optimizer = kind(table.parameters(), lr=0.1)
        for step in range(20):
            optimizer.zero_grad()
            table(torch.tensor([step % 10, 3, 3])).pow(2).sum().backward()
            optimizer.step()
        return table.weight

    torch.testing.assert_close(make(ours), make(theirs), **SAME)


def test_sparse_gradients_are_refused_where_they_would_mean_something_else():
    param = nn.Parameter(torch.zeros(4, 2))
    param.grad = torch.sparse_coo_tensor([[1]], [[1.0, 1.0]], (4, 2))
    with pytest.raises(RuntimeError, match="Adam got a sparse gradient: it needs dense gradients"):
        o.Adam([param]).step()
    with pytest.raises(RuntimeError, match="SGD got a sparse gradient: it needs weight_decay=0"):
        o.SGD([param], weight_decay=0.1).step()


def test_closures_hooks_zero_grad_and_no_gradients_at_all():
    param = nn.Parameter(torch.ones(2))
    optimizer = o.Adam([param])
    optimizer.step()
    assert torch.equal(param, torch.ones(2)) and not optimizer.state

    def closure():
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss

    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    assert optimizer.step(closure).item() == 2.0
    assert seen == [1] and (param < 1).all() and param.requires_grad
    optimizer.zero_grad()
    assert param.grad is None


def test_an_in_place_zeroing_of_gradients_leaves_the_momentum():
    params = [nn.Parameter(torch.zeros(2))]
    optimizer = o.SGD(params, lr=1.0, momentum=0.5)
    feed(optimizer, params, [[torch.ones(2)]])
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    torch.testing.assert_close(params[0].detach(), torch.full((2,), -1.5))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    (
        (lambda p: o.SGD(p, lr=-1), ValueError, "lr has to be at least 0, but got -1"),
        (lambda p: o.SGD(p, lr=float("nan")), ValueError, "lr has to be"),
        (lambda p: o.SGD(p, momentum=-1), ValueError, "momentum"),
        (lambda p: o.SGD(p, nesterov=True), ValueError, "nesterov needs"),
        (lambda p: o.SGD(p, momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov needs"),
        (lambda p: o.SGD(p, lr=torch.tensor(0.1)), TypeError, "lr has to be a number"),
        (lambda p: o.AdaGrad(p, initial_accumulator_value=-1), ValueError, "initial_accumulator_value"),
        (lambda p: o.RMSProp(p, alpha=1.0), ValueError, "alpha has to be below 1"),
        (lambda p: o.RMSProp(p, eps=-1), ValueError, "eps"),
        (lambda p: o.Adam(p, betas=(1.0, 0.9)), ValueError, "beta1 has to be below 1"),
        (lambda p: o.Adam(p, betas=(0.9, -0.1)), ValueError, "beta2"),
        (lambda p: o.AdamW(p, weight_decay=-0.1), ValueError, "weight_decay"),
        (lambda p: o.Adam([]), ValueError, "empty parameter list"),
        (lambda p: o.Adam([nn.Parameter(torch.zeros(2, dtype=torch.complex64))]), TypeError, "complex parameters"),
    ),
)
def test_bad_options_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(parameters())


# clipping and accumulation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", (1.0, 2.0, 3.0, math.inf))
@pytest.mark.parametrize("max_norm", (0.0, 0.1, 1e6))
@pytest.mark.parametrize("scale", (1e-4, 1.0, 1e4))
def test_clipping_by_norm_is_torchs_and_never_scales_up(norm_type, max_norm, scale):
    mine, its = parameters(), parameters()
    for params in (mine, its):
        for param, grad in zip(params, next(gradients(1, scale=scale)), strict=True):
            param.grad = grad
    before = [p.grad.clone() for p in mine]
    pure, pure_norm = o.clip_by_global_norm(before, max_norm, norm_type=norm_type)
    got = o.clip_grad_norm_(mine, max_norm, norm_type=norm_type)
    expected = nn.utils.clip_grad_norm_([p for p in its if p.numel()], max_norm, norm_type)
    torch.testing.assert_close(got, expected, **SAME)
    torch.testing.assert_close(pure_norm, expected, **SAME)
    assert_same([p.grad for p in mine], [p.grad for p in its])
    assert_same(pure, [p.grad for p in its])
    if max_norm == 1e6 and scale < 1e4:
        assert all(torch.equal(p.grad, b) for p, b in zip(mine, before, strict=True))


def test_clipping_takes_one_tensor_mixed_dtypes_none_and_infinities():
    one = nn.Parameter(torch.zeros(2))
    assert o.clip_grad_norm_(one, 1.0) == 0  # no gradient: nothing to do
    one.grad = torch.tensor([30.0, 40.0])
    two = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    two.grad = torch.zeros(1, dtype=torch.bfloat16)
    assert o.clip_grad_norm_([one, two], 5.0).item() == 50
    torch.testing.assert_close(one.grad, torch.tensor([3.0, 4.0]))
    assert o.clip_grad_norm_(one, 1.0).item() == pytest.approx(5)
    assert one.grad.norm().item() == pytest.approx(1)
    one.grad = torch.tensor([1.0, math.inf])
    twin = nn.Parameter(torch.zeros(2))
    twin.grad = one.grad.clone()
    assert o.clip_grad_norm_(one, 1.0) == nn.utils.clip_grad_norm_(twin, 1.0)
    torch.testing.assert_close(one.grad, twin.grad, equal_nan=True)
    empty = nn.Parameter(torch.zeros(0))
    empty.grad = torch.zeros(0)
    assert o.clip_grad_norm_(empty, 1.0) == 0
    with pytest.raises(ValueError, match="max_norm has to be at least 0"):
        o.clip_grad_norm_(one, -1.0)


def test_clipping_by_value_is_torchs_and_turns_the_direction():
    mine, its = parameters(), parameters()
    for params in (mine, its):
        for param, grad in zip(params, next(gradients(1)), strict=True):
            param.grad = grad
    o.clip_grad_value_(mine, 0.3)
    nn.utils.clip_grad_value_(its, 0.3)
    assert_same([p.grad for p in mine], [p.grad for p in its], rtol=0, atol=0)
    o.clip_grad_value_([nn.Parameter(torch.zeros(1))], 1.0)
    with pytest.raises(ValueError, match="clip_value"):
        o.clip_grad_value_(mine, float("nan"))


@pytest.mark.parametrize("size", (1, 3, 4, 10, 99))
def test_accumulated_gradients_are_those_of_the_whole_batch(size):
    torch.manual_seed(0)
    net = nn.Linear(4, 3).double()
    x, y = torch.randn(10, 4).double(), torch.randint(0, 3, (10,))
    loss = nn.functional.cross_entropy(net(x), y)
    expected = torch.autograd.grad(loss, net.parameters())
    net.zero_grad()
    batches = list(zip(x.split(size), y.split(size), strict=True))
    got = o.accumulate_gradients(net, [*batches, (x[:0], y[:0])], nn.functional.cross_entropy)
    torch.testing.assert_close(got, loss.detach(), **SAME)
    assert_same([p.grad for p in net.parameters()], expected)
    with pytest.raises(ValueError, match="no examples"):
        o.accumulate_gradients(net, [], nn.functional.cross_entropy)


# Keras -----------------------------------------------------------------------------------------------------

CONVENTION = {convention.id: convention for convention in CONVENTIONS}


@pytest.fixture(scope="module")
def keras():
    return load_keras()


def keras_run(keras, optimizer, steps, *, rates=None, before_step=None):
    variables = [keras.Variable(p.detach().numpy(), dtype="float64") for p in parameters(shapes=((3, 4), (5,)))]
    for t, grads in enumerate(steps):
        if rates:
            optimizer.learning_rate = rates[t]
        if before_step:
            before_step(optimizer, t + 1)
        optimizer.apply([keras.ops.convert_to_tensor(g.numpy()) for g in grads], variables)
    return [torch.tensor(np.array(v.value)) for v in variables]


def our_run(kind, steps, *, rates=None, **options):
    params = parameters(shapes=((3, 4), (5,)))
    optimizer = kind(params, **options)
    for t, grads in enumerate(steps):
        if rates:
            optimizer.param_groups[0]["lr"] = rates[t]
        feed(optimizer, params, [grads])
    return params


def two(scale=1.0):
    return [grads[:2] for grads in gradients(shapes=((3, 4), (5,)), scale=scale)]


# Keras keeps the rate in float32, and casts momentum, betas and decay through it even where variables are float64: only
# such numbers are the same in both.
RATE = 2.0**-6
MOMENTUM = 1 - 2.0**-3
BETAS = (MOMENTUM, 1 - 2.0**-10)
DECAY = 2.0**-4


@pytest.mark.slow
@pytest.mark.parametrize("scale", (1e-6, 1.0, 1e4))
@pytest.mark.parametrize("nesterov", (False, True))
@pytest.mark.parametrize("momentum", (0.0, MOMENTUM))
def test_keras_sgd_at_a_constant_rate_is_ours(keras, momentum, nesterov, scale):
    theirs = keras_run(keras, keras.optimizers.SGD(RATE, momentum, nesterov, weight_decay=DECAY), two(scale))
    options = {"momentum": momentum, "nesterov": nesterov and momentum > 0}
    ours = our_run(o.SGD, two(scale), lr=RATE, weight_decay=DECAY, decoupled_weight_decay=True, **options)
    assert_same(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("nesterov", (False, True))
def test_keras_sgd_at_a_changing_rate_is_the_velocity_step(keras, nesterov):
    rates = [2.0 ** -(3 + t // 20) for t in range(STEPS)]
    theirs = keras_run(keras, keras.optimizers.SGD(1.0, MOMENTUM, nesterov), two(), rates=rates)
    rule = o.nesterov_velocity_step if nesterov else o.velocity_step
    ours = []
    for i, start in enumerate(parameters(shapes=((3, 4), (5,)))):
        w, v = start.detach(), torch.zeros_like(start)
        for grads, lr in zip(two(), rates, strict=True):
            w, v = rule(w, grads[i], v, lr=lr, momentum=MOMENTUM)
        ours.append(w)
    assert_same(ours, theirs)
    pytorch = our_run(o.SGD, two(), rates=rates, lr=1.0, momentum=MOMENTUM, nesterov=nesterov)
    assert (pytorch[0] - theirs[0]).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("scale", (1e-7, 1.0))
@pytest.mark.parametrize("amsgrad", (False, True))
@pytest.mark.parametrize("decay", (None, DECAY))
def test_keras_adam_is_ours_with_its_eps_hat(keras, amsgrad, decay, scale):
    to_hat = CONVENTION["optimizers.adam_eps_hat"].to_keras

    def eps_of_step(optimizer, t):
        optimizer.epsilon = to_hat((1e-7, BETAS[1], t))

    optimizer = keras.optimizers.Adam(RATE, *BETAS, amsgrad=amsgrad, weight_decay=decay)
    theirs = keras_run(keras, optimizer, two(scale), before_step=eps_of_step)
    options = {"weight_decay": decay or 0.0, "decoupled_weight_decay": True}
    assert_same(our_run(o.Adam, two(scale), lr=RATE, betas=BETAS, eps=1e-7, amsgrad=amsgrad, **options), theirs)


@pytest.mark.slow
def test_keras_adamw_is_ours_and_its_own_eps_differs_with_tiny_gradients(keras):
    decay = CONVENTION["optimizers.adamw_weight_decay"].to_keras(DECAY)
    to_hat = CONVENTION["optimizers.adam_eps_hat"].to_keras

    def eps_of_step(optimizer, t):
        optimizer.epsilon = to_hat((1e-7, BETAS[1], t))

    theirs = keras_run(keras, keras.optimizers.AdamW(RATE, decay, *BETAS), two(), before_step=eps_of_step)
    assert_same(our_run(o.AdamW, two(), lr=RATE, betas=BETAS, eps=1e-7, weight_decay=DECAY), theirs)
    plain = keras_run(keras, keras.optimizers.Adam(RATE, epsilon=1e-7), two(1e-7))
    ours = our_run(o.Adam, two(1e-7), lr=RATE, eps=1e-7)
    assert (plain[0] - ours[0]).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("scale", (1e-4, 1.0))
@pytest.mark.parametrize("centered", (False, True))
@pytest.mark.parametrize("momentum", (0.0, MOMENTUM))
def test_keras_rmsprop_is_ours_with_eps_inside_the_root(keras, momentum, centered, scale):
    rho = CONVENTION["optimizers.rmsprop_alpha"].to_keras(0.9)
    optimizer = keras.optimizers.RMSprop(RATE, rho=rho, momentum=momentum, centered=centered, weight_decay=DECAY)
    theirs = keras_run(keras, optimizer, two(scale))
    options = {"alpha": 0.9, "eps": 1e-7, "eps_inside_root": True, "momentum": momentum, "centered": centered}
    decay = {"weight_decay": DECAY, "decoupled_weight_decay": True}
    assert_same(our_run(o.RMSProp, two(scale), lr=RATE, **options, **decay), theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("scale", (1e-4, 1.0))
def test_keras_adagrad_is_ours_with_eps_inside_the_root(keras, scale):
    start = CONVENTION["optimizers.adagrad_accumulator"].to_keras(0.1)
    optimizer = keras.optimizers.Adagrad(RATE, initial_accumulator_value=start, epsilon=1e-7)
    theirs = keras_run(keras, optimizer, two(scale))
    options = {"initial_accumulator_value": 0.1, "eps": 1e-7, "eps_inside_root": True}
    assert_same(our_run(o.AdaGrad, two(scale), lr=RATE, **options), theirs, rtol=1e-12, atol=1e-9)


@pytest.mark.slow
def test_keras_clips_by_the_global_norm_without_eps(keras):
    limit = CONVENTION["optimizers.clip_norm"].to_keras(0.5)
    theirs = keras_run(keras, keras.optimizers.SGD(1.0, **limit), two()[:1])
    clipped, _ = o.clip_by_global_norm(two()[0], 0.5, eps=0.0)
    ours = [o.sgd_step(p.detach(), g, lr=1.0) for p, g in zip(parameters(shapes=((3, 4), (5,))), clipped, strict=True)]
    assert_same(ours, theirs)


@pytest.mark.slow
def test_conventions_are_as_told(keras):
    """What the records' readers find in the installed versions is what their traps speak of."""
    found = {c.id.split(".")[1]: (c.torch(), c.keras(keras)) for c in CONVENTIONS}
    assert found["adam_eps"] == (1e-8, 1e-7)
    assert found["adam_eps_hat"] == (0.5, 0.031)
    assert found["adamw_weight_decay"] == (0.01, 0.004)
    assert found["sgd_lr"] == (1e-3, 0.01) and found["adagrad_lr"] == (0.01, 1e-3)
    assert found["rmsprop_alpha"] == (0.99, 0.9) and found["adagrad_accumulator"] == (0, 0.1)
    assert found["accumulation"] == (4.0, 2.0)
    for name in ("weight_decay", "sgd_velocity", "rmsprop_eps", "adagrad_eps", "clip_norm", "plateau_patience"):
        assert found[name][0] != found[name][1]
    for name in ("plateau_cooldown", "plateau_threshold", "cosine_end", "boundary"):
        assert found[name][0] != found[name][1]
    assert len({c.id for c in CONVENTIONS}) == len(CONVENTIONS)
    assert all(c.what and c.trap for c in CONVENTIONS)


def test_everything_named_is_there_and_documented():
    for name in o.__all__:
        assert getattr(o, name).__doc__
    assert o.__all__ == sorted(o.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
