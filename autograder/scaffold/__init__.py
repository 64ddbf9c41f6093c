"""A new exercise that works at once: its record, wrong and right answers, cells in a lesson, and what tests it.

In a checkout it joins a lesson of the course; in a package of one's own it joins a lesson of that package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from autograder.exercise import CourseError
from autograder.plugins import GROUP

__all__ = ["Written", "add_to_course", "add_to_package"]

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Written:
    """The files that were made or added to, in the order in which an author will open them."""

    exercise: str
    files: tuple[Path, ...]


def add_to_course(name: str, lesson: str, root: Path) -> Written:
    """A new exercise in a lesson of the checkout `root`. Raises CourseError, and then nothing was written."""
    values = _values(name, lesson)
    topic = lesson.partition("_")[2]
    folder, cells = root / "autograder" / "exercises" / topic, root / "solutions" / lesson / f"{lesson}.py"
    if not cells.is_file() or not (folder / "__init__.py").is_file():
        raise CourseError(f"{root} has no lesson {lesson!r} with exercises: `course exercises` lists what there is")
    module = folder / f"{name}.py"
    _refuse_existing(module)
    _write(module, "exercise", values | {"base": "..."})
    _register(folder / "__init__.py", name)
    _add_cells(cells, values)
    return Written(values["id"], (module, cells, folder / "__init__.py"))


def add_to_package(name: str, lesson: str, folder: Path, config: Path, version: str, taken: set[str]) -> Written:
    """A new exercise in a package of one's own in `folder`, which is made where it is not there yet.

    `config` is nbgrader's configuration of the course, `version` the course's; `taken` are the course's own lessons,
    which a package can't add to. Raises CourseError, and then nothing was written.
    """
    values = _values(name, lesson)
    if lesson in taken:
        raise CourseError(
            f"{lesson} is a lesson of the course: a package has lessons of its own, --lesson 50_{lesson[3:]} say; "
            "in a checkout leave --package out to add to the course's"
        )
    distribution = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    package = distribution.replace("-", "_")
    if not package.isidentifier():
        raise CourseError(f"{folder} gives no name for a package: let it begin with a letter, as my-exercises does")
    if folder.exists() and any(folder.iterdir()) and not (folder / package / "__init__.py").is_file():
        raise CourseError(f"{folder} holds something else than a package of exercises: name another folder")
    values |= {"package": package, "distribution": distribution, "version": version, "group": GROUP}
    module = folder / package / f"{name}.py"
    _refuse_existing(module)
    cells, test = folder / "solutions" / lesson / f"{lesson}.py", folder / "tests" / "test_exercises.py"
    for path, template in (
        (folder / "pyproject.toml", "pyproject"),
        (folder / package / "__init__.py", "package"),
        (test, "test"),
        (cells, "lesson"),
    ):
        if not path.exists():
            _write(path, template, values)
    if not (folder / "nbgrader_config.py").exists():
        (folder / "nbgrader_config.py").write_bytes(config.read_bytes())
    _write(module, "exercise", values | {"base": "autograder."})
    _register(folder / package / "__init__.py", name)
    _add_cells(cells, values)
    return Written(values["id"], (module, cells, test, folder / "pyproject.toml"))


def _values(name: str, lesson: str) -> dict[str, str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise CourseError(f"{name!r} can't name an exercise: small letters, digits and _ only, as in moving_average")
    if not re.fullmatch(r"\d\d_[a-z][a-z0-9_]*", lesson):
        raise CourseError(f"{lesson!r} can't name a lesson: two digits and a topic, as in 50_normalizing")
    topic = lesson.partition("_")[2]
    title, lesson_title = (text.replace("_", " ").capitalize() for text in (name, topic))
    return {"name": name, "lesson": lesson, "id": f"{topic}.{name}", "title": title, "lesson_title": lesson_title}


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise CourseError(f"{path} is there already: give the exercise another name")


def _write(path: Path, template: str, values: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_filled(template, values), "utf-8")


def _filled(template: str, values: Mapping[str, str]) -> str:
    return Template((TEMPLATES / f"{template}.txt").read_text("utf-8")).substitute(values)


def _register(path: Path, name: str) -> None:
    """List the exercise in its package: an import, sorted in, and a place at the end, before a question in words."""
    text = path.read_text("utf-8")
    imports = re.findall(r"^from \..*\n", text, re.MULTILINE)
    new = f"from .{name} import exercise as {name}\n"
    block = "".join(sorted([*imports, new], key=lambda line: line.split()[1]))
    if imports:
        start, end = text.index(imports[0]), text.index(imports[-1]) + len(imports[-1])
        text = text[:start] + block + text[end:]
    else:
        text = text.replace("\n__all__", f"\n{block}\n__all__", 1)
    listed = re.search(r"^EXERCISES = \((.*?)\)", text, re.MULTILINE | re.DOTALL)
    if listed is None:
        raise CourseError(f"{path} has no line `EXERCISES = (`: list {name} there by hand")
    names = [entry for entry in re.split(r"[,\s]+", listed[1]) if entry]
    names.insert(len(names) - (names[-1:] == ["explain"]), name)
    entries = "".join(f"    {entry},\n" for entry in names)
    path.write_text(f"{text[: listed.start()]}EXERCISES = (\n{entries}){text[listed.end() :]}", "utf-8")


def _add_cells(path: Path, values: Mapping[str, str]) -> None:
    """Put the exercise's cells before the lesson's summary, or at its end."""
    text, cells = path.read_text("utf-8").rstrip("\n") + "\n", _filled("cells", values)
    place = re.search(r"^\n# %% \[markdown\]\n# ## Summary$", text, re.MULTILINE)
    at = place.start() if place else len(text)
    path.write_text(text[:at] + cells + text[at:], "utf-8")
