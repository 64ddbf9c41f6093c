"""course_lib.accounts against what PyTorch does: shapes, parameters, multiply-adds, what is kept, what is freed.

The forecasts hold to the byte on a CPU: they are compared with `diagnostics.step_memory` and `peak_memory`, which
measure. Keras's own counts are in test_keras_twin.py.
"""

import itertools
from dataclasses import FrozenInstanceError
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib import accounts, diagnostics, dropout
from course_lib import architectures as a
from course_lib.accounts import Layer, account, describe, forecast

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
NETS = {
    "lenet5": (a.lenet5, (1, 32, 32)),
    "lenet5_modern": (a.lenet5_modern, (1, 28, 28)),
    "mlp": (partial(a.mlp, 12, 3, depth=3, width=5, activation=nn.ELU, batch_norm=True, dropout=0.2), (3, 2, 2)),
    "mlp of features": (partial(a.mlp, 12, 3, depth=1, width=5, activation=nn.Sigmoid), (12,)),
    "vgg": (partial(a.vgg, 3, 5, image_size=16, widths=(4, 8), convs=(1, 2), batch_norm=True), (3, 16, 16)),
    "head on fc2": (lambda: a.head_on_fc2(a.vgg19(image_size=32, width=4, hidden=16), 5), (3, 32, 32)),
    "resnet": (partial(a.resnet, 3, 4, widths=(4, 8), blocks=(2, 1)), (3, 13, 9)),
    "plain net": (partial(a.resnet, 3, 4, widths=(4, 8), blocks=(2, 1), residual=False), (3, 13, 9)),
    "separable": (partial(a.separable_net, 3, 4, widths=(4, 8, 8), strides=(1, 2, 1)), (3, 13, 9)),
    "expression": (partial(a.expression_net, width=3, hidden=8, image_size=13), (3, 13, 13)),
    "expression, shared": (
        partial(a.expression_net, width=3, hidden=8, image_size=12, padding=0, share_slopes=True),
        (3, 12, 12),
    ),
    "cats and dogs": (partial(a.cats_and_dogs_net, outputs=2, width=4, hidden=8, image_size=30), (3, 30, 30)),
}
# one of each layer that has a rule, with the shape of its input
LAYERS = {
    repr(layer): (layer, shape)
    for layer, shape in (
        *((kind(), (4, 6, 5)) for kind in (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.LeakyReLU, nn.ReLU6)),
        *((kind(), (4, 6, 5)) for kind in (nn.Hardtanh, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardswish)),
        *((kind(1), (4, 6, 5)) for kind in (nn.Softmax, nn.LogSoftmax)),
        (nn.ReLU(inplace=True), (4, 6, 5)),
        (nn.PReLU(4), (4, 6, 5)),
        (nn.PReLU(), (7,)),
        (a.ElementwisePReLU((4, 6, 5)), (4, 6, 5)),
        (a.ScaledTanh(), (4, 6, 5)),
        (a.Subsample2d(4), (4, 6, 5)),
        (a.TableConv2d(4, [[0, 1], [2], [1, 3]], 3), (4, 6, 5)),
        (a.EuclideanRBF(torch.ones(3, 7)), (7,)),
        (nn.Conv2d(4, 6, 3), (4, 6, 5)),
        (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False), (4, 6, 5)),
        (nn.Conv2d(4, 6, 3, padding="same"), (4, 6, 5)),
        (nn.Conv2d(4, 6, 3, padding="valid"), (4, 6, 5)),
        (nn.Linear(7, 3), (7,)),
        (nn.Linear(7, 3, bias=False), (2, 7)),
        (nn.BatchNorm2d(4), (4, 6, 5)),
        (nn.BatchNorm2d(4, affine=False), (4, 6, 5)),
        (nn.BatchNorm2d(4, track_running_stats=False), (4, 6, 5)),
        (nn.BatchNorm1d(7), (7,)),
        (nn.LayerNorm(5), (4, 6, 5)),
        (nn.LayerNorm((6, 5), elementwise_affine=False), (4, 6, 5)),
        (nn.GroupNorm(2, 4), (4, 6, 5)),
        (nn.MaxPool2d(2), (4, 6, 5)),
        (nn.MaxPool2d((3, 2), stride=2, padding=1, ceil_mode=True), (4, 6, 5)),
        (nn.MaxPool2d(2, dilation=2, stride=1), (4, 6, 5)),
        (nn.AvgPool2d(2), (4, 6, 5)),
        (nn.AvgPool2d(3, 2, 1), (4, 6, 5)),
        (nn.AdaptiveAvgPool2d(1), (4, 6, 5)),
        (nn.AdaptiveAvgPool2d((1, 1)), (4, 6, 5)),
        (nn.ZeroPad2d((1, 2, 3, 0)), (4, 6, 5)),
        (nn.Flatten(), (4, 6, 5)),
        (nn.Identity(), (4, 6, 5)),
        *((nn.Dropout(p), (4, 6, 5)) for p in (0.0, 0.4, 1.0)),
        *((nn.Dropout2d(p), (4, 6, 5)) for p in (0.0, 0.4)),
        *((dropout.Dropout(p), (4, 6, 5)) for p in (0.0, 0.4)),
        (dropout.Dropout2d(0.4), (4, 6, 5)),
    )
}
BATCH = 3


