"""What a worker could be told to do instead of running a submission: each is told by the source of the task's cell."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from autograder.evidence import Ran, Task, pack
from autograder.execute import perform
from autograder.probe.kernel import answer


def task(source: str, lesson: str = "00_tiny") -> Task:
    return Task(lesson, (("solution", "tiny.double", source),), {}, {})


def evidence(task: Task, **told: object) -> bytes:
    """Evidence of a task whose cells put out nothing, and the judge's version in it."""
    verdicts = {"tiny.double": {"version": "now", "verdict": {}}}
    return pack(Ran(tuple(() for _ in task.cells), verdicts=verdicts, **told))  # type: ignore[arg-type]


def obey(task: Task, kept: bytes | None = None) -> bytes:
    """Do what the task's cell says: "sleep 0.1", "exit", "fail", "log FILE", "exit once FILE"; else nothing."""
    for line in task.cells[0][2].split(";"):
        match line.split():
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["exit"]:
                os._exit(1)
            case ["exit", "once", path] if not Path(path).exists():
                Path(path).touch()
                os._exit(1)
            case ["fail"]:
                raise ValueError("as it was told")
            case ["log", path]:
                with open(path, "a") as file:
                    file.write(f"{os.getpid()} {'kept' if kept else 'new'}\n")
    return evidence(task)


def at_once(task: Task, kept: bytes | None = None) -> bytes:
    return evidence(task)


def honestly(task: Task, kept: bytes | None = None) -> bytes:
    """Real evidence on the tiny lesson's answers, made in this very process: for harmless answers and for speed."""
    if kept is None:
        namespace: dict[str, Any] = {}
        answers = {}
        for role, name, source in task.cells:
            if role == "check":
                answers[name] = answer(task.requests[name], namespace)
            elif role == "solution":
                exec(source, namespace)
        kept = pack(Ran(tuple(() for _ in task.cells), answers, seconds={"cells": 0.25}))
    return perform(task, kept)


def slowly(task: Task, kept: bytes | None = None) -> bytes:
    time.sleep(0.3)
    return honestly(task, kept)
