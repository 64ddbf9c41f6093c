"""The folder that a learner handed in, read so that nothing in it leads elsewhere or never ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from autograder.submission import MAX_BYTES

from .classroom import GradebookError

__all__ = ["content_of", "keep_plain_files"]

LEFT_BEHIND = "In this file's place a link, a pipe or a device was handed in.\n"


def keep_plain_files(folder: Path) -> list[str]:
    """Remove what is neither a file nor a folder, before anybody reads or copies it; returns the names of that.

    A link may lead to the solutions, a pipe or a device has no end, and none of them holds anything of the learner's.
    A notebook leaves a file behind that says so, and is graded as empty. Raises GradebookError where it can't be
    removed.
    """
    removed = []
    try:
        if folder.is_symlink():
            folder.unlink()
            folder.mkdir()
            _replace(folder / f"{folder.name}.ipynb")
            removed.append(folder.name)
        for place, folders, files in os.walk(folder):
            for path in (Path(place, name) for name in (*folders, *files)):
                kind = path.lstat().st_mode
                if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                    path.unlink()
                    removed.append(str(path.relative_to(folder)))
                    if path.suffix == ".ipynb":
                        _replace(path)
    except OSError as error:
        raise GradebookError(f"cannot remove the links and pipes in {folder}: {error.strerror}") from None
    return removed


def _replace(path: Path) -> None:
    path.write_text(LEFT_BEHIND, "utf-8")


def content_of(path: Path) -> bytes:
    """What is in a file, and no more of it than tells that it is too large to be a notebook. Raises OSError."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
