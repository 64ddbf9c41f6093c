"""Nets that the lessons build, measure and compare, each an `nn.Sequential` whose parts carry names.

Images come in as (N, C, H, W), logits (N, classes) go out: no net here ends in a softmax, because the loss applies it.
Every width and image size is an argument, so that the same design runs at its published size and at one that trains on
a processor. `course_lib.keras_twin` makes the same net in Keras, with the same weights.

Sources: LeCun et al. 1998 (LeNet-5); Simonyan & Zisserman 2015 (VGG, arXiv:1409.1556); He et al. 2016 (ResNet,
arXiv:1512.03385); Howard et al. 2017 (MobileNet, arXiv:1704.04861); He et al. 2015 (PReLU and initialization,
arXiv:1502.01852).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "LENET_TABLE",
    "ElementwisePReLU",
    "EuclideanRBF",
    "ResidualBlock",
    "ScaledTanh",
    "Subsample2d",
    "TableConv2d",
    "cats_and_dogs_net",
    "expression_net",
    "head_on_conv",
    "head_on_fc2",
    "lenet5",
    "lenet5_modern",
    "mlp",
    "resnet",
    "separable_block",
    "separable_net",
    "vgg",
    "vgg19",
]

Activation = Callable[[], nn.Module]
Initializer = Callable[[Tensor], object]  # fills a weight in place, as nn.init.xavier_uniform_


# LeNet-5 -----------------------------------------------------------------------------------------------------

# which of S2's six maps each of C3's sixteen sees (LeCun et al. 1998, table I)
LENET_TABLE: tuple[tuple[int, ...], ...] = (
    *(tuple(sorted((i + k) % 6 for k in range(3))) for i in range(6)),
    *(tuple(sorted((i + k) % 6 for k in range(4))) for i in range(6)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


class ScaledTanh(nn.Module):
    """1.7159 · tanh(2x/3), LeNet's squashing function: f(1) = 1, f(−1) = −1, steepest curvature there."""

    amplitude, slope = 1.7159, 2 / 3

    def forward(self, x: Tensor) -> Tensor:
        return self.amplitude * torch.tanh(self.slope * x)


class Subsample2d(nn.Module):
    """LeNet's subsampling: the sum over each 2 × 2 window, times one trainable coefficient a map, plus one bias.

    x (N, C, H, W) → (N, C, H//2, W//2).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.full((channels,), 0.25))  # at first a mean
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        total = F.avg_pool2d(x, 2, divisor_override=1)
        return total * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)

    def extra_repr(self) -> str:
        return str(self.channels)


class TableConv2d(nn.Module):
    """A convolution whose output maps each see the input maps that `table` lists for it, and no others.

    x (N, in_channels, H, W) → (N, len(table), H − k + 1, W − k + 1). `weight` holds one k × k kernel a connection,
    (connections, k, k), in the table's order: what is not connected has no parameter. Raises ValueError for a table
    that names a map which is not there, names one twice or leaves an output map without input.
    """

    def __init__(self, in_channels: int, table: Sequence[Sequence[int]], kernel_size: int):
        super().__init__()
        for seen in table:
            if not seen or len(set(seen)) != len(seen) or not set(seen) <= set(range(in_channels)):
                raise ValueError(f"each row of the table lists some of the maps 0 to {in_channels - 1}, got {seen}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, len(table), kernel_size
        pairs = [(out, source) for out, seen in enumerate(table) for source in seen]
        self.register_buffer("connections", torch.tensor(pairs).T, persistent=False)  # (2, connections)
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))
        bound = torch.tensor([(kernel_size**2 * len(seen)) ** -0.5 for seen in table])
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bound[self.connections[0]].view(-1, 1, 1))
            self.bias.uniform_(-1, 1).mul_(bound)

    def full_weight(self) -> Tensor:
        """The same convolution's ordinary weight (out_channels, in_channels, k, k), 0 where nothing is connected."""
        k = self.kernel_size
        weight = self.weight.new_zeros(self.out_channels, self.in_channels, k, k)
        return weight.index_put_((self.connections[0], self.connections[1]), self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.full_weight(), self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, pairs={len(self.weight)}"


class EuclideanRBF(nn.Module):
    """−‖x − code_c‖² for each class c: x (N, features), codes (classes, features) → (N, classes).

    LeNet's output layer with the sign turned, so that the largest is the answer and the values serve as logits:
    `F.cross_entropy` of them is the paper's discriminative criterion (its equation 9 without the rubbish class). The
    codes are ±1 and fixed: a buffer.
    """

    def __init__(self, codes: Tensor):
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, x: Tensor) -> Tensor:
        return -(x.unsqueeze(1) - self.codes).square().sum(-1)  # not ‖x‖² − 2xc + ‖c‖², which cancels

    def extra_repr(self) -> str:
        return f"classes={self.codes.shape[0]}, features={self.codes.shape[1]}"


