"""A. The file: tags, outputs, points, types, flags, copies, losses; malformed, huge and misnamed; links and pipes."""

from __future__ import annotations

import copy
import json
from typing import Any

from autograder.submission import nbformat, role_of

from .attack import (
    CLASSIC,
    INVERTED,
    RIGHT,
    WORTH,
    Attack,
    HandIn,
    Scene,
    answered,
    as_bytes,
    attack,
    cell_of,
    code,
    fake_output,
    with_notebook,
)

__all__ = ["ATTACKS"]

FULL = sum(WORTH.values())
MB = 2**20


def checks(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if role_of(cell)[0] == "check"]


# ---------------------------------------------------------------- points for nothing


def skip_tag(notebook):
    for cell in checks(notebook):
        cell.metadata.tags = ["skip-execution"]


def raises_tag(notebook):
    for cell in checks(notebook):
        cell.metadata.tags = ["raises-exception", "nbgrader-skip", "remove-output"]


def fake_outputs(notebook):
    for cell in checks(notebook):
        cell.outputs, cell.execution_count = [fake_output(str(cell.metadata.nbgrader.points))], 1


def skip_and_fake(notebook):
    skip_tag(notebook)
    fake_outputs(notebook)


def more_points(notebook):
    for cell in checks(notebook):
        cell.metadata.nbgrader.points = 1000


def bonus_cell(notebook):
    extra = nbformat().v4.new_code_cell("50.0", id="bonus")
    options = {"grade": True, "solution": False, "locked": True, "schema_version": 3, "task": False}
    extra.metadata = {"nbgrader": {**options, "grade_id": "dropout-bonus-check", "points": 50, "cell_type": "code"}}
    notebook.cells.append(nbformat().from_dict(extra))


def rewritten_check(notebook):
    for cell in checks(notebook):
        cell.source = str(cell.metadata.nbgrader.points)
        cell.metadata.nbgrader.locked = False


def check_as_solution(notebook):
    for cell in checks(notebook):
        cell.source = str(cell.metadata.nbgrader.points)
        cell.metadata.nbgrader.solution = True
        cell.metadata.nbgrader.pop("checksum", None)


def check_as_text(notebook):
    for cell in checks(notebook):
        cell.cell_type = "markdown"
        cell.pop("outputs"), cell.pop("execution_count")
        cell.metadata.nbgrader.cell_type = "markdown"


def exchanged_ids(notebook):
    """The check of one exercise answers to the name of the other: an easy exercise's points for the hard one."""
    first, second = checks(notebook)
    options = first.metadata.nbgrader
    first.metadata.nbgrader, second.metadata.nbgrader = second.metadata.nbgrader, options
    first.id, second.id = second.id, first.id


def grade_id_path(notebook):
    for number, cell in enumerate(checks(notebook)):
        cell.metadata.nbgrader.grade_id = f"../../{number}/tdn-left' OR 1=1 --"


def other_lesson(notebook):
    notebook.metadata.training_deep_nets = {"lesson": "../../solutions/08_dropout"}
    notebook.metadata.nbgrader = {"assignment": "other"}


def other_kernel(notebook):
    notebook.metadata.kernelspec = {"name": "../../../tmp/evil", "display_name": "Evil", "language": "bash"}
    notebook.metadata.language_info = {"name": "bash"}


