"""TIFF in its many layouts: every depth, plane order, compression and predictor gives the numbers that were stored."""

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from imagesmith.data import tiff_bands, tiff_libtiff, tiff_reader
from imagesmith.data.files import read_header, read_image
from imagesmith.data.scanlines import read_scanlines
from imagesmith.data.tiff_reader import TiffFile
from imagesmith.errors import FormatError, ImageError, TooLargeError, TruncatedError


def stored(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, metadata=None, **options)
    return stream.getvalue()


def noise(*shape: int, dtype: type = np.uint16) -> np.ndarray:
    values = np.random.default_rng(3).random(shape)
    return values.astype(dtype) if dtype in (np.float32, np.float64) else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("compression", [None, "adobe_deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_rgb_layouts(bigtiff: bool, byteorder: str, planar: bool, tile, compression, dtype: type) -> None:
    """Planes taken for interleaved samples look like three small grey pictures; Pillow calls some BigTIFFs damaged."""
    pixels = noise(37, 51, 3, dtype=dtype)
    data = stored(
        np.moveaxis(pixels, 2, 0) if planar else pixels,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        bigtiff=bigtiff,
        byteorder=byteorder,
        tile=tile,
        compression=compression,
        predictor=bool(compression) and dtype is not np.float32,
    )
    assert np.array_equal(read_image(data).pixels.numpy(), pixels)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_the_way_through_libtiff_gives_the_same(
    planar: bool, tile, predictor: bool, dtype: type, bigtiff: bool
) -> None:
    """Deep LZW files go through libtiff as gray; deflate files allow the comparison with tifffile."""
    if dtype is np.float32 and predictor:
        pytest.skip("needs a floating-point predictor")
    pixels = noise(37, 51, 4, dtype=dtype)
    data = stored(
        np.moveaxis(pixels, 2, 0) if planar else pixels,
        photometric="rgb",
        extrasamples=["unassalpha"],
        planarconfig="separate" if planar else "contig",
        tile=tile,
        compression="adobe_deflate",
        predictor=predictor,
        bigtiff=bigtiff,
        byteorder="<",
    )
    assert np.array_equal(tiff_libtiff.samples(data, TiffFile(data)._page), pixels)


def test_lzw_of_16_bit_colour_keeps_16_bits() -> None:
    """The commonest compression of scans, which Pillow alone reduces to 8 bits."""
    pixels = noise(24, 32, 3)
    encoder = av.CodecContext.create("tiff", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.options = 32, 24, "rgb48le", {"compression_algo": "lzw"}
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    back = read_image(b"".join(bytes(packet) for packet in packets))
    assert back.depth == "uint16"
    assert np.array_equal(back.pixels.numpy(), pixels)


def test_a_codec_that_only_libtiff_has_is_no_damage() -> None:
    """Zstandard, which tifffile looks for in the standard library of Python 3.14, was told to be a damaged file."""
    pixels = noise(24, 32)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "TIFF", compression="zstd")
    assert np.array_equal(read_image(stream.getvalue()).pixels[..., 0].numpy(), pixels)


def test_a_big_endian_bigtiff_over_4_gb_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places of its parts do not fit a classic directory: an error of struct would call the file cut short."""
    monkeypatch.setattr(tiff_reader, "CLASSIC_END", 1000)
    data = stored(noise(37, 51, 3, dtype=np.uint8), photometric="rgb", bigtiff=True, byteorder=">")
    with pytest.raises(TooLargeError, match="row by row"):
        read_image(data)


@pytest.mark.parametrize("has_camera", [False, True])
def test_a_big_endian_bigtiff_keeps_its_texts(has_camera: bool) -> None:
    """The accident: Pillow finds nothing in it, and whole text tags are dropped as damaged."""
    texts = {"description": "a castle", "software": "scanner 7", "extratags": [(65000, "Q", 1, 8, True)]}
    data = stored(noise(5, 6), bigtiff=True, byteorder=">", **texts)
    if has_camera:  # tifffile writes no directory of this kind
        data = data.replace((65000).to_bytes(2, "big"), (0x8769).to_bytes(2, "big"), 1)
    meta = read_image(data).meta
    exif = Image.Exif()
    exif.load(meta.exif)
    assert dict(exif) == {270: "a castle", 305: "scanner 7"}
    assert ["camera" in note for note in meta.notes] == [True] * has_camera
    assert read_image(stored(noise(5, 6), bigtiff=True, byteorder=">", software=False)).meta.exif is None


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_gray_of_16_bits_may_be_inverted(white_is_zero: bool) -> None:
    """X-rays are often stored with white as zero; read as they are they come out as negatives."""
    pixels = noise(9, 7)
    data = stored(pixels, photometric="miniswhite" if white_is_zero else "minisblack")
    assert np.array_equal(read_image(data).pixels[..., 0].numpy(), 65535 - pixels if white_is_zero else pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int16])
def test_deep_gray_may_be_inverted_too(dtype: type) -> None:
    """The accident: of float, signed and wide X-rays the negative is enlarged, and written as a positive."""
    seen = noise(9, 7, dtype=np.uint8) / np.float64(255)  # as brightness, 0 is black
    low, high = (0, 1) if dtype is np.float32 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    as_stored = high - seen * (float(high) - low)
    as_stored = as_stored.astype(dtype) if dtype is np.float32 else np.rint(as_stored).astype(dtype)
    back = read_image(stored(as_stored, photometric="miniswhite"))
    found = back.pixels[..., 0].numpy().astype(np.float64)
    assert np.allclose((found - low) / (float(high) - low), seen, atol=1e-4)
    assert sum("turned round" in note for note in back.meta.notes) == 1


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_where_white_is_zero_opaque_stays_opaque(dtype: type) -> None:
    """The accident: alpha is turned round with the gray, and the picture vanishes."""
    pixels = np.dstack((noise(9, 7, dtype=dtype), np.full((9, 7), 1 if dtype is np.float32 else 65535, dtype)))
    options = {"photometric": "miniswhite", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    back = read_image(stored(pixels, **options)).pixels.numpy()
    assert np.array_equal(back[..., 1], pixels[..., 1])
    assert not np.array_equal(back[..., 0], pixels[..., 0])


def test_a_dark_16_bit_picture_stays_16_bit() -> None:
    """Depth guessed from the brightest pixel makes dark scans 257 times too bright."""
    pixels = np.full((4, 5), 200, np.uint16)
    back = read_image(stored(pixels))
    assert back.depth == "uint16"
    assert (back.pixels == 200).all()


def test_twelve_bits_are_stretched() -> None:
    """4095 is white: kept as it is, a 12-bit scan is nearly black."""
    values = np.array([[0, 1, 2048, 4095]], np.uint16)
    packed = bytearray()
    for first, second in values.reshape(-1, 2).tolist():
        packed += bytes((first >> 4, (first & 15) << 4 | second >> 8, second & 255))
    image = Image.new("I;16", (4, 1))
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    data = bytearray(stream.getvalue())
    page = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    at = page.tags[258].valueoffset
    data[at : at + 2] = (12).to_bytes(2, "little")
    start = page.dataoffsets[0]
    data[start : start + 6] = packed
    at = page.tags[279].valueoffset
    data[at : at + 4] = (6).to_bytes(4, "little")
    back = read_image(bytes(data))
    assert back.depth == "uint16"
    assert back.pixels[0, :, 0].tolist() == [0, 16, 32776, 65535]
    assert any("12-bit" in note for note in back.meta.notes)


def test_a_raw_file_is_not_its_thumbnail() -> None:
    """The accident: a camera's DNG comes back as its preview of 160 pixels, 'done'."""
    for options in ({"extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}, {"subfiletype": 1}):
        with pytest.raises(FormatError, match="develop it first"):
            read_header(stored(noise(12, 16, 3, dtype=np.uint8), photometric="rgb", **options))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_sample_that_nobody_explains_is_alpha(dtype: type) -> None:
    """The accident: OpenCV writes no ExtraSamples, and 16-bit pictures lose their transparency, 8-bit ones do not."""
    pixels = noise(12, 16, 4, dtype=dtype)
    data = bytearray(stored(pixels, photometric="rgb", extrasamples=["unassalpha"]))
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag = tiff.pages.first.tags[338]
    data[tag.offset : tag.offset + 2] = (65000).to_bytes(2, "little")  # a private tag in its place
    assert read_header(bytes(data)).channels == 4
    assert np.array_equal(read_image(bytes(data)).pixels.numpy(), pixels)


def predicted(part: np.ndarray, predictor: int) -> bytes:
    """A strip or tile (h, w, C) as it lies in a file, by the words of TIFF 6.0 and of its Technical Note 3."""
    height, _, channels = part.shape
    if predictor == 2:
        words = part.view(f"u{part.itemsize}")
        return zlib.compress(np.diff(words, axis=1, prepend=words.dtype.type(0)).tobytes())
    by_places = part.astype(part.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1, part.itemsize)
    values = by_places.swapaxes(1, 2).reshape(height, -1, channels)
    return zlib.compress(np.diff(values, axis=1, prepend=np.uint8(0)).tobytes())


@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("dtype", "predictor"),
    [(np.float32, 2), (np.float32, 3), (np.float64, 3), (np.float16, 3), (np.int16, 2), (np.uint32, 2), (np.int8, 2)],
)
def test_predictors_of_every_kind_of_sample(dtype: type, predictor: int, planar: bool, tile) -> None:
    """The accident: heights as GDAL packs them (LZW or deflate, PREDICTOR=2 or 3) were refused, or lost their sign."""
    pixels = (noise(37, 51, 3, dtype=np.float32) * 200 - 100).astype(dtype)
    height, width = tile or (8, 51)
    planes = [pixels[..., k : k + 1] for k in range(3)] if planar else [pixels]
    padded = [np.pad(plane, ((0, -37 % height if tile else 0), (0, -51 % width), (0, 0))) for plane in planes]
    parts = [
        predicted(np.ascontiguousarray(plane[y : y + height, x : x + width]), predictor)
        for plane in padded
        for y in range(0, 37, height)
        for x in range(0, 51, width)
    ]
    data = stored(
        iter(parts),
        shape=(3, 37, 51) if planar else (37, 51, 3),
        dtype=dtype,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        compression="adobe_deflate",
        byteorder="<",
        extratags=[(65000, "H", 1, predictor, True)],  # tifffile writes no predictor that it lacks
        **({"tile": tile} if tile else {"rowsperstrip": height}),
    )
    data = data.replace(struct.pack("<HHIH", 65000, 3, 1, predictor), struct.pack("<HHIH", 317, 3, 1, predictor))
    assert np.array_equal(tiff_libtiff.samples(data, TiffFile(data)._page), pixels)
    assert np.array_equal(read_image(data).pixels.numpy(), pixels.astype(np.float32))


def sparse(pixels: np.ndarray, compression: str | None, tile: tuple[int, int] | None, nodata: str | None) -> bytes:
    """A TIFF in strips of 8 rows, or in tiles, whose parts of one value are left out as GDAL leaves them out."""
    extra = {"extratags": [(42113, "s", 0, nodata, True)]} if nodata else {}
    layout = {"tile": tile} if tile else {"rowsperstrip": 8}
    data = bytearray(stored(pixels, photometric="rgb", compression=compression, byteorder="<", **layout, **extra))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page, (height, width) = file.pages.first, tile or (8, pixels.shape[1])
        places = [(y, x) for y in range(0, pixels.shape[0], height) for x in range(0, pixels.shape[1], width)]
        tags = [page.tags[number] for number in ((324, 325) if tile else (273, 279))]
    for number, (y, x) in enumerate(places):
        if np.ptp(pixels[y : y + height, x : x + width]) == 0:
            for tag in tags:
                size = tag.valuebytecount // tag.count
                data[tag.valueoffset + number * size : tag.valueoffset + (number + 1) * size] = bytes(size)
    return bytes(data)


@pytest.mark.parametrize("nodata", [None, "7"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("compression", [None, "adobe_deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_parts_that_are_left_out_are_no_other_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type, compression: str | None, tile, nodata: str | None
) -> None:
    """The accident: for a strip that GDAL had left out (SPARSE_OK) the beginning of the file was taken."""
    pixels = noise(64, 48, 3, dtype=dtype)
    pixels[16:48] = int(nodata or 0)
    data = sparse(pixels, compression, tile, nodata)
    (tmp_path / "a.tif").write_bytes(data)
    whole = read_image(data)
    assert np.array_equal(whole.pixels.numpy(), pixels)
    assert f"they were filled with {nodata or 0}" in whole.meta.notes[0]
    monkeypatch.setattr(tiff_bands, "_BAND_BYTES", 1000)
    scan = read_scanlines(tmp_path / "a.tif", max_pixels=1 << 20, least_bytes=0)
    assert scan is not None
    assert np.array_equal(torch.cat(tuple(scan.parts())).numpy(), pixels)
    assert scan.meta == whole.meta


def test_parts_that_are_left_out_and_cannot_be_filled_are_refused_at_once() -> None:
    """Of print colours and palettes nobody says which one stands for nothing."""
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:8] = noise(8, 32, 4, dtype=np.uint8)
    data = sparse(pixels, None, None, None).replace(*(struct.pack("<HHIH", 262, 3, 1, value) for value in (2, 5)))
    with pytest.raises(FormatError, match=r"got a sparse TIFF.*\n.*without SPARSE_OK"):
        read_header(data)


@pytest.mark.parametrize("is_told", [True, False])
def test_chroma_at_a_lower_resolution_without_a_codec_is_refused_by_name(is_told: bool) -> None:
    """The accident: a whole file of a scanner is told to end before its picture does."""
    tags = [(530, "H", 2, (2, 1), True)] if is_told else []
    data = stored(noise(16, 16, 3, dtype=np.uint8), photometric="rgb", byteorder="<", extratags=tags)
    data = data.replace(struct.pack("<HHIH", 262, 3, 1, 2), struct.pack("<HHIH", 262, 3, 1, 6))
    with pytest.raises(FormatError, match=r"YCbCr ones at a lower one\nstore it as RGB or with JPEG"):
        read_header(data)


def test_a_compression_that_nobody_here_reads_is_named() -> None:
    """The accident: LERC was told to be damage called 34887, and WebP to be decoder error -2."""
    data = stored(noise(16, 16, 3, dtype=np.uint8), photometric="rgb", compression="adobe_deflate", byteorder="<")
    data = data.replace(struct.pack("<HHIH", 259, 3, 1, 8), struct.pack("<HHIH", 259, 3, 1, 34887))
    with pytest.raises(FormatError, match=r"its compression is LERC\nstore it with LZW or deflate"):
        read_image(data)


@pytest.mark.parametrize("below", [False, True])
def test_a_pyramid_is_one_picture(tmp_path: Path, below: bool) -> None:
    """Smaller copies of it are no other pages, as its mask is none."""
    pixels = noise(32, 32, 3, dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels, photometric="rgb", subifds=1 if below else None, metadata=None)
        file.write(pixels[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    frame = read_image(tmp_path / "a.tif")
    assert frame.meta.frames == 1
    assert frame.meta.notes == ("its smaller copies (a pyramid) were not kept",)


def test_float_values_are_kept_and_must_be_finite() -> None:
    """High dynamic range lies above 1; a NaN would spread through the network to every pixel near it."""
    pixels = noise(6, 5, 3, dtype=np.float32) * 40 - 3
    assert np.array_equal(read_image(stored(pixels, photometric="rgb")).pixels.numpy(), pixels)
    pixels[2, 3, 1] = np.nan
    with pytest.raises(ImageError, match="1 that are NaN"):
        read_image(stored(pixels, photometric="rgb"))


@pytest.mark.parametrize("text", ["-9999", "-3.4028234663852886e+38", "-3.40282346638529e+38"])
def test_a_value_that_stands_for_no_data_must_not_decide_the_range(text: str) -> None:
    """The accident: one -9999 in a map of heights, and the valleys beside it come back as steps of 40 metres."""
    pixels, tag = noise(6, 5, dtype=np.float32) * 100, [(42113, "s", 0, text, True)]
    assert np.array_equal(read_image(stored(pixels, extratags=tag)).pixels[..., 0].numpy(), pixels)
    pixels[1, 2:4] = float(text)
    with pytest.raises(ImageError, match=r"got 2 times -.* no data\nreplace"):
        read_image(stored(pixels, extratags=tag))


@pytest.mark.parametrize("text", ["0", "nan", "none"])
def test_a_filler_within_black_and_white_harms_nothing(text: str) -> None:
    """The accident: an orthophoto of reflectances is refused for its black rim."""
    pixels = noise(6, 5, dtype=np.float32)
    pixels[:2] = 0
    data = stored(pixels, extratags=[(42113, "s", 0, text, True)])
    assert np.array_equal(read_image(data).pixels[..., 0].numpy(), pixels)


@pytest.mark.parametrize(("text", "low", "high"), [("-1", 1, 1000), ("-0.0005", 0, 0.5), ("-1", -0.3, 0.9)])
def test_a_filler_that_hardly_widens_the_range_is_said(text: str, low: float, high: float) -> None:
    """The accident: a map of plants is refused for a -1 that costs its values nothing."""
    pixels, tag = low + noise(6, 5, dtype=np.float32) * (high - low), [(42113, "s", 0, text, True)]
    assert not read_image(stored(pixels, extratags=tag)).meta.notes
    pixels[1, 2:4] = float(text)
    frame = read_image(stored(pixels, extratags=tag))
    assert np.array_equal(frame.pixels[..., 0].numpy(), pixels)
    assert frame.meta.notes == (f"values of {text}, which stand for no data, were taken for colours",)


def test_rows_with_a_filler_are_judged_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: in a flat strip a small filler lies far from all else, and a large file is refused for it."""
    monkeypatch.setattr(tiff_bands, "_BAND_BYTES", 1)
    pixels = noise(6, 5, dtype=np.float32) * 100
    pixels[0] = 50
    pixels[0, 1] = -20
    tifffile.imwrite(tmp_path / "a.tif", pixels, rowsperstrip=1, extratags=[(42113, "s", 0, "-20", True)])
    bands = tiff_bands.TiffBands(tmp_path / "a.tif")
    assert np.array_equal(np.concatenate(tuple(bands))[..., 0], pixels)
    assert tuple(bands.described().notes) == read_image(tmp_path / "a.tif").meta.notes != ()
    pixels[-1] = 0
    pixels[0, 1] = -9999
    tifffile.imwrite(tmp_path / "b.tif", pixels, rowsperstrip=1, extratags=[(42113, "s", 0, "-9999", True)])
    with pytest.raises(ImageError, match="got 1 times -9999"):
        tuple(tiff_bands.TiffBands(tmp_path / "b.tif"))


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int32, np.float64])
def test_wide_numbers_become_float_with_their_values(dtype: type) -> None:
    """Elevation models and CT slices: scaling them to 0..1 would lose their unit."""
    pixels = (noise(6, 5, dtype=np.float32) * 30000).astype(dtype)
    back = read_image(stored(pixels))
    assert back.depth == "float32"
    assert np.array_equal(back.pixels[..., 0].numpy(), pixels.astype(np.float32))
    assert back.meta.notes


@pytest.mark.parametrize(("dtype", "is_rounded"), [(np.int16, False), (np.uint32, True)])
def test_whole_numbers_that_float_rounds_are_not_called_kept(dtype: type, is_rounded: bool) -> None:
    """The accident: identifiers of 32 bits come back changed by up to 128, under the words 'values kept'."""
    (note,) = read_image(stored(noise(5, 6, dtype=np.uint8).astype(dtype))).meta.notes
    assert ("rounded to 24 bits" in note, "values kept" in note) == (is_rounded, not is_rounded)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_refused(dtype: type) -> None:
    """The accident: of a radar picture the imaginary part is gone, and the note tells of '64-bit floats'."""
    with pytest.raises(FormatError, match="magnitude or phase"):
        read_header(stored(np.ones((4, 5), dtype)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_alpha_is_divided_out(dtype: type) -> None:
    """Taken for straight alpha, every soft edge gets a dark rim; of 8 bits nobody was told that it was divided."""
    top = np.iinfo(dtype).max
    shares = np.array([[[0.61, 0.305, 0.0153, 0.5], [1, 0, 0, 1], [0.2, 0.2, 0.2, 0]]])
    straight = np.rint(shares * top).astype(dtype)
    alpha = straight[..., 3:].astype(np.float64) / top
    mixed = np.concatenate((np.rint(straight[..., :3] * alpha), straight[..., 3:]), axis=2).astype(dtype)
    back = read_image(stored(mixed, photometric="rgb", extrasamples=["assocalpha"]))
    assert np.abs(back.pixels[0, :2].numpy().astype(int) - straight[0, :2]).max() <= 1
    assert back.pixels[0, 2].tolist() == [0, 0, 0, 0]
    assert back.meta.notes == ("premultiplied alpha divided out",)


@pytest.mark.parametrize("dtype", [np.uint32, np.int16])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_alpha_of_wide_integers_lies_between_0_and_1(dtype: type, extra: str) -> None:
    """The accident: 0 to 4294967295 is clipped to [0, 1], and whatever was half transparent is opaque."""
    top = np.iinfo(dtype).max
    pixels = np.array([[[8, 4, 2, top], [4, 2, 1, top // 2], [0, 0, 0, 0]]], dtype)
    back = read_image(stored(pixels, photometric="rgb", extrasamples=[extra]))
    assert back.pixels[0, :, 3].tolist() == pytest.approx([1, 0.5, 0], abs=1e-4)
    straight = [[8, 4, 2], [8, 4, 2]] if extra == "assocalpha" else [[8, 4, 2], [4, 2, 1]]
    assert np.allclose(back.pixels[0, :2, :3].numpy(), straight, atol=1e-3)
    assert f"alpha divided by {top}" in back.meta.notes


def test_first_of_several_pages() -> None:
    """A fax of three pages gives one picture, and says so."""
    pages = noise(3, 8, 9, dtype=np.uint8)
    back = read_image(stored(pages, photometric="minisblack"))
    assert np.array_equal(back.pixels[..., 0].numpy(), pages[0])
    assert "first of 3 pages" in back.meta.notes
    assert read_header(stored(pages, photometric="minisblack")).frames == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_extra_bands_are_dropped_and_said(dtype: type) -> None:
    """Near infrared as a fourth band is no alpha. The accident: of 8 bits it was dropped without a word."""
    pixels = noise(5, 6, 5, dtype=dtype)
    back = read_image(stored(pixels, photometric="rgb", extrasamples=["unspecified", "unspecified"]))
    assert np.array_equal(back.pixels.numpy(), pixels[..., :3])
    assert back.meta.notes == ("dropped 2 extra samples per pixel",)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", [False, True])
def test_the_first_of_many_gray_bands(dtype: type, planar: bool) -> None:
    """The accident: of 8 bits, an intact satellite picture of planes 'ends early', one of pixels is 'unknown'."""
    pixels = noise(5, 6, 5, dtype=dtype)
    data = stored(
        np.moveaxis(pixels, 2, 0) if planar else pixels,
        photometric="minisblack",
        planarconfig="separate" if planar else "contig",
    )
    back = read_image(data)
    assert np.array_equal(back.pixels.numpy(), pixels[..., :1])
    assert back.meta.notes == ("dropped 4 extra samples per pixel",)


@pytest.mark.parametrize("imagej", [False, True])
def test_a_stack_behind_one_directory_is_a_stack(imagej: bool) -> None:
    """The accident: one slice of five comes back, and nobody is told of the others."""
    pages, stream = noise(5, 8, 9), io.BytesIO()
    tifffile.imwrite(stream, pages, imagej=imagej, truncate=True)
    back = read_image(stream.getvalue())
    assert np.array_equal(back.pixels[..., 0].numpy(), pages[0])
    assert back.meta.notes == ("first of 5 pages",)


@pytest.mark.parametrize(("tag", "what"), [(33550, "GeoTIFF"), (33922, "GeoTIFF"), (33723, "IPTC"), (34377, "IPTC")])
def test_what_a_result_does_not_carry_is_said(tag: int, what: str) -> None:
    """The accident: a satellite's picture loses its place on the map, and nobody is told."""
    note = read_image(stored(noise(5, 6), extratags=[(tag, "d", 3, (1.0, 1.0, 0.0), True)])).meta.notes
    assert [what in line and "not kept" in line for line in note] == [True]


ADOBE_RGB = (64, 100, 33, 100, 21, 100, 71, 100, 15, 100, 6, 100)
SRGB = (64, 100, 33, 100, 30, 100, 60, 100, 15, 100, 6, 100)


@pytest.mark.parametrize(
    ("tag", "is_said"),
    [
        ((319, "2I", 6, ADOBE_RGB, True), True),
        ((319, "2I", 6, SRGB, True), False),
        ((318, "2I", 2, (3457, 10000, 3585, 10000), True), True),
        ((318, "2I", 2, (3127, 10000, 3290, 10000), True), False),
        ((301, "H", 256, tuple(range(0, 65536, 257)), True), True),
        ((301, "H", 256, tuple(int(65535 * (i / 255) ** 2.2) for i in range(256)), True), False),
        ((301, "H", 7, tuple(range(7)), True), True),
    ],
)
def test_colours_without_a_profile_are_missed_aloud(tag: tuple, is_said: bool) -> None:
    """The accident: a scan in Adobe's colours that only its tags tell comes back paler, and nobody is told."""
    pixels = noise(5, 6, 3, dtype=np.uint8)
    notes = read_image(stored(pixels, photometric="rgb", extratags=[tag])).meta.notes
    assert ["colours are not those of sRGB" in note for note in notes] == [True] * is_said
    with_profile = read_image(stored(pixels, photometric="rgb", extratags=[tag], iccprofile=b"p" * 200))
    assert "sRGB" not in " ".join(with_profile.meta.notes)


@pytest.mark.parametrize(
    ("unit", "resolution", "dpi", "is_said"),
    [(2, (300, 200), (300, 200), 0), (3, (100, 50), (254, 127), 0), (1, (300, 200), None, 1), (1, (1, 1), None, 0)],
)
def test_a_resolution_without_a_unit_is_missed_aloud(
    unit: int, resolution: tuple[int, int], dpi: tuple[int, int] | None, is_said: int
) -> None:
    """The accident: microscopes write pixels per micrometre without a unit, and the scale is gone without a word."""
    meta = read_image(stored(noise(5, 6), resolution=resolution, resolutionunit=unit)).meta
    assert meta.dpi == (dpi and pytest.approx(dpi))
    assert ["without a unit" in note for note in meta.notes] == [True] * is_said


def test_absurd_numbers_are_refused_before_memory_is_taken() -> None:
    """A 300-byte file that declares tiles of two gigapixels."""
    data = bytearray(stored(noise(32, 32, dtype=np.uint8), tile=(16, 16), photometric="minisblack"))
    page = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    for tag in (322, 323):
        at = page.tags[tag].valueoffset
        data[at : at + 2] = (65520).to_bytes(2, "little")
    with pytest.raises((ImageError, FormatError), match="tiles of 65520x65520"):
        read_image(bytes(data))


def test_a_strip_behind_the_end_is_a_cut_file() -> None:
    """The directory often comes first and survives the cut."""
    data = stored(noise(64, 64, 3), photometric="rgb", rowsperstrip=8)
    with pytest.raises(TruncatedError):
        read_image(data[: len(data) // 2])
