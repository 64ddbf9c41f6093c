"""Grade a class: what the gradebook says is to be graded, run by the engine, written down by one writer.

The gradebook makes a task of each submission, the engine runs tasks wherever there is room and keeps the evidence, and
this process, alone, records it through nbgrader's own converter. Whatever is stopped or lost in between: what is graded
stays graded, what has been run is not run again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autograder import engine, execute, gradebook
from autograder.engine import THIS_MACHINE, Done, Perform, Status, Where
from autograder.evidence import Task
from autograder.exercise import CourseError
from autograder.gradebook import Class, DatabaseError, GradebookError, Graded, LockedError
from autograder.progress import Progress

__all__ = ["Where", "as_data", "grade"]

AGAIN, PATIENCE = 5.0, 60.0  # seconds from one try of a locked gradebook to the next, and until it is given up


def grade(
    lesson: str,
    course_dir: Path | str | Class,
    students: Iterable[str] | None = None,
    *,
    force: bool = False,
    where: Where = THIS_MACHINE,
    perform: Perform | None = None,
    patience: float = PATIENCE,
    on_graded: Callable[[Graded], None] = lambda row: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> list[Graded]:
    """Grade what a class handed in; returns a row for each submission, in the students' order.

    What is graded already is left alone, unless its file changed, or the judge; so a run that was stopped goes on where
    it was. With `force` everything is run again. A submission that fails has a `problem`, and the points that it had
    before; it never stops the rest. `on_graded` is called for each that is graded, or fails, in this run.

    Raises CourseError: no gradebook, no such lesson or student, a gradebook that can't be written, or stays locked for
    `patience` seconds, a cluster that can't be used.
    """
    opened = gradebook.open_class(course_dir)
    before = {row.student: row for row in gradebook.standing(lesson, opened, students)}
    writer = _Writer(lesson, opened, before, patience, on_graded)
    count = _Count(list(before), writer, on_progress)

    def jobs() -> Iterator[tuple[str, Task]]:
        for pending in writer.patiently(lambda names: gradebook.pending(lesson, opened, names, force=force)):
            count.read(pending.student)
            if pending.task is None:
                writer.remarks[pending.student] = pending.problem
                writer.add(Done(pending.student))
            else:
                yield pending.student, pending.task

    running = engine.run(
        jobs(),
        gradebook.store_of(opened.root),
        perform or execute.perform,
        judged_by_now=execute.judged_by_now,
        anew=force,
        where=where,
        expected=len(before),
        on_status=count.tell,
    )
    try:
        for done in running:
            writer.add(done)
            count.tell()
        writer.finish(count.tell)
    except CourseError as error:
        raise type(error)(f"{error}; {writer.so_far()}. Run the same command again to grade the rest") from None
    finally:
        running.close()
    return [writer.rows.get(student, row) for student, row in before.items()]


def as_data(lesson: str, course_dir: Path | str | Class, rows: Iterable[Graded]) -> dict[str, Any]:
    """What `grade` returned, and what the gradebook knows beside it, if it can be read, for a file of JSON."""
    try:
        known = {score.student: score for score in gradebook.scores(lesson, course_dir)}
    except GradebookError:  # then the run ended for the same reason, and has said so
        known = {}
    found = []
    for row in rows:
        score, data = known.get(row.student), {**asdict(row), "remarks": [row.remark] if row.remark else []}
        del data["remark"]
        if score is not None:
            data["seconds"] = row.seconds or score.seconds or 0.0
            data["remarks"] = [*filter(None, [score.problem]), *score.remarks]
        found.append(data)
    return {"lesson": lesson, "submissions": found}


class _Writer:
    """The only one that writes into the gradebook. What it can't write while that is locked waits."""

    def __init__(
        self,
        lesson: str,
        opened: Class,
        before: dict[str, Graded],
        patience: float,
        on_graded: Callable[[Graded], None],
    ) -> None:
        self.lesson, self.opened, self.before = lesson, opened, before
        self.patience, self.on_graded = patience, on_graded
        self.rows: dict[str, Graded] = {}
        self.remarks: dict[str, str] = {}
        self.problems = 0
        self.waiting: deque[Done] = deque()
        self._next_try = 0.0

    def add(self, done: Done) -> None:
        """Record a submission whose evidence is there, or that failed; now, or when the gradebook lets us."""
        self.waiting.append(done)
        self._write()

    def finish(self, tell: Callable[[], None]) -> None:
        """Record what is left. Raises LockedError if the gradebook stays locked."""
        deadline = time.monotonic() + self.patience
        while self.waiting:
            try:
                self._write(waits=False)
            except LockedError:
                if time.monotonic() > deadline:
                    raise
                tell()
                time.sleep(min(1.0, self.patience))

    def patiently(self, read: Callable[[list[str]], Iterable[gradebook.Pending]]) -> Iterator[gradebook.Pending]:
        """What `read` gives for the students. Where the gradebook is locked meanwhile, it is asked for the rest."""
        names, at = list(self.before), 0
        deadline = time.monotonic() + self.patience
        while True:
            try:
                for pending in read(names[at:]):
                    yield pending
                    at = names.index(pending.student, at) + 1  # those that were passed over are graded
                    deadline = time.monotonic() + self.patience
                return
            except LockedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(min(1.0, self.patience))

    def so_far(self) -> str:
        graded = len(self.rows) - self.problems
        kept = f", {len(self.waiting)} more are run and their evidence is kept" if self.waiting else ""
        return f"{graded} submissions were graded{kept}"

    def _write(self, waits: bool = True) -> None:
        while self.waiting:
            if waits and time.monotonic() < self._next_try:
                return
            try:
                row = self._record(self.waiting[0])
            except LockedError:
                self._next_try = time.monotonic() + AGAIN
                if not waits:
                    raise
                return
            self.waiting.popleft()
            self.rows[row.student] = row
            self.problems += bool(row.problem)
            self.on_graded(row)

    def _record(self, done: Done) -> Graded:
        if done.problem:
            return replace(self.before[done.name], fresh=False, seconds=done.seconds, problem=done.problem)
        try:
            row = gradebook.record(self.lesson, self.opened, done.name)
            return replace(row, seconds=done.seconds, remark=self.remarks.get(done.name, ""))
        except DatabaseError:
            raise
        except GradebookError as error:
            return replace(self.before[done.name], fresh=False, seconds=done.seconds, problem=str(error))


class _Count:
    """How far the run is: what was graded before is known only as the gradebook gets there."""

    def __init__(self, students: list[str], writer: _Writer, on_progress: Callable[[Progress], None]) -> None:
        self.place = {student: number for number, student in enumerate(students)}
        self.writer, self.on_progress = writer, on_progress
        self.seen = self.passed = 0
        self.status: Status | None = None

    def read(self, student: str) -> None:
        self.seen += 1
        self.passed = self.place[student] + 1 - self.seen
        self.tell()

    def tell(self, status: Status | None = None) -> None:
        self.status = status or self.status
        made, problems = len(self.writer.rows), self.writer.problems
        begun = bool(made or (self.status and self.status.running))
        self.on_progress(Progress(len(self.place), self.passed + made, made, problems, self._note(), begun))

    def _note(self) -> str:
        if self.writer.waiting:
            return f"the gradebook is in use by another process, {len(self.writer.waiting)} wait for it"
        if self.status is None:
            return ""
        if not self.status.workers:
            return "waiting for workers"
        return f"{self.status.workers} {'worker' if self.status.workers == 1 else 'workers'}"
