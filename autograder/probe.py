"""Run a probe over the cases and bring back plain data: the only thing that may cross out of a kernel.

`collect` runs in the process that holds the candidate. `encode` and `decode` put its evidence on the wire: a
JSON header and raw little-endian bytes, a whitelist of dtypes, caps on size, a request id; never pickle.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import json
import textwrap
import traceback
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .exercise import Case, CourseError, Exercise

__all__ = ["Evidence", "Failure", "Outcome", "WireError", "collect", "decode", "encode", "to_plain"]

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64")
MAX_ARRAY_BYTES = 16 * 2**20
MAX_EVIDENCE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 4 * 2**20
MAX_TEXT = 2_000


class WireError(CourseError):
    """What came over the wire is not evidence."""


class ForbiddenCall(Exception):
    """The candidate called what its exercise forbids."""


@dataclass(frozen=True)
class Failure:
    """Why a case has no outputs. `kind` is blank, raised, forbidden or returned (something that is no array)."""

    kind: str
    type: str = ""
    message: str = ""
    line: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one case gave: arrays by name, or a failure."""

    outputs: dict[str, np.ndarray]
    failure: Failure | None = None


@dataclass(frozen=True)
class Evidence:
    """What a candidate did on every case of an exercise. Plain data: no object of the candidate's is in it."""

    exercise: str
    outcomes: tuple[Outcome, ...]
    forbidden: tuple[str, ...] = ()


def collect(exercise: Exercise, candidate: Any, cases: Iterable[Case], *, trusted: bool = False) -> Evidence:
    """The evidence of `candidate` on `cases`: one outcome each, however the candidate misbehaves.

    A `trusted` candidate, such as the reference, may call what the exercise forbids.
    """
    if _is_stub(candidate):  # without the seconds that a probe may take to import Keras
        return Evidence(exercise.id, tuple(Outcome({}, Failure("blank")) for _ in cases))
    forbidden = () if trusted else exercise.forbidden
    used = set(_forbidden_in_source(candidate, forbidden))
    with _watched(forbidden, used):
        outcomes = tuple(_run(exercise, candidate, case) for case in cases)
    return Evidence(exercise.id, outcomes, tuple(sorted(used)))


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


def _run(exercise: Exercise, candidate: Any, case: Case) -> Outcome:
    inputs = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in case.inputs.items()}
    try:
        returned = exercise.probe(candidate, inputs)
    except NotImplementedError:
        return Outcome({}, Failure("blank"))
    except ForbiddenCall as error:
        return Outcome({}, Failure("forbidden", message=_said(error)))
    except KeyboardInterrupt:  # somebody pressed stop
        raise
    except BaseException as error:  # SystemExit too: `exit()` in an answer must not end the check
        return Outcome({}, _failure(error))
    try:
        return Outcome({name: to_plain(value) for name, value in returned.items()})
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what came back runs code of its own as it is turned into an array
        return Outcome({}, Failure("returned", _text(type(error).__name__), _said(error)))


def _failure(error: BaseException) -> Failure:
    """The last line of the learner's own code in the traceback says more than the frames of a library."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.line and not any(part in f.filename for part in ("site-packages", "autograder"))]
    line = own[-1].line if own else ""
    return Failure("raised", _text(type(error).__name__), _said(error), _text(line or "")[:200])


def _said(error: BaseException) -> str:
    try:
        return _text(str(error))
    except BaseException:
        return ""


def _text(value: Any) -> str:
    """Plain text of bounded length that every encoding and database takes: no subclass, no lone surrogate, no NUL."""
    text = str.__getitem__(value if isinstance(value, str) else str(value), slice(MAX_TEXT))
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def to_plain(value: Any) -> np.ndarray:
    """A C-contiguous numpy array of a whitelisted dtype (or text), made from a tensor, an array or a number.

    Raises TypeError for anything else and ValueError for an array that is too large.
    """
    if isinstance(value, str):
        return np.array(_text(value))
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


# ---------------------------------------------------------------- forbidden calls


def _forbidden_in_source(candidate: Any, forbidden: tuple[str, ...]) -> Iterator[str]:
    """The forbidden names that the candidate's own source spells out, even under an alias such as F or nn.

    This finds what the watch below can't: a base class, or a name bound before the watch began.
    """
    if not forbidden:
        return
    names = {id(thing): name for name in forbidden for _, _, thing in _targets(name)}
    home, queue, seen = _module_of(candidate), [candidate], set()
    while queue:  # the candidate, and the functions and classes of its own that it uses
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if id(thing) in names:
            yield names[id(thing)]
            continue
        for target in _named_in(thing):
            if id(target) in names or (
                isinstance(target, types.FunctionType | type) and home and _module_of(target) == home
            ):
                queue.append(target)


def _module_of(thing: Any) -> str:
    name = getattr(thing, "__module__", "") if isinstance(thing, types.FunctionType | type) else ""
    return name if isinstance(name, str) else ""


def _named_in(thing: Any) -> Iterator[Any]:
    """The modules, classes and functions that the source of a function or class names."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
        scope = getattr(thing, "__globals__", None) or vars(inspect.getmodule(thing) or types.ModuleType(""))
    except Exception:  # no source, or an object that lies about where it comes from
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(scope, dict):
            target = _resolve(node, scope)
            if target is not None:
                yield target


