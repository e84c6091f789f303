"""What a frame carries beside its picture, also what nobody asked for."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from PIL import Image

from imagesmith.data.video import read_info


@pytest.fixture
def camera_film(tmp_path: Path) -> Path:
    """MJPEG as cameras write it: a whole JPEG file with EXIF for each frame."""
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[0x010F] = "Camera"
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(jpeg, "JPEG", exif=exif, subsampling=2)
    with av.open(tmp_path / "camera.avi", "w") as film:
        track = film.add_stream("mjpeg", rate=10)
        track.width, track.height, track.pix_fmt = 64, 48, "yuvj420p"
        for number in range(3):
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = track, number, number, Fraction(1, 10)
            packet.is_keyframe = True
            film.mux(packet)
    return tmp_path / "camera.avi"


def test_a_film_of_a_camera_with_exif_is_read(camera_film: Path, tmp_path: Path, redo: Callable) -> None:
    """The accident: ValueError: 31 is not a valid Type, for every film of a camera that tells its name in each frame."""
    info = read_info(camera_film)
    assert (info.width, info.height, info.frames, info.hdr10, info.matrix) == (64, 48, 3, None, None)
    redo(camera_film, tmp_path / "out.mp4")
    assert read_info(tmp_path / "out.mp4").frames == 3
