"""The degradations: frozen dataclasses (image, rng) -> image, named in one table, applied in order by `Chain`."""

import dataclasses
import difflib
from typing import Any, Protocol

import torch
from torch import Tensor

from imagesmith.degrade.scale import BicubicDown
from imagesmith.errors import ConfigError


class Degradation(Protocol):
    """(C, H, W) float in [0, 1] -> the same, H and W divided by `scale`; deterministic in `rng`."""

    scale: int

    @property
    def context_px(self) -> int:
        """Input pixels beyond a crop's edge that its result depends on, a multiple of `scale`."""
        ...

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor: ...


DEGRADATIONS: dict[str, type[Any]] = {
    "bicubic": BicubicDown,
}


def build_degradation(name: str, options: dict[str, Any]) -> Degradation:
    """The degradation called `name`; unknown names and options are ConfigErrors that name the nearest match."""
    if name not in DEGRADATIONS:
        match = difflib.get_close_matches(name, DEGRADATIONS, n=1)
        hint = f" (did you mean '{match[0]}'?)" if match else ""
        raise ConfigError(f"expected a degradation of {', '.join(DEGRADATIONS)}, got '{name}'{hint}")
    known = [field.name for field in dataclasses.fields(DEGRADATIONS[name])]
    for option in options:
        if option not in known:
            raise ConfigError(f"degradation '{name}' has no option '{option}'; it has {', '.join(known)}")
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
