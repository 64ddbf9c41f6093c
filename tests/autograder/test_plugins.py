"""Exercises that other packages ship: found lazily, refused in one line where they can't be, hidden from learners."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from autograder import plugins
from autograder.exercise import CourseError
from autograder.exercises import OWN, Registry, _with_plugins

RECORD = """
from autograder.exercise import Case, Criterion, Exercise, Misconception

def cases(seed):
    yield Case("one", {{"x": 1.0 + seed}})

def probe(candidate, case):
    return {{"y": float(candidate(case["x"]))}}

def helper(x):
    return {body}

def right(x):
    return helper(x)

def wrong(x):
    return x + 1

EXERCISES = (Exercise(id="{id}", lesson="{lesson}", title="Mine", answer="mine", criteria=(Criterion("y", 1),),
    cases=cases, probe=probe, reference=right, misconceptions=(Misconception("wrong", wrong, "Wrong.", "Try."),),
    variants=(), hints=()),)
"""
GOOD = RECORD.format(id="mine.twice", lesson="50_mine", body="2 * x")


def ship(folder: Path, source: str, name: str = "my_exercises", version: str = "1.2") -> Path:
    """A package as pip leaves it, without pip."""
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent(source))
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {name}:EXERCISES\n")
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of this process, in which packages can be put; the tiny course's is not there."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if not p.endswith("plugins"))])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_exercises")]:
        del sys.modules[name]


def python(folder: Path, code: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )


# ---------------------------------------------------------------- found, lazily


def test_they_are_found_without_being_imported(shipped: Path) -> None:
    ship(shipped, "raise SystemExit('imported')")
    assert plugins.versions() == ("my-exercises 1.2 (my_exercises:EXERCISES)",)
    assert plugins.folders() == (str(shipped / "my_exercises"),)


def test_the_courses_own_exercises_need_none_of_them(shipped: Path) -> None:
    ship(shipped, "raise ValueError('broken')")
    registry = Registry(OWN)
    assert registry["dropout.inverted_dropout"] is OWN["dropout.inverted_dropout"]
    with pytest.raises(CourseError, match=r"my-exercises 1.2 .*can't be loaded: ValueError: broken") as caught:
        registry["mine.twice"]
    assert "\n" not in str(caught.value)


def test_they_stand_behind_the_courses_own(shipped: Path) -> None:
    ship(shipped, GOOD)
    registry = Registry(OWN)
    assert [*registry][: len(OWN)] == [*OWN] and [*registry][len(OWN) :] == ["mine.twice"]
    assert registry["mine.twice"].title == "Mine"
    with pytest.raises(KeyError):
        registry["mine.other"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("EXERCISES = 3", "can't be loaded: TypeError"),
        ("", "can't be loaded: AttributeError"),
        ("EXERCISES = ['no record']", "ships 'no record', which is no Exercise"),
        (
            RECORD.format(id="dropout.module", lesson="50_mine", body="x"),
            "has an exercise dropout.module, and so has the course",
        ),
        (RECORD.format(id="dropout.mine", lesson="08_dropout", body="x"), "puts dropout.mine into 08_dropout"),
    ],
)
def test_a_package_that_can_not_be_used_is_named(shipped: Path, source: str, message: str) -> None:
    ship(shipped, source)
    with pytest.raises(CourseError, match=message) as caught:
        _with_plugins(OWN)
    assert "my-exercises 1.2" in str(caught.value) and "\n" not in str(caught.value)


def test_two_packages_with_one_id_are_both_named(shipped: Path) -> None:
    ship(shipped, GOOD)
    ship(shipped, GOOD, name="my_exercises_too")
    with pytest.raises(CourseError, match=r"my-exercises-too 1.2 .*mine.twice, and so has my-exercises 1.2"):
        _with_plugins(OWN)


def test_a_broken_package_is_one_line_on_the_command_line(tmp_path: Path) -> None:
    ship(tmp_path, "import nothing_of_that_name")
    done = python(tmp_path, "from autograder.cli import main; main(['exercises'])")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "No module named 'nothing_of_that_name'" in done.stderr


# ---------------------------------------------------------------- what depends on them


def version_of(folder: Path) -> list[str]:
    code = (
        "from autograder import exercises, judge, engine\n"
        "print(judge.judge_version(exercises.get('mine.twice')), engine.course_version(), "
        "judge.judge_version(exercises.get('dropout.inverted_dropout')))"
    )
    done = python(folder, code)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_change_in_what_an_answer_is_compared_with_is_seen(tmp_path: Path) -> None:
    """Also in a function that the reference only uses: what was graded is judged again."""
    first = version_of(ship(tmp_path / "first", GOOD))
    other = version_of(ship(tmp_path / "other", GOOD.replace("2 * x", "3 * x"), version="1.3"))
    assert first[0] != other[0], "of the exercise"
    assert first[1] != other[1], "of the course, by which workers are told apart"
    assert first[2] == other[2], "of the course's own exercise"


def test_a_graded_kernel_neither_needs_nor_sees_them(shipped: Path) -> None:
    from autograder.sandbox.view import View

    ship(shipped, GOOD)
    assert str(shipped / "my_exercises") in View.of_course().hidden


SEES = """
import asyncio, os, sys
from autograder.evidence import Task, unpack
from autograder.execute import perform
from autograder import exercises
from autograder.judge import request_for

record = exercises.get("mine.twice")
look = "import os\\ntry:\\n    found = os.listdir({folder!r})\\nexcept OSError:\\n    found = []\\nprint(found)"
cells = (("setup", "", look), ("solution", record.id, "def mine(x):\\n    return x + x"), ("check", record.id, ""))
ran = unpack(perform(Task("50_mine", cells, {{record.id: request_for(record, (1,))}}, {{record.id: (1,)}})))
print(ran.outputs[0][0]["text"].strip(), ran.verdicts[record.id]["verdict"]["score"])
"""


@pytest.mark.slow
def test_a_submission_is_graded_by_one_in_a_kernel_that_has_it_not(tmp_path: Path) -> None:
    """Its folder beside the libraries is empty there."""
    ship(tmp_path / "site-packages", GOOD)
    package = str(tmp_path / "site-packages" / "my_exercises")
    done = python(tmp_path / "site-packages", SEES.format(folder=package))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "[] 1.0"
