"""course_lib.normalization against PyTorch, Keras, autograd and the definition. Nothing here depends on chance: inputs
come from seeded generators.

Tolerances count roundings. A sum of n terms, computed in another order, strays by a few √n roundings of its largest
terms; at most n = 2,000 here, so that 64 ulps of the largest value hold both sums and the formula around them.
"""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import normalization as n
from course_lib.conventions import normalization as conventions
from course_lib.quiet import load_keras

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
ULPS = 64
BY_ID = {convention.id: convention for convention in conventions.CONVENTIONS}


def close(got, expected, *, scale=None, ulps=ULPS):
    """Equal within some ulps of the largest expected value (or of `scale`, the size of what cancelled)."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    size = expected.detach().abs().max().item() if expected.numel() else 0.0
    atol = ulps * torch.finfo(expected.dtype).eps * max(size, scale or 0.0)
    torch.testing.assert_close(got, expected, rtol=0, atol=atol, equal_nan=True)


def randn(*shape, dtype=torch.float64, seed=0, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def images(dtype=torch.float64, device="cpu"):
    x = randn(4, 6, 5, 7, dtype=dtype, device=device) * 2 + 3
    return {
        "ordinary": x,
        "one example": x[:1],
        "not contiguous": x.transpose(2, 3),
        "every other": x[:, :, ::2, 1::2],
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "one position": x[:, :, :1, :1],
        "±1e4": x * 1e4,
        "far from zero": x + 1e4,
        "denormal": x * torch.finfo(dtype).tiny / 8,
    }


FAR = {"far from zero"}  # x − μ has lost the digits that μ / σ ≈ 1e4 costs, in both


def both(ours, theirs, *tensors, seed=5):
    """Outputs and gradients of two functions of the same tensors."""
    results = []
    for function in (ours, theirs):
        leaves = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in tensors]
        y = function(*leaves)
        grad = randn(*y.shape, dtype=y.dtype, seed=seed, device=y.device)
        results.append((y, *torch.autograd.grad(y, leaves, grad)))
    return zip(*results, strict=True)


# the norms against torch's ----------------------------------------------------------------


def norm_pairs(x):
    """name: (ours, torch's, shape of weight and bias)."""
    channels, last = x.shape[1], tuple(x.shape[-2:])
    return {
        "batch": (
            lambda x, w, b: n.batch_norm(x, w, b)[0],
            lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
            (channels,),
        ),
        "layer": (
            lambda x, w, b: n.layer_norm(x, last, w, b),
            lambda x, w, b: F.layer_norm(x, last, w, b),
            last,
        ),
        "group": (lambda x, w, b: n.group_norm(x, 3, w, b), lambda x, w, b: F.group_norm(x, 3, w, b), (channels,)),
        "instance": (
            n.instance_norm,
            lambda x, w, b: F.instance_norm(x, None, None, w, b),
            (channels,),
        ),
    }


NORMS = ("batch", "layer", "group", "instance")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", images())
@pytest.mark.parametrize("norm", NORMS)
def test_norm_and_gradients_are_torchs_in_float64(norm, name, device):
    x = images(device=device)[name]
    if norm == "instance" and name == "one position":
        pytest.skip("one position is refused, see below")
    ours, theirs, shape = norm_pairs(x)[norm]
    w, b = randn(*shape, seed=1, device=device), randn(*shape, seed=2, device=device)
    # what cancels is larger than what is left: by μ / σ far from zero, and by 1 / √eps where one value makes σ² = 0
    scale = 1e6 if name in FAR else 1e3 if name == "one position" else 1.0
    for got, expected in both(ours, theirs, x, w, b):
        close(got, expected, scale=scale)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
def test_norm_in_fewer_digits_is_float64s_within_its_roundings(norm, dtype):
    """Computed in float32 and rounded once: half an ulp of each number in its own dtype, of gradients too, besides the
    ulps of the float32 sums.
    """
    x = images()["ordinary"].to(dtype)
    ours, theirs, shape = norm_pairs(x)[norm]
    w, b = randn(*shape, seed=1).to(dtype), randn(*shape, seed=2).to(dtype)
    exact = [t.double() for t in (x, w, b)]
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    y = ours(*leaves)
    grad = randn(*y.shape, dtype=dtype, seed=5)
    gradients = torch.autograd.grad(y, leaves, grad)
    exact = [t.requires_grad_() for t in exact]
    y64 = theirs(*exact)
    for got, expected in zip((y, *gradients), (y64, *torch.autograd.grad(y64, exact, grad.double())), strict=True):
        assert got.dtype == dtype
        once = 0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
        sums = ULPS * torch.finfo(torch.float32).eps * expected.abs().max().item()
        torch.testing.assert_close(got.double(), expected, rtol=once, atol=sums)


def test_half_precision_input_with_float32_parameters():
    x = images(torch.bfloat16)["ordinary"].requires_grad_()
    w, b = randn(6, dtype=torch.float32).requires_grad_(), randn(6, dtype=torch.float32, seed=1).requires_grad_()
    y, mean, _ = n.batch_norm(x, w, b)
    y.float().square().sum().backward()
    assert (y.dtype, mean.dtype, x.grad.dtype, w.grad.dtype) == (torch.bfloat16, torch.float32) * 2
    torch.testing.assert_close(y.detach(), F.batch_norm(x, None, None, w, b, True).detach(), rtol=2**-7, atol=2**-8)


@pytest.mark.parametrize("norm", NORMS)
def test_norm_without_parameters_and_with_only_one_of_them(norm):
    x = images()["ordinary"]
    ours, theirs, shape = norm_pairs(x)[norm]
    w = randn(*shape, seed=1)
    close(ours(x, None, None), theirs(x, None, None))
    for got, expected in both(lambda x, w: ours(x, w, None), lambda x, w: theirs(x, w, None), x, w):
        close(got, expected)
    ones = torch.ones_like(w)
    for got, expected in both(lambda x, b: ours(x, None, b), lambda x, b: theirs(x, ones, b), x, w):
        close(got, expected, scale=1.0)


@pytest.mark.parametrize("norm", NORMS)
def test_channels_last_stays_channels_last_forward_and_backward(norm):
    x = images()["channels last"].requires_grad_()
    ours, _, shape = norm_pairs(x)[norm]
    y = ours(x, torch.ones(shape, dtype=x.dtype), torch.zeros(shape, dtype=x.dtype))
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", ((5, 3), (5, 3, 4), (5, 3, 2, 2), (5, 3, 2, 2, 2), (2, 3), (7, 1)))
def test_batch_norm_of_any_number_of_dimensions(shape):
    x, w, b = randn(*shape), randn(shape[1], seed=1), randn(shape[1], seed=2)
    for got, expected in both(
        lambda x, w, b: n.batch_norm(x, w, b)[0], lambda x, w, b: F.batch_norm(x, None, None, w, b, True), x, w, b
    ):
        close(got, expected, scale=10.0)


@pytest.mark.parametrize("shape", ((6,), (1, 6), (3, 6), (2, 3, 4, 6)))
def test_layer_norm_of_any_number_of_dimensions(shape):
    for ends in range(1, len(shape) + 1):
        normalized = shape[-ends:]
        x, w, b = randn(*shape), randn(*normalized, seed=1), randn(*normalized, seed=2)
        for got, expected in both(
            lambda x, w, b, s=normalized: n.layer_norm(x, s, w, b),
            lambda x, w, b, s=normalized: F.layer_norm(x, s, w, b),
            x,
            w,
            b,
        ):
            close(got, expected, scale=1.0)
    close(n.layer_norm(x, 6), F.layer_norm(x, (6,)))


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_in_gives_nothing_out_and_zero_gradients(norm):
    x = torch.zeros(0, 6, 5, 7, requires_grad=True)
    ours, _, shape = norm_pairs(x)[norm]
    w, b = torch.ones(shape, requires_grad=True), torch.zeros(shape, requires_grad=True)
    y = ours(x, w, b)
    y.sum().backward()
    assert y.shape == x.shape and not b.grad.any() and (norm == "batch" or not w.grad.any())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("value", (float("inf"), float("nan")))
def test_infinities_spoil_what_torchs_do_and_nothing_else(norm, value):
    x = images()["ordinary"].clone()
    x[1, 2, 3, 4] = value
    ours, theirs, shape = norm_pairs(x)[norm]
    w, b = randn(*shape, seed=1), randn(*shape, seed=2)
    got, expected = ours(x, w, b), theirs(x, w, b)
    assert torch.equal(got.isnan(), expected.isnan()) and got.isnan().any()
    torch.testing.assert_close(got, expected, equal_nan=True)


@pytest.mark.parametrize("eps", (0.0, 1e-12, 1e-3, 1.0))
def test_eps_is_inside_the_root(eps):
    x = randn(8, 3) * 1e-2
    close(n.batch_norm(x, eps=eps)[0], (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt())
    if eps:  # torch refuses eps = 0 in batch norm, and only there
        close(n.batch_norm(x, eps=eps)[0], F.batch_norm(x, None, None, None, None, True, eps=eps))
    close(n.layer_norm(x, 3, eps=eps), F.layer_norm(x, (3,), eps=eps))
    close(n.group_norm(x, 1, eps=eps), F.group_norm(x, 1, eps=eps))


def test_a_constant_channel_gives_the_bias_and_no_gradient():
    x = torch.full((4, 2, 3, 3), 1e4, dtype=torch.float32, requires_grad=True)
    bias = torch.tensor([1.0, -2.0])
    y, _, var = n.batch_norm(x, torch.ones(2), bias)
    y.sum().backward()
    assert not var.any() and torch.equal(y, bias.reshape(1, 2, 1, 1).expand_as(y)) and not x.grad.any()


def test_two_passes_keep_the_digits_that_one_pass_loses():
    """float32, μ = 1e4, σ = 1: E[x²] − E[x]² is off by 10% and more, ours by 0.1% at the most (x itself is rounded)."""
    x = (randn(1000, 1) + 1e4).float()
    exact = x.double().var(0, correction=0)
    assert abs(n.statistics(x, (0,))[1].flatten() - exact) / exact < 1e-3
    one_pass = x.square().mean(0) - x.mean(0).square()
    assert abs(one_pass - exact) / exact > 0.1


def test_norms_are_the_same_function_with_other_axes():
    x = images()["ordinary"]
    close(n.group_norm(x, 6), n.instance_norm(x))
    close(n.group_norm(x, 1), n.layer_norm(x, x.shape[1:]))
    close(n.batch_norm(x)[0].transpose(0, 1), n.layer_norm(x.transpose(0, 1).contiguous(), (4, 5, 7)))
    close(n.normalize(x, (1, -1)), n.normalize(x.transpose(1, 2), (2, 3)).transpose(1, 2))


# the plain functions, and the block-wise ones ----------------------------------------------------------------

CASES = {
    "batch": ((0, 2, 3), (1, 6, 1, 1)),
    "layer": ((2, 3), (5, 7)),
    "layer, all but the batch": ((1, 2, 3), (6, 5, 7)),
    "instance": ((2, 3), (1, 6, 1, 1)),
    "one axis": ((1,), (1, 6, 1, 1)),
    "a weight along a shared axis": ((0, 1), (6, 1, 1)),
    "no weight": ((0, 2, 3), None),
    "no weight, by example": ((1, 2), None),
}


@pytest.mark.parametrize("block", (1, 2, 100, 2**20))
@pytest.mark.parametrize("case", CASES)
def test_block_by_block_is_the_formula(case, block, monkeypatch):
    axes, shape = CASES[case]
    x = images()["ordinary"]
    monkeypatch.setattr(n, "BLOCK", block * x[0].numel())
    w = None if shape is None else randn(*shape, seed=1)
    b = None if shape is None else randn(*shape, seed=2)
    axes = tuple(axis - 4 for axis in axes)
    forward, blocked = n.normalize_forward(x, axes, w, b), n.blocked_forward(x, axes, w, b, 1e-5)
    for got, expected in zip(blocked, forward, strict=True):
        close(got, expected)
    grad = randn(*x.shape, seed=3)
    backward = n.normalize_backward(grad, x, *forward[1:], axes, w)
    blocked = n.blocked_backward(grad, x, *forward[1:], axes, w, 1e-5)
    for got, expected in zip(blocked[: 1 if w is None else 3], backward, strict=False):
        close(got, expected)


@pytest.mark.parametrize("case", CASES)
def test_the_formula_by_autograd_is_the_hand_written_backward(case):
    axes, shape = CASES[case]
    x = images()["ordinary"].clone().requires_grad_()
    w, b = (None, None) if shape is None else (randn(*shape, seed=s).requires_grad_() for s in (1, 2))
    y, mean, var = n.normalize_forward(x, axes, w, b)
    grad = randn(*x.shape, seed=3)
    leaves = [x] if w is None else [x, w, b]
    expected = torch.autograd.grad(y, leaves, grad)
    for got, want in zip(n.normalize_backward(grad, x, mean, var, axes, w), expected, strict=False):
        close(got.detach(), want)


@pytest.mark.parametrize("weight", (True, False))
def test_batch_norm_backward_is_autograds(weight):
    x = images()["ordinary"].clone().requires_grad_()
    w = randn(6, seed=1).requires_grad_() if weight else None
    b = torch.zeros(6, dtype=x.dtype, requires_grad=True)
    y = F.batch_norm(x, None, None, w, b, True)
    grad = randn(*x.shape, seed=3)
    dx, dw, db = n.batch_norm_backward(grad, x, *n.batch_norm(x)[1:], w)
    expected = torch.autograd.grad(y, (x, b, w) if weight else (x, b), grad)
    close(dx.detach(), expected[0])
    close(db, expected[1])
    x_hat = n.batch_norm(x)[0]
    close(dw.detach(), (grad * x_hat).sum((0, 2, 3)).detach())


@pytest.mark.parametrize("norm", NORMS)
def test_gradcheck_once_and_twice(norm):
    x = randn(2, 6, 2, 3).requires_grad_()
    ours, _, shape = norm_pairs(x)[norm]
    w, b = (randn(*shape, seed=s).requires_grad_() for s in (1, 2))
    assert torch.autograd.gradcheck(ours, (x, w, b))
    assert torch.autograd.gradgradcheck(ours, (x, w, b))


def test_gradcheck_of_inference_once_and_twice():
    x, w, b = randn(2, 3, 2).requires_grad_(), randn(3, seed=1).requires_grad_(), randn(3, seed=2).requires_grad_()
    mean, var = randn(3, seed=3), randn(3, seed=4).square()
    assert torch.autograd.gradcheck(lambda x, w, b: n.batch_norm_inference(x, mean, var, w, b), (x, w, b))
    assert torch.autograd.gradgradcheck(lambda x, w, b: n.batch_norm_inference(x, mean, var, w, b), (x, w, b))


@pytest.mark.parametrize("weight", (True, False))
@pytest.mark.parametrize("training", (True, False))
def test_torch_func_runs_many_nets_at_once(training, weight):
    """As `ensembles` needs it: per-net inputs, per-net parameters, gradients by vmap(grad)."""
    x, w, b = randn(5, 4, 3), randn(5, 3, seed=1), randn(5, 3, seed=2)
    mean, var = randn(5, 3, seed=3), randn(5, 3, seed=4).square()

    def loss(x, w, b, m, v):
        w, b = (w, b) if weight else (None, None)
        y = n.batch_norm(x, w, b)[0] if training else n.batch_norm_inference(x, m, v, w, b)
        return y.pow(3).sum()

    arguments = (0, 1, 2) if weight else (0,)
    together = torch.vmap(torch.func.grad(loss, argnums=arguments))(x, w, b, mean, var)
    for i in range(5):
        alone = torch.func.grad(loss, argnums=arguments)(x[i], w[i], b[i], mean[i], var[i])
        for got, expected in zip(together, alone, strict=True):
            close(got[i], expected)
    shared = torch.vmap(loss, in_dims=(None, 0, 0, 0, 0))(x[0], w, b, mean, var)  # one batch for all nets
    close(shared, torch.stack([loss(x[0], w[i], b[i], mean[i], var[i]) for i in range(5)]))


def test_nothing_of_the_size_of_x_is_saved_but_x():
    x, w, b = randn(8, 6, 5, 5).requires_grad_(), randn(6).requires_grad_(), randn(6).requires_grad_()
    saved = []

    def keep(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        n.batch_norm(x, w, b)
    large = [tensor for tensor in saved if tensor.numel() == x.numel()]
    assert len(large) == 1 and large[0].data_ptr() == x.data_ptr()


# what others got wrong ----------------------------------------------------------------


def test_the_gradient_flows_through_the_statistics():
    """It is then orthogonal to 1 and, but for eps, to x̂; with constants for statistics it would be neither."""
    x = images()["ordinary"].clone().requires_grad_()
    grad = randn(*x.shape, seed=3)
    y = n.BatchNorm2d(6, dtype=x.dtype)(x)
    (dx,) = torch.autograd.grad(y, x, grad)
    assert dx.sum((0, 2, 3)).abs().max() < 1e-12
    assert (dx * y).sum((0, 2, 3)).abs().max() < 1e-3
    constants = n.batch_norm_inference(x, *n.batch_norm(x)[1:])
    (wrong,) = torch.autograd.grad(constants, x, grad)
    assert wrong.sum((0, 2, 3)).abs().max() > 0.1


def test_normalizes_with_the_biased_and_keeps_the_unbiased_variance():
    x = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    layer = n.BatchNorm1d(1, momentum=1.0, eps=0.0, dtype=torch.float64)
    assert layer(x).flatten().tolist() == [-1.0, 1.0]  # biased σ = 1; unbiased would give ±0.707
    assert layer.running_var.item() == 2.0


def test_running_statistics_are_buffers_in_the_state_dict_without_a_graph():
    layer = n.BatchNorm1d(3)
    x = randn(8, 3, dtype=torch.float32).requires_grad_()
    for _ in range(3):
        layer(x)
    assert set(dict(layer.named_buffers())) == {"running_mean", "running_var", "num_batches_tracked"}
    assert set(layer.state_dict()) == {"weight", "bias", *dict(layer.named_buffers())}
    assert not any(statistic.requires_grad for statistic in n.batch_norm(x)[1:])
    for buffer in layer.buffers():
        assert not buffer.requires_grad and buffer.grad_fn is None
    assert set(dict(layer.named_parameters())) == {"weight", "bias"}


def test_the_module_s_mode_decides_not_whether_gradients_are_recorded():
    x = randn(8, 3, dtype=torch.float32) + 5
    layer = n.BatchNorm1d(3)
    with torch.no_grad():
        y = layer(x)
    assert y.mean().abs() < 1e-6 and layer.running_mean.abs().min() > 0.1  # training, though without gradients
    before = copy.deepcopy(layer.state_dict())
    y = layer.eval()(x.requires_grad_())
    assert y.requires_grad and y.detach().mean() > 1  # evaluation, though with gradients
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])


def test_freezing_the_parameters_leaves_the_statistics_going():
    layer = n.BatchNorm1d(3).requires_grad_(False)
    layer(randn(8, 3, dtype=torch.float32) + 5)
    assert layer.running_mean.abs().min() > 0.1 and layer.num_batches_tracked == 1


def test_the_graph_does_not_grow_with_the_steps():
    layer = n.BatchNorm1d(3)
    for seed in range(5):
        y = layer(randn(8, 3, dtype=torch.float32, seed=seed))
        y.sum().backward()  # a second backward through an old graph would raise
    assert layer.weight.grad is not None


# the layers against torch's ----------------------------------------------------------------

KINDS = {
    "1d (N, C)": (n.BatchNorm1d, nn.BatchNorm1d, (5, 3)),
    "1d (N, C, L)": (n.BatchNorm1d, nn.BatchNorm1d, (5, 3, 4)),
    "2d": (n.BatchNorm2d, nn.BatchNorm2d, (5, 3, 2, 3)),
    "2d, one example": (n.BatchNorm2d, nn.BatchNorm2d, (1, 3, 2, 3)),
}
OPTIONS = (
    {},
    {"momentum": 0.5, "eps": 1e-2},
    {"momentum": 0.0},
    {"momentum": None},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
)


def layer_pair(kind, options, dtype=torch.float64, device="cpu"):
    ours, theirs, shape = KINDS[kind]
    pair = [make(3, **options, dtype=dtype, device=device) for make in (ours, theirs)]
    for layer in pair:
        with torch.no_grad():
            for seed, parameter in enumerate(layer.parameters()):
                parameter.copy_(randn(3, seed=seed))
    return *pair, shape


def same_state(ours, theirs):
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        got = ours.state_dict()[key]
        close(got, value) if value.is_floating_point() else torch.testing.assert_close(got, value, rtol=0, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_layer_outputs_gradients_and_state_after_k_steps_are_torchs(kind, options, device):
    ours, theirs, shape = layer_pair(kind, options, device=device)
    for step in range(6):
        training = step != 3  # one evaluation in between changes nothing
        ours.train(training), theirs.train(training)
        x = randn(*shape, seed=10 + step, device=device) * 3 + step
        leaves = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [layer(leaf) for layer, leaf in zip((ours, theirs), leaves, strict=True)]
        grad = randn(*shape, seed=20 + step, device=device)
        for y in outputs:
            y.backward(grad)
        close(*outputs)
        close(leaves[0].grad, leaves[1].grad, scale=1.0)
        for mine, torchs in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(mine.grad, torchs.grad)
        same_state(ours, theirs)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_state_dicts_load_into_each_other_and_from_a_file(options):
    ours, theirs, shape = layer_pair("2d", options)
    ours(randn(*shape))
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    theirs.load_state_dict(torch.load(file, weights_only=True))
    same_state(ours, theirs)
    theirs(randn(*shape, seed=1))
    fresh = n.BatchNorm2d(3, **options, dtype=torch.float64)
    fresh.load_state_dict(theirs.state_dict())
    same_state(fresh, theirs)
    x = randn(*shape, seed=2)
    close(fresh.eval()(x), theirs.eval()(x))
    assert ours.state_dict()._metadata[""] == theirs.state_dict()._metadata[""]


def test_cumulative_average_is_the_mean_of_all_batches():
    layer = n.BatchNorm1d(2, momentum=None, dtype=torch.float64)
    batches = [randn(6, 2, seed=s) for s in range(4)]
    for batch in batches:
        layer(batch)
    close(layer.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    close(layer.running_var, torch.stack([b.var(0) for b in batches]).mean(0))


@pytest.mark.parametrize("momentum", (0.1, None))
def test_an_empty_batch_leaves_the_statistics_as_torchs(momentum):
    ours, theirs, _ = layer_pair("2d", {"momentum": momentum})
    for x in (randn(2, 3, 4, 4), randn(0, 3, 4, 4), randn(2, 3, 4, 4, seed=1)):
        close(ours(x), theirs(x))
        same_state(ours, theirs)


def test_reset_forgets_the_statistics():
    layer = n.BatchNorm1d(2)
    layer(randn(6, 2, dtype=torch.float32))
    layer.reset_running_stats()
    assert not layer.running_mean.any() and (layer.running_var == 1).all() and layer.num_batches_tracked == 0
    n.BatchNorm1d(2, track_running_stats=False).reset_running_stats()  # nothing to forget


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_a_half_precision_layer_keeps_its_dtype(dtype):
    ours, theirs, shape = layer_pair("2d", {}, dtype=dtype)
    for seed in range(3):
        x = randn(*shape, dtype=dtype, seed=seed)
        got, expected = ours(x), theirs(x)
        # half an ulp each; torch also rounds x · scale + shift's two terms, which are up to as large as the largest y
        few = torch.finfo(dtype).eps * expected.abs().max().item()
        torch.testing.assert_close(got, expected, rtol=torch.finfo(dtype).eps, atol=few)
    assert ours.running_var.dtype == dtype
    # running statistics of few digits: three updates, each of two roundings, and then the output's
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=torch.finfo(dtype).eps, atol=3 * few)


def test_a_layer_with_float32_parameters_takes_bfloat16_as_torchs():
    ours, theirs, shape = layer_pair("2d", {}, dtype=torch.float32)
    for training in (True, False):
        x = randn(*shape, dtype=torch.bfloat16)
        got, expected = ours.train(training)(x), theirs.train(training)(x)
        assert got.dtype == torch.bfloat16
        sums = ULPS * torch.finfo(torch.float32).eps * expected.abs().max().item()
        torch.testing.assert_close(got, expected, rtol=torch.finfo(torch.bfloat16).eps, atol=sums)
    close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    (
        (lambda **o: n.LayerNorm(6, **o), lambda **o: nn.LayerNorm(6, **o), (4, 6)),
        (lambda **o: n.LayerNorm((3, 6), eps=0.1, **o), lambda **o: nn.LayerNorm((3, 6), eps=0.1, **o), (4, 3, 6)),
        (lambda **o: n.LayerNorm(6, bias=False, **o), lambda **o: nn.LayerNorm(6, bias=False, **o), (4, 6)),
        (
            lambda **o: n.LayerNorm(6, elementwise_affine=False, **o),
            lambda **o: nn.LayerNorm(6, elementwise_affine=False, **o),
            (4, 6),
        ),
        (lambda **o: n.GroupNorm(2, 6, **o), lambda **o: nn.GroupNorm(2, 6, **o), (4, 6, 3)),
        (
            lambda **o: n.GroupNorm(6, 6, affine=False, **o),
            lambda **o: nn.GroupNorm(6, 6, affine=False, **o),
            (4, 6, 2),
        ),
    ),
)
def test_layer_and_group_norm_layers_are_torchs(ours, theirs, shape, dtype):
    ours, theirs = ours(dtype=dtype), theirs(dtype=dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        for seed, parameter in enumerate(theirs.parameters()):
            parameter.copy_(randn(*parameter.shape, seed=seed))
    ours.load_state_dict(theirs.state_dict())
    x = randn(*shape, dtype=dtype)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    for layer, leaf in zip((ours, theirs), leaves, strict=True):
        layer(leaf).pow(3).sum().backward()
    close(ours(x), theirs(x))
    close(leaves[0].grad, leaves[1].grad, scale=10.0)
    for mine, torchs in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(mine.grad, torchs.grad)


def test_every_layer_prints_its_options():
    assert repr(n.BatchNorm1d(3)) == repr(nn.BatchNorm1d(3))
    assert repr(n.BatchNorm2d(3, momentum=None, affine=False)) == repr(nn.BatchNorm2d(3, momentum=None, affine=False))
    assert repr(n.LayerNorm(3, bias=False)) == repr(nn.LayerNorm(3, bias=False))
    assert repr(n.GroupNorm(2, 4, affine=False)) == repr(nn.GroupNorm(2, 4, affine=False))


# errors ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    (
        (n.BatchNorm1d, nn.BatchNorm1d, (1, 3)),
        (n.BatchNorm1d, nn.BatchNorm1d, (1, 3, 1)),
        (n.BatchNorm2d, nn.BatchNorm2d, (1, 3, 1, 1)),
    ),
)
def test_one_value_per_channel_is_refused_in_training_only(ours, theirs, shape):
    for make in (ours, theirs):
        layer = make(3)
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
            layer(torch.zeros(shape))
        assert layer.eval()(torch.ones(shape)).shape == shape
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            make(3, track_running_stats=False).eval()(torch.zeros(shape))


