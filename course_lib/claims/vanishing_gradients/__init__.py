"""The first lesson's claims, V1 to V6: gradients that vanish and explode, why, what it costs, and what helps."""

from course_lib.claims.claim import Claim
from course_lib.claims.vanishing_gradients import gradients, remedies

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = tuple(sorted((*gradients.CLAIMS, *remedies.CLAIMS), key=lambda claim: claim.id))
