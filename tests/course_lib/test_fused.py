"""course_lib.fused against PyTorch and autograd, as readable versions and as Triton kernels.

The same tests run for the readable version on every device, for the kernels on a GPU, and, in a process of their own
that `test_the_kernels_under_tritons_interpreter` starts, for the kernels on the CPU: Triton decides when it is imported
whether it compiles or interprets. What is random is held by tests whose false-alarm rate is stated (at most 1e-6).
"""

import copy
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from course_lib import dropout as readable_dropout
from course_lib import fused, optimizers
from course_lib.fused import adam as fused_adam
from course_lib.fused import backend, dropout_add, philox, philox_mask
from course_lib.fused import batch_norm as fused_batch_norm
from course_lib.fused import dropout as fused_dropout

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETING = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"
CUDA = torch.cuda.is_available() and not INTERPRETING
DEVICES = ["cpu"] + (["cuda"] if CUDA else [])
KERNEL_DEVICES = (["cpu"] if INTERPRETING else []) + (["cuda"] if CUDA and HAS_TRITON else [])
PATHS = [(device, False) for device in DEVICES] + [(device, True) for device in KERNEL_DEVICES]
SIX_SIGMA = 6.0  # a normal variable strays further with probability 2e-9

paths = pytest.mark.parametrize(
    "device, kernels", PATHS, ids=[f"{device}-{'kernels' if kernels else 'readable'}" for device, kernels in PATHS]
)
kernel_devices = pytest.mark.parametrize("device", KERNEL_DEVICES)  # skipped where there is none


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# the two modes of running ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
@pytest.mark.skipif(INTERPRETING, reason="this is the process that interprets")
def test_the_kernels_under_tritons_interpreter():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "kernels or device", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed and int(passed[1]) > 100, run.stdout[-500:]


def test_importing_the_package_imports_no_triton():
    code = "import sys, course_lib.fused; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_is_exported():
    assert set(fused.__all__) == {name for name in fused.__all__ if inspect.getdoc(getattr(fused, name))}
    assert fused.__all__ == sorted(fused.__all__)


def test_the_cpu_takes_the_readable_version_unless_told():
    x = torch.ones(2)
    assert not backend.use_kernels(None, x, None)
    assert not backend.use_kernels(False, x)
    if not INTERPRETING:
        assert not fused.kernels_available("cpu")
        with pytest.raises(RuntimeError, match=r"fused=True needs .* but got float32 on cpu"):
            backend.use_kernels(True, x)


@kernel_devices
def test_what_device_kernels_take(device):
    x = torch.ones(2, device=device)
    assert fused.kernels_available(x.device)
    assert backend.use_kernels(True, x, None, x.bfloat16())
    assert backend.use_kernels(None, x) == (device == "cuda")
    assert not backend.use_kernels(True, x, x[:0])
    assert not backend.use_kernels(None, x.double())
    with pytest.raises(RuntimeError, match=r"but got float32 on .*, float64 on"):
        backend.use_kernels(True, x, x.double())


# batch norm + activation ----------------------------------------------------------------------------------------------

ACTIVATIONS = {"none": lambda y: y, "relu": F.relu, "leaky_relu": lambda y: F.leaky_relu(y, 0.2)}


def batch_norm_inputs():
    x = normal(7, 3, 61, 67) + 3
    last = torch.channels_last
    return {
        "ordinary": x[:4, :, :8, :8].contiguous(),
        "several tiles and splits": x,
        "one row": x[:1],
        "two values": x[:2, :, 0, 0].contiguous(),
        "odd": x[:5, :, :7, :9].contiguous(),
        "length 5": normal(3, 9, 5),
        "matrix": normal(33, 70),
        "one channel": x[:, :1],
        "channels last": x[:, :, :9].contiguous(memory_format=last),
        "channels last, several blocks": normal(3, 70, 5, 3).contiguous(memory_format=last),
        "channels last in 3d": normal(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d),
        "not contiguous": x[:, :, ::2, ::9],
        "transposed": x[:4, :, :5, :6].transpose(1, 3),
    }


