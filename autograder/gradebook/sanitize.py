"""What a learner's notebook may still show when others open it: text, plain HTML, pictures. Nothing that runs.

All that came out of a learner's kernel, and all that a learner wrote, is read by an instructor who is logged in.
nbgrader puts it into its pages as it is, so a script in it could change grades. Two lines of defence:

    Sanitize        the last step of autograding: the notebook in autograded/ holds nothing that could run,
                    whoever shows it (the formgrader, JupyterLab, an older version of this)
    clean_html      what `pages.py` puts every piece of HTML through, when a page is made
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

import nh3
from nbgrader.preprocessors import NbGraderPreprocessor
from pygments.token import STANDARD_TYPES

from autograder.submission import MARK, VERDICT, nbformat, role_of

__all__ = ["Sanitize", "clean_html", "neutral_markdown", "safe_output"]

_TAGS = (
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul "
    "var"
)
TAGS = frozenset(_TAGS.split())
ATTRIBUTES = {
    "*": {"title", "role", "aria-label", "aria-hidden"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan", "style"},
    "th": {"colspan", "rowspan", "scope", "style"},
    "ol": {"start"},
    "details": {"open"},
}
# The classes of our check's card, of highlighted code and of tables. No others: the formgrader's buttons go by class.
CLASSES = {"tdn-card", "ok", "part", "no", "blank", "head", "seen", "why", "highlight", "dataframe"} | {
    name for name in STANDARD_TYPES.values() if name
}
DROPPED_WHOLE = {"script", "style", "svg", "math", "template", "noscript", "iframe", "object", "textarea", "select"}
PICTURE = r"(?:[\w-]+/)*[\w-]+\.(?:png|jpe?g|gif|svg)"  # a file of the lesson's own, never outside its folder
EMBEDDED = r"data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=\s]*"
MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}


def _allowed(tag: str, attribute: str, value: str) -> str | None:
    """Links lead out of this server; pictures come from the lesson's folder or are in the page."""
    if attribute == "href":
        return value if re.match(r"(https?://|mailto:)", value, re.IGNORECASE) else None
    if attribute == "src":
        return value if re.fullmatch(f"{PICTURE}|{EMBEDDED}", value, re.IGNORECASE) else None
    return value


_CLEANER = nh3.Cleaner(
    tags=set(TAGS),
    attributes=ATTRIBUTES,
    allowed_classes=dict.fromkeys(TAGS, CLASSES),
    clean_content_tags=DROPPED_WHOLE,
    attribute_filter=_allowed,
    filter_style_properties={"text-align"},
    url_schemes={"http", "https", "mailto", "data"},
    link_rel="noopener noreferrer",
)


def clean_html(html: Any) -> str:
    """The HTML with the tags, attributes, classes and addresses of plain text, tables and pictures, and no others."""
    return _CLEANER.clean(html.decode("utf-8", "replace") if isinstance(html, bytes) else str(html))


# ---------------------------------------------------------------- Markdown that stays Markdown

PLAIN_TAG = r"/?(?:b|br|code|del|details|em|i|kbd|mark|p|s|small|strong|sub|summary|sup|u|var)\s*/?>"


def neutral_markdown(source: str, attachments: Iterable[str] = ()) -> str:
    """The Markdown, with what any reader of Markdown could make into active HTML taken apart by a space.

    Tags other than plain ones, links and pictures that lead to scripts or to this server, pictures that were pasted
    and are not among the `attachments` (nbconvert stops at them). It goes by the text alone, in code too, since
    readers disagree on what is code: `a<b` becomes `a< b`.
    """
    picture = "|".join([PICTURE, *(f"attachment:{re.escape(name)}" for name in attachments)])
    target = rf"(?:https?://|mailto:|#|(?:{picture})[\s)>])"
    source = re.sub(rf"<(?!{PLAIN_TAG})(?=[A-Za-z/!?])", "< ", source, flags=re.IGNORECASE)
    source = re.sub(rf"!\[(?![^\[\]]*\]\((?:{picture})\))", "! [", source, flags=re.IGNORECASE)
    source = re.sub(rf"\](?=\(\s*<?(?!{target}))", "] ", source, flags=re.IGNORECASE)
    return re.sub(rf"\](?=:\s*<?(?!{target}))", "] ", source, flags=re.IGNORECASE)