NOTHING: dict[str, str] = {}
FOR_NOTHING = (
    with_notebook("A.skip_tag", "tags its checks skip-execution", skip_tag, NOTHING),
    with_notebook("A.raises_tag", "tags its checks raises-exception", raises_tag, NOTHING),
    with_notebook("A.fake_outputs", "brings saved outputs that show full marks", fake_outputs, NOTHING),
    with_notebook("A.skip_and_fake", "brings saved full marks and tags that keep them", skip_and_fake, NOTHING),
    with_notebook("A.more_points", "says its checks are worth 1000 points", more_points, {CLASSIC: RIGHT[CLASSIC]}),
    with_notebook("A.bonus_cell", "adds a graded cell of its own", bonus_cell, NOTHING),
    with_notebook("A.rewritten_check", "replaces the checks' text by their points", rewritten_check, NOTHING),
    with_notebook("A.check_as_solution", "declares the checks to be its own answers", check_as_solution, NOTHING),
    with_notebook("A.check_as_text", "turns the checks into text", check_as_text, NOTHING),
    with_notebook("A.exchanged_ids", "exchanges the names of two checks", exchanged_ids, {CLASSIC: RIGHT[CLASSIC]}),
    with_notebook("A.grade_id_path", "gives its checks a path and SQL as names", grade_id_path, NOTHING),
    with_notebook("A.other_lesson", "names another assignment, by a path", other_lesson, NOTHING),
    with_notebook("A.other_kernel", "asks for a kernel of its own", other_kernel, honest=True),
)

# ---------------------------------------------------------------- damaged by accident, or looking like it


def check_deleted(notebook):
    notebook.cells.remove(checks(notebook)[0])


def check_copied(notebook):
    notebook.cells.append(copy.deepcopy(checks(notebook)[0]))


def solution_copied(notebook):
    twin = copy.deepcopy(cell_of(notebook, "solution"))
    twin.source = twin.source.replace("x * mask", "x")
    notebook.cells.insert(0, twin)


def metadata_stripped(notebook):
    for cell in notebook.cells:
        cell.metadata = {}


def newer_schema(notebook):
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.schema_version = 7


def blocks_exchanged(notebook):
    setup, first, first_check, second, second_check = notebook.cells
    notebook.cells = [setup, second, second_check, first, first_check]


def bad_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [{"output_type": "spell", "text": 3}, 7]


def odd_fields(notebook):
    for cell in notebook.cells:
        cell.execution_count, cell.id, cell.attachments = -7, "same", {"a": {"image/png": 3}}
        cell.source = [cell.source]


def metadata_of_metadata(notebook):
    for cell in notebook.cells:
        cell.metadata.nbgrader = [cell.metadata.get("nbgrader")]


def many_cells(notebook):
    notebook.cells += [nbformat().v4.new_code_cell("", id=f"more-{number}") for number in range(1500)]


def long_line(notebook):
    cell_of(notebook, "solution").source += f"\n# {'x' * (5 * MB)}"


DAMAGED = (
    with_notebook("A.check_deleted", "has lost a check", check_deleted, honest=True),
    with_notebook("A.check_copied", "holds a check twice", check_copied, honest=True),
    with_notebook("A.solution_copied", "holds an older answer too, under the same name", solution_copied, honest=True),
    with_notebook("A.metadata_stripped", "has lost all metadata", metadata_stripped, honest=True),
    with_notebook("A.newer_schema", "says it is of a newer nbgrader", newer_schema, honest=True),
    with_notebook("A.blocks_exchanged", "answers in another order", blocks_exchanged, honest=True),
    with_notebook("A.bad_outputs", "holds outputs of no known kind", bad_outputs, honest=True),
    with_notebook("A.odd_fields", "holds fields of wrong types", odd_fields, honest=True),
    with_notebook("A.metadata_list", "has lists where nbgrader keeps its metadata", metadata_of_metadata, honest=True),
    with_notebook("A.many_cells", "has 1500 empty cells more", many_cells, honest=True),
    with_notebook("A.long_line", "has one line of 5 MB", long_line, honest=True),
    with_notebook("A.byte_order_mark", "was saved with a byte order mark", lambda nb: b"\xef\xbb\xbf" + as_bytes(nb), honest=True),
)  # fmt: skip


def deep(notebook: Any) -> bytes:
    return as_bytes(notebook).replace(
        b'"metadata": {', b'"metadata": {"deep": ' + b"[" * 200_000 + b"]" * 200_000 + b", ", 1
    )


def huge(notebook: Any) -> bytes:
    checks(notebook)[0].outputs = [nbformat().v4.new_output("stream", text="x" * (80 * MB))]
    return as_bytes(notebook)


