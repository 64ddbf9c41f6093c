"""The tables of docs/security.md, made from the kept results: python -m tests.attacks.table writes them anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from .attack import SIGNS, Attack, Result
from .course import ROOT
from .run import RESULTS, read
from .suite import ATTACKS, CLASSES

__all__ = ["PAGE", "page"]

PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- made by tests/attacks/table.py -->", "<!-- end of what was made -->"


def page(text: str) -> str:
    """`text` with its tables made anew from docs/attacks/."""
    made = "\n".join([BEGIN, "", *_lines(read("stock"), read("ours")), "", END])
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: made, text, flags=re.DOTALL)


def _lines(stock: Mapping[str, Result], ours: Mapping[str, Result]) -> Iterator[str]:
    yield from (_when(arm) for arm in ("stock", "ours") if (RESULTS / f"{arm}.json").is_file())
    yield from ("", "| class | hand-ins | stock nbgrader fails | this grader fails |", "|---|--:|--:|--:|")
    for letter, name in CLASSES.items():
        ids = [id for id in ATTACKS if id.startswith(letter)]
        yield f"| {letter}. {name} | {len(ids)} | {_failed(ids, stock)} | {_failed(ids, ours)} |"
    yield f"| all | {len(ATTACKS)} | {_failed(list(ATTACKS), stock)} | {_failed(list(ATTACKS), ours)} |"
    for letter, name in CLASSES.items():
        yield from ("", f"### {letter}. {name[0].upper()}{name[1:]}", "")
        yield from ("| a notebook that … | stock nbgrader | this grader |", "|---|---|---|")
        for id, attack in ATTACKS.items():
            if id.startswith(letter):
                yield f"| {_cell(attack.tries)} | {_came(attack, stock.get(id))} | {_came(attack, ours.get(id))} |"


def _when(arm: str) -> str:
    data = json.loads((RESULTS / f"{arm}.json").read_text("utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return f"* {'Stock nbgrader' if arm == 'stock' else 'This grader'}: {data['date']}, Python {data['python']}, {versions}."


def _failed(ids: list[str], results: Mapping[str, Result]) -> str:
    known = [results[id] for id in ids if id in results]
    return f"{sum(bool(result.signs) for result in known)} of {len(known)}"


def _came(attack: Attack, result: Result | None) -> str:
    if result is None:
        return "–"
    words = []
    for sign in result.signs:
        more = f" {(result.score or 0) - attack.earns:g}" if sign == "points" else ""
        words.append(SIGNS[sign].replace(" points", f"{more} points") if sign == "points" else SIGNS[sign])
    if words:
        return f"**{', '.join(words)}**"
    if result.score is None:
        return "no grade"
    return f"its {result.score:g} points" if result.score else "0"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
