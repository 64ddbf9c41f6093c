"""The class on one page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from html import escape
from statistics import mean, median
from urllib.parse import quote

from . import figures
from .leaderboard import leaderboard
from .measures import EASY, ENOUGH, HARD, ItemSummary, Mistake, mistakes, summaries, unnamed
from .page import by, cut, facts, page, paragraph, section, table
from .results import STATES, ClassResults, ExerciseResult, Item, StudentResult

__all__ = ["class_report"]

TOP = 10  # misconceptions that are shown at once, and all that were seen more than once
FEW_LINES, MAX_LINES, MAX_CODE = 12, 60, 6000  # of a learner's code: shown at once, shown at all, in characters


def class_report(results: ClassResults, *, day: str = "", pages: Mapping[str, str] | None = None) -> str:
    """The class's page as HTML: points, exercises, misconceptions, failures, what was set aside or put right, students.

    `pages` maps students to the pages of their own, as paths from this page.
    """
    parts = []
    if results.graded:
        parts += [
            ("points", "Points and time", _points(results)),
            ("exercises", "Exercises", _exercises(results)),
            ("misconceptions", "What was misunderstood", _misconceptions(results)),
            ("failures", "Failures", _failures(results)),
        ]
        ranked = "".join(_leaderboard(results, item) for item in results.items if item.ranked_by)
        parts += [("leaderboard", "Leaderboard", ranked)] if ranked else []
    parts += [("aside", "Set aside", _set_aside(results)), ("changed", "Put right in the files", _changed(results))]
    if results.students:
        parts.append(("students", "Students", _students(results, pages or {})))
    links = "".join(f'<li><a href="#{id}">{escape(title)}</a></li>' for id, title, _ in parts)
    head = [
        f"<header><h1>{escape(results.lesson)}: the class</h1>",
        paragraph(day, "soft") if day else "",
        _facts(results),
        f'<nav aria-label="On this page"><ul>{links}</ul></nav></header>',
    ]
    title = f"{results.lesson}: the class"
    return page(title, [*head, "<main>", figures.HATCHES, *(section(*part) for part in parts), "</main>"])


def _facts(results: ClassResults) -> str:
    graded, seconds = results.graded, _seconds(results)
    told = [(str(len(results)), "submission" if len(results) == 1 else "submissions")]
    if graded:
        top = max(student.max_score for student in graded)
        told += [
            (f"{mean(student.share for student in graded):.0%}", "of the points on average"),
            (f"{median(student.score for student in graded):g}", f"of {top:g} points: median"),
        ]
    told.append((str(sum(bool(student.problems) for student in results)), "with a problem"))
    waiting = sum(any(one.status == "by hand" for one in student.exercises) for student in results)
    if waiting:
        told.append((str(waiting), "waits for a person" if waiting == 1 else "wait for a person"))
    if seconds:
        told.append((f"{median(seconds):.1f} s", "median run"))
    return facts(told)


def _figures(*figures_html: str) -> str:
    return f'<div class="figures">{"".join(figures_html)}</div>'


def _figure(svg: str, caption: str, extra_html: str = "") -> str:
    return f"<figure>{svg}{extra_html}<figcaption>{escape(caption)}</figcaption></figure>"


# ---------------------------------------------------------------- points and time


def _points(results: ClassResults) -> str:
    bins = [0] * 10
    for student in results.graded:  # the last bin holds 100% as well
        bins[max(0, min(int(student.share * 10 + 1e-9), 9))] += 1
    said = ", ".join(f"{10 * i} to {10 * i + 10}%: {n}" for i, n in enumerate(bins) if n)
    spread = figures.histogram(
        "spread",
        "Students by their share of the points",
        bins,
        [(k / 5, str(20 * k)) for k in range(6)],
        unit="share of the points (%)",
        what="students",
        told=f"Number of students by share of the points. {said}.",
    )
    waits = any(one.status == "by hand" for student in results.graded for one in student.exercises)
    hand = " What waits for grading by hand is left out." if waits else ""
    caption = f"Each student's share of the points.{hand} Two humps would mean two classes in one."
    return _figures(_figure(spread, caption), _time(results))


def _seconds(results: ClassResults) -> list[float]:
    return sorted(student.seconds for student in results if student.seconds is not None and student.seconds > 0)


def _time(results: ClassResults) -> str:
    seconds = _seconds(results)
    if not seconds:
        return paragraph("How long the runs took was not kept.", "soft")
    edges, ticks = figures.log_edges(seconds)
    counts = [0] * (len(edges) - 1)
    for value in seconds:
        counts[min(len(counts) - 1, max(0, bisect_right(edges, value * (1 + 1e-9)) - 1))] += 1
    runs = f"{len(seconds)} {'run' if len(seconds) == 1 else 'runs'}"
    told = f"{runs}, from {seconds[0]:.1f} to {seconds[-1]:.1f} s, median {median(seconds):.1f} s."
    unit = "seconds for a submission (logarithmic)"
    svg = figures.histogram(
        "seconds", "Runs by the seconds they took", counts, ticks, unit=unit, what="submissions", told=told
    )
    return _figure(svg, f"How long the submissions ran: {told} What stands far right is near the limit, or hung.")


# ---------------------------------------------------------------- exercises


def _exercises(results: ClassResults) -> str:
    items = summaries(results)
    labels = [f"{number}. {row.item.title}" for number, row in enumerate(items, 1)]
    counts = [_counts(row) for row in items]
    words = "; ".join(
        f"{row.item.title}: " + ", ".join(f"{n} {figures.STATE_NAMES[state]}" for state, n in count.items())
        for row, count in zip(items, counts, strict=True)
    )
    bars = figures.states(
        "states",
        "Learners by what they got for each exercise",
        list(zip(labels, counts, strict=True)),
        told=f"{words}.",
    )
    words = "; ".join(
        f"{row.item.title}: mean share {'not known' if row.mean_share is None else format(row.mean_share, '.0%')}, "
        f"discrimination {row.discrimination.told}"
        for row in items
    )
    drawn = [(label, row.mean_share, row.discrimination) for label, row in zip(labels, items, strict=True)]
    quality = figures.items("items", "Difficulty and discrimination of each exercise", drawn, told=f"{words}.")
    return _figures(
        _figure(
            bars,
            "Each bar is the whole class. Where the dotted part is wide, the exercise was tried and not understood.",
            figures.legend(),
        ),
        _figure(
            quality,
            "Left, the mean share of the points: the shorter, the harder. Right, the discrimination with its 95% "
            "interval. Near 0, an exercise does not tell strong learners from weak ones; below 0, look at it before "
            "the next class.",
        ),
    ) + _exercise_table(items)


def _counts(row: ItemSummary) -> dict[str, int]:
    counts = {state: row.states[state] for state in ("full", "partial", "zero", "blank")}
    counts["none"] = row.states["not run"] + row.states["by hand"]
    return {state: count for state, count in counts.items() if count}


def _exercise_table(items: Sequence[ItemSummary]) -> str:
    rows = []
    for number, row in enumerate(items, 1):
        counts = "".join(
            f'<td class="n">{row.states[state] or "–"}</td>' for state in ("full", "partial", "zero", "blank")
        )
        share = "–" if row.mean_share is None else f"{row.mean_share:.0%}"
        rest = row.states["not run"] + row.states["by hand"]
        found = row.discrimination
        interval = f" ({found.low:.2f} to {found.high:.2f})".replace("-", "−") if found.r is not None else ""
        rows.append(
            f'<tr><td class="n">{number}</td><th scope="row">{escape(row.item.title)} '
            f'<span class="id">{escape(row.item.exercise)}</span></th><td class="n">{row.item.max_score:g}</td>'
            f'<td class="n">{share}</td>{counts}<td class="n">{rest or "–"}</td><td>{row.difficulty}</td>'
            f'<td class="n">{found.told}{interval}</td><td class="n">{found.learners}</td></tr>'
        )
    caption = (
        "Mean share of the points, over all whose answer is graded (not given while answers wait for a person); how "
        "many earned all, some or none of them, left the exercise blank, or have no verdict (not run, or waiting). "
        f"Difficulty looks only at those who tried: easy from {EASY:.0%}, hard below {HARD:.0%}. Discrimination is the "
        "correlation of the exercise's points with those of all others (in brackets its 95% interval), over the "
        "learners in the last column: those whose checks all gave a verdict and who answered something. Below "
        f"{ENOUGH} learners it is not given."
    )
    names = ("No.", "Exercise", "Points", "Mean", "Full", "Partial", "Zero", "Blank", "No verdict", "Difficulty")
    head = [(name, "" if name in ("Exercise", "Difficulty") else "n") for name in names]
    return table(caption, [*head, ("Discrimination r", "n"), ("Learners", "n")], rows, "Exercises")


# ---------------------------------------------------------------- misconceptions


def _misconceptions(results: ClassResults) -> str:
    found, other = mistakes(results), unnamed(results.graded)
    note = ""
    if other:
        note = paragraph(
            f"{other} wrong {'answer was' if other == 1 else 'answers were'} wrong in a way that the catalogue does "
            "not know. Worth a look: a new misconception may be among them."
        )
    if not found:
        return paragraph("No catalogued misconception was seen.") + note
    often = max(TOP, sum(mistake.count > 1 for mistake in found))
    intro = paragraph(
        "Mistakes that the checks recognized, the most frequent first, each with one learner's answer.", "soft"
    )
    cards = "".join(map(_card, found[:often]))
    rest = found[often:]
    if rest:
        cards += f"<details><summary>{len(rest)} more, each seen once</summary>{''.join(map(_card, rest))}</details>"
    return intro + cards + note


def _card(mistake: Mistake) -> str:
    one = mistake.example
    step = f"<p><b>Next step.</b> {by(cut(one.next_step))}</p>" if one.next_step else ""
    return (
        f'<article class="card"><div class="top"><h3>{escape(mistake.misconception)} '
        f'<span class="id">{escape(mistake.item.title)}</span></h3>'
        f"<p><b>{mistake.count}</b> of {mistake.tried} who tried</p></div>"
        f"<p>{by(cut(one.message))}</p>{step}{_code(mistake)}</article>"
    )


def _code(mistake: Mistake) -> str:
    """One learner's answer; folded away where it is long."""
    lines = mistake.example.answer.strip().splitlines()
    if not lines:
        return ""
    code = cut("\n".join(lines[:MAX_LINES]), MAX_CODE) + ("\n…" if len(lines) > MAX_LINES else "")
    whose = f"The answer of {by(mistake.student.name or mistake.student.student)}"
    block = f'<pre tabindex="0"><code>{escape(code)}</code></pre>'
    if len(lines) > FEW_LINES:
        return f"<details><summary>{whose}, {len(lines)} lines</summary>{block}</details>"
    return f'<p class="soft">{whose}:</p>{block}'


