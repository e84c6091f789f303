"""Existing photographs in a generator: the latent whose image is most like one, and variations around it.

The latent is searched as in StyleGAN2 (Karras et al. 2020, app. D), with several starts in place of its noise; then the
generator itself is tuned around it, as in pivotal tuning (Roich et al. 2022), on a copy.
"""

import copy
import itertools
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.data.files import Frame, read_image
from imagesmith.data.shapes import fit_frame, without_alpha
from imagesmith.errors import UsageError
from imagesmith.infer.generate import ALL, Generator, Sample, in_passes
from imagesmith.infer.images import unwrap
from imagesmith.infer.latents import SEED_LIMIT, around, checked_seeds, latents
from imagesmith.metrics import METRICS
from imagesmith.tensors import seed_for, to_float

_KINDS = {1: "gray", 2: "gray with alpha", 3: "RGB", 4: "RGBA"}

Features = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) in [0, 1] -> features (N, F) whose direction tells what is seen."""

_CANDIDATES = 256  # random latents that are looked at first, or four for each class
_LATENT_RATE, _TUNING_RATE = 0.1, 2e-3
_PRIOR, _FEATURES, _LOCALITY = 0.02, 0.05, 0.02  # weights of the terms beside the pixels
_NEIGHBOURS, _NEIGHBOURHOOD = 2, 0.4  # images a step that tuning is to leave alone, and their distance (see `around`)


@dataclass(frozen=True)
class Projection:
    """A photograph as a generator can say it; images are uint8 (H, W, C)."""

    target: Tensor
    """The photograph in the generator's size and channels."""
    latent: Tensor
    """(latent_size,)"""
    label: int | None
    found: Tensor
    """The image of the latent before the generator was tuned."""
    reconstruction: Tensor
    """The image of the latent after it."""
    generator: Generator
    """The tuned copy."""
    notes: tuple[str, ...]
    """What was done to the photograph, in sentences."""

    @property
    def psnr_rgb_found(self) -> float:
        """dB of `found` against the photograph."""
        return _psnr_rgb(self.found, self.target)

    @property
    def psnr_rgb(self) -> float:
        """dB of `reconstruction` against the photograph."""
        return _psnr_rgb(self.reconstruction, self.target)


def project(
    model: Generator | str | Path,
    image: Any,
    *,
    label: int | str | None = None,
    steps: int = 200,
    tuning_steps: int = 200,
    restarts: int = 4,
    features: Features | None = None,
    seed: int = 0,
    device: str = "auto",
    on_progress: Callable[[float], None] = lambda _: None,
) -> Projection:
    """The latent whose image is most like the photograph, and a copy of the generator tuned to show it.

    `image` is a path, Frame, PIL image, array or tensor, as for `Restorer`; it is cropped around its centre and resized
    to what the generator makes. Of many random latents the best `restarts` are improved for `steps`; the winner stays
    while the weights are tuned for `tuning_steps` (0: not at all). Without a `label` the winner brings its own.
    `features` adds what an extractor sees to what the pixels say. `on_progress` is told the finished share.
    """
    generator = model if isinstance(model, Generator) else Generator.load(model, device=device)
    for name, value, least in (("steps", steps, 0), ("tuning_steps", tuning_steps, 0), ("restarts", restarts, 1)):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise UsageError(f"expected a whole number of {name} of at least {least}, got {value!r}")
    if label == ALL and ALL not in generator.class_names:
        raise UsageError(f"expected one label for the photograph, got '{label}'; leave it out to have the likest found")
    frame = _one_frame(image)
    pixels = torch.from_numpy(fit_frame(frame, generator.size, generator.channels).copy())
    target = _Target(pixels, generator.device, features)
    latent, labels = _candidates(generator, target, label, restarts, seed)
    done, total = itertools.count(1), steps + tuning_steps

    def on_step() -> None:
        on_progress(next(done) / total)

    latent, distance = _improve(generator, target, latent, labels, steps=steps, on_step=on_step)
    best = int(distance.argmin())
    latent, label = latent[best : best + 1], labels[best]
    tuned = _tune(generator, target, latent, label, steps=tuning_steps, on_step=on_step)
    return Projection(
        target=pixels,
        latent=latent[0].cpu(),
        label=label,
        found=generator.images(latent, [label])[0],
        reconstruction=tuned.images(latent, [label])[0],
        generator=tuned,
        notes=_notes(frame, generator),
    )


