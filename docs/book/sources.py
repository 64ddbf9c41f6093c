"""The pages of the book, for Sphinx, from what the course says already: lessons, records, results, docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from itertools import groupby
from pathlib import Path

import course_lib
from autograder.notebooks import lessons
from autograder.submission import nbformat
from book.lesson import BookError, Facts, facts, page
from course_lib.claims import CLAIMS, LEDGER, Evidence, evidence

__all__ = ["write"]

GUIDES = (  # of docs/, in the order of the contents
    "instructors",
    "transcript-instructor",
    "new-exercise",
    "scaling",
    "security",
    "benchmarks",
    "binder",
    "accessibility",
    "dates",
)
PAGES = Path(__file__).parent / "pages"  # what is written by hand
ROW = re.compile(r"^\| ([A-Z]+\d+) \|", re.MULTILINE)


def write(root: Path, folder: Path) -> None:
    """Write every page of the book of the checkout `root` into the empty folder. Raises BookError, CourseError."""
    known = {name: _lesson(root, folder, name) for name in lessons(root)}
    by_lesson = {name: [evidence(row.id) for row in rows] for name, rows in groupby(LEDGER, key=lambda row: row.lesson)}
    guides = [name for name in GUIDES if (root / "docs" / f"{name}.md").is_file()]
    pages = {
        "index.md": index(the_map(root), known, guides),
        "evidence/index.md": evidence_table((root / "docs" / "evidence.md").read_text("utf-8"), known),
        "traps.md": (root / "docs" / "traps.md").read_text("utf-8"),
        "api/index.md": api_index(),
        "colophon.md": (PAGES / "colophon.md").read_text("utf-8"),
    }
    pages |= {f"{name}.md": (root / "docs" / f"{name}.md").read_text("utf-8") for name in guides}
    pages |= {f"evidence/{name}.md": evidence_page(name, known, found) for name, found in by_lesson.items()}
    pages |= {f"api/{name}.rst": api_page(name) for name in course_lib.__all__}
    pages |= dict(code_pages(root))
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.rstrip() + "\n", "utf-8")


# ---------------------------------------------------------------- lessons


def _lesson(root: Path, folder: Path, name: str) -> Facts:
    """Write a lesson's page and the notebook to download beside it."""
    solved, release = (root / place / name / f"{name}.ipynb" for place in ("solutions", "lessons"))
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    shutil.copy(release, downloads)
    shutil.copytree(release.parent, folder / "lessons" / name)  # with the pictures that stand beside it
    notebook = nbformat().read(solved, as_version=4)
    made = page(notebook, nbformat().read(release, as_version=4), f"../../downloads/{name}.ipynb")
    nbformat().write(made, folder / "lessons" / name / f"{name}.ipynb")
    return facts(notebook)


def index(table: str, known: dict[str, Facts], guides: list[str]) -> str:
    """The front page: what the book is, the map of the lessons, the contents."""
    needs = dict.fromkeys(lesson.needs for lesson in known.values())
    return (
        (PAGES / "index.md")
        .read_text("utf-8")
        .format(
            needs=" ".join(needs),
            map=table,
            lessons="\n".join(f"lessons/{name}/{name}" for name in known),
            guides="\n".join(guides),
        )
    )


def the_map(root: Path) -> str:
    """The map that stands in the learners' first notebook, as Markdown. Raises BookError where there is none."""
    path = root / "lessons" / "index.ipynb"
    cells = nbformat().read(path, as_version=4).cells if path.is_file() else []
    table = next((cell.source for cell in cells if cell.id == "index-map"), None)
    if table is None:
        raise BookError(f"{path} has no map of the lessons: run `course build index`")
    return re.sub(r"\]\((\d\d_\w+/\d\d_\w+\.ipynb)\)", r"](lessons/\1)", table)


# ---------------------------------------------------------------- evidence


def evidence_table(text: str, known: dict[str, Facts]) -> str:
    """docs/evidence.md with each claim's id a link to its card, under the lessons' titles, and its pages below it."""
    owner = {row.id: row.lesson for row in LEDGER}
    text = ROW.sub(lambda row: f"| [{row[1]}]({owner[row[1]]}.md#{row[1].lower()}) |", text)
    for name, lesson in known.items():
        text = re.sub(rf"^## {name}$", lambda _, title=lesson.title: f"## {title}", text, flags=re.MULTILINE)
    contents = "\n".join(dict.fromkeys(owner.values()))
    return f"{text}\n\n```{{toctree}}\n:hidden:\n{contents}\n```"


def evidence_page(name: str, known: dict[str, Facts], found: list[Evidence]) -> str:
    """A lesson's claims: each with its card, and the code that measured and decided it folded below."""
    title = known[name].title if name in known else name
    lesson = f"[the lesson](../lessons/{name}/{name}.ipynb)" if name in known else "a lesson that is still to come"
    parts = [
        f"# Evidence: {title}",
        f"The claims of {lesson}, each with what was measured, the rule that turned it into a verdict, and the code.",
    ]
    for one in found:
        parts += [f"({one.row.id.lower()})=\n## {one.row.id}. {_plain(one.row.question)}", _raw(one.html)]
        if one.row.id in CLAIMS:
            parts.append(_code(one.row.id))
    return "\n\n".join(parts)


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>$|#])", r"\\\1", text)


def _raw(html: str) -> str:
    return f"````{{raw}} html\n{html}\n````"


def _code(claim_id: str) -> str:
    claim = CLAIMS[claim_id]
    sources = "\n\n".join(inspect.getsource(inspect.unwrap(part)) for part in (claim.measure, claim.decide))
    module = claim.measure.__module__
    return (
        f"<details><summary>The code of {claim_id}</summary>\n\n````python\n{sources}````\n\n"
        f"From [{_path(module)}](../code/{module}.md). `course evidence {claim_id}` measures it again.\n\n</details>"
    )


def _path(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def code_pages(root: Path) -> dict[str, str]:
    """The files that the claims' functions stand in, whole."""
    modules = dict.fromkeys(claim.measure.__module__ for claim in CLAIMS.values())
    return {
        f"code/{module}.md": f"---\norphan: true\n---\n\n# {_path(module)}\n\n"
        f"````python\n{(root / _path(module)).read_text('utf-8')}````"
        for module in modules
    }


# ---------------------------------------------------------------- the library


def api_index() -> str:
    names = "\n".join(course_lib.__all__)
    return (
        "# The library\n\n`course_lib` holds what the lessons teach: reference implementations, held equal to "
        "PyTorch's and Keras's by tests, and the experiments behind the evidence. Import the module that you need.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n{names}\n```"
    )


def api_page(name: str) -> str:
    """A module's public names; those that it passes on from a neighbour are told on that one's page."""
    title = f"course_lib.{name}"
    module = importlib.import_module(title)
    homes = {each: getattr(getattr(module, each), "__module__", title) for each in module.__all__}
    foreign = {each: home.split(".")[1] for each, home in homes.items() if _is_neighbour(home, name)}
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", "   :members:"]
    if foreign:
        lines.append(f"   :exclude-members: {', '.join(foreign)}")
        lines += ["", "Also importable from here, and told there:", ""]
        for home in sorted(set(foreign.values())):
            names = ", ".join(f"``{each}``" for each, other in foreign.items() if other == home)
            lines.append(f"* :doc:`{home}`: {names}")
    return "\n".join(lines)


def _is_neighbour(home: str, name: str) -> bool:
    package, _, rest = home.partition(".")
    return package == "course_lib" and rest.partition(".")[0] in course_lib.__all__ and rest.partition(".")[0] != name
