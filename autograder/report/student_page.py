"""One learner's page: what was earned, what went wrong and what to do next. Nothing of hidden cases or of others."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from .page import by, cut, facts, page, paragraph
from .results import STATES, ExerciseResult, Item, Part, StudentResult

__all__ = ["student_report"]

SAID = {
    "full": "right",
    "partial": "partly right",
    "zero": "not right yet",
    "blank": "left blank",
    "not run": "not checked",
    "by hand": "waits for a person",
}


def student_report(
    lesson: str,
    student: StudentResult,
    items: tuple[Item, ...],
    *,
    day: str = "",
    median_share: float | None = None,
    places: Mapping[str, tuple[int, int]] | None = None,
) -> str:
    """The learner's page as HTML.

    `median_share`, of the class's points, and `places` are all that it may say about others: the learner's place on an
    exercise's leaderboard, and how many are on it.
    """
    name = student.name or student.student
    title = f"{lesson}: {name}"
    known = {item.exercise: item for item in items}
    head = f'<header><h1>{escape(lesson)}</h1><p class="soft">{by(name)}{f", {escape(day)}" if day else ""}</p>'
    body = [head + _facts(student, median_share) + _bar(student, median_share) + "</header><main>", _file(student)]
    for number, one in enumerate(student.exercises, 1):
        item = known.get(one.exercise) or Item(one.exercise, one.exercise, one.max_score)
        body.append(_exercise(number, one, item, (places or {}).get(one.exercise)))
    if not student.exercises:
        body.append(paragraph("Nothing of this lesson is graded yet."))
    return page(title, [*body, "</main>"])


def _facts(student: StudentResult, median_share: float | None) -> str:
    told = [(f"{student.score:g} of {student.decided:g}", "points so far" if _waiting(student) else "points")]
    if student.decided > 0:
        told.append((f"{student.share:.0%}", "of them"))
    if _waiting(student):
        told.append((f"{student.max_score - student.decided:g}", "points wait for a person"))
    if median_share is not None:
        told.append((f"{median_share:.0%}", "in the middle of the class (median)"))
    return facts(told)


def _waiting(student: StudentResult) -> bool:
    return any(one.status == "by hand" for one in student.exercises)


def _bar(student: StudentResult, median_share: float | None) -> str:
    """The share as a bar over a scale in percent."""
    if student.decided <= 0:
        return ""
    width, share = 352, max(0.0, min(student.share, 1.0))
    text = f"{student.share:.0%} of the points"
    mark = ""
    if median_share is not None:
        text += f"; the class's median is {median_share:.0%}"
        x = 4 + width * max(0.0, min(median_share, 1.0))
        mark = f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="22"/>'
    ticks = "".join(
        f'<text x="{4 + width * k / 4:.0f}" y="36" text-anchor="{"start" if not k else "end" if k == 4 else "middle"}">'
        f"{25 * k}{'%' if k == 4 else ''}</text>"
        for k in range(5)
    )
    return (
        '<figure><svg viewBox="0 0 360 42" role="img" aria-labelledby="share-title">'
        f'<title id="share-title">{text}</title>'
        f'<rect class="panel" x="4" y="4" width="{width}" height="14"/>'
        f'<rect class="bar" x="4" y="4" width="{width * share:.1f}" height="14"/>{mark}{ticks}</svg>'
        + ("<figcaption>The upright line is the class's median.</figcaption>" if mark else "")
        + "</figure>"
    )


def _file(student: StudentResult) -> str:
    """What happened to the file and its run."""
    said = []
    if student.set_aside:
        said.append(f"Your file was not run. {student.set_aside} Hand in another, or ask.")
    said += [f"While your notebook ran: {failure}" for failure in student.failures]
    said += [f"Put right before grading, as it was released: {change}." for change in student.put_right]
    if not said:
        return ""
    return '<div class="note"><ul class="told">' + "".join(f"<li>{by(cut(text))}</li>" for text in said) + "</ul></div>"


def _exercise(number: int, one: ExerciseResult, item: Item, place: tuple[int, int] | None = None) -> str:
    kind = one.status.replace(" ", "-")
    sign = STATES.get(one.status, "?")
    waits = one.status == "by hand"
    points = f"{one.max_score:g} points" if waits else f"{one.score:g} of {one.max_score:g} points"
    missing = one.score < one.max_score
    body = []
    if (any(part.passed for part in one.parts) and missing) or (item.ranked_by and one.parts):
        body.append(_parts(one, item))
    if place:
        body.append(paragraph(f"Place {place[0]} of {place[1]} on the class's leaderboard."))
    if waits:
        body.append(paragraph("A person reads this answer; its points are not in yet."))
    if missing and one.advice:
        body.append(f"<p>{by(cut(one.advice))}</p>")
    if missing and one.next_step:
        body.append(f"<p><b>Next step.</b> {by(cut(one.next_step))}</p>")
    if one.note:
        body.append(f'<div class="note"><p><b>From your instructor.</b> {by(one.note)}</p></div>')
    if missing and item.hints:
        body.append(_hints(item.hints))
    return (
        f'<section class="card {escape(kind)}" aria-labelledby="e{number}"><div class="top">'
        f'<h2 id="e{number}">{number}. {escape(item.title)}</h2>'
        f'<p class="state"><span aria-hidden="true">{sign}</span> '
        f"{escape(SAID.get(one.status, one.status))}, {points}</p></div>" + "".join(body) + "</section>"
    )


def _parts(one: ExerciseResult, item: Item) -> str:
    rows = (
        f'<li><span aria-hidden="true">{"✓" if part.passed else "✗"}</span> {escape(part.name)}'
        f"{_measured(part, item)}: {_said(part)}</li>"
        for part in one.parts
    )
    return f'<ul class="plain">{"".join(rows)}</ul>'


def _measured(part: Part, item: Item) -> str:
    if part.measure is None:
        return ""
    return f", {part.measure:.1%}" if part.name == item.ranked_by else f", {part.measure:,.0f}"


def _said(part: Part) -> str:
    points = f", {part.points:g} of {part.max_points:g}" if part.max_points else ""
    if part.passed and part.points < part.max_points:
        return f"passed{points}: counts once what it builds on passes too"
    return ("passed" if part.passed else "failed") + points


def _hints(hints: tuple[str, ...]) -> str:
    """One hint inside the other: the second can only be opened after the first."""
    html = ""
    for number, hint in reversed(list(enumerate(hints, 1))):
        html = f"<details><summary>Hint {number} of {len(hints)}</summary><p>{escape(hint)}</p>{html}</details>"
    return html
