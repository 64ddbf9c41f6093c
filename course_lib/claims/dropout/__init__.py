"""The dropout lesson's claims, D1 to D9: what dropout computes, what it gains, and how its phase is set."""

from course_lib.claims.claim import Claim
from course_lib.claims.dropout import benefit, frameworks, mechanism

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = (*mechanism.CLAIMS, *benefit.CLAIMS, *frameworks.CLAIMS)
