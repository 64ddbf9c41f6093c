"""Landlock: a second lock on files, signals and abstract sockets, where Linux has it."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from . import system

__all__ = ["apply", "version"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same number on every architecture
_EXECUTE, _WRITE, _READ, _READ_FOLDER, _DEVICE_CONTROL = 1, 2, 4, 8, 1 << 15
_MAKE_DEVICE = (1 << 6) | (1 << 11)
_BITS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights over files each version knows


def version() -> int:
    """The version of Landlock that this Linux has; 0 for none."""
    try:
        return system.syscall("landlock_create_ruleset", _CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    except OSError:
        return 0


def apply(writable: Iterable[str]) -> None:
    """Read everything, write under `writable` and to devices, no TCP, no signal or abstract socket beyond the box.

    Does nothing where there is no Landlock. Needs no_new_privileges.
    """
    known = version()
    if not known:
        return
    every = (1 << _BITS_BY_VERSION.get(known, 16)) - 1
    network, scopes = (3 if known >= 4 else 0), (3 if known >= 6 else 0)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    wanted = ctypes.create_string_buffer(struct.pack("QQQ", every, network, scopes))
    ruleset = system.syscall("landlock_create_ruleset", _CREATE, wanted, ctypes.c_size_t(size), ctypes.c_uint(0))
    try:
        _allow(ruleset, "/", every & (_EXECUTE | _READ | _READ_FOLDER))
        _allow(ruleset, "/dev", every & (_READ | _READ_FOLDER | _WRITE | _DEVICE_CONTROL))
        for path in writable:
            _allow(ruleset, path, every & ~_MAKE_DEVICE)
        system.syscall("landlock_restrict_self", _RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, folder))
        system.syscall("landlock_add_rule", _ADD, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0))
    finally:
        os.close(folder)
