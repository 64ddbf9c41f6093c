"""Where a class's grades are kept: an SQLite file, or a PostgreSQL server where several people grade at once.

What goes wrong with it is said in one line, in which no password stands.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from autograder.exercise import CourseError

__all__ = ["Database", "DatabaseError", "GradebookError", "LockedError"]

# What PostgreSQL says, and what a person can do about it. {name}: the database, {user}: who asked.
SAID = (
    (r"password authentication failed|no password supplied", "refuses {user}: see to the password, in ~/.pgpass say"),
    (r'database "[^"]*" does not exist', "does not exist: make it with `createdb {name}`"),
    (r'role "[^"]*" does not exist', "knows no user {user}: make one with `createuser {user}`"),
    (r"permission denied|must be owner|read-only", "can't be written by {user}: see to the user's rights"),
    (r"too many clients|connection slots", "takes no more connections: try again, or raise max_connections"),
    (r"terminating connection|server closed|consuming input|SSL SYSCALL", "went away: is its server still running?"),
    (r"onnection refused|No such file|resolve|timeout|timed out|unreachable", "can't be reached: does its server run?"),
)


class GradebookError(CourseError):
    """Something about the gradebook or the class's folder that a person must mend."""


class DatabaseError(GradebookError):
    """The gradebook's database can't be used: nothing can be graded."""


class LockedError(DatabaseError):
    """Another process holds the gradebook; later it will do."""


@dataclass(frozen=True)
class Database:
    """The database of a class; `text` is nbgrader's db_url."""

    text: str

    @property
    def url(self) -> URL:
        try:
            return make_url(self.text)
        except SQLAlchemyError:
            raise GradebookError("db_url in nbgrader_config.py is not the address of a database") from None

    @property
    def file(self) -> Path | None:
        """The SQLite file; None where the database is on a server."""
        return Path(self.text.removeprefix("sqlite:///")) if self.text.startswith("sqlite:///") else None

    def __str__(self) -> str:
        """What messages call it: without the user and the password."""
        if self.file:
            return f"the gradebook {self.file}"
        place = str(self.url.query.get("host", "")) or f"{self.url.host or 'localhost'}:{self.url.port or 5432}"
        return f"the gradebook {self.url.database or '(unnamed)'} on {place}"

    def refuse_unusable(self) -> None:
        """Raise GradebookError if nothing could be written now; better before the first kernel than after it."""
        with self.errors():
            if self.file:
                _try_to_write(self.file)
            else:
                with self._connected() as connection:
                    connection.execute(text("CREATE TEMPORARY TABLE may_we_write (yes INTEGER)"))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the database says inside is raised as a DatabaseError."""
        try:
            yield
        except (sqlite3.Error, SQLAlchemyError, ImportError) as error:
            raise self.error(str(error.orig if isinstance(error, DBAPIError) else error)) from None

    def error(self, said: str) -> DatabaseError:
        """What to raise for what the database, or its driver, said."""
        if self.file:
            return _sqlite_error(str(self), said)
        if "No module named" in said or "load plugin" in said:
            return DatabaseError(f"{self} needs a driver: pip install 'training-deep-nets[postgres]'")
        user = self.url.username or "you"
        for pattern, advice in SAID:
            if re.search(pattern, said):
                return DatabaseError(f"{self} {advice.format(name=self.url.database, user=user)}")
        first = next((line for line in said.splitlines() if line.strip()), "it gave no reason")
        return DatabaseError(f"{self} can't be used: {self._without_password(first)}")

    def _without_password(self, line: str) -> str:
        return line.replace(self.url.password, "***") if self.url.password else line

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        # the time is for finding the server, so that a wrong address is said soon
        engine = create_engine(
            self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}
        )
        with engine.connect() as connection:
            yield connection

    @contextmanager
    def alone_with(self, student: str, folder: Path) -> Iterator[None]:
        """Hold off every other grader of this student while the block runs; waits until the one before is done.

        `folder` is the student's, of what was handed in. With PostgreSQL other machines are held off as well.
        """
        if self.file:
            with _locked_folder(folder):
                yield
            return
        number = int.from_bytes(hashlib.sha256(f"grade {student}".encode()).digest()[:8], "big", signed=True)
        with ExitStack() as held:  # closing the connection is what lets go of the lock
            with self.errors():
                connection = held.enter_context(self._connected())
                connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
            yield


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    try:
        import fcntl

        held = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows; a folder that is gone is somebody else's error
        yield
        return
    try:
        with suppress(OSError):  # a disk without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _try_to_write(file: Path) -> None:
    connection = sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=1)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE may_we_write (yes)")  # a read-only file lets a transaction begin
        connection.rollback()
    finally:
        connection.close()


def _sqlite_error(where: str, said: str) -> DatabaseError:
    if "locked" in said:
        return LockedError(
            f"{where} is in use by another process; nothing in it was changed. Try again when that is done"
        )
    if "readonly" in said or "unable to open" in said:
        return DatabaseError(f"{where} can't be written: see to its permissions and its folder's")
    if "not a database" in said or "malformed" in said:
        return DatabaseError(f"{where} is damaged: put a backup in its place")
    return DatabaseError(f"{where} can't be used: {said.splitlines()[0]}")
