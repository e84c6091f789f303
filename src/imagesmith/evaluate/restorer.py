"""Measuring restorers by the papers' protocols: targets and degraded pictures in, a report of rows and means out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.configs import Part, recipe
from imagesmith.data.files import Frame
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import ImageError, UsageError, not_one_of
from imagesmith.evaluate.cases import Case, Made, colour, file_cases, made_cases, scale_of, target_files
from imagesmith.evaluate.report import Report, software
from imagesmith.infer.manifest import sha256_of
from imagesmith.infer.restore import Restorer
from imagesmith.metrics import METRICS, MetricCard
from imagesmith.runtime.tiling import run_tiled
from imagesmith.tensors import from_float, imresize, to_float, to_gray
from imagesmith.zoo.cards import is_foreign, read_header
from imagesmith.zoo.weights import find_weights

PROTOCOL = "both images rounded to 8 bits, {crop} pixels cropped at each edge, averaged over images"
BICUBIC_INPUT = "MATLAB-convention antialiased bicubic (imresize) of the target cut to a multiple of the scale, 8 bits"
GRAY_TARGETS = "gray: the targets' BT.601 studio-range luma, 8 bits"


@dataclass(frozen=True)
class _Subject:
    """What is being measured; `scale` is None where only the pairs can tell it."""

    name: str
    scale: int | None
    restore: Callable[[Frame | Made, int], Tensor]
    facts: dict[str, Any]


def evaluate_restorer(
    restorer: Restorer | str | Path,
    targets: str | Path,
    degraded: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    *,
    degrade: str | Sequence[Part] | None = None,
    gray: bool = False,
    scale: int | None = None,
    device: str = "auto",
    dtype: str = "fp32",
) -> Report:
    """Restore every degraded image and score it against the target of the same file name.

    `restorer` is a Restorer, what `Restorer.load` takes (with `device` and `dtype`), or a baseline: 'none' (the
    degraded image itself), 'bicubic' or 'nearest'. The inputs are the files in the folder `degraded`; or what the
    recipe `degrade` (parts, or a text for `imagesmith.configs.recipe`) makes of the targets, drawn by their number and
    given to the network as it is, unclipped noise and planes included; without either what MATLAB's bicubic makes of
    them at a `scale` above 1, which otherwise only baselines need. `gray` measures a recipe on the luma of the targets,
    as the JPEG papers do. Without `metrics` the input tells which are usual; for super-resolution `scale` pixels are
    cropped. Raises UsageError where files lack their counterpart, ImageError naming the pair where sizes do not fit.
    """
    if scale is not None and scale < 1:
        raise UsageError(f"expected a scale of at least 1, got {scale}")
    parts = recipe(degrade) if isinstance(degrade, str) else tuple(degrade or ())
    if parts and degraded:
        raise UsageError("expected degraded images or a recipe that makes them, got both; leave one out")
    if gray and not parts:
        raise UsageError("expected a recipe for gray targets (--gray), got files; convert the files, or pass --degrade")
    chosen = None if metrics is None else [_metric(name) for name in metrics]
    files = target_files(Path(targets), Path(degraded) if degraded else None)
    subject = _subject(restorer, scale, device, dtype)
    if parts:
        chain = Chain(tuple(build_degradation(part.name, part.options) for part in parts))
        scale, holes = _fitting_scale(subject, scale, chain), parts[-1].name == "holes"
        cases = made_cases([path for path, _ in files], chain, gray=gray, holes=holes)
    else:
        scale, holes = subject.scale or scale_of(*files[0]), False
        if scale == 1 and degraded is None:
            raise UsageError(
                f"expected damaged pictures for '{subject.name}', which keeps the size, got the targets alone\n"
                "name what damages them (--degrade gaussian_noise:sigma=[25,25]) or their folder (--degraded DIR)"
            )
        cases = file_cases(files, scale)
    if subject.name == "none" and scale > 1:
        raise UsageError(f"expected degraded images of the targets' size for the baseline none, got a scale of {scale}")
    cards = chosen or [METRICS[name] for name in _usual_metrics(parts, scale, gray)]
    if not holes and (unfit := [card.name for card in cards if card.needs == "hole"]):
        raise UsageError(f"{unfit[0]} is measured inside holes, got none; pass --degrade holes, or another metric")
    crop = scale if scale > 1 else 0
    rows = [{"name": case.name, **_scores(case, subject.restore(case.given, scale), cards, crop)} for case in cases]
    provenance = {
        "model": subject.name,
        "scale": scale,
        **subject.facts,
        "protocol": PROTOCOL.format(crop=crop),
        "metrics": {card.name: card.paper for card in cards},
        "input": _input_words(degraded, parts, gray),
        **({"recipe": [part.model_dump() for part in parts]} if parts else {}),
        "targets": str(targets),
        "images": len(rows),
        **software(),
    }
    summary = {card.name: sum(row[card.name] for row in rows) / len(rows) for card in cards}
    caption = f"{subject.name} x{scale}: {provenance['protocol']}; input: {provenance['input']}"
    return Report(rows, summary, provenance, caption)


def _metric(name: str) -> MetricCard:
    if name not in METRICS:
        raise UsageError(not_one_of("metrics", name, METRICS))
    return METRICS[name]


def _usual_metrics(parts: Sequence[Part], scale: int, gray: bool) -> tuple[str, ...]:
    """What papers on this kind of damage report."""
    last = parts[-1].name if parts else ""
    if gray:
        return ("psnr_gray", "psnr_b")
    if last == "holes":
        return ("psnr_hole", "psnr_rgb")
    if last == "jpeg":
        return ("psnr_y", "ssim_y", "psnr_b")
    return ("psnr_y", "ssim_y") if scale > 1 else ("psnr_rgb", "ssim_y")


def _scores(case: Case, restored: Tensor, cards: Sequence[MetricCard], crop: int) -> dict[str, float]:
    try:
        return {
            card.name: float(card.function(restored, case.target, crop, *([case.hole] if card.needs == "hole" else [])))
            for card in cards
        }
    except ImageError as error:
        raise ImageError(f"'{case.name}': {error}") from None


def _input_words(degraded: str | Path | None, parts: Sequence[Part], gray: bool) -> str:
    """Where the inputs came from, for the caption."""
    if not parts:
        return str(degraded) if degraded else BICUBIC_INPUT
    made = " + ".join(
        ":".join([part.name, ",".join(f"{key}={value}" for key, value in part.options.items())]).rstrip(":")
        for part in parts
    )
    return f"{made}, drawn by the image's number" + (f"; {GRAY_TARGETS}" if gray else "")


# --- what is measured ---


def _subject(restorer: Restorer | str | Path, scale: int | None, device: str, dtype: str) -> _Subject:
    if isinstance(restorer, str) and restorer in BASELINES:
        enlarge = BASELINES[restorer]
        return _Subject(restorer, scale, lambda given, factor: _baseline(given, factor, enlarge), {})
    facts = {}
    if not isinstance(restorer, Restorer):
        weights = find_weights(restorer)
        facts["weights_sha256"] = sha256_of(weights) if is_foreign(weights) else read_header(weights).sha256
        restorer = Restorer.load(restorer, device=device, dtype=dtype)
    if scale not in (None, restorer.scale):
        raise UsageError(f"'{restorer.card.name}' enlarges by {restorer.scale}, got scale={scale}; leave the scale out")
    facts["runtime"] = str(restorer.runtime)
    chosen = restorer
    return _Subject(chosen.card.name, chosen.scale, lambda given, _: _restored(chosen, given), facts)


def _fitting_scale(subject: _Subject, scale: int | None, chain: Chain) -> int:
    """The scale of the recipe, which a network and a baseline's `scale` have to be made for."""
    wanted = subject.scale or scale or chain.scale
    if wanted != chain.scale:
        raise UsageError(f"'{subject.name}' enlarges by {wanted}, got a recipe that shrinks by {chain.scale}")
    return chain.scale


