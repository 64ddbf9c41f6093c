"""The command, a worker, the scheduler, the process that kernels are forked from, and the database's connection, each
ended at random moments, twenty times.

After a restart every submission is graded exactly once, with the same rows as after a run that nothing disturbed, and
no process is left. The moments are drawn anew each time; a failure prints the seed that gave them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_course as tiny

from autograder import exercises, gradebook, grader
from autograder.engine import Where
from autograder.provisioner import warm
from autograder.submission import read

pytestmark = pytest.mark.slow

TIMES = 20
CLASS = {
    "ada": tiny.ANSWERS,
    "bob": {**tiny.ANSWERS, "tiny.double": "def double(x):\n    return x * x"},
    "cleo": {"tiny.why": "Because."},
    "dora": b"{",
}
ROWS = """
SELECT sa.student_id, cell.name, grade.auto_score, grade.manual_score, grade.extra_credit, grade.needs_manual_grade
FROM grade JOIN submitted_notebook sn ON grade.notebook_id = sn.id JOIN submitted_assignment sa
  ON sn.assignment_id = sa.id JOIN base_cell cell ON grade.cell_id = cell.id ORDER BY 1, 2
"""
COMMENTS = """
SELECT sa.student_id, cell.name, comment.auto_comment, comment.manual_comment
FROM comment JOIN submitted_notebook sn ON comment.notebook_id = sn.id JOIN submitted_assignment sa
  ON sn.assignment_id = sa.id JOIN base_cell cell ON comment.cell_id = cell.id ORDER BY 1, 2
"""
SUBMISSIONS = "SELECT student_id FROM submitted_assignment ORDER BY 1"


def written(course: Path) -> list[list[Any]]:
    """All that grading leaves in nbgrader's tables, ids and times left out."""
    with sqlite3.connect(course / "gradebook.db") as database:
        return [database.execute(query).fetchall() for query in (SUBMISSIONS, ROWS, COMMENTS)]


class Zygote:
    """Starts processes by name, knows when they end, and what they said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        path = os.pathsep.join([str(tiny.PLUGINS.parent), tiny.environment()["PYTHONPATH"]])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            env={**tiny.environment(), "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **command: Any) -> int:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, **command: Any) -> int:
        self.count += 1
        return self.ask(**command, log=str(self.folder / f"{self.count}.log"))

    def wait(self, pid: int) -> int:
        return self.ask(wait=pid)

    def said(self) -> str:
        return (self.folder / f"{self.count}.log").read_text()


@pytest.fixture(scope="module", autouse=True)
def tiny_registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exercises, "EXERCISES", {**exercises.EXERCISES, **tiny.RECORDS})
        yield


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory where there is such a place: twenty copies of a class, each with its database."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else None, prefix="course-kills-"
    ) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def zygote(folder: Path) -> Iterator[Zygote]:
    (folder / "logs").mkdir()
    made = Zygote(folder / "logs")
    yield made
    made.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def pristine(folder: Path) -> Path:
    """A class that has handed in, and that nobody has graded."""
    checkout = tiny.make_built_course(folder / "checkout")
    course = folder / "pristine"
    gradebook.release(tiny.LESSON, course, source=checkout)
    handed_out = read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")
    for student, work in CLASS.items():
        tiny.submit(course, student, work if isinstance(work, bytes) else tiny.answered(handed_out, work))
    (course / ".cases-secret").write_text("the same cases in every copy, so that all can be compared\n")
    (course / ".cases-secret").chmod(0o600)
    return course


@pytest.fixture(scope="module")
def undisturbed(pristine: Path, zygote: Zygote, folder: Path) -> tuple[list[list[Any]], float]:
    """What grading leaves when nothing is killed, and how long it takes in this process's fork."""
    course = folder / "undisturbed"
    shutil.copytree(pristine, course)
    start = time.monotonic()
    assert zygote.wait(zygote.start(do="grade", course=str(course))) == 0, zygote.said()
    rows = written(course)
    assert len(rows[0]) == len(CLASS) and len(rows[1]) == 3 * len(CLASS)
    return rows, time.monotonic() - start


@pytest.fixture
def draw() -> random.Random:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def course(pristine: Path, folder: Path) -> Iterator[Any]:
    """A function that gives a new copy of the class."""
    made = folder / "class"

    def anew() -> Path:
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(pristine, made)
        return made

    yield anew
    shutil.rmtree(made, ignore_errors=True)


def left_of(session: int, seconds: float = 60) -> list[str]:
    """The processes that are left of a session, when they have had time to go."""
    deadline = time.monotonic() + seconds
    while True:
        left = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(" ".join(process.cmdline()))
            except (OSError, psutil.Error):
                continue
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def ends_well(zygote: Zygote, course: Path, expected: list[list[Any]]) -> None:
    """A restart grades the rest, and a second one finds nothing to do."""
    assert zygote.wait(zygote.start(do="grade", course=str(course))) == 0, zygote.said()
    assert written(course) == expected
    graded = {path: path.stat().st_mtime_ns for path in course.glob("autograded/*/*/*.ipynb")}
    assert len(graded) == len(CLASS)
    assert not list(gradebook.pending(tiny.LESSON, course))


