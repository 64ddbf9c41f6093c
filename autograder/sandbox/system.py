"""Linux system calls that Python has no function for. Each raises OSError, with the name of the call in it."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys

__all__ = [
    "NEW_CGROUP",
    "NEW_IPC",
    "NEW_NET",
    "NEW_NS",
    "NEW_PID",
    "NEW_USER",
    "NEW_UTS",
    "capabilities",
    "dumpable",
    "fork",
    "mount",
    "no_new_privileges",
    "pivot_root",
    "prctl",
    "renounce_capabilities",
    "syscall",
    "umount",
    "unshare",
]

NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000

if sys.platform.startswith("linux"):
    _LIBC = ctypes.CDLL(None, use_errno=True)
    _HOLDING = ctypes.PyDLL(None, use_errno=True)  # calls do not let go of Python's lock
_ARM = platform.machine() == "aarch64"
_PIVOT_ROOT, _CAPSET, _CLONE = (41, 91, 220) if _ARM else (155, 126, 56)

_PR_SET_DUMPABLE, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 4, 23, 24
_PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 28, 38, 47
_ALL_SECURE_BITS = 0xEF  # no capability comes with uid 0, none is kept or raised; each bit with its lock
_LAST_CAPABILITY = 63


def _checked(result: int, call: str) -> int:
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
    return result


def syscall(name: str, number: int, *arguments: object) -> int:
    """The result of a system call by its number."""
    return _checked(_LIBC.syscall(ctypes.c_long(number), *arguments), name)


def unshare(flags: int) -> None:
    _checked(_LIBC.unshare(ctypes.c_int(flags)), "unshare")


def fork(namespaces: int) -> int:
    """As os.fork, but the child is in new namespaces, the first process of its own. Only a process without threads may.

    `unshare` would need a second fork, and one of a process that is full of libraries takes long. Python knows of this
    fork, the C library does not: the child should do little more than fork again.
    """
    _HOLDING.PyOS_BeforeFork()
    child = _HOLDING.syscall(ctypes.c_long(_CLONE), ctypes.c_long(namespaces | signal.SIGCHLD), *[ctypes.c_long(0)] * 4)
    error = ctypes.get_errno()
    if child == 0:
        _HOLDING.PyOS_AfterFork_Child()
    else:
        _HOLDING.PyOS_AfterFork_Parent()
    if child == -1:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return child


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    arguments = [text.encode() or None for text in (source, target, kind)]
    result = _LIBC.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None)
    _checked(result, f"mount {kind or source} on {target}")


def umount(target: str, flags: int = 0) -> None:
    _checked(_LIBC.umount2(target.encode(), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", _PIVOT_ROOT, new.encode(), old.encode())


def prctl(option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_LIBC.prctl(ctypes.c_int(option), *values), f"prctl {option}")


def dumpable(yes: bool) -> None:
    """Whether processes of the same user may read this one's memory, and it its own files under /proc."""
    prctl(_PR_SET_DUMPABLE, int(yes))


def no_new_privileges() -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def renounce_capabilities() -> None:
    """Give up every capability, for this process and for whatever it starts."""
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(_PR_CAPBSET_READ, capability)
        except OSError:
            break  # past the last one that this kernel knows
        prctl(_PR_CAPBSET_DROP, capability)
    prctl(_PR_SET_SECUREBITS, _ALL_SECURE_BITS)
    prctl(_PR_CAP_AMBIENT, 4)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    syscall("capset", _CAPSET, header, (ctypes.c_uint32 * 6)())


def capabilities() -> int:
    """The effective capabilities of this process, as a bit mask."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
