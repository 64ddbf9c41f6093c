"""A learner's notebook file: read it safely, put it right, and say what its checks found.

Nothing here runs code, and nothing in the file is believed but the learner's own answers: which cells are graded,
for how many points, and what locked cells contain comes from what was released (`Given`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError
from autograder.remarks import Remark

__all__ = [
    "CODE_STUB",
    "MARK",
    "OUR_ERRORS",
    "ROLES",
    "TEXT_STUB",
    "VERDICT",
    "Given",
    "NotebookError",
    "Outcome",
    "class_secret",
    "exercise_of",
    "first_error",
    "given_by",
    "grade_id",
    "lesson_of",
    "nbformat",
    "outcome",
    "outcome_of",
    "outcomes",
    "parse",
    "quiet_environment",
    "read",
    "refuse_missing",
    "repair",
    "role_of",
]

MARK = "training_deep_nets"  # our key in a notebook's metadata
VERDICT = "application/vnd.training-deep-nets.verdict+json"  # what `check` adds to its output
ROLES = ("solution", "check", "explain", "demo", "setup")
OUR_ERRORS = ("NotRun", "Stopped", "TimeOut")  # names of error outputs that the grader writes, as full sentences
CODE_STUB = 'raise NotImplementedError("Your turn: replace this line.")'  # what stands in place of a solution
TEXT_STUB = "*Write your answer here, in place of this line.*"
SCHEMA = 3  # of nbgrader's metadata
MAX_BYTES = 50_000_000  # a submission with figures has about 1 MB
MAX_TEXT = 2_000  # characters of a message that comes from a learner's kernel


class NotebookError(CourseError):
    """A notebook file that cannot be taken for a learner's copy of the lesson."""


def nbformat() -> Any:
    """The module nbformat, without the second that one optional import of jsonschema's costs.

    jsonschema reads a whole grammar to check IRIs, a format that no notebook uses, if `rfc3987_syntax` can be
    imported. Hiding it for the moment of the first import takes nbformat from 1.2 s to 0.15 s of CPU.
    """
    if "jsonschema" in sys.modules or "rfc3987_syntax" in sys.modules:
        import nbformat
    else:
        sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
        try:
            import nbformat
        finally:
            del sys.modules["rfc3987_syntax"]
    return nbformat


