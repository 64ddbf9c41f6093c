"""The project's own files agree with one another."""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "binder"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_lock_pins_every_requirement_within_its_range():
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    locked = {canonicalize_name(name): version for name, version in pins.items()}
    wanted = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, wanted):
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


def test_the_lock_names_no_host_and_no_path():
    assert not re.search(r"://|@|/", (ROOT / "requirements.lock").read_text().partition("\n")[2])


def test_the_pictures_in_docs_are_small():
    pictures = sorted((ROOT / "docs" / "screenshots").iterdir())
    assert pictures and max(picture.stat().st_size for picture in pictures) < 150_000


def test_nothing_serious_is_recorded_of_what_the_course_draws():
    ours = (ROOT / "docs" / "accessibility.md").read_text("utf-8").partition("## What stands around it")[0]
    rows = [line.split("|") for line in ours.splitlines() if line.startswith("| ") and "page" not in line[:7]]
    assert rows and {(row[4].strip(), row[5].strip()) for row in rows} == {("0", "0")}


def test_binder_installs_what_learners_need_at_the_locks_versions():
    import pins

    assert (ROOT / "binder" / "requirements.txt").read_text("utf-8") == pins.pins(), "run `python binder/pins.py`"
    assert {"torch", "keras", "tensorflow-cpu", "jupyterlab"} <= set(re.findall(r"^(.+)==", pins.pins(), re.MULTILINE))
    assert not re.search(r"^(nbgrader|distributed|pytest|sphinx|playwright|nvidia.*)==", pins.pins(), re.MULTILINE)
