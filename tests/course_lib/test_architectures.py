"""course_lib.architectures: published parameter counts, the parts against their formulas, every net run.

The same nets in Keras are in test_keras_twin.py; what they cost is in test_accounts.py.
"""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import architectures as a

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
MOBILENET = {
    "widths": (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024),
    "strides": (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1),
}
# name: (a small one of each design, shape of its input, classes)
NETS = {
    "lenet5": (a.lenet5, (1, 32, 32), 10),
    "lenet5_modern": (a.lenet5_modern, (1, 28, 28), 10),
    "mlp": (partial(a.mlp, 12, 3, depth=3, width=5, batch_norm=True, dropout=0.2), (3, 2, 2), 3),
    "vgg": (partial(a.vgg, 3, 5, image_size=16, widths=(4, 8), convs=(1, 2), batch_norm=True), (3, 16, 16), 5),
    "vgg19": (partial(a.vgg19, 3, 5, image_size=32, width=4, hidden=16), (3, 32, 32), 5),
    "resnet": (partial(a.resnet, 3, 4, widths=(4, 8), blocks=(2, 1)), (3, 13, 9), 4),
    "plain net": (partial(a.resnet, 3, 4, widths=(4, 8), blocks=(2, 1), residual=False), (3, 13, 9), 4),
    "separable": (partial(a.separable_net, 3, 4, widths=(4, 8, 8), strides=(1, 2, 1)), (3, 13, 9), 4),
    "expression": (partial(a.expression_net, width=3, hidden=8, image_size=13), (3, 13, 13), 7),
    "expression, shared": (
        partial(a.expression_net, width=3, hidden=8, image_size=12, padding=0, share_slopes=True),
        (3, 12, 12),
        7,
    ),
    "cats and dogs": (partial(a.cats_and_dogs_net, width=4, hidden=8, image_size=30), (3, 30, 30), 1),
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def example(name, n=3, dtype=torch.float32, device="cpu"):
    make, shape, _ = NETS[name]
    torch.manual_seed(0)
    net = make().to(device=device, dtype=dtype)
    return net, torch.randn(n, *shape, generator=torch.Generator().manual_seed(1)).to(device=device, dtype=dtype)


# what was published ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "parameters"),
    (
        (a.lenet5, 60_000),  # LeCun et al. 1998, section II.B
        (a.lenet5_modern, 61_706),
        (a.vgg19, 143_667_240),  # Simonyan & Zisserman, table 2: 144 million
        (partial(a.vgg19, classes=10, image_size=32), 38_947_914),
        (partial(a.resnet, 3, 10), 272_474),  # He et al. 2016, table 6: 0.27 million for 20 layers
        (partial(a.resnet, 3, 10, blocks=(9, 9, 9)), 855_770),  # 0.85 million for 56
        (partial(a.separable_net, 3, 1000, **MOBILENET), 4_231_976),  # Howard et al. 2017: 4.2 million
    ),
)
def test_full_size_nets_have_the_published_numbers_of_parameters(make, parameters):
    with torch.device("meta"):
        assert count(make()) == parameters