def run_batch_norm(function, x, weight, bias, dtype, device, parameter_dtype=None):
    """Outputs, running statistics and gradients of function(x, weight, bias, running_mean, running_var)."""
    x, (weight, bias) = x.to(device, dtype), (p.to(device, parameter_dtype or dtype) for p in (weight, bias))
    leaves = [x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    running = [torch.full_like(weight, 0.5).detach(), torch.full_like(weight, 2.0).detach()]
    y = function(*leaves, *running)
    gradient = normal(*y.shape, seed=9).to(device, y.dtype)  # contiguous, whatever y is
    return [y.detach(), *running, *torch.autograd.grad(y, leaves, gradient)]


def reference(activation, **options):
    def function(x, weight, bias, running_mean, running_var):
        y = F.batch_norm(x, running_mean, running_var, weight, bias, training=True, **options)
        return ACTIVATIONS[activation](y)

    return function


def ours(activation, kernels, **options):
    def function(*arguments):
        options["negative_slope"] = 0.2
        return fused.batch_norm_activation(*arguments, activation=activation, fused=kernels, **options)

    return function


def one_rounding(dtype, kernels):
    """How far, relatively, a number moves when rounded to dtype. Triton's interpreter cuts bfloat16 off instead."""
    cut = kernels and INTERPRETING and dtype == torch.bfloat16
    return torch.finfo(dtype).eps * (1.0 if cut else 0.5)


# what Triton's interpreter, which is numpy, warns of where a GPU does not
infinities = pytest.mark.filterwarnings("ignore:(invalid value|overflow):RuntimeWarning")
ROUNDINGS = 32  # of float32, in a result of some 1e4 numbers, relative to its largest
RESULTS = ("y", "running_mean", "running_var", "dx", "dweight", "dbias")


def close(got, expected, roundings=ROUNDINGS, only=RESULTS):
    eps = torch.finfo(torch.float32).eps
    root_n = (
        expected[0].numel() / expected[0].shape[1]
    ) ** 0.5  # the size of a sum over a channel that happens to be 0
    for name, g, e in zip(RESULTS, got, expected, strict=False):
        if name not in only:
            continue
        size = e.abs().max().cpu().clamp(min=root_n if name in ("dweight", "dbias") else 0)
        error = (g.cpu().double() - e.cpu().double()).abs().max() / size
        assert error <= roundings * eps, f"{name}: {error / eps:.1f} eps"


@paths
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", batch_norm_inputs())
def test_batch_norm_activation_is_torchs(name, activation, device, kernels):
    x = batch_norm_inputs()[name]
    weight, bias = normal(x.shape[1], seed=1), normal(x.shape[1], seed=2)  # weights of both signs
    got = run_batch_norm(ours(activation, kernels), x, weight, bias, torch.float32, device)
    expected = run_batch_norm(reference(activation), x, weight, bias, torch.float64, "cpu")
    if name == "two values":  # they become ±1 whatever they were: the true dx is about 0
        got[3], expected[3] = got[3] + 1, expected[3] + 1
    close(got, expected)
    assert got[0].dtype == torch.float32
    if name not in ("not contiguous", "transposed", "one channel"):
        assert got[0].stride() == got[3].stride() == x.stride()


@paths
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("parameters", ("float32", "same"))
@pytest.mark.parametrize("name", ("odd", "channels last", "matrix"))
def test_batch_norm_of_half_precision_is_rounded_once(name, parameters, dtype, device, kernels):
    x = batch_norm_inputs()[name].to(dtype)
    weight, bias = normal(x.shape[1], seed=1, dtype=dtype), normal(x.shape[1], seed=2, dtype=dtype)
    parameter_dtype = torch.float32 if parameters == "float32" else dtype
    got = run_batch_norm(ours("none", kernels), x, weight, bias, dtype, device, parameter_dtype)
    expected = run_batch_norm(reference("none"), x, weight, bias, torch.float64, "cpu")
    # the gradient is drawn in float32 and rounded to x's dtype in one case only
    gradient = normal(*x.shape, seed=9, dtype=dtype).double()
    leaves = [t.double().requires_grad_() for t in (x, weight, bias)]
    y = F.batch_norm(leaves[0], None, None, *leaves[1:], training=True)
    expected[3:] = torch.autograd.grad(y, leaves, gradient)
    assert got[0].dtype == got[3].dtype == dtype and got[4].dtype == parameter_dtype
    for g, e in zip(got, expected, strict=True):
        rounding = one_rounding(g.dtype, kernels)
        torch.testing.assert_close(g.cpu().double(), e, rtol=1.02 * rounding, atol=2e-4 if rounding < 1e-6 else 2e-5)


@paths
@pytest.mark.parametrize("name", ("several tiles and splits", "channels last", "one row"))
@pytest.mark.parametrize("mean", (1e4, -1e4))
def test_batch_norm_keeps_its_digits_at_large_means(name, mean, device, kernels):
    x = batch_norm_inputs()[name] + mean
    weight, bias = torch.ones(3), torch.zeros(3)
    got = run_batch_norm(ours("none", kernels), x, weight, bias, torch.float32, device)
    expected = run_batch_norm(reference("none"), x, weight, bias, torch.float64, "cpu")
    # the mean itself is rounded to eps · 1e4 / 2, and shifts every y by that; the variance does not suffer
    shift = 1e4 * torch.finfo(torch.float32).eps
    assert (got[0].cpu() - expected[0]).abs().max() <= shift
    close(got, expected, only=("running_mean", "running_var"))
    torch.testing.assert_close(
        got[3].cpu().double(), expected[3], rtol=0, atol=4 * shift * expected[3].abs().max().item()
    )


@kernel_devices
@pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last))
def test_a_first_tile_far_from_the_rest_costs_the_kernels_device_few_digits(layout, device):
    x = normal(9, 2, 64, 64) + 1e4
    x[0] = 0  # the pilot mean of whoever reads the first image
    x = x.contiguous(memory_format=layout)
    got = run_batch_norm(ours("none", True), x, torch.ones(2), torch.zeros(2), torch.float32, device)
    expected = run_batch_norm(reference("none"), x, torch.ones(2), torch.zeros(2), torch.float64, "cpu")
    close(got, expected, 10 * ROUNDINGS, only=("y", "running_mean", "running_var"))  # ten tiles


