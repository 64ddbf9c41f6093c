"""The course's first page in JupyterLab: it shows progress, leads on, and gives or deletes what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from accessibility import OUTPUTS, scan
from browser import Lab, require_browser

from autograder import exercises
from autograder.demo import source_of
from course_lib.journal import Journal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LESSON = "08_dropout"
FIRST = exercises.of_lesson(LESSON)[0]
SOLUTION, CHECK = (f"{FIRST.id.replace('.', '-')}-{role}" for role in ("solution", "check"))
# whether a cell with these words, of a notebook that is shown, stands on the screen
IN_VIEW = """words => [...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell')].some(cell => {
  const box = cell.getBoundingClientRect();
  return cell.textContent.includes(words) && box.height > 0 && box.top >= 0 && box.top < innerHeight; })"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    require_browser()
    with Lab(ROOT / "lessons", tmp_path_factory.mktemp("scratch"), every_cell=False) as lab:
        yield lab


def shown(lab: Lab) -> str:
    """Open the first page, run it; the words of the progress."""
    lab.open("index.ipynb")
    lab.run_all(timeout=60)
    assert lab.error_cells() == []
    assert [cell["stderr"] for cell in lab.cells() if cell["stderr"]] == []
    return lab.page.locator(".tdn-home").inner_text()


def test_it_begins_with_nothing_kept(lab: Lab) -> None:
    words = shown(lab)
    assert "Begin with" in words and str(lab.data) in words
    assert not lab.data.exists()


def test_a_misconception_met_and_mended_shows_and_next_leads_to_the_next_exercise(lab: Lab) -> None:
    lab.open(f"{LESSON}/{LESSON}.ipynb")
    lab.run_cell(next(cell["id"] for cell in lab.cells() if cell["id"].startswith("setup-")))
    for answer in (FIRST.misconceptions[0].wrong, FIRST.variants[0].right):
        lab.replace_cell(SOLUTION, source_of(answer, FIRST.answer))
        lab.run_cell(CHECK)
    words = shown(lab)
    assert "1 of 11 exercises" in words
    assert "1 misconception met, 1 mended" in words
    lab.page.locator(".tdn-next a").click()
    lab.page.wait_for_function(IN_VIEW, arg="def classic_dropout(")  # far down: the link leads to the cell itself
    assert "1 of 11 exercises" in shown(lab)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_nothing_on_it_keeps_anybody_out(lab: Lab, theme: str) -> None:
    lab.theme_is(theme)
    for summary in lab.page.locator(".tdn-home summary").all():
        summary.evaluate("element => { element.parentElement.open = true; }")
    assert scan(lab.page, OUTPUTS).serious == []


def test_the_keyboard_exports_and_deletes(lab: Lab) -> None:
    keys = lab.page.keyboard
    lab.page.get_by_role("button", name="Export as JSON").focus()
    keys.press("Enter")
    lab.page.get_by_text("Written to").wait_for()
    kept = json.loads((lab.root / "my-progress.json").read_text("utf-8"))
    assert [check["passed"] for check in kept["checks"]] == [False, True]
    keys.press("Tab")
    keys.press("Tab")
    keys.press("Enter")
    lab.page.get_by_text("Press again").wait_for()
    keys.press("Enter")
    lab.page.get_by_text("Deleted.").wait_for()
    assert not Journal(lab.data).read()
    assert "Begin with" in shown(lab)
