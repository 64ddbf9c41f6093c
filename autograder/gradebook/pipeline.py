"""The preprocessors and the exporter that `nbgrader_config.py` names."""

from __future__ import annotations

import hashlib
import hmac
import re
import shutil
import time
from html import escape
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.preprocessors.execute import Execute
from traitlets import Float, Integer, Unicode

from autograder.execute import Limits, execute
from autograder.submission import (
    MARK,
    Given,
    NotebookError,
    class_secret,
    grade_id,
    lesson_of,
    nbformat,
    outcomes,
    parse,
    repair,
    role_of,
)

__all__ = ["Repair", "RunCells", "SaveDiagnoses", "SubmissionExporter"]


class SubmissionExporter(NotebookExporter):
    """Reads submissions for `nbgrader autograde`, whatever is in the file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(self.parent, Autograde):
            _remove_outdated(self.parent)

    def from_file(self, file_stream: Any, resources: Any = None, **kwargs: Any) -> Any:
        name = Path(file_stream.name).name
        try:
            notebook = parse(file_stream.buffer.read(), name)
            lesson, expected = lesson_of(notebook), (resources or {}).get("nbgrader", {}).get("assignment")
            if lesson and expected and lesson != expected:
                raise NotebookError(f"{name} belongs to lesson {lesson}, not to {expected}")
        except NotebookError as error:
            self.log.warning("Graded as empty: %s", error)
            notebook = nbformat().v4.new_notebook(cells=[nbformat().v4.new_markdown_cell(f"**{escape(str(error))}.**")])
            notebook.metadata[MARK] = {"problem": f"{error}."}
        return self.from_notebook_node(notebook, resources=resources, **kwargs)


def _remove_outdated(autograde: Autograde) -> None:
    """Remove the autograded folders that are unfinished, or not of the submission that is there now."""
    for submitted in autograde.assignments:
        source = Path(submitted)
        match = re.match(autograde._format_source("(?P<lesson>.*)", "(?P<student>.*)", escape=True), submitted)
        if match is None:
            continue
        target = Path(autograde._format_dest(match["lesson"], match["student"]))
        if target.is_dir() and not _is_finished(source, target, match["lesson"]):
            autograde.log.warning("Grading again, since it is unfinished or out of date: %s", target)
            shutil.rmtree(target)


def _is_finished(source: Path, target: Path, lesson: str) -> bool:
    """Whether `target` holds the lesson's notebook, graded to the end, from the file that is in `source` now."""
    handed_in, graded = source / f"{lesson}.ipynb", target / f"{lesson}.ipynb"
    try:
        mark = parse(graded.read_bytes(), str(graded)).metadata.get(MARK, {})
        return bool(mark.get("graded")) and mark.get("submission") == _digest(handed_in)
    except (OSError, NotebookError, AttributeError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Repair(NbGraderPreprocessor):
    """First in the sanitizing list: rebuild what nbgrader relies on from what the gradebook says was released."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        names = resources["nbgrader"]
        with Gradebook(names["db_url"]) as gradebook:
            given = _given(gradebook.find_notebook(names["notebook"], names["assignment"]))
        remarks = repair(nb, given)
        for remark in remarks:
            self.log.warning("%s/%s: %s", names["student"], names["notebook"], remark)
        path = Path(resources["metadata"]["path"]) / f"{names['notebook']}.ipynb"
        mark = {"lesson": names["assignment"], "submission": _digest(path), "remarks": remarks}
        problem = nb.metadata.get(MARK)
        if isinstance(problem, dict) and isinstance(problem.get("problem"), str):
            mark["problem"] = problem["problem"]
        nb.metadata = nbformat().from_dict({MARK: mark})
        return nb, resources


def _given(notebook: Any) -> tuple[Given, ...]:
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


class RunCells(Execute):
    """nbgrader's Execute, on top of `autograder.execute`; everything that configures Execute configures this too."""

    notebook_timeout = Float(300, help="Seconds for all cells of a notebook together").tag(config=True)
    secret_file = Unicode("", help="Holds the secret from which graded checks draw their cases").tag(config=True)
    max_output = Integer(4_000_000, help="Bytes of output of one cell that are kept").tag(config=True)

    def preprocess(self, nb: Any, resources: Any = None, km: Any = None) -> tuple[Any, Any]:
        problem = nb.metadata.get(MARK, {}).get("problem")
        if problem:
            for cell in nb.cells:
                if cell.cell_type == "code":
                    cell.outputs = [_error("NotRun", problem)] if role_of(cell)[0] == "check" else []
        else:
            limits = Limits(
                cell=self.timeout or self.notebook_timeout,
                notebook=self.notebook_timeout,
                cell_output=self.max_output,
                flood=8 * self.max_output,
            )
            begun = time.monotonic()
            evidence = execute(
                nbformat().writes(nb).encode(),
                limits=limits,
                cwd=resources["metadata"]["path"],
                kernel_name=self.kernel_name or nb.metadata.get("kernelspec", {}).get("name", "python3"),
                options={name: getattr(self, name) for name in PASSED_ON},
                seed=self._seed(resources["nbgrader"]["assignment"], resources["nbgrader"]["student"]),
            )
            nb.metadata[MARK]["seconds"] = round(time.monotonic() - begun, 2)
            for cell, ran in zip(nb.cells, parse(evidence, "evidence", outputs=True).cells, strict=True):
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        _one_result_a_check(nb)
        return nb, resources

    def _seed(self, lesson: str, student: str) -> int | None:
        """The same at every regrade, another for every learner, and not to be foreseen; None without a secret."""
        secret = class_secret(Path(self.secret_file)) if self.secret_file else ""
        if not secret:
            return None
        drawn = hmac.digest(secret.encode(), f"{lesson}/{student}".encode(), "sha256")
        return int.from_bytes(drawn[:4], "little")


PASSED_ON = ("startup_timeout", "shutdown_kernel", "extra_arguments", "ipython_hist_file", "record_timing")
assert set(PASSED_ON) <= set(NotebookClient.class_trait_names())


def _one_result_a_check(nb: Any) -> None:
    """Leave each check cell one output that nbgrader reads as the score that the check gave."""
    found = {result.exercise: result for result in outcomes(nb)}
    for cell in nb.cells:
        role, exercise = role_of(cell)
        if role != "check":
            continue
        verdicts = [output for output in cell.outputs if output.output_type == "execute_result"]
        if found[exercise].verdict is not None:
            cell.outputs = verdicts
        else:
            errors = [output for output in cell.outputs if output.output_type == "error"]
            cell.outputs = [_error("NotRun", found[exercise].message), *errors[:1]]


def _error(name: str, value: str) -> Any:
    return nbformat().v4.new_output("error", ename=name, evalue=value, traceback=[f"{name}: {value}"])


class SaveDiagnoses(NbGraderPreprocessor):
    """After SaveAutoGrades: the diagnosis becomes the automatic comment on the answer; then the work is done.

    Feedback shows the automatic comment unless the instructor wrote one; the formgrader shows it as the text that
    the instructor's replaces. nbgrader's own "No response." stays.
    """

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        names = resources["nbgrader"]
        with Gradebook(names["db_url"]) as gradebook:
            for found in outcomes(nb):
                try:
                    comment = gradebook.find_comment(
                        grade_id(found.exercise, "solution"), names["notebook"], names["assignment"], names["student"]
                    )
                except MissingEntry:
                    continue
                if found.score == found.max_score:
                    comment.auto_comment = None  # nbgrader's "No response." to an answer given in another cell
                elif comment.auto_comment is None:
                    comment.auto_comment = _harmless(f"{found.message} {found.next_step}") or None
            gradebook.db.commit()
        nb.metadata.setdefault(MARK, nbformat().from_dict({}))["graded"] = True
        return nb, resources


def _harmless(text: str) -> str:
    """One line that neither HTML nor Markdown turns into a tag or a link: it may quote what a learner's code said."""
    return escape(" ".join(text.split()), quote=False).replace("](", "] (")