def _one_frame(image: Any) -> Frame:
    if isinstance(image, str | Path):
        return read_image(image)
    frames = [image] if isinstance(image, Frame) else unwrap(image)[0]
    if len(frames) != 1:
        raise UsageError(f"expected one photograph, got {len(frames)}")
    return frames[0]


def variations(projection: Projection, seeds: Iterable[int], *, strength: float = 0.3) -> Iterator[Sample]:
    """One image for each seed near the projected photograph.

    At `strength` 0 all are its reconstruction, at 1 they have nothing in common with it but the label.
    """
    if not isinstance(strength, numbers.Real) or isinstance(strength, bool) or not 0 <= strength <= 1:
        raise UsageError(f"expected a strength from 0 (the photograph) to 1 (anything), got {strength!r}")
    return _varied(projection, checked_seeds(seeds), strength)


def _varied(projection: Projection, seeds: Iterable[int], strength: float) -> Iterator[Sample]:
    label = projection.label
    for part in in_passes(seeds):
        images = projection.generator.images(around(projection.latent, part, strength), [label] * len(part))
        yield from (Sample(seed, label, image) for seed, image in zip(part, images, strict=True))


class _Target:
    """What images are compared with: the photograph at several sizes, and its features."""

    def __init__(self, image: Tensor, device: torch.device, features: Features | None) -> None:
        pixels = _seen(to_float(image.permute(2, 0, 1).unsqueeze(0), "uint8").to(device))
        self._levels = _pyramid(pixels)
        self._extract = features
        self._features = None if features is None else F.normalize(features(pixels).flatten(1), dim=1).detach()

    def distance(self, made: Tensor) -> Tensor:
        """(N,) of images (N, C, H, W) in [-1, 1]: the mean squared error over all sizes, and that of the features."""
        made = _seen(made * 0.5 + 0.5)
        pairs = zip(_pyramid(made), self._levels, strict=True)
        distance = torch.stack([(a - b).square().mean(dim=(1, 2, 3)) for a, b in pairs]).mean(dim=0)
        if self._extract is not None and self._features is not None:
            seen = F.normalize(self._extract(made.clamp(0, 1)).flatten(1), dim=1)
            distance = distance + _FEATURES * (seen - self._features).square().sum(dim=1)
        return distance


def _seen(images: Tensor) -> Tensor:
    """Images in [0, 1] with the colours that they have on white, beside their alpha: what that hides does not count."""
    return torch.cat([without_alpha(images), images[:, -1:]], dim=1) if images.shape[1] in (2, 4) else images


def _pyramid(images: Tensor) -> list[Tensor]:
    """The images, halved again and again while both sides have 8 pixels: coarse errors count as much as fine ones."""
    levels = [images]
    while min(levels[-1].shape[-2:]) >= 8:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _candidates(
    generator: Generator, target: _Target, label: int | str | None, restarts: int, seed: int
) -> tuple[Tensor, list[int | None]]:
    """The `restarts` best of many random latents (restarts, latent_size), and their labels."""
    seeds = [seed_for(seed, k) % SEED_LIMIT for k in range(max(_CANDIDATES, 4 * generator.classes, restarts))]
    labels = [generator.labels(each, label)[0] for each in seeds]
    drawn = latents(seeds, generator.latent_size).to(generator.device)
    with torch.no_grad():
        distances = [
            target.distance(_made(generator.net, drawn[part], [labels[k] for k in part]))
            for part in in_passes(range(len(seeds)))
        ]
    best = torch.cat(distances).topk(restarts, largest=False).indices.tolist()
    return drawn[best], [labels[k] for k in best]


