"""course_lib.convolution against PyTorch, Keras, autograd and the definition in loops. Inputs come from seeded
generators, so nothing here depends on chance.

Tolerances count roundings: the sums of at most 2,000 terms, taken in another order, differ by less than 64 ulps of the
largest result.
"""

import io
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import convolution as c
from course_lib.conventions import architectures as layouts
from course_lib.conventions import convolution as conventions
from course_lib.quiet import load_keras
from course_lib.windows import resolve_padding

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
ULPS = 64
BY_ID = {convention.id: convention for convention in (*conventions.CONVENTIONS, *layouts.CONVENTIONS)}


def close(got, expected, *, ulps=ULPS):
    """Equal within some ulps of the largest expected value."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    size = expected.detach().abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(got, expected, rtol=0, atol=ulps * torch.finfo(expected.dtype).eps * size)


def randn(*shape, dtype=torch.float64, seed=0, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def both(ours, theirs, *tensors, seed=5):
    """Outputs and gradients of two functions of the same tensors."""
    results = []
    for function in (ours, theirs):
        leaves = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in tensors]
        y = function(*leaves)
        grad = randn(*y.shape, dtype=y.dtype, seed=seed, device=y.device)
        results.append((y, *torch.autograd.grad(y, leaves, grad)))
    return zip(*results, strict=True)


# linear ----------------------------------------------------------------

LINEAR_SHAPES = ((4, 5), (1, 5), (0, 5), (5,), (2, 3, 5), (2, 0, 5))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", LINEAR_SHAPES)
@pytest.mark.parametrize("bias", (True, False))
def test_linear_and_its_gradients_are_torchs(shape, bias, device):
    tensors = [randn(*shape, device=device), randn(3, 5, seed=1, device=device), randn(3, seed=2, device=device)]
    for got, expected in both(c.linear, F.linear, *tensors[: 3 if bias else 2]):
        close(got, expected)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_linear_backward_is_autograds(dtype):
    x, w, b = randn(2, 4, 5, dtype=dtype), randn(3, 5, dtype=dtype, seed=1), randn(3, dtype=dtype, seed=2)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    grad = randn(2, 4, 3, dtype=dtype, seed=3)
    expected = torch.autograd.grad(F.linear(*leaves), leaves, grad)
    for got, want in zip(c.linear_backward(grad, x, w), expected, strict=True):
        close(got, want)


def test_linear_takes_large_values_and_views():
    x, w = randn(4, 10)[:, ::2] * 1e4, randn(5, 3, seed=1).T * 1e4
    close(c.linear(x, w), F.linear(x, w))
    with pytest.raises(ValueError, match=r"needs x \(\.\.\., 5\)"):
        c.linear(randn(2, 4), w)


# convolution ----------------------------------------------------------------

# x, weight, and stride, padding, dilation, groups
CASES = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 3), (1, 0, 1, 1)),
    "one example, 1 × 1": ((1, 3, 5, 5), (2, 3, 1, 1), (1, 0, 1, 1)),
    "one cell": ((3, 2, 1, 1), (2, 2, 1, 1), (1, 0, 1, 1)),
    "as large as the image": ((2, 2, 4, 5), (3, 2, 4, 5), (1, 0, 1, 1)),
    "stride 2, padding 1": ((2, 3, 8, 7), (4, 3, 3, 3), (2, 1, 1, 1)),
    "stride larger than the kernel": ((2, 2, 9, 9), (2, 2, 2, 2), (3, 0, 1, 1)),
    "odd pairs": ((2, 3, 9, 8), (4, 3, 2, 5), ((2, 1), (1, 3), (3, 1), 1)),
    "dilation 2": ((2, 3, 9, 9), (4, 3, 3, 3), (1, 2, 2, 1)),
    "2 groups": ((2, 4, 6, 6), (6, 2, 3, 3), (1, 1, 1, 2)),
    "depthwise": ((3, 4, 7, 6), (4, 1, 3, 2), (2, 1, 1, 4)),
    "depthwise, dilated, odd pairs": ((2, 3, 9, 8), (3, 1, 2, 3), ((1, 3), (3, 0), (2, 1), 3)),
    "depthwise, nobody": ((0, 3, 6, 7), (3, 1, 3, 3), (1, "same", 1, 3)),
    "depthwise, 2 kernels a channel": ((2, 3, 6, 6), (6, 1, 3, 3), (2, 1, 1, 3)),
    "valid": ((2, 3, 6, 7), (4, 3, 3, 2), (1, "valid", 1, 1)),
    "same, even kernel": ((2, 3, 6, 7), (4, 3, 4, 2), (1, "same", 1, 1)),
    "same, dilated": ((2, 3, 6, 7), (4, 3, 3, 2), (1, "same", 3, 1)),
    "nobody": ((0, 3, 6, 7), (4, 3, 3, 3), (1, 1, 1, 1)),
}


def case(name, dtype=torch.float64, device="cpu"):
    x, w, how = CASES[name]
    make = {"dtype": dtype, "device": device}
    return randn(*x, **make), randn(*w, seed=1, **make), randn(w[0], seed=2, **make), how


# torch warns that it copies the padding of an even kernel: the case is here on purpose
ODD_COPY = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


@ODD_COPY
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("name", CASES)
def test_conv2d_and_its_gradients_are_torchs(name, bias, device):
    x, w, b, how = case(name, device=device)
    tensors = (x, w, b) if bias else (x, w)

    def by(function):
        return lambda x, w, b=None: function(x, w, b, *how)

    for got, expected in both(by(c.conv2d), by(F.conv2d), *tensors):
        close(got, expected)


@pytest.mark.parametrize("name", CASES)
def test_the_loops_say_the_same(name):
    x, w, b, how = case(name)
    close(c.conv2d(x, w, b, *how), c.conv2d_naive(x, w, b, *how))
    if name == "plain":
        close(c.conv2d(x, w, None, *how), c.conv2d_naive(x, w, None, *how))


@pytest.mark.parametrize("name", CASES)
def test_conv2d_backward_is_autograd_through_the_loops(name):
    x, w, b, how = case(name)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    y = F.conv2d(
        F.pad(leaves[0], [p for pair in pads(x, w, how)[::-1] for p in pair]), *leaves[1:], how[0], 0, *how[2:]
    )
    grad = randn(*y.shape, seed=3)
    for got, expected in zip(c.conv2d_backward(grad, x, w, *how), torch.autograd.grad(y, leaves, grad), strict=True):
        close(got, expected)


def pads(x, w, how):
    """((top, bottom), (left, right)) for torch, by torch's or TensorFlow's own rules."""
    stride, padding, dilation = (v if isinstance(v, tuple) else (v, v) for v in how[:3])
    if padding[0] == "valid":
        return (0, 0), (0, 0)
    if padding[0] != "same":
        return (padding[0],) * 2, (padding[1],) * 2
    return tuple(c.same_padding(x.shape[i + 2], w.shape[i + 2], stride[i], dilation[i]) for i in (0, 1))


@pytest.mark.parametrize("at_once", (1, 100, 10**9))
@pytest.mark.parametrize("name", ("plain", "stride 2, padding 1", "2 groups", "nobody"))
def test_a_few_examples_at_a_time_or_all(name, at_once, monkeypatch):
    monkeypatch.setattr(c, "COLUMNS", at_once)
    x, w, b, how = case(name)
    for got, expected in both(lambda *t: c.conv2d(*t, *how), lambda *t: F.conv2d(*t, *how), x, w, b):
        close(got, expected)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("name", ("plain", "stride 2, padding 1", "2 groups"))
def test_conv2d_in_fewer_digits(name, dtype):
    """A sum of some 60 products in float32, rounded once to the dtype, is within 4 ulps of Σ |products| of float64's
    from the same rounded inputs.
    """
    x, w, b, how = case(name, dtype)
    results = []
    exact, products = (F.conv2d, torch.float64, torch.Tensor.clone), (F.conv2d, torch.float64, torch.abs)
    for function, at, sign in ((c.conv2d, dtype, torch.Tensor.clone), exact, products):
        leaves = [sign(t.to(at)).requires_grad_() for t in (x, w, b)]
        y = function(*leaves, *how)
        results.append((y, *torch.autograd.grad(y, leaves, sign(randn(*y.shape, seed=5).to(dtype).to(at)))))
    for got, expected, terms in zip(*results, strict=True):
        assert got.dtype == dtype
        assert ((got.double() - expected).abs() <= 4 * torch.finfo(dtype).eps * terms).all()


@pytest.mark.parametrize("kind", ("channels last", "not contiguous", "every other", "one image", "±1e4", "denormal"))
def test_conv2d_of_any_layout_and_size_of_values(kind):
    x, w, b, _ = case("plain")
    x = {
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "not contiguous": x.transpose(2, 3),
        "every other": randn(2, 3, 14, 12)[:, :, ::2, ::2],
        "one image": x[0],
        "±1e4": x * 1e4,
        "denormal": x * torch.finfo(x.dtype).tiny / 8,
    }[kind]
    for got, expected in both(lambda *t: c.conv2d(*t, 2, 1), lambda *t: F.conv2d(*t, 2, 1), x, w, b):
        close(got, expected)
    w = w.contiguous(memory_format=torch.channels_last)
    close(c.conv2d(x, w), F.conv2d(x, w))


def test_an_infinity_spoils_the_windows_that_see_it():
    x, w, _, _ = case("plain")
    x = x.clone()
    x[0, 0, 3, 3] = float("inf")
    got, expected = c.conv2d(x, w.abs()), F.conv2d(x, w.abs())
    assert torch.equal(got.isfinite(), expected.isfinite()) and got.isinf().any() and got.isfinite().any()


@pytest.mark.parametrize("groups", (1, 2))
def test_gradcheck_of_conv2d_once_and_twice(groups):
    x, w, b = (randn(*s, seed=i).requires_grad_() for i, s in enumerate(((2, 4, 4, 5), (2, 4 // groups, 2, 3), (2,))))

    def f(x, w, b):
        return c.conv2d(x, w, b, (2, 1), 1, 1, groups)

    assert torch.autograd.gradcheck(f, (x, w, b))
    assert torch.autograd.gradgradcheck(f, (x, w, b))


def test_gradcheck_of_linear_and_pooling_twice():
    x, w, b = randn(3, 4).requires_grad_(), randn(2, 4, seed=1).requires_grad_(), randn(2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(c.linear, (x, w, b)) and torch.autograd.gradgradcheck(c.linear, (x, w, b))
    x = randn(1, 2, 5, 5).requires_grad_()
    for f in (lambda x: c.max_pool2d(x, 3, 2, 1), lambda x: c.avg_pool2d(x, 3, 2, 1)):
        assert torch.autograd.gradcheck(f, x) and torch.autograd.gradgradcheck(f, x)


def test_torch_func_runs_many_nets_at_once():
    x, w, b = randn(3, 2, 2, 6, 6), randn(3, 4, 2, 3, 3, seed=1), randn(3, 4, seed=2)
    v = randn(3, 5, 4 * 3 * 3, seed=3)

    def loss(w, b, v, x, ours):
        conv, maxi, mean, linear = (
            (c.conv2d, c.max_pool2d, c.avg_pool2d, c.linear)
            if ours
            else (F.conv2d, F.max_pool2d, F.avg_pool2d, F.linear)
        )
        h = maxi(conv(x, w, b, 1, 1), 2) + mean(conv(x, w, b, 2, 1), 3, 1, 1)
        return linear(h.flatten(1), v).pow(2).sum()

    gradients = torch.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims=(0, 0, 0, 0, None))(w, b, v, x, True)
    for i in range(3):
        alone = torch.func.grad(loss, argnums=(0, 1, 2))(w[i], b[i], v[i], x[i], False)
        for got, expected in zip(gradients, alone, strict=True):
            close(got[i], expected)
    shared = torch.vmap(loss, in_dims=(0, 0, 0, None, None))(w, b, v, x[0], True)  # one batch for all nets
    close(shared, torch.stack([loss(w[i], b[i], v[i], x[0], False) for i in range(3)]))


def test_no_kernels_give_no_maps_and_no_gradient():
    x = randn(2, 3, 6, 7).requires_grad_()
    y = c.conv2d(x, randn(0, 3, 3, 3), padding=1)
    assert y.shape == (2, 0, 6, 7) and not torch.autograd.grad(y.sum(), x)[0].any()


def test_only_the_gradients_that_are_asked_for_are_computed():
    x, w, b, how = case("plain")
    y = c.conv2d(x, w.requires_grad_(), b, *how)
    assert y.grad_fn.next_functions[0][0] is None  # the first layer of a net needs no dx
    (dw,) = torch.autograd.grad(y.sum(), w)
    close(dw, c.conv2d_backward(torch.ones_like(y), x, w.detach(), *how)[1])


@pytest.mark.parametrize("how", ((1, 0, 1), (2, 1, 1), (3, 2, 2), (2, "same", 1)))
@pytest.mark.parametrize("groups", (1, 3))
@pytest.mark.parametrize("bias", (True, False))
def test_conv1d_is_torchs(how, groups, bias):
    x, w, b = randn(2, 3, 11), randn(6, 3 // groups, 3, seed=1), randn(6, seed=2) if bias else None
    got = c.conv1d(x, w, b, *how, groups)
    if how[1] == "same":
        expected = F.conv1d(F.pad(x, c.same_padding(11, 3, 2)), w, b, 2, 0, 1, groups)
    else:
        expected = F.conv1d(x, w, b, *how, groups)
    close(got, expected)
    close(c.conv1d(x[0], w, b, *how, groups), expected[0])


def test_conv1d_has_torchs_gradients():
    for got, expected in both(c.conv1d, F.conv1d, randn(2, 3, 11), randn(6, 3, 3, seed=1), randn(6, seed=2)):
        close(got, expected)


def test_true_convolution_is_mathematics_and_conv2d_is_not():
    x, w = randn(1, 1, 1, 9), randn(1, 1, 1, 4, seed=1)
    full = c.true_convolution2d(x, w, padding=(0, 3)).flatten()
    np.testing.assert_allclose(full.numpy(), np.convolve(x.flatten().numpy(), w.flatten().numpy()), rtol=1e-12)
    correlation = c.conv2d(x, w).flatten()
    np.testing.assert_allclose(correlation.numpy(), np.correlate(x.flatten().numpy(), w.flatten().numpy()), rtol=1e-12)
    close(c.true_convolution2d(x, w.flip(3)).flatten(), correlation)
    a, b = randn(1, 1, 5, 5, seed=2), randn(1, 1, 5, 5, seed=3)  # commutative, which a correlation is not
    close(c.true_convolution2d(a, b, padding=4), c.true_convolution2d(b, a, padding=4))
    assert (c.conv2d(a, b, padding=4) - c.conv2d(b, a, padding=4)).abs().max() > 0.1


@pytest.mark.parametrize("m", (1, 2))
def test_depthwise_separable_is_two_torch_convolutions(m):
    x, depth, point, b = randn(2, 3, 8, 8), randn(3 * m, 1, 3, 3, seed=1), randn(5, 3 * m, 1, 1, seed=2), randn(5)
    for got, expected in both(
        lambda *t: c.depthwise_separable_conv2d(*t, stride=2, padding=1),
        lambda x, d, p, b: F.conv2d(F.conv2d(x, d, None, 2, 1, 1, 3), p, b),
        x,
        depth,
        point,
        b,
    ):
        close(got, expected)


@pytest.mark.parametrize("how", ((3, 1, 0, 1), ((2, 3), (2, 1), (1, 0), (1, 2)), (1, 2, 0, 1), (2, 2, 1, 1)))
def test_im2col_and_col2im_are_torchs_unfold_and_fold(how):
    kernel_size, stride, padding, dilation = how
    x = randn(2, 3, 7, 8)
    columns = c.im2col(x, kernel_size, stride, padding, dilation)
    close(columns, F.unfold(x, kernel_size, dilation, padding, stride))
    v = randn(*columns.shape, seed=1)
    back = c.col2im(v, (7, 8), kernel_size, stride, padding, dilation)
    close(back, F.fold(v, (7, 8), kernel_size, dilation, padding, stride))
    close((columns * v).sum(), (x * back).sum())  # adjoint: ⟨im2col x, v⟩ = ⟨x, col2im v⟩


def test_im2col_pads_same_as_the_convolution():
    x, w = randn(2, 3, 8, 7), randn(4, 3, 3, 3, seed=1)
    columns = c.im2col(x, 3, 2, "same")
    close((w.flatten(1) @ columns).reshape(2, 4, 4, 4), c.conv2d(x, w, None, 2, "same"))


def test_what_does_not_fit_is_refused():
    x, w = randn(2, 4, 6, 6), randn(4, 4, 3, 3)
    for call, message in (
        (lambda: c.conv2d(x, randn(4, 3, 3, 3)), "needs 3 channels"),
        (lambda: c.conv2d(x, w, groups=2), "needs 8 channels"),
        (lambda: c.conv2d(x, randn(3, 2, 3, 3), groups=2), "outputs divisible by 2"),
        (lambda: c.conv2d(x, w, groups=0), "in 0 groups"),
        (lambda: c.conv2d(x, randn(4, 4, 7, 7)), "kernel of extent 7 doesn't fit in 6"),
        (lambda: c.conv2d(x, w, dilation=3), "kernel of extent 7 doesn't fit in 6"),
        (lambda: c.conv2d(x, w, stride=0), "at least 1"),
        (lambda: c.conv2d(x, w, padding=-1), "padding has to be at least 0"),
        (lambda: c.conv2d(x, w, padding="full"), 'a number, a pair, "same" or "valid"'),
        (lambda: c.conv2d(x, w, stride=(1, 2, 3)), "stride has to be a number or a pair"),
        (lambda: c.conv2d(randn(2, 4), w), "expected x"),
        (lambda: c.conv2d_backward(randn(2, 4, 6, 6), x, w), r"grad has to be of size \(2, 4, 4, 4\)"),
        (lambda: c.conv1d(x, w), "expected x"),
        (lambda: c.Conv2d(4, 6, 3, groups=4), "divisible by groups 4"),
        (lambda: c.max_pool2d(randn(2, 2), 2), "expected x"),
        (lambda: c.max_pool2d(x, 2, padding=2), "at most half"),
        (lambda: c.avg_pool2d(x, 2, padding=2), "at most half"),
        (lambda: c.max_pool2d(x, 7), "kernel of extent 7 doesn't fit in 6"),
        (lambda: c.output_size(4, 0), "at least 1"),
        (lambda: c.same_padding(4, 3, 0), "at least 1"),
        (lambda: c.receptive_field([c.Window(0)]), "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# pooling ----------------------------------------------------------------

POOLS = {  # kernel_size, stride, padding, ceil_mode
    "2": (2, None, 0, False),
    "3, stride 2, padding 1": (3, 2, 1, False),
    "overlapping": (3, 1, 1, False),
    "pairs": ((2, 3), (3, 1), (1, 0), False),
    "ceil": (3, 2, 0, True),
    "ceil and padding": (2, 2, 1, True),
    "ceil, a window that would start outside": (2, 3, 1, True),
    "one cell": (1, None, 0, False),
    "wide steps": (2, 4, 0, False),
}


def pooled(dtype=torch.float64, device="cpu"):
    x = randn(2, 3, 8, 7, dtype=dtype, device=device)
    return {
        "ordinary": x,
        "one image": x[0],
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "not contiguous": x.transpose(2, 3),
        "ties": x.round(),
        "all equal": torch.ones_like(x),
        "±1e4": x * 1e4,
        "denormal": x * torch.finfo(dtype).tiny / 8,
        "nobody": x[:0],
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dilation", (1, 2))
@pytest.mark.parametrize("name", pooled())
@pytest.mark.parametrize("pool", POOLS)
def test_max_pool2d_its_indices_and_gradients_are_torchs(pool, name, dilation, device):
    x, (kernel_size, stride, padding, ceil_mode) = pooled(device=device)[name], POOLS[pool]
    how = (kernel_size, stride, padding, dilation, ceil_mode)
    for got, expected in both(lambda x: c.max_pool2d(x, *how), lambda x: F.max_pool2d(x, *how), x):
        close(got, expected, ulps=4)
    if x.dim() == 4:
        y, indices = c.max_pool2d_with_indices(x, *how)
        expected, expected_indices = F.max_pool2d(x, *how, return_indices=True)
        assert torch.equal(y, expected) and torch.equal(indices, expected_indices)


def test_max_pool2d_of_infinities_and_nan_is_torchs():
    x = randn(2, 3, 6, 6)
    x[0, 0, :4, :4] = float("nan")
    x[0, 1] = -float("inf")
    x[1, 0, 2, 2] = float("inf")
    for how in itertools.product((2, 3), (1, 2), (0, 1), (1, 2), (False, True)):
        got = c.max_pool2d_with_indices(x, *how)
        for mine, torchs in zip(got, F.max_pool2d(x, *how, return_indices=True), strict=True):
            torch.testing.assert_close(mine, torchs, rtol=0, atol=0, equal_nan=True)


def test_max_pool2d_with_a_window_of_more_cells_than_a_byte_counts():
    x = randn(1, 2, 20, 20)
    for mine, torchs in zip(
        c.max_pool2d_with_indices(x, 18, 1), F.max_pool2d(x, 18, 1, return_indices=True), strict=True
    ):
        assert torch.equal(mine, torchs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("include", (True, False))
@pytest.mark.parametrize("name", pooled())
@pytest.mark.parametrize("pool", POOLS)
def test_avg_pool2d_and_its_gradients_are_torchs(pool, name, include, device):
    x, how = pooled(device=device)[name], (*POOLS[pool], include)
    for got, expected in both(lambda x: c.avg_pool2d(x, *how), lambda x: F.avg_pool2d(x, *how), x):
        close(got, expected)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
def test_pools_in_fewer_digits(dtype):
    """Averages of 9 are summed in float32 and rounded once; a maximum isn't rounded, its gradients' sum once."""
    x = pooled(dtype)["ordinary"]
    for mine, torchs in ((c.avg_pool2d, F.avg_pool2d), (c.max_pool2d, F.max_pool2d)):
        ours = both(lambda x, f=mine: f(x, 3, 1, 1), lambda x, f=mine: f(x, 3, 1, 1), x)
        leaf = x.double().requires_grad_()
        y = torchs(leaf, 3, 1, 1)
        grad = randn(*y.shape, seed=5).to(dtype).double()
        exact = (y, *torch.autograd.grad(y, leaf, grad))
        for (got, _), expected in zip(ours, exact, strict=True):
            assert got.dtype == dtype
            tolerance = 4 * torch.finfo(dtype).eps * expected.abs().max().item()
            torch.testing.assert_close(got.double(), expected, rtol=0, atol=tolerance)


def test_pool_backwards_as_plain_functions():
    x = randn(2, 3, 7, 7).requires_grad_()
    y, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    grad = randn(*y.shape, seed=1)
    close(c.max_pool2d_backward(grad, indices, (7, 7)), torch.autograd.grad(y, x, grad)[0])
    for how in ((3, 2, 1, True, False), (2, None, 0, False, True)):
        y = F.avg_pool2d(x, *how)
        grad = randn(*y.shape, seed=1)
        close(c.avg_pool2d_backward(grad, (7, 7), *how), torch.autograd.grad(y, x, grad)[0])


def test_global_average_pooling_is_torchs():
    x = randn(2, 3, 5, 4)
    for got, expected in both(c.global_avg_pool2d, lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), x):
        close(got, expected)
    assert c.global_avg_pool2d(x[:0]).shape == (0, 3)


# shapes ----------------------------------------------------------------

ARITHMETIC = list(itertools.product((4, 5, 8, 11), (1, 2, 3, 4), (1, 2, 3), (1, 2)))  # size, kernel, stride, dilation


@pytest.mark.parametrize("ceil_mode", (False, True))
def test_output_size_is_torchs(ceil_mode):
    checked = 0
    for (size, k, s, d), p in itertools.product(ARITHMETIC, (0, 1, 2)):
        if d * (k - 1) + 1 > size + 2 * p:
            with pytest.raises(ValueError, match="doesn't fit"):
                c.output_size(size, k, s, p, d)
            continue
        x = torch.zeros(1, 1, size)
        if not ceil_mode:
            assert c.output_size(size, k, s, p, d) == F.conv1d(x, torch.zeros(1, 1, k), None, s, p, d).shape[-1]
        if 2 * p <= k:
            expected = F.max_pool1d(x, k, s, p, d, ceil_mode=ceil_mode).shape[-1]
            assert c.output_size(size, k, s, p, d, ceil_mode=ceil_mode) == expected
            checked += 1
    assert checked > 100
    assert c.output_size(5, 3, padding=(0, 1)) == 4 and c.output_size(5, 3, padding="valid") == 3


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_same_padding_is_torchs_where_torch_has_it():
    for size, k, _, d in ARITHMETIC:
        x, w = randn(1, 1, size), randn(1, 1, k, seed=1)
        padded = F.pad(x, c.same_padding(size, k, 1, d))
        close(F.conv1d(padded, w, dilation=d), F.conv1d(x, w, padding="same", dilation=d))
        assert c.output_size(size, k, 1, "same", d) == size
    with pytest.raises(ValueError, match="not supported for strided"):
        nn.Conv1d(1, 1, 3, stride=2, padding="same")


STACKS = {
    "one layer": [c.Window(3)],
    "two of 3 see 5": [c.Window(3), c.Window(3)],
    "stride and padding": [c.Window(3, 2, 1), c.Window(3, 1, 1), c.Window(2, 2)],
    "dilated": [c.Window(3), c.Window(3, 1, 2, 2), c.Window(3, 1, 4, 4)],
    "uneven padding": [c.Window(3, 2, (0, 1)), c.Window(3, 2, (0, 1))],
    "nothing": [],
}


def through(layers, x):
    for layer in layers:
        before, after = (layer.padding,) * 2 if isinstance(layer.padding, int) else layer.padding
        x = F.conv1d(
            F.pad(x, (before, after)), torch.ones(1, 1, layer.kernel_size), None, layer.stride, 0, layer.dilation
        )
    return x


@pytest.mark.parametrize("name", STACKS)
def test_receptive_field_is_where_the_gradient_arrives(name):
    field = c.receptive_field(STACKS[name])
    x = torch.zeros(1, 1, 64, requires_grad=True)
    y = through(STACKS[name], x)
    for i in (0, 1, y.shape[-1] // 2):
        (grad,) = torch.autograd.grad(y[0, 0, i], x, retain_graph=True)
        seen = grad.flatten().nonzero().flatten()
        first, last = field.start + i * field.jump, field.start + i * field.jump + field.size - 1
        if first >= 0 and last < 64:
            assert (seen.min(), seen.max()) == (first, last)
        else:  # at the border dilation may leave out the outermost cells
            assert i <= 1 and first <= seen.min() and seen.max() <= last


def test_receptive_fields_people_quote():
    assert c.receptive_field([c.Window(3, 1, 1)] * 3).size == c.receptive_field([c.Window(7)]).size == 7
    vgg = [[c.Window(3, 1, 1)] * n + [c.Window(2, 2)] for n in (2, 2, 3, 3, 3)]
    assert c.receptive_field(itertools.chain(*vgg)) == c.ReceptiveField(212, 32, -90)


# layers ----------------------------------------------------------------

LAYERS = {
    "Linear": (lambda m, **o: m.Linear(5, 3, **o), (4, 5)),
    "Linear without bias": (lambda m, **o: m.Linear(5, 3, bias=False, **o), (4, 5)),
    "Conv2d": (lambda m, **o: m.Conv2d(4, 6, 3, **o), (2, 4, 7, 7)),
    "Conv2d, all options": (lambda m, **o: m.Conv2d(4, 6, (3, 2), 2, (1, 0), 2, 2, False, **o), (2, 4, 7, 7)),
    "Conv2d, same": (lambda m, **o: m.Conv2d(4, 6, 3, padding="same", **o), (2, 4, 7, 7)),
    "MaxPool2d": (lambda m, **o: m.MaxPool2d(3, 2, 1, 1, ceil_mode=True), (2, 4, 7, 7)),
    "AvgPool2d": (lambda m, **o: m.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 4, 7, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_torchs_initialization_state_dict_output_and_gradients(name):
    make, shape = LAYERS[name]
    made = []
    for module in (c, nn):
        torch.manual_seed(0)
        made.append(make(module, dtype=torch.float64))
    ours, theirs = made
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        close(ours.state_dict()[key], value, ulps=4)  # the same draws, in the same order
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    theirs.load_state_dict(torch.load(file, weights_only=True))
    parameters = [dict(layer.named_parameters()) for layer in made]
    x = randn(*shape)
    for got, expected in both(ours, theirs, x):
        close(got, expected)
    for layer in made:
        layer(x).square().sum().backward() if parameters[0] else None
    for key, parameter in parameters[1].items():
        close(parameters[0][key].grad, parameter.grad)


def test_every_layer_prints_its_options():
    assert repr(c.Linear(5, 3)) == repr(nn.Linear(5, 3))
    assert "3, 4, kernel_size=(2, 2), stride=(1, 1), padding=same" in repr(c.Conv2d(3, 4, 2, padding="same"))
    assert "kernel_size=2" in repr(c.MaxPool2d(2)) and "count_include_pad=True" in repr(c.AvgPool2d(2))


def test_initial_weights_of_no_inputs():
    assert c.Linear(0, 3).weight.shape == (3, 0)


# Keras ----------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    return load_keras()


def mapped(name, tensor):
    """The tensor with its axes in Keras's order, by the table."""
    return tensor.permute(*BY_ID[f"architectures.{name}"].to_keras(range(tensor.dim()))).contiguous().numpy()