def quiet_environment() -> dict[str, str]:
    """The environment for kernels and tools: TensorFlow silent, one thread (small nets are slower with more).

    This Python's own folder leads PATH, because nbgrader calls `alembic` by name when it makes a gradebook.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **quiet, "PATH": path, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def class_secret(path: Path) -> str:
    """The secret of a class, from which the cases of graded checks are drawn; made at the first call, and kept.

    Empty where there is none and none can be written: the checks then draw the cases that learners see.
    """
    try:
        with (
            contextlib.suppress(FileExistsError),
            open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new,
        ):
            new.write(secrets.token_hex(16))
        return path.read_text().strip()
    except OSError:
        return ""


# ---------------------------------------------------------------- names of cells


def grade_id(exercise: str, role: str) -> str:
    """nbgrader's id of an exercise's cell: "dropout.mc_dropout" and "check" -> "dropout-mc_dropout-check"."""
    return f"{exercise.replace('.', '-')}-{role}"


def exercise_of(name: str) -> str:
    """The exercise that a cell with this nbgrader id belongs to, "" if none: "dropout-mc_dropout-check" and back."""
    return _role(name)[1]


def role_of(cell: Any) -> tuple[str, str]:
    """The (role, exercise id) that a built cell carries in its nbgrader id; ("", "") for an ordinary cell."""
    options = cell.get("metadata", {}).get("nbgrader")
    name = options.get("grade_id", "") if isinstance(options, dict) else ""
    return _role(name) if isinstance(name, str) else ("", "")


def _role(name: str) -> tuple[str, str]:
    if name.startswith(("demo-", "setup-")):
        return name.split("-")[0], ""
    exercise, _, role = name.rpartition("-")
    return (role, exercise.replace("-", ".", 1)) if role in ROLES and exercise else ("", "")


# ---------------------------------------------------------------- reading


def read(path: Path | str, lesson: str | None = None) -> Any:
    """A learner's notebook, in nbformat 4, of the course and, where `lesson` is given, of that lesson.

    Raises NotebookError, one line each: not there, not readable, not JSON, not a notebook, too large, damaged, of
    another course or lesson.
    """
    path = Path(path)
    if path.suffix != ".ipynb":
        raise NotebookError(f"{path} is not a notebook: its name does not end in .ipynb")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotebookError(f"{path}: no such file") from None
    except OSError as error:
        raise NotebookError(f"cannot read {path}: {error.strerror}") from None
    notebook = parse(content, str(path))
    found = lesson_of(notebook)
    if found is None:
        raise NotebookError(f"{path} is not a notebook of this course; open one from lessons/")
    if lesson is not None and found != lesson:
        raise NotebookError(f"{path} belongs to lesson {found}, not to {lesson}")
    return notebook


def lesson_of(notebook: Any) -> str | None:
    """The lesson that a notebook says it belongs to."""
    mark = notebook.metadata.get(MARK)
    name = mark.get("lesson") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else None


def parse(content: bytes, name: str, *, outputs: bool = False) -> Any:
    """The notebook in `content`, upgraded to nbformat 4, with its outputs only on request; messages call it `name`."""
    if len(content) > MAX_BYTES:
        raise NotebookError(f"{name} is larger than {MAX_BYTES / 1e6:.0f} MB: clear its outputs and save it again")
    try:
        data = json.loads(content.decode("utf-8-sig"))  # Windows editors put a mark first
    except (ValueError, RecursionError):
        raise NotebookError(f"{name} is not JSON, so it is not a notebook") from None
    version = data.get("nbformat") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise NotebookError(f"{name} is JSON, but not a notebook")
    if version not in (3, 4):
        raise NotebookError(f"{name} is in notebook format {version}; save it in format 4")
    try:
        notebook = nbformat().from_dict(data)
        if version == 3:
            notebook = nbformat().convert(notebook, 4)
        notebook.nbformat, notebook.nbformat_minor = 4, 5
        if not isinstance(notebook.setdefault("metadata", {}), dict):
            raise TypeError
        notebook.cells = [_plain_cell(cell, outputs) for cell in notebook.cells]
        notebook = nbformat().v4.rwbase.rejoin_lines(notebook)
        _unique_ids(notebook.cells)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise NotebookError(f"{name} is a damaged notebook: its cells can't be read") from None
    return notebook


def _plain_cell(cell: Any, outputs: bool) -> Any:
    """The cell with only the fields that nbformat 4 knows, each of the right type."""
    source = cell.source if isinstance(cell.source, str) else "".join(cell.source)
    new = {"cell_type": cell.cell_type, "source": source, "metadata": cell.get("metadata", {})}
    if cell.cell_type not in ("code", "markdown", "raw") or not isinstance(new["metadata"], dict):
        raise TypeError
    if isinstance(cell.get("id"), str):
        new["id"] = cell.id
    if isinstance(cell.get("attachments"), dict) and cell.cell_type == "markdown":
        new["attachments"] = cell.attachments
    if cell.cell_type == "code":
        new["execution_count"] = None
        new["outputs"] = cell.outputs if outputs else []
    return nbformat().from_dict(new)


# ---------------------------------------------------------------- putting right


@dataclass(frozen=True)
class Given:
    """A cell as it was released; `name` is its nbgrader id."""

    name: str
    cell_type: str
    source: str
    locked: bool
    grade: bool
    solution: bool
    points: float = 0
    checksum: str | None = None

    def metadata(self) -> dict[str, Any]:
        """The metadata that nbgrader wants on this cell."""
        options: dict[str, Any] = {"schema_version": SCHEMA, "grade_id": self.name, "task": False}
        options |= {"grade": self.grade, "solution": self.solution, "locked": self.locked}
        options |= {"cell_type": self.cell_type}
        if self.grade:
            options["points"] = self.points
        if self.checksum:
            options["checksum"] = self.checksum
        return {"nbgrader": options, "deletable": False} | ({"editable": False} if self.locked else {})


def given_by(release: Any) -> tuple[Given, ...]:
    """The special cells of a released notebook, in its order."""
    cells = []
    for cell in release.cells:
        if role_of(cell)[0]:
            options = cell.metadata.nbgrader
            flags = {key: bool(options[key]) for key in ("locked", "grade", "solution")}
            points, checksum = options.get("points", 0), options.get("checksum")
            cells.append(
                Given(options.grade_id, cell.cell_type, cell.source, **flags, points=points, checksum=checksum)
            )
    return tuple(cells)


def refuse_missing(notebook: Any, given: Sequence[Given], name: str) -> None:
    """Raise NotebookError, naming the exercise, where a cell of an exercise is missing or there twice."""
    found = [_claimed_name(cell) for cell in notebook.cells]
    for cell in given:
        role, exercise = _role(cell.name)
        if not exercise:
            continue
        if cell.name not in found:
            raise NotebookError(
                f"{name}: the {role} cell of exercise {exercise} is missing; copy it back from a fresh lesson"
            )
        if found.count(cell.name) > 1:
            raise NotebookError(f"{name}: the {role} cell of exercise {exercise} is there twice; delete one of them")


def repair(notebook: Any, given: Sequence[Given]) -> list[Remark]:
    """Make `notebook` carry every given cell once, locked ones as they were given; returns what was put right.

    All other metadata goes, since a tag such as `skip-execution` on a check would earn its points. A cell that lost
    its metadata is known again by its id, by its text, or by the function it defines. Of two copies the last counts
    and the others stay as ordinary cells. A missing check comes back after its solution; a missing solution comes
    back as a comment, which can't overwrite an answer that moved to another cell. A check that stands before its
    answer moves behind it.
    """
    remarks: list[Remark] = []
    place = _places(notebook.cells, given, remarks)
    by_name = {cell.name: cell for cell in given}
    names = {index: name for name, index in place.items()}
    for index, cell in enumerate(notebook.cells):
        if index in names:
            remarks += _forged(cell, by_name[names[index]])
        cell.metadata = nbformat().from_dict({})
        if index in names:
            _restore(cell, by_name[names[index]], remarks)
    cells = _checks_behind_answers(list(notebook.cells), remarks)
    for missing in given:
        if missing.name in place or missing.name.startswith("demo-"):
            continue
        remarks.append(Remark(missing.name, "missing"))
        _insert(cells, missing)
    notebook.cells = cells
    _unique_ids(notebook.cells)
    return remarks


def _claimed_name(cell: Any) -> str | None:
    options = cell.metadata.get("nbgrader")
    name = options.get("grade_id") if isinstance(options, dict) else None
    return name if isinstance(name, str) else None


def _places(cells: Sequence[Any], given: Sequence[Given], remarks: list[Remark]) -> dict[str, int]:
    """Which cell of the notebook is which given cell: name -> index."""
    known = {cell.name for cell in given}
    place: dict[str, int] = {}
    for index, cell in enumerate(cells):
        name = _claimed_name(cell)
        if name in known:
            if name in place:
                remarks.append(Remark(name, "copied"))
            place[name] = index
    taken = set(place.values()) | {i for i, cell in enumerate(cells) if _claimed_name(cell) in known}
    for lost in given:
        if lost.name in place:
            continue
        for index in reversed(range(len(cells))):
            if index not in taken and _looks_like(cells[index], lost):
                remarks.append(Remark(lost.name, "stripped"))
                place[lost.name] = index
                taken.add(index)
                break
    return place


def _looks_like(cell: Any, given: Given) -> bool:
    if cell.cell_type != given.cell_type:
        return False
    if cell.get("id") == given.name or cell.source.strip() == given.source.strip():
        return True
    if not given.solution or given.cell_type != "code":
        return False
    heads = {line.split("(")[0] for line in given.source.splitlines() if line.startswith(("def ", "class "))}
    return bool(heads & {line.split("(")[0] for line in cell.source.splitlines()})


def _forged(cell: Any, given: Given) -> Iterator[Remark]:
    """What the cell's metadata claims that was not given so; a cell that lost its metadata claims nothing."""
    options = cell.metadata.get("nbgrader")
    if not isinstance(options, dict):
        return
    if given.grade and options.get("points") != given.points:
        yield Remark(given.name, "points")
    if any(options.get(flag) != getattr(given, flag) for flag in ("grade", "solution", "locked")):
        yield Remark(given.name, "flags")
    tags = cell.metadata.get("tags")
    if isinstance(tags, list) and "skip-execution" in tags:
        yield Remark(given.name, "tagged")
    version = options.get("schema_version")
    if version != SCHEMA:
        yield Remark(given.name, "schema", str(version) if isinstance(version, int) else "none")