@paths
def test_batch_norm_without_parameters_or_statistics(device, kernels):
    x = batch_norm_inputs()["odd"].to(device).requires_grad_()
    y = fused.batch_norm_activation(x, activation="relu", eps=0.1, fused=kernels)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    wide = x.detach().double().requires_grad_()
    expected = F.relu(F.batch_norm(wide, None, None, training=True, eps=0.1))
    (expected_dx,) = torch.autograd.grad(expected, wide, torch.ones_like(expected))
    close([y, None, None, dx], [expected, None, None, expected_dx], only=("y", "dx"))


@paths
@pytest.mark.parametrize("momentum", (0.0, 0.3, 1.0))
def test_batch_norm_momentum_and_only_one_statistic(momentum, device, kernels):
    x = batch_norm_inputs()["odd"].to(device)
    for only in (0, 1):
        expected = [torch.full((3,), 0.5, device=device), torch.full((3,), 2.0, device=device)]
        F.batch_norm(x, *expected, training=True, momentum=momentum)
        running = [None, None]
        running[only] = torch.full((3,), (0.5, 2.0)[only], device=device)
        version = running[only]._version
        fused.batch_norm_activation(x, None, None, *running, momentum, fused=kernels)
        torch.testing.assert_close(running[only], expected[only])
        assert running[only]._version > version  # autograd notices that it was changed


