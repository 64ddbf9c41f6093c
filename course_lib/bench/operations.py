"""What is measured: each operation of the library beside the framework's own, on the same tensors.

A forward pass runs with autograd on, as in training; a backward pass is autograd's, through the library's hand-written
derivatives, for all inputs that need a gradient. Tensors are float32 and larger than a core's own caches, small enough
that a run takes minutes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import activations, convolution, dropout, fused, normalization, optimizers, regularizers
from course_lib.bench.timing import Arms, Operation
from course_lib.ensembles import ConvNet, Member, MLPMember, train_ensemble, train_mlps

__all__ = ["OPERATIONS"]

IMAGES = (64, 64, 32, 32)  # (N, C, H, W): 4.2 million numbers, 17 MB
ROWS = (8192, 512)  # (N, features): as many
LOGITS = (4096, 1000)
Function = Callable[..., Tensor]
Make = Callable[[torch.device], Function]  # a function, or a module, on a device


# one function of tensors -----------------------------------------------------------------------------------


def constant(function: Function) -> Make:
    return lambda device: function


def pair(
    name: str,
    against: str,
    ours: Make,
    theirs: Make,
    shape: tuple[int, ...],
    *,
    forward: float,
    backward: float,
    more: Sequence[tuple[int, ...]] = (),
    naive: tuple[str, str] = ("", ""),
    comparable: bool = True,
    devices: tuple[str, ...] = ("cpu", "cuda"),
) -> tuple[Operation, Operation]:
    """The forward and the backward pass of a function of x, normal and of that shape, and of `more` such tensors.

    `forward` and `backward` are what each pass has to read and write, in tensors of x's size; `ours` and `theirs` make
    the functions, or modules, whose parameters get gradients too.
    """

    def build(passes: float, run: Callable[[Function, list[Tensor], Tensor | None], Callable[[], Any]]):
        def arms(device: torch.device) -> Arms:
            inputs = [torch.randn(size, device=device, requires_grad=True) for size in (shape, *more)]
            mine, other = ours(device), theirs(device)
            grad = torch.randn_like(mine(*inputs))
            return Arms(
                run(mine, inputs, grad), run(other, inputs, grad), round(passes * inputs[0].nbytes), None, comparable
            )

        return arms

    return (
        Operation(name, "forward", against, build(forward, run_forward), naive[0], devices),
        Operation(name, "backward", against, build(backward, run_backward), naive[1], devices),
    )


def run_forward(function: Function, inputs: list[Tensor], grad: Tensor) -> Callable[[], Tensor]:
    return lambda: function(*inputs)


def run_backward(function: Function, inputs: list[Tensor], grad: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    needing = [*inputs, *(function.parameters() if isinstance(function, nn.Module) else ())]
    y = function(*inputs)
    return lambda: torch.autograd.grad(y, needing, grad, retain_graph=True)


MASK = 0.25  # of a float: a mask is a byte for each number

DROPOUT = (
    *pair(
        "dropout.Dropout",
        "F.dropout(x, 0.5)",
        constant(dropout.Dropout(0.5)),
        constant(partial(F.dropout, p=0.5)),
        IMAGES,
        forward=2 + MASK,
        backward=2 + MASK,
        comparable=False,  # each draws its own mask
    ),
    *pair(
        "dropout.Dropout2d",
        "F.dropout2d(x, 0.5)",
        constant(dropout.Dropout2d(0.5)),
        constant(partial(F.dropout2d, p=0.5)),
        IMAGES,
        forward=2,
        backward=2,
        comparable=False,
    ),
)

TORCH_ACTIVATIONS: dict[str, tuple[str, Function]] = {
    "sigmoid": ("torch.sigmoid(x)", torch.sigmoid),
    "tanh": ("torch.tanh(x)", torch.tanh),
    "relu": ("F.relu(x)", F.relu),
    "leaky_relu": ("F.leaky_relu(x)", F.leaky_relu),
    "elu": ("F.elu(x)", F.elu),
    "selu": ("F.selu(x)", F.selu),
    "gelu": ("F.gelu(x)", F.gelu),
    "gelu_tanh": ("F.gelu(x, approximate='tanh')", partial(F.gelu, approximate="tanh")),
    "silu": ("F.silu(x)", F.silu),
    "softplus": ("F.softplus(x)", F.softplus),
    "log_sigmoid": ("F.logsigmoid(x)", F.logsigmoid),
}


def naive_because(function: Callable[..., Any]) -> str:
    """Why it is naive on purpose, as its docstring says; empty where it is not, or for some options only."""
    said = re.search(r"Deliberately naive(?! for)[:,] (.*?)[.](\s|$)", function.__doc__ or "", re.DOTALL)
    return " ".join(said[1].split()) if said else ""


def activation(name: str) -> tuple[Operation, Operation]:
    against, theirs = TORCH_ACTIVATIONS[name]
    ours = activations.ACTIVATIONS[name]
    naive = (naive_because(ours.value), naive_because(ours.derivative))
    make = (constant(ours.value), constant(theirs))
    return pair(f"activations.{name}", against, *make, IMAGES, forward=2, backward=3, naive=naive)


def rowwise(name: str) -> tuple[Operation, Operation]:
    value, derivative = getattr(activations, name), getattr(activations, f"{name}_backward")
    naive = (naive_because(value), naive_because(derivative))
    make = (constant(partial(value, dim=-1)), constant(partial(getattr(F, name), dim=-1)))
    return pair(f"activations.{name}", f"F.{name}(x, -1)", *make, LOGITS, forward=2, backward=3, naive=naive)


ACTIVATIONS = (
    *(operation for name in activations.ACTIVATIONS for operation in activation(name)),
    *pair(
        "activations.prelu",
        "F.prelu(x, alpha)",
        constant(lambda x, alpha: activations.prelu(x, alpha.tanh())),  # slopes below 1, as nets have them
        constant(lambda x, alpha: F.prelu(x, alpha.tanh())),
        IMAGES,
        forward=2,
        backward=3,
        more=[(IMAGES[1],)],
        naive=(naive_because(activations.prelu), naive_because(activations.prelu_backward)),
    ),
    *(operation for name in ("softmax", "log_softmax") for operation in rowwise(name)),
)


def made(kind: type[nn.Module], *args: Any, training: bool = True) -> Make:
    return lambda device: kind(*args).to(device).train(training)


def norm(name: str, *args: int, shape: tuple[int, ...], forward: float, backward: float, training: bool = True):
    ours, theirs = getattr(normalization, name), getattr(nn, name)
    return pair(
        f"normalization.{name}" + ("" if training else ".eval"),
        f"nn.{name}({', '.join(map(str, args))})" + ("" if training else ".eval()"),
        made(ours, *args, training=training),
        made(theirs, *args, training=training),
        shape,
        forward=forward,
        backward=backward,
        naive=(naive_because(ours), naive_because(ours)),
    )


NORMALIZATION = (
    # statistics read x, then x is read again and y written; back, both sums read x and grad, and dx does once more
    *norm("BatchNorm2d", IMAGES[1], shape=IMAGES, forward=3, backward=5),
    *norm("BatchNorm2d", IMAGES[1], shape=IMAGES, forward=2, backward=3, training=False),
    *norm("BatchNorm1d", ROWS[1], shape=ROWS, forward=3, backward=5),
    *norm("LayerNorm", ROWS[1], shape=ROWS, forward=2, backward=3),  # a row stays in the cache
    *norm("GroupNorm", 8, IMAGES[1], shape=IMAGES, forward=2, backward=3),
)


MAPS = (32, 32, 32, 32)  # (N, C, H, W) of a conv layer: a million numbers
KERNELS = [(32, 32, 3, 3), (32,)]  # weight and bias
HALF = 0.25  # of x: what 2 × 2 pooling leaves


def channels_last(function: Function) -> Function:
    """The function of x laid out with the channels of a pixel side by side; both arms pay for laying it out."""
    return lambda x: function(x.contiguous(memory_format=torch.channels_last))


CONVOLUTION = (
    *pair(
        "convolution.linear",
        "F.linear(x, w, b)",
        constant(convolution.linear),
        constant(F.linear),
        (2048, ROWS[1]),
        forward=2,
        backward=3,
        more=[(ROWS[1], ROWS[1]), (ROWS[1],)],
    ),
    *pair(
        "convolution.conv2d",
        "F.conv2d(x, w, b, padding=1)",
        constant(partial(convolution.conv2d, padding=1)),
        constant(partial(F.conv2d, padding=1)),
        MAPS,
        forward=2,
        backward=3,
        more=KERNELS,
    ),
    *pair(
        "convolution.conv2d.stride2",
        "F.conv2d(x, w, b, 2, 1)",
        constant(partial(convolution.conv2d, stride=2, padding=1)),
        constant(partial(F.conv2d, stride=2, padding=1)),
        MAPS,
        forward=1 + HALF,
        backward=2 + HALF,
        more=KERNELS,
        naive=("its columns are laid out number by number, as every second one of a row is left out", ""),
    ),
    *pair(
        "convolution.conv2d.depthwise",
        "F.conv2d(x, w, b, padding=1, groups=32)",
        constant(partial(convolution.conv2d, padding=1, groups=MAPS[1])),
        constant(partial(F.conv2d, padding=1, groups=MAPS[1])),
        MAPS,
        forward=2,
        backward=3,
        more=[(MAPS[1], 1, 3, 3), (MAPS[1],)],
        naive=("a pass over the image for each of the kernel's nine places, where PyTorch makes one",) * 2,
    ),
    *pair(
        "convolution.conv2d_naive",
        "F.conv2d(x, w, b, padding=1)",
        constant(partial(convolution.conv2d_naive, padding=1)),
        constant(partial(F.conv2d, padding=1)),
        (2, 3, 8, 8),
        forward=2,
        backward=3,
        more=[(4, 3, 3, 3), (4,)],
        naive=(naive_because(convolution.conv2d_naive),) * 2,
    ),
    *pair(
        "convolution.max_pool2d",
        "F.max_pool2d(x, 2)",
        constant(partial(convolution.max_pool2d, kernel_size=2)),
        constant(partial(F.max_pool2d, kernel_size=2)),
        IMAGES,
        forward=1 + HALF,
        backward=1 + 2 * HALF,
    ),
    *pair(
        "convolution.max_pool2d.channels_last",
        "F.max_pool2d(x, 2)",
        constant(channels_last(partial(convolution.max_pool2d, kernel_size=2))),
        constant(channels_last(partial(F.max_pool2d, kernel_size=2))),
        IMAGES,
        forward=1 + HALF,
        backward=1 + 2 * HALF,
        naive=("five passes for each place of a window, where PyTorch makes one for the window", ""),
    ),
    *pair(
        "convolution.avg_pool2d",
        "F.avg_pool2d(x, 2)",
        constant(partial(convolution.avg_pool2d, kernel_size=2)),
        constant(partial(F.avg_pool2d, kernel_size=2)),
        IMAGES,
        forward=1 + HALF,
        backward=1 + HALF,
    ),
    *pair(
        "convolution.global_avg_pool2d",
        "F.adaptive_avg_pool2d(x, 1).flatten(1)",
        constant(convolution.global_avg_pool2d),
        constant(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1)),
        IMAGES,
        forward=1,
        backward=1,
    ),
)


def smoothed(loss: Callable[..., Tensor]) -> Make:
    return lambda device: partial(loss, torch.arange(LOGITS[0], device=device) % LOGITS[1])


REGULARIZERS = pair(
    "regularizers.label_smoothing_loss",
    "F.cross_entropy(z, y, label_smoothing=0.1)",
    smoothed(lambda labels, logits: regularizers.label_smoothing_loss(logits, labels, 0.1)),
    smoothed(lambda labels, logits: F.cross_entropy(logits, labels, label_smoothing=0.1)),
    LOGITS,
    forward=1,
    backward=2,
)


# a step of an optimizer ------------------------------------------------------------------------------------

MANY_SMALL, FEW_LARGE = [(32, 32)] * 400, [(1024, 1024)] * 4
Rule = Callable[[list[Tensor]], torch.optim.Optimizer]


def steps(name: str, call: str, ours: Rule, theirs: Rule, passes: float) -> tuple[Operation, ...]:
    """Many small and few large tensors, against the class as it is made by default and against foreach=True."""
    return tuple(
        Operation(
            f"optimizers.{name}.{size}" + (".foreach" if foreach else ""),
            "step",
            f"torch.optim.{call[:-1]}, foreach=True)" if foreach else f"torch.optim.{call}",
            partial(build_step, shapes, ours, partial(theirs, foreach=True) if foreach else theirs, passes),
        )
        for size, shapes in (("small", MANY_SMALL), ("large", FEW_LARGE))
        for foreach in (False, True)
    )


def build_step(shapes: list[tuple[int, ...]], ours: Rule, theirs: Rule, passes: float, device: torch.device) -> Arms:
    starts = [torch.randn(shape, device=device) for shape in shapes]
    grads = [torch.randn(shape, device=device) for shape in shapes]

    def stepping(rule: Rule) -> Callable[[], list[Tensor]]:
        params = [start.clone() for start in starts]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer = rule(params)

        def step() -> list[Tensor]:
            optimizer.step()
            return params

        return step

    return Arms(stepping(ours), stepping(theirs), round(passes * sum(start.nbytes for start in starts)))


SGD_OPTIONS = {"lr": 1e-3, "momentum": 0.9}
OPTIMIZERS = (
    # param and gradient are read, param is written; each state is read and written
    *steps("SGD", "SGD(p, lr=1e-3)", partial(optimizers.SGD, lr=1e-3), partial(torch.optim.SGD, lr=1e-3), 3),
    *steps(
        "momentum",
        "SGD(p, lr=1e-3, momentum=0.9)",
        partial(optimizers.SGD, **SGD_OPTIONS),
        partial(torch.optim.SGD, **SGD_OPTIONS),
        5,
    ),
    *steps("AdaGrad", "Adagrad(p)", optimizers.AdaGrad, torch.optim.Adagrad, 5),
    *steps("RMSProp", "RMSprop(p)", optimizers.RMSProp, torch.optim.RMSprop, 5),
    *steps("Adam", "Adam(p)", optimizers.Adam, torch.optim.Adam, 7),
    *steps("AdamW", "AdamW(p)", optimizers.AdamW, torch.optim.AdamW, 7),
)


# kernels for a GPU -----------------------------------------------------------------------------------------


def norm_and_relu(device: torch.device) -> Function:
    norm = nn.BatchNorm2d(IMAGES[1]).to(device)
    return nn.Sequential(norm, nn.ReLU())


class FusedNorm(nn.Module):
    """`fused.batch_norm_activation` with the parameters and buffers of a batch norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(IMAGES[1])

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        return fused.batch_norm_activation(
            x, norm.weight, norm.bias, norm.running_mean, norm.running_var, activation="relu"
        )


