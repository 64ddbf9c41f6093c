"""Bootstrap intervals for paired measurements: own code, deterministic."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

__all__ = ["bca_interval", "paired_difference"]


def bca_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The BCa bootstrap interval of the mean of values (n,), one for each seed: (low, high).

    Efron 1987: percentiles of the resampled means, corrected for bias (z0) and skewness (a). Values that
    are all equal give an interval of no width. Raises ValueError for fewer than two values or one that is
    not finite.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"an interval needs at least two finite values, got {x.tolist()}")
    mean = x.mean()
    if np.ptp(x) == 0:
        return float(mean), float(mean)
    rng = np.random.default_rng(seed)
    means = np.sort(x[rng.integers(len(x), size=(resamples, len(x)))].mean(1))
    normal = NormalDist()
    below = (np.sum(means < mean) + np.sum(means == mean) / 2) / resamples
    z0 = normal.inv_cdf(min(max(below, 1 / resamples), 1 - 1 / resamples))
    jackknife = (x.sum() - x) / (len(x) - 1)
    d = jackknife.mean() - jackknife
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = z0 + normal.inv_cdf(tail)
        ends.append(float(np.quantile(means, normal.cdf(z0 + z / (1 - a * z)))))
    return ends[0], ends[1]


def paired_difference(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    """a − b seed by seed. Raises ValueError where the two are not of one length."""
    if len(a) != len(b):
        raise ValueError(f"paired arms need as many seeds each, got {len(a)} and {len(b)}")
    return np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
