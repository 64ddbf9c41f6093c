"""Run claims and keep what they measured: one JSON file a claim, joined with the ledger."""

import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from course_lib.claims.claim import (
    Claim,
    Decision,
    Interval,
    Measured,
    Series,
    Table,
    code_version,
    settle,
)
from course_lib.claims.ledger import LEDGER
from course_lib.claims.registry import CLAIMS
from course_lib.training import threads

__all__ = ["RESULTS", "Result", "ResultError", "UnknownClaimError", "is_stale", "ledger_rows", "load", "run"]

RESULTS = Path(__file__).parent / "results"


class UnknownClaimError(LookupError):
    """No row of the ledger, or no measured claim, has this id."""


class ResultError(ValueError):
    """A results file is damaged or of another claim."""


@dataclass(frozen=True)
class Result:
    """A settled claim: the verdict with what it rests on, and where and when that was measured."""

    id: str
    lesson: str
    statement: str
    verdict: str
    condition: str
    headline: str
    rule: str
    interval: Interval
    figures: dict[str, float | str]
    series: tuple[Series, ...]
    tables: tuple[Table, ...]
    seeds: tuple[int, ...]
    versions: dict[str, str]
    hardware: dict[str, str | int]
    date: str
    seconds: float  # of processor time
    code_version: str


def run(
    ids: Iterable[str] | None = None, seeds: Sequence[int] | None = None, *, folder: Path = RESULTS
) -> list[Result]:
    """Settle the claims with these ids (all unless given), write each as `folder/<id>.json`, return them.

    Runs on one thread. Raises UnknownClaimError before anything runs, and MeasurementError for
    measurements that can't be trusted: then that claim's former file stays as it was.
    """
    ids = list(CLAIMS) if ids is None else list(ids)
    claims = [find(claim_id) for claim_id in ids]
    results = []
    for claim in claims:
        started = time.process_time()  # what other programs on the machine do is no part of it
        with threads(1):
            measured, decision, headline = settle(claim, seeds)
        used = claim.seeds if seeds is None else tuple(seeds)
        result = assemble(claim, measured, decision, headline, used, time.process_time() - started)
        save(result, folder)
        results.append(result)
    return results


def find(claim_id: str) -> Claim:
    if claim_id in CLAIMS:
        return CLAIMS[claim_id]
    if any(row.id == claim_id for row in LEDGER):
        raise UnknownClaimError(f"no experiment for claim {claim_id} exists yet; there are {', '.join(CLAIMS)}")
    raise UnknownClaimError(f"the ledger has no claim {claim_id!r}")


def assemble(
    claim: Claim,
    measured: Measured,
    decision: Decision,
    headline: str,
    seeds: tuple[int, ...],
    seconds: float,
) -> Result:
    return Result(
        id=claim.id,
        lesson=next(row.lesson for row in LEDGER if row.id == claim.id),
        statement=claim.statement,
        verdict=decision.verdict,
        condition=decision.condition,
        headline=headline,
        rule=claim.rule,
        interval=decision.interval,
        figures=dict(decision.figures),
        series=tuple(measured.series),
        tables=tuple(measured.tables),
        seeds=seeds,
        versions={
            "python": platform.python_version(),
            **{name: version_of(name) for name in ("torch", "numpy", "keras", "tensorflow")},
        },
        hardware={"cpu": cpu_model(), "cores": os.cpu_count() or 1, "threads": 1, "device": "cpu"},
        date=datetime.now(UTC).date().isoformat(),
        seconds=round(seconds, 1),
        code_version=code_version(claim),
    )


def version_of(package: str) -> str:
    """Its version; where it is not there, that of its build without CUDA, which goes by another name."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{package}-cpu")


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def save(result: Result, folder: Path) -> Path:
    """Write the result whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.id}.json"
    text = json.dumps(rounded(asdict(result)), indent=1, ensure_ascii=False, allow_nan=False)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8", suffix=".part") as part:
        part.write(compact(text) + "\n")
    os.chmod(part.name, 0o644)
    os.replace(part.name, path)
    return path


def rounded(value):
    """Floats to 7 significant digits: no more is known of them."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value


def compact(text: str) -> str:
    """Bring lists of plain numbers back onto one line."""
    lines, out = text.split("\n"), []
    i = 0
    while i < len(lines):
        if lines[i].endswith("["):
            end = i + 1
            while end < len(lines) and is_number(lines[end]):
                end += 1
            if end > i + 1 and lines[end].strip() in ("]", "],"):
                out.append(lines[i] + " ".join(line.strip() for line in lines[i + 1 : end]) + lines[end].strip())
                i = end + 1
                continue
        out.append(lines[i])
        i += 1
    return "\n".join(out)


def is_number(line: str) -> bool:
    try:
        float(line.strip().rstrip(","))
    except ValueError:
        return False
    return True


def load(claim_id: str, *, folder: Path = RESULTS) -> Result | None:
    """The stored result of a claim, or None while it is unsettled.

    Raises UnknownClaimError for an id that the ledger lacks, ResultError for a damaged file.
    """
    if not any(row.id == claim_id for row in LEDGER):
        raise UnknownClaimError(f"the ledger has no claim {claim_id!r}")
    path = folder / f"{claim_id}.json"
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        result = Result(
            **{
                **data,
                "interval": Interval(**data["interval"]),
                "series": tuple(Series(**series) for series in data["series"]),
                "tables": tuple(Table(**table) for table in data["tables"]),
                "seeds": tuple(data["seeds"]),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResultError(f"{path.name} is damaged ({error}); measure it again: course evidence {claim_id}") from None
    if result.id != claim_id:
        raise ResultError(f"{path.name} holds claim {result.id}; measure it again: course evidence {claim_id}")
    return result


def is_stale(result: Result) -> bool:
    """Whether the claim's code or wording has changed since it was measured, or is gone."""
    claim = CLAIMS.get(result.id)
    return claim is None or code_version(claim) != result.code_version


def ledger_rows(*, folder: Path = RESULTS) -> list[dict]:
    """Every row of the ledger, ready for JSON; verdict and what goes with it are None while unsettled."""
    rows = []
    for row in LEDGER:
        result = load(row.id, folder=folder)
        rows.append(
            {
                "id": row.id,
                "lesson": row.lesson,
                "sources": list(row.sources),
                "question": row.question,
                "verdict": result and result.verdict,
                "condition": (result and result.condition) or None,
                "headline": result and result.headline,
                "seeds": result and list(result.seeds),
                "interval": result and asdict(result.interval),
                "date": result and result.date,
                "stale": result and is_stale(result),
            }
        )
    return rows
