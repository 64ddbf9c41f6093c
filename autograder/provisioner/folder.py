"""Where a kernel's sockets are: a private folder, which the next grader removes if this one was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path

with contextlib.suppress(ImportError):  # Windows has none, and no kernels to grade with
    import fcntl

__all__ = ["Folder", "sweep"]

_PREFIX = "course-kernel-"
_LONGEST = 90  # bytes of a folder's name, so that sockets in it have names short enough


class Folder:
    """A private folder for a kernel's sockets. Its lock tells a later grader whether anybody still uses it."""

    _swept = False
    _sweeping = threading.Lock()

    def __init__(self) -> None:
        with Folder._sweeping:
            if not Folder._swept:
                sweep()
                Folder._swept = True
        place = next(p for p in (tempfile.gettempdir(), "/tmp") if len(p) + len(_PREFIX) + 20 < _LONGEST or p == "/tmp")
        fresh = tempfile.mkdtemp(prefix=f"new-{_PREFIX}", dir=place)
        self._lock = os.open(f"{fresh}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = fresh.replace(f"new-{_PREFIX}", _PREFIX)
        os.rename(fresh, self.path)  # from now on whoever sweeps sees it, and finds it locked
        self.address = f"{self.path}/k"

    def listen(self, count: int) -> list[socket.socket]:
        listeners = []
        for port in range(1, count + 1):
            name = f"{self.address}-{port}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(name)
            listener.listen(64)
            listener.setblocking(False)
            listeners.append(listener)
        return listeners

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep() -> None:
    """Remove the folders that a killed grader left behind."""
    for place in {tempfile.gettempdir(), "/tmp"}:
        for folder in Path(place).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)
