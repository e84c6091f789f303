"""Pictures read row by row: the same pixels and metadata as those of the file read as a whole, in little memory."""

import gc
import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data

from imagesmith.data import png_bands, tiff_bands
from imagesmith.data.decoded import WholeOnly
from imagesmith.data.files import read_image, write_image
from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.data.scanlines import Scanlines, read_scanlines
from imagesmith.errors import ImageError, TooLargeError, TruncatedError

HEIGHT, WIDTH = 61, 83


@pytest.fixture(autouse=True)
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows, so that these small pictures have many."""
    for module in (png_bands, tiff_bands):
        monkeypatch.setattr(module, "_BAND_BYTES", 3000)


def photo(channels: int, dtype: type = np.uint8) -> np.ndarray:
    pixels = data.astronaut()[40 : 40 + HEIGHT, 150 : 150 + WIDTH]
    pixels = np.concatenate((pixels, pixels[:, ::-1, :1]), axis=2)[
        ..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    ]
    if dtype is np.float32:
        return pixels.astype(np.float32) / 200
    return pixels if dtype is np.uint8 else pixels.astype(np.uint16) * 257 - 5


def scanned(path: Path) -> Scanlines:
    scan = read_scanlines(path, max_pixels=1 << 20, least_bytes=0)
    assert scan is not None
    return scan


def same_as_whole(path: Path) -> Scanlines:
    """Reads in windows that overlap, as tiles with halos do, and compares with the file read as a whole."""
    whole, scan = read_image(path), scanned(path)
    assert (scan.height, scan.width, scan.channels) == whole.pixels.shape
    assert (scan.depth, scan.colours, scan.meta) == (whole.depth, whole.colours, whole.meta)
    for top in range(0, scan.height, 9):
        first, last = max(0, top - 5), min(scan.height, top + 14)
        rows = scan.rows(first, last)
        assert rows.dtype == whole.pixels.dtype
        assert torch.equal(rows, whole.pixels[first:last]), f"rows {first} to {last}"
    parts = tuple(scan.parts())
    assert torch.equal(torch.cat(parts), whole.pixels)
    assert max(map(len, parts)) == scan.band_rows, "what is said to be held is not what is held"
    return scan


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png(tmp_path: Path, channels: int, dtype: type) -> None:
    """The filters of a row need the row above, which for the first row of a band lies in the band before."""
    pixels = torch.from_numpy(photo(channels, dtype))
    meta = ImageMeta("png", "", dpi=(300.0, 150.0), xmp=b"<x/>")
    write_image(Frame(pixels, str(pixels.dtype)[6:], meta), tmp_path / "a.png")
    assert same_as_whole(tmp_path / "a.png").meta.xmp == b"<x/>"


@pytest.mark.parametrize("kind", ["palette", "palette with transparency", "colour key", "animation"])
def test_png_of_other_kinds(tmp_path: Path, kind: str) -> None:
    """Palettes and transparent colours are applied to each band, not left to the first."""
    image = Image.fromarray(photo(3))
    options = {}
    if kind.startswith("palette"):
        image = image.quantize(200)
        options = {"transparency": bytes(range(200))} if "with" in kind else {}
    elif kind == "colour key":
        options = {"transparency": tuple(photo(3)[30, 30].tolist())}
    else:
        options = {"save_all": True, "append_images": [Image.fromarray(photo(3)[:, ::-1])]}
    image.save(tmp_path / "a.png", **options)
    same_as_whole(tmp_path / "a.png")


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 4}, {"rowsperstrip": 61}, {"tile": (16, 32)}])
@pytest.mark.parametrize("compression", [None, "adobe_deflate"])
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (4, np.uint16), (3, np.float32)])
def test_tiff(tmp_path: Path, planar: bool, layout: dict, compression, channels: int, dtype: type) -> None:
    """Strips, tiles, one strip for all, planes one after the other: scanners and microscopes write every one of them."""
    pixels = photo(channels, dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(pixels, 2, 0) if planar else pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        planarconfig="separate" if planar else "contig",
        compression=compression,
        predictor=bool(compression) and dtype is not np.float32,
        byteorder=">" if planar else "<",
        bigtiff=layout.get("rowsperstrip") == 4 and not planar,
        resolution=(300, 300),
        **layout,
    )
    same_as_whole(tmp_path / "a.tif")


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("channels", "photometric", "extra"),
    [
        (2, "minisblack", "assocalpha"),
        (2, "miniswhite", "unassalpha"),
        (4, "rgb", "assocalpha"),
        (4, "rgb", "unspecified"),
    ],
)
def test_tiff_of_8_bits_with_extra_samples(
    tmp_path: Path, planar: bool, channels: int, photometric: str, extra: str
) -> None:
    """The accident: bands that Pillow read and whole files that tifffile read were a level apart at soft edges."""
    pixels = photo(channels)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(pixels, 2, 0) if planar else pixels,
        photometric=photometric,
        extrasamples=[extra],
        planarconfig="separate" if planar else "contig",
        rowsperstrip=4,
    )
    assert len(same_as_whole(tmp_path / "a.tif").meta.notes) == (extra != "unassalpha")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "packbits"])
def test_tiff_of_libtiff(tmp_path: Path, mode: str, compression: str) -> None:
    """LZW and JPEG inside TIFF, palettes and print colours: what decoders know about them must reach every band."""
    if compression == "jpeg" and mode in ("1", "LA", "P", "RGBA"):
        pytest.skip("libtiff does not write it")
    image = Image.fromarray(photo(4)).convert("RGB" if mode in ("CMYK", "YCbCr", "P") else mode)
    image = image.convert(mode, dither=Image.Dither.NONE) if mode != image.mode else image
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo={278: 16, 270: "a castle"}, dpi=(240, 240))
    scan = same_as_whole(tmp_path / "a.tif")
    assert scan.meta.exif is not None
    assert b"a castle" in scan.meta.exif


def test_premultiplied_alpha_and_pages_are_told_once(tmp_path: Path) -> None:
    """A note for each of two hundred bands buries the one that matters."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for _ in range(2):
            tiff.write(photo(4, np.uint16), photometric="rgb", extrasamples=["assocalpha"], rowsperstrip=4)
    notes = same_as_whole(tmp_path / "a.tif").meta.notes
    assert sorted(notes) == ["first of 2 pages", "premultiplied alpha divided out"]


