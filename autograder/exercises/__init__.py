"""All exercises of the course, by id. One module a lesson; this list is the only one.

Others ship exercises in a package of their own, see `autograder.plugins`. Those are imported only when an exercise is
asked for that the course itself doesn't have, or when all are: a broken one then says so in one line, and never keeps a
learner from the course's own lessons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from ..exercise import CourseError, Exercise, Explanation
from ..plugins import plugins, title
from . import (
    activations,
    batch_norm,
    cnn_architectures,
    dropout,
    initialization,
    optimizers,
    regularization,
    transfer_learning,
    vanishing_gradients,
)

__all__ = ["EXERCISES", "get", "of_lesson"]

LESSONS = (
    vanishing_gradients,
    initialization,
    activations,
    batch_norm,
    transfer_learning,
    optimizers,
    regularization,
    dropout,
    cnn_architectures,
)

Record = Exercise | Explanation


class Registry(Mapping[str, Record]):
    """Records by id: the course's own, then those of other packages, which are loaded at the first need of them."""

    def __init__(self, own: Mapping[str, Record]) -> None:
        self._own = dict(own)
        self._all: dict[str, Record] | None = None

    def __getitem__(self, id: str) -> Record:
        return self._own[id] if id in self._own else self._with_plugins()[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._with_plugins())

    def __len__(self) -> int:
        return len(self._with_plugins())

    def _with_plugins(self) -> dict[str, Record]:
        if self._all is None:
            self._all = _with_plugins(self._own)
        return self._all


def _course() -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in (record for lesson in LESSONS for record in lesson.EXERCISES):
        if record.id in found:
            raise CourseError(f"two exercises have the id {record.id}")
        found[record.id] = record
    return found


def _with_plugins(own: Mapping[str, Record]) -> dict[str, Record]:
    found, owner = dict(own), dict.fromkeys(own, "the course")
    lessons = {record.lesson for record in own.values()}
    for entry in plugins():
        where = title(entry)
        try:
            records = tuple(entry.load())
        except Exception as error:
            raise CourseError(
                f"the exercises of {where} can't be loaded: {type(error).__name__}: {error}; mend that package or "
                "uninstall it"
            ) from error
        for record in records:
            if not isinstance(record, Record):
                raise CourseError(f"{where} ships {record!r:.60}, which is no Exercise and no Explanation")
            if record.id in found:
                raise CourseError(
                    f"{where} has an exercise {record.id}, and so has {owner[record.id]}: rename one, or uninstall "
                    "that package"
                )
            if record.lesson in lessons:
                raise CourseError(
                    f"{where} puts {record.id} into {record.lesson}, the course's lesson: give it a lesson of its own"
                )
            found[record.id], owner[record.id] = record, where
    return found


OWN = _course()
EXERCISES: Mapping[str, Record] = Registry(OWN)


def get(exercise_id: str) -> Record:
    """The exercise with this id. Raises CourseError, naming the nearest, where there is none."""
    try:
        return EXERCISES[exercise_id]
    except KeyError:
        near = get_close_matches(exercise_id, EXERCISES, n=1)
        hint = f"did you mean {near[0]}?" if near else "`course exercises` lists them all"
        raise CourseError(f"there is no exercise {exercise_id!r}: {hint}") from None


def of_lesson(lesson: str) -> list[Record]:
    """The exercises of one lesson folder, in the order of the lesson. Raises CourseError for an unknown lesson."""
    found = [record for record in EXERCISES.values() if record.lesson == lesson]
    if not found:
        known = ", ".join(dict.fromkeys(record.lesson for record in EXERCISES.values()))
        raise CourseError(f"there is no lesson {lesson!r} with exercises: there are {known}")
    return found
