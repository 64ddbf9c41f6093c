"""A memory cgroup for a box, where this user may make one: then Linux itself counts, and counts everything."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .walls import Walls

__all__ = ["Cgroup", "cgroup_of", "writable"]

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "course-kernel-"
_SLACK = 256 * 2**20  # for what the keeper does not count: tables of pages, buffers of sockets


def writable() -> Path | None:
    """The folder in which this process may make memory cgroups; None where it may not."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                folder = _ROOT / "memory" / path.lstrip("/")
            elif (
                not controllers
                and "memory" in (_ROOT / path.lstrip("/") / "cgroup.subtree_control").read_text().split()
            ):
                folder = _ROOT / path.lstrip("/")
            else:
                continue
            if os.access(folder, os.W_OK) and (folder / "cgroup.procs").exists():
                return folder
    return None


class Cgroup:
    """A cgroup that holds a box to its memory; or nothing, where none can be made."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def out_of_memory(self) -> bool:
        """Whether Linux has ended a process here for want of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError, TypeError):
                lines = (self._path / name).read_text().splitlines()
                return any(line.startswith("oom_kill ") and int(line.split()[1]) > 0 for line in lines)
        return False

    def remove(self) -> None:
        if self._path is not None:
            with suppress(OSError):  # it may linger for a moment: `cgroup_of` sweeps
                self._path.rmdir()


def cgroup_of(pid: int, walls: Walls) -> Cgroup:
    """A cgroup that the process is now in, with what it starts. Its limit is a second line: the keeper counts first."""
    parent = writable()
    if parent is None:
        return Cgroup()
    for old in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # one that is in use can't be removed
            old.rmdir()
    made = parent / f"{_PREFIX}{pid}"
    try:
        made.mkdir()
        limit = walls.memory + walls.work_bytes + walls.shm_bytes + _SLACK
        old = (made / "memory.limit_in_bytes").exists()
        (made / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit))
        (made / "cgroup.procs").write_text(str(pid))
    except OSError:
        Cgroup(made).remove()
        return Cgroup()
    return Cgroup(made)
