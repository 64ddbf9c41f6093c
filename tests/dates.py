"""Does the course still work with the newest versions of what it builds on?

    python tests/dates.py                                    the whole suite
    python tests/dates.py --quick                            its quick part
    python tests/dates.py --constraint torch==2.13.0         where one must not be the newest

Makes a fresh environment by the ranges in pyproject.toml, not by the lock, runs the suite in it, and adds the day to
docs/dates.json; from that come the table docs/dates.md and the badge docs/last-green.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# What a new version breaks first: the frameworks against the library, records, the notebooks' machinery, nbgrader.
QUICK = (
    "tests/test_project.py",
    "tests/course_lib/test_trust.py",
    "tests/course_lib/test_framework_phases.py",
    "tests/autograder/test_check.py",
    "tests/autograder/test_points.py",
)
PARTS = {"whole": ("tests",), "quick": ("-m", "not slow", *QUICK)}
GREEN, RED = "#2f7d32", "#b3261e"


@dataclass(frozen=True)
class Run:
    """One day's run. `versions`: package -> the version that it ran with; `constraints`: those that were held."""

    day: str
    part: str
    green: bool
    result: str
    seconds: float
    python: str
    versions: dict[str, str]
    constraints: tuple[str, ...] = ()


def packages() -> list[str]:
    """The packages that pyproject.toml asks for, in any extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {canonicalize_name(Requirement(line).name) for line in asked}
    return sorted(names - {canonicalize_name(project["name"])})


def locked() -> dict[str, str]:
    """Package -> the version in requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    return {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }


# ---------------------------------------------------------------- a run


def run(part: str, constraints: Sequence[str], kept: Path | None = None) -> Run:
    """Make the environment, in `kept` or where it goes again, and run a part of the suite in it.

    Raises CalledProcessError where it can't be made.
    """
    with tempfile.TemporaryDirectory(prefix="course-dates-") as folder:
        place = kept or Path(folder)
        (place / "constraints.txt").write_text("\n".join(constraints) + "\n")
        python = place / "env" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", place / "env"], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", "-c", place / "constraints.txt", "-e", f"{ROOT}[dev]"]
        subprocess.run(install, check=True)
        found = json.loads(subprocess.check_output([*pip, "list", "--format=json"]))
        installed = {canonicalize_name(one["name"]): one["version"] for one in found}
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
        tests = [python, "-m", "pytest", "--no-header", *PARTS[part]]  # -q stands in pyproject.toml; twice, it is mute
        done = subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, text=True)
    print(done.stdout[-4000:])
    last = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1].strip("= ")
    result, _, took = last.partition(" in ")
    seconds = re.match(r"([\d.]+)s", took)
    return Run(
        day=date.today().isoformat(),
        part=part,
        green=done.returncode == 0,
        result=result,
        seconds=float(seconds[1]) if seconds else 0.0,
        python=".".join(map(str, sys.version_info[:3])),
        versions={name: installed[name] for name in packages() if name in installed},
        constraints=tuple(constraints),
    )


# ---------------------------------------------------------------- what is written


def page(runs: Sequence[Run], pinned: dict[str, str]) -> str:
    """The table of the newest run, and the days before it."""
    if not runs:
        return "# With the newest versions\n\nNot run yet: `make dates` does.\n"
    now = runs[-1]
    held = f", with {', '.join(now.constraints)} held" if now.constraints else ""
    lines = [
        "# With the newest versions",
        "",
        "Made by `make dates`: the newest versions that pyproject.toml allows, and the tests run with them.",
        f"On {now.day} (Python {now.python}{held}): {_told(now)}.",
        "",
        "| package | locked | ran with | |",
        "|---|---|---|---|",
    ]
    for name, version in now.versions.items():
        lock = pinned.get(name, "")
        lines.append(f"| {name} | {lock} | {version} | {'' if _same(lock, version) else 'newer'} |")
    lines += ["", "| day | tests | result | s |", "|---|---|---|--:|"]
    lines += [
        f"| {one.day} | {one.part} | {_told(one)} | {f'{one.seconds:.0f}' if one.seconds else ''} |"
        for one in reversed(runs)
    ]
    return "\n".join(lines) + "\n"


def _told(one: Run) -> str:
    return f"{'green' if one.green else '**red**'}, {one.result}"


def _same(lock: str, version: str) -> bool:
    return lock == version.partition("+")[0]


def badge(runs: Iterable[Run]) -> str:
    """When the tests were last green, as SVG."""
    green = [one for one in runs if one.green]
    text, colour = (green[-1].day, GREEN) if green else ("never", RED)
    size = 'width="150" height="20"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} aria-label="last green: {text}">
<title>last green: {text}</title>
<rect width="70" height="20" fill="#424242"/><rect x="70" width="80" height="20" fill="{colour}"/>
<g fill="#fff" font-family="DejaVu Sans,Verdana,sans-serif" font-size="11" text-anchor="middle">
<text x="35" y="14">last green</text><text x="110" y="14">{text}</text></g>
</svg>
"""


def load() -> list[Run]:
    """The runs so far, oldest first."""
    path = DOCS / "dates.json"
    rows = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return [Run(**row | {"constraints": tuple(row["constraints"])}) for row in rows]


def write(runs: Sequence[Run]) -> None:
    """Keep the runs, and make page and badge."""
    (DOCS / "dates.json").write_text(json.dumps([asdict(one) for one in runs], indent=1) + "\n", "utf-8")
    (DOCS / "dates.md").write_text(page(runs, locked()), "utf-8")
    (DOCS / "last-green.svg").write_text(badge(runs), "utf-8")


def main() -> int:
    """Run, write, and fail where the tests did."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="only what a new version breaks first")
    options.add_argument("--constraint", action="append", default=[], help="hold a package, as torch==2.13.0")
    options.add_argument("--keep", type=Path, help="make the environment in this folder, and bring it up to date there")
    chosen = options.parse_args()
    runs = [*load(), run("quick" if chosen.quick else "whole", chosen.constraint, chosen.keep)]
    write(runs)
    return 0 if runs[-1].green else 1


if __name__ == "__main__":
    sys.exit(main())
