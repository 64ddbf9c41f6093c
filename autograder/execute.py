"""Run submissions in kernels: a task in, evidence out. Knows no gradebook, no class and no secret.

Solution and setup cells run in order; demo cells only show something and are left out. At the place of each check the
kernel gets a probe instead, and what comes back is judged here, outside. A kernel that dies, hangs, keeps silent or
floods costs the exercises that were left, with the reason, and never the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty
from typing import Any

from autograder import exercises
from autograder.evidence import DEFAULT_LIMITS, Limits, Ran, Task, pack, unpack
from autograder.exercise import CourseError, Exercise
from autograder.forbidden import forbidden_in_cells
from autograder.judge import VISIBLE_SEEDS, Verdict, judge_answer, judge_version, no_verdict, request_for
from autograder.points import chosen_in
from autograder.probe.kernel import TARGET
from autograder.probe.quiet import quiet
from autograder.sandbox import Walls
from autograder.submission import (
    Outcome,
    exercise_of,
    first_error,
    given_by,
    lesson_of,
    nbformat,
    outcome_of,
    read,
    refuse_missing,
    repair,
    role_of,
)

nbformat()  # before nbclient imports it the slow way

from nbclient import NotebookClient  # noqa: E402
from nbclient.exceptions import CellExecutionComplete, CellTimeoutError, DeadKernelError  # noqa: E402

from autograder.provisioner import effort, start_kernel, why_ended  # noqa: E402

__all__ = ["check_notebook", "judged_by_now", "make_task", "perform", "task_version"]

PATIENCE = 0.2  # seconds between looks whether a silent kernel still lives
BUSY = 6  # times a probe's limit that may pass on the clock while a busy machine keeps its kernel waiting
SERVE = "from autograder.probe.kernel import serve; serve(); del serve"


# ---------------------------------------------------------------- tasks


def make_task(
    notebook: Any,
    lesson: str,
    seeds: Mapping[str, Sequence[int]] | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    unsafe: bool = False,
) -> Task:
    """The task of running a repaired notebook: its code cells, and a request for each check in it.

    `seeds` maps an exercise to the seeds of its cases, the visible ones unless given. Raises CourseError where a check
    is of an exercise that the course doesn't have.
    """
    cells = tuple((*role_of(cell), cell.source) for cell in notebook.cells if cell.cell_type == "code")
    chosen, requests = {}, {}
    for role, name, _ in cells:
        if role == "check":
            record = exercises.get(name)
            if not isinstance(record, Exercise):
                raise CourseError(f"{name} is graded by hand, but the notebook has a check of it")
            chosen[name] = tuple((seeds or {}).get(name, VISIBLE_SEEDS))
            requests[name] = request_for(record, chosen[name])
    return Task(lesson, cells, requests, chosen, limits, unsafe)


def perform(task: Task, kept: bytes | None = None) -> bytes:
    """The evidence on a task, judged. What is in the `kept` evidence is neither run nor judged a second time.

    Raises CourseError where it is not the submission's fault: no sandbox, no kernel, or another version of the course
    here than where the task was made.
    """
    ran = unpack(kept) if kept is not None else asyncio.run(_run(task))
    return pack(_judged(task, ran))


def judged_by_now(ran: Ran, task: Task) -> bool:
    """Whether every verdict in the evidence is what the present judge would say."""
    return all(ran.verdicts.get(name, {}).get("version") == _version(name) for name in task.requests)


def task_version(task: Task) -> str:
    """A digest of what is run and of the judge: another one means to grade again.

    Limits don't count: what was graded under others stays, until somebody asks for it to be graded anew.
    """
    versions = [_version(name) for name in sorted(task.requests)]
    return hashlib.sha256(f"{task.content} {versions}".encode()).hexdigest()[:32]


def _version(name: str) -> str:
    return judge_version(exercises.get(name))


def _judged(task: Task, ran: Ran) -> Ran:
    start = time.monotonic()
    verdicts = dict(ran.verdicts)
    with quiet():  # Keras looks for devices, and says so
        for name in task.requests:
            version = _version(name)
            if verdicts.get(name, {}).get("version") != version:
                verdicts[name] = {"version": version, "verdict": _verdict(task, ran, name).as_data()}
    return replace(ran, verdicts=verdicts, seconds={**ran.seconds, "judge": time.monotonic() - start})


def _verdict(task: Task, ran: Ran, name: str) -> Any:
    record, seeds = exercises.get(name), task.seeds[name]
    request = request_for(record, seeds)
    if request != task.requests[name]:
        raise CourseError(f"another version of the course made this task of {name}: install the same one everywhere")
    if name not in ran.answers:
        return no_verdict(record, ran.silent.get(name, "There was no answer."))
    sources = [source for role, _, source in task.cells if role not in ("demo", "check")]
    used = forbidden_in_cells(sources, record.answer, record.forbidden)
    try:
        verdict = judge_answer(record, seeds, request, ran.answers[name], used)
    except CourseError:
        raise
    except Exception as error:  # an answer so odd that comparing it fails must not stop a class
        return no_verdict(record, f"This answer could not be compared: {type(error).__name__}. Tell your instructor.")
    if verdict.diagnosis and verdict.diagnosis.missing and (stopped := _why_missing(task, ran, name)):
        return replace(verdict, diagnosis=replace(verdict.diagnosis, message=stopped))
    return verdict


def _why_missing(task: Task, ran: Ran, name: str) -> str:
    """The error that kept the cell with the answer from defining it; empty where there was none."""
    for (role, exercise, _), outputs in zip(task.cells, ran.outputs, strict=True):
        if (role, exercise) == ("solution", name) and (error := first_error(outputs)):
            return f"There was nothing to check: the cell with your answer stopped. {error}"
    return ""


# ---------------------------------------------------------------- running


async def _run(task: Task) -> Ran:
    return await _Run(task).outcome()


class _Run(NotebookClient):
    """nbclient's client, for code that means no good: `stopped` says why nothing runs any more."""

    def __init__(self, task: Task) -> None:
        self.task, self.limits = task, task.limits
        self.stopped, self.spent = "", 0
        self.answers: dict[str, bytes] = {}
        self.silent: dict[str, str] = {}
        self.seconds = dict.fromkeys(("start", "cells", "probes"), 0.0)
        limits = self.limits
        super().__init__(
            nbformat().v4.new_notebook(cells=[nbformat().v4.new_code_cell(source) for _, _, source in task.cells]),
            timeout_func=self._seconds_left,
            on_cell_executed=self._record_error,
            allow_errors=True,
            store_widget_state=False,
            interrupt_on_timeout=True,
            iopub_timeout=limits.grace,
            raise_on_iopub_timeout=True,
            error_on_timeout={
                "ename": "TimeOut",
                "evalue": f"This cell was stopped: a cell may run for {limits.cell:g} s, "
                f"a notebook for {limits.notebook:g} s.",
                "traceback": [],
            },
        )

    async def outcome(self) -> Ran:
        """What the submission does. Raises CourseError where no kernel could be started."""
        started = time.monotonic()
        async with self._kernel():
            self.deadline = time.monotonic() + self.limits.notebook
            self.seconds["start"] = time.monotonic() - started
            for index, ((role, exercise, source), cell) in enumerate(zip(self.task.cells, self.nb.cells, strict=True)):
                began = time.monotonic()
                if role == "check":
                    await self._check(exercise)
                    self.seconds["probes"] += time.monotonic() - began
                elif role != "demo" and source.strip():
                    await self._run_cell(cell, index)
                    self.seconds["cells"] += time.monotonic() - began
        outputs = tuple(tuple(cell.outputs) for cell in self.nb.cells)
        return Ran(outputs, self.answers, self.silent, self.stopped, seconds=self.seconds)

    @asynccontextmanager
    async def _kernel(self) -> Any:
        """A kernel that answers probes, gone at the end."""
        limits = self.limits
        largest = max(4 * limits.flood, 64_000_000)  # one message may hold what was printed since the last
        walls = Walls(memory=limits.memory, wall_seconds=limits.notebook + 60, output_bytes=largest)
        self.km = await start_kernel(walls, unsafe=self.task.unsafe)
        try:
            self.kc = self.km.client()
            self.kc.start_channels(stdin=False, hb=False)
            if not await self._silently(SERVE):
                raise CourseError(f"a kernel did not start: {why_ended(self.km) or 'it gave no answer'}")
            yield
        finally:
            if self.kc is not None:
                self.kc.stop_channels()
            await self.km.shutdown_kernel(now=True)

    async def _silently(self, code: str) -> bool:
        """Run code of ours; whether the kernel has done so without an error."""
        request = self.kc.execute(code, silent=True, store_history=False)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(Empty):
                reply = await self.kc.shell_channel.get_msg(timeout=PATIENCE)
                if reply["parent_header"].get("msg_id") == request:
                    return reply["content"]["status"] == "ok"
                continue
            if not await self.km.is_alive():
                break
        return False

    async def _run_cell(self, cell: Any, index: int) -> None:
        if not self._may_go_on():
            return
        self.spent = 0
        try:
            await self.async_execute_cell(cell, index)
        except DeadKernelError:
            self._stop(f"Python itself ended while it ran {self._where(index)}{self._because()}.")
        except CellTimeoutError:
            self._stop(f"{self._where(index)} hung and could not be interrupted.")
        except Exception as error:  # what came from the kernel is no message at all
            self._stop(f"{self._where(index)} made the kernel send what can't be read: {type(error).__name__}.")
        if self.stopped:
            cell.outputs = [*cell.outputs[:20], _error("Stopped", self.stopped)]

    async def _check(self, exercise: str) -> None:
        """Send the exercise's probe to the kernel and keep what comes back."""
        if not self._may_go_on():
            self.silent[exercise] = f"This exercise was not checked: {self.stopped}"
            return
        try:
            replies = await self._ask(self.task.requests[exercise], exercise)
        except Exception as error:
            self._stop(f"The check of {exercise} brought back what can't be read: {type(error).__name__}.")
            replies = []
        if self.stopped:
            self.silent[exercise] = self.stopped
        elif len(replies) == 1:
            self.answers[exercise] = replies[0]
        elif exercise not in self.silent:
            count = "no answer" if not replies else f"{len(replies)} answers"
            self.silent[exercise] = f"The check got {count} from the kernel, where one is expected."

    async def _ask(self, request: bytes, exercise: str) -> list[bytes]:
        """The buffers that the kernel sends in answer to a request, until it says that it is done."""
        comm = uuid.uuid4().hex
        message = self.kc.session.msg("comm_open", {"comm_id": comm, "target_name": TARGET, "data": {}})
        message["buffers"] = [request]
        self.kc.shell_channel.send(message)
        limit = min(self.limits.probe, max(0.1, self.deadline - time.monotonic()))
        began, used = time.monotonic(), effort(self.km)[0]
        deadline, interrupted, size = began + limit, False, 0
        replies: list[bytes] = []
        while True:
            with suppress(Empty):
                reply = await self.kc.iopub_channel.get_msg(timeout=PATIENCE)
                size += _size(reply)
                if size > 2 * self.limits.flood:
                    return self._stop(f"The check of {exercise} put out more than {self.limits.flood / 1e6:g} MB.")
                if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                    content = reply["content"]
                    if reply["msg_type"] == "comm_msg" and content.get("comm_id") == comm:
                        replies += [bytes(buffer) for buffer in reply["buffers"]]
                    elif reply["msg_type"] == "status" and content.get("execution_state") == "idle":
                        return replies
                if time.monotonic() < deadline:
                    continue
            if not await self.km.is_alive():
                return self._stop(f"Python itself ended in the check of {exercise}{self._because()}.")
            if time.monotonic() > deadline and not interrupted:
                spent, willing = effort(self.km)
                if willing and spent - used < limit and time.monotonic() < min(began + BUSY * limit, self.deadline):
                    deadline = time.monotonic() + PATIENCE  # it would have been done by now, had it been let
                    continue
                await self.km.interrupt_kernel()
                interrupted, deadline = True, time.monotonic() + self.limits.grace
                self.silent[exercise] = f"Your answer was stopped: its cases may take {limit:g} s together."
            elif time.monotonic() > deadline:
                return self._stop(f"The check of {exercise} hung and could not be interrupted.")

    def _may_go_on(self) -> bool:
        if not self.stopped and time.monotonic() > self.deadline:
            self._stop(f"The notebook ran longer than {self.limits.notebook:g} s.")
        return not self.stopped

    def _stop(self, reason: str) -> list[bytes]:
        if not self.stopped:
            self.stopped = reason[0].upper() + reason[1:]
        return []

    def _because(self) -> str:
        reason = why_ended(self.km)
        return f": {reason}" if reason else ""

    def _where(self, index: int) -> str:
        role, exercise, _ = self.task.cells[index]
        return f"the {role} cell of {exercise}" if exercise else f"cell {index + 1}"

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
        size = 0 if msg["msg_type"] == "status" else _size(msg)
        self.spent += size
        if self.spent > self.limits.flood and not self.stopped:
            self._stop(f"{self._where(cell_index)} put out more than {self.limits.flood / 1e6:g} MB.")
            self._killing = asyncio.ensure_future(self.km.shutdown_kernel(now=True))
        if size and self.spent > self.limits.cell_output:
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


