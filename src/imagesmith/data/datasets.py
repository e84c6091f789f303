"""Training pairs: patches of clean photographs and what a degradation makes of them.

Patch k of a run depends on the seed and k alone - not on the batch, the worker or the process that asks for it - so an
interrupted run, a run with other workers and a run on two machines see the same data.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from imagesmith.data.files import Frame, read_header, read_image
from imagesmith.data.held_out import divide
from imagesmith.data.pixels import check_unit_range
from imagesmith.data.shapes import rgb_on_white
from imagesmith.data.sources import EARLIER, Item, list_items
from imagesmith.degrade import Chain
from imagesmith.degrade.deconvolved import kernel_as_found
from imagesmith.errors import ImageError, NothingUsableError, UsageError
from imagesmith.tensors import from_float, generator_for, imresize, to_float, to_gray
from imagesmith.tensors.deconvolution import deconvolution_planes
from imagesmith.tensors.edges import mirrored_crop

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PhotoFolder:
    """The usable photographs of a folder, decoded: uint8 (3, H, W) each, split once and for all."""

    training: list[Tensor]
    validation: list[Tensor]
    skipped: list[str]
    """One sentence for each file that is not used."""
    most_px: int | None
    """Side of the squares that stand for larger photographs, because all of them would not fit; None if they do."""
    unit: ClassVar[str] = "photographs"


def load_photos(
    folder: str | Path, validation_images: int, *, least_px: int, memory_bytes: float = math.inf
) -> PhotoFolder:
    """Decode every photograph below `folder` with sides of `least_px` and more; unreadable ones are listed, not fatal.

    Some are kept apart for validation, and what looks like those is left out, see `divide`. Where the decoded
    photographs would take more than `memory_bytes`, each large one is represented by a square from its middle.
    NothingUsableError if fewer than two are left, UsageError if even squares of `least_px` would take too much.
    """
    items = list_items([folder], recursive=True, into_runs=False)
    with ThreadPoolExecutor() as pool:
        sizes = [size for size in pool.map(size_of, items) if size is not None]
        most_px = largest_side(sizes, least_px, memory_bytes / 3)
        decoded = list(pool.map(lambda item: decoded_photo(item, least_px, most_px), items))
    # a list: patterns name folders whose pictures may have the same names
    usable = [(str(item.name), photo) for item, photo in zip(items, decoded, strict=True) if isinstance(photo, Tensor)]
    earlier = items.passed_over[EARLIER]
    skipped = [f"{earlier} results of an earlier restore"] if earlier else []
    skipped += [reason for reason in decoded if isinstance(reason, str)]
    if len(usable) < 2:
        listing = f"; first problem: {skipped[0]}" if skipped else ""
        raise NothingUsableError(
            f"expected at least 2 photographs of {least_px} pixels a side below {folder}, got {len(usable)}{listing}"
        )
    photos = [photo for _, photo in usable]
    training, validation, alike = divide(photos, [name for name, _ in usable], validation_images)
    return PhotoFolder(
        training=[photos[k] for k in training],
        validation=[photos[k] for k in validation],
        skipped=skipped + alike,
        most_px=most_px,
    )


def size_of(item: Item) -> tuple[int, int] | None:
    """Height and width as stored, not yet upright; None where the header tells nothing, which decoding will explain."""
    try:
        header = read_header(item.read())
    except (ImageError, OSError):
        return None
    return header.height, header.width


def largest_side(sizes: list[tuple[int, int]], least_px: int, most_area: float) -> int | None:
    """The largest square, in steps of 64 pixels, to which all `sizes` must be cut to have `most_area` together."""

    def area(side: float) -> float:
        return sum(min(height, side) * min(width, side) for height, width in sizes)

    if area(math.inf) <= most_area:
        return None
    for side in range(max(max(size) for size in sizes) // 64 * 64, least_px - 1, -64):
        if area(side) <= most_area:
            return side
    raise UsageError(
        f"{len(sizes):,} photographs are too many for {3 * most_area / 1e9:.1f} GB of memory, even cut to {least_px} "
        "pixels a side; raise data.memory_gb, or train on a part of them"
    )


def decoded_photo(item: Item, least_px: int, most_px: int | None) -> Tensor | str:
    """The middle of a photograph, no side longer than `most_px`, as `photo_of` gives it; or why it cannot be used."""
    frame = photo_frame(item, least_px)
    return frame if isinstance(frame, str) else photo_of(frame, most_px or max(frame.height, frame.width))


def photo_frame(item: Item, least_px: int) -> Frame | str:
    """A photograph as its file has it, or why it cannot be used."""
    try:
        frame = read_image(item.read())
        check_unit_range(frame)
    except (ImageError, OSError) as error:
        return f"{item.name}: {error}"
    height, width = frame.height, frame.width
    if min(height, width) < least_px:
        return f"{item.name}: {width}x{height} is smaller than {least_px} pixels a side"
    return frame


def photo_of(frame: Frame, most_px: int) -> Tensor:
    """The middle of a picture, no side longer than `most_px`, as uint8 (3, H, W).

    What is transparent lies on white: what files hide beneath is seen by nobody.
    """
    pixels = middle(frame.pixels.permute(2, 0, 1), most_px).permute(1, 2, 0)
    return rgb_on_white(replace(frame, pixels=pixels), "uint8").permute(2, 0, 1).contiguous()


def middle(image: Tensor, side_px: int) -> Tensor:
    """The middle of (..., H, W), no side longer than `side_px`."""
    height, width = (min(size, side_px) for size in image.shape[-2:])
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


def middle_pair(pair: Pair, side_px: int) -> Pair:
    """The middle of a (degraded, target), no side of the degraded longer than `side_px`, and the same of the target."""
    degraded, target = pair
    scale = target.shape[1] // degraded.shape[1]
    height, width = (min(size, side_px) for size in degraded.shape[1:])
    top, left = (degraded.shape[1] - height) // 2, (degraded.shape[2] - width) // 2
    inside = target[:, top * scale : (top + height) * scale, left * scale : (left + width) * scale]
    return degraded[:, top : top + height, left : left + width], inside


@dataclass(frozen=True)
class Given:
    """Stands where a recipe would: the degraded pictures are given."""

    scale: int
    planes: int
    deconvolved: bool = False
    """Whether the planes are those of deconvolution; else they say nothing."""


class PairedPatches(Dataset[Pair]):
    """Endless patches of given pairs: item k is (degraded (3 + planes, p, p), target (3, p * scale, p * scale)).

    float32 in [0, 1], at the same place, flip and rotation of a pair drawn in proportion to its area; a share `gray`
    as luma. `pairs` are uint8, no degraded side below `patch_px`. `given` tells what the planes hold.
    """

    def __init__(self, pairs: list[Pair], given: Given, *, patch_px: int, seed: int, gray: float = 0.0) -> None:
        self.pairs, self.given, self.patch_px, self.seed, self.gray = pairs, given, patch_px, seed, gray
        self._areas = torch.tensor([degraded[0].numel() for degraded, _ in pairs]).cumsum(0)

    def __getitem__(self, index: int) -> Pair:
        rng = generator_for(self.seed, index)
        pair = self.pairs[int(torch.searchsorted(self._areas, _uniform(rng) * self._areas[-1]))]
        top, left = (int(_uniform(rng) * (size - self.patch_px + 1)) for size in pair[0].shape[1:])
        which, as_gray = int(_uniform(rng) * 8), _uniform(rng) < self.gray
        patches = []
        for image in pair:
            scale = image.shape[1] // pair[0].shape[1]
            side = self.patch_px * scale
            patch = image[:, top * scale : top * scale + side, left * scale : left * scale + side]
            patch = to_float(flip_and_rotate(patch, which), "uint8")
            patches.append(_as_colour(_luma(patch)) if as_gray else patch)
        return _told(patches[0], patches[1], self.given).contiguous(), patches[1].contiguous()


def whole_pair(pair: Pair, given: Given, multiple: int = 1) -> Pair:
    """(degraded, target), each (1, C, H, W) float32, of a uint8 pair; the degraded cut to a multiple of `multiple`."""
    height, width = (size // multiple * multiple for size in pair[0].shape[1:])
    scale = pair[1].shape[1] // pair[0].shape[1]
    degraded = to_float(pair[0][:, :height, :width], "uint8")
    target = to_float(pair[1][:, : height * scale, : width * scale], "uint8")
    return _told(degraded, target, given)[None], target[None]


def _told(degraded: Tensor, target: Tensor, given: Given) -> Tensor:
    """With its planes: 0, for of a given picture nothing is known, but for the kernel between it and its target."""
    if given.deconvolved:
        return torch.cat([degraded, deconvolution_planes(degraded, kernel_as_found(degraded, target))])
    return torch.cat([degraded, degraded.new_zeros(given.planes, *degraded.shape[1:])])


class DegradedPatches(Dataset[Pair]):
    """Endless patches: item k is (degraded (3 + planes, p, p), target (3, p * scale, p * scale)), float32 in [0, 1].

    A photograph is drawn in proportion to its area, then one of `shrink`, a position, a flip and a rotation; a share
    `gray` of them is degraded as one luma channel, which then stands in all three.
    """

    def __init__(
        self,
        photos: list[Tensor],
        chain: Chain,
        *,
        patch_px: int,
        shrink: tuple[float, ...],
        seed: int,
        gray: float = 0.0,
    ) -> None:
        self.chain, self.seed, self.gray = chain, seed, gray
        self.target_px = patch_px * chain.scale
        self.crop_px = self.target_px + 2 * chain.context_px
        # shrunk once, here: done per patch it would cost more than all the rest of a patch
        self._pools = [[_shrunk(photo, factor, self.target_px) for photo in photos] for factor in shrink]
        self._areas = [torch.tensor([photo[0].numel() for photo in pool]).cumsum(0) for pool in self._pools]

    def __getitem__(self, index: int) -> Pair:
        rng = generator_for(self.seed, index)
        pool = int(_uniform(rng) * len(self._pools))
        areas = self._areas[pool]
        photo = self._pools[pool][int(torch.searchsorted(areas, _uniform(rng) * areas[-1]))]
        clean = to_float(flip_and_rotate(self._crop(photo, rng), int(_uniform(rng) * 8)), "uint8")
        if self.gray and _uniform(rng) < self.gray:
            clean = _luma(clean)
        context, scale = self.chain.context_px, self.chain.scale
        target = _trim(clean, context, self.target_px)
        degraded = _trim(self.chain(clean, rng), context // scale, self.target_px // scale)
        return _as_colour(degraded, self.chain.planes).contiguous(), _as_colour(target).contiguous()

    def _crop(self, photo: Tensor, rng: torch.Generator) -> Tensor:
        """A random square of `crop_px`; where the photograph holds the patch but not all of its context, the patch lies
        anywhere in it and the context is mirrored."""
        top, left = (self._start(size, rng) for size in photo.shape[1:])
        return mirrored_crop(photo, top, left, self.crop_px, self.crop_px)

    def _start(self, size: int, rng: torch.Generator) -> int:
        """Where a crop begins along a side of `size` pixels; outside where it has to be mirrored."""
        if size < self.target_px:
            return (size - self.crop_px) // 2
        border = 0 if size >= self.crop_px else self.chain.context_px
        return int(_uniform(rng) * (size + 2 * border - self.crop_px + 1)) - border


def degrade_whole(photo: Tensor, chain: Chain, index: int, multiple: int = 1) -> Pair:
    """(degraded, target), each (1, C, H, W) float32, of a whole uint8 photograph cropped to fit `multiple`."""
    multiple = math.lcm(multiple, chain.scale)
    height, width = (size // multiple * multiple for size in photo.shape[1:])
    target = to_float(photo[:, :height, :width], "uint8")
    return chain(target, generator_for(index))[None], target[None]


def _luma(image: Tensor) -> Tensor:
    """(3, H, W) in [0, 1] -> (1, H, W), rounded to 8 bits as a gray file is."""
    return to_float(from_float(to_gray(image), "uint8"), "uint8")


def _as_colour(image: Tensor, planes: int = 0) -> Tensor:
    """One channel repeated three times; the `planes` that follow the picture are kept."""
    colours = image.shape[0] - planes
    return image if colours == 3 else torch.cat([image[:colours].expand(3, -1, -1), image[colours:]])


def _shrunk(photo: Tensor, factor: float, least_px: int) -> Tensor:
    """The photograph shrunk by `factor`, but not below `least_px` a side."""
    factor = max(factor, least_px / min(photo.shape[1:]))
    return imresize(photo, factor) if factor < 1 else photo


def _uniform(rng: torch.Generator) -> float:
    return float(torch.rand((), generator=rng, dtype=torch.float64))


def _trim(image: Tensor, border: int, size: int) -> Tensor:
    return image[:, border : border + size, border : border + size]


def flip_and_rotate(image: Tensor, which: int) -> Tensor:
    """One of the eight symmetries of the square, of pictures (..., H, W); 0 is the identity."""
    if which & 1:
        image = image.flip(-1)
    if which & 2:
        image = image.flip(-2)
    return image.transpose(-2, -1) if which & 4 else image
