"""What a degradation is, and degradations made of others: in a row, sometimes, one of several, in any order."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from imagesmith.degrade.draw import chance
from imagesmith.errors import ConfigError


class Degradation(Protocol):
    """(C, H, W) float, C = 1 or 3, nominally in [0, 1] -> (C + planes, H / scale, W / scale); chance is `rng`."""

    @property
    def scale(self) -> int:
        """How many times smaller the result is."""
        ...

    @property
    def planes(self) -> int:
        """Channels that it appends to tell the network something, such as where holes are; only a chain's last part."""
        ...

    @property
    def context_px(self) -> int:
        """Input pixels beyond a crop's edge that its result depends on, a multiple of `scale`."""
        ...

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor: ...


Parts = tuple[Degradation, ...]


@dataclass(frozen=True)
class Chain:
    """Degradations applied one after the other; itself a degradation. None at all leave the image as it is."""

    parts: Parts

    def __post_init__(self) -> None:
        for part in self.parts[:-1]:
            if part.planes:
                raise ConfigError(
                    f"expected {type(part).__name__}, which appends planes, as the last part; move it there"
                )

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
        return self.parts[-1].planes if self.parts else 0

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


@dataclass(frozen=True)
class Sometimes:
    """Applies `part` as often as `probability` says; a part that keeps the size and appends no planes."""

    part: Degradation
    probability: float = 0.5

    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0

    def __post_init__(self) -> None:
        refuse_other_shapes("sometimes", (self.part,))

    @property
    def context_px(self) -> int:
        """That of the part."""
        return self.part.context_px

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        return self.part(image, rng) if chance(self.probability, rng) else image


@dataclass(frozen=True)
class OneOf:
    """Applies one of `parts`, each as often as the others; all of one scale and with as many planes."""

    parts: Parts

    def __post_init__(self) -> None:
        _refuse_none("one_of", self.parts)
        if len({(part.scale, part.planes) for part in self.parts}) != 1:
            raise ConfigError("expected 'one_of' parts of one scale and with as many planes; make them agree")

    @property
    def scale(self) -> int:
        """That of every part."""
        return self.parts[0].scale

    @property
    def planes(self) -> int:
        """As many as every part appends."""
        return self.parts[0].planes

    @property
    def context_px(self) -> int:
        """The largest of the parts."""
        return max(part.context_px for part in self.parts)

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        return self.parts[int(torch.randint(len(self.parts), (), generator=rng))](image, rng)


@dataclass(frozen=True)
class Shuffled:
    """Applies all `parts` in an order drawn per image; parts that keep the size and append no planes."""

    parts: Parts

    scale: ClassVar[int] = 1
    planes: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _refuse_none("shuffled", self.parts)
        refuse_other_shapes("shuffled", self.parts)

    @property
    def context_px(self) -> int:
        """The sum over the parts."""
        return sum(part.context_px for part in self.parts)

    def __call__(self, image: Tensor, rng: torch.Generator) -> Tensor:
        for index in torch.randperm(len(self.parts), generator=rng).tolist():
            image = self.parts[index](image, rng)
        return image


def refuse_other_shapes(name: str, parts: Parts) -> None:
    """ConfigError for parts of `name` that change the size or append planes."""
    for part in parts:
        if part.scale != 1 or part.planes:
            raise ConfigError(
                f"expected '{name}' parts that keep size and channels, got {type(part).__name__} of scale {part.scale} "
                f"with {part.planes} planes; put it into the chain by itself"
            )


def _refuse_none(name: str, parts: Parts) -> None:
    if not parts:
        raise ConfigError(f"expected at least one of the parts of '{name}', got none; add one")
