"""Where committed predictions are kept: in the learner's journal, or in memory where that can't be used."""

from __future__ import annotations

from pathlib import Path

from course_lib.journal import Commitment, Journal, JournalError, keeping, noting

__all__ = ["Commitment", "Store"]


class Store:
    """Committed predictions by id. The first commitment stays: a later one for the same id changes nothing.

    A folder that can't be written or a damaged file never stops a lesson: `notice` then holds one line that says so,
    the commitments live in memory only, and the damaged file is left as it is.
    """

    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory)
        self.notice = ""
        self._kept: dict[str, Commitment] = {}
        self._unwritten: dict[str, Commitment] = {}
        if keeping():
            try:
                self._kept = self.journal.commitments()
            except JournalError as error:
                self._notice(error)

    def get(self, key: str) -> Commitment | None:
        return self._kept.get(key)

    def commit(self, key: str, commitment: Commitment) -> Commitment:
        """Keep a commitment unless there is one; returns the one that stands."""
        if key not in self._kept:
            self._kept[key] = self._unwritten[key] = commitment
            if keeping():
                self._write()
        return self._kept[key]

    def note_score(self, key: str, value: float, words: str) -> None:
        """Note how close the committed answer came, where that is wanted."""
        if noting():
            try:
                self.journal.note_score(key, value, words)
            except JournalError as error:
                self._notice(error)

    def _write(self) -> None:
        """Also what could not be written before: a file that was locked then may be free now."""
        try:
            for key, commitment in list(self._unwritten.items()):
                self._kept[key] = self.journal.commit(key, commitment)
                del self._unwritten[key]
            self.notice = ""
        except JournalError as error:
            self._notice(error)

    def _notice(self, error: JournalError) -> None:
        self.notice = f"Your predictions last only until this kernel ends: {error}."
