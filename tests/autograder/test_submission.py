"""A learner's file: read safely, put right, its verdicts read without trust. No kernel runs here."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_course as tiny

from autograder import submission
from autograder.remarks import Remark
from autograder.submission import (
    MARK,
    VERDICT,
    Given,
    NotebookError,
    given_by,
    nbformat,
    outcome,
    parse,
    read,
    refuse_missing,
    repair,
    role_of,
)

RELEASE = tiny.released()
GIVEN = given_by(RELEASE)


@pytest.fixture
def notebook() -> Any:
    return tiny.answered(RELEASE, tiny.ANSWERS)


def save(path: Path, notebook: Any) -> Path:
    path.write_text(json.dumps(notebook), "utf-8")
    return path


# ---------------------------------------------------------------- reading


def test_a_learners_notebook_is_read_without_its_outputs(tmp_path: Path, notebook: Any) -> None:
    tiny.find(notebook, "tiny.double", "check").outputs = [{"output_type": 7, "nonsense": []}]
    got = read(save(tmp_path / "mine.ipynb", notebook), tiny.LESSON)
    assert [cell.source for cell in got.cells] == [cell.source for cell in notebook.cells]
    assert tiny.find(got, "tiny.double", "check").outputs == []


def test_sources_as_lists_of_lines_and_old_formats_are_read(notebook: Any) -> None:
    for cell in notebook.cells:
        cell.source = cell.source.splitlines(keepends=True)
    assert (
        tiny.find(parse(json.dumps(notebook).encode(), "x"), "tiny.square", "solution").source
        == (tiny.ANSWERS["tiny.square"])
    )
    v3 = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": [], "metadata": {}}]}
    assert parse(json.dumps(v3).encode(), "x").nbformat == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"def square(x): ...", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is JSON, but not a notebook"),
        (b'{"cells": []}', "is JSON, but not a notebook"),
        (b'{"nbformat": 2, "cells": []}', "is in notebook format 2"),
        (b'{"nbformat": 5, "cells": []}', "is in notebook format 5"),
        (b'{"nbformat": 4}', "damaged"),
        (b'{"nbformat": 4, "cells": {"a": 1}}', "damaged"),
        (b'{"nbformat": 4, "cells": [1]}', "damaged"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "spell", "source": ""}]}', "damaged"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 3}]}', "damaged"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": "", "metadata": []}]}', "damaged"),
        (b'{"nbformat": 4, "cells": [], "metadata": []}', "damaged"),
        (b'{"nbformat": 4, "cells": [], "metadata": {}}', "is not a notebook of this course"),
        (b'{"nbformat": 4, "cells": [], "metadata": {"training_deep_nets": 3}}', "is not a notebook of this course"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.ipynb"
    path.write_bytes(content)
    with pytest.raises(NotebookError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_lesson_is_refused(tmp_path: Path, notebook: Any) -> None:
    with pytest.raises(NotebookError, match=r"belongs to lesson 00_tiny, not to 08_dropout"):
        read(save(tmp_path / "mine.ipynb", notebook), "08_dropout")


def test_a_file_that_is_not_there_or_no_notebook_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"no such file"):
        read(tmp_path / "none.ipynb")
    with pytest.raises(NotebookError, match=r"does not end in .ipynb"):
        read(tmp_path / "lesson.py")
    (tmp_path / "folder.ipynb").mkdir()
    with pytest.raises(NotebookError, match=r"cannot read .*: Is a directory"):
        read(tmp_path / "folder.ipynb")


def test_a_file_without_read_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(NotebookError, match=r"^cannot read .*: Permission denied$"):
        read(tmp_path / "mine.ipynb")


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "MAX_BYTES", 1000)
    path = tmp_path / "mine.ipynb"
    path.write_bytes(b" " * 5000)
    with pytest.raises(NotebookError, match=r"is larger than"):
        read(path)


def test_missing_and_doubled_cells_are_refused_by_name(notebook: Any) -> None:
    refuse_missing(notebook, GIVEN, "mine")
    twice = copy.deepcopy(notebook)
    twice.cells.append(tiny.find(twice, "tiny.square", "check"))
    with pytest.raises(NotebookError, match=r"mine: the check cell of exercise tiny.square is there twice; delete one"):
        refuse_missing(twice, GIVEN, "mine")
    notebook.cells.remove(tiny.find(notebook, "tiny.double", "solution"))
    with pytest.raises(NotebookError, match=r"mine: the solution cell of exercise tiny.double is missing"):
        refuse_missing(notebook, GIVEN, "mine")


def test_nbformat_is_imported_without_the_grammar_that_it_does_not_need() -> None:
    code = "import sys; from autograder.submission import nbformat; nbformat(); print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    code = "from autograder.submission import nbformat; nbformat(); import rfc3987_syntax"
    pytest.importorskip("rfc3987_syntax")
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- putting right


def special(notebook: Any) -> dict[str, Any]:
    return {
        cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }


def test_an_honest_notebook_needs_nothing(notebook: Any) -> None:
    before = [cell.source for cell in notebook.cells]
    assert repair(notebook, GIVEN) == []
    assert [cell.source for cell in notebook.cells] == before
    assert set(special(notebook)) == {cell.name for cell in GIVEN}


def strip(notebook: Any) -> None:
    for number, cell in enumerate(notebook.cells):
        cell.metadata = nbformat().from_dict({})
        cell.id = f"other-{number}"


def drop(role: str) -> Callable[[Any], None]:
    def harm(notebook: Any) -> None:
        notebook.cells = [cell for cell in notebook.cells if role_of(cell)[0] != role]

    return harm


def forge(notebook: Any) -> None:
    for cell in notebook.cells:
        cell.metadata["tags"] = ["skip-execution"]
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader |= {"points": 749, "schema_version": 7, "locked": False, "grade": True}


def damage(notebook: Any) -> None:
    for cell, bad in zip(notebook.cells, [None, 3, [], "x", {}, {"grade_id": []}, {"grade_id": 3}], strict=False):
        cell.metadata["nbgrader"] = bad


def retype(notebook: Any) -> None:
    for cell in notebook.cells:
        if role_of(cell)[0] == "check":
            cell.cell_type = "markdown"
            del cell["outputs"], cell["execution_count"]


def edit(notebook: Any) -> None:
    for cell in notebook.cells:
        if role_of(cell)[0] == "check":
            cell.source = "2.0"


def double(notebook: Any) -> None:
    notebook.cells += copy.deepcopy(notebook.cells)


@pytest.mark.parametrize(
    "harm",
    [strip, drop("check"), drop("solution"), drop("explain"), drop("setup"), forge, damage, retype, edit, double],
)
def test_whatever_was_done_to_the_file_nbgrader_finds_what_was_released(notebook: Any, harm: Callable) -> None:
    harm(notebook)
    remarks = repair(notebook, GIVEN)
    nbformat().validate(notebook)
    for given in GIVEN:
        (cell,) = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == given.name]
        assert cell.metadata == given.metadata()
        assert cell.cell_type == given.cell_type
        assert cell.source == given.source or not given.locked
    assert all(set(cell.metadata) <= {"nbgrader", "deletable", "editable"} for cell in notebook.cells)
    assert remarks
    order = [role_of(cell) for cell in notebook.cells if role_of(cell)[0] in ("solution", "check")]
    assert order.index(("solution", "tiny.square")) < order.index(("check", "tiny.square"))


def test_what_the_file_claims_of_a_cell_is_remarked(notebook: Any) -> None:
    forge(notebook)
    remarks = repair(notebook, GIVEN)
    assert [remark.kind for remark in remarks if remark.cell == "tiny-double-check"] == [
        "points",
        "flags",
        "tagged",
        "schema",
    ]
    assert Remark("tiny-double-solution", "points") not in remarks  # nbgrader gives an answer no points


def test_of_two_copies_the_last_counts_and_the_first_still_runs(notebook: Any) -> None:
    first = copy.deepcopy(tiny.find(notebook, "tiny.square", "solution"))
    first.source = "def square(x):\n    return 'first try'"
    notebook.cells.insert(2, first)
    assert repair(notebook, GIVEN) == [Remark("tiny-square-solution", "copied")]
    assert tiny.find(notebook, "tiny.square", "solution").source == tiny.ANSWERS["tiny.square"]
    assert notebook.cells[2].source == first.source


def test_a_missing_solution_comes_back_as_a_comment_so_a_moved_answer_stays(notebook: Any) -> None:
    cell = tiny.find(notebook, "tiny.square", "solution")
    notebook.cells.remove(cell)
    repair(notebook, GIVEN)
    assert "def square" not in "".join(c.source for c in notebook.cells)
    assert tiny.find(notebook, "tiny.square", "solution").source.startswith("# This cell was missing")


def test_an_answer_is_known_again_by_the_function_it_defines() -> None:
    solution = Given(
        "x-y-solution", "code", "import torch\n\ndef f(x):\n    raise NotImplementedError", False, False, True
    )
    cells = [nbformat().v4.new_code_cell("f(3)"), nbformat().v4.new_code_cell("def f(x):\n    return 2 * x")]
    notebook = nbformat().v4.new_notebook(cells=cells)
    assert repair(notebook, [solution]) == [Remark("x-y-solution", "stripped")]
    assert notebook.cells[1].metadata.nbgrader.grade_id == "x-y-solution"


def test_duplicate_and_illegal_cell_ids_become_unique(notebook: Any) -> None:
    for cell in notebook.cells:
        cell.id = "<script>"
    got = parse(json.dumps(notebook).encode(), "x")
    assert len({cell.id for cell in got.cells}) == len(got.cells)
    nbformat().validate(got)


# ---------------------------------------------------------------- what a check found


def ran(*outputs: Any) -> Any:
    cell = copy.deepcopy(tiny.find(RELEASE, "tiny.double", "check"))
    cell.outputs = [nbformat().from_dict(output) for output in outputs]
    return cell


def result(text: str = "2.0", **verdict: Any) -> dict[str, Any]:
    data = {"exercise": "tiny.double", "score": 2.0, "max_score": 3.0, "diagnosis": None, **verdict}
    return {"output_type": "execute_result", "data": {"text/plain": text, VERDICT: data}, "metadata": {}}


def error(name: str, value: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": []}


STDERR = {"output_type": "stream", "name": "stderr", "text": "UserWarning: all is well"}


def test_partial_credit_with_its_diagnosis() -> None:
    found = {"misconception": "unscaled", "message": "Too small.", "next_step": "Scale it."}
    got = outcome(ran(result(diagnosis=found)))
    assert (got.exercise, got.score, got.max_score) == ("tiny.double", 2.0, 3.0)
    assert (got.misconception, got.message, got.next_step) == ("unscaled", "Too small.", "Scale it.")


def test_a_warning_on_stderr_costs_nothing() -> None:
    assert outcome(ran(STDERR, result())).score == 2.0


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], "The check gave no verdict."),
        ([{"output_type": "execute_result", "data": {"text/plain": "3.0"}, "metadata": {}}], "gave no verdict"),
        ([{**result(), "output_type": "display_data"}], "gave no verdict"),
        ([result(), result()], "more than one verdict"),
        ([result("749.0", score=749.0)], "not one that this exercise can give"),
        ([result("-1.0", score=-1.0)], "not one that this exercise can give"),
        ([result("nan", score=float("nan"))], "not one that this exercise can give"),
        ([result("3.0")], "not one that this exercise can give"),
        ([result(max_score=2.0)], "not one that this exercise can give"),
        ([result(exercise="tiny.square")], "not one that this exercise can give"),
        ([result("two")], "not one that this exercise can give"),
        ([result(score=None)], "not one that this exercise can give"),
        ([error("NameError", "name 'double' is not defined")], "^NameError: name 'double' is not def"),
        ([error("NotRun", "The kernel died.")], "^The kernel died.$"),
        ([error("KeyboardInterrupt", ""), error("TimeOut", "This cell was stopped.")], "^This cell was stopped.$"),
    ],
)
def test_anything_but_one_possible_verdict_earns_nothing_and_says_why(outputs: list, message: str) -> None:
    got = outcome(ran(*outputs))
    assert (got.score, got.max_score, got.verdict) == (0.0, 3.0, None)
    assert re.search(message, got.message)


def test_messages_from_a_learners_kernel_are_short() -> None:
    assert len(outcome(ran(error("E" * 10_000, "x" * 10_000_000))).message) < 5000


def test_the_mark_and_the_verdicts_name_are_what_others_write() -> None:
    from autograder.check import VERDICT_MIME

    assert VERDICT_MIME == VERDICT
    assert RELEASE.metadata[MARK]["lesson"] == tiny.LESSON


# ---------------------------------------------------------------- the class's secret


def test_the_secret_is_made_once_kept_and_private(tmp_path):
    path = tmp_path / "secret"
    first = submission.class_secret(path)
    assert len(first) == 32 and submission.class_secret(path) == first
    assert path.stat().st_mode & 0o077 == 0


def test_two_classes_have_different_secrets(tmp_path):
    assert submission.class_secret(tmp_path / "a") != submission.class_secret(tmp_path / "b")


def test_a_folder_that_is_not_there_gives_no_secret(tmp_path):
    assert submission.class_secret(tmp_path / "nowhere" / "secret") == ""
