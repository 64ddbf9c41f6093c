"""A class graded by the engine and one writer: who is run, who is recorded, what a lock and a regrade cost."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_performs as fake
import pytest
import tiny_course as tiny

from autograder import execute, gradebook, grader
from autograder.engine import EngineError, Where
from autograder.evidence import Task
from autograder.exercise import CourseError
from autograder.gradebook import GradebookError, LockedError
from autograder.progress import Progress
from autograder.submission import grade_id, read

pytestmark = pytest.mark.usefixtures("tiny_registered")
HERE = Where(workers=0)
SHIFTED = {**tiny.ANSWERS, "tiny.double": "def double(x):\n    return x * x"}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = tiny.make_built_course(tmp_path_factory.mktemp("checkout"))
    folder = tmp_path_factory.mktemp("released") / "class"
    gradebook.release(tiny.LESSON, folder, source=checkout)
    return folder


@pytest.fixture
def course(released: Path, tmp_path: Path) -> Path:
    shutil.copytree(released, tmp_path / "class")
    return tmp_path / "class"


def hand_in(course: Path, **students: Any) -> None:
    """Each student's answers, or raw bytes."""
    handed_out = read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")
    for student, work in students.items():
        tiny.submit(course, student, work if isinstance(work, bytes) else tiny.answered(handed_out, work))


class Counting:
    """An honest perform that knows how often it was asked, and whether evidence was there to be judged anew."""

    def __init__(self) -> None:
        self.kept: list[bool] = []

    def __call__(self, task: Task, kept: bytes | None = None) -> bytes:
        self.kept.append(kept is not None)
        return fake.honestly(task, kept)


def grade(course: Any, students: Any = None, **options: Any) -> dict[str, gradebook.Graded]:
    options = {"where": HERE, "perform": fake.honestly, **options}
    return {row.student: row for row in grader.grade(tiny.LESSON, course, students, **options)}


def points(rows: dict[str, gradebook.Graded]) -> dict[str, float]:
    return {student: row.score for student, row in rows.items()}


def test_each_gets_what_the_work_is_worth_and_is_run_once(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS, bob=SHIFTED, cleo=b"no notebook", dora={})
    told: list[gradebook.Graded] = []
    count = Counting()
    rows = grade(course, perform=count, on_graded=told.append)
    assert points(rows) == {"ada": 5.0, "bob": 4.0, "cleo": 0.0, "dora": 0.0}
    assert list(rows) == ["ada", "bob", "cleo", "dora"] and all(row.fresh for row in rows.values())
    assert sorted(row.student for row in told) == list(rows) and len(count.kept) == 3
    again = grade(course, perform=count)
    assert points(again) == points(rows) and not any(row.fresh for row in again.values()) and len(count.kept) == 3


def test_what_changed_is_graded_again_and_nothing_else(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS, bob=SHIFTED)
    grade(course)
    hand_in(course, bob=tiny.ANSWERS)
    assert {s: (row.score, row.fresh) for s, row in grade(course).items()} == {"ada": (5.0, False), "bob": (5.0, True)}


def test_force_runs_again(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS, bob=SHIFTED)
    count = Counting()
    grade(course, perform=count)
    assert grade(course, ["ada"], perform=count, force=True)["ada"].fresh
    assert count.kept == [False, False, False]


