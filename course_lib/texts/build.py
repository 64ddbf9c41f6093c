"""Makes the embedded texts from a pinned package: `python -m course_lib.texts.build`.

The source distribution of Brotli, a compressor, carries three books in the public domain as test data. It is fetched
by pip and checked against its sha256; titles, names of speakers and stage directions are left out, and of each text
the first words are kept. With `--check` it writes nothing and says whether the package still gives the same texts.
Only this module may use the network, and only when somebody runs it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from pathlib import Path

from course_lib.datasets.build import BuildError
from course_lib.datasets.dataset import Source
from course_lib.texts import DATA

BROTLI = Source(
    package="brotli",
    version="1.1.0",
    registry="PyPI",
    file="Brotli-1.1.0.tar.gz",
    sha256="81de08ac11bcb85841e440c13611c00b67d3bf82698314928d0b676362546724",
    licence="MIT (the package); the texts are in the public domain",
    attribution="Alice's Adventures in Wonderland (1865) by Lewis Carroll, As You Like It (1599) by William "
    "Shakespeare, "
    "Paradise Lost (1667) by John Milton; packed by the Brotli authors",
)
FILES = {"carroll": "alice29.txt", "shakespeare": "asyoulik.txt", "milton": "plrabn12.txt"}
WORDS = 18_000  # of each text


def fetch(folder: Path) -> Path:
    """The package's source distribution in `folder`. Raises BuildError if it cannot be had, or is another file."""
    path = folder / BROTLI.file
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--no-build-isolation", f"{BROTLI.package}=={BROTLI.version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode or not path.exists():
            raise BuildError(f"{BROTLI.package} cannot be downloaded: {done.stderr.strip()[-200:]}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != BROTLI.sha256:
        raise BuildError(f"{path.name} is not the pinned file: nothing was built")
    return path


def cleaned(name: str, text: str) -> list[str]:
    """The text's own words, lower-case: what a reader would read aloud, without titles, speakers and directions."""
    text = text.replace("\r\n", "\n")
    if name == "milton":
        text = text[re.search(r"^ *Of Man's first disobedience", text, re.MULTILINE).start() :]
        text = re.sub(r"^ *Book [IVX]+.*$", "", text, flags=re.MULTILINE)
    elif name == "shakespeare":
        text = text[text.index("As I remember, Adam") :]  # the list of persons stands before
        text = re.sub(r"\[[^]]*\]", " ", text)
        text = re.sub(r"^[A-Z][A-Z ]+(\t|$)", " ", text, flags=re.MULTILINE)
        text = re.sub(r"^\s*(ACT|SCENE)\b.*$", " ", text, flags=re.MULTILINE)
    else:
        text = text[text.index("Alice was beginning") :]
        text = re.sub(r"^\s*CHAPTER [IVX]+\s*\n\s*\n.*$", " ", text, flags=re.MULTILINE)
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower())
    return words[:WORDS]


def build(archive: Path) -> dict[str, bytes]:
    """Each text as the bytes of its file: words in lines of at most 100 characters."""
    found = {}
    with tarfile.open(archive) as package:
        for name, file in FILES.items():
            text = package.extractfile(f"Brotli-{BROTLI.version}/tests/testdata/{file}").read().decode("ascii")
            found[name] = (textwrap.fill(" ".join(cleaned(name, text)), 100) + "\n").encode()
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m course_lib.texts.build", description=__doc__)
    parser.add_argument("--downloads", type=Path, help="keep the package here, and use it if it is there")
    parser.add_argument("--check", action="store_true", help="write nothing, compare with what is embedded")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.downloads or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            texts = build(fetch(folder))
        except BuildError as error:
            print(f"texts: {error}", file=sys.stderr)
            return 1
    same = all(
        (DATA / f"{name}.txt").exists() and (DATA / f"{name}.txt").read_bytes() == raw for name, raw in texts.items()
    )
    if not options.check:
        record = {
            "title": f"the first {WORDS:,} words of three books",
            "licence": "LicenseRef-Public-Domain",
            "changes": ["titles, speakers and stage directions left out, lower case, no punctuation"],
            "sources": [dataclasses.asdict(BROTLI)],
            "sha256": {name: hashlib.sha256(raw).hexdigest() for name, raw in texts.items()},
        }
        for name, raw in texts.items():
            (DATA / f"{name}.txt").write_bytes(raw)
        (DATA / "texts.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"texts: {'as recorded' if same else 'not what was recorded'}")
    return int(options.check and not same)


if __name__ == "__main__":
    sys.exit(main())
