"""The tests of the machinery know the exercises of the tiny course, in this process and in those it starts."""

import sys
from pathlib import Path

import pytest

from autograder import exercises  # before the plug-in can be found: most tests want the course's own exercises alone

sys.path.insert(0, str(Path(__file__).parent / "plugins"))


@pytest.fixture
def tiny_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_course as tiny

    monkeypatch.setattr(exercises, "EXERCISES", {**exercises.EXERCISES, **tiny.RECORDS})
    monkeypatch.setenv("PYTHONPATH", tiny.environment()["PYTHONPATH"])
