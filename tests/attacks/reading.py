"""Pages and tables as those who open them would meet them: what runs in a browser, what a spreadsheet computes."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

__all__ = ["formulas", "live_markup"]


class _Live(HTMLParser):
    def __init__(self, token: str) -> None:
        super().__init__(convert_charrefs=True)
        self.token, self.script, self.found = token, False, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.script = tag == "script"
        for name, value in attrs:
            active = (
                name.startswith("on") or name == "srcdoc" or re.match(r"\s*(javascript|data:text)", value or "", re.I)
            )
            self.found |= bool(active and value and self.token in value)

    def handle_endtag(self, tag: str) -> None:
        self.script = False

    def handle_data(self, data: str) -> None:
        self.found |= self.script and self.token in data


def live_markup(page: str, token: str = "tdnPwned") -> bool:
    """Whether a page holds `token` where a browser would run it: a script, a handler, a javascript: link."""
    reader = _Live(token)
    reader.feed(page)
    return reader.found


def formulas(table: str) -> list[str]:
    """The cells of a CSV file that a spreadsheet would take for formulas. (A negative number is none.)"""
    cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
    return [cell for cell in cells if re.match(r"[=+@\t\r]|-(?![\d.]+$)", cell)]
