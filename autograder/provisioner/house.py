"""The grader's side of the processes that kernels are forked from: started when needed, again when they died.

A process of a grader has one warm house for each list of modules. Safe in threads, and in a process that
multiprocessing forked or made a daemon.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Any

from autograder import sandbox
from autograder.sandbox import Cgroup, SandboxError, Walls

__all__ = ["Bare", "Box", "House", "NoBox", "warm_house"]

_PATIENCE = 180  # seconds for a house to import everything on a busy machine
_UNSEEN = "it ended, and nobody saw why"

_houses: dict[tuple[str, ...], House] = {}
_lock = threading.Lock()


def _forget() -> None:
    """In a fork of the grader: its houses are not this process's, and its lock may be held for ever."""
    global _lock
    _lock = threading.Lock()
    _houses.clear()


@atexit.register
def _close_all() -> None:
    for house in _houses.values():
        house.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class NoBox(SandboxError):
    """This house makes no boxes: it died, or its imports went wrong. Another house, or a cold one, may."""


class House:
    """A process in the sandbox's view, with `modules` imported."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._end, theirs = sandbox.pair()
        with theirs:
            command = [sys.executable, "-m", "autograder.provisioner.warm", str(theirs.fileno()), *modules]
            self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the house)
            self._process = subprocess.Popen(
                command,
                env=sandbox.environment(),
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the grader
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    async def box(self, walls: Walls, descriptors: Sequence[int], **order: Any) -> Box:
        """A new box in which the kernel runs. Raises NoBox where this house can't give one, and another may."""
        mine, theirs = sandbox.pair()
        mine.setblocking(False)
        with contextlib.ExitStack() as undo:
            undo.callback(mine.close)
            try:
                with theirs:
                    sandbox.send(self._end, {}, [theirs.fileno()])
                pid = (await _answer(mine, "pid"))["pid"]
                keeper = os.pidfd_open(pid)
                undo.callback(os.close, keeper)
                group = sandbox.cgroup_of(pid, walls)
                undo.callback(group.remove)
                sandbox.send(mine, sandbox.order(walls, **order), descriptors)
                await _answer(mine, "ready")
            except (OSError, EOFError) as error:
                raise NoBox(f"the process that starts kernels died{self._last_words()}", "try again") from error
            undo.pop_all()
        return Box(mine, pid, keeper, group, walls)

    def _last_words(self) -> str:
        if self._said.closed:  # another thread has seen it first
            return ""
        size = os.fstat(self._said.fileno()).st_size
        lines = os.pread(self._said.fileno(), 1000, max(0, size - 1000)).decode(errors="replace").split("\n")
        return next((f" ({line.strip()})" for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """End the process; boxes stay."""
        self._end.close()
        self._said.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


async def _answer(channel: socket.socket, wanted: str) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    try:
        packet = sandbox.unpack(await asyncio.wait_for(loop.sock_recv(channel, sandbox.MAX_PACKET), _PATIENCE))
    except TimeoutError as error:
        raise SandboxError(f"no kernel started within {_PATIENCE} s", "grade fewer notebooks at once") from error
    if wanted not in packet:
        kind = NoBox if packet.get("elsewhere") else SandboxError
        how = packet.get("ended", "nobody knows why")
        raise kind(packet.get("error", f"a kernel ended before it had started ({how})"), packet.get("remedy", ""))
    return packet


class Box:
    """A kernel and all its processes, as the grader sees them. `why` says why it ended, once it has."""

    def __init__(self, channel: socket.socket, pid: int, keeper: int, group: Cgroup, walls: Walls) -> None:
        self.pid, self._keeper = pid, keeper  # of the process whose end is the box's end, and its descriptor
        self._channel, self._group, self._walls, self.why = channel, group, walls, ""

    def running(self) -> bool:
        if not self.why and _readable(self._keeper):
            self._bury(_UNSEEN)
        return not self.why

    def signal(self, number: int) -> None:
        """Send a signal to the kernel and what it started."""
        with contextlib.suppress(OSError):
            sandbox.send(self._channel, {"signal": number})

    async def kill(self, why: str) -> None:
        """End every process of the box; returns when none is left."""
        if self.running():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._keeper, signal.SIGKILL)
            await self.wait(why)

    async def wait(self, why: str = _UNSEEN) -> None:
        if self.why:
            return
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._keeper, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._keeper)
        self._bury(why)

    def _bury(self, why: str) -> None:
        """The keeper is gone: read its last words, or take `why` for them."""
        if self.why:
            return
        self.why = why
        with contextlib.suppress(OSError, EOFError):
            while True:
                packet, _ = sandbox.receive(self._channel)
                self.why = packet.get("ended") or packet.get("error") or self.why
        if self.why in (_UNSEEN, sandbox.how_ended(-signal.SIGKILL)) and self._group.out_of_memory():
            self.why = self._walls.too_much_memory
        self._group.remove()
        self._channel.close()
        os.close(self._keeper)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Bare:
    """A kernel that is an ordinary process, without walls; else as a Box. Its work folder is temporary."""

    def __init__(self, descriptors: Sequence[int], key: str) -> None:
        self._folder, self.why = tempfile.TemporaryDirectory(prefix="course-unsafe-"), ""
        quiet = {name: value for name, value in sandbox.environment().items() if name not in ("HOME", "TMPDIR", "USER")}
        command = f"from autograder.provisioner import kernel; kernel.main({[*descriptors]})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", command],
            env={**os.environ, **quiet, "JPY_PARENT_PID": str(os.getpid())},  # IPython's kernel ends with it
            cwd=self._folder.name,
            pass_fds=descriptors,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        with self._process.stdin as order:
            order.write(key.encode())

    def running(self) -> bool:
        code = self._process.poll()
        if code is not None and not self.why:
            self.why = sandbox.how_ended(code)
        return code is None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def kill(self, why: str) -> None:
        if self.running():
            self.why = why
            self.signal(signal.SIGKILL)
        await self.wait()

    async def wait(self) -> None:
        while self.running():
            await asyncio.sleep(0.01)
        self._folder.cleanup()


def warm_house(modules: tuple[str, ...]) -> House:
    """This process's house for these modules, started if there is none."""
    with _lock:
        house = _houses.get(modules)
        if house is None or not house.alive():
            if house is not None:
                house.close()
            house = _houses[modules] = House(modules)
        return house