def test_lenets_layers_have_the_published_numbers_of_parameters():
    net = a.lenet5()
    published = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}
    assert {name: count(net.get_submodule(name)) for name in published} == published
    assert [len(row) for row in a.LENET_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert len(set(a.LENET_TABLE)) == 16
    uses = [sum(i in row for row in a.LENET_TABLE) for i in range(6)]
    assert uses == [10] * 6  # each map of S2 is seen by ten of C3's


def test_lenet_starts_within_its_bounds():
    """Uniform in ±2.4/fan_in: the variance within six standard errors for three layers (false alarm: 6e-9)."""
    torch.manual_seed(0)
    net = a.lenet5()
    for weight, bound in ((net.c5.weight, 2.4 / 400), (net.f6.weight, 2.4 / 120), (net.c3.weight[:18], 2.4 / 75)):
        w = weight.detach().double() / bound
        assert w.abs().max() <= 1 + 1e-6
        assert abs(w.square().mean() - 1 / 3) < 6 * (4 / 45 / w.numel()) ** 0.5
    assert net.s2.weight.abs().max() <= 0.6


def test_resnet_20_has_20_weighted_layers_on_its_main_path():
    net = a.resnet(3, 10)
    layers = [
        name for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == 20
    assert len([name for name, _ in net.named_modules() if name.endswith("shortcut.conv")]) == 2
    plain = a.resnet(3, 10, residual=False)
    assert count(net) - count(plain) == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


def test_the_heads_for_transfer_share_the_net_and_cost_what_the_question_fears():
    with torch.device("meta"):
        base = a.vgg19()
        on_fc2, on_conv = a.head_on_fc2(base, 10), a.head_on_conv(base, 10)
    assert count(on_conv.head.fc) == 102_764_544
    assert count(on_conv) - count(base.features) - 102_764_544 == 2 * 4096 + 40_970
    assert count(on_fc2) == count(base) - 4_097_000 + 2 * 4096 + 40_970
    assert on_fc2.features is base.features is on_conv.features and on_fc2.fc.fc2 is base.classifier.fc2
    assert not any(isinstance(m, nn.Dropout) for m in on_fc2.fc)  # cut where Keras's net has none
    assert [type(m).__name__ for m in on_fc2.head] == ["Dropout", "BatchNorm1d", "Linear"]
    assert [type(m).__name__ for m in on_conv.head][2:] == ["ReLU", "Dropout", "BatchNorm1d", "Linear"]


def test_the_heads_compute_from_the_kept_layers():
    net, x = example("vgg19")
    net.eval()
    on_fc2, on_conv = a.head_on_fc2(net, 2).eval(), a.head_on_conv(net, 2, hidden=6).eval()
    c = net.classifier
    codes = F.relu(c.fc2(F.relu(c.fc1(net.features(x).flatten(1)))))
    torch.testing.assert_close(on_fc2(x), on_fc2.head(codes))
    torch.testing.assert_close(on_conv(x), on_conv.head(net.features(x)))
    with pytest.raises(ValueError, match="has no layer fc2"):
        a.head_on_fc2(a.vgg(3, 2, image_size=8, hidden=(4,)), 2)


def test_the_askers_net_has_a_slope_for_every_unit():
    net = a.expression_net()
    assert count(net.prelu1) == 48 * 48 * 32 == 73_728
    assert count(a.expression_net(padding=0).prelu1) == 46 * 46 * 32
    assert count(a.expression_net(share_slopes=True).prelu1) == 32
    assert not net.prelu1.weight.any() and not net.dense.bias.any()
    assert (net.norm1.eps, net.norm1.momentum) == (1e-3, 0.01)


# parts against their formulas --------------------------------------------------------------------------------


def gradients(f, *inputs):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = f(*leaves)
    v = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
    return y, *torch.autograd.grad((y * v).sum(), leaves)


def rand(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def same(got, expected):
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * float(other.detach().abs().max()))


def functional(layer, x):
    """(x, *parameters) → layer(x), the parameters in the order of `parameters()`."""
    names = [name for name, _ in layer.named_parameters()]
    values = [parameter.detach() for parameter in layer.parameters()]
    return gradients(lambda x, *p: torch.func.functional_call(layer, dict(zip(names, p, strict=True)), x), x, *values)


def test_table_conv_is_an_ordinary_one_with_the_missing_kernels_at_zero():
    layer = a.TableConv2d(6, a.LENET_TABLE, 5).double()
    assert layer.weight.shape == (60, 5, 5)
    x = rand(2, 6, 9, 8)
    full = layer.full_weight().detach()
    y, dx, dw, db = functional(layer, x)
    y2, dx2, dfull, db2 = gradients(lambda x, w, b: F.conv2d(x, w, b), x, full, layer.bias)
    out, source = layer.connections
    same((y, dx, dw, db), (y2, dx2, dfull[out, source], db2))
    absent = torch.ones(16, 6, dtype=torch.bool)
    absent[out, source] = False
    assert not full[absent].any() and full[~absent].all()
    assert "pairs=60" in repr(layer) and list(layer.state_dict()) == ["weight", "bias"]


def test_table_conv_of_single_maps_is_a_depthwise_one():
    layer = a.TableConv2d(3, [[0], [1], [2]], 3)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight.unsqueeze(1), layer.bias, groups=3))


@pytest.mark.parametrize("table", ([[0, 3]], [[0], []], [[1, 1]], [[-1]]))
def test_table_conv_refuses_a_table_that_cannot_be(table):
    with pytest.raises(ValueError, match="lists some of the maps 0 to 2"):
        a.TableConv2d(3, table, 3)


@pytest.mark.parametrize("size", ((4, 6), (5, 7)))
def test_subsampling_is_a_scaled_sum_of_each_window(size):
    layer = a.Subsample2d(3).double()
    nn.init.normal_(layer.bias)
    x = rand(2, 3, *size)
    same(
        functional(layer, x),
        gradients(
            lambda x, w, b: 4 * F.avg_pool2d(x, 2) * w[:, None, None] + b[:, None, None], x, layer.weight, layer.bias
        ),
    )
    torch.testing.assert_close(a.Subsample2d(3)(x.float()), F.avg_pool2d(x.float(), 2))  # starts as a mean


