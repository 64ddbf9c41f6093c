"""All exercises of the course, by id. One module a lesson; this list is the only one."""

from __future__ import annotations

from difflib import get_close_matches

from ..exercise import CourseError, Exercise, Explanation
from . import dropout

__all__ = ["EXERCISES", "get", "of_lesson"]

LESSONS = (dropout,)


def _registry() -> dict[str, Exercise | Explanation]:
    found: dict[str, Exercise | Explanation] = {}
    for lesson in LESSONS:
        for record in lesson.EXERCISES:
            if record.id in found:
                raise CourseError(f"two exercises have the id {record.id}")
            found[record.id] = record
    return found


EXERCISES = _registry()


def get(exercise_id: str) -> Exercise | Explanation:
    """The exercise with this id. Raises CourseError, naming the nearest, where there is none."""
    try:
        return EXERCISES[exercise_id]
    except KeyError:
        near = get_close_matches(exercise_id, EXERCISES, n=1)
        hint = f"did you mean {near[0]}?" if near else "`course exercises` lists them all"
        raise CourseError(f"there is no exercise {exercise_id!r}: {hint}") from None


def of_lesson(lesson: str) -> list[Exercise | Explanation]:
    """The exercises of one lesson folder, in the order of the lesson. Raises CourseError for an unknown lesson."""
    found = [record for record in EXERCISES.values() if record.lesson == lesson]
    if not found:
        known = ", ".join(dict.fromkeys(record.lesson for record in EXERCISES.values()))
        raise CourseError(f"there is no lesson {lesson!r} with exercises: there are {known}")
    return found