def lenet5(codes: Tensor | None = None) -> nn.Sequential:
    """LeNet-5 as published: (N, 1, 32, 32) → (N, 10), exactly 60,000 trainable parameters (LeCun et al. 1998, II.B).

    Trainable subsampling, C3 connected by `LENET_TABLE`, scaled tanh after every layer up to F6, weights drawn
    uniformly within ±2.4/fan_in, and an output layer of squared distances to fixed codes. `codes` is (classes, 84) of
    ±1; without it they are drawn by a fixed seed, which the paper names as an alternative to its own, 7 × 12 pictures
    of the characters.
    """
    if codes is None:
        codes = torch.randint(0, 2, (10, 84), generator=torch.Generator().manual_seed(0)).float() * 2 - 1
    net = nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(1, 6, 5),
            squash1=ScaledTanh(),
            s2=Subsample2d(6),
            squash2=ScaledTanh(),
            c3=TableConv2d(6, LENET_TABLE, 5),
            squash3=ScaledTanh(),
            s4=Subsample2d(16),
            squash4=ScaledTanh(),
            c5=nn.Conv2d(16, 120, 5),
            squash5=ScaledTanh(),
            flatten=nn.Flatten(),
            f6=nn.Linear(120, 84),
            squash6=ScaledTanh(),
            output=EuclideanRBF(codes),
        )
    )
    fan_in = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}
    seen = torch.tensor([len(row) for row in LENET_TABLE])
    with torch.no_grad():
        for name, fan in fan_in.items():
            for parameter in net.get_submodule(name).parameters():
                parameter.uniform_(-2.4 / fan, 2.4 / fan)
        bound = 2.4 / (25 * seen)  # C3's maps differ in what they see
        net.c3.weight.uniform_(-1, 1).mul_(bound[net.c3.connections[0]].view(-1, 1, 1))
        net.c3.bias.uniform_(-1, 1).mul_(bound)
    return net


def lenet5_modern(
    in_channels: int = 1, classes: int = 10, *, image_size: int = 28, activation: Activation = nn.ReLU
) -> nn.Sequential:
    """LeNet-5 as it is built today: full connections, max pooling, ReLU, a dense output; 61,706 parameters.

    (N, in_channels, image_size, image_size) → (N, classes). The first convolution pads by 2, which takes images of 28
    where the original's were 32. Raises ValueError for images under 12 pixels, of which pooling leaves nothing.
    """
    side = (image_size // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"image_size has to be at least 12, but got {image_size}")
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 6, 5, padding=2),
            act1=activation(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            act2=activation(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * side**2, 120),
            act3=activation(),
            fc2=nn.Linear(120, 84),
            act4=activation(),
            output=nn.Linear(84, classes),
        )
    )


# dense nets --------------------------------------------------------------------------------------------------


