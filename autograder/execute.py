"""Run a notebook's cells in a kernel, and come back whatever the learner's code does.

`execute` is the seam of grading: bytes of a notebook in, bytes of evidence out (the notebook with what its cells
put out); it knows no gradebook and no course. A kernel that dies, hangs, keeps silent or floods costs the cells
that were left, never the run: each check that was not run says why.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError
from autograder.judge import SEEDS_VARIABLE
from autograder.submission import (
    Given,
    Outcome,
    given_by,
    lesson_of,
    nbformat,
    outcomes,
    parse,
    quiet_environment,
    read,
    refuse_missing,
    repair,
    role_of,
)

nbformat()  # before nbclient imports it the slow way

from jupyter_client.kernelspec import NoSuchKernel  # noqa: E402
from jupyter_core.utils import run_sync  # noqa: E402
from nbclient import NotebookClient  # noqa: E402
from nbclient.exceptions import CellExecutionComplete, CellTimeoutError, DeadKernelError  # noqa: E402

__all__ = ["Limits", "check_notebook", "execute"]


@dataclass(frozen=True)
class Limits:
    """What one notebook may use. Seconds, and bytes of output."""

    cell: float = 60
    notebook: float = 300
    grace: int = 5  # for a kernel to react to an interrupt before it is killed
    cell_output: int = 4_000_000  # the rest of a cell's output is dropped
    flood: int = 32_000_000  # from here on the kernel is killed
    traceback: int = 20_000


def execute(
    notebook: bytes,
    *,
    limits: Limits = Limits(),
    cwd: Path | str | None = None,
    kernel_name: str = "python3",
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> bytes:
    """The notebook after its code cells have run in order, demo cells left out.

    After a cell that killed, hung or flooded the kernel nothing runs: checks get an error output that says why.
    With a `seed` the checks draw cases other than those that learners see. `options` go to nbclient. Raises
    CourseError where no kernel could be started, which is nobody's fault but ours.
    """
    nb = parse(notebook, "the notebook")
    with tempfile.TemporaryDirectory(prefix="course-run-") as scratch:
        client = _Client(
            nb,
            limits,
            seed,
            **{
                "kernel_name": kernel_name,
                "shutdown_kernel": "immediate",
                **(options or {}),
                "resources": {"metadata": {"path": str(cwd or scratch)}},
                "allow_errors": True,
                "store_widget_state": False,  # with it, an exported page shows widgets only where a network is
                "interrupt_on_timeout": True,
                "iopub_timeout": limits.grace,
                "raise_on_iopub_timeout": True,
                "error_on_timeout": {
                    "ename": "TimeOut",
                    "evalue": f"This cell was stopped: a cell may run for {limits.cell:g} s, "
                    f"a notebook for {limits.notebook:g} s.",
                    "traceback": [],
                },
            },
        )
        client.run()
    return nbformat().writes(nb).encode()


class _Client(NotebookClient):
    """nbclient's client, for code that means no good: `stopped` says why nothing runs any more."""

    def __init__(self, nb: Any, limits: Limits, seed: int | None, **options: Any) -> None:
        self.environment = quiet_environment() | ({} if seed is None else {SEEDS_VARIABLE: str(seed)})
        self.limits, self.stopped, self.spent = limits, "", 0
        self.deadline = time.monotonic() + limits.notebook
        super().__init__(nb, timeout_func=self._seconds_left, on_cell_executed=self._record_error, **options)

    async def async_run(self) -> None:
        try:
            async with self.async_setup_kernel(env=self.environment, stderr=subprocess.DEVNULL):
                self.deadline = time.monotonic() + self.limits.notebook
                for index, cell in enumerate(self.nb.cells):
                    if cell.cell_type == "code":
                        cell.outputs = []
                        if role_of(cell)[0] != "demo":
                            await self._run_cell(cell, index)
        except (
            NoSuchKernel,
            RuntimeError,
            OSError,
        ) as error:  # all from the kernel's start
            raise CourseError(f"could not start a kernel: {error}") from error

    run = run_sync(async_run)

    async def _run_cell(self, cell: Any, index: int) -> None:
        if not self.stopped and time.monotonic() > self.deadline:
            self.stopped = f"The notebook ran longer than {self.limits.notebook:g} s."
        if self.stopped:
            if role_of(cell)[0] == "check":
                cell.outputs = [_error("NotRun", f"This check was not run: {self.stopped}")]
            return
        self.spent = 0
        try:
            await self.async_execute_cell(cell, index)
        except DeadKernelError:
            if not self.stopped:
                self.stopped = f"Python itself ended while it ran {_where(self.nb.cells, index)}."
        except CellTimeoutError:
            self.stopped = f"{_where(self.nb.cells, index)} hung and could not be interrupted.".capitalize()
        if self.stopped:
            cell.outputs = [*cell.outputs[:20], _error("Stopped", self.stopped)]

    def _seconds_left(self, cell: Any) -> float:
        return max(0.1, min(self.limits.cell, self.deadline - time.monotonic()))

    def _record_error(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """Keep an error that the kernel replied with but did not show: a time-out, a silenced traceback."""
        reply = execute_reply["content"]
        silent = not any(output.output_type == "error" for output in cell.outputs)
        if reply.get("status") == "error" and (silent or reply.get("ename") == "TimeOut"):
            cell.outputs.append(_error(str(reply.get("ename")), str(reply.get("evalue"))[: self.limits.traceback]))

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Count what the kernel sends: drop what is too much, kill the kernel when it does not end."""
        content, kind = msg["content"], msg["msg_type"]
        size = 0 if kind == "status" else len(repr(content))
        self.spent += size
        if self.spent > self.limits.flood and not self.stopped:
            self.stopped = f"{_where(self.nb.cells, cell_index)} put out more than {self.limits.flood / 1e6:g} MB."
            self.stopped = self.stopped[0].upper() + self.stopped[1:]
            self._killing = asyncio.ensure_future(self.km.shutdown_kernel(now=True))
        if kind != "status" and self.spent > self.limits.cell_output:
            if self.spent - size <= self.limits.cell_output:
                limit = f"{self.limits.cell_output / 1e6:g} MB"
                cell.outputs.append(_error("TooMuchOutput", f"This cell put out more than {limit}: the rest is cut."))
            return None
        try:
            return super().process_message(msg, cell, cell_index)
        except CellExecutionComplete:
            raise
        except Exception:  # a forged message: what it says is lost, the run goes on
            return None


def _error(name: str, value: str) -> Any:
    return nbformat().v4.new_output("error", ename=name, evalue=value, traceback=[f"{name}: {value}"])


def _where(cells: list[Any], index: int) -> str:
    role, exercise = role_of(cells[index])
    return f"the {role} cell of {exercise}" if exercise else f"cell {index + 1}"


# ---------------------------------------------------------------- a learner's whole notebook, from the terminal


def check_notebook(path: Path | str, release: Any, limits: Limits = Limits()) -> list[Outcome]:
    """Run a learner's notebook in an empty folder and read its checks, in the lesson's order.

    Locked cells come from `release`, so edits to them don't matter. Raises NotebookError for a file that is not the
    learner's copy of that lesson, or that lacks a cell.
    """
    notebook = read(path, lesson_of(release))
    given: tuple[Given, ...] = given_by(release)
    refuse_missing(notebook, given, str(path))
    repair(notebook, given)
    ran = parse(execute(nbformat().writes(notebook).encode(), limits=limits), str(path), outputs=True)
    return outcomes(ran)