# ---------------------------------------------------------------- outputs and cells


def safe_output(output: Any, *, verdict: bool = False) -> Any:
    """An output of text, plain HTML and pictures only, whatever the kernel sent; None where nothing can be shown.

    `verdict`: keep the check's own account, which the class report reads.
    """
    new, kind = nbformat().v4.new_output, output.get("output_type")
    if kind == "stream":
        return new("stream", name="stderr" if output.get("name") == "stderr" else "stdout", text=_text(output, "text"))
    if kind == "error":
        lines = output.get("traceback")
        lines = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        return new("error", ename=_text(output, "ename"), evalue=_text(output, "evalue"), traceback=lines)
    if kind not in ("display_data", "execute_result"):
        return None
    data = output.get("data")
    shown = _safe_data(data if isinstance(data, Mapping) else {}, verdict)
    if kind == "display_data":
        return new(kind, data=shown)
    count = output.get("execution_count")
    return new(kind, data=shown, execution_count=count if isinstance(count, int) else None)


def _safe_data(data: Mapping[str, Any], verdict: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for mime in ("text/plain", "text/latex"):
        if text := _text(data, mime):
            shown[mime] = text
    if markdown := _text(data, "text/markdown"):
        shown["text/markdown"] = neutral_markdown(markdown)
    if (html := clean_html(_text(data, "text/html"))) and re.search(r"<img[^>]* src=|(?:^|>)[^<]*\S", html):
        shown["text/html"] = html
    for mime in MAGIC:
        if picture := _picture(_text(data, mime), mime):
            shown[mime] = picture
    if verdict and isinstance(data.get(VERDICT), Mapping):
        shown[VERDICT] = data[VERDICT]
    return shown or {"text/plain": "(This output is of a kind that is not shown here.)"}


def _text(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value if isinstance(value, str) else ""


def _picture(text: str, mime: str) -> str:
    """The picture in base64, if it is one of that kind; else ""."""
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(content).decode() if content.startswith(MAGIC[mime]) else ""


def _safe_attachments(attachments: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    kept = {}
    for name, bundle in attachments.items():
        bundle = bundle if isinstance(bundle, Mapping) else {}
        pictures = {mime: _picture(_text(bundle, mime), mime) for mime in MAGIC}
        if re.fullmatch(r"[\w. -]+", name) and any(pictures.values()):
            kept[name] = {mime: picture for mime, picture in pictures.items() if picture}
    return kept


class Sanitize(NbGraderPreprocessor):
    """After the grades are saved: leave nothing in the autograded notebook that could run where it is shown."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        kept = {key: nb.metadata[key] for key in (MARK, "kernelspec", "language_info") if key in nb.metadata}
        nb.metadata = nbformat().from_dict(kept)
        return super().preprocess(nb, resources)

    def preprocess_cell(self, cell: Any, resources: Any, cell_index: int) -> tuple[Any, Any]:
        options = cell.metadata.get("nbgrader", {})
        kept = {key: cell.metadata[key] for key in ("nbgrader", "deletable", "editable") if key in cell.metadata}
        cell.metadata = nbformat().from_dict(kept)
        if cell.cell_type == "code":
            found = (safe_output(output, verdict=role_of(cell)[0] == "check") for output in cell.outputs)
            cell.outputs = [output for output in found if output is not None]
            return cell, resources
        attachments = _safe_attachments(cell.get("attachments", {}))
        if "attachments" in cell:
            cell.attachments = nbformat().from_dict(attachments)
        if not options.get("locked"):  # a locked cell was just restored from the release
            cell.source = neutral_markdown(cell.source, attachments)
        return cell, resources
