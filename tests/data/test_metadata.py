"""EXIF and XMP are patched in place, and nonsense in them is survived."""

import struct

import numpy as np
import pytest
from PIL import Image

from imagesmith.data import metadata


def exif_with(order: str, orientation: int) -> bytes:
    """Two tags, then a maker's note at a fixed offset that re-serialising would move."""
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 2)
    first = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    second = struct.pack(order + "HHII", 0x927C, 7, 6, 38)
    return head + first + second + b"\0\0\0\0" + b"secret"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_only_the_orientation_changes(order: str, value: int) -> None:
    """Makers' notes hold absolute offsets: EXIF written anew loses them."""
    exif = exif_with(order, value)
    assert metadata.orientation(exif, None) == value
    assert metadata.upright_exif(exif) == exif_with(order, 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", [1, 6])
def test_a_thumbnail_that_lies_on_its_side_is_unlinked(order: str, value: int) -> None:
    """File managers show the thumbnail: every upright result of a portrait photo lay on its side there."""
    exif = bytearray(exif_with(order, value))
    struct.pack_into(order + "I", exif, 34, 44)  # the main directory's link to the thumbnail's
    upright = metadata.upright_exif(bytes(exif) + b"thumb")
    assert struct.unpack_from(order + "I", upright, 34) == (44 if value == 1 else 0,)
    assert upright[38:] == b"secretthumb"


def test_sizes_follow_the_picture_and_none_is_added() -> None:
    """Readers trust PixelXDimension: an enlarged photo was still listed at its old size."""
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    exif.get_ifd(0x8769).update({0xA002: 130, 0xA003: 120, 0x9003: "2020:01:01 00:00:00"})
    opened = Image.Exif()
    opened.load(metadata.resized_exif(metadata.bare_exif(exif.tobytes()), 70_000, 480)[0])
    assert dict(opened.get_ifd(0x8769)) == {0xA002: 70_000, 0xA003: 480, 0x9003: "2020:01:01 00:00:00"}
    assert opened[0x0110] == "a camera"
    assert metadata.resized_exif(exif_with("<", 1), 9, 9) == (exif_with("<", 1), None)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", [1, 6])
def test_no_result_shows_the_picture_before_in_its_thumbnail(order: str, value: int) -> None:
    """The accident: a face that --mask took out looked at one from the file manager; unlinked, its bytes were there."""
    exif = bytearray(exif_with(order, value))
    struct.pack_into(order + "I", exif, 34, 44)  # the main directory's link to the thumbnail's, behind the note
    thumbnail = b"\xff\xd8 a face \xff\xd9"
    exif += struct.pack(order + "HHHIIHHII", 2, 0x0201, 4, 1, 74, 0x0202, 4, 1, len(thumbnail)) + bytes(4)
    result, said = metadata.resized_exif(metadata.upright_exif(bytes(exif) + thumbnail + b"more"), 9, 9)
    assert result[:34] + result[38:74] == exif_with(order, 1)[:34] + exif[38:]
    assert result[34:38] == bytes(4)
    assert result[74:] == bytes(len(thumbnail)) + b"more"
    assert said == ("thumbnail dropped: it showed the picture before" if value == 1 else None)
    assert metadata.resized_exif(result, 9, 9) == (result, None)


def test_photoshops_thumbnail_goes_and_its_words_stay() -> None:
    """The accident: what --mask took out is seen in Bridge, beside the keywords."""

    def resource(number: int, name: bytes, content: bytes) -> bytes:
        named = bytes([len(name)]) + name + bytes((len(name) + 1) % 2)
        return (
            b"8BIM"
            + struct.pack(">H", number)
            + named
            + struct.pack(">I", len(content))
            + content
            + bytes(len(content) % 2)
        )

    words, more = resource(1028, b"", b"keyword"), resource(1005, b"dpi", b"72")
    segment = b"Photoshop 3.0\0" + words + resource(1036, b"", b"\xff\xd8 a face") + more
    comment = (b"\xff\xfe", b"8BIM, said the comment")
    bare, said = metadata.bare_captions(((b"\xff\xed", segment), comment))
    assert bare == ((b"\xff\xed", b"Photoshop 3.0\0" + words + more), comment)
    assert said is not None
    assert metadata.bare_captions(bare) == (bare, None)
    cut = segment[: len(b"Photoshop 3.0\0" + words) + 15]
    assert metadata.bare_captions(((b"\xff\xed", cut),))[0][0][1].startswith(b"Photoshop 3.0\0" + words)


def test_a_thumbnail_that_is_none_blanks_nothing() -> None:
    """Offsets that point into a maker's note would cost the note."""
    exif = bytearray(exif_with("<", 1))
    struct.pack_into("<I", exif, 34, 44)
    exif += struct.pack("<HHHIIHHII", 2, 0x0201, 4, 1, 38, 0x0202, 4, 1, 999) + bytes(4)
    assert metadata.resized_exif(bytes(exif), 9, 9)[0][38:] == exif[38:]


@pytest.mark.parametrize("cut", range(0, 44, 3))
def test_cut_exif_is_no_orientation(cut: int) -> None:
    """Scanners and editors write broken EXIF; it must not cost the picture."""
    exif = exif_with("<", 6)[:cut]
    assert metadata.orientation(metadata.bare_exif(exif), None) in (1, 6)
    metadata.upright_exif(exif)
    metadata.resized_exif(exif, 9, 9)


def test_values_outside_the_range_mean_upright() -> None:
    """0 and 9 do occur."""
    assert metadata.orientation(exif_with("<", 0), None) == metadata.orientation(exif_with("<", 9), None) == 1


@pytest.mark.parametrize("xmp", [b'<a tiff:Orientation="6"/>', b"<tiff:Orientation>6</tiff:Orientation>"])
def test_xmp_speaks_where_exif_is_silent(xmp: bytes) -> None:
    """Both spellings are in use."""
    assert metadata.orientation(None, xmp) == 6
    assert metadata.orientation(exif_with("<", 3), xmp) == 3
    assert metadata.orientation(None, metadata.upright_xmp(xmp)) == 1


@pytest.mark.parametrize("name", ["GPano:FullPanoWidthPixels", "GPano:CroppedAreaTopPixels", "tiff:ImageLength"])
def test_sizes_in_xmp_follow_the_picture(name: str) -> None:
    """The accident: an enlarged panorama shown as a quarter of a sphere, for the sizes were those of before."""
    for before, after in (
        (f'<a {name}="64"/>', f'<a {name}="128"/>'),
        (f"<{name}>64</{name}>", f"<{name}>128</{name}>"),
    ):
        assert metadata.resized_xmp(before.encode(), 2) == (after.encode(), None)
        assert metadata.resized_xmp(before.encode(), 1) == (before.encode(), None)
    kept = f'<a {name}="6.5" tiff:Make="64" {name}="12345678901"/>'.encode()
    assert metadata.resized_xmp(kept, 2) == (kept, None)


def test_no_result_shows_the_picture_before_in_its_xmp() -> None:
    """Photoshop puts a thumbnail there as well."""
    xmp = b"<a><xmp:Thumbnails><rdf:Alt>/9j/</rdf:Alt></xmp:Thumbnails><b/></a>"
    assert metadata.resized_xmp(xmp, 1) == (b"<a><b/></a>", "thumbnail dropped: it showed the picture before")


def test_a_profile_must_fit_the_pixels() -> None:
    """A CMYK profile on RGB pixels turns the picture black in viewers that believe it."""
    profile = bytearray(128)
    profile[16:20], profile[36:40] = b"CMYK", b"acsp"
    icc, note = metadata.usable_icc(bytes(profile), 3)
    assert icc is None
    assert "CMYK" in note
    profile[16:20] = b"RGB "
    assert metadata.usable_icc(bytes(profile), 4) == (bytes(profile), None)
    assert metadata.usable_icc(b"short", 3)[0] is None


@pytest.mark.parametrize("dpi", [None, (0, 0), (1, 1), ("a", "b"), (float("nan"), 72), (float("inf"), 72), 3, (72,)])
def test_nonsense_is_no_resolution(dpi: object) -> None:
    """Such values reach the writers of other formats and make them fail."""
    assert metadata.sensible_dpi(dpi) is None


def test_turning_is_undone_by_the_inverse() -> None:
    """6 and 8 are each other's inverse, the others their own."""
    pixels = np.arange(24).reshape(2, 4, 3)
    for value, inverse in {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.items():
        assert np.array_equal(metadata.turn_upright(metadata.turn_upright(pixels, value), inverse), pixels)
