"""nbgrader: the preprocessors that `nbgrader_config.py` names, and the grading of a class through them.

The only package that imports nbgrader. What stock nbgrader would do with a bad submission is in brackets:

    SubmissionExporter   a file that can't be read is graded as an empty one [no grade]; folders that a killed run
                         left half-made, or whose submission changed, are graded again [skipped]
    Repair               every released cell is there once, with its own metadata [one copied cell stops the class]
    RunCells             in place of Execute: cells run in a sandbox, checks are judged outside it, on hidden cases
                         [in the grader's own account, by tests that stand in the notebook]; each check gives one
                         number [stderr scores 0, no output scores full marks]
    SaveDiagnoses        what the check found out becomes the comment on the learner's answer
    Sanitize             nothing in the autograded notebook can run where it is shown [a script changes grades]
    FeedbackExporter     the page that a learner gets, closed to scripts, its formulas drawn without a network

An instructor's own scores and comments are never touched: nbgrader keeps them apart from the automatic ones.

Each name is imported when it is asked for: nbgrader and what it needs take a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from autograder.submission import nbformat

PUBLIC = {
    "classroom": ("Class", "open_class"),
    "collecting": ("Collected", "Collection", "collect"),
    "database": ("DatabaseError", "GradebookError", "LockedError"),
    "grading": ("Graded", "Pending", "pending", "record", "standing"),
    "pages": ("FeedbackExporter",),
    "pipeline": ("Repair", "RunCells", "SaveDiagnoses", "SubmissionExporter"),
    "put_right": ("changes",),
    "releasing": ("notes", "release"),
    "results": ("Person", "Places", "Score", "feedback", "places", "scores"),
    "sanitize": ("Sanitize",),
    "tasks": ("store_of",),
}
HOME = {name: module for module, names in PUBLIC.items() for name in names}

__all__ = [*HOME]


def __getattr__(name: str) -> Any:
    if name not in HOME and name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    nbformat()  # before nbgrader imports it the slow way
    module = import_module(f".{HOME.get(name, name)}", __name__)
    return module if name in PUBLIC else getattr(module, name)


def __dir__() -> list[str]:
    return [*globals(), *HOME]
