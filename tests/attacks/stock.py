"""The stock arm: plain `nbgrader autograde`, in nbgrader's default configuration, each attack in a box of its own."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autograder.submission import parse

from . import box
from .attack import AFTER, LEFT, Attack, HandIn, Observed, Result, Scene, judged
from .course import CANARIES, LESSON, honest, stock_class
from .reading import formulas, live_markup

__all__ = ["run"]

SCENE = Scene(
    course="/home/instructor/class",
    source=f"/home/instructor/class/source/{LESSON}/{LESSON}.ipynb",
    gradebook="/home/instructor/class/gradebook.db",
    classmate=f"/home/instructor/class/submitted/adam/{LESSON}/{LESSON}.ipynb",
    host_file="/home/instructor/notes/exam.txt",
    connection_file="/home/instructor/.local/share/jupyter/runtime/kernel-77.json",
    port=18777,
    socket="tdn-scheduler",
)
SECONDS = 200  # for a class of three; a mute kernel costs nbgrader 30 s in every cell


def run(attacks: Sequence[Attack], folder: Path) -> Iterator[tuple[Attack, Result]]:
    """The result of each attack, as it comes. Raises BoxError where the box leaks: then nothing is run."""
    template = stock_class(folder)
    for path in (template, *template.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    release = parse((template / "release" / LESSON / f"{LESSON}.ipynb").read_bytes(), "the release")
    box.probe(template)
    for attack in attacks:
        yield attack, judged(attack, _observe(attack, release, template))


def _observe(attack: Attack, release: Any, template: Path) -> Observed:
    work = attack.make(release, SCENE)
    bystander = HandIn(honest(release))
    report = box.run(
        {
            "lesson": LESSON,
            "attacker": attack.who,
            "hand_in": {attack.who: _packed(work), AFTER: _packed(bystander)},
            "plant": {
                SCENE.host_file: CANARIES["host_file"],
                SCENE.connection_file: f'{{"key": "{CANARIES["connection"]}"}}',
            },
            "watched": [SCENE.source, SCENE.classmate, SCENE.host_file],
            "environment": {"COURSE_TOKEN": CANARIES["environment"], "OMP_NUM_THREADS": "1"},
            "tokens": CANARIES,
            "left": LEFT,
            "port": SCENE.port,
            "socket": SCENE.socket,
            "seconds": SECONDS,
            "feedback": b"tdnPwned" in work.notebook or bool(attack.student or work.files),
        },
        template,
        seconds=SECONDS + 100,
    )
    if not report:
        return Observed(None, {}, note="the whole box had to be stopped")
    scores = report["scores"]
    return Observed(
        score=scores.get(attack.who),
        others={name: scores.get(name) for name in ("adam", AFTER)},
        leaked=tuple(report["outputs"]),
        outlives=bool(report["survivors"]),
        network=bool(report["reached"]),
        left=tuple(report["left"]),
        changed=tuple(report["changed"]),
        markup=live_markup(report["pages"]),
        formula=attack.who in formulas(report["table"]),
        seconds=round(report["seconds"], 1),
        note="" if report["ended"] else f"not done after {SECONDS} s",
    )


def _packed(work: HandIn) -> dict[str, Any]:
    files = {f"{LESSON}.ipynb": work.notebook, **work.files}
    return {
        "files": {name: base64.b64encode(content).decode() for name, content in files.items()},
        "links": dict(work.links),
        "pipes": list(work.pipes),
    }
