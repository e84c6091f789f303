"""Blur: a camera that shakes, a lens out of focus, a soft lens. Each draws a kernel and filters with it."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.degrade.draw import Range, chance, uniform
from imagesmith.tensors.edges import mirrored
from imagesmith.tensors.fourier import fast_size

_PATH_POINTS = 192
"""Points of a camera's path: several to a pixel for the longest paths."""


def filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """(C, H, W) convolved with `kernel` (K, K), K odd, each channel by itself; mirrored beyond the edges.

    By Fourier transforms, which cost the same for every K, a quarter of what convolving with 17 x 17 would.
    """
    size = kernel.shape[0]
    reach = size // 2
    padded = mirrored(image, reach, reach, reach, reach)
    fast, (height, width) = fast_size(padded.shape[-2:]), image.shape[-2:]
    spectrum = torch.fft.rfft2(padded, s=fast) * torch.fft.rfft2(kernel.to(image.dtype), s=fast)
    result = torch.fft.irfft2(spectrum, s=fast)[:, size - 1 : size - 1 + height, size - 1 : size - 1 + width]
    return result.clamp(image.min(), image.max())


@dataclass(frozen=True)
class MotionBlur:
    """The path of a shaking hand while the shutter is open, or, for a share `share_straight`, a straight line.

    The distance between the path's farthest points plus one pixel is drawn from `length`, and kept to 4 % of it (of
    the path every fourth point is looked at). The path's centre of mass is
    the kernel's middle, so that nothing is displaced.
    """

    length: Range = (3, 15)
    share_straight: float = 0.3
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0

    @property
    def context_px(self) -> int:
        """No point of a path is farther from its centre than its ends are from each other."""
        return math.ceil(max(self.length))

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        return filtered(image, self.kernel(rng))

    def kernel(self, rng: torch.Generator) -> Tensor:
        """A kernel (K, K), K odd, not negative, of sum 1."""
        extent = max(0.0, uniform(self.length, rng) - 1)
        path = _straight_path(rng) if chance(self.share_straight, rng) else _shaken_path(rng)
        path = path - path.mean(0)
        path = path * (extent / torch.pdist(path[::4]).max())
        return _rasterised(path)


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian of standard deviation `sigma` pixels; for a share `anisotropic` another one across, at any angle."""

    sigma: Range = (0.2, 3.0)
    anisotropic: float = 0.5
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0

    @property
    def context_px(self) -> int:
        """Three standard deviations."""
        return math.ceil(3 * max(self.sigma))

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        return filtered(image, self.kernel(rng))

    def kernel(self, rng: torch.Generator) -> Tensor:
        """A kernel (K, K), K odd, not negative, of sum 1."""
        along, across = uniform(self.sigma, rng), uniform(self.sigma, rng)
        angle = uniform((0, math.pi), rng)
        if not chance(self.anisotropic, rng):
            across = along
        y, x = _offsets(math.ceil(3 * max(along, across)))
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        weights = torch.exp(-0.5 * ((u / max(along, 1e-3)) ** 2 + (v / max(across, 1e-3)) ** 2))
        return (weights / weights.sum()).float()


@dataclass(frozen=True)
class DefocusBlur:
    """The disc that a lens out of focus makes of a point, of a radius in pixels, its edge antialiased."""

    radius: Range = (1.0, 6.0)
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0

    @property
    def context_px(self) -> int:
        """The largest radius and half a pixel of its soft edge."""
        return math.ceil(max(self.radius) + 0.5)

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        return filtered(image, self.kernel(rng))

    def kernel(self, rng: torch.Generator) -> Tensor:
        """A kernel (K, K), K odd, not negative, of sum 1."""
        radius = uniform(self.radius, rng)
        y, x = _offsets(math.ceil(radius + 0.5))
        weights = (radius + 0.5 - torch.hypot(x, y)).clamp(0, 1)
        return (weights / weights.sum()).float()


@dataclass(frozen=True)
class UnsharpMask:
    """The sharpening of cameras and editors: `amount` of what a Gaussian of `radius` pixels takes away is added.

    Clipped to [0, 1], as files are; edges get halos.
    """

    amount: Range = (0.2, 1.0)
    radius: Range = (0.5, 2.0)
    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0

    @property
    def context_px(self) -> int:
        """That of the Gaussian."""
        return GaussianBlur(self.radius).context_px

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        amount = uniform(self.amount, rng)
        soft = GaussianBlur(self.radius, anisotropic=0)(image, rng)
        return (image + amount * (image - soft)).clamp(0, 1)


def _straight_path(rng: torch.Generator) -> Tensor:
    """Points (N, 2) at equal distances on a line of any direction."""
    angle = uniform((0, math.pi), rng)
    direction = torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)
    return torch.linspace(0, 1, _PATH_POINTS, dtype=torch.float64)[:, None] * direction


def _shaken_path(rng: torch.Generator) -> Tensor:
    """Points (N, 2) of a walk whose direction drifts, jolts about twice, and whose speed comes and goes.

    After the model of Boracchi and Foi, "Modeling the performance of image restoration from motion blur", 2012:
    inertia, small random turns, and rare impulses.
    """
    drift = math.exp(uniform((math.log(0.02), math.log(0.3)), rng))  # from nearly straight to curled up
    draws = torch.rand(3, _PATH_POINTS, generator=rng, dtype=torch.float64)
    turns = torch.randn(_PATH_POINTS, generator=rng, dtype=torch.float64) * drift
    jolts = (draws[0] < 2 / _PATH_POINTS) * (draws[1] - 0.5) * (2 * math.pi)
    angles = uniform((0, 2 * math.pi), rng) + (turns + jolts).cumsum(0)
    speeds = F.interpolate(draws[2:, None, :6], _PATH_POINTS, mode="linear", align_corners=True)[0, 0] + 0.1
    return torch.stack([angles.sin() * speeds, angles.cos() * speeds], 1).cumsum(0)


def _rasterised(path: Tensor) -> Tensor:
    """A kernel (K, K) in which each point (row, column) of `path`, from the middle, spreads over its four pixels."""
    reach = math.floor(float(path.abs().max())) + 1
    size = 2 * reach + 1
    corner = path.floor()
    row, column = (path - corner).T
    first = ((corner[:, 0] + reach) * size + corner[:, 1] + reach).long()
    indices = torch.cat([first, first + 1, first + size, first + size + 1])
    weights = torch.cat([(1 - row) * (1 - column), (1 - row) * column, row * (1 - column), row * column])
    kernel = torch.bincount(indices, weights, minlength=size * size).view(size, size)
    return (kernel / kernel.sum()).float()


def _offsets(reach: int) -> tuple[Tensor, Tensor]:
    """Rows (K, 1) and columns (1, K) counted from the middle of a kernel."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return steps[:, None], steps[None]
