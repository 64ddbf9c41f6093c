"""Which walls stand on this machine: found by putting them up around a process that looks about.

It is a process of its own, so that a grader with threads need not fork.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cgroup, channel, landlock
from .box import order, start
from .view import HOME, View, enter, environment
from .walls import SandboxError, Walls

__all__ = ["Guarantee", "survey"]

_PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Guarantee:
    """Something that a kernel can't do here. Grading refuses where a required one does not hold."""

    name: str
    holds: bool
    detail: str
    remedy: str = ""
    required: bool = True


def survey() -> tuple[Guarantee, ...]:
    """Every guarantee of the sandbox, tried on this machine by this user."""
    try:
        found = _try_out()
        required = tuple(Guarantee(name, *found[name]) for name in _LOOKS)
    except SandboxError as error:
        required = tuple(Guarantee(name, False, "not tried: the first wall does not stand") for name in _LOOKS)
        required = (Guarantee("walls can be put up", False, error.what, error.remedy), *required)
    locked, group = landlock.version() if sys.platform.startswith("linux") else 0, cgroup.writable()
    return (
        *required,
        Guarantee(
            "files are locked twice (Landlock)",
            bool(locked),
            f"version {locked}" if locked else "this Linux has none",
            "" if locked else "Linux 5.13 or newer, with landlock among its security modules",
            required=False,
        ),
        Guarantee(
            "Linux itself counts memory (cgroup)",
            bool(group),
            str(group) if group else "no memory cgroup may be written: the box counts for itself",
            "" if group else "grade as root, or in a systemd unit with Delegate=memory",
            required=False,
        ),
    )


def _try_out() -> dict[str, tuple[bool, str, str]]:
    if not sys.platform.startswith("linux"):
        raise SandboxError(f"kernels can't be walled in on {sys.platform}", "grade on Linux")
    mine, theirs = channel.pair()
    with mine:
        with theirs:
            command = [sys.executable, "-c", f"from {__name__} import look; look({theirs.fileno()})"]
            process = subprocess.Popen(command, env=environment(), cwd="/", pass_fds=[theirs.fileno()])
        mine.settimeout(_PATIENCE)
        try:
            _expect(mine, "pid")
            reading, writing = os.pipe()
            with open(reading, "rb") as result:
                channel.send(mine, order(Walls()), [writing])
                os.close(writing)
                _expect(mine, "ready")
                return {name: (bool(holds), detail, remedy) for name, holds, detail, remedy in json.load(result)}
        except (OSError, EOFError, ValueError) as error:
            raise SandboxError(f"a box could not be tried ({type(error).__name__}: {error})") from error
        finally:
            mine.close()
            process.wait()


def _expect(end: socket.socket, wanted: str) -> None:
    packet, _ = channel.receive(end)
    if wanted not in packet:
        raise SandboxError(str(packet.get("error", "a box ended at once")), str(packet.get("remedy", "")))


# ---------------------------------------------------------------- from inside


def _files() -> str:
    strange = {name for name in os.listdir("/home")} - {Path(HOME).name}
    with suppress(OSError):
        Path("/intruder").touch()
        return "the root folder can be written"
    return f"other homes are seen: {strange}" if strange else ""


def _network() -> str:
    interfaces = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    with suppress(OSError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
        return "a socket of the internet can be made"
    return f"interfaces are seen: {interfaces}" if interfaces not in ([], ["lo"]) else ""


def _processes() -> str:
    seen = {int(name) for name in os.listdir("/proc") if name.isdecimal()} - {1, os.getpid()}
    return f"processes are seen: {seen}" if seen else ""


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")


def _privileges() -> str:
    if os.getuid() == 0 or any(int(_status(f"Cap{kind}") or "1", 16) for kind in ("Eff", "Prm", "Bnd", "Amb")):
        return "capabilities are left"
    return "" if _status("NoNewPrivs") == "1" else "programs may give privileges"


def _filter() -> str:
    mount = ctypes.CDLL(None, use_errno=True).mount
    if _status("Seccomp") != "2":
        return "there is no filter"
    return "" if mount(b"tmpfs", HOME.encode(), b"tmpfs", 0, None) == -1 else "mounting is possible"


def _limits() -> str:
    import resource  # not at the top: Windows has none

    unlimited = [
        name
        for name in ("DATA", "AS", "NPROC", "NOFILE", "FSIZE", "CPU")
        if resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] == resource.RLIM_INFINITY
    ]
    room = os.statvfs(HOME)
    if unlimited or room.f_blocks * room.f_frsize > 2 * Walls().work_bytes:
        return f"no limit on {unlimited or 'the work folder'}"
    return ""


_LOOKS: dict[str, Callable[[], str]] = {
    "no file of this machine is seen": _files,
    "no network": _network,
    "no other process is seen": _processes,
    "no privileges": _privileges,
    "system calls are filtered (seccomp)": _filter,
    "memory, processes, files and time are limited": _limits,
}


def _look_about(packet: dict[str, Any], descriptors: Sequence[int]) -> None:
    """The kernel of this box: write down what each look found wrong."""
    found = []
    for name, look in _LOOKS.items():
        try:
            wrong = look()
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        found.append((name, not wrong, wrong, "report this: it should not happen" if wrong else ""))
    with open(descriptors[0], "w") as result:
        json.dump(found, result)


def look(descriptor: int) -> None:
    """What the process does: have a box made, and in it look about."""
    end = socket.socket(fileno=descriptor)
    end.set_inheritable(False)
    try:
        enter(View.of_course())
    except SandboxError as error:
        channel.send(end, error.packet)
    else:
        os.waitpid(start(end, _look_about, os.pidfd_open(os.getppid())), 0)