def test_scaled_tanh_passes_through_plus_and_minus_one_and_stays_finite():
    x = torch.tensor([1.0, -1.0, 1e4, -1e4, 0.0], dtype=torch.float64, requires_grad=True)
    y = a.ScaledTanh()(x)
    torch.testing.assert_close(y[:2].detach(), x[:2].detach(), rtol=1e-4, atol=0)
    assert y[2:].tolist() == [1.7159, -1.7159, 0]
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope[4] == pytest.approx(1.7159 * 2 / 3) and not slope[2:4].any()


@pytest.mark.parametrize("scale", (1.0, 1e4))
def test_rbf_is_the_squared_distance_also_where_expanding_it_would_cancel(scale):
    codes = torch.randint(0, 2, (10, 84)).float() * 2 - 1
    x = scale * codes[:3] + torch.randn(3, 84) * 1e-3 * scale
    got = a.EuclideanRBF(scale * codes)(x)
    exact = -torch.cdist(x.double(), scale * codes.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(got.double(), exact, rtol=84 * 2**-23, atol=0)
    assert got.argmax(1).tolist() == [0, 1, 2]


def test_cross_entropy_of_lenets_output_is_the_papers_criterion():
    net, x = example("lenet5", dtype=torch.float64)
    distances = -net(x)
    target = torch.tensor([3, 1, 4])
    paper = (distances.gather(1, target[:, None]).squeeze(1) + (-distances).exp().sum(1).log()).mean()
    torch.testing.assert_close(F.cross_entropy(net(x), target), paper)


def test_elementwise_prelu_is_torchs_where_slopes_are_shared():
    ours, theirs = a.ElementwisePReLU((3, 4, 5)).double(), nn.PReLU(3).double()
    nn.init.normal_(theirs.weight)
    with torch.no_grad():
        ours.weight.copy_(theirs.weight.view(3, 1, 1).expand(3, 4, 5))
    x = rand(2, 3, 4, 5)
    x[0, 0, 0] = torch.tensor([0.0, -0.0, 1e4, -1e4, 5e-324], dtype=torch.float64)
    (y, dx, dw), (y2, dx2, dw2) = functional(ours, x), functional(theirs, x)
    same((y, dx, dw.sum((1, 2))), (y2, dx2, dw2))
    assert torch.equal(a.ElementwisePReLU((3,))(torch.tensor([[-1.0, 0.0, 2.0]])), torch.tensor([[0.0, 0.0, 2.0]]))
    strided = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(ours(strided), ours(x))
    assert ours(x.contiguous(memory_format=torch.channels_last)).shape == x.shape and "(3, 4, 5)" in repr(ours)


@pytest.mark.parametrize(("args", "projected"), (((4, 4), False), ((4, 6), True), ((4, 4, 2), True)))
def test_residual_block_is_the_relu_of_branch_plus_shortcut(args, projected):
    block = a.ResidualBlock(*args).double()
    x = rand(3, 4, 7, 5)
    stride = args[2] if len(args) > 2 else 1
    b = block.branch

    def formula(x):
        y = F.relu(F.batch_norm(F.conv2d(x, b.conv1.weight, stride=stride, padding=1), None, None, training=True))
        y = F.batch_norm(F.conv2d(y, b.conv2.weight, padding=1), None, None, training=True)
        if projected:
            x = F.batch_norm(F.conv2d(x, block.shortcut.conv.weight, stride=stride), None, None, training=True)
        return F.relu(y + x)

    assert isinstance(block.shortcut, nn.Identity) is not projected
    same(gradients(block, x), gradients(formula, x))


def test_a_block_without_shortcut_is_its_branch_and_one_with_a_silent_branch_the_identity():
    plain, block = a.ResidualBlock(4, 4, residual=False), a.ResidualBlock(4, 4)
    x = torch.randn(2, 4, 5, 5)
    assert plain.shortcut is None
    torch.testing.assert_close(plain(x), F.relu(plain.branch(x)))
    nn.init.zeros_(block.branch.norm2.weight)
    torch.testing.assert_close(block(x), F.relu(x))


def test_a_separable_block_is_a_convolution_whose_kernel_is_an_outer_product():
    block = a.separable_block(3, 5, stride=2).double().eval()
    block.relu1 = nn.Identity()  # only without the nonlinearity between them
    x = rand(2, 3, 8, 7)
    eps = 1 + block.norm1.eps
    kernel = block.depthwise.weight.transpose(0, 1) * block.pointwise.weight / eps  # (5, 3, 3, 3)
    same((block(x),), (F.relu(F.conv2d(x, kernel, stride=2, padding=1)),))


def test_mlp_is_the_chain_of_its_layers():
    net = a.mlp(6, 2, depth=2, width=4, activation=nn.Tanh).double()
    x = rand(3, 2, 3)
    h = torch.tanh(net.dense2(torch.tanh(net.dense1(x.flatten(1)))))
    assert torch.equal(net(x), net.output(h))
    full = a.mlp(6, 2, depth=1, width=4, batch_norm=True, dropout=0.3)
    assert [type(m).__name__ for m in full] == ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert count(a.mlp(6, 2, depth=0, width=4)) == 14


def test_mlp_starts_as_asked():
    net = a.mlp(6, 2, depth=2, width=4, init=partial(nn.init.constant_, val=0.5))
    assert all((m.weight == 0.5).all() and not m.bias.any() for m in net if isinstance(m, nn.Linear))
    torch.manual_seed(0)
    ours = a.mlp(6, 2, depth=1, width=4)
    torch.manual_seed(0)
    assert torch.equal(ours.dense1.weight, nn.Linear(6, 4).weight)  # PyTorch's own, unless asked


def test_conv_nets_start_from_hes_variance():
    """Six standard errors for each of three layers, normal weights: false alarm 6e-9."""
    torch.manual_seed(0)
    res, vgg = a.resnet(3, 10), a.vgg(3, 5, image_size=16)
    for weight, fan in (
        (res.stage1_block1.branch.conv1.weight, 16 * 9),
        (res.stage2_block1.branch.conv1.weight, 32 * 9),  # fan_out
        (vgg.features.block3_conv1.weight, 32 * 9),  # fan_in
    ):
        assert abs(weight.square().mean() * fan / 2 - 1) < 6 * (2 / weight.numel()) ** 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda: a.lenet5_modern(image_size=11), "at least 12"),
        (lambda: a.cats_and_dogs_net(image_size=21), "at least 22"),
        (lambda: a.mlp(3, 2, depth=-1, width=4), "depth has to be"),
        (lambda: a.mlp(3, 2, depth=1, width=0), "width at least 1"),
        (lambda: a.vgg(3, 2, image_size=32, widths=(4,)), "one number a block"),
        (lambda: a.vgg(3, 2, image_size=7), "images of 8 pixels"),
        (lambda: a.resnet(3, 2, widths=(4,)), "one number a stage"),
        (lambda: a.separable_net(3, 2, widths=(4,)), "one number a layer"),
    ),
)
def test_designs_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_smallest_images_still_pass():
    assert a.lenet5_modern(image_size=12)(torch.randn(2, 1, 12, 12)).shape == (2, 10)
    assert a.cats_and_dogs_net(image_size=22, width=2)(torch.randn(2, 3, 22, 22)).shape == (2, 1)


