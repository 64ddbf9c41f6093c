"""What a net costs, worked out layer by layer before anything runs: shapes, receptive fields, parameters,
multiply-adds, and the memory of training and of evaluating it.

`account` reads a net built of `nn.Sequential`, the layers of PyTorch below, and this course's own; it computes nothing,
so a net on the "meta" device, which holds no weights, has its account too. `forecast` plays one step through on paper:
which tensors are made, which the backward pass keeps, which are let go. What the layers keep is PyTorch's own choice,
measured by `course_lib.diagnostics.step_memory`, and the tests hold the two together.

Counted as multiply-adds: those of convolutions, dense layers and what is built like them; not pooling, activations and
normalization, which are a few operations a value. Sources: Araujo et al. 2019, "Computing receptive fields of
convolutional neural networks" (Distill), for the recurrence; PyTorch's derivatives.yaml for what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from math import prod

import torch
from torch import nn

from course_lib.architectures import ResidualBlock
from course_lib.layer_rules import INDEX, Layer, Setting, describe

__all__ = [
    "OPTIMIZER_STATE",
    "Account",
    "Forecast",
    "Layer",
    "LayerAccount",
    "account",
    "describe",
    "forecast",
]

# numbers of a parameter's size that each optimizer keeps for it, and whether it counts its steps in one float more
OPTIMIZER_STATE = {
    "sgd": (0, False),
    "momentum": (1, False),
    "adagrad": (1, True),
    "rmsprop": (1, True),
    "adam": (2, True),
    "adamw": (2, True),
    "amsgrad": (3, True),
}
STEP = 4  # bytes of a step count, a float32 whatever the net's dtype


# the whole net ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerAccount:
    """One layer of an account; bytes are those of one example, except `kept_once`, which are a batch's.

    `receptive_field` is the (height, width) in pixels of what an output value can depend on, counted past the border;
    None where there is no image. `output_bytes` is 0 where the output is the input's memory. `kept_bytes` is what this
    layer is the first to keep for the backward pass: a tensor that two layers need counts once.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    receptive_field: tuple[int, int] | None
    parameters: int
    statistics: int
    multiply_adds: int
    output_bytes: int
    kept_bytes: int
    kept_once: int


@dataclass(frozen=True)
class Account:
    """What a net costs, layer by layer; prints as a table, and shows as one in a notebook."""

    input_shape: tuple[int, ...]
    layers: tuple[LayerAccount, ...]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.layers[-1].output_shape if self.layers else self.input_shape

    @property
    def parameters(self) -> int:
        """Numbers that the net learns; with `statistics` it is what Keras's count_params() counts."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def statistics(self) -> int:
        return sum(layer.statistics for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def output_bytes(self) -> int:
        return sum(layer.output_bytes for layer in self.layers)

    def kept_bytes(self, batch_size: int = 1) -> int:
        """Bytes kept for the backward pass of a batch, without the batch itself and without the loss."""
        return sum(layer.kept_bytes * batch_size + layer.kept_once for layer in self.layers)

    def __str__(self) -> str:
        rows = [HEAD, *_cells(self)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
        lines = ["  ".join(_aligned(cell, widths[i], i) for i, cell in enumerate(row)).rstrip() for row in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:{_side(i)}">{escape(h)}</th>' for i, h in enumerate(HEAD))
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:{_side(i)}">{escape(c)}</td>' for i, c in enumerate(row)) + "</tr>"
            for row in _cells(self)
        )
        caption = f"<caption>One example of shape {_times(self.input_shape)}, layer by layer</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


HEAD = ("layer", "kind", "output", "sees", "parameters", "multiply-adds", "output bytes", "kept bytes")
TEXT_COLUMNS = 4


def _side(column: int) -> str:
    return "left" if column < TEXT_COLUMNS else "right"


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < TEXT_COLUMNS else cell.rjust(width)


def _times(shape: Sequence[int] | None) -> str:
    return "–" if shape is None else " × ".join(map(str, shape))


def _cells(account: Account) -> list[tuple[str, ...]]:
    """The table's rows, the sum last; what is kept once a batch is counted with its one example."""
    rows = [
        (
            layer.name,
            layer.kind,
            _times(layer.output_shape),
            _times(layer.receptive_field),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds:,}",
            f"{layer.output_bytes:,}",
            f"{layer.kept_bytes + layer.kept_once:,}",
        )
        for layer in account.layers
    ]
    sums = (account.parameters, account.multiply_adds, account.output_bytes, account.kept_bytes())
    return [*rows, ("all", "", _times(account.output_shape), "", *(f"{number:,}" for number in sums))]


def account(model: nn.Module, input_shape: Sequence[int]) -> Account:
    """The account of a net for inputs of this shape, without the batch: (C, H, W), or (features,).

    Nothing is run. Each layer counts in the mode that it is in: dropout keeps a mask only while training. Raises
    TypeError for a layer without a rule (see `describe`), ValueError, naming the layer, where a shape does not fit.
    """
    walk = _Walk(_setting(model))
    walk.through(model, "", walk.begin(tuple(input_shape)))
    return Account(tuple(input_shape), tuple(walk.rows))


