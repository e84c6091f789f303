"""Deciding by itself: what a picture suffers from, the fewest models that mend it, and why."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from imagesmith.data.files import Frame
from imagesmith.estimate.blur import edge_blur
from imagesmith.estimate.jpeg import Grid, find_grid, noise_before, quality_of_tables
from imagesmith.estimate.noise import noise_sigma
from imagesmith.estimate.scratches import find_scratches
from imagesmith.infer.modes import seen_colours

AUTO_TASK = "auto"
"""Task of what chooses its models for each picture."""
NOISE_SIGMA, NOISE_SIGMA_GRAY = 3.2, 7.0
"""Noise in grey levels from which on it is worth mending; in gray, texture looks like up to 7."""
NOISE_BLURRED = 5.5
"""The same where there is blur as well: the network for blur takes less noise away by itself."""
NOISE_BEFORE_JPEG = 10.0
"""The same where it was compressed afterwards: texture looks like up to 10."""
JPEG_QUALITY = 84
"""Quality up to which JPEG leaves what people see."""
BLUR_PX = 1.25
"""Standard deviation across the sharpest edges from which on nothing in the picture is sharp."""
SCRATCHES = 0.012
"""Share of the picture; below it lie the wires and twigs of gray photos without scratches."""
SMALL_PX = 400
"""Longer side below which a picture is enlarged, to at least `ENLARGED_PX` or 4 times."""
ENLARGED_PX = 700


@dataclass(frozen=True)
class Findings:
    """What a picture suffers from; `noise_sigma` in grey levels, `jpeg_from` tells where the quality was read.

    `blur_px` is the standard deviation of the blur in the direction `blur_angle` (degrees, 0 to the right, 90 upwards),
    and `blur_narrowest_px` where it is least; None where the picture has too few edges to tell. `scratches` is the
    share of the picture that they cover.
    """

    width: int
    height: int
    channels: int
    noise_sigma: float
    jpeg_quality: int | None
    jpeg_from: Literal["tables", "grid"] | None
    noise_before_jpeg: float
    blur_px: float | None
    blur_narrowest_px: float | None
    blur_angle: float | None
    scratches: float

    @property
    def is_compressed(self) -> bool:
        """Whether JPEG has left what people see."""
        return self.jpeg_quality is not None and self.jpeg_quality <= JPEG_QUALITY

    @property
    def noise(self) -> float:
        """Grey levels of the noise: that from before the compression, whose blocks say nothing else, where it shows."""
        return self.noise_before_jpeg if self.is_compressed else self.noise_sigma

    def __str__(self) -> str:
        jpeg = f"JPEG of quality {self.jpeg_quality} (by its {self.jpeg_from})" if self.jpeg_from else "no JPEG"
        blur = f"blur {self.blur_px:.1f} px" if self.blur_px is not None else "too few edges to tell blur"
        return f"found noise {self.noise:.1f}, {jpeg}, {blur}, scratches {self.scratches:.1%}"


@dataclass(frozen=True)
class Link:
    """One step of a chain: the shipped `model`, and why it is needed."""

    model: str
    reason: str

    def __str__(self) -> str:
        return f"{self.model} for {self.reason}"


@dataclass(frozen=True)
class Decision:
    """What was found in a picture, and the chain that follows from it."""

    findings: Findings
    chain: tuple[Link, ...]

    @property
    def name(self) -> str:
        """The chain in one word."""
        return "+".join(link.model for link in self.chain) or "none"

    def __str__(self) -> str:
        damages = " and ".join(_damages(self.findings).values())
        nothing = f"no shipped model mends {damages}" if damages else "nothing to mend"
        return f"{self.findings}: {', then '.join(map(str, self.chain)) or nothing}"


def examine(frame: Frame) -> Findings:
    """What `frame` suffers from, by its own tables and by its pixels."""
    image = seen_colours(frame)
    if bool((image == image[:1]).all()):  # three equal channels tell no more of noise than one, which is judged as gray
        image = image[:1]
    channels, height, width = image.shape
    grid = find_grid(image)
    quality, source = (None, None) if grid is None else (grid.quality, "grid")
    if frame.meta.jpeg is not None:
        own = quality_of_tables(frame.meta.jpeg.luma)
        if grid is None or own <= JPEG_QUALITY or grid.quality > JPEG_QUALITY:  # else a coarser one came before
            quality, source = own, "tables"
            grid = grid or Grid(0, 0, own, 0.0)
    blur = edge_blur(image)
    return Findings(
        width=width,
        height=height,
        channels=channels,
        noise_sigma=round(noise_sigma(image), 2),
        jpeg_quality=quality,
        jpeg_from=source,
        noise_before_jpeg=0.0 if grid is None else round(noise_before(image, grid), 2),
        blur_px=None if blur is None else round(blur.widest, 2),
        blur_narrowest_px=None if blur is None else round(blur.narrowest, 2),
        blur_angle=None if blur is None else blur.angle,
        scratches=round(find_scratches(image).float().mean().item(), 4),
    )


def plan_chain(findings: Findings, models: Collection[str], scale: int | None = None) -> tuple[Link, ...]:
    """The fewest of the shipped `models` that mend what was found, in their order; empty where nothing is to be done.

    `scale` is the enlargement that the user asked for; without one only pictures that are small are enlarged. Several
    damages at once are for the models trained on mixtures, where they are shipped.
    """
    damages = _damages(findings)
    wanted = scale or _enlargement(findings)
    links = []
    if findings.scratches >= SCRATCHES and "inpaint" in models:
        links.append(Link("inpaint", f"scratches on {findings.scratches:.1%} of the picture"))
    mixture = f"photo-x{wanted or 2}"
    if len(damages) > 1 and mixture in models:
        return (*links, Link(mixture, " and ".join(damages.values())))
    links += [Link(model, reason) for model, reason in damages.items() if model in models]
    if wanted and f"sr-x{wanted}" in models:
        why = "the size asked for" if scale else f"a picture of only {findings.width} x {findings.height}"
        links.append(Link(f"sr-x{wanted}", why))
    return tuple(links)


def _damages(findings: Findings) -> dict[str, str]:
    """The models for what there is, with what there is in words, in the order in which it is to be undone."""
    damages = {}
    blur = findings.blur_px
    is_blurred = blur is not None and blur >= BLUR_PX
    least = NOISE_SIGMA_GRAY if findings.channels == 1 else NOISE_BLURRED if is_blurred else NOISE_SIGMA
    when = ""
    if findings.is_compressed:
        damages["jpeg"] = f"JPEG of quality {findings.jpeg_quality}"
        least, when = NOISE_BEFORE_JPEG, " before its compression"
    if findings.noise >= least:
        damages["denoise"] = f"noise of {findings.noise:.0f} grey levels{when}"
    if is_blurred:
        damages["deblur"] = f"blur of {blur:.1f} px"
    return damages


def _enlargement(findings: Findings) -> int | None:
    """By how much a small picture is to be enlarged."""
    longest = max(findings.width, findings.height)
    if longest >= SMALL_PX:
        return None
    return min(4, max(2, -(-ENLARGED_PX // longest)))
