"""course_lib.initializers against PyTorch (bit for bit, from the same generator) and Keras (by distribution).

A distribution is held by three tests of n draws, together false about once in a million: the
Dvoretzky–Kiefer–Wolfowitz bound on the distance of the distribution functions, P(D > d) ≤ 2 e^(−2 n d²) = 9e-7; the
mean and the deviation within six standard errors (2e-9 each). A fixed seed makes a failure repeat.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from course_lib import activations
from course_lib import initializers as i
from course_lib.conventions.initializers import CONVENTIONS
from course_lib.quiet import load_keras

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
TRAPS = {convention.id: convention for convention in CONVENTIONS}
FALSE_ALARM = 9e-7
SIX_SIGMA = 6.0


def seeded(device="cpu"):
    return torch.Generator(device).manual_seed(0)


# the distribution functions of variables with deviation 1 ----------------------------------------------------


def uniform_cdf(z):
    return (z / math.sqrt(3) + 1).clamp(0, 2) / 2


def normal_cdf(z):
    return torch.special.ndtr(z)


def truncated_cdf(z, cutoff=2.0):
    parent = (z * i.truncated_deviation(cutoff)).clamp(-cutoff, cutoff)
    return torch.erf(parent / math.sqrt(2)) / (2 * math.erf(cutoff / math.sqrt(2))) + 0.5


FOURTH_MOMENT = {uniform_cdf: 1.8, normal_cdf: 3.0, truncated_cdf: 3.0}  # of deviation 1; the last is a bound


def drawn_from(cdf, std, draws, mean=0.0):
    """Assert that the draws come from mean + std · (the variable with this distribution function)."""
    z = ((torch.as_tensor(np.asarray(draws)).flatten().double() - mean) / std).sort().values
    n = len(z)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    distance = torch.maximum((cdf(z) - steps[:-1]).max(), (steps[1:] - cdf(z)).max())
    assert distance <= math.sqrt(math.log(2 / FALSE_ALARM) / (2 * n)), f"distributions {distance:.4f} apart"
    assert abs(z.mean()) <= SIX_SIGMA / math.sqrt(n)
    assert abs(z.square().mean() - 1) <= SIX_SIGMA * math.sqrt((FOURTH_MOMENT[cdf] - 1) / n)


# fans ------------------------------------------------------------------------------------------------------

SHAPES = ((7, 5), (8, 6, 3), (8, 6, 3, 5), (8, 6, 3, 2, 4), (1, 1), (0, 5), (5, 0, 3))


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_torchs(shape):
    assert i.compute_fans(shape) == nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_kerass(shape, keras):
    from keras.src.initializers.random_initializers import compute_fans

    assert i.compute_fans(shape, layout="keras") == compute_fans(shape)


def middle(tensor):
    """The entry in the middle of each spatial dimension, of the last channel: far from the border."""
    return tensor[0, -1][tuple(size // 2 for size in tensor.shape[2:])]


CONVOLUTIONS = [
    (conv, channels, groups)
    for conv in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    for channels, groups in (((4, 6), 1), ((4, 6), 2), ((4, 8), 4))
]


@pytest.mark.parametrize(("conv", "channels", "groups"), CONVOLUTIONS)
def test_fans_are_what_one_counts(conv, channels, groups):
    """fan_in: the inputs that one output's gradient reaches; fan_out: the outputs that one input's change reaches."""
    layer = conv(*channels, 3, groups=groups, bias=False).double()
    dims = layer.weight.dim() - 2
    x = torch.zeros(1, channels[0], *[9] * dims, dtype=torch.float64, requires_grad=True)
    (reached,) = torch.autograd.grad(middle(layer(x)), x)
    impulse = torch.zeros_like(x)
    middle(impulse.detach()).fill_(1)
    fans = i.compute_fans(layer.weight.shape, groups=groups, transposed=layer.transposed)
    assert fans == (int((reached != 0).sum()), int((layer(impulse) != 0).sum()))


def test_layouts_agree_on_the_same_layer():
    torch_shape, keras_shape = (32, 16, 3, 5), (3, 5, 16, 32)
    assert i.compute_fans(torch_shape) == i.compute_fans(keras_shape, layout="keras") == (240, 480)
    # transposed, 16 → 32 channels
    assert i.compute_fans((16, 32, 3, 3), transposed=True) == (144, 288)
    assert i.compute_fans((3, 3, 32, 16), layout="keras", transposed=True) == (144, 288)
    # depthwise, 32 → 64 channels
    assert i.compute_fans((64, 1, 3, 3), groups=32) == (9, 18)
    assert i.compute_fans((3, 3, 32, 2), layout="keras", depthwise=True) == (9, 18)
    assert (
        i.compute_fans((3, 3, 4, 32), layout="keras", groups=8) == i.compute_fans((32, 4, 3, 3), groups=8) == (36, 36)
    )


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    (
        ((3,), {}, "two or more dimensions"),
        ((), {}, "two or more dimensions"),
        ((3, 3), {"layout": "jax"}, "'torch' or 'keras'"),
        ((6, 3, 3), {"groups": 4}, "groups have to divide"),
        ((6, 3, 3), {"groups": 0}, "groups have to divide"),
        ((6, 3, 3), {"depthwise": True}, "groups=in_channels"),
        ((3, 3, 4, 1), {"layout": "keras", "depthwise": True, "transposed": True}, "groups=in_channels"),
        ((3, 3, 4, 1), {"layout": "keras", "depthwise": True, "groups": 2}, "groups=in_channels"),
    ),
)
def test_fans_refuse(shape, options, message):
    with pytest.raises(ValueError, match=message):
        i.compute_fans(shape, **options)


# gains -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"))
@pytest.mark.parametrize("param", (None, 0.2, 0, 1))
def test_gains_are_torchs(name, param):
    assert i.gain(name, param) == nn.init.calculate_gain(name, param)


def test_gain_refuses_what_is_not_in_the_table_and_says_what_to_do():
    with pytest.raises(ValueError, match="moment_gain"):
        i.gain("gelu")


def test_moment_gain_derives_what_the_table_says_of_rectifiers_and_what_it_does_not_of_others():
    for name, function in (
        ("linear", lambda z: z),
        ("relu", activations.relu),
        ("leaky_relu", activations.leaky_relu),
    ):
        assert i.moment_gain(function) == pytest.approx(i.gain(name), rel=1e-12)
    assert i.moment_gain(activations.selu) == pytest.approx(1, rel=1e-12)  # by construction
    assert i.moment_gain(activations.relu_derivative) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert i.moment_gain(activations.tanh) == pytest.approx(1.5925, abs=1e-4)  # not 5/3
    assert i.moment_gain(activations.sigmoid) == pytest.approx(1.8462, abs=1e-4)  # not 1


def test_moment_gain_refuses_a_function_without_a_second_moment():
    for function in (torch.zeros_like, lambda z: z * math.inf):
        with pytest.raises(ValueError, match="positive and finite"):
            i.moment_gain(function)


# bit for bit PyTorch's ----------------------------------------------------------------------------------------

SAME = [
    (name, {"gain": gain}) for name in ("xavier_uniform_", "xavier_normal_", "orthogonal_") for gain in (1.0, 5 / 3)
]
SAME += [
    (name, {"a": a, "mode": mode, "nonlinearity": nonlinearity})
    for name in ("kaiming_uniform_", "kaiming_normal_")
    for a, mode, nonlinearity in (
        (0, "fan_in", "leaky_relu"),
        (math.sqrt(5), "fan_in", "leaky_relu"),
        (0.25, "fan_out", "leaky_relu"),
        (0, "fan_in", "relu"),
        (0, "fan_out", "tanh"),
    )
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("shape", ((7, 5), (5, 7), (8, 3, 3, 3), (1, 1), (4, 2, 3), (0, 5), (5, 0)))
@pytest.mark.parametrize(("name", "options"), SAME, ids=str)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_draws_are_torchs(name, options, shape, dtype, device):
    if name == "orthogonal_" and dtype in (torch.bfloat16, torch.float16):
        pytest.skip("PyTorch's QR knows no half precision")
    got = torch.empty(shape, dtype=dtype, device=device)
    assert getattr(i, name)(got, **options, generator=seeded(device)) is got
    expected = getattr(nn.init, name)(torch.empty_like(got), **options, generator=seeded(device))
    assert torch.equal(got, expected)


def test_without_a_generator_the_global_one_is_used():
    torch.manual_seed(3)
    got = i.kaiming_normal_(torch.empty(4, 5))
    torch.manual_seed(3)
    assert torch.equal(got, nn.init.kaiming_normal_(torch.empty(4, 5)))


def test_parameters_of_a_layer_are_filled_without_a_graph():
    layer = nn.Linear(4, 3)
    for initialize in (i.xavier_normal_, i.lecun_normal_, i.trunc_normal_, i.orthogonal_, i.lenet_uniform_, i.zeros_):
        initialize(layer.weight)
        assert layer.weight.requires_grad and layer.weight.grad_fn is None
    assert (layer.weight == 0).all()
    assert (i.constant_(layer.bias, 0.5) == 0.5).all()
    i.output_bias_(layer.bias, [1, 2, 3])
    assert layer.bias.grad_fn is None


def test_both_names_are_one_function():
    assert i.glorot_uniform_ is i.xavier_uniform_ and i.he_normal_ is i.kaiming_normal_
    assert i.glorot_normal_ is i.xavier_normal_ and i.he_uniform_ is i.kaiming_uniform_


# by distribution -----------------------------------------------------------------------------------------------

IN, OUT = 300, 200  # 60,000 draws; fan_in 300, fan_out 200
RULES = {
    "lecun_uniform_": (uniform_cdf, 1 / IN),
    "lecun_normal_": (normal_cdf, 1 / IN),
    "xavier_uniform_": (uniform_cdf, 2 / (IN + OUT)),
    "xavier_normal_": (normal_cdf, 2 / (IN + OUT)),
    "kaiming_uniform_": (uniform_cdf, 2 / IN),
    "kaiming_normal_": (normal_cdf, 2 / IN),
    "lenet_uniform_": (uniform_cdf, 1 / (3 * IN**2)),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
@pytest.mark.parametrize("name", RULES)
def test_rules_give_their_distribution(name, dtype, device):
    cdf, variance = RULES[name]
    weight = getattr(i, name)(torch.empty(OUT, IN, dtype=dtype, device=device), generator=seeded(device))
    drawn_from(cdf, math.sqrt(variance), weight.cpu())


MODES = {"fan_in": IN, "fan_out": OUT, "fan_avg": (IN + OUT) / 2}
DISTRIBUTIONS = {"uniform": uniform_cdf, "untruncated_normal": normal_cdf, "truncated_normal": truncated_cdf}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("scale", (1.0, 0.1))
def test_variance_scaling_gives_its_variance(mode, distribution, scale):
    weight = i.variance_scaling_(torch.empty(OUT, IN), scale, mode, distribution, seeded())
    drawn_from(DISTRIBUTIONS[distribution], math.sqrt(scale / MODES[mode]), weight)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_variance_scaling_is_kerass(mode, distribution, keras):
    draw = keras.initializers.VarianceScaling(2.0, mode, distribution, seed=0)((IN, OUT))
    drawn_from(DISTRIBUTIONS[distribution], math.sqrt(2 / MODES[mode]), keras.ops.convert_to_numpy(draw))


NAMED = {
    "GlorotUniform": (uniform_cdf, "xavier_uniform_"),
    "GlorotNormal": (truncated_cdf, "xavier_normal_"),
    "HeUniform": (uniform_cdf, "kaiming_uniform_"),
    "HeNormal": (truncated_cdf, "kaiming_normal_"),
    "LecunUniform": (uniform_cdf, "lecun_uniform_"),
    "LecunNormal": (truncated_cdf, "lecun_normal_"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_kerass_named_rules_have_our_variances_and_their_normals_are_truncated(name, keras):
    cdf, ours = NAMED[name]
    draw = keras.ops.convert_to_numpy(getattr(keras.initializers, name)(seed=0)((IN, OUT)))
    drawn_from(cdf, math.sqrt(RULES[ours][1]), draw)
    if cdf is truncated_cdf:  # the test has the power to tell the two normals apart
        with pytest.raises(AssertionError):
            drawn_from(normal_cdf, math.sqrt(RULES[ours][1]), draw)


@pytest.mark.parametrize("cutoff", (1e-3, 0.5, 1.0, 2.0, 3.0, 20.0, math.inf))
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
def test_a_truncated_draw_has_the_deviation_asked_for(cutoff, dtype):
    draws = i.trunc_normal_(torch.empty(60_000, dtype=dtype), 3.0, 0.5, cutoff, seeded())
    assert (draws - 3).abs().max() <= cutoff * 0.5 / i.truncated_deviation(cutoff) * (1 + 1e-6)
    if cutoff < math.inf:
        FOURTH_MOMENT[cdf := lambda z: truncated_cdf(z, cutoff)] = 3.0
    else:
        cdf = normal_cdf
    drawn_from(cdf, 0.5, draws, mean=3.0)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_a_truncated_draw_in_half_precision_is_the_rounded_one(dtype):
    half = i.trunc_normal_(torch.empty(100, 100, dtype=dtype), generator=seeded())
    assert torch.equal(half, i.trunc_normal_(torch.empty(100, 100), generator=seeded()).to(dtype))


@pytest.mark.parametrize("cutoff", (0.02, 0.5, 2.0, 5.0))
def test_truncated_deviation_by_integration(cutoff):
    z = torch.linspace(-cutoff, cutoff, 100_001, dtype=torch.float64)
    density = (-z.square() / 2).exp()
    variance = torch.trapezoid(z.square() * density, z) / torch.trapezoid(density, z)
    assert i.truncated_deviation(cutoff) == pytest.approx(math.sqrt(variance), rel=1e-8)


def test_truncated_deviation_at_its_ends_and_kerass_constant():
    assert i.truncated_deviation(2) == pytest.approx(0.87962566103423978, rel=1e-15)
    assert i.truncated_deviation(math.inf) == 1
    assert i.truncated_deviation(0.00999) == pytest.approx(i.truncated_deviation(0.01001) * 0.999 / 1.001, rel=1e-6)


def test_fans_can_be_given():
    """A transposed convolution from 16 to 4 channels: the bound follows its true fan_in, 144, not 36."""
    weight = nn.ConvTranspose2d(16, 4, 3).weight.detach()
    fans = i.compute_fans(weight.shape, transposed=True)
    for initialize, bound in (
        (i.lecun_uniform_, math.sqrt(3 / 144)),
        (i.kaiming_uniform_, math.sqrt(6 / 144)),
        (i.xavier_uniform_, math.sqrt(6 / 180)),
        (i.lenet_uniform_, 1 / 144),
    ):
        largest = float(initialize(weight, fans=fans, generator=seeded()).abs().max())
        assert 0.98 * bound < largest <= bound * (1 + 1e-6)
    for initialize in (i.lecun_normal_, i.kaiming_normal_, i.xavier_normal_, i.variance_scaling_):
        plain = initialize(torch.empty(16, 4, 3, 3), generator=seeded())
        given = initialize(weight, fans=fans, generator=seeded())
        factor = 1 if initialize is i.xavier_normal_ else 2  # the sum of the fans stays
        torch.testing.assert_close(given * factor, plain)


@pytest.mark.parametrize("name", [*RULES, "variance_scaling_", "trunc_normal_", "orthogonal_", "zeros_"])
@pytest.mark.parametrize("shape", ((0, 0), (0, 3, 3), (4, 0)))
def test_a_tensor_without_elements_stays(name, shape):
    assert getattr(i, name)(torch.empty(shape)).shape == shape


@pytest.mark.parametrize("name", [*RULES, "variance_scaling_", "orthogonal_"])
def test_a_vector_has_no_fans(name):
    with pytest.raises(ValueError, match="two or more dimensions"):
        getattr(i, name)(torch.empty(5))


def test_channels_last_and_transposed_kernels_are_filled_where_they_lie():
    weight = torch.empty(8, 3, 3, 3)
    for initialize in (i.trunc_normal_, i.orthogonal_, i.kaiming_normal_, i.xavier_uniform_):
        last = torch.empty(8, 3, 3, 3).contiguous(memory_format=torch.channels_last)
        view = torch.empty(5, 4).T
        initialize(last, generator=seeded())
        initialize(view, generator=seeded())
        assert last.stride() == (27, 1, 9, 3) and view.stride() == (1, 4)
        assert last.isfinite().all() and len(last.unique()) > 200 and len(view.unique()) == 20
    torch.testing.assert_close(
        i.orthogonal_(weight.contiguous(memory_format=torch.channels_last), generator=seeded()),
        i.orthogonal_(weight, generator=seeded()),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda w: i.kaiming_normal_(w, mode="fan_avg"), "'fan_in' or 'fan_out'"),
        (lambda w: i.kaiming_uniform_(w, nonlinearity="gelu"), "no gain is tabled"),
        (lambda w: i.variance_scaling_(w, mode="fan"), "mode has to be"),
        (lambda w: i.variance_scaling_(w, distribution="normal"), "distribution has to be"),
        (lambda w: i.variance_scaling_(w, scale=0), "scale has to be positive"),
        (lambda w: i.trunc_normal_(w, cutoff=0), "cutoff has to be positive"),
        (lambda w: i.trunc_normal_(w, std=-1), "std has to be 0 or more"),
        (lambda w: i.trunc_normal_(w, std=math.nan), "std has to be 0 or more"),
    ),
)
def test_wrong_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.empty(3, 4))


# orthogonal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("shape", ((30, 30), (20, 50), (50, 20), (10, 4, 3, 3), (64, 4, 3, 3), (1, 5), (5, 1)))
@pytest.mark.parametrize("gain", (1.0, 2.5))
def test_orthogonal_rows_or_columns(shape, gain, dtype):
    matrix = i.orthogonal_(torch.empty(shape, dtype=dtype), gain, seeded()).flatten(1).double() / gain
    gram = matrix @ matrix.T if shape[0] <= matrix.shape[1] else matrix.T @ matrix
    # an inner product of n entries of size ~ 1/√n, each off by eps of itself
    torch.testing.assert_close(
        gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=10 * torch.finfo(dtype).eps
    )


def test_orthogonal_draws_are_uniform_over_the_rotations_thanks_to_the_signs():
    """The first entry of a random 2 × 2 one is the cosine of a uniform angle; without the signs' correction it would
    never be positive. Distribution functions compared as above: false alarm 9e-7."""
    g = seeded()
    first = torch.stack([i.orthogonal_(torch.empty(2, 2, dtype=torch.float64), generator=g)[0, 0] for _ in range(4000)])
    angle_share = 1 - torch.acos(first.sort().values) / math.pi
    steps = torch.arange(4001, dtype=torch.float64) / 4000
    distance = torch.maximum((angle_share - steps[:-1]).max(), (steps[1:] - angle_share).max())
    assert distance <= math.sqrt(math.log(2 / FALSE_ALARM) / 8000)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ((20, 50), (3, 3, 4, 10)))
def test_kerass_orthogonal_kernel_is_one_in_our_layout_too(shape, keras):
    kernel = torch.tensor(keras.ops.convert_to_numpy(keras.initializers.Orthogonal(gain=2.0, seed=0)(shape)))
    matrix = kernel.movedim(-1, 0).flatten(1) / 2  # (*field, in, out) -> (out, in · field)
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)


# LSUV ------------------------------------------------------------------------------------------------------


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8 * 6 * 6, 40),
        nn.Tanh(),
        nn.Linear(40, 10),
    )


def output_variances(net, x, layers):
    found = {}
    for name in layers:
        net.get_submodule(name).register_forward_hook(
            lambda m, a, y, name=name: found.__setitem__(name, float(y.var(correction=0)))
        )
    with torch.no_grad():
        net(x)
    return found


def test_lsuv_makes_every_layers_output_variance_one():
    net, x = small_net(), 5 * torch.randn(64, 1, 8, 8, generator=seeded()) + 2
    net.train()
    net[2].eval()
    mean, modes = net[2].running_mean.clone(), [m.training for m in net.modules()]
    steps = i.lsuv_(net, x, generator=seeded())
    assert [step.name for step in steps] == ["0", "5", "7"]
    assert all(abs(step.after - 1) <= 0.01 and step.rescalings >= 1 for step in steps)
    assert steps[0].before > 5
    assert [m.training for m in net.modules()] == modes and torch.equal(net[2].running_mean, mean)
    assert not any(m._forward_hooks for m in net.modules())
    for name, variance in output_variances(net.eval(), x, ["0", "5", "7"]).items():
        assert variance == pytest.approx(1, abs=0.01), name
    rows = net[7].weight.detach()
    gram = rows @ rows.T
    torch.testing.assert_close(gram / gram[0, 0], torch.eye(10), rtol=0, atol=1e-5)  # still orthogonal


def test_lsuv_is_reproducible_and_depends_on_the_generator_only():
    x = torch.randn(16, 1, 8, 8, generator=seeded())
    weights = []
    for seed in (0, 0):
        net = small_net()
        torch.manual_seed(seed + 17)
        i.lsuv_(net, x, generator=seeded())
        weights.append(net[5].weight)
    assert torch.equal(*weights)


def test_lsuv_meets_layers_in_the_order_in_which_they_run_and_a_shared_one_once():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first, self.unused = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)

        def forward(self, x):
            return self.last(self.last(self.first(x)))

    steps = i.lsuv_(Backwards(), torch.randn(50, 5, generator=seeded()), generator=seeded())
    assert [step.name for step in steps] == ["first", "last"]


def test_lsuv_keeps_biases_that_leave_it_room():
    net = nn.Sequential(nn.Linear(5, 4))
    bias = net[0].bias.detach().fill_(0.1).clone()
    bias[0] = net[0].bias.data[0] = 0.5
    (step,) = i.lsuv_(net, torch.randn(50, 5, generator=seeded()), generator=seeded())
    assert step.after == pytest.approx(1, abs=0.01) and step.rescalings >= 1 and torch.equal(net[0].bias, bias)


def test_lsuv_refuses_a_bias_that_keeps_the_variance_away_from_one():
    net = nn.Sequential(nn.Linear(5, 4))
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([0.0, 10, -10, 5]))
    with pytest.raises(ValueError, match=r"after 3 rescalings .* zeros_ the biases"):
        i.lsuv_(net, torch.randn(50, 5, generator=seeded()), max_rescalings=3, generator=seeded())


@pytest.mark.parametrize("value", (0.0, math.inf))
def test_lsuv_refuses_an_output_that_no_scale_mends(value):
    net = small_net().train()
    i.zeros_(net[0].bias)
    with pytest.raises(ValueError, match="no scale makes it 1"):
        i.lsuv_(net, torch.full((4, 1, 8, 8), value))
    assert all(m.training for m in net.modules()) and not any(m._forward_hooks for m in net.modules())


def test_lsuv_refuses_an_empty_batch_nets_without_weights_and_computed_weights():
    with pytest.raises(ValueError, match="variance nan"):
        i.lsuv_(nn.Linear(3, 2), torch.zeros(0, 3))
    with pytest.raises(ValueError, match="no layer with weights ran"):
        i.lsuv_(nn.ReLU(), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="computed from something else"):
        i.lsuv_(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), torch.randn(4, 3))


def test_lsuv_rescales_layer_classes_of_ones_own():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(4, 3))

        def forward(self, x):
            return x @ self.weight.T

    (step,) = i.lsuv_(Mine(), torch.randn(30, 3, generator=seeded()), layers=(Mine,), generator=seeded())
    assert step.name == "" and step.after == pytest.approx(1, abs=0.01)


# the output's bias -----------------------------------------------------------------------------------------


def test_the_output_bias_predicts_the_shares():
    bias = i.output_bias_(torch.empty(3), torch.tensor([900, 90, 10]))
    torch.testing.assert_close(bias.softmax(-1), torch.tensor([0.9, 0.09, 0.01]))
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    entropy = -sum(p * math.log(p) for p in (0.9, 0.09, 0.01))
    assert nn.functional.cross_entropy(bias.expand(1000, 3), labels).item() == pytest.approx(entropy, rel=1e-5)


def test_the_output_bias_of_one_logistic_unit():
    bias = i.output_bias_(torch.empty(1, dtype=torch.float64), [0.8, 0.2])
    assert torch.sigmoid(bias).item() == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize("dtype", (torch.float64, torch.bfloat16))
def test_the_output_bias_keeps_the_dtype(dtype):
    assert i.output_bias_(torch.empty(2, dtype=dtype), [1, 1]).dtype == dtype


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    (
        ((3,), [1, 2], "does not fit"),
        ((1, 2), [[1, 2]], "does not fit"),
        ((2,), [1, 0], "positive, finite"),
        ((2,), [1, math.inf], "positive, finite"),
        ((2,), [1, math.nan], "positive, finite"),
        ((1,), [0, 5], "positive, finite"),
    ),
)
def test_the_output_bias_refuses(size, counts, message):
    with pytest.raises(ValueError, match=message):
        i.output_bias_(torch.empty(size), counts)


# what the lesson claims --------------------------------------------------------------------------------------


def signal(initialize, depth=30, width=300, activation=lambda x: x, rows=200):
    """The signal's second moment after `depth` layers over that at the start, and the gradient's likewise, back."""
    g = seeded()
    x = torch.randn(rows, width, generator=g).requires_grad_()
    y = x
    for _ in range(depth):
        y = activation(y @ initialize(torch.empty(width, width), generator=g).T)
    grad = torch.randn(y.shape, generator=g)
    (back,) = torch.autograd.grad(y, x, grad)
    return float((y.square().mean() / x.square().mean()).detach()), float(back.square().mean() / grad.square().mean())


def test_claim_i1_lecun_glorot_and_orthogonal_keep_both_variances_in_a_linear_net():
    """Factors of 30 layers scatter by about √(2 · 30 / 300) ≈ 0.45 in the logarithm, over seeds (here it is fixed);
    the bound of 8 is 4.6 of these. Orthogonal layers don't scatter at all."""
    for initialize in (i.lecun_uniform_, i.lecun_normal_, i.xavier_uniform_, i.xavier_normal_, i.variance_scaling_):
        forward, backward = signal(initialize)
        assert 1 / 8 < forward < 8 and 1 / 8 < backward < 8
    assert signal(i.orthogonal_) == pytest.approx((1, 1), abs=1e-4)