def test_wrong_shapes_are_refused():
    for make in (n.BatchNorm1d, nn.BatchNorm1d):
        with pytest.raises(ValueError, match="expected 2D or 3D input"):
            make(3)(torch.zeros(2, 3, 4, 4))
    for make in (n.BatchNorm2d, nn.BatchNorm2d):
        with pytest.raises(ValueError, match="expected 4D input"):
            make(3)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="expected 3 channels in axis 1"):
        n.BatchNorm1d(3)(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="needs x"):
        n.batch_norm(torch.zeros(3))
    with pytest.raises(ValueError, match="ends in it"):
        n.layer_norm(torch.zeros(2, 3), 4)
    with pytest.raises(ValueError, match="ends in it"):
        n.layer_norm(torch.zeros(2, 3), ())
    with pytest.raises(ValueError, match="4 groups don't divide"):
        n.group_norm(torch.zeros(2, 6, 3), 4)
    with pytest.raises(ValueError, match="divisible by num_groups"):
        n.GroupNorm(4, 6)
    with pytest.raises(ValueError, match="more than one position"):
        n.instance_norm(torch.zeros(2, 3, 1, 1))
    with pytest.raises(ValueError, match="at least one axis"):
        n.normalize(torch.zeros(2, 3), ())


# folding ----------------------------------------------------------------


