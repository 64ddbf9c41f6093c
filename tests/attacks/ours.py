"""Our arm: the course's own commands grade one class in which all attackers sit, between two honest classmates.

The grader runs as a process of its own, under a wall clock and limits on memory, as an instructor would run it; its
kernels must have every guarantee of `autograder.sandbox.survey`, or nothing is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder import gradebook
from autograder.sandbox import survey
from autograder.submission import MARK, parse, quiet_environment

from .attack import AFTER, BEFORE, CANARY, LEFT, Attack, HandIn, Observed, Result, Scene, judged
from .course import CANARIES, LESSON, checkout, honest, plant
from .reading import formulas, live_markup

__all__ = ["NoSandboxError", "run"]

# Less patience than for real classes: what hangs here hangs on purpose.
CONFIG = "c.Execute.timeout = 6\nc.RunCells.probe_timeout = 6\nc.RunCells.notebook_timeout = 40"
SECONDS = 1500
MEMORY = 8 * 2**30  # of the grader's own process
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "~/.ipython", "~/.jupyter", "~/.config")


COMMANDS = (
    ["grade", LESSON, "--feedback"],
    ["report", LESSON, "--students"],
    ["export", LESSON, "--to", "plain", "--output", "export.csv"],
)


class NoSandboxError(Exception):
    """A guarantee is missing: no attack may run here."""


@dataclass(frozen=True)
class Stage:
    """The class, and what was set up around it."""

    course: Path
    scene: Scene
    tokens: Mapping[str, str]
    environment: Mapping[str, str]


def run(attacks: Sequence[Attack], folder: Path) -> Iterator[tuple[Attack, Result]]:
    """The result of each attack. What can't be put down to one of them is put down to all."""
    refuse_without_sandbox()
    with _services() as (port, name, reached):
        stage = _set_up(folder, port, name)
        _hand_in(attacks, stage)
        watched = [Path(stage.scene.source), Path(stage.scene.host_file), *_submitted(stage.course)]
        digests, before = [_digest(path) for path in watched], _processes()
        said = _grade(stage)
        time.sleep(1)
        survivors = [name for pid, name in _processes().items() if pid not in before and _hostile(name)]
        changed = [str(path) for path, was in zip(watched, digests, strict=True) if _digest(path) != was]
        scores = {row.student: row for row in gradebook.scores(LESSON, stage.course)}
        graded = {student: row.score for student, row in scores.items()}
        left, pages = _left(), {path: path.read_text(errors="replace") for path in _pages(stage.course)}
        live = [path for path, page in pages.items() if live_markup(page)]
        found = set(formulas((stage.course / "export.csv").read_text("utf-8")))
        for attack in attacks:
            seen = Observed(
                score=graded.get(attack.who),
                others={name: graded.get(name) for name in (BEFORE, AFTER)},
                leaked=_leaked(attack, stage, scores.get(attack.who), pages),
                outlives=bool(survivors),
                network=bool(reached),
                left=tuple(left),
                changed=tuple(changed),
                markup=any(_concerns(path, attack) for path in live),
                formula=attack.who in found,
                seconds=_seconds(stage.course / "autograded" / attack.who / LESSON / f"{LESSON}.ipynb"),
                note="" if attack.who in graded or not said else "the run names it as one that could not be graded",
            )
            yield attack, judged(attack, seen)


def refuse_without_sandbox() -> None:
    """Raise NoSandboxError unless every guarantee holds here."""
    missing = [guarantee for guarantee in survey() if guarantee.required and not guarantee.holds]
    if missing:
        raise NoSandboxError(f"no attack may run here: {missing[0]}")