@pytest.mark.parametrize(("workers", "times"), [(0, TIMES - 6), (2, 6)])
def test_the_command(
    workers: int, times: int, zygote: Zygote, course: Any, undisturbed: Any, draw: random.Random
) -> None:
    expected, seconds = undisturbed
    killed = 0
    for _ in range(times):
        made = course()
        pid = zygote.start(do="grade", course=str(made), workers=workers)
        time.sleep(draw.uniform(0, seconds + 1.5 * bool(workers)))
        os.kill(pid, signal.SIGKILL)
        killed += zygote.wait(pid) == -signal.SIGKILL
        assert not left_of(pid)
        ends_well(zygote, made, expected)
    assert killed > times // 2, "the moments come too late"


def test_a_worker(zygote: Zygote, course: Any, undisturbed: Any, draw: random.Random) -> None:
    killed = 0
    while killed < TIMES:
        made = course()
        pid = zygote.start(do="grade", course=str(made), workers=2, perform="slowly")
        command = psutil.Process(pid)
        while command.is_running() and command.status() != psutil.STATUS_ZOMBIE:
            time.sleep(draw.uniform(0.2, 2))
            try:
                workers = [child for child in command.children() if "spawn_main" in str(child.cmdline())]
                if workers:
                    draw.choice(workers).kill()
                    killed += 1
            except psutil.Error:
                continue
        code = zygote.wait(pid)
        assert code in (0, 1, 2), zygote.said()  # 2: a worker was lost before it had started
        assert "Traceback" not in (said := zygote.said()), said
        assert not left_of(pid)
        ends_well(zygote, made, undisturbed[0])


def test_the_warm_parent(course: Any, draw: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here nothing has to be started again: another parent takes its place, and kernels that are there go on."""
    monkeypatch.setattr(warm, "COURSE", ("numpy", "ipykernel"))  # so that the next one is ready in a moment
    made, over, killed = course(), threading.Event(), []
    alone = grader.grade(tiny.LESSON, made, where=Where(workers=0))
    expected = written(made)
    assert len(alone) == len(CLASS) and not any(row.problem for row in alone)

    def kill() -> None:
        while not over.wait(draw.uniform(0.02, 0.6)):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if {"autograder.provisioner.warm", "ipykernel"} <= {*child.cmdline()}:  # no cold one
                        child.kill()
                        killed.append(child.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while len(killed) < TIMES:
            made = course()
            rows = grader.grade(tiny.LESSON, made, where=Where(workers=0))
            assert [row.problem for row in rows] == [""] * len(CLASS)
            assert written(made) == expected
            assert not list(gradebook.pending(tiny.LESSON, made))
    finally:
        over.set()
        killer.join()


def test_the_scheduler(zygote: Zygote, course: Any, undisturbed: Any, draw: random.Random, folder: Path) -> None:
    refused = 0
    for _ in range(TIMES):
        made, file = course(), folder / "scheduler.json"
        file.unlink(missing_ok=True)
        scheduler = zygote.start(do="scheduler", file=str(file))
        while not file.exists() or "address" not in file.read_text():
            time.sleep(0.02)
        address = json.loads(file.read_text())["address"]
        worker = zygote.start(do="worker", address=address)
        pid = zygote.start(do="grade", course=str(made), scheduler=address, perform="slowly")
        time.sleep(draw.uniform(0, 2))
        os.kill(scheduler, signal.SIGKILL)
        code = zygote.wait(pid)
        refused += code == 2
        assert code in (0, 2), zygote.said()
        assert "Traceback" not in (said := zygote.said()), said
        os.kill(worker, signal.SIGKILL)
        for other in (scheduler, worker):
            zygote.wait(other)
        ends_well(zygote, made, undisturbed[0])
    assert refused > TIMES // 4, "the moments come too late"


def test_the_connection_to_the_database(zygote: Zygote, course: Any, undisturbed: Any, draw: random.Random) -> None:
    for _ in range(TIMES):
        made = course()
        pid = zygote.start(do="grade", course=str(made), cut=draw.randint(1, 600))
        assert zygote.wait(pid) in (0, 1, 2), zygote.said()
        assert "Traceback" not in (said := zygote.said()), said
        ends_well(zygote, made, undisturbed[0])


def test_the_gradebook_taken_by_another_process(
    zygote: Zygote, course: Any, undisturbed: Any, draw: random.Random
) -> None:
    for _ in range(TIMES // 4):
        made = course()
        pid = zygote.start(do="grade", course=str(made))
        time.sleep(draw.uniform(0, undisturbed[1]))
        holder = sqlite3.connect(made / "gradebook.db", timeout=30)
        holder.execute("BEGIN EXCLUSIVE")
        time.sleep(draw.uniform(0, 1))
        holder.rollback()
        holder.close()
        assert zygote.wait(pid) in (0, 2), zygote.said()
        ends_well(zygote, made, undisturbed[0])