def trained_norm(channels, make=n.BatchNorm2d, dtype=torch.float32, **options):
    norm = make(channels, **options, dtype=dtype)
    with torch.no_grad():
        for seed, parameter in enumerate(norm.parameters()):
            parameter.copy_(randn(channels, seed=seed))
        norm.running_mean.copy_(randn(channels, seed=3) * 5)
        norm.running_var.copy_(randn(channels, seed=4).square() + 0.01)
    return norm.eval()


@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("affine", (True, False))
@pytest.mark.parametrize("make", (n.BatchNorm2d, nn.BatchNorm2d))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_a_folded_convolution_does_both_steps(bias, affine, make, dtype):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias, dtype=dtype)
    norm, x = trained_norm(6, make, dtype, affine=affine), randn(3, 4, 9, 9, dtype=dtype)
    before = copy.deepcopy(conv.state_dict())
    folded = n.fold_batch_norm(conv, norm)
    expected = norm(conv(x))
    torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    if dtype == torch.float64:
        close(folded(x), expected, scale=100.0)
    assert all(torch.equal(value, before[key]) for key, value in conv.state_dict().items())
    assert folded.bias.requires_grad and not folded.training


@pytest.mark.parametrize("bias", (True, False))
def test_a_folded_linear_layer_does_both_steps(bias):
    torch.manual_seed(0)
    linear, norm = nn.Linear(5, 4, bias=bias), trained_norm(4, n.BatchNorm1d)
    linear.requires_grad_(False)
    folded, x = n.fold_batch_norm(linear, norm), randn(7, 5, dtype=torch.float32)
    torch.testing.assert_close(folded(x), norm(linear(x)), rtol=1e-5, atol=1e-5 * 100)
    assert not folded.weight.requires_grad


