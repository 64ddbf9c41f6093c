"""The line that stands in every notebook: check("dropout.inverted_dropout", inverted_dropout).

Its result shows as a card in JupyterLab. Its plain-text form is the score, which stock nbgrader reads as partial
credit. Nothing goes to stderr, because nbgrader scores a cell that writes there as 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from course_lib import journal

from . import exercises
from .exercise import CourseError, Exercise
from .judge import VISIBLE_SEEDS, Verdict, try_out
from .probe.quiet import quiet

__all__ = ["VERDICT_MIME", "CheckResult", "check"]

VERDICT_MIME = "application/vnd.training-deep-nets.verdict+json"


@dataclass(frozen=True)
class CheckResult:
    """A verdict with its renderings: `repr` is the score, `str` the report in plain text, HTML the card."""

    exercise: Exercise
    verdict: Verdict
    said: str = ""
    notice: str = ""  # why this check could not be noted in the learner's journal

    def __repr__(self) -> str:
        return repr(self.verdict.score)

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {
            "text/plain": repr(self),
            "text/html": _card(self),
            VERDICT_MIME: self.verdict.as_data(),
        }


def check(exercise_id: str, candidate: Any, *, points: float | None = None) -> CheckResult:
    """Try `candidate` on the exercise's visible cases; `points` is what it is worth in a class that chose so.

    Raises CourseError where no exercise has this id. Whatever the candidate itself raises or prints becomes part
    of the result.
    """
    exercise = exercises.get(exercise_id)
    if not isinstance(exercise, Exercise):
        raise CourseError(f"{exercise_id} is graded by hand: it has no check")
    with quiet() as said:
        verdict = try_out(exercise, candidate, VISIBLE_SEEDS)
    if points is not None:
        verdict = verdict.weighted(points)
    return CheckResult(exercise, verdict, said.getvalue()[:2000], _note(verdict))


def _note(verdict: Verdict) -> str:
    """Note the check in the learner's journal, where there is one; a line that says why, where it can't be used."""
    diagnosis = verdict.diagnosis
    if not journal.noting() or _blank(verdict):
        return ""
    try:
        journal.Journal(journal.data_dir()).note_check(
            verdict.exercise,
            verdict.score,
            verdict.max_score,
            verdict.passed,
            (diagnosis.misconception if diagnosis else None) or "",
            diagnosis.message if diagnosis else "",
        )
    except Exception as error:  # whatever it is: a journal never stands between a learner and the answer
        return f"Not noted in your progress: {error}."
    return ""


def _blank(verdict: Verdict) -> bool:
    return bool(verdict.diagnosis and verdict.diagnosis.message == "Not answered yet.")


# ---------------------------------------------------------------- plain text


def _headline(result: CheckResult) -> str:
    verdict = result.verdict
    points = f"{_number(verdict.score)} of {_number(verdict.max_score)} points"
    if not verdict.max_score:
        points = "your class does not grade this exercise"
    if verdict.passed:
        return f"Right: {points}. The visible cases pass; grading uses others."
    if _blank(verdict):
        return f"Not answered yet: {points}."
    return f"Not right yet: {points}." if not verdict.score else f"Partly right: {points}."


def _lines(result: CheckResult) -> Iterator[str]:
    verdict, said = result.verdict, result.said
    yield f"{result.exercise.title}. {_headline(result)}"
    for criterion in verdict.criteria:
        mark = "✓" if criterion.passed else "✗"
        yield f"  {mark} {criterion.name} {_worth(criterion)}{': ' + criterion.seen if criterion.seen else ''}"
    if verdict.diagnosis:
        yield verdict.diagnosis.message
        if verdict.diagnosis.next_step:
            yield f"Next: {verdict.diagnosis.next_step}"
    if said:
        yield f"Your code printed: {said.strip()}"
    if result.notice:
        yield result.notice


def _worth(criterion: Any) -> str:
    return f"({_number(criterion.points)}/{_number(criterion.max_points)})" if criterion.max_points else "(not scored)"


def _number(points: float) -> str:
    return f"{points:g}"


# ---------------------------------------------------------------- the card

# Colours come from JupyterLab's theme where there is one; words and a sign say the state, never colour alone.
STYLE = """
.tdn-card{border:1px solid var(--jp-border-color1,#bdbdbd);border-left:6px solid var(--tdn);border-radius:4px;
padding:.7em 1em;margin:.3em 0;max-width:52em;font-family:var(--jp-ui-font-family,system-ui,sans-serif);
font-size:14px;line-height:1.45;color:var(--jp-ui-font-color1,#212121);background:var(--jp-layout-color1,#fff)}
.tdn-card.ok{--tdn:#009e73}.tdn-card.part{--tdn:#e69f00}.tdn-card.no{--tdn:#d55e00}.tdn-card.blank{--tdn:#8a8a8a}
.tdn-card p{margin:.35em 0}.tdn-card .head{font-weight:600}.tdn-card ul{list-style:none;margin:.4em 0;padding:0}
.tdn-card li{margin:.15em 0;padding-left:1.6em;text-indent:-1.6em}
.tdn-card li>b{display:inline-block;width:1.4em;text-indent:0}
.tdn-card .seen{color:var(--jp-ui-font-color2,#555)}.tdn-card .why{margin:.6em 0 .3em;padding:.5em .8em;
background:var(--jp-layout-color2,#f3f3f3);border-radius:3px}.tdn-card details{margin:.25em 0}
.tdn-card details details{margin-left:1.1em}.tdn-card summary{cursor:pointer;color:var(--jp-content-link-color,#0b57a4)}
.tdn-card pre{white-space:pre-wrap;margin:.3em 0;font-size:12px;color:inherit}
"""


def _card(result: CheckResult) -> str:
    exercise, verdict, said = result.exercise, result.verdict, result.said
    blank = _blank(verdict)
    state = "ok" if verdict.passed else "blank" if blank else "part" if verdict.score else "no"
    sign = {"ok": "✔", "part": "◐", "no": "✘", "blank": "○"}[state]
    head = escape(f"{exercise.title}. {_headline(result)}")
    parts = [f'<p class="head"><span aria-hidden="true">{sign}</span> {head}</p>']
    if not blank:
        parts.append("<ul>" + "".join(_row(criterion) for criterion in verdict.criteria) + "</ul>")
    if verdict.diagnosis:
        step = verdict.diagnosis.next_step
        next_step = f"<p><b>Next step.</b> {escape(step)}</p>" if step else ""
        parts.append(f'<div class="why"><p>{escape(verdict.diagnosis.message)}</p>{next_step}</div>')
    if said.strip():
        parts.append(f"<details><summary>What your code printed</summary><pre>{escape(said)}</pre></details>")
    if not verdict.passed:
        parts.append(_hints(exercise.hints))
    if result.notice:
        parts.append(f'<p class="seen"><small>{escape(result.notice)}</small></p>')
    label = escape(f"{exercise.title}: {_headline(result)}", quote=True)
    return (
        f'<style>{STYLE}</style><div class="tdn-card {state}" role="group" aria-label="{label}">{"".join(parts)}</div>'
    )


def _row(criterion: Any) -> str:
    mark, word = ("✓", "passed") if criterion.passed else ("✗", "failed")
    seen = f' <span class="seen">{escape(criterion.seen)}</span>' if criterion.seen else ""
    return f'<li><b title="{word}">{mark}</b>{escape(criterion.name)} {_worth(criterion)}{seen}</li>'


def _hints(hints: tuple[str, ...]) -> str:
    """One hint inside the other: the second can only be opened after the first."""
    html = ""
    for number, hint in reversed(list(enumerate(hints, 1))):
        html = f"<details><summary>Hint {number} of {len(hints)}</summary><p>{escape(hint)}</p>{html}</details>"
    return html
