"""All exercises of the course, by id. One module a lesson; this list is the only one.

Others ship exercises in a package of their own, by an entry point of the group `training_deep_nets.exercises` that
names a sequence of records.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import entry_points

from ..exercise import CourseError, Exercise, Explanation
from . import (
    activations,
    batch_norm,
    dropout,
    initialization,
    optimizers,
    regularization,
    transfer,
    vanishing_gradients,
)

__all__ = ["EXERCISES", "get", "of_lesson"]

LESSONS = (
    vanishing_gradients,
    initialization,
    activations,
    batch_norm,
    transfer,
    optimizers,
    regularization,
    dropout,
)
GROUP = "training_deep_nets.exercises"


def _records() -> Iterator[Exercise | Explanation]:
    for lesson in LESSONS:
        yield from lesson.EXERCISES
    for entry in entry_points(group=GROUP):
        try:
            yield from entry.load()
        except Exception as error:
            where = f"{entry.value} (of {entry.dist.name if entry.dist else 'an unknown package'})"
            raise CourseError(f"the exercises in {where} can't be loaded: {type(error).__name__}: {error}") from error


def _registry() -> dict[str, Exercise | Explanation]:
    found: dict[str, Exercise | Explanation] = {}
    for record in _records():
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
