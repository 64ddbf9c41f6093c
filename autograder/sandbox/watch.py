"""What pid 1 of a box does: reap, pass on signals, watch time and memory, and say why the kernel ended."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

from .channel import receive, send
from .walls import LIBRARIES, Walls

__all__ = ["how_ended", "watch"]

_INTERVAL = 0.1  # seconds between two looks


def watch(channel: socket.socket, kernel: int, walls: Walls, grader: int) -> None:
    """Until the kernel or the grader ends, or the kernel has to. Returning ends every process of the box."""
    gc.disable()
    started = time.monotonic()
    held = max(_held(kernel), LIBRARIES)
    ended = os.pidfd_open(kernel)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(ended, select.POLLIN)
    poll.register(grader, select.POLLIN)
    next_look = started
    while True:
        ready = dict(poll.poll(max(0.0, next_look - time.monotonic()) * 1000))
        if ended in ready:
            return _say(channel, how_ended(os.waitstatus_to_exitcode(os.waitpid(kernel, 0)[1])))
        if grader in ready:
            return None
        if channel.fileno() in ready:
            _obey(channel, kernel)  # EOFError: the grader wants no more of it
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _INTERVAL
            _reap(kernel)
            if reason := _too_much(walls, started, held):
                return _say(channel, reason)


def _say(channel: socket.socket, reason: str) -> None:
    with suppress(OSError):
        send(channel, {"ended": reason})


def _obey(channel: socket.socket, kernel: int) -> None:
    packet, descriptors = receive(channel)
    for descriptor in descriptors:
        os.close(descriptor)
    with suppress(ProcessLookupError, ValueError, TypeError):
        os.killpg(kernel, packet.get("signal", 0))


def _reap(kernel: int) -> None:
    """Orphans of the box are this process's to bury; the kernel itself is waited for by name."""
    with suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid != kernel:
            os.waitpid(found.si_pid, os.WNOHANG)


def how_ended(code: int) -> str:
    """What an exit code says, where a negative one is a signal."""
    if code >= 0:
        return f"it ended itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"it was ended by signal {-code}"
    return "it used up its processor time" if name == "SIGXCPU" else f"it was ended by signal {-code} ({name})"


def _too_much(walls: Walls, started: float, held: int) -> str:
    """Why the box must end now; "" for no reason."""
    if time.monotonic() - started > walls.wall_seconds:
        return f"it ran longer than {walls.wall_seconds:g} s"
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal() and name != "1"]
    if sum(map(_cpu_seconds, pids)) > walls.cpu_seconds:
        return f"it used more than {walls.cpu_seconds:g} s of processor time"
    most = held + walls.memory
    if sum(map(_held, pids)) > most and sum(map(_share, pids)) > most:  # the second sum is exact, and slow
        return walls.too_much_memory
    return ""


def _cpu_seconds(pid: int) -> float:
    """Of a process and the children that it has waited for."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _held(pid: int) -> int:
    """Bytes of memory that back no file. What processes share counts for each."""
    return sum(_kilobytes(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:"))) * 1024


def _share(pid: int) -> int:
    """The same, but of what n processes share each counts the nth part. A process that hides it counts in full."""
    try:
        open(f"/proc/{pid}/smaps_rollup").close()
    except FileNotFoundError:
        return 0
    except OSError:
        return _held(pid)
    return sum(_kilobytes(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))) * 1024


def _kilobytes(path: str, names: tuple[str, ...]) -> Iterator[int]:
    with suppress(OSError), open(path) as lines:
        for line in lines:
            if line.startswith(names):
                yield int(line.split()[1])
