"""Measuring restorers by the papers' protocols: targets and degraded pictures in, a report of rows and means out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from imagesmith.configs import Part, recipe
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import ConfigError, ImageError, UsageError, not_one_of
from imagesmith.evaluate.cases import Case, file_cases, made_cases, scale_of, target_files
from imagesmith.evaluate.clip_cases import holds_clips
from imagesmith.evaluate.clips import PAPERS, evaluate_clips
from imagesmith.evaluate.report import Report, caption_of, software
from imagesmith.evaluate.subjects import Subject, is_recurrent, subject_of
from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.metrics import CLIP_METRICS, METRICS, MetricCard
from imagesmith.presets import web_photo

PROTOCOL = "both images rounded to 8 bits, {crop} pixels cropped at each edge, averaged over images"
BICUBIC_INPUT = "MATLAB-convention antialiased bicubic (imresize) of the target cut to a multiple of the scale, 8 bits"
RECIPES = {"web_photo": web_photo}
"""Recipes with a name, which for pictures stands for all of their degradations, at the network's scale."""
GRAY_TARGETS = "gray: the targets' BT.601 studio-range luma, 8 bits"


def evaluate_restorer(
    restorer: Restorer | VideoRestorer | str | Path,
    targets: str | Path,
    degraded: str | Path | None = None,
    metrics: str | Sequence[str] | None = None,
    *,
    degrade: str | Sequence[Part] | None = None,
    gray: bool = False,
    scale: int | None = None,
    frames: int | None = None,
    state: bool = True,
    temporal: bool = False,
    device: str = "auto",
    dtype: str = "fp32",
) -> Report:
    """Restore every degraded image, or clip, and score it against the target of the same file name.

    `restorer` is a Restorer, what `Restorer.load` takes (with `device` and `dtype`), or a baseline: 'none' (the
    degraded image itself), 'bicubic' or 'nearest'. The inputs are the files in the folder `degraded`; or what the
    recipe `degrade` (parts, or a text for `imagesmith.configs.recipe`; names of `RECIPES` are spelt out) makes of the
    targets, drawn by their number and given to the network as it is, unclipped noise and planes included; without
    either what MATLAB's bicubic makes of them at a `scale` above 1, which otherwise only baselines need. `gray`
    measures a recipe on the luma of the targets, as the JPEG papers do. Without `metrics` the input tells which are
    usual; for super-resolution `scale` pixels are cropped. Raises UsageError where files lack their counterpart,
    ImageError naming the pair where sizes do not fit.

    Targets are clips where they are films or folders of folders of frames, and a folder of pictures is one where
    anything that only clips have is asked for: a recurrent model or a VideoRestorer; the first `frames` of each; a
    `state` that is off, so that a recurrent model remembers nothing; `temporal` smoothing of a model for pictures; a
    metric of `CLIP_METRICS`; or the degradations 'bi' and 'bd' of the papers on films. Nothing is cropped then.
    """
    if scale is not None and scale < 1:
        raise UsageError(f"expected a scale of at least 1, got {scale}")
    metrics = [metrics] if isinstance(metrics, str) else metrics
    if _asks_for_clips(
        restorer, Path(targets), metrics=metrics, degrade=degrade, frames=frames, state=state, temporal=temporal
    ):
        if gray:
            raise UsageError("expected pictures for gray targets (--gray), got clips; leave it out")
        return evaluate_clips(
            restorer,
            targets,
            degraded,
            metrics,
            degrade=degrade,
            scale=scale,
            frames=frames,
            state=state,
            temporal=temporal,
            device=device,
            dtype=dtype,
        )
    assert not isinstance(restorer, VideoRestorer), "a VideoRestorer asks for clips"
    parts = recipe(degrade) if isinstance(degrade, str) else tuple(degrade or ())
    return _evaluate_pictures(
        restorer, targets, degraded, metrics, parts=parts, gray=gray, scale=scale, device=device, dtype=dtype
    )


