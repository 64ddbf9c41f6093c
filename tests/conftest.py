"""For every test: triton, where it is installed, before TensorFlow; and the tiny course, for those that ask for it.

torch imports triton with its first optimizer. If TensorFlow is there already, the second copy of LLVM ends the process.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

with suppress(ImportError):
    import triton  # noqa: F401

from autograder import exercises

len(exercises.EXERCISES)  # before the plug-in can be found: most tests want the course's own exercises alone

MACHINERY = Path(__file__).parent / "autograder"
sys.path[:0] = [str(MACHINERY), str(MACHINERY / "plugins")]


@pytest.fixture(scope="module")
def tiny_registered() -> Iterator[None]:
    """The exercises of the tiny course are known, in this process and in those that it starts."""
    import tiny_course as tiny

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exercises, "EXERCISES", {**exercises.EXERCISES, **tiny.RECORDS})
        patched.setenv("PYTHONPATH", tiny.environment()["PYTHONPATH"])
        yield