# ---------------------------------------------------------------- leaderboard


def _leaderboard(results: ClassResults, item: Item) -> str:
    places = leaderboard(results, item)
    if not places:
        return paragraph(f"{item.title}: nobody is on the board yet.")
    rows = [
        f'<tr><td class="n">{place.rank}</td><th scope="row">{_who(place.student)}</th>'
        f'<td class="n">{place.share:.1%}</td>'
        + "".join(f'<td class="n">{"–" if used is None else format(used, ",.0f")}</td>' for used in place.used)
        + f'<td class="n">{place.points:g}</td></tr>'
        for place in places
    ]
    caption = (
        f"{item.title}: the learners who kept to the rules, by {item.ranked_by}; equal shares share a place. Each was "
        "tried on other cases of the same kind, so places whose shares are close may be chance."
    )
    head = [("Place", "n"), ("Student", ""), (item.ranked_by, "n"), *((name, "n") for name in item.budgets)]
    return table(caption, [*head, ("Points", "n")], rows, f"Leaderboard of {item.title}")


# ---------------------------------------------------------------- submissions


def _failures(results: ClassResults) -> str:
    rows = [
        f'<tr><th scope="row">{_who(student)}</th><td>{_list(student.failures)}</td>'
        f'<td class="n">{"–" if student.seconds is None else format(student.seconds, ".1f")}</td>'
        f'<td class="n">{student.score:g}</td></tr>'
        for student in results
        if student.failures
    ]
    if not rows:
        return paragraph("None: every notebook that was run came to its end.")
    head = [("Student", ""), ("What happened", ""), ("Seconds", "n"), ("Points", "n")]
    caption = "Runs in which a check gave no verdict, and the points that were given all the same."
    return table(caption, head, rows, "Failures")


