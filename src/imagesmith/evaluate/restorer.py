"""Measuring restorers by the papers' protocols: pairs of files in, a report of rows, means and provenance out."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from imagesmith.data.files import Frame, ImageMeta, read_image
from imagesmith.data.formats import SUFFIXES
from imagesmith.errors import ImageError, NothingUsableError, UsageError, not_one_of
from imagesmith.evaluate.report import Report, software
from imagesmith.infer.restore import Restorer
from imagesmith.metrics import METRICS, MetricCard
from imagesmith.tensors import from_float, imresize, to_float
from imagesmith.zoo.cards import read_header
from imagesmith.zoo.weights import find_weights

PROTOCOL = "both images rounded to 8 bits, {crop} pixels cropped at each edge, averaged over images"
BICUBIC_INPUT = "MATLAB-convention antialiased bicubic (imresize) of the target cut to a multiple of the scale, 8 bits"


@dataclass(frozen=True)
class _Subject:
    """What is being measured; `scale` is None where only the pairs can tell it."""

    name: str
    scale: int | None
    restore: Callable[[Frame, int], Frame]
    facts: dict[str, Any]


def evaluate_restorer(
    restorer: Restorer | str | Path,
    targets: str | Path,
    degraded: str | Path | None = None,
    metrics: Sequence[str] = ("psnr_y", "ssim_y"),
    *,
    scale: int | None = None,
    device: str = "auto",
    dtype: str = "fp32",
) -> Report:
    """Restore every degraded image and score it against the target of the same file name.

    `restorer` is a Restorer, what `Restorer.load` takes (with `device` and `dtype`), or a baseline: 'bicubic' or
    'nearest'. Without the folder `degraded`, inputs are made from the targets by MATLAB's bicubic at `scale`, which
    otherwise only baselines need. For super-resolution the metrics crop `scale` pixels at each edge.
    Raises UsageError where files lack their counterpart, ImageError naming the pair where sizes do not fit.
    """
    if scale is not None and scale < 1:
        raise UsageError(f"expected a scale of at least 1, got {scale}")
    cards = [_metric(name) for name in metrics]
    pairs = _pairs(Path(targets), Path(degraded) if degraded else None)
    subject = _subject(restorer, scale, device, dtype)
    scale = subject.scale or _scale_of(*pairs[0])
    rows: list[dict[str, Any]] = []
    for name, source, target in _loaded(pairs, scale):
        restored = _colour(subject.restore(source, scale))
        try:
            scores = {card.name: float(card.function(restored, target, scale)) for card in cards}
        except ImageError as error:
            raise ImageError(f"'{name}': {error}") from None
        rows.append({"name": name, **scores})
    summary = {card.name: sum(row[card.name] for row in rows) / len(rows) for card in cards}
    provenance = {
        "model": subject.name,
        "scale": scale,
        **subject.facts,
        "protocol": PROTOCOL.format(crop=scale),
        "metrics": {card.name: card.paper for card in cards},
        "input": str(degraded) if degraded else BICUBIC_INPUT,
        "targets": str(targets),
        "images": len(rows),
        **software(),
    }
    caption = f"{subject.name} x{scale}: {provenance['protocol']}; input: {provenance['input']}"
    return Report(rows, summary, provenance, caption)


def _metric(name: str) -> MetricCard:
    if name not in METRICS:
        raise UsageError(not_one_of("metrics", name, METRICS))
    return METRICS[name]


def _subject(restorer: Restorer | str | Path, scale: int | None, device: str, dtype: str) -> _Subject:
    if isinstance(restorer, str) and restorer in BASELINES:
        enlarge = BASELINES[restorer]
        return _Subject(restorer, scale, lambda frame, factor: _baseline(frame, factor, enlarge), {})
    facts = {}
    if not isinstance(restorer, Restorer):
        facts["weights_sha256"] = read_header(find_weights(restorer)).sha256
        restorer = Restorer.load(restorer, device=device, dtype=dtype)
    if scale not in (None, restorer.scale):
        raise UsageError(f"'{restorer.card.name}' enlarges by {restorer.scale}, got scale={scale}; leave the scale out")
    facts["runtime"] = str(restorer.runtime)
    chosen = restorer
    return _Subject(chosen.card.name, chosen.scale, lambda frame, _: chosen.frame(frame), facts)


def _nearest(x: Tensor, scale: int) -> Tensor:
    return x.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


BASELINES: dict[str, Callable[[Tensor, int], Tensor]] = {"bicubic": imresize, "nearest": _nearest}
"""Plain enlargements of uint8 images that every restorer has to beat."""


def _baseline(frame: Frame, scale: int, enlarge: Callable[[Tensor, int], Tensor]) -> Frame:
    pixels = from_float(to_float(frame.pixels, frame.depth), "uint8")
    enlarged = enlarge(pixels.permute(2, 0, 1), scale).permute(1, 2, 0)
    return Frame(enlarged, "uint8", frame.meta)


# --- pairs ---


def _pairs(targets: Path, degraded: Path | None) -> list[tuple[Path, Path | None]]:
    """(target, degraded) by file name without its ending, sorted; every file has its counterpart."""
    wanted = _images(targets)
    if degraded is None:
        return [(wanted[name], None) for name in sorted(wanted)]
    given = _images(degraded)
    for missing, folder in ((sorted(wanted.keys() - given), degraded), (sorted(given.keys() - wanted), targets)):
        if missing:
            raise UsageError(
                f"expected a pair for every image, got {len(wanted)} targets and {len(given)} degraded images\n"
                f"'{missing[0]}' is missing in {folder}; add it or remove its counterpart"
            )
    return [(wanted[name], given[name]) for name in sorted(wanted)]


def _images(folder: Path) -> dict[str, Path]:
    if not os.path.isdir(folder):
        raise UsageError(f"expected a folder of images, got '{folder}'")
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise NothingUsableError(f"the folder '{folder}' cannot be read: {error.strerror}; check its rights") from None
    images: dict[str, Path] = {}
    for path in paths:
        if path.name.startswith("."):
            continue  # macOS leaves '._photo.png' beside photo.png
        if path.suffix.lower() in SUFFIXES and path.is_file():
            if path.stem in images:
                raise UsageError(f"expected one image for each name, got {images[path.stem].name} and {path.name}")
            images[path.stem] = path
    if not images:
        raise NothingUsableError(f"expected images ({', '.join(sorted(SUFFIXES))}) in '{folder}', found none")
    return images


def _scale_of(target: Path, degraded: Path | None) -> int:
    """The scale of a pair by its widths, for a baseline that was given none."""
    if degraded is None:
        raise UsageError("a baseline enlarges by whatever it is told; pass the scale, or a folder of degraded images")
    return max(1, read_image(target).pixels.shape[1] // read_image(degraded).pixels.shape[1])


def _loaded(pairs: list[tuple[Path, Path | None]], scale: int) -> Iterator[tuple[str, Frame, Tensor]]:
    """(name, degraded frame, target (1, 3, H, W) in [0, 1]), the target cut to a multiple of the scale."""
    for target_path, degraded_path in pairs:
        frame = read_image(target_path)
        height, width = (size // scale * scale for size in frame.pixels.shape[:2])
        if min(height, width) == 0:
            raise ImageError(f"'{target_path.name}' is smaller than the scale {scale}; remove it")
        frame = Frame(frame.pixels[:height, :width], frame.depth, frame.meta)
        source = read_image(degraded_path) if degraded_path else _shrunk(frame, scale)
        found_height, found_width = source.pixels.shape[:2]
        if (found_height * scale, found_width * scale) != (height, width):
            raise ImageError(
                f"expected a target {scale} times its degraded image of {found_width}x{found_height}, "
                f"got {width}x{height} (pair '{target_path.stem}')\nmake the pair fit, or leave the degraded images out"
            )
        yield target_path.stem, source, _colour(frame)


def _shrunk(target: Frame, scale: int) -> Frame:
    """What the papers give to a super-resolver for this target; see BICUBIC_INPUT."""
    pixels = from_float(to_float(target.pixels, target.depth), "uint8").permute(2, 0, 1)
    meta = ImageMeta(format="png", mode=target.meta.mode)
    return Frame(imresize(pixels, 1 / scale).permute(1, 2, 0).contiguous(), "uint8", meta)


def _colour(frame: Frame) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1]; gray is repeated, alpha left out."""
    pixels = to_float(frame.pixels, frame.depth).permute(2, 0, 1).unsqueeze(0)
    return pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1].expand(-1, 3, -1, -1)
