"""The course's first page: its map is made from the lessons and their records, and names what its source lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny_course as tiny

from autograder import exercises, index, notebooks
from autograder.exercise import CourseError
from autograder.notebooks import SourceError
from autograder.submission import nbformat

ROOT = Path(__file__).resolve().parents[2]
SOURCE = f"""# %% [markdown]
# # A course

# %% [markdown] lesson="{tiny.LESSON}" after="99_later"
# What is
# it | about?

# %% [markdown] lesson="99_later"
# Not there yet.

# %%
1 + 1
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tiny.make_built_course(tmp_path / "checkout")
    lesson = folder / "lessons" / tiny.LESSON
    lesson.mkdir(parents=True)
    (lesson / f"{tiny.LESSON}.ipynb").write_text(nbformat().writes(tiny.released()), "utf-8")
    (folder / "solutions" / "index.py").write_text(SOURCE, "utf-8")
    return folder


def built(checkout: Path) -> list:
    index.build(root=checkout, records=tiny.RECORDS)
    return nbformat().read(checkout / "lessons" / "index.ipynb", as_version=4).cells


def test_the_committed_page_is_what_its_source_and_the_lessons_give():
    assert not index.build(check=True, root=ROOT).changed


def test_every_lesson_has_a_row_whose_links_lead_somewhere():
    cells = nbformat().read(ROOT / "lessons" / "index.ipynb", as_version=4).cells
    table = next(cell.source for cell in cells if cell.id == "index-map")
    rows = table.splitlines()[2:]
    assert len(rows) == len(notebooks.lessons(ROOT))
    for link in re.findall(r"\]\(([^)]+)\)", table):
        assert (ROOT / "lessons" / link).is_file()


def test_a_row_says_what_only_records_and_lesson_can_tell(checkout: Path) -> None:
    cells = built(checkout)
    assert [cell.cell_type for cell in cells] == ["markdown", "markdown", "code"]
    row = cells[1].source.splitlines()[2]
    found = index.measure(tiny.LESSON, checkout, tiny.RECORDS)
    assert found.working == sum(record.minutes for record in tiny.RECORDS.values())
    assert (f"{found.exercises} exercises" in row) and (r"What is it \| about?" in row) and row.endswith("| – |")
    assert "99_later" not in cells[1].source


def test_it_is_written_once_and_a_stale_one_is_told(checkout: Path) -> None:
    make = lambda **how: index.build(root=checkout, records=tiny.RECORDS, **how)
    with pytest.raises(CourseError, match="run `course build index`"):
        make(check=True)
    assert make().changed == ("lessons/index.ipynb",)
    assert make().changed == make(check=True).changed == ()


def test_without_a_source_there_is_no_page(checkout: Path) -> None:
    (checkout / "solutions" / "index.py").unlink()
    assert index.build(root=checkout) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f'lesson="{tiny.LESSON}"', 'lesson="98_other"', f"say what {tiny.LESSON} answers"),
        ("# What is\n# it | about?\n", "", f"say what {tiny.LESSON} answers"),
        ('after="99_later"', 'after="97_never"', "comes after '97_never', of which it says nothing"),
        ('after="99_later"', 'before="99_later"', "unknown option 'before'"),
    ],
)
def test_what_the_source_lacks_is_named(checkout: Path, old: str, new: str, message: str) -> None:
    (checkout / "solutions" / "index.py").write_text(SOURCE.replace(old, new), "utf-8")
    with pytest.raises(SourceError, match=re.escape(message)):
        built(checkout)


def test_a_lesson_that_is_not_built_is_named(checkout: Path) -> None:
    (checkout / "lessons" / tiny.LESSON / f"{tiny.LESSON}.ipynb").unlink()
    with pytest.raises(SourceError, match=f"run `course build {tiny.LESSON}` first"):
        built(checkout)


@pytest.mark.parametrize(("minutes", "told"), [(0, "0 min"), (45, "45 min"), (60, "1 h"), (185, "3 h 5 min")])
def test_times_as_people_say_them(minutes: int, told: str) -> None:
    assert index._time(minutes).replace("\N{NO-BREAK SPACE}", " ") == told


def test_the_times_are_those_of_the_records_and_the_text():
    found = index.measure("08_dropout", ROOT, exercises.EXERCISES)
    assert found.working == sum(record.minutes for record in exercises.of_lesson("08_dropout"))
    assert 20 < found.reading < 90 and found.minutes % 5 == 0
