"""How many points the exercises of a class are worth, where that is not what the course gives them.

A class says so in `points.toml`, beside its nbgrader_config.py:

    [08_dropout]
    "dropout.inverted_dropout" = 10     # another weight
    "dropout.keras_phase" = 0           # left out: to be tried, not graded

It is read when a lesson is released, and written into the class's source notebook; from there the gradebook has it, and
grading, reports and exports have it from the gradebook. The share of the points that an answer earns stays what it is.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError
from autograder.judge import DIGITS
from autograder.submission import MARK, TEXT_STUB, role_of

__all__ = ["FILE", "PointsError", "choose", "chosen_in", "read_points"]

FILE = "points.toml"
LARGEST = 100_000
ANSWER = re.compile(r"^[^\n]*BEGIN SOLUTION.*?END SOLUTION[^\n]*$", re.DOTALL | re.MULTILINE)


class PointsError(CourseError):
    """A points.toml that says what can't be."""


def read_points(course: Path, lesson: str) -> dict[str, float]:
    """The points that a class chose for exercises of a lesson: id -> points. Raises PointsError."""
    path = course / FILE
    try:
        table = tomllib.loads(path.read_text("utf-8")).get(lesson, {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PointsError(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise PointsError(f"cannot read {path}: {error.strerror}") from None
    if not isinstance(table, dict):
        raise PointsError(f'{path}: {lesson} is no table: write [{lesson}], then "<exercise>" = <points> on each line')
    for name, points in table.items():
        if isinstance(points, dict):
            raise PointsError(f'{path}: put quotes around the exercise: "{name}.{next(iter(points), "")}" = …')
        number = isinstance(points, int | float) and not isinstance(points, bool)
        if not number or not math.isfinite(points) or not 0 <= points <= LARGEST:
            raise PointsError(f"{path}: {name} = {points!r}: points are a number from 0 (left out) to {LARGEST}")
    return {name: round(float(points), DIGITS) for name, points in table.items()}


def choose(notebook: Any, points: Mapping[str, float], lesson: str) -> None:
    """Give the exercises in nbgrader's source notebook these points. One of 0 points stays, to be tried, ungraded.

    Raises PointsError for an exercise that the notebook doesn't have, and where nothing is left to grade.
    """
    graded = {role_of(cell)[1]: cell for cell in notebook.cells if role_of(cell)[0] in ("check", "explain")}
    for name in points:
        if name not in graded:
            has = ", ".join(graded)
            raise PointsError(f"{FILE}: {lesson} has no exercise {name!r}; it has {has}")
    for name, worth in points.items():
        cell = graded[name]
        role, options = role_of(cell)[0], cell.metadata.nbgrader
        if worth:
            options.points = int(worth) if worth == int(worth) else worth
            if role == "check":
                cell.source = _with_points(cell.source, options.points)
            continue
        if role == "check":  # locked, and not run when a class is graded
            del options["points"]
            options.grade, options.grade_id = False, f"demo-{options.grade_id}"
            cell.source = _with_points(cell.source, 0)
        else:  # nbgrader has no text cell that is answered and not graded
            del cell.metadata["nbgrader"]
            cell.source = ANSWER.sub(TEXT_STUB, cell.source)
    if set(graded) == {name for name, worth in points.items() if not worth}:
        raise PointsError(f"{FILE} leaves out every exercise of {lesson}")
    notebook.metadata.setdefault(MARK, {})["points"] = dict(points)


def _with_points(check: str, points: float) -> str:
    return f"{check.strip().removesuffix(')')}, points={points})"


def chosen_in(notebook: Any) -> dict[str, float]:
    """The points that a class chose for the exercises of a released notebook; empty where it chose none."""
    mark = notebook.metadata.get(MARK)
    points = mark.get("points") if isinstance(mark, dict) else None
    if not isinstance(points, dict):
        return {}
    return {str(name): float(worth) for name, worth in points.items() if isinstance(worth, int | float)}
