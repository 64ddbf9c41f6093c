"""All attacks, by id."""

from __future__ import annotations

from . import boundary, controls, files, interpreter, markup, system, wire
from .attack import Attack

__all__ = ["ATTACKS", "CLASSES", "KNOWN"]

MODULES = (files, interpreter, system, boundary, wire, markup, controls)
ATTACKS: dict[str, Attack] = {attack.id: attack for module in MODULES for attack in module.ATTACKS}

CLASSES = {
    "A": "the file",
    "B": "the interpreter",
    "C": "the system",
    "D": "the boundary",
    "E": "honest work",
}

# What succeeds against our grader, and is said so in docs/security.md. The course's library is no secret: whoever has it
# run under another name in a cell has copied an answer, as if by pasting its text. Graded cells see no other file than the
# notebook.
KNOWN = {
    "D.reference_unwatched": ("points",),
    "D.source_of_package": ("points",),
    "E.own_module": ("unfair",),
}
