"""Measure a lesson: Run All, the slowest cells, peak memory, each check. `python tests/measure_lesson.py 08_dropout`.

Prints the tables of docs/benchmarks.md. The solved notebook runs in a kernel of its own, as in JupyterLab.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from autograder import exercises
from autograder.check import check
from autograder.exercise import Exercise
from course_lib.quiet import load_keras
from course_lib.training import threads

ROOT = Path(__file__).resolve().parent.parent
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


def wrong_answers(lesson: str) -> list[str]:
    """Rows of a table: for each exercise the median and the longest check of a catalogued wrong answer, in seconds."""
    rows = []
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
            rows.append(f"| {record.id} | {statistics.median(spent):.2f} | {max(spent):.2f} |")
    return rows


def slider(lesson: str, cell: str) -> list[float]:
    """Milliseconds from a key on the figure's slider to the next frame that shows another figure, in Chromium."""
    sys.path.insert(0, str(ROOT / "tests" / "end_to_end"))
    from browser import Lab

    with tempfile.TemporaryDirectory() as folder, Lab(ROOT / "solutions" / lesson, Path(folder)) as lab:
        lab.open(f"{lesson}.ipynb")
        lab.run_all(timeout=240)
        return [lab.move_slider(cell) for _ in range(21)]


def _seconds(cell) -> float:
    times = cell.metadata.execution
    start, end = (datetime.fromisoformat(times[key]) for key in ("iopub.execute_input", "shell.execute_reply"))
    return (end - start).total_seconds()


def report(lesson: str, runs: list[Run]) -> str:
    """The tables, in Markdown: medians over the runs."""

    def median(cell: str) -> float:
        return statistics.median(one.cells[cell] for one in runs)

    checks = [cell for cell in runs[0].cells if cell.endswith("-check")]
    slowest = sorted((c for c in runs[0].cells if c not in checks), key=median, reverse=True)[:5]
    total = statistics.median(one.total for one in runs)
    peak = statistics.median(one.peak for one in runs)
    lines = [
        f"### {lesson}",
        "",
        f"{_cpu()}, {os.cpu_count()} cores; median of {len(runs)} runs.",
        "",
        f"Run All: **{total:.1f} s**. Peak memory of the kernel: **{peak / 2**30:.2f} GiB**.",
        "",
        "| check | s |",
        "|---|---|",
        *(f"| {cell.removesuffix('-check')} | {median(cell):.2f} |" for cell in checks),
        "",
        "| check of a wrong answer | median s | longest s |",
        "|---|---|---|",
        *wrong_answers(lesson),
        "",
        "| slowest other cells | s |",
        "|---|---|",
        *(f"| {cell} | {median(cell):.1f} |" for cell in slowest),
    ]
    return "\n".join(lines)


def _cpu() -> str:
    try:
        return next(
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--slider", metavar="CELL", help="the cell of a figure to measure in Chromium")
    arguments = parser.parse_args()
    print(report(arguments.lesson, [run(arguments.lesson) for _ in range(arguments.runs)]))
    if arguments.slider:
        moves = slider(arguments.lesson, arguments.slider)
        print(
            f"\nSlider to figure: median {statistics.median(moves):.0f} ms, worst of {len(moves)} {max(moves):.0f} ms."
        )