def test_folding_refuses_what_it_can_not_fold():
    conv, norm = nn.Conv2d(3, 6, 3), trained_norm(6)
    with pytest.raises(ValueError, match="evaluation mode"):
        n.fold_batch_norm(conv, n.BatchNorm2d(6))
    with pytest.raises(ValueError, match="running statistics"):
        n.fold_batch_norm(conv, n.BatchNorm2d(6, track_running_stats=False).eval())
    with pytest.raises(ValueError, match="transposed"):
        n.fold_batch_norm(nn.ConvTranspose2d(6, 6, 3), norm)
    with pytest.raises(ValueError, match="3 outputs, the batch norm 6 channels"):
        n.fold_batch_norm(nn.Conv2d(3, 3, 3), norm)


# the two conventions ----------------------------------------------------------------


def test_the_momenta_are_complements_and_the_variances_differ_by_n_over_n_minus_1():
    running, batch = randn(4), randn(4, seed=1)
    close(n.running_update(running, batch, 0.1), n.moving_update(running, batch, 0.9))
    x = randn(7, 4)
    close(n.unbiased(n.statistics(x, (0,))[1], 7), x.var(0, keepdim=True))
    assert n.unbiased(torch.ones(2), 1).isnan().all()


@pytest.fixture(scope="module")
def keras():
    return load_keras()


