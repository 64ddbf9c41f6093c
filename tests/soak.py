"""Grade a large class of small submissions and look at what grows: `python tests/soak.py --submissions 2000`.

Prints memory, open files, processes and temporary files at the start, in the middle and at the end. Submissions are run
in the workers' own processes (they are harmless), so that what is watched is the course's own: engine, store, writer.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "autograder"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "autograder" / "plugins"))

import fake_performs as fake
import psutil
import tiny_course as tiny

from autograder import gradebook, grader
from autograder.engine import Where
from autograder.submission import read


@dataclass(frozen=True)
class Look:
    """`memory` and `worker_memory` in bytes, of this process and of the largest of the others."""

    graded: int
    seconds: float
    memory: int
    worker_memory: int
    open_files: int
    processes: int
    temporary_files: int


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if process.is_running()]


def look(graded: int, seconds: float, temporary: Path, before: list[psutil.Process]) -> Look:
    """What there is now, the processes left out that somebody else had started `before`."""
    here = psutil.Process()
    others = [process for process in children() if process not in before]
    sizes = []
    for other in others:
        try:
            sizes.append(other.memory_info().rss)
        except psutil.Error:
            continue
    files = sum(1 for path in temporary.rglob("*") if path.is_file())
    return Look(graded, seconds, here.memory_info().rss, max(sizes, default=0), here.num_fds(), len(sizes), files)


def make_class(folder: Path, submissions: int) -> Path:
    """A released class in which so many have handed in, each something of their own."""
    checkout = tiny.make_built_course(folder / "checkout")
    course = folder / "class"
    gradebook.release(tiny.LESSON, course, source=checkout)
    handed_out = read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")
    for number in range(submissions):
        wrong = "x * x" if number % 3 else "x + x"
        answers = {**tiny.ANSWERS, "tiny.double": f"def double(x):\n    return {wrong}  # by {number}"}
        tiny.submit(course, f"s{number:06}", tiny.answered(handed_out, answers))
    return course


def soak(submissions: int, workers: int = 2) -> list[Look]:
    """Looks at the start (a tenth is graded: all is imported), in the middle, near the end, and when all is over."""
    moments = {submissions // 10, submissions // 2, submissions - 1}
    looks: list[Look] = []
    with tempfile.TemporaryDirectory(prefix="course-soak-") as folder:
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        course = make_class(Path(folder), submissions)
        os.environ["TMPDIR"], before, tempfile.tempdir = str(temporary), os.environ.get("TMPDIR"), None
        start, count, there = time.monotonic(), 0, children()

        def count_up(row: gradebook.Graded) -> None:
            nonlocal count
            count += 1
            assert not row.problem, row
            if count in moments:
                looks.append(look(count, time.monotonic() - start, temporary, there))

        try:
            rows = grader.grade(tiny.LESSON, course, where=Where(workers), perform=fake.honestly, on_graded=count_up)
            time.sleep(1)
            looks.append(look(count, time.monotonic() - start, temporary, there))
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
    assert sorted(row.score for row in rows) == sorted(4.0 if n % 3 else 5.0 for n in range(submissions))
    return looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = tiny.environment()["PYTHONPATH"]
    print("graded  seconds  this MB  largest worker MB  open files  processes  temporary files")
    for at in soak(options.submissions, options.workers):
        print(
            f"{at.graded:6}  {at.seconds:7.0f}  {at.memory / 1e6:7.0f}  {at.worker_memory / 1e6:17.0f}  "
            f"{at.open_files:10}  {at.processes:9}  {at.temporary_files:15}"
        )


if __name__ == "__main__":
    main()
