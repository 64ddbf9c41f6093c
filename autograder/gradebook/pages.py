"""The pages that show a graded notebook: a learner's feedback, and the formgrader's page for one submission.

They are nbgrader's own, with what the learner made cleaned, formulas as MathML, and nothing loaded from elsewhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import nbgrader.server_extensions.formgrader as formgrader
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from .formulas import mathml
from .sanitize import clean_html

__all__ = ["FeedbackExporter", "FormgradeExporter", "markdown_html"]

OUR_TEMPLATES = Path(__file__).parent / "templates"
NBGRADER = Path(formgrader.__file__).parent
BOOTSTRAP = NBGRADER / "static" / "node_modules" / "bootstrap" / "dist" / "css"
SHOWN = ["text/html", "text/markdown", "image/png", "image/jpeg", "text/latex", "text/plain"]  # best first
LONGEST = 200_000  # characters of one cell of Markdown; the parser takes more than linear time on some
STYLE = """
#notebook .rendered_html,#notebook pre{overflow-wrap:anywhere} #notebook pre{white-space:pre-wrap;word-break:normal}
math[display=block]{overflow-x:auto;margin:.6em 0} mtd[columnalign=left]{text-align:left}
.tdn-card{border-left:5px solid #8a8a8a;padding:.2em 1em;max-width:52em} .tdn-card.ok{border-color:#009e73}
.tdn-card.part{border-color:#e69f00} .tdn-card.no{border-color:#d55e00} .tdn-card .head{font-weight:600}
.tdn-card ul{list-style:none;padding:0} .tdn-card summary{cursor:pointer}
"""


class _PageExporter(HTMLExporter):
    """nbconvert's HTML exporter, for notebooks that somebody who means no good may have written."""

    page: str

    @property
    def default_config(self) -> Config:
        config = super().default_config.copy()
        config.NbConvertBase.display_data_priority = list(SHOWN)
        # in this class's own section, which wins over what nbgrader puts into HTMLExporter's
        own = config[type(self).__name__]
        own.template_name = self.page
        own.extra_template_basedirs = [str(OUR_TEMPLATES), str(NBGRADER / "templates")]
        own.extra_template_paths = [str(BOOTSTRAP), str(NBGRADER / "templates"), str(OUR_TEMPLATES)]
        own.sanitize_html = True
        return config

    def default_filters(self) -> Iterator[tuple[str, Any]]:
        yield from super().default_filters()
        yield "markdown2html", _cell_markdown
        yield "clean_html", clean_html
        yield "latex2html", lambda latex: mathml(latex.strip().strip("$"), display=True)

    def _init_resources(self, resources: Any) -> Any:
        resources = super()._init_resources(resources)
        resources["course_style"] = STYLE
        return resources


class FeedbackExporter(_PageExporter):
    """What a learner gets back; no script of any kind can run in it."""

    page = "course_feedback"


class FormgradeExporter(_PageExporter):
    """The page on which an instructor grades one submission."""

    page = "course_formgrade"


@pass_context
def _cell_markdown(context: Any, source: str) -> str:
    cell = context.get("cell") or {}
    return markdown_html(source, cell.get("attachments", {}))


def markdown_html(source: str, attachments: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The Markdown as clean HTML, its formulas as MathML; as plain text, where it can't be parsed."""
    renderer = _Renderer(attachments or {})
    try:
        if len(source) > LONGEST:
            raise ValueError("too long")
        html = clean_html(MarkdownWithMath(renderer=renderer).render(source))
    except (ValueError, RecursionError):
        return f"<pre>{escape(source[:LONGEST])}</pre>"
    for place, formula in renderer.formulas.items():
        html = html.replace(place, formula)
    return html


class _Renderer(IPythonRenderer):
    """Markdown to HTML, with an empty element in each formula's place, since the cleaner knows no MathML.

    An element, not text: in an attribute (the words for a picture) its quotes would be escaped, so that no formula
    can land there. Its name can't be foreseen.
    """

    def __init__(self, attachments: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__(escape=False, attachments=dict(attachments), exclude_anchor_links=True)
        self.formulas: dict[str, str] = {}
        self._name = secrets.token_hex(8)

    def _formula(self, latex: str, display: bool) -> str:
        place = f'<var title="{self._name}-{len(self.formulas)}"></var>'
        self.formulas[place] = mathml(latex, display=display)
        return place

    def inline_math(self, body: str) -> str:
        return self._formula(body, False)

    def block_math(self, body: str) -> str:
        return self._formula(body, True)

    def latex_environment(self, name: str, body: str) -> str:
        return self._formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", True)

    def block_mermaidjs(self, code: str) -> str:
        return f"<pre>{escape(code)}</pre>"

    def _embed_image_or_attachment(self, src: str) -> str:
        try:
            return super()._embed_image_or_attachment(src)
        except InvalidNotebook:  # a picture that was pasted, and whose attachment is gone
            return ""
