"""The journal's file: opened for one transaction at a time, its tables brought up to date first.

Every trouble with it is a JournalError of one line, which the lesson shows quietly, if at all. It keeps SQLite's
ordinary roll-back journal: write-ahead logging needs memory shared between processes, which home folders on a network
lack.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["FILE", "JournalError", "erase", "reading", "writing"]

FILE = "progress.sqlite3"
OLD_FILE = "predictions.json"  # what predictions were kept in before there was a journal
PATIENCE = 2.0  # seconds to wait for another kernel's transaction, which takes milliseconds
MAX_OLD_BYTES = 1_000_000


class JournalError(Exception):
    """The journal can't be read or written; the text is one line that says why, and what helps."""


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction that writes, in a journal that is made if there is none. All of it counts, or nothing."""
    with _troubles(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):  # for nobody else to read, from the first moment
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(_open(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            _bring_up_to_date(connection, path)
            yield connection
            connection.execute("COMMIT")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection to read with; None where nothing has been kept yet. Reading makes no file."""
    with _troubles(path):
        if not path.exists() and not path.with_name(OLD_FILE).exists():
            yield None
            return
        if not path.exists() or _version(path) < len(MIGRATIONS):
            with writing(path):
                pass
        with closing(_open(path)) as connection:
            _refuse_newer(connection.execute("PRAGMA user_version").fetchone()[0], path)
            yield connection


def erase(path: Path) -> bool:
    """Remove the journal, and what it was made from, whatever state they are in; whether anything was there."""
    with _troubles(path):
        names = (path.name, f"{path.name}-journal", f"{path.name}-wal", f"{path.name}-shm", OLD_FILE)
        found = [file for name in names if (file := path.with_name(name)).exists()]
        for file in found:
            file.unlink()
        return bool(found)


def _open(path: Path) -> sqlite3.Connection:
    import sqlite3

    return sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)


@contextmanager
def _troubles(path: Path) -> Iterator[None]:
    """Say in one line what went wrong with the file."""
    try:
        import sqlite3
    except ImportError:  # a Python that was built without it
        raise JournalError("this Python has no sqlite3, so nothing is kept") from None
    try:
        yield
    except sqlite3.OperationalError as error:
        raise JournalError(f"{path} can't be used just now ({error})") from None
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise JournalError(
            f"{path} is damaged ({error}): `course progress --delete` removes it, renaming it keeps it for a look"
        ) from None
    except OSError as error:
        raise JournalError(f"{path.parent} can't be used ({error.strerror or error})") from None


# ---------------------------------------------------------------- the tables


def _version(path: Path) -> int:
    with closing(_open(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_newer(version: int, path: Path) -> None:
    if version > len(MIGRATIONS):
        raise JournalError(
            f"{path} was written by a newer version of the course: it is left as it is until you update the course"
        )


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    _refuse_newer(version, path)
    for number, migrate in enumerate(MIGRATIONS[version:], version + 1):
        migrate(connection, path)
        connection.execute(f"PRAGMA user_version = {number}")


def _first_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Version 1. Times are ISO 8601 in UTC; answers are JSON (a choice's name, or a number).

    A row of `checks` stands for all checks in a row that came out the same: pressing Run All a hundred times adds
    nothing but a count.
    """
    for table in (
        "commitments (prediction TEXT PRIMARY KEY, answer TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL)",
        "scores (prediction TEXT PRIMARY KEY, value REAL NOT NULL, words TEXT NOT NULL, at TEXT NOT NULL)",
        "checks (number INTEGER PRIMARY KEY, exercise TEXT NOT NULL, score REAL NOT NULL, max_score REAL NOT NULL,"
        " passed INTEGER NOT NULL, misconception TEXT NOT NULL, message TEXT NOT NULL,"
        " first TEXT NOT NULL, last TEXT NOT NULL, times INTEGER NOT NULL)",
    ):
        connection.execute(f"CREATE TABLE {table}")
    connection.execute("CREATE INDEX checks_of ON checks (exercise, number)")
    with suppress(FileNotFoundError, NotADirectoryError):
        rows = [(key, json.dumps(answer), reason, at) for key, answer, reason, at in _old(path.with_name(OLD_FILE))]
        connection.executemany("INSERT INTO commitments VALUES (?, ?, ?, ?)", rows)


def _old(path: Path) -> Iterator[tuple[str, str | float, str, str]]:
    """The commitments in an older version's file. What is damaged in there is passed over: the file itself stays."""
    if path.stat().st_size > MAX_OLD_BYTES:
        return
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["commitments"].items()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    for key, entry in entries:
        try:
            answer, reason, at = entry["answer"], entry["reason"], entry["at"]
            datetime.fromisoformat(at)
        except (ValueError, TypeError, KeyError):
            continue
        number = isinstance(answer, int | float) and not isinstance(answer, bool) and math.isfinite(answer)
        if isinstance(reason, str) and (isinstance(answer, str) or number):
            yield key, answer, reason, at


MIGRATIONS: tuple[Callable[[sqlite3.Connection, Path], None], ...] = (_first_tables,)
