"""Loads the image sets that lie in the package, each checked against its sha256. Never touches the network."""

import difflib
import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from course_lib.datasets.dataset import Dataset, Provenance, Source, Split

DATA = Path(__file__).parent / "data"

# Part of the name of a set that people ask for by habit -> the embedded one that could serve; the first that fits.
SUBSTITUTES = {
    "medmnist": "patch12",
    "pcam": "patch12",
    "dtd": "patch12",
    "texture": "patch12",
    "emnist": "glyph26",
    "letter": "glyph26",
    "fashion": "animalshape",
    "mnist": "mnist5k",
    "usps": "mnist5k",
    "cifar": "emoji8",
    "svhn": "emoji8",
    "stl": "emoji8",
    "imagenet": "emoji8",
}


class DatasetError(Exception):
    """A set that is unknown, absent or damaged. The message says what to do."""


def names() -> tuple[str, ...]:
    """The embedded sets, in alphabetical order."""
    return tuple(sorted(path.stem for path in DATA.glob("*.json")))


def load(name: str) -> Dataset:
    """The embedded set `name`, in fresh arrays that the caller may change.

    Raises DatasetError for an unknown name, an absent file, and one whose sha256 is not the recorded one.
    """
    if name not in names():
        raise DatasetError(_unknown(name))
    record = _read_record(name)
    path = DATA / f"{name}.npz"
    repair = f"reinstall the package, or run `python -m course_lib.datasets.build {name}`"
    try:
        stat = path.stat()
        found = _sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DatasetError(f"{path.name} cannot be read ({error.strerror}): {repair}") from error
    expected = record["sha256"]
    if found != expected:
        raise DatasetError(f"{path.name} is damaged (sha256 {found}, expected {expected}): {repair}")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("images", "labels", "groups", "domains", "parts")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path.name} is not as it was recorded ({error}): {repair}") from error
    return _dataset(name, record, **arrays)


def _dataset(name, record, images, labels, groups, domains, parts) -> Dataset:
    provenance = {key: record[key] for key in Provenance.__dataclass_fields__}
    provenance["changes"] = tuple(provenance["changes"])
    provenance["sources"] = tuple(Source(**source) for source in provenance["sources"])
    return Dataset(
        name=name,
        images=images,
        labels=labels.astype(np.int64),
        classes=tuple(record["classes"]),
        groups=groups.astype(np.int64),
        domains=domains.astype(np.int64),
        domain_names=tuple(record["domain_names"]),
        split=Split(*(np.flatnonzero(parts == part) for part in range(3))),
        provenance=Provenance(**provenance),
    )


def _read_record(name: str) -> dict:
    path = DATA / f"{name}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path.name} cannot be read ({error}): reinstall the package") from error
    needed = {"classes", "domain_names", *Provenance.__dataclass_fields__}
    if missing := needed - set(record):
        raise DatasetError(f"{path.name} lacks {', '.join(sorted(missing))}: reinstall the package")
    return record


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """The file's digest; size and time of change are there so that an unchanged file is hashed once."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unknown(name: str) -> str:
    held = "; ".join(f"{known} ({_read_record(known)['title']})" for known in names())
    wanted = str(name).lower()
    serve = [ours for theirs, ours in SUBSTITUTES.items() if theirs in wanted]
    serve = serve or difflib.get_close_matches(wanted, names(), n=1)
    hint = f" In its place {serve[0]!r} could serve." if serve else ""
    return f"no dataset {name!r} comes with the course: it has {held}.{hint}"
