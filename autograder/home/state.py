"""What a learner's journal says about each lesson, as plain records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from course_lib.journal import Check, History
from course_lib.predictions import PREDICTIONS, Prediction

from .. import exercises
from ..exercise import Exercise, Explanation

__all__ = ["ExerciseState", "LessonState", "Met", "PredictionState", "Progress", "gather"]


@dataclass(frozen=True)
class ExerciseState:
    """One exercise: the best score so far, whether a check of it ever passed, and how often it was checked.

    `link` leads to its cell, relative to the lessons' folder; empty where the lesson is not there.
    """

    id: str
    title: str
    points: float
    best: float
    passed: bool
    tries: int
    minutes: int
    link: str


@dataclass(frozen=True)
class Met:
    """A misconception that a check recognized; mended where a later check of the same exercise passed."""

    exercise: str
    title: str
    id: str
    message: str
    at: str
    mended: bool


@dataclass(frozen=True)
class PredictionState:
    """A question to predict: the answer in words (empty: none yet), and how close it came (None: not yet shown)."""

    id: str
    question: str
    answer: str
    value: float | None
    words: str


@dataclass(frozen=True)
class LessonState:
    """One lesson. `link` is empty where its notebook is not in the folder; `in_words` counts what a person grades."""

    name: str
    title: str
    link: str
    exercises: tuple[ExerciseState, ...]
    predictions: tuple[PredictionState, ...]
    met: tuple[Met, ...]
    in_words: int
    last: str  # when it was last worked on; empty: never

    @property
    def passed(self) -> int:
        return sum(one.passed for one in self.exercises)

    @property
    def points(self) -> tuple[float, float]:
        """Earned, and all there are."""
        return sum(one.best for one in self.exercises), sum(one.points for one in self.exercises)

    @property
    def unfinished(self) -> ExerciseState | None:
        """The first exercise that no check has passed yet."""
        return next((one for one in self.exercises if not one.passed), None)


@dataclass(frozen=True)
class Progress:
    """All lessons in their order."""

    lessons: tuple[LessonState, ...]

    @property
    def next(self) -> tuple[LessonState, ExerciseState] | None:
        """The first unfinished exercise: of the lesson last worked on, or else of the course. None: all are done."""
        latest = max(self.lessons, key=lambda lesson: lesson.last, default=None)
        begun = [latest] if latest is not None and latest.last else []
        return next(((lesson, one) for lesson in (*begun, *self.lessons) if (one := lesson.unfinished)), None)


def gather(
    history: History,
    folder: Path,
    records: Iterable[Exercise | Explanation] | None = None,
    predictions: Mapping[str, Prediction] = PREDICTIONS,
) -> Progress:
    """The progress that `history` tells of. `folder` holds the lessons' notebooks.

    What the journal knows of exercises that are gone is passed over here; an export still has it.
    """
    by_lesson: dict[str, list[Exercise | Explanation]] = {}
    for record in exercises.EXERCISES.values() if records is None else records:
        by_lesson.setdefault(record.lesson, []).append(record)
    checks: dict[str, list[Check]] = {}
    for check in history.checks:
        checks.setdefault(check.exercise, []).append(check)
    return Progress(
        tuple(
            _lesson(name, by_lesson[name], checks, history, folder, predictions.values()) for name in sorted(by_lesson)
        )
    )


def _lesson(
    name: str,
    records: list[Exercise | Explanation],
    checks: Mapping[str, list[Check]],
    history: History,
    folder: Path,
    predictions: Iterable[Prediction],
) -> LessonState:
    notebook = folder / name / f"{name}.ipynb"
    link = f"{name}/{name}.ipynb" if notebook.is_file() else ""
    coded = [record for record in records if isinstance(record, Exercise)]
    asked = [_prediction(one, history) for one in predictions if one.lesson == name]
    times = [check.last for one in coded for check in checks.get(one.id, ())]
    times += [history.commitments[one.id].at for one in asked if one.answer]
    return LessonState(
        name,
        _title(notebook) or name,
        link,
        tuple(_exercise(one, checks.get(one.id, []), link) for one in coded),
        tuple(asked),
        tuple(met for one in coded for met in _met(one, checks.get(one.id, []))),
        len(records) - len(coded),
        max(times, default=""),
    )


def _exercise(record: Exercise, checks: list[Check], link: str) -> ExerciseState:
    cell = record.id.replace(".", "-") + "-solution"  # its grade id, which is its cell's id
    return ExerciseState(
        record.id,
        record.title,
        record.points,
        max((check.score for check in checks), default=0.0),
        any(check.passed for check in checks),
        sum(check.times for check in checks),
        record.minutes,
        f"{link}#cell-id={cell}" if link else "",
    )


def _met(record: Exercise, checks: list[Check]) -> Iterable[Met]:
    """Each of the exercise's misconceptions that was met, once, as it was last seen."""
    last = {check.misconception: number for number, check in enumerate(checks) if check.misconception}
    passed = max((number for number, check in enumerate(checks) if check.passed), default=-1)
    for id, number in last.items():
        check = checks[number]
        yield Met(record.id, record.title, id, check.message, check.last, mended=passed > number)


def _prediction(prediction: Prediction, history: History) -> PredictionState:
    kept = history.commitments.get(prediction.id)
    answer = ""
    if kept is not None:
        try:
            answer = prediction.show(prediction.read(kept.answer))
        except ValueError:  # of an earlier edition of the question
            kept = None
    scored = history.scores.get(prediction.id) if kept else None
    value, words = (scored.value, scored.words) if scored else (None, "")
    return PredictionState(prediction.id, prediction.question, answer, value, words)


def _title(notebook: Path) -> str:
    """The notebook's first heading; empty where there is none."""
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        texts = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        lines = (line for text in texts for line in text.splitlines())
        return next((line[2:].strip() for line in lines if line.startswith("# ")), "")
    except (OSError, ValueError, KeyError, TypeError):
        return ""
