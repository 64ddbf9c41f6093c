"""From a lesson's source to the notebook that learners open.

    solutions/NN_topic/NN_topic.py     the source: jupytext percent format, short cell options
        -> solutions/NN_topic/NN_topic.ipynb     nbgrader's source notebook (`source_to_notebook`)
        -> lessons/NN_topic/NN_topic.ipynb       the release, made by stock `nbgrader generate_assignment`

A cell of the source says what it is: `role="setup"` (locked, always run), `role="demo"` (locked, only shows
something, so grading skips it), and with `exercise="<id>"` one of `role="solution"`, `"check"`, `"explain"`.
Points, ids and locks come from the exercise's record, never from the source.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError, Exercise, Explanation
from autograder.files import write_whole
from autograder.submission import MARK, ROLES, grade_id, nbformat, quiet_environment, role_of

__all__ = [
    "Built",
    "LeakError",
    "SourceError",
    "build",
    "course_root",
    "find_leaks",
    "lessons",
    "released_root",
    "source_to_notebook",
]

OPTIONS = {"exercise", "role", "tags", "title", "lines_to_next_cell"}  # the last two are jupytext's own
BEGIN, END = "BEGIN SOLUTION", "END SOLUTION"
MARKERS = (BEGIN, END, "BEGIN HIDDEN TESTS", "END HIDDEN TESTS", "BEGIN MARK SCHEME", "END MARK SCHEME")
TRIVIAL = 8  # a solution line shorter than this ("else:", "n = 1") gives nothing away

INSTALLED = Path(__file__).resolve().parent / "course"  # only in an installed package: see pyproject.toml

Record = Exercise | Explanation
Records = Mapping[str, Record]


class SourceError(CourseError):
    """A lesson's source that the build refuses."""


class LeakError(CourseError):
    """A release that would give a solution away, or that would not work."""


# ---------------------------------------------------------------- where things are


def course_root(start: Path | None = None) -> Path:
    """The checkout of the course: the nearest folder, from `start` upwards, with the lessons' sources in it."""
    here = Path(start or Path.cwd()).resolve()
    package = Path(__file__).resolve().parent.parent
    for folder in (here, *here.parents, package):  # a class's folder has solutions/ too, but no sources
        if (folder / "nbgrader_config.py").is_file() and any(_sources(folder)):
            return folder
    raise CourseError(f"{here} is not in a checkout of the course (no solutions/ and nbgrader_config.py found)")


def released_root(start: Path | None = None) -> Path:
    """Where lessons/ and nbgrader_config.py are: the checkout, or else what an installed package brings."""
    try:
        return course_root(start)
    except CourseError:
        if not (INSTALLED / "lessons").is_dir():
            raise
        return INSTALLED


def lessons(root: Path | None = None) -> list[str]:
    """The names of all lessons, in order: of a checkout those that have a source."""
    folder = released_root(root)
    paths = list(_sources(folder)) or folder.glob("lessons/*/*.ipynb")
    return sorted(path.parent.name for path in paths if path.stem == path.parent.name)


def _sources(folder: Path) -> Iterator[Path]:
    return folder.glob("solutions/*/*.py")


def all_records() -> Records:
    """Every exercise and every question answered in words, by id."""
    from autograder import exercises

    return exercises.EXERCISES


# ---------------------------------------------------------------- source -> nbgrader's source notebook


def source_to_notebook(path: Path, records: Records | None = None, *, repository: str = "") -> Any:
    """nbgrader's source notebook for a lesson's source file, with solutions, without outputs.

    With the address of the course's `repository`, a cell before all other code installs the course on Colab.
    Raises SourceError, naming file and cell, for an unknown, foreign, doubled or half-present exercise, for a
    record of the lesson that no cell uses, for unknown cell options, and for missing solution markers.
    """
    nbformat()  # before jupytext imports it the slow way
    import jupytext

    path, records = Path(path), all_records() if records is None else records
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such source") from None
    lesson = path.stem
    cells = jupytext.reads(text, fmt="py:percent").cells
    _check_source(path, lesson, cells, records)

    v4, names, built = nbformat().v4, Counter(), []
    for cell in cells:
        options = cell.metadata
        role, exercise = options.get("role"), options.get("exercise")
        name = grade_id(exercise, role) if exercise else f"{role or cell.cell_type}-{_digest(cell.source)}"
        names[name] += 1
        if names[name] > 1:
            name = f"{name}-{names[name]}"
        metadata: dict[str, Any] = {"tags": list(options["tags"])} if options.get("tags") else {}
        if role:
            metadata["nbgrader"] = _nbgrader_metadata(name, role, records.get(exercise))
        new = v4.new_code_cell if cell.cell_type == "code" else v4.new_markdown_cell
        built.append(new(cell.source, id=name if len(name) <= 64 else _digest(name), metadata=metadata))

    if repository:
        metadata = {"nbgrader": _nbgrader_metadata("setup-colab", "setup", None)}
        colab = v4.new_code_cell(COLAB.format(repository=repository), id="setup-colab", metadata=metadata)
        first = next((i for i, cell in enumerate(built) if cell.cell_type == "code"), len(built))
        built.insert(first, colab)

    notebook = v4.new_notebook(cells=built)
    notebook.metadata = nbformat().from_dict(
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            MARK: {
                "lesson": lesson,
                "generated": f"from solutions/{lesson}/{path.name} by `course build`: edit that file, not this one",
            },
        }
    )
    notebook.nbformat_minor = 5
    return notebook


