"""What a learner may read of a verdict: the diagnosis without the cases, which are to stay hidden.

Nothing is cut out of the finished message: it may quote a case's values in many ways, and the learner's code can put
what it was called with into an exception. The words here are made anew from the course's own texts.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

from autograder.exercise import Exercise, Explanation
from autograder.submission import Outcome

from .results import Part

__all__ = ["BLANK", "advice", "parts"]

BLANK = "Not answered yet."
RELATIONS = {
    "shape": "the shape is not the one that is expected.",
    "dtype": "the values are right, but the dtype is another. Keep the dtype of the input.",
    "nan": "there are values that are not finite, where finite ones are expected.",
    "factor": "yours is the right answer times a factor.",
    "transposed": "yours is the transpose of the right answer.",
    "reversed": "yours runs the other way along an axis.",
    "offset": "yours is the right answer plus a constant.",
    "one_slice": "only the first or the last slice along an axis is wrong.",
}
FORBIDDEN = "Your answer calls "  # how `diagnose` begins
RAISED = re.compile(r"(\w+) in (?:every case|the case “)")


def advice(outcome: Outcome, record: Exercise | Explanation | None) -> str:
    """What to tell the learner about an exercise that is not right."""
    if outcome.verdict is None or outcome.message in ("", BLANK):
        return outcome.message  # of the learner's own cells: no case was tried
    if not isinstance(record, Exercise):
        return _not_right(outcome, ())
    for misconception in record.misconceptions:
        if misconception.id == outcome.misconception:
            return _told(misconception.message, outcome.message)
    return _forbidden(outcome, record) or _raised(outcome) or _related(outcome, record)


def parts(outcome: Outcome) -> tuple[Part, ...]:
    """The criteria of a verdict."""
    found = (outcome.verdict or {}).get("criteria")
    try:
        return tuple(
            Part(
                str(one["name"]),
                float(one["points"]),
                float(one["max_points"]),
                bool(one["passed"]),
                None if one.get("measure") is None else float(one["measure"]),
            )
            for one in found
        )
    except (KeyError, TypeError, ValueError):
        return ()


def _told(template: str, message: str) -> str:
    """The misconception's text; of its facts only the ratio, which follows from the mistake and not from the case."""
    ratio = _ratio(template, message)
    template = template.replace("the case “{case}”", "one of the cases")
    return "".join(
        text + ("" if field is None else ratio if field == "ratio" else "…")
        for text, field, _, _ in Formatter().parse(template)
    )


def _ratio(template: str, message: str) -> str:
    """The ratio that the message names; an ellipsis where it does not read like the template."""
    pattern, seen = "", False
    for text, field, _, _ in Formatter().parse(template):
        pattern += re.escape(text)
        if field is not None:
            pattern += r"(-?\d+\.?\d*)" if field == "ratio" and not seen else ".*?"
            seen = seen or field == "ratio"
    found = re.fullmatch(pattern, message, re.DOTALL) if seen else None
    return found[1] if found else "…"


def _forbidden(outcome: Outcome, record: Exercise) -> str:
    if not outcome.message.startswith(FORBIDDEN):
        return ""
    names = [name for name in record.forbidden if name in outcome.message]
    return f"{FORBIDDEN}{', '.join(names) or 'something'}, which this exercise asks you to write yourself."


def _raised(outcome: Outcome) -> str:
    found = RAISED.match(outcome.message)
    error = getattr(builtins, found[1], None) if found else None  # the name of a class of the learner's says anything
    if not (isinstance(error, type) and issubclass(error, Exception)):
        return ""
    return f"Your code stops with {found[1]} in {'every case' if 'every case' in found[0] else 'one of the cases'}."


def _related(outcome: Outcome, record: Exercise) -> str:
    diagnosis = outcome.verdict.get("diagnosis")
    relation = diagnosis.get("relation") if isinstance(diagnosis, Mapping) else None
    wrong = [part.name for part in parts(outcome) if not part.passed]
    told = RELATIONS.get(relation) if isinstance(relation, str) else None
    known: list[Any] = [criterion.name for criterion in record.criteria if criterion.name in wrong]
    if told and known and outcome.message.startswith(f"{known[0]}: "):
        return f"{known[0]}: {told}"
    return _not_right(outcome, tuple(known))


def _not_right(outcome: Outcome, wrong: tuple[str, ...]) -> str:
    what = ": " + ", ".join(wrong) if wrong else ""
    return f"{'Only in part right' if outcome.score else 'Not right yet'}{what}."
