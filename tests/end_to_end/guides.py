"""Run a guide: the lines of its ```bash blocks, in order, as a reader would; and write down what they print.

python tests/end_to_end/guides.py       makes docs/transcript-instructor.md anew
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from installed import REPOSITORY, Installed, install

__all__ = ["Step", "blocks", "transcript", "walk"]

BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MACHINE = re.compile(r"/sys/fs/cgroup/\S+(?:\n {20,}\S+)*")  # `course doctor` names its own group
PLACE = "GUIDE_PLACE"


@dataclass(frozen=True)
class Step:
    """One block of a guide, and what came of it."""

    block: str
    status: int
    said: str


def blocks(page: Path) -> list[str]:
    """The blocks of a page that are to be run."""
    return BLOCK.findall(page.read_text("utf-8"))


def walk(page: Path, course: Installed, before: Callable[[str], None] = lambda block: None) -> Iterator[Step]:
    """Run the page's blocks, each from the folder in which the one before ended; `before` does what a person would."""
    place = course.home
    for block in blocks(page):
        before(block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'{block}\npwd > "${PLACE}"'],
            cwd=place,
            env=course.environment | {PLACE: str(course.home / ".place")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        said = MACHINE.sub("/sys/fs/cgroup/…", done.stdout.replace(str(course.home), "~"))
        yield Step(block, done.returncode, said)
        if done.returncode:
            return
        place = Path((course.home / ".place").read_text().strip())


def transcript(steps: list[Step], page: str) -> str:
    """The steps as a page: what was typed, and what was answered."""
    parts = [
        f"# What the lines of {page} print\n\nMade on {date.today()} by `make transcript`: the guide's own lines, run "
        "from the installed package with a class of three.\n"
    ]
    parts += [
        f"```console\n{_typed(step.block)}\n{step.said.rstrip()}\n```\n".replace("\n\n```", "\n```") for step in steps
    ]
    return "\n".join(parts)


def _typed(block: str) -> str:
    """The block with a prompt before each command; the lines of a here-document have none."""
    lines, inside = [], False
    for line in block.rstrip().splitlines():
        lines.append(line if inside else f"$ {line}")
        inside = ("<<'END'" in line or inside) and line != "END"
    return "\n".join(lines)


def main() -> None:
    """Write the instructor's transcript."""
    from a_class import hand_in

    with tempfile.TemporaryDirectory(prefix="course-guide-") as folder:
        course = install(Path(folder))
        steps = list(walk(REPOSITORY / "docs" / "instructors.md", course, lambda block: hand_in(block, course)))
    if steps[-1].status:
        sys.exit(f"this block failed:\n{steps[-1].block}\n{steps[-1].said}")
    (REPOSITORY / "docs" / "transcript-instructor.md").write_text(transcript(steps, "instructors.md"), "utf-8")


if __name__ == "__main__":
    main()
