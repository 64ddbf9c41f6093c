"""The optimizer lesson's claims, O1 to O6: speed, ranking, rates and schedules, and what Keras optimizes."""

from course_lib.claims.claim import Claim
from course_lib.claims.optimizers import keras_loss, ranking, rates

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = tuple(
    sorted((*ranking.CLAIMS, *rates.CLAIMS, *keras_loss.CLAIMS), key=lambda claim: claim.id)
)
