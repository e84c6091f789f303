"""Making images with a generator: one seed is one image, whatever the batch, the order or the day."""

import copy
import itertools
import numbers
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from imagesmith.errors import ModelError, UsageError, did_you_mean
from imagesmith.infer.latents import checked_seeds, drawn_label, latents, slerp
from imagesmith.nets import GENERATORS
from imagesmith.runtime.device import pick_device, possible_dtypes
from imagesmith.tensors import from_float
from imagesmith.zoo import Model, ModelCard, load_dcgan, load_model
from imagesmith.zoo.cards import is_checkpoint

IMAGES_PER_PASS = 16
"""Kernels sum in another order for another batch, so every pass has this many images, some of them for nothing.

Among powers of two it is about the fastest on CPUs. Within a batch of one size an image's place makes no difference."""

ALL, MIXED = "all", "mixed"
"""Labels that are no class: every class for every seed; one drawn for each seed."""

_NAMES_SHOWN = 12

Label = int | str | None
Each = TypeVar("Each")


@dataclass(frozen=True)
class Sample:
    """One generated image, uint8 (H, W, C), and what it was made of; `label` is None without classes."""

    seed: int
    label: int | None
    image: Tensor


class Generator:
    """A model ready to make images on one device.

    Computes in float32 unless told otherwise, without TF32 and with cuDNN's deterministic kernels: the same machine
    makes the same image again, bit for bit.
    """

    def __init__(self, model: Model, *, device: str = "auto", dtype: str = "auto") -> None:
        """`model` itself stays as it is; see `load` for the rest."""
        if model.card.net not in GENERATORS:
            raise ModelError(
                f"expected a generator, got '{model.card.title}', a network '{model.card.net}' for the task "
                f"{model.card.task}\nname the run folder or weight file of a GAN"
            )
        self.card: ModelCard = model.card
        self.device = pick_device(device)
        self._dtype = possible_dtypes(self.device, dtype)[0]
        self.net: Any = copy.deepcopy(model.net).eval().requires_grad_(False).to(self.device)
        self.latent_size: int = self.net.latent_size
        self.classes: int = self.net.classes
        self.channels: int = self.net.channels
        self.size: tuple[int, int] = self.net.size

    @classmethod
    def load(cls, name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto") -> Self:
        """The Generator of a shipped name, a run folder, a weight file, or a .pth file of PyTorch's DCGAN example.

        `device` is auto, cpu, cuda, cuda:N or mps; `dtype` fp32 (which auto means), bf16 or fp16.
        """
        model = load_dcgan(Path(name_or_path)) if is_checkpoint(name_or_path) else load_model(name_or_path)
        return cls(model, device=device, dtype=dtype)

    @property
    def class_names(self) -> Sequence[str]:
        """The name of every class; its number where the card has no names."""
        return self.card.class_names or tuple(map(str, range(self.classes)))

    def label(self, wanted: int | str) -> int:
        """The number of a class by name or number; a name goes first. UsageError with the nearest match."""
        if not self.classes:
            raise UsageError(f"'{self.card.title}' was trained without labels, got label '{wanted}'; leave it out")
        if isinstance(wanted, str) and wanted in self.class_names:
            return self.class_names.index(wanted)
        if isinstance(wanted, str) and not wanted.isdecimal():
            shown = ", ".join(self.class_names[:_NAMES_SHOWN])
            more = f", ... ({self.classes} in all)" if self.classes > _NAMES_SHOWN else ""
            guess = did_you_mean(wanted, self.class_names)
            raise UsageError(f"expected a label out of {shown}{more}, got '{wanted}'{guess}")
        try:
            if isinstance(wanted, bool):  # a number to Python
                raise TypeError
            number = int(wanted) if isinstance(wanted, str) else operator.index(wanted)
        except TypeError:
            raise UsageError(f"expected the name or the number of a label, got {wanted!r}") from None
        if not 0 <= number < self.classes:
            raise UsageError(f"expected a label from 0 to {self.classes - 1}, got {number}")
        return number

    def labels(self, seed: int, label: Label = None) -> list[int] | list[None]:
        """The labels with which `seed` is generated where the user asks for `label`; None for each without classes."""
        if not self.classes and label is None:
            return [None]
        if self.classes and (label is None or (label == MIXED and MIXED not in self.class_names)):
            return [drawn_label(seed, self.classes)]
        if self.classes and label == ALL and ALL not in self.class_names:
            return list(range(self.classes))
        assert label is not None
        return [self.label(label)]

    def images(self, latent: Tensor, label: Sequence[int | None] | None = None) -> Tensor:
        """Images uint8 (N, H, W, C) of latents (N, latent_size) and a label for each, on the CPU.

        An image depends on its own latent and label alone, bit for bit.
        """
        labels = [None] * len(latent) if label is None else label
        assert len(labels) == len(latent), f"expected a label for each of {len(latent)} latents, got {len(labels)}"
        parts = [
            self._pass(latent[k : k + IMAGES_PER_PASS], labels[k : k + IMAGES_PER_PASS])
            for k in range(0, len(latent), IMAGES_PER_PASS)
        ]
        return torch.cat(parts) if parts else torch.empty(0, *self.size, self.channels, dtype=torch.uint8)

    def samples(self, seeds: Iterable[int], *, label: Label = None, truncation: float = 1.0) -> Iterator[Sample]:
        """See `generate`."""
        check_truncation(truncation)
        if label is not None:
            self.labels(0, label)  # a mistake is told now, not when the first sample is asked for
        return self._samples(
            ((seed, each) for seed in checked_seeds(seeds) for each in self.labels(seed, label)), truncation
        )

    def _samples(self, wanted: Iterator[tuple[int, int | None]], truncation: float) -> Iterator[Sample]:
        for part in in_passes(wanted):
            seeds, labels = [seed for seed, _ in part], [label for _, label in part]
            images = self.images(latents(seeds, self.latent_size) * truncation, labels)
            yield from map(Sample, seeds, labels, images)

    @torch.inference_mode()
    def _pass(self, latent: Tensor, labels: Sequence[int | None]) -> Tensor:
        """`images` of at most IMAGES_PER_PASS latents, filled up to that many with zeros."""
        if latent.shape[1:] != (self.latent_size,):
            raise UsageError(
                f"expected latents of {self.latent_size} numbers for '{self.card.title}', "
                f"got the shape {tuple(latent.shape)}\ndraw them with latents(seeds, {self.latent_size})"
            )
        full = latent.new_zeros(IMAGES_PER_PASS, self.latent_size, dtype=torch.float32)
        full[: len(latent)] = latent
        label = None
        if self.classes:
            known = [0 if each is None else self.label(each) for each in labels]
            label = torch.tensor(known + [0] * (IMAGES_PER_PASS - len(known)), device=self.device)
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        lower = torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)
        with exact, lower:
            made = self.net(full.to(self.device), label)[: len(latent)]
        if not torch.isfinite(made).all():
            raise ModelError(f"'{self.card.title}' makes values that are not finite: its training has failed")
        return from_float(made.float() * 0.5 + 0.5, "uint8").permute(0, 2, 3, 1).contiguous().cpu()


