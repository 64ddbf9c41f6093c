"""Peak memory of a process as it runs a net, in either framework: what C5 measures.

A framework keeps freed memory for later and does not tell, so each measurement asks the kernel: the peak of the
resident set is reset, the net is run, and the peak is read. Maps are large, so that the C library hands them back.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["BATCH", "SIDE", "SITUATIONS", "measured_apart", "stack"]

SITUATIONS = (
    "training step",
    "evaluation, gradients recorded",
    "evaluation, nothing recorded",
    "evaluation, the framework's way",
)
BATCH, SIDE = 32, 80


def stack(depth: int, maps: int) -> nn.Sequential:
    """`depth` times conv → ReLU at one size, then averages and logits: (N, 1, SIDE, SIDE) → (N, 10)."""
    net, before = nn.Sequential(), 1
    for _ in range(depth):
        net.extend([nn.Conv2d(before, maps, 3, padding=1), nn.ReLU()])
        before = maps
    return net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, 10)])


def growth(call: Callable[[], object]) -> int:
    """Bytes by which the process's resident memory rises at its highest while `call` runs."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = status("VmRSS")
    result = call()
    peak = status("VmHWM")
    del result
    return max(peak - before, 0)


def status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def in_torch(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> list[int]:
    def training():
        F.cross_entropy(net(x), y).backward()
        net.zero_grad(set_to_none=True)

    def without(guard):
        with guard():
            net(x)

    calls = (training, lambda: net(x), lambda: without(torch.no_grad), lambda: without(torch.inference_mode))
    training()
    return [growth(call) for call in calls]


def in_keras(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> list[int]:
    from course_lib.keras_twin import to_keras, to_keras_images
    from course_lib.quiet import load_keras

    keras = load_keras()
    import tensorflow as tf

    model, images, labels = to_keras(net, tuple(x.shape[1:])), tf.constant(to_keras_images(x)), tf.constant(y.numpy())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def training():
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        return tape.gradient(value, model.trainable_variables)

    def recorded():
        with tf.GradientTape() as tape:
            y = model(images, training=False)
        return tape, y

    batch = np.asarray(images)
    calls = (
        training,
        recorded,
        lambda: model(images, training=False),
        lambda: model.predict(batch, batch_size=len(batch), verbose=0),
    )
    for call in calls:
        call()
    return [growth(call) for call in calls]


def report(framework: str, sizes: Sequence[tuple[int, int]]) -> None:
    torch.set_num_threads(1)
    rows = []
    for depth, maps in sizes:
        torch.manual_seed(0)
        x, y = torch.rand(BATCH, 1, SIDE, SIDE), torch.zeros(BATCH, dtype=torch.int64)
        rows.append((in_torch if framework == "torch" else in_keras)(stack(depth, maps), x, y))
    print(json.dumps(rows))


def measured_apart(framework: str, sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """For each (depth, maps) the bytes of the four SITUATIONS, in a process of its own on one thread."""
    once = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    once |= {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576", "TF_CPP_MIN_LOG_LEVEL": "3"}
    once |= {"TF_ENABLE_ONEDNN_OPTS": "0"}  # its allocator gives nothing back, so that nothing could be seen
    code = f"from course_lib.claims.cnn_architectures.memory import report; report({framework!r}, {list(sizes)!r})"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **once}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory in {framework} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
