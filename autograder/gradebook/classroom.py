"""A class's folder, opened: nbgrader's view of it, its database, and nbgrader's converters run on it."""

from __future__ import annotations

import glob
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbgrader.api
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import capture_log
from sqlalchemy import Engine
from traitlets.config import Config, PyFileConfigLoader

from autograder.submission import (
    quiet_environment,
)

from .database import Database, GradebookError

__all__ = [
    "Class",
    "database_errors",
    "database_of",
    "handed_in_by",
    "open_class",
    "refuse_locked",
    "require_lesson",
    "run_converter",
]


@dataclass(frozen=True)
class Class:
    """A class's folder, opened: nbgrader's view of it and where its gradebook is."""

    config: Config
    directory: CourseDirectory
    engines: dict[str, Engine] = field(default_factory=dict, repr=False, compare=False)  # of its database, by URL

    @property
    def root(self) -> Path:
        return Path(self.directory.root)

    @property
    def database(self) -> Database:
        return Database(self.directory.db_url)

    def path(self, step: str, student: str, lesson: str) -> Path:
        return self.root / step / student / lesson

    def gradebook(self) -> Gradebook:
        with _same_engine(self):
            return Gradebook(self.directory.db_url, self.directory.course_id)


@contextmanager
def _same_engine(opened: Class) -> Iterator[None]:
    """nbgrader opens its gradebook a dozen times for one submission, and SQLAlchemy prepares all queries anew for each
    engine: half of the time. With one engine it does so once."""
    make = nbgrader.api.create_engine

    def create(url: str, **options: Any) -> Engine:
        if url not in opened.engines:
            opened.engines[url] = make(url, **options)
        return opened.engines[url]

    nbgrader.api.create_engine = create
    try:
        yield
    finally:
        nbgrader.api.create_engine = make


def open_class(
    course_dir: Path | str | Class, *, with_gradebook: bool = True, submitted: Path | None = None, unsafe: bool = False
) -> Class:
    """A class's folder, read and found usable; a class that is open already, as it is. Raises GradebookError.

    `submitted` is the folder with what was handed in, if not the class's own; `unsafe` is for Settings.
    """
    if isinstance(course_dir, Class):
        return course_dir
    course = Path(course_dir).resolve()
    if not (course / "nbgrader_config.py").is_file():
        raise GradebookError(f"{course} is not a class's folder: it has no nbgrader_config.py")
    os.environ.update(quiet_environment())
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    if submitted is not None:
        if not submitted.is_dir():
            raise GradebookError(f"there is no folder {submitted}")
        config.CourseDirectory.submitted_directory = str(submitted.resolve())
    if unsafe:
        config.Settings.unsafe = True
    opened = Class(config, CourseDirectory(config=config))
    if with_gradebook:
        path = opened.database.file
        if path and not path.is_file():
            raise GradebookError(f"there is no gradebook {path}: release a lesson to the class first")
        refuse_locked(opened)
    return opened


def database_of(opened: Class) -> Path:
    return Path(opened.directory.db_url.removeprefix("sqlite:///"))


def refuse_locked(opened: Class) -> None:
    """Raise GradebookError if the database would not let us write now."""
    opened.database.refuse_unusable()


@contextmanager
def database_errors(opened: Class) -> Iterator[None]:
    with opened.database.errors(), _quietly():
        yield


@contextmanager
def _quietly() -> Iterator[None]:
    """nbgrader and SQLAlchemy log tracebacks of what they then raise, and what we say in one line."""
    loggers = [logging.getLogger(name) for name in ("tornado.application", "sqlalchemy.pool")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def require_lesson(opened: Class, lesson: str) -> None:
    with database_errors(opened), opened.gradebook() as gradebook:
        known = [assignment.name for assignment in gradebook.assignments]
    if lesson not in known:
        has = f"it has {', '.join(known)}" if known else "it has none yet"
        raise GradebookError(f"there is no lesson {lesson!r} in {opened.database}: {has}")


def handed_in_by(opened: Class, lesson: str) -> set[str]:
    return {path.parent.name for path in (opened.root / opened.directory.submitted_directory).glob(f"*/{lesson}/")}


def _handed_in(opened: Class, student: str) -> Path:
    return opened.root / opened.directory.submitted_directory / student


def run_converter(opened: Class, converter: type, lesson: str, student: str, *, force: bool = False) -> None:
    """Run one of nbgrader's converters on one student; raise GradebookError with the one line that matters."""
    directory = CourseDirectory(config=opened.config)
    directory.assignment_id, directory.student_id = lesson, glob.escape(student)
    app = converter(coursedir=directory, config=opened.config)
    app.force = app.force or force
    with (
        warnings.catch_warnings(),
        _quietly(),
        _same_engine(opened),
        opened.database.alone_with(student, _handed_in(opened, student)),
    ):
        warnings.simplefilter("ignore")  # SQLAlchemy's, on how nbgrader uses it; nbformat's, on odd submissions
        result = capture_log(app)  # catches everything, KeyboardInterrupt too
    if result["success"]:
        return
    text = result.get("log", "") + result["error"]
    if "KeyboardInterrupt" in result["error"]:
        raise KeyboardInterrupt
    if re.search(r"OperationalError|ProgrammingError|sqlite3\.DatabaseError|database is locked", text):
        raise opened.database.error(text if "locked" in text or "readonly" in text else _cause(text))
    if "PermissionError" in text or "NotADirectoryError" in text:
        raise GradebookError(f"cannot write: {_cause(text)}")
    raise GradebookError(f"{student}: {_cause(text)}" if student != "." else f"{lesson}: {_cause(text)}")


def _cause(text: str) -> str:
    """The first exception in nbgrader's log that is not its own summary."""
    lines = [line.strip() for line in text.splitlines()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    telling = [line for line in raised if "NbGraderException" not in line] or raised or lines[-1:]
    return telling[0] if telling else "nbgrader gave no reason"
