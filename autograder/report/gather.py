"""From a graded class to plain results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autograder.exercise import AtMost, Exercise, Explanation, Scale

from . import snapshot
from .advice import BLANK, advice, parts
from .results import Change, ClassResults, ExerciseResult, Item, StudentResult

__all__ = ["read_results"]

NOT_RUN = "This check was not run: "  # how a check that a crash left over begins


def read_results(lesson: str, course_dir: Path | str) -> ClassResults:
    """The results of everyone who handed the lesson in, by student.

    What was read once is kept beside the class's pages and read from there until the gradebook changes, since nbgrader
    and the exercises take seconds to import. Raises CourseError where the folder is no class's, or the lesson is
    unknown to its gradebook.
    """
    course = Path(course_dir)
    kept = snapshot.load(lesson, course)
    if kept is not None:
        return kept
    from autograder import gradebook

    places = gradebook.places(course)
    stamp = snapshot.stamp(lesson, course, places.database, places.autograded, places.submitted)
    results = _results(lesson, course, gradebook.scores(lesson, course))
    if stamp:
        snapshot.save(results, course, stamp)
    return results


def _results(lesson: str, course: Path, rows: Iterable[Any]) -> ClassResults:
    from autograder.exercises import EXERCISES

    rows = list(rows)
    order = {exercise: number for number, exercise in enumerate(EXERCISES)}
    possible = {exercise: worth for row in rows for exercise, (_, worth) in row.exercises.items()}
    items = tuple(
        _item(exercise, possible[exercise], EXERCISES.get(exercise))
        for exercise in sorted(possible, key=lambda exercise: order.get(exercise, len(order)))
    )
    students = [_student(lesson, course, row, items, EXERCISES) for row in rows]
    known = {student.student for student in students}
    for folder in sorted((course / "submitted").glob(f"*/{lesson}")):
        if folder.parent.name not in known:
            students.append(StudentResult(folder.parent.name, 0.0, 0.0, set_aside="Not graded."))
    return ClassResults(lesson, items, tuple(sorted(students, key=lambda student: student.student)))


def _item(exercise: str, possible: float, record: Exercise | Explanation | None) -> Item:
    if not isinstance(record, Exercise):
        return Item(exercise, record.title if record else exercise, possible)
    ranked_by = next((c.name for c in record.criteria if isinstance(c.compare, Scale)), "")
    budgets = tuple(c.name for c in record.criteria if isinstance(c.compare, AtMost))
    return Item(exercise, record.title, possible, record.hints, ranked_by, budgets)


def _student(
    lesson: str, course: Path, row: Any, items: Iterable[Item], records: Mapping[str, Exercise | Explanation]
) -> StudentResult:
    done = [
        _exercise(item.exercise, row, records.get(item.exercise)) for item in items if item.exercise in row.exercises
    ]
    aside = row.problem
    handed_in = course / "submitted" / row.student
    if not aside and handed_in.is_dir() and not (handed_in / lesson / f"{lesson}.ipynb").is_file():
        aside = f"No file {lesson}.ipynb was handed in."
    return StudentResult(
        row.student,
        row.score,
        row.max_score,
        tuple(done),
        failures=() if aside else _failures(row.outcomes),
        changes=() if aside else tuple(map(_change, row.remarks)),
        set_aside=aside,
        seconds=row.seconds,
        **vars(row.person),
    )


def _exercise(exercise: str, row: Any, record: Exercise | Explanation | None) -> ExerciseResult:
    score, possible = row.exercises[exercise]
    outcome = next((one for one in row.outcomes if one.exercise == exercise), None)
    answer, note = row.answers.get(exercise, ""), row.notes.get(exercise, "")
    status = "full" if score >= possible else "partial" if score > 0 else "zero"
    if outcome is None:
        if exercise in row.waiting and not isinstance(record, Exercise):
            status = "by hand"
        elif score == 0:
            status = "not run" if isinstance(record, Exercise) else "zero" if note else "blank"
        return ExerciseResult(exercise, score, possible, status, answer=answer, note=note)
    if score < possible and outcome.verdict is None:
        status = "not run"
    elif score == 0 and outcome.message == BLANK:
        status = "blank"
    return ExerciseResult(
        exercise,
        score,
        possible,
        status,
        outcome.message,
        outcome.misconception,
        outcome.next_step,
        advice(outcome, record) if score < possible else "",
        parts(outcome),
        answer,
        note,
    )


def _failures(found: Iterable[Any]) -> tuple[str, ...]:
    """Why checks gave no verdict, each reason once."""
    reasons = [
        outcome.message.removeprefix(NOT_RUN)
        if outcome.message.startswith(NOT_RUN)
        else f"{outcome.exercise}: {outcome.message}"
        for outcome in found
        if outcome.verdict is None
    ]
    if len({reason.partition(": ")[2] for reason in reasons}) == 1 and len(reasons) > 2:
        return (reasons[0].partition(": ")[2] or reasons[0],)
    return tuple(dict.fromkeys(reasons))


def _change(remark: str) -> Change:
    """A remark of `repair` as a change, with what it could have done to the points."""
    grade_id, colon, what = remark.partition(": ")
    if not colon:
        return Change("", remark, "damage")
    exercise, _, role = grade_id.rpartition("-")
    shown_only, setup = grade_id.startswith("demo-"), grade_id.startswith("setup-")
    cell = "demonstration" if shown_only else "setup" if setup else f"{role} of {exercise.replace('-', '.', 1)}"
    gains = ("its points were changed", "its lock or kind was changed", "was tagged to be skipped")
    gain = what in gains or what == "its text was changed"
    return Change(cell, what, "noise" if shown_only else "gain" if gain else "damage")
