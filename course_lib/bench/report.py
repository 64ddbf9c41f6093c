"""Run the benchmark, keep what it found, show it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from course_lib.bench.operations import OPERATIONS
from course_lib.bench.timing import Operation, copy_bandwidth, measure
from course_lib.training import threads

__all__ = ["run", "save", "select", "table"]


def select(only: Sequence[str] = (), device: str = "cpu") -> tuple[Operation, ...]:
    """The operations of a device whose name starts with one of `only`; all where that is empty.

    Raises ValueError where a name in `only` fits none.
    """
    here = [operation for operation in OPERATIONS if device in operation.devices]
    for wanted in only:
        if not any(operation.name.startswith(wanted) for operation in here):
            names = ", ".join(dict.fromkeys(operation.name for operation in here))
            raise ValueError(f"no operation's name starts with {wanted!r}; there are {names}")
    return tuple(o for o in here if not only or any(o.name.startswith(wanted) for wanted in only))


def run(
    only: Sequence[str] = (),
    *,
    device: str = "cpu",
    seconds: float = 1.0,
    on_operation: Callable[[Operation], None] = lambda operation: None,
) -> dict[str, Any]:
    """Measure the operations on one thread and return what was found, ready for JSON.

    `seconds` go to each operation, more where five rounds take longer; `on_operation` hears of each before it starts.
    Keys: hardware, versions, date, threads, copy_bandwidth (bytes a second), operations. Each operation has name, pass,
    against, device, naive, ours_us and theirs_us (microseconds, medians), ratio (theirs / ours: above 1, ours is the
    faster), spread (the quartiles of that ratio), share_of_bandwidth (of the copy's), and share_of_limit: how much of
    ours the unavoidable arithmetic alone would take, or None. Raises ValueError for an unknown name or device, and
    where there is no GPU.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"the device is 'cpu' or 'cuda', not {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU that PyTorch can use here")
    operations, where = select(only, device), torch.device(device)
    found = []
    with threads(1), torch.random.fork_rng():
        bandwidth = copy_bandwidth(where)
        for operation in operations:
            on_operation(operation)
            torch.manual_seed(0)
            found.append(measured(operation, where, bandwidth, seconds))
    return {
        "hardware": hardware(where),
        "versions": {"python": platform.python_version(), "torch": importlib.metadata.version("torch")},
        "date": datetime.now(UTC).date().isoformat(),
        "threads": 1,
        "copy_bandwidth": significant(bandwidth),
        "operations": found,
    }


def measured(operation: Operation, device: torch.device, bandwidth: float, seconds: float) -> dict[str, Any]:
    arms = operation.build(device)
    timing = measure(arms, device, seconds=seconds)
    return {
        "name": operation.name,
        "pass": operation.pass_,
        "against": operation.against,
        "device": device.type,
        "ratio": significant(timing.ratio),
        "spread": [significant(quartile) for quartile in timing.spread],
        "naive": bool(operation.naive),
        "share_of_bandwidth": significant(arms.bytes_moved / timing.ours / bandwidth),
        "share_of_limit": None if timing.limit is None else significant(timing.limit / timing.ours),
        "ours_us": significant(timing.ours * 1e6),
        "theirs_us": significant(timing.theirs * 1e6),
        "rounds": timing.rounds,
    }


def significant(value: float) -> float:
    """To four significant digits: no more is known."""
    return float(f"{value:.4g}")


def hardware(device: torch.device) -> dict[str, str | int]:
    from course_lib.claims.runner import cpu_model

    found: dict[str, str | int] = {"cpu": cpu_model(), "cores": os.cpu_count() or 1}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def save(results: Mapping[str, Any], folder: Path) -> Path:
    """Write `folder/<device>.json`, whole or not at all; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{results['operations'][0]['device']}.json"
    head = json.dumps({key: value for key, value in results.items() if key != "operations"}, indent=1)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8", suffix=".part") as part:
        part.write(f'{head[:-2]},\n "operations": {listed(results["operations"])}\n}}\n')
    os.chmod(part.name, 0o644)
    os.replace(part.name, path)
    return path


def listed(operations: Sequence[Mapping[str, Any]]) -> str:
    """One operation a line, so that a new run shows as few changed lines as it changed operations."""
    return "[\n  " + ",\n  ".join(json.dumps(operation, ensure_ascii=False) for operation in operations) + "\n ]"


def table(results: Mapping[str, Any]) -> str:
    """The operations as a Markdown table, with a line above it that says where and when, and what the columns are."""
    where = results["hardware"]
    machine = where.get("gpu") or f"{where['cpu']}, {results['threads']} thread"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"{machine}; {versions}; {results['date']}. A copy moves {results['copy_bandwidth'] / 1e9:.1f} GB/s.",
        "",
        "| operation | pass | against | ratio | middle half | share of the limit | ours | theirs |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in results["operations"]:
        name = f"`{row['name']}`" + (" (deliberately naive)" if row["naive"] else "")
        low, high = row["spread"]
        limit = (
            f"{row['share_of_bandwidth']:.0%} of the copy"
            if row["share_of_limit"] is None
            else f"{row['share_of_limit']:.0%} of the products"
        )
        cells = [name, row["pass"], f"`{row['against']}`", f"{row['ratio']:.2f}", f"{low:.2f} to {high:.2f}", limit]
        lines.append(f"| {' | '.join([*cells, duration(row['ours_us']), duration(row['theirs_us'])])} |")
    return "\n".join(lines)


def duration(microseconds: float) -> str:
    """With its unit: 12.3 µs, 4.56 ms, 1.23 s."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"