def test_another_judge_judges_kept_evidence_and_leaves_an_instructors_points(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(course, ada=tiny.ANSWERS, bob=SHIFTED)
    count = Counting()
    grade(course, perform=count)
    with gradebook.open_class(course).gradebook() as book:
        cell = grade_id("tiny.square", "check")
        book.find_grade(cell, tiny.LESSON, tiny.LESSON, "ada").manual_score = 0.5
        book.db.commit()
    monkeypatch.setattr(execute, "judge_version", lambda record: "another")
    rows = grade(course, perform=count)
    assert points(rows) == {"ada": 3.5, "bob": 4.0} and all(row.fresh for row in rows.values())
    assert count.kept == [False, False, True, True]


def test_a_submission_that_fails_keeps_its_points_and_stops_nobody(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS, bob=tiny.ANSWERS)
    grade(course)

    def fails(task: Task, kept: bytes | None = None) -> bytes:
        raise CourseError("could not start a kernel: none left")

    hand_in(course, ada=SHIFTED)
    rows = grade(course, perform=fails)
    assert rows["ada"].problem == "could not start a kernel: none left" and not rows["ada"].fresh
    assert points(rows) == {"ada": 5.0, "bob": 5.0}
    assert points(grade(course)) == {"ada": 4.0, "bob": 5.0}


def test_a_submission_that_nbgrader_refuses_stops_nobody(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = gradebook.record

    def refuse_ada(lesson: str, opened: Any, student: str) -> gradebook.Graded:
        if student == "ada":
            raise GradebookError("ada: KeyError: as it happens")
        return record(lesson, opened, student)

    hand_in(course, ada=tiny.ANSWERS, bob=tiny.ANSWERS)
    monkeypatch.setattr(gradebook, "record", refuse_ada)
    rows = grade(course)
    assert (rows["ada"].problem, rows["bob"].problem) == ("ada: KeyError: as it happens", "")
    assert points(rows) == {"ada": 0.0, "bob": 5.0}


@pytest.mark.slow
def test_a_class_on_workers_gets_the_same(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_in(course, **{f"s{i}": SHIFTED if i % 3 else tiny.ANSWERS for i in range(6)}, cleo=b"{")
    told: list[Progress] = []
    rows = grade(course, where=Where(workers=2), on_progress=told.append)
    assert points(rows) == {"cleo": 0.0} | {f"s{i}": 4.0 if i % 3 else 5.0 for i in range(6)}
    assert told[-1].done == told[-1].total == told[-1].made == 7
    assert any(progress.note == "waiting for workers" for progress in told)


def test_progress_counts_what_was_graded_before(course: Path) -> None:
    hand_in(course, **{f"s{i}": tiny.ANSWERS for i in range(5)})
    grade(course, ["s0", "s1", "s3"])
    told: list[Progress] = []
    grade(course, on_progress=told.append)
    assert (told[-1].total, told[-1].done, told[-1].made) == (5, 5, 2)
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)


# ---------------------------------------------------------------- a gradebook that is in use


def lock(course: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(course / "gradebook.db", timeout=30, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A gradebook that says at once that it is locked, and a writer that tries again soon."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3.dbapi2, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.1}))
    monkeypatch.setattr(grader, "AGAIN", 0.2)
    yield


@pytest.mark.usefixtures("impatient")
def test_what_cannot_be_recorded_is_run_and_kept(course: Path) -> None:
    hand_in(course, **{f"s{i}": tiny.ANSWERS for i in range(4)})
    held: list[sqlite3.Connection] = []
    opened = gradebook.open_class(course)

    def locks_at_the_second(task: Task, kept: bytes | None = None) -> bytes:
        if len(count.kept) == 1:
            held.append(lock(course))
        return count(task, kept)

    count = Counting()
    with pytest.raises(LockedError) as refused:
        grade(opened, perform=locks_at_the_second, patience=0.5)
    held[0].rollback()
    assert str(refused.value).endswith(
        "; 1 submissions were graded, 3 more are run and their evidence is kept. "
        "Run the same command again to grade the rest"
    )
    rows = grade(course, perform=count)
    assert len(count.kept) == 4 and set(points(rows).values()) == {5.0}
    assert [row.fresh for row in rows.values()] == [False, True, True, True]


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_passes_is_waited_for(course: Path) -> None:
    hand_in(course, **{f"s{i}": tiny.ANSWERS for i in range(4)})
    notes: set[str] = set()

    def locks_for_a_second(task: Task, kept: bytes | None = None) -> bytes:
        if not held:
            held.append(lock(course))
            threading.Timer(1, held[0].rollback).start()
        return fake.honestly(task, kept)

    held: list[sqlite3.Connection] = []
    rows = grade(
        gradebook.open_class(course), perform=locks_for_a_second, on_progress=lambda progress: notes.add(progress.note)
    )
    assert set(points(rows).values()) == {5.0}
    assert any("in use by another process" in note for note in notes)


def test_a_gradebook_that_is_locked_from_the_start_is_said_at_once(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    held = lock(course)
    start = time.monotonic()
    with pytest.raises(LockedError, match="in use by another process"):
        grade(course)
    held.rollback()
    assert time.monotonic() - start < grader.PATIENCE


def test_a_gradebook_that_cannot_be_written_any_more_stops_the_run(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(course, ada=tiny.ANSWERS, bob=tiny.ANSWERS)
    opened = gradebook.open_class(course)

    def damages(task: Task, kept: bytes | None = None) -> bytes:
        (course / "gradebook.db").write_bytes(b"no database" * 1000)
        return fake.honestly(task, kept)

    with pytest.raises(GradebookError, match="is damaged: put a backup in its place; 0 submissions were graded"):
        grade(opened, perform=damages)


# ---------------------------------------------------------------- what can't be done is one line


def test_nobody_and_nowhere(course: Path, tmp_path: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    with pytest.raises(GradebookError, match="nobody has handed in nothing for 00_tiny"):
        grade(course, ["nobody"])
    with pytest.raises(GradebookError, match="is not a class's folder"):
        grade(tmp_path)
    with pytest.raises(GradebookError, match="there is no folder"):
        gradebook.open_class(course, submitted=tmp_path / "none")
    (course / "gradebook.db").unlink()
    with pytest.raises(GradebookError, match="there is no gradebook"):
        grade(course)


def test_a_scheduler_that_cannot_be_reached_says_what_was_graded(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    with pytest.raises(EngineError, match=r"missing port .*; 0 submissions were graded. Run the same command again"):
        grade(course, where=Where(scheduler="nonsense"))


def test_work_that_lies_elsewhere(course: Path, tmp_path: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    (course / "submitted").rename(tmp_path / "inbox")
    rows = grade(gradebook.open_class(course, submitted=tmp_path / "inbox"))
    assert points(rows) == {"ada": 5.0} and (course / "autograded" / "ada").is_dir()


def test_unsafe_is_part_of_the_task(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS)
    (walled,) = gradebook.pending(tiny.LESSON, course)
    (bare,) = gradebook.pending(tiny.LESSON, gradebook.open_class(course, unsafe=True))
    assert walled.task and bare.task == replace(walled.task, unsafe=True) and bare.task.key != walled.task.key


def test_results_as_data(course: Path) -> None:
    hand_in(course, ada=tiny.ANSWERS, cleo=b"{")
    notebook = read(course / "submitted" / "ada" / tiny.LESSON / f"{tiny.LESSON}.ipynb")
    notebook.cells.remove(tiny.find(notebook, "tiny.square", "check"))
    tiny.submit(course, "ada", notebook)
    rows = grade(course).values()
    data = json.loads(json.dumps(grader.as_data(tiny.LESSON, course, rows)))
    ada, cleo = data["submissions"]
    assert data["lesson"] == tiny.LESSON
    assert (ada["student"], ada["score"], ada["max_score"], ada["problem"]) == ("ada", 5.0, 7.0, "")
    assert ada["seconds"] > 0 and len(ada["remarks"]) == 1
    assert cleo["score"] == 0.0 and "not a notebook" in cleo["remarks"][0] and not cleo["problem"]


@pytest.mark.usefixtures("impatient")
def test_a_lock_while_submissions_are_read_is_waited_for(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_in(course, **{f"s{i}": tiny.ANSWERS for i in range(4)})
    read, asked = gradebook.pending, []

    def locked_at_the_third(lesson: str, opened: Any, names: list[str], **options: Any) -> Iterator[gradebook.Pending]:
        asked.append(list(names))
        for number, pending in enumerate(read(lesson, opened, names, **options)):
            if number == 2 and len(asked) == 1:
                raise LockedError("in use")
            yield pending

    monkeypatch.setattr(gradebook, "pending", locked_at_the_third)
    assert set(points(grade(course)).values()) == {5.0}
    assert asked == [["s0", "s1", "s2", "s3"], ["s2", "s3"]]
