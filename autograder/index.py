"""The course's first page: solutions/index.py gives lessons/index.ipynb, the map of the lessons.

The source is jupytext's percent format. A markdown cell with `lesson="NN_topic"` says in one paragraph what that lesson
answers, and `after="NN_topic, …"` which lessons it builds on; these cells become one table, with what only the records
and the lesson itself can tell: its title, how long it takes, what there is to do in it. A lesson that is not there
yet has no row; one that is there and has no cell is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError, Exercise
from autograder.files import write_whole
from autograder.notebooks import Built, Records, SourceError, all_records, course_root, lessons
from autograder.submission import MARK, nbformat

__all__ = ["NAME", "Entry", "Measured", "build", "measure"]

NAME = "index"
PACE = 100  # words a minute: people learn from prose at about 200 (Carver, 1990), and here are formulas and figures
STEP = 5  # minutes: nobody's time is known better than that
OPTIONS = {"lesson", "after", "lines_to_next_cell"}
HEAD = "| lesson | what it answers | time, about | what there is to do | best after |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Entry:
    """What the source says of a lesson."""

    lesson: str
    answers: str
    after: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What the lesson's notebook and its records say: minutes of reading and of exercises."""

    title: str
    reading: float
    working: int
    exercises: int
    in_words: int
    predictions: int

    @property
    def minutes(self) -> int:
        """All of it, rounded."""
        return STEP * round((self.reading + self.working) / STEP)


def measure(lesson: str, root: Path, records: Records) -> Measured:
    """Read a lesson's notebook and its records. Raises SourceError where the notebook is not built."""
    from course_lib.predictions import PREDICTIONS

    path = root / "lessons" / lesson / f"{lesson}.ipynb"
    if not path.is_file():
        raise SourceError(f"{path}: no such notebook; run `course build {lesson}` first")
    cells = nbformat().read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    mine = [record for record in records.values() if record.lesson == lesson]
    coded = sum(isinstance(record, Exercise) for record in mine)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    return Measured(
        title[1].strip() if title else lesson,
        len(text.split()) / PACE,
        sum(record.minutes for record in mine),
        coded,
        len(mine) - coded,
        sum(prediction.lesson == lesson for prediction in PREDICTIONS.values()),
    )


def build(*, check: bool = False, root: Path | None = None, records: Records | None = None) -> Built | None:
    """Make the first page; with `check`, only compare it with what is there. None where it has no source.

    Raises SourceError for what the source lacks, and CourseError where the page is stale (`check`).
    """
    root = course_root(root)
    source = root / "solutions" / f"{NAME}.py"
    if not source.is_file():
        return None
    made = (nbformat().writes(_notebook(source, root, all_records() if records is None else records)) + "\n").encode()
    name = f"lessons/{NAME}.ipynb"
    path = root / name
    if path.is_file() and path.read_bytes() == made:
        return Built(NAME, (name,), ())
    if check:
        raise CourseError(f"{name} is not what solutions/{NAME}.py and the lessons give: run `course build {NAME}`")
    write_whole(path, made)
    return Built(NAME, (name,), (name,))


def _notebook(source: Path, root: Path, records: Records) -> Any:
    nbformat()  # before jupytext imports it the slow way
    import jupytext

    v4 = nbformat().v4
    built: list[Any] = []
    entries: list[Entry] = []
    place = None  # of the table: where the first lesson's cell stands
    for number, cell in enumerate(jupytext.reads(source.read_text("utf-8"), fmt="py:percent").cells, 1):
        unknown = set(cell.metadata) - OPTIONS
        if unknown:
            raise SourceError(f"{source}: cell {number}: unknown option {min(unknown)!r}; there are lesson, after")
        if "lesson" in cell.metadata:
            after = tuple(name.strip() for name in cell.metadata.get("after", "").split(",") if name.strip())
            entries.append(Entry(cell.metadata["lesson"], " ".join(cell.source.split()), after))
            place = len(built) if place is None else place
            continue
        new = v4.new_code_cell if cell.cell_type == "code" else v4.new_markdown_cell
        built.append(new(cell.source, id=f"{NAME}-{number}"))
    table = v4.new_markdown_cell(_table(source, root, entries, records), id=f"{NAME}-map")
    built.insert(len(built) if place is None else place, table)
    notebook = v4.new_notebook(cells=built)
    notebook.metadata = nbformat().from_dict(
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            MARK: {"generated": f"from solutions/{NAME}.py by `course build`: edit that file, not this one"},
        }
    )
    notebook.nbformat_minor = 5
    return notebook


def _table(source: Path, root: Path, entries: list[Entry], records: Records) -> str:
    there = lessons(root)
    told = {entry.lesson: entry for entry in entries}
    for lesson in there:
        if lesson not in told or not told[lesson].answers:
            raise SourceError(f'{source}: say what {lesson} answers, in a markdown cell with lesson="{lesson}"')
    for entry in entries:
        for name in (entry.lesson, *entry.after):
            if name not in told:
                raise SourceError(f"{source}: {entry.lesson} comes after {name!r}, of which it says nothing")
    return "\n".join([HEAD, *(_row(told[lesson], measure(lesson, root, records), there) for lesson in there)])


def _row(entry: Entry, measured: Measured, there: list[str]) -> str:
    number = entry.lesson.partition("_")[0].lstrip("0")
    after = ", ".join(_link(name, name.partition("_")[0].lstrip("0")) for name in entry.after if name in there)
    parts = ((measured.predictions, "prediction"), (measured.exercises, "exercise"), (measured.in_words, "short essay"))
    do = ", ".join(_some(number, one) for number, one in parts if number)
    cells = (
        f"{number}. {_link(entry.lesson, measured.title)}",
        entry.answers.replace("|", r"\|"),
        _time(measured.minutes),
        do,
        after or "–",
    )
    return f"| {' | '.join(cells)} |"


def _link(lesson: str, text: str) -> str:
    return f"[{text}]({lesson}/{lesson}.ipynb)"


def _some(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"


def _time(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{rest} min"] * bool(rest or not hours)
    return " ".join(parts).replace(" ", "\N{NO-BREAK SPACE}")
