"""All that the journal holds, as a file of the learner's own; and the end of all of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from course_lib.journal import History, Journal, JournalError, data_dir

from ..cells import is_formula
from ..exercise import CourseError

__all__ = ["delete", "export"]

COLUMNS = ("kind", "id", "at", "score", "of", "passed", "answer", "misconception", "words", "times")


def export(file: str | Path) -> Path:
    """Write everything that is kept to `file`, as JSON or as CSV, whichever its name ends with; returns its path.

    Raises CourseError where the journal can't be read or the file can't be written.
    """
    path = Path(file)
    if path.suffix not in WRITERS:
        raise CourseError(f"{path} should end in .json or .csv")
    try:
        text = WRITERS[path.suffix](Journal(data_dir()).read())
        path.write_text(text, "utf-8", newline="")
    except JournalError as error:
        raise CourseError(str(error)) from None
    except OSError as error:
        raise CourseError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def delete() -> bool:
    """Delete everything that is kept, for good; whether there was anything. Raises CourseError where it can't be."""
    try:
        return Journal(data_dir()).erase()
    except JournalError as error:
        raise CourseError(str(error)) from None


def _as_json(history: History) -> str:
    data: dict[str, Any] = {
        "predictions": {
            key: {**asdict(kept), "score": asdict(history.scores[key]) if key in history.scores else None}
            for key, kept in history.commitments.items()
        },
        "checks": [asdict(check) for check in history.checks],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _as_csv(history: History) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows([_safe(cell) for cell in row] for row in _rows(history))
    return out.getvalue()


def _rows(history: History) -> Iterator[tuple[Any, ...]]:
    for key, kept in history.commitments.items():
        score = history.scores.get(key)
        value = score.value if score else ""
        yield "prediction", key, kept.at, value, 1, "", kept.answer, "", kept.reason, 1
    for check in history.checks:
        told = (check.misconception, check.message, check.times)
        yield "check", check.exercise, check.last, check.score, check.max_score, check.passed, "", *told


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and is_formula(cell) else cell


WRITERS = {".json": _as_json, ".csv": _as_csv}
