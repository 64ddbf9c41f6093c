"""What people have who have no checkout: the packages' contents, a learner's lessons, and the guides, line by line."""

from __future__ import annotations

import csv
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_class import BY_HAND, LESSON, WRONG, hand_in
from guides import Step, walk
from installed import REPOSITORY, Installed, build, install

from autograder.exercise import Exercise
from autograder.exercises import EXERCISES
from autograder.report import read_results
from autograder.submission import CODE_STUB, parse

pytestmark = pytest.mark.slow

LIMIT = 40_000_000  # bytes, with data and weights
LESSONS = sorted(path.name for path in (REPOSITORY / "lessons").glob("*_*") if path.is_dir())


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("installed"))


# ---------------------------------------------------------------- what is in the packages


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def package(request: pytest.FixtureRequest, course: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return course.wheel if request.param == "wheel" else build("sdist", tmp_path_factory.mktemp("sdist"))


def names_in(package: Path) -> list[str]:
    if package.suffix == ".whl":
        return zipfile.ZipFile(package).namelist()
    with tarfile.open(package) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def text_in(package: Path, end: str) -> str:
    if package.suffix == ".whl":
        archive = zipfile.ZipFile(package)
        return archive.read(next(name for name in archive.namelist() if name.endswith(end))).decode()
    with tarfile.open(package) as archive:
        file = archive.extractfile(next(name for name in archive.getnames() if name.endswith(end)))
        assert file is not None
        return file.read().decode()


def test_lessons_and_data_are_in_and_solutions_are_out(package: Path) -> None:
    names = names_in(package)
    for lesson in LESSONS:
        assert [name for name in names if name.endswith(f"lessons/{lesson}/{lesson}.ipynb")], lesson
        assert CODE_STUB.replace('"', '\\"') in text_in(package, f"lessons/{lesson}/{lesson}.ipynb")
    assert [name for name in names if "datasets/data/" in name and not name.endswith(".txt")]
    assert [name for name in names if "pretrained/data/" in name]
    assert [name for name in names if name.endswith("nbgrader_config.py")]
    assert [name for name in names if name.endswith("scaffold/templates/exercise.txt")]
    assert not [name for name in names if "solutions/" in name or re.search(r"\d\d_\w+\.py$", name)]
    leaked = [name for name in names if re.search(r"(^|/)(tests/|\.git/|\.ci/|\.cases-secret|gradebook\.db)", name)]
    assert not leaked
    assert "BEGIN SOLUTION" not in "".join(text_in(package, f"lessons/{lesson}/{lesson}.ipynb") for lesson in LESSONS)


def test_the_package_keeps_its_limit(package: Path) -> None:
    assert package.stat().st_size < LIMIT


def test_the_wheel_holds_two_packages_one_setting_and_one_extension(course: Installed) -> None:
    tops = {name.split("/")[0] for name in names_in(course.wheel)}
    assert {top for top in tops if not re.search(r"\.(dist-info|data)$", top)} == {"autograder", "course_lib"}
    data = [name for name in names_in(course.wheel) if ".data/" in name]
    setting = [name for name in data if "etc/jupyter/jupyter_server_config.d/" in name]
    extension = [name for name in data if "share/jupyter/labextensions/training-deep-nets/" in name]
    assert len(setting) == 1 and extension and len(data) == len(setting) + len(extension)


# ---------------------------------------------------------------- a learner


def test_a_learners_lessons_are_copied_once_and_never_overwritten(course: Installed) -> None:
    folder = course.home / "mine"
    first = course.run("course", "lab", "--folder", str(folder), "--copy-only")
    assert first.returncode == 0, first.stderr
    mine = folder / LESSON / f"{LESSON}.ipynb"
    assert sorted(path.name for path in folder.glob("*_*")) == LESSONS
    mine.write_text(mine.read_text().replace(CODE_STUB.replace('"', '\\"'), "pass", 1))
    written = mine.read_bytes()
    again = course.run("course", "lab", "--copy-only", folder=folder)
    assert f"Your lessons are in {folder}, all up to date" in again.stderr
    assert mine.read_bytes() == written


def test_a_learner_checks_a_lesson_from_the_terminal(course: Installed) -> None:
    course.run("course", "lab", "--folder", "checked", "--copy-only")
    done = course.run("course", "check", f"checked/{LESSON}/{LESSON}.ipynb")
    assert done.returncode == 1, done.stderr
    assert "Not answered yet." in done.stdout


def test_jupyterlab_is_opened_on_the_learners_own_copy(course: Installed) -> None:
    done = course.run("course", "lab", LESSON, "--folder", "opened", "--", "--show-config", "--no-browser")
    assert done.returncode == 0, done.stderr
    assert str(course.home / "opened") in done.stdout
    lost = course.run("course", "lab", "99_none", "--folder", "opened", "--", "--show-config")
    assert lost.returncode == 2 and "there is no lesson '99_none'" in lost.stderr


def test_a_demo_runs_from_what_is_installed(course: Installed) -> None:
    done = course.run("course", "demo", "--learners", "1", "--folder", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 learners got exactly the points" in done.stdout


# ---------------------------------------------------------------- the guides


def walked(page: str, course: Installed) -> Iterator[Step]:
    for step in walk(REPOSITORY / "docs" / page, course, lambda block: hand_in(block, course)):
        assert step.status == 0, f"{step.block}\n{step.said}"
        yield step


@pytest.fixture(scope="module")
def instructor(course: Installed) -> str:
    """All that the instructor's guide prints."""
    return "".join(step.said for step in walked("instructors.md", course))


def points(path: Path, who: str, column: str) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {row[who]: float(row[column]) for row in rows if row[column]}


def test_the_instructors_guide_leads_from_release_to_points(instructor: str, course: Installed) -> None:
    folder = course.home / "autumn"
    own = {id: r for id, r in EXERCISES.items() if isinstance(r, Exercise) and r.lesson == LESSON}
    worth = {id: record.points for id, record in own.items()} | {WRONG: 6.0, "dropout.keras_phase": 0.0}
    coded = sum(worth.values())
    canvas = points(folder / "canvas.csv", "Student", LESSON)
    assert canvas["Momentum, Ada"] == coded + BY_HAND
    assert coded - worth[WRONG] <= canvas["Lí, Xiao"] < coded
    assert canvas["Batch, Emmy"] == 0
    assert canvas["Points Possible"] == coded + EXERCISES["dropout.explain"].points
    moodle = points(folder / "moodle.csv", "Email address", LESSON)
    assert sorted(moodle.values()) == sorted(value for name, value in canvas.items() if name != "Points Possible")


def test_the_guide_says_what_was_chosen_and_collected(instructor: str) -> None:
    assert "dropout.inverted_dropout: 6 points" in instructor
    assert "dropout.keras_phase: left out" in instructor
    assert re.search(r"ada +collected; late; newest of 2 +\(momentumada_LATE_4711_901", instructor)
    assert re.search(r"li +collected +\(Xiao Lí_20531_assignsubmission_file", instructor)
    assert "3 of 3 submissions graded" in instructor


def test_reports_and_feedback_go_by_the_classs_points(instructor: str, course: Installed) -> None:
    folder = course.home / "autumn"
    results = read_results(LESSON, folder)
    assert {item.exercise: item.max_score for item in results.items}[WRONG] == 6
    assert "dropout.keras_phase" not in {item.exercise for item in results.items}
    ada = next(student for student in results if student.student == "ada")
    assert [part.max_points for part in next(e for e in ada.exercises if e.exercise == WRONG).parts][:2] == [4, 2]
    assert len(list(folder.glob(f"feedback/*/{LESSON}/*.html"))) == 3


def test_what_learners_get_is_the_lesson_with_the_classs_points_in_its_checks(
    instructor: str, course: Installed
) -> None:
    handed_out = course.home / "autumn" / "lessons" / LESSON / f"{LESSON}.ipynb"
    ours = {
        c.id: c.source for c in parse((REPOSITORY / "lessons" / LESSON / handed_out.name).read_bytes(), "ours").cells
    }
    theirs = {c.id: c.source for c in parse(handed_out.read_bytes(), "theirs").cells}
    assert list(theirs) != [] and len(theirs) == len(ours)
    changed = {name for name, source in theirs.items() if source not in ours.values()}
    assert sorted(changed) == ["demo-dropout-keras_phase-check", "dropout-inverted_dropout-check"]
    assert theirs["dropout-inverted_dropout-check"] == f'check("{WRONG}", inverted_dropout, points=6)'


def test_a_new_exercise_takes_ten_minutes_and_no_more_than_the_guide_says(course: Installed) -> None:
    steps = list(walked("new-exercise.md", course))
    said = "".join(step.said for step in steps)
    assert "fill in its title" in said and "fill in its message of misconception unchanged" in said
    assert re.search(r"smoothing\.moving_average +2 of 2 +right", said)
    assert (course.home / "spring" / "lessons" / "50_smoothing" / "50_smoothing.ipynb").is_file()