def test_claim_i2_glorots_two_forms_have_one_variance():
    bound = math.sqrt(6 / (IN + OUT))
    assert bound**2 / 3 == pytest.approx(2 / (IN + OUT), rel=1e-15)
    assert i.xavier_uniform_(torch.empty(OUT, IN), generator=seeded()).abs().max() <= bound


def test_claim_i3_he_keeps_relus_signal_at_depth_50_and_glorot_halves_it_at_each_layer():
    he, he_back = signal(i.kaiming_normal_, 50, activation=activations.relu)
    glorot, glorot_back = signal(i.xavier_normal_, 50, activation=activations.relu)
    assert 1 / 100 < he < 100 and 1 / 100 < he_back < 100
    # the same draws times √2 a layer, and ReLU is positively homogeneous: exactly 2⁵⁰ but for rounding
    assert he / glorot == pytest.approx(2**50, rel=1e-3) and he_back / glorot_back == pytest.approx(2**50, rel=1e-3)


def test_claim_i4_a_filters_range_follows_its_maps_times_its_field():
    filters = nn.Conv2d(16, 32, 5).weight.detach()
    assert i.compute_fans(filters.shape) == (16 * 25, 32 * 25)
    assert i.lecun_uniform_(filters, generator=seeded()).abs().max() == pytest.approx(math.sqrt(3 / 400), rel=1e-3)


