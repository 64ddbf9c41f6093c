"""Write binder/requirements.txt: what learners need of requirements.lock, at its versions. `python binder/pins.py`.

Run it in the environment of the lock, after each change of it; a test fails until then. The grader, the tests and the
book stay out, and PyTorch and TensorFlow come in their builds without CUDA: Binder has no GPU, and a large image starts
slowly.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyPI's torch for Linux brings gigabytes of CUDA
CPU_BUILDS = {"tensorflow": "tensorflow-cpu"}  # the same release under another name
BUILD = ("hatchling", "editables")  # postBuild installs the course itself with them
HEAD = f"""\
# What Binder installs, made from requirements.lock by `python binder/pins.py`: edit neither by hand.
--extra-index-url {CPU_INDEX}
"""


def pins() -> str:
    """The file's text: every package that the course's own requirements lead to, pinned."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    locked = {canonicalize_name(line.split("==")[0]): line for line in lines if "==" in line}
    todo = [Requirement(text) for text in (*_dependencies(), *BUILD)]
    found: set[tuple[str, str]] = set()  # (package, extra)
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras}:
            if name in locked and (name, extra) not in found:  # setuptools is every environment's own
                found.add((name, extra))
                todo += [one for one in _requires(name) if one.marker is None or one.marker.evaluate({"extra": extra})]
    return HEAD + "".join(f"{_cpu(locked[name])}\n" for name in sorted({name for name, _ in found}))


def _dependencies() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]


def _requires(name: str) -> list[Requirement]:
    return [Requirement(text) for text in requires(name) or ()]


def _cpu(pin: str) -> str:
    name, version = pin.split("==")
    return f"{CPU_BUILDS.get(name, name)}=={version}"


if __name__ == "__main__":
    (ROOT / "binder" / "requirements.txt").write_text(pins(), "utf-8")
