"""The benchmark's part of docs/benchmarks.md, made from the results that a run kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from course_lib.bench.operations import OPERATIONS
from course_lib.bench.report import table

__all__ = ["AIM", "between", "part", "refresh", "refreshed"]

AIM = 0.5  # of the framework's speed, but for what is naive on purpose


def part(results: Mapping[str, Any]) -> str:
    """What a run says, as Markdown: how many operations miss the aim and which, why some are naive, and the table."""
    rows = results["operations"]
    missing = [f"{title(row)} ({row['ratio']:.2f})" for row in rows if row["ratio"] < AIM and not row["naive"]]
    reasons = {(operation.name, operation.pass_): operation.naive for operation in OPERATIONS}
    naive = [f"- {title(row)}: {reasons.get((row['name'], row['pass']), '')}" for row in rows if row["naive"]]
    lines = [
        f"{len(rows)} operations, {len(naive)} of them naive on purpose. "
        + (f"Of the others {len(missing)} are below {AIM}: {', '.join(missing)}." if missing else "")
        + (f"Of the others none is below {AIM}." if not missing else ""),
        "",
        *(["Naive on purpose:", "", *naive, ""] if naive else []),
        table(results),
    ]
    return "\n".join(lines)


def title(row: Mapping[str, Any]) -> str:
    return f"`{row['name']}` {row['pass']}"


def refreshed(text: str, results: Mapping[str, Any]) -> str:
    """The page's text with the part of the results' device made anew, between its two markers.

    Raises ValueError where the page lacks the markers.
    """
    device = results["operations"][0]["device"]
    marks = f"<!-- made by `course bench --write`: {device} -->", f"<!-- end: {device} -->"
    return between(text, marks, part(results))


def between(text: str, marks: tuple[str, str], made: str) -> str:
    """The page with what stands between its two marks made anew. Raises ValueError where it has no such place."""
    first, last = marks
    before, found, rest = text.partition(first)
    _, ended, after = rest.partition(last)
    if not (found and ended) or first in after:
        raise ValueError(f"the page needs a line {first} and, after it, a line {last}, each once")
    return f"{before}{first}\n\n{made}\n\n{last}{after}"


def refresh(page: Path, path: Path) -> None:
    """Write the part of the results at `path` into the page."""
    results = json.loads(path.read_text(encoding="utf-8"))
    page.write_text(refreshed(page.read_text(encoding="utf-8"), results), encoding="utf-8")
