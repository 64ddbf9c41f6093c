"""Measure kernels: start to first reply, shutdown, memory of several. `python tests/measure_kernels.py --runs 10`.

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
from contextlib import AsyncExitStack, asynccontextmanager
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
AT_ONCE = 4  # as many as a machine of four cores grades with


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
async def client_of(start: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
    """A client of a kernel that was started just now, and its manager."""
    manager = await start()
    client = manager.client()
    client.start_channels()
    yield client, manager
    client.stop_channels()
    await manager.shutdown_kernel(now=True)


async def answered(client: Any, request: str) -> None:
    while (await client.get_shell_msg(timeout=120))["parent_header"].get("msg_id") != request:
        pass


async def times(start: Callable[[], Awaitable[Any]], code: str) -> tuple[float, float, float]:
    """Seconds from the start of a kernel to its first reply, to the end of a first cell, and from there to its end."""
    began = time.perf_counter()
    async with client_of(start) as (client, _):
        await answered(client, client.kernel_info())
        replied = time.perf_counter() - began
        await answered(client, client.execute(code))
        ended = time.perf_counter()
    return replied, ended - began, time.perf_counter() - ended


async def memory(start: Callable[[], Awaitable[Any]], code: str, kernels: int) -> tuple[float, float]:
    """Bytes of a kernel after `code`, the mean of so many at once: its own, and with its share of the common pages."""
    async with AsyncExitStack() as stack:
        held = []
        for _ in range(kernels):
            client, manager = await stack.enter_async_context(client_of(start))
            await answered(client, client.execute(code))
            held.append(manager.provisioner.pid)
        found = [sizes(process) for pid in held for process in (pid, *children(pid))]
    return sum(own for own, _ in found) / kernels, sum(share for _, share in found) / kernels


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
    taken: dict[str, list[list[tuple[float, float, float]]]] = {name: [[] for _ in FIRST] for name in KERNELS}
    for _ in range(runs):  # in turn, so that a busy minute is everybody's
        for name, start in KERNELS.items():
            for seconds, code in zip(taken[name], FIRST, strict=True):
                seconds.append(await times(start, code))
    print("| from the start, ms | first reply |", *(f" end of `{code}` |" for code in FIRST), " shutdown |", sep="")
    print("|---|" + "--:|" * (len(FIRST) + 2))
    for name, columns in taken.items():
        replied, gone = (statistics.median(once[i] for column in columns for once in column) for i in (0, 2))
        first = [statistics.median(ended for _, ended, _ in column) for column in columns]
        print(f"| {name} |", *(f" {1000 * value:.0f} |" for value in (replied, *first, gone)), sep="")
    print(
        f"\n| memory of one of {AT_ONCE} kernels, MB | its own, `1 + 1` | with its share |"
        " its own, a small fit in Keras | with its share |"
    )
    print("|---|--:|--:|--:|--:|")
    for name, start in KERNELS.items():
        cells = [size for code in ("1 + 1", FIT) for size in await memory(start, code, AT_ONCE)]
        print(f"| {name} |", *(f" {size / MB:.0f} |" for size in cells), sep="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))