def _checks_behind_answers(cells: list[Any], remarks: list[Remark]) -> list[Any]:
    """The cells, each check moved behind its answer where it stood before it."""
    for check in [cell for cell in cells if role_of(cell)[0] == "check"]:
        answers = [cell for cell in cells if role_of(cell) == ("solution", role_of(check)[1])]
        if answers and _index(cells, check) < _index(cells, answers[-1]):
            remarks.append(Remark(check.metadata.nbgrader.grade_id, "moved"))
            del cells[_index(cells, check)]  # remove() goes by equality, and copies are equal
            cells.insert(_index(cells, answers[-1]) + 1, check)
    return cells


def _index(cells: list[Any], wanted: Any) -> int:
    return next(index for index, cell in enumerate(cells) if cell is wanted)


def _restore(cell: Any, given: Given, remarks: list[Remark]) -> None:
    if cell.cell_type != given.cell_type:
        remarks.append(Remark(given.name, "retyped", cell.cell_type))
        cell.cell_type = given.cell_type
        if given.cell_type == "code":
            cell.pop("attachments", None)
            cell.outputs, cell.execution_count = [], None
        else:
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
    if given.locked and cell.source != given.source:
        remarks.append(Remark(given.name, "edited"))
        cell.source = given.source
    cell.metadata = nbformat().from_dict(given.metadata())


