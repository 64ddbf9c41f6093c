"""The process that kernels are forked from: `python -m autograder.provisioner.warm DESCRIPTOR [MODULE ...]`.

It enters the sandbox's view, imports the modules, then waits on the socket DESCRIPTOR: each packet brings a channel,
and a kernel is forked for it. It runs no code of learners and holds no secret. It ends with the grader.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from autograder import sandbox
from autograder.provisioner.kernel import run

__all__ = ["COURSE", "main"]

COURSE = (
    *("triton", "numpy", "torch", "torch._dynamo", "torch.optim", "torch.utils.data"),
    *("tensorflow", "keras", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "ipywidgets"),
    *("ipykernel.kernelapp", "ipykernel.debugger", "IPython.core.completerlib", "IPython.extensions.storemagic"),
    "tornado.platform.asyncio",
    *("course_lib.claims", "course_lib.datasets", "course_lib.plots", "course_lib.trust", "course_lib.widgets"),
    *("course_lib.training", "course_lib.predictions", "course_lib.quiet", "course_lib.dropout"),
)


def main(arguments: list[str]) -> None:
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    grader = os.pidfd_open(os.getppid())
    sys.path[:] = [folder for folder in sys.path if folder not in ("", os.getcwd())]
    trouble: dict[str, Any] = {}
    try:
        sandbox.enter(sandbox.View.of_course())
        _import(arguments[1:])
    except sandbox.SandboxError as error:
        trouble = error.packet
    except BaseException as error:
        said = f"importing the course's libraries failed ({type(error).__name__}: {error})"
        trouble = {"error": said, "elsewhere": True}
    with suppress(OSError):
        _serve(control, grader, trouble)
    os._exit(0)


def _import(modules: Iterable[str]) -> None:
    """Import what is installed of `modules`. Nothing may run that starts a thread: no forked kernel would have it."""
    for name in modules:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    for module in list(sys.modules.values()):
        with suppress(Exception):
            module.__file__  # noqa: B018  (IPython's kernel will ask each, and some load themselves only then)
    gc.collect()
    gc.freeze()  # else the next collection would write to every object, and no page would stay shared


def _serve(control: socket.socket, grader: int, trouble: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, _bury)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(grader, select.POLLIN)
    while grader not in dict(poll.poll()):
        try:
            _, descriptors = sandbox.receive(control)
        except EOFError:
            return
        for descriptor in descriptors:
            with socket.socket(fileno=descriptor) as channel, suppress(BrokenPipeError):
                _open_box(channel, grader, trouble or _threads())


def _open_box(channel: socket.socket, grader: int, refusal: dict[str, Any]) -> None:
    try:
        if refusal:
            sandbox.send(channel, refusal)
        else:
            sandbox.start(channel, run, grader)
    except sandbox.SandboxError as error:
        sandbox.send(channel, error.packet)


def _bury(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _threads() -> dict[str, Any]:
    """A refusal, if this process has threads: a fork leaves them behind, and whoever waits for them hangs."""
    count = len(os.listdir("/proc/self/task"))
    if count == 1:
        return {}
    return {"error": f"importing the course's libraries left {count - 1} threads running", "elsewhere": True}


if __name__ == "__main__":
    main(sys.argv[1:])