@pytest.mark.parametrize("fan_in", (25, 400))
def test_claim_i5_one_over_fan_in_has_a_variance_three_fan_in_times_too_small(fan_in):
    weight = i.lenet_uniform_(torch.empty(60_000 // fan_in, fan_in), generator=seeded())
    drawn_from(uniform_cdf, 1 / (math.sqrt(3) * fan_in), weight)
    drawn_from(
        uniform_cdf, math.sqrt(1 / fan_in) / math.sqrt(3 * fan_in), weight
    )  # LeCun's deviation, over √(3 fan_in)


def test_claim_i5_its_signal_vanishes_by_the_third_layer():
    forward, backward = signal(i.lenet_uniform_, 3)
    for factor in (forward, backward):
        assert factor == pytest.approx((1 / 900) ** 3, rel=0.5)


@pytest.mark.parametrize("initialize", (lambda w: i.constant_(w, 0.1), i.zeros_))
def test_units_that_start_alike_stay_alike(initialize):
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    for layer in (net[0], net[2]):
        initialize(layer.weight)
        i.zeros_(layer.bias)
    x, labels = torch.randn(40, 6, generator=seeded()), torch.arange(40) % 3
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
    rows = net[0].weight.detach()
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    assert initialize is not i.zeros_ or (rows == 0).all()  # and zeros never leave 0


# Keras and the table of traps ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    return load_keras()


def trap(name):
    return TRAPS[f"initializers.{name}"]


@pytest.mark.slow
def test_the_layouts_are_permutations_of_each_other(keras):
    shape = trap("kernel_layout").torch()
    assert trap("kernel_layout").to_keras(shape) == trap("kernel_layout").keras(keras)
    assert i.compute_fans(shape) == i.compute_fans(trap("kernel_layout").keras(keras), layout="keras")


@pytest.mark.slow
def test_torchs_default_layer_can_be_had_in_keras(keras):
    torch.manual_seed(0)
    layer = nn.Linear(400, 200)
    argument = trap("dense_weights").to_keras(trap("dense_weights").torch())
    draw = keras.ops.convert_to_numpy(keras.initializers.VarianceScaling(**argument, seed=0)((400, 200)))
    for weight in (
        layer.weight.detach(),
        draw,
        i.variance_scaling_(torch.empty(200, 400), **argument, generator=seeded()),
    ):
        drawn_from(uniform_cdf, math.sqrt(1 / 1200), weight)
    bound = trap("dense_bias").to_keras(trap("dense_bias").torch())
    biases = keras.ops.convert_to_numpy(keras.initializers.RandomUniform(**bound, seed=0)((60_000,)))
    drawn_from(uniform_cdf, 0.05 / math.sqrt(3), biases)
    torch.manual_seed(0)
    drawn_from(uniform_cdf, 0.05 / math.sqrt(3), nn.Linear(400, 60_000).bias.detach())


@pytest.mark.slow
def test_torchs_embedding_can_be_had_in_keras(keras):
    argument = trap("embedding").to_keras(trap("embedding").torch())
    draw = keras.ops.convert_to_numpy(keras.initializers.RandomNormal(**argument, seed=0)((600, 100)))
    torch.manual_seed(0)
    for vectors in (draw, nn.Embedding(600, 100).weight.detach()):
        drawn_from(normal_cdf, 1.0, vectors)


@pytest.mark.slow
def test_torchs_kaiming_normal_can_be_had_in_keras(keras):
    assert trap("he_normal").keras(keras) == "cut off at 2.3 deviations"  # 2 / 0.88
    distribution = trap("he_normal").to_keras(trap("he_normal").torch())
    draw = keras.ops.convert_to_numpy(
        keras.initializers.VarianceScaling(2.0, "fan_in", distribution, seed=0)((IN, OUT))
    )
    for weight in (draw, i.kaiming_normal_(torch.empty(OUT, IN), generator=seeded())):
        drawn_from(normal_cdf, math.sqrt(2 / IN), weight)


@pytest.mark.slow
def test_only_the_variance_scaling_family_corrects_a_truncated_draw(keras):
    std = trap("truncated_deviation").to_keras(trap("truncated_deviation").torch())
    assert std == trap("truncated_deviation").keras(keras) == round(i.truncated_deviation(2), 2)
    corrected = i.trunc_normal_(torch.empty(60_000), generator=seeded())
    drawn_from(truncated_cdf, 1.0, corrected)
    raw = keras.ops.convert_to_numpy(keras.initializers.TruncatedNormal(stddev=1.0, seed=0)((60_000,)))
    drawn_from(truncated_cdf, i.truncated_deviation(2), raw)
    drawn_from(truncated_cdf, i.truncated_deviation(2), nn.init.trunc_normal_(torch.empty(60_000), generator=seeded()))


@pytest.mark.slow
def test_true_fans_of_transposed_and_depthwise_kernels_against_what_the_frameworks_use(keras):
    used = trap("transposed_fan_in").torch()
    assert trap("transposed_fan_in").to_keras(used) == trap("transposed_fan_in").keras(keras) == 36
    assert i.compute_fans((16, 4, 3, 3)).fan_in == 36 and i.compute_fans((16, 4, 3, 3), transposed=True).fan_in == 144
    true = i.compute_fans((3, 3, 32, 1), layout="keras", depthwise=True)
    assert trap("depthwise_fan_in").torch() == true.fan_in == 9
    assert trap("depthwise_fan_in").keras(keras) == i.compute_fans((3, 3, 32, 1), layout="keras").fan_in == 288
    axes = trap("depthwise_fan_in").to_keras(9)
    draw = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform", seed=0, **axes)((3, 3, 6000, 1))
    drawn_from(uniform_cdf, 1 / 3, keras.ops.convert_to_numpy(draw))


@pytest.mark.slow
def test_the_default_bounds_of_torchs_truncated_normal_cut_nothing_off(keras):
    assert trap("truncation_bounds").torch() == "not truncated" != trap("truncation_bounds").keras(keras)


def test_the_table_of_traps_has_each_id_once():
    assert len(TRAPS) == len(CONVENTIONS)


def test_everything_named_is_there_and_documented():
    assert sorted(i.__all__) == sorted(set(i.__all__))
    for name in i.__all__:
        assert getattr(i, name).__doc__
