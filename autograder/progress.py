"""How far a long run is: a line that is drawn over and over on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

__all__ = ["Bar", "Progress", "duration"]

REDRAW, LOG = 0.1, 10.0  # seconds between two lines on a terminal, in a log
RECENT = 200  # what the rate is measured on: the last so many
WIDTH = 24


@dataclass(frozen=True)
class Progress:
    """`done` of `total`; `made` of them in this run, `problems` of them failed. `note` says who works, or what waits.

    The rate counts from when something was first `begun`.
    """

    total: int
    done: int
    made: int = 0
    problems: int = 0
    note: str = ""
    begun: bool = True


class Bar:
    """Shows progress on a stream; what else is written goes through `line`, so that the two don't mix."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.terminal = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._recent: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=RECENT)
        self._shown = clock() if not self.terminal else -LOG
        self._drawn, self._note = False, ""

    def show(self, progress: Progress) -> None:
        """Draw, if it is time to."""
        now = self.clock()
        if not progress.begun:
            self._recent[0] = (now, 0)
        elif progress.made > self._recent[-1][1]:
            self._recent.append((now, progress.made))
        news = self.terminal and progress.note != self._note
        if now - self._shown < (REDRAW if self.terminal else LOG) and not news:
            return
        self._shown, self._note = now, progress.note
        text = self._text(progress, now)
        if self.terminal:
            columns = shutil.get_terminal_size().columns
            self._write(f"\r\x1b[K{text[: columns - 1]}")
            self._drawn = True
        else:
            self._write(f"{text}\n")

    def line(self, write: Callable[[], None]) -> None:
        """Let `write` write whole lines above the bar."""
        self.close()
        write()

    def close(self) -> None:
        """Wipe the bar away."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn, self._shown = False, -LOG

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _text(self, progress: Progress, now: float) -> str:
        filled = WIDTH * progress.done // progress.total if progress.total else WIDTH
        parts = [f"[{'=' * filled}{' ' * (WIDTH - filled)}] "] if self.terminal else []
        parts.append(f"{progress.done} of {progress.total}")
        (since, before), (_, made) = self._recent[0], self._recent[-1]
        rate = (made - before) / (now - since) if now > since else 0.0
        if rate:
            parts.append(f", {_per_time(rate)}")
        if progress.problems:
            parts.append(f", {progress.problems} {'problem' if progress.problems == 1 else 'problems'}")
        if rate and progress.done < progress.total:
            parts.append(f", {duration((progress.total - progress.done) / rate)} left")
        if progress.note:
            parts.append(f"; {progress.note}")
        return "".join(parts)


def _per_time(rate: float) -> str:
    return f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"


def duration(seconds: float) -> str:
    """A time as people say it: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
