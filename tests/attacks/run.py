"""Run the attacks through one arm and keep the results: python -m tests.attacks.run --arm stock [A. B.ast ...].

The arm `ours` is the course's grader, `stock` is nbgrader as it comes. Results go to docs/attacks/<arm>.json; those of
attacks that were not run this time stay.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import sys
import tempfile
from pathlib import Path

from . import ours, stock
from .attack import Attack, Result
from .course import ROOT
from .suite import ATTACKS

RESULTS = ROOT / "docs" / "attacks"
VERSIONS = ("nbgrader", "nbclient", "nbconvert", "ipykernel", "jupyter_client", "torch", "numpy")


def read(arm: str) -> dict[str, Result]:
    """The kept results of an arm, by attack."""
    path = RESULTS / f"{arm}.json"
    kept = json.loads(path.read_text("utf-8"))["results"] if path.is_file() else {}
    return {id: Result(tuple(row["signs"]), row["score"], row["detail"], row["seconds"]) for id, row in kept.items()}


def keep(arm: str, results: dict[str, Result]) -> None:
    """Write the results of an arm, with the day and the versions."""
    RESULTS.mkdir(exist_ok=True)
    data = {
        "arm": arm,
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "results": {id: vars(results[id]) for id in ATTACKS if id in results},
    }
    (RESULTS / f"{arm}.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")


def chosen(arm: str, names: list[str]) -> list[Attack]:
    """The attacks of an arm whose ids begin with one of `names`; all of the arm's without names."""
    return [
        attack
        for id, attack in ATTACKS.items()
        if attack.only in ("", arm) and (not names or id.startswith(tuple(names)))
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--arm", choices=("ours", "stock"), required=True)
    arguments.add_argument("names", nargs="*")
    options = arguments.parse_args()
    results = read(options.arm)
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        arm = {"ours": ours, "stock": stock}[options.arm]
        for attack, result in arm.run(chosen(options.arm, options.names), Path(folder)):
            results[attack.id] = result
            keep(options.arm, results)
            score = "no grade" if result.score is None else f"{result.score:g}"
            print(
                f"{attack.id:36} {score:>8}  {result.seconds:6.1f} s  {', '.join(result.signs)}  {result.detail}"[:180]
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
