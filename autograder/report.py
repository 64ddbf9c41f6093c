"""How a class did in a lesson: one page for the browser, one table for the terminal.

`class_report` and `class_table` turn plain results into text; `read_results` gathers them from a graded class.
The page stands alone: no script, nothing loaded from elsewhere, and whatever came from a learner is escaped.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path
from statistics import mean, median

from autograder import exercises, gradebook
from autograder.exercise import CourseError
from autograder.submission import NotebookError, Outcome, given_by, parse, repair

__all__ = [
    "ExerciseResult",
    "StudentResult",
    "class_report",
    "class_table",
    "read_results",
    "write_report",
]

# How an exercise came out, best first; the signs keep the states apart where colours can't.
STATES = {"full": "●", "partial": "◐", "zero": "✗", "blank": "–", "not run": "!", "by hand": "✎"}
HARD, EASY = 0.5, 0.8  # mean share of the points, among those who tried
TOP = 10  # misconceptions that are shown at once, and all that were seen more than once
MAX_MESSAGE = 500


@dataclass(frozen=True)
class ExerciseResult:
    """One learner's exercise. `status` is one of STATES; `message` says why points are missing."""

    exercise: str
    score: float
    max_score: float
    status: str
    message: str = ""
    misconception: str | None = None


@dataclass(frozen=True)
class StudentResult:
    """One learner's lesson. `problems` are those of the submission: crashed, timed out, tampered with, set aside."""

    student: str
    score: float
    max_score: float
    exercises: tuple[ExerciseResult, ...] = ()
    problems: tuple[str, ...] = ()
    name: str = ""


# ---------------------------------------------------------------- a graded class -> results


def read_results(
    lesson: str, course_dir: Path | str, names: Mapping[str, str] | None = None
) -> tuple[StudentResult, ...]:
    """The results of everyone who handed the lesson in, by student; `names` maps ids to names.

    Raises CourseError where the folder is no class's, or the lesson is unknown to its gradebook.
    """
    course, names = Path(course_dir), names or {}
    order = {record.id: number for number, record in enumerate(exercises.EXERCISES.values())}
    results = []
    for row in gradebook.scores(lesson, course):
        found = {outcome.exercise: outcome for outcome in row.outcomes}
        done = [
            _exercise_result(exercise, score, possible, found.get(exercise), row.needs_manual_grade)
            for exercise, (score, possible) in row.exercises.items()
        ]
        done.sort(key=lambda result: order.get(result.exercise, len(order)))
        problems = (*_run_problems(row.outcomes), *_file_problems(lesson, course, row.student))
        name = names.get(row.student, "")
        results.append(StudentResult(row.student, row.score, row.max_score, tuple(done), problems, name))
    known = {result.student for result in results}
    for folder in sorted((course / "submitted").glob(f"*/{lesson}")):
        if folder.parent.name not in known:
            student = folder.parent.name
            results.append(StudentResult(student, 0.0, 0.0, (), ("Not graded.",), names.get(student, "")))
    return tuple(sorted(results, key=lambda result: result.student))


def _exercise_result(
    exercise: str, score: float, possible: float, outcome: Outcome | None, waiting: bool
) -> ExerciseResult:
    status = "full" if score >= possible else "partial" if score > 0 else "zero"
    if outcome is None:  # graded by hand
        status = ("by hand" if waiting else "blank") if score == 0 else status
        return ExerciseResult(exercise, score, possible, status)
    if score < possible and outcome.verdict is None:
        status = "not run"
    elif score == 0 and outcome.message == "Not answered yet.":
        status = "blank"
    return ExerciseResult(exercise, score, possible, status, outcome.message, outcome.misconception)


def _run_problems(found: Iterable[Outcome]) -> tuple[str, ...]:
    """Why checks gave no verdict, each reason once."""
    prefix = "This check was not run: "
    reasons = [
        outcome.message.removeprefix(prefix)
        if outcome.message.startswith(prefix)
        else f"{outcome.exercise}: {outcome.message}"
        for outcome in found
        if outcome.verdict is None
    ]
    if len(set(reason.partition(": ")[2] for reason in reasons)) == 1 and len(reasons) > 2:
        return (reasons[0].partition(": ")[2] or reasons[0],)
    return tuple(dict.fromkeys(reasons))


