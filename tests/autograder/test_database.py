"""A class whose gradebook is on a PostgreSQL server: everything works as with a file, for two graders at once too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import postgres
import pytest
import tiny_course as tiny
from nbgrader.apps.api import NbGraderAPI
from traitlets.config import Config

from autograder import grader
from autograder.engine import Where
from autograder.gradebook import GradebookError, feedback, release, scores
from autograder.gradebook.database import Database
from autograder.submission import read

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_registered")]

Address = Callable[[str], str]
grade = partial(grader.grade, where=Where(workers=0))


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with postgres.server() as address:
        yield address


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_built_course(tmp_path_factory.mktemp("checkout"))


def make_class(folder: Path, checkout: Path, url: str) -> Path:
    """A class with the lesson, its gradebook at `url`."""
    shutil.copytree(checkout, folder)
    with (folder / "nbgrader_config.py").open("a") as config:
        config.write(f"\nc.CourseDirectory.db_url = {url!r}\n")
    release(tiny.LESSON, folder)
    return folder


def hand_in(course: Path, **students: dict[str, str]) -> None:
    released = read(course / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb")
    for student, answers in students.items():
        tiny.submit(course, student, tiny.answered(released, answers))


def test_release_grade_scores_and_feedback(address: Address, checkout: Path, tmp_path: Path) -> None:
    course = make_class(tmp_path / "class", checkout, address("whole"))
    hand_in(course, ada=tiny.ANSWERS, bob={})
    assert [(row.student, row.score, row.problem) for row in grade(tiny.LESSON, course)] == [
        ("ada", tiny.POINTS, ""),
        ("bob", 0.0, ""),
    ]
    assert not any(row.fresh for row in grade(tiny.LESSON, course))
    assert [row.score for row in scores(tiny.LESSON, course)] == [tiny.POINTS, 0.0]
    assert len(feedback(tiny.LESSON, course)) == 2
    assert not (course / "gradebook.db").exists()
    release(tiny.LESSON, course)
    assert [row.score for row in scores(tiny.LESSON, course)] == [tiny.POINTS, 0.0]


def test_what_the_formgrader_asks_for_is_the_same_as_with_a_file(
    address: Address, checkout: Path, tmp_path: Path
) -> None:
    told = []
    for where, url in (("postgres", address("formgrader")), ("sqlite", f"sqlite:///{tmp_path / 'gradebook.db'}")):
        course = make_class(tmp_path / where, checkout, url)
        hand_in(course, ada=tiny.ANSWERS, bob={})
        grade(tiny.LESSON, course)
        config = Config(CourseDirectory={"root": str(course), "db_url": url, "course_id": "training_deep_nets"})
        api = NbGraderAPI(config=config)
        with api.gradebook as gradebook:  # an instructor grades the answer in words
            entry = gradebook.find_grade("tiny-why-explain", tiny.LESSON, tiny.LESSON, "ada")
            entry.manual_score, entry.needs_manual_grade = 1.5, False
            gradebook.db.commit()
        answers = [
            api.get_assignments(),
            api.get_submissions(tiny.LESSON),
            api.get_notebooks(tiny.LESSON),
            api.get_notebook_submissions(tiny.LESSON, tiny.LESSON),
            api.get_students(),
            api.get_student_submissions("ada"),
            api.get_student_notebook_submissions("ada", tiny.LESSON),
        ]
        # ids are drawn, and `index` is a row's place in their order
        plain = [[{k: v for k, v in row.items() if k not in ("id", "index")} for row in rows] for rows in answers]
        told.append([sorted(rows, key=str) for rows in plain])
    assert told[0] == told[1]
    assert next(row["score"] for row in told[0][1] if row["student"] == "ada") == tiny.POINTS + 1.5


GRADE = (
    "import sys; from autograder import engine, grader; "
    "grader.grade('00_tiny', sys.argv[1], force='force' in sys.argv, where=engine.Where(workers=0))"
)
STUDENTS = ("ada", "bob", "cleo", "dan")


@pytest.mark.parametrize("where", ["postgres", "sqlite"])
def test_two_graders_at_once_lose_nothing_and_double_nothing(
    address: Address, checkout: Path, tmp_path: Path, where: str
) -> None:
    url = address("both") if where == "postgres" else f"sqlite:///{tmp_path / 'class' / 'gradebook.db'}"
    course = make_class(tmp_path / "class", checkout, url)
    hand_in(course, **dict.fromkeys(STUDENTS, tiny.ANSWERS))
    commands = [[sys.executable, "-c", GRADE, str(course), *more] for more in ((), ("force",))]
    environment = tiny.environment()
    runs = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    said = [run.communicate(timeout=300)[0] for run in runs]
    if where == "postgres":
        assert [run.returncode for run in runs] == [0, 0], said
    else:  # a file lets one write at a time: the other may be told so, and can be run again
        assert all(
            run.returncode == 0 or "in use by another process" in text for run, text in zip(runs, said, strict=True)
        )
        grade(tiny.LESSON, course)
    rows = scores(tiny.LESSON, course)
    assert [(row.student, row.score) for row in rows] == [(student, tiny.POINTS) for student in STUDENTS]
    assert all(len(row.exercises) == len(tiny.RECORDS) for row in rows)
    for student in STUDENTS:
        assert (course / "autograded" / student / tiny.LESSON / f"{tiny.LESSON}.ipynb").is_file()
    assert not any(row.fresh for row in grade(tiny.LESSON, course))


def test_a_grader_waits_for_the_one_before_and_for_nobody_else(address: Address, tmp_path: Path) -> None:
    for url in (address("waiting"), f"sqlite:///{tmp_path / 'gradebook.db'}"):
        database, order = Database(url), []
        for student in ("ada", "bob"):
            (tmp_path / student).mkdir(exist_ok=True)

        def second(student: str, database: Database = database, order: list[str] = order) -> None:
            with database.alone_with(student, tmp_path / student):
                order.append(student)

        with database.alone_with("ada", tmp_path / "ada"):
            waiting = threading.Thread(target=second, args=("ada",))
            waiting.start()
            second("bob")
            time.sleep(0.3)
            order.append("first is done")
        waiting.join(timeout=20)
        assert order == ["bob", "first is done", "ada"]


# ---------------------------------------------------------------- what goes wrong is one line, without the password


@pytest.fixture(scope="module")
def course(address: Address, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A class, and the address of its gradebook."""
    url = address("errors")
    course = make_class(tmp_path_factory.mktemp("errors") / "class", checkout, url)
    hand_in(course, ada=tiny.ANSWERS)
    return course, url


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda url: url.replace(postgres.PASSWORD, "guess-1234"), "refuses course: see to the password"),
        (lambda url: url.replace("/errors", "/none"), "does not exist: make it with `createdb none`"),
        (lambda url: url.replace(f"{postgres.USER}:", "nobody:"), "refuses nobody: see to the password"),
        (lambda url: url.rpartition(":")[0] + ":1/errors", "can't be reached: does its server run?"),
        (lambda url: url.replace("+psycopg", "+psycopg7"), "needs a driver: pip install"),
        (lambda url: "grades on the server", "db_url in nbgrader_config.py is not the address of a database"),
    ],
)
def test_a_database_that_can_not_be_used(
    course: tuple[Path, str], tmp_path: Path, wrong: Callable[[str], str], message: str
) -> None:
    folder = tmp_path / "class"
    shutil.copytree(course[0], folder)
    with (folder / "nbgrader_config.py").open("a") as config:
        config.write(f"\nc.CourseDirectory.db_url = {wrong(course[1])!r}\n")
    actions: tuple[Callable[..., Any], ...] = (grade, scores, feedback, release)
    for action in actions:
        with pytest.raises(GradebookError) as caught:
            action(tiny.LESSON, folder)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "guess-1234" not in str(caught.value)
        assert postgres.PASSWORD not in str(caught.value)
    assert not (folder / "autograded").exists()


def test_a_password_never_stands_in_a_message() -> None:
    database = Database("postgresql+psycopg://ada:s3cr3t@db.example/grades")
    assert "s3cr3t" not in f"{database} {database.error('odd: postgresql://ada:s3cr3t@db.example failed')}"
    assert str(database) == "the gradebook grades on db.example:5432"


def test_a_server_that_goes_away_midway_costs_no_grade(address: Address, checkout: Path, tmp_path: Path) -> None:
    with postgres.server() as other:
        course = make_class(tmp_path / "class", checkout, other("gone"))
        hand_in(course, ada=tiny.ANSWERS)
    with pytest.raises(GradebookError, match=r"can't be reached|went away") as caught:
        grade(tiny.LESSON, course)
    assert postgres.PASSWORD not in str(caught.value)