def test_a_stack_behind_one_directory_is_told(tmp_path: Path) -> None:
    """The accident: read row by row, the first slice of an ImageJ stack passes for all of it."""
    tifffile.imwrite(tmp_path / "a.tif", np.stack([photo(1, np.uint16)[..., 0]] * 3), imagej=True, truncate=True)
    meta = same_as_whole(tmp_path / "a.tif").meta
    assert (meta.notes, meta.frames) == (("first of 3 pages",), 3)


def test_colours_of_its_own_are_told_once(tmp_path: Path) -> None:
    """The accident: what tags alone tell of the colours is said of small pictures and not of large ones."""
    tag = (318, "2I", 2, (3457, 10000, 3585, 10000), True)
    tifffile.imwrite(tmp_path / "a.tif", photo(3), photometric="rgb", rowsperstrip=4, extratags=[tag], metadata=None)
    (note,) = same_as_whole(tmp_path / "a.tif").meta.notes
    assert "WhitePoint" in note


def test_a_filler_far_down_is_found(tmp_path: Path) -> None:
    """The accident: only the first band knows which value stands for no data, and the last rows decide the range."""
    pixels = photo(1, np.float32)
    pixels[-1, -1] = -9999
    tag = (42113, "s", 0, "-9999", True)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", rowsperstrip=4, extratags=[tag])
    with pytest.raises(ImageError, match="no data"):
        tuple(scanned(tmp_path / "a.tif").parts())