def net_and_batch(name, device="cpu", dtype=torch.float32):
    make, shape = NETS[name]
    torch.manual_seed(0)
    return make().to(device, dtype), torch.randn(BATCH, *shape, device=device, dtype=dtype), shape


def outputs_by_layer(net, x):
    """(name, shape without the batch) of every leaf's output, as forward hooks see them."""
    seen, handles = {}, []
    for name, module in net.named_modules():
        if not list(module.children()):
            handles.append(
                module.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out.shape[1:]}))
            )
    net(x)
    for handle in handles:
        handle.remove()
    return {name: tuple(shape) for name, shape in seen.items()}


@pytest.mark.parametrize("name", NETS)
def test_shapes_and_parameters_are_those_of_a_real_pass(name):
    net, x, shape = net_and_batch(name)
    rows = {row.name: row for row in account(net, shape).layers}
    seen = outputs_by_layer(net, x)
    assert {n: row.output_shape for n, row in rows.items() if row.kind != "add"} == seen
    modules = dict(net.named_modules())
    for n in seen:
        assert rows[n].parameters == sum(p.numel() for p in modules[n].parameters()), n
        assert rows[n].kind == type(modules[n]).__name__
        tracked = [buffer for b, buffer in modules[n].named_buffers() if b.startswith("running_")]
        assert rows[n].statistics == sum(buffer.numel() for buffer in tracked)
    total = account(net, shape)
    assert total.parameters == sum(p.numel() for p in net.parameters())
    assert total.output_shape == tuple(net(x).shape[1:])


@pytest.mark.parametrize("name", [name for name in NETS if name != "lenet5"])
def test_multiply_adds_are_half_of_torchs_flops(name):
    net, x, shape = net_and_batch(name)
    with FlopCounterMode(display=False) as counter:
        net.eval()(x)
    assert account(net, shape).multiply_adds * 2 * BATCH == counter.get_total_flops()


def test_lenets_multiply_adds_are_the_published_connections():
    """LeCun et al. 1998 count a bias as a connection."""
    rows = {row.name: row for row in account(a.lenet5(), (1, 32, 32)).layers}
    published = {"c1": 122_304, "c3": 151_600, "c5": 48_120}
    for name, connections in published.items():
        maps, height, width = rows[name].output_shape
        assert rows[name].multiply_adds + maps * height * width == connections


