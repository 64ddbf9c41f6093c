"""The batch norm lesson's claims, B1 to B8: what it computes, where it stands, what it gains, and its two phases."""

from course_lib.claims.batch_norm import asker, depth, operation, phases, tuned
from course_lib.claims.claim import Claim

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = (
    *operation.CLAIMS,
    *tuned.CLAIMS,
    *depth.CLAIMS,
    *phases.CLAIMS,
    *asker.CLAIMS,
)
