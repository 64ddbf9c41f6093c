"""Points as CSV for a learning platform.

canvas   Canvas's gradebook import: Student, ID, SIS User ID, SIS Login ID, Section, then the assignment; the row
         "Points Possible" comes before the students. Canvas looks a student up by ID (its own number), then by SIS
         User ID, then by SIS Login ID, then by name. "<assignment> (<its number>)" finds an assignment that is there.
moodle   Moodle's grade import: whoever imports says which column is mapped to what, so the columns carry the names that
         Moodle's own export gives them. Grade and feedback go together: a feedback alone would remove the grade.
plain    everything that is known, for a spreadsheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from autograder.cells import csv_text, neutral
from autograder.exercise import CourseError
from autograder.files import write_whole

from .results import ClassResults, ExerciseResult, StudentResult

__all__ = ["IDENTIFIERS", "PLATFORMS", "Exported", "export"]

Row = Sequence[str | float | None]
PLATFORMS = ("canvas", "moodle", "plain")
# What a student is known by on the platform, and the column of Moodle's that holds it.
IDENTIFIERS: dict[str, tuple[str, Callable[[StudentResult], str]]] = {
    "email": ("Email address", lambda student: student.email),
    "idnumber": ("ID number", lambda student: student.lms_user_id),
    "username": ("Username", lambda student: student.student),
}
MAX_FEEDBACK = 4000  # characters; a spreadsheet's cell holds 32,767


@dataclass(frozen=True)
class Exported:
    """What was written: the rows' number, and the students about whom a person should know something.

    left_out    handed in, but not graded
    waiting     an answer waits for grading by hand, so the points are not final
    altered     an identifier begins like a formula and got an apostrophe: the platform won't know it
    """

    path: Path
    students: int
    left_out: tuple[str, ...]
    waiting: tuple[str, ...]
    altered: tuple[str, ...]


def export(
    results: ClassResults,
    platform: str,
    path: Path,
    *,
    identify: str | None = None,
    assignment_id: int | None = None,
    bom: bool = False,
) -> Exported:
    """Write the class's points to `path` for one of PLATFORMS.

    `identify` (one of IDENTIFIERS) is what students are known by there: Moodle's column, by default the address, or
    Canvas's login, by default nbgrader's id. `assignment_id` is Canvas's number of the assignment. `bom` marks the file
    as UTF-8 for Excel. Raises CourseError: nothing to export, a student without identifier, options that don't fit.
    """
    if platform not in PLATFORMS:
        raise CourseError(f"there is no export to {platform!r}: choose one of {', '.join(PLATFORMS)}")
    if identify is not None and platform == "plain":
        raise CourseError("a plain export holds every identifier: leave --identify out")
    if identify == "idnumber" and platform == "canvas":
        raise CourseError("Canvas's ID is always the roster's lms_user_id: --identify says what the login is")
    if assignment_id is not None and platform != "canvas":
        raise CourseError("only Canvas numbers assignments: leave --assignment-id out")
    if not results.graded:
        raise CourseError(f"nobody has points for {results.lesson} yet: run `course grade {results.lesson}` first")
    identify = identify or ("email" if platform == "moodle" else "username")
    known_as = IDENTIFIERS[identify][1]
    if platform != "plain":
        _require(results.graded, known_as, identify)
    rows = {
        "canvas": lambda: _canvas(results, known_as, assignment_id),
        "moodle": lambda: _moodle(results, known_as, IDENTIFIERS[identify][0]),
        "plain": lambda: _plain(results),
    }[platform]()
    write_whole(path, csv_text(rows), "utf-8-sig" if bom else "utf-8")
    return Exported(
        path,
        len(results.graded),
        tuple(student.student for student in results if not student.max_score),
        tuple(s.student for s in results.graded if any(one.status == "by hand" for one in s.exercises)),
        tuple(s.student for s in results.graded if platform != "plain" and _altered(s, known_as)),
    )


def _altered(student: StudentResult, known_as: Callable[[StudentResult], str]) -> bool:
    return any(neutral(id) != id for id in (known_as(student), student.lms_user_id))


def _require(students: Iterable[StudentResult], known_as: Callable[[StudentResult], str], identify: str) -> None:
    lacking = [student.student for student in students if not known_as(student)]
    if lacking:
        first = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        field = "email" if identify == "email" else "lms_user_id"
        raise CourseError(
            f"the gradebook has no {field} for {first}: add it by `nbgrader db student import`, or choose another "
            "--identify"
        )


def _canvas(
    results: ClassResults, known_as: Callable[[StudentResult], str], assignment_id: int | None
) -> Iterable[Row]:
    assignment = results.lesson + (f" ({assignment_id})" if assignment_id is not None else "")
    yield "Student", "ID", "SIS User ID", "SIS Login ID", "Section", assignment
    possible = max(student.max_score for student in results.graded)
    yield POINTS_POSSIBLE, None, None, None, None, possible
    for student in results.graded:
        last_first = ", ".join(filter(None, (student.last_name, student.first_name)))
        lms = student.lms_user_id
        own, sis = (int(lms), None) if lms.isascii() and lms.isdigit() else (None, lms)
        yield last_first or student.student, own, sis, known_as(student), None, student.score


POINTS_POSSIBLE = "Points Possible"


def _moodle(results: ClassResults, known_as: Callable[[StudentResult], str], column: str) -> Iterable[Row]:
    yield column, "First name", "Last name", results.lesson, "Feedback comments"
    for student in results.graded:
        yield known_as(student), student.first_name, student.last_name, student.score, feedback(student)


def feedback(student: StudentResult) -> str:
    """What to tell the learner, in one cell; HTML's own signs as entities, since Moodle shows it as HTML."""
    told = [f"Your file was not run: {student.set_aside}"] if student.set_aside else []
    told += list(student.failures)
    told += [_told(one) for one in student.exercises if one.score < one.max_score]
    text = escape(" | ".join(told) or "All right.", quote=False)
    return text if len(text) <= MAX_FEEDBACK else text[:MAX_FEEDBACK] + "…"


def _told(one: ExerciseResult) -> str:
    if one.status == "not run":  # why, stands among the failures
        said = "not checked"
    else:
        waits = "waits for a person" if one.status == "by hand" else ""
        said = " ".join(filter(None, (waits, one.advice, one.next_step, one.note)))
    return f"{one.exercise}, {one.score:g} of {one.max_score:g}" + (f": {said}" if said else "")


def _plain(results: ClassResults) -> Iterable[Row]:
    ids = [item.exercise for item in results.items]
    yield (
        *("student", "first_name", "last_name", "email", "lms_user_id", "points", "of", "waits_for_a_person"),
        *ids,
        *("seconds", "problems"),
    )
    for student in results.graded:
        points = {one.exercise: one.score for one in student.exercises if one.status != "by hand"}
        yield (
            *(student.student, student.first_name, student.last_name, student.email, student.lms_user_id),
            *(student.score, student.max_score, student.max_score - student.decided),
            *(points.get(exercise) for exercise in ids),
            student.seconds,
            " | ".join(student.problems),
        )
