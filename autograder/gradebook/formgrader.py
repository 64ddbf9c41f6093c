"""The formgrader's pages, closed to scripts that are not nbgrader's.

The page on which a submission is graded shows what a learner made, to somebody who is logged in and may change every
grade. So it is made by `pages.FormgradeExporter`, and each page names the scripts that may run in it: the files that
nbgrader serves, and the inline scripts that the page has where no learner's work is in it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from nbgrader.server_extensions.formgrader import handlers as nbgraders
from nbgrader.server_extensions.formgrader.base import BaseHandler
from tornado import web

from autograder.submission import nbformat

from .pages import FormgradeExporter

__all__ = ["handlers"]

ODD = set('<>"`\\\n\r')  # nbgrader writes what stands in an address into its pages as it is


class _Page(BaseHandler):
    """Before a page of nbgrader's: no odd addresses, and no scripts but the page's own."""

    own: str | None = None  # a page whose scripts may run, if not this very page

    async def prepare(self) -> None:
        if any(set(part or "") & ODD for part in (*self.path_args, *self.path_kwargs.values())):
            raise web.HTTPError(404)
        await super().prepare()

    def write(self, chunk: Any) -> None:
        if isinstance(chunk, str):
            self.set_header("Content-Security-Policy", self._policy(self.own or chunk))
        super().write(chunk)

    def _policy(self, page: str) -> str:
        inline = re.findall(r"<script(?![^>]* src=)[^>]*>(.*?)</script>", page, re.DOTALL)
        inline += re.findall(r' onclick="([^"]*)"', page, re.IGNORECASE)
        hashes = (base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in inline)
        allowed = " ".join(f"'sha256-{digest}'" for digest in dict.fromkeys(hashes))
        scripts = f"{self.request.host}{self.base_url}/formgrader/static/"
        return "; ".join(
            [
                self.content_security_policy,
                f"default-src 'none'; script-src {scripts} 'unsafe-hashes' {allowed}",
                "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'",
                "base-uri 'none'; form-action 'self'",
            ]
        )


class Start(_Page, nbgraders.FormgraderHandler):
    """Opens a class: its nbgrader_config.py, which is code, is run."""

    async def prepare(self) -> None:
        await super().prepare()
        path = Path(self.get_argument("path", ""))
        above = {*path.absolute().parents, *path.resolve().parents} if self.current_user and path.name else ()
        if any((folder / "nbgrader_config.py").exists() for folder in above):
            raise web.HTTPError(403, f"{path} lies inside a class's folder: it may be a learner's")


class Submission(_Page, nbgraders.SubmissionHandler):
    """The page on which a submission is graded."""

    @property
    def exporter(self) -> Any:
        if "course_exporter" not in self.settings:
            self.settings["course_exporter"] = FormgradeExporter()
        return _Rendering(self, self.settings["course_exporter"])


@dataclass(frozen=True)
class _Rendering:
    """What SubmissionHandler takes for an exporter."""

    handler: Submission
    exporter: FormgradeExporter

    def from_filename(self, filename: str, resources: dict[str, Any]) -> tuple[str, Any]:
        known = {key: escape(value) if isinstance(value, str) else value for key, value in resources.items()}
        empty = nbformat().v4.new_notebook()
        self.handler.own = self.exporter.from_notebook_node(empty, resources=dict(known))[0]
        return self.exporter.from_filename(filename, resources=known)


class Files(nbgraders.SubmissionFilesHandler):
    """What lies beside a submission: pictures, and whatever a learner handed in. A page among it can do nothing."""

    @property
    def content_security_policy(self) -> str:
        return f"{super().content_security_policy}; sandbox; default-src 'none'; img-src 'self' data:"


def handlers() -> list[tuple[Any, ...]]:
    """(pattern, handler) of all of nbgrader's pages, in its order."""
    ours = {
        nbgraders.FormgraderHandler: Start,
        nbgraders.SubmissionHandler: Submission,
        nbgraders.SubmissionFilesHandler: Files,
    }
    made = []
    for pattern, theirs, *rest in nbgraders.default_handlers:
        if theirs not in ours and issubclass(theirs, BaseHandler):
            ours[theirs] = type(theirs.__name__, (_Page, theirs), {})
        made.append((pattern, ours.get(theirs, theirs), *rest))
    return made
