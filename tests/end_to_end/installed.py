"""The course as people have it who have no checkout: its wheel, installed where only the dependencies are beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Installed", "build", "install"]

REPOSITORY = Path(__file__).resolve().parents[2]
# What pip needs to do its work without a network; what it would bring is there already.
PIP = """command=$1; shift
exec "$(dirname "$0")/python" -m pip -q "$command" --no-deps --no-index --no-build-isolation "$@\""""
MODULE = 'exec "$(dirname "$0")/python" -m "$(basename "$0")" "$@"'


@dataclass(frozen=True)
class Installed:
    """An environment of its own, and an empty home."""

    bin: Path
    home: Path
    wheel: Path

    @property
    def environment(self) -> dict[str, str]:
        """What its processes find: neither this checkout, nor anybody's settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTHON", "PIP"))}
        path = os.pathsep.join([str(self.bin), kept.get("PATH", os.defpath)])
        own = {"HOME": str(self.home), "PATH": path, "COLUMNS": "118", "PYTHONDONTWRITEBYTECODE": "1"}
        theirs = str(Path(sys.prefix) / "share" / "jupyter")  # nbconvert's templates, JupyterLab itself
        return kept | own | {"JUPYTER_PATH": theirs, "TF_CPP_MIN_LOG_LEVEL": "2", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def run(self, *command: str, folder: Path | None = None) -> subprocess.CompletedProcess:
        """Run a command of this environment."""
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=folder or self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )


def build(kind: str, folder: Path) -> Path:
    """The project's wheel or sdist, in `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return next(folder.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


def install(folder: Path) -> Installed:
    """The wheel in an environment in `folder`: the dependencies come from this one's, by a .pth file."""
    wheel = build("wheel", folder / "dist")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    site = folder / "env" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    made = Installed(folder / "env" / "bin", folder / "home", wheel)
    made.home.mkdir()
    for name, script in (("pip", PIP), ("nbgrader", MODULE), ("alembic", MODULE)):
        (made.bin / name).write_text(f"#!/bin/bash\n{script}\n")
        (made.bin / name).chmod(0o755)
    done = made.run("pip", "install", "--ignore-installed", str(wheel))
    assert done.returncode == 0, done.stderr
    return made