def test_rows_are_held_only_while_they_are_needed(tmp_path: Path) -> None:
    """A window that keeps what lies above it is the whole picture in the end."""
    Image.fromarray(np.tile(photo(3), (20, 1, 1))).save(tmp_path / "a.png")
    scan = scanned(tmp_path / "a.png")
    most = 0
    for top in range(0, scan.height, 20):
        scan.rows(max(0, top - 5), min(scan.height, top + 25))
        most = max(most, sum(map(len, scan._held)))
    assert most <= 30 + 2 * (3000 // (WIDTH * 3))


def test_only_the_rows_asked_for_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a picture in one strip, looked at 32 rows at a time, is copied as a whole each time: minutes."""
    tifffile.imwrite(tmp_path / "a.tif", picture := np.tile(photo(3), (20, 1, 1)), rowsperstrip=10_000)
    scan, copied = scanned(tmp_path / "a.tif"), list[int]()
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda parts: copied.append(sum(map(len, parts))) or cat(parts))
    for top in range(0, scan.height, 20):
        assert np.array_equal(scan.rows(top, min(scan.height, top + 20)).numpy(), picture[top : top + 20])
    assert sum(copied) <= scan.height


def test_bands_that_were_read_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: tifffile's objects hold each other and the bytes of their band, until Python looks for cycles."""
    monkeypatch.setattr(tiff_bands, "_BAND_BYTES", 200_000)
    tifffile.imwrite(tmp_path / "a.tif", np.tile(photo(3), (20, 20, 1)), rowsperstrip=2)
    bands = iter(tiff_bands.TiffBands(tmp_path / "a.tif"))
    next(bands)
    gc.disable()
    tracemalloc.start()
    try:
        for _ in bands:
            pass
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 0.3 * HEIGHT * 20 * WIDTH * 20 * 3


def test_rows_above_begin_again(tmp_path: Path) -> None:
    """Asked twice, for the darkest value first and for pixels then, a reader that stands at the end gives nothing."""
    Image.fromarray(photo(3)).save(tmp_path / "a.png")
    scan = scanned(tmp_path / "a.png")
    last = scan.rows(50, 61)
    assert torch.equal(scan.rows(0, 61)[50:], last)


@pytest.mark.parametrize(
    ("save", "why"),
    [
        ({"format": "PNG", "mode": "1"}, "pixels share bytes"),
        ({"format": "JPEG"}, "JPEG is decoded as a whole"),
        ({"format": "TIFF", "compression": "tiff_lzw", "tiffinfo": {278: 61}}, "one compressed strip"),
        ({"format": "TIFF", "tiffinfo": {274: 6}}, "turned upright"),
    ],
)
def test_what_can_only_be_read_as_a_whole_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: dict, why: str
) -> None:
    """A user with 60 gigabytes of scans must learn which way of saving them would do."""
    monkeypatch.setattr(tiff_bands, "_MOST_BAND_BYTES", 5000)
    image = Image.fromarray(photo(3))
    image.convert(save.pop("mode", "RGB")).save(tmp_path / "a", **save)
    with pytest.raises(WholeOnly, match=why):
        scanned(tmp_path / "a")


