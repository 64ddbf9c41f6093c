"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from .exercise import CourseError

__all__ = ["write_whole"]


def write_whole(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    """Write `content` to `path`, whose folder is made if need be; returns the path.

    Lines of text end as they do in it. What cannot be encoded (half a surrogate in a message) becomes a question mark.
    Raises CourseError where it can't be written; then what was there before is still there.
    """
    part = path.with_name(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode(encoding, "replace") if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)
        raise CourseError(f"cannot write {path}: {error.strerror}") from None
    return path
