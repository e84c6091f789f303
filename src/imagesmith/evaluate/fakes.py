"""Where the fakes come from that are measured: a generator, images made before, or a network in training."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagesmith.data.archives import is_archive
from imagesmith.data.image_sets import DIFFERENT_SIZES, ImageSet
from imagesmith.data.sources import holds_run
from imagesmith.errors import ModelError
from imagesmith.evaluate.classifier import known_labels, measured_pictures, unknown_class, unused
from imagesmith.infer.generate import Generator, check_truncation
from imagesmith.infer.latents import latents
from imagesmith.metrics.sets import FeatureStatistics
from imagesmith.tensors import from_float, generator_for
from imagesmith.zoo.cards import is_checkpoint, read_header
from imagesmith.zoo.weights import RUN_WEIGHTS, find_weights

_BATCH = 256
_ARRAYS_AND_TABLES = (".npz", ".csv")


@dataclass(frozen=True)
class Fakes:
    """Images to be measured, made or read as they are asked for."""

    name: str
    size: tuple[int, int]
    channels: int
    available: int | None
    """How many there are; None where they are made as asked."""
    batches: Callable[[int, "Labels"], Iterator[Tensor]]
    """So many, as uint8 (n, C, H, W) in batches, of these labels."""
    labels: Callable[[ImageSet, int], "Labels"]
    """What labels so many images get beside this reference."""
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    """What a reader must know before trusting the numbers."""


@dataclass(frozen=True)
class Labels:
    """A label for each image (none of unconditional ones), and how they were chosen, in words."""

    how: str
    numbers: Sequence[int | None] = field(default=(), repr=False)


def fakes_of(model: Generator | str | Path, *, truncation: float, seed: int, device: str) -> Fakes:
    """The fakes of a Generator, of what `Generator.load` takes, or of a source of `load_image_set`."""
    check_truncation(truncation)
    if not isinstance(model, Generator) and _holds_images(model):
        return _read(model)
    facts: dict[str, Any] = {"truncation": truncation, "first_seed": seed, "weights": "as given, in memory"}
    if not isinstance(model, Generator):
        facts |= _weights_facts(model)
        model = Generator.load(model, device=device)
    generator = model

    def batches(count: int, labels: Labels) -> Iterator[Tensor]:
        for part in _ranges(count):
            latent = latents([seed + k for k in part], generator.latent_size) * truncation
            yield generator.images(latent, labels.numbers[part.start : part.stop]).permute(0, 3, 1, 2)

    return Fakes(
        name=generator.card.title,
        size=generator.size,
        channels=generator.channels,
        available=None,
        batches=batches,
        labels=lambda real, count: labels_like(generator, real, count),
        facts=facts,
    )


def labels_like(generator: Generator, real: ImageSet, count: int) -> Labels:
    """`count` labels as frequent as in the reference; all equally often where it has none, or others."""
    if not generator.classes:
        return Labels("none, an unconditional generator", [None] * count)
    other = unknown_class(real, generator.class_names)
    if real.labels is None or other:
        even = [k % generator.classes for k in range(count)]
        why = f"the reference has a class that the generator lacks, {other}" if other else "the reference has no labels"
        return Labels(f"every class equally often: {why}", even)
    known = known_labels(real, tuple(generator.class_names), "the reference")
    order = torch.randperm(len(real), generator=generator_for(len(real)))
    return Labels("as frequent as in the reference", known[order[torch.arange(count) % len(real)]].tolist())


@torch.inference_mode()
def fake_statistics(
    generator: nn.Module,
    extractor: Callable[[Tensor], Tensor],
    images: int,
    *,
    labels: Tensor | None = None,
    seed: int = 0,
) -> FeatureStatistics:
    """The feature statistics of `images` fakes of a network in training, cheap enough to be asked for now and then.

    The network is run as it stands, on its device and in its mode, in batches; `extractor` takes uint8 (N, C, H, W),
    the int64 `labels` are used in turn. ModelError where its images or features are not finite.
    """
    net: Any = generator
    device = next(generator.parameters()).device
    statistics = FeatureStatistics()
    for part in _ranges(images):
        label = None if labels is None else labels[torch.tensor(part) % len(labels)].to(device)
        made = net(latents([seed + k for k in part], net.latent_size).to(device), label)
        statistics.update(extractor(from_float(_finite(made) * 0.5 + 0.5, "uint8")))
    return statistics


def _finite(made: Tensor) -> Tensor:
    if not made.isfinite().all():
        raise ModelError("expected finite images, got NaN or infinity from the generator in training")
    return made.float()


def sample(available: int, count: int) -> Tensor:
    """`count` of so many indices, always the same, or all: sets are sorted by class, and their first are all of one."""
    if count >= available:
        return torch.arange(available)
    return torch.randperm(available, generator=generator_for(available))[:count]


def _ranges(count: int) -> Iterator[range]:
    return (range(k, min(k + _BATCH, count)) for k in range(0, count, _BATCH))


def _holds_images(source: str | Path) -> bool:
    """Whether this is a folder or archive of images, not a model; a run folder is one, even before it has weights."""
    if os.path.isdir(source):
        return not ((Path(source) / RUN_WEIGHTS).is_file() or holds_run(source))
    path = Path(source)
    is_set = is_archive(path) and not is_checkpoint(path)  # .pth.tar is called like an archive, and is none
    return "::" in str(source) or is_set or path.suffix.lower() in _ARRAYS_AND_TABLES


def _read(source: str | Path) -> Fakes:
    made = measured_pictures(source, "own")
    height, width = made.images.shape[2:]
    return Fakes(
        name=str(source),
        size=(height, width),
        channels=made.images.shape[1],
        available=len(made),
        batches=lambda count, _: (made.images[part] for part in sample(len(made), count).split(_BATCH)),
        labels=lambda real, count: Labels("as the images have them"),
        facts={"fakes_skipped": made.skipped, "fakes_prepared": list(made.notes)},
        notes=(*unused(made, "fakes"), *(note for note in made.notes if DIFFERENT_SIZES in note)),
    )


def _weights_facts(model: str | Path) -> dict[str, Any]:
    if is_checkpoint(model):
        try:
            return {"weights": "as saved", "weights_sha256": hashlib.sha256(Path(model).read_bytes()).hexdigest()}
        except OSError:
            return {}  # `Generator.load` tells what is wrong
    return {"weights": "averaged (EMA)", "weights_sha256": read_header(find_weights(model)).sha256}