def _setting(model: nn.Module) -> Setting:
    parameter = next(model.parameters(), torch.empty(0))
    return Setting(item=parameter.element_size(), device=parameter.device.type)


@dataclass(frozen=True)
class _Signal:
    """What flows between two layers. `tensor` names its memory; `spatial` is what is left of the image, flat or not."""

    shape: tuple[int, ...]
    tensor: int
    grad: bool
    receptive_field: tuple[int, int] | None
    jump: tuple[int, int]  # pixels of the input between neighbouring values
    spatial: tuple[int, int] | None


@dataclass
class _Walk:
    """Follows one example through a net, and notes a row a layer and what is in memory at once."""

    setting: Setting
    rows: list[LayerAccount] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # bytes of each tensor, for one example
    kept: set[int] = field(default_factory=set)
    held: list[int] = field(default_factory=list)  # inputs of the modules that we are in: Python holds them
    moments: list[tuple[int, int]] = field(default_factory=list)  # (bytes an example, bytes a batch) in memory at once

    def new(self, shape: tuple[int, ...]) -> int:
        self.sizes.append(prod(shape) * self.setting.item)
        return len(self.sizes) - 1

    def begin(self, shape: tuple[int, ...]) -> _Signal:
        image = shape[1:] if len(shape) == 3 else None
        tensor = self.new(shape)
        self.kept.add(tensor)  # the batch is counted by itself
        return _Signal(shape, tensor, False, (1, 1) if image else None, (1, 1), image)

    def through(self, module: nn.Module, name: str, signal: _Signal) -> _Signal:
        self.held.append(signal.tensor)
        try:
            if isinstance(module, nn.Sequential):
                for child_name, child in module.named_children():
                    signal = self.through(child, _join(name, child_name), signal)
                return signal
            if isinstance(module, ResidualBlock):
                return self.block(module, name, signal)
            return self.layer(module, name, signal)
        finally:
            self.held.pop()

    def block(self, module: ResidualBlock, name: str, signal: _Signal) -> _Signal:
        out = self.through(module.branch, _join(name, "branch"), signal)
        if module.shortcut is not None:
            self.held.append(out.tensor)
            side = self.through(module.shortcut, _join(name, "shortcut"), signal)
            if side.shape != out.shape:
                raise ValueError(f"{name}: the branch gives {out.shape}, the shortcut {side.shape}")
            self.held.append(side.tensor)
            grad = out.grad or side.grad
            out = self.row(_join(name, "+"), "add", replace(out, grad=grad), Layer(out.shape), grad)
            del self.held[-2:]
        return self.through(module.relu, _join(name, "relu"), out)

    def layer(self, module: nn.Module, name: str, signal: _Signal) -> _Signal:
        setting = replace(self.setting, input_grad=signal.grad)
        try:
            layer = describe(module, signal.shape, setting)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from None
        grad = signal.grad or any(parameter.requires_grad for parameter in module.parameters())
        return self.row(name, type(module).__name__, signal, layer, grad)

    def row(self, name: str, kind: str, signal: _Signal, layer: Layer, grad: bool) -> _Signal:
        tensor = signal.tensor if layer.view else self.new(layer.output_shape)
        alive = {*self.held, signal.tensor, tensor}
        self.moments.append((sum(self.sizes[t] for t in alive) + layer.scratch_bytes, layer.scratch_once))
        needed = {signal.tensor} if layer.keeps_input else set()
        needed |= {tensor} if layer.keeps_output else set()
        kept = sum(self.sizes[t] for t in needed - self.kept) if grad else 0
        self.kept |= needed if grad else set()
        out = _seen(signal, layer)
        self.rows.append(
            LayerAccount(
                name=name,
                kind=kind,
                output_shape=layer.output_shape,
                receptive_field=out.receptive_field,
                parameters=layer.parameters,
                statistics=layer.statistics,
                multiply_adds=layer.multiply_adds,
                output_bytes=0 if layer.view else self.sizes[tensor],
                kept_bytes=kept + (layer.kept_bytes if grad else 0),
                kept_once=layer.kept_once if grad else 0,
            )
        )
        return replace(out, tensor=tensor, grad=grad)


