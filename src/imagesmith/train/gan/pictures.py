"""The pictures of a GAN's run: those it trains on, those kept apart, and the random numbers that go with each."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from imagesmith.configs import GanConfig, ImageSetConfig
from imagesmith.data.batches import ImageBatches
from imagesmith.data.held_out import count_different, one_of_each_stretch
from imagesmith.data.image_sets import ImageSet
from imagesmith.errors import NothingUsableError
from imagesmith.tensors import generator_for
from imagesmith.train.gan.augment import DRAWS
from imagesmith.train.pictures import load_pictures
from imagesmith.train.run import Session

FEW = 1000
"""Below so many different pictures a word of warning is due."""
_CHANCE = 2  # keeps latents and augmentations apart from the order of the pictures


@dataclass(frozen=True)
class Pictures:
    """A decoded set, divided once and for all."""

    whole: ImageSet
    training: Tensor
    """Positions (int64) in `whole` of the pictures to train on."""
    held_out: Tensor
    """Positions of those kept apart; may be empty."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.whole.images.shape[2:]
        return height, width

    @property
    def channels(self) -> int:
        """1 to 4."""
        return self.whole.images.shape[1]

    @property
    def classes(self) -> int:
        """0 where there are no labels."""
        return len(self.whole.class_names)

    @cached_property
    def different(self) -> int:
        """How many of those to train on are no copies, to the last bit, of others."""
        return count_different(self.whole.images, self.training)

    def some(self, positions: Tensor, count: int, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """At most `count` pictures uint8, each once, and their labels (0 without classes); by chance if with `rng`."""
        if rng is None:
            rows = positions[one_of_each_stretch(count, len(positions))]
        else:
            rows = positions[torch.randperm(len(positions), generator=rng)[:count]]
        labels = self.whole.labels
        return self.whole.images[rows], torch.zeros(len(rows), dtype=torch.int64) if labels is None else labels[rows]


def divided_pictures(data: ImageSetConfig, session: Session) -> Pictures:
    """Read what the configuration names, divide it, and say so; NothingUsableError below two different pictures."""
    pictures = Pictures(*load_pictures(data, session))
    count, different = len(pictures.training), pictures.different
    if different < 2:
        copies = f" and {count - 1} copies of it" * (count > 1)
        raise NothingUsableError(
            f"expected at least 2 pictures in {data.folder}, got {different}{copies}; add some, better hundreds"
        )
    session.say(f"{count:,} pictures to train on, {len(pictures.held_out):,} kept apart to measure on")
    if different < count:
        session.say(f"{count - different:,} of them are copies; they make a GAN prefer them")
    if different < FEW:
        session.say(
            f"{different} different pictures are few: a GAN will learn to repeat them; some {FEW} and more let it make "
            "new ones"
        )
    return pictures


def gan_batches(
    pictures: Pictures, config: GanConfig, *, start: int, batch: int, latent_size: int, rank: int, world: int
) -> Iterator[tuple[Tensor, ...]]:
    """(reals, labels, latents, draws, shares) for `gan_step`: image k's depend on the seed and k's batch alone."""
    chosen = ImageBatches(
        pictures.whole,
        batch=batch,
        seed=config.run.seed,
        start=start,
        flip=config.data.flip,
        indices=pictures.training,
        rank=rank,
        world=world,
    )
    for k, (real, label) in enumerate(chosen):
        rng = generator_for(config.run.seed, start + k * batch, _CHANCE)
        latents = torch.randn(batch, latent_size, generator=rng)
        draws = torch.rand(batch, 2, *DRAWS, generator=rng)
        shares = torch.rand(batch, generator=rng)
        yield real, label, latents[rank::world], draws[rank::world], shares[rank::world]
