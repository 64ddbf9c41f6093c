"""The class of the instructor's guide: what its three learners hand in, and what a person does in a browser there."""

from __future__ import annotations

import zipfile
from pathlib import Path

from installed import Installed

from autograder import demo
from autograder.exercise import Exercise
from autograder.exercises import EXERCISES

__all__ = ["LESSON", "WORDS", "hand_in"]

LESSON, WORDS = "08_dropout", "dropout.explain"
WRONG = "dropout.inverted_dropout"  # what Lí gets wrong
BY_HAND = 2.0  # what the instructor gives Ada for her answer in words


def hand_in(block: str, course: Installed) -> None:
    """Before a block of the guide: what the platforms offer for download, and what is graded in the formgrader."""
    downloads = course.home / "Downloads"
    if "course collect" in block:
        downloads.mkdir()
        release = (course.home / "autumn" / "lessons" / LESSON / f"{LESSON}.ipynb").read_bytes()
        ada, li = (_notebook(release, wrong) for wrong in ("", WRONG))
        with zipfile.ZipFile(downloads / "submissions.zip", "w") as archive:
            archive.writestr(f"momentumada_LATE_4711_800_{LESSON}.ipynb", release)
            archive.writestr(f"momentumada_LATE_4711_901_{LESSON}-1.ipynb", ada)
        with zipfile.ZipFile(downloads / "autumn-dropout-77.zip", "w") as archive:
            archive.writestr(f"Xiao Lí_20531_assignsubmission_file/{LESSON}.ipynb", li)
    if "--feedback" in block:
        _grade_by_hand(course.home / "autumn" / "gradebook.db")


def _notebook(release: bytes, wrong: str) -> bytes:
    """The lesson with every exercise right, but for one."""
    records = [record for record in EXERCISES.values() if isinstance(record, Exercise) and record.lesson == LESSON]
    answers = {
        record.id: record.misconceptions[0].wrong if record.id == wrong else record.variants[0].right
        for record in records
    }
    return demo.submission(demo.Learner("", "", "ordinary", answers), release)[0]


def _grade_by_hand(gradebook: Path) -> None:
    """What the formgrader does when somebody types points into its field."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{gradebook}") as opened:
        grade = opened.find_grade(f"{WORDS.replace('.', '-')}-explain", LESSON, LESSON, "ada")
        grade.manual_score, grade.needs_manual_grade = BY_HAND, False
        opened.db.commit()
