"""One kernel's box: forked from a process that has entered the view, with namespaces and walls of its own.

    house (in the view) ── fork into new namespaces ─▶ keeper, pid 1 of the box: work folder, /proc, no capabilities;
                                                         │ then it watches
                                                         └─ fork ─▶ kernel: limits, Landlock, seccomp

The keeper's end, for whatever reason, ends every process of the box.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from . import landlock, seccomp, system
from .channel import receive, send
from .view import HOME, USER, map_user, mount_private
from .walls import LIBRARIES, SandboxError, Walls
from .watch import watch

__all__ = ["Kernel", "order", "start"]

Kernel = Callable[[dict[str, Any], Sequence[int]], None]  # what runs inside; gets the order's packet and descriptors
_GIGABYTE = 2**30
_MAPPED = 3 * _GIGABYTE  # addresses that the libraries take, most of them files


def order(walls: Walls, **more: Any) -> dict[str, Any]:
    """The packet that the grader answers with once it knows the keeper: go, within these walls."""
    return {"walls": asdict(walls), **more}


def start(channel: socket.socket, kernel: Kernel, grader: int) -> int:
    """Fork a box; the keeper's process id. What becomes of it the grader hears by the channel's other end.

    The box ends when the channel does, and with the process that the descriptor `grader` stands for: a fork of the
    grader would keep the channel open.

    Packets to the grader: {"pid"} of the keeper, who waits for the `order`; {"ready"}: every wall stands and the kernel
    runs; {"ended"}: why it ended. {"error"} instead of any of them: a wall does not stand, nothing runs.
    """
    flags = system.NEW_NS | system.NEW_PID | system.NEW_NET | system.NEW_IPC | system.NEW_UTS | system.NEW_CGROUP
    try:
        keeper = system.fork(flags)
    except OSError as error:
        remedy = "raise the limits under /proc/sys/user, or grade on a Linux that has all kinds of namespaces"
        raise SandboxError(f"a kernel can't get namespaces of its own ({error})", remedy) from error
    if not keeper:
        _last_stage(channel, lambda: _keeper(channel, kernel, grader))
    send(channel, {"pid": keeper})
    return keeper


def _last_stage(channel: socket.socket, stage: Callable[[], None]) -> NoReturn:
    """Run a stage to its end, never back into the code that forked."""
    try:
        stage()
    except EOFError:  # the grader is gone
        os._exit(0)
    except SystemExit as ending:
        os._exit(ending.code if isinstance(ending.code, int) else int(ending.code is not None))
    except BaseException as error:
        with suppress(OSError):
            if not isinstance(error, SandboxError):
                error = SandboxError(f"a kernel failed to start ({type(error).__name__}: {error})")
            send(channel, error.packet)
        os._exit(1)
    os._exit(0)


def _keeper(channel: socket.socket, kernel: Kernel, grader: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until IPython's kernel handles it
    packet, descriptors = receive(channel)
    walls = Walls(**packet["walls"])
    try:
        _furnish(walls)
    except OSError as error:
        remedy = "in a container, leave /proc unmasked (Docker: --security-opt systempaths=unconfined)"
        raise SandboxError(f"a kernel can't get a work folder and /proc of its own ({error})", remedy) from error
    system.renounce_capabilities()
    system.dumpable(False)
    child = os.fork()
    if not child:
        _last_stage(channel, lambda: _kernel(channel, kernel, walls, packet, descriptors))
    close_others(channel.fileno(), grader)
    watch(channel, child, walls, grader)


def _furnish(walls: Walls) -> None:
    """A work folder, /dev/shm, terminals and /proc that no other kernel sees; then nobody here may change mounts."""
    mine = f"uid={USER},gid={USER}"
    mount_private("tmpfs", HOME, f"mode=0700,{mine},size={walls.work_bytes},nr_inodes={walls.files}", run=True)
    mount_private("tmpfs", "/dev/shm", f"mode=1777,{mine},size={walls.shm_bytes},nr_inodes={walls.files}")
    with suppress(OSError):  # a convenience: without terminals `!ls` fails
        mount_private("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620")
    mount_private("proc", "/proc", "")
    socket.sethostname("course")
    system.unshare(system.NEW_USER | system.NEW_NS)  # these mounts now belong to a user that is not in the box
    map_user(USER, USER)
    os.chdir(HOME)


def _kernel(
    channel: socket.socket, kernel: Kernel, walls: Walls, packet: dict[str, Any], descriptors: Sequence[int]
) -> None:
    os.setsid()
    system.dumpable(True)  # unlike the keeper, which it may not look into
    _limit(walls)
    system.no_new_privileges()
    landlock.apply((HOME, "/dev/shm"))
    seccomp.apply()
    send(channel, {"ready": True})
    channel.close()
    close_others(*descriptors)
    kernel(packet, descriptors)


def _limit(walls: Walls) -> None:
    """Limits of one process, on top of what it holds: it was forked from one that is full of libraries, or will be."""
    import resource  # not at the top: Windows has none

    held = _sizes()
    for name, soft, hard in (
        ("DATA", max(held["VmData"], LIBRARIES) + walls.memory, None),
        ("AS", max(held["VmSize"], _MAPPED) + walls.memory + 2 * _GIGABYTE, None),
        ("NPROC", walls.processes, None),
        ("NOFILE", walls.open_files, None),
        ("FSIZE", walls.file_bytes, None),
        ("CPU", int(walls.cpu_seconds) + 2, int(walls.cpu_seconds) + 4),
        ("MEMLOCK", 2**16, None),
        ("SIGPENDING", 1024, None),
        ("MSGQUEUE", 0, None),
        ("CORE", 0, None),
    ):
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:  # Python names not all of them
            kind = {"SIGPENDING": 11, "MSGQUEUE": 12}[name]
        most = resource.getrlimit(kind)[1]
        hard = soft if hard is None else hard
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))
    Path("/proc/self/oom_score_adj").write_text("1000")  # if the whole machine runs out of memory, this goes first


def _sizes() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


def close_others(*kept: int) -> None:
    """Close every descriptor but the standard three and `kept`; the standard three lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2 and descriptor not in kept:
            with suppress(OSError):  # the listing's own
                os.close(descriptor)