def generate(
    model: Generator | str | Path,
    seeds: Iterable[int],
    *,
    label: Label = None,
    truncation: float = 1.0,
    device: str = "auto",
    dtype: str = "auto",
) -> Iterator[Sample]:
    """One image for each seed, as they are asked for; `model` as for `Generator.load`.

    `label` is a class by name or number, 'all' for every class of every seed, or 'mixed' (which None means) for one
    drawn from the seed. `truncation` scales the latents towards their mean, zero: below 1 images become more typical
    and less varied, at 0 there is one for each label.
    """
    return _ready(model, device, dtype).samples(seeds, label=label, truncation=truncation)


def interpolate(
    model: Generator | str | Path,
    seeds: Iterable[int],
    *,
    frames: int = 60,
    label: int | str | None = None,
    truncation: float = 1.0,
    loop: bool = False,
    device: str = "auto",
    dtype: str = "auto",
) -> Iterator[Tensor]:
    """Images uint8 (H, W, C) on the way from seed to seed, `frames` for each step, ending with the last seed's.

    The latents move on arcs. The label stays the same all the way: the given class, or the one of the first seed.
    With `loop` the way leads back to the first seed, whose image is not repeated at the end.
    """
    generator = _ready(model, device, dtype)
    way = checked_seeds(seeds)
    ends = list(itertools.islice(way, 2))  # the rest may be long, and is drawn as it comes
    if len(ends) < 2:
        raise UsageError(f"expected at least two seeds to go from one to the other, got {len(ends)}")
    if not isinstance(frames, numbers.Integral) or frames < 1:
        raise UsageError(f"expected a whole number of frames for each step, at least one, got {frames!r}")
    if label in (ALL, MIXED) and label not in generator.class_names:
        raise UsageError(f"expected one label for the whole way, got '{label}'")
    check_truncation(truncation)
    one = generator.labels(ends[0], label)[0]
    every = itertools.chain(ends, way, ends[:1] if loop else ())
    stops = (latents([seed], generator.latent_size)[0] * truncation for seed in every)
    return _walk(generator, stops, frames, one, arrives=not loop)


def check_truncation(truncation: float) -> None:
    """UsageError for what is no number from 0 to 1."""
    if not isinstance(truncation, numbers.Real) or isinstance(truncation, bool) or not 0 <= truncation <= 1:
        raise UsageError(f"expected a truncation from 0 (one average image) to 1 (all variety), got {truncation!r}")


def _walk(
    generator: Generator, stops: Iterator[Tensor], frames: int, label: int | None, *, arrives: bool
) -> Iterator[Tensor]:
    """`frames` images from each stop to the next; the last stop's image too if the walk `arrives` there."""
    start = next(stops)
    progress = torch.arange(frames) / frames
    for end in stops:
        for part in progress.split(IMAGES_PER_PASS):
            yield from generator.images(slerp(start, end, part), [label] * len(part))
        start = end
    if arrives:
        yield from generator.images(start[None], [label])


def in_passes(wanted: Iterable[Each]) -> Iterator[list[Each]]:
    """What one pass after the other takes, read no further ahead."""
    rest = iter(wanted)
    while part := list(itertools.islice(rest, IMAGES_PER_PASS)):
        yield part


def _ready(model: Generator | str | Path, device: str, dtype: str) -> Generator:
    return model if isinstance(model, Generator) else Generator.load(model, device=device, dtype=dtype)