def test_a_tiff_without_the_bytes_of_its_parts_is_read_as_a_whole(tmp_path: Path) -> None:
    """The accident: strips of which the file says '0 bytes' are there, and come back black."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, photo(3), photometric="rgb", rowsperstrip=61, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        counts = tiff.pages.first.tags[279]
    with open(path, "r+b") as file:
        file.seek(counts.valueoffset)
        file.write(bytes(counts.valuebytecount))
    assert np.array_equal(read_image(path).pixels.numpy(), photo(3))
    with pytest.raises(WholeOnly, match="how many bytes its parts have"):
        scanned(path)


def test_an_interlaced_png_is_read_as_a_whole(tmp_path: Path) -> None:
    """Its first rows are spread over all of the file."""
    stream = io.BytesIO()
    Image.fromarray(photo(1)[..., 0]).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[28] = 1
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(WholeOnly, match="interlaced"):
        scanned(tmp_path / "a.png")


def test_small_pictures_and_too_large_ones(tmp_path: Path) -> None:
    """A header that promises a gigapixel is refused here as everywhere; a small picture is faster as a whole."""
    Image.fromarray(photo(3)).save(tmp_path / "a.png")
    assert read_scanlines(tmp_path / "a.png", max_pixels=1 << 20, least_bytes=HEIGHT * WIDTH * 3 + 1) is None
    with pytest.raises(TooLargeError, match=r"a\.png: expected at most 0.005 mega.*\n.*--max-pixels"):
        read_scanlines(tmp_path / "a.png", max_pixels=5000, least_bytes=0)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_file_cut_short_is_refused_before_hours_of_computing(tmp_path: Path, name: str) -> None:
    """The last row of a gigapixel picture comes hours after the first."""
    Image.fromarray(photo(3)).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    cut = content[:-400] if name == "a.png" else b"II*\0" + content[4:]
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, photo(3), photometric="rgb", rowsperstrip=4)
        cut = (tmp_path / name).read_bytes()[:-400]
    (tmp_path / name).write_bytes(cut)
    with pytest.raises(TruncatedError, match=name):
        scanned(tmp_path / name)


def test_a_changed_byte_in_a_png_is_found_at_once(tmp_path: Path) -> None:
    """Checksums are there to be looked at."""
    Image.fromarray(photo(3)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match="checksum"):
        scanned(tmp_path / "a.png")


def test_a_changed_header_is_found_and_changed_metadata_is_named(tmp_path: Path) -> None:
    """The accident: another height or palette passes, written again with a checksum that fits."""
    Image.fromarray(photo(3)).save(tmp_path / "a.png", dpi=(300, 300))
    content = (tmp_path / "a.png").read_bytes()
    header, resolution = bytearray(content), bytearray(content)
    header[content.index(b"IHDR") + 11] ^= 1
    resolution[content.index(b"pHYs") + 7] ^= 1
    (tmp_path / "a.png").write_bytes(header)
    with pytest.raises(ImageError, match="IHDR"):
        scanned(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(resolution)
    assert same_as_whole(tmp_path / "a.png").meta.notes == ("dropped a damaged pHYs chunk",)


def test_damage_inside_a_strip_names_the_file(tmp_path: Path) -> None:
    """TIFF has no checksums: a broken strip shows only when it is decoded, in words even then."""
    tifffile.imwrite(tmp_path / "a.tif", photo(3), photometric="rgb", rowsperstrip=4, compression="adobe_deflate")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        place, size = tiff.pages.first.dataoffsets[-1], tiff.pages.first.databytecounts[-1]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[place : place + size] = bytes(size)
    (tmp_path / "a.tif").write_bytes(content)
    scan = scanned(tmp_path / "a.tif")
    scan.rows(0, 20)
    with pytest.raises(ImageError, match=r"a\.tif"):
        scan.rows(50, 61)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_damaged_files_end_in_words_and_whole_ones_in_the_same_pixels(tmp_path: Path, name: str) -> None:
    """Whatever a byte in the middle of a header becomes: an error of ours, or what reading the whole gives."""
    pixels, path = photo(3)[:24, :20], tmp_path / name
    if name == "a.png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=5, compression="adobe_deflate", predictor=True)
    content, random = path.read_bytes(), np.random.default_rng(4)
    seen = set()
    for _ in range(250):
        at = int(random.integers(0, min(len(content), 400)))
        path.write_bytes(content[:at] + bytes([random.integers(256)]) + content[at + 1 :])
        try:
            scan = scanned(path)
            rows = torch.cat(tuple(scan.parts()))
        except (ImageError, WholeOnly) as error:
            seen.add(type(error).__name__)
            continue
        assert rows.shape == (scan.height, scan.width, scan.channels)
        seen.add("read")
        try:
            whole = read_image(path)
        except ImageError:
            continue
        assert torch.equal(rows, whole.pixels)
    assert {"read", "ImageError"} <= seen


def test_a_stream_that_inflates_for_ever_is_not_followed(tmp_path: Path) -> None:
    """A few kilobytes that become gigabytes behind the last row of a small picture."""
    stream = io.BytesIO()
    Image.fromarray(photo(3)).save(stream, "PNG")
    content = stream.getvalue()
    start = content.index(b"IDAT") - 4
    rows = b"".join(b"\0" + row.tobytes() for row in photo(3))
    packed = zlib.compress(rows + bytes(50_000_000), 9)
    body = b"IDAT" + packed
    chunk = struct.pack(">I", len(packed)) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(content[:start] + chunk + content[content.index(b"IEND") - 4 :])
    scan = scanned(tmp_path / "a.png")
    assert torch.equal(torch.cat(tuple(scan.parts())), torch.from_numpy(photo(3)))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_picture_that_is_moved_away_while_it_is_read_is_not_called_damaged(tmp_path: Path, ending: str) -> None:
    """An hour into a scan its disk was unmounted, and the advice was to export it again."""
    path = tmp_path / f"a.{ending}"
    Image.fromarray(photo(3)).save(path)
    scan = scanned(path)
    path.unlink()
    with pytest.raises(ImageError, match=rf"a\.{ending}: cannot be read any more: No such file"):
        scan.rows(0, 5)