def _file_problems(lesson: str, course: Path, student: str) -> tuple[str, ...]:
    """What grading had to put right in the file that was handed in, compared with the release."""
    try:
        release = parse((course / "lessons" / lesson / f"{lesson}.ipynb").read_bytes(), "the release")
        notebook = parse((course / "submitted" / student / lesson / f"{lesson}.ipynb").read_bytes(), "the submission")
    except FileNotFoundError as error:
        return () if "lessons" in Path(error.filename).parts[-3:] else (f"No file {lesson}.ipynb was handed in.",)
    except (OSError, NotebookError):
        return ()  # the reason is in what the checks say
    given = given_by(release)
    by_change: dict[str, list[str]] = {}
    for remark in map(str, repair(notebook, given)):
        cell, _, change = remark.partition(": ")
        by_change.setdefault(change, []).append(_cell_name(cell))
    return tuple(
        f"Put right: {cells[0]}{f' and {len(cells) - 1} more' if len(cells) > 1 else ''}: {change}."
        for change, cells in by_change.items()
    )


def _cell_name(grade_id: str) -> str:
    """What to call a cell: "dropout-module-check" -> "check of dropout.module", "setup-1f3a" -> "setup"."""
    if grade_id.startswith(("setup-", "demo-")):
        return grade_id.partition("-")[0]
    exercise, _, role = grade_id.rpartition("-")
    return f"{role} of {exercise.replace('-', '.', 1)}"


def write_report(
    lesson: str,
    course_dir: Path | str,
    *,
    names: Mapping[str, str] | None = None,
    results: Sequence[StudentResult] | None = None,
) -> Path:
    """Write the class's page to reports/<lesson>.html in its folder; returns the path. Raises CourseError."""
    page = Path(course_dir) / "reports" / f"{lesson}.html"
    if results is None:
        results = read_results(lesson, course_dir, names)
    html = class_report(lesson, results, day=date.today().isoformat())
    part = page.with_name(f".{page.name}.part")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(html, "utf-8")
        part.replace(page)
    except OSError as error:
        raise CourseError(f"cannot write {page}: {error.strerror}") from None
    return page


# ---------------------------------------------------------------- figures over the class


@dataclass(frozen=True)
class _Summary:
    """One exercise over the class."""

    exercise: str
    title: str
    max_score: float
    mean_share: float | None
    states: Counter[str]
    difficulty: str


@dataclass(frozen=True)
class _Mistake:
    """One misconception over the class."""

    exercise: str
    title: str
    misconception: str
    count: int
    tried: int
    message: str


def _title(exercise: str) -> str:
    record = exercises.EXERCISES.get(exercise)
    return record.title if record else exercise


def _share(result: StudentResult | ExerciseResult) -> float:
    """Of the points that are decided: what waits for grading by hand is left out."""
    waiting = [one.max_score for one in getattr(result, "exercises", ()) if one.status == "by hand"]
    decided = result.max_score - sum(waiting)
    return result.score / decided if decided > 0 else 0.0


def _exercise_ids(results: Iterable[StudentResult]) -> list[str]:
    return list(dict.fromkeys(done.exercise for result in results for done in result.exercises))


def _summaries(results: Sequence[StudentResult]) -> list[_Summary]:
    rows = []
    for exercise in _exercise_ids(results):
        done = [one for result in results for one in result.exercises if one.exercise == exercise]
        tried = [_share(one) for one in done if one.status in ("full", "partial", "zero")]
        decided = [_share(one) for one in done if one.status != "by hand"]
        level = mean(tried) if tried else None
        rows.append(
            _Summary(
                exercise,
                _title(exercise),
                max(one.max_score for one in done),
                mean(decided) if decided else None,
                Counter(one.status for one in done),
                "–" if level is None else "hard" if level < HARD else "medium" if level < EASY else "easy",
            )
        )
    return rows


def _mistakes(results: Sequence[StudentResult]) -> list[_Mistake]:
    """The misconceptions that were named, most frequent first."""
    done = [one for result in results for one in result.exercises]
    tried = Counter(one.exercise for one in done if one.status in ("full", "partial", "zero"))
    counts = Counter((one.exercise, one.misconception) for one in done if one.misconception)
    example = {(one.exercise, one.misconception): one.message for one in reversed(done)}
    rows = [
        _Mistake(exercise, _title(exercise), name, count, tried[exercise], example[exercise, name])
        for (exercise, name), count in counts.items()
        if name
    ]
    return sorted(rows, key=lambda row: (-row.count, row.exercise, row.misconception))


