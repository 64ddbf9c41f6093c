"""What a learning platform's download of submissions is made of, read from its names alone.

canvas   "Download Submissions": one flat zip; `<sortable name, small letters, no blanks>_[LATE_]<user's number>_
         <number of the file>_<the learner's file name>`. The file's number grows with each upload.
moodle   "Download all submissions": a folder for each learner, `<full name>_<a number>_assignsubmission_file` (older
         ones end in `_`), or the same as the beginning of each file's name. That number is of this assignment alone,
         so only the name says who it is.
plain    `<student>/<file>` or `<student>.ipynb`, by nbgrader's ids.

(From Canvas's `content_zipper.rb` and Moodle's `mod/assign/classes/downloader.php`.)
"""

from __future__ import annotations

import re
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from autograder.submission import MAX_BYTES

from .classroom import GradebookError

__all__ = ["File", "Roster", "files_in"]

CANVAS = re.compile(r"(?P<name>.+?)_(?P<late>LATE_)?(?P<user>\d+)_(?P<number>\d+)_(?P<file>.+)")
# The outermost folder decides: further in, and in the file's name, stands what the learner chose.
MOODLE = re.compile(r"(?:.*?/)??(?P<name>[^_/]+)_\d+_assignsubmission_file(?:_?/.*|_[^/]+)")
NOTEBOOK = ".ipynb"


@dataclass(frozen=True)
class File:
    """A notebook in a download, and what its name says of whose it is.

    user    Canvas's number of the person, or nbgrader's id; empty where only the name is told
    name    the person's name as the platform writes it
    order   newer attempts of one person are larger
    """

    path: str
    content: bytes
    user: str = ""
    name: str = ""
    order: tuple[float, ...] = ()
    late: bool = False


def files_in(source: Path) -> Iterator[File]:
    """The notebooks in a zip archive, or in a folder of files and such archives. Raises GradebookError."""
    try:
        if source.is_dir():
            for path in sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink()):
                if path.suffix == ".zip":
                    yield from _in_zip(path)
                elif path.suffix == NOTEBOOK:
                    with path.open("rb") as file:
                        content = file.read(MAX_BYTES + 1)
                    yield _named(path.relative_to(source).as_posix(), content, path.stat().st_mtime)
        elif zipfile.is_zipfile(source):
            yield from _in_zip(source)
        else:
            what = "is neither a folder nor a zip archive" if source.exists() else "is not there"
            raise GradebookError(f"{source} {what}: name what the learning platform gave you")
    except OSError as error:
        raise GradebookError(f"cannot read {source}: {error.strerror or error}") from None


def _in_zip(path: Path) -> Iterator[File]:
    """Nothing is unpacked: what is in the archive gets no say in where it is written."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(NOTEBOOK) and not entry.is_dir():
                    with archive.open(entry) as file:
                        content = file.read(MAX_BYTES + 1)
                    yield _named(entry.filename, content, time.mktime((*entry.date_time, 0, 0, -1)))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OverflowError) as error:
        raise GradebookError(f"{path} can't be unpacked: {error}; download it again") from None


def _named(path: str, content: bytes, changed: float) -> File:
    inner = PurePosixPath(path)
    if found := MOODLE.fullmatch(path):
        return File(path, content, "", found["name"], (0.0, changed))
    if found := CANVAS.fullmatch(inner.name):
        number = float(found["number"])
        return File(path, content, found["user"], found["name"], (number, changed), bool(found["late"]))
    user = inner.parts[-2] if len(inner.parts) > 1 else inner.stem
    return File(path, content, user, "", (0.0, changed))


class Roster:
    """Who is in the class, to be found by what a platform calls them."""

    def __init__(self, students: Iterable[Any]) -> None:
        """`students` have nbgrader's fields: id, first_name, last_name, lms_user_id."""
        self.size = 0
        self.ids: dict[str, str] = {}
        self.names: dict[str, set[str]] = {}
        for student in students:
            self.size += 1
            self.ids[student.id] = student.id
            if student.lms_user_id:
                self.ids[student.lms_user_id] = student.id
            first, last = student.first_name or "", student.last_name or ""
            for name in {_folded(first + last), _folded(last + first)} - {""}:
                self.names.setdefault(name, set()).add(student.id)

    def find(self, file: File) -> str | None:
        """The student whose file this is; None where nobody is, or where the name fits several."""
        if file.user in self.ids:
            return self.ids[file.user]
        fitting = self.names.get(_folded(file.name), set())
        return next(iter(fitting)) if len(fitting) == 1 else None

    def __len__(self) -> int:
        return self.size


def _folded(name: str) -> str:
    """A name without what platforms drop or change: case, blanks, signs."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
