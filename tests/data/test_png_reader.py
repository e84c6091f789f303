"""PNG chunks: what is missing, doubled, damaged or hostile is told apart, at every bit depth."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from imagesmith.data.files import read_header, read_image
from imagesmith.errors import ImageError, TruncatedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows: list[bytes], *, width: int, bits: int, colour: int, between: bytes = b"", interlace: int = 0) -> bytes:
    """A PNG by hand: unfiltered rows as they are stored."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, interlace)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return SIGNATURE + chunk(b"IHDR", header) + between + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("bits", "row", "levels"), [(1, 0b01000000, [0, 255]), (2, 0b00011011, [0, 85, 170, 255])])
def test_few_bits_of_gray_are_scaled_to_eight(bits: int, row: int, levels: list[int]) -> None:
    """Two-bit gray kept as 0..3 is black."""
    back = read_image(png([bytes((row,))], width=len(levels), bits=bits, colour=0))
    assert back.pixels[0, :, 0].tolist() == levels
    assert back.depth == "uint8"


def test_a_colour_key_is_compared_at_full_depth() -> None:
    """Two 16-bit colours with equal high bytes: only the named one is transparent."""
    row = struct.pack(">6H", 0x1234, 1, 2, 0x1235, 1, 2)
    back = read_image(png([row], width=2, bits=16, colour=2, between=chunk(b"tRNS", struct.pack(">3H", 0x1234, 1, 2))))
    assert back.pixels[0].tolist() == [[0x1234, 1, 2, 0], [0x1235, 1, 2, 65535]]


@pytest.mark.parametrize(("bits", "colour", "channels"), [(16, 0, 1), (16, 2, 3), (16, 4, 2), (16, 6, 4)])
def test_sixteen_bits_stay_exact(bits: int, colour: int, channels: int) -> None:
    """Low bytes from another place than the high ones would be noise that no eye sees in a test picture."""
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels))
    rows = [row.astype(">u2").tobytes() for row in values]
    assert np.array_equal(read_image(png(rows, width=7, bits=bits, colour=colour)).pixels.numpy(), values)


def test_palette_with_partial_transparency() -> None:
    """Entries beyond tRNS are opaque, indices beyond the palette are black, and neither is an error."""
    between = chunk(b"PLTE", bytes((255, 0, 0, 0, 255, 0))) + chunk(b"tRNS", bytes((128,)))
    back = read_image(png([bytes((0, 1, 7))], width=3, bits=8, colour=3, between=between))
    assert back.pixels[0].tolist() == [[255, 0, 0, 128], [0, 255, 0, 255], [0, 0, 0, 255]]
    assert "palette expanded to RGBA" in back.meta.notes


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT"])
def test_a_wrong_checksum_of_pixels_is_damage(kind: bytes) -> None:
    """One flipped bit on a memory card."""
    data = bytearray(png([bytes(8)] * 4, width=8, bits=8, colour=0))
    at = data.index(kind) + 4
    data[at + 3] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        read_image(bytes(data))


def test_damaged_or_huge_metadata_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text chunk must be able neither to fill the memory nor to make the picture unreadable."""
    monkeypatch.setattr("imagesmith.data.png_reader._MAX_TEXT", 1 << 20)
    bomb = zlib.compress(bytes(4 << 20))
    between = (
        chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb) + chunk(b"iCCP", b"x\0\0" + bomb) + chunk(b"pHYs", b"short")
    )
    broken = bytearray(chunk(b"gAMA", bytes(4)))
    broken[-1] ^= 1
    back = read_image(png([bytes(3)], width=3, bits=8, colour=0, between=between + bytes(broken)))
    assert back.pixels.tolist() == [[[0], [0], [0]]]
    assert back.meta.icc is None
    assert back.meta.notes == ("dropped a damaged gAMA chunk", "dropped a colour profile that is damaged")


@pytest.mark.parametrize("body", [b"", b"x", b"x\0\0", b"x\0\0not deflated"])
def test_a_profile_that_does_not_inflate_is_told(body: bytes) -> None:
    """The accident: a picture of a wider gamut came back untagged without a word, its chunk's checksum being right."""
    back = read_image(png([bytes(3)], width=3, bits=8, colour=0, between=chunk(b"iCCP", body)))
    assert back.meta.icc is None
    assert back.meta.notes == (("dropped a colour profile that is damaged",) if body else ())


@pytest.mark.parametrize(
    "header",
    [
        (0, 1, 8, 0, 0),
        (1, 0, 8, 0, 0),
        (1, 1, 3, 0, 0),
        (1, 1, 16, 3, 0),
        (1, 1, 8, 5, 0),
        (1, 1, 8, 0, 2),
        (1, 1, 8, 3, 0),
    ],
)
def test_impossible_headers_are_refused(header: tuple[int, ...]) -> None:
    """Each of these once crashed some decoder."""
    width, height, bits, colour, interlace = header
    ihdr = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    data = SIGNATURE + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    with pytest.raises(ImageError):
        read_header(data)