def to_keras_images(x):
    return x.movedim(1, -1).numpy()


def keras_batch_norm(keras, state, eps, momentum, shape):
    layer = keras.layers.BatchNormalization(
        momentum=BY_ID["normalization.batch_momentum"].to_keras(momentum),
        epsilon=BY_ID["normalization.batch_eps"].to_keras(eps),
        dtype="float64",
    )
    layer.build((None, *shape[2:], shape[1]))
    layer.set_weights([v.numpy() for v in BY_ID["normalization.parameters"].to_keras(state)])
    return layer


@pytest.mark.slow
@pytest.mark.parametrize("eps", (1e-5, 1e-3))
@pytest.mark.parametrize("momentum", (0.1, 0.01, 0.5))
@pytest.mark.parametrize("kind", ("1d (N, C)", "2d"))
def test_keras_batch_norm_is_ours_with_the_conventions_mapped(keras, kind, momentum, eps, tmp_path):
    import tensorflow as tf

    ours, _, shape = layer_pair(kind, {"momentum": momentum, "eps": eps})
    layer = keras_batch_norm(keras, ours.state_dict(), eps, momentum, shape)
    mean, var = ours.running_mean.clone(), ours.running_var.clone()
    for step in range(5):
        x = (randn(*shape, seed=step) * 2 + step).requires_grad_()
        y = ours(x)
        grad = randn(*shape, seed=9)
        y.backward(grad)
        inputs = tf.constant(to_keras_images(x.detach()))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        dx, dgamma, dbeta = tape.gradient(
            outputs, [inputs, *(w.value for w in layer.trainable_weights)], grad.movedim(1, -1).numpy()
        )
        _, batch_mean, batch_var = n.batch_norm(x.detach())
        mean = n.moving_update(mean, batch_mean, layer.momentum)  # Keras's own formula, written here
        var = n.moving_update(var, batch_var, layer.momentum)
        for got, expected in (
            (y.detach().movedim(1, -1), outputs),
            (x.grad.movedim(1, -1), dx),
            (ours.weight.grad, dgamma),
            (ours.bias.grad, dbeta),
            (ours.running_mean, layer.moving_mean),
            (mean, layer.moving_mean),
            (var, layer.moving_variance),  # biased: ours and torch's running_var holds n / (n − 1) of each batch's
        ):
            close(got, torch.tensor(np.asarray(expected)), scale=1.0)
        ours.zero_grad()
    # evaluation: from Keras's statistics the same outputs
    with torch.no_grad():
        ours.running_var.copy_(torch.tensor(np.asarray(layer.moving_variance)))
    x = randn(*shape, seed=7)
    expected = torch.tensor(np.asarray(layer(to_keras_images(x), training=False)))
    close(ours.eval()(x).detach().movedim(1, -1), expected)
    # saved by one, loaded by the other
    model = keras.Sequential([keras.Input(shape[2:] + shape[1:2], dtype="float64"), layer])
    model.save(tmp_path / "net.keras")
    gamma, beta, moving_mean, moving_variance = keras.models.load_model(tmp_path / "net.keras").get_weights()
    fresh, _, _ = layer_pair(kind, {"eps": eps})
    state = {"weight": gamma, "bias": beta, "running_mean": moving_mean, "running_var": moving_variance}
    tensors = {key: torch.tensor(value) for key, value in state.items()}
    fresh.load_state_dict({**tensors, "num_batches_tracked": torch.tensor(5)})
    close(fresh.eval()(x).detach().movedim(1, -1), expected)


