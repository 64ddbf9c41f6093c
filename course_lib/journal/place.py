"""Where the journal is, and whether this process may write to it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["SWITCH", "data_dir", "keeping", "noting", "on"]

SWITCH = "COURSE_PROGRESS"  # "on" is set by `course lab` and on Binder; "off" keeps nothing at all


def data_dir() -> Path:
    """The learner's data folder for this course: $COURSE_DATA_DIR, or else where the system keeps such data."""
    if chosen := os.environ.get("COURSE_DATA_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "training-deep-nets"


def on() -> bool:
    """Whether this learner's checks are to be noted: only where the switch says so."""
    return os.environ.get(SWITCH, "").lower() in ("on", "1", "true", "yes")


def noting() -> bool:
    """Whether a check may be noted here: the switch is on, and a person sits at the notebook."""
    return on() and _asks_a_person() is True


def keeping() -> bool:
    """Whether a prediction may be kept here. Committing one is an act of its own, so it needs no switch; but a
    notebook that a program runs commits nothing in the name of whoever started that program.
    """
    return os.environ.get(SWITCH, "").lower() not in ("off", "0", "false", "no") and _asks_a_person() is not False


def _asks_a_person() -> bool | None:
    """Whether the front end of this kernel could ask somebody something; None where this is no kernel.

    A front end says with each cell whether it takes questions (`input()`): JupyterLab does; nbclient, on which
    nbgrader, nbconvert and papermill build, and nbval do not. The environment alone can't tell: a grader that is
    started in JupyterLab's terminal inherits it.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    kernel = getattr(shell, "kernel", None)
    return None if kernel is None else bool(getattr(kernel, "_allow_stdin", False))
