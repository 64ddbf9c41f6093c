"""What stands in the journal, as plain records, and the few ways to write to it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from course_lib.journal.database import FILE, erase, reading, writing

__all__ = ["Check", "Commitment", "History", "Journal", "Scored", "now"]

MAX_TEXT = 2000


@dataclass(frozen=True)
class Commitment:
    """An answer as it was committed: a choice's name or a number, the learner's reason, the time (ISO 8601, UTC)."""

    answer: str | float
    reason: str
    at: str

    def when(self) -> str:
        """The time in words, in the learner's own time zone."""
        return datetime.fromisoformat(self.at).astimezone().strftime("%d %b %Y, %H:%M")


@dataclass(frozen=True)
class Scored:
    """How close a committed prediction came, from 0 to 1, in words, and when that was shown last."""

    value: float
    words: str
    at: str


@dataclass(frozen=True)
class Check:
    """Checks in a row of one exercise that came out the same. `misconception` is empty where none was recognized."""

    exercise: str
    score: float
    max_score: float
    passed: bool
    misconception: str
    message: str
    first: str
    last: str
    times: int


@dataclass(frozen=True)
class History:
    """All that the journal holds; the checks in the order in which they were made."""

    commitments: dict[str, Commitment]
    scores: dict[str, Scored]
    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        return bool(self.commitments or self.scores or self.checks)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Journal:
    """The journal in a folder. Each call opens the file, does one thing, and closes it, so that many kernels can share
    it. Every method raises JournalError, of one line, where the file can't be used.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / FILE

    def commit(self, prediction: str, commitment: Commitment) -> Commitment:
        """Keep a commitment unless there is one; returns the one that stands."""
        row = (prediction, json.dumps(commitment.answer), _plain(commitment.reason), commitment.at)
        with writing(self.path) as connection:
            connection.execute("INSERT OR IGNORE INTO commitments VALUES (?, ?, ?, ?)", row)
            found = connection.execute(
                "SELECT answer, reason, at FROM commitments WHERE prediction = ?", (prediction,)
            ).fetchone()
        return _commitment(*found)

    def note_score(self, prediction: str, value: float, words: str) -> None:
        """Keep how close a prediction came; a later showing replaces it."""
        with writing(self.path) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", (prediction, float(value), words, now())
            )

    def note_check(
        self, exercise: str, score: float, max_score: float, passed: bool, misconception: str = "", message: str = ""
    ) -> None:
        """Keep how a check came out."""
        outcome = (float(score), float(max_score), int(passed), misconception)
        with writing(self.path) as connection:
            last = connection.execute(
                "SELECT number, score, max_score, passed, misconception FROM checks WHERE exercise = ?"
                " ORDER BY number DESC LIMIT 1",
                (exercise,),
            ).fetchone()
            if last and last[1:] == outcome:
                connection.execute("UPDATE checks SET last = ?, times = times + 1 WHERE number = ?", (now(), last[0]))
            else:
                connection.execute(
                    "INSERT INTO checks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
                    (exercise, *outcome, _plain(message), now(), now()),
                )

    def commitments(self) -> dict[str, Commitment]:
        """What was predicted, by the prediction's id."""
        with reading(self.path) as connection:
            rows = connection.execute("SELECT * FROM commitments ORDER BY at").fetchall() if connection else []
            return {key: _commitment(*rest) for key, *rest in rows}

    def read(self) -> History:
        """All of it; empty where nothing has been kept."""
        commitments = self.commitments()
        with reading(self.path) as connection:
            if connection is None:
                return History({}, {}, ())
            scores = connection.execute("SELECT prediction, value, words, at FROM scores ORDER BY at").fetchall()
            checks = connection.execute(
                "SELECT exercise, score, max_score, passed, misconception, message, first, last, times"
                " FROM checks ORDER BY number"
            ).fetchall()
        return History(
            commitments,
            {key: Scored(*rest) for key, *rest in scores},
            tuple(Check(exercise, score, most, bool(passed), *rest) for exercise, score, most, passed, *rest in checks),
        )

    def erase(self) -> bool:
        """Delete everything; whether there was anything."""
        return erase(self.path)


def _plain(text: str) -> str:
    """A learner's own text, which may hold halves of characters, as SQLite takes it."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()


def _commitment(answer: str, reason: str, at: str) -> Commitment:
    """Raises ValueError for a row that nothing of ours has written."""
    kept = Commitment(json.loads(str(answer)), str(reason), str(at))
    number = isinstance(kept.answer, int | float) and not isinstance(kept.answer, bool) and math.isfinite(kept.answer)
    if not (isinstance(kept.answer, str) or number):
        raise ValueError("an answer is of no known kind")
    kept.when()
    return kept
