"""Keep what learners' code says out of the cell that checks it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from course_lib.quiet import silent_descriptor

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keep warnings, prints and what C++ code writes to descriptor 2 out of the cell; hand over what was said."""
    said = io.StringIO()
    with (
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        silent_descriptor(),
        _no_log(),
    ):
        yield said


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Loggers are silent: a handler made earlier holds on to the cell's own stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
