"""Look at the course as people meet it: python tests/end_to_end/look.py accessibility | screenshots

`accessibility` lets axe-core read every page that the course draws, in light and dark, and writes
docs/accessibility.md; `screenshots` takes the pictures in docs/screenshots. Both make what they show: a learner's
progress, the lessons run from top to bottom, a simulated class graded. It takes some minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from accessibility import OUTPUTS, SERIOUS, Scan, scan, version
from browser import CHROMIUM_ARGUMENTS, Lab, chromium

from autograder import demo, exercises, notebooks
from autograder.exercise import Exercise
from autograder.report import write_student_pages
from course_lib.journal import Commitment, Journal
from course_lib.predictions import PREDICTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE, PICTURES = ROOT / "docs" / "accessibility.md", ROOT / "docs" / "screenshots"
LEARNERS = 12
MAX_BYTES = 150_000
WIDTH, HEIGHT = 1280, 1000


@dataclass(frozen=True)
class Looked:
    """One page as axe-core read it."""

    page: str
    scheme: str
    scan: Scan


# ---------------------------------------------------------------- what is looked at


@contextlib.contextmanager
def lessons(scratch: Path, folder: str = "lessons") -> Iterator[Lab]:
    """JupyterLab on the lessons, as a learner's who has come some way: nobody's, made up for the pictures."""
    with Lab(ROOT / folder, scratch, size=(WIDTH, HEIGHT)) as lab:
        come_some_way(Journal(lab.data))
        yield lab


def come_some_way(journal: Journal) -> None:
    """The first lesson done, with three mistakes on the way; the second half done."""
    begun = datetime(2026, 11, 2, 18, tzinfo=UTC)
    names = notebooks.lessons(ROOT)[:2]
    for number, prediction in enumerate(p for p in PREDICTIONS.values() if p.lesson in names):
        answer = prediction.choices[0].name if prediction.choices else 4.0
        journal.commit(prediction.id, Commitment(answer, "", (begun + timedelta(minutes=number)).isoformat()))
        journal.note_score(prediction.id, *((1.0, "right") if number % 3 else (0.0, "not this one")))
    for name in names:
        coded = [record for record in exercises.of_lesson(name) if isinstance(record, Exercise)]
        for number, record in enumerate(coded if name == names[0] else coded[: len(coded) // 2]):
            if number % 3 == 1:
                wrong = record.misconceptions[0]
                journal.note_check(record.id, 0, record.points, False, wrong.id, wrong.message.partition("{")[0])
            if name == names[0] or number != 4:
                journal.note_check(record.id, record.points, record.points, True)


def graded_class(folder: Path) -> dict[str, Path]:
    """The pages of a simulated class: the class's, one student's, one feedback page."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if demo.main(folder, LEARNERS, fresh=True, source=ROOT):
            raise SystemExit(f"the simulated class did not come out as built:\n{said.getvalue()}")
    students = write_student_pages(demo.LESSON, folder, with_median=True)
    [class_page] = [page for page in (folder / "reports").glob("*.html")]
    feedback = sorted((folder / "feedback").glob("*/*/*.html"))
    return {
        "class report": class_page,
        "student's page": sorted(map(Path, students.values()))[0],
        "feedback": feedback[0],
    }


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        yield launched
        launched.close()


def open_all(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")


# ---------------------------------------------------------------- accessibility


def in_the_lab(scratch: Path) -> Iterator[Looked]:
    """Each notebook's outputs after Run All, and once the page around them, which is JupyterLab's."""
    with lessons(scratch) as lab:
        opened = [("first page", "index.ipynb"), *((name, f"{name}/{name}.ipynb") for name in notebooks.lessons(ROOT))]
        for name, path in opened:
            lab.open(path)
            lab.run_all(timeout=300)
            open_all(lab.page)
            for theme in ("Light", "Dark"):
                lab.theme_is(theme)
                yield Looked(name, theme.lower(), scan(lab.page, OUTPUTS))
            lab.theme_is("Light")
            if path == "index.ipynb":
                yield Looked("JupyterLab itself", "light", scan(lab.page, without=[OUTPUTS]))


def of_the_class(scratch: Path) -> Iterator[Looked]:
    pages = graded_class(scratch / "class")
    with browser() as chrome:
        for name, path in pages.items():
            for scheme in ("light", "dark"):
                page = chrome.new_page(color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT})
                page.goto(path.as_uri())
                open_all(page)
                yield Looked(name, scheme, scan(page))
                page.close()


