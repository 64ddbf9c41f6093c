"""Feedback in a browser: nothing of a learner's runs, nothing leaves, formulas are drawn with no network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM_ARGUMENTS, chromium, require_browser
from nbconvert.exporters import HTMLExporter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "autograder"))

import hostile

from autograder.gradebook import FeedbackExporter, Sanitize
from autograder.submission import nbformat

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Your element with mimetype")]

NAMES = {"nbgrader": {"notebook": "00_tiny", "score": 1.0, "max_score": 2.0, "late_penalty": 0}}


@dataclass
class Opened:
    """What happened while a page was open: did a script run, what was asked for (a "part", or another "page")."""

    owned: bool
    requests: list[str]
    text: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    require_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


def look(browser: Any, path: Path) -> Opened:
    """Open a page, press everything on it that can be pressed; all requests are refused, and written down."""
    requests: list[str] = []
    context = browser.new_context(viewport={"width": 1100, "height": 1400})

    def refuse(route: Any) -> None:
        kind = "page" if route.request.is_navigation_request() else "part"
        requests.append(f"{kind} {route.request.url}")
        route.abort()

    context.route(lambda url: url != path.as_uri() and not url.startswith(("data:", "blob:")), refuse)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.add_init_script("Object.defineProperty(window, 'owned', {set() { console.log('owned') }})")
    page.goto(path.as_uri(), wait_until="load")
    page.wait_for_timeout(300)
    text = page.inner_text("body")
    for selector in ("a[href]", "button", "summary", "input"):
        for number in range(page.locator(f"#notebook {selector}").count()):
            if not page.url.startswith(path.as_uri()):
                page.goto(path.as_uri())
            page.locator(f"#notebook {selector}").nth(number).evaluate("element => element.click()")
    page.wait_for_timeout(300)
    context.close()
    return Opened("owned" in said, requests, text)


def written(folder: Path, html: str) -> Path:
    path = folder / "page.html"
    path.write_text(html, "utf-8")
    return path


def test_the_attacks_work_on_a_page_of_nbconverts(browser: Any, tmp_path: Path) -> None:
    html, _ = HTMLExporter().from_notebook_node(hostile.notebook())
    found = look(browser, written(tmp_path, html))
    assert found.owned
    assert f"part {hostile.OUT}" in found.requests


def test_our_page_runs_nothing_and_asks_for_nothing_whatever_is_in_the_notebook(browser: Any, tmp_path: Path) -> None:
    html, _ = FeedbackExporter().from_notebook_node(hostile.notebook(), NAMES)
    found = look(browser, written(tmp_path, html))
    assert not found.owned
    assert [asked for asked in found.requests if not asked.endswith("/dot.svg")] == []


def test_a_sanitized_notebook_is_harmless_on_a_page_of_nbconverts_too(browser: Any, tmp_path: Path) -> None:
    nb, _ = Sanitize().preprocess(hostile.notebook(), {})
    html, _ = HTMLExporter().from_notebook_node(nb)
    found = look(browser, written(tmp_path, html))
    assert not found.owned
    assert [asked for asked in found.requests if asked.startswith(f"part {hostile.OUT}")] == []


def test_scripts_are_stopped_even_where_one_gets_into_the_page(browser: Any, tmp_path: Path) -> None:
    html, _ = FeedbackExporter().from_notebook_node(nbformat().v4.new_notebook(), NAMES)
    holed = html.replace("</main>", "".join(hostile.HTML) + "</main>", 1)
    assert holed != html
    found = look(browser, written(tmp_path, holed))
    assert not found.owned
    assert [asked for asked in found.requests if asked.startswith(f"part {hostile.OUT}")] == []
