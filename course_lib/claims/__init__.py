"""Claims with evidence: what the course says, measured by its own code over several seeds.

`evidence("D1")` shows a claim's card in a notebook; `run(["D1"])` measures it again; `ledger_rows()` joins every
question of the course with what has been measured.
"""

from course_lib.claims.card import Evidence, evidence
from course_lib.claims.claim import (
    Claim,
    Decision,
    IdenticalArmsError,
    Interval,
    Measured,
    MeasurementError,
    Series,
    Table,
)
from course_lib.claims.ledger import LEDGER, LedgerRow
from course_lib.claims.registry import CLAIMS
from course_lib.claims.runner import Result, ResultError, UnknownClaimError, ledger_rows, load, run

__all__ = [
    "CLAIMS",
    "LEDGER",
    "Claim",
    "Decision",
    "Evidence",
    "IdenticalArmsError",
    "Interval",
    "LedgerRow",
    "Measured",
    "MeasurementError",
    "Result",
    "ResultError",
    "Series",
    "Table",
    "UnknownClaimError",
    "evidence",
    "ledger_rows",
    "load",
    "run",
]