def test_the_row_where_a_cut_file_ends_is_named() -> None:
    """The user decides by it whether --partial is worth it."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 50), np.uint8)
    data = png([row.tobytes() for row in noise], width=50, bits=8, colour=0)
    cut = data[: data.index(b"IDAT") + 4 + 2600]  # noise does not compress: 51 bytes a row
    with pytest.raises(TruncatedError, match=r"row (49|50|51) and all below are missing \(of 100\)"):
        read_image(cut)
    back = read_image(cut, partial=True)
    assert np.array_equal(back.pixels[:49, :, 0].numpy(), noise[:49])
    assert not back.pixels[52:].any()
    with pytest.raises(TruncatedError):
        read_image(data[: data.index(b"IDAT") + 4 + 20], partial=True)


def test_a_missing_end_mark_is_an_error_that_partial_forgives() -> None:
    """All pixels are there, but nobody can know that nothing else was lost."""
    data = png([bytes(range(8))] * 4, width=8, bits=8, colour=0)[:-12]
    with pytest.raises(TruncatedError, match="picture is complete"):
        read_image(data)
    assert read_image(data, partial=True).pixels[:, :, 0].tolist() == [[*range(8)]] * 4


def test_exif_of_older_programs_is_found() -> None:
    """ImageMagick wrote EXIF as hexadecimal text for years."""
    exif = Image.Exif()
    exif[274] = 6
    raw = exif.tobytes()
    text = b"Raw profile type exif\0\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
    back = read_image(png([bytes(6)] * 2, width=2, bits=8, colour=2, between=chunk(b"tEXt", text)))
    assert "turned upright (orientation 6)" in back.meta.notes
    assert back.meta.exif is not None


def test_an_animation_gives_its_first_picture() -> None:
    """Said, because the other frames are lost."""
    stream = io.BytesIO()
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "green", "blue")]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    back = read_image(stream.getvalue())
    assert back.pixels[0, 0].tolist() == [255, 0, 0]
    assert "first picture of an animation of 3 frames" in back.meta.notes


def photo_png(size: int, *, interlaced: bool = False, bits: int = 8) -> tuple[bytes, np.ndarray]:
    """A photograph as PNG in IDAT chunks of `size` bytes, and its samples."""
    pixels = astronaut()[40:121, 150:221]
    pixels = pixels.astype(np.uint16) * 257 + np.arange(71, dtype=np.uint16)[:, None] if bits == 16 else pixels
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    grids = [pixels[y::dy, x::dx] for x, y, dx, dy in (steps if interlaced else ((0, 0, 1, 1),))]
    packed = zlib.compress(b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for grid in grids for row in grid))
    ihdr = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, 2, 0, 0, interlaced)
    parts = [chunk(b"IDAT", packed[at : at + size]) for at in range(0, len(packed), size)]
    return SIGNATURE + chunk(b"IHDR", ihdr) + b"".join(parts) + chunk(b"IEND", b""), pixels


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_what_a_cut_file_keeps_is_what_the_whole_has(interlaced: bool, bits: int, share: float) -> None:
    """A pixel that was never in the file passes for a true one, or one that was is thrown away."""
    data, pixels = photo_png(1000, interlaced=interlaced, bits=bits)
    part = read_image(data[: int(len(data) * share)], partial=True)
    same = (part.pixels.numpy() == pixels).all(axis=2)
    assert part.lost is not None
    assert same[~part.lost.numpy()].all()
    assert not part.pixels.numpy()[part.lost.numpy()].any()
    assert abs(float(part.lost.float().mean()) - (1 - share)) < 0.08


@pytest.mark.parametrize("mode", ["RGB", "P", "I;16"])
@pytest.mark.parametrize("cut", [1, 12, 14])
def test_a_picture_without_its_end_is_the_picture(mode: str, cut: int) -> None:
    """The accident: --partial makes a complete picture black, calls it complete, and a network mends the black."""
    photo = Image.fromarray(astronaut()[:30, :40])
    if mode == "I;16":
        photo = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 200)
    (photo.quantize(16) if mode == "P" else photo).save(stream := io.BytesIO(), "png")
    whole = stream.getvalue()
    part = read_image(whole[:-cut], partial=True)
    assert part.lost is None
    assert part.pixels.equal(read_image(whole).pixels)


def test_one_changed_byte_is_set_right() -> None:
    """The checksum says which byte it was: nothing needs to be lost, and the reader is told."""
    data, pixels = photo_png(4000)
    broken = bytearray(data)
    broken[len(data) // 2] ^= 0x20
    with pytest.raises(ImageError, match=r"checksum of its IDAT chunk at byte .*--partial"):
        read_image(bytes(broken))
    back = read_image(bytes(broken), partial=True)
    assert back.lost is None
    assert np.array_equal(back.pixels.numpy(), pixels)
    assert "set right" in back.meta.notes[0]


def test_of_more_damage_only_what_its_checksums_vouch_for_is_kept() -> None:
    """Rows out of a damaged chunk look right and are not: filters smear one wrong byte over all below."""
    data, pixels = photo_png(1000)
    middle = len(data) // 2
    broken = data[:middle] + bytes(90) + data[middle + 90 :]
    back = read_image(broken, partial=True)
    assert back.lost is not None
    kept = ~back.lost.numpy()
    assert np.array_equal(back.pixels.numpy()[kept], pixels[kept])
    assert 0.35 < kept.mean() < 0.55
    alone = photo_png(1 << 20)[0]
    broken = alone[:middle] + bytes(90) + alone[middle + 90 :]
    back = read_image(broken, partial=True)  # one chunk holds it all: better than nothing, and said
    assert any("may be wrong" in note for note in back.meta.notes)
    assert np.array_equal(back.pixels.numpy()[:30], pixels[:30])
