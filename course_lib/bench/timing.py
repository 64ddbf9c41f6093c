"""Timing two ways of doing the same: interleaved, warmed up, medians over rounds.

On a CPU the clock is the process's own processor time: what other programs do meanwhile counts only through the caches
and the memory they share with us. On a GPU it is CUDA events around work that is queued without waiting.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Arms", "Operation", "Timing", "copy_bandwidth", "measure"]

FEWEST_ROUNDS, MOST_ROUNDS = 5, 51
SHORTEST = 2e-3  # seconds that one reading takes: below, the clock's own cost would show
COPIED = 2**24  # float32 numbers that the copy moves: beyond every cache
Call = Callable[[], Any]


@dataclass(frozen=True)
class Arms:
    """Ways to do one thing on the same tensors, each a call without arguments that returns its result.

    `bytes_moved` is what any way has to read and write, in bytes, were nothing in a cache: inputs once for each pass
    that the formula needs, outputs once. `limit` does nothing but what can't be avoided (the matrix products alone).
    `comparable` says that the arms return the same tensors; not so where each draws its own random numbers.
    """

    ours: Call
    theirs: Call
    bytes_moved: int
    limit: Call | None = None
    comparable: bool = True


@dataclass(frozen=True)
class Operation:
    """One line of the benchmark. `pass_` is "forward", "backward" or "step"; `against` says in code what theirs is.

    `naive` says why something is slow on purpose, to be read, and is empty for all else.
    `build` makes the tensors on a device and returns the arms.
    """

    name: str
    pass_: str
    against: str
    build: Callable[[torch.device], Arms]
    naive: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, medians over `rounds`; `spread` holds the quartiles of theirs / ours within a round."""

    ours: float
    theirs: float
    limit: float | None
    spread: tuple[float, float]
    rounds: int

    @property
    def ratio(self) -> float:
        """theirs / ours: above 1 where ours is the faster."""
        return self.theirs / self.ours


def measure(arms: Arms, device: torch.device, *, seconds: float = 1.0) -> Timing:
    """Time the arms of an operation for about that many seconds, at least five rounds.

    In each round every arm runs once, in an order that turns with the round, often enough for the clock.
    """
    calls: dict[str, Call] = {"ours": arms.ours, "theirs": arms.theirs}
    if arms.limit is not None:
        calls["limit"] = arms.limit
    with quiet_collector():
        repeats = {name: max(1, round(SHORTEST / warmed_up(call, device))) for name, call in calls.items()}
        once = sum(timed(call, repeats[name], device) * repeats[name] for name, call in calls.items())
        rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, round(seconds / once)))
        seen = in_rounds(calls, repeats, rounds, device)
    ratios = [theirs / ours for ours, theirs in zip(seen["ours"], seen["theirs"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    limit = statistics.median(seen["limit"]) if "limit" in seen else None
    return Timing(
        ours=statistics.median(seen["ours"]),
        theirs=statistics.median(seen["theirs"]),
        limit=limit,
        spread=(quartiles[0], quartiles[2]),
        rounds=rounds,
    )


def in_rounds(
    calls: Mapping[str, Call], repeats: Mapping[str, int], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {name: [] for name in calls}
    names: Sequence[str] = list(calls)
    for i in range(rounds):
        start = i % len(names)
        for name in [*names[start:], *names[:start]]:
            seen[name].append(timed(calls[name], repeats[name], device))
    return seen


def warmed_up(call: Call, device: torch.device) -> float:
    """Run it until it has settled (memory, caches, kernels); about what one call then takes, in seconds."""
    call()
    return max(1e-9, min(timed(call, 1, device) for _ in range(3)))


def timed(call: Call, repeats: int, device: torch.device) -> float:
    """Seconds of one call, the mean of `repeats` in a row."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1e3 / repeats
    started = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - started) / repeats


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written together, of a copy too large for the caches: the best of 15, as a limit."""
    source = torch.ones(COPIED if device.type == "cpu" else 8 * COPIED, device=device)
    target = torch.empty_like(source)
    copy = lambda: target.copy_(source)
    warmed_up(copy, device)
    return 2 * source.nbytes / min(timed(copy, 1, device) for _ in range(15))


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Without the garbage collector in the body, as timeit does."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
