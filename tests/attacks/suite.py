"""All attacks, by id."""

from __future__ import annotations

from . import boundary, controls, files, interpreter, markup, system, wire
from .attack import Attack

__all__ = ["ATTACKS", "CLASSES"]

MODULES = (files, interpreter, system, boundary, wire, markup, controls)
ATTACKS: dict[str, Attack] = {attack.id: attack for module in MODULES for attack in module.ATTACKS}

CLASSES = {
    "A": "the file",
    "B": "the interpreter",
    "C": "the system",
    "D": "the boundary",
    "E": "honest work",
}
