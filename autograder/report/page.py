"""The frame of a page: style, sections, tables. A page stands alone, runs nothing and loads nothing.

Every function takes plain text where its parameter says `text`, and finished HTML where it says `html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

__all__ = ["by", "cut", "facts", "page", "paragraph", "section", "table"]

MAX_MESSAGE = 500
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

STYLE = Path(__file__).with_name("style.css").read_text("utf-8")


def page(title: str, body_html: Iterable[str]) -> str:
    """A whole page; `title` is text."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body_html if part)
        + "\n</body></html>\n"
    )


def section(id: str, title_text: str, content_html: str) -> str:
    """A section with a heading; links may lead to its `id`."""
    return f'<section aria-labelledby="{id}"><h2 id="{id}">{escape(title_text)}</h2>\n{content_html}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Numbers in large type, each with what it counts; both are text."""
    return '<ul class="facts">' + "".join(f"<li><b>{escape(a)}</b>{escape(b)}</li>" for a, b in pairs) + "</ul>"


def table(text: str, head: Sequence[tuple[str, str]], rows_html: Iterable[str], label: str) -> str:
    """A table below the text that explains it; `head` pairs the HTML of each heading with its class.

    The table scrolls by itself where it is too wide; its explanation does not.
    """
    columns = "".join(f'<th scope="col"{_class(kind)}>{html}</th>' for html, kind in head)
    return (
        f"{paragraph(text, 'soft')}"
        f'<div class="wide" role="region" aria-label="{escape(label)}, table" tabindex="0"><table>'
        f'<caption class="unseen">{escape(label)}</caption>'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n" + "\n".join(rows_html) + "\n</tbody></table></div>"
    )


def by(text: str, kind: str = "") -> str:
    """Text that came from elsewhere: its direction of writing does not spread to what stands beside it."""
    return f"<bdi{_class(kind)}>{escape(text)}</bdi>"


def cut(text: str, limit: int = MAX_MESSAGE) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
