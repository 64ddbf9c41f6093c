"""Measure what limits grading at scale, and write docs/scaling.md from it: `python tests/measure_scale.py --write`.

Measured: the scheduler with workers that do nothing and with workers that take their time, the writer with evidence
that is there, the reader, and what one submission is in bytes. `--page` only writes the page again from the figures
that are kept in docs/grading/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from autograder import engine, execute, exercises, gradebook, grader
from autograder.demo import LESSON, simulate, submission
from autograder.engine import Where
from autograder.evidence import Ran, Store, Task, pack
from autograder.exercise import Exercise
from autograder.progress import duration

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "grading" / "scale.json"
PAGE = ROOT / "docs" / "scaling.md"
MARKS = "<!-- {0}: made by tests/measure_scale.py -->", "<!-- end of {0} -->"
CLASS = 100_000


# ---------------------------------------------------------------- workers that only pretend


def nothing(task: Task, kept: bytes | None = None) -> bytes:
    return pack(Ran(tuple(() for _ in task.cells)))


def wait(seconds: float, task: Task, kept: bytes | None = None) -> bytes:
    time.sleep(seconds)
    return nothing(task)


def unanswered(task: Task, kept: bytes | None = None) -> bytes:
    """Evidence that is judged, without a kernel: every check found nothing. For the writer it is like any other."""
    ran = Ran(tuple(() for _ in task.cells), silent=dict.fromkeys(task.requests, "Nothing was run."))
    return execute.perform(task, pack(ran))


@contextmanager
def cluster(folder: Path, threads: int) -> Iterator[str]:
    """A scheduler, and a process whose threads are the workers; yields the scheduler's address."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)

    def start(what: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--host", "127.0.0.1", "--no-dashboard"]
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, *options], env=environment, cwd=folder, **quiet)

    running = [start("scheduler", "--port", "0", "--scheduler-file", str(file))]
    try:
        while not file.exists() or '"address"' not in file.read_text():
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        running.append(start("worker", address, "--no-nanny", "--nthreads", str(threads)))
        yield address
    finally:
        for process in running:
            process.kill()
            process.wait()


def through_the_scheduler(count: int, seconds: float, threads: int, like: Task) -> float:
    """Tasks a second, from when the first one starts until the last one is done; each is as large as `like`."""
    perform = partial(wait, seconds) if seconds else nothing
    jobs = (
        (str(number), Task(like.lesson, (*like.cells, ("", "", str(number))), like.requests, like.seeds))
        for number in range(count)
    )
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), threads) as address:
        ended = []
        for done in engine.run(jobs, Store(Path(folder) / "evidence"), perform, where=Where(scheduler=address)):
            assert not done.problem, done
            ended.append(time.monotonic())
    return count / (ended[-1] - ended[0] + seconds)


# ---------------------------------------------------------------- a class of the real lesson


def hand_in(folder: Path, learners: int) -> Path:
    course = folder / "class"
    release = (gradebook.release(LESSON, course, source=ROOT) / f"{LESSON}.ipynb").read_bytes()
    records = [record for record in exercises.of_lesson(LESSON) if isinstance(record, Exercise)]
    people = [learner for learner in simulate(records, 2 * learners + 12, 8) if learner.kind == "ordinary"]
    for number, learner in enumerate(people[:learners]):
        path = course / "submitted" / f"learner-{number:06}" / LESSON / f"{LESSON}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(submission(learner, release)[0])
    return course


def timed(act: Any) -> tuple[Any, float, float]:
    """What it returns, the wall-clock seconds and the processor seconds that it took here."""
    start, used = time.monotonic(), time.process_time()
    found = act()
    return found, time.monotonic() - start, time.process_time() - used


def measure(learners: int, tasks: int, really: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="course-scale-") as name:
        course = hand_in(Path(name), learners)
        opened = gradebook.open_class(course)
        first = next(iter(gradebook.pending(LESSON, opened)))
        assert first.task
        found, _, reading = timed(lambda: list(gradebook.pending(LESSON, opened)))
        ready = [item.task for item in found if item.task]

        runs, sizes = [], []
        for task in ready[: really + 1]:  # the first one starts the warm kernels
            evidence, seconds, _ = timed(partial(execute.perform, task))
            runs.append(seconds)
            sizes.append(len(evidence))

        before = psutil.Process().memory_info().rss
        again = [item.task for item in gradebook.pending(LESSON, opened)]
        held = (psutil.Process().memory_info().rss - before) / len(again)

        store = gradebook.store_of(course)
        for task in ready:
            store.put(task.key, unanswered(task))
        names = [item.student for item in found]
        half = len(names) // 2
        rates = []
        for part in (names[:half], names[half:]):
            rows, wall, used = timed(lambda part=part: grader.grade(LESSON, opened, part, where=Where(workers=0)))
            assert all(row.fresh for row in rows)
            rates.append((wall / len(part), used / len(part)))
        database = (course / "gradebook.db").stat().st_size / len(names)
        shutil.rmtree(course)

    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "distributed": version("distributed"),
        "lesson": LESSON,
        "submissions": learners,
        "run_seconds": round(statistics.median(runs[1:]), 2),
        "first_run_seconds": round(runs[0], 1),
        "evidence_bytes": round(statistics.median(sizes)),
        "task_bytes": len(pickle.dumps(first.task)),
        "pending_bytes": max(0, round(held)),
        "read_seconds": round(reading / learners, 4),
        "record_seconds": round(rates[1][0], 3),
        "record_seconds_first_half": round(rates[0][0], 3),
        "record_cpu_seconds": round(rates[1][1], 3),
        "database_bytes": round(database),
        "scheduler_tasks": tasks,
        "scheduler_per_second": round(through_the_scheduler(tasks, 0, 4, first.task), 1),
        "simulated": [
            {
                "workers": threads,
                "task_seconds": seconds,
                "ideal_per_second": threads / seconds,
                "per_second": round(through_the_scheduler(6 * threads, seconds, threads, first.task), 1),
            }
            for threads, seconds in ((16, 1.0), (64, 1.0), (128, 2.0))
        ],
    }