def _restored(restorer: Restorer, given: Frame | Made) -> Tensor:
    """A file by the path of users; what a recipe made by the network alone, which sees it unclipped.

    Planes that the recipe does not tell are 0, as for a file of which nothing is known.
    """
    if isinstance(given, Frame):
        return colour(restorer.frame(given))
    net, picture = restorer.net, given.picture
    told = given.planes.new_zeros(1, net.planes, *picture.shape[2:])
    known = min(net.planes, given.planes.shape[1])
    told[:, :known] = given.planes[:, :known]
    if net.channels == 1:  # one colour after the other
        one_by_one = torch.cat([picture.transpose(0, 1), told.expand(picture.shape[1], -1, -1, -1)], dim=1)
        return run_tiled(net, one_by_one.to(restorer.runtime.device)).transpose(0, 1)
    x = torch.cat([picture.expand(-1, net.channels, -1, -1), told], dim=1)
    restored = run_tiled(net, x.to(restorer.runtime.device))
    if picture.shape[1] == 1:
        return to_gray(restored)
    return restored


def _nearest(x: Tensor, scale: int) -> Tensor:
    return x.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


BASELINES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "none": lambda x, _: x,
    "bicubic": imresize,
    "nearest": _nearest,
}
"""What every restorer has to beat: the degraded image itself, and plain enlargements of uint8 or float images."""


def _baseline(given: Frame | Made, scale: int, enlarge: Callable[[Tensor, int], Tensor]) -> Tensor:
    if isinstance(given, Made):
        return enlarge(given.picture, scale)
    pixels = from_float(to_float(given.pixels, given.depth), "uint8")
    enlarged = enlarge(pixels.permute(2, 0, 1), scale).permute(1, 2, 0)
    return colour(Frame(enlarged, "uint8", given.meta))
