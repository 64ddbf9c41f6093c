"""The parts of a page in docs/ that a command makes: they stand between two marks."""

from __future__ import annotations

__all__ = ["between"]


def between(text: str, marks: tuple[str, str], made: str) -> str:
    """The page with what stands between the two marks made anew. Raises ValueError where it has no such place."""
    first, last = marks
    if text.count(first) != 1 or text.count(last) != 1 or text.index(last) < text.index(first):
        raise ValueError(f"the page needs a line {first} and, after it, a line {last}, each once")
    before, rest = text.split(first)
    return f"{before}{first}\n\n{made}\n\n{last}{rest.split(last)[1]}"
