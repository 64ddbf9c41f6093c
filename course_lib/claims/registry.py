"""Every claim that has an experiment: one dict, built from the listed modules, one a lesson."""

from course_lib.claims import (
    activations,
    batch_norm,
    cnn_architectures,
    dropout,
    initialization,
    optimizers,
    regularization,
    transfer,
    vanishing_gradients,
)
from course_lib.claims.claim import Claim

__all__ = ["CLAIMS"]

CLAIMS: dict[str, Claim] = {}
for module in (
    vanishing_gradients,
    initialization,
    activations,
    batch_norm,
    transfer,
    optimizers,
    regularization,
    dropout,
    cnn_architectures,
):
    for claim in module.CLAIMS:
        if claim.id in CLAIMS:
            raise ValueError(f"two experiments for claim {claim.id}")
        CLAIMS[claim.id] = claim
