"""The architecture lesson's claims, C1 to C9: which layers, how many, what they cost, and how they are trained."""

from course_lib.claims.claim import Claim
from course_lib.claims.cnn_architectures import cost, design, recipes, structure

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim, ...] = (*design.CLAIMS, *structure.CLAIMS, *cost.CLAIMS, *recipes.CLAIMS)
