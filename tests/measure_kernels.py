"""Measure kernels: start to first reply, shutdown, memory. `python tests/measure_kernels.py --runs 10`.

Prints the tables of docs/benchmarks.md: a kernel in the sandbox, forked warm and started cold, beside Jupyter's own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from autograder.provisioner import start_kernel
from autograder.submission import quiet_environment

FIRST = ("1 + 1", "import torch", "import keras")
FIT = """
import numpy as np, torch
from course_lib.quiet import load_keras
keras = load_keras()
net = keras.Sequential([keras.layers.Dense(64, 'relu'), keras.layers.Dense(10)])
net.compile('adam', 'mse')
net.fit(np.ones((256, 32)), np.ones((256, 10)), epochs=2, verbose=0)
"""
MB = 2**20


async def stock() -> Any:
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(env={**os.environ, **quiet_environment()}, stderr=subprocess.DEVNULL)
    return manager


KERNELS: dict[str, Callable[[], Awaitable[Any]]] = {
    "in the sandbox, warm": start_kernel,
    "in the sandbox, cold": lambda: start_kernel(warm=False),
    "Jupyter's own": stock,
}


@asynccontextmanager
async def after(start: Callable[[], Awaitable[Any]], code: str) -> AsyncIterator[Any]:
    """A kernel, started just now, that has run `code`. Its manager."""
    manager = await start()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=120)
    request = client.execute(code)
    while (await client.get_shell_msg(timeout=120))["parent_header"].get("msg_id") != request:
        pass
    yield manager
    client.stop_channels()
    await manager.shutdown_kernel(now=True)


async def times(start: Callable[[], Awaitable[Any]], code: str) -> tuple[float, float]:
    """Seconds from the start of a kernel to the end of its first cell, and for its shutdown."""
    began = time.perf_counter()
    async with after(start, code):
        answered = time.perf_counter()
    return answered - began, time.perf_counter() - answered


async def memory(start: Callable[[], Awaitable[Any]], code: str) -> tuple[int, int]:
    """Bytes of a kernel after `code`: its own, and with its share of what it has in common with others."""
    async with after(start, code) as manager:
        pid = manager.provisioner.pid
        held = [sizes(process) for process in (pid, *children(pid))]
    return sum(own for own, _ in held), sum(share for _, share in held)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sizes(pid: int) -> tuple[int, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return own * 1024, kilobytes["Pss"] * 1024


async def measure(runs: int) -> None:
    await times(start_kernel, "1 + 1")  # the warm parent imports once for all
    print(f"{platform.machine()}, {os.cpu_count()} cores; median of {runs} runs. Measured {datetime.now():%Y-%m-%d}.\n")
    print("| start to the end of a first cell, s |", *(f" `{code}` |" for code in FIRST), " shutdown |", sep="")
    print("|---|" + "---|" * (len(FIRST) + 1))
    taken: dict[str, list[list[tuple[float, float]]]] = {name: [[] for _ in FIRST] for name in KERNELS}
    for _ in range(runs):  # in turn, so that a busy minute is everybody's
        for name, start in KERNELS.items():
            for seconds, code in zip(taken[name], FIRST, strict=True):
                seconds.append(await times(start, code))
    for name, columns in taken.items():
        first = [statistics.median(began for began, _ in column) for column in columns]
        ended = statistics.median(ended for column in columns for _, ended in column)
        print(f"| {name} |", *(f" {value:.2f} |" for value in (*first, ended)), sep="")
    print(
        "\n| memory of one more kernel, MB (its own / with its share) | `1 + 1` | a small fit in Keras |\n|---|---|---|"
    )
    for name, start in KERNELS.items():
        cells = [await memory(start, code) for code in ("1 + 1", FIT)]
        print(f"| {name} |", *(f" {own / MB:.0f} / {share / MB:.0f} |" for own, share in cells), sep="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))
