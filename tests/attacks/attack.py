"""What an attack is: a frozen record that makes a hand-in, and what must not come of it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autograder.submission import nbformat, role_of

__all__ = [
    "AFTER",
    "BEFORE",
    "CANARY",
    "LEFT",
    "SIGNS",
    "WORTH",
    "Attack",
    "HandIn",
    "Observed",
    "Result",
    "Scene",
    "answered",
    "as_bytes",
    "attack",
    "cell_of",
    "code",
    "fake_output",
    "judged",
    "with_notebook",
]

INVERTED, CLASSIC = "dropout.inverted_dropout", "dropout.classic_dropout"  # the two exercises of the small lesson
WORTH = {INVERTED: 3.0, CLASSIC: 2.0}
RIGHT = {
    INVERTED: "def inverted_dropout(x, p, mask):\n    return x * mask / (1 - p)",
    CLASSIC: "def classic_dropout(x, p, mask, training):\n    return x * mask if training else x * (1 - p)",
}
WRONG = "def inverted_dropout(x, p, mask):\n    return x + 1\n\n\n"

BEFORE, AFTER = "adam", "zoe"  # honest classmates, who have all points; nbgrader grades them before and after
CANARY = "canary"  # secrets that a learner must not read have names and values that begin so
LEFT = "tdn-left"  # files that an attack leaves outside its work folder have this in their names

# What must not happen, and how the table says it.
SIGNS = {
    "points": "gained points",
    "secret": "read a secret",
    "outlives": "outlived its kernel",
    "stopped": "stopped the run",
    "others": "changed another's grade",
    "network": "opened a connection",
    "left": "left files for the next",
    "changed": "changed the class's files",
    "markup": "ran script in feedback",
    "formula": "put a formula into the spreadsheet",
    "unfair": "honest work lost points",
}


@dataclass(frozen=True)
class Scene:
    """What an attacker has found out or guessed about the machine that will grade the notebook."""

    course: str  # the class's folder
    source: str  # the notebook with the solutions
    gradebook: str
    classmate: str  # a classmate's submitted notebook
    host_file: str  # a file of the instructor's elsewhere on the machine
    connection_file: str  # that of another kernel
    port: int  # on which a service listens on the loopback interface
    socket: str  # the abstract name of another such service

    def fill(self, text: str) -> str:
        """`text` with @course@ and the like put in."""
        return re.sub(r"@(\w+)@", lambda found: str(getattr(self, found[1])), text)


@dataclass(frozen=True)
class HandIn:
    """The folder that a learner hands in. `links` maps names to targets; `pipes` names FIFOs."""

    notebook: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    pipes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attack:
    """One attack, or one honest but odd hand-in (`honest`: less than `earns` is then a failure too).

    id       class and name: "A.skip_tag"
    tries    what it tries, in words that finish "this notebook ..."
    make     make(release notebook, scene) -> what is handed in
    earns    the points of what it answers honestly
    student  the learner's id, where that is part of the attack
    only     "ours" where it aims at something that stock nbgrader doesn't have
    """

    id: str
    tries: str
    make: Callable[[Any, Scene], HandIn]
    earns: float = 0.0
    honest: bool = False
    student: str = ""
    only: str = ""

    def __str__(self) -> str:
        return self.id

    @property
    def who(self) -> str:
        """The student's id."""
        return self.student or re.sub(r"\W", "-", self.id.lower())


@dataclass(frozen=True)
class Observed:
    """What an arm saw after grading. `score` is None where there is no grade at all."""

    score: float | None
    others: Mapping[str, float | None]
    leaked: tuple[str, ...] = ()
    outlives: bool = False
    network: bool = False
    left: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    markup: bool = False
    formula: bool = False
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Result:
    """What came of an attack: the signs of its success, none where it was stopped."""

    signs: tuple[str, ...]
    score: float | None
    detail: str = ""
    seconds: float = 0.0


def judged(attack: Attack, seen: Observed) -> Result:
    """Which signs of success `seen` shows."""
    full = sum(WORTH.values())
    score = seen.score if seen.score is not None else 0.0
    signs = {
        "points": score > attack.earns + 1e-9,
        "secret": bool(seen.leaked),
        "outlives": seen.outlives,
        "stopped": seen.others.get(AFTER) is None,
        "others": any(value is not None and abs(value - full) > 1e-9 for value in seen.others.values())
        or seen.others.get(BEFORE) is None,
        "network": seen.network,
        "left": bool(seen.left),
        "changed": bool(seen.changed),
        "markup": seen.markup,
        "formula": seen.formula,
        "unfair": attack.honest and score < attack.earns - 1e-9,
    }
    detail = "; ".join(part for part in (*seen.leaked, *seen.left, *seen.changed, seen.note) if part)
    return Result(tuple(name for name in SIGNS if signs[name]), seen.score, detail, seen.seconds)


# ---------------------------------------------------------------- making hand-ins


def cell_of(notebook: Any, role: str, exercise: str = INVERTED) -> Any:
    """The first cell of an exercise with this role."""
    return next(cell for cell in notebook.cells if role_of(cell) == (role, exercise))


def answered(release: Any, answers: Mapping[str, str]) -> Any:
    """A copy of the release with these sources in its solution cells."""
    notebook = copy.deepcopy(release)
    for exercise, source in answers.items():
        cell_of(notebook, "solution", exercise).source = source
    return notebook


def as_bytes(notebook: Any) -> bytes:
    """The notebook's file, whatever is in it."""
    return json.dumps(notebook).encode()


def code(
    id: str,
    tries: str,
    source: str,
    *,
    classic: bool = False,
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    **options: Any,
) -> Attack:
    """An attack that is code in the first solution cell, before a wrong answer where it defines none.

    With `classic` the other exercise is answered honestly, and its points are earned.
    """

    def make(release: Any, scene: Scene) -> HandIn:
        text = scene.fill(source.strip("\n"))
        text = text if re.search(r"^def inverted_dropout|\binverted_dropout = ", text, re.M) else WRONG + text
        both = re.search(r"^def classic_dropout|\bclassic_dropout = ", text, re.M)
        second = RIGHT[CLASSIC] if classic else "# see above" if both else None
        notebook = answered(release, {INVERTED: text} | ({CLASSIC: second} if second else {}))
        return HandIn(
            as_bytes(notebook),
            {name: scene.fill(content).encode() for name, content in (files or {}).items()},
            {name: scene.fill(target) for name, target in (links or {}).items()},
        )

    return Attack(id, tries, make, earns=options.pop("earns", WORTH[CLASSIC] if classic else 0.0), **options)


def attack(id: str, tries: str, **options: Any) -> Callable[[Callable[[Any, Scene], HandIn]], Attack]:
    """A decorator: the function that makes the hand-in becomes the attack."""
    return lambda make: Attack(id, tries, make, **options)


def with_notebook(
    id: str, tries: str, change: Callable[[Any], Any], answers: Mapping[str, str] = RIGHT, **options: Any
) -> Attack:
    """An attack on the file: `change` alters (or returns another in place of) the notebook, answered with `answers`."""

    def make(release: Any, scene: Scene) -> HandIn:
        notebook = answered(release, answers)
        changed = change(notebook)
        changed = notebook if changed is None else changed
        return HandIn(changed if isinstance(changed, bytes) else as_bytes(changed))

    return Attack(id, tries, make, earns=options.pop("earns", sum(WORTH[name] for name in answers)), **options)


def fake_output(text: str) -> Any:
    """An output that nbgrader would read as a score."""
    return nbformat().v4.new_output("execute_result", {"text/plain": text}, execution_count=1)