def _set_aside(results: ClassResults) -> str:
    rows = [
        f'<tr><th scope="row">{_who(student)}</th><td>{by(cut(student.set_aside))}</td></tr>'
        for student in results
        if student.set_aside
    ]
    if not rows:
        return paragraph("None: every file that was handed in could be run.")
    caption = "Submissions that were not run, and why. Ask these learners for another file."
    return table(caption, [("Student", ""), ("Why", "")], rows, "Set aside")


def _changed(results: ClassResults) -> str:
    rows = [
        f'<tr><th scope="row">{_who(student)}</th><td>{_list(student.put_right)}</td>'
        f"<td>{'yes' if any(change.kind == 'gain' for change in student.changes) else 'no'}</td></tr>"
        for student in results
        if student.put_right
    ]
    noise = sum(change.kind == "noise" for student in results for change in student.changes)
    cells = "cell that is" if noise == 1 else "cells that are"
    left = f" {noise} changed {cells} only shown, and count for nothing, are left out." if noise else ""
    if not rows:
        return paragraph(f"Nothing: every file was as it was released.{left}")
    caption = (
        "Cells that differed from the release and were graded as released. The last column says whether the change "
        f"could have earned points; tools that strip metadata and a slip of the hand make changes too, so ask "
        f"first.{left}"
    )
    head = [("Student", ""), ("What was put right", ""), ("Could gain", "")]
    return table(caption, head, rows, "Put right")