def _set_up(folder: Path, port: int, name: str) -> Stage:
    source = checkout(folder / "checkout", CONFIG)
    course = folder / "class"
    gradebook.release(LESSON, course, source=source)
    notes, runtime = folder / "notes" / "exam.txt", folder / "runtime"
    for path, content in (
        (notes, CANARIES["host_file"]),
        (runtime / "kernel-77.json", json.dumps({"key": CANARIES["connection"]})),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    plant(course / "gradebook.db")
    scene = Scene(
        course=str(course),
        source=str(course / "solutions" / LESSON / f"{LESSON}.ipynb"),
        gradebook=str(course / "gradebook.db"),
        classmate=str(course / "submitted" / BEFORE / LESSON / f"{LESSON}.ipynb"),
        host_file=str(notes),
        connection_file=str(runtime / "kernel-77.json"),
        port=port,
        socket=name,
    )
    token = {"COURSE_TOKEN": CANARIES["environment"], "JUPYTER_RUNTIME_DIR": str(runtime)}
    return Stage(course, scene, dict(CANARIES), {**quiet_environment(), **token})


def _hand_in(attacks: Sequence[Attack], stage: Stage) -> None:
    path = stage.course / "lessons" / LESSON / f"{LESSON}.ipynb"
    release = parse(path.read_bytes(), str(path))
    work = {attack.who: attack.make(release, stage.scene) for attack in attacks}
    work |= {name: HandIn(honest(release, CANARIES["classmate"])) for name in (BEFORE, AFTER)}
    for student, handed in work.items():
        folder = stage.course / "submitted" / student / LESSON
        folder.mkdir(parents=True)
        for name, content in {f"{LESSON}.ipynb": handed.notebook, **handed.files}.items():
            if name not in handed.links:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        for name, target in handed.links.items():
            (folder / name).symlink_to(target)
        for name in handed.pipes:
            os.mkfifo(folder / name)


def _grade(stage: Stage) -> str:
    """What went wrong with the commands that an instructor gives."""
    said = ""
    for command in COMMANDS:
        process = subprocess.Popen(
            [sys.executable, "-c", "from autograder.cli import main; main()", *command, "--course", str(stage.course)],
            env=dict(stage.environment),
            cwd=stage.course,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=_limit,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            said += f"{command[0]} was not done after {SECONDS} s. "
        (stage.course / f"{command[0]}.log").write_text(out)
        if process.returncode:
            said += f"{command[0]} ended with {process.returncode}: {out[-300:]} "
    return said


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


# ---------------------------------------------------------------- looking afterwards


def _leaked(attack: Attack, stage: Stage, row: Any, pages: Mapping[Path, str]) -> tuple[str, ...]:
    """Which secrets the learner gets to see: in outputs, comments and pages."""
    seen = "".join(page for path, page in pages.items() if attack.who in path.parts)
    seen += json.dumps(dict(row.comments)) if row else ""
    for path in (stage.course / "autograded" / attack.who / LESSON).glob("*.ipynb"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            seen += json.dumps([cell.get("outputs") for cell in json.loads(path.read_text())["cells"]])
    tokens = {
        **stage.tokens,
        "allowed": f"{CANARY}-allowed",
        "cases": (stage.course / ".cases-secret").read_text().strip(),
    }
    return tuple(sorted(name for name, token in tokens.items() if token in seen))


def _seconds(graded: Path) -> float:
    """What the grader took for a notebook, as it noted there."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return round(json.loads(graded.read_text())["metadata"].get(MARK, {}).get("seconds", 0.0), 1)
    return 0.0


def _pages(course: Path) -> list[Path]:
    """The pages that show what learners did: feedback and reports."""
    return [path for place in ("feedback", "reports") for path in (course / place).rglob("*.html")]


def _concerns(path: Path, attack: Attack) -> bool:
    """Whether a page is this learner's; what is nobody's own is everybody's."""
    return attack.who in path.parts or "feedback" not in path.parts


def _left() -> list[str]:
    found = []
    for place in map(os.path.expanduser, PLACES):
        for folder, below, names in os.walk(place):
            below[:] = [name for name in below if name not in ("submitted", "autograded", "feedback")]
            found += [os.path.join(folder, name) for name in names if LEFT in name]
    return sorted(found)


def _submitted(course: Path) -> list[Path]:
    return [course / "submitted" / name / LESSON / f"{LESSON}.ipynb" for name in (BEFORE, AFTER)]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _processes() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                found[int(name)] = (
                    Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
    return found


def _hostile(command: str) -> bool:
    """Whether a process is one that an attack started; each names itself by the seconds that it sleeps."""
    return ".7700" in command


@contextlib.contextmanager
def _services() -> Iterator[tuple[int, str, list[str]]]:
    """Two services that no kernel may reach: a port on the loopback interface and an abstract socket."""
    reached: list[str] = []
    name = f"tdn-scheduler-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0{name}")
        local.listen()
        for listener in (tcp, local):
            threading.Thread(target=_note, args=(listener, reached), daemon=True).start()
        yield tcp.getsockname()[1], name, reached


def _note(listener: socket.socket, reached: list[str]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            reached.append(str(listener.family))
            connection.close()