# ---------------------------------------------------------------- the page


def tables(found: Mapping[str, Any]) -> dict[str, str]:
    """The page's parts that are made of figures, by their names."""
    measured = [
        ("one submission in a warm kernel, judged", f"{found['run_seconds']:g} s"),
        ("the first one of a worker", f"{found['first_run_seconds']:g} s"),
        ("tasks through the scheduler, workers that do nothing", f"{found['scheduler_per_second']:.0f} a second"),
        *(
            (
                f"{row['workers']} simulated workers, {row['task_seconds']:g} s a task",
                f"{row['per_second']:g} a second of at most {row['ideal_per_second']:g}",
            )
            for row in found["simulated"]
        ),
        ("reading a submission and making its task", f"{1000 * found['read_seconds']:.1f} ms"),
        ("recording one (SQLite)", f"{found['record_seconds']:g} s, {found['record_cpu_seconds']:g} s of it processor"),
        ("a task, as it travels", f"{found['task_bytes'] / 1e3:.0f} kB"),
        ("its evidence, as it is kept", f"{found['evidence_bytes'] / 1e3:.0f} kB"),
        ("a submission that waits in memory", f"{found['pending_bytes'] / 1e3:.0f} kB"),
        ("its rows in the gradebook", f"{found['database_bytes'] / 1e3:.0f} kB"),
    ]
    figures = [
        f"Lesson {found['lesson']}, {found['submissions']} submissions; {found['machine']}, Python {found['python']}, "
        f"distributed {found['distributed']}; {found['date']}.",
        "",
        "| what | measured |",
        "|---|---|",
        *(f"| {what} | {value} |" for what, value in measured),
    ]
    reader, writer = CLASS * found["read_seconds"], CLASS * found["record_seconds"]
    scheduler = CLASS / found["scheduler_per_second"]
    sums = ["| workers | running | what takes longest | in all |", "|---|---|---|---|"]
    for workers in (2, 16, 64, 256, 1024):
        running = CLASS * found["run_seconds"] / workers
        parts = {"running": running, "the scheduler": scheduler, "reading and recording": reader + writer}
        longest = max(parts, key=lambda name: parts[name])
        sums.append(f"| {workers} | {duration(running)} | {longest} | {duration(parts[longest])} |")
    enough = max(1, round(found["run_seconds"] / (found["read_seconds"] + found["record_seconds"])))
    traffic = CLASS * (found["task_bytes"] + found["evidence_bytes"])
    sums += [
        "",
        f"- The one writer is busy with {enough} workers: it records {1 / found['record_seconds']:.1f} submissions a "
        f"second, {CLASS:,} in {duration(writer)}.",
        f"- The scheduler passes on {CLASS:,} tasks in {duration(scheduler)}.",
        f"- Evidence takes {CLASS * found['evidence_bytes'] / 1e9:.1f} GB of disk, the gradebook "
        f"{CLASS * found['database_bytes'] / 1e9:.1f} GB.",
        f"- {traffic / 1e9:.1f} GB go over the network, to the workers and back.",
        f"- With {enough} workers, {engine.AHEAD * enough} submissions are in memory at any time: "
        f"{engine.AHEAD * enough * max(found['pending_bytes'], found['task_bytes']) / 1e6:.1f} MB.",
    ]
    return {"figures": "\n".join(figures), "sums": "\n".join(sums)}


def page(text: str, found: Mapping[str, Any]) -> str:
    """The page with its made parts made anew."""
    for name, table in tables(found).items():
        start, end = (mark.format(name) for mark in MARKS)
        made = f"{start}\n{table}\n{end}"
        text, count = re.subn(re.escape(start) + ".*?" + re.escape(end), lambda _, made=made: made, text, flags=re.S)
        if count != 1:
            raise ValueError(f"{PAGE} has no place for {name}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=200, help="for the reader and the writer")
    parser.add_argument("--tasks", type=int, default=3000, help="for the scheduler")
    parser.add_argument("--really", type=int, default=6, help="submissions that are really run")
    parser.add_argument("--write", action="store_true", help="keep the figures, and write the page")
    parser.add_argument("--page", action="store_true", help="measure nothing, only write the page")
    chosen = parser.parse_args()
    found = json.loads(FIGURES.read_text()) if chosen.page else measure(chosen.submissions, chosen.tasks, chosen.really)
    if chosen.write:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n")
    if chosen.write or chosen.page:
        PAGE.write_text(page(PAGE.read_text(), found))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
