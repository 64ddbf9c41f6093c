"""Results that were read once, kept until the gradebook, the notebooks or the course's own code change."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError
from autograder.files import write_whole
from autograder.plugins import versions

from .results import Change, ClassResults, ExerciseResult, Item, Part, StudentResult

__all__ = ["load", "save", "stamp"]


def stamp(lesson: str, course: Path, database: Path | None, autograded: Path, submitted: Path) -> dict[str, Any] | None:
    """What the results depend on: the places, and a digest of the state that they are in now.

    None where the gradebook is no file, since then nobody can tell whether it changed.
    """
    if database is None or not database.is_file():
        return None
    code = Path(__file__).resolve().parents[1]  # texts, points and hints come from there
    files = [
        database,
        database.with_name(f"{database.name}-wal"),
        course / "nbgrader_config.py",
        *sorted((code / "exercises").rglob("*.py")),
        *sorted((code / "report").glob("*.py")),
        *sorted(autograded.glob(f"*/{lesson}/{lesson}.ipynb")),
        *sorted(submitted.glob(f"*/{lesson}")),
    ]
    states = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists()]
    places = {"database": str(database), "autograded": str(autograded), "submitted": str(submitted)}
    return places | {
        "digest": hashlib.sha256(json.dumps([states, versions()]).encode("utf-8", "surrogatepass")).hexdigest()
    }


def load(lesson: str, course: Path) -> ClassResults | None:
    """The results that were kept; None where there are none, or something that they depend on changed."""
    try:
        kept = json.loads(_path(lesson, course).read_bytes())
        places = {name: Path(kept["stamp"][name]) for name in ("database", "autograded", "submitted")}
        if kept["stamp"] != stamp(lesson, course, **places) or kept["lesson"] != lesson:
            return None
        items = tuple(
            Item(**item | {"hints": tuple(item["hints"]), "budgets": tuple(item["budgets"])}) for item in kept["items"]
        )
        return ClassResults(lesson, items, tuple(map(_student, kept["students"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save(results: ClassResults, course: Path, stamp: dict[str, Any]) -> None:
    """Keep results; a folder that can't be written keeps none."""
    with contextlib.suppress(CourseError):
        write_whole(_path(results.lesson, course), json.dumps({"stamp": stamp} | asdict(results)))


def _path(lesson: str, course: Path) -> Path:
    return course / "reports" / f".{lesson}.json"


def _student(data: dict[str, Any]) -> StudentResult:
    done = tuple(
        ExerciseResult(**one | {"parts": tuple(Part(**part) for part in one["parts"])}) for one in data["exercises"]
    )
    changes = tuple(Change(**change) for change in data["changes"])
    return StudentResult(**data | {"exercises": done, "failures": tuple(data["failures"]), "changes": changes})
