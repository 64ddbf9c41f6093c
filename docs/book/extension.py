"""What the book adds to Sphinx: formulas as MathML, docstrings read as Markdown."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from markdown_it import MarkdownIt
from sphinx.application import Sphinx

from autograder.gradebook.formulas import mathml

FIELD = re.compile(r"^(\w+(?:\(\w+\))?) {2,}(?=\S)", re.MULTILINE)  # "size   how many cells it spans"
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def docstring_html(lines: list[str]) -> str:
    """A docstring as HTML: Markdown, in which lines of the form `name   what it is` are a list."""
    return MARKDOWN.render(FIELD.sub(r"- `\1` ", "\n".join(lines))).strip()


def as_markdown(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if any(line.strip() for line in lines):
        html = docstring_html(lines).replace("<table>", '<div class="table-wrapper"><table>')
        html = html.replace("</table>", "</table></div>")
        lines[:] = [".. raw:: html", "", *(f"   {line}" for line in html.splitlines()), ""]


def without_noise(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples: Python's own words for them say nothing."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def name_levels(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx marks the captions of the contents as headings, and leaves out of which level: screen readers need it."""
    if tree := context.get("furo_navigation_tree"):
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def visit_math(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), display=False))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{mathml(node.astext(), display=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("autodoc-process-docstring", as_markdown)
    app.connect("autodoc-skip-member", without_noise)
    app.connect("html-page-context", name_levels, priority=900)  # after the theme has made its tree
    return {"parallel_read_safe": True, "parallel_write_safe": True}
