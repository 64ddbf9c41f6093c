"""course_lib.activations against PyTorch, Keras, autograd and a float64 oracle.

Error model: a formula of k roundings may be off by k · eps of its largest intermediate, which is |x| or 1. Nothing here
is random beyond the inputs, whose seed is fixed.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import activations as a
from course_lib import initializers
from course_lib.conventions.activations import CONVENTIONS
from course_lib.quiet import load_keras

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
TRAPS = {convention.id: convention for convention in CONVENTIONS}

TORCH = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "softplus": lambda x: (
        -F.logsigmoid(-x)
    ),  # F.softplus drops digits above its threshold of 20 (and overflows without)
    "log_sigmoid": F.logsigmoid,
}
OPTIONS = [(name, {}) for name in TORCH]
OPTIONS += [("elu", {"alpha": alpha}) for alpha in (0.0, 0.3, 1.7, -0.5)]
OPTIONS += [("leaky_relu", {"negative_slope": slope}) for slope in (0.0, 0.3, 1.0, 2.5, -0.2)]
BY_OPTION = pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)

# roundings on the way, each of at most eps · max(1, |x|)
ROUNDINGS = 8
SPECIAL = (0.0, -0.0, 1e-40, -1e-40, 1e-310, -1e-310, 1e-8, -1e-8, 20.5, -20.5, 90.0, -90.0, 1e4, -1e4)


def inputs():
    x = 3 * torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return {
        "ordinary": x,
        "one example": x[:1, :, :1, :1],
        "no example": x[:0],
        "scalar": x[0, 0, 0, 0],
        "extreme": torch.tensor(SPECIAL),
        "extreme in float64": torch.tensor(SPECIAL, dtype=torch.float64),
        "not contiguous": x.transpose(1, 3),
        "every other": x[:, :, ::2],
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "float64": x.double(),
        "bfloat16": x.bfloat16(),
        "float16": x.half(),
    }


def within_model(got, expected, x, roundings=ROUNDINGS):
    assert got.dtype == expected.dtype and got.shape == expected.shape
    allowed = roundings * torch.finfo(expected.dtype).eps * x.double().abs().clamp(min=1)
    excess = (got.double() - expected.double()).abs() - allowed
    assert not (excess > 0).any(), f"at x = {x[excess > 0][:3]}: {got[excess > 0][:3]}, not {expected[excess > 0][:3]}"


def value_and_gradient(function, x, grad):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y, x, grad)[0]


# values and gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", inputs())
@BY_OPTION
def test_values_and_gradients_are_torchs(name, options, kind, device):
    x = inputs()[kind].to(device)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)
    activation = a.ACTIVATIONS[name]
    y, dx = value_and_gradient(partial(activation.value, **options), x, grad)
    expected, expected_dx = value_and_gradient(partial(TORCH[name], **options), x, grad)
    within_model(y, expected, x)
    within_model(dx, expected_dx, x * grad.abs().clamp(min=1))
    within_model(activation.derivative(x, **options) * grad, expected_dx, x * grad.abs().clamp(min=1))
    assert y.device == x.device and (kind != "channels last" or y.stride() == x.stride())
    with torch.no_grad():
        within_model(activation.value(x, **options), y, x, roundings=2)  # other strides, another kernel


@BY_OPTION
def test_float64_agrees_to_twelve_digits_where_the_algorithm_is_the_same(name, options):
    x = torch.linspace(-5, 5, 1001, dtype=torch.float64)  # beyond, PyTorch's GELU has lost digits
    one = torch.ones_like(x)
    for got, expected in zip(
        value_and_gradient(partial(a.ACTIVATIONS[name].value, **options), x, one),
        value_and_gradient(partial(TORCH[name], **options), x, one),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-15 if "gelu" in name else 0)


INFINITE = {  # value and derivative at −∞ and ∞; None: NaN, as in PyTorch
    "sigmoid": (0, 0, 1, 0),
    "tanh": (-1, 0, 1, 0),
    "relu": (0, 0, math.inf, 1),
    "leaky_relu": (-math.inf, 0.01, math.inf, 1),
    "elu": (-1, 0, math.inf, 1),
    "selu": (-1.7580993408473766, 0, math.inf, 1.0507009873554805),
    "gelu": (None, None, math.inf, None),
    "gelu_tanh": (None, None, math.inf, None),
    "silu": (None, None, math.inf, None),
    "softplus": (0, 0, math.inf, 1),
    "log_sigmoid": (-math.inf, 1, 0, 0),
}


@pytest.mark.parametrize("name", INFINITE)
def test_at_infinity(name):
    x = torch.tensor([-math.inf, math.inf], dtype=torch.float64)
    y, dx = value_and_gradient(a.ACTIVATIONS[name].value, x, torch.ones_like(x))
    expected = [math.nan if value is None else float(value) for value in INFINITE[name]]
    np.testing.assert_allclose([y[0], dx[0], y[1], dx[1]], expected, rtol=1e-15)


def test_the_infinities_are_torchs_too():
    x = torch.tensor([-math.inf, math.inf], dtype=torch.float64)
    for name in INFINITE:
        got = value_and_gradient(a.ACTIVATIONS[name].value, x, torch.ones_like(x))
        expected = value_and_gradient(TORCH[name], x, torch.ones_like(x))
        torch.testing.assert_close(got, expected, equal_nan=True, rtol=1e-15, atol=0, msg=name)


def test_nan_stays_nan():
    x = torch.tensor(math.nan)
    assert all(activation.value(x).isnan() for activation in a.ACTIVATIONS.values())


@pytest.mark.parametrize("name", a.ACTIVATIONS)
def test_the_input_is_left_alone(name):
    x = inputs()["ordinary"]
    before = x.clone()
    a.ACTIVATIONS[name].value(x)
    a.ACTIVATIONS[name].derivative(x)
    assert torch.equal(x, before)


# the hand-written derivative reaches autograd ------------------------------------------------------------------


@BY_OPTION
def test_first_and_second_derivatives_by_differences(name, options):
    value = partial(a.ACTIVATIONS[name].value, **options)
    x = torch.tensor([[-3.1, -0.7, 0.4], [-0.01, 2.2, 5.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, x, check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(value, x)


@BY_OPTION
def test_function_transforms(name, options):
    """vmap, grad, jacrev and jvp, without a fallback's warning: warnings are errors."""
    activation, x = a.ACTIVATIONS[name], inputs()["float64"][0, 0]
    value, slope = partial(activation.value, **options), activation.derivative(x, **options)
    torch.testing.assert_close(torch.vmap(value)(x), value(x))
    torch.testing.assert_close(torch.vmap(torch.func.grad(lambda row: value(row).sum()))(x), slope)
    torch.testing.assert_close(torch.func.jacrev(value)(x[0]), torch.diag(slope[0]))
    torch.testing.assert_close(torch.func.jvp(value, (x,), (2 * x,))[1], slope * 2 * x)


