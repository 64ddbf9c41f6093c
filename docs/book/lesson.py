"""A lesson as a page of the book: its solved notebook, with the learner's stub in sight and the solution folded."""

from __future__ import annotations

import ast
import re
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from autograder.exercise import CourseError
from autograder.submission import nbformat, role_of

__all__ = ["BookError", "Facts", "facts", "page"]

MARKERS = re.compile(r"^[ \t]*#* ?(BEGIN|END) SOLUTION[ \t]*\n?", re.MULTILINE)
SOLUTION = {"code_prompt_show": "Show a solution", "code_prompt_hide": "Hide the solution"}
CODE = {"code_prompt_show": "Show the code", "code_prompt_hide": "Hide the code"}


class BookError(CourseError):
    """The book can't be made as things are; its text says what to change."""


@dataclass(frozen=True)
class Facts:
    """What the map says of a lesson, in its own words: title, question, time, what is needed."""

    title: str
    question: str
    time: str
    needs: str


def facts(notebook: Any) -> Facts:
    """Read off a lesson's first cell. Raises BookError where it does not say title, quoted question, time and needs."""
    text = notebook.cells[0].source
    asked = re.search(r"^> ?(.+?)(?:\n>?\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    plain = " ".join(text.split())
    found = [re.search(p, plain) for p in (r"# (.+?) \*", r"About ([^;]+);", r"(You need .+?\.)")]
    if asked is None or not all(found):
        raise BookError(f"the first cell does not say title, > question, time and needs: {text[:80]!r}")
    title, time, needs = (match.group(1) for match in found)
    question = re.sub(r"\n>? *", " ", asked.group(1)).replace("**", "")
    return Facts(title, question, time, needs)


def page(solved: Any, release: Any, download: str) -> Any:
    """The notebook that the book runs and shows, from a lesson's solved notebook and its release: new, both stay.

    `download` is the path of the release from the page. Raises BookError where the release lacks a solution's stub.
    """
    stubs = {role_of(cell): cell.source for cell in release.cells if role_of(cell)[0] in ("solution", "explain")}
    made = deepcopy(solved)
    made.cells = []
    for number, cell in enumerate(solved.cells):
        made.cells += _shown(deepcopy(cell), stubs)
        if number == 0:
            made.cells.append(_markdown(_about(download), "about-this-page"))
    return made


def _about(download: str) -> str:
    return (
        "```{note}\nThis is the solved lesson, run from top to bottom. Figures with sliders stand here in a fixed "
        "form, and solutions are folded. To work through it yourself, with checks that answer you, open the "
        f"{{download}}`learner's notebook <{download}>` in JupyterLab.\n```"
    )


def _shown(cell: Any, stubs: dict[tuple[str, str], str]) -> list[Any]:
    role, exercise = role_of(cell)
    if role in ("solution", "explain") and (role, exercise) not in stubs:
        raise BookError(f"the release has no {role} cell of {exercise}: run `course build`")
    if role == "explain":
        answer = MARKERS.sub("", cell.source).strip()
        cell.source = f"<details><summary>Show an answer</summary>\n\n{answer}\n\n</details>"
        return [cell]
    if role == "solution":
        stub = _markdown(f"```python\n{stubs[role, exercise]}\n```", f"{cell.id[:59]}-stub")
        cell.source = MARKERS.sub("", cell.source).strip()
        return [stub, _folded(cell, SOLUTION, "solution")]
    if role == "setup":
        return [_folded(cell, CODE)]
    if role == "demo":
        if _is_one_call(cell.source):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "remove-input"]
            return [cell]
        return [_folded(cell, CODE)]
    return [cell]


def _folded(cell: Any, words: dict[str, str], *tags: str) -> Any:
    cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input", *tags]
    cell.metadata["mystnb"] = words
    return cell


def _is_one_call(source: str) -> bool:
    """Whether the cell only shows something: `predict("…")`, `claims.evidence("D1")`."""
    body = ast.parse(source).body
    return len(body) == 1 and isinstance(body[0], ast.Expr) and body[0].end_lineno == body[0].lineno


def _markdown(source: str, id: str) -> Any:
    return nbformat().v4.new_markdown_cell(source, id=id)