def _evaluate_pictures(
    restorer: Restorer | str | Path,
    targets: str | Path,
    degraded: str | Path | None,
    metrics: Sequence[str] | None,
    *,
    parts: tuple[Part, ...],
    gray: bool,
    scale: int | None,
    device: str,
    dtype: str,
) -> Report:
    """`evaluate_restorer` for pictures; `parts` are the recipe, none where files are given."""
    if parts and degraded:
        raise UsageError("expected degraded images or a recipe that makes them, got both; leave one out")
    if gray and not parts:
        raise UsageError("expected a recipe for gray targets (--gray), got files; convert the files, or pass --degrade")
    chosen = None if metrics is None else [_metric(name) for name in metrics]
    files = target_files(Path(targets), Path(degraded) if degraded else None)
    subject = subject_of(restorer, scale, device, dtype)
    asked, parts = parts, _spelt_out(parts, subject.scale or scale)
    cases, scale, holes = _cases(subject, files, parts, scale, gray)
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
        "input": _input_words(degraded, asked, gray),
        **({"recipe": [part.model_dump() for part in parts]} if parts else {}),
        "targets": str(targets),
        "images": len(rows),
        **software(),
    }
    summary = {card.name: sum(row[card.name] for row in rows) / len(rows) for card in cards}
    return Report(rows, summary, provenance, caption_of(provenance))


def _cases(
    subject: Subject, files: list[tuple[Path, Path | None]], parts: tuple[Part, ...], scale: int | None, gray: bool
) -> tuple[Iterator[Case], int, bool]:
    """What a recipe makes of the targets, or the files as they are; their scale, and whether they have holes."""
    if parts:
        chain = Chain(tuple(build_degradation(part.name, part.options) for part in parts))
        scale, holes = _fitting_scale(subject, scale, chain), parts[-1].name == "holes"
        return made_cases([path for path, _ in files], chain, gray=gray, holes=holes), scale, holes
    scale = subject.scale or scale_of(*files[0])
    if scale == 1 and files[0][1] is None:
        raise UsageError(
            f"expected damaged pictures for '{subject.name}', which keeps the size, got the targets alone\n"
            "name what damages them (--degrade gaussian_noise:sigma=[25,25]) or their folder (--degraded DIR)"
        )
    return file_cases(files, scale), scale, False


def _spelt_out(parts: tuple[Part, ...], scale: int | None) -> tuple[Part, ...]:
    """`parts` with those of `RECIPES` in the place of their names, for `scale` unless a name has its own."""
    return tuple(part for asked in parts for part in (_named(asked, scale) if asked.name in RECIPES else (asked,)))


def _named(asked: Part, scale: int | None) -> tuple[Part, ...]:
    told = {"scale": scale} | asked.options
    if told.keys() != {"scale"} or type(told["scale"]) is not int or told["scale"] < 2:
        raise ConfigError(
            f"expected the recipe '{asked.name}' with a scale of 2 and more and no other option, got {told}; "
            f"write {asked.name}:scale=2"
        )
    return RECIPES[asked.name](told["scale"])


def _asks_for_clips(
    restorer: Restorer | VideoRestorer | str | Path,
    targets: Path,
    *,
    metrics: Sequence[str] | None,
    degrade: str | Sequence[Part] | None,
    frames: int | None,
    state: bool,
    temporal: bool,
) -> bool:
    """Whether anything is asked for that only clips have."""
    return (
        frames is not None
        or not state
        or temporal
        or (isinstance(degrade, str) and degrade in PAPERS)
        or any(name in CLIP_METRICS for name in metrics or ())
        or holds_clips(targets)
        or is_recurrent(restorer)
    )


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


def _fitting_scale(subject: Subject, scale: int | None, chain: Chain) -> int:
    """The scale of the recipe, which a network and a baseline's `scale` have to be made for."""
    wanted = subject.scale or scale or chain.scale
    if wanted != chain.scale:
        raise UsageError(f"'{subject.name}' enlarges by {wanted}, got a recipe that shrinks by {chain.scale}")
    return chain.scale
