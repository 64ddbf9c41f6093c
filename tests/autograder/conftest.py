"""The tests of the machinery know the exercises of the tiny course, in this process and in those it starts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder import exercises  # before the plug-in can be found: most tests want the course's own exercises alone

sys.path.insert(0, str(Path(__file__).parent / "plugins"))


@pytest.fixture(scope="module")
def tiny_registered() -> Iterator[None]:
    import tiny_course as tiny

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exercises, "EXERCISES", {**exercises.EXERCISES, **tiny.RECORDS})
        patched.setenv("PYTHONPATH", tiny.environment()["PYTHONPATH"])
        yield
