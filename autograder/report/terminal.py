"""A class as a table for the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from .results import StudentResult

__all__ = ["class_table"]


def class_table(results: Iterable[StudentResult], *, expected: Mapping[str, float] | None = None) -> str:
    """A table of students and points for the terminal; with `expected`, that column and where the two differ."""
    head = ["student", "points", "of", *(["expected"] if expected is not None else []), "remarks"]
    rows = []
    for result in results:
        row = [result.student, f"{result.score:g}", f"{result.max_score:g}"]
        if expected is not None:
            wanted = expected.get(result.student)
            agrees = wanted is not None and abs(wanted - result.score) < 1e-9
            row.append(("?" if wanted is None else f"{wanted:g}") + (" ✓" if agrees else " ✗"))
        remark = result.problems[0] if result.problems else ""
        more = f" (+{len(result.problems) - 1})" if len(result.problems) > 1 else ""
        rows.append([*row, (remark if len(remark) <= 90 else remark[:89] + "…") + more])
    cells = [head, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join(
            _pad(cell, widths[i], right=0 < i < len(head) - 1 and not (i == 3 and expected is not None))
            for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "─" * min(110, sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def _printable(text: str) -> str:
    """No control characters: a student's id or message must not drive the terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _width(text: str) -> int:
    """Columns that the text takes in a terminal: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf") else
        2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )  # fmt: skip


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
