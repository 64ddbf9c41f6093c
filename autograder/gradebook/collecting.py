"""Take what a learning platform gave into a class's submitted/ folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.submission import NotebookError, lesson_of, parse

from .classroom import Class, GradebookError, database_errors, open_class, require_lesson
from .downloads import File, Roster, files_in

__all__ = ["Collected", "Collection", "collect"]

RECORD = ".collected.json"  # in the class's folder: what was taken from where


@dataclass(frozen=True)
class Collected:
    """One student's file. `what`: "new", "newer" (replaced an earlier attempt), "same" (was there already), "older" (a
    newer attempt is there), or "kept" (what is there came from elsewhere, or was changed, and stays).

    `others` counts the files of that student that were passed over for this one.
    """

    student: str
    file: str
    what: str
    late: bool = False
    others: int = 0


@dataclass(frozen=True)
class Collection:
    """What a download held: each student's file, and the files that were left out, by reason."""

    students: tuple[Collected, ...]
    nobodys: tuple[str, ...] = ()
    of_other_lessons: tuple[str, ...] = ()
    roster: int = 0


def collect(lesson: str, course_dir: Path | str | Class, source: Path, *, replace: bool = False) -> Collection:
    """Put each student's newest notebook of `lesson` in `source`, a zip archive or a folder, into submitted/.

    Doing it again changes nothing; an attempt that is newer takes the place of one that was collected. What came into
    submitted/ otherwise stays, unless `replace`. Raises GradebookError: no such lesson, nothing to read.
    """
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    with database_errors(opened), opened.gradebook() as gradebook:
        roster = Roster(gradebook.students)
    by_student: dict[str, list[File]] = {}
    nobodys, foreign = [], []
    for file in files_in(source):
        student = roster.find(file)
        if student is None:
            nobodys.append(file.path)
        elif _lesson(file) not in (lesson, None):
            foreign.append(file.path)
        else:
            by_student.setdefault(student, []).append(file)
    record = _Record(opened.root / RECORD, lesson)
    rows = []
    for student, files in sorted(by_student.items()):
        sure = [file for file in files if _lesson(file)] or files  # a file that is no notebook only where no other is
        newest = max(sure, key=lambda file: file.order)
        target = opened.path(opened.directory.submitted_directory, student, lesson) / f"{lesson}.ipynb"
        what = _take(newest, target, record.of(student), replace)
        if what in ("new", "newer"):
            record.note(student, newest)
        rows.append(Collected(student, newest.path, what, newest.late, len(files) - 1))
    record.save()
    return Collection(tuple(rows), tuple(nobodys), tuple(foreign), len(roster))


def _lesson(file: File) -> str | None:
    """The lesson that the notebook says it belongs to; None where it says none, or is no notebook."""
    try:
        return lesson_of(parse(file.content, file.path))
    except NotebookError:
        return None


def _take(file: File, target: Path, before: Mapping[str, Any], replace: bool) -> str:
    try:
        there = target.read_bytes() if target.is_file() else None
        if there == file.content:
            return "same"
        if there is not None and not replace:
            if before.get("digest") != _digest(there):
                return "kept"
            if tuple(before.get("order", ())) > file.order:
                return "older"
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(file.content)
        part.replace(target)
    except OSError as error:
        raise GradebookError(f"cannot write {target}: {error.strerror}") from None
    return "new" if there is None else "newer"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Record:
    """What was collected for a lesson, by student; kept in a file, so that the next download can be told from it."""

    def __init__(self, path: Path, lesson: str) -> None:
        self.path = path
        try:
            self.all = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            self.all = {}
        except (OSError, ValueError):
            raise GradebookError(
                f"{path} can't be read: remove it; files in submitted/ then stay as they are"
            ) from None
        self.lesson = self.all.setdefault(lesson, {})

    def of(self, student: str) -> Mapping[str, Any]:
        return self.lesson.get(student, {})

    def note(self, student: str, file: File) -> None:
        digest = _digest(file.content)
        self.lesson[student] = {"file": file.path, "order": file.order, "late": file.late, "digest": digest}

    def save(self) -> None:
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(json.dumps(self.all, indent=1, ensure_ascii=False), "utf-8")
        part.replace(self.path)
