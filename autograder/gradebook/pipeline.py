"""The preprocessors and the exporter that `nbgrader_config.py` names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.preprocessors import NbGraderPreprocessor

from autograder.evidence import unpack
from autograder.execute import judged_by_now, perform, task_version
from autograder.exercise import CourseError
from autograder.judge import Verdict
from autograder.submission import (
    MARK,
    MAX_BYTES,
    VERDICT,
    grade_id,
    nbformat,
    outcomes,
    repair,
    role_of,
)

from .handin import content_of, keep_plain_files
from .tasks import Settings, digest_of, given_in, is_current, notebook_in, read_submission, store_of

__all__ = ["Repair", "RunCells", "SaveDiagnoses", "SubmissionExporter"]


class SubmissionExporter(NotebookExporter):
    """Reads submissions for `nbgrader autograde`, whatever is in the file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(self.parent, Autograde):
            for submitted in self.parent.assignments:
                for name in keep_plain_files(Path(submitted)):
                    self.log.warning("Removed, since it is no file: %s in %s", name, submitted)
                try:
                    self.parent.coursedir.get_existing_timestamp(submitted)
                except ValueError:
                    self.log.warning("Graded without its timestamp, which is none: %s", submitted)
                    Path(submitted, "timestamp.txt").rename(Path(submitted, "timestamp-unreadable.txt"))
            if not self.parent.force:  # which removes them all
                _remove_outdated(self.parent)

    def from_file(self, file_stream: Any, resources: Any = None, **kwargs: Any) -> Any:
        name = Path(file_stream.name).name
        lesson = (resources or {}).get("nbgrader", {}).get("assignment")
        notebook, problem = notebook_in(file_stream.buffer.read(MAX_BYTES + 1), name, lesson)
        if problem:
            self.log.warning("Graded as empty: %s", problem)
        return self.from_notebook_node(notebook, resources=resources, **kwargs)


def _remove_outdated(autograde: Autograde) -> None:
    """Remove the autograded folders that are unfinished, or not what grading the submission would give now."""
    settings = RunCells(config=autograde.config)
    for submitted in autograde.assignments:
        match = re.match(autograde._format_source("(?P<lesson>.*)", "(?P<student>.*)", escape=True), submitted)
        if match is None:
            continue
        lesson, student = match["lesson"], match["student"]
        target = Path(autograde._format_dest(lesson, student))
        if not target.is_dir():
            continue
        try:
            content = content_of(Path(submitted) / f"{lesson}.ipynb")
            with Gradebook(autograde.coursedir.db_url) as gradebook:
                given = given_in(gradebook.find_notebook(lesson, lesson))
            found = read_submission(content, f"{lesson}.ipynb", lesson, given)
            task = None if found.problem else settings.task(found.notebook, lesson, student)
            current = is_current(target / f"{lesson}.ipynb", found.digest, task)
        except (OSError, MissingEntry, CourseError):
            current = False
        if not current:
            autograde.log.warning("Grading again, since it is unfinished or out of date: %s", target)
            shutil.rmtree(target)


class Repair(NbGraderPreprocessor):
    """First in the sanitizing list: rebuild what nbgrader relies on from what the gradebook says was released."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        names = resources["nbgrader"]
        with Gradebook(names["db_url"]) as gradebook:
            given = given_in(gradebook.find_notebook(names["notebook"], names["assignment"]))
        remarks = [str(remark) for remark in repair(nb, given)]
        for remark in remarks:
            self.log.warning("%s/%s: %s", names["student"], names["notebook"], remark)
        path = Path(resources["metadata"]["path"]) / f"{names['notebook']}.ipynb"
        mark = {"lesson": names["assignment"], "submission": digest_of(path), "remarks": remarks}
        problem = nb.metadata.get(MARK)
        if isinstance(problem, dict) and isinstance(problem.get("problem"), str):
            mark["problem"] = problem["problem"]
        nb.metadata = nbformat().from_dict({MARK: mark})
        return nb, resources


class RunCells(Settings):
    """In the place of nbgrader's Execute: the evidence of the class's store, made now where it is not there yet."""

    def preprocess(self, nb: Any, resources: Any = None, km: Any = None) -> tuple[Any, Any]:
        names, mark = resources["nbgrader"], nb.metadata[MARK]
        if mark.get("problem"):
            _show(nb, {}, mark["problem"])
            return nb, resources
        task = self.task(nb, names["assignment"], names["student"])
        store = store_of(_root(self))
        kept = store.get(task.key)
        ran = unpack(kept) if kept is not None else None
        if ran is None or not judged_by_now(ran, task):
            kept = perform(task, kept)
            store.put(task.key, kept)
            ran = unpack(kept)
        mark["task"], mark["seconds"] = task_version(task), round(sum(ran.seconds.values()), 2)
        codes = [cell for cell in nb.cells if cell.cell_type == "code"]
        for cell, outputs in zip(codes, ran.outputs, strict=True):
            cell.outputs, cell.execution_count = nbformat().from_dict(list(outputs)), None
        _show(nb, {name: found["verdict"] for name, found in ran.verdicts.items()}, ran.stopped)
        return nb, resources


def _root(preprocessor: Any) -> Path:
    """The folder of the class: nbgrader's converter, which knows it, is the parent of the exporter or ours."""
    while preprocessor is not None and not hasattr(preprocessor, "coursedir"):
        preprocessor = preprocessor.parent
    return Path(preprocessor.coursedir.root if preprocessor is not None else ".")


def _show(nb: Any, verdicts: Mapping[str, Mapping[str, Any]], problem: str) -> None:
    """Leave each check cell the one output from which nbgrader takes its score, and nothing else."""
    v4 = nbformat().v4
    for cell in nb.cells:
        role, exercise = role_of(cell)
        if cell.cell_type == "code" and not verdicts:
            cell.outputs = []
        if role != "check":
            continue
        if exercise in verdicts:
            worth = cell.metadata.nbgrader.points  # in this class
            verdict = Verdict.from_data(verdicts[exercise]).weighted(worth).as_data()
            data = {"text/plain": str(float(verdict["score"])), VERDICT: verdict}
            cell.outputs = [v4.new_output("execute_result", data, execution_count=1)]
        else:
            reason = problem or "This exercise was not checked."
            cell.outputs = [v4.new_output("error", ename="NotRun", evalue=reason, traceback=[f"NotRun: {reason}"])]


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
