"""A class gets the same lesson from a checkout, where solutions are, and from what is installed, where none are."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import tiny_course as tiny
from nbgrader.preprocessors import ClearSolutions

from autograder.gradebook import GradebookError, release
from autograder.gradebook.releasing import _mark_solutions
from autograder.submission import CODE_STUB, TEXT_STUB, nbformat

LESSONS = sorted(tiny.REPOSITORY.glob("lessons/*_*/*.ipynb"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_released_lesson_released_again_is_the_same(path: Path) -> None:
    """What nbgrader takes out of it is what it put in."""
    notebook = nbformat().read(path, as_version=4)
    before = [cell.source for cell in notebook.cells]
    _mark_solutions(notebook)
    assert [cell.source for cell in notebook.cells] != before
    clear = ClearSolutions(code_stub={"python": CODE_STUB}, text_stub=TEXT_STUB)
    cleared, _ = clear.preprocess(notebook, {})
    assert [cell.source for cell in cleared.cells] == before


@pytest.mark.slow
def test_without_solutions_the_class_gets_the_same_lesson(tiny_registered: None, tmp_path: Path) -> None:
    checkout = tiny.make_built_course(tmp_path / "checkout")
    release(tiny.LESSON, tmp_path / "one", source=checkout)
    installed = tmp_path / "installed"
    (installed / "lessons" / tiny.LESSON).mkdir(parents=True)
    (installed / "nbgrader_config.py").write_bytes((checkout / "nbgrader_config.py").read_bytes())
    given = tmp_path / "one" / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb"
    (installed / "lessons" / tiny.LESSON / given.name).write_bytes(given.read_bytes())
    again = release(tiny.LESSON, tmp_path / "two", source=installed) / given.name
    assert again.read_bytes() == given.read_bytes()
    assert nbformat().read(again, as_version=4).metadata.training_deep_nets.version == version("training-deep-nets")


def test_a_released_cell_without_a_place_for_an_answer_is_refused() -> None:
    notebook = tiny.released()
    tiny.find(notebook, "tiny.double", "solution").source = "def double(x):\n    ..."
    with pytest.raises(GradebookError, match=r"tiny-double-solution has no place for an answer"):
        _mark_solutions(notebook)


def test_points_in_a_checkout_itself_are_refused(tmp_path: Path) -> None:
    checkout = tiny.make_built_course(tmp_path / "checkout")
    (checkout / "points.toml").write_text(f'[{tiny.LESSON}]\n"tiny.double" = 3\n')
    with pytest.raises(GradebookError, match=r"points.toml is for a class's own folder"):
        release(tiny.LESSON, checkout, source=checkout)