def mlp(
    in_features: int,
    out_features: int,
    *,
    depth: int,
    width: int,
    activation: Activation = nn.ReLU,
    init: Initializer | None = None,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """`depth` hidden layers of `width` units, then the output: (N, ...) of in_features numbers → (N, out_features).

    Each hidden layer is dense (→ batch norm) → activation (→ dropout). `init` fills each dense weight in place, and
    biases start at 0; without it both start as PyTorch's. Raises ValueError for a negative depth or a width below 1.
    """
    if depth < 0 or width < 1:
        raise ValueError(f"depth has to be at least 0 and width at least 1, but got {depth} and {width}")
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    features = in_features
    for i in range(1, depth + 1):
        layers.append((f"dense{i}", nn.Linear(features, width)))
        if batch_norm:
            layers.append((f"norm{i}", nn.BatchNorm1d(width)))
        layers.append((f"act{i}", activation()))
        if dropout:
            layers.append((f"drop{i}", nn.Dropout(dropout)))
        features = width
    layers.append(("output", nn.Linear(features, out_features)))
    net = nn.Sequential(OrderedDict(layers))
    return net if init is None else _initialize(net, init)


def _initialize(net: nn.Sequential, init: Initializer) -> nn.Sequential:
    """Fill every dense and convolution weight by `init`, and their biases with 0."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            init(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


# the initialization of He et al. 2015; fan_out keeps the gradient's variance, as their ResNet does
_he = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


# VGG ---------------------------------------------------------------------------------------------------------


def vgg(
    in_channels: int,
    classes: int,
    *,
    image_size: int,
    widths: Sequence[int] = (16, 32, 64),
    convs: Sequence[int] = (2, 2, 2),
    hidden: Sequence[int] = (128, 128),
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> nn.Sequential:
    """Blocks of 3 × 3 convolutions, each halving the image by max pooling, then dense layers (fc1, fc2, …).

    (N, in_channels, image_size, image_size) → (N, classes). Block b has convs[b] convolutions of widths[b] maps, each
    followed by ReLU (batch norm before it, if wanted), and the net has the parts `features` and `classifier`, with
    Keras's names in them (block1_conv1, fc1, predictions). Weights start from He's initialization, biases at 0, as
    Simonyan & Zisserman's deeper nets train only from a good start. `dropout` follows each hidden dense layer, as in
    the paper; Keras's own VGG19 has none. Raises ValueError for uneven widths and convs, and where pooling leaves no
    pixel.
    """
    if len(widths) != len(convs) or not widths:
        raise ValueError(f"widths and convs need one number a block, but got {len(widths)} and {len(convs)}")
    side = image_size // 2 ** len(widths)
    if side < 1:
        raise ValueError(f"{len(widths)} poolings need images of {2 ** len(widths)} pixels, but got {image_size}")
    features: list[tuple[str, nn.Module]] = []
    channels = in_channels
    for b, (width, n) in enumerate(zip(widths, convs, strict=True), start=1):
        for i in range(1, n + 1):
            features.append((f"block{b}_conv{i}", nn.Conv2d(channels, width, 3, padding=1)))
            if batch_norm:
                features.append((f"block{b}_norm{i}", nn.BatchNorm2d(width)))
            features.append((f"block{b}_relu{i}", nn.ReLU()))
            channels = width
        features.append((f"block{b}_pool", nn.MaxPool2d(2)))
    classifier: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    width = channels * side**2
    for i, units in enumerate(hidden, start=1):
        classifier += [(f"fc{i}", nn.Linear(width, units)), (f"fc{i}_relu", nn.ReLU())]
        if dropout:
            classifier.append((f"fc{i}_drop", nn.Dropout(dropout)))
        width = units
    classifier.append(("predictions", nn.Linear(width, classes)))
    parts = OrderedDict(
        features=nn.Sequential(OrderedDict(features)), classifier=nn.Sequential(OrderedDict(classifier))
    )
    return _initialize(nn.Sequential(parts), partial(nn.init.kaiming_normal_, nonlinearity="relu"))


def vgg19(
    in_channels: int = 3, classes: int = 1000, *, image_size: int = 224, width: int = 64, hidden: int = 4096
) -> nn.Sequential:
    """VGG19 (configuration E), 143,667,240 parameters at full size; `width` and `hidden` scale it down.

    Sixteen convolutions in blocks of width × (1, 2, 4, 8, 8), then fc1 and fc2 of `hidden` units. Full size is 575
    MB of weights: under `torch.device("meta")` it can be accounted for without them.
    """
    return vgg(
        in_channels,
        classes,
        image_size=image_size,
        widths=[width * k for k in (1, 2, 4, 8, 8)],
        convs=(2, 2, 4, 4, 4),
        hidden=(hidden, hidden),
    )


def head_on_fc2(net: nn.Sequential, classes: int, *, dropout: float = 0.5) -> nn.Sequential:
    """A VGG cut after fc2's ReLU, and a new head on it: dropout → batch norm → dense. The first of the two options.

    The layers kept are `net`'s own, not copies. Raises ValueError where net has no fc2.
    """
    kept = OrderedDict(net.classifier.named_children())
    if "fc2" not in kept:
        raise ValueError(f"the net has no layer fc2; its classifier holds {', '.join(kept)}")
    units = kept["fc2"].out_features
    kept = OrderedDict((name, kept[name]) for name in ("flatten", "fc1", "fc1_relu", "fc2", "fc2_relu"))
    head = OrderedDict(drop=nn.Dropout(dropout), norm=nn.BatchNorm1d(units), predictions=nn.Linear(units, classes))
    return nn.Sequential(OrderedDict(features=net.features, fc=nn.Sequential(kept), head=nn.Sequential(head)))


def head_on_conv(net: nn.Sequential, classes: int, *, hidden: int = 4096, dropout: float = 0.5) -> nn.Sequential:
    """A VGG cut after its last pooling, and a new head: dense → ReLU → dropout → batch norm → dense. The second option.

    The layers kept are `net`'s own, not copies. At full size the new dense layer alone has 103 million weights.
    """
    units = net.classifier.fc1.in_features
    head = OrderedDict(
        flatten=nn.Flatten(),
        fc=nn.Linear(units, hidden),
        relu=nn.ReLU(),
        drop=nn.Dropout(dropout),
        norm=nn.BatchNorm1d(hidden),
        predictions=nn.Linear(hidden, classes),
    )
    return nn.Sequential(OrderedDict(features=net.features, head=nn.Sequential(head)))


# ResNet ------------------------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)), the branch conv → norm → relu → conv → norm (He et al. 2016, figure 2).

    x (N, in_channels, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉). The shortcut is the identity where shapes
    agree, otherwise a projection: a 1 × 1 convolution of the same stride, with batch norm (their option B). With
    `residual=False` there is no shortcut, and the block is the plain net's: the control experiment.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, residual: bool = True):
        super().__init__()
        self.branch = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
                norm1=nn.BatchNorm2d(out_channels),
                relu=nn.ReLU(),
                conv2=nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(out_channels),
            )
        )
        self.shortcut: nn.Module | None = None
        if residual and stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        elif residual:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                    norm=nn.BatchNorm2d(out_channels),
                )
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut is None:
            return self.relu(self.branch(x))
        return self.relu(self.branch(x) + self.shortcut(x))


def resnet(
    in_channels: int,
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    blocks: Sequence[int] = (3, 3, 3),
    residual: bool = True,
) -> nn.Sequential:
    """A ResNet for small images: conv → stages of residual blocks → global average → dense.

    (N, in_channels, H, W) → (N, classes), for any H and W. Stage s has blocks[s] blocks of widths[s] maps; every stage
    but the first halves the image. The defaults are ResNet-20 of He et al. 2016, section 4.2, with projections;
    `residual=False` gives the plain net of the same depth. Raises ValueError for uneven widths and blocks.
    """
    if len(widths) != len(blocks) or not widths:
        raise ValueError(f"widths and blocks need one number a stage, but got {len(widths)} and {len(blocks)}")
    stem = OrderedDict(
        conv=nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(widths[0]),
        relu=nn.ReLU(),
    )
    layers: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(stem))]
    channels = widths[0]
    for s, (width, n) in enumerate(zip(widths, blocks, strict=True), start=1):
        for i in range(1, n + 1):
            stride = 2 if s > 1 and i == 1 else 1
            layers.append((f"stage{s}_block{i}", ResidualBlock(channels, width, stride, residual=residual)))
            channels = width
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("output", nn.Linear(channels, classes))]
    return _initialize(nn.Sequential(OrderedDict(layers)), _he)


# depthwise-separable -----------------------------------------------------------------------------------------


def separable_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A 3 × 3 filter a map, then a 1 × 1 mix of the maps, each with batch norm and ReLU (Howard et al. 2017).

    (N, in, H, W) → (N, out, ⌈H/stride⌉, ⌈W/stride⌉), for 9·in + in·out multiply-adds a pixel, not 9·in·out.
    """
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
            norm1=nn.BatchNorm2d(in_channels),
            relu1=nn.ReLU(),
            pointwise=nn.Conv2d(in_channels, out_channels, 1, bias=False),
            norm2=nn.BatchNorm2d(out_channels),
            relu2=nn.ReLU(),
        )
    )


