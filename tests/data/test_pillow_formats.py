"""The formats that Pillow decodes: modes, frames, and files that end early in their own ways."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data as skdata

from imagesmith.data.files import read_header, read_image
from imagesmith.data.frame import JpegTables
from imagesmith.errors import TruncatedError


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF"])
def test_the_first_frame_is_taken_and_said(kind: str) -> None:
    """A still made from an animation must not pass for the whole."""
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("white", "red", "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    back = read_image(data)
    assert read_header(data).frames == 3
    assert "first of 3 frames" in back.meta.notes
    assert (back.pixels > 240).all()


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [
        ("1", "BMP", 1),
        ("1", "TIFF", 1),
        ("L", "GIF", 3),
        ("P", "BMP", 3),
        ("P", "TIFF", 3),
        ("LA", "TIFF", 2),
        ("YCbCr", "TIFF", 3),
        ("LAB", "TIFF", 3),
        ("CMYK", "TIFF", 3),
        ("CMYK", "JPEG", 3),
    ],
)
def test_modes_become_gray_or_rgb(mode: str, kind: str, channels: int) -> None:
    """Every mode a user's folder may hold, with the brightness it had."""
    source = Image.new("RGB", (24, 16), (200, 200, 200))
    if mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(source, transform)
    else:
        image = source.convert("L").convert("1", dither=Image.Dither.NONE) if mode == "1" else source.convert(mode)
    data = saved(image, kind)
    back = read_image(data)
    assert back.pixels.shape == (16, 24, channels)
    expected = 255 if mode == "1" or (mode == "LA") else 200
    assert abs(int(back.pixels[8, 12, -1]) - expected) <= 5  # the standard palette knows 204
    if channels in (1, 3) and mode not in ("P", "L"):
        assert read_header(data).channels == channels


def test_gif_transparency_is_alpha() -> None:
    """Transparent pixels that turn into a colour are visible at once."""
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 255, 0] + [0] * 762)
    for x in range(4):
        image.putpixel((x, 0), x % 2)
    back = read_image(saved(image, "GIF", transparency=1))
    assert back.pixels[0, :, 3].tolist() == [255, 0, 255, 0]
    assert back.pixels[0, 0, :3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("progressive", [False, True])
def test_half_a_jpeg(progressive: bool) -> None:
    """A baseline file loses its lower rows, a progressive one its detail; neither passes without a word."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", progressive=progressive)
    cut = data[: len(data) // 2]
    with pytest.raises(TruncatedError):
        read_image(cut)
    whole, half = read_image(data).pixels, read_image(cut, partial=True)
    assert any("missing" in note for note in half.meta.notes)
    if not progressive:
        assert half.pixels[:48].equal(whole[:48])
        assert "rows below about" in half.meta.notes[0]


def test_placeholder_resolution_is_none() -> None:
    """72 dpi that no camera wrote must not be written into the result."""
    data = saved(Image.new("RGB", (8, 8)), "JPEG")
    assert read_image(data).meta.dpi is None
    assert read_image(saved(Image.new("RGB", (8, 8)), "JPEG", dpi=(72, 72))).meta.dpi == (72, 72)


@pytest.mark.parametrize(("colours", "is_told"), [((1, 13, 6), False), ((2, 2, 2), False), ((12, 16, 6), True)])
def test_colours_that_an_avif_tells_without_a_profile_are_named(colours: tuple[int, ...], is_told: bool) -> None:
    """The accident: a phone's picture in Display P3 and PQ came back tagged as sRGB, pale and gray, without a word."""
    data = bytearray(saved(Image.new("RGB", (16, 16), "red"), "AVIF"))
    struct.pack_into(">HHH", data, data.index(b"colrnclx") + 8, *colours)
    assert any("not those of sRGB (nclx)" in note for note in read_image(bytes(data)).meta.notes) == is_told
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = read_image(saved(Image.new("RGB", (16, 16), "red"), "AVIF", icc_profile=profile))
    assert (tagged.meta.icc, tagged.meta.notes) == (profile, ())


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def test_a_profile_of_which_a_part_is_missing_is_told() -> None:
    """The accident: an editor that keeps only the first segment makes every later program guess, without a word."""
    data = saved(Image.new("RGB", (8, 8), "red"), "JPEG")
    half = segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(500))
    back = read_image(data[:2] + half + data[2:])
    assert (back.meta.icc, back.meta.notes) == (None, ("dropped a colour profile that is damaged",))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (b'hdrgm:Version="1.0"', "gain map"),
        (b"GCamera:MotionPhoto=\"1\" GCamera:MotionPhotoVersion='1'", "motion photo"),
        (b"><hdrgm:Version>1.0</hdrgm:Version", "gain map"),
    ],
)
def test_what_lies_behind_a_jpegs_first_picture_is_missed_aloud(told: bytes, words: str) -> None:
    """The accident: an Ultra HDR picture lost its gain map without a word, and its result's XMP still spoke of one."""
    directory = (
        b'<Container:Directory><rdf:li><Container:Item Item:Semantic="GainMap"/></rdf:li></Container:Directory>'
        if words == "gain map"
        else b""
    )
    xmp = b'<rdf:Description xmlns:a="b" ' + told + b">" + directory + b"<dc:title>x</dc:title></rdf:Description>"
    extension = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 40)
    data = saved(Image.new("RGB", (8, 8), "red"), "JPEG", xmp=xmp)
    back = read_image(data[:2] + extension + data[2:]).meta
    assert len([note for note in back.notes if words in note or "extension of its XMP" in note]) == 2
    assert all(gone not in back.xmp for gone in (b"hdrgm", b"GCamera", b"GainMap"))
    assert b'xmlns:a="b"' in back.xmp
    assert b"<dc:title>x</dc:title></rdf:Description>" in back.xmp


