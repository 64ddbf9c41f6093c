"""Measure lessons: Run All, the slowest cell, peak memory, each check. `python tests/measure_lesson.py 08_dropout`.

The solved notebook runs in a kernel of its own, as in JupyterLab; the figures are moved in Chromium, where it is there.
What was measured is kept in docs/lessons, and the table of docs/benchmarks.md made from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from autograder import exercises
from autograder.check import check
from autograder.exercise import Exercise
from course_lib.bench.page import between
from course_lib.quiet import load_keras
from course_lib.training import threads

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "lessons"
MARKS = ("<!-- made by tests/measure_lesson.py -->", "<!-- end of what tests/measure_lesson.py made -->")
PEAK = "import resource; print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"


@dataclass(frozen=True)
class Run:
    """Seconds of Run All and of each cell (by its id), peak resident bytes of the kernel."""

    total: float
    cells: dict[str, float]
    peak: int


def run(lesson: str) -> Run:
    """Run the lesson's solved notebook once, from a cold kernel."""
    notebook = nbformat.read(ROOT / "solutions" / lesson / f"{lesson}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK, id="peak"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COURSE_DATA_DIR"] = folder
        NotebookClient(notebook, timeout=300, record_timing=True, resources={"metadata": {"path": folder}}).execute()
    cells = {cell.id: _seconds(cell) for cell in notebook.cells if cell.cell_type == "code" and cell.id != "peak"}
    peak = int(notebook.cells[-1].outputs[0].text.split()[1])
    return Run(sum(cells.values()), cells, peak)


def wrong_answers(lesson: str) -> dict[str, float]:
    """For each exercise the seconds of its longest check of a catalogued wrong answer, in this process."""
    longest = {}
    with threads(1):
        load_keras()
        for record in exercises.of_lesson(lesson):
            if not isinstance(record, Exercise):
                continue
            check(record.id, record.reference)  # the reference's results are kept from here on
            spent = []
            for misconception in record.misconceptions:
                start = time.perf_counter()
                check(record.id, misconception.wrong)
                spent.append(time.perf_counter() - start)
            longest[record.id] = max(spent)
    return longest


def sliders(lesson: str) -> dict[str, list[float]]:
    """For each figure with a slider: milliseconds from a key to the next frame with another figure, in Chromium."""
    sys.path.insert(0, str(ROOT / "tests" / "end_to_end"))
    from browser import Lab, chromium

    if chromium() is None:
        return {}
    with tempfile.TemporaryDirectory() as folder, Lab(ROOT / "solutions" / lesson, Path(folder)) as lab:
        lab.open(f"{lesson}.ipynb")
        lab.run_all(timeout=240)
        names = {cell["index"]: cell["id"] for cell in lab.cells()}
        return {names[cell]: [lab.move_slider(cell) for _ in range(21)] for cell in lab.sliders()}


def _seconds(cell) -> float:
    times = cell.metadata.execution
    start, end = (datetime.fromisoformat(times[key]) for key in ("iopub.execute_input", "shell.execute_reply"))
    return (end - start).total_seconds()


def measure(lesson: str, runs: int) -> dict:
    """What is kept of a lesson: seconds (medians over the runs), bytes, milliseconds."""
    got = [run(lesson) for _ in range(runs)]
    cells = {cell: statistics.median(one.cells[cell] for one in got) for cell in got[0].cells}
    return {
        "lesson": lesson,
        "runs": runs,
        "run all": statistics.median(one.total for one in got),
        "peak bytes": max(one.peak for one in got),
        "cells": cells,
        "longest check of a wrong answer": wrong_answers(lesson),
        "slider to figure, ms": sliders(lesson),
        "machine": f"{_cpu()}, {os.cpu_count()} cores",
        "date": date.today().isoformat(),
    }


def table() -> str:
    """A row of Markdown for each lesson that was measured."""
    rows = [
        "| lesson | Run All | slowest cell | peak memory | slowest check | of a wrong answer | slider: median, "
        "worst | when, where |",
        "|---|--:|--:|--:|---|---|--:|---|",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        got = json.loads(path.read_text("utf-8"))
        checks = {cell.removesuffix("-check"): s for cell, s in got["cells"].items() if cell.endswith("-check")}
        moves = [ms for figure in got["slider to figure, ms"].values() for ms in figure]
        rows.append(
            f"| {got['lesson']} | {got['run all']:.0f} s | {max(got['cells'].values()):.1f} s | "
            f"{got['peak bytes'] / 2**30:.2f} GiB | {_longest(checks)} | "
            f"{_longest(got['longest check of a wrong answer'])} | "
            + (f"{statistics.median(moves):.0f}, {max(moves):.0f} ms" if moves else "")
            + f" | {got['date']}, {got['machine']} |"
        )
    return "\n".join(rows)


def _longest(seconds: dict[str, float]) -> str:
    name = max(seconds, key=seconds.__getitem__)
    return f"{seconds[name]:.2f} s ({name.replace('-', '.', 1).split('.', 1)[1]})"


def _cpu() -> str:
    try:
        return next(
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="+", metavar="lesson")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    for lesson in chosen.lessons:
        result = measure(lesson, chosen.runs)
        (RESULTS / f"{lesson}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        PAGE.write_text(between(PAGE.read_text("utf-8"), MARKS, table()), "utf-8")
    print(table())


if __name__ == "__main__":
    main()
