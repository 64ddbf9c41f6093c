"""Requests and evidence as bytes: a JSON header and raw little-endian arrays, with caps on size; never pickle."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from ..exercise import Case
from .collect import DTYPES, MAX_ARRAY_BYTES, said
from .records import Evidence, Failure, Outcome, Request, WireError, text

__all__ = ["decode", "decode_request", "encode", "encode_request", "request_id"]

MAX_EVIDENCE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 4 * 2**20


def encode(evidence: Evidence, request: str) -> bytes:
    """The evidence as bytes, in answer to the request with this id."""
    outcomes, payload = [], []
    for outcome in evidence.outcomes:
        arrays = {name: _give(array, payload) for name, array in outcome.outputs.items()}
        failure = vars(outcome.failure) if outcome.failure else None
        outcomes.append({"arrays": arrays, "failure": failure})
    header = {
        "request": request,
        "exercise": evidence.exercise,
        "forbidden": evidence.forbidden,
        "outcomes": outcomes,
    }
    return _framed(header, payload)


def encode_request(request: Request) -> bytes:
    """The request as bytes: the same for the same request, so that its digest names it."""
    payload: list[bytes] = []
    cases = []
    for case in request.cases:
        arrays = {name: _give(value, payload) for name, value in case.inputs.items() if isinstance(value, np.ndarray)}
        values = {name: value for name, value in case.inputs.items() if not isinstance(value, np.ndarray)}
        cases.append({"name": case.name, "order": list(case.inputs), "arrays": arrays, "values": values})
    return _framed({**vars(request), "cases": cases}, payload)


def request_id(data: bytes) -> str:
    """The id by which evidence says which request it answers."""
    return hashlib.sha256(data).hexdigest()[:32]


def decode_request(data: bytes) -> Request:
    """The request in `data`, which comes from the grader and is trusted."""
    start = 8 + int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8:start]), memoryview(data)[start:]
    cases = []
    for case in header["cases"]:
        found = dict(case["values"])
        for name, spec in case["arrays"].items():
            found[name], rest = _take(spec, rest)
        cases.append(Case(case["name"], {name: found[name] for name in case["order"]}))
    return Request(**{**header, "forbidden": tuple(header["forbidden"]), "cases": tuple(cases)})


def _give(array: np.ndarray, payload: list[bytes]) -> dict[str, Any]:
    """How the header describes an array, whose bytes are added to the payload."""
    if array.dtype.kind == "U":
        return {"text": str(array)}
    payload.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def _framed(header: dict[str, Any], payload: list[bytes]) -> bytes:
    """An 8-byte length, the JSON header of that length, the arrays' bytes one after another."""
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + b"".join(payload)


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
                arrays[text(name)], rest = _take(spec, rest)
            failure = outcome["failure"]
            if failure is not None:
                failure = Failure(**{key: text(failure[key]) for key in Failure.__dataclass_fields__})
            outcomes.append(Outcome(arrays, failure))
        if len(rest):
            raise WireError(f"{len(rest)} bytes too many")
        forbidden = tuple(text(name) for name in header["forbidden"][:100])
        return Evidence(text(header["exercise"]), tuple(outcomes), forbidden)
    except WireError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise WireError(f"evidence can't be read: {type(error).__name__}: {said(error)[:200]}") from None


def _take(spec: dict[str, Any], rest: memoryview) -> tuple[np.ndarray, memoryview]:
    if "text" in spec:
        return np.array(text(spec["text"])), rest
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
    if dtype.kind == "b" and (np.frombuffer(rest[:size], np.uint8) > 1).any():
        raise WireError("a truth value is neither 0 nor 1")
    array = np.frombuffer(rest[:size], dtype).astype(np.dtype(spec["dtype"])).reshape(shape)
    return array, rest[size:]
