"""nbgrader: the preprocessors that `nbgrader_config.py` names, and the grading of a class through them.

The only module that imports nbgrader. What stock nbgrader would do with a bad submission is in brackets:

    SubmissionExporter   a file that can't be read is graded as an empty one [no grade]; folders that a killed run
                         left half-made, or whose submission changed, are graded again [skipped]
    Repair               every released cell is there once, with its own metadata [one copied cell stops the class]
    RunCells             a dead, hung or flooding kernel costs the cells that were left [no grade]; each check gives
                         one number, or an error with a reason [stderr scores 0, no output scores full marks]
    SaveDiagnoses        what the check found out becomes the comment on the learner's answer

An instructor's own scores and comments are never touched: nbgrader keeps them apart from the automatic ones.
"""

from __future__ import annotations

import glob
import hashlib
import hmac
import os
import re
import shutil
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError
from autograder.submission import (
    MARK,
    Given,
    NotebookError,
    Outcome,
    class_secret,
    exercise_of,
    grade_id,
    lesson_of,
    nbformat,
    outcomes,
    parse,
    quiet_environment,
    repair,
    role_of,
)

nbformat()  # before nbgrader imports it the slow way

from nbclient import NotebookClient  # noqa: E402
from nbconvert.exporters import NotebookExporter  # noqa: E402
from nbgrader.api import Gradebook, MissingEntry  # noqa: E402
from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback  # noqa: E402
from nbgrader.coursedir import CourseDirectory  # noqa: E402
from nbgrader.preprocessors import NbGraderPreprocessor  # noqa: E402
from nbgrader.preprocessors.execute import Execute  # noqa: E402
from nbgrader.utils import capture_log  # noqa: E402
from sqlalchemy.exc import OperationalError  # noqa: E402
from traitlets import Float, Integer, Unicode  # noqa: E402
from traitlets.config import Config, PyFileConfigLoader  # noqa: E402

from autograder.execute import Limits, execute  # noqa: E402

__all__ = [
    "GradebookError",
    "Graded",
    "Repair",
    "RunCells",
    "SaveDiagnoses",
    "Score",
    "SubmissionExporter",
    "feedback",
    "grade",
    "release",
    "scores",
]


class GradebookError(CourseError):
    """Something about the gradebook or the class's folder that a person must mend."""


# ---------------------------------------------------------------- in nbgrader's pipeline


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
        for remark in repair(nb, given):
            self.log.warning("%s/%s: %s", names["student"], names["notebook"], remark)
        path = Path(resources["metadata"]["path"]) / f"{names['notebook']}.ipynb"
        mark = {"lesson": names["assignment"], "submission": _digest(path)}
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
            evidence = execute(
                nbformat().writes(nb).encode(),
                limits=limits,
                cwd=resources["metadata"]["path"],
                kernel_name=self.kernel_name or nb.metadata.get("kernelspec", {}).get("name", "python3"),
                options={name: getattr(self, name) for name in PASSED_ON},
                seed=self._seed(resources["nbgrader"]["assignment"], resources["nbgrader"]["student"]),
            )
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


# ---------------------------------------------------------------- a class


@dataclass(frozen=True)
class Graded:
    """One submission after `grade`. `problem` is empty where all went well; `fresh` says it was graded just now."""

    student: str
    score: float
    max_score: float
    needs_manual_grade: bool
    fresh: bool
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Score:
    """What the gradebook holds on one student's lesson, exercise by exercise."""

    student: str
    score: float
    max_score: float
    needs_manual_grade: bool
    exercises: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # id -> (score, max_score)
    comments: Mapping[str, str] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()  # of the checks, from the autograded notebook; empty where there is none


@dataclass(frozen=True)
class _Class:
    """A class's folder, opened: nbgrader's view of it and where its gradebook is."""

    config: Config
    directory: CourseDirectory

    @property
    def root(self) -> Path:
        return Path(self.directory.root)

    def path(self, step: str, student: str, lesson: str) -> Path:
        return self.root / step / student / lesson

    def gradebook(self) -> Gradebook:
        return Gradebook(self.directory.db_url, self.directory.course_id)


def release(lesson: str, course_dir: Path | str, *, source: Path | str | None = None) -> Path:
    """Release a lesson to a class: its notebook for learners, and its cells and points in the class's gradebook.

    A new folder gets nbgrader_config.py and solutions/<lesson> from the checkout `source`, so that the class stays
    with the version that it was given. Returns the folder to hand out. Raises GradebookError.
    """
    course = Path(course_dir).resolve()
    folders = [course / "solutions" / lesson, course / "lessons" / lesson]
    with _restored_on_failure(folders):
        if source is not None and Path(source).resolve() != course:
            _copy_lesson(lesson, Path(source).resolve(), course)
        opened = _open(course, with_gradebook=False)
        if not opened.path(opened.directory.source_directory, ".", lesson).is_dir():
            raise GradebookError(f"there is no lesson {lesson!r} in {course / opened.directory.source_directory}")
        if _database(opened).is_file():
            _refuse_locked(opened)
        _run(opened, GenerateAssignment, lesson, ".")
    return opened.path(opened.directory.release_directory, ".", lesson).resolve()