def _size(message: Any) -> int:
    return len(repr(message["content"])) + sum(len(buffer) for buffer in message.get("buffers", ()))


def _error(name: str, value: str) -> Any:
    return nbformat().v4.new_output("error", ename=name, evalue=value, traceback=[f"{name}: {value}"])


# ---------------------------------------------------------------- a learner's whole notebook, from the terminal


def check_notebook(path: Path | str, release: Any, limits: Limits = DEFAULT_LIMITS) -> list[Outcome]:
    """Run a learner's notebook on the learner's own machine, on the visible cases; an outcome for each check, in order.

    Locked cells come from `release`, so edits to them don't matter. Raises NotebookError for a file that is not the
    learner's copy of that lesson, or that lacks a cell.
    """
    lesson = lesson_of(release)
    notebook = read(path, lesson)
    points = chosen_in(notebook)  # the learner's class may weigh exercises otherwise, or leave some out
    left_out = {name for name, worth in points.items() if not worth}
    given = tuple(cell for cell in given_by(release) if exercise_of(cell.name) not in left_out)
    refuse_missing(notebook, given, str(path))
    repair(notebook, given)
    ran = unpack(perform(make_task(notebook, str(lesson), limits=limits, unsafe=True)))
    verdicts = [Verdict.from_data(found["verdict"]) for found in ran.verdicts.values()]
    return [outcome_of(one.weighted(points.get(one.exercise, one.max_score)).as_data()) for one in verdicts]