# every net ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", (0, 1, 3))
@pytest.mark.parametrize("name", NETS)
def test_every_net_takes_any_batch_and_is_repeatable_in_evaluation(name, n, device):
    net, x = example(name, n, device=device)
    net.eval()
    y = net(x)
    assert y.shape == (n, NETS[name][2]) and y.device == x.device and y.dtype == x.dtype
    assert torch.equal(net(x), y)


@pytest.mark.parametrize("name", NETS)
def test_layout_in_memory_does_not_change_the_answer(name):
    net, x = example(name, dtype=torch.float64)
    net.eval()
    y = net(x).detach()
    for other in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        torch.testing.assert_close(net(other), y, rtol=1e-12, atol=1e-12 * float(y.abs().max()))


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_learns_and_the_state_travels(name):
    net, x = example(name, 4)
    target = torch.zeros(4, dtype=torch.long) if NETS[name][2] > 1 else torch.zeros(4, 1)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    loss = (F.cross_entropy if target.dim() == 1 else F.binary_cross_entropy_with_logits)(net(x), target)
    loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    torch.manual_seed(9)
    other = NETS[name][0]()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(x), net.eval()(x))
    assert torch.equal(copy.deepcopy(net)(x), net(x))


@pytest.mark.parametrize("name", NETS)
def test_bfloat16_strays_by_a_few_roundings_a_layer(name):
    """Relative to the largest output: 2⁻⁸ a rounding, at most three in each layer, magnified at most twofold in all."""
    net, x = example(name)
    net.eval()
    layers = sum(1 for m in net.modules() if not list(m.children()))
    got = copy.deepcopy(net).bfloat16()(x.bfloat16()).float()
    expected = net(x)
    assert ((got - expected).abs().max() / expected.abs().max()).item() < 2 * 3 * layers * 2**-8


@pytest.mark.parametrize("name", ("resnet", "separable"))
def test_nets_with_a_global_average_take_other_sizes(name):
    net, _ = example(name)
    assert net.eval()(torch.randn(2, 3, 20, 31)).shape == (2, 4)


def test_inputs_of_1e4_stay_finite():
    for name in NETS:
        net, x = example(name)
        assert net.eval()(1e4 * x).isfinite().all(), name


def test_everything_named_is_there_and_documented():
    for name in a.__all__:
        thing = getattr(a, name)
        assert not callable(thing) or thing.__doc__
