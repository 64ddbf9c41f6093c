"""Compare what a probe returned with what it should have: type, shape, dtype, finite, value, in that order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .exercise import AtMost, Close, SameShare, Scale

__all__ = ["Difference", "compare", "share_right"]


@dataclass(frozen=True)
class Difference:
    """The first way in which two arrays differ. `kind` is missing, type, shape, dtype, finite, value, share or
    limit."""

    kind: str
    text: str
    index: tuple[int, ...] = ()
    got: float | None = None
    expected: float | None = None


def compare(got: np.ndarray | None, expected: np.ndarray, how: Close | SameShare | Scale | AtMost) -> Difference | None:
    """The first difference between two plain arrays, or None where `how` calls them equal."""
    if got is None:
        return Difference("missing", "no result")
    if (got.dtype.kind == "U") != (expected.dtype.kind == "U"):
        return Difference("type", f"expected {_kind(expected)}, got {_kind(got)}")
    if isinstance(how, SameShare):
        return _other_share(got, expected, how.alpha)
    if isinstance(how, AtMost):
        return _beyond(got, expected, how.limit)
    if got.shape != expected.shape:
        return Difference("shape", f"the shape is {got.shape}, expected {expected.shape}")
    if isinstance(how, Scale):
        share = share_right(got, expected)
        text = f"{share:.1%} are right, {how.full:.0%} earn all points"
        return None if share >= how.full else Difference("share", text, (), share, how.full)
    if expected.dtype.kind == "U":
        return _unequal(got, expected)
    if got.dtype != expected.dtype:
        return Difference("dtype", f"the dtype is {got.dtype}, expected {expected.dtype}")
    if expected.dtype.kind in "biu":
        return _unequal(got, expected)
    return _not_finite(got, expected) or _not_close(got, expected, how)


def share_right(got: np.ndarray | None, expected: np.ndarray) -> float:
    """The share of values that are equal; 0 where there are none, or as many as are expected are not there."""
    if got is None or got.shape != expected.shape or got.dtype.kind not in "iu" or not expected.size:
        return 0.0
    return float((got == expected).mean())


def _kind(array: np.ndarray) -> str:
    return "text" if array.dtype.kind == "U" else "numbers"


def _unequal(got: np.ndarray, expected: np.ndarray) -> Difference | None:
    wrong = np.argwhere(got != expected)
    return _at(wrong[0], got, expected, kind="value") if len(wrong) else None


def _not_finite(got: np.ndarray, expected: np.ndarray) -> Difference | None:
    """NaN and infinity must stand where the reference has them, and nowhere else."""
    same = np.where(np.isfinite(expected), np.isfinite(got), (got == expected) | (np.isnan(got) & np.isnan(expected)))
    wrong = np.argwhere(~same)
    return _at(wrong[0], got, expected, kind="finite") if len(wrong) else None


def _not_close(got: np.ndarray, expected: np.ndarray, how: Close) -> Difference | None:
    finite = np.isfinite(expected)
    if not finite.any():
        return None
    exact = expected.astype(np.float64)
    scale = max(how.scale, np.abs(exact[finite]).max())
    # where every expected value is 0, only the smallest number of the dtype is as good as 0
    tolerance = max(how.operations * float(np.finfo(expected.dtype).eps) * scale, float(np.finfo(expected.dtype).tiny))
    with np.errstate(invalid="ignore"):
        off = finite & (np.abs(got.astype(np.float64) - exact) > tolerance)
    wrong = np.argwhere(off)
    return _at(wrong[0], got, expected, kind="value", share=float(off.mean())) if len(wrong) else None


def _other_share(got: np.ndarray, expected: np.ndarray, alpha: float) -> Difference | None:
    """Two-sample Hoeffding: P(|mean - mean'| > t) <= 2 exp(-2 t² / (1/n + 1/n')); n and n' may differ."""
    if not got.size or not expected.size:
        return (
            None if got.size == expected.size else Difference("missing", f"{got.size} draws, expected {expected.size}")
        )
    samples = got.astype(np.float64), expected.astype(np.float64)
    if any(not (np.isfinite(s).all() and (s >= 0).all() and (s <= 1).all()) for s in samples):
        return Difference("finite", "a share must lie between 0 and 1")
    bound = math.sqrt(math.log(2 / alpha) / 2 * (1 / got.size + 1 / expected.size))
    mine, theirs = (float(s.mean()) for s in samples)
    if abs(mine - theirs) <= bound:
        return None
    return Difference(
        "share", f"the share is {mine:.3f}, expected about {theirs:.3f} (± {bound:.3f})", (), mine, theirs
    )


def _beyond(got: np.ndarray, expected: np.ndarray, limit: float) -> Difference | None:
    """The two lie on different sides of the limit; the reference keeps to it."""
    if got.size != 1 or got.dtype.kind not in "iuf" or not np.isfinite(got).all():
        return Difference("type", "one finite number is expected")
    used, theirs = float(got.item()), float(expected.item())
    if (used <= limit) == (theirs <= limit):
        return None
    return Difference("limit", f"{used:,.0f}, of at most {limit:,.0f}", (), used, limit)


def _at(index: np.ndarray, got: np.ndarray, expected: np.ndarray, *, kind: str, share: float = 0.0) -> Difference:
    where = tuple(int(i) for i in index)
    mine, right = got[where], expected[where]
    place = f" at {list(where)}" if where else ""
    text = f"got {_show(mine)}, expected {_show(right)}{place}"
    if share:
        text += f" ({share:.0%} of the values differ)" if share >= 0.01 else " (a few values differ)"
    if expected.dtype.kind == "U":
        return Difference(kind, text, where)
    return Difference(kind, text, where, float(mine), float(right))


def _show(value: np.generic) -> str:
    if value.dtype.kind == "U":
        return repr(str(value))
    return f"{value + 0.0:.6g}" if value.dtype.kind == "f" else str(value)  # + 0.0: no "-0" on a card
