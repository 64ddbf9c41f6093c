"""Three small texts in the public domain that come with the course: words of Carroll, Shakespeare and Milton.

from course_lib import texts

books = texts.load()
books.names                                     # ("carroll", "shakespeare", "milton")
books.words["milton"][:3]                       # ("of", "man's", "first")
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from course_lib.datasets.dataset import Source

__all__ = ["Texts", "TextsError", "load"]

DATA = Path(__file__).parent / "data"
NAMES = ("carroll", "shakespeare", "milton")


class TextsError(Exception):
    """A text that is absent or damaged. The message says what to do."""


@dataclass(frozen=True)
class Texts:
    """Each text as its words in order: lower-case letters and apostrophes, without punctuation."""

    names: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    licence: str
    sources: tuple[Source, ...]


def load() -> Texts:
    """The embedded texts, checked against their sha256. Raises TextsError where one is absent or damaged."""
    repair = "reinstall the package, or run `python -m course_lib.texts.build`"
    words = {}
    try:
        record = json.loads((DATA / "texts.json").read_text(encoding="utf-8"))
        for name in NAMES:
            raw = (DATA / f"{name}.txt").read_bytes()
            if hashlib.sha256(raw).hexdigest() != record["sha256"][name]:
                raise TextsError(f"{name}.txt is not as it was recorded: {repair}")
            words[name] = tuple(raw.decode().split())
        sources = tuple(Source(**source) for source in record["sources"])
        return Texts(NAMES, words, record["licence"], sources)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TextsError(f"the texts cannot be read ({error}): {repair}") from error
