"""Jupyter's view of a boxed kernel: a provisioner, and a kernel manager that waits no longer than it must."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

import zmq
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerBase
from traitlets import Any as AnyTrait
from traitlets import Bool, Instance

from autograder.provisioner import warm
from autograder.provisioner.folder import Folder
from autograder.provisioner.house import Bare, Box, House, NoBox, warm_house
from autograder.provisioner.kernel import CHANNELS
from autograder.sandbox import SandboxError, Walls

__all__ = ["SandboxProvisioner", "effort", "start_kernel", "why_ended"]

ENDED_BY_US = "the grader ended it"
_log = logging.getLogger(__name__)


class SandboxProvisioner(KernelProvisionerBase):
    """Starts a kernel in a box, whatever command the kernel's specification holds."""

    walls = Instance(Walls, args=())
    warm = Bool(True, config=True, help="Fork the kernel from a process that has imported the course's libraries.")
    _box: Box | Bare | None = AnyTrait(None, allow_none=True)
    _cold: House | None = AnyTrait(None, allow_none=True)
    _folder: Folder | None = AnyTrait(None, allow_none=True)
    why = ""

    @property
    def has_process(self) -> bool:
        return self._box is not None

    @property
    def pid(self) -> int | None:
        """The process id of the box's keeper, as seen from here."""
        return self._box.pid if self._box is not None else None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        return await super().pre_launch(cmd=[], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Bind the sockets that clients connect to, so that nothing sent from now on is lost, then start the kernel."""
        session = self.parent.session
        self._folder, self.why = self._folder or Folder(), ""
        self.parent.connection_file = f"{self._folder.path}/connection.json"  # for clients of other processes
        with contextlib.ExitStack() as close:
            listeners = [close.enter_context(listener) for listener in self._folder.listen(len(CHANNELS))]
            descriptors = [listener.fileno() for listener in listeners]
            self._box = await self._start(descriptors, session.key.decode())
        self.connection_info = {
            "transport": "ipc",
            "ip": self._folder.address,
            "key": session.key,
            "signature_scheme": session.signature_scheme,
            **{f"{channel}_port": port for port, channel in enumerate(CHANNELS, 1)},
        }
        return self.connection_info

    async def _start(self, descriptors: list[int], key: str) -> Box | Bare:
        if self.warm:
            for _ in range(2):  # a house that has just died is replaced once
                try:
                    return await warm_house(warm.COURSE).box(self.walls, descriptors, key=key)
                except NoBox as error:
                    trouble = error
            _log.warning("kernels start cold: %s", trouble)
        self._cold = await asyncio.to_thread(House)
        return await self._cold.box(self.walls, descriptors, key=key)

    async def poll(self) -> int | None:
        if self._box is None or not self._box.running():
            self._note()
            return 1
        return None

    async def wait(self) -> int | None:
        if self._box is not None:
            await self._box.wait()
            self._note()
            self._box = None
        return 1

    async def send_signal(self, signum: int) -> None:
        if self._box is None:
            return
        if signum == signal.SIGKILL:
            await self.kill()
        else:
            self._box.signal(signum)

    async def kill(self, restart: bool = False) -> None:
        if self._box is not None:
            await self._box.kill(ENDED_BY_US)
            self._note()

    async def terminate(self, restart: bool = False) -> None:
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        await self.kill()
        self._box = None
        if self._cold is not None:
            await asyncio.to_thread(self._cold.close)
            self._cold = None
        if self._folder is not None and not restart:
            self._folder.remove()
            self._folder = None

    def _note(self) -> None:
        if self._box is not None and self._box.why:
            self.why = self._box.why


# ---------------------------------------------------------------- manager and client


class _Client(AsyncKernelClient):
    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Return when the kernel answers and every message that it publishes will come in here.

        Unlike Jupyter's own this waits for no silence: a kernel says when it has heard a subscription.
        """
        deadline = time.monotonic() + (timeout or 1e9)
        await self._next(self.get_iopub_msg, deadline)
        request = self.kernel_info()
        while (await self._next(self.get_shell_msg, deadline))["parent_header"].get("msg_id") != request:
            pass
        while True:
            message = await self._next(self.get_iopub_msg, deadline)
            idle = message["content"].get("execution_state") == "idle"
            if idle and message["parent_header"].get("msg_id") == request:
                return

    async def _next(self, get: Any, deadline: float) -> dict[str, Any]:
        while True:
            with contextlib.suppress(Empty):
                return await get(timeout=0.1)
            if not await self.parent.is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
            if time.monotonic() > deadline:
                raise RuntimeError("Kernel didn't respond in time")


class _Manager(AsyncKernelManager):
    """With the client above; and the provisioner is given, not looked up."""

    client_factory = AnyTrait(_Client)
    most_bytes = Walls().output_bytes  # of one message

    def client(self, **kwargs: Any) -> AsyncKernelClient:
        client = super().client(**kwargs)
        client.context.setsockopt(zmq.MAXMSGSIZE, self.most_bytes)  # for the sockets that it will make
        return client

    def __init__(self, provisioner: Any, **kwargs: Any) -> None:
        quiet = logging.getLogger(f"{__name__}.jupyter")
        quiet.setLevel(logging.CRITICAL)  # an error is raised; Jupyter would print its traceback as well
        super().__init__(kernel_name="python3", transport="ipc", kernel_id=str(uuid.uuid4()), log=quiet, **kwargs)
        self._kernel_spec = _spec()
        self.provisioner = provisioner(kernel_id=self.kernel_id, kernel_spec=self._kernel_spec, parent=self)


def _spec() -> KernelSpec:
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--HistoryManager.enabled=False"]
    return KernelSpec(argv=argv, display_name="Python 3", language="python", interrupt_mode="signal")


class _UnsafeProvisioner(SandboxProvisioner):
    async def _start(self, descriptors: list[int], key: str) -> Bare:
        return await asyncio.to_thread(Bare, descriptors, key)


async def start_kernel(walls: Walls = Walls(), *, warm: bool = True, unsafe: bool = False) -> AsyncKernelManager:
    """A running kernel in the sandbox, its kernel manager.

    What is sent to it from now on is not lost, and neither is what it publishes before anybody listens. Raises
    SandboxError where a wall can't be put up. `unsafe=True` starts an ordinary process of this user instead, which
    can do whatever this user can.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise SandboxError(
            f"kernels for grading can't be started on {sys.platform}", "grade on Linux (on Windows: in WSL)"
        )
    manager = _Manager(_UnsafeProvisioner if unsafe else SandboxProvisioner)
    manager.most_bytes = walls.output_bytes
    manager.provisioner.walls, manager.provisioner.warm = walls, warm
    try:
        await manager.start_kernel()
    except BaseException:
        if manager.ready.done():
            manager.ready.exception()  # seen: else asyncio complains that nobody looked
        await manager.cleanup_resources()
        raise
    return manager


def effort(manager: AsyncKernelManager) -> tuple[float, bool]:
    """Processor seconds that a kernel has used, and whether it would use more if the machine let it: it is not asleep.

    (infinity, False) where nobody can tell: on a system without /proc, or of a kernel that has ended.
    """
    used, willing = 0.0, False
    processes = [manager.provisioner.pid]
    try:
        for pid in processes:
            folder = Path(f"/proc/{pid}")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            used += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # its own, and of children that have ended
            willing = willing or fields[0] in "RD"
            processes += map(int, (folder / "task" / str(pid) / "children").read_text().split())
    except OSError:
        return math.inf, False
    return used, willing


def why_ended(km: Any) -> str:
    """Why the kernel ended, as part of a sentence: "it used more than 2 GB of memory". Empty while it runs."""
    return km.provisioner.why if km.provisioner is not None else ""
