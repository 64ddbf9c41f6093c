"""What is asked of a candidate, and what it did: plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..exercise import Case, CourseError

__all__ = ["Evidence", "Failure", "ForbiddenCall", "Outcome", "Request", "WireError", "text"]

MAX_TEXT = 2_000


class WireError(CourseError):
    """What came over the wire is not evidence."""


class ForbiddenCall(Exception):
    """The candidate called what its exercise forbids."""


@dataclass(frozen=True)
class Failure:
    """Why a case has no outputs. `kind` is blank, missing, raised, forbidden, or returned (what is no array)."""

    kind: str
    type: str = ""
    message: str = ""
    line: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one case gave: arrays by name, or a failure."""

    outputs: dict[str, np.ndarray]
    failure: Failure | None = None


@dataclass(frozen=True)
class Evidence:
    """What a candidate did on every case of an exercise. Plain data: no object of the candidate's is in it."""

    exercise: str
    outcomes: tuple[Outcome, ...]
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a kernel is asked: try the object called `answer` on the cases.

    `probe` is the source of the function `probe_name`; it stands on its own and holds no expected value.
    """

    exercise: str
    answer: str
    probe_name: str
    probe: str
    forbidden: tuple[str, ...]
    cases: tuple[Case, ...]


def text(value: object) -> str:
    """Plain text of bounded length that every encoding and database takes: no subclass, no lone surrogate, no NUL."""
    cut = str.__getitem__(value if isinstance(value, str) else str(value), slice(MAX_TEXT))
    return cut.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
