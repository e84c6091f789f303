"""Pictures of which the kernel of the blur is known about as well as it can be found."""

from dataclasses import dataclass

import torch
from torch import Tensor

from imagesmith.degrade.combine import Chain, refuse_other_shapes
from imagesmith.degrade.draw import chance, uniform
from imagesmith.tensors import to_gray
from imagesmith.tensors.deconvolution import NOISES, deconvolution_planes, fading, gradients, kernel_between
from imagesmith.tensors.edges import mirrored

_BORDER = 20
_SLOPES = (0.0, 0.1)
_UNKNOWN, _WRONG, _AT_EDGE = 0.15, 0.05, 0.1


@dataclass(frozen=True)
class Deconvolved:
    """Applies `chain`, then appends the `deconvolution_planes` of the result: (C, H, W) -> (C + 6, H, W).

    With a kernel that errs as one that is searched for does, see `kernel_as_found`; 15 % of the images are told none
    and 5 % one that is turned by a right angle, for what is told is not always true. One side of a crop in ten is taken
    for the picture's edge, where deconvolution rings.
    """

    chain: Chain

    def __post_init__(self) -> None:
        refuse_other_shapes("deconvolved", (self.chain,))

    @property
    def scale(self) -> int:
        """That of what keeps the size."""
        return 1

    @property
    def planes(self) -> int:
        """Three colours for each of `NOISES`."""
        return 3 * len(NOISES)

    @property
    def context_px(self) -> int:
        """That of the chain, and what hides the edges of a crop from its middle."""
        return self.chain.context_px + _BORDER

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        damaged = self.chain(image, rng)
        planes = deconvolution_planes(damaged, None)
        at_least, unknown, wrong = uniform(_SLOPES, rng), chance(_UNKNOWN, rng), chance(_WRONG, rng)
        top, left, bottom, right = (self.context_px * chance(_AT_EDGE, rng) for _ in range(4))
        if not unknown:
            kernel = kernel_as_found(damaged, image, at_least)
            height, width = image.shape[-2:]
            if min(height - top - bottom, width - left - right) < 1:
                top = left = bottom = right = 0
            inside = (slice(None), slice(top, height - bottom), slice(left, width - right))
            planes[inside] = deconvolution_planes(damaged[inside], kernel.rot90() if wrong else kernel)
        return torch.cat([damaged, planes])


def kernel_as_found(blurred: Tensor, sharp: Tensor, at_least: float = 0.0) -> Tensor:
    """The kernel between two pictures (C, H, W), told by slopes of at least so much as by one who knows edges alone."""
    seen, known = (mirrored(to_gray(x), _BORDER, _BORDER, _BORDER, _BORDER) for x in (blurred, sharp))
    slopes = gradients(known)
    steep = slopes.square().sum(0) >= at_least**2
    return kernel_between(seen, slopes * steep, fading(seen.shape[-2:], _BORDER))