def _unnamed(results: Sequence[StudentResult]) -> int:
    """Wrong answers that no entry of the catalogue explains."""
    done = [one for result in results for one in result.exercises]
    return sum(1 for one in done if one.status in ("zero", "partial") and one.message and not one.misconception)


# ---------------------------------------------------------------- the page

STYLE = """
:root{color-scheme:light dark;--ink:#1c1f23;--soft:#565d66;--paper:#fff;--panel:#f4f5f7;--line:#d3d7dc;
--full:#00795a;--partial:#b27300;--zero:#b8471b;--blank:#7a828c;--bar:#2a6fb0}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a8b0ba;--paper:#16181b;--panel:#212429;--line:#3b4047;
--full:#35c79c;--partial:#f0b03c;--zero:#f58a5c;--blank:#98a1ab;--bar:#6cabe8}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1.2rem 4rem;max-width:72rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2.4rem 0 .5rem}p{margin:.4rem 0;max-width:60rem}
.soft{color:var(--soft)}.facts{display:flex;flex-wrap:wrap;gap:.7rem;margin:1.2rem 0;padding:0;list-style:none}
.facts li{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.5rem .9rem;min-width:8rem}
.facts b{display:block;font-size:1.5rem;line-height:1.25}
.wide{overflow-x:auto}.wide:focus-visible{outline:2px solid var(--bar)}
table{border-collapse:collapse;width:100%;font-size:.93rem}
caption{text-align:left;color:var(--soft);padding:.2rem 0 .5rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .55rem;border-bottom:1px solid var(--line)}
thead th{border-bottom:2px solid var(--line)}tbody th{font-weight:600}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.c{text-align:center;white-space:nowrap}
.full{color:var(--full)}.partial{color:var(--partial)}.zero{color:var(--zero)}.blank,.not-run,.by-hand{color:var(--blank)}
.id{font-size:.85em;color:var(--soft);overflow-wrap:anywhere;font-weight:400}
summary{cursor:pointer;padding:.5rem 0;color:var(--bar)}
svg{max-width:100%;height:auto;display:block}svg text{fill:var(--ink);font:13px system-ui,sans-serif}
svg .axis{stroke:var(--soft)}svg .bar{fill:var(--bar)}
ul.problems{margin:0;padding-left:1.1rem}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--paper:#fff;--panel:#fff;--line:#bbb;--full:#005c44;
--partial:#7a4f00;--zero:#8f3210;--blank:#555;--bar:#2a6fb0}body{max-width:none;padding:0;font-size:11pt}
.wide{overflow:visible}table{font-size:9pt}tr,svg{break-inside:avoid}h2{break-after:avoid}}
"""


def class_report(lesson: str, results: Sequence[StudentResult], *, day: str = "") -> str:
    """The class's page as HTML: distribution, exercises, misconceptions, problems, points of each student."""
    graded = [result for result in results if result.max_score]
    body = [
        f"<h1>{escape(lesson)}: the class</h1>",
        f'<p class="soft">{escape(day)}</p>' if day else "",
        _facts(results, graded),
    ]
    if graded:
        body += [
            _section("points", "How the points are spread", _histogram(graded)),
            _section("exercises", "Exercises", _exercise_table(graded)),
            _section("misconceptions", "What was misunderstood", _mistake_table(graded)),
        ]
    body += [_section("problems", "Submissions with problems", _problem_table(results))]
    if results:
        body += [_section("students", "Students", _student_table(results))]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(lesson)}: the class</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def _section(id: str, title: str, content: str) -> str:
    return f'<section aria-labelledby="{id}"><h2 id="{id}">{title}</h2>\n{content}\n</section>'


def _facts(results: Sequence[StudentResult], graded: Sequence[StudentResult]) -> str:
    facts = [(str(len(results)), "submission" if len(results) == 1 else "submissions")]
    if graded:
        top = max(result.max_score for result in graded)
        facts += [
            (f"{mean(_share(result) for result in graded):.0%}", "of the points on average"),
            (f"{median(result.score for result in graded):g}", f"points of {top:g} in the middle (median)"),
        ]
    facts.append((str(sum(bool(result.problems) for result in results)), "with a problem"))
    waiting = sum(any(one.status == "by hand" for one in result.exercises) for result in results)
    if waiting:
        facts.append((str(waiting), "wait for grading by hand"))
    return '<ul class="facts">' + "".join(f"<li><b>{escape(a)}</b>{escape(b)}</li>" for a, b in facts) + "</ul>"


