"""Run a probe over the cases, in the process that holds the candidate, and bring back plain data."""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..exercise import Case, Exercise
from .records import Evidence, Failure, ForbiddenCall, Outcome, text
from .watch import forbidden_in_source, watched

__all__ = ["collect", "gather", "said", "to_plain"]

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64")
MAX_ARRAY_BYTES = 16 * 2**20


def collect(exercise: Exercise, candidate: Any, cases: Iterable[Case], *, trusted: bool = False) -> Evidence:
    """The evidence of `candidate` on `cases`: one outcome each, however the candidate misbehaves.

    A `trusted` candidate, such as the reference, may call what the exercise forbids.
    """
    return gather(exercise.id, exercise.probe, candidate, cases, () if trusted else exercise.forbidden)


def gather(
    exercise: str,
    probe: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]],
    candidate: Any,
    cases: Iterable[Case],
    forbidden: tuple[str, ...],
) -> Evidence:
    """`collect`, without the exercise's record: in a learner's kernel there is none."""
    if _is_stub(candidate):  # without the seconds that a probe may take to import Keras
        return Evidence(exercise, tuple(Outcome({}, Failure("blank")) for _ in cases))
    used = set(forbidden_in_source(candidate, forbidden))
    with watched(forbidden, used):
        outcomes = tuple(_run(probe, candidate, case) for case in cases)
    return Evidence(exercise, outcomes, tuple(sorted(used)))


def _is_stub(candidate: Any) -> bool:
    """Whether the candidate is a function, as it was released, that only raises NotImplementedError."""
    if not isinstance(candidate, types.FunctionType):
        return False
    try:
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(candidate))).body
        last = function.body[-1]
        docstrings = sum(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in function.body)
        return (
            isinstance(last, ast.Raise)
            and len(function.body) == 1 + docstrings
            and "id='NotImplementedError'" in ast.dump(last)
        )
    except Exception:  # no source, a lambda, an object that lies about where it comes from
        return False


def _run(probe: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]], candidate: Any, case: Case) -> Outcome:
    inputs = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in case.inputs.items()}
    try:
        returned = probe(candidate, inputs)
    except NotImplementedError:
        return Outcome({}, Failure("blank"))
    except ForbiddenCall as error:
        return Outcome({}, Failure("forbidden", message=said(error)))
    except KeyboardInterrupt:  # somebody pressed stop
        raise
    except BaseException as error:  # SystemExit too: `exit()` in an answer must not end the check
        return Outcome({}, _failure(error))
    try:
        return Outcome({name: to_plain(value) for name, value in returned.items()})
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what came back runs code of its own as it is turned into an array
        return Outcome({}, Failure("returned", text(type(error).__name__), said(error)))


def _failure(error: BaseException) -> Failure:
    """The last line of the learner's own code in the traceback says more than the frames of a library."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.line and not any(part in f.filename for part in ("site-packages", "autograder"))]
    line = own[-1].line if own else ""
    return Failure("raised", text(type(error).__name__), said(error), text(line or "")[:200])


def said(error: BaseException) -> str:
    try:
        return text(str(error))
    except BaseException:
        return ""


def to_plain(value: Any) -> np.ndarray:
    """A C-contiguous numpy array of a whitelisted dtype (or text), made from a tensor, an array or a number.

    Raises TypeError for anything else and ValueError for an array that is too large.
    """
    if isinstance(value, str):
        return np.array(text(value))
    if value is None:
        raise TypeError("None was returned where an array or a tensor is expected: is a `return` missing?")
    if hasattr(value, "detach"):  # torch, without importing it
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    elif hasattr(value, "numpy"):  # tensorflow
        value = value.numpy()
    array = np.array(value, order="C")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "U" and array.ndim == 0:
        return array
    if array.dtype.name not in DTYPES:
        raise TypeError(f"{type(value).__name__} was returned where an array or a tensor is expected")
    if array.nbytes > MAX_ARRAY_BYTES:
        raise ValueError(f"an array of {array.nbytes / 2**20:.0f} MB was returned, {MAX_ARRAY_BYTES >> 20} MB at most")
    return array
