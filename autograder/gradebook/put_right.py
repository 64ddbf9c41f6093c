"""What grading put right in the files of a class, student by student."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from autograder.remarks import Remark
from autograder.submission import MARK, NotebookError, parse

from .classroom import handed_in_by, open_class

__all__ = ["changes"]


def changes(
    lesson: str, course_dir: Path | str, students: Iterable[str] | None = None
) -> dict[str, tuple[Remark, ...]]:
    """The remarks on each graded student's file, those without any left out. Raises GradebookError."""
    opened = open_class(course_dir, with_gradebook=False)
    found = {}
    for student in sorted(handed_in_by(opened, lesson)) if students is None else students:
        path = opened.path(opened.directory.autograded_directory, student, lesson) / f"{lesson}.ipynb"
        try:
            mark = parse(path.read_bytes(), str(path)).metadata.get(MARK)
        except (OSError, NotebookError):  # not graded yet
            continue
        mark = mark if isinstance(mark, dict) else {}
        lines = None if mark.get("problem") else mark.get("remarks")  # of a file set aside everything is missing
        remarks = [Remark.read(str(line)) for line in lines] if isinstance(lines, list) else []
        if known := tuple(remark for remark in remarks if remark):
            found[student] = known
    return found
