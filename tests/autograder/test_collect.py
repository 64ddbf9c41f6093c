"""What Canvas and Moodle give for download, taken into submitted/: whose it is, which attempt counts, what stays."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_course as tiny
from nbgrader.api import Gradebook

from autograder import cli
from autograder.gradebook import Collection, GradebookError, collect, release

PEOPLE = (
    ("ada", "Ada", "Momentum", "4711"),
    ("oneil", "Seán", "O'Neil-Batch", "4712"),
    ("li", "随机", "李", "4713"),
    ("kim1", "Kim", "Pool", ""),
    ("kim2", "Kim", "Pool", ""),
)


@pytest.fixture(scope="module")
def released(tiny_registered: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collect") / "class"
    release(tiny.LESSON, folder, source=tiny.make_built_course(tmp_path_factory.mktemp("checkout")))
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        for id, first, last, number in PEOPLE:
            gradebook.add_student(id, first_name=first, last_name=last, lms_user_id=number or None)
    return folder


@pytest.fixture
def course(released: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "class"
    shutil.copytree(released, folder)
    return folder


def notebook(answer: str, lesson: str = tiny.LESSON) -> bytes:
    made = tiny.answered(tiny.released(), {"tiny.double": answer})
    made.metadata["training_deep_nets"]["lesson"] = lesson
    return json.dumps(made).encode()


def packed(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def taken(found: Collection) -> dict[str, str]:
    return {row.student: row.what for row in found.students}


def submitted(course: Path, student: str) -> bytes:
    return (course / "submitted" / student / tiny.LESSON / f"{tiny.LESSON}.ipynb").read_bytes()


ONE, TWO, THREE = notebook("one"), notebook("two"), notebook("three")


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("momentumada_4711_900_00_tiny.ipynb", "ada"),
        ("momentumada_LATE_4711_900_my_own_4711_name-2.ipynb", "ada"),
        ("momentumada_99_900_00_tiny.ipynb", "ada"),  # a number that the roster lacks, but the name fits
        ("oneilbatchseán_4712_900_00_tiny.ipynb", "oneil"),
        ("Ada Momentum_20531_assignsubmission_file/00_tiny.ipynb", "ada"),
        ("Ada Momentum_20531_assignsubmission_file_/00_tiny.ipynb", "ada"),
        ("Ada Momentum_20531_assignsubmission_file_00_tiny.ipynb", "ada"),
        ("a folder/Seán ONeil-Batch_7_assignsubmission_file/deeper/00_tiny.ipynb", "oneil"),
        ("李 随机_20532_assignsubmission_file/00_tiny.ipynb", "li"),
        # what a learner calls a file or a folder makes it nobody else's
        ("Ada Momentum_2_assignsubmission_file/x_4712_900_00_tiny.ipynb", "ada"),
        ("Ada Momentum_2_assignsubmission_file/Seán ONeil-Batch_7_assignsubmission_file/00_tiny.ipynb", "ada"),
        ("Ada Momentum_2_assignsubmission_file_Seán ONeil-Batch_7_assignsubmission_file_x.ipynb", "ada"),
        ("momentumada_4711_900_Seán ONeil-Batch_7_assignsubmission_file_x.ipynb", "ada"),
        ("momentumada_4711_900_x_4712_901_00_tiny.ipynb", "ada"),
        ("ada/00_tiny.ipynb", "ada"),
        ("ada.ipynb", "ada"),
    ],
)
def test_a_files_name_says_whose_it_is(course: Path, tmp_path: Path, name: str, student: str) -> None:
    found = collect(tiny.LESSON, course, packed(tmp_path / "d.zip", {name: ONE}))
    assert taken(found) == {student: "new"} and not found.nobodys
    assert submitted(course, student) == ONE


@pytest.mark.parametrize(
    "name",
    [
        "doejane_9999_900_00_tiny.ipynb",
        "anon_x7Gh2_900_00_tiny.ipynb",
        "Kim Pool_4_assignsubmission_file/00_tiny.ipynb",  # there are two
        "Participant_4_assignsubmission_file/00_tiny.ipynb",
        "../../ada_/00_tiny.ipynb",
        "00_tiny.ipynb",
    ],
)
def test_what_is_nobodys_is_named_and_written_nowhere(course: Path, tmp_path: Path, name: str) -> None:
    found = collect(tiny.LESSON, course, packed(tmp_path / "d.zip", {name: ONE, "ada.ipynb": TWO}))
    assert found.nobodys == (name,)
    assert [path.name for path in (course / "submitted").iterdir()] == ["ada"]


def test_the_newest_attempt_counts_and_late_is_told(course: Path, tmp_path: Path) -> None:
    files = {"a_4711_1000_x.ipynb": ONE, "a_LATE_4711_1002_x-2.ipynb": THREE, "a_4711_1001_x-1.ipynb": TWO}
    found = collect(tiny.LESSON, course, packed(tmp_path / "d.zip", files))
    assert [(row.student, row.late, row.others) for row in found.students] == [("ada", True, 2)]
    assert submitted(course, "ada") == THREE


def test_collecting_again_changes_nothing(course: Path, tmp_path: Path) -> None:
    download = packed(tmp_path / "d.zip", {"a_4711_1000_x.ipynb": ONE})
    assert taken(collect(tiny.LESSON, course, download)) == {"ada": "new"}
    assert taken(collect(tiny.LESSON, course, download)) == {"ada": "same"}


def test_a_newer_download_replaces_an_older_one_and_never_the_other_way(course: Path, tmp_path: Path) -> None:
    old = packed(tmp_path / "old.zip", {"a_4711_1000_x.ipynb": ONE})
    new = packed(tmp_path / "new.zip", {"a_4711_1001_x.ipynb": TWO})
    collect(tiny.LESSON, course, old)
    assert taken(collect(tiny.LESSON, course, new)) == {"ada": "newer"}
    assert taken(collect(tiny.LESSON, course, old)) == {"ada": "older"}
    assert submitted(course, "ada") == TWO


def test_what_came_otherwise_is_kept_unless_replace_is_asked_for(course: Path, tmp_path: Path) -> None:
    download = packed(tmp_path / "d.zip", {"a_4711_1000_x.ipynb": ONE})
    tiny.submit(course, "ada", TWO)
    assert taken(collect(tiny.LESSON, course, download)) == {"ada": "kept"}
    assert submitted(course, "ada") == TWO
    assert taken(collect(tiny.LESSON, course, download, replace=True)) == {"ada": "newer"}
    assert submitted(course, "ada") == ONE
    tiny.submit(course, "ada", THREE)  # somebody mended the file by hand
    newer = packed(tmp_path / "newer.zip", {"a_4711_1001_x.ipynb": TWO})
    assert taken(collect(tiny.LESSON, course, newer)) == {"ada": "kept"}


def test_notebooks_of_other_lessons_are_left_out_and_damaged_ones_are_taken(course: Path, tmp_path: Path) -> None:
    files = {
        "a_4711_1000_x.ipynb": notebook("one", "01_other"),
        "s_4712_1001_x.ipynb": b"no notebook",
        "l_4713_1002_x.ipynb": ONE,
        "l_4713_1003_notes.ipynb": b"{}",
    }
    found = collect(tiny.LESSON, course, packed(tmp_path / "d.zip", files))
    assert found.of_other_lessons == ("a_4711_1000_x.ipynb",)
    assert taken(found) == {"li": "new", "oneil": "new"}
    assert submitted(course, "li") == ONE, "a notebook of the lesson, though another file is newer"


def test_a_folder_may_hold_files_and_archives(course: Path, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    (folder / "ada").mkdir(parents=True)
    (folder / "ada" / "mine.ipynb").write_bytes(ONE)
    (folder / "readme.txt").write_text("not a notebook")
    packed(folder / "d.zip", {"s_4712_1001_x.ipynb": TWO, "s_4712_1001_x.txt": b"text"})
    assert taken(collect(tiny.LESSON, course, folder)) == {"ada": "new", "oneil": "new"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.write_text("text"), "is neither a folder nor a zip archive"),
        (
            lambda path: path.write_bytes(
                packed(path, {"ada.ipynb": ONE}).read_bytes().replace(b"nbformat", b"damaged!")
            ),
            "can't be unpacked",
        ),
    ],
)
def test_what_is_no_download_is_refused(course: Path, tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "download.zip")
    with pytest.raises(GradebookError, match=message):
        collect(tiny.LESSON, course, tmp_path / "download.zip")
    assert not (course / "submitted").exists()


def test_the_command_tells_one_line_a_student_and_one_for_strangers(
    course: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    files = {"a_LATE_4711_1000_x.ipynb": ONE, **{f"x{n}_99_{n}_x.ipynb": TWO for n in range(7)}}
    download = packed(tmp_path / "d.zip", files)
    with pytest.raises(SystemExit) as ended:
        cli.main(["collect", tiny.LESSON, "--from", str(download), "--course", str(course)])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out.splitlines()[-1] == "1 of 1 collected for 00_tiny"
    assert "ada                      collected; late  (a_LATE_4711_1000_x.ipynb)" in said.out
    assert "x4_99_4_x.ipynb and 2 more" in said.err and len(said.err.splitlines()) == 1
