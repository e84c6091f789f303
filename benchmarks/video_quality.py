"""How good restorers of films are: rows of scores by clip, degradation and what was measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.evaluate import evaluate_restorer
from imagesmith.zoo.cards import CARDS

FRAMES = 60
CLIPS = ("calendar", "driving_lane.mp4", "bikes.mp4")
METRICS = {
    "bi": ("psnr_y", "ssim_y", "warping_error", "tof", "flicker"),
    "bd": ("psnr_y", "ssim_y", "flicker"),
    "noise": ("psnr_rgb", "psnr_y", "ssim_y", "flicker"),
}
"""What needs the motion of a clip costs most of the time, and is measured where something is asked of it."""
SIGMAS = (10, 25, 40)

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is measured, and how it is called in the tables."""

    name: str
    model: str
    options: dict[str, bool | int]


def _subjects(baseline: str, scale: int, single: str, recurrent: str) -> tuple[Subject, ...]:
    return (
        Subject(baseline, baseline, {"scale": scale}),
        Subject(single, single, {}),
        Subject(f"{single} --temporal", single, {"temporal": True}),
        Subject(f"{recurrent}, state off", recurrent, {"state": False}),
        Subject(recurrent, recurrent, {}),
    )


GROUPS: dict[str, tuple[tuple[str, ...], tuple[Subject, ...]]] = {
    "sr": (("bi", "bd"), _subjects("bicubic", 4, "sr-x4", "vsr-x4")),
    "denoise": (
        tuple(f"gaussian_noise:sigma=[{sigma},{sigma}],rounded=0" for sigma in SIGMAS),
        tuple(one for one in _subjects("none", 1, "denoise", "video-denoise") if "state" not in one.options),
    ),
}
"""By task: the degradations, and what is measured on them, the network that remembers last."""


def clip_path(data: Path, name: str) -> Path:
    """The folder or film called `name` somewhere in `data`."""
    found = next(iter(sorted(data.rglob(name))), None)
    if found is None:
        raise SystemExit(f"expected {name} somewhere in {data}; pass another --data")
    return found


def measure_quality(data: Path, known: list[Row], keep: Callable[[Row], None], frames: int = FRAMES) -> None:
    """Measure what `known` does not hold of these weights; `keep` is called with every row as soon as it is there."""
    done = {(row["clip"], row["degrade"], row["subject"], row["frames_asked"], row["weights"]) for row in known}
    for task, degrade, subject, clip in _cells():
        weights = _weights(subject.model)
        key = (clip, degrade, subject.name, frames, weights)
        if weights is None or key in done:
            continue
        metrics = METRICS[degrade if task == "sr" else "noise"]
        options: dict[str, Any] = {"degrade": degrade, "frames": frames, "device": "cpu", **subject.options}
        report = evaluate_restorer(subject.model, clip_path(data, clip), metrics=metrics, **options)
        row = dict(zip(("clip", "degrade", "subject", "frames_asked", "weights"), key, strict=True))
        scores = {metric: round(value, 5) for metric, value in report.summary.items()}
        keep({"task": task, **row, "frames": sum(report.provenance["frames"].values()), "scores": scores})


def _cells() -> Iterator[tuple[str, str, Subject, str]]:
    for task, (degradations, subjects) in GROUPS.items():
        for degrade in degradations:
            for clip in CLIPS:
                for subject in subjects:
                    yield task, degrade, subject, clip


def _weights(model: str) -> str | None:
    """What tells these weights from others: 'none' for a baseline, None for a model that is not shipped."""
    if model in ("bicubic", "none"):
        return "none"
    if model not in CARDS:
        return None
    from imagesmith.zoo.cards import read_header, shipped_path

    return read_header(shipped_path(model)).sha256[:16]