def test_of_an_mpo_the_first_picture_is_taken_and_said() -> None:
    """The accident: a stereo camera's right picture vanished, where of every other format "first of 2" is said."""
    left, right = (Image.new("RGB", (16, 8), colour) for colour in ("white", "red"))
    data = bytearray(saved(left, "MPO", save_all=True, append_images=[right]))
    assert read_header(bytes(data)).frames == 2
    assert "first of 2 frames" in read_image(bytes(data)).meta.notes
    assert read_header(bytes(data[: data.index(b"\xff\xd9") + 2])).frames == 1  # an editor left the index alone
    struct.pack_into("<I", data, data.index(b"MPF") + 70, 0x010001)  # the second is a large thumbnail of the first
    assert read_header(bytes(data)).frames == 1


def test_a_gain_map_is_no_second_picture() -> None:
    """The accident: users of phones were told to pass the others singly, where the one other is no picture to look at."""
    photo = Image.new("RGB", (16, 8), "white")
    xmp = b'<rdf:Description hdrgm:Version="1.0"/>'
    data = saved(photo, "MPO", save_all=True, append_images=[photo.convert("L").resize((8, 4))], xmp=xmp)
    assert read_header(data).frames == 1
    (note,) = read_image(data).meta.notes
    assert note.startswith("its gain map was not kept")


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_tells_how_it_was_quantised(sampling: str, progressive: bool) -> None:
    """Tables of the wrong order, or sampling read the wrong way round, make a repair that fits another file."""
    photo = Image.fromarray(skdata.astronaut()[:40, :56])
    tables = read_image(saved(photo, "JPEG", quality=30, subsampling=sampling, progressive=progressive)).meta.jpeg
    assert tables.luma[:4] == (27, 18, 17, 27)  # 16, 11, 10, 16 of Annex K times 1.67
    assert tables.luma[8] == 20  # 12: the first of the second row
    assert tables.chroma[:3] == (28, 30, 40)
    assert tables.subsampling == {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[sampling]
    assert (tables.is_ycbcr, tables.turn) == (True, 1)


def test_kinds_of_jpeg_are_told_apart() -> None:
    """Gray has no chroma, RGB and CMYK no luma; a turned photograph has its blocks turned as well."""

    def tables_of(image: Image.Image, **options: object) -> JpegTables:
        return read_image(saved(image, "JPEG", **options)).meta.jpeg

    photo = Image.fromarray(skdata.astronaut()[:40, :56])
    assert tables_of(photo.convert("L")).chroma is None
    assert not tables_of(photo.convert("CMYK")).is_ycbcr
    assert not tables_of(photo, keep_rgb=True).is_ycbcr
    exif = Image.Exif()
    exif[0x0112] = 6
    assert tables_of(photo, exif=exif).turn == 6
    assert read_image(saved(photo, "PNG")).meta.jpeg is None
