"""T1, T3, T4, T8: what freezing leaves alone, what it saves in seconds and bytes, and what another image size asks."""

import copy
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.transfer.trunks import batches, pretrained_net
from course_lib.datasets import as_tensors, load
from course_lib.diagnostics import StepMemory, peak_memory, step_memory
from course_lib.pretrained import photographs, preprocess
from course_lib.quiet import load_keras
from course_lib.transfer import freeze, fully_convolutional, parameter_groups, relative_distance

__all__ = ["CLAIMS"]


# T1 ------------------------------------------------------------------------------------------------------

FROZEN_STEPS = 20
WAYS = {
    "PyTorch, requires_grad_(False)": "flag",
    "PyTorch, and the norm held in eval()": "held",
    "Keras, trainable = False": "keras",
}


def rows_of_digits(seed: int) -> tuple[Tensor, Tensor]:
    """500 digits as rows of 196 pixels: not what a net with fresh statistics is used to."""
    x, y = as_tensors(*load("mnist5k").subset(50, seed=seed))
    return F.avg_pool2d(x, 2).flatten(1), y


def frozen_in_torch(seed: int, *, held: bool) -> tuple[float, float, float, int]:
    """(% the frozen weights moved, % the running statistics did, % the head did, tensors of optimizer state below "
    "it)."""
    x, y = rows_of_digits(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(196, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
        net(torch.rand(64, 196))  # statistics that are not 0 and 1
    freeze(net, "0.*", "1.*", norms=held)
    optimizer = torch.optim.AdamW(parameter_groups(net, {"*": 1e-2}), weight_decay=0.1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    for rows in batches(len(y), 32, FROZEN_STEPS, seed):
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    after = net.state_dict()

    def moved(*names):
        return 100 * max(float(relative_distance(before[name], after[name])) for name in names)

    below = {id(p) for p in (*net[0].parameters(), *net[1].parameters())}
    state = sum(len(values) for p, values in optimizer.state.items() if id(p) in below)
    return moved("0.weight", "1.weight"), moved("1.running_mean", "1.running_var"), moved("3.weight"), state


def frozen_in_keras(seed: int) -> tuple[float, float, float, int]:
    """The same net and steps in Keras, its lower layers with trainable = False."""
    keras = load_keras()
    x, y = rows_of_digits(seed)
    keras.utils.set_random_seed(seed)
    low = [keras.layers.Dense(32), keras.layers.BatchNormalization(momentum=0.9)]
    head = keras.layers.Dense(10)
    net = keras.Sequential([keras.Input((196,)), *low, keras.layers.ReLU(), head])
    net(np.random.default_rng(seed).random((64, 196), dtype=np.float32), training=True)
    for layer in low:
        layer.trainable = False
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.AdamW(1e-2, weight_decay=0.1), loss, run_eagerly=True)
    before = [layer.get_weights() for layer in (*low, head)]
    for rows in batches(len(y), 32, FROZEN_STEPS, seed):
        net.train_on_batch(x[rows].numpy(), y[rows].numpy())
    after = [layer.get_weights() for layer in (*low, head)]

    def moved(layer, *fields):
        pairs = [(torch.tensor(before[layer][f]), torch.tensor(after[layer][f])) for f in fields]
        return 100 * max(float(relative_distance(a, b)) for a, b in pairs)

    shapes = [tuple(v.shape) for v in net.optimizer.variables]
    return max(moved(0, 0), moved(1, 0)), moved(1, 2, 3), moved(2, 0), shapes.count((196, 32)) + shapes.count((32,))


def measure_frozen(seeds):
    """What moves in 20 steps of AdamW with weight decay under a frozen layer and its batch norm."""
    runs = {
        "flag": lambda seed: frozen_in_torch(seed, held=False),
        "held": lambda seed: frozen_in_torch(seed, held=True),
        "keras": frozen_in_keras,
    }
    found = {arm: [runs[way](seed) for seed in seeds] for arm, way in WAYS.items()}
    names = ("frozen weights", "running statistics", "head", "optimizer state")
    return Measured(
        series=tuple(
            Series(
                f"{name} moved in {FROZEN_STEPS} steps" if i < 3 else "tensors of optimizer state for frozen weights",
                "% of their size" if i < 3 else "",
                {arm: [[values[i] for values in by_seed]] for arm, by_seed in found.items()},
                identical="what is frozen does not move at all; the same start gives the same head"
                if i != 1
                else "what is held does not move at all",
            )
            for i, name in enumerate(names)
        )
    )


def decide_frozen(measured):
    weights, statistics, head, state = measured.series
    still = all(weights.values(arm).max() == 0 and state.values(arm).max() == 0 for arm in WAYS)
    drifting = [arm for arm in WAYS if statistics.values(arm).min() > 1]
    if still and not drifting:
        verdict, condition = HOLDS, ""
    elif still:
        verdict = HOLDS_WHEN
        condition = "weights are meant, to the last bit; a batch norm's running statistics still move with "
        condition += " and ".join(drifting)
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = next(iter(WAYS))
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of(f"running statistics moved, {first}", "% of their size", statistics.values(first)),
        figures={
            "steps": FROZEN_STEPS,
            "weights": max(weights.values(arm).max() for arm in WAYS),
            "head": head.mean(first),
            "flag": statistics.mean(first),
            "held": statistics.mean("PyTorch, and the norm held in eval()"),
            "keras": statistics.mean("Keras, trainable = False"),
        },
    )


# T3 ------------------------------------------------------------------------------------------------------

OPEN = {0: (), 1: (15,), 5: range(11, 16), 11: range(5, 16), 16: range(16)}  # blocks that train beside the head
PIXELS = (48, 64)
BATCH = 16


def opened_net(blocks: int) -> nn.Module:
    """A copy of the net whose head and highest `blocks` blocks train (16: everything), its norms in inference."""
    net = copy.deepcopy(pretrained_net())
    net.classifier.requires_grad_(True)
    if blocks:
        net.top.requires_grad_(True)
    for i in OPEN[blocks]:
        net.blocks[i].requires_grad_(True)
    if blocks == len(net.blocks):
        net.stem.requires_grad_(True)
    return net.eval()


def a_batch(pixels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    images, labels = load("emoji8").subset(2, seed=seed)
    return preprocess(images[:BATCH], pixels), torch.tensor(labels[:BATCH])


def adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-5)


def measure_speed(seeds):
    """Processor time and bytes of a training step by how many blocks train; each seed times a step on its own."""
    seconds, megabytes = {f"{p} px": [] for p in PIXELS}, {f"{p} px": [] for p in PIXELS}
    for pixels in PIXELS:
        for blocks in OPEN:
            net = opened_net(blocks)
            optimizer = adam(net)
            x, y = a_batch(pixels)
            train_step(net, optimizer, x, y)
            times = []
            for seed in seeds:
                x, y = a_batch(pixels, seed)
                started = time.process_time()
                train_step(net, optimizer, x, y)
                times.append(time.process_time() - started)
            seconds[f"{pixels} px"].append(times)
            size = step_memory(net, x, y, optimizer)
            extra = (size.activations + size.gradients + size.optimizer_state) / 2**20
            megabytes[f"{pixels} px"].append([extra] * len(seeds))
    return Measured(
        series=(
            Series("time of a training step", "s", seconds, "blocks that train", tuple(OPEN)),
            Series("memory beside the weights", "MiB", megabytes, "blocks that train", tuple(OPEN)),
        )
    )


def train_step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()


def decide_speed(measured):
    seconds, megabytes = measured.series
    steps = list(OPEN)
    slower = {
        (arm, a, b): Interval.of_difference("", "", seconds.values(arm, b), seconds.values(arm, a))
        for arm in seconds.arms
        for a, b in pairwise(steps)
    }
    whole = {
        arm: Interval.of(
            f"time of a step, everything trains ÷ the head alone, {arm}",
            "times",
            seconds.values(arm, steps[-1]) / seconds.values(arm, 0),
        )
        for arm in seconds.arms
    }
    if all(interval.low > 0 for interval in slower.values()):
        verdict, condition = HOLDS, ""
    elif all(interval.low > 1 for interval in whole.values()):
        verdict, condition = HOLDS_WHEN, "the head alone is compared with everything; single steps between are unclear"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    arm = f"{PIXELS[-1]} px"
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=whole[arm],
        figures={
            "batch": BATCH,
            "size": arm,
            "head": seconds.mean(arm, 0),
            "all": seconds.mean(arm, steps[-1]),
            "ratio": whole[arm].mean,
            "head_mb": megabytes.mean(arm, 0),
            "all_mb": megabytes.mean(arm, steps[-1]),
        },
    )


