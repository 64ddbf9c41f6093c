"""Predictions and the interactive figure as a learner meets them: in JupyterLab, with the keyboard."""

from pathlib import Path

import nbformat
import pytest
from accessibility import OUTPUTS, scan
from browser import BrowserError, Lab, require_browser

pytestmark = pytest.mark.slow

CELLS = {
    "setup": (
        "import numpy as np\n"
        "from autograder.check import check\n"
        "from course_lib import claims\n"
        "from course_lib import plots\n"
        "from course_lib.widgets import dropout as widgets\n"
        "from course_lib.predictions import predict, reveal\n"
        "images = np.random.default_rng(0).integers(0, 255, (64, 8, 8), dtype=np.uint8)"
    ),
    "ask-number": 'predict("scale_without_rescaling")',
    "ask-choice": 'predict("scaled_net_is_average")',
    "figure": "widgets.SignalFigure(images, widgets.random_signal_net(64))",
    "reveal-number": 'reveal("scale_without_rescaling", 16.0)',
    "reveal-choice": 'reveal("scaled_net_is_average", "linear")',
    "check-wrong": 'check("dropout.inverted_dropout", lambda x, p, mask: x * mask)',
    "check-right": 'check("dropout.inverted_dropout", lambda x, p, mask: x * mask / (1 - p))',
    "check-blank": 'def answer(x, p, mask):\n    raise NotImplementedError\ncheck("dropout.inverted_dropout", answer)',
    "evidence": 'claims.evidence("D1")',
    "plot": 'plots.arms({"a": [1, 2]}, xlabel="x", alt="One arm.", caption="One arm, two seeds.")',
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    require_browser()
    folder = tmp_path_factory.mktemp("lesson")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, folder / "scratch.ipynb")
    with Lab(folder, tmp_path_factory.mktemp("scratch")) as lab:
        lab.open("scratch.ipynb")
        lab.run_all(timeout=120)
        yield lab


def test_run_all_with_nothing_committed_gives_no_error_and_no_stderr(lab):
    assert lab.error_cells() == []
    assert [cell["execution_count"] for cell in lab.cells()] == list(range(1, len(CELLS) + 1))
    assert [cell["stderr"] for cell in lab.cells()] == [""] * len(CELLS)
    assert "not predicted this yet" in lab.output("reveal-number").inner_text()


def test_the_page_asks_nothing_of_the_network(lab):
    assert lab.refused == []


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_no_card_and_no_figure_keeps_anybody_out(lab, theme):
    lab.theme_is(theme)
    lab.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert scan(lab.page, OUTPUTS).serious == []


def test_a_number_is_committed_by_keyboard_and_the_reveal_follows(lab):
    cell, keys = lab.cell("ask-number"), lab.page.keyboard
    lab.walk_to("ask-number", "input[type=text]")
    keys.type("8")
    keys.press("Tab")
    keys.type("2 times 4")
    keys.press("Tab")
    keys.press("Enter")
    cell.get_by_text("Press again to commit").wait_for()
    keys.press("Enter")
    cell.get_by_text("it stays as it is").wait_for()
    assert cell.locator("input[type=text]").count() == 0
    lab.output("reveal-number").get_by_text("0.5 of 1").wait_for()


def test_a_choice_is_committed_by_keyboard(lab):
    cell, keys = lab.cell("ask-choice"), lab.page.keyboard
    lab.walk_to("ask-choice", "input[type=radio]")
    keys.press("Tab")  # to the second choice
    keys.press("Space")
    lab.walk_to("ask-choice", "textarea")
    keys.type("ReLU is bent")
    keys.press("Tab")
    keys.press("Enter")
    cell.get_by_text("Press again to commit").wait_for()
    keys.press("Enter")
    lab.output("reveal-choice").get_by_text("1 of 1").wait_for()


def test_nor_does_a_card_that_was_answered(lab):
    assert scan(lab.page, OUTPUTS).serious == []


def test_the_figure_follows_the_slider(lab):
    """Each move must bring another figure; how fast, `tests/measure_lesson.py` measures."""
    for _ in range(5):
        assert lab.move_slider("figure") > 0


def test_a_plot_is_on_the_page_with_its_words(lab):
    assert lab.output("plot").get_by_role("img", name="One arm.").is_visible()
    assert not lab.output("plot").get_by_text("The drawing comes back").is_visible()


def test_a_cell_is_replaced_and_its_error_found(lab, tmp_path):
    lab.replace_cell("plot", "1 / 0")
    [error] = lab.error_cells()
    assert (error.name, error.index) == ("plot", len(CELLS) - 1)
    assert "ZeroDivisionError" in error.message
    assert lab.screenshot(tmp_path / "cell.png", cell="plot").stat().st_size > 0
    lab.replace_cell("plot", "2 / 1")
    assert lab.error_cells() == []
    assert "2.0" in lab.cells()[-1]["text"]


def test_a_cell_that_does_not_end_is_named(lab):
    with pytest.raises(BrowserError, match=rf"cells \[{len(CELLS) - 1}\] are still running"):
        lab.replace_cell("plot", "import time; time.sleep(5)", timeout=1)


@pytest.mark.parametrize("call", [lambda lab: lab.index("nowhere"), lambda lab: lab.open("nowhere.ipynb")])
def test_what_is_not_there_is_named(lab, call):
    with pytest.raises(BrowserError, match="nowhere"):
        call(lab)


def test_the_folder_itself_stays_untouched(lab):
    assert Path(lab.save()).parent == lab.root
