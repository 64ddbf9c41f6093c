"""What one layer costs for an input of a given shape: a rule for each class of layers, PyTorch's and this course's own.

`describe(module, shape, setting)` finds the rule; `course_lib.accounts` adds the layers of a net up. What the layers
keep for their backward pass is PyTorch's own choice (its derivatives.yaml), measured by
`course_lib.diagnostics.step_memory`, and the tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from math import prod

from torch import nn

from course_lib import dropout
from course_lib.architectures import (
    ElementwisePReLU,
    EuclideanRBF,
    ScaledTanh,
    Subsample2d,
    TableConv2d,
)

__all__ = ["INDEX", "Layer", "Setting", "describe"]

INDEX = 8  # bytes of an int64: a label, a pooling's index, a batch norm's counter


@dataclass(frozen=True)
class Layer:
    """What one layer does, for one example of a batch.

    output_shape    without the batch
    parameters      how many numbers it may learn
    statistics      how many it tracks: Keras counts them as parameters, PyTorch keeps them as buffers
    buffer_bytes    bytes of all its buffers
    multiply_adds   of one forward pass
    kernel, stride  (height, width) of what one output looks at, dilation included; None where there is no image
    view            the output is the input's own memory (a flattening, an activation in place)
    keeps_input, keeps_output    the backward pass needs that tensor
    kept_bytes      what else the backward pass needs, for one example
    kept_once       and once a batch, however large
    scratch_bytes   made and let go within the layer where no gradient is wanted, for one example
    scratch_once    and once a batch
    """

    output_shape: tuple[int, ...]
    parameters: int = 0
    statistics: int = 0
    buffer_bytes: int = 0
    multiply_adds: int = 0
    kernel: tuple[int, int] | None = (1, 1)
    stride: tuple[int, int] = (1, 1)
    view: bool = False
    keeps_input: bool = False
    keeps_output: bool = False
    kept_bytes: int = 0
    kept_once: int = 0
    scratch_bytes: int = 0
    scratch_once: int = 0


@dataclass(frozen=True)
class Setting:
    """What a rule may depend on besides shapes.

    item          bytes of a number
    device        its type, "cpu" or "cuda"
    evaluation    every layer is in evaluation, whatever mode it is in now
    input_grad    a gradient flows on to the layer's input
    """

    item: int
    device: str
    evaluation: bool = False
    input_grad: bool = True

    def training(self, module: nn.Module) -> bool:
        return module.training and not self.evaluation


@singledispatch
def describe(module: nn.Module, shape: tuple[int, ...], setting: Setting) -> Layer:
    """The `Layer` of a module for inputs of this shape: a rule for each class, by `@describe.register`.

    For a layer of your own register a rule: `describe.register(MyLayer, lambda module, shape, setting: Layer(shape))`.
    Raises TypeError for a class without a rule, ValueError for a shape that the layer can't take.
    """
    raise TypeError(f"no account of {type(module).__name__}: register a rule with `accounts.describe.register`")


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _image(module: nn.Module, shape: tuple[int, ...], channels: int | None = None) -> tuple[int, int, int]:
    if len(shape) != 3 or (channels is not None and shape[0] != channels):
        wanted = f"({channels or 'C'}, H, W)"
        raise ValueError(f"{type(module).__name__} takes {wanted}, but gets {shape}")
    return shape


def _own_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


def _windows(size, kernel, stride, padding, dilation=(1, 1), *, ceil=False) -> tuple[int, int]:
    """⌊(n + 2p − d(k − 1) − 1)/s⌋ + 1 along each axis (⌈…⌉ with ceil, but no window starts in the padding)."""
    out = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + p:
            count -= 1
        out.append(count)
    return tuple(out)


def _no_space(module: nn.Module, shape, out) -> None:
    if min(out) < 1:
        raise ValueError(f"{type(module).__name__} leaves nothing of an image of {shape[1]} × {shape[2]}")


def _extent(kernel, dilation=(1, 1)) -> tuple[int, int]:
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


@describe.register
def _(module: nn.Conv2d, shape, setting):
    _, *size = _image(module, shape, module.in_channels)
    if module.padding == "same":
        out = tuple(size)
    else:
        padding = (0, 0) if module.padding == "valid" else module.padding
        out = _windows(size, module.kernel_size, module.stride, padding, module.dilation)
    _no_space(module, shape, out)
    weights = module.out_channels * (module.in_channels // module.groups) * prod(module.kernel_size)
    return Layer(
        (module.out_channels, *out),
        parameters=weights + (0 if module.bias is None else module.out_channels),
        multiply_adds=weights * prod(out),
        kernel=_extent(module.kernel_size, module.dilation),
        stride=module.stride,
        keeps_input=True,  # even where the weight is frozen, and nobody will need it
    )


@describe.register
def _(module: TableConv2d, shape, setting):
    _, *size = _image(module, shape, module.in_channels)
    k = module.kernel_size
    out = _windows(size, (k, k), (1, 1), (0, 0))
    _no_space(module, shape, out)
    connections = module.connections.shape[1]
    full = module.out_channels * module.in_channels * k**2
    return Layer(
        (module.out_channels, *out),
        parameters=connections * k**2 + module.out_channels,
        buffer_bytes=2 * connections * INDEX,
        multiply_adds=connections * k**2 * prod(out),
        kernel=(k, k),
        keeps_input=True,
        kept_once=full * setting.item,  # the full kernel, made anew in each pass
        scratch_once=full * setting.item,
    )


@describe.register
def _(module: nn.Linear, shape, setting):
    if not shape or shape[-1] != module.in_features:
        raise ValueError(f"Linear takes {module.in_features} features, but gets {shape}")
    weights = module.in_features * module.out_features
    return Layer(
        (*shape[:-1], module.out_features),
        parameters=weights + (0 if module.bias is None else module.out_features),
        multiply_adds=weights * prod(shape[:-1]),
        kernel=None,
        keeps_input=module.weight.requires_grad,
    )


@describe.register(nn.BatchNorm1d)
@describe.register(nn.BatchNorm2d)
def _(module, shape, setting):
    maps = module.num_features
    if not shape or shape[0] != maps:
        raise ValueError(f"{type(module).__name__} takes {maps} maps, but gets {shape}")
    tracked = 2 * maps if module.track_running_stats else 0
    batch_statistics = setting.training(module) or not module.track_running_stats
    return Layer(
        shape,
        parameters=2 * maps if module.affine else 0,
        statistics=tracked,
        buffer_bytes=tracked * setting.item + (INDEX if tracked else 0),
        keeps_input=True,
        kept_once=2 * maps * setting.item if batch_statistics else 0,  # the batch's mean and 1/deviation
    )


@describe.register
def _(module: nn.LayerNorm, shape, setting):
    groups = prod(shape[: len(shape) - len(module.normalized_shape)])
    return Layer(shape, _own_parameters(module), keeps_input=True, kept_bytes=2 * groups * setting.item)


@describe.register
def _(module: nn.GroupNorm, shape, setting):
    return Layer(shape, _own_parameters(module), keeps_input=True, kept_bytes=2 * module.num_groups * setting.item)


@describe.register(nn.MaxPool2d)
@describe.register(nn.AvgPool2d)
def _(module, shape, setting):
    channels, *size = _image(module, shape)
    kernel, stride, padding = _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)
    dilation = _pair(getattr(module, "dilation", 1))
    out = _windows(size, kernel, stride, padding, dilation, ceil=module.ceil_mode)
    _no_space(module, shape, out)
    indices = channels * prod(out) * INDEX if isinstance(module, nn.MaxPool2d) else 0
    return Layer(
        (channels, *out),
        kernel=_extent(kernel, dilation),
        stride=stride,
        keeps_input=True,  # an average's too, though its derivative does not depend on it
        kept_bytes=indices,
        scratch_bytes=indices,
    )


@describe.register
def _(module: nn.AdaptiveAvgPool2d, shape, setting):
    channels, *size = _image(module, shape)
    if _pair(module.output_size) != (1, 1):
        raise ValueError(f"an account of adaptive pooling is for one value a map, not {module.output_size}")
    return Layer((channels, 1, 1), kernel=tuple(size), stride=tuple(size))  # a mean: only sizes are kept


@describe.register
def _(module: Subsample2d, shape, setting):
    channels, height, width = _image(module, shape, module.channels)
    out = (channels, height // 2, width // 2)
    _no_space(module, shape, out[1:])
    pooled = prod(out) * setting.item
    return Layer(
        out,
        parameters=2 * channels,
        multiply_adds=prod(out),
        kernel=(2, 2),
        stride=(2, 2),
        keeps_input=setting.input_grad,
        kept_bytes=pooled if module.weight.requires_grad else 0,
        scratch_bytes=2 * pooled,
    )


@describe.register
def _(module: nn.Flatten, shape, setting):
    if (module.start_dim, module.end_dim) != (1, -1):
        raise ValueError("an account of Flatten is for all axes but the batch's")
    return Layer((prod(shape),), kernel=None, view=True)


@describe.register(nn.Identity)
def _(module, shape, setting):
    return Layer(shape, view=True)


@describe.register
def _(module: nn.ZeroPad2d, shape, setting):
    channels, height, width = _image(module, shape)
    left, right, top, bottom = module.padding
    return Layer((channels, height + top + bottom, width + left + right))


@describe.register(nn.Sigmoid)
@describe.register(nn.Tanh)
@describe.register(nn.ReLU)
@describe.register(nn.Softmax)
@describe.register(nn.LogSoftmax)
def _(module, shape, setting):
    """Their derivatives are functions of their values: y(1 − y), 1 − y², y > 0."""
    return Layer(shape, keeps_output=True, view=getattr(module, "inplace", False))


@describe.register(nn.ELU)
@describe.register(nn.SELU)
@describe.register(nn.LeakyReLU)
@describe.register(nn.ReLU6)
@describe.register(nn.Hardtanh)
@describe.register(nn.GELU)
@describe.register(nn.SiLU)
@describe.register(nn.Mish)
@describe.register(nn.Softplus)
@describe.register(nn.Hardswish)
def _(module, shape, setting):
    if getattr(module, "inplace", False):
        raise ValueError(f"no account of {type(module).__name__} in place")
    return Layer(shape, keeps_input=True)


@describe.register
def _(module: nn.PReLU, shape, setting):
    return Layer(shape, parameters=module.num_parameters, keeps_input=True)


@describe.register
def _(module: ElementwisePReLU, shape, setting):
    if shape != tuple(module.weight.shape):
        raise ValueError(f"ElementwisePReLU takes {tuple(module.weight.shape)}, but gets {shape}")
    return Layer(shape, parameters=prod(shape), keeps_input=True)


@describe.register
def _(module: ScaledTanh, shape, setting):
    size = prod(shape) * setting.item
    return Layer(shape, kept_bytes=size, scratch_bytes=size)  # tanh's value, not the layer's


@describe.register
def _(module: EuclideanRBF, shape, setting):
    classes, features = module.codes.shape
    if shape != (features,):
        raise ValueError(f"EuclideanRBF takes {features} features, but gets {shape}")
    size = classes * features * setting.item
    return Layer(
        (classes,),
        buffer_bytes=size,
        multiply_adds=classes * features,
        kernel=None,
        kept_bytes=size,
        scratch_bytes=2 * size - classes * setting.item,  # differences and their squares, before there is an output
    )


@describe.register(nn.Dropout)
@describe.register(dropout.Dropout)
def _(module, shape, setting):
    own = isinstance(module, dropout.Dropout)
    if not setting.training(module) or (module.p == 0 and not own):
        return Layer(shape, view=True)
    if module.p == 1 and not own:
        return Layer(shape, kept_once=setting.item)  # PyTorch multiplies by one 0
    # a mask of the net's dtype; CUDA's own layer keeps one of bytes
    item = 1 if setting.device == "cuda" and not own else setting.item
    return Layer(shape, kept_bytes=prod(shape) * item)


@describe.register(nn.Dropout2d)
@describe.register(dropout.Dropout2d)
def _(module, shape, setting):
    if not setting.training(module) or (module.p == 0 and isinstance(module, nn.Dropout2d)):
        return Layer(shape, view=True)
    return Layer(shape, kept_bytes=_image(module, shape)[0] * setting.item)