def test_vgg19_at_full_size_is_the_known_net_without_its_weights():
    with torch.device("meta"):
        net = a.vgg19()
    total = account(net, (3, 224, 224))
    assert (total.parameters, total.multiply_adds) == (143_667_240, 19_632_062_464)
    dense = [row for row in total.layers if row.kind == "Linear"]
    convs = [row for row in total.layers if row.kind == "Conv2d"]
    assert sum(row.parameters for row in dense) > 0.8 * total.parameters  # dense layers hold the weights,
    assert sum(row.multiply_adds for row in convs) > 0.99 * total.multiply_adds  # convolutions do the work
    memory = forecast(net, (3, 224, 224), 16)
    assert memory.parameters == 4 * 143_667_240
    assert memory.evaluation < memory.evaluation_with_gradients < memory.training


# receptive fields --------------------------------------------------------------------------------------------


def seen_pixels(net, shape):
    """(height, width) of the input that an output in the middle depends on: where its gradient is not 0."""
    x = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    y = net(x)
    middle = y[0, 0] if y.dim() == 2 else y[0, 0, y.shape[2] // 2, y.shape[3] // 2]
    (grad,) = torch.autograd.grad(middle, x)
    rows, columns = (grad[0] != 0).any(0).nonzero().T
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


def linear(net):
    """The same geometry with positive weights and no kinks, so that no gradient cancels or is cut off."""
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride))
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.5, 1.0)
    return net.double().eval()


@pytest.mark.parametrize(
    ("make", "shape", "row"),
    (
        (lambda: a.vgg(2, 3, image_size=96, widths=(2, 2), convs=(2, 2)).features, (2, 96, 96), -1),
        (lambda: a.resnet(2, 3, widths=(2, 2, 2), blocks=(1, 2, 1))[:-3], (2, 96, 96), -1),
        (lambda: a.separable_net(2, 3, widths=(2, 2, 2), strides=(2, 1, 2))[:-3], (2, 64, 64), -1),
        (
            lambda: nn.Sequential(nn.Conv2d(2, 2, (3, 5), (2, 1), dilation=(1, 3)), nn.AvgPool2d((1, 2))),
            (2, 40, 60),
            -1,
        ),
        (lambda: a.lenet5_modern(2, 3, image_size=28)[1:], (6, 28, 28), -1),
    ),
)
def test_receptive_fields_are_where_the_gradient_reaches(make, shape, row):
    net = linear(make())
    assert account(net, shape).layers[row].receptive_field == seen_pixels(net, shape)


def test_known_receptive_fields():
    with torch.device("meta"):
        rows = {row.name: row for row in account(a.vgg19(), (3, 224, 224)).layers}
    assert rows["features.block1_conv2"].receptive_field == (5, 5)
    assert rows["features.block5_pool"].receptive_field == (268, 268)
    assert rows["classifier.fc1"].receptive_field == (268 + 6 * 32,) * 2  # a dense layer is a 7 × 7 convolution
    assert rows["classifier.predictions"].receptive_field == rows["classifier.fc1"].receptive_field
    assert account(a.mlp(12, 3, depth=1, width=5), (12,)).layers[-1].receptive_field is None


# output sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", (7, 8, 11))
def test_sizes_are_torchs_for_every_option(size):
    x = torch.zeros(1, 1, size, size)
    for k, s, p, d in itertools.product((1, 2, 3), (1, 2, 3), (0, 1), (1, 2)):
        conv = nn.Conv2d(1, 1, k, s, p, d)
        assert account(conv, (1, size, size)).output_shape == tuple(conv(x).shape[1:]), conv
        for ceil in (False, True):
            if p <= k // 2:
                pool = nn.MaxPool2d(k, s, p, d, ceil_mode=ceil)
                assert account(pool, (1, size, size)).output_shape == tuple(pool(x).shape[1:]), pool
            if p <= k // 2 and d == 1:
                pool = nn.AvgPool2d(k, s, p, ceil_mode=ceil)
                assert account(pool, (1, size, size)).output_shape == tuple(pool(x).shape[1:]), pool


# what is kept for the backward pass --------------------------------------------------------------------------


