"""The formgrader's buttons and Validate, run in a process of their own.

nbgrader runs them inside the Jupyter server, which answers nobody until a notebook has run. These handlers answer the
same requests with the same JSON, and the server goes on serving. One run at a time for each class: the others wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nbgrader.server_extensions.formgrader.apihandlers import BaseApiHandler
from nbgrader.server_extensions.formgrader.base import check_notebook_dir, check_xsrf
from nbgrader.server_extensions.validate_assignment.handlers import ValidateAssignmentHandler
from tornado import web
from traitlets.config import ConfigFileNotFound, PyFileConfigLoader

__all__ = ["handlers"]

PYTHON = (sys.executable, "-P")  # -P: nothing is imported from the folder that the work is done in
COURSE = (*PYTHON, "-c", "from autograder.cli import main; main()")
NBGRADER = (*PYTHON, "-m", "nbgrader")
VALIDATE = (*PYTHON, "-c", "from autograder.gradebook.background import validate; validate()")


def handlers() -> list[tuple[Any, ...]]:
    """(pattern, handler) of the requests that are answered here."""
    assignment = r"/formgrader/api/assignment/([^/]+)"
    return [
        (r"/formgrader/api/submission/([^/]+)/([^/]+)/autograde", Autograde),
        (rf"{assignment}/([^/]+)/generate_feedback", GenerateFeedback),
        (rf"{assignment}/generate_feedback", GenerateFeedback),
        (rf"{assignment}/assign", Assign),
        (r"/assignments/validate", Validate),
    ]


class _Command(BaseApiHandler):
    """Answers a POST with {"success": …, "log": …} of a command that is run in the class's folder."""

    def command(self, assignment: str, student: str | None) -> tuple[str, ...]:
        raise NotImplementedError

    @web.authenticated
    @check_xsrf
    @check_notebook_dir
    async def post(self, assignment: str, student: str | None = None) -> None:
        folder = str(Path(self.coursedir.root).resolve())
        locks = self.settings.setdefault("course_locks", {})
        async with locks.setdefault(folder, asyncio.Lock()):
            code, log = await _run(self.command(assignment, student), folder)
        if (stale := self.settings.get("nbgrader_gradebook")) is not None:  # what it remembers has changed
            self.settings["nbgrader_gradebook"] = None
            stale.close()
        self.write(json.dumps({"success": code == 0, "log": log}))


class Autograde(_Command):
    def command(self, assignment: str, student: str | None) -> tuple[str, ...]:
        if _is_ours(self.coursedir.root):
            return (*COURSE, "grade", "--force", f"--student={student}", "--", assignment)
        return (*NBGRADER, "autograde", "--force", f"--assignment={assignment}", f"--student={student}")


class GenerateFeedback(_Command):
    def command(self, assignment: str, student: str | None) -> tuple[str, ...]:
        only = (f"--student={student}",) if student else ()
        return (*NBGRADER, "generate_feedback", "--force", f"--assignment={assignment}", *only)


class Assign(_Command):
    def command(self, assignment: str, student: str | None) -> tuple[str, ...]:
        return (*NBGRADER, "generate_assignment", "--force", f"--assignment={assignment}")


class Validate(ValidateAssignmentHandler):
    """Answers {"success": …, "value": …} as nbgrader's handler does, which runs in another process."""

    @web.authenticated
    async def post(self) -> None:
        path = self.get_argument("path", None) or (self.get_json_body() or {})["path"]
        code, log = await _run((*VALIDATE, self.root_dir, path), None)
        last = log.strip().rpartition("\n")[2]
        with contextlib.suppress(ValueError):
            self.finish(json.dumps(json.loads(last)))
            return
        self.finish(json.dumps({"success": False, "value": log or f"the validation ended with code {code}"}))


def validate() -> None:
    """In the other process: nbgrader's own validation of the notebook that is named; its answer is the last line."""
    root, path = sys.argv[1:]
    logging.basicConfig()
    handler = SimpleNamespace(
        root_dir=root,
        log=logging.getLogger("validate"),
        load_config=partial(ValidateAssignmentHandler.load_config, None),
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = ValidateAssignmentHandler.validate_notebook(handler, path)
    except web.HTTPError as error:  # outside the server's folder
        answer = {"success": False, "value": error.log_message}
    print("\n" + json.dumps(answer))


def _is_ours(root: str) -> bool:
    """Whether the class is graded with the course's own configuration; a server may hold others too."""
    try:
        config = PyFileConfigLoader("nbgrader_config.py", path=root).load_config()
    except ConfigFileNotFound:
        return False
    return str(config.Autograde.get("exporter_class", "")).startswith("autograder.")


async def _run(command: tuple[str, ...], folder: str | None) -> tuple[int, str]:
    """Run the command, others being served meanwhile; its exit code and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode("utf-8", "replace")