def _resolve(node: ast.expr, scope: dict[str, Any]) -> Any:
    """The module, class or function that a dotted name stands for; None where it is no such plain name."""
    if isinstance(node, ast.Name):
        found = scope.get(node.id)
    elif isinstance(node, ast.Attribute):
        owner = _resolve(node.value, scope)
        found = vars(owner).get(node.attr) if isinstance(owner, types.ModuleType) else None
    else:
        return None
    return (
        found if isinstance(found, types.ModuleType | type | types.FunctionType | types.BuiltinFunctionType) else None
    )


def _targets(name: str) -> list[tuple[Any, str, Any]]:
    """(owner, attribute, thing) for a dotted name; a module stands for every function and class made in it."""
    with contextlib.suppress(ImportError):
        module = importlib.import_module(name)
        own = [(module, key, thing) for key, thing in vars(module).items() if getattr(thing, "__module__", "") == name]
        return [(owner, key, thing) for owner, key, thing in own if callable(thing)]
    owner, _, attribute = name.rpartition(".")
    module = importlib.import_module(owner)
    return [(module, attribute, getattr(module, attribute))]


@contextlib.contextmanager
def _watched(forbidden: tuple[str, ...], used: set[str]) -> Iterator[None]:
    """Within the block, calling a forbidden function or making an object of a forbidden class is noted and refused."""

    def refusal(name):
        def refuse(*args, **kwargs):
            used.add(name)
            raise ForbiddenCall(name)

        return refuse

    with contextlib.ExitStack() as undo:
        for name in forbidden:
            for owner, attribute, thing in _targets(name):
                if isinstance(thing, type):
                    owner, attribute, thing = thing, "__init__", vars(thing).get("__init__")
                setattr(owner, attribute, refusal(name))
                if thing is None:  # the class inherits its __init__
                    undo.callback(delattr, owner, attribute)
                else:
                    undo.callback(setattr, owner, attribute, thing)
        yield


# ---------------------------------------------------------------- the wire


def encode(evidence: Evidence, request: str) -> bytes:
    """The evidence as bytes: an 8-byte header length, the JSON header, the arrays' bytes one after another."""
    outcomes, payload = [], []
    for outcome in evidence.outcomes:
        arrays = {}
        for name, array in outcome.outputs.items():
            if array.dtype.kind == "U":
                arrays[name] = {"text": str(array)}
                continue
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            arrays[name] = {"dtype": array.dtype.name, "shape": list(array.shape)}
            payload.append(little.tobytes())
        failure = vars(outcome.failure) if outcome.failure else None
        outcomes.append({"arrays": arrays, "failure": failure})
    header = {
        "request": request,
        "exercise": evidence.exercise,
        "forbidden": evidence.forbidden,
        "outcomes": outcomes,
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(payload)


def decode(data: bytes, request: str) -> Evidence:
    """The evidence in `data`, trusted for nothing. Raises WireError where it is not what `encode` makes."""
    try:
        if len(data) > MAX_EVIDENCE_BYTES:
            raise WireError(f"evidence of {len(data)} bytes is too large")
        start = 8 + int.from_bytes(data[:8], "little")
        if not 8 <= start <= min(len(data), MAX_HEADER_BYTES):
            raise WireError("the header is cut off or too large")
        header = json.loads(data[8:start])
        if header["request"] != request:
            raise WireError("evidence answers another request")
        rest, outcomes = memoryview(data)[start:], []
        for outcome in header["outcomes"]:
            arrays = {}
            for name, spec in outcome["arrays"].items():
                arrays[_text(name)], rest = _take(spec, rest)
            failure = outcome["failure"]
            if failure is not None:
                failure = Failure(**{key: _text(failure[key]) for key in Failure.__dataclass_fields__})
            outcomes.append(Outcome(arrays, failure))
        if len(rest):
            raise WireError(f"{len(rest)} bytes too many")
        forbidden = tuple(_text(name) for name in header["forbidden"][:100])
        return Evidence(_text(header["exercise"]), tuple(outcomes), forbidden)
    except WireError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise WireError(f"evidence can't be read: {type(error).__name__}: {_said(error)[:200]}") from None


def _take(spec: dict[str, Any], rest: memoryview) -> tuple[np.ndarray, memoryview]:
    if "text" in spec:
        return np.array(_text(spec["text"])), rest
    if spec["dtype"] not in DTYPES:
        raise WireError(f"dtype {str(spec['dtype'])[:40]!r} is not on the list")
    shape = tuple(spec["shape"])
    if len(shape) > 8 or any(type(n) is not int or n < 0 for n in shape):
        raise WireError("a shape is malformed")
    dtype = np.dtype(spec["dtype"]).newbyteorder("<")
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size > min(len(rest), MAX_ARRAY_BYTES):
        raise WireError("an array is larger than the bytes that came")
    if dtype.kind == "b" and any(byte > 1 for byte in rest[:size]):
        raise WireError("a truth value is neither 0 nor 1")
    array = np.frombuffer(rest[:size], dtype).astype(np.dtype(spec["dtype"])).reshape(shape)
    return array, rest[size:]
