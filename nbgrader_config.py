"""nbgrader's configuration for the course, and for every class that is graded with it.

It serves both a checkout of the course (`nbgrader generate_assignment 08_dropout` here writes lessons/08_dropout)
and a class's own folder, where a copy of this file stands next to submitted/ and gradebook.db.
"""

import os
from pathlib import Path

from autograder.submission import CODE_STUB, TEXT_STUB, quiet_environment

c = get_config()  # noqa: F821
os.environ.update(quiet_environment())  # for nbgrader itself and for every kernel that it starts

# ---- the course and its folders
c.CourseDirectory.course_id = "training_deep_nets"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "lessons"
# *.py: the lessons' sources, with all solutions, stand beside the notebooks and must not travel.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "*.py", ".*.part"]
c.FormgradeExtension.debug = False  # else its first page shows this configuration, a database's password too

# ---- the release
c.GenerateAssignment.force = True  # lessons/ is committed, so it always exists; without force nothing happens
c.ClearSolutions.code_stub = {"python": CODE_STUB}
c.ClearSolutions.text_stub = TEXT_STUB

# ---- grading
c.Autograde.exporter_class = "autograder.gradebook.SubmissionExporter"
c.Autograde.sanitize_preprocessors = [
    "nbgrader.preprocessors.ClearOutput",
    "autograder.gradebook.Repair",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
]  # CheckCellMetadata has nothing to find behind Repair, and takes a fifth of the time
c.Autograde.autograde_preprocessors = [
    "autograder.gradebook.RunCells",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "autograder.gradebook.SaveDiagnoses",
    "autograder.gradebook.Sanitize",
    "nbgrader.preprocessors.AssignLatePenalties",
]
c.Execute.timeout = 60  # seconds for one cell
c.RunCells.secret_file = str(Path(__file__).parent / ".cases-secret")  # graded checks draw their own cases from it
c.RunCells.notebook_timeout = 300  # seconds for all cells together

# ---- feedback: nbgrader's page, in which nothing of a learner's can run
c.GenerateFeedback.exporter_class = "autograder.gradebook.FeedbackExporter"
