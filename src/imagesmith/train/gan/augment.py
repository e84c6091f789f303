"""Differentiable augmentation for the discriminator's eyes, and the rule that adapts how often it acts.

Real and fake images pass through the same transforms before the discriminator sees them, and the generator's gradient
comes back through them (Zhao et al. 2020; Karras et al. 2020). While each transform leaves enough images alone, the
generator does not learn to make augmented ones.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.tensors.warping import sampled

FLIP, SHIFT, ZOOM, TURN, BRIGHTNESS, CONTRAST, SATURATION, CUTOUT = range(8)
DRAWS = (8, 3)
"""Uniform numbers that one image needs: for each transform whether it acts, and up to two amounts."""


def draw_augmentations(count: int, rng: torch.Generator) -> Tensor:
    """(count, *DRAWS) in [0, 1): all chance that `Augment` needs for `count` images, whatever its strength."""
    return torch.rand(count, *DRAWS, generator=rng)


@dataclass(frozen=True)
class Augment:
    """(N, C, H, W) in [-1, 1] of 1 to 4 channels -> the same, each transform acting on each image by chance.

    Amounts are the largest ones, 0 switches a transform off. With 2 or 4 channels the last one is alpha, which moves
    with the image but keeps its values; saturation needs three colours. Twice differentiable by the images.
    """

    flip: bool = True
    """Mirror left and right half of the images on which it acts; not for text and digits."""
    shift: float = 0.125
    """Move by whole pixels, as a share of the side."""
    zoom: float = 0.2
    """Enlarge or shrink, in octaves."""
    turn: float = 10.0
    """Rotate, in degrees."""
    brightness: float = 0.4
    """Add to all colours."""
    contrast: float = 0.5
    """Multiply all colours, in octaves."""
    saturation: float = 1.0
    """Multiply the distance from grey, in octaves."""
    cutout: float = 0.4
    """Side of a grey box, as a share of the image's."""
    padding: Literal["reflection", "zeros"] = "reflection"
    """What lies outside an image: its mirror image or mid-grey."""

    def __call__(self, images: Tensor, strength: float, rng: torch.Generator) -> Tensor:
        """`images`, each transform acting with probability `strength`; the images themselves at 0."""
        return self.apply(images, strength, draw_augmentations(len(images), rng)) if strength > 0 else images

    def apply(self, images: Tensor, strength: float | Tensor, draws: Tensor) -> Tensor:
        """The transforms that `draws` (see `draw_augmentations`) stands for: the same ones whatever the images."""
        assert draws.shape == (len(images), *DRAWS), f"expected draws {(len(images), *DRAWS)}, got {draws.shape}"
        amounts = (2 * draws[..., 1:] - 1) * (draws[..., :1] < strength)  # in [-1, 1], and 0 changes nothing
        # an accelerator would have to be waited for to learn that a transform acts on no image
        moves, paints, cuts = (
            draws.device.type != "cpu" or bool(part.any())
            for part in (amounts[:, :4], amounts[:, 4:7], amounts[:, CUTOUT])
        )
        amounts = amounts.to(images.device, torch.promote_types(images.dtype, torch.float32), non_blocking=True)
        if moves:
            with torch.autocast(images.device.type, enabled=False):  # places need all their digits
                images = self._move(images, amounts)
        if paints:
            images = self._paint(images, amounts)
        return self._cut(images, amounts) if cuts and self.cutout > 0 else images

    def _move(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Flip, shift, zoom and turn in one bilinear sampling; flips and shifts alone move whole pixels."""
        height, width = images.shape[-2:]
        size = torch.stack([amounts.new_full((), side) for side in (width, height)])
        mirror = 1 - 2.0 * (amounts[:, FLIP, 0] > 0) if self.flip else torch.ones_like(amounts[:, FLIP, 0])
        step = torch.exp2(self.zoom * amounts[:, ZOOM, 0])
        angle = torch.deg2rad(self.turn * amounts[:, TURN, 0])
        cos, sin = step * angle.cos(), step * angle.sin()
        # affine_grid counts both sides from -1 to 1, so turning needs the ratio of the sides
        rows = [mirror * cos, -sin * (height / width), mirror * sin * (width / height), cos]
        linear = torch.stack(rows, dim=1).view(-1, 2, 2)
        shift = (self.shift * size * amounts[:, SHIFT]).round() * 2 / size
        matrix = torch.cat([linear, shift[:, :, None]], dim=2)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        elsewhere = sampled(images.to(grid.dtype), grid, self.padding)
        moved = (matrix != torch.eye(2, 3, dtype=matrix.dtype, device=matrix.device)).flatten(1).any(1)
        return torch.where(moved.view(-1, 1, 1, 1), elsewhere.to(images.dtype), images)

    def _paint(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Saturation, contrast and brightness of the colours."""
        colours = _colours(images)
        amounts = amounts.to(images.dtype)[..., 0, None, None, None]
        colour = images[:, :colours]
        if colours == 3 and self.saturation > 0:
            grey = colour.mean(1, keepdim=True)
            colour = grey + (colour - grey) * torch.exp2(self.saturation * amounts[:, SATURATION])
        colour = colour * torch.exp2(self.contrast * amounts[:, CONTRAST]) + self.brightness * amounts[:, BRIGHTNESS]
        return torch.cat([colour, images[:, colours:]], dim=1)

    def _cut(self, images: Tensor, amounts: Tensor) -> Tensor:
        """A box of mid-grey colour whose centre lies anywhere in the image."""
        inside = torch.ones(len(images), 1, 1, 1, dtype=torch.bool, device=images.device)
        for axis, side in enumerate(images.shape[-2:]):
            places = (torch.arange(side, device=images.device) * 2 + 1) / side - 1
            near = (places - amounts[:, CUTOUT, axis, None]).abs() < self.cutout
            inside = inside & near.view(-1, 1, *((side, 1) if axis == 0 else (1, side)))
        acts = (amounts[:, CUTOUT, 0] != 0).view(-1, 1, 1, 1)
        is_colour = torch.arange(images.shape[1], device=images.device) < _colours(images)
        return images.masked_fill(inside & acts & is_colour.view(1, -1, 1, 1), 0)


def _colours(images: Tensor) -> int:
    """How many channels of (N, C, H, W) are colour: all but the last of 2 or 4."""
    return images.shape[1] - (images.shape[1] in (2, 4))


@dataclass
class AdaptiveStrength:
    """The probability with which augmentation acts: up while the discriminator overfits, down otherwise.

    The controller of Karras et al. 2020 (sec. 3.2), with an upper limit, because augmentation that hardly ever leaves
    an image alone leaks into what is generated. All its memory is in its fields, so it resumes exactly.
    """

    target: float = 0.6
    """Overfitting that is put up with: 0.6 for the mean sign of real logits or of pairs, 0.5 for a held-out gap."""
    limit: float = 0.8
    """Highest strength."""
    speed_images: int = 500_000
    """Images in which the strength can go from 0 to 1."""
    every: int = 4
    """Observations that are averaged before the strength moves, because one batch is a noisy witness."""
    strength: float = 0.0
    """The probability now."""
    total: float = 0.0
    images: int = 0
    observations: int = 0
    warned: bool = False

    def observe(self, overfitting: float, images: int) -> str | None:
        """Move by what a batch of `images` images tells; a sentence the first time that the limit is reached."""
        self.total += overfitting
        self.images += images
        self.observations += 1
        if self.observations < self.every:
            return None
        direction = 1 if self.total / self.observations > self.target else -1
        self.strength = min(self.limit, max(0.0, self.strength + direction * self.images / self.speed_images))
        self.total, self.images, self.observations = 0.0, 0, 0
        if self.strength < self.limit or self.warned:
            return None
        self.warned = True
        return (
            f"augmentation is at its limit of {self.limit:.2f} and the discriminator still overfits: "
            "more images would help, a smaller network or a larger gamma might"
        )
