"""Notebooks that mean no good, each in a real kernel: the run always comes back, with a reason for what was lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_course as tiny

from autograder.execute import Limits, check_notebook, execute
from autograder.exercise import CourseError
from autograder.submission import NotebookError, Outcome, nbformat, parse

RELEASE = tiny.released()


def checked(folder: Path, limits: Limits | None = None, **answers: str) -> dict[str, Outcome]:
    """The outcomes of a notebook whose other answers are right."""
    sources = tiny.ANSWERS | {f"tiny.{name}": source for name, source in answers.items()}
    path = folder / "mine.ipynb"
    path.write_text(json.dumps(tiny.answered(RELEASE, sources)), "utf-8")
    return {found.exercise: found for found in check_notebook(path, RELEASE, limits or Limits())}


def test_right_answers_earn_all_and_a_demo_cell_that_would_fail_is_skipped(tmp_path: Path) -> None:
    found = checked(tmp_path)
    assert {name: (o.score, o.max_score) for name, o in found.items()} == {
        "tiny.double": (3.0, 3.0),
        "tiny.square": (2.0, 2.0),
    }


def test_partial_credit_and_a_broken_cell_in_one_notebook(tmp_path: Path) -> None:
    found = checked(tmp_path, double="def double(x):\n    return x * x", square="def square(x:")
    assert (found["tiny.double"].score, found["tiny.double"].message) == (2.0, "For 0.5 you return 0.25.")
    assert found["tiny.square"].score == 0
    assert found["tiny.square"].message.startswith(
        "There was nothing to check: the cell with your answer stopped. Synt"
    )


def test_edits_to_locked_cells_do_not_matter(tmp_path: Path) -> None:
    notebook = tiny.answered(RELEASE, {**tiny.ANSWERS, "tiny.square": "def square(x):\n    return 0"})
    tiny.find(notebook, "tiny.square", "check").source = "2.0"
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    assert [found.score for found in check_notebook(path, RELEASE)] == [3.0, 0.0]


def test_a_dead_kernel_costs_what_is_left_and_says_so(tmp_path: Path) -> None:
    found = checked(tmp_path, square="import os\nos._exit(3)")
    assert found["tiny.double"].score == 3.0
    assert found["tiny.square"].score == 0.0
    assert found["tiny.square"].message == (
        "This check was not run: Python itself ended while it ran the solution cell of tiny.square."
    )


def test_an_endless_loop_costs_its_own_exercise_only(tmp_path: Path) -> None:
    found = checked(tmp_path, Limits(cell=1), double="while True:\n    pass")
    assert found["tiny.double"].message == (
        "There was nothing to check: the cell with your answer stopped. "
        "This cell was stopped: a cell may run for 1 s, a notebook for 300 s."
    )
    assert found["tiny.square"].score == 2.0


IGNORES_INTERRUPTS = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_loop_that_ignores_the_interrupt_is_killed(tmp_path: Path) -> None:
    found = checked(tmp_path, Limits(cell=1, grace=1), double=IGNORES_INTERRUPTS)
    for name in ("tiny.double", "tiny.square"):
        assert found[name].score == 0.0
        assert found[name].message.endswith("The solution cell of tiny.double hung and could not be interrupted.")


@pytest.mark.slow
def test_the_whole_notebook_has_a_limit_too(tmp_path: Path) -> None:
    found = checked(tmp_path, Limits(cell=30, notebook=1), double="import time\ntime.sleep(20)")
    assert found["tiny.square"].score == 0.0
    assert found["tiny.square"].message.endswith("The notebook ran longer than 1 s.")


@pytest.mark.slow
def test_a_flood_of_output_kills_the_kernel_and_one_large_output_is_cut(tmp_path: Path) -> None:
    limits = Limits(cell=30, cell_output=100_000, flood=1_000_000)
    found = checked(tmp_path, limits, double="while True:\n    print('x' * 10_000)")
    assert found["tiny.square"].message.endswith("The solution cell of tiny.double put out more than 1 MB.")

    notebook = tiny.answered(RELEASE, {**tiny.ANSWERS, "tiny.double": "print('x' * 300_000)\ndouble = lambda x: x + x"})
    ran = parse(execute(json.dumps(notebook).encode(), limits=limits), "x", outputs=True)
    outputs = tiny.find(ran, "tiny.double", "solution").outputs
    assert [(o.output_type, o.ename) for o in outputs] == [("error", "TooMuchOutput")]
    assert tiny.find(ran, "tiny.double", "check").outputs[0].data["text/plain"] == "3.0"


def test_a_silenced_traceback_is_still_an_error(tmp_path: Path) -> None:
    silence = "get_ipython().showtraceback = lambda *a, **k: None\ndef double(x):\n    return y"
    found = checked(tmp_path, double=silence)
    assert found["tiny.double"].score == 0.0
    assert found["tiny.double"].message.startswith("The check could not run: NameError")


def test_it_runs_in_an_empty_folder_of_its_own(tmp_path: Path) -> None:
    cell = nbformat().v4.new_code_cell("import os\nos.listdir()")
    ran = parse(execute(json.dumps(nbformat().v4.new_notebook(cells=[cell])).encode()), "x", outputs=True)
    assert ran.cells[0].outputs[0].data["text/plain"] == "[]"


def test_a_kernel_that_can_not_start_is_our_fault_not_a_zero() -> None:
    with pytest.raises(CourseError, match=r"could not start a kernel: .*no-such-kernel"):
        execute(json.dumps(RELEASE).encode(), kernel_name="no-such-kernel")


def test_a_notebook_without_one_of_its_cells_is_refused_before_a_kernel_starts(tmp_path: Path) -> None:
    notebook: Any = tiny.answered(RELEASE, {})
    notebook.cells.remove(tiny.find(notebook, "tiny.double", "check"))
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    with pytest.raises(NotebookError, match=r"the check cell of exercise tiny.double is missing"):
        check_notebook(path, RELEASE)
