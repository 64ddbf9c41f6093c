"""Make the book: `make book`, or `python docs/book/build.py [--no-execute] [--out FOLDER]`.

Writes the pages' sources, runs Sphinx over them (a warning is an error), and checks every link of the result. What the
lessons' cells gave is kept until the course's code changes, so a second build is quick.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parents[1]
sys.path[:0] = [str(BOOK.parent), str(ROOT)]

from autograder.exercise import CourseError  # noqa: E402
from book.lesson import BookError  # noqa: E402
from book.links import dead_links  # noqa: E402
from book.sources import write  # noqa: E402

__all__ = ["build", "main"]


def build(out: Path, *, execute: bool = True, root: Path = ROOT) -> Path:
    """The folder of the finished site, `out/site`. Raises BookError where a cell, a page or a link fails."""
    sources, site = out / "sources", out / "site"
    for old in (sources, site, out / "doctrees"):  # else pages stay that no source has any more
        shutil.rmtree(old, ignore_errors=True)
    sources.mkdir(parents=True)
    write(root, sources)
    cache = out / "cache" / _digest(root)
    for old in (out / "cache").glob("*"):
        if old != cache:
            shutil.rmtree(old)
    with tempfile.TemporaryDirectory() as learner:  # predictions that someone made on this machine stay out
        environment = os.environ | {
            "BOOK_CACHE": str(cache),
            "COURSE_DATA_DIR": learner,
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONPATH": os.pathsep.join([str(BOOK / "without_widgets"), str(root), os.environ.get("PYTHONPATH", "")]),
        }
        command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-c", str(BOOK)]
        command += ["-d", str(out / "doctrees")] + ([] if execute else ["-D", "nb_execution_mode=off"])
        done = subprocess.run([*command, str(sources), str(site)], env=environment)
    if done.returncode:
        raise BookError("the book was not made: mend what Sphinx says above")
    if dead := dead_links(site):
        raise BookError("\n".join(["the book was made, but not all of its links are good:", *dead]))
    return site


def _digest(root: Path) -> str:
    """Of all code that a lesson's cells may run besides their own: what ran with other code is run again."""
    digest = hashlib.sha256()
    files = (path for package in ("course_lib", "autograder") for path in (root / package).rglob("*") if path.is_file())
    for path in sorted(path for path in files if "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    digest.update((root / "requirements.lock").read_bytes())
    return digest.hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "book", help="where to build (build/book)")
    parser.add_argument("--no-execute", action="store_true", help="leave the lessons' outputs out: a minute, not ten")
    options = parser.parse_args(arguments)
    try:
        site = build(options.out.resolve(), execute=not options.no_execute)
    except CourseError as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    print(f"The book is at {site}/index.html. To read it: python -m http.server -d {site}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
