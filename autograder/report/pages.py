"""The pages of a class as files in its folder's reports/."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from statistics import median

from autograder.exercise import CourseError
from autograder.files import write_whole

from .anonymous import anonymous
from .class_page import class_report
from .gather import read_results
from .leaderboard import leaderboard
from .results import ClassResults
from .student_page import student_report

__all__ = ["write_report", "write_student_pages"]

CROWD = 5  # students; the median of fewer says what the others have


def write_report(
    lesson: str,
    course_dir: Path | str,
    *,
    results: ClassResults | None = None,
    pages: Mapping[str, Path] | None = None,
    nameless: bool = False,
) -> Path:
    """Write the class's page to reports/<lesson>.html in its folder; returns the path. Raises CourseError.

    `pages` are the students' own, to be linked. A page without names goes to reports/<lesson>-anonymous.html, beside
    the one with names, and has no links.
    """
    results = read_results(lesson, course_dir) if results is None else results
    folder = Path(course_dir) / "reports"
    if nameless:
        html = class_report(anonymous(results), day=date.today().isoformat())
        return write_whole(folder / f"{lesson}-anonymous.html", html)
    links = {student: path.relative_to(folder).as_posix() for student, path in (pages or {}).items()}
    return write_whole(folder / f"{lesson}.html", class_report(results, day=date.today().isoformat(), pages=links))


def write_student_pages(
    lesson: str,
    course_dir: Path | str,
    *,
    results: ClassResults | None = None,
    with_median: bool = False,
) -> dict[str, Path]:
    """Write each student's page to reports/students/<student>/<lesson>.html; returns the paths by student.

    `with_median` tells each the class's median share, in a class that is large enough to hide the others in it; so is
    each one's place on a leaderboard, where enough are on it. Raises CourseError where an id can't be a folder's name.
    """
    results = read_results(lesson, course_dir) if results is None else results
    folder = Path(course_dir) / "reports" / "students"
    shares = [student.share for student in results.graded]
    middle = median(shares) if with_median and len(shares) >= CROWD else None
    boards = {item.exercise: leaderboard(results, item) for item in results.items if item.ranked_by}
    pages = {}
    for student in results:
        id = student.student
        if id in ("", ".", "..") or set(id) & set("/\\\0"):
            raise CourseError(f"{id!r} can't be the name of a folder: give this student another id in the gradebook")
        places = {
            exercise: (place.rank, len(board))
            for exercise, board in boards.items()
            for place in board
            if place.student is student and len(board) >= CROWD
        }
        html = student_report(
            results.lesson,
            student,
            results.items,
            day=date.today().isoformat(),
            median_share=middle,
            places=places,
        )
        pages[id] = write_whole(folder / id / f"{lesson}.html", html)
    return pages