FUSED = (
    *pair(
        "fused.batch_norm_activation",
        "F.relu(nn.BatchNorm2d(64)(x))",
        made(FusedNorm),
        norm_and_relu,
        IMAGES,
        forward=3,
        backward=5,
        devices=("cuda",),
    ),
    *pair(
        "fused.dropout_add",
        "r + F.dropout(x, 0.5)",
        constant(lambda x, residual: fused.dropout_add(x, residual, 0.5, seed=0)),
        constant(lambda x, residual: residual + F.dropout(x, 0.5)),
        IMAGES,
        forward=3,
        backward=2,
        more=[IMAGES],
        comparable=False,
        devices=("cuda",),
    ),
    *(
        Operation(
            f"fused.{name}.{size}" + (".fused" if theirs_fused else ""),
            "step",
            f"torch.optim.{name}(p{', fused=True' if theirs_fused else ''})",
            partial(
                build_step,
                shapes,
                getattr(fused, name),
                partial(getattr(torch.optim, name), fused=theirs_fused or None),
                7,
            ),
            devices=("cuda",),
        )
        for name in ("Adam", "AdamW")
        for size, shapes in (("small", MANY_SMALL), ("large", FEW_LARGE))
        for theirs_fused in (False, True)
    ),
)


# ensembles: all nets at once against one after another -----------------------------------------------------

