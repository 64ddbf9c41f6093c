"""The initialization lesson's claims, I1 to I7: the signal's size, the rules by name, random and learned filters."""

from course_lib.claims.claim import Claim
from course_lib.claims.initialization import filters, rules, signal

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = tuple(sorted((*signal.CLAIMS, *rules.CLAIMS, *filters.CLAIMS), key=lambda claim: claim.id))