@contextmanager
def _restored_on_failure(folders: Iterable[Path]) -> Iterator[None]:
    """nbgrader removes the old release when the new one fails, as it does for a lesson that was handed in already."""
    with tempfile.TemporaryDirectory(prefix="course-release-") as kept:
        saved = [(folder, Path(kept) / str(i)) for i, folder in enumerate(folders) if folder.is_dir()]
        for folder, copy in saved:
            shutil.copytree(folder, copy)
        try:
            yield
        except BaseException:
            for folder, copy in saved:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(copy, folder)
            raise


def grade(
    lesson: str,
    course_dir: Path | str,
    students: Iterable[str] | None = None,
    *,
    force: bool = False,
    on_graded: Callable[[Graded], None] | None = None,
) -> list[Graded]:
    """Grade what a class handed in, one submission after the other; returns a row for each, in the students' order.

    What is graded already is left alone, unless its file changed or with `force`; so a run that was stopped goes on
    where it was. A submission that fails has a `problem` and never stops the rest. `on_graded` is called after each.
    Raises GradebookError: no gradebook, a locked or read-only one, no such lesson or student in it.
    """
    opened = _open(course_dir)
    _require_lesson(opened, lesson)
    handed_in = _handed_in(opened, lesson)
    wanted = sorted(handed_in) if students is None else list(students)
    for student in wanted:
        if student not in handed_in:
            raise GradebookError(f"{student} has handed in nothing for {lesson}")
    graded: list[Graded] = []
    for student in wanted:
        start = time.monotonic()
        target = opened.path(opened.directory.autograded_directory, student, lesson)
        before = _stamp(target / f"{lesson}.ipynb")
        try:
            problem = ""
            _run(opened, Autograde, lesson, student, force=force)
        except _Locked as error:
            done = f"{len(graded)} of {len(wanted)} submissions are graded and kept"
            raise GradebookError(f"{error}; {done}. Run the same command again to grade the rest") from None
        except GradebookError as error:
            problem = str(error)
        row = _row(opened, lesson, student)
        fresh = _stamp(target / f"{lesson}.ipynb") != before
        graded.append(Graded(student, *row, fresh, time.monotonic() - start, problem))
        if on_graded:
            on_graded(graded[-1])
    return graded


def scores(lesson: str, course_dir: Path | str) -> list[Score]:
    """What the gradebook holds on everyone who handed the lesson in, by student. Raises GradebookError."""
    opened = _open(course_dir)
    _require_lesson(opened, lesson)
    rows = []
    with _database_errors(opened), opened.gradebook() as gradebook:
        for submission in gradebook.assignment_submissions(lesson):
            student = submission.student.id
            exercises: dict[str, tuple[float, float]] = {}
            comments: dict[str, str] = {}
            for notebook in submission.notebooks:
                for entry in notebook.grades:
                    exercises[exercise_of(entry.name)] = (entry.score, entry.max_score)
                for entry in notebook.comments:
                    if entry.comment:
                        comments[exercise_of(entry.name)] = entry.comment
            rows.append(
                Score(
                    student,
                    submission.score,
                    submission.max_score,
                    submission.needs_manual_grade,
                    exercises,
                    comments,
                    _outcomes(opened, lesson, student),
                )
            )
    return sorted(rows, key=lambda row: row.student)


def feedback(lesson: str, course_dir: Path | str, students: Iterable[str] | None = None) -> list[Path]:
    """Write each learner's feedback page from the gradebook; returns the pages. Raises GradebookError."""
    opened = _open(course_dir)
    _require_lesson(opened, lesson)
    pages = []
    for student in sorted(_handed_in(opened, lesson)) if students is None else students:
        if not opened.path(opened.directory.autograded_directory, student, lesson).is_dir():
            continue
        _run(opened, GenerateFeedback, lesson, student, force=True)
        pages += sorted(opened.path(opened.directory.feedback_directory, student, lesson).glob("*.html"))
    return pages


def _copy_lesson(lesson: str, source: Path, course: Path) -> None:
    made = source / "solutions" / lesson
    if not (made / f"{lesson}.ipynb").is_file():
        raise GradebookError(f"there is no built lesson {lesson!r} in {made.parent}: run `course build {lesson}`")
    try:
        course.mkdir(parents=True, exist_ok=True)
        if not (course / "nbgrader_config.py").exists():
            shutil.copy(source / "nbgrader_config.py", course)
        ignore = shutil.ignore_patterns("*.py", "__pycache__", ".*")
        shutil.copytree(made, course / "solutions" / lesson, ignore=ignore, dirs_exist_ok=True)
    except OSError as error:
        raise GradebookError(f"cannot write {course}: {error.strerror}") from None


