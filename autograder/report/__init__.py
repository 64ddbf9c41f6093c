"""How a class did in a lesson: a page for the class, one for each student, a table, and CSV for learning platforms.

`read_results` gathers plain results from a graded class; all else turns those into text. A page stands alone: no
script, nothing loaded from elsewhere, and whatever came from a learner is escaped.
"""

from __future__ import annotations

from .anonymous import anonymous
from .class_page import class_report
from .export import PLATFORMS, Exported, export
from .gather import read_results
from .pages import write_report, write_student_pages
from .results import STATES, Change, ClassResults, ExerciseResult, Item, Part, StudentResult
from .student_page import student_report
from .terminal import class_table

__all__ = [
    "PLATFORMS",
    "STATES",
    "Change",
    "ClassResults",
    "ExerciseResult",
    "Exported",
    "Item",
    "Part",
    "StudentResult",
    "anonymous",
    "class_report",
    "class_table",
    "export",
    "read_results",
    "student_report",
    "write_report",
    "write_student_pages",
]
