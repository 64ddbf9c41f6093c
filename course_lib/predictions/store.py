"""Where committed predictions are kept: one small JSON file on the learner's own machine, never sent anywhere."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

FILE = "predictions.json"
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Commitment:
    """An answer as it was committed: a choice's name or a number, the learner's reason, the time (ISO 8601, UTC)."""

    answer: str | float
    reason: str
    at: str

    def when(self) -> str:
        """The time in words, in the learner's own time zone."""
        return datetime.fromisoformat(self.at).astimezone().strftime("%d %b %Y, %H:%M")


def data_dir() -> Path:
    """The learner's data folder for this course: $COURSE_DATA_DIR, or else where the system keeps such data."""
    if chosen := os.environ.get("COURSE_DATA_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "training-deep-nets"


def _read(path: Path) -> dict[str, Commitment]:
    """The commitments in a file. Raises ValueError or OSError if it can't be read or holds anything else."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("it is too large")
    commitments = {}
    for key, entry in json.loads(path.read_text(encoding="utf-8"))["commitments"].items():
        kept = Commitment(answer=entry["answer"], reason=entry["reason"], at=entry["at"])
        number = isinstance(kept.answer, int | float) and not isinstance(kept.answer, bool)
        if not (isinstance(kept.answer, str) or (number and math.isfinite(kept.answer))):
            raise ValueError(f"the answer to {key} is of no known kind")
        if not isinstance(kept.reason, str):
            raise ValueError(f"the reason for {key} is not text")
        kept.when()
        commitments[key] = kept
    return commitments


class Store:
    """Committed predictions by id. The first commitment stays: a later one for the same id changes nothing.

    A folder that can't be written or a damaged file never stops a lesson: `notice` then holds one line that says so,
    the commitments live in memory only, and the damaged file is left as it is.
    """

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / FILE
        self.notice = ""
        self._kept: dict[str, Commitment] = {}
        self._refresh()

    def _refresh(self) -> bool:
        """Read what is on disk, another lesson's commitments among it; False if the file is not to be written."""
        if self.notice:
            return False
        try:
            self._kept = {**self._kept, **_read(self.path)}
        except (FileNotFoundError, NotADirectoryError):
            pass  # nothing kept yet; whether it can be written shows when there is something to write
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            self.notice = (
                f"Your kept predictions ({self.path}) can't be read: new ones last until this kernel ends. "
                "Delete or rename that file to keep them again."
            )
            return False
        return True

    def get(self, key: str) -> Commitment | None:
        return self._kept.get(key)

    def commit(self, key: str, commitment: Commitment) -> Commitment:
        """Keep a commitment unless there is one; returns the one that stands."""
        writable = self._refresh()
        if key in self._kept:
            return self._kept[key]
        self._kept[key] = commitment
        if writable:
            try:
                self._write()
            except OSError as error:
                self.notice = (
                    f"Your predictions can't be kept in {self.path.parent} ({error.strerror or error}): "
                    "they last until this kernel ends."
                )
        return commitment

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"version": 1, "commitments": {key: asdict(kept) for key, kept in self._kept.items()}},
            indent=1,
            ensure_ascii=False,
        )
        # a whole new file, then renamed: a kernel that dies midway leaves the old one
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{FILE}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, self.path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
