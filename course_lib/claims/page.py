"""The evidence page: all rows of the ledger with what settled them, in Markdown, made from the results alone."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

from course_lib.claims.runner import ledger_rows

__all__ = ["page"]


def page() -> str:
    """Every claim of the course: verdict, what was measured, interval, seeds, date; by lesson, as Markdown."""
    rows = ledger_rows()
    count = Counter(row["verdict"] or "unsettled" for row in rows)
    lines = [
        "# The evidence",
        "",
        "What people ask and say about training deep nets, tested by code of this course. Made from the results in "
        "`course_lib/claims/results` by `python -m course_lib.claims`; `course evidence ID` measures a claim again.",
        "",
        f"{len(rows)} rows: " + ", ".join(f"{number} {verdict}" for verdict, number in count.most_common()) + ".",
    ]
    for lesson, group in groupby(rows, key=lambda row: row["lesson"]):
        lines += ["", f"## {lesson}", "", "| | question or claim | verdict | measured |", "|---|---|---|---|"]
        lines += [f"| {row['id']} | {_cell(row['question'])} | {_verdict(row)} | {_measured(row)} |" for row in group]
    return "\n".join(lines)


def _verdict(row: dict[str, Any]) -> str:
    if not row["verdict"]:
        return "unsettled"
    condition = f" {_cell(row['condition'])}" if row["condition"] else ""
    return f"**{row['verdict']}**{condition}"


def _measured(row: dict[str, Any]) -> str:
    if not row["verdict"]:
        return ""
    found = row["interval"]
    interval = f"{found['what']}: {found['mean']:.3g} ({found['low']:.3g} to {found['high']:.3g}) {found['unit']}"
    stale = "Measured with older code. " if row["stale"] else ""
    return _cell(f"{stale}{row['headline']} {interval}, {len(row['seeds'])} seeds, {row['date']}.")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
