"""An interactive figure: which policy was best for how many labels, which images and which budget, as T5 measured it.

DecisionFigure(claims.load("T5"))               # choices and figure; the four cases without a widget manager
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from course_lib.claims.intervals import bca_interval
from course_lib.claims.runner import Result
from course_lib.claims.transfer.policies import ADVICE, DIFFERENT, LABELS, SIMILAR, cell
from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.widgets.interactive import Interactive, View, choice, slider
from course_lib.widgets.svg import Axis, Panel, drawing, heading, text

__all__ = ["Case", "DecisionFigure", "Standing", "standings"]

KINDS = {"similar": SIMILAR, "different": DIFFERENT}
KIND_WORDS = {"similar": "like photographs", "different": "drawn or written"}
BEST, ADVISED, OTHER = COLOURS[2], COLOURS[4], COLOURS[0]
PANEL = 300  # width of one data set's panel
ROW = 30


@dataclass(frozen=True)
class Case:
    """What somebody has: few or many labels, similar or different images, seconds of one processor to spend."""

    amount: str
    kind: str
    budget: float

    def __post_init__(self) -> None:
        if (self.amount, self.kind) not in ADVICE or not self.budget > 0:
            raise PlotError("Give few or many labels, similar or different images, and a budget above 0 seconds.")


@dataclass(frozen=True)
class Standing:
    """How a policy came out in a case: on each of two data sets its error in % with the interval, and its seconds."""

    policy: str
    errors: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    seconds: float  # the longer of the two
    affordable: bool

    @property
    def error(self) -> float:
        return sum(self.errors) / len(self.errors)


def standings(result: Result, case: Case) -> tuple[Standing, ...]:
    """Every policy in the case, the best one that the budget affords first, then those that it does not afford."""
    error, seconds = (next(s for s in result.series if s.name == name) for name in ("test error", "time to train"))
    found = []
    for policy in error.arms:
        at = [cell(name, case.amount) for name in KINDS[case.kind]]
        values = [tuple(error.values(policy, x)) for x in at]
        longest = max(seconds.mean(policy, x) for x in at)
        means = tuple(float(np.mean(v)) for v in values)
        found.append(Standing(policy, means, tuple(map(_interval, values)), longest, longest <= case.budget))
    return tuple(sorted(found, key=lambda s: (not s.affordable, s.error)))


@lru_cache(maxsize=256)
def _interval(values: tuple[float, ...]) -> tuple[float, float]:
    return bca_interval(values)


def _lost(found: Sequence[Standing], case: Case) -> float:
    """By how many points the better of the advised policies is behind the best one."""
    advised = min(s.error for s in found if s.policy in ADVICE[case.amount, case.kind])
    return advised - min(s.error for s in found)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _panel(name: str, index: int, found: Sequence[Standing], case: Case, left: float, top: float, high: float) -> str:
    height = ROW * len(found)
    labels = LABELS[case.amount][name]
    panel = Panel(
        left,
        top,
        PANEL,
        height,
        Axis(f"test error in %: {name}, {labels} labels of each class", 0, high, _ticks(high)),
        Axis("", 0, len(found)),
    )
    parts = [panel.frame()]
    advised = ADVICE[case.amount, case.kind]
    for row, standing in enumerate(found):
        y = top + ROW * (row + 0.5)
        mean, (low, up) = standing.errors[index], standing.intervals[index]
        best = row == 0 and standing.affordable
        colour = BEST if best else ADVISED if standing.policy in advised else OTHER
        fade = 1 if standing.affordable else 0.3
        start, end = panel.x_of(low), panel.x_of(up)
        parts.append(
            f'<path d="M{start:.1f} {y:.1f}H{max(end, start + 1):.1f}" stroke="{colour}" stroke-width="7" '
            f'stroke-linecap="round" opacity="{0.45 * fade:.2f}"/>'
            f'<circle cx="{panel.x_of(mean):.1f}" cy="{y:.1f}" r="{6 if best else 4.5}" fill="{colour}" '
            f'stroke="currentColor" stroke-width="{1.6 if best else 0}" opacity="{fade}"/>'
        )
        # the figure stands beside its interval, on the side where there is room
        beside, anchor = (end + 8, "start") if end < left + PANEL - 44 else (start - 8, "end")
        parts.append(text(beside, y + 4, f"{mean:.1f}", anchor=anchor, size=11, extra=f'opacity="{max(fade, 0.5)}"'))
    return "".join(parts)


def _ticks(high: float) -> dict[float, str]:
    step = 20 if high > 50 else 10 if high > 20 else 5
    return {float(v): str(v) for v in range(0, int(high) + 1, step)}


def _draw_case(found: Sequence[Standing], case: Case, top: float) -> str:
    high = 5 + max(up for s in found for _, up in s.intervals)
    advised = ADVICE[case.amount, case.kind]
    parts = []
    for row, standing in enumerate(found):
        y = top + ROW * (row + 0.5) + 4
        best = row == 0 and standing.affordable
        words = standing.policy + (" (advised)" if standing.policy in advised else "")
        bold = 'font-weight="700"' if best else "" if standing.affordable else 'opacity="0.5"'
        parts.append(text(4, y, words, anchor="start", extra=bold))
        parts.append(text(250, y, f"{standing.seconds:.1f} s", anchor="end", size=11, extra=bold))
    for index, name in enumerate(KINDS[case.kind]):
        parts.append(_panel(name, index, found, case, 270 + index * (PANEL + 30), top, high))
    return "".join(parts)


def _sentence(found: Sequence[Standing], case: Case) -> str:
    first = found[0]
    where = f"{case.amount} labels, images {KIND_WORDS[case.kind]}, at most {case.budget:.1f} s"
    if not first.affordable:
        return f"{where}: no policy is quick enough."
    told = "; ".join(
        f"{name} {mean:.1f}% ({low:.1f} to {high:.1f})"
        for name, mean, (low, high) in zip(KINDS[case.kind], first.errors, first.intervals, strict=True)
    )
    return f"{where}: the best was “{first.policy}”, with an error of {told}."


CAPTION = (
    "What T5 measured. Each row is a policy, each panel a data set: the mean test error over the seeds, in a bar for "
    "its 95% interval; the seconds are those of one processor, the frozen part's pass included. The best policy that "
    "the budget affords stands first (green); what it does not afford is pale. Look at where the advised policy "
    "(yellow) is not the best one, and at how wide the bars are."
)


class DecisionFigure(Interactive):
    """The figure with its choices; where no widget manager is, `static()`: the four cases, one below the other."""

    caption = CAPTION

    def __init__(self, result: Result) -> None:
        if result.id != "T5":
            raise PlotError(f"The figure shows claim T5, not {result.id}.")
        self.result = result
        seconds = next(s for s in result.series if s.name == "time to train")
        self.most = float(np.ceil(max(seconds.mean(arm, x) for arm in seconds.arms for x in seconds.x)))
        cases = [Case(amount, kind, self.most) for amount, kind in ADVICE]
        self.goal = max(cases, key=lambda case: _lost(standings(result, case), case))
        self.start = next(c for c in cases if c.amount != self.goal.amount and c.kind != self.goal.kind)

    def static(self) -> Figure:
        body, top, told = "", 40.0, []
        for index, (amount, kind) in enumerate(ADVICE):
            case = Case(amount, kind, self.most)
            found = standings(self.result, case)
            told.append(_sentence(found, case))
            body += heading(4, top - 14, index, f"{amount} labels, images {KIND_WORDS[kind]}")
            body += _draw_case(found, case, top)
            top += ROW * len(found) + 85
        alt = "Errors of five policies in four cases. " + " ".join(told)
        return Figure(drawing(940, top - 20, body, alt), alt, CAPTION)

    def controls(self) -> dict[str, object]:
        return {
            "amount": choice("Labels", {"few": "few", "many": "many"}, self.start.amount),
            "kind": choice("Images", {words: kind for kind, words in KIND_WORDS.items()}, self.start.kind),
            "budget": slider(
                "Budget, seconds", self.most, 0.5, self.most, 0.5, tip="Processor seconds of a training", format=".1f"
            ),
        }

    def view(self, amount: str, kind: str, budget: float) -> View:
        case = Case(amount, kind, budget)
        found = standings(self.result, case)
        reached = case == self.goal
        ask = (
            "Your goal: of the four cases, find the one in which the advised policy (yellow) is furthest behind the "
            "best "
            "one, with the whole budget at hand. Then lower the budget: which policy is left last?"
        )
        if reached:
            ask += (
                f" ✓ Found: {amount} labels, images {KIND_WORDS[kind]}: {_lost(found, case):.1f} points behind "
                f"“{found[0].policy}”. Do the intervals of the two keep apart?"
            )
        body = _draw_case(found, case, 20) + text(470, 20 + ROW * len(found) + 62, _sentence(found, case), size=11)
        return View(drawing(940, ROW * len(found) + 95, body, _sentence(found, case)), ask, reached)