# Without dependencies: Colab has them, and its own kernel breaks where pip replaces it by a newer one.
COLAB = """\
# Installs the course where this runs on Colab and lacks it; does nothing anywhere else.
import sys
from importlib.util import find_spec

if "google.colab" in sys.modules and find_spec("course_lib") is None:
    %pip install --quiet --no-deps "training-deep-nets @ git+{repository}"\
"""


def repository_address(root: Path) -> str:
    """Where Colab can install the course from: `repository` under [tool.course] in pyproject.toml; "" for nowhere."""
    try:
        settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        return ""
    return settings.get("tool", {}).get("course", {}).get("repository", "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _nbgrader_metadata(name: str, role: str, record: Record | None) -> dict[str, Any]:
    metadata = {
        "schema_version": 3,
        "grade_id": name,
        "grade": role in ("check", "explain"),
        "solution": role in ("solution", "explain"),
        "locked": role in ("check", "demo", "setup"),
        "task": False,
    }
    if metadata["grade"]:
        assert record is not None
        metadata["points"] = int(record.points) if record.points == int(record.points) else record.points
    return metadata


def _check_source(path: Path, lesson: str, cells: list[Any], records: Records) -> None:
    """Refuse whatever would make a lesson that grades wrongly."""
    seen: Counter[tuple[str, str]] = Counter()
    for number, cell in enumerate(cells, 1):
        where = f"{path}: cell {number}"
        unknown = set(cell.metadata) - OPTIONS
        if unknown:
            raise SourceError(f"{where}: unknown option {min(unknown)!r}; a cell may have exercise, role, tags")
        role, exercise = cell.metadata.get("role"), cell.metadata.get("exercise")
        has_markers = any(marker in cell.source for marker in MARKERS)
        if role is None and exercise is None:
            if has_markers:
                raise SourceError(f'{where}: solution markers in a cell that has no role="solution"')
            continue
        if role not in ROLES:
            raise SourceError(f"{where}: unknown role {role!r}; the roles are {', '.join(ROLES)}")
        if (cell.cell_type == "markdown") != (role == "explain"):
            raise SourceError(f"{where}: role {role!r} belongs in a {'markdown' if role == 'explain' else 'code'} cell")
        if role in ("demo", "setup"):
            if exercise or has_markers:
                raise SourceError(f"{where}: a {role} cell belongs to no exercise and holds no solution")
            continue
        if exercise not in records:
            raise SourceError(f"{where}: there is no exercise {exercise!r}")
        _check_exercise_cell(where, role, cell.source, lesson, records[exercise])
        seen[exercise, role] += 1
        if seen[exercise, role] > 1:
            raise SourceError(f"{where}: exercise {exercise!r} has a second {role} cell")
        if role == "check" and not seen[exercise, "solution"]:
            raise SourceError(f"{where}: exercise {exercise!r} is checked before, or without, its solution cell")

    for id, record in records.items():
        if record.lesson != lesson:
            continue
        if not any(seen[id, role] for role in ROLES):
            raise SourceError(f"{path}: exercise {id!r} belongs to this lesson, but no cell uses it")
        if isinstance(record, Exercise) and not seen[id, "check"]:
            raise SourceError(f"{path}: exercise {id!r} has a solution cell, but no check cell")


def _check_exercise_cell(where: str, role: str, source: str, lesson: str, record: Record) -> None:
    if record.lesson != lesson:
        raise SourceError(f"{where}: exercise {record.id!r} belongs to lesson {record.lesson}")
    if (role == "explain") != isinstance(record, Explanation):
        raise SourceError(f"{where}: {record.id!r} is {type(record).__name__}, so it can't have role {role!r}")
    begins, ends = source.count(BEGIN), source.count(END)
    if role == "check":
        call = f'check("{record.id}", {record.answer})'
        if source.strip() != call:  # not even a semicolon, which hides the result: nbgrader gives that full marks
            raise SourceError(f"{where}: the check cell of {record.id!r} must be the one line {call}")
        return
    if begins < 1 or begins != ends:
        raise SourceError(f"{where}: {record.id!r} has {begins} {BEGIN!r} and {ends} {END!r}; it needs them in pairs")
    if role == "solution" and not _defines(source, record.answer):
        raise SourceError(f"{where}: the solution cell of {record.id!r} does not define {record.answer!r}")


def _defines(source: str, name: str) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return False
    return any(
        (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name)
        for node in nodes
    )


# ---------------------------------------------------------------- the release must not give solutions away


def _split_solution(source: str) -> Iterator[tuple[str, bool]]:
    """Each line of a cell, and whether it stands in a solution region."""
    inside = False
    for line in source.splitlines():
        if BEGIN in line:
            inside = True
        elif END in line:
            inside = False
        else:
            yield line.strip(), inside


def find_leaks(release: Any, source: Any, path: Path | str = "release") -> None:
    """Raise LeakError for the first thing in `release` that gives `source`'s solutions away or can't work.

    A line of a solution may stand in the release only where the source shows it in public too, or where it is
    shorter than 8 characters. Every solution cell must raise NotImplementedError; every code cell must compile.
    """
    public: set[str] = set()
    secret: set[str] = set()
    for cell in source.cells:
        for line, inside in _split_solution(cell.source):
            (secret if inside else public).add(line)
    secret = {line for line in secret - public if len(line) >= TRIVIAL}

    for i, cell in enumerate(release.cells):
        for marker in MARKERS:
            if marker in cell.source:
                raise LeakError(f"{path}: marker {marker!r} left in cell {i}")
        for line in cell.source.splitlines():
            if line.strip() in secret:
                raise LeakError(f"{path}: solution line left in cell {i}: {line.strip()!r}")
        if cell.cell_type != "code":
            continue
        if cell.outputs or cell.execution_count is not None:
            raise LeakError(f"{path}: output left in cell {i}")
        tree = _compile(cell.source, f"{path}: cell {i} does not compile")
        if role_of(cell)[0] == "solution" and not any(
            isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node) for node in ast.walk(tree)
        ):
            raise LeakError(f"{path}: the stub in cell {i} does not raise NotImplementedError")


