"""Deciding by itself: what a picture suffers from, the fewest models that mend it, and why."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from imagesmith.data.files import Frame
from imagesmith.estimate.blur import BLURRED_PX, edge_blur
from imagesmith.estimate.jpeg import Grid, find_grid, noise_before, quality_of_tables
from imagesmith.estimate.noise import NOISE_SIDE, noise_sigma
from imagesmith.estimate.patches import centre, without_border
from imagesmith.estimate.scratches import find_scratches
from imagesmith.infer.modes import shown_colours
from imagesmith.tensors import imresize, to_gray
from imagesmith.tensors.blocks import BLOCK

AUTO_TASK = "auto"
"""Task of what chooses its models for each picture."""
NOISE_SIGMA, NOISE_SIGMA_GRAY = 3.2, 8.0
"""Noise in grey levels from which on it is worth mending; in gray, texture looks like up to 8."""
NOISE_ALIKE = 10.0
"""Noise of the brightness from which on a picture in colour has it alike in all channels, whose differences show none:
toned scans, grain of monochrome film. Stricter than in gray, because it is rarer."""
NOISE_BLURRED = 5.5
"""The same where there is blur as well, compressed or not: blur leaves no texture that looks like more."""
NOISE_BEFORE_JPEG, NOISE_BEFORE_COARSE, COARSE_QUALITY = 10.0, 12.0, 30
"""The same where it was compressed afterwards: texture looks like up to 10, and at qualities up to 30 like up to 12."""
NOISE_COARSE, COARSER = 1.3, 0.8
"""Noise in brightness at half the size, in grey levels and as a share of that at full size, from which on it is grain
that a camera has smoothed; half the size leaves 0.3 of white noise, and less of blurred photos."""
JPEG_QUALITY = 84
"""Quality up to which JPEG leaves what people see."""
NOISE_BRIGHTNESS, NOISE_TRACE = 6.5, 1.8
"""From better JPEGs halved colour has taken most of the noise: mended where brightness has so much, and where something
is left in the colours, which the texture of clean photos never shows."""
SCRATCHES = 0.012
"""Share of the picture from which on scratches are worth mending."""
SMALL_PX = 400
"""Longer side below which a picture is enlarged, to at least `ENLARGED_PX` or 4 times."""
ENLARGED_PX = 700


@dataclass(frozen=True)
class Findings:
    """What a picture suffers from; `noise_sigma` in grey levels, `jpeg_from` tells where the quality was read.

    `noise_light` is the noise of the brightness, and `noise_coarse` that at half the size. `blur_px` is the standard
    deviation of the blur in the direction `blur_angle` (degrees, 0 to the right, 90 upwards), and `blur_narrowest_px`
    where it is least; None where the picture has too few edges to tell. `scratches` is the share of the picture that
    they cover, `scratches_perhaps` that of gray pictures where lines may as well be things.
    `is_measured`: an instrument made it (DICOM), so it has no scratches, and nobody wants other pixels unasked.
    `noise` follows from the rest: that which decides.
    """

    width: int
    height: int
    channels: int
    noise_sigma: float
    noise_light: float
    jpeg_quality: int | None
    jpeg_from: Literal["tables", "grid"] | None
    noise_before_jpeg: float
    noise_coarse: float
    blur_px: float | None
    blur_narrowest_px: float | None
    blur_angle: float | None
    scratches: float
    scratches_perhaps: float = 0.0
    is_measured: bool = False
    noise: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", self._deciding_noise())

    @property
    def is_compressed(self) -> bool:
        """Whether JPEG has left what people see."""
        return self.jpeg_quality is not None and self.jpeg_quality <= JPEG_QUALITY

    @property
    def is_noisy(self) -> bool:
        """Whether the noise is worth mending."""
        gray = self.channels == 1
        least = self._noise_before_jpeg_least if self.is_compressed else NOISE_SIGMA_GRAY if gray else NOISE_SIGMA
        if self._is_unsharp and (self.is_compressed or not gray):
            least = NOISE_BLURRED
        return self.noise >= least

    @property
    def is_grainy(self) -> bool:
        """Whether what looks like blur is noise whose grains are larger than pixels."""
        is_other = self.is_noisy or self.is_compressed or not self._is_unsharp
        return not is_other and self.noise_coarse >= max(NOISE_COARSE, COARSER * self.noise_sigma)

    @property
    def is_blurred(self) -> bool:
        """Whether nothing in the picture is sharp, and not for its grain."""
        return self._is_unsharp and not self.is_grainy

    def _deciding_noise(self) -> float:
        """Grey levels: from before the compression where it shows, whose blocks say nothing else; else the most."""
        hidden = self.channels == 3 and self.noise_sigma >= NOISE_TRACE and self.noise_before_jpeg >= NOISE_BRIGHTNESS
        if self.is_compressed or hidden:
            return self.noise_before_jpeg
        return max(self.noise_sigma, self.noise_light) if self.noise_light >= NOISE_ALIKE else self.noise_sigma

    @property
    def _noise_before_jpeg_least(self) -> float:
        is_coarse = self.jpeg_quality is not None and self.jpeg_quality <= COARSE_QUALITY
        return NOISE_BEFORE_COARSE if is_coarse else NOISE_BEFORE_JPEG

    @property
    def _is_unsharp(self) -> bool:
        return self.blur_px is not None and self.blur_px >= BLURRED_PX

    def __str__(self) -> str:
        jpeg = f"JPEG of quality {self.jpeg_quality} (by its {self.jpeg_from})" if self.jpeg_from else "no JPEG"
        blur = f"blur {self.blur_px:.1f} px" if self.blur_px is not None else "too few edges to tell blur"
        perhaps = f" (perhaps {self.scratches_perhaps:.1%}: --task inpaint --mask auto mends them)"
        is_hinted = self.scratches_perhaps >= SCRATCHES and not self.is_measured
        scratches = f"scratches {self.scratches:.1%}{perhaps if is_hinted else ''}"
        return f"found noise {self.noise:.1f}, {jpeg}, {blur}, {scratches}"


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
    image = telling(frame)
    grid = find_grid(image)
    quality, source = (None, None) if grid is None else (grid.quality, "grid")
    if frame.meta.jpeg is not None:
        own = quality_of_tables(frame.meta.jpeg.luma)
        if grid is None or own <= JPEG_QUALITY or grid.quality > JPEG_QUALITY:  # else a coarser one came before
            quality, source = own, "tables"
            grid = grid or Grid(0, 0, own, 0.0)
    blur = edge_blur(image)
    light = to_gray(image)
    scratches, perhaps = _scratches(image)
    return Findings(
        width=frame.pixels.shape[1],
        height=frame.pixels.shape[0],
        channels=len(image),
        noise_sigma=round(noise_sigma(image), 2),
        noise_light=round(noise_sigma(light), 2),
        jpeg_quality=quality,
        jpeg_from=source,
        noise_before_jpeg=0.0 if grid is None else round(noise_before(image, grid), 2),
        noise_coarse=round(noise_sigma(imresize(centre(light, 2 * NOISE_SIDE), 0.5)), 2),
        blur_px=None if blur is None else round(blur.widest, 2),
        blur_narrowest_px=None if blur is None else round(blur.narrowest, 2),
        blur_angle=None if blur is None else blur.angle,
        scratches=scratches,
        scratches_perhaps=perhaps,
        is_measured=frame.meta.dicom is not None,
    )


def _scratches(image: Tensor) -> tuple[float, float]:
    """The shares of (C, H, W) that scratches cover, and in gray, where old prints are scanned too, perhaps cover."""

    def share(*, asked: bool) -> float:
        return round(find_scratches(image, asked=asked).float().mean().item(), 4)

    perhaps = share(asked=True) if len(image) == 1 else 0.0
    if len(image) == 1 and perhaps < SCRATCHES:
        return perhaps, 0.0
    sure = share(asked=False)
    return sure, perhaps if sure < SCRATCHES else 0.0


def telling(frame: Frame) -> Tensor:
    """(C, H, W) of the picture that tells of its damages: what survived in the file, without borders of one colour.

    Of one channel where all three are equal: they tell no more of noise than one, which is judged as gray.
    """
    image = shown_colours(frame)
    if frame.lost is not None:
        image = _surviving(image, frame.lost)
    image = without_border(image)
    return image[:1] if bool((image == image[:1]).all()) else image


def _surviving(image: Tensor, lost: Tensor) -> Tensor:
    """The highest band of `image` (C, H, W) of which nothing is `lost` (H, W), begun at a multiple of BLOCK."""
    cuts = [-1, *lost.any(dim=1).nonzero().flatten().tolist(), len(lost)]
    bands = [(-(-(above + 1) // BLOCK) * BLOCK, below) for above, below in itertools.pairwise(cuts)]
    top, bottom = max(bands, key=lambda band: band[1] - band[0])
    return image[:, top:bottom] if bottom - top >= 2 * BLOCK else image


def plan_chain(findings: Findings, models: Collection[str], scale: int | None = None) -> tuple[Link, ...]:
    """The fewest of the shipped `models` that mend what was found, in their order; empty where nothing is to be done.

    `scale` is the enlargement that the user asked for; without one only pictures that are small are enlarged. With one,
    several damages at once are for the models trained on mixtures, where they are shipped. Blur is left where there was
    noise before a compression: what remains of it would be sharpened.
    """
    damages = _damages(findings)
    wanted = scale or _enlargement(findings)
    links = []
    if findings.scratches >= SCRATCHES and "inpaint" in models and not findings.is_measured:
        links.append(Link("inpaint", f"scratches on {findings.scratches:.1%} of the picture"))
    mixture = f"photo-x{wanted}"
    if len(damages) > 1 and mixture in models:
        return (*links, Link(mixture, " and ".join(damages.values())))
    if {"denoise", "jpeg"} <= damages.keys():
        damages.pop("deblur", None)
    links += [Link(model, reason) for model, reason in damages.items() if model in models]
    if wanted and f"sr-x{wanted}" in models:
        why = "the size asked for" if scale else f"a picture of only {findings.width} x {findings.height}"
        links.append(Link(f"sr-x{wanted}", why))
    return tuple(links)


def _damages(findings: Findings) -> dict[str, str]:
    """The models for what there is, with what there is in words, in the order in which it is best undone.

    Noise comes first even where it was compressed: the model for JPEG takes its traces for texture.
    """
    damages = {}
    if findings.is_noisy:
        when = " before its compression" if findings.is_compressed else ""
        damages["denoise"] = f"noise of {findings.noise:.0f} grey levels{when}"
    if findings.is_grainy:
        damages["denoise"] = f"grain of {findings.noise_coarse:.0f} grey levels that deblurring would sharpen"
    if findings.is_compressed:
        damages["jpeg"] = f"JPEG of quality {findings.jpeg_quality}"
    if findings.is_blurred:
        damages["deblur"] = f"blur of {findings.blur_px:.1f} px"
    return damages


def _enlargement(findings: Findings) -> int | None:
    """By how much a small picture is to be enlarged."""
    longest = max(findings.width, findings.height)
    if longest >= SMALL_PX or findings.is_measured:
        return None
    return min(4, max(2, -(-ENLARGED_PX // longest)))
