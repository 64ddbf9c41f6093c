"""The small lesson that the attacks hand in: two light exercises of 08_dropout, for our grader and for stock nbgrader.

Stock nbgrader gets the tests that its manual teaches: assertions in the notebook, some of them hidden in the release.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from autograder.exercises import EXERCISES
from autograder.notebooks import source_to_notebook
from autograder.submission import nbformat, parse, quiet_environment, role_of

from .attack import BEFORE, CANARY, CLASSIC, INVERTED, RIGHT, answered

__all__ = ["CANARIES", "LESSON", "checkout", "honest", "plant", "stock_class"]

LESSON = "08_dropout"
ROOT = Path(__file__).resolve().parents[2]

# Values that a learner must never see. The solutions' and the classmate's stand in notebooks, the others where they say.
CANARIES = {place: f"{CANARY}-{place}-{number}" for place, number in
            {"solution": 50311, "gradebook": 71733, "classmate": 90271, "environment": 33391, "host_file": 18127,
             "connection": 65537}.items()}  # fmt: skip

SOURCE = f'''# %% role="setup"
import numpy as np
import torch

torch.set_num_threads(1)

# %% exercise="{INVERTED}" role="solution"
def inverted_dropout(x, p, mask):
    """x with dropped units at 0 and the others scaled up."""
    ### BEGIN SOLUTION
    return x * mask / (1 - p)  # {CANARIES["solution"]}
    ### END SOLUTION

# %% exercise="{INVERTED}" role="check"
check("{INVERTED}", inverted_dropout)

# %% exercise="{CLASSIC}" role="solution"
def classic_dropout(x, p, mask, training):
    """In training x with dropped units at 0; at test x scaled down."""
    ### BEGIN SOLUTION
    return x * mask if training else x * (1 - p)
    ### END SOLUTION

# %% exercise="{CLASSIC}" role="check"
check("{CLASSIC}", classic_dropout)
'''

STOCK_TESTS = {
    INVERTED: """import numpy.testing

x, mask = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[1.0, 0.0, 1.0]])
numpy.testing.assert_allclose(inverted_dropout(x, 0.5, mask).numpy(), [[2.0, 0.0, 6.0]], rtol=1e-6)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(2024)
for p in (0.0, 0.2, 0.7):
    x = torch.tensor(rng.normal(size=(6, 4)), requires_grad=True)
    mask = torch.tensor((rng.random((6, 4)) >= p) * 1.0)
    expected = x.detach() * mask / (1 - p)
    got = inverted_dropout(x, p, mask)
    assert got.shape == expected.shape
    assert torch.allclose(got, expected)
    (gradient,) = torch.autograd.grad(got.sum(), x)
    numpy.testing.assert_allclose(gradient.numpy(), (mask / (1 - p)).numpy())
### END HIDDEN TESTS""",
    CLASSIC: """import numpy.testing

x, mask = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[1.0, 0.0, 1.0]])
numpy.testing.assert_allclose(classic_dropout(x, 0.25, mask, True).numpy(), [[1.0, 0.0, 3.0]], rtol=1e-6)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(2025)
for p in (0.0, 0.2, 0.7):
    x = torch.tensor(rng.normal(size=(6, 4)))
    mask = torch.tensor((rng.random((6, 4)) >= p) * 1.0)
    assert torch.allclose(classic_dropout(x, p, mask, True), x * mask)
    assert torch.allclose(classic_dropout(x, p, mask, False), x * (1 - p))
### END HIDDEN TESTS""",
}


def source_notebook(folder: Path, *, stock: bool) -> Any:
    """The lesson as an instructor writes it, with solutions."""
    path = folder / f"{LESSON}.py"
    path.write_text(SOURCE, "utf-8")
    notebook = source_to_notebook(path, {id: EXERCISES[id] for id in (INVERTED, CLASSIC)})
    path.unlink()
    for cell in notebook.cells:
        role, exercise = role_of(cell)
        if stock and role == "check":
            cell.source = STOCK_TESTS[exercise]
    return notebook


def checkout(folder: Path, config: str = "") -> Path:
    """A checkout of the course with the small lesson in it, for `autograder.gradebook.release`."""
    lesson = folder / "solutions" / LESSON
    lesson.mkdir(parents=True)
    (lesson / f"{LESSON}.ipynb").write_text(nbformat().writes(source_notebook(lesson, stock=False)), "utf-8")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    with (folder / "nbgrader_config.py").open("a") as file:
        file.write(f"\n{config}\n")
    return folder


def stock_class(folder: Path) -> Path:
    """A class in nbgrader's default layout and configuration, one honest learner graded already; all of it harmless."""
    source = folder / "source" / LESSON
    source.mkdir(parents=True)
    (source / f"{LESSON}.ipynb").write_text(nbformat().writes(source_notebook(source, stock=True)), "utf-8")
    _nbgrader(folder, "generate_assignment", LESSON)
    release = folder / "release" / LESSON / f"{LESSON}.ipynb"
    submit(folder, BEFORE, honest(parse(release.read_bytes(), "the release"), CANARIES["classmate"]))
    _nbgrader(folder, "autograde", LESSON)
    plant(folder / "gradebook.db")
    return folder


def _nbgrader(folder: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *command],
        cwd=folder,
        env=quiet_environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"nbgrader {' '.join(command)} failed:\n{done.stderr[-2000:]}")


def plant(gradebook: Path) -> None:
    """Put the gradebook's canary into it, as a learner's surname."""
    with sqlite3.connect(gradebook) as book:
        book.execute(
            "INSERT OR REPLACE INTO student (id, first_name, last_name) VALUES ('absent', 'A.', ?)",
            [CANARIES["gradebook"]],
        )


def submit(course: Path, student: str, notebook: bytes) -> Path:
    """Hand a notebook in; returns its folder."""
    folder = course / "submitted" / student / LESSON
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{LESSON}.ipynb").write_bytes(notebook)
    return folder


def honest(release: Any, remark: str = "") -> bytes:
    """A right answer to everything, with a private remark."""
    notebook = answered(release, RIGHT)
    notebook.cells.append(nbformat().v4.new_markdown_cell(remark or "Thank you."))
    return json.dumps(notebook).encode()
