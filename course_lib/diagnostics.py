"""What goes on inside a net: activations and gradients layer by layer, dead and saturated units, the size of updates,
whether a gradient is right, and where the memory of a step goes.

Everything here looks and leaves no trace: hooks are removed also after an error, modes, parameters, `.grad`, running
statistics and the random generators are afterwards as they were.

Sources: Glorot & Bengio 2010 (statistics by layer, saturation); He et al. 2015, arXiv:1502.01852 (forward and backward
variance); Karpathy, makemore part 3 (update:weight ratio, its guide value 1e-3); Stanford CS231n, "Gradient checks".
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib.architectures import ElementwisePReLU, ScaledTanh
from course_lib.training import modes_kept

__all__ = [
    "ELEMENTWISE",
    "GradientCheck",
    "GradientNorm",
    "LayerStatistics",
    "StepMemory",
    "gradient_check",
    "gradient_norms",
    "layer_statistics",
    "peak_memory",
    "snapshot",
    "step_memory",
    "update_ratios",
]

Data = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]

# layers whose slope is asked for: each output value depends on its own input value alone
ELEMENTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardswish,
    ElementwisePReLU,
    ScaledTanh,
)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Run the body, then put back every module's mode, the buffers' values and the random generators."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with modes_kept(model), torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


# statistics by layer -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerStatistics:
    """One layer's outputs over a whole data set, and the gradients of each example's own loss with respect to them.

    `saturated` is the share of values at which the layer's slope is under 5% of its steepest; `dead` the share of
    units (features, or maps) whose slope is exactly 0 at every value of every example, so that nothing can teach
    them. Both are None for a layer that is no activation. `gradient_mean` and `gradient_std` are None for a layer
    that no gradient reaches.
    """

    name: str
    kind: str
    mean: float
    std: float
    saturated: float | None
    dead: float | None
    gradient_mean: float | None
    gradient_std: float | None


class _Moments:
    """Mean and variance over many batches, in float64, merged as Chan et al. 1983 do: nothing cancels at ±1e4."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        n = values.numel()
        if n == 0:
            return
        values = values.detach().double()
        mean = values.mean()
        squares = (values - mean).square().sum()
        total = self.count + n
        shift = mean - self.mean
        self.mean = self.mean + shift * (n / total)
        self.squares = self.squares + squares + shift.square() * (self.count * n / total)
        self.count = total

    @property
    def std(self) -> float:
        return float(self.squares / self.count) ** 0.5


