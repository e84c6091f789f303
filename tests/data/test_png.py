"""The PNG encoder against two foreign decoders, bit for bit, in every mode and at every awkward size."""

import io
import tracemalloc

import av
import numpy as np
import pytest
import skimage.data
from PIL import Image

from imagesmith.data.frame import ImageMeta
from imagesmith.data.png import PngWriter, filter_rows
from imagesmith.data.png_reader import PngFile


def encoded(
    pixels: np.ndarray, *, pieces: tuple[int, ...] = (), threads: int = 1, meta: ImageMeta | None = None
) -> bytes:
    stream = io.BytesIO()
    height, width, channels = pixels.shape
    writer = PngWriter(stream, width, height, channels, depth=pixels.dtype.name, meta=meta, threads=threads)
    for rows in np.split(pixels, pieces):
        writer.write_rows(rows)
    writer.close()
    return stream.getvalue()


def by_ffmpeg(data: bytes) -> np.ndarray:
    decoder = av.CodecContext.create("png", "r")
    (frame,) = decoder.decode(av.Packet(data)) or decoder.decode(None)
    plane = frame.planes[0]
    sixteen = frame.format.name.endswith("be")
    channels = {"gray": 1, "ya8": 2, "rgb24": 3, "rgba": 4, "gray16be": 1, "ya16be": 2, "rgb48be": 3, "rgba64be": 4}
    samples = np.frombuffer(plane, ">u2" if sixteen else np.uint8).reshape(frame.height, -1)
    count = channels[frame.format.name]
    return samples[:, : frame.width * count].reshape(frame.height, frame.width, count)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (33, 31), (130, 67)])
def test_foreign_decoders_agree(dtype: type, channels: int, size: tuple[int, int]) -> None:
    """An encoder tested only by its own decoder is tested for agreement with its own mistakes."""
    rng = np.random.default_rng(7)
    smooth = np.cumsum(rng.integers(-3, 4, (*size, channels)), axis=0) * (1 if dtype is np.uint8 else 201)
    pixels = smooth.astype(dtype)
    data = encoded(pixels)
    assert np.array_equal(by_ffmpeg(data), pixels)
    assert np.array_equal(PngFile(data).decode(partial=False).pixels, pixels)
    if dtype is np.uint8:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_filter_is_chosen_and_decoded(channels: int) -> None:
    """A filter that the choice never takes is never tested."""
    rng = np.random.default_rng(1)
    across, down = np.arange(64)[None, :], np.arange(8)[:, None]
    noise = rng.integers(0, 256, (8, 64))
    bands = [
        noise,
        noise[:, :1] + 0 * across + rng.integers(0, 2, (8, 64)),
        np.tile(noise[:1], (8, 1)),
        (np.cumsum(rng.integers(-2, 3, (8, 64)), axis=1) + np.cumsum(rng.integers(-2, 3, (8, 64)), axis=0)),
        (3 * across + 5 * down),
        np.zeros((8, 64), int) + (rng.random((8, 64)) > 0.9) * 3,
    ]
    pixels = np.repeat(np.concatenate(bands).astype(np.uint8)[..., None], channels, 2)
    padded = np.zeros((len(pixels) + 1, 65 * channels), np.uint8)
    padded[1:, channels:] = pixels.reshape(len(pixels), -1)
    assert len(set(filter_rows(padded, channels)[:, 0])) >= 4
    assert np.array_equal(by_ffmpeg(encoded(pixels)), pixels)


def test_threads_and_pieces_change_no_byte() -> None:
    """A file must not depend on the machine: its hash is what a manifest compares."""
    photo = np.tile(skimage.data.astronaut(), (3, 1, 1))
    whole = encoded(photo)
    assert whole == encoded(photo, threads=3)
    assert whole == encoded(photo, pieces=(1, 2, 3, 700, 701, 1500), threads=2)
    assert np.array_equal(by_ffmpeg(whole), photo)


def test_size_is_near_pillows() -> None:
    """The speed comes from a simple compressor; on photographs it may cost five percent and not more."""
    ours = pillows = 0
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        photo = getattr(skimage.data, name)()
        stream = io.BytesIO()
        Image.fromarray(photo).save(stream, "PNG")
        ours, pillows = ours + len(encoded(photo)), pillows + len(stream.getvalue())
    assert ours < 1.05 * pillows


def test_drawings_are_searched_for_matches() -> None:
    """Run lengths alone would make a screenshot of text several times larger."""
    text = np.where(skimage.data.page() > 128, np.uint8(255), np.uint8(0))[..., None]
    tiled = np.tile(text, (3, 3, 1))
    stream = io.BytesIO()
    Image.fromarray(tiled[..., 0]).save(stream, "PNG")
    assert len(encoded(tiled)) < 1.5 * len(stream.getvalue())


def test_metadata_chunks_are_read_by_pillow() -> None:
    """Chunks in the wrong order or form are dropped silently by other programs."""
    exif = Image.Exif()
    exif[271] = "Camera"
    meta = ImageMeta(
        "png", "RGB", exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=b"<x:xmpmeta/>", dpi=(300.0, 150.0)
    )
    image = Image.open(io.BytesIO(encoded(np.zeros((4, 5, 3), np.uint8), meta=meta)))
    image.load()
    assert image.getexif()[271] == "Camera"
    assert image.info["xmp"] == b"<x:xmpmeta/>"
    assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)


def test_missing_rows_are_the_callers_mistake() -> None:
    """A writer closed early would leave a file that ends early."""
    writer = PngWriter(io.BytesIO(), 4, 4, 3, depth="uint8")
    writer.write_rows(np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(AssertionError, match="3 of 4 rows"):
        writer.close()
    with pytest.raises(AssertionError, match="5 rows"):
        writer.write_rows(np.zeros((2, 4, 3), np.uint8))


def test_memory_is_that_of_a_few_strips() -> None:
    """A picture of 256 megapixels must not exist twice because it is written."""
    rows = np.tile(np.arange(4096, dtype=np.uint8), 3).reshape(1, 4096, 3).repeat(64, 0)
    writer = PngWriter(io.BytesIO(), 4096, 2048, 3, depth="uint8", threads=2)
    tracemalloc.start()
    for _ in range(32):
        writer.write_rows(rows)
    writer.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20  # of 24 MiB