def _join(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child


def _seen(signal: _Signal, layer: Layer) -> _Signal:
    """r ← r + (k − 1)·j and j ← j·s along each axis; a dense layer is a kernel of the size of what is left."""
    out = replace(signal, shape=layer.output_shape)
    if signal.spatial is None or layer.view:
        return out
    kernel = layer.kernel or signal.spatial
    grown = tuple(r + (k - 1) * j for r, k, j in zip(signal.receptive_field, kernel, signal.jump, strict=True))
    jump = tuple(j * s for j, s in zip(signal.jump, layer.stride, strict=True))
    spatial = layer.output_shape[1:] if len(layer.output_shape) == 3 else signal.spatial if layer.kernel else (1, 1)
    return replace(out, receptive_field=grown, jump=jump, spatial=spatial)


# memory of a step --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forecast:
    """Bytes that a step will need, by kind; prints as a table, and shows as one in a notebook.

    parameters, buffers    the net itself
    inputs                 the batch and its labels
    activations            what a training step keeps for its backward pass, the cross-entropy's share included
    recorded               what evaluation keeps where gradients are on, though nobody asks for them
    passing                the most that evaluation without gradients has at once, besides the batch
    gradients              as large as the parameters that are trained
    optimizer_state        the optimizer's own numbers for these
    """

    batch_size: int
    optimizer: str
    parameters: int
    buffers: int
    inputs: int
    activations: int
    recorded: int
    passing: int
    gradients: int
    optimizer_state: int

    @property
    def training(self) -> int:
        """All of a training step; its highest moment lies near, as gradients come while activations go."""
        return self._net + self.activations + self.gradients + self.optimizer_state

    @property
    def evaluation_with_gradients(self) -> int:
        return self._net + self.recorded

    @property
    def evaluation(self) -> int:
        """Under `torch.no_grad()`: each activation goes as soon as the next is made."""
        return self._net + self.passing

    @property
    def _net(self) -> int:
        return self.parameters + self.buffers + self.inputs

    def __str__(self) -> str:
        rows = [("bytes of", *FORECAST_HEAD), *_forecast_cells(self)]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            "  ".join(cell.rjust(widths[i]) if i else cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:right">{escape(h)}</th>' for h in FORECAST_HEAD)
        body = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
            + "".join(f'<td style="text-align:right">{escape(cell)}</td>' for cell in cells)
            + "</tr>"
            for name, *cells in _forecast_cells(self)
        )
        caption = f"<caption>A batch of {self.batch_size}, optimizer {escape(self.optimizer)}: bytes</caption>"
        return f"<table>{caption}<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"


FORECAST_HEAD = ("training", "evaluation with gradients", "evaluation without")


def _forecast_cells(f: Forecast) -> list[tuple[str, ...]]:
    rows = (
        ("parameters", f.parameters, f.parameters, f.parameters),
        ("buffers", f.buffers, f.buffers, f.buffers),
        ("inputs", f.inputs, f.inputs, f.inputs),
        ("activations", f.activations, f.recorded, f.passing),
        ("gradients", f.gradients, 0, 0),
        ("optimizer state", f.optimizer_state, 0, 0),
        ("all", f.training, f.evaluation_with_gradients, f.evaluation),
    )
    return [(name, *(f"{number:,}" for number in numbers)) for name, *numbers in rows]


def forecast(model: nn.Module, input_shape: Sequence[int], batch_size: int, *, optimizer: str = "sgd") -> Forecast:
    """What one step of this net will need in memory, without running it: see `Forecast`.

    Training is forecast with each layer in the mode that it is in, frozen parameters counted as frozen, and
    cross-entropy as the loss; `optimizer` is a key of `OPTIMIZER_STATE`. Scratch memory of the framework's kernels is
    not in it. Raises ValueError for another optimizer and a batch size below 1; otherwise as `account`.
    """
    if optimizer not in OPTIMIZER_STATE:
        raise ValueError(f"optimizer has to be one of {', '.join(OPTIMIZER_STATE)}, but got {optimizer!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size has to be at least 1, but got {batch_size}")
    setting = _setting(model)
    training, evaluation = _Walk(setting), _Walk(replace(setting, evaluation=True))
    out = training.through(model, "", training.begin(tuple(input_shape)))
    last = evaluation.through(model, "", evaluation.begin(tuple(input_shape)))
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    numbers, counts = OPTIMIZER_STATE[optimizer]
    # log-softmax keeps its value, the likelihood its sum of weights
    loss = (prod(out.shape) * batch_size + 1) * setting.item if out.grad else 0
    output = evaluation.sizes[last.tensor] if last.tensor not in evaluation.kept else 0
    batch = training.sizes[0]
    return Forecast(
        batch_size=batch_size,
        optimizer=optimizer,
        parameters=sum(parameter.nbytes for parameter in model.parameters()),
        buffers=sum(buffer.nbytes for buffer in model.buffers()),
        inputs=(batch + INDEX) * batch_size,
        activations=_kept(training, batch_size) + loss,
        recorded=_kept(evaluation, batch_size) + output * batch_size,
        passing=max((per * batch_size + once for per, once in evaluation.moments), default=0) - batch * batch_size,
        gradients=sum(trained) * setting.item,
        optimizer_state=sum(trained) * setting.item * numbers + (STEP * len(trained) if counts else 0),
    )


def _kept(walk: _Walk, batch_size: int) -> int:
    return sum(row.kept_bytes * batch_size + row.kept_once for row in walk.rows)
