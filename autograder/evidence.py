"""What travels between the grader and its workers, and what is kept: tasks, evidence, and the store that holds it.

A `Task` is all that decides what a submission does: bytes in, bytes out, no database, no file, no secret. Its `key`
is the digest of that, so evidence under a key never has to be made twice. Evidence is a zip archive:

    ran.json              the outputs of each code cell, and why nothing ran any more, if so
    answers/<exercise>    what the probe brought back: bytes as `probe.encode` makes them, trusted for nothing
    verdicts.json         what the judge made of them, with the version of the judge

Never a pickle: an archive that a learner could have influenced is opened in the trusted process.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autograder.exercise import CourseError

__all__ = ["DEFAULT_LIMITS", "FORMAT", "EvidenceError", "Limits", "Ran", "Store", "Task", "pack", "unpack"]

FORMAT = 1  # of tasks and evidence; another number makes every older piece of evidence unknown
MAX_BYTES = 512 * 2**20  # of one unpacked archive


class EvidenceError(CourseError):
    """An archive that is no evidence: cut off, altered, or of another version."""


@dataclass(frozen=True)
class Limits:
    """What one notebook may use. Seconds, and bytes."""

    cell: float = 60
    probe: float = 20  # for one exercise's cases; a check takes 0.5 s, 2 s where something is trained
    notebook: float = 300
    grace: float = 3  # for a kernel to react to an interrupt before it is killed
    cell_output: int = 4_000_000  # the rest of a cell's output is dropped
    flood: int = 32_000_000  # from here on the kernel is killed
    traceback: int = 20_000
    memory: int = 2 * 2**30


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Task:
    """One submission to run: `cells` as (role, exercise id, source) of its code cells, in order.

    requests   exercise id -> the bytes that ask its probe (`probe.encode_request`); the cases are in them
    seeds      exercise id -> the seeds of those cases, from which the judge draws them again
    unsafe     in an ordinary kernel, without walls: a learner's own notebook on the learner's own machine
    """

    lesson: str
    cells: tuple[tuple[str, str, str], ...]
    requests: Mapping[str, bytes]
    seeds: Mapping[str, tuple[int, ...]]
    limits: Limits = DEFAULT_LIMITS
    unsafe: bool = False

    @property
    def content(self) -> str:
        """The digest of what is run and asked, whatever the limits: 64 hex digits."""
        asked = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(self.requests.items())}
        return _digest([FORMAT, self.lesson, self.cells, asked])

    @property
    def key(self) -> str:
        """The digest of everything that decides the evidence: 64 hex digits."""
        return _digest([self.content, asdict(self.limits), self.unsafe])


@dataclass(frozen=True)
class Ran:
    """What a submission did, and what the judge made of it.

    outputs    the outputs of each code cell of the task, in its order, as nbformat has them
    answers    exercise id -> evidence bytes, as they came out of the kernel
    silent     exercise id -> why there is no answer, as a full sentence
    stopped    why nothing more was run, as a full sentence; empty if the notebook ran to its end
    verdicts   exercise id -> {"version": of the judge, "verdict": Verdict.as_data()}
    seconds    wall-clock time: {"start": of the kernel, "cells": …, "probes": …, "judge": …}
    """

    outputs: tuple[tuple[Mapping[str, Any], ...], ...]
    answers: Mapping[str, bytes] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    stopped: str = ""
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def pack(ran: Ran) -> bytes:
    """The evidence as an archive; the same evidence always gives the same bytes."""
    parts = {
        "ran.json": _json(
            {
                "format": FORMAT,
                "outputs": ran.outputs,
                "silent": ran.silent,
                "stopped": ran.stopped,
                "seconds": ran.seconds,
            }
        ),
        **{f"answers/{name}": data for name, data in sorted(ran.answers.items())},
        "verdicts.json": _json(ran.verdicts),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(data: bytes) -> Ran:
    """The evidence in an archive. Raises EvidenceError where it is none, or was made by another version."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(part.file_size for part in archive.infolist()) > MAX_BYTES:
                raise EvidenceError("the evidence is too large")
            parts = {name: archive.read(name) for name in archive.namelist()}
        told = json.loads(parts["ran.json"])
        if told["format"] != FORMAT:
            raise EvidenceError(f"the evidence is of format {told['format']}, not {FORMAT}")
        return Ran(
            outputs=tuple(tuple(outputs) for outputs in told["outputs"]),
            answers={
                name.removeprefix("answers/"): part for name, part in parts.items() if name.startswith("answers/")
            },
            silent=told["silent"],
            stopped=told["stopped"],
            verdicts=json.loads(parts["verdicts.json"]),
            seconds=told["seconds"],
        )
    except EvidenceError:
        raise
    except Exception as error:  # zipfile and json raise a dozen kinds
        raise EvidenceError(f"the evidence can't be read: {type(error).__name__}") from None


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")


class Store:
    """Evidence by its task's key, one file each in `folder`; written whole or not at all."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the evidence of this key is, or would be."""
        return self.folder / key[:2] / f"{key}.zip"

    def get(self, key: str) -> bytes | None:
        """The evidence of this key; None where there is none. A damaged file is removed. Raises CourseError."""
        try:
            data = self.path(key).read_bytes()
            unpack(data)
        except FileNotFoundError:
            return None
        except EvidenceError:
            self.path(key).unlink(missing_ok=True)
            return None
        except OSError as error:
            raise CourseError(f"cannot read evidence in {self.folder}: {error.strerror}") from None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep evidence. Raises CourseError where it can't be written."""
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(name, path)
        except OSError as error:
            raise CourseError(f"cannot keep evidence in {self.folder}: {error.strerror}") from None

    def keys(self) -> Iterator[str]:
        """The keys of all evidence there is."""
        for path in self.folder.glob("??/*.zip"):
            yield path.stem
