"""IPython's kernel inside a box: on sockets that the grader has bound, and as new as one that was never forked.

Nothing of weight is imported at the top: a cold kernel imports it in its box, as learners' imports would.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

__all__ = ["CHANNELS", "main", "run"]

CHANNELS = ("shell", "iopub", "stdin", "hb", "control")  # in the order of ports and descriptors
_KEPT = 10_000  # messages that wait for somebody to listen


def run(packet: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Be the kernel, until it is told to stop."""
    atexit._clear()  # what was left there belongs to the process that this one was forked from
    tempfile.tempdir = None
    _reseed()
    for name in [name for name in sys.modules if name.partition(".")[0] == "autograder"]:
        del sys.modules[name]
    _serve(packet["key"], descriptors, packet["walls"]["output_bytes"])


def main(descriptors: Sequence[int]) -> None:
    """Be a kernel without a box; the key comes on standard input."""
    _serve(sys.stdin.read(), descriptors, sys.maxsize)


def _serve(key: str, descriptors: Sequence[int], most: int) -> None:
    app = _application(key, dict(enumerate(descriptors, 1)), most)
    app.initialize([])
    app.start()
    for close in (app.close, app.iopub_thread.stop):
        atexit.unregister(close)  # they may wait ten seconds for one another's threads
    atexit._run_exitfuncs()
    os._exit(0)


def _reseed() -> None:
    """Kernels forked from one process would all draw the same numbers."""
    seed = int.from_bytes(os.urandom(8), "little") >> 1
    import random

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(seed)


def _application(key: str, sockets: dict[int, int], most: int) -> Any:
    """The kernel's application; `sockets` are descriptors of listeners by port, `most` the bytes of one message."""
    import zmq
    from ipykernel import kernelapp
    from ipykernel.heartbeat import Heartbeat
    from ipykernel.iostream import IOPubThread
    from traitlets.config import Config

    class Publisher(IOPubThread):
        """Keeps what is published before anybody listens, so that no client can come too late."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._heard, self._kept = False, []
            super().__init__(*args, **kwargs)

        def _really_send(self, msg: Any, *args: Any, **kwargs: Any) -> None:
            if (size := sum(map(len, msg))) > most:  # the client would cut the connection
                msg = self._instead(
                    msg, f"[{size / 1e6:.0f} MB of output left out: at most {most / 1e6:.0f} MB may be]\n"
                )
            if self._heard or self._check_mp_mode():
                super()._really_send(msg, *args, **kwargs)
            elif len(self._kept) < _KEPT:
                self._kept.append(msg)

        def _send_welcome_message(self, subscription: str) -> None:
            super()._send_welcome_message(subscription)
            self._heard, kept, self._kept = True, self._kept, []
            for message in kept:
                self._really_send(message)

        def _instead(self, msg: list[Any], text: str) -> list[Any]:
            """A line of output, for the cell that sent `msg`."""
            identities, frames = self.session.feed_identities(msg)
            parent = self.session.unpack(frames[2])  # after the signature and the header
            stream = self.session.msg("stream", {"name": "stdout", "text": text}, parent=parent)
            return self.session.serialize(stream, ident=identities)

        def _setup_pipe_in(self) -> None:
            """As in IPython's, without TCP: output of forked processes comes in here."""
            self._pipe_uuid = os.urandom(16)
            self._pipe_port = f"ipc://@{self._pipe_uuid.hex()}"
            pipe = self.socket.context.socket(zmq.PULL)
            pipe.linger = 0
            pipe.bind(self._pipe_port)
            self._pipe_in = kernelapp.ZMQStream(pipe, self.io_loop)
            self._pipe_in.on_recv(self._handle_pipe_msg)

        def _setup_pipe_out(self) -> Any:
            context = zmq.Context()
            pipe = context.socket(zmq.PUSH)
            pipe.linger = 3000
            pipe.connect(self._pipe_port)
            return context, pipe

    class Beat(Heartbeat):
        def _try_bind_socket(self) -> None:
            _bind(self.socket, self.port)

    class Application(kernelapp.IPKernelApp):
        """Takes its sockets and its key from here, and writes no connection file."""

        def _bind_socket(self, socket: Any, port: int) -> int:
            _bind(socket, port)
            return port

        def init_connection_file(self) -> None:
            self.transport, self.ip = "ipc", "box"
            for port, channel in enumerate(CHANNELS, 1):
                setattr(self, f"{channel}_port", port)
            self.session.key = key.encode()

        def write_connection_file(self, **_: Any) -> None:
            pass

        def log_connection_info(self) -> None:
            self._ports = {channel: port for port, channel in enumerate(CHANNELS, 1)}

        def init_control(self, context: Any) -> None:
            super().init_control(context)
            self.debug_shell_socket.disconnect(self.shell_socket.last_endpoint)  # it would try for ever

        def init_heartbeat(self) -> None:
            self.heartbeat = Beat(zmq.Context(), (self.transport, self.ip, self.hb_port))
            self.heartbeat.start()

    def _bind(socket: Any, port: int) -> None:
        socket.setsockopt(zmq.USE_FD, sockets[port])
        socket.bind(f"ipc://box-{port}")

    kernelapp.IOPubThread = Publisher
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    return Application.instance(config=config)
