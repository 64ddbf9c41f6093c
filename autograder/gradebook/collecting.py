"""Take what a learning platform gave into a class's submitted/ folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.files import write_whole
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
    submitted/ otherwise stays, unless `replace`. Raises GradebookError: no such lesson, nothing to read; CourseError: a
    file can't be written.
    """
    opened = open_class(course_dir)
    require_lesson(opened, lesson)
    with database_errors(opened), opened.gradebook() as gradebook:
        roster = Roster(gradebook.students)
    by_student: dict[str, list[tuple[bool, File]]] = {}  # with whether it says that it is of this lesson
    nobodys, foreign = [], []
    for file in files_in(source):
        student = roster.find(file)
        if student is None:
            nobodys.append(file.path)
        elif (said := _lesson(file)) not in (lesson, None):
            foreign.append(file.path)
        else:
            by_student.setdefault(student, []).append((said == lesson, file))
    record = _Record(opened.root / RECORD, lesson)
    rows = []
    for student, files in sorted(by_student.items()):
        # a file that is no notebook counts only where no other is
        _, newest = max(files, key=lambda found: (found[0], found[1].order))
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
    except OSError as error:
        raise GradebookError(f"cannot read {target}: {error.strerror}") from None
    if there == file.content:
        return "same"
    if there is not None and not replace:
        if before.get("digest") != _digest(there):
            return "kept"
        if tuple(before.get("order", ())) > file.order:
            return "older"
    write_whole(target, file.content)
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
        write_whole(self.path, json.dumps(self.all, indent=1, ensure_ascii=False))