def test_the_gradient_that_came_in_is_not_written_to():
    x, grad = inputs()["ordinary"], torch.ones(4, 3, 5, 6)
    value_and_gradient(a.sigmoid, x, grad)
    assert (grad == 1).all()


@pytest.mark.parametrize("name", a.ACTIVATIONS)
def test_autograd_keeps_one_tensor_and_the_output_where_that_is_enough(name):
    """A kept output costs nothing: the next layer keeps it as its input anyway."""
    x, kept = inputs()["ordinary"].requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y = a.ACTIVATIONS[name].value(x)
    assert kept == [(y if name in ("sigmoid", "tanh", "relu") else x).data_ptr()]


def test_saturated_units_pass_gradients_that_are_small_not_wrong():
    """What vanishing gradients are measured by: relative errors of σ' far out, against e^−|x| / (1 + e^−|x|)²."""
    x = torch.tensor([-80.0, -20, -5, 5], dtype=torch.float32)
    t = (-x.double().abs()).exp()
    torch.testing.assert_close(a.sigmoid_derivative(x).double(), t / (1 + t) ** 2, rtol=1e-4, atol=0)


def test_the_slope_of_log_sigmoid_keeps_its_digits_where_the_sigmoid_is_one():
    slope = a.log_sigmoid_derivative(torch.tensor([30.0, 80.0], dtype=torch.float64))
    torch.testing.assert_close(slope, torch.tensor([-30.0, -80.0], dtype=torch.float64).exp(), rtol=1e-12, atol=0)