def _list(texts: Sequence[str]) -> str:
    return '<ul class="told">' + "".join(f"<li>{by(cut(text))}</li>" for text in texts) + "</ul>"


# ---------------------------------------------------------------- students


def _students(results: ClassResults, pages: Mapping[str, str]) -> str:
    head = [("Student", ""), ("Points", "n"), ("Share", "n")]
    head += [(f'<abbr title="{escape(item.title)}">{n}</abbr>', "c") for n, item in enumerate(results.items, 1)]
    rows = []
    for student in results:
        done = {one.exercise: one for one in student.exercises}
        cells = "".join(_cell(done.get(item.exercise)) for item in results.items)
        share = f"{student.share:.0%}" if student.max_score else "–"
        rows.append(
            f'<tr><th scope="row">{_who(student, pages.get(student.student, ""))}</th>'
            f'<td class="n">{student.score:g} of {student.max_score:g}</td><td class="n">{share}</td>{cells}</tr>'
        )
    signs = ", ".join(f"{sign} {state}" for state, sign in STATES.items())
    caption = (
        "Points of each student; the share leaves out what still waits for grading by hand. The numbered columns are "
        f"the exercises above. {signs}."
    )
    return f'<div class="students">{table(caption, head, rows, "Students")}</div>'


def _cell(result: ExerciseResult | None) -> str:
    if result is None:
        return '<td class="c"></td>'
    kind = result.status.replace(" ", "-")
    points = f" {result.score:g}" if result.status in ("full", "partial", "zero") else ""
    return f'<td class="c {escape(kind)}" title="{escape(result.status)}">{STATES.get(result.status, "?")}{points}</td>'


def _who(student: StudentResult, path: str = "") -> str:
    name = by(student.name or student.student)
    if path:
        name = f'<a href="{escape(quote(path))}">{name}</a>'
    return f"{name} {by(student.student, 'id')}" if student.name else name