class _Watch:
    """What is gathered about one layer while the data set goes through it."""

    def __init__(self, module: nn.Module, elementwise: tuple[type[nn.Module], ...], saturated_below: float):
        self.module = module
        self.is_activation = isinstance(module, elementwise)
        self.values, self.gradients = _Moments(), _Moments()
        self.saturated: Tensor | int = 0
        self.seen = 0
        self.alive: Tensor | None = None  # (units,): some value had a slope
        self.flat = saturated_below * _steepest(module) if self.is_activation else 0.0

    def before(self, module: nn.Module, args: tuple) -> None:
        """Look at the slope before the layer runs: in place, it overwrites its input."""
        slope = _slope(module, args[0])
        self.saturated = self.saturated + (slope < self.flat).sum()
        self.seen += slope.numel()
        alive = (slope > 0).movedim(1, 0).flatten(1).any(1)
        self.alive = alive if self.alive is None else self.alive | alive

    def after(self, module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        output = output[0] if isinstance(output, tuple) else output
        self.values.add(output)
        if output.requires_grad:
            # the loss is a mean over the batch: times its size, this is the gradient of an example's own loss
            size = len(output)
            output.register_hook(lambda grad: self.gradients.add(grad * size))

    def statistics(self, name: str) -> LayerStatistics:
        activation, reached = self.is_activation and self.seen > 0, self.gradients.count > 0
        return LayerStatistics(
            name=name,
            kind=type(self.module).__name__,
            mean=float(self.values.mean),
            std=self.values.std,
            saturated=int(self.saturated) / self.seen if activation else None,
            dead=1 - float(self.alive.double().mean()) if activation else None,
            gradient_mean=float(self.gradients.mean) if reached else None,
            gradient_std=self.gradients.std if reached else None,
        )


def _slope(module: nn.Module, z: Tensor) -> Tensor:
    """|d layer(z)/dz|, value by value, from autograd: no table of derivatives to keep right."""
    with torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        out = module.forward(
            z.clone()
        )  # not module(z), which would call the hooks again; a copy, as it may be in place
        return torch.autograd.grad(out.sum(), z)[0].abs()


def _steepest(module: nn.Module) -> float:
    if isinstance(module, nn.PReLU | ElementwisePReLU):
        return max(1.0, float(module.weight.detach().abs().max()))
    return float(_slope(module, torch.linspace(-6, 6, 1201)).max())


def layer_statistics(
    model: nn.Module,
    data: Data,
    *,
    layers: Sequence[str] | None = None,
    loss_fn: Loss = F.cross_entropy,
    batch_size: int = 256,
    elementwise: tuple[type[nn.Module], ...] = ELEMENTWISE,
    saturated_below: float = 0.05,
) -> tuple[LayerStatistics, ...]:
    """`LayerStatistics` of each layer over all of data = (inputs, labels), in the mode that each layer is in.

    A unit is dead only if it is so on every example, not on those of one batch. `layers` names modules (as
    `named_modules` does), all that hold no others unless given. `loss_fn` is a mean over the batch. Name activation
    classes of your own in `elementwise`; what is computed by a function inside a forward is no layer, and not seen.
    Raises ValueError for empty or uneven data, and for a name that the model lacks.
    """
    inputs, labels = data
    if len(inputs) != len(labels) or len(labels) == 0:
        raise ValueError(f"data needs as many inputs as labels, and some: got {len(inputs)} and {len(labels)}")
    modules = dict(model.named_modules())
    if layers is None:
        layers = [name for name, module in modules.items() if not list(module.children())]
    missing = [name for name in layers if name not in modules]
    if missing:
        raise ValueError(f"the model has no layer called {missing[0]!r}; it has {', '.join(filter(None, modules))}")
    watches = {name: _Watch(modules[name], elementwise, saturated_below) for name in layers}
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    handles = []
    try:
        for watch in watches.values():
            if watch.is_activation:
                handles.append(watch.module.register_forward_pre_hook(watch.before))
            handles.append(watch.module.register_forward_hook(watch.after))
        with untouched(model), torch.enable_grad():
            for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
                x = x.detach().to(device)
                # the inputs too, where they have a gradient, so that frozen layers are seen; nothing goes to .grad
                sources = [parameter for parameter in model.parameters() if parameter.requires_grad]
                if x.is_floating_point():
                    x = x.clone().requires_grad_()
                    sources.append(x)
                torch.autograd.grad(loss_fn(model(x), y.to(device)), sources, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(watch.statistics(name) for name, watch in watches.items() if watch.values.count)


# gradients and updates ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientNorm:
    """Euclidean norms of one parameter and of its gradient, and how many numbers it holds."""

    name: str
    weight_norm: float
    gradient_norm: float
    numbers: int


def gradient_norms(model: nn.Module) -> tuple[GradientNorm, ...]:
    """‖w‖ and ‖∂L/∂w‖ of every parameter with a gradient now in `.grad`, in the order of the layers.

    Norms are taken for all parameters together, in float64 where they would overflow or vanish otherwise, and brought
    to the host once. Raises ValueError where no parameter has a gradient: call it after `backward()`.
    """
    named = [(name, p.detach(), p.grad.detach()) for name, p in model.named_parameters() if p.grad is not None]
    if not named:
        raise ValueError("no parameter has a gradient: call gradient_norms after loss.backward()")
    tensors = [p for _, p, _ in named] + [grad for _, _, grad in named]
    norms = _norms(tensors)
    return tuple(GradientNorm(name, norms[i], norms[i + len(named)], p.numel()) for i, (name, p, _) in enumerate(named))


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    return torch.stack([torch.linalg.vector_norm(t, dtype=torch.float64) for t in tensors]).tolist()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's parameters by name, to compare with after a step: see `update_ratios`."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def update_ratios(before: Mapping[str, Tensor], model: nn.Module) -> dict[str, float]:
    """‖w − w₀‖ / ‖w₀‖ of every parameter, where `before` holds the w₀: a healthy step moves weights by about 1e-3.

    0 for a parameter that has not moved, infinite for one that has from all zeros, as biases do at first. Raises
    ValueError unless `before` names the model's parameters, with their shapes.
    """
    now = dict(model.named_parameters())
    if {name: p.shape for name, p in before.items()} != {name: p.shape for name, p in now.items()}:
        raise ValueError("before has to name the model's own parameters, with their shapes: take it by snapshot(model)")
    if not now:
        return {}
    start = [before[name] for name in now]
    norms = _norms([p.detach() - w for p, w in zip(now.values(), start, strict=True)] + start)
    moved, size = norms[: len(now)], norms[len(now) :]
    return {name: m / s if s else (float("inf") if m else 0.0) for name, m, s in zip(now, moved, size, strict=True)}


@dataclass(frozen=True)
class GradientCheck:
    """A gradient against central differences, at the entry where they disagree most.

    `error` is |a − n| / max(|a|, |n|) there: about 1e-9 for a right gradient, 1e-2 and more for a wrong one. `errors`
    holds the largest of each input.
    """

    error: float
    errors: tuple[float, ...]
    input: int
    position: tuple[int, ...]
    analytic: float
    numeric: float

    @property
    def ok(self) -> bool:
        return self.error < 1e-6


FLOOR = 1e-4  # entries so far below the gradient's largest are judged on its scale: differences don't resolve them


def gradient_check(
    function: Callable[..., Tensor],
    *inputs: Tensor,
    backward: Callable[[Tensor], Tensor | Sequence[Tensor]] | None = None,
    step: float = 6e-6,
) -> GradientCheck:
    """Compare the gradient of Σ v · function(*inputs), v fixed and random, with (f(x + h) − f(x − h)) / 2h.

    The gradient is autograd's, or that of `backward(v)`, which returns one tensor an input. h is `step` · max(1, |x|),
    near ε^(1/3), where cutting off and rounding cost alike; away from kinks the error falls as h². Deliberately naive:
    it calls the function twice a number. Raises ValueError for inputs that are not float64 (in float32 the differences
    have three digits), and for a backward of the wrong number of gradients or shapes.
    """
    if not inputs or any(x.dtype != torch.float64 for x in inputs):
        raise ValueError("the check needs inputs, all float64: in float32 differences have about three digits")
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    with torch.enable_grad():
        out = function(*leaves)
        v = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(out.device)
        if backward is None:
            got = torch.autograd.grad((v * out).sum(), leaves, allow_unused=True)
            analytic = [torch.zeros_like(x) if g is None else g for g, x in zip(got, leaves, strict=True)]
        else:
            got = backward(v)
            analytic = [g.detach() for g in ([got] if isinstance(got, Tensor) else got)]
    if [a.shape for a in analytic] != [x.shape for x in leaves]:
        raise ValueError(f"the gradients' shapes {[tuple(a.shape) for a in analytic]} are not the inputs'")
    points = [x.detach().clone(memory_format=torch.contiguous_format) for x in inputs]
    worst, errors = None, []
    for i, (point, a) in enumerate(zip(points, analytic, strict=True)):
        n = _central_differences(lambda: (v * function(*points)).sum(), point, step)
        larger = torch.maximum(a.abs(), n.abs())
        finite = larger.nan_to_num(nan=0.0, posinf=0.0)
        scale = larger.clamp(min=FLOOR * float(finite.max())) if larger.numel() else larger
        # NaN compares as unequal to 0, and comes out as an infinite error
        off = torch.where(scale == 0, 0.0, (a - n).abs() / scale).nan_to_num(nan=float("inf"))
        errors.append(float(off.max()) if off.numel() else 0.0)
        if off.numel() and (worst is None or errors[-1] > worst.error):
            at = tuple(int(index) for index in torch.unravel_index(off.argmax(), off.shape))
            worst = GradientCheck(errors[-1], (), i, at, float(a[at]), float(n[at]))
    if worst is None:
        return GradientCheck(0.0, tuple(errors), 0, (), 0.0, 0.0)  # nothing to differ in
    return GradientCheck(worst.error, tuple(errors), worst.input, worst.position, worst.analytic, worst.numeric)


@torch.no_grad()
def _central_differences(f: Callable[[], Tensor], point: Tensor, step: float) -> Tensor:
    """∂f/∂point, where f reads point, which is moved in place and put back."""
    slopes = torch.empty_like(point)
    flat, out = point.view(-1), slopes.view(-1)
    for i in range(flat.numel()):
        x = float(flat[i])
        h = step * max(1.0, abs(x))
        high, low = x + h, x - h
        flat[i] = high
        above = f()
        flat[i] = low
        below = f()
        flat[i] = x
        out[i] = (above - below) / (high - low)  # the step as it was really made
    return slopes


# memory ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step by kind; `by_layer` says which layer first kept how much of the activations.

    Activations are the tensors that autograd saves for the backward pass, each storage once, without parameters,
    buffers and the batch itself; the loss's own are listed under "loss".
    """

    parameters: int
    buffers: int
    inputs: int
    activations: int
    gradients: int
    optimizer_state: int
    by_layer: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        net = self.parameters + self.buffers + self.inputs
        return net + self.activations + self.gradients + self.optimizer_state

    def __str__(self) -> str:
        names = ("parameters", "buffers", "inputs", "activations", "gradients", "optimizer_state", "total")
        return "\n".join(f"{name.replace('_', ' '):<16}{getattr(self, name):>16,}" for name in names)


def step_memory(
    model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, *, loss_fn: Loss = F.cross_entropy
) -> StepMemory:
    """Where the memory of one step on the batch (x, y) goes, by taking that step with copies of model and optimizer.

    The originals are not run: no gradient, no state, no running statistic changes (for the moment parameters and
    optimizer state are in memory twice). What the kernels use and give back within an operation is not in it; see
    `peak_memory`. Raises ValueError for an optimizer that holds none of the model's parameters.
    """
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("the optimizer holds none of the model's parameters")
    twin, rule = copy.deepcopy((model, optimizer))
    rule.zero_grad()  # what was accumulated is not this step's
    x, y = x.detach(), y.detach()
    aside = {t.untyped_storage().data_ptr() for t in (*twin.parameters(), *twin.buffers(), x, y)}
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is given out twice
    by_layer: dict[str, int] = {}
    running: list[str] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in aside and address not in storages:
            storages[address] = storage
            layer = running[-1] if running else "loss"
            by_layer[layer] = by_layer.get(layer, 0) + storage.nbytes()
        return tensor

    def leave() -> None:  # a hook that returned something would replace the output
        running.pop()

    for name, module in twin.named_modules():
        module.register_forward_pre_hook(lambda module, args, name=name: running.append(name))
        module.register_forward_hook(lambda module, args, out: leave())
    cuda = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.enable_grad():
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = loss_fn(twin(x), y)
        loss.backward()
    rule.step()
    gradients = [p.grad for p in twin.parameters() if p.grad is not None]
    state = [value for values in rule.state.values() for value in values.values() if isinstance(value, Tensor)]
    return StepMemory(
        parameters=_bytes(twin.parameters()),
        buffers=_bytes(twin.buffers()),
        inputs=x.nbytes + y.nbytes,
        activations=sum(storage.nbytes() for storage in storages.values()),
        gradients=_bytes(gradients),
        optimizer_state=_bytes(state),
        by_layer=tuple((name, size) for name, size in by_layer.items() if size),
    )


def _bytes(tensors) -> int:
    """Bytes of these tensors' storages, each counted once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


class _Live(TorchDispatchMode):
    """Sees every operation, and adds up the storages that it makes, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, weakref.ref] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in _tensors((args, kwargs)):
            self.note(tensor, known=True)  # whatever was there before is nobody's growth
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self.note(tensor, known=False)
        return out

    def note(self, tensor: Tensor, known: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.storages:
            return
        size = 0 if known else storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed(_: weakref.ref) -> None:
            self.now -= size
            self.storages.pop(key, None)

        self.storages[key] = weakref.ref(storage, freed)


def _tensors(tree) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        yield from _tensors(tuple(tree.values()))
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from _tensors(branch)


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes of tensors that `call()` has in memory at once, besides those that were there before it.

    It counts the storages that PyTorch's operations make, on every device, forward and backward, as they come and go;
    not what a kernel uses inside one operation, nor what an allocator holds back. On CUDA
    `torch.cuda.max_memory_allocated` sees the kernels' too. The result of the call goes with it.
    """
    with _Live() as live:
        call()
    return live.peak
