"""The degradations: frozen dataclasses (image, rng) -> image, named in one table, applied in order by `Chain`."""

import dataclasses
from typing import Any, Protocol

import torch
from torch import Tensor

from imagesmith.degrade.blur import DefocusBlur, GaussianBlur, MotionBlur
from imagesmith.degrade.jpeg import Jpeg
from imagesmith.degrade.masks import Holes
from imagesmith.degrade.noise import GaussianNoise
from imagesmith.degrade.scale import BicubicDown
from imagesmith.errors import ConfigError, not_one_of


class Degradation(Protocol):
    """(C, H, W) float, C = 1 or 3, nominally in [0, 1] -> (C + planes, H / scale, W / scale); chance is `rng`."""

    scale: int

    @property
    def planes(self) -> int:
        """Channels that it appends to tell the network something, such as where holes are; only a chain's last part."""
        ...

    @property
    def context_px(self) -> int:
        """Input pixels beyond a crop's edge that its result depends on, a multiple of `scale`."""
        ...

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor: ...


DEGRADATIONS: dict[str, type[Any]] = {
    "bicubic": BicubicDown,
    "defocus_blur": DefocusBlur,
    "gaussian_blur": GaussianBlur,
    "gaussian_noise": GaussianNoise,
    "holes": Holes,
    "jpeg": Jpeg,
    "motion_blur": MotionBlur,
}


def build_degradation(name: str, options: dict[str, Any]) -> Degradation:
    """The degradation called `name`; unknown names and options are ConfigErrors that name the nearest match."""
    if name not in DEGRADATIONS:
        raise ConfigError(not_one_of("a degradation", name, DEGRADATIONS))
    known = [field.name for field in dataclasses.fields(DEGRADATIONS[name])]
    for option in options:
        if option not in known:
            raise ConfigError(not_one_of(f"an option of degradation '{name}'", option, known))
    return DEGRADATIONS[name](**options)


@dataclasses.dataclass(frozen=True)
class Chain:
    """Degradations applied one after the other; itself a degradation."""

    parts: tuple[Degradation, ...]

    @property
    def scale(self) -> int:
        """How many times smaller the result is."""
        product = 1
        for part in self.parts:
            product *= part.scale
        return product

    @property
    def planes(self) -> int:
        """How many channels the last part appends."""
        assert all(part.planes == 0 for part in self.parts[:-1]), "only the last part of a chain appends planes"
        return self.parts[-1].planes

    @property
    def context_px(self) -> int:
        """Context of the whole chain in pixels of its input, a multiple of `scale`."""
        context, scale = 0, 1
        for part in self.parts:
            context += part.context_px * scale
            scale *= part.scale
        return -(-context // scale) * scale

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        for part in self.parts:
            image = part(image, rng)
        return image
