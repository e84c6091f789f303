"""What is restored and what it should become: pairs of files, or targets that a recipe degrades."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from imagesmith.data.datasets import degrade_whole
from imagesmith.data.files import Frame, ImageMeta, named, read_image
from imagesmith.data.pairs import images_by_name, pair_files
from imagesmith.data.pixels import check_unit_range
from imagesmith.data.shapes import rgb_on_white
from imagesmith.degrade import Chain
from imagesmith.errors import ImageError, UsageError
from imagesmith.tensors import from_float, imresize, luma, to_float


@dataclass(frozen=True)
class Made:
    """A picture that a recipe degraded, float (1, C, h, w) nominally in [0, 1], and what it tells a network besides."""

    picture: Tensor
    planes: Tensor
    """(1, planes, h, w), where holes are or how strongly a file was compressed; none, as a rule."""


@dataclass(frozen=True)
class Case:
    """One picture to restore: a file, or made from its target (1, C, H, W) in [0, 1]."""

    name: str
    given: Frame | Made
    target: Tensor
    hole: Tensor | None = None
    """bool (1, 1, H, W), True where the picture was taken out."""


def target_files(targets: Path, degraded: Path | None) -> list[tuple[Path, Path | None]]:
    """(target, degraded) sorted by name; see `pair_files`."""
    if degraded is None:
        return [(path, None) for path in images_by_name(targets).values()]
    return list(pair_files(targets, degraded).values())


def scale_of(target: Path, degraded: Path | None) -> int:
    """The scale of a pair by its widths, for a baseline that was given none."""
    if degraded is None:
        raise UsageError("a baseline enlarges by whatever it is told; pass the scale, or a folder of degraded images")
    return max(1, read_image(target).pixels.shape[1] // read_image(degraded).pixels.shape[1])


def file_cases(files: list[tuple[Path, Path | None]], scale: int) -> Iterator[Case]:
    """Files as they are, targets cut to a multiple of the scale; for a missing file what MATLAB's bicubic makes."""
    for target_path, degraded_path in files:
        frame = _cut(_read(target_path), scale, target_path)
        height, width = frame.pixels.shape[:2]
        source = _read(degraded_path) if degraded_path else _shrunk(frame, scale)
        frame, source = frame.on_scale_of(source), source.on_scale_of(frame)
        found_height, found_width = source.pixels.shape[:2]
        if (found_height * scale, found_width * scale) != (height, width):
            raise ImageError(
                f"expected a target {scale} times its degraded image of {found_width}x{found_height}, "
                f"got {width}x{height} (pair '{target_path.stem}')\nmake the pair fit, or leave the degraded images out"
            )
        yield Case(target_path.stem, source, colour(frame))


def made_cases(targets: list[Path], chain: Chain, *, gray: bool, holes: bool) -> Iterator[Case]:
    """What `chain` makes of each target at 8 bits, drawn by its place in the list; gray files have one channel's noise.

    `gray` replaces the target by its studio-range luma, rounded, as the JPEG papers do; `holes` says that the plane
    which the chain appends is a mask.
    """
    for index, path in enumerate(targets):
        frame = _cut(_read(path), chain.scale, path)
        target = from_float(colour(frame), "uint8")
        if gray:
            target = from_float(luma(to_float(target, "uint8")), "uint8")
        elif frame.colours == 1:
            target = target[:, :1]
        degraded, clean = degrade_whole(target[0], chain, index)
        picture, planes = degraded.tensor_split([degraded.shape[1] - chain.planes], dim=1)
        if not gray:
            picture, clean = (x.expand(-1, 3, -1, -1) for x in (picture, clean))
        yield Case(path.stem, Made(picture, planes), clean, planes > 0.5 if holes else None)


def colour(frame: Frame) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1]; gray is repeated, alpha laid on white."""
    return rgb_on_white(frame, "float32").permute(2, 0, 1).unsqueeze(0)


def _read(path: Path) -> Frame:
    """The picture of a file; ImageError where it has values that the metrics, which round to 8 bits, would not see."""
    frame = read_image(path)
    with named(path):
        check_unit_range(frame)
    return frame


def _cut(frame: Frame, scale: int, path: Path) -> Frame:
    height, width = (size // scale * scale for size in frame.pixels.shape[:2])
    if min(height, width) == 0:
        raise ImageError(f"'{path.name}' is smaller than the scale {scale}; remove it")
    return Frame(frame.pixels[:height, :width], frame.depth, frame.meta)


def _shrunk(target: Frame, scale: int) -> Frame:
    pixels = from_float(to_float(target.pixels, target.depth), "uint8").permute(2, 0, 1)
    meta = ImageMeta(format="png", mode=target.meta.mode)
    return Frame(imresize(pixels, 1 / scale).permute(1, 2, 0).contiguous(), "uint8", meta)