def _compile(source: str, problem: str) -> ast.AST:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
        compile(tree, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        return tree
    except SyntaxError as error:
        raise LeakError(f"{problem}: {error.msg} (line {error.lineno})") from None


# ---------------------------------------------------------------- build


@dataclass(frozen=True)
class Built:
    """What a build made: the files by path under the course's root, and which of them were not up to date."""

    lesson: str
    files: tuple[str, ...]
    changed: tuple[str, ...]


def build(lesson: str, *, check: bool = False, root: Path | None = None, records: Records | None = None) -> Built:
    """Make a lesson's two notebooks; with `check`, only compare them with what is there.

    nbgrader runs on a copy, with a gradebook that is thrown away: a build never touches a class's. The files
    come out the same, byte for byte, on every run. Raises SourceError, LeakError, and CourseError where a file
    is stale (`check`), can't be written, or where nbgrader fails.
    """
    root = course_root(root)
    source = root / "solutions" / lesson / f"{lesson}.py"
    if not lesson or not source.is_file():
        raise CourseError(f"unknown lesson {lesson!r}; the lessons are: {', '.join(lessons(root)) or 'none yet'}")
    notebook = source_to_notebook(source, records, repository=repository_address(root))

    with tempfile.TemporaryDirectory(prefix="course-build-") as folder:
        work = Path(folder)
        made = work / "solutions" / lesson
        shutil.copytree(source.parent, made, ignore=shutil.ignore_patterns(*NOT_COPIED))
        (made / f"{lesson}.ipynb").write_text(nbformat().writes(notebook) + "\n", "utf-8")
        _generate_assignment(lesson, work, root)
        released = work / "lessons" / lesson
        released_path = f"lessons/{lesson}/{lesson}.ipynb"
        text = (work / released_path).read_text("utf-8")
        find_leaks(nbformat().reads(text, as_version=4), notebook, released_path)

        files = [f"solutions/{lesson}/{lesson}.ipynb"]
        files += sorted(str(p.relative_to(work)) for p in released.rglob("*") if p.is_file())
        stale = [name for name in files if not _same(work / name, root / name)]
        if check and stale:
            raise CourseError(f"{stale[0]} is not what {source.relative_to(root)} gives: run `course build {lesson}`")
        for name in stale:
            write_whole(root / name, (work / name).read_bytes())
    return Built(lesson, tuple(files), tuple(stale))


NOT_COPIED = ("*.py", "*.ipynb", "*.pyc", "__pycache__", ".*", "*.db")  # into a release: never a solution


def _generate_assignment(lesson: str, work: Path, root: Path) -> None:
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", lesson, f"--course-dir={work}"]
    command += [f"--db=sqlite:///{work / 'gradebook.db'}", "--log-level=ERROR"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=quiet_environment())
    if done.returncode or not (work / "lessons" / lesson / f"{lesson}.ipynb").is_file():
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
        reason = raised[0] if raised else (lines or ["it said nothing"])[-1]
        raise CourseError(f"nbgrader could not make the release of {lesson}: {reason}")


def _same(made: Path, there: Path) -> bool:
    return there.is_file() and there.read_bytes() == made.read_bytes()
