"""JP2 boxes: what is put in is found again, by this reader and by Pillow, and lengths that lie end nothing but the walk."""

import io
import struct

import pytest
from PIL import Image

from imagesmith.data.frame import ImageMeta
from imagesmith.data.jp2_boxes import boxes, read_metadata, with_metadata


def plain_jp2() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 4), "teal").save(stream, "JPEG2000", irreversible=False)
    return stream.getvalue()


def test_metadata_comes_back_and_pillow_still_reads_the_picture() -> None:
    """A header box with a wrong length makes the file unreadable everywhere else."""
    meta = ImageMeta("jp2", "RGB", icc=b"profile" * 20, exif=b"II*\0rest", xmp=b"<x/>", dpi=(600.0, 300.0))
    data = with_metadata(plain_jp2(), meta)
    assert read_metadata(data) == (meta.icc, meta.exif, meta.xmp)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["dpi"] == pytest.approx((600, 300), rel=1e-3)
        assert image.convert("RGB").getpixel((3, 2)) == (0, 128, 128)


@pytest.mark.parametrize(("dpi", "error"), [(300, 0.001), (1200, 0.02), (1664.5, 0.02), (1664.7, 0.2), (900_000, 20)])
def test_a_resolution_loses_no_digit_that_there_is_room_for(dpi: float, error: float) -> None:
    """The accident: 300 pixels an inch come back as 299.974, and programs that print show a fraction."""
    data = with_metadata(plain_jp2(), ImageMeta("jp2", "RGB", dpi=(dpi, dpi)))
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=error)


def test_without_metadata_nothing_changes() -> None:
    """The boxes are rebuilt, not merely similar."""
    assert with_metadata(plain_jp2(), ImageMeta("jp2", "RGB")) == plain_jp2()


@pytest.mark.parametrize("size", [2, 7])
def test_impossible_lengths_end_the_walk(size: int) -> None:
    """A length shorter than its own header is walked for ever by a careless reader."""
    good = struct.pack(">I4s", 8, b"free")
    assert [kind for kind, *_ in boxes(good + struct.pack(">I4s", size, b"evil") + bytes(40))] == [b"free"]
