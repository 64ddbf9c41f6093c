"""A learner's own progress, for the course's first page and the command line: how far, what was met, what comes next.

    from autograder import home
    home.progress()                     # the page
    home.export("my-progress.csv")      # all that is kept, as a file of one's own
    home.delete()                       # all of it, for good

It is read from the learner's journal (`course_lib.journal`), which stays on the learner's machine.
"""

from .files import delete, export
from .forms import controls
from .page import Page, progress, remarks, rows
from .state import ExerciseState, LessonState, Met, PredictionState, Progress, gather

__all__ = [
    "ExerciseState",
    "LessonState",
    "Met",
    "Page",
    "PredictionState",
    "Progress",
    "controls",
    "delete",
    "export",
    "gather",
    "progress",
    "remarks",
    "rows",
]
