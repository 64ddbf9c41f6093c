"""A learner's own copy of the lessons, where the course is installed without a checkout.

What a learner has written is never overwritten: an untouched lesson is brought up to date in place, a newer version of
one that was worked on is put beside it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from autograder.exercise import CourseError
from autograder.files import write_whole

__all__ = ["RECORD", "Copied", "copy_lessons"]

RECORD = ".lessons.json"  # in the learner's folder: the digest of each file as it was copied, or put beside


@dataclass(frozen=True)
class Copied:
    """One file that was written. `what`: "new", "updated" (it was untouched), or "beside" (the learner's stays)."""

    path: Path
    what: str


def copy_lessons(source: Path, folder: Path, version: str) -> list[Copied]:
    """Copy all files of `source` that are not in `folder` yet, or are newer; returns what was written.

    Raises CourseError where the folder can't be written, or holds something else.
    """
    record_path = folder / RECORD
    try:
        if folder.is_dir() and any(folder.iterdir()) and not record_path.is_file():
            raise CourseError(f"{folder} holds something else than the lessons: name another folder with --folder")
        folder.mkdir(parents=True, exist_ok=True)
        record = json.loads(record_path.read_text("utf-8")) if record_path.is_file() else {}
        done = []
        for path in sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith(".")):
            name, content = path.relative_to(source).as_posix(), path.read_bytes()
            copied = _copy(content, folder / name, record.get(name), version)
            record[name] = _digest(content)
            if copied:
                done.append(copied)
        write_whole(record_path, json.dumps(record, indent=1, sort_keys=True))
        return done
    except ValueError:
        raise CourseError(f"{record_path} is damaged: remove it, and give another --folder") from None
    except OSError as error:
        raise CourseError(f"cannot write {folder}: {error.strerror}") from None


def _copy(content: bytes, target: Path, before: str | None, version: str) -> Copied | None:
    """Write one file where that destroys nothing; None where there is nothing to write."""
    there = target.read_bytes() if target.is_file() else None
    if there == content:
        return None
    if there is None and before is not None and before == _digest(content):
        return None  # the learner removed it, or moved it elsewhere
    if there is None or before == _digest(there):
        write_whole(target, content)
        return Copied(target, "new" if there is None else "updated")
    if before == _digest(content):
        return None  # the learner's work on the version that is installed
    beside = target.with_name(f"{target.stem} (version {version}){target.suffix}")
    number = 1
    while beside.is_file() and beside.read_bytes() != content:
        number += 1
        beside = target.with_name(f"{target.stem} (version {version}, {number}){target.suffix}")
    write_whole(beside, content)
    return Copied(beside, "beside")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