def written(found: list[Looked]) -> str:
    """The page in docs/, from what was found."""
    ours = [one for one in found if one.page not in THEIRS]
    theirs = [one for one in found if one.page in THEIRS]
    lines = [
        *("# Accessibility", ""),
        f"Every page that the course draws, read by axe-core {version()} in Chromium on {date.today().isoformat()}: in",
        "JupyterLab what the cells put out, with every fold open; of the reports the whole page. The command",
        "`python tests/end_to_end/look.py accessibility` writes this file anew. Tests hold the cards, the first page",
        "and the reports to no serious fault. What no programme can judge (does the text say what the figure shows?)",
        "people have to read.",
        *("", "## What the course draws", ""),
        *table(ours),
        *("", *faults_of(ours)),
        *("## What stands around it", ""),
        "JupyterLab's own page and nbgrader's feedback page are not the course's; they are listed for those who depend",
        "on them. The sliders of ipywidgets have no name of their own: an extension of JupyterLab that comes with the",
        "course (`autograder/labextension`) gives them that of the words beside them.",
        "",
        *table(theirs),
        *("", *faults_of(theirs)),
    ]
    return "\n".join(lines).rstrip() + "\n"


THEIRS = ("JupyterLab itself", "feedback")


def table(found: list[Looked]) -> Iterator[str]:
    yield from ("| page | theme | rules passed | critical | serious | lesser |", "|---|---|--:|--:|--:|--:|")
    for one in found:
        count = Counter(fault.impact for fault in one.scan.faults)
        lesser = sum(number for impact, number in count.items() if impact not in SERIOUS)
        yield f"| {one.page} | {one.scheme} | {one.scan.passed} | {count['critical']} | {count['serious']} | {lesser} |"


def faults_of(found: list[Looked]) -> Iterator[str]:
    """Each rule that is broken somewhere, and where."""
    rules: dict[tuple[str, str, str], Counter] = {}
    for one in found:
        for fault in one.scan.faults:
            rules.setdefault((fault.impact, fault.rule, fault.help), Counter())[f"{one.page}, {one.scheme}"] += 1
    for (impact, rule, help), places in sorted(rules.items()):
        where = "; ".join(f"{place}: {number}" for place, number in places.items())
        yield f"- {impact}, `{rule}` ({help}): {where}."
    if rules:
        yield ""


# ---------------------------------------------------------------- screenshots


def save(png: bytes, name: str) -> None:
    """Keep a picture as WebP, small enough for a repository."""
    from PIL import Image

    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / f"{name}.webp"
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (90, 80, 65, 50):
        picture.save(path, "WEBP", quality=quality, method=6)
        if path.stat().st_size < MAX_BYTES:
            print(f"{path.relative_to(ROOT)}: {picture.width} × {picture.height}, {path.stat().st_size / 1000:.0f} kB")
            return
    raise SystemExit(f"{path} is too large at any quality")


def pictures_of_the_lab(scratch: Path) -> None:
    name = demo.LESSON
    with lessons(scratch) as lab:
        lab.open("index.ipynb")
        lab.run_all()
        lab.cell(0).scroll_into_view_if_needed()
        save(lab.page.screenshot(), "home")
        lab.open(f"{name}/{name}.ipynb")
        save(lab.page.screenshot(), "lesson")
        first = exercises.of_lesson(name)[0]
        solution, check = (f"{first.id.replace('.', '-')}-{role}" for role in ("solution", "check"))
        lab.run_cell(next(cell["id"] for cell in lab.cells() if cell["id"].startswith("setup-")))
        lab.replace_cell(solution, demo.source_of(first.misconceptions[0].wrong, first.answer))
        lab.run_cell(check)
        lab.cell(solution).scroll_into_view_if_needed()
        top, bottom = lab.cell(solution).bounding_box(), lab.cell(check).bounding_box()
        area = {
            "x": top["x"],
            "y": top["y"],
            "width": top["width"],
            "height": bottom["y"] + bottom["height"] - top["y"],
        }
        save(lab.page.screenshot(clip=area), "wrong-answer")


def picture_of_the_class(scratch: Path) -> None:
    pages = graded_class(scratch / "class")
    with browser() as chrome:
        page = chrome.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(pages["class report"].as_uri())
        save(page.screenshot(), "class-report")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["accessibility", "screenshots"])
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as folder:
        if what == "screenshots":
            pictures_of_the_lab(Path(folder))
            picture_of_the_class(Path(folder))
        else:
            found = [*in_the_lab(Path(folder)), *of_the_class(Path(folder))]
            PAGE.write_text(written(found), "utf-8")
            for one in found:
                print(one.page, one.scheme, *one.scan.serious, sep="\n  ")
