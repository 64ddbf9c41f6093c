"""The transfer lesson's claims, T1 to T18: freezing and loading, policies, heads, and what pretraining is made of."""

from course_lib.claims.claim import Claim
from course_lib.claims.transfer import freezing, heads, loading, mechanism, policies, pretraining

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = (
    *mechanism.CLAIMS,
    *freezing.CLAIMS,
    *policies.CLAIMS,
    *loading.CLAIMS,
    *heads.CLAIMS,
    *pretraining.CLAIMS,
)