def _improve(
    generator: Generator,
    target: _Target,
    start: Tensor,
    labels: list[int | None],
    *,
    steps: int,
    on_step: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """The latents after `steps` of Adam, all at once, and their distances (N,)."""
    latent = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([latent], lr=_LATENT_RATE, betas=(0.9, 0.99))
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = _LATENT_RATE * _falling(step / steps)
        # normal latents of d numbers are about sqrt(d) long, and of others the generator knows nothing
        length = latent.square().mean(dim=1).sqrt()
        loss = target.distance(_made(generator.net, latent, labels)) + _PRIOR * (length - 1).square()
        optimiser.zero_grad()
        loss.sum().backward()  # the starts do not know each other
        optimiser.step()
        on_step()
    with torch.no_grad():
        return latent.detach(), target.distance(_made(generator.net, latent, labels))


def _tune(
    generator: Generator,
    target: _Target,
    latent: Tensor,
    label: int | None,
    *,
    steps: int,
    on_step: Callable[[], None],
) -> Generator:
    """A copy whose image of `latent` (1, D) is nearer to the target, and whose images around it hardly moved.

    Where the last step is farther from it than the first was, the copy is as it was when it was nearest.
    """
    tuned = copy.copy(generator)
    tuned.net = copy.deepcopy(generator.net).requires_grad_(True)
    optimiser = torch.optim.Adam(tuned.net.parameters(), lr=_TUNING_RATE, betas=(0.9, 0.99))
    centre, seeds = latent[0].cpu(), itertools.count()
    distances, nearest = list[float](), copy.deepcopy(tuned.net.state_dict())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = _TUNING_RATE * _falling(step / steps)
        near = around(centre, itertools.islice(seeds, _NEIGHBOURS), _NEIGHBOURHOOD).to(latent.device)
        with torch.no_grad():
            before = _made(generator.net, near, [label] * _NEIGHBOURS)
        made = _made(tuned.net, torch.cat([latent, near]), [label] * (1 + _NEIGHBOURS))
        distance = target.distance(made[:1]).mean()
        distances.append(distance.item())
        if distances[-1] < min(distances[:-1], default=math.inf):
            nearest = copy.deepcopy(tuned.net.state_dict())
        loss = distance + _LOCALITY * (made[1:] - before).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        on_step()
    tuned.net.requires_grad_(False)
    if distances and not target.distance(_made(tuned.net, latent, [label])).item() < distances[0]:
        tuned.net.load_state_dict(nearest)
    return tuned


def _falling(progress: float) -> float:
    """1 at the start, 0 at the end, along a half cosine."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def _made(net: nn.Module, latent: Tensor, labels: Sequence[int | None]) -> Tensor:
    """Images (N, C, H, W) in [-1, 1], with gradients."""
    return net(latent, None if labels[0] is None else torch.tensor(labels, device=latent.device))


def _psnr_rgb(image: Tensor, target: Tensor) -> float:
    """dB of uint8 images (H, W, C) as they look on white."""
    pair = [without_alpha(to_float(each.permute(2, 0, 1).unsqueeze(0), "uint8")) for each in (image, target)]
    return METRICS["psnr_rgb"].function(pair[0], pair[1], 0).item()


def _notes(frame: Frame, generator: Generator) -> tuple[str, ...]:
    height, width, channels = frame.pixels.shape
    notes = list(frame.meta.notes)
    if (height, width) != generator.size:
        to = f"{generator.size[1]}x{generator.size[0]}"
        notes.append(f"cropped around the centre and resized from {width}x{height} to {to}, the generator's size")
    if channels != generator.channels:
        notes.append(f"turned from {_KINDS[channels]} into {_KINDS[generator.channels]}, as the generator makes")
    return tuple(notes)
