"""`imagesmith data estimate`: what a user's own pictures suffer from, and the recipe that makes such pictures."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.apps.terminal import plain
from imagesmith.atomic import check_place, make_folder, write_whole
from imagesmith.data.files import Frame, read_image
from imagesmith.data.pixels import check_unit_range
from imagesmith.data.sources import list_items
from imagesmith.errors import ImagesmithError, NothingUsableError
from imagesmith.estimate.noise import NoiseCurve, noise_curve
from imagesmith.infer.auto import Findings, examine, telling
from imagesmith.tensors import GRAY_WEIGHTS

_FEW = 0.1
"""Share of the pictures below which a damage is an exception that the recipe leaves out."""
_MOST = 0.9
"""Share from which on the recipe has it always."""
_STRAIGHT = 0.55
"""Blur whose least width is below this share of its greatest is motion."""
_EDGE_PX = 0.7
"""Standard deviation across the sharpest edges of photos that are not blurred (0.45 to 0.92)."""
_PERCENTILES = {"low": 0.1, "median": 0.5, "high": 0.9}

Part = dict[str, Any]


@dataclass(frozen=True)
class Examined:
    """One picture: what was found in it, and how its noise depends on brightness."""

    findings: Findings
    curve: NoiseCurve

    @classmethod
    def of(cls, frame: Frame) -> "Examined":
        """What `frame` tells."""
        return cls(examine(frame), noise_curve(telling(frame)))


def run_estimate(source: str, *, out: Path | None, recursive: bool, overwrite: bool, as_json: bool) -> None:
    """Measure the pictures of `source`, print what they have in common, and write the recipe to `out`."""
    if out:
        make_folder(out.parent)
        check_place(out, overwrite=overwrite)
    pictures = list(_examined(source, recursive))
    if not pictures:
        raise NothingUsableError(f"expected pictures in '{source}', found none that can be read")
    recipe = recipe_of(pictures)
    if as_json:
        print(json.dumps({"pictures": len(pictures), **summary(pictures), "recipe": recipe}))
    else:
        print(f"{'pictures':10}{len(pictures)}")
        for name, values in summary(pictures).items():
            print(f"{name:10}{_in_words(values)}")
        print(f"{'recipe':10}{', '.join(_names(recipe)) or 'none: nothing is wrong with most of them'}")
    if out and not recipe:
        raise NothingUsableError(f"found nothing in '{source}' to learn to mend; no recipe was written")
    if out:
        write_whole(out, json.dumps(recipe, indent=2) + "\n")


def summary(pictures: Sequence[Examined]) -> dict[str, dict[str, float]]:
    """10th percentile, median, 90th percentile of each measure, and the share of the pictures that have it."""
    found = [picture.findings for picture in pictures]
    measures = {
        "noise": [each.noise for each in found],
        "jpeg": [each.jpeg_quality for each in found if each.jpeg_quality is not None],
        "blur": [each.blur_px for each in found if each.blur_px is not None],
    }
    return {name: _spread(values) | {"share": len(values) / len(found)} for name, values in measures.items() if values}


def recipe_of(pictures: Sequence[Examined]) -> list[Part]:
    """Degradations in the order in which they happen to a photo: blur, noise, JPEG; each as often as it was found."""
    parts = []
    blurred = [each.findings for each in pictures if each.findings.is_blurred]
    if blurred:
        widths = _range([each.blur_px or 0 for each in blurred])
        shapes = [(each.blur_narrowest_px or 0) / (each.blur_px or 1) for each in blurred]
        if _spread(shapes)["median"] < _STRAIGHT:  # a uniform line of length l deviates by l / sqrt(12)
            part = _part("motion_blur", length=[1 + math.sqrt(12) * width for width in widths])
        else:
            part = _part("gaussian_blur", sigma=[_beyond_edges(width) for width in widths], anisotropic=0.0)
        parts.append((part, len(blurred)))
    noisy = [each for each in pictures if each.findings.is_noisy]
    if noisy:
        compressed = [each.findings for each in noisy if each.findings.is_compressed]
        if len(compressed) > len(noisy) / 2:  # what blocks leave of the noise shows its strength alone
            part = _part("gaussian_noise", sigma=_range([_of_a_channel(each) for each in compressed]), rounded=1.0)
        else:
            shot, read = _range([each.curve.gain for each in noisy]), _range([255 * each.curve.floor for each in noisy])
            part = _part("poisson_gaussian_noise", shot=shot, read=read, rounded=1.0)
        parts.append((part, len(noisy)))
    qualities = [each.findings.jpeg_quality or 0 for each in pictures if each.findings.is_compressed]
    if qualities:
        parts.append((_part("jpeg", quality=_range(qualities)), len(qualities)))
    return [_as_often(part, count / len(pictures)) for part, count in parts if count >= _FEW * len(pictures)]


def _examined(source: str, recursive: bool) -> Iterator[Examined]:
    """What is found in each picture; those that cannot be used are named on standard error."""
    for item in list_items([source], recursive=recursive, into_runs=False):
        try:
            frame = read_image(item.read())
            check_unit_range(frame)
        except ImagesmithError as error:
            print(plain(f"left out {item}: {error}"), file=sys.stderr)
            continue
        yield Examined.of(frame)


def _of_a_channel(found: Findings) -> float:
    """Sigma of each channel before a compression, which leaves to be told that of the brightness alone, their mean."""
    return found.noise_before_jpeg / (math.hypot(*GRAY_WEIGHTS) if found.channels == 3 else 1)


def _beyond_edges(width: float) -> float:
    """What a blur adds to the width that the sharpest edges of a photo have by themselves."""
    return math.sqrt(max(0.0, width**2 - _EDGE_PX**2))


def _part(name: str, **options: Any) -> Part:
    rounded = {
        key: [round(x, 4) for x in value] if isinstance(value, list) else value for key, value in options.items()
    }
    return {"name": name, "options": rounded}


def _as_often(part: Part, share: float) -> Part:
    return part if share >= _MOST else _part("sometimes", part=part, probability=round(share, 2))


def _names(recipe: Sequence[Part]) -> list[str]:
    """The degradations, with how often they happen where not always."""
    return [
        f"{part['options']['part']['name']} ({part['options']['probability']:.0%})"
        if part["name"] == "sometimes"
        else part["name"]
        for part in recipe
    ]


def _range(values: Sequence[float]) -> list[float]:
    spread = _spread(values)
    return [spread["low"], spread["high"]]


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {name: ordered[round(share * (len(ordered) - 1))] for name, share in _PERCENTILES.items()}
    return {name: round(value, 4) for name, value in at.items()}


def _in_words(values: dict[str, float]) -> str:
    return f"{values['low']:.3g} to {values['high']:.3g}, median {values['median']:.3g}, in {values['share']:.0%}"