def separable_net(
    in_channels: int,
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64, 64),
    strides: Sequence[int] = (1, 1, 2, 2),
) -> nn.Sequential:
    """A MobileNet: one ordinary convolution, separable blocks, global average, dense. Any image size.

    (N, in_channels, H, W) → (N, classes). widths[0] and strides[0] are the ordinary convolution's, the others the
    blocks'. MobileNet itself: widths (32, 64, 128, 128, 256, 256, 512 × 6, 1024, 1024), strides (2, 1, 2, 1, 2, 1, 2,
    1, 1, 1, 1, 1, 2, 1). Raises ValueError for uneven widths and strides.
    """
    if len(widths) != len(strides) or not widths:
        raise ValueError(f"widths and strides need one number a layer, but got {len(widths)} and {len(strides)}")
    stem = OrderedDict(
        conv=nn.Conv2d(in_channels, widths[0], 3, strides[0], padding=1, bias=False),
        norm=nn.BatchNorm2d(widths[0]),
        relu=nn.ReLU(),
    )
    layers: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(stem))]
    for i in range(1, len(widths)):
        layers.append((f"block{i}", separable_block(widths[i - 1], widths[i], strides[i])))
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("output", nn.Linear(widths[-1], classes))]
    return _initialize(nn.Sequential(OrderedDict(layers)), _he)


