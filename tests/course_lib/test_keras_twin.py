"""course_lib.keras_twin: every net in both frameworks with the same weights, and the sources' own Keras code."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from course_lib import accounts, quiet
from course_lib import architectures as a
from course_lib.conventions.architectures import CONVENTIONS
from course_lib.keras_twin import to_keras, to_keras_images

pytestmark = pytest.mark.slow

NETS = {
    "lenet5": (a.lenet5, (1, 32, 32)),
    "lenet5_modern": (a.lenet5_modern, (1, 28, 28)),
    "mlp": (partial(a.mlp, 12, 3, depth=2, width=5, activation=nn.SELU, batch_norm=True), (3, 2, 2)),
    "mlp of features": (partial(a.mlp, 4, 3, depth=1, width=5, activation=nn.ELU), (4,)),
    "vgg": (partial(a.vgg, 3, 5, image_size=16, widths=(4, 8), convs=(1, 2), batch_norm=True), (3, 16, 16)),
    "vgg19": (partial(a.vgg19, 3, 5, image_size=32, width=4, hidden=16), (3, 32, 32)),
    "head on fc2": (lambda: a.head_on_fc2(a.vgg19(image_size=32, width=4, hidden=16), 5), (3, 32, 32)),
    "head on conv": (lambda: a.head_on_conv(a.vgg19(image_size=64, width=4), 5, hidden=9), (3, 64, 64)),
    "resnet": (partial(a.resnet, 3, 4, widths=(4, 8), blocks=(2, 1)), (3, 13, 10)),
    "plain net": (partial(a.resnet, 3, 4, widths=(4, 8), blocks=(2, 1), residual=False), (3, 12, 9)),
    "separable": (partial(a.separable_net, 3, 4, widths=(4, 8, 8), strides=(1, 2, 1)), (3, 14, 9)),
    "expression": (partial(a.expression_net, width=3, hidden=8, image_size=13), (3, 13, 13)),
    "expression, shared": (
        partial(a.expression_net, width=3, hidden=8, image_size=12, padding=0, share_slopes=True),
        (3, 12, 12),
    ),
    "cats and dogs": (partial(a.cats_and_dogs_net, width=4, hidden=8, image_size=30), (3, 30, 30)),
    "other layers": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, (3, 5), padding="same", dilation=(2, 1)),
            nn.LeakyReLU(0.25),
            nn.Conv2d(4, 8, 3, padding=(1, 0), groups=4),  # two filters a map
            nn.ELU(0.7),
            nn.Dropout2d(0.3),
            nn.AvgPool2d((2, 3), stride=2),
            nn.Conv2d(8, 3, 1, padding="valid", bias=False),
            nn.SiLU(),
            nn.Flatten(),
            nn.BatchNorm1d(3 * 4 * 3, affine=False),
            nn.PReLU(3 * 4 * 3),
            nn.Identity(),
            nn.Linear(3 * 4 * 3, 2, bias=False),
            nn.Sigmoid(),
            nn.Linear(2, 2),
            nn.Tanh(),
        ),
        (2, 9, 10),
    ),
}


@pytest.fixture(scope="module")
def keras():
    return quiet.load_keras()


def example(name, dtype):
    make, shape = NETS[name]
    torch.manual_seed(0)
    net = make().to(dtype)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if (
                tensor.dim() == 1 and tensor.is_floating_point()
            ):  # biases, norms, statistics, slopes: all away from start
                tensor.add_(0.3 * torch.rand_like(tensor))
            elif isinstance(tensor, nn.Parameter) and not tensor.any():
                tensor.uniform_(0.1, 0.4)
    return net, torch.randn(3, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
@pytest.mark.parametrize("name", NETS)
def test_the_twin_gives_the_same_outputs(keras, name, dtype):
    """float64 within 1e-12 of the largest output; float32 within 2⁻²³ · 100, some tens of roundings a layer."""
    net, x = example(name, dtype)
    with torch.no_grad():
        expected = net.eval()(x).numpy()
    twin = to_keras(net, tuple(x.shape[1:]))
    got = np.array(twin(to_keras_images(x)))
    assert got.dtype == expected.dtype and twin.input_shape == (None, *to_keras_images(x).shape[1:])
    tolerance = 1e-12 if dtype == torch.float64 else 100 * 2**-23
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("layer", (nn.LeakyReLU(0.2), nn.GELU(), nn.GELU("tanh")))
def test_tensorflow_holds_the_constants_of_these_in_float32_whatever_the_dtype(keras, layer):
    net = nn.Sequential(nn.Linear(7, 7), layer).double()
    x = torch.randn(50, 7, dtype=torch.float64)
    off = np.abs(np.array(to_keras(net, (7,))(x.numpy())) - net(x).detach().numpy()).max()
    assert 1e-12 < off < 1e-6  # 2⁻²⁴ of the value; were it under 1e-12, they could join the test above


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("lenet5", "other layers")])
def test_keras_counts_what_the_account_counts(keras, name):
    net, x = example(name, torch.float32)
    twin = to_keras(net, tuple(x.shape[1:]))
    account = accounts.account(net, tuple(x.shape[1:]))
    assert twin.count_params() == account.parameters + account.statistics
    trainable = sum(int(np.prod(weight.shape)) for weight in twin.trainable_weights)
    assert trainable == account.parameters


@pytest.mark.parametrize("name", ("mlp", "vgg", "resnet", "separable"))
def test_in_training_too_and_the_statistics_move_alike(keras, name):
    net, x = example(name, torch.float64)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    twin = to_keras(net, tuple(x.shape[1:]))
    got = np.array(twin(to_keras_images(x), training=True))
    with torch.no_grad():
        expected = net.train()(x).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    ours = [m.running_mean.numpy() for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    theirs = {layer.moving_mean.shape: [] for layer in twin.layers if hasattr(layer, "moving_mean")}
    for layer in twin.layers:
        if hasattr(layer, "moving_mean"):
            theirs[layer.moving_mean.shape].append(np.array(layer.moving_mean))
    for mean in ours:  # Keras lists the layers of two branches in another order
        assert any(np.allclose(mean, other, rtol=0, atol=1e-12) for other in theirs[mean.shape])


def test_the_conventions_are_what_the_frameworks_do(keras):
    table = {c.id.removeprefix("architectures."): c for c in CONVENTIONS}
    assert len(table) == len(CONVENTIONS) and all(c.trap for c in CONVENTIONS)
    for name in ("feature_maps", "conv_kernel", "depthwise_kernel", "dense_kernel", "flatten", "batch_norm_count"):
        assert table[name].to_keras(table[name].torch()) == table[name].keras(keras), name
        assert table[name].torch() != table[name].keras(keras), name
    assert table["flatten"].keras(keras) == ("H", "W", "C")
    slopes, start = table["prelu_slopes"], table["prelu_start"]
    assert (slopes.torch(), slopes.keras(keras)) == (1, 30)
    assert (start.torch(), start.keras(keras)) == (0.25, 0.0)
    layer = keras.layers.PReLU(alpha_initializer=keras.initializers.Constant(start.to_keras(start.torch())))
    x = np.array([[-1.0, 2.0]], "float32")
    np.testing.assert_allclose(np.array(layer(x)), nn.PReLU()(torch.tensor(x)).detach().numpy())


# the sources' own code ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ("same", "valid"))
def test_the_expression_net_is_the_askers_keras_code(keras, border):
    layers = keras.layers
    theirs = keras.Sequential(
        [
            keras.Input((48, 48, 3)),
            layers.Conv2D(32, 3, padding=border),
            layers.BatchNormalization(),
            layers.PReLU(),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(256),
            layers.BatchNormalization(),
            layers.PReLU(),
            layers.Dropout(0.5),
            layers.Dense(7),
            layers.Activation("softmax"),
        ]
    )
    ours = a.expression_net(padding=1 if border == "same" else 0).eval()
    twin = to_keras(ours, (3, 48, 48))
    assert [w.shape for w in theirs.weights] == [w.shape for w in twin.weights]
    for one, other in zip(theirs.layers, twin.layers[-len(theirs.layers) + 1 :], strict=False):
        if isinstance(one, layers.BatchNormalization):
            assert (one.momentum, one.epsilon) == (other.momentum, other.epsilon)
    theirs.set_weights(twin.get_weights())
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        expected = ours(x).softmax(1).numpy()
    np.testing.assert_allclose(np.array(theirs(to_keras_images(x))), expected, atol=1e-5)


def test_the_cats_and_dogs_net_is_the_askers_keras_code_and_its_input_shape_no_longer_works(keras):
    layers = keras.layers

    def quoted(input_shape):
        net = keras.Sequential([keras.Input(input_shape)])
        for maps in (32, 32, 64):
            net.add(layers.Conv2D(maps, (3, 3)))
            net.add(layers.Activation("relu"))
            net.add(layers.MaxPooling2D(pool_size=(2, 2)))
        return net

    ours = a.cats_and_dogs_net()
    twin = to_keras(ours, (3, 150, 150))
    shapes = [w.shape for w in quoted((150, 150, 3)).weights]
    assert [w.shape for w in twin.weights[: len(shapes)]] == shapes
    with pytest.raises(ValueError, match="zero or negative"):
        quoted((3, 150, 150))  # channels first, as the question has it: a row of pixels with 150 channels


def test_keras_own_vgg19_has_our_layers(keras):
    theirs = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    with torch.device("meta"):
        ours = a.vgg19()
    convs = {name: m for name, m in ours.features.named_children() if isinstance(m, nn.Conv2d)}
    named = {layer.name: layer for layer in theirs.layers if layer.weights}
    assert list(convs) == list(named)
    for name, conv in convs.items():
        assert sum(p.numel() for p in conv.parameters()) == named[name].count_params()


def test_keras_own_mobilenet_has_as_many_parameters(keras):
    theirs = keras.applications.MobileNet(weights=None, classes=10, input_shape=(32, 32, 3))
    widths, strides = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024), (2, 1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)
    with torch.device("meta"):
        account = accounts.account(a.separable_net(3, 10, widths=widths, strides=strides), (3, 32, 32))
    assert theirs.count_params() == account.parameters + account.statistics


@pytest.mark.parametrize(
    ("layer", "shape", "error", "message"),
    (
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (2, 5, 5), ValueError, "not by 'reflect'"),
        (nn.Conv2d(4, 4, 3, groups=2), (4, 5, 5), ValueError, "grouped convolution"),
        (nn.MaxPool2d(2, ceil_mode=True), (2, 5, 5), ValueError, "without padding"),
        (nn.AvgPool2d(2, padding=1), (2, 5, 5), ValueError, "without padding"),
        (nn.AdaptiveAvgPool2d(2), (2, 5, 5), ValueError, "the whole map or not at all"),
        (nn.BatchNorm2d(2, track_running_stats=False), (2, 5, 5), ValueError, "tracks its statistics"),
        (nn.BatchNorm2d(2, momentum=None), (2, 5, 5), ValueError, "by a momentum"),
        (nn.LSTM(2, 2), (3, 2), TypeError, "no Keras twin of LSTM"),
    ),
)
def test_what_has_no_twin_is_refused(keras, layer, shape, error, message):
    with pytest.raises(error, match=message):
        to_keras(layer, shape)


def test_a_net_without_parameters_takes_the_default_dtype(keras):
    twin = to_keras(nn.Sequential(nn.ReLU(), nn.Flatten()), (2, 1, 2))
    assert np.array(twin(np.ones((1, 1, 2, 2), "float32"))).dtype == np.float32
