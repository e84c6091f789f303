"""How far a set of fakes is from a set of reals, by statistics of their features; see `neighbours` for single images.

Features are (N, F) of any float dtype; whatever is summed over images is summed in float64.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from imagesmith.errors import ModelError, UsageError
from imagesmith.tensors import generator_for


class Estimate(NamedTuple):
    """A score and how much it scatters."""

    value: float
    deviation: float | None
    """Standard deviation over the subsets, or of the share; None where nothing is known about it."""


class FeatureStatistics:
    """Count, mean and covariance of feature vectors, gathered batch by batch in float64.

    Sets are merged by the pairwise update of Chan, Golub and LeVeque 1979, so neither the batches nor the processes
    change the result beyond float64 rounding. Lives on the device of its first features (MPS, without float64: CPU).
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.zeros((), dtype=torch.float64)  # no dimension: adds to any size on any device
        self._scatter = torch.zeros((), dtype=torch.float64)

    @classmethod
    def of(cls, batches: Iterable[Tensor]) -> Self:
        """The statistics of an iterable of (N, F) batches."""
        statistics = cls()
        for features in batches:
            statistics.update(features)
        return statistics

    def update(self, features: Tensor) -> None:
        """Take in a batch (N, F); ModelError where a value is not finite."""
        x = _float64(finite(features))
        if len(x):
            mean = x.mean(dim=0)
            centred = x - mean
            self._absorb(len(x), mean, centred.T @ centred)

    def merge(self, other: "FeatureStatistics") -> None:
        """Take in what another object has gathered, such as another process'."""
        if other.count:
            self._absorb(other.count, other._mean, other._scatter)

    def _absorb(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        assert self.count == 0 or mean.shape == self._mean.shape, f"sizes {mean.shape} and {self._mean.shape} differ"
        if self.count:
            mean, scatter = mean.to(self._mean.device), scatter.to(self._mean.device)
        total, apart = self.count + count, mean - self._mean
        self._mean = self._mean + apart * (count / total)
        self._scatter = self._scatter + scatter + torch.outer(apart, apart) * (self.count * count / total)
        self.count = total

    @property
    def size(self) -> int:
        """F, the number of features."""
        assert self.count, "no features yet"
        return len(self._mean)

    @property
    def mean(self) -> Tensor:
        """(F,) float64."""
        assert self.count, "no features yet"
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """(F, F) float64, unbiased (divided by count - 1)."""
        assert self.count > 1, f"a covariance needs two vectors, got {self.count}"
        return self._scatter / (self.count - 1)

    @property
    def is_singular(self) -> bool:
        """Whether there are too few vectors for a covariance of full rank: Frechet distances are then far too large."""
        return self.count <= self.size


def frechet_distance(real: FeatureStatistics, fake: FeatureStatistics) -> float:
    """Squared Frechet distance of the two Gaussians: the FID of Heusel et al. 2017 on whatever features these are.

    The trace of sqrt(A B) is the nuclear norm of sqrt(A) sqrt(B): all real and never negative, singular sets included.
    """
    assert real.size == fake.size, f"expected equal sizes, got {real.size} and {fake.size} features"
    device = real.mean.device
    mean_gap = (real.mean - fake.mean.to(device)).square().sum()
    a, b = real.covariance, fake.covariance.to(device)
    overlap = torch.linalg.svdvals(_factor(a).T @ _factor(b)).sum()
    return max(0.0, float(mean_gap + a.trace() + b.trace() - 2 * overlap))


def _factor(covariance: Tensor) -> Tensor:
    """R (F, rank) with covariance = R R^T; directions that are only rounding are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Estimate:
    """KID (Binkowski et al. 2018): unbiased squared MMD with the kernel (x.y / F + 1)**3, mean over random subsets.

    Subsets are drawn without replacement, `subset_size` from each set or all of a smaller set; where both are taken
    whole there is one subset and no deviation. May be slightly negative, as an unbiased estimate of zero is.
    """
    real, fake = (_float64(finite(features)) for features in (real, fake))
    if min(len(real), len(fake)) < 2:
        raise UsageError(f"expected at least 2 images on each side for a kernel distance, got {len(real)}, {len(fake)}")
    sizes = [min(subset_size, len(features)) for features in (real, fake)]
    if sizes == [len(real), len(fake)]:
        return Estimate(float(_squared_mmd(real, fake)), None)
    rng = generator_for(seed)
    draws = []
    for _ in range(subsets):
        x, y = (
            features[torch.randperm(len(features), generator=rng)[:size].to(features.device)]
            for features, size in zip((real, fake), sizes, strict=True)
        )
        draws.append(_squared_mmd(x, y))
    values = torch.stack(draws)
    return Estimate(float(values.mean()), float(values.std(correction=0)))


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased, of the cubic kernel; float64 scalar."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_apart(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    return mean_apart(kernel(x, x)) + mean_apart(kernel(y, y)) - 2 * kernel(x, y).mean()


def finite(features: Tensor) -> Tensor:
    """The same features (N, F); ModelError where a value is not finite."""
    assert features.ndim == 2, f"expected features (N, F), got {tuple(features.shape)}"
    bad = len(features) - int(features.isfinite().all(dim=1).sum())
    if bad:
        raise ModelError(
            f"expected finite features, got NaN or infinity in {bad} of {len(features)} images\n"
            "the generator or the feature extractor is broken; look at its images"
        )
    return features.detach()


def _float64(features: Tensor) -> Tensor:
    return (features.cpu() if features.device.type == "mps" else features).double()
