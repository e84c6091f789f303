"""What a decoded frame carries beside its picture: how it is turned, how bright it is."""

from typing import Literal

import av
from av.sidedata.sidedata import Type


def side_data(
    frame: av.VideoFrame, name: Literal["DISPLAYMATRIX", "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"]
) -> bytes | None:
    """The bytes that FFmpeg keeps with a frame under this name; None where there are none."""
    found = frame.side_data.get(name)
    return None if found is None else bytes(found)


def _nameless(value: object) -> Type:
    kind = object.__new__(Type)
    kind._name_, kind._value_ = f"UNKNOWN_{value}", value
    return kind


# PyAV asks for the kind of all that a frame carries before it gives any of it, and FFmpeg has more kinds than PyAV has
# names for: cameras write EXIF into every frame of MJPEG
Type._missing_ = _nameless
