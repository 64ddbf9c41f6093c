"""What axe-core finds in what the course draws itself, on a page of a browser.

In JupyterLab that is what cells put out: the page around them is JupyterLab's, and scanned apart. The rules are those
of WCAG 2.0 to 2.2, levels A and AA, with axe's own best practices; a fault is held against us from "serious" on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe

__all__ = ["OUTPUTS", "SERIOUS", "Fault", "Scan", "scan", "version"]

OUTPUTS = ".jp-OutputArea-output"
SERIOUS = ("serious", "critical")


@dataclass(frozen=True)
class Fault:
    """One element that breaks one rule."""

    impact: str
    rule: str
    help: str
    element: str
    why: str

    def __str__(self) -> str:
        return f"{self.impact} {self.rule}: {self.element} {self.why}"


@dataclass(frozen=True)
class Scan:
    """How many rules had something to look at and found it right, and every fault."""

    passed: int
    faults: tuple[Fault, ...]

    @property
    def serious(self) -> list[str]:
        """The faults that are held against us, as text; none on a page that may stay as it is."""
        return [str(fault) for fault in self.faults if fault.impact in SERIOUS]


def scan(page: Any, within: str | None = None, without: Iterable[str] = ()) -> Scan:
    """Let axe-core read the page, or only what a CSS selector finds `within` it, `without` what others find."""
    context: dict[str, Any] = {"exclude": [[selector] for selector in without]} if without else {}
    if within:
        context["include"] = [[within]]
    response = Axe().run(page, context or None, {"resultTypes": ["violations", "passes"]}).response
    faults = (
        Fault(found["impact"], found["id"], found["help"], node["html"][:200], " ".join(node["failureSummary"].split()))
        for found in response["violations"]
        for node in found["nodes"]
    )
    return Scan(len(response["passes"]), tuple(faults))


def version() -> str:
    """axe-core's version."""
    return AXE_SCRIPT[:40].split(" v")[1].split()[0]
