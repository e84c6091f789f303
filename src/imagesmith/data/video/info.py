"""What a moving picture says about itself before it is read, and one frame of it."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from imagesmith.data.video.colour import UNTAGGED, ColourTags
from imagesmith.data.video.hdr10 import Hdr10
from imagesmith.tensors import Depth

if TYPE_CHECKING:
    from av.container.core import Chapter

Kind = Literal["film", "folder", "animation"]
USUAL_RATE = Fraction(25)
"""Frames a second where nothing tells them."""


@dataclass(frozen=True)
class StreamInfo:
    """One stream of a film: `kind` is video, audio, subtitle, attachment or data; `language` '' where not told."""

    index: int
    kind: str
    codec: str
    language: str = ""


@dataclass(frozen=True)
class VideoInfo:
    """A film, a folder of frames or an animation.

    Width and height are those of the stored frames; `matrix` (nine fixed-point numbers, None where there is none) and
    `rotation` (degrees counter-clockwise) tell players how to turn them. `frames` is what the container says, None
    where it does not. `time_base` is the unit of every PTS in seconds, `start` the first frame's PTS; `rate` (frames a
    second) is None where no usual one is known. `colour` is complete, and `notes` say what of it was assumed.
    """

    path: Path
    kind: Kind
    width: int
    height: int
    frames: int | None
    duration_s: float
    time_base: Fraction
    rate: Fraction | None
    start: int = 0
    rotation: int = 0
    matrix: tuple[int, ...] | None = None
    sample_aspect: Fraction = Fraction(1)
    pix_fmt: str = "rgb24"
    depth: Depth = "uint8"
    colour: ColourTags = UNTAGGED
    hdr10: Hdr10 | None = None
    interlaced: bool = False
    streams: tuple[StreamInfo, ...] = ()
    chapters: tuple["Chapter", ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoFrame:
    """Pixels (H, W, 3) RGB, uint8, or uint16 over its full range for more than eight bits; PTS in `info.time_base`.

    `repeated` where the file's own frame could not be decoded and the last good one stands in for it; `scaled` where
    it has another size than the film.
    """

    pixels: Tensor
    pts: int
    repeated: bool = False
    scaled: bool = False


def resized_note(number: int, info: VideoInfo) -> str:
    """That so many frames had another size than that of the film."""
    return f"{counted(number, 'frame')} of another size scaled to {info.width}x{info.height}, that of the first"


def counted(number: int, noun: str) -> str:
    """ "1 frame", "2 frames"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
