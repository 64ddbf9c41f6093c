"""Starts what the kill tests kill, in a moment: everything is imported once, and each process is a fork.

Reads a line of JSON, {"do": "grade", …}, {"do": "scheduler", …} or {"do": "worker", …}; answers with the pid of the new
process. {"wait": pid} answers with its exit code, negative where a signal ended it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import fake_performs
import sqlalchemy
import tiny_course as tiny
from distributed.cli import dask_scheduler, dask_worker

from autograder import engine, gradebook, grader
from autograder.exercise import CourseError


def grade(course: str, workers: int = 0, scheduler: str = "", perform: str = "honestly", cut: int = 0) -> int:
    """0 if everyone was graded, 1 if not, 2 where it was refused. `cut`: at which statement the database goes away."""
    if cut:
        cut_connection(cut)
    try:
        opened = gradebook.open_class(Path(course))
        where = engine.Where(workers, scheduler)
        rows = grader.grade(tiny.LESSON, opened, where=where, perform=getattr(fake_performs, perform), patience=2)
    except CourseError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    return int(any(row.problem for row in rows))


def cut_connection(after: int) -> None:
    """Close the connection to the database under the statement that comes then, and never again."""
    count = 0

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def cut(connection: Any, *_: Any) -> None:
        nonlocal count
        count += 1
        if count == after:
            connection.connection.dbapi_connection.close()


def do(command: dict[str, Any]) -> NoReturn:
    os.setsid()
    os.dup2(os.open(command.pop("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    os.dup2(2, 1)
    random.seed()  # names of temporary files: a fork draws what its brother draws
    code = 70
    try:
        match command.pop("do"):
            case "grade":
                code = grade(**command)
            case "scheduler":
                dask_scheduler.main(
                    ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", command["file"]]
                )
            case "worker":
                dask_worker.main([command["address"], "--nthreads", "1", "--no-dashboard", "--no-nanny"])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            answer = os.waitstatus_to_exitcode(os.waitpid(command["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                do(command)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
