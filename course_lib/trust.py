"""The lesson's "trust" section: a learner's results beside the frameworks' own, number by number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

__all__ = ["Row", "Table", "table"]

ROUNDINGS = 8  # as many operations as either side may do in another order


@dataclass(frozen=True)
class Row:
    """What to compare: `yours` is called only when the table is made, since it may not be written yet.

    `terms`: how many numbers each value sums up, where those are many; their roundings add up like steps at random.
    """

    name: str
    against: str
    yours: Callable[[], Tensor]
    theirs: Tensor
    terms: int = 1


@dataclass(frozen=True)
class Table:
    """Lines of (name, against, largest difference, result); shows as an HTML table, prints as text."""

    lines: tuple[tuple[str, str, str, str], ...]

    def __repr__(self) -> str:
        return "\n".join(f"{yours} against {theirs}: {off} {result}" for yours, theirs, off, result in self.lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:left">{title}</th>' for title in HEAD)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in line) + "</tr>"
            for line in self.lines
        )
        return f"<table><caption>Your code beside the frameworks'</caption><tr>{head}</tr>{body}</table>"


HEAD = ("yours", "against", "largest difference", "")


def table(rows: Sequence[Row]) -> Table:
    """Compare each row's two tensors; what is not written yet, or raises, is said in its line."""
    return Table(tuple((row.name, row.against, *_compare(row)) for row in rows))


def _compare(row: Row) -> tuple[str, str]:
    try:
        yours = row.yours()
    except NotImplementedError:
        return "–", "write yours first"
    except Exception as error:
        return "–", f"yours raised {type(error).__name__}: {error}"
    if not isinstance(yours, Tensor) or yours.shape != row.theirs.shape:
        return "–", f"not a tensor of shape {tuple(row.theirs.shape)}"
    difference = float((yours.detach() - row.theirs).abs().max())
    # rounding only: as many ulps of the largest value as there are operations
    limit = ROUNDINGS * math.sqrt(row.terms) * float(row.theirs.abs().max()) * torch.finfo(row.theirs.dtype).eps
    return f"{difference:.1e}", "the same" if difference <= limit else "different"
