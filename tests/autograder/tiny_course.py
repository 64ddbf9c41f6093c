"""A course with one small lesson that needs neither torch nor the real exercises, for the tests of the machinery.

Its exercises come from the plug-in in `plugins/`: here by import, in processes that tests start by `environment()`.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_exercises import EXERCISES, LESSON

from autograder.exercise import Exercise, Explanation
from autograder.notebooks import source_to_notebook
from autograder.submission import grade_id, nbformat, role_of

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGINS = Path(__file__).parent / "plugins"

RECORDS: dict[str, Exercise | Explanation] = {record.id: record for record in EXERCISES}
POINTS = 5.0  # of the two exercises that grade themselves
HAND_GRADED = 2.0

SOURCE = '''# %% [markdown]
# # A tiny lesson
# With an image: ![a dot](dot.svg)

# %% role="setup"
from autograder.check import check

# %% exercise="tiny.double" role="solution"
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    twice_as_much = x + x
    return twice_as_much
    ### END SOLUTION

# %% exercise="tiny.double" role="check"
check("tiny.double", double)

# %% role="demo"
shown_only = open("never-there.txt")

# %% exercise="tiny.square" role="solution"
def square(x):
    ### BEGIN SOLUTION
    return x**2.0
    ### END SOLUTION

# %% exercise="tiny.square" role="check"
check("tiny.square", square)

# %% [markdown]
# Why is twice four not four squared?

# %% [markdown] exercise="tiny.why" role="explain"
# ### BEGIN SOLUTION
# Because a sum is not a product.
# ### END SOLUTION
'''


def environment() -> dict[str, str]:
    """The environment in which a process of its own knows the tiny exercises."""
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def make_course(folder: Path, source: str = SOURCE, config: str = "") -> Path:
    """A checkout with the tiny lesson in it, under nbgrader's configuration for the real course."""
    lesson = folder / "solutions" / LESSON
    lesson.mkdir(parents=True)
    (lesson / f"{LESSON}.py").write_text(source, "utf-8")
    (lesson / "dot.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", "utf-8")
    shutil.copy(REPOSITORY / "nbgrader_config.py", folder / "nbgrader_config.py")
    if config:
        with (folder / "nbgrader_config.py").open("a") as file:
            file.write(f"\n{config}\n")
    return folder


def make_built_course(folder: Path, config: str = "") -> Path:
    """The same with the source notebook in it, made without nbgrader's subprocess."""
    make_course(folder, config=config)
    made = folder / "solutions" / LESSON
    source = source_to_notebook(made / f"{LESSON}.py", RECORDS)
    (made / f"{LESSON}.ipynb").write_text(nbformat().writes(source), "utf-8")
    return folder


ANSWERS = {
    "tiny.double": "def double(x):\n    return x + x",
    "tiny.square": "def square(x):\n    return x**2",
}


def answered(release: Any, answers: Mapping[str, str]) -> Any:
    """A learner's copy of the released notebook, with these sources in the solution cells."""
    notebook = copy.deepcopy(release)
    for cell in notebook.cells:
        role, exercise = role_of(cell)
        if role in ("solution", "explain") and exercise in answers:
            cell.source = answers[exercise]
    return notebook


def submit(course: Path, student: str, notebook: Any) -> Path:
    """Hand a notebook in, or raw bytes."""
    path = course / "submitted" / student / LESSON / f"{LESSON}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode())
    return path


def find(notebook: Any, exercise: str, role: str) -> Any:
    """One cell of an exercise."""
    name = grade_id(exercise, role)
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name)


def released() -> Any:
    """The release as nbgrader makes it, without the seconds that nbgrader takes (an end-to-end test compares)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{LESSON}.py"
        path.write_text(SOURCE, "utf-8")
        notebook = source_to_notebook(path, RECORDS)
    for cell in notebook.cells:
        stub = 'raise NotImplementedError("Your turn: replace this line.")'
        if cell.cell_type == "markdown":
            stub = "*Write your answer here, in place of this line.*"
        cell.source = re.sub(r"### BEGIN SOLUTION.*### END SOLUTION", stub, cell.source, flags=re.DOTALL)
    return notebook
