"""What grading put right in a file that was handed in, and what that says: damage, or somebody after points.

Ordinary tools lose metadata, copy cells and delete them. None changes the points of a check: that takes an editor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["KINDS", "Kind", "Remark", "summary"]


@dataclass(frozen=True)
class Kind:
    """`text` says it of one cell, `told` of several; `deliberate`: no ordinary tool does this by itself."""

    text: str
    told: str
    deliberate: bool = False


KINDS = {
    "points": Kind("its points were changed", "changed the points of {cells}", True),
    "flags": Kind("its lock or kind was changed", "changed the lock or kind of {cells}", True),
    "tagged": Kind("was tagged to be skipped", "tagged {cells} to be skipped", True),
    "edited": Kind("its text was changed", "changed the text of {cells}", True),
    "missing": Kind("was missing", "{cells} missing"),
    "copied": Kind("was there twice; the last one counts", "{cells} there twice"),
    "moved": Kind("stood before the answer", "{cells} before the answer"),
    "retyped": Kind("was a {detail} cell", "{cells} of another type"),
    "stripped": Kind("had lost its metadata", "{cells} without metadata"),
    "schema": Kind("its metadata was of schema {detail}", "{cells} of another schema"),
}
NAMES = {
    "check": "check",
    "solution": "answer",
    "explain": "answer in words",
    "setup": "setup cell",
    "demo": "demo cell",
}


@dataclass(frozen=True)
class Remark:
    """One thing that was put right. `cell` is its nbgrader id, `kind` one of KINDS; as text "<cell>: <what>"."""

    cell: str
    kind: str
    detail: str = ""

    @property
    def deliberate(self) -> bool:
        return KINDS[self.kind].deliberate and self.role != "demo"

    @property
    def role(self) -> str:
        first = self.cell.partition("-")[0]
        return first if first in ("demo", "setup") else self.cell.rpartition("-")[2]

    def __str__(self) -> str:
        return f"{self.cell}: {KINDS[self.kind].text.format(detail=self.detail)}"

    @classmethod
    def read(cls, line: str) -> Remark | None:
        """The remark that a line of text says; None where it says none."""
        cell, _, said = line.partition(": ")
        for kind, known in KINDS.items():
            before, _, after = known.text.partition("{detail}")
            detail = said.removeprefix(before).removesuffix(after)
            if said == known.text.format(detail=detail):
                return cls(cell, kind, detail if "{detail}" in known.text else "")
        return None


def summary(remarks: Iterable[Remark]) -> str:
    """All of a student's remarks in one line, the deliberate ones first; "" where there are none."""
    remarks = list(remarks)
    told = [KINDS[kind].told.format(cells=_cells(r for r in remarks if r.kind == kind)) for kind in _found(remarks)]
    return "; ".join([*told, "put right from the release"]) if told else ""


def _found(remarks: list[Remark]) -> list[str]:
    there = {remark.kind for remark in remarks}
    return [kind for kind in KINDS if kind in there]


def _cells(remarks: Iterable[Remark]) -> str:
    """As in "3 checks and 1 setup cell"."""
    counts = Counter(NAMES.get(remark.role, "cell") for remark in remarks)
    parts = [f"{count} {name if count == 1 else _plural(name)}" for name, count in counts.items()]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _plural(name: str) -> str:
    first, _, rest = name.partition(" in ")
    return f"{first}s{f' in {rest}' if rest else ''}"
