"""Measuring restorers on clips by the protocol of Vid4: all frames of every clip, and nothing cropped."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.configs import Part, recipe
from imagesmith.data.files import DEPTHS
from imagesmith.data.video import is_video, open_video
from imagesmith.data.video.folders import frame_files
from imagesmith.degrade import Chain, build_degradation, degrade_clip
from imagesmith.errors import ImageError, NothingUsableError, UsageError, VideoError, not_one_of
from imagesmith.evaluate.report import Report, software
from imagesmith.evaluate.subjects import ClipSubject, clip_subject_of
from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.metrics import CLIP_METRICS, METRICS, MetricCard
from imagesmith.metrics.temporal import target_flow
from imagesmith.tensors import from_float, generator_for, to_float

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
CHUNK = 32
"""So many frames are degraded together and held in memory."""


@dataclass(frozen=True)
class _Clip:
    """A film or folder of frames that is the target, and the degraded one where there is one."""

    name: str
    number: int
    target: Path
    given: Path | None


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
    clips = _clips(Path(targets), Path(degraded) if degraded else None)
    scale, parts, words = _input(subject, scale, degrade, degraded)
    chain = Chain(tuple(build_degradation(part.name, part.options) for part in parts))
    if degraded is None and chain.scale != scale:
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
        pairs = _pairs(clip, chain, scale, frames, said)
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
    caption = f"{subject.name} x{scale}: {provenance['protocol']}; input: {words}"
    return Report(rows, summary, provenance, caption, rows_are="clip")


def holds_clips(targets: Path) -> bool:
    """Whether `targets` is a film, or a folder of films or of folders of frames; a folder of frames may be pictures."""
    try:
        return is_video(targets) or (targets.is_dir() and not frame_files(targets) and bool(_inside(targets)))
    except (OSError, VideoError):
        return False  # whoever reads the folder says why it cannot be read


def find_clips(targets: Path) -> dict[str, Path]:
    """A film, a folder of frames, or the films and folders of frames inside a folder, by name without ending.

    NothingUsableError where there is none, UsageError where two share a name.
    """
    if is_video(targets) or (targets.is_dir() and frame_files(targets)):
        return {targets.stem: targets}
    found = _inside(targets) if targets.is_dir() else []
    clips = {path.stem: path for path in found}
    if not clips:
        raise NothingUsableError(f"expected films or folders of frames in '{targets}', found none; pass their folder")
    if len(clips) < len(found):
        raise UsageError(f"expected one clip for each name in '{targets}', got several; rename or move them")
    return clips


def _inside(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if is_video(path) or (path.is_dir() and frame_files(path))]


def _clips(targets: Path, degraded: Path | None) -> list[_Clip]:
    """The clips with their degraded ones, by name; two single ones need not be called alike."""
    wanted = find_clips(targets)
    given = find_clips(degraded) if degraded else {}
    if len(wanted) == len(given) == 1:
        given = dict(zip(wanted, given.values(), strict=True))
    if degraded and (missing := sorted(wanted.keys() ^ given.keys())):
        raise UsageError(f"expected a degraded clip for every target and none besides, got '{missing[0]}' only once")
    return [_Clip(name, number, path, given.get(name)) for number, (name, path) in enumerate(wanted.items())]


def _input(
    subject: ClipSubject, scale: int | None, degrade: str | Sequence[Part] | None, degraded: str | Path | None
) -> tuple[int, tuple[Part, ...], str]:
    """The scale, the recipe and what is said about it."""
    if degraded is not None:
        if degrade:
            raise UsageError("expected degraded clips or a recipe that makes them, got both; leave one out")
        if (subject.scale or scale) is None:
            raise UsageError(f"'{subject.name}' enlarges by whatever it is told; pass the scale (-s)")
        return subject.scale or scale or 1, (), str(degraded)
    degrade = "bi" if degrade is None and (subject.scale or scale or 1) > 1 else degrade
    if not degrade:
        raise UsageError(
            f"expected damaged clips for '{subject.name}', got the targets alone\n"
            "name what damages them (--degrade gaussian_noise:sigma=[25,25],rounded=0, or bi with -s 4)"
        )
    if isinstance(degrade, str) and degrade in PAPERS:
        scale = subject.scale or scale or 4
        part, words = PAPERS[degrade]
        parts = (Part(name=part, options={"scale": scale}),)
        return scale, parts, words.format(scale=scale, first=scale // 2)
    parts = recipe(degrade) if isinstance(degrade, str) else tuple(degrade)
    made = " + ".join(f"{part.name} {part.options}" for part in parts)
    drawn = f"strength drawn for every {CHUNK} frames by the clip's number, noise anew for each"
    return subject.scale or scale or 1, parts, f"{made}, {drawn}"


def _cards(names: Sequence[str]) -> list[MetricCard]:
    known = METRICS | CLIP_METRICS
    for name in names:
        if name not in known:
            raise UsageError(not_one_of("metrics", name, known))
        if known[name].needs == "hole":
            raise UsageError(f"{name} is measured inside holes, got clips; choose another metric")
    return [known[name] for name in names]


# --- frames ---


def _pairs(
    clip: _Clip, chain: Chain, scale: int, count: int | None, said: list[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """(degraded, target) of each frame, (1, 3, ., .) in [0, 1], the target cut to a multiple of the scale."""
    wanted = (_cut(frame, scale, clip) for frame in _frames(clip.target, count, said))
    if clip.given is not None:
        for small, large in itertools.zip_longest(_frames(clip.given, count, said), wanted):
            if small is None or large is None or [side * scale for side in small.shape[1:]] != [*large.shape[1:]]:
                raise ImageError(
                    f"expected a target {scale} times its degraded clip, frame by frame; "
                    f"'{clip.target.name}' and '{clip.given.name}' differ in frames or size"
                )
            yield to_float(small, "uint8").unsqueeze(0), to_float(large, "uint8").unsqueeze(0)
        return
    for start in itertools.count():
        chunk = list(itertools.islice(wanted, CHUNK))
        if not chunk:
            return
        clean = to_float(torch.stack(chunk), "uint8")
        degraded = degrade_clip(chain, clean, generator_for(clip.number, start))
        yield from zip(degraded.split(1), clean.split(1), strict=True)


def _frames(path: Path, count: int | None, said: list[str]) -> Iterator[Tensor]:
    """The first `count` frames (3, H, W), rounded to 8 bits where they have more."""
    with open_video(path) as reader:
        for frame in itertools.islice(reader, count):
            pixels = frame.pixels.permute(2, 0, 1)
            depth = DEPTHS[pixels.dtype]
            yield pixels if depth == "uint8" else from_float(to_float(pixels, depth), "uint8")
        said += [note for note in reader.notes if note not in said]


def _cut(frame: Tensor, scale: int, clip: _Clip) -> Tensor:
    height, width = (side // scale * scale for side in frame.shape[-2:])
    if min(height, width) == 0:
        raise ImageError(f"'{clip.name}' is smaller than the scale {scale}; leave it out")
    return frame[:, :height, :width]


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