# facts the lessons tell ------------------------------------------------------------------------------------


def test_derivatives_peak_where_the_docstrings_say():
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    assert a.sigmoid_derivative(x).max() == 0.25 == a.sigmoid_derivative(x)[2000]
    assert a.tanh_derivative(x).max() == 1 == a.tanh_derivative(x)[2000]
    assert (a.leaky_relu_derivative(x) > 0).all() and (a.elu_derivative(x) > 0).all()
    assert (a.relu_derivative(x[x <= 0]) == 0).all() and (a.relu_derivative(x[x > 0]) == 1).all()
    assert ((a.gelu_derivative(x) < 0) == (x < -0.751)).all()


@pytest.mark.parametrize("alpha", (0.5, 1.0, 2.0))
def test_elu_has_a_kink_at_0_unless_alpha_is_1(alpha):
    left, right = a.elu_derivative(torch.tensor([-1e-9, 1e-9], dtype=torch.float64), alpha)
    assert float(right - left) == pytest.approx(1 - alpha, abs=1e-8)
    assert a.elu(torch.tensor(-1e4), alpha) == -alpha


def test_leaky_relu_is_the_maximum_of_two_lines():
    x = inputs()["float64"]
    assert torch.equal(a.leaky_relu(x), torch.maximum(0.01 * x, x))


def test_selu_constants_are_the_fixed_point_of_mean_and_variance():
    """Published to 16 digits; and one step of the map from any start near (0, 1) comes nearer: it attracts."""
    constants = a.SELU_ALPHA, a.SELU_SCALE
    assert constants == pytest.approx((1.6732632423543772, 1.0507009873554805), rel=2e-15)
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = (-z.square() / 2).exp()
    weight /= weight.sum()

    def step(mean, variance):
        y = a.selu(mean + math.sqrt(variance) * z)
        new_mean = float((weight * y).sum())
        return new_mean, float((weight * (y - new_mean).square()).sum())

    assert step(0, 1) == pytest.approx((0, 1), abs=1e-8)
    for variance in (0.8, 1.5):
        assert abs(step(0, variance)[1] - 1) < abs(variance - 1)