# T4 ------------------------------------------------------------------------------------------------------

KINDS = ("parameters", "activations", "gradients", "optimizer_state")
SETS = (range(8), range(8, 13), range(13, 16))  # layers trained one set after another, the rest frozen
WAYS4 = ("everything trains", "the head alone trains", "precomputed features", "checkpointing", "one set after another")


class Checkpointed(nn.Module):
    """The net, keeping only each block's input and computing the rest again on the way back."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        h = self.net.stem(x)
        for block in self.net.blocks:
            h = checkpoint(block, h, use_reentrant=False)
        return self.net.classifier(self.net.top(h).mean((2, 3)))


def one_set(blocks: range) -> nn.Module:
    """A copy of which only these blocks and the head train (with the first set the stem, with the last the top)."""
    net = copy.deepcopy(pretrained_net())
    net.classifier.requires_grad_(True)
    for i in blocks:
        net.blocks[i].requires_grad_(True)
    net.stem.requires_grad_(0 in blocks)
    net.top.requires_grad_(len(net.blocks) - 1 in blocks)
    return net.eval()


def measure_memory(seeds):
    """Bytes of one training step of 16 images of 64 px, by kind, and the most that was in use at once."""
    x, y = a_batch(64)
    with torch.no_grad():
        features = pretrained_net().feature_maps(x).mean((2, 3))

    def alone():
        return copy.deepcopy(pretrained_net().classifier).requires_grad_(True)

    ways: dict[str, list[tuple[nn.Module, Tensor]]] = {
        WAYS4[0]: [(opened_net(16), x)],
        WAYS4[1]: [(opened_net(0), x)],
        WAYS4[2]: [(alone(), features)],
        WAYS4[3]: [(Checkpointed(opened_net(16)), x)],
        WAYS4[4]: [(one_set(blocks), x) for blocks in SETS],
    }
    peak: dict[str, float] = {}
    by_kind: dict[str, StepMemory] = {}
    for way, nets in ways.items():
        rows = []
        for net, inputs in nets:
            optimizer = adam(net)
            train_step(net, optimizer, inputs, y)  # so that the optimizer's state is there
            optimizer.zero_grad()
            beside = sum(p.nbytes for p in net.parameters()) + sum(
                v.nbytes for values in optimizer.state.values() for v in values.values() if isinstance(v, Tensor)
            )
            most = beside + peak_memory(lambda n=net, o=optimizer, i=inputs: train_step(n, o, i, y))
            rows.append((most, step_memory(net, inputs, y, optimizer)))
        most, kinds = max(rows, key=lambda row: row[0])
        peak[way], by_kind[way] = most / 2**20, kinds
    return Measured(
        series=(Series("most memory in use in a step", "MiB", {way: [[mb] * len(seeds)] for way, mb in peak.items()}),),
        tables=(
            Table(
                f"one step of {BATCH} images of 64 px with AdamW, in MiB (one set after another: the largest set)",
                ("way", *(kind.replace("_", " ") for kind in KINDS), "most at once"),
                [
                    (way, *(f"{getattr(by_kind[way], kind) / 2**20:.1f}" for kind in KINDS), f"{peak[way]:.1f}")
                    for way in WAYS4
                ],
            ),
        ),
    )


def decide_memory(measured):
    (series,) = measured.series
    full = series.mean(WAYS4[0])
    shares = {way: 100 * series.mean(way) / full for way in WAYS4}
    if shares[WAYS4[4]] < 50:
        verdict, condition = HOLDS, ""
    elif shares[WAYS4[4]] < 90:
        others = [way for way in WAYS4[1:4] if shares[way] < shares[WAYS4[4]]]
        verdict = HOLDS_WHEN
        condition = (
            f"{100 - shares[WAYS4[4]]:.0f}% less is enough: the gradients still have to pass every layer above the "
        )
        condition += "set, and every weight is loaded"
        condition += f"; {' and '.join(others)} need less" if others else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of(f"most memory, {WAYS4[4]}", "MiB", series.values(WAYS4[4])),
        figures={
            "full": full,
            "told": "; ".join(f"{way} {shares[way]:.0f}%" for way in WAYS4[1:]),
        },
    )


# T8 ------------------------------------------------------------------------------------------------------

SIDES = (64, 96, 128)


def dense_net(seed: int) -> nn.Sequential:
    """A small net in VGG's manner: convolutions, then dense layers on the flattened 4 × 4 maps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(16 * 16, 32), nn.ReLU(), nn.Linear(32, 5),
        )  # fmt: skip


