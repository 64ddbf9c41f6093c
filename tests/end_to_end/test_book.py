"""The book: a lesson as a page, docstrings, links; and all of it, built without running the lessons, in a browser.

`make book` itself is the test of the rest: it stops at an error in a cell, a word on stderr, a warning, a dead link.
"""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_course as tiny
from browser import CHROMIUM_ARGUMENTS, chromium, require_browser

from autograder.notebooks import source_to_notebook
from autograder.submission import nbformat

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from book import build  # noqa: E402
from book.extension import docstring_html  # noqa: E402
from book.lesson import BookError, facts, page  # noqa: E402
from book.links import dead_links  # noqa: E402
from book.sources import evidence_table  # noqa: E402

# ---------------------------------------------------------------- a lesson as a page


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("tiny") / f"{tiny.LESSON}.py"
    path.write_text(tiny.SOURCE + '\n# %% role="demo"\nprint("shown")\n', "utf-8")
    return source_to_notebook(path, tiny.RECORDS)


def test_a_page_shows_the_stub_and_folds_the_solution_which_still_runs(solved) -> None:
    cells = page(solved, tiny.released(), "tiny.ipynb").cells
    at = next(i for i, cell in enumerate(cells) if cell.id == "tiny-double-solution")
    assert "NotImplementedError" in cells[at - 1].source
    assert cells[at - 1].cell_type == "markdown"
    assert cells[at].metadata.tags == ["hide-input", "solution"]
    assert "twice_as_much = x + x" in cells[at].source
    assert "tags" not in cells[at + 1].metadata  # the check stands in sight, and its card below it
    assert not any("SOLUTION" in cell.source for cell in cells)
    nbformat().validate(page(solved, tiny.released(), "tiny.ipynb"))


def test_an_answer_in_words_is_folded_and_a_cell_that_only_shows_something_has_no_code(solved) -> None:
    cells = page(solved, tiny.released(), "tiny.ipynb").cells
    answer = next(cell for cell in cells if "not a product" in cell.source)
    assert answer.source.startswith("<details>") and answer.source.endswith("</details>")
    assert [cell.metadata.tags for cell in cells if cell.source == 'print("shown")'] == [["remove-input"]]


def test_the_notebooks_that_a_page_is_made_of_stay_as_they_are(solved) -> None:
    before = nbformat().writes(solved)
    page(solved, tiny.released(), "tiny.ipynb")
    assert nbformat().writes(solved) == before


def test_a_release_without_a_stub_is_refused(solved) -> None:
    release = tiny.released()
    release.cells = [cell for cell in release.cells if cell.cell_type == "markdown"]
    with pytest.raises(BookError, match=r"no solution cell of tiny\.double"):
        page(solved, release, "tiny.ipynb")


def test_every_lesson_says_what_the_map_needs_to_know() -> None:
    for path in (ROOT / "solutions").glob("*/*.ipynb"):
        found = facts(nbformat().read(path, as_version=4))
        assert found.title and found.time and found.needs.startswith("You need")
        assert not {">", "*", "\n"} & set(found.question)


def test_a_lesson_that_does_not_say_it_is_refused(solved) -> None:
    with pytest.raises(BookError, match="does not say title"):
        facts(solved)


# ---------------------------------------------------------------- docstrings, evidence, links


def test_a_docstring_is_read_as_markdown() -> None:
    table = ["| a | b |", "|---|---|", "| 1 | *x |"]
    html = docstring_html(["Fans of `shape`.", "", *table, "", "    dx = 2 * dy_", "", "size   how many"])
    assert "<code>shape</code>" in html
    assert "<td>*x</td>" in html
    assert "<pre><code>dx = 2 * dy_" in html
    assert "<li><code>size</code> how many</li>" in html


def test_a_docstring_brings_no_html_of_its_own() -> None:
    assert "<b>" not in docstring_html(["x <b>bold</b>"])


def test_each_row_of_the_evidence_leads_to_its_card() -> None:
    assert "| [D4](08_dropout.md#d4) | q |" in evidence_table("| D4 | q |", {})


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="gone.html">x</a>', "gone.html is not there"),
        ('<a href="other.html#nowhere">x</a>', "no such anchor"),
        ('<a href="#nowhere">x</a>', "no such anchor"),
        ('<script src="https://cdn.example.org/x.js"></script>', "loads https"),
        ('<img src="//cdn.example.org/x.png">', "loads //"),
    ],
)
def test_a_dead_link_and_a_thing_loaded_from_elsewhere_are_found(tmp_path: Path, html: str, said: str) -> None:
    (tmp_path / "other.html").write_text('<p id="here">x</p>')
    (tmp_path / "index.html").write_text(html)
    (found,) = dead_links(tmp_path)
    assert said in found


def test_good_links_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text('<p id="here">x</p><a href="../index.html#top">up</a>')
    (tmp_path / "index.html").write_text('<a id="top" href="sub/#here">x</a><a href="https://example.org/">out</a>')
    assert dead_links(tmp_path) == []


def test_what_lessons_gave_with_other_code_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    for package in ("course_lib", "autograder"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1")
    (tmp_path / "requirements.lock").write_text("a==1")
    before = build._digest(tmp_path)
    (tmp_path / "autograder" / "a.py").write_text("x = 2")
    assert build._digest(tmp_path) != before


# ---------------------------------------------------------------- the whole book, without the lessons' outputs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(tmp_path_factory.mktemp("book"), execute=False)


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_the_book_holds_every_lesson_claim_and_module(site: Path) -> None:
    import course_lib
    from autograder.notebooks import lessons
    from course_lib.claims import LEDGER

    for name in lessons(ROOT):
        assert (site / "lessons" / name / f"{name}.html").is_file()
    cards = "".join(path.read_text("utf-8") for path in (site / "evidence").glob("0*.html"))
    assert [row.id for row in LEDGER if f'aria-label="Claim {row.id}:' not in cards] == []
    assert [name for name in course_lib.__all__ if not (site / "api" / f"{name}.html").is_file()] == []


@pytest.mark.slow
def test_pages_need_no_network_and_never_scroll_sideways_on_a_phone(site: Path, address: str) -> None:
    require_browser()
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        tab = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
        tab.on("request", lambda request: asked.append(request.url))
        wide = {}
        for path in sorted(site.rglob("*.html")):
            name = path.relative_to(site).as_posix()
            tab.goto(f"{address}/{name}")
            if (beyond := tab.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
                wide[name] = beyond
        browser.close()
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert wide == {}


@pytest.mark.slow
def test_the_search_finds_an_exercise(address: str) -> None:
    require_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        tab = browser.new_page()
        tab.goto(f"{address}/search.html?q=inverted")
        tab.wait_for_selector("ul.search li a")
        assert "Dropout in training and in test" in tab.inner_text("ul.search")
        browser.close()
