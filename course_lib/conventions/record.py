"""What a convention of the frameworks is: a record that reads both values from the installed versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Convention"]


@dataclass(frozen=True)
class Convention:
    """One point on which PyTorch and Keras differ, or seem to.

    id        "<topic>.<name>", unique
    what      what differs, in a few words
    torch     reads PyTorch's value from the installed version; takes no argument
    keras     reads Keras's value from the installed version; takes the keras module
    to_keras  turns PyTorch's value into the Keras argument that does the same; None where no argument can
    trap      what goes wrong for somebody who does not know, in one sentence
    """

    id: str
    what: str
    torch: Callable[[], Any]
    keras: Callable[[Any], Any]
    trap: str
    to_keras: Callable[[Any], Any] | None = None