# the nets that people ask about ------------------------------------------------------------------------------


class ElementwisePReLU(nn.Module):
    """max(0, x) + slope · min(0, x) with a slope for every element of an example: Keras's default PReLU.

    x (N, *shape) → the same. PyTorch's `nn.PReLU` shares a slope within a map, or among all. Slopes start at 0, as
    Keras's do: at first it is a ReLU.
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self, x: Tensor) -> Tensor:
        # PyTorch's own has a slope for each place along axis 1: flattened, that is every element
        return F.prelu(x.flatten(1), self.weight.flatten()).view(x.shape)

    def extra_repr(self) -> str:
        return str(tuple(self.weight.shape))


def expression_net(
    in_channels: int = 3,
    classes: int = 7,
    *,
    image_size: int = 48,
    width: int = 32,
    hidden: int = 256,
    padding: int = 1,
    share_slopes: bool = False,
    dropout: float = 0.5,
) -> nn.Sequential:
    """The facial-expression net asked about: conv → batch norm → PReLU → pool → dense → batch norm → PReLU → dropout.

    (N, in_channels, image_size, image_size) → (N, classes), as Keras builds it: batch norm with eps 1e-3 and momentum
    0.99 (0.01 to PyTorch), Glorot weights, zero biases, and a PReLU slope for every unit; `share_slopes` has one a map
    instead. The asker did not say which border mode was used: `padding` 1 is "same", 0 "valid".
    """
    before, side = image_size + 2 * padding - 2, (image_size + 2 * padding - 2) // 2
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, width, 3, padding=padding),
            norm1=nn.BatchNorm2d(width, eps=1e-3, momentum=0.01),
            prelu1=nn.PReLU(width, init=0.0) if share_slopes else ElementwisePReLU((width, before, before)),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense=nn.Linear(width * side**2, hidden),
            norm2=nn.BatchNorm1d(hidden, eps=1e-3, momentum=0.01),
            prelu2=ElementwisePReLU((hidden,)),
            drop=nn.Dropout(dropout),
            output=nn.Linear(hidden, classes),
        )
    )
    return _initialize(net, nn.init.xavier_uniform_)


def cats_and_dogs_net(
    in_channels: int = 3,
    outputs: int = 1,
    *,
    image_size: int = 150,
    width: int = 32,
    hidden: int = 64,
    dropout: float = 0.5,
) -> nn.Sequential:
    """The cats-and-dogs net asked about: (conv → ReLU → pool) three times, then a dense head of our own.

    (N, in_channels, image_size, image_size) → (N, outputs); the maps are width, width and 2 · width, unpadded. The
    question shows the net up to its last pooling, without its head; the one here is dense → ReLU → dropout → dense,
    and one output is a logit for `F.binary_cross_entropy_with_logits`. Glorot weights and zero biases, as in Keras.
    Raises ValueError for images under 22 pixels, of which nothing is left.
    """
    side = image_size
    for _ in range(3):
        side = (side - 2) // 2
    if side < 1:
        raise ValueError(f"image_size has to be at least 22, but got {image_size}")
    layers: list[tuple[str, nn.Module]] = []
    channels = in_channels
    for i, maps in enumerate((width, width, 2 * width), start=1):
        layers += [(f"conv{i}", nn.Conv2d(channels, maps, 3)), (f"relu{i}", nn.ReLU()), (f"pool{i}", nn.MaxPool2d(2))]
        channels = maps
    layers += [
        ("flatten", nn.Flatten()),
        ("dense", nn.Linear(channels * side**2, hidden)),
        ("relu4", nn.ReLU()),
        ("drop", nn.Dropout(dropout)),
        ("output", nn.Linear(hidden, outputs)),
    ]
    return _initialize(nn.Sequential(OrderedDict(layers)), nn.init.xavier_uniform_)
