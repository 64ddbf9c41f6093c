"""B1: the operation itself, number by number against PyTorch and Keras."""

import math

import numpy as np
import torch
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.experiments import images
from course_lib.normalization import (
    batch_norm,
    batch_norm_backward,
    moving_update,
    running_update,
    unbiased,
)
from course_lib.quiet import load_keras

__all__ = ["CLAIMS"]

BATCHES, SIZE = 20, 16  # batches that the running statistics see, images in each


def relative(got, expected) -> float:
    """The largest difference over the largest expected value."""
    got, expected = (torch.as_tensor(np.asarray(v)).double() for v in (got, expected))
    return float((got - expected).abs().max() / expected.abs().max())


def measure_operation(seeds):
    """The maps of a random conv on real images, normalized by our formulas and by the frameworks."""
    data, keras = images("emoji8", halve=True), load_keras()
    found, moments = {}, {"mean": [], "standard deviation": []}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        kernel = torch.randn(6, 3, 3, 3, generator=generator)
        maps = nn.functional.conv2d(data.train[0][torch.randperm(len(data.train[1]), generator=generator)], kernel)
        batches = maps[: BATCHES * SIZE].split(SIZE)
        weight, bias = torch.rand(6, generator=generator) + 0.5, torch.randn(6, generator=generator)
        grad = torch.randn(batches[0].shape, generator=generator)

        torch_layer = nn.BatchNorm2d(6)
        keras_layer = keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
        keras_layer.build((None, *maps.shape[2:], 6))
        with torch.no_grad():
            torch_layer.weight.copy_(weight), torch_layer.bias.copy_(bias)
        keras_layer.set_weights([weight.numpy(), bias.numpy(), np.zeros(6, "float32"), np.ones(6, "float32")])

        x = batches[0].clone().requires_grad_()
        theirs = torch_layer(x)
        their_grads = torch.autograd.grad((theirs * grad).sum(), [x, *torch_layer.parameters()])
        ours, mean, var = batch_norm(batches[0], weight, bias)
        our_grads = batch_norm_backward(grad, batches[0], mean, var, weight)
        in_keras = keras_layer(batches[0].permute(0, 2, 3, 1).numpy(), training=True)
        seen = {
            "output, PyTorch": relative(ours, theirs.detach()),
            "output, Keras": relative(ours, torch.tensor(np.asarray(in_keras)).permute(0, 3, 1, 2)),
            "gradients, PyTorch": max(relative(a, b) for a, b in zip(our_grads, their_grads, strict=True)),
        }
        plain, _, _ = batch_norm(batches[0])
        moments["mean"].append(float(plain.mean((0, 2, 3)).abs().max()))
        moments["standard deviation"].append(float(plain.std((0, 2, 3), correction=0).mean()))

        n = batches[0].numel() // 6
        ours_torch = ours_keras = (torch.zeros(6), torch.ones(6))
        for i, batch in enumerate(batches):
            if i:
                torch_layer(batch)
                keras_layer(batch.permute(0, 2, 3, 1).numpy(), training=True)
            _, mean, var = batch_norm(batch)
            now = (mean, unbiased(var, n))
            ours_torch = tuple(running_update(old, new, 0.1) for old, new in zip(ours_torch, now, strict=True))
            ours_keras = tuple(moving_update(old, new, 0.9) for old, new in zip(ours_keras, (mean, var), strict=True))
        running = (torch_layer.running_mean, torch_layer.running_var)
        moving = (np.asarray(keras_layer.moving_mean), np.asarray(keras_layer.moving_variance))
        seen["running statistics, PyTorch"] = max(relative(a, b) for a, b in zip(ours_torch, running, strict=True))
        seen["running statistics, Keras"] = max(relative(a, b) for a, b in zip(ours_keras, moving, strict=True))
        seen["PyTorch's variance against Keras's"] = relative(running[1], moving[1])
        for name, value in seen.items():
            found.setdefault(name, []).append(value)
    running = [buffer for name, buffer in torch_layer.named_buffers() if "running" in name]
    groups = {
        "PyTorch": (list(torch_layer.parameters()), running),
        "Keras": (keras_layer.trainable_weights, keras_layer.non_trainable_weights),
    }
    rows = [(where, *(str(sum(math.prod(w.shape) for w in group)) for group in both)) for where, both in groups.items()]
    return Measured(
        series=(
            Series("largest difference", "of the largest value", {name: [v] for name, v in found.items()}),
            Series("of the normalized maps", "", {name: [v] for name, v in moments.items()}),
        ),
        tables=(Table("numbers of a layer of 6 maps", ("where", "learned", "kept"), rows),),
    )


def decide_operation(measured):
    off = measured["largest difference"]
    parity = [name for name in off.arms if "against" not in name]
    worst = max(off.values(name).max() for name in parity)
    apart = off.values("PyTorch's variance against Keras's")
    moments = measured["of the normalized maps"]
    return Decision(
        verdict=HOLDS if worst < 1e-5 else DOES_NOT_HOLD,
        interval=Interval.of(
            "largest difference of the gradients from PyTorch's", "", off.values("gradients, PyTorch")
        ),
        figures={
            "worst": worst,
            "mean": moments.values("mean").max(),
            "std": moments.mean("standard deviation"),
            "apart": 100 * apart.mean(),
            "batches": BATCHES,
            "learned": measured.tables[0].rows[0][1],
        },
    )


CLAIMS = (
    Claim(
        id="B1",
        statement="Zero-centre and normalize over the batch, then scale and shift by two learned vectors per layer.",
        headline="The maps come out with mean {mean:.0e} and standard deviation {std:.4f}; output, gradients and the "
        "running statistics after {batches} batches differ from the frameworks' by at most {worst:.0e}. Two vectors of "
        "6 for 6 maps: {learned} numbers learned. PyTorch's running variance differs from Keras's by {apart:.2f}%.",
        rule="Holds if outputs, gradients and running statistics, each framework's by its own convention, differ by "
        "less than 1e-5 of the largest value, with every seed.",
        measure=measure_operation,
        decide=decide_operation,
        seeds=tuple(range(5)),
    ),
)