@paths
@pytest.mark.parametrize("shape", ((0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (0, 3)))
def test_batch_norm_of_nothing(shape, device, kernels):
    x = torch.empty(shape, device=device, requires_grad=True)
    running = torch.ones(shape[1], device=device)
    y = fused.batch_norm_activation(x, None, None, running, running, activation="relu", fused=kernels)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape and torch.equal(running, torch.ones_like(running))


@infinities
@paths
@pytest.mark.parametrize("value", (float("inf"), float("-inf"), float("nan")))
def test_a_value_that_is_not_finite_spoils_its_own_channel_only(value, device, kernels):
    x = batch_norm_inputs()["odd"].to(device).clone()
    x[1, 2, 3, 4] = value
    running = torch.zeros(3, device=device), torch.ones(3, device=device)
    y = fused.batch_norm_activation(x, None, None, *running, fused=kernels)
    assert y[:, 2].isnan().all() and y[:, :2].isfinite().all()
    assert [v.isfinite().tolist() for v in running] == [[True, True, False]] * 2


@paths
def test_denormal_batches(device, kernels):
    x = batch_norm_inputs()["odd"].to(device) * 1e-39
    y = fused.batch_norm_activation(x, fused=kernels)
    assert y.isfinite().all() and y.abs().max() < 1e-35


@kernel_devices
def test_batch_norm_kernels_save_the_input_and_two_numbers_a_channel_on_the_device(device):
    x = batch_norm_inputs()["odd"].to(device).requires_grad_()
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        y = fused.batch_norm_activation(x, activation="relu", fused=True)
    assert sorted(sizes) == [6, x.numel()]
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@paths
def test_batch_norm_errors(device, kernels):
    x = torch.ones(2, 3, 4, 4, device=device)
    call = fused.batch_norm_activation
    with pytest.raises(ValueError, match="one of none, relu, leaky_relu, but got 'tanh'"):
        call(x, activation="tanh", fused=kernels)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        call(x[:1, :, :1, :1], fused=kernels)
    with pytest.raises(ValueError, match=r"needs x \(N, C, ...\)"):
        call(x[0, 0, 0], fused=kernels)
    with pytest.raises(ValueError, match=r"running_var has to be of shape \(3,\), but got \(4,\)"):
        call(x, None, None, None, torch.ones(4, device=device), fused=kernels)


# dropout + residual ---------------------------------------------------------------------------------------------------

# Random123's kat_vectors: rounds, counter, key, words
KNOWN_ANSWERS = (
    (7, (0, 0, 0, 0), 0, (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
    (7, (2**32 - 1,) * 4, 2**64 - 1, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
    (10, (0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        10,
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rounds, counter, seed, words", KNOWN_ANSWERS)
def test_philox_meets_the_published_answers(rounds, counter, seed, words, device):
    got = philox(tuple(torch.tensor([word], device=device) for word in counter), seed, rounds)
    assert tuple(int(word) for word in got) == words


def dropout_inputs():
    x = normal(4, 3, 5, 6)
    return {
        "ordinary": x,
        "one number": x[:1, 0, 0, 0],
        "scalar": x[0, 0, 0, 0],
        "block and a bit": normal(2053),
        "whole blocks": normal(2048),
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(1, 3),
        "every other": x[:, :, ::2],
        "expanded": x[:, :1].expand(4, 3, 5, 6),
        "nothing": x[:0],
    }


@paths
@pytest.mark.parametrize(
    "p, seed, offset", ((0, 0, 0), (0.1, 1, 0), (0.5, 2**63 - 1, 2**40 + 7), (0.999, 3, 1), (1, 4, 4))
)
@pytest.mark.parametrize("name", dropout_inputs())
def test_dropout_add_is_the_formula_with_the_mask_of_its_seed(name, p, seed, offset, device, kernels):
    x = dropout_inputs()[name].to(device).requires_grad_()
    residual = normal(*x.shape, seed=5).to(device).requires_grad_()
    y = dropout_add(x, residual, p, seed, offset, fused=kernels)
    mask = philox_mask(x.cpu(), p, seed, offset).to(device)
    expected = residual + readable_dropout.inverted_dropout(x, p, mask)
    torch.testing.assert_close(y, expected, rtol=4e-7, atol=4e-7 / max(1 - p, 1e-3))  # a few roundings of the terms
    gradient = normal(*x.shape[::-1], seed=6).to(device).permute(tuple(range(x.dim()))[::-1])  # of other strides
    got, expected = (torch.autograd.grad(result, (x, residual), gradient) for result in (y, expected))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=4e-7, atol=0)


@paths
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_dropout_add_in_half_precision(dtype, device, kernels):
    x, residual = normal(3000, dtype=dtype).to(device), normal(3000, seed=1, dtype=dtype).to(device)
    y = dropout_add(x, residual, 0.3, 7, fused=kernels)
    scaled = x.double() * philox_mask(x, 0.3, 7) / 0.7
    total = scaled + residual.double()
    # the kernels round the sum; the readable version 1 − p, the quotient and the sum
    bound = one_rounding(dtype, kernels) * (total.abs() if kernels else total.abs() + 3 * scaled.abs())
    assert y.dtype == dtype and ((y.double() - total).abs() <= 1.01 * bound + 1e-6).all()


@paths
def test_dropout_add_in_evaluation_is_a_sum(device, kernels):
    x = normal(10).to(device)
    assert torch.equal(dropout_add(x, 2 * x, 0.5, 1, training=False, fused=kernels), 3 * x)


@infinities
@paths
def test_a_dropped_infinity_is_nan_as_in_torch(device, kernels):
    x = torch.full((1000,), float("inf"), device=device)
    y = dropout_add(x, torch.zeros_like(x), 0.5, 3, fused=kernels)
    assert torch.equal(y.isnan(), ~philox_mask(x, 0.5, 3))


N = 2**20  # elements; pairs below are of neighbours, which share a word of random bits


@pytest.mark.parametrize("p", (0.001, 0.1, 0.5, 0.9))
def test_the_mask_drops_at_its_rate_and_neighbours_independently(p):
    """Six standard errors each: 5 checks of 2e-9."""
    x = torch.empty(N)
    dropped = (~philox_mask(x, p, seed=11)).double()
    error = (p * (1 - p) / N) ** 0.5
    assert abs(dropped.mean() - p) < SIX_SIGMA * error
    for first, second in ((dropped[0::2], dropped[1::2]), (dropped[1::2][:-1], dropped[2::2])):
        both = ((first - p) * (second - p)).mean() / (p * (1 - p))  # their correlation
        assert abs(both) < SIX_SIGMA / len(first) ** 0.5 + 2**-16
    for other in (philox_mask(x, p, seed=12), philox_mask(x, p, seed=11, offset=1)):
        both = ((dropped - p) * ((~other).double() - p)).mean() / (p * (1 - p))
        assert abs(both) < SIX_SIGMA / N**0.5


def test_each_of_the_eight_elements_of_a_counter_drops_at_the_rate():
    """Six standard errors for each of eight: 2e-8 together."""
    rates = (~philox_mask(torch.empty(N), 0.3, seed=5)).double().view(-1, 8).mean(0)
    assert ((rates - 0.3).abs() < SIX_SIGMA * (0.21 / (N / 8)) ** 0.5).all()


def test_the_mask_follows_memory_not_shape():
    x = normal(4, 3, 5, 6)
    last = philox_mask(x.contiguous(memory_format=torch.channels_last), 0.5, 1)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.permute(0, 2, 3, 1).flatten(), philox_mask(x, 0.5, 1).flatten())


def test_a_mask_drawn_in_pieces_is_the_same(monkeypatch):
    x = torch.empty(1003)
    whole = philox_mask(x, 0.5, 1)
    monkeypatch.setattr(fused_dropout, "IN_CACHE", 64)
    assert torch.equal(philox_mask(x, 0.5, 1), whole)


@kernel_devices
def test_dropout_kernels_store_no_tensor_on_the_device(device):
    x = normal(100).to(device).requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = dropout_add(x, x.detach(), 0.5, 3, fused=True)
    assert not saved
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(y.sum(), x, create_graph=True)
    y.sum().backward()
    assert torch.equal(x.grad, philox_mask(x, 0.5, 3) * 2.0)
    residual = x.detach().clone().requires_grad_()
    dropout_add(x.detach(), residual, 0.5, 3, fused=True).sum().backward()
    assert torch.equal(residual.grad, torch.ones_like(x))


@paths
def test_the_layer_draws_a_seed_a_call_and_repeats_under_manual_seed(device, kernels):
    layer, x = fused.DropoutAdd(0.5, fused=kernels), torch.ones(1000, device=device)
    outputs = []
    for _ in range(2):
        torch.manual_seed(4)
        outputs.append((layer(x, x), layer(x, x)))
    assert torch.equal(outputs[0][0], outputs[1][0]) and torch.equal(outputs[0][1], outputs[1][1])
    assert not torch.equal(*outputs[0])
    assert set(outputs[0][0].tolist()) == {1.0, 3.0}
    assert torch.equal(layer.eval()(x, x), 2 * x)
    assert repr(layer) == "DropoutAdd(p=0.5)"


@paths
def test_checkpointing_repeats_the_layers_mask(device, kernels):
    layer = fused.DropoutAdd(0.5, fused=kernels)
    x = torch.ones(1000, device=device, requires_grad=True)
    torch.manual_seed(4)
    y = checkpoint(lambda x: layer(x, x.detach()) * x, x, use_reentrant=False)
    y.sum().backward()
    kept = (y.detach() > 1.5).float()
    torch.testing.assert_close(x.grad, 4 * kept + 1)  # the derivative of 2 kept x² + x


@paths
def test_dropout_errors(device, kernels):
    x = torch.ones(3, device=device)
    with pytest.raises(ValueError, match=r"dropout probability has to be between 0 and 1, but got 1\.5"):
        dropout_add(x, x, 1.5, 0, fused=kernels)
    with pytest.raises(ValueError, match=r"agree in shape and dtype, but got \(3,\) .* and \(2,\)"):
        dropout_add(x, x[:2], 0.5, 0, fused=kernels)
    with pytest.raises(ValueError, match="agree in shape and dtype"):
        dropout_add(x, x.bfloat16(), 0.5, 0, fused=kernels)
    with pytest.raises(ValueError, match="seed has to be from 0 to 2⁶³ − 1, but got -1"):
        dropout_add(x, x, 0.5, -1, fused=kernels)
    with pytest.raises(ValueError, match="offset has to be"):
        dropout_add(x, x, 0.5, 0, 2**63, fused=kernels)
    with pytest.raises(ValueError, match="but got -1"):
        fused.DropoutAdd(-1)


# Adam -----------------------------------------------------------------------------------------------------------------


def parameters(dtype=torch.float32, device="cpu"):
    tensors = [normal(*shape, seed=i) for i, shape in enumerate(((3,), (70, 61), (5000,), (), (1,), (4096,), (0, 2)))]
    tensors.append(normal(2, 3, 4, 5, seed=8).contiguous(memory_format=torch.channels_last))
    return [nn.Parameter(tensor.to(device, dtype)) for tensor in tensors]


def set_gradients(params, step):
    for i, param in enumerate(params):
        scale = 10.0 ** (i - 3)  # from 1e-3 to 1e4
        param.grad = (normal(*param.shape, seed=100 * step + i) * scale).to(param.device, param.dtype)


OPTIONS = {
    "defaults": {},
    "decay": {"weight_decay": 0.1},
    "amsgrad": {"amsgrad": True},
    "maximize and decay": {"maximize": True, "weight_decay": 1},
    "everything": {"amsgrad": True, "maximize": True, "weight_decay": 0.1, "betas": (0.5, 0.9), "eps": 0.1, "lr": 0.1},
    "no momentum": {"betas": (0.0, 0.0), "eps": 1},
}
ADAMS = {"Adam": (fused.Adam, torch.optim.Adam), "AdamW": (fused.AdamW, torch.optim.AdamW)}


@paths
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ADAMS)
def test_steps_are_torchs_adam_and_adamw(name, options, device, kernels):
    cls, torch_cls = ADAMS[name]
    mine, theirs = parameters(device=device), parameters(torch.float64)
    optimizer, oracle = cls(mine, **OPTIONS[options]), torch_cls(theirs, **OPTIONS[options])
    for step in range(12):
        set_gradients(mine, step)
        for param, other in zip(mine, theirs, strict=True):
            other.grad = param.grad.cpu().double()
        versions = [param._version for param in mine]
        optimizer.fused_step(fused=kernels)
        assert all(param._version > version for param, version in zip(mine, versions, strict=True))
        oracle.step()
    for param, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(param.detach().cpu().double(), other.detach(), rtol=1e-5, atol=2e-6)
        for key, value in oracle.state[other].items():
            got, value = torch.as_tensor(optimizer.state[param][key]).cpu().double(), value.double()
            # gradients of both signs cancel in a mean: its error is relative to them
            torch.testing.assert_close(
                got, value, rtol=1e-5, atol=1e-6 * (value.abs().max().item() if value.numel() else 0)
            )


@infinities
@paths
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_one_step_in_half_precision(dtype, device, kernels):
    params = parameters(dtype, device)
    before = [param.detach().cpu().double() for param in params]
    set_gradients(params, 0)
    grads = [param.grad.cpu().double() for param in params]
    optimizer = fused.Adam(params, lr=0.1, betas=(0.5, 0.75), eps=1e-2)
    optimizer.fused_step(fused=kernels)
    rounding = one_rounding(dtype, kernels) * (1.02 if kernels else 8)  # one, or one for each operation
    for param, p, g in zip(params, before, grads, strict=True):
        if not kernels and g.numel() and g.abs().max() > 100:
            continue  # g² passes float16's range where it is not computed in float32
        expected = optimizers.adam_step(p, g, 0 * p, 0 * p, 1, lr=0.1, betas=(0.5, 0.75), eps=1e-2)
        state = optimizer.state[param]
        for value, e in zip((param.detach(), state["exp_avg"], state["exp_avg_sq"]), expected, strict=True):
            value = value.cpu().double()
            beyond = e.abs() > torch.finfo(dtype).max
            torch.testing.assert_close(value[~beyond], e[~beyond], rtol=rounding, atol=1e-3 if not kernels else 1e-6)
            assert value[beyond].isinf().all()


@paths
def test_addresses_that_are_not_aligned_and_strides_that_differ(device, kernels):
    storage = normal(4, 5001).to(device)
    lists = [[storage[i, 1:4200].abs()[1:] if i == 3 else storage[i, 1:4200][1:]] for i in range(4)]
    last = torch.channels_last
    maps = [normal(2, 3, 4, 5, seed=i).abs().to(device) for i in range(4)]
    maps[0], maps[3] = maps[0].contiguous(memory_format=last), maps[3].contiguous(memory_format=last)
    for tensors, tensor in zip(lists, maps, strict=True):
        tensors += [tensor, normal(6, 8, seed=3).abs().to(device)[:, ::2]]  # the last is not dense
    expected = [
        optimizers.adam_step(*(tensors[i].double() for tensors in lists), 3, lr=0.01) for i in range(len(lists[0]))
    ]
    around = storage[:, :2].clone()
    fused.adam_step_(*lists, 3, lr=0.01, fused=kernels)
    for i, (param, m, v) in enumerate(expected):
        for got, e in zip((lists[0][i], lists[2][i], lists[3][i]), (param, m, v), strict=True):
            torch.testing.assert_close(got.double(), e, rtol=1e-5, atol=1e-6)
    assert torch.equal(storage[:, :2], around)  # what lies before was not written to


@kernel_devices
def test_one_launch_for_all_parameters_of_a_dtype_on_a_device(device, monkeypatch):
    launches = []
    monkeypatch.setattr(fused_adam, "launch", lambda rule, group: launches.append(len(group)))
    params = parameters(device=device) + parameters(torch.bfloat16, device)
    set_gradients(params, 0)
    fused.Adam(params).fused_step(fused=True)
    assert launches == [7, 7]  # the empty ones need none


def test_without_kernels_it_is_its_parent():
    if CUDA:
        pytest.skip("float64 keeps to the readable version there, as is tested above")
    mine, theirs = parameters(), parameters()
    optimizer, parent = fused.AdamW(mine, amsgrad=True), optimizers.AdamW(theirs, amsgrad=True)
    for step in range(3):
        for params, each in ((mine, optimizer), (theirs, parent)):
            set_gradients(params, step)
            each.step()
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@paths
def test_state_dicts_go_to_torch_and_back(device, kernels):
    mine, theirs = parameters(device=device), parameters(device=device)
    optimizer, oracle = fused.Adam(mine, lr=0.01), torch.optim.Adam(theirs, lr=0.01)
    for step in range(4):
        set_gradients(mine, step)
        set_gradients(theirs, step)
        loss = optimizer.fused_step(lambda: torch.ones(()), fused=kernels)
        assert loss == 1
        oracle.step()
        if step == 1:
            oracle.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            oracle.param_groups[0].update(foreach=None, capturable=False, differentiable=False, fused=None)
            for state in oracle.state.values():
                state["step"] = torch.tensor(float(state["step"]))
            optimizer.load_state_dict(copy.deepcopy(oracle.state_dict()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not CUDA, reason="needs a GPU")
def test_on_a_gpu_the_step_chooses_the_kernels(monkeypatch):
    launched = []
    monkeypatch.setattr(fused_adam, "launch", lambda rule, group: launched.append(group))
    params = parameters(device="cuda")
    set_gradients(params, 0)
    fused.Adam(params).step()
    assert launched


@paths
def test_adam_errors(device, kernels):
    one, two = [torch.ones(2, device=device)], [torch.ones(2, device=device)] * 2
    with pytest.raises(ValueError, match="lists of one length, but got 1, 2, 1, 1"):
        fused.adam_step_(one, two, one, one, 1, fused=kernels)
    with pytest.raises(ValueError, match="step counts from 1, but got 0"):
        fused.adam_step_(one, one, one, one, 0, fused=kernels)
    with pytest.raises(RuntimeError, match="sparse"):
        fused.adam_step_(one, [one[0].to_sparse()], one, one, 1, fused=kernels)
    with pytest.raises(ValueError, match="lr"):
        fused.Adam([nn.Parameter(one[0])], lr=-1)


# what the compiler makes of them, for a GPU that need not be there ----------------------------------------------------


def compile_for_hopper(kernel, arguments, warps):
    """(PTX, resource usage line) of a kernel for sm_90. Arguments: a type, (type, divisor), or a constant in a list."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    while not isinstance(kernel, triton.JITFunction):
        kernel = kernel.fn
    signature, constants, attributes = {}, {}, {}
    for i, name in enumerate(kernel.arg_names):
        value = arguments[name]
        signature[name] = "constexpr" if isinstance(value, list) else value
        if isinstance(value, list):
            constants[(i,)] = value[0]
        elif value.startswith("*"):
            attributes[(i,)] = [["tt.divisibility", 16]]
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attributes),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps, **backend.COMPILER_OPTIONS},
    )
    cuobjdump = os.path.join(triton.__path__[0], "backends", "nvidia", "bin", "cuobjdump")
    return compiled.asm["ptx"], compiled.asm["cubin"], cuobjdump


def check_machine_code(kernel, arguments, warps, tmp_path, widest):
    ptx, cubin, cuobjdump = compile_for_hopper(kernel, arguments, warps)
    assert ("ld.global.v4.b32" in ptx) == widest  # 16 bytes for each thread
    if os.path.exists(cuobjdump):
        path = tmp_path / "kernel.cubin"
        path.write_bytes(cubin)
        usage = subprocess.run([cuobjdump, "-res-usage", path], capture_output=True, text=True).stdout
        assert "STACK:0 " in usage, usage  # no register was spilled


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON or INTERPRETING, reason="needs Triton's compiler")
@pytest.mark.parametrize("dtype", ("fp32", "bf16"))
@pytest.mark.parametrize("parameters", (True, False))
@pytest.mark.parametrize(
    "shape, layout, widest",
    (
        ((32, 64, 56, 56), torch.contiguous_format, True),
        ((32, 64, 7, 7), torch.contiguous_format, False),
        ((32, 64, 7, 7), torch.channels_last, True),
    ),
)
def test_batch_norm_compiles_to_wide_accesses_without_spills(shape, layout, widest, parameters, dtype, tmp_path):
    from course_lib.fused.kernels import batch_norm as kernels

    tiles = asdict(fused_batch_norm.tiling(torch.empty(shape, device="meta").contiguous(memory_format=layout)))
    arguments = {name: [value] for name, value in tiles.items()}
    arguments |= dict.fromkeys(("outer", "channels", "inner"), "i32") | {"SPLITS": [16]}
    if tiles["inner"] == 1:
        arguments["inner"] = [1]  # as a launch specializes it
    arguments |= dict.fromkeys(("x_ptr", "y_ptr", "grad_ptr", "dx_ptr"), f"*{dtype}")
    arguments |= dict.fromkeys(("partial_ptr", "saved_ptr"), "*fp32")
    optional = ("weight_ptr", "bias_ptr", "running_mean_ptr", "running_var_ptr", "dweight_ptr", "dbias_ptr")
    arguments |= dict.fromkeys(optional, "*fp32" if parameters else [None])
    arguments |= dict.fromkeys(("momentum", "eps", "slope", "count", "unbias"), "fp32")
    for name in ("partial_statistics", "normalize", "partial_gradients", "input_gradient"):
        kernel = getattr(kernels, name)
        check_machine_code(kernel, arguments, fused_batch_norm.WARPS, tmp_path, widest)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON or INTERPRETING, reason="needs Triton's compiler")
@pytest.mark.parametrize("dtype", ("fp32", "bf16"))
def test_dropout_and_adam_compile_to_wide_accesses_without_spills(dtype, tmp_path):
    from course_lib.fused.kernels.adam import adam
    from course_lib.fused.kernels.dropout import dropout_add as dropout_kernel

    arguments = {"x_ptr": f"*{dtype}", "y_ptr": f"*{dtype}", "numel": "i32", "magnitude": "i32", "seed": "i64"}
    arguments |= {"offset": "i32", "threshold": "i64", "scale": "fp32", "ROUNDS": [7], "BLOCK": [4096]}
    for residual in (f"*{dtype}", [None]):
        check_machine_code(dropout_kernel, {**arguments, "residual_ptr": residual}, 8, tmp_path, True)
    numbers = ("one_minus_beta1", "beta2", "one_minus_beta2", "step_size", "eps", "coupled_decay", "shrink", "sign")
    arguments = dict.fromkeys(numbers, "fp32") | {"typed_ptr": f"*{dtype}", "table_ptr": "*i64", "tensors": "i32"}
    for amsgrad in (False, True):
        constants = {"TENSORS": [256], "AMSGRAD": [amsgrad], "ALIGNMENT": [16], "BLOCK": [fused_adam.BLOCK]}
        check_machine_code(adam, arguments | constants, fused_adam.WARPS, tmp_path, True)
