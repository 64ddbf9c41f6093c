"""Tampering told from damage, per cell and in one line per student."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import tiny_course as tiny

from autograder.remarks import KINDS, Remark, summary
from autograder.submission import given_by, nbformat, repair

RELEASE = tiny.released()
GIVEN = given_by(RELEASE)


def check(notebook: Any) -> Any:
    return tiny.find(notebook, "tiny.double", "check")


def options(**changed: Any) -> Callable[[Any], None]:
    return lambda notebook: check(notebook).metadata.nbgrader.update(changed)


def move_first(notebook: Any) -> None:
    moved = check(notebook)
    notebook.cells = [moved, *(cell for cell in notebook.cells if cell is not moved)]


def retype(notebook: Any) -> None:
    check(notebook).cell_type = "raw"


@pytest.mark.parametrize(
    ("harm", "remark", "deliberate"),
    [
        (options(points=749), Remark("tiny-double-check", "points"), True),
        (options(points="9"), Remark("tiny-double-check", "points"), True),
        (options(locked=False), Remark("tiny-double-check", "flags"), True),
        (options(grade=False), Remark("tiny-double-check", "flags"), True),
        (options(solution=True), Remark("tiny-double-check", "flags"), True),
        (
            lambda nb: check(nb).metadata.update(tags=["skip-execution"]),
            Remark("tiny-double-check", "tagged"),
            True,
        ),
        (lambda nb: check(nb).update(source="3.0"), Remark("tiny-double-check", "edited"), True),
        (lambda nb: nb.cells.remove(check(nb)), Remark("tiny-double-check", "missing"), False),
        (lambda nb: nb.cells.append(copy.deepcopy(check(nb))), Remark("tiny-double-check", "copied"), False),
        (
            lambda nb: check(nb).update(metadata=nbformat().from_dict({})),
            Remark("tiny-double-check", "stripped"),
            False,
        ),
        (move_first, Remark("tiny-double-check", "moved"), False),
        (retype, Remark("tiny-double-check", "retyped", "raw"), False),
        (options(schema_version=7), Remark("tiny-double-check", "schema", "7"), False),
        (options(schema_version="<b>"), Remark("tiny-double-check", "schema", "none"), False),
    ],
)
def test_each_harm_gives_one_remark(harm: Callable[[Any], None], remark: Remark, deliberate: bool) -> None:
    notebook = tiny.answered(RELEASE, tiny.ANSWERS)
    harm(notebook)
    assert repair(notebook, GIVEN) == [remark]
    assert remark.deliberate == deliberate


def test_every_kind_is_tried_above() -> None:
    [table] = test_each_harm_gives_one_remark.pytestmark
    assert {remark.kind for _, remark, _ in table.args[1]} == set(KINDS)


def test_a_check_that_was_moved_stands_behind_its_answer_again() -> None:
    notebook = tiny.answered(RELEASE, tiny.ANSWERS)
    before = [cell.source for cell in notebook.cells]
    move_first(notebook)
    repair(notebook, GIVEN)
    assert [cell.source for cell in notebook.cells] == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_remark_is_read_back_from_its_line(kind: str) -> None:
    remark = Remark("tiny-double-check", kind, "raw" if "{detail}" in KINDS[kind].text else "")
    assert Remark.read(str(remark)) == remark


@pytest.mark.parametrize("line", ["", "tiny-double-check", "tiny-double-check: was odd", "no colon was missing"])
def test_a_line_that_is_no_remark(line: str) -> None:
    assert Remark.read(line) is None


def test_a_demo_that_was_edited_is_nobodys_trick() -> None:
    assert not Remark("demo-1234", "edited").deliberate


@pytest.mark.parametrize(
    ("remarks", "line"),
    [
        ([], ""),
        ([Remark("a-b-check", "missing")], "1 check missing; put right from the release"),
        (
            [Remark("a-b-check", "missing"), *(Remark(f"a-{i}-check", "points") for i in range(3))],
            "changed the points of 3 checks; 1 check missing; put right from the release",
        ),
        (
            [Remark("a-b-check", "stripped"), Remark("setup-12", "stripped"), Remark("a-b-explain", "stripped")],
            "1 check, 1 setup cell and 1 answer in words without metadata; put right from the release",
        ),
        (
            [Remark("a-b-explain", "copied"), Remark("a-c-explain", "copied")],
            "2 answers in words there twice; put right from the release",
        ),
    ],
)
def test_a_students_file_in_one_line(remarks: list[Remark], line: str) -> None:
    assert summary(remarks) == line
