"""How far a set of fakes is from a set of reals, by statistics of their features; see `neighbours` for single images.

Features are (N, F) of any float dtype; whatever is summed over images is summed in float64.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

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


# --- images, without a network ---

_PATCH = 7
_PATCHES_PER_IMAGE = 128
_MOST_PATCHES = 2**17
_DIRECTIONS = 512


def sliced_wasserstein(real: Tensor, fake: Tensor, *, seed: int = 0) -> dict[int, float]:
    """Sliced Wasserstein distance of local patches, times 1000, by the height of the pyramid's level in pixels.

    Karras et al. 2018, section 5: levels of a Laplacian pyramid, halved while both sides stay at least 16; 7x7 patches,
    up to 128 of each image and up to 131,072 in all; each channel of a set normalised to mean 0 and deviation 1; mean
    absolute difference of the sorted projections, over 512 random directions. `real` and `fake` are uint8 (N, C, H, W);
    of the larger set the first images are taken, so one that is sorted has to be shuffled before.
    """
    assert real.shape[1:] == fake.shape[1:], f"expected images of equal shape, got {real.shape} and {fake.shape}"
    if min(real.shape[-2:]) < _PATCH:
        raise UsageError(
            f"expected images of at least {_PATCH}x{_PATCH} pixels for the sliced Wasserstein distance, "
            f"got {real.shape[-1]}x{real.shape[-2]}; leave it out"
        )
    count = min(len(real), len(fake))
    scores = {}
    for level, height in enumerate(_heights(*real.shape[-2:])):
        x, y = (_patches(images[:count], level, seed) for images in (real, fake))
        scores[height] = 1000 * _sorted_distance(x, y, seed)
    return scores


def _heights(height: int, width: int) -> list[int]:
    """The heights of the pyramid's levels, finest first."""
    heights = [height]
    while min(height, width) >= 32:
        height, width = (height + 1) // 2, (width + 1) // 2
        heights.append(height)
    return heights


def _patches(images: Tensor, level: int, seed: int) -> Tensor:
    """Normalised patches (count, C * 49) float32 at random places of one level of every image's pyramid."""
    rng = generator_for(seed, level)
    each = max(1, min(_PATCHES_PER_IMAGE, _MOST_PATCHES // len(images)))
    inside = torch.arange(_PATCH)
    taken = []
    for batch in images.split(256):
        detail = _laplacian(batch.float(), level)
        n, _, height, width = detail.shape
        top = torch.randint(height - _PATCH + 1, (n, each, 1, 1), generator=rng) + inside.view(-1, 1)
        left = torch.randint(width - _PATCH + 1, (n, each, 1, 1), generator=rng) + inside
        image = torch.arange(n).view(-1, 1, 1, 1)
        taken.append(detail.permute(0, 2, 3, 1)[image, top, left].flatten(0, 1))  # (n * each, 7, 7, C)
    patches = torch.cat(taken)
    centred = patches - patches.mean(dim=(0, 1, 2))
    return (centred / centred.square().mean(dim=(0, 1, 2)).sqrt().clamp_min(1e-8)).flatten(1)


def _laplacian(x: Tensor, level: int) -> Tensor:
    """One level of the pyramid: what halving the size loses there, or at the last level all that is left."""
    last = len(_heights(*x.shape[-2:])) - 1
    for _ in range(level):
        x = _blurred(x)[..., ::2, ::2]
    if level == last:
        return x
    small = _blurred(x)[..., ::2, ::2]
    spread = torch.zeros_like(x)
    spread[..., ::2, ::2] = 4 * small
    return x - _blurred(spread)


def _blurred(x: Tensor) -> Tensor:
    """The binomial filter 1 4 6 4 1 along both axes, edges mirrored."""
    taps = x.new_tensor([1, 4, 6, 4, 1]) / 16
    n, c, height, width = x.shape
    lines = F.pad(x, (2, 2, 2, 2), mode="reflect").reshape(n * c, 1, height + 4, width + 4)
    return F.conv2d(F.conv2d(lines, taps.view(1, 1, 1, 5)), taps.view(1, 1, 5, 1)).view(n, c, height, width)


def _sorted_distance(x: Tensor, y: Tensor, seed: int) -> float:
    """Mean over random directions of the Wasserstein-1 distance of the projections."""
    directions = torch.randn(x.shape[1], _DIRECTIONS, generator=generator_for(seed, x.shape[1]))
    directions /= directions.norm(dim=0)
    x, y = x.T.contiguous(), y.T.contiguous()  # a sort along the last axis is several times faster
    apart = [
        ((part.T @ x).sort(dim=1).values - (part.T @ y).sort(dim=1).values).abs().mean()
        for part in directions.split(64, dim=1)
    ]
    return float(torch.stack(apart).mean())
