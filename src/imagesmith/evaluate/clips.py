"""Measuring restorers on clips by the protocol of Vid4: all frames of every clip, and nothing cropped."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.configs import Part, recipe
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import ImageError, UsageError, not_one_of
from imagesmith.evaluate.clip_cases import CHUNK, degraded_frames, find_pairs
from imagesmith.evaluate.report import Report, caption_of, software
from imagesmith.evaluate.subjects import ClipSubject, clip_subject_of
from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.metrics import CLIP_METRICS, METRICS, MetricCard
from imagesmith.metrics.temporal import target_flow

PROTOCOL = (
    "both clips rounded to 8 bits, {frames}, 0 pixels cropped at each edge, averaged over the frames of each clip, "
    "then over clips"
)
PAPERS = {
    "bi": ("bicubic", "BI: MATLAB-convention antialiased bicubic (imresize) to 1/{scale}, 8 bits"),
    "bd": (
        "gaussian_down",
        "BD: Gaussian of sigma 1.6 (12x12, edges replicated), every {scale}th pixel from the {first}th, 8 bits",
    ),
}
"""The degradations of the papers on films: the part of a recipe, and what it is in words."""


def evaluate_clips(
    restorer: VideoRestorer | Restorer | str | Path,
    targets: str | Path,
    degraded: str | Path | None,
    metrics: Sequence[str] | None,
    *,
    degrade: str | Sequence[Part] | None,
    scale: int | None,
    frames: int | None,
    state: bool,
    temporal: bool,
    device: str,
    dtype: str,
) -> Report:
    """`evaluate_restorer` for clips."""
    if frames is not None and frames < 1:
        raise UsageError(f"expected at least 1 frame of each clip, got {frames}")
    subject = clip_subject_of(restorer, scale, state=state, temporal=temporal, device=device, dtype=dtype)
    clips = find_pairs(Path(targets), Path(degraded) if degraded else None)
    parts, words = _input(subject, scale, degrade, degraded)
    chain = Chain(tuple(build_degradation(part.name, part.options) for part in parts))
    scale = subject.scale or scale or chain.scale
    if parts and chain.scale != scale:
        raise UsageError(f"'{subject.name}' enlarges by {scale}, got a recipe that shrinks by {chain.scale}")
    if chain.planes:
        raise UsageError(
            "expected a recipe without planes for clips, such as a codec's tables or holes; leave them out"
        )
    if subject.name == "none" and scale > 1:
        raise UsageError(f"expected degraded clips of the targets' size for the baseline none, got a scale of {scale}")
    cards = _cards(metrics or (("psnr_y", "ssim_y") if scale > 1 else ("psnr_rgb", "ssim_y")))
    rows, counts, notes = [], {}, {}
    for clip in clips:
        said: list[str] = []
        pairs = degraded_frames(clip, chain, scale, frames, said)
        scores, counts[clip.name] = _scores(clip.name, _restored(pairs, subject, scale), cards)
        rows.append({"name": clip.name, **scores})
        notes |= {clip.name: said} if said else {}
    provenance = {
        "model": subject.name,
        "scale": scale,
        **subject.facts,
        "protocol": PROTOCOL.format(frames="all frames" if frames is None else f"the first {frames} frames"),
        "metrics": {card.name: card.paper for card in cards},
        "input": words,
        **({"recipe": [part.model_dump() for part in parts]} if parts else {}),
        "targets": str(targets),
        "frames": counts,
        **({"notes": notes} if notes else {}),
        **software(),
    }
    summary = {card.name: sum(row[card.name] for row in rows) / len(rows) for card in cards}
    return Report(rows, summary, provenance, caption_of(provenance), rows_are="clip")


def _input(
    subject: ClipSubject, scale: int | None, degrade: str | Sequence[Part] | None, degraded: str | Path | None
) -> tuple[tuple[Part, ...], str]:
    """The recipe that damages the targets, empty where damaged clips are given, and in words what the input is."""
    scale = subject.scale or scale
    if degraded is not None:
        if degrade:
            raise UsageError("expected degraded clips or a recipe that makes them, got both; leave one out")
        if scale is None:
            raise UsageError(f"'{subject.name}' enlarges by whatever it is told; pass the scale (-s)")
        return (), str(degraded)
    if degrade is None and scale not in (None, 1):
        degrade = "bi"
    papers = PAPERS.get(degrade) if isinstance(degrade, str) else None
    if not degrade or (papers and scale == 1):
        raise UsageError(
            f"expected something that damages the clips for '{subject.name}', got {degrade or 'the targets alone'}\n"
            "name a recipe (--degrade gaussian_noise:sigma=[25,25],rounded=0), or for baselines a scale (-s 4)"
        )
    if papers:
        (part, words), scale = papers, scale or 4
        return (Part(name=part, options={"scale": scale}),), words.format(scale=scale, first=scale // 2)
    parts = recipe(degrade) if isinstance(degrade, str) else tuple(degrade)
    made = " + ".join(f"{part.name} {part.options}" for part in parts)
    drawn = f"strength drawn for every {CHUNK} frames by the clip's number, noise anew for each"
    return parts, f"{made}, {drawn}"


def _cards(names: Sequence[str]) -> list[MetricCard]:
    known = METRICS | CLIP_METRICS
    for name in names:
        if name not in known:
            raise UsageError(not_one_of("metrics", name, known))
        if known[name].needs == "hole":
            raise UsageError(f"{name} is measured inside holes, got clips; choose another metric")
    return [known[name] for name in names]


def _restored(
    pairs: Iterator[tuple[Tensor, Tensor]], subject: ClipSubject, scale: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(restored, target) of each frame; a restorer may look ahead, so that targets wait for their turn."""
    waiting: deque[Tensor] = deque()

    def given() -> Iterator[Tensor]:
        for degraded, target in pairs:
            waiting.append(target)
            yield degraded

    for restored in subject.restore(given(), scale):
        yield restored, waiting.popleft()


def _scores(
    name: str, pairs: Iterator[tuple[Tensor, Tensor]], cards: Sequence[MetricCard]
) -> tuple[dict[str, float], int]:
    """The means over a clip's frames, or pairs of frames in which something can be told; and how many frames it has."""
    values: dict[str, list[float]] = {card.name: [] for card in cards}
    before, count = None, 0
    for now in pairs:
        count += 1
        try:
            _score(now, before, cards, values)
        except ImageError as error:
            raise ImageError(f"'{name}': {error}") from None
        before = now
    for card in cards:
        if not values[card.name]:
            raise ImageError(f"'{name}': {card.name} needs two frames, got {count}; leave {card.name} out")
    return {card: float(torch.tensor(each, dtype=torch.float64).nanmean()) for card, each in values.items()}, count


def _score(
    now: tuple[Tensor, Tensor],
    before: tuple[Tensor, Tensor] | None,
    cards: Sequence[MetricCard],
    values: dict[str, list[float]],
) -> None:
    """Add what (restored, target) of a frame, and the frame before, score."""
    followed: list[Any] = [] if before is None else [torch.cat(two) for two in zip(before, now, strict=True)]
    flow = target_flow(followed[1], 0) if followed and any(card.needs == "motion" for card in cards) else None
    for card in cards:
        if card.needs == "target":
            values[card.name].append(float(card.function(*now, 0)))
        elif followed:
            values[card.name].append(float(card.function(*followed, 0, *([flow] if card.needs == "motion" else []))))
