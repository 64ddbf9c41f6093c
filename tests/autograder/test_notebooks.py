"""From source to release: what the build writes, and everything that it refuses."""

from __future__ import annotations

import copy
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import tiny_course as tiny
from IPython.core.inputtransformer2 import TransformerManager

from autograder import notebooks
from autograder.exercise import CourseError
from autograder.files import write_whole
from autograder.notebooks import LeakError, SourceError, find_leaks, source_to_notebook
from autograder.submission import MARK, nbformat, role_of


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    path = tmp_path / f"{tiny.LESSON}.py"
    path.write_text(tiny.SOURCE, "utf-8")
    return path


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose lesson is built, once for this file."""
    folder = tiny.make_course(tmp_path_factory.mktemp("course"))
    notebooks.build(tiny.LESSON, root=folder, records=tiny.RECORDS)
    return folder


# ---------------------------------------------------------------- nbgrader's source notebook


def test_cells_get_nbgraders_metadata_and_points_from_the_records(source_file: Path) -> None:
    notebook = source_to_notebook(source_file, tiny.RECORDS)
    facts = {
        cell.metadata.nbgrader.grade_id: (
            cell.cell_type,
            cell.metadata.nbgrader.grade,
            cell.metadata.nbgrader.solution,
            cell.metadata.nbgrader.locked,
            cell.metadata.nbgrader.get("points"),
        )
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }
    special = {name: fact for name, fact in facts.items() if not name.startswith(("setup-", "demo-"))}
    assert special == {
        "tiny-double-solution": ("code", False, True, False, None),
        "tiny-double-check": ("code", True, False, True, 3),
        "tiny-square-solution": ("code", False, True, False, None),
        "tiny-square-check": ("code", True, False, True, 2),
        "tiny-why-explain": ("markdown", True, True, False, 2),
    }
    locked = [fact for name, fact in facts.items() if name not in special]
    assert locked == [("code", False, False, True, None)] * 2


def test_the_notebook_is_marked_valid_and_without_outputs(source_file: Path) -> None:
    notebook = source_to_notebook(source_file, tiny.RECORDS)
    nbformat().validate(notebook)
    assert notebook.metadata[MARK]["lesson"] == tiny.LESSON
    assert "edit that file" in notebook.metadata[MARK]["generated"]
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)


def test_cell_ids_are_unique_and_do_not_depend_on_the_other_cells(source_file: Path) -> None:
    before = [cell.id for cell in source_to_notebook(source_file, tiny.RECORDS).cells]
    source_file.write_text("# %%\nnew = 1\n\n" + tiny.SOURCE, "utf-8")
    after = [cell.id for cell in source_to_notebook(source_file, tiny.RECORDS).cells]
    assert len(set(before)) == len(before)
    assert after[1:] == before


def test_two_equal_cells_get_two_ids(source_file: Path) -> None:
    source_file.write_text('# %% role="demo"\n1\n\n# %% role="demo"\n1\n\n' + tiny.SOURCE, "utf-8")
    notebook = source_to_notebook(source_file, tiny.RECORDS)
    assert notebook.cells[0].metadata.nbgrader.grade_id != notebook.cells[1].metadata.nbgrader.grade_id


def test_role_of_undoes_grade_id(source_file: Path) -> None:
    roles = [role_of(cell) for cell in source_to_notebook(source_file, tiny.RECORDS).cells]
    assert ("check", "tiny.double") in roles
    assert ("demo", "") in roles
    assert roles[0] == ("", "")


SQUARE_CHECK = '# %% exercise="tiny.square" role="check"\ncheck("tiny.square", square)\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tiny.square", "tiny.cube", r"cell 6: there is no exercise 'tiny.cube'"),
        (SQUARE_CHECK, "", "'tiny.square' has a solution cell, but no check cell"),
        ('exercise="tiny.square" role="solution"', "", r"solution markers in a cell that has no role"),
        ('role="solution"\ndef square', 'role="demo"\ndef square', "a demo cell belongs to no exercise"),
        (SQUARE_CHECK, SQUARE_CHECK * 2, "cell 8: exercise 'tiny.square' has a second check cell"),
        ('    ### END SOLUTION\n\n# %% exercise="tiny.square" role="check"', '# %% role="demo"', "needs them in pairs"),
        ("def square(x):\n    ### BEGIN", "def other(x):\n    ### BEGIN", "does not define 'square'"),
        ('check("tiny.square", square)', 'check("tiny.double", square)', "must be the one line check"),
        ('check("tiny.square", square)', 'check("tiny.square", double)', "must be the one line check"),
        ('check("tiny.square", square)', 'check("tiny.square", square);', "must be the one line check"),
        ('role="demo"', 'role="show"', "unknown role 'show'"),
        ('role="demo"', 'points="3"', "unknown option 'points'"),
        ('[markdown] exercise="tiny.why" role="explain"', 'exercise="tiny.why" role="explain"', "in a markdown cell"),
        ('exercise="tiny.why" role="explain"', "", "solution markers in a cell"),
        ('exercise="tiny.square" role="check"', 'exercise="tiny.why" role="check"', "can't have role 'check'"),
    ],
)
def test_a_wrong_source_is_refused(source_file: Path, old: str, new: str, message: str) -> None:
    assert old in tiny.SOURCE
    source_file.write_text(tiny.SOURCE.replace(old, new), "utf-8")
    with pytest.raises(SourceError, match=message):
        source_to_notebook(source_file, tiny.RECORDS)


def test_a_record_that_no_cell_uses_is_refused(source_file: Path) -> None:
    records = {**tiny.RECORDS, "tiny.more": replace(tiny.RECORDS["tiny.square"], id="tiny.more")}
    with pytest.raises(SourceError, match=r"'tiny.more' belongs to this lesson, but no cell uses it"):
        source_to_notebook(source_file, records)


def test_an_exercise_of_another_lesson_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "01_other.py"
    path.write_text(tiny.SOURCE, "utf-8")
    with pytest.raises(SourceError, match=r"'tiny.double' belongs to lesson 00_tiny"):
        source_to_notebook(path, tiny.RECORDS)


def test_a_check_before_its_solution_is_refused(source_file: Path) -> None:
    source_file.write_text(SQUARE_CHECK + "\n" + tiny.SOURCE.replace(SQUARE_CHECK, ""), "utf-8")
    with pytest.raises(SourceError, match=r"checked before, or without, its solution"):
        source_to_notebook(source_file, tiny.RECORDS)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such source"):
        source_to_notebook(tmp_path / "00_tiny.py", tiny.RECORDS)


# ---------------------------------------------------------------- Colab


def test_without_an_address_there_is_no_cell_for_colab(source_file: Path) -> None:
    assert not any(cell.id == "setup-colab" for cell in source_to_notebook(source_file, tiny.RECORDS).cells)


def test_the_address_is_read_from_the_projects_file(tmp_path: Path) -> None:
    assert notebooks.repository_address(tmp_path) == ""
    (tmp_path / "pyproject.toml").write_text('[tool.course]\nrepository = "https://git.example.org/course"\n')
    assert notebooks.repository_address(tmp_path) == "https://git.example.org/course"


@pytest.mark.parametrize(
    ("colab", "there", "installs"), [(False, False, 0), (False, True, 0), (True, True, 0), (True, False, 1)]
)
def test_the_cell_for_colab_installs_there_once_and_nowhere_else(
    source_file: Path, monkeypatch: pytest.MonkeyPatch, colab: bool, there: bool, installs: int
) -> None:
    cells = source_to_notebook(source_file, tiny.RECORDS, repository="https://git.example.org/course").cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert (first.id, role_of(first)[0], first.metadata.nbgrader.locked) == ("setup-colab", "setup", True)
    ran: list[tuple[str, str]] = []
    shell = SimpleNamespace(run_line_magic=lambda name, line: ran.append((name, line)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if there else None)
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    exec(TransformerManager().transform_cell(first.source), {"get_ipython": lambda: shell})
    want = ("pip", 'install --quiet --no-deps "training-deep-nets @ git+https://git.example.org/course"')
    assert ran == [want] * installs


# ---------------------------------------------------------------- leaks


@pytest.fixture(scope="module")
def pair() -> tuple[object, object]:
    """A release and the source notebook that it was made from."""
    release = tiny.released()
    source = copy.deepcopy(release)
    tiny.find(source, "tiny.double", "solution").source = tiny.SOURCE.split('role="solution"\n')[1].split("\n# %%")[0]
    return release, source


def test_a_clean_release_passes(pair: tuple) -> None:
    find_leaks(pair[0], pair[1])


@pytest.mark.parametrize(
    ("exercise", "role", "leak", "message"),
    [
        (
            "tiny.double",
            "solution",
            "def double(x):\n    twice_as_much = x + x",
            "solution line left in cell 2: 'twice_as",
        ),
        ("tiny.why", "explain", "twice_as_much = x + x", "solution line left in cell 8"),
        ("tiny.double", "check", "### BEGIN HIDDEN TESTS", "marker 'BEGIN HIDDEN TESTS' left in cell 3"),
        ("tiny.double", "solution", "def double(x):\n    ### END SOLUTION\n    ...", "marker 'END SOLUTION' left"),
        ("tiny.double", "solution", "def double(x):\n    ...", "the stub in cell 2 does not raise NotImplementedError"),
        ("tiny.double", "check", "check(", "cell 3 does not compile"),
        ("tiny.double", "check", "return 3", "cell 3 does not compile: 'return' outside function"),
    ],
)
def test_a_leak_is_named(pair: tuple, exercise: str, role: str, leak: str, message: str) -> None:
    release = copy.deepcopy(pair[0])
    tiny.find(release, exercise, role).source = leak
    with pytest.raises(LeakError, match=message):
        find_leaks(release, pair[1])


def test_an_output_is_a_leak(pair: tuple) -> None:
    release = copy.deepcopy(pair[0])
    tiny.find(release, "tiny.double", "check").outputs = [nbformat().v4.new_output("stream", text="4")]
    with pytest.raises(LeakError, match=r"output left in cell 3"):
        find_leaks(release, pair[1])


def test_magics_and_top_level_await_compile(pair: tuple) -> None:
    release = copy.deepcopy(pair[0])
    release.cells[1].source = "%matplotlib inline\nawait something()"
    find_leaks(release, pair[1])


# ---------------------------------------------------------------- the build, with nbgrader itself


def test_the_build_writes_source_notebook_release_and_images_only(course: Path) -> None:
    made = sorted(str(p.relative_to(course)) for p in course.rglob("*") if p.is_file())
    assert made == [
        "lessons/00_tiny/00_tiny.ipynb",
        "lessons/00_tiny/dot.svg",
        "nbgrader_config.py",
        "solutions/00_tiny/00_tiny.ipynb",
        "solutions/00_tiny/00_tiny.py",
        "solutions/00_tiny/dot.svg",
    ]


def test_the_release_is_what_the_quick_one_of_these_tests_imitates(course: Path) -> None:
    real = nbformat().read(course / "lessons/00_tiny/00_tiny.ipynb", as_version=4)
    assert [cell.source for cell in real.cells] == [cell.source for cell in tiny.released().cells]


@pytest.mark.slow
def test_a_second_build_gives_the_same_bytes(course: Path, tmp_path: Path) -> None:
    again = tiny.make_course(tmp_path / "elsewhere")
    names = notebooks.build(tiny.LESSON, root=again, records=tiny.RECORDS).files
    assert {name: (again / name).read_bytes() for name in names} == {
        name: (course / name).read_bytes() for name in names
    }


@pytest.mark.slow
def test_check_names_the_stale_file_and_writes_nothing(course: Path) -> None:
    stale = course / "lessons/00_tiny/00_tiny.ipynb"
    good = stale.read_bytes()
    stale.write_bytes(good + b"\n")
    with pytest.raises(
        CourseError, match=r"^lessons/00_tiny/00_tiny.ipynb is not what .*: run `course build 00_tiny`$"
    ):
        notebooks.build(tiny.LESSON, check=True, root=course, records=tiny.RECORDS)
    assert stale.read_bytes() == good + b"\n"
    built = notebooks.build(tiny.LESSON, root=course, records=tiny.RECORDS)
    assert built.changed == ("lessons/00_tiny/00_tiny.ipynb",)
    assert stale.read_bytes() == good


@pytest.mark.slow
def test_a_build_that_would_leak_writes_nothing(tmp_path: Path) -> None:
    course = tiny.make_course(tmp_path, config='c.ClearSolutions.code_stub = {"python": "..."}')
    with pytest.raises(LeakError, match=r"does not raise NotImplementedError"):
        notebooks.build(tiny.LESSON, root=course, records=tiny.RECORDS)
    assert not list(course.rglob("*.ipynb"))


def test_an_unknown_lesson_is_one_line_with_the_known_ones(tmp_path: Path) -> None:
    course = tiny.make_course(tmp_path)
    with pytest.raises(CourseError, match=r"^unknown lesson '99_none'; the lessons are: 00_tiny$"):
        notebooks.build("99_none", root=course, records=tiny.RECORDS)


def test_what_nbgrader_says_is_passed_on(tmp_path: Path) -> None:
    course = tiny.make_course(tmp_path, config='c.GenerateAssignment.preprocessors = ["no.such.Thing"]')
    with pytest.raises(CourseError, match=r"nbgrader could not make the release of 00_tiny: ModuleNotFoundError.*'no'"):
        notebooks.build(tiny.LESSON, root=course, records=tiny.RECORDS)


def test_no_write_permission_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(CourseError, match=r"^cannot write .*lesson.ipynb: Permission denied$"):
        write_whole(tmp_path / "lesson.ipynb", b"{}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CourseError, match=r"Permission denied"):
        write_whole(tmp_path / "lesson.ipynb", b"{}")


def test_outside_a_checkout_the_package_s_own_is_found(tmp_path: Path) -> None:
    assert notebooks.course_root(tmp_path) == tiny.REPOSITORY
