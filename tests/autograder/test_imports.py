"""What a command does not need, it does not import: nbgrader takes a second, torch two."""

from __future__ import annotations

import subprocess
import sys

import pytest

from autograder import gradebook, serverextension

HEAVY = {"torch", "tensorflow", "keras", "nbgrader", "sqlalchemy", "nbconvert", "nbformat", "distributed", "matplotlib"}
RUN = """
import sys
from autograder.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported_by(*arguments: str) -> set[str]:
    """The packages of HEAVY that a command imported."""
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("IMPORTED")[2].split()) & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["grade", "--help"], ["completion", "bash"]])
def test_help_imports_nothing_of_weight(arguments: list[str]) -> None:
    assert imported_by(*arguments) == set()


def test_listing_exercises_needs_no_notebooks() -> None:
    assert not imported_by("exercises") & {"nbgrader", "sqlalchemy", "nbconvert", "nbformat", "distributed"}


def test_the_gradebook_package_itself_imports_nothing_of_weight() -> None:
    command = "import sys, autograder.gradebook; print('IMPORTED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=120, check=True)
    assert set(done.stdout.split()) & HEAVY == set()


def test_scores_are_read_without_kernels_and_pages() -> None:
    command = "import sys; from autograder.gradebook import scores; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=120, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("autograder.gradebook.")}
    assert not ours & {f"autograder.gradebook.{name}" for name in ("pages", "pipeline", "sanitize", "formgrader")}


def test_the_server_extension_does_nothing_for_learners_who_have_no_nbgrader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serverextension, "find_spec", lambda name: None)
    serverextension._load_jupyter_server_extension(server=None)


@pytest.mark.parametrize("name", gradebook.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(gradebook, name).__name__ == name
    assert name in dir(gradebook)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gradebook.nothing  # noqa: B018