def kept(net, x):
    """Bytes that autograd saves in a forward pass, each storage once, without parameters, buffers and the batch."""
    aside = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers(), x)}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in aside:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = net(x)
    assert out.shape[1:] == account(net, x.shape[1:]).output_shape
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("frozen", (False, True))
@pytest.mark.parametrize("training", (True, False))
@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_keeps_what_its_rule_says(name, training, frozen):
    """Between two others: one whose output it may keep, and one that keeps nothing of its own."""
    layer, shape = LAYERS[name]
    layer = layer.train(training).requires_grad_(not frozen)
    net = nn.Sequential(nn.PReLU(shape[0]), layer)  # keeps its input, the batch
    assert account(net, shape).kept_bytes(BATCH) == kept(net, torch.randn(BATCH, *shape)), name


@pytest.mark.parametrize("dtype", (torch.float64, torch.bfloat16))
@pytest.mark.parametrize("name", ("lenet5_modern", "resnet", "cats and dogs"))
def test_bytes_follow_the_dtype(name, dtype):
    net, x, shape = net_and_batch(name, dtype=dtype)
    assert account(net, shape).kept_bytes(BATCH) == kept(net, x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NETS)
def test_the_forecast_of_training_is_what_a_step_takes_layer_by_layer(name, device):
    net, x, shape = net_and_batch(name, device)
    memory = diagnostics.step_memory(
        net, x, torch.zeros(BATCH, dtype=torch.long, device=device), torch.optim.Adam(net.parameters())
    )
    said = forecast(net, shape, BATCH, optimizer="adam")
    for kind in ("parameters", "buffers", "inputs", "activations", "gradients", "optimizer_state"):
        assert getattr(said, kind) == getattr(memory, kind), kind
    assert said.training == memory.total
    by_layer = dict(memory.by_layer)
    for row in account(net, shape).layers:
        assert row.kept_bytes * BATCH + row.kept_once == by_layer.get(row.name, 0), row.name


@pytest.mark.parametrize("frozen", ("features", "head"))
def test_frozen_parts_keep_nothing_below_what_learns(frozen):
    net, x, shape = net_and_batch("head on fc2")
    net.get_submodule(frozen).requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1, momentum=0.9)
    memory = diagnostics.step_memory(net, x, torch.zeros(BATCH, dtype=torch.long), optimizer)
    said = forecast(net, shape, BATCH, optimizer="momentum")
    assert said.training == memory.total and said.activations == memory.activations
    assert said.gradients == said.optimizer_state == memory.gradients < said.parameters
    if frozen == "features":
        assert not any(row.kept_bytes for row in account(net, shape).layers if row.name.startswith("features"))


@pytest.mark.parametrize("name", NETS)
def test_the_forecast_of_evaluation_is_what_a_pass_takes_at_its_highest(name):
    net, x, shape = net_and_batch(name)
    said = forecast(net, shape, BATCH)
    net.eval()
    with torch.no_grad():
        assert diagnostics.peak_memory(lambda: net(x)) == said.passing
    held = []
    live = diagnostics._Live()
    with live:
        held.append(net(x))  # with gradients on, though nobody asks for them
    assert live.now == said.recorded


def test_a_net_in_evaluation_is_forecast_without_its_dropout():
    net, _, shape = net_and_batch("lenet5_modern")
    assert forecast(net, shape, 4).activations == forecast(net.eval(), shape, 4).activations
    net, _, shape = net_and_batch("mlp")
    assert forecast(net, shape, 4).activations > forecast(net.eval(), shape, 4).activations


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "amsgrad": lambda p: torch.optim.Adam(p, amsgrad=True),
}


@pytest.mark.parametrize("name", accounts.OPTIMIZER_STATE)
def test_optimizer_states_are_torchs(name):
    net = a.mlp(6, 2, depth=2, width=5)
    x, y = torch.randn(4, 6), torch.zeros(4, dtype=torch.long)
    memory = diagnostics.step_memory(net, x, y, OPTIMIZERS[name](net.parameters()))
    assert forecast(net, (6,), 4, optimizer=name).optimizer_state == memory.optimizer_state


