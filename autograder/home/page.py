"""The page that shows a learner's progress: HTML in the colours of JupyterLab's theme, and the same in plain text.

No colour says anything that a word or a sign does not say too; the bars stand beside the numbers that they draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from course_lib.journal import SWITCH, History, Journal, JournalError, data_dir, on

from .state import LessonState, Met, PredictionState, Progress, gather

__all__ = ["Page", "progress", "remarks", "rows"]

STYLE = """
.tdn-home{max-width:56em;padding:0 0 .5em;font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:14px;
line-height:1.45;color:var(--jp-ui-font-color1,#212121);background:var(--jp-layout-color0,#fff)}
.tdn-home p{margin:.4em 0}.tdn-home .tdn-soft{color:var(--jp-ui-font-color2,#555)}
.tdn-home .tdn-next{border-left:6px solid #0072b2;background:var(--jp-layout-color2,#f3f3f3);padding:.6em 1em;
margin:.3em 0 .9em}
.tdn-home .tdn-next b{font-size:16px}
.tdn-home ul.tdn-l.tdn-l{list-style:none;margin:0;padding:0}
.tdn-home ul.tdn-l.tdn-l>li{margin:0;padding:.55em 0;border-top:1px solid var(--jp-border-color2,#ddd)}
.tdn-home .tdn-row{display:flex;flex-wrap:wrap;gap:.1em 1em;align-items:baseline}
.tdn-home .tdn-name{flex:1 1 18em;font-weight:600}.tdn-home .tdn-count{flex:0 0 11.5em}
.tdn-home .tdn-bar{flex:0 1 11em;height:.75em;border:1px solid var(--jp-ui-font-color2,#555);border-radius:2px;
min-width:6em}
.tdn-home .tdn-bar span{display:block;height:100%;background:#0072b2}
.tdn-home .tdn-bar.full span{background:#009e73}
.tdn-home details{margin:.15em 0}.tdn-home summary{cursor:pointer}
.tdn-home ul.tdn-d.tdn-d{list-style:none;margin:.2em 0 .5em;padding:0}
.tdn-home ul.tdn-d.tdn-d>li{margin:.2em 0;padding-left:1.6em;text-indent:-1.6em}
.tdn-home ul.tdn-d li>b{display:inline-block;width:1.6em;text-indent:0;text-align:center}
.tdn-home code{overflow-wrap:anywhere}
"""


@dataclass(frozen=True)
class Page:
    """The page, ready to be shown. `trouble` is one line where the journal can't be read."""

    progress: Progress
    path: Path
    noting: bool
    trouble: str = ""

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    __repr__ = __str__

    def html(self) -> str:
        """A part of a page, self-contained: no script, nothing loaded."""
        lessons = "".join(f"<li>{_lesson(lesson)}</li>" for lesson in self.progress.lessons)
        trouble = f'<p role="status"><b>{escape(self.trouble)}</b></p>' if self.trouble else ""
        footer = "".join(f'<p class="tdn-soft">{line}</p>' for line in _footer(self, escape, "<code>{}</code>"))
        return (
            f'<style>{STYLE}</style><div class="tdn-home" role="group" aria-label="Your progress">'
            f"{_next(self.progress)}{trouble}"
            f'<ul class="tdn-l" aria-label="Lessons">{lessons}</ul>'
            f"{footer}</div>"
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self.html()}


def progress(folder: Path | None = None) -> Page:
    """Your progress in all lessons, to be shown in a notebook; `folder` is the lessons' (here, unless told)."""
    journal, trouble = Journal(data_dir()), ""
    try:
        history = journal.read()
    except JournalError as error:
        history, trouble = History({}, {}, ()), f"Your progress can't be shown: {error}."
    return Page(gather(history, Path(folder or Path.cwd())), journal.path, on(), trouble)


# ---------------------------------------------------------------- words


def _number(value: float) -> str:
    return f"{value:g}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _passed(lesson: LessonState) -> str:
    return f"{lesson.passed} of {_count(len(lesson.exercises), 'exercise')}"


def _facts(lesson: LessonState) -> str:
    """What a line has room for: points, predictions, misconceptions."""
    earned, possible = lesson.points
    parts = [f"{_number(earned)} of {_number(possible)} points"]
    if lesson.predictions:
        made = [one for one in lesson.predictions if one.answer]
        scored = [one.value for one in made if one.value is not None]
        told = f"{len(made)} of {_count(len(lesson.predictions), 'prediction')} made"
        if scored:
            told += f", scoring {_number(round(sum(scored), 2))} of {len(scored)}"
        parts.append(told)
    if lesson.met:
        mended = sum(met.mended for met in lesson.met)
        parts.append(f"{_count(len(lesson.met), 'misconception')} met, {mended} mended")
    return " · ".join(parts)


def _close(one: PredictionState) -> str:
    if not one.answer:
        return "not predicted yet"
    if one.value is None:
        return f"you predicted {one.answer}; the measurement was not shown yet"
    return f"you predicted {one.answer}: {one.value:.2g} of 1, {one.words}"


def _state(met: Met) -> str:
    return "mended since" if met.mended else "not mended yet"


def _footer(page: Page, plain: Any, code: str) -> Iterator[str]:
    path, switch = code.format(plain(str(page.path))), code.format(f"{SWITCH}=on")
    if not page.noting:
        command = code.format("course lab")
        yield f"Checks are not noted here: start JupyterLab with {command}, or set {switch}."
    yield f"All of this is kept in one file on your own machine, {path}, and sent nowhere."


def _lines(page: Page) -> Iterator[str]:
    yield from (f"{name}: {told}" for name, told in rows(page.progress))
    yield from remarks(page)


def remarks(page: Page) -> Iterator[str]:
    """What else there is to say, in plain text: what comes next, what is the matter, where all this is kept."""
    found = page.progress.next
    if found:
        lesson, one = found
        yield f"Next: {one.title}, in {lesson.title} (about {one.minutes} min)"
    elif page.progress.lessons:
        yield "Every exercise passes."
    if page.trouble:
        yield page.trouble
    yield from _footer(page, str, "{}")


def rows(progress: Progress) -> list[tuple[str, str]]:
    """Each lesson's name and what there is to say of it, in plain text."""
    return [(lesson.name, f"{_passed(lesson)} passed · {_facts(lesson)}") for lesson in progress.lessons]


# ---------------------------------------------------------------- HTML


def _link(link: str, text: str) -> str:
    return f'<a href="{escape(link, quote=True)}">{escape(text)}</a>' if link else escape(text)


def _next(progress: Progress) -> str:
    found = progress.next
    if not found:
        return '<p class="tdn-next">Every exercise passes. Well done.</p>' if progress.lessons else ""
    lesson, one = found
    begun = "Begin with" if not any(each.last for each in progress.lessons) else "Next:"
    if begun == "Begin with":
        return f'<p class="tdn-next"><b>{begun} {_link(lesson.link, lesson.title)}.</b></p>'
    return (
        f'<p class="tdn-next"><b>{begun} {_link(one.link, one.title)}</b><br>'
        f"in {escape(lesson.title)}, about {_count(one.minutes, 'minute')}</p>"
    )


def _lesson(lesson: LessonState) -> str:
    share = lesson.passed / len(lesson.exercises) if lesson.exercises else 0.0
    full = " full" if share == 1 else ""
    sign = "✔ " if share == 1 else ""
    digits = lesson.name.partition("_")[0]
    number = f"{digits.lstrip('0')}. " if digits.isdecimal() else ""
    return (
        f'<div class="tdn-row"><span class="tdn-name">{number}{_link(lesson.link, lesson.title)}</span>'
        f'<span class="tdn-bar{full}" aria-hidden="true"><span style="width:{100 * share:.0f}%"></span></span>'
        f'<span class="tdn-count">{sign}{_passed(lesson)}</span></div>'
        f'<details><summary>{escape(_facts(lesson))}<span style="{UNSEEN}"> in {escape(lesson.title)}</span></summary>'
        f"{_exercises(lesson)}{_predictions(lesson)}{_met(lesson)}</details>"
    )


UNSEEN = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap"


def _listed(title: str, items: list[tuple[str, str]]) -> str:
    """A titled list; each item is a sign, and the HTML that says in words what the sign says."""
    if not items:
        return ""
    rows = "".join(f'<li><b aria-hidden="true">{sign}</b>{html}</li>' for sign, html in items)
    return f'<p><b>{title}</b></p><ul class="tdn-d">{rows}</ul>'


def _exercises(lesson: LessonState) -> str:
    items = []
    for one in lesson.exercises:
        tries = f", {_count(one.tries, 'check')}" if one.tries else ""
        sign, word = ("✓", "passed") if one.passed else ("◐", "begun") if one.tries else ("○", "to do")
        points = f"{_number(one.best)} of {_number(one.points)} points{tries}, about {one.minutes} min"
        items.append((sign, f'{_link(one.link, one.title)} <span class="tdn-soft">{word}, {points}</span>'))
    if lesson.in_words:
        one = "one more is" if lesson.in_words == 1 else f"{lesson.in_words} more are"
        items.append(("✎", f'<span class="tdn-soft">{one} answered in words, and read by a person</span>'))
    return _listed("Exercises", items)


def _predictions(lesson: LessonState) -> str:
    items = []
    for one in lesson.predictions:
        told = f'{escape(one.question)} <span class="tdn-soft">{escape(_close(one))}</span>'
        items.append(("●" if one.answer else "○", told))
    return _listed("Predictions", items)


def _met(lesson: LessonState) -> str:
    items = []
    for met in lesson.met:
        told = f'{escape(met.message)} <span class="tdn-soft">{escape(met.title)}, {_state(met)}</span>'
        items.append(("✓" if met.mended else "○", told))
    return _listed("Misconceptions that you met", items)
