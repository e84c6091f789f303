"""HDR10: the screen on which a film was graded and how bright it becomes, read from a frame and told to an encoder."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import av

from imagesmith.data.video.side_data import side_data

_CHROMA, _LIGHT = 50_000, 10_000  # units of SMPTE ST 2086: 1/50000, and 1/10000 cd/m2


@dataclass(frozen=True)
class Hdr10:
    """`screen` (SMPTE ST 2086): x and y of red, green, blue and white, then the least and the most light.

    `light` (CTA-861.3): of the brightest pixel and of the brightest frame on average, in cd/m2. None where not told.
    """

    screen: tuple[int, ...] | None
    light: tuple[int, int] | None

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self | None:
        """What a decoded frame carries."""
        found = side_data(frame, "MASTERING_DISPLAY_METADATA"), side_data(frame, "CONTENT_LIGHT_LEVEL")
        screen = None if found[0] is None else _screen(found[0])
        light = None if found[1] is None else struct.unpack("=2I", found[1][:8])
        return cls(screen, light) if screen or light else None

    def x265(self) -> str:
        """The parameters by which x265 writes it."""
        told = []
        if self.screen:
            red, green, blue, white = zip(self.screen[0:8:2], self.screen[1:8:2], strict=True)
            least, most = self.screen[8:]
            chroma = "".join(f"{name}({x},{y})" for name, (x, y) in zip("GBR", (green, blue, red), strict=True))
            told.append(f"master-display={chroma}WP({white[0]},{white[1]})L({most},{least})")
        if self.light:
            told.append(f"max-cll={self.light[0]},{self.light[1]}")
        return ":".join(told)


def _screen(data: bytes) -> tuple[int, ...] | None:
    """FFmpeg's AVMasteringDisplayMetadata: ten fractions, and whether the primaries and the light are told."""
    *numbers, has_primaries, has_light = struct.unpack("=22i", data[:88])
    if not (has_primaries and has_light and all(numbers[1::2])):
        return None
    values = [Fraction(*pair) for pair in zip(numbers[0::2], numbers[1::2], strict=True)]
    return tuple(round(value * unit) for value, unit in zip(values, [_CHROMA] * 8 + [_LIGHT] * 2, strict=True))