NETS, WIDTH, LAYERS, CLASSES, STEPS = 32, 100, 10, 10, 30
SIZES = (WIDTH,) * LAYERS + (CLASSES,)
CONV_NETS, CONV_STEPS = 8, 5


def pool(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    images = torch.randn(2000, *shape, device=device)
    return images, torch.arange(2000, device=device) % CLASSES


def single_runs(
    make: Callable[[], nn.Module], nets: int, n_steps: int, batch: int, data: tuple[Tensor, Tensor], *, fused: bool
) -> Callable[[], None]:
    """The plain way: one net after another, torch.nn, autograd and torch.optim.AdamW."""
    images, labels = data

    def train() -> None:
        for _ in range(nets):
            net = make().to(images.device)
            rule = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0, fused=fused or None)
            order = torch.randperm(len(labels)).to(images.device)
            for step in range(n_steps):
                rows = order[step * batch % 1920 :][:batch]  # 1920: a whole number of batches
                rule.zero_grad()
                F.cross_entropy(net(images[rows]), labels[rows]).backward()
                rule.step()

    return train


def plain_mlp() -> nn.Module:
    layers = [layer for _ in range(LAYERS - 1) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


def build_mlps(batch: int, fused: bool, device: torch.device) -> Arms:
    data = pool((WIDTH,), device)
    members = [MLPMember(seed=seed) for seed in range(NETS)]
    call = {"n_train": 2000, "steps": STEPS, "batch_size": batch, "score_on": {}}
    products = matrix_products(batch, device)
    return Arms(
        lambda: train_mlps(SIZES, members, data, **call),
        single_runs(plain_mlp, NETS, STEPS, batch, data, fused=fused),
        # a step of AdamW, and each weight once more in each of the two passes
        bytes_moved=STEPS * NETS * 9 * 4 * sum(a * b + b for a, b in pairwise(SIZES)),
        limit=lambda: [products() for _ in range(STEPS)],
        comparable=False,
    )


def matrix_products(batch: int, device: torch.device) -> Callable[[], None]:
    """The batched products of one step and nothing else: three a layer, but for the first one's inputs."""
    inputs = [torch.randn(NETS, batch, width, device=device) for width in SIZES]
    weights = [torch.randn(NETS, a, b, device=device) for a, b in pairwise(SIZES)]
    grads = [torch.empty_like(w) for w in weights]

    def products() -> None:
        for i, w in enumerate(weights):
            torch.bmm(inputs[i], w, out=inputs[i + 1])
        for i, w in enumerate(weights):
            torch.bmm(inputs[i].mT, inputs[i + 1], out=grads[i])
            if i:
                torch.bmm(inputs[i + 1], w.mT, out=inputs[i])

    return products


def plain_conv_net() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, CLASSES)),
    )


