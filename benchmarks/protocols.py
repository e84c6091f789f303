"""How each kind of restorer is measured: test set, recipe and metric, with what was asked and what others published."""

from dataclasses import dataclass
from pathlib import Path

from numbers_page import Scores

from imagesmith.configs import Part
from imagesmith.evaluate import evaluate_restorer
from imagesmith.presets import web_photo

CAMERA_SHAKE = "motion_blur:length=[3,15] + gaussian_noise:sigma=[2,2],rounded=1"
FREE_FORM_HOLES = 'holes:share=[0.2,0.3],kinds=["free_form"]'


@dataclass(frozen=True)
class Protocol:
    """One row of the tables: a test set degraded by a recipe, and the metric that is looked at."""

    name: str
    test_set: str
    degrade: str | tuple[Part, ...]
    metrics: tuple[str, ...]
    gray: bool = False
    asked: float | None = None
    """Least value of the first metric for a network trained on a CPU."""
    published: str = ""


def _noise(test_set: str, sigma: int, published: str, asked: float | None = None, *, clipped: bool = False) -> Protocol:
    return Protocol(
        name=f"{test_set} sigma {sigma}" + (", clipped and rounded" if clipped else ""),
        test_set=test_set,
        degrade=f"gaussian_noise:sigma=[{sigma},{sigma}],rounded={int(clipped)}",
        metrics=("psnr_rgb",),
        asked=asked,
        published=published,
    )


def _jpeg(quality: int, published: str, asked: float | None = None, *, tables: bool = False) -> Protocol:
    told = ",table_plane=true,blind=0" if tables else ""
    return Protocol(
        name=f"live1 luma quality {quality}, " + ("with its tables" if tables else "blind"),
        test_set="live1",
        degrade=f"jpeg:quality=[{quality},{quality}],shifted=0{told}",
        metrics=("psnr_gray", "psnr_b"),
        gray=True,
        asked=asked,
        published=published,
    )


def _photo(scale: int) -> tuple[Protocol, ...]:
    return (Protocol(f"kodak24 web photo x{scale}", "kodak24", web_photo(scale), ("psnr_y", "ssim_y")),)


_PUBLISHED_JPEG = {
    10: "ARCNN 28.96, DnCNN-3 29.19, FBCNN 29.75",
    20: "ARCNN 31.29, DnCNN-3 31.59, FBCNN 32.13",
    30: "ARCNN 32.67, DnCNN-3 32.98, FBCNN 33.54",
    40: "ARCNN 33.61, DnCNN-3 33.96, FBCNN 34.53",
}
PROTOCOLS: dict[str, tuple[Protocol, ...]] = {
    "denoise": (
        _noise("cbsd68", 15, "DnCNN 33.90, FFDNet 33.87"),
        _noise("cbsd68", 25, "DnCNN 31.24, FFDNet 31.21", 30.8),
        _noise("cbsd68", 50, "DnCNN 27.95, FFDNet 27.96"),
        _noise("kodak24", 25, "DnCNN 32.14, FFDNet 32.13", 31.7),
        _noise("kodak24", 25, "", clipped=True),
    ),
    "jpeg": tuple(
        _jpeg(quality, _PUBLISHED_JPEG[quality], None if tables else {10: 28.9, 40: 33.5}.get(quality), tables=tables)
        for tables in (False, True)
        for quality in (10, 20, 30, 40)
    ),
    "deblur": (Protocol("kodak24 camera shake", "kodak24", CAMERA_SHAKE, ("psnr_rgb", "ssim_y")),),
    "inpaint": (Protocol("kodak24 free-form holes", "kodak24", FREE_FORM_HOLES, ("psnr_hole",)),),
    "photo x2": _photo(2),
    "photo x4": _photo(4),
}


def protocols_for(task: str, scale: int = 1) -> tuple[Protocol, ...]:
    """How networks of this task and scale are measured."""
    return PROTOCOLS[f"{task} x{scale}" if task == "photo" else task]


def measure(model: str | Path, protocol: Protocol, data: Path, dtype: str = "fp32") -> dict[str, float]:
    """The scores of a model or baseline by one protocol."""
    report = evaluate_restorer(
        model,
        test_set(data, protocol.test_set),
        metrics=protocol.metrics,
        degrade=protocol.degrade,
        gray=protocol.gray,
        device="cpu",
        dtype=dtype,
    )
    return {metric: round(value, 4) for metric, value in report.summary.items()}


def measure_task(model: str | Path, task: str, scale: int, data: Path) -> Scores:
    """The scores of a model by every protocol of its task, for its card."""
    return {protocol.name: measure(model, protocol, data) for protocol in protocols_for(task, scale)}


def test_set(data: Path, name: str) -> Path:
    """The folder called `name` in `data`, or in one of the folders there."""
    found = next((path for path in (data / name, *sorted(data.glob(f"*/{name}"))) if path.is_dir()), None)
    if found is None:
        raise SystemExit(f"expected a folder {name} in {data}, or in a folder there; pass another --data")
    return found