def _histogram(graded: Sequence[StudentResult]) -> str:
    """Number of students by share of the points, in tenths; the last bin holds 100% as well."""
    bins = [0] * 10
    for result in graded:
        bins[max(0, min(int(_share(result) * 10 + 1e-9), 9))] += 1
    top, left, floor, height, width = max(bins), 46, 210, 170, 58
    text = ", ".join(f"{10 * i} to {10 * i + 10}%: {n}" for i, n in enumerate(bins) if n)
    parts = []
    for i, n in enumerate(bins):
        x, tall = left + i * width, round(height * n / top, 1)
        if n:
            parts.append(f'<rect class="bar" x="{x + 4}" y="{floor - tall}" width="{width - 8}" height="{tall}"/>')
            parts.append(f'<text x="{x + width / 2}" y="{floor - tall - 6}" text-anchor="middle">{n}</text>')
        parts.append(f'<text x="{x}" y="{floor + 18}" text-anchor="middle">{10 * i}</text>')
    end = left + 10 * width
    parts.append(f'<text x="{end}" y="{floor + 18}" text-anchor="middle">100</text>')
    parts.append(f'<line class="axis" x1="{left}" y1="{floor}" x2="{end}" y2="{floor}"/>')
    parts.append(f'<text x="{(left + end) / 2}" y="{floor + 40}" text-anchor="middle">share of the points (%)</text>')
    middle = floor - height / 2
    turned = f'x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})"'
    parts.append(f"<text {turned}>students</text>")
    return (
        f'<svg viewBox="0 0 {end + 24} {floor + 50}" width="{end + 24}" role="img" aria-labelledby="h-title h-desc">'
        f'<title id="h-title">Students by share of the points</title><desc id="h-desc">{text}</desc>'
        + "".join(parts)
        + "</svg>"
    )