def _insert(cells: list[Any], missing: Given) -> None:
    """Put a missing cell where it works: setup first, a check after its solution, the rest at the end."""
    source = missing.source
    if missing.solution and not missing.grade:
        source = "# This cell was missing from the notebook that was handed in."
    v4 = nbformat().v4
    new = (v4.new_code_cell if missing.cell_type == "code" else v4.new_markdown_cell)(source)
    new.metadata = nbformat().from_dict(missing.metadata())
    role, exercise = _role(missing.name)
    if role == "setup":
        cells.insert(0, new)
        return
    partners = [i for i, cell in enumerate(cells) if exercise and role_of(cell)[1] == exercise]
    if role == "check" and partners:
        cells.insert(partners[-1] + 1, new)
    elif role == "solution" and partners:
        cells.insert(partners[0], new)
    else:
        cells.append(new)


def _unique_ids(cells: Iterable[Any]) -> None:
    seen: set[str] = set()
    for number, cell in enumerate(cells):
        id = _claimed_name(cell) or cell.get("id", "")
        legal = 1 <= len(id) <= 64 and id.isascii() and id.replace("-", "").replace("_", "").isalnum()
        cell.id = id if legal and id not in seen else f"cell-{number}"
        while cell.id in seen:
            cell.id += "x"
        seen.add(cell.id)


# ---------------------------------------------------------------- what a check found


@dataclass(frozen=True)
class Outcome:
    """What one check cell earned, and why not more. `verdict` is the judge's own account, if anything was tried."""

    exercise: str
    score: float
    max_score: float
    message: str = ""
    next_step: str = ""
    misconception: str | None = None
    verdict: Mapping[str, Any] | None = None


def outcomes(notebook: Any) -> list[Outcome]:
    """What each check of a graded notebook found, in the notebook's order."""
    return [outcome(cell) for cell in notebook.cells if role_of(cell)[0] == "check"]


def outcome(cell: Any) -> Outcome:
    """Read a graded check cell. Whatever is not exactly one possible verdict earns 0, with the reason.

    (nbgrader gives *full* marks to a check cell without output, and to one whose output is not a number.)
    """
    exercise, max_score = role_of(cell)[1], float(cell.metadata.nbgrader.points)
    verdicts = [o for o in cell.outputs if o.output_type == "execute_result" and VERDICT in o.get("data", {})]
    if len(verdicts) != 1:
        why = first_error(cell.outputs) or "The check gave no verdict."
        return Outcome(exercise, 0.0, max_score, "The check gave more than one verdict." if verdicts else why)
    data, verdict = verdicts[0].data, verdicts[0].data[VERDICT]
    try:
        score = float(data["text/plain"])
        honest = verdict["exercise"] == exercise and float(verdict["score"]) == score
        possible = math.isfinite(score) and 0 <= score <= max_score and float(verdict["max_score"]) == max_score
    except (KeyError, TypeError, ValueError):
        honest = possible = False
    if not honest or not possible:
        return Outcome(exercise, 0.0, max_score, "The check's verdict is not one that this exercise can give.")
    return outcome_of(verdict)


def outcome_of(verdict: Mapping[str, Any]) -> Outcome:
    """The outcome that a verdict, as plain data, stands for."""
    found = verdict.get("diagnosis")
    found = found if isinstance(found, dict) else {}
    return Outcome(
        verdict["exercise"],
        float(verdict["score"]),
        float(verdict["max_score"]),
        _text(found.get("message")),
        _text(found.get("next_step")),
        _text(found.get("misconception")) or None,
        verdict if verdict.get("cases", 1) and not found.get("missing") else None,  # else nothing was tried
    )


def first_error(outputs: Iterable[Any]) -> str:
    """The error of a cell in one line, "" if none; ours (a time-out, say) first, since it is the cause of the rest."""
    errors = [output for output in outputs if output.get("output_type") == "error"]
    for output in sorted(errors, key=lambda output: output.get("ename") not in OUR_ERRORS):
        name, value = _text(output.get("ename")), _text(output.get("evalue")).strip()
        first = value.splitlines()[0] if value else ""
        return first if name in OUR_ERRORS else f"{name}: {first}".removesuffix(": ")
    return ""


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