def measure_sizes(seeds):
    """Dense layers as convolutions at the old size and on windows of a larger image; the pretrained net at three "
    "sizes."""
    same, windows, maps = [], [], []
    x = as_tensors(load("emoji8").test.images[:16])
    for seed in seeds:
        net = dense_net(seed).eval()
        conv = fully_convolutional(net, (3, 32, 32)).eval()
        large = F.pad(x, (8, 24, 16, 8))  # 56 x 64, with the picture somewhere inside
        with torch.no_grad():
            expected, got = net(x), conv(x)[:, :, 0, 0]
            found = conv(large)
            step = 8  # pixels between two places of the map: the pooling's
            crops = [
                net(large[:, :, step * i : step * i + 32, step * j : step * j + 32])
                for i in range(found.shape[2])
                for j in range(found.shape[3])
            ]
        unpadded = found.flatten(2).permute(2, 0, 1)
        same.append(100 * float((got - expected).abs().max() / expected.abs().max()))
        windows.append(100 * float((unpadded - torch.stack(crops)).abs().mean() / unpadded.abs().mean()))
        maps.append(float(found.shape[2] * found.shape[3]))
    shots = photographs()
    rows = []
    for side in SIDES:
        with torch.no_grad():
            logits = pretrained_net()(preprocess(shots.images, side))
        right = int((logits.argmax(-1) == torch.tensor(shots.labels)).sum())
        rows.append((f"{side} px", " × ".join(map(str, [-(-side // 32)] * 2)), f"{right} of {len(shots.labels)}"))
    fixed = outcome(lambda: dense_net(0)(torch.zeros(1, 3, 64, 64)))
    cut = outcome(lambda: nn.Sequential(*list(dense_net(0))[:3], *list(dense_net(0))[4:])(torch.zeros(1, 3, 32, 32)))
    return Measured(
        series=(
            Series("difference of outputs at the old size", "% of the largest", {"dense as convolution": [same]}),
            Series("places of the map at 56 × 64 px", "", {"dense as convolution": [maps]}),
            Series("difference from crops of the larger image", "% on average", {"dense as convolution": [windows]}),
        ),
        tables=(
            Table("the pretrained net, with its average over places", ("size", "last maps", "photographs right"), rows),
            Table(
                "what cannot be done",
                ("attempt", "outcome"),
                [("dense layers at 64 px instead of 32", fixed), ("a convolution taken out", cut)],
            ),
        ),
    )


def outcome(call: Callable[[], Tensor]) -> str:
    try:
        return f"works: {tuple(call().shape)}"
    except RuntimeError as error:
        return f"RuntimeError: {str(error).splitlines()[0][:80]}"


def decide_sizes(measured):
    same = measured.series[0].values("dense as convolution")
    cannot = all(row[1].startswith("RuntimeError") for row in measured.tables[1].rows)
    verdict = HOLDS if same.max() < 1e-3 and cannot else DOES_NOT_HOLD
    return Decision(
        verdict=verdict,
        interval=Interval.of("difference of outputs at the old size", "% of the largest", same),
        figures={
            "worst": same.max(),
            "places": measured.series[1].mean("dense as convolution"),
            "crops": measured.series[2].mean("dense as convolution"),
            "sizes": "; ".join(f"{size}: {right}" for size, _, right in measured.tables[0].rows),
        },
    )


SEEDS = tuple(range(5))
CLAIMS = (
    Claim(
        id="T1",
        statement="A frozen layer's weights do not change.",
        headline="In {steps} steps of AdamW with weight decay, frozen weights moved by {weights:.0f}%, the head by "
        "{head:.0f}%. The running statistics of a frozen batch norm moved by {flag:.0f}% where PyTorch's flag alone "
        "was "
        "set, by {held:.0f}% where the norm was held in evaluation, and by {keras:.0f}% in Keras.",
        rule="Holds if with every way of freezing the weights are the same to the last bit, the optimizer keeps no "
        "state "
        "for them, and running statistics move by less than 1%; holds when … if only the statistics move.",
        measure=measure_frozen,
        decide=decide_frozen,
        seeds=SEEDS,
    ),
    Claim(
        id="T3",
        statement="The more layers are unfrozen, the slower the training.",
        headline="A step of {batch} images of {size} takes {head:.3f} s with the head alone training and {all:.3f} s "
        "with "
        "everything, {ratio:.1f} times as long; beside the weights it needs {head_mb:.1f} and {all_mb:.0f} MiB.",
        rule="Holds if at both image sizes each further set of unfrozen blocks makes the step slower (paired 95% "
        "intervals "
        "above 0); holds when … if only everything against the head alone is clear.",
        measure=measure_speed,
        decide=decide_speed,
        seeds=tuple(range(10)),
    ),
    Claim(
        id="T4",
        statement="Out of memory: train sets of layers one after another, with the rest frozen.",
        headline="With everything training a step needs {full:.0f} MiB at most. Of that: {told}.",
        rule="Holds if training sets of layers in turn halves the peak; holds when … if it saves at least a tenth.",
        measure=measure_memory,
        decide=decide_memory,
        seeds=SEEDS,
    ),
    Claim(
        id="T8",
        statement="Layers cannot be taken out at will, but convolutions and pooling take images of any size, and a "
        "dense "
        "layer is a convolution of the size of its input.",
        headline="As convolutions, dense layers give the same outputs within {worst:.5f}%, and a map of {places:.0f} "
        "answers on larger images, within {crops:.0f}% of those on crops (the rest is padding at the crops' edges). "
        "The pretrained net runs at each size; of four photographs it names, at {sizes}.",
        rule="Holds if the outputs at the old size agree within 0.001%, and both a dense layer at another size and a "
        "net "
        "with a convolution taken out fail.",
        measure=measure_sizes,
        decide=decide_sizes,
        seeds=SEEDS,
    ),
)