def _open(course_dir: Path | str, *, with_gradebook: bool = True) -> _Class:
    course = Path(course_dir).resolve()
    if not (course / "nbgrader_config.py").is_file():
        raise GradebookError(f"{course} is not a class's folder: it has no nbgrader_config.py")
    os.environ.update(quiet_environment())
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    opened = _Class(config, CourseDirectory(config=config))
    if with_gradebook:
        path = _database(opened)
        if opened.directory.db_url.startswith("sqlite") and not path.is_file():
            raise GradebookError(f"there is no gradebook {path}: release a lesson to the class first")
        _refuse_locked(opened)
    return opened


def _database(opened: _Class) -> Path:
    return Path(opened.directory.db_url.removeprefix("sqlite:///"))


def _refuse_locked(opened: _Class) -> None:
    """Raise GradebookError if SQLite would not let us write now; better before the first kernel than after it."""
    if not opened.directory.db_url.startswith("sqlite"):
        return
    with _database_errors(opened):
        connection = sqlite3.connect(f"file:{_database(opened)}?mode=rw", uri=True, timeout=1)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE may_we_write (yes)")  # a read-only file lets a transaction begin
            connection.rollback()
        finally:
            connection.close()


class _Locked(GradebookError):
    pass


@contextmanager
def _database_errors(opened: _Class) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OperationalError) as error:
        raise _database_error(opened, str(error)) from None


def _database_error(opened: _Class, text: str) -> GradebookError:
    where = f"the gradebook {_database(opened)}"
    if "locked" in text:
        return _Locked(f"{where} is in use by another process; nothing in it was changed. Try again when that is done")
    if "readonly" in text or "unable to open" in text:
        return GradebookError(f"{where} can't be written: see to its permissions and its folder's")
    if "not a database" in text or "malformed" in text:
        return GradebookError(f"{where} is damaged: put a backup in its place")
    return GradebookError(f"{where} can't be used: {text.splitlines()[0]}")


def _require_lesson(opened: _Class, lesson: str) -> None:
    with _database_errors(opened), opened.gradebook() as gradebook:
        known = [assignment.name for assignment in gradebook.assignments]
    if lesson not in known:
        has = f"it has {', '.join(known)}" if known else "it has none yet"
        raise GradebookError(f"there is no lesson {lesson!r} in the gradebook {_database(opened)}: {has}")


def _handed_in(opened: _Class, lesson: str) -> set[str]:
    return {path.parent.name for path in (opened.root / opened.directory.submitted_directory).glob(f"*/{lesson}/")}


def _run(opened: _Class, converter: type, lesson: str, student: str, *, force: bool = False) -> None:
    """Run one of nbgrader's converters on one student; raise GradebookError with the one line that matters."""
    directory = CourseDirectory(config=opened.config)
    directory.assignment_id, directory.student_id = lesson, glob.escape(student)
    app = converter(coursedir=directory, config=opened.config)
    app.force = app.force or force
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's, on how nbgrader uses it; nbformat's, on odd submissions
        result = capture_log(app)  # catches everything, KeyboardInterrupt too
    if result["success"]:
        return
    text = result.get("log", "") + result["error"]
    if "KeyboardInterrupt" in result["error"]:
        raise KeyboardInterrupt
    if "OperationalError" in text or "database is locked" in text:
        raise _database_error(opened, text if "locked" in text or "readonly" in text else _cause(text))
    if "PermissionError" in text or "NotADirectoryError" in text:
        raise GradebookError(f"cannot write: {_cause(text)}")
    raise GradebookError(f"{student}: {_cause(text)}" if student != "." else f"{lesson}: {_cause(text)}")


def _cause(text: str) -> str:
    """The first exception in nbgrader's log that is not its own summary."""
    lines = [line.strip() for line in text.splitlines()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    telling = [line for line in raised if "NbGraderException" not in line] or raised or lines[-1:]
    return telling[0] if telling else "nbgrader gave no reason"


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _row(opened: _Class, lesson: str, student: str) -> tuple[float, float, bool]:
    with _database_errors(opened), opened.gradebook() as gradebook:
        try:
            found = gradebook.find_submission(lesson, student)
        except MissingEntry:
            return 0.0, gradebook.find_assignment(lesson).max_score, False
        return found.score, found.max_score, found.needs_manual_grade


def _outcomes(opened: _Class, lesson: str, student: str) -> tuple[Outcome, ...]:
    path = opened.path(opened.directory.autograded_directory, student, lesson) / f"{lesson}.ipynb"
    try:
        return tuple(outcomes(parse(path.read_bytes(), str(path), outputs=True)))
    except (OSError, NotebookError):
        return ()