@pytest.mark.slow
@pytest.mark.parametrize("normalized", ((6,), (5, 6)))
def test_keras_layer_norm_is_ours(keras, normalized):
    axes = BY_ID["normalization.layer_axes"].to_keras(normalized)
    eps = BY_ID["normalization.layer_eps"].to_keras(1e-5)
    layer = keras.layers.LayerNormalization(axis=axes, epsilon=eps, dtype="float64")
    x, w, b = randn(4, 5, 6), randn(*normalized, seed=1), randn(*normalized, seed=2)
    layer.build((None, 5, 6))
    layer.set_weights([w.numpy(), b.numpy()])
    close(n.layer_norm(x, normalized, w, b), torch.tensor(np.asarray(layer(x.numpy()))))


@pytest.mark.slow
def test_keras_group_norm_is_ours_with_the_channels_last(keras):
    x, w, b = images()["ordinary"], randn(6, seed=1), randn(6, seed=2)
    eps = BY_ID["normalization.group_eps"].to_keras(1e-5)
    layer = keras.layers.GroupNormalization(groups=3, epsilon=eps, dtype="float64")
    layer.build((None, 5, 7, 6))
    layer.set_weights([w.numpy(), b.numpy()])
    expected = torch.tensor(np.asarray(layer(to_keras_images(x))))
    close(n.group_norm(x, 3, w, b).movedim(1, -1).contiguous(), expected)


