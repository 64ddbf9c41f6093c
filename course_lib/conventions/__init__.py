"""The table of traps between PyTorch and Keras. Every value in it is read from the installed versions.

The parity tests take the argument that maps one framework's convention to the other's from here, so that the table and
the tests can't disagree.
"""

from __future__ import annotations

from typing import Any

from course_lib.conventions import (
    activations,
    architectures,
    convolution,
    initializers,
    normalization,
    optimizers,
    regularizers,
    transfer,
)
from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS", "Convention", "get", "page", "table"]

TOPICS: tuple[tuple[Convention, ...], ...] = (
    initializers.CONVENTIONS,
    activations.CONVENTIONS,
    normalization.CONVENTIONS,
    convolution.CONVENTIONS,
    architectures.CONVENTIONS,
    transfer.CONVENTIONS,
    optimizers.CONVENTIONS,
    regularizers.CONVENTIONS,
)


def _registry() -> dict[str, Convention]:
    found: dict[str, Convention] = {}
    for convention in (convention for topic in TOPICS for convention in topic):
        if convention.id in found:
            raise ValueError(f"two conventions have the id {convention.id}")
        found[convention.id] = convention
    return found


CONVENTIONS = _registry()


def get(convention_id: str) -> Convention:
    """The convention with this id. Raises KeyError, naming all, where there is none."""
    if convention_id not in CONVENTIONS:
        raise KeyError(f"no convention is called {convention_id!r}; there are {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention_id]


def table(keras: Any) -> str:
    """All conventions as a Markdown table: what differs, PyTorch, Keras, the trap. Takes the keras module."""
    lines = ["| what | PyTorch | Keras | the trap |", "|---|---|---|---|"]
    for convention in CONVENTIONS.values():
        lines.append(f"| {convention.what} | {convention.torch()} | {convention.keras(keras)} | {convention.trap} |")
    return "\n".join(lines)


def page() -> str:
    """The table as a page of its own, with the versions that it was read from."""
    from importlib.metadata import version

    from course_lib.quiet import load_keras

    versions = f"PyTorch {version('torch').partition('+')[0]} and Keras {version('keras')}"
    return (
        "# Traps between PyTorch and Keras\n\n"
        f"Every value is read from {versions} by `python -m course_lib.conventions`; the parity tests take the "
        f"arguments from the same records.\n\n{table(load_keras())}"
    )
