"""Give a lesson to a class."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nbgrader.converters import GenerateAssignment

from .classroom import GradebookError, open_class, refuse_locked, run_converter

__all__ = ["release"]


def release(lesson: str, course_dir: Path | str, *, source: Path | str | None = None) -> Path:
    """Release a lesson to a class: its notebook for learners, and its cells and points in the class's gradebook.

    A new folder gets nbgrader_config.py and solutions/<lesson> from the checkout `source`, so that the class stays
    with the version that it was given. Returns the folder to hand out. Raises GradebookError.
    """
    course = Path(course_dir).resolve()
    folders = [course / "solutions" / lesson, course / "lessons" / lesson]
    with _restored_on_failure(folders):
        if source is not None and Path(source).resolve() != course:
            _copy_lesson(lesson, Path(source).resolve(), course)
        opened = open_class(course, with_gradebook=False)
        if not opened.path(opened.directory.source_directory, ".", lesson).is_dir():
            raise GradebookError(f"there is no lesson {lesson!r} in {course / opened.directory.source_directory}")
        if opened.database.file is None or opened.database.file.is_file():
            refuse_locked(opened)
        run_converter(opened, GenerateAssignment, lesson, ".")
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
    made = source / "solutions" / lesson
    if not (made / f"{lesson}.ipynb").is_file():
        raise GradebookError(f"there is no built lesson {lesson!r} in {made.parent}: run `course build {lesson}`")
    try:
        course.mkdir(parents=True, exist_ok=True)
        if not (course / "nbgrader_config.py").exists():
            shutil.copy(source / "nbgrader_config.py", course)
        ignore = shutil.ignore_patterns("*.py", "__pycache__", ".*")
        shutil.copytree(made, course / "solutions" / lesson, ignore=ignore, dirs_exist_ok=True)
    except OSError as error:
        raise GradebookError(f"cannot write {course}: {error.strerror}") from None