UNREADABLE = (
    with_notebook("A.not_json", "is a letter", lambda nb: b"Dear grader, it is in the other folder.\n", NOTHING),
    with_notebook("A.truncated", "was cut off in the upload", lambda nb: as_bytes(nb)[:900], NOTHING),
    with_notebook("A.empty", "is an empty file", lambda nb: b"", NOTHING),
    with_notebook("A.wrong_json", "is a JSON list of numbers", lambda nb: b"[1, 2, 3]", NOTHING),
    with_notebook("A.future_format", "is in notebook format 99", lambda nb: json.dumps({**nb, "nbformat": 99}).encode(), NOTHING),
    with_notebook("A.deep_json", "nests 200,000 lists in its metadata", deep, NOTHING),
    with_notebook("A.huge", "weighs 80 MB", huge, NOTHING),
    with_notebook("A.surrogate", "holds half a character and a NUL", lambda nb: as_bytes(nb).replace(b"# ", b"# \\ud800\\u0000 "), NOTHING),
)  # fmt: skip

# ---------------------------------------------------------------- the folder

READ_LINK = """
import os
for name in ("data.txt", "folder/solutions/08_dropout/08_dropout.ipynb", "folder/source/08_dropout/08_dropout.ipynb", "folder/gradebook.db"):
    if os.path.exists(name):
        print(open(name, errors="replace").read())
"""


@attack("A.link_to_solution", "hands in a link to the instructor's notebook")
def link_to_solution(release: Any, scene: Scene) -> HandIn:
    return HandIn(b"", links={"08_dropout.ipynb": scene.source})


@attack("A.link_to_classmate", "hands in a link to a classmate's notebook")
def link_to_classmate(release: Any, scene: Scene) -> HandIn:
    return HandIn(b"", links={"08_dropout.ipynb": scene.classmate})


@attack("A.pipe", "hands in a named pipe, which blocks whoever reads it", earns=FULL, honest=True)
def pipe(release: Any, scene: Scene) -> HandIn:
    return HandIn(as_bytes(answered(release, RIGHT)), pipes=("data.bin",))


@attack("A.notebook_is_pipe", "is a named pipe itself")
def notebook_is_pipe(release: Any, scene: Scene) -> HandIn:
    return HandIn(b"", links={"08_dropout.ipynb": "pipe"}, pipes=("pipe",))


@attack("A.endless_link", "hands in a link to /dev/zero")
def endless_link(release: Any, scene: Scene) -> HandIn:
    return HandIn(b"", links={"08_dropout.ipynb": "/dev/zero"})


@attack("A.second_notebook", "hands in a second notebook with the same cells", earns=WORTH[INVERTED])
def second_notebook(release: Any, scene: Scene) -> HandIn:
    first = as_bytes(answered(release, {INVERTED: RIGHT[INVERTED]}))
    faked = answered(release, RIGHT)
    more_points(faked)
    return HandIn(first, {"08_dropout-copy.ipynb": as_bytes(faked)})


@attack("A.timestamp", "hands in a timestamp that is none", earns=FULL, honest=True)
def timestamp(release: Any, scene: Scene) -> HandIn:
    return HandIn(as_bytes(answered(release, RIGHT)), {"timestamp.txt": b"yesterday, honestly\xff"})


FOLDER: tuple[Attack, ...] = (
    link_to_solution,
    link_to_classmate,
    code("A.link_to_file", "hands in a link to the instructor's file and prints it", READ_LINK, links={"data.txt": "@host_file@"}),
    code("A.link_to_folder", "hands in a link to the class's folder and prints from it", READ_LINK, links={"folder": "@course@"}),
    code("A.link_loop", "hands in a link to its own folder", "", links={"loop": "."}, classic=True),
    pipe,
    notebook_is_pipe,
    endless_link,
    second_notebook,
    timestamp,
)  # fmt: skip

ATTACKS = (*FOR_NOTHING, *DAMAGED, *UNREADABLE, *FOLDER)