def test_selu_keeps_mean_and_variance_through_fifty_layers():
    """The seed is fixed; over seeds the mean of the last layer wanders by about 0.03."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(128, 500, generator=g)
    for _ in range(50):
        x = a.selu(x @ initializers.lecun_normal_(torch.empty(500, 500), generator=g).T)
    assert abs(x.mean()) < 0.3 and 0.5 < x.var() < 2


def test_gelu_keeps_its_digits_in_the_tail_where_torchs_loses_them():
    x = torch.tensor([-8.0, -6.0, -3.0], dtype=torch.float64)
    oracle = torch.tensor([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(a.gelu(x), oracle, rtol=1e-13, atol=0)
    assert (F.gelu(x) / oracle - 1).abs()[0] > 1e-3
    torch.testing.assert_close(a.gelu(x.float()), oracle.float(), rtol=2e-5, atol=0)  # x² / 2 magnifies a rounding


def test_the_tanh_gelu_is_near_the_exact_one():
    x = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    assert 1e-4 < (a.gelu(x) - a.gelu_tanh(x)).abs().max() < 5e-4


def test_log_sigmoid_is_finite_where_the_logarithm_of_the_sigmoid_is_not():
    x = torch.tensor(-200.0)
    assert torch.log(a.sigmoid(x)) == -math.inf and a.log_sigmoid(x) == -200


@pytest.mark.parametrize("name", a.ACTIVATIONS)
def test_half_precision_is_rounded_once(name):
    x = inputs()["bfloat16"]
    assert torch.equal(a.ACTIVATIONS[name].value(x), a.ACTIVATIONS[name].value(x.float()).bfloat16())


def test_the_registry_knows_every_elementwise_activation_by_its_name():
    for name, activation in a.ACTIVATIONS.items():
        assert (activation.name, activation.value) == (name, getattr(a, name))
        assert activation.derivative is getattr(a, f"{name}_derivative")
    derivatives = {n.removesuffix("_derivative") for n in a.__all__ if n.endswith("_derivative")}
    assert derivatives - set(a.ACTIVATIONS) == {"prelu", "softmax", "log_softmax"}


# PReLU -----------------------------------------------------------------------------------------------------

PRELU_SHAPES = ((5, 3), (5, 3, 4), (2, 3, 4, 5), (1, 3, 1, 1), (0, 3, 4), (7,), ())


@pytest.mark.parametrize("block", (1, 7, 40))  # blocks of one example, and all at once
@pytest.mark.parametrize("slopes", ([0.25], [0.25, 1.0, -0.5], [0.25, 0.0, 1.5]))  # the last need the formula
def test_prelu_in_blocks_is_the_formula(slopes, block, monkeypatch):
    monkeypatch.setattr(a, "BLOCK", block)
    x = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    x[0, :, 0], x[1, :, 0], x[2, :, 0] = math.inf, -math.inf, math.nan
    alpha = torch.tensor(slopes)
    torch.testing.assert_close(a.prelu(x, alpha), F.prelu(x, alpha), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ("softmax", "log_softmax"))
def test_backward_leaves_its_arguments_alone(name):
    grad, y = (torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    before = grad.clone(), y.clone()
    with torch.no_grad():
        got = getattr(a, f"{name}_backward")(grad, y)
    assert torch.equal(grad, before[0]) and torch.equal(y, before[1])
    assert torch.equal(got, getattr(a, f"{name}_backward")(grad, y))


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
@pytest.mark.parametrize("shape", PRELU_SHAPES)
@pytest.mark.parametrize("slopes", (1, 3))
def test_prelu_is_torchs(shape, slopes, dtype):
    if slopes == 3 and len(shape) < 2:
        pytest.skip("channels need two dimensions")
    g = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=g).to(dtype) for _ in range(2))
    alpha = torch.rand(slopes, generator=g).to(dtype)
    results = []
    for function in (a.prelu, F.prelu):
        leaves = x.clone().requires_grad_(), alpha.clone().requires_grad_()
        y = function(*leaves)
        results.append((y.detach(), *torch.autograd.grad(y, leaves, grad)))
    (y, dx, dalpha), (expected, expected_dx, expected_dalpha) = results
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y, expected, rtol=2 * eps, atol=0)
    torch.testing.assert_close(dx, expected_dx, rtol=2 * eps, atol=0)
    # a sum of n terms in another order, of size up to the sum of their sizes
    bound = 4 * eps * math.sqrt(max(1, x.numel())) * float((x * grad).abs().sum())
    torch.testing.assert_close(dalpha, expected_dalpha, rtol=0, atol=bound)
    torch.testing.assert_close(a.prelu_backward(grad, x, alpha), (dx, dalpha), rtol=0, atol=0)
    torch.testing.assert_close(a.prelu_derivative(x, alpha) * grad, dx, rtol=0, atol=0)


@pytest.mark.parametrize("slopes", (1, 3))
def test_prelu_gradients_by_differences(slopes):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 2, generator=g, dtype=torch.float64, requires_grad=True)
    alpha = torch.rand(slopes, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(a.prelu, (x, alpha), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(a.prelu, (x, alpha))


def test_prelu_with_extreme_inputs():
    x = torch.tensor([-math.inf, -1e4, -1e-40, 0.0, 1e4, math.inf])
    alpha = torch.tensor([0.25])
    assert torch.equal(a.prelu(x, alpha), F.prelu(x, alpha))


@pytest.mark.parametrize(("shape", "alpha"), (((5, 3), (2,)), ((5, 3), (1, 3)), ((5,), (5,)), ((5, 3), ())))
def test_prelu_refuses_slopes_that_do_not_fit(shape, alpha):
    with pytest.raises(ValueError, match="one slope or one for each"):
        a.prelu(torch.zeros(shape), torch.zeros(alpha))


def test_the_prelu_layer_trains_as_torchs_and_shares_its_state():
    g = torch.Generator().manual_seed(0)
    x, target = torch.randn(20, 3, 4, generator=g), torch.randn(20, 3, 4, generator=g)
    ours, theirs = a.PReLU(3), nn.PReLU(3)
    assert repr(ours) == repr(theirs) and torch.equal(ours.weight, theirs.weight)
    for layer in (ours, theirs):
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
        for _ in range(10):
            optimizer.zero_grad()
            (layer(x) - target).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
    fresh = a.PReLU(3)
    fresh.load_state_dict(theirs.state_dict())
    assert torch.equal(fresh.eval()(x), theirs.eval()(x)) and torch.equal(fresh.train()(x), fresh.eval()(x))
    with pytest.raises(ValueError, match="at least 1"):
        a.PReLU(0)


# softmax ---------------------------------------------------------------------------------------------------

ROWS = {"softmax": F.softmax, "log_softmax": F.log_softmax}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("kind", inputs())
@pytest.mark.parametrize("dim", (-1, 0))
def test_softmax_is_torchs(name, kind, dim, device):
    x = inputs()[kind].to(device)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)
    y, dx = value_and_gradient(partial(getattr(a, name), dim=dim), x, grad)
    expected, expected_dx = value_and_gradient(partial(ROWS[name], dim=dim), x, grad)
    within_model(y, expected, x)
    # the sum over a row of up to 14 terms, each up to the largest gradient
    within_model(dx, expected_dx, torch.full_like(x, 14 * float(grad.abs().max()) if x.numel() else 0))
    backward = getattr(a, f"{name}_backward")
    within_model(backward(grad, y, dim), dx, torch.ones_like(x), roundings=0)


@pytest.mark.parametrize("name", ROWS)
def test_softmax_in_float64_to_twelve_digits(name):
    x = inputs()["float64"]
    torch.testing.assert_close(getattr(a, name)(x), ROWS[name](x, -1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ROWS)
def test_softmax_at_the_extremes(name):
    rows = [[1e4, 1e4 - 1, -1e4], [0, -math.inf, 1], [math.inf, 0, 0], [-math.inf] * 3, [1e-40, 0, -1e-40]]
    x = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(getattr(a, name)(x), ROWS[name](x, -1), equal_nan=True, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("shape", ((0, 4), (4, 0)))
def test_softmax_of_nothing(name, shape):
    assert getattr(a, name)(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize("name", ROWS)
def test_softmax_derivatives(name):
    function, derivative = getattr(a, name), getattr(a, f"{name}_derivative")
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(function, x, check_batched_grad=True)
    assert torch.autograd.gradcheck(partial(function, dim=0), x)
    assert torch.autograd.gradgradcheck(function, x)
    jacobians = torch.vmap(torch.func.jacrev(function))(x.detach())
    torch.testing.assert_close(derivative(x.detach()), jacobians)
    assert derivative(x.detach().bfloat16()).dtype == torch.bfloat16


def test_log_softmax_keeps_digits_where_the_logarithm_of_softmax_has_none():
    x = torch.tensor([0.0, 200.0])
    assert a.softmax(x).log()[0] == -math.inf and a.log_softmax(x)[0] == -200


# Keras -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    return load_keras()


def keras_value_and_gradient(function, x):
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x)


KERAS = {
    "sigmoid": lambda keras: keras.activations.sigmoid,
    "tanh": lambda keras: keras.activations.tanh,
    "relu": lambda keras: keras.activations.relu,
    "leaky_relu": lambda keras: partial(
        keras.activations.leaky_relu,
        negative_slope=TRAPS["activations.leaky_slope"].to_keras(TRAPS["activations.leaky_slope"].torch()),
    ),
    "elu": lambda keras: keras.activations.elu,
    "selu": lambda keras: keras.activations.selu,
    "gelu": lambda keras: partial(
        keras.ops.gelu, approximate=TRAPS["activations.gelu"].to_keras(TRAPS["activations.gelu"].torch())
    ),
    "gelu_tanh": lambda keras: partial(keras.activations.gelu, approximate=True),
    "silu": lambda keras: keras.activations.silu,
    "softplus": lambda keras: keras.activations.softplus,
    "log_sigmoid": lambda keras: keras.activations.log_sigmoid,
    "softmax": lambda keras: keras.activations.softmax,
    "log_softmax": lambda keras: keras.activations.log_softmax,
}
# Without 0, at whose kink TensorFlow chooses otherwise, nor points that near to it: it computes ELU's eˣ − 1 as
# written, and its SELU takes −1e-8 (in bfloat16 −1e-3) for positive.
POINTS = np.concatenate([np.linspace(-12, 12, 240), [-1e4, -90, -0.02, 0.02, 90, 1e4]])
# TensorFlow's kernels hold these functions' constants in float32, for float64 tensors too
SHORT_CONSTANTS = {"gelu": 1e-8, "gelu_tanh": 1e-8, "leaky_relu": 1e-9}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ("float64", "float32", "bfloat16"))
@pytest.mark.parametrize("name", KERAS)
def test_values_and_gradients_are_kerass(keras, name, dtype):
    points = POINTS[:240].reshape(24, 10) if "softmax" in name else POINTS
    x = torch.tensor(points).to(getattr(torch, dtype))
    tensor = keras.ops.cast(keras.ops.convert_to_tensor(x.double().numpy(), dtype="float64"), dtype)
    expected, expected_dx = keras_value_and_gradient(KERAS[name](keras), tensor)
    y, dx = value_and_gradient(getattr(a, name), x, torch.ones_like(x))
    # TensorFlow computes bfloat16 step by step in places, each a rounding of the intermediate
    for got, want in ((y, expected), (dx, expected_dx)):
        want = torch.tensor(keras.ops.convert_to_numpy(keras.ops.cast(want, "float64"))).to(x.dtype)
        short = SHORT_CONSTANTS.get(name, 0.0) if dtype == "float64" else 0.0
        within_model(got, want, x, 2 * ROUNDINGS + short / torch.finfo(x.dtype).eps)


@pytest.mark.slow
def test_prelu_is_kerass_with_one_slope_a_channel(keras):
    trap = TRAPS["activations.prelu"]
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    layer = keras.layers.PReLU(**trap.to_keras(trap.torch()))
    y = keras.ops.convert_to_numpy(layer(x.permute(0, 2, 3, 1).numpy()))
    assert tuple(layer.alpha.shape) == (1, 1, 3)
    torch.testing.assert_close(torch.tensor(y).permute(0, 3, 1, 2), a.PReLU(3)(x).detach(), rtol=1e-6, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_softmax_of_images_is_kerass_over_the_axis_that_torch_chooses(keras):
    trap = TRAPS["activations.softmax_axis"]
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    y = keras.ops.convert_to_numpy(keras.activations.softmax(x.numpy(), axis=trap.to_keras(trap.torch())))
    torch.testing.assert_close(torch.tensor(y), a.softmax(x, trap.torch()), rtol=1e-6, atol=0)
    assert torch.equal(F.softmax(x), F.softmax(x, trap.torch()))


@pytest.mark.slow
def test_each_convention_differs_between_the_installed_frameworks(keras):
    for convention in CONVENTIONS:
        assert convention.torch() != convention.keras(keras), convention.id
    assert len(TRAPS) == len(CONVENTIONS)


@pytest.mark.slow
def test_the_softplus_of_keras_is_ours_where_torchs_is_not(keras):
    x = torch.tensor(21.0, dtype=torch.float64)
    assert float(a.softplus(x) - x) == pytest.approx(TRAPS["activations.softplus_threshold"].keras(keras), rel=0.01)
    assert TRAPS["activations.softplus_threshold"].torch() == 0


def test_everything_named_is_there_and_documented():
    assert sorted(a.__all__) == sorted(set(a.__all__))
    for name in a.__all__:
        thing = getattr(a, name)
        assert not callable(thing) or thing.__doc__