def _table(caption: str, head: Sequence[tuple[str, str]], rows: Iterable[str], label: str) -> str:
    """A table; `head` pairs the HTML of each column's heading with its class."""
    columns = "".join(f'<th scope="col"{f" class={kind!r}" if kind else ""}>{text}</th>' for text, kind in head)
    return (
        f'<div class="wide" role="region" aria-label="{escape(label)}" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _exercise_table(graded: Sequence[StudentResult]) -> str:
    rows = []
    for number, row in enumerate(_summaries(graded), 1):
        counts = "".join(
            f'<td class="n">{row.states[state] or "–"}</td>' for state in ("full", "partial", "zero", "blank")
        )
        share = "–" if row.mean_share is None else f"{row.mean_share:.0%}"
        rest = row.states["not run"] + row.states["by hand"]
        rows.append(
            f'<tr><td class="n">{number}</td><th scope="row">{escape(row.title)} '
            f'<span class="id">{escape(row.exercise)}</span></th><td class="n">{row.max_score:g}</td>'
            f'<td class="n">{share}</td>{counts}<td class="n">{rest or "–"}</td>'
            f"<td>{row.difficulty}</td></tr>"
        )
    caption = (
        "Mean share of the points, over all whose answer is graded; how many earned all, some or none of them, left "
        "the exercise blank, or have no verdict (not run, or waiting for a person). Difficulty looks only at those who "
        f"tried: easy from {EASY:.0%}, hard below {HARD:.0%}."
    )
    names = ("No.", "Exercise", "Points", "Mean", "Full", "Partial", "Zero", "Blank", "No verdict", "Difficulty")
    head = [(name, "" if name in ("Exercise", "Difficulty") else "n") for name in names]
    return _table(caption, head, rows, "Exercises")


def _mistake_table(graded: Sequence[StudentResult]) -> str:
    mistakes = _mistakes(graded)
    rows = [
        f'<tr><td class="n">{row.count} of {row.tried}</td><th scope="row">{escape(row.misconception)} '
        f'<span class="id">{escape(row.title)}</span></th><td><bdi>{escape(_short(row.message))}</bdi></td></tr>'
        for row in mistakes
    ]
    often = max(TOP, sum(row.count > 1 for row in mistakes))
    other = _unnamed(graded)
    note = (
        f"<p>{other} wrong {'answer was' if other == 1 else 'answers were'} wrong in a way that the catalogue does not "
        "know. Worth a look: a new misconception may be among them.</p>"
        if other
        else ""
    )
    if not rows:
        return "<p>No catalogued misconception was seen.</p>" + note
    caption = (
        "Misconceptions that the checks recognized, most frequent first: how many of those who tried, and what one of "
        "them was told."
    )
    head = [("Students", "n"), ("Misconception", ""), ("Example", "")]
    table = _table(caption, head, rows[:often], "Misconceptions")
    if rest := rows[often:]:
        once = _table("Each of these was seen once.", head, rest, "Misconceptions seen once")
        table += f"<details><summary>{len(rest)} more, each seen once</summary>{once}</details>"
    return table + note


def _problem_table(results: Sequence[StudentResult]) -> str:
    rows = [
        f'<tr><th scope="row">{_who(result)}</th><td><ul class="problems">'
        + "".join(f"<li><bdi>{escape(_short(problem))}</bdi></li>" for problem in result.problems)
        + f'</ul></td><td class="n">{result.score:g}</td></tr>'
        for result in results
        if result.problems
    ]
    if not rows:
        return "<p>None: every submission ran to its end as it was released.</p>"
    caption = "What happened to the file or to its run, and the points that were given all the same."
    return _table(caption, [("Student", ""), ("What happened", ""), ("Points", "n")], rows, "Problems")


def _student_table(results: Sequence[StudentResult]) -> str:
    ids = _exercise_ids(results)
    head = [("Student", ""), ("Points", "n"), ("Share", "n")]
    head += [(f'<abbr title="{escape(_title(id), quote=True)}">{n}</abbr>', "c") for n, id in enumerate(ids, 1)]
    rows = []
    for result in results:
        done = {one.exercise: one for one in result.exercises}
        cells = "".join(_points_cell(done.get(id)) for id in ids)
        share = f"{_share(result):.0%}" if result.max_score else "–"
        rows.append(
            f'<tr><th scope="row">{_who(result)}</th><td class="n">{result.score:g} of {result.max_score:g}</td>'
            f'<td class="n">{share}</td>{cells}</tr>'
        )
    signs = ", ".join(f"{sign} {state}" for state, sign in STATES.items())
    caption = (
        "Points of each student; the share leaves out what still waits for grading by hand. The numbered columns are "
        f"the exercises above. {signs}."
    )
    return _table(caption, head, rows, "Students")


def _points_cell(result: ExerciseResult | None) -> str:
    if result is None:
        return '<td class="c"></td>'
    kind = result.status.replace(" ", "-")
    points = f" {result.score:g}" if result.status in ("full", "partial", "zero") else ""
    return (
        f'<td class="c {escape(kind, quote=True)}" title="{escape(result.status, quote=True)}">'
        f"{STATES.get(result.status, '?')}{points}</td>"
    )


def _who(result: StudentResult) -> str:
    if not result.name:
        return f"<bdi>{escape(result.student)}</bdi>"
    return f'<bdi>{escape(result.name)}</bdi> <span class="id"><bdi>{escape(result.student)}</bdi></span>'


def _short(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…"


# ---------------------------------------------------------------- the terminal


def class_table(results: Sequence[StudentResult], *, expected: Mapping[str, float] | None = None) -> str:
    """A table of students and points for the terminal; with `expected`, that column and where the two differ."""
    head = ["student", "points", "of", *(["expected"] if expected is not None else []), "remarks"]
    rows = []
    for result in results:
        row = [result.student, f"{result.score:g}", f"{result.max_score:g}"]
        if expected is not None:
            wanted = expected.get(result.student)
            agrees = wanted is not None and abs(wanted - result.score) < 1e-9
            row.append(("?" if wanted is None else f"{wanted:g}") + (" ✓" if agrees else " ✗"))
        remark = result.problems[0] if result.problems else ""
        more = f" (+{len(result.problems) - 1})" if len(result.problems) > 1 else ""
        rows.append([*row, (remark if len(remark) <= 90 else remark[:89] + "…") + more])
    cells = [head, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join(
            _pad(cell, widths[i], right=0 < i < len(head) - 1 and not (i == 3 and expected is not None))
            for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "─" * min(110, sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def _printable(text: str) -> str:
    """No control characters: a student's id or message must not drive the terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _width(text: str) -> int:
    """Columns that the text takes in a terminal: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf") else
        2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )  # fmt: skip


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
