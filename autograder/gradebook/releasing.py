"""Give a lesson to a class."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from nbgrader.converters import GenerateAssignment

from autograder.points import FILE, choose, chosen_in, read_points
from autograder.submission import CODE_STUB, MARK, TEXT_STUB, NotebookError, nbformat, parse, role_of

from .classroom import Class, GradebookError, open_class, refuse_locked, run_converter

__all__ = ["notes", "release"]


def release(lesson: str, course_dir: Path | str, *, source: Path | str | None = None) -> Path:
    """Release a lesson to a class: its notebook for learners, and its cells and points in the class's gradebook.

    A new folder gets nbgrader_config.py and the lesson from `source`, a checkout of the course or what is installed of
    it, so that the class stays with the version that it was given. The class's points.toml decides what exercises are
    worth. Returns the folder to hand out. Raises GradebookError, and PointsError.
    """
    course = Path(course_dir).resolve()
    folders = [course / "solutions" / lesson, course / "lessons" / lesson]
    with _restored_on_failure(folders):
        if source is not None and Path(source).resolve() != course:
            _copy_lesson(lesson, Path(source).resolve(), course)
        elif read_points(course, lesson):
            raise GradebookError(f"{FILE} is for a class's own folder: release to one with --course")
        opened = open_class(course, with_gradebook=False)
        if not opened.path(opened.directory.source_directory, ".", lesson).is_dir():
            raise GradebookError(f"there is no lesson {lesson!r} in {course / opened.directory.source_directory}")
        if opened.database.file is None or opened.database.file.is_file():
            refuse_locked(opened)
        try:
            run_converter(opened, GenerateAssignment, lesson, ".")
        except GradebookError as error:
            if "Cannot add or remove cells" not in str(error):
                raise
            raise GradebookError(
                f"{lesson} was handed in already, and this would add or remove cells: the class keeps what it was "
                "given; release to a new class's folder to change it"
            ) from None
    return opened.path(opened.directory.release_directory, ".", lesson).resolve()


@contextmanager
def _restored_on_failure(folders: Iterable[Path]) -> Iterator[None]:
    """nbgrader removes the old release when the new one fails, as it does for a lesson that was handed in already."""
    with tempfile.TemporaryDirectory(prefix="course-release-") as kept:
        saved = [(folder, Path(kept) / str(i)) for i, folder in enumerate(folders) if folder.is_dir()]
        for folder, copy in saved:
            shutil.copytree(folder, copy)
        try:
            yield
        except BaseException:
            for folder, copy in saved:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(copy, folder)
            raise


def _copy_lesson(lesson: str, source: Path, course: Path) -> None:
    """Make the class's own source of the lesson: from the notebook with solutions in a checkout, else from the released
    one, which is what an installed course has. Both give the same release, byte for byte."""
    solved, released = (source / folder / lesson / f"{lesson}.ipynb" for folder in ("solutions", "lessons"))
    made = solved if solved.is_file() else released
    if not made.is_file():
        has = sorted(path.parent.name for path in released.parent.parent.glob("*/*.ipynb") if path.parent.is_dir())
        there = f"it has {', '.join(has)}; " if has else ""
        raise GradebookError(
            f"there is no built lesson {lesson!r} in {solved.parent.parent}: {there}run `course build {lesson}`"
        )
    notebook = nbformat().reads(made.read_text("utf-8"), as_version=4)
    if made is released:
        _mark_solutions(notebook)
    notebook.metadata.setdefault(MARK, {})["version"] = _version()
    choose(notebook, read_points(course, lesson), lesson)
    try:
        course.mkdir(parents=True, exist_ok=True)
        if not (course / "nbgrader_config.py").exists():
            shutil.copy(source / "nbgrader_config.py", course)
        ignore = shutil.ignore_patterns("*.py", "*.ipynb", "__pycache__", ".*")
        target = course / "solutions" / lesson
        shutil.copytree(made.parent, target, ignore=ignore, dirs_exist_ok=True)
        (target / made.name).write_text(nbformat().writes(notebook) + "\n", "utf-8")
    except OSError as error:
        raise GradebookError(f"cannot write {course}: {error.strerror}") from None


def _version() -> str:
    return metadata.version("training-deep-nets")


def notes(lesson: str, course_dir: Path | str | Class) -> list[str]:
    """What a grader should know of the class's release, in sentences: another version of the course, other points."""
    opened = open_class(course_dir, with_gradebook=False)
    path = opened.path(opened.directory.source_directory, ".", lesson) / f"{lesson}.ipynb"
    try:
        notebook = parse(path.read_bytes(), str(path))
    except (OSError, NotebookError):
        return []
    mark = notebook.metadata.get(MARK)
    version = mark.get("version") if isinstance(mark, dict) else None
    found = []
    if version and version != _version():
        found.append(
            f"{lesson} was released to this class by version {version} of the course and is graded by {_version()}: "
            "its cells and points stay as they were released"
        )
    if read_points(opened.root, lesson) != chosen_in(notebook):
        found.append(
            f"{FILE} changed since {lesson} was released: `course release {lesson}` gives the class the new points"
        )
    return found


def _mark_solutions(notebook: Any) -> None:
    """Put nbgrader's markers around the stubs: without them it would replace the whole cell."""
    for cell in notebook.cells:
        if role_of(cell)[0] in ("solution", "explain"):
            stub = CODE_STUB if cell.cell_type == "code" else TEXT_STUB
            marked = r"\1### BEGIN SOLUTION\n\g<0>\n\1### END SOLUTION"
            cell.source, found = re.subn(rf"^([ \t]*){re.escape(stub)}$", marked, cell.source, flags=re.MULTILINE)
            if not found:
                raise GradebookError(f"the released cell {cell.id} has no place for an answer: install the course anew")
