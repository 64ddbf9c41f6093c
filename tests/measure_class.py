"""Measure grading a class: ours against stock nbgrader, same submissions, same machine, one run.

`python tests/measure_class.py --learners 24` keeps the figures in docs/grading/ and makes its table anew.
Only honest hand-ins (right, wrong, blank), so that stock nbgrader, which runs them with all rights, comes to the end.
With --stock N stock nbgrader grades the first N of them only; its throughput is theirs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autograder import exercises, gradebook
from autograder.demo import LESSON, simulate, submission
from autograder.evidence import unpack
from autograder.exercise import Exercise
from autograder.gradebook import store_of
from autograder.submission import quiet_environment
from course_lib.bench.page import between

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "grading"
MARKS = ("<!-- made by tests/measure_class.py -->", "<!-- end of what tests/measure_class.py made -->")
STOCK = """
c = get_config()
c.CourseDirectory.course_id = "training_deep_nets"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "lessons"
c.ExecutePreprocessor.timeout = 60
"""


def hand_in(folder: Path, learners: int) -> list[str]:
    """A released class in which so many honest learners have handed in; returns who."""
    release = (gradebook.release(LESSON, folder, source=ROOT) / f"{LESSON}.ipynb").read_bytes()
    records = [record for record in exercises.of_lesson(LESSON) if isinstance(record, Exercise)]
    people = [learner for learner in simulate(records, 2 * learners + 12, 8) if learner.kind in ("ordinary", "blank")]
    for number, learner in enumerate(people[:learners]):
        path = folder / "submitted" / f"learner-{number:04}" / LESSON / f"{LESSON}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(submission(learner, release)[0])
    return [f"learner-{number:04}" for number in range(learners)]


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of a command, its children's included."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run(command, cwd=folder, env=quiet_environment(), capture_output=True, text=True)
    after = os.times()
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - start, used


def points(folder: Path) -> dict[str, dict[str, float]]:
    """Student -> cell -> points, as the gradebook has them."""
    return {
        row.student: {name: got for name, (got, _) in row.exercises.items()} for row in gradebook.scores(LESSON, folder)
    }


def stock_points(folder: Path) -> dict[str, float]:
    subprocess.run([sys.executable, "-m", "nbgrader", "export"], cwd=folder, env=quiet_environment(), check=True)
    with (folder / "grades.csv").open() as file:
        return {
            row["student_id"]: float(row["score"]) for row in csv.DictReader(file) if row["timestamp"] or row["score"]
        }


def measure(learners: int, stock: int) -> dict[str, Any]:
    """Both arms, one after the other."""
    with tempfile.TemporaryDirectory(prefix="course-measure-") as place:
        ours, theirs = Path(place, "ours"), Path(place, "stock")
        students = hand_in(ours, learners)
        shutil.copytree(ours, theirs)
        (theirs / "nbgrader_config.py").write_text(STOCK)
        for student in students[stock:]:
            shutil.rmtree(theirs / "submitted" / student)
        course = [str(Path(sys.executable).with_name("course")), "grade", LESSON, "--course", str(ours)]
        wall, used = timed(course, ours)
        again, _ = timed(course, ours)
        where = _where_time_goes(ours)
        slow, slow_used = timed([sys.executable, "-m", "nbgrader", "autograde", LESSON], theirs)
        shutil.copy(ours / "nbgrader_config.py", theirs)  # to read its gradebook by
        mine, other = points(ours), points(theirs)
        cells = [(student, name) for student in students[:stock] for name in mine[student]]
        differ = [(student, name) for student, name in cells if mine[student][name] != other[student].get(name)]
    return {
        "learners": learners,
        "stock learners": stock,
        "seconds": wall,
        "stock seconds": slow,
        "processor seconds": used,
        "stock processor seconds": slow_used,
        "seconds when all is graded": again,
        "throughput ratio": (slow / stock) / (wall / learners),
        "cells compared": len(cells),
        "cells that differ": len(differ),
        "differing": differ[:20],
        "median seconds of a submission": where,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("nbgrader", "torch", "keras", "distributed")},
    }


def _where_time_goes(folder: Path) -> dict[str, float]:
    """The medians of what the evidence says: the kernel's start, its cells, its probes, the judge."""
    store = store_of(folder)
    rows = [unpack(path.read_bytes()).seconds for path in map(store.path, [*store.keys()])]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def table() -> str:
    """A row of Markdown for each class that was measured."""
    rows = [
        "| class | stock nbgrader graded | a submission, ours | stock nbgrader | throughput | processor time | "
        "start / cells / probes / judge | again, all graded | cells compared, that differ | when, where |",
        "|---|--:|--:|--:|--:|--:|---|--:|---|---|",
    ]
    for path in sorted(RESULTS.glob("class-*.json"), key=lambda path: int(path.stem.split("-")[1])):
        got = json.loads(path.read_text())
        where = got["median seconds of a submission"]
        parts = " / ".join(f"{where[name]:.2f}" for name in ("start", "cells", "probes", "judge"))
        ours, stock = got["seconds"] / got["learners"], got["stock seconds"] / got["stock learners"]
        used = got["processor seconds"] / got["learners"], got["stock processor seconds"] / got["stock learners"]
        rows.append(
            f"| {got['learners']} | {got['stock learners']} | {ours:.2f} s | {stock:.1f} s | "
            f"**{got['throughput ratio']:.1f} times** | 1 : {used[1] / used[0]:.1f} | "
            f"{parts} s | {got['seconds when all is graded']:.1f} s | "
            f"{got['cells compared']}, {got['cells that differ']} | {got['date']}, {got['machine']} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, default=24)
    parser.add_argument("--stock", type=int, help="how many of them stock nbgrader grades; all unless given")
    chosen = parser.parse_args()
    result = measure(chosen.learners, chosen.stock or chosen.learners)
    (RESULTS / f"class-{chosen.learners}.json").write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(between(PAGE.read_text("utf-8"), MARKS, table()), "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