@pytest.mark.slow
def test_the_table_says_what_the_installed_versions_do(keras):
    values = {key: (convention.torch(), convention.keras(keras)) for key, convention in BY_ID.items()}
    assert values == {
        "normalization.batch_momentum": (0.1, 0.99),
        "normalization.batch_eps": (1e-5, 1e-3),
        "normalization.running_variance": ("unbiased (n − 1)", "biased (n)"),
        "normalization.new_layer": ("training", "inference"),
        "normalization.frozen": ("go on", "stop"),
        "normalization.one_value": ("ValueError", "accepted"),
        "normalization.channel_axis": (1, -1),
        "normalization.parameters": (
            "weight, bias, running_mean, running_var, num_batches_tracked",
            "gamma, beta, moving_mean, moving_variance",
        ),
        "normalization.layer_eps": (1e-5, 1e-3),
        "normalization.layer_axes": ("normalized_shape, here (3, 4)", "axis, by default -1"),
        "normalization.group_eps": (1e-5, 1e-3),
    }


@pytest.mark.slow
def test_the_channel_axis_and_the_phase_are_mapped_by_the_table(keras):
    axis = BY_ID["normalization.channel_axis"].to_keras(1)
    layer = keras.layers.BatchNormalization(axis=axis, epsilon=1e-5, dtype="float64")
    x = images()["ordinary"]  # channels first, as it is
    phase = BY_ID["normalization.new_layer"].to_keras("training")
    close(n.batch_norm(x)[0], torch.tensor(np.asarray(layer(x.numpy(), **phase))))


def test_everything_named_is_there_and_documented():
    for name in n.__all__:
        assert getattr(n, name).__doc__, name
    assert sorted(n.__all__) == n.__all__