# layers of one's own, errors, tables -------------------------------------------------------------------------


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.weight


def test_a_layer_of_ones_own_needs_a_rule():
    net = nn.Sequential(Scale(), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(TypeError, match="no account of Scale: register a rule"):
        account(net, (1, 2, 2))
    describe.register(Scale, lambda module, shape, setting: Layer(shape, parameters=1, keeps_input=True))
    assert account(net, (1, 2, 2)).parameters == 11
    assert account(net, (1, 2, 2)).kept_bytes(5) == kept(net, torch.randn(5, 1, 2, 2))


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    (
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), (1, 2, 2), "1: Linear takes 5 features"),
        (nn.Conv2d(3, 2, 3), (1, 8, 8), r"Conv2d takes \(3, H, W\), but gets \(1, 8, 8\)"),
        (nn.Conv2d(3, 2, 3), (12,), "Conv2d takes"),
        (nn.Conv2d(3, 2, 3), (3, 2, 8), "leaves nothing of an image of 2 × 8"),
        (nn.MaxPool2d(3), (3, 2, 2), "leaves nothing"),
        (a.Subsample2d(3), (3, 1, 4), "leaves nothing"),
        (a.TableConv2d(3, [[0]], 5), (3, 4, 4), "leaves nothing"),
        (nn.BatchNorm2d(3), (2, 4, 4), "takes 3 maps"),
        (nn.AdaptiveAvgPool2d(2), (2, 4, 4), "one value a map"),
        (nn.Flatten(0), (2, 4, 4), "all axes but the batch's"),
        (nn.ELU(inplace=True), (4,), "ELU in place"),
        (a.ElementwisePReLU((3,)), (4,), "ElementwisePReLU takes"),
        (a.EuclideanRBF(torch.ones(2, 3)), (4,), "EuclideanRBF takes 3"),
    ),
)
def test_a_shape_that_does_not_fit_is_refused_by_the_layers_name(net, shape, message):
    with pytest.raises(ValueError, match=message):
        account(net, shape)


def test_a_block_whose_paths_do_not_meet_is_refused():
    block = a.ResidualBlock(2, 2)
    block.shortcut = nn.Conv2d(2, 3, 1)
    with pytest.raises(ValueError, match="0: the branch gives"):
        account(nn.Sequential(block), (2, 4, 4))


def test_bad_forecasts_are_refused():
    with pytest.raises(ValueError, match="optimizer has to be one of sgd, momentum"):
        forecast(nn.Linear(2, 2), (2,), 1, optimizer="best")
    with pytest.raises(ValueError, match="batch_size"):
        forecast(nn.Linear(2, 2), (2,), 0)


def test_the_tables_say_the_numbers_as_text_and_as_html():
    total = account(a.lenet5_modern(), (1, 28, 28))
    lines = str(total).splitlines()
    assert len(lines) == len(total.layers) + 2 and lines[-1].split()[:1] == ["all"] and "61,706" in lines[-1]
    assert "6 × 28 × 28" in lines[1] and "5 × 5" in lines[1]
    html = total._repr_html_()
    assert html.count("<tr>") == len(lines) and '<th scope="col"' in html and "61,706" in html and "<caption>" in html
    memory = forecast(a.lenet5_modern(), (1, 28, 28), 8, optimizer="adam")
    assert f"{memory.training:,}" in str(memory) and f"{memory.evaluation:,}" in memory._repr_html_()
    assert str(memory).splitlines()[0].split() == [
        *("bytes", "of", "training", "evaluation", "with", "gradients", "evaluation", "without")
    ]
    strange = account(nn.Sequential(), (3,))
    assert strange.output_shape == (3,) and strange.parameters == 0 and "all" in str(strange)
    assert "&lt;" in account(nn.Sequential(), ("<",))._repr_html_()
    with pytest.raises(FrozenInstanceError):
        total.layers = ()


def test_everything_named_is_there_and_documented():
    for name in accounts.__all__:
        thing = getattr(accounts, name)
        assert not callable(thing) or thing.__doc__
