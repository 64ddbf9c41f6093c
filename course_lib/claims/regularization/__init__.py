"""The regularization lesson's claims, R1 to R12: penalties, stopping, gaps and splits, and the nine ways."""

from course_lib.claims.claim import Claim
from course_lib.claims.regularization import gaps, penalties, stopping, ways

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = (*penalties.CLAIMS, *stopping.CLAIMS, *gaps.CLAIMS, *ways.CLAIMS)
