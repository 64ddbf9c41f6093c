"""From a file that was handed in to a task, the same way for nbgrader's pipeline and for a whole class."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from nbgrader.preprocessors.execute import Execute
from traitlets import Bool, Float, Integer, Unicode

from autograder.evidence import Limits, Store, Task
from autograder.execute import make_task, task_version
from autograder.judge import VISIBLE_SEEDS
from autograder.submission import MARK, Given, NotebookError, class_secret, lesson_of, nbformat, parse, repair, role_of

from .handin import content_of

__all__ = [
    "Settings",
    "Submitted",
    "digest_of",
    "given_in",
    "is_current",
    "notebook_in",
    "read_submission",
    "store_of",
]

EVIDENCE = ".evidence"  # the store's folder, in the class's


@dataclass(frozen=True)
class Submitted:
    """A notebook that was handed in, put right. `problem` says why there is nothing to run; empty if there is."""

    notebook: Any
    digest: str
    problem: str = ""


def read_submission(content: bytes, name: str, lesson: str, given: tuple[Given, ...]) -> Submitted:
    """The submission in `content`, with every given cell once and nothing else that could steer the grading."""
    notebook, problem = notebook_in(content, name, lesson)
    if not problem:
        repair(notebook, given)
    return Submitted(notebook, hashlib.sha256(content).hexdigest(), problem)


def notebook_in(content: bytes, name: str, lesson: str | None) -> tuple[Any, str]:
    """The notebook in `content`, as it was handed in, and no problem; or a notebook that says why it can't be graded,
    marked with that problem. Any lesson's will do where `lesson` is None.
    """
    try:
        notebook = parse(content, name)
        found = lesson_of(notebook)
        if found and lesson and found != lesson:
            raise NotebookError(f"{name} belongs to lesson {found}, not to {lesson}")
        return notebook, ""
    except NotebookError as error:
        problem = f"{error}."
    notebook = nbformat().v4.new_notebook(cells=[nbformat().v4.new_markdown_cell(f"**{escape(problem)}**")])
    notebook.metadata[MARK] = {"problem": problem}
    return notebook, problem


def digest_of(path: Path) -> str:
    """The digest of a file, by which a later run knows whether it changed."""
    return hashlib.sha256(content_of(path)).hexdigest()


def given_in(notebook: Any) -> tuple[Given, ...]:
    """The cells that were released, from nbgrader's database."""
    points = {cell.name: cell.max_score for cell in notebook.grade_cells}
    solutions = {cell.name for cell in notebook.solution_cells}
    return tuple(
        Given(
            name=cell.name,
            cell_type=cell.cell_type,
            source=cell.source,
            locked=cell.locked,
            grade=cell.name in points,
            solution=cell.name in solutions,
            points=points.get(cell.name, 0),
            checksum=cell.checksum,
        )
        for cell in sorted(notebook.source_cells, key=lambda cell: cell.name)
    )


class Settings(Execute):
    """How submissions run, for RunCells: nbgrader's own settings of Execute count, and these."""

    notebook_timeout = Float(300, help="Seconds for all cells of a notebook together").tag(config=True)
    probe_timeout = Float(20, help="Seconds for all cases of one exercise").tag(config=True)
    memory = Integer(2 * 2**30, help="Bytes that a kernel may use beyond what it starts with").tag(config=True)
    max_output = Integer(4_000_000, help="Bytes of output of one cell that are kept").tag(config=True)
    secret_file = Unicode("", help="Holds the secret from which graded checks draw their cases").tag(config=True)
    unsafe = Bool(False, help="Run submissions without a sandbox, with all that you may do").tag(config=True)

    def task(self, notebook: Any, lesson: str, student: str) -> Task:
        """What it is to run a student's repaired notebook. Raises CourseError for a check that the course lacks."""
        checks = [name for role, name in map(role_of, notebook.cells) if role == "check"]
        return make_task(notebook, lesson, self._seeds(checks, student), limits=self._limits(), unsafe=self.unsafe)

    def _limits(self) -> Limits:
        return Limits(
            cell=float(self.timeout or self.notebook_timeout),
            probe=self.probe_timeout,
            notebook=self.notebook_timeout,
            cell_output=self.max_output,
            flood=8 * self.max_output,
            memory=self.memory,
        )

    def _seeds(self, checks: list[str], student: str) -> Mapping[str, tuple[int, ...]]:
        """The same at every regrade, another for every learner and exercise, and not to be foreseen."""
        secret = class_secret(Path(self.secret_file)) if self.secret_file else ""
        if not secret:
            return dict.fromkeys(checks, VISIBLE_SEEDS)
        drawn = {name: hmac.digest(secret.encode(), f"{name}/{student}".encode(), "sha256") for name in checks}
        return {name: (int.from_bytes(number[:4], "little"),) for name, number in drawn.items()}


def store_of(root: Path | str) -> Store:
    """Where a class keeps its evidence."""
    return Store(Path(root) / EVIDENCE)


def is_current(graded: Path, submitted_digest: str, task: Task | None) -> bool:
    """Whether the autograded notebook `graded` was graded to its end, from this submission, as it would be now."""
    try:
        mark = parse(graded.read_bytes(), str(graded)).metadata.get(MARK, {})
        same_file = bool(mark.get("graded")) and mark.get("submission") == submitted_digest
        return same_file and mark.get("task") == (task_version(task) if task else None)
    except (OSError, NotebookError, AttributeError):
        return False