def run(layer, x, weights=()):
    """Output and input gradient of a Keras layer with these weights, in our layout; upstream is seed 5's gradient."""
    import tensorflow as tf

    images = mapped("feature_maps", x)
    layer.build((None, *images.shape[1:]))
    layer.set_weights([np.asarray(w) for w in weights])
    variables = [variable.value for variable in layer.trainable_weights]
    inputs = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    y = torch.tensor(np.asarray(outputs)).movedim(-1, 1)
    grad = randn(*y.shape, seed=5)
    dx, *dweights = tape.gradient(outputs, [inputs, *variables], mapped("feature_maps", grad))
    return y, torch.tensor(np.asarray(dx)).movedim(-1, 1), *(torch.tensor(np.asarray(d)) for d in dweights)


def ours(function, *tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    y = function(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, randn(*y.shape, seed=5))


@pytest.mark.slow
@pytest.mark.parametrize("size", (7, 8))
@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding", "dilation", "groups"),
    (
        (3, 1, "valid", 1, 1),
        (3, 2, "valid", 1, 1),
        (3, 1, "same", 1, 1),
        (3, 2, "same", 1, 1),
        (4, 2, "same", 1, 1),
        ((2, 3), (3, 3), "same", 1, 1),
        (1, 2, "same", 1, 1),
        (3, 1, "same", 2, 1),
        (3, 2, "same", 1, 2),
    ),
)
def test_keras_conv2d_is_ours_with_the_kernel_mapped(keras, size, kernel_size, stride, padding, dilation, groups):
    kh, kw = c.pair(kernel_size, "kernel_size")
    x, w, b = randn(2, 4, size, size - 1), randn(6, 4 // groups, kh, kw, seed=1), randn(6, seed=2)
    layer = keras.layers.Conv2D(6, kernel_size, stride, padding, dilation_rate=dilation, groups=groups, dtype="float64")
    y, dx, dw, db = run(layer, x, (mapped("conv_kernel", w), b))
    got = ours(lambda x, w, b: c.conv2d(x, w, b, stride, padding, dilation, groups), x, w, b)
    for mine, expected in zip(got, (y, dx, dw.permute(3, 2, 0, 1), db), strict=True):
        close(mine, expected)
    assert y.shape[2:] == tuple(
        c.output_size(n, k, s, padding, dilation)
        for n, k, s in zip(x.shape[2:], (kh, kw), c.pair(stride, "stride"), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("m", (1, 2))
@pytest.mark.parametrize("stride", (1, 2))
def test_keras_depthwise_and_separable_convolutions_are_ours(keras, m, stride):
    x, depth, point, b = randn(2, 3, 7, 8), randn(3 * m, 1, 3, 2, seed=1), randn(5, 3 * m, 1, 1, seed=2), randn(5)
    kernel = mapped("depthwise_kernel", depth.unflatten(0, (3, m)).squeeze(2))  # (C, m, kh, kw), as of (C, 1, kh, kw)
    layer = keras.layers.DepthwiseConv2D((3, 2), stride, "same", m, use_bias=False, dtype="float64")
    y, dx, _ = run(layer, x, (kernel,))
    got = ours(lambda x: c.conv2d(x, depth, None, stride, "same", groups=3), x)
    for mine, expected in zip(got, (y, dx), strict=True):
        close(mine, expected)
    layer = keras.layers.SeparableConv2D(5, (3, 2), stride, "same", depth_multiplier=m, dtype="float64")
    y, dx, *_ = run(layer, x, (kernel, mapped("conv_kernel", point), b))
    got = ours(lambda x: c.depthwise_separable_conv2d(x, depth, point, b, stride, "same"), x)
    for mine, expected in zip(got, (y, dx), strict=True):
        close(mine, expected)


@pytest.mark.slow
@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize("padding", ("valid", "same"))
def test_keras_conv1d_is_ours(keras, stride, padding):
    x, w, b = randn(2, 3, 10), randn(4, 3, 3, seed=1), randn(4, seed=2)
    layer = keras.layers.Conv1D(4, 3, stride, padding, dtype="float64")
    layer.build((None, 10, 3))
    layer.set_weights([w.permute(2, 1, 0).numpy(), b.numpy()])
    expected = torch.tensor(np.asarray(layer(x.mT.contiguous().numpy()))).mT
    close(c.conv1d(x, w, b, stride, padding), expected)


@pytest.mark.slow
def test_keras_dense_is_linear_with_the_weight_transposed(keras, tmp_path):
    x, w, b = randn(4, 5), randn(3, 5, seed=1), randn(3, seed=2)
    model = keras.Sequential([keras.Input((5,), dtype="float64"), keras.layers.Dense(3, dtype="float64")])
    model.set_weights([mapped("dense_kernel", w), b.numpy()])
    close(c.linear(x, w, b), torch.tensor(np.asarray(model(x.numpy()))))
    model.save(tmp_path / "net.keras")  # saved by Keras, loaded into ours
    kernel, bias = (torch.tensor(v) for v in keras.models.load_model(tmp_path / "net.keras").get_weights())
    layer = c.Linear(5, 3, dtype=torch.float64)
    layer.load_state_dict({"weight": kernel.T, "bias": bias})
    close(layer(x).detach(), c.linear(x, w, b))


@pytest.mark.slow
@pytest.mark.parametrize("size", (7, 8))
@pytest.mark.parametrize("padding", ("valid", "same"))
@pytest.mark.parametrize(("kernel_size", "stride"), ((2, 2), (3, 2), (3, 1), (2, 3)))
def test_keras_pools_are_ours(keras, kernel_size, stride, padding, size):
    x = randn(2, 3, size, size)
    pools = (
        (keras.layers.MaxPooling2D, lambda x: c.max_pool2d(x, kernel_size, stride, padding)),
        (
            keras.layers.AveragePooling2D,
            lambda x: c.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False),
        ),
    )
    for layer, mine in pools:
        expected = run(layer(kernel_size, stride, padding, dtype="float64"), x)
        for got, want in zip(ours(mine, x), expected, strict=True):
            close(got, want)


@pytest.mark.slow
def test_keras_global_average_pooling_is_ours(keras):
    x = randn(2, 3, 5, 4)
    got = keras.layers.GlobalAveragePooling2D(dtype="float64")(mapped("feature_maps", x))
    close(c.global_avg_pool2d(x), torch.tensor(np.asarray(got)))


@pytest.mark.slow
def test_same_padding_and_output_size_are_tensorflows(keras):
    """A kernel 1, 2, 4, … over ones tells, window by window, which of its cells lie on padding."""
    for size, k, s, d in ARITHMETIC:
        if s > 1 and d > 1:
            continue  # which Keras refuses
        kernel = torch.tensor([[[2.0**i for i in range(k)]]])
        layer = keras.layers.Conv1D(1, k, s, "same", dilation_rate=d, use_bias=False)
        layer.build((None, size, 1))
        layer.set_weights([kernel.permute(2, 1, 0).numpy()])
        expected = np.asarray(layer(np.ones((1, size, 1), np.float32))).ravel()
        got = F.conv1d(F.pad(torch.ones(1, 1, size), c.same_padding(size, k, s, d)), kernel, None, s, 0, d).flatten()
        assert got.tolist() == expected.tolist()
        assert c.output_size(size, k, s, "same", d) == len(expected)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ("valid", "same"))
def test_receptive_field_is_where_keras_gradients_arrive(keras, padding):
    import tensorflow as tf

    windows, size, x = [], 32, tf.constant(np.zeros((1, 32, 1), np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        h = x
        for k, s in ((3, 2), (4, 1), (3, 2)):
            h = keras.layers.Conv1D(1, k, s, padding, kernel_initializer="ones")(h)
            windows.append(c.Window(k, s, resolve_padding(size, k, s, padding, 1)))
            size = c.output_size(size, k, s, padding)
        outputs = [h[0, i, 0] for i in range(h.shape[1])]
    field = c.receptive_field(windows)
    assert len(outputs) == size
    for i, output in enumerate(outputs):
        seen = np.flatnonzero(tape.gradient(output, x).numpy())
        first = field.start + i * field.jump
        assert (seen.min(), seen.max()) == (max(first, 0), min(first + field.size, 32) - 1)


@pytest.mark.slow
def test_the_table_says_what_the_installed_versions_do(keras):
    found = {convention.id: (convention.torch(), convention.keras(keras)) for convention in conventions.CONVENTIONS}
    assert found == {
        "convolution.same_stride_2": ("refused; padding=1 pads (1, 1)", "pads (0, 1)"),
        "convolution.average_padding": ("counts as zeros", "doesn't count"),
    }
    assert BY_ID["convolution.average_padding"].to_keras(False) == "same"
    assert BY_ID["convolution.average_padding"].to_keras(True) is None


def test_everything_named_is_there_and_documented():
    for name in c.__all__:
        assert getattr(c, name).__doc__, name
    assert sorted(c.__all__) == c.__all__
