"""Rows as CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence

__all__ = ["csv_text", "is_formula", "neutral"]

# OWASP, "CSV Injection": = + - @ tab and carriage return, here also after blanks and invisible characters, and the
# full-width forms that spreadsheets of East Asia take for the same.
FORMULA = re.compile(r"[\s\x00-\x1f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*[=+\-@＝＋－＠]")
# Where a semicolon separates cells, as in half of Europe, a quoted cell of ours is cut at each semicolon.
AFTER_SEMICOLON = re.compile(r"(;[\s\"']*)([=+\-@])")


def csv_text(rows: Iterable[Sequence[str | float | None]]) -> str:
    """The rows as CSV (RFC 4180): texts quoted and neutralised, numbers as they are, None as an empty cell.

    The type decides, not the look: a number that was computed here keeps its minus sign, a text that looks like one is
    a text. Raises ValueError for a number that is not finite.
    """
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def _cell(value: str | float | None) -> str | float:
    if value is None or isinstance(value, str):
        return neutral(value or "")
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number for a table")
    rounded = round(value, 4)
    return int(rounded) if rounded == int(rounded) else rounded


def is_formula(text: str) -> bool:
    """Whether a spreadsheet could take the text for a formula."""
    return bool(FORMULA.match(text)) or text[:1] in ("\t", "\r")


def neutral(text: str) -> str:
    """The text on one line, led by an apostrophe where a spreadsheet could take it, or a part of it, for a formula."""
    led = "'" if is_formula(text) else ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return led + AFTER_SEMICOLON.sub(r"\1'\2", line)