def build_conv_nets(device: torch.device) -> Arms:
    data = pool((1, 28, 28), device)
    members = [Member(seed=seed) for seed in range(CONV_NETS)]
    net, call = ConvNet(1, 28, CLASSES), {"n_train": 1000, "steps": CONV_STEPS, "batch_size": 32, "score_on": {}}
    numbers = sum(p.numel() for p in plain_conv_net().parameters())
    return Arms(
        lambda: train_ensemble(net, members, data, **call),
        single_runs(plain_conv_net, CONV_NETS, CONV_STEPS, 32, data, fused=False),
        bytes_moved=CONV_STEPS * CONV_NETS * 9 * 4 * numbers,
        comparable=False,
    )


ENSEMBLES = (
    *(
        Operation(
            f"ensembles.train_mlps.batch{batch}" + (".fused" if fused else ""),
            "step",
            f"{NETS} torch.nn nets one by one, AdamW(p{', fused=True' if fused else ''})",
            partial(build_mlps, batch, fused),
        )
        for batch in (32, 128)
        for fused in (False, True)
    ),
    Operation(
        "ensembles.train_ensemble.conv",
        "step",
        f"{CONV_NETS} torch.nn nets one by one, AdamW(p)",
        build_conv_nets,
        devices=("cpu",),  # its batches are drawn where the labels are, on the CPU
    ),
)

OPERATIONS: tuple[Operation, ...] = (
    *DROPOUT,
    *ACTIVATIONS,
    *NORMALIZATION,
    *CONVOLUTION,
    *REGULARIZERS,
    *OPTIMIZERS,
    *FUSED,
    *ENSEMBLES,
)
