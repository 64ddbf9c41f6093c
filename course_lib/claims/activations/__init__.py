"""The activation lesson's claims, A1 to A6: how fast nets learn, which units die, and what a layer passes on."""

from course_lib.claims.activations import speed, units
from course_lib.claims.claim import Claim

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = tuple(sorted((*speed.CLAIMS, *units.CLAIMS), key=lambda claim: claim.id))
