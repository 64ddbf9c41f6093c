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
"""

from __future__ import annotations

from autograder.submission import nbformat

nbformat()  # before nbgrader imports it the slow way

from .changes import changes  # noqa: E402
from .classroom import Class, open_class  # noqa: E402
from .database import DatabaseError, GradebookError, LockedError  # noqa: E402
from .grading import Graded, Pending, grade, pending, record, standing  # noqa: E402
from .pages import FeedbackExporter  # noqa: E402
from .pipeline import Repair, RunCells, SaveDiagnoses, SubmissionExporter  # noqa: E402
from .release import release  # noqa: E402
from .results import Person, Places, Score, feedback, places, scores  # noqa: E402
from .sanitize import Sanitize  # noqa: E402
from .tasks import store_of  # noqa: E402

__all__ = [
    "Class",
    "DatabaseError",
    "FeedbackExporter",
    "GradebookError",
    "Graded",
    "LockedError",
    "Pending",
    "Person",
    "Places",
    "Repair",
    "RunCells",
    "Sanitize",
    "SaveDiagnoses",
    "Score",
    "SubmissionExporter",
    "changes",
    "feedback",
    "grade",
    "open_class",
    "pending",
    "places",
    "record",
    "release",
    "scores",
    "standing",
    "store_of",
]
