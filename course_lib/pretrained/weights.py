"""Reads the embedded weights and photographs, each checked against its sha256. Never touches the network."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["PretrainedError", "class_names", "provenance", "read_arrays", "read_record"]

DATA = Path(__file__).parent / "data"
NET, PHOTOGRAPHS = "efficientnet-lite0", "photographs"


class PretrainedError(Exception):
    """A net or photograph that is absent, damaged, unknown, or not to be had offline. The message says what to do."""


def read_record(name: str) -> dict:
    """The record that lies beside `NAME.npz`. Raises PretrainedError where it cannot be read or lacks its sha256."""
    path = DATA / f"{name}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PretrainedError(f"{path.name} cannot be read ({error}): reinstall the package") from error
    if not isinstance(record, dict) or not {"sha256", "classes", "licence", "sources", "changes"} <= set(record):
        raise PretrainedError(f"{path.name} is not a record of this course: reinstall the package")
    return record


def read_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of `NAME.npz`, fresh. Raises PretrainedError where the file is absent, damaged or no plain archive."""
    path, expected = DATA / f"{name}.npz", read_record(name)["sha256"]
    repair = "reinstall the package, or run `python -m course_lib.pretrained.build`"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PretrainedError(f"{path.name} cannot be read ({error.strerror}): {repair}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise PretrainedError(f"{path.name} is damaged (sha256 {found}, expected {expected}): {repair}")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise PretrainedError(f"{path.name} is not as it was recorded ({error}): {repair}") from error


@functools.cache
def class_names() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in the order of the logits."""
    return tuple(read_record(NET)["classes"])


def provenance() -> str:
    """Where the weights come from, under which licence, what was changed, and what they were trained on."""
    record = read_record(NET)
    lines = [f"{record['title']} ({record['licence']})", record["trained_on"]]
    lines += [f"from {s['package']} {s['version']}: {s['attribution']} ({s['licence']})" for s in record["sources"]]
    return "\n".join([*lines, *(f"changed: {change}" for change in record["changes"])])
