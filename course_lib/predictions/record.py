"""The record of a question to predict, and how an answer to it is read and scored."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

LETTERS = "abcdefghij"
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?:/(\d+\.?\d*|\.\d+))?", re.IGNORECASE)
# The distance |answer − measured| / max(|answer|, |measured|) up to which a numeric answer earns a score:
# a factor of two, upwards or downwards, is a distance of 0.5.
BANDS = (
    (0.10, 1.0, "right on, within 10%"),
    (0.25, 0.75, "close, within 25%"),
    (0.50, 0.5, "the right size, within a factor of two"),
)


class PredictionError(ValueError):
    """An answer that does not fit its question, or a question that nobody registered."""


@dataclass(frozen=True)
class Choice:
    """One answer to choose. `name` is what a run measures; or else the range [low, high) that its number falls into."""

    name: str
    text: str
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_range(self) -> bool:
        return self.low > -math.inf or self.high < math.inf


@dataclass(frozen=True)
class Score:
    """`value` between 0 and 1, and the words that say why."""

    value: float
    words: str


@dataclass(frozen=True)
class Prediction:
    """A question that a learner answers before the lesson shows the measured answer.

    With `choices` the learner picks one; without, the learner gives a number in `unit`. `because` explains the
    measured answer and is shown with it, never before.
    """

    id: str
    lesson: str
    question: str
    choices: tuple[Choice, ...] = ()
    unit: str = ""
    because: str = ""

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.choices]
        if not self.id or not self.question:
            raise PredictionError("A prediction needs an id and a question.")
        if len(names) == 1 or len(names) > len(LETTERS) or len(set(names)) < len(names):
            raise PredictionError(f"{self.id}: give no choices, or 2 to {len(LETTERS)} with different names.")

    def letter(self, choice: Choice) -> str:
        return LETTERS[self.choices.index(choice)]

    def read(self, answer: str | float) -> str | float:
        """The answer as it is kept: a choice's name, or a finite number.

        A choice is given by its letter ("b") or its name; a number as such or as text ("0.25", "1/4", "4 ×").
        Raises PredictionError with one line that says what would do.
        """
        if self.choices:
            word = str(answer).strip().lower()
            for choice in self.choices:
                if word in (self.letter(choice), choice.name.lower()):
                    return choice.name
            letters = ", ".join(self.letter(choice) for choice in self.choices)
            raise PredictionError(f"{str(answer)[:40]!r} is none of the choices: give one of {letters}.")
        if isinstance(answer, bool):
            raise PredictionError("Give a number, such as 3 or 0.25 or 1/4.")
        if isinstance(answer, str):
            # "4 ×" and "4x" mean 4; "1 000" does not mean 1
            text = answer.strip().removesuffix(self.unit).removesuffix("x").strip()
            found = _NUMBER.fullmatch(text)
            if found is None:
                raise PredictionError(f"{answer[:40]!r} is not a number: give one such as 3 or 0.25 or 1/4.")
            divisor = float(found[2]) if found[2] else 1.0
            answer = float(found[1]) / divisor if divisor else math.inf
        number = float(answer)
        if not math.isfinite(number):
            raise PredictionError("Give a finite number, such as 3 or 0.25 or 1/4.")
        return number

    def right(self, measured: str | float) -> str | float:
        """The right answer, from what was measured: for choices the name of the one that it names or falls into.

        Raises PredictionError if no choice, or more than one, fits.
        """
        if not self.choices:
            return self.read(measured)
        if isinstance(measured, str):
            return self.read(measured)
        fitting = [c.name for c in self.choices if c.is_range and c.low <= measured < c.high]
        if len(fitting) != 1:
            raise PredictionError(f"{self.id}: {len(fitting)} choices fit the measured {measured!r}, not one.")
        return fitting[0]

    def show(self, answer: str | float) -> str:
        """An answer in words: the choice's letter and text, or the number with its unit."""
        if isinstance(answer, str) and self.choices:
            choice = next(c for c in self.choices if c.name == answer)
            return f"{self.letter(choice)}) {choice.text}"
        return f"{answer:.4g} {self.unit}".strip()

    def score(self, answer: str | float, measured: str | float) -> Score:
        """How good a committed answer is: right or wrong for a choice, by bands of relative error for a number."""
        right = self.right(measured)
        if self.choices:
            return Score(1.0, "right") if answer == right else Score(0.0, "not this one")
        larger = max(abs(answer), abs(right))
        distance = abs(answer - right) / larger if larger else 0.0
        for limit, value, words in BANDS:
            if distance <= limit + 1e-12:
                return Score(value, words)
        if answer and right / answer > 0:
            factor = max(answer / right, right / answer)
            return Score(0.0, f"too {'large' if abs(answer) > abs(right) else 'small'} by a factor of {factor:.3g}")
        return Score(0.0, "not this one")
