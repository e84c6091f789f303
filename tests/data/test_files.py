"""Reading and writing whole files: nothing of a picture may be lost on the way, and nothing may hang or leak."""

import contextlib
import errno
import io
import os
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from imagesmith.atomic import replacing
from imagesmith.data.files import Frame, ImageMeta, output_format, read_header, read_image, write_image
from imagesmith.errors import (
    FormatError,
    ImageError,
    ImagesmithError,
    OutputError,
    TooLargeError,
    TruncatedError,
    UsageError,
)

TOPS = {"uint8": 255, "uint16": 65535, "float32": 1.0}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def exif_saying(orientation: int | None) -> bytes:
    """Bare EXIF with a camera, an exposure time, and an orientation."""
    exif = Image.Exif()
    exif[271] = "Camera"
    if orientation is not None:
        exif[274] = orientation
    exif.get_ifd(0x8769)[33434] = 0.005
    return exif.tobytes().removeprefix(b"Exif\0\0")


def drawn(depth: str, channels: int, *, height: int = 19, width: int = 23, meta: ImageMeta | None = None) -> Frame:
    """Noise with both extremes in it: any change of depth, order or scale shows."""
    noise = np.random.default_rng(channels).random((height, width, channels), np.float32)
    noise[0, 0], noise[-1, -1] = 0, 1
    pixels = noise if depth == "float32" else np.rint(noise * TOPS[depth]).astype(depth)
    return Frame(torch.from_numpy(pixels), depth, meta or ImageMeta("png", "drawn"))


def written(frame: Frame, name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    write_image(frame, stream, format=name, **options)
    return stream.getvalue()


LOSSLESS = [
    *[("png", depth, c) for depth in ("uint8", "uint16") for c in (1, 2, 3, 4)],
    *[("tif", depth, c) for depth in ("uint8", "uint16", "float32") for c in (1, 2, 3, 4)],
    *[("jp2", "uint8", c) for c in (1, 2, 3, 4)],
    ("jp2", "uint16", 1),
    ("bmp", "uint8", 1),
    ("bmp", "uint8", 3),
    ("webp", "uint8", 3),
    ("webp", "uint8", 4),
]


@pytest.mark.parametrize(("name", "depth", "channels"), LOSSLESS)
def test_what_a_format_holds_comes_back_bit_for_bit(name: str, depth: str, channels: int) -> None:
    """A 16-bit scan that comes back with 8 bits has lost its shadows, and nobody sees it at once."""
    frame = drawn(depth, channels)
    data = written(frame, name)
    back, header = read_image(data), read_header(data)
    assert back.depth == header.depth == depth
    assert back.meta.format == header.format == name
    assert (header.width, header.height, header.channels) == (23, 19, channels)
    assert torch.equal(back.pixels, frame.pixels)
    assert back.meta.notes == ()


@pytest.mark.parametrize(("name", "channels"), [("jpg", 1), ("jpg", 3), ("avif", 3), ("avif", 4)])
def test_lossy_formats_stay_close(name: str, channels: int) -> None:
    """4:4:4 at quality 95: a smooth colour picture must not come back grey, shifted or with swapped channels."""
    ramp = np.linspace(0, 255, 40 * 56 * channels).reshape(channels, 40, 56).transpose(1, 2, 0)
    frame = Frame(torch.from_numpy(np.ascontiguousarray(ramp.astype(np.uint8))), "uint8", ImageMeta("jpg", "drawn"))
    back = read_image(written(frame, name))
    assert back.pixels.shape == frame.pixels.shape
    assert (back.pixels.int() - frame.pixels.int()).abs().max() <= 8


@pytest.mark.parametrize("name", ["jpg", "png", "webp", "tif", "avif", "jp2"])
def test_metadata_survives_and_the_orientation_is_reset(name: str) -> None:
    """A picture that was turned upright and still says "turn me" is turned twice by the next viewer."""
    meta = ImageMeta("jpg", "RGB", icc=SRGB, exif=exif_saying(1), xmp=XMP.replace(b'"6"', b'"1"'), dpi=(300.0, 150.0))
    back = read_image(written(drawn("uint8", 3, meta=meta), name))
    assert back.meta.icc == SRGB
    exif = Image.Exif()
    exif.load(back.meta.exif)
    assert exif[271] == "Camera"
    assert float(exif.get_ifd(0x8769)[33434]) == pytest.approx(0.005)
    assert exif.get(274, 1) == 1
    assert back.meta.xmp == meta.xmp
    if name not in ("webp", "avif"):  # they hold a resolution only inside EXIF
        assert back.meta.dpi == pytest.approx(meta.dpi, rel=2e-3)


def captioned(name: str) -> bytes:
    """A picture with words in it that only its format holds: IPTC and a comment, or text."""
    if name == "png":
        stream, texts = io.BytesIO(), PngImagePlugin.PngInfo()
        texts.add_text("Title", "A castle")
        texts.add_itxt("Title", "Ein Schloß", lang="de", zip=True)
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        Image.fromarray(drawn("uint8", 3).pixels.numpy()).save(stream, "PNG", pnginfo=texts)
        return stream.getvalue()
    caption = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x0d\x1c\x02\x78\0\x08A castle\0"
    segments = b"\xff\xed" + (2 + len(caption)).to_bytes(2, "big") + caption + b"\xff\xfe\0\x08Norway"
    data = written(drawn("uint8", 3, meta=ImageMeta("jpg", "RGB", xmp=XMP, icc=SRGB)), "jpg")
    return data[:2] + segments + data[2:]


@pytest.mark.parametrize("name", ["jpg", "png"])
def test_captions_come_back_in_their_own_format_and_are_missed_in_others(name: str) -> None:
    """The accident: an archive's pictures are enlarged, and their captions are gone without a word."""
    frame = read_image(captioned(name))
    stream = io.BytesIO()
    assert write_image(frame, stream, format=name) == ()
    back = read_image(stream.getvalue())
    assert (back.meta.captions, len(back.meta.captions)) == (frame.meta.captions, 2)
    assert (back.meta.xmp, back.meta.icc) == (frame.meta.xmp, frame.meta.icc)
    with Image.open(stream) as image:
        image.load()
        words = [image.info["comment"], image.info["photoshop"][0x0404][5:]] if name == "jpg" else image.text["Title"]
    assert words == ([b"Norway", b"A castle"] if name == "jpg" else "Ein Schloß")
    for other in ({"jpg", "png"} - {name}) | {"tif", "webp", "bmp"}:
        assert any("not kept" in note and other in note for note in write_image(frame, io.BytesIO(), format=other)), (
            other
        )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpg", "png", "webp", "tif", "avif"])
def test_every_orientation_ends_upright(name: str, orientation: int) -> None:
    """The reference is what Pillow's exif_transpose makes of the same file."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:], pixels[8:, :12] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
    stream, kind = io.BytesIO(), {"jpg": "JPEG", "tif": "TIFF"}.get(name, name.upper())
    options = {"lossless": True} if name == "webp" else {"quality": 100} if name in ("jpg", "avif") else {}
    Image.fromarray(pixels).save(stream, kind, exif=b"Exif\0\0" + exif_saying(orientation), xmp=XMP, **options)
    back = read_image(stream.getvalue())
    expected = pixels
    for value, operation in {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.items():
        if value == orientation:
            expected = np.asarray(Image.fromarray(pixels).transpose(operation))
    assert back.pixels.shape == expected.shape
    assert np.abs(back.pixels.numpy().astype(int) - expected).mean() < 12
    exif = Image.Exif()
    exif.load(back.meta.exif)
    assert exif.get(274, 1) == 1
    assert back.meta.xmp is None or b'tiff:Orientation="1"' in back.meta.xmp
    assert any("upright" in note for note in back.meta.notes) == (orientation > 1)


def test_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred bytes that declare gigapixels must not reach a decoder."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for name in ("png", "jpg", "bmp", "jp2", "avif"):
        with pytest.raises(TooLargeError, match="23x19"):
            read_image(written(drawn("uint8", 3), name), max_pixels=100)


def test_large_declared_tiff_and_webp_are_refused() -> None:
    """These two have no lazy loading step to patch: the decoder would allocate on opening."""
    for name in ("tif", "webp"):
        with pytest.raises(TooLargeError, match="23x19"):
            read_image(written(drawn("uint8", 3), name), max_pixels=100)


@pytest.mark.parametrize(
    "magic", [b"P6\n1 1\n255\nabc", b"8BPS\0\1", b"qoif", b"\0\0\1\0\1\0", b"", b"GIMP", b"RIFFxxxxWAVE"]
)
def test_other_formats_are_refused_by_name_of_the_list(magic: bytes) -> None:
    """Decoders outside the list are where the holes are; the user learns which formats are taken."""
    with pytest.raises(FormatError, match="JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000"):
        read_image(magic)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x1cftypisom" + bytes(16), "a film\nimagesmith restore takes"),
        (b"\x1a\x45\xdf\xa3" + bytes(16), "a film"),
        (b"RIFF\0\0\0\0AVI LIST", "a film"),
        (b"\0\0\0\x18ftypheic" + bytes(16), "HEIC\nconvert it"),
        (b"%PDF-1.7", "PDF\nconvert it"),
        (b"\x1f\x8b\x08" + bytes(20), "a gzip archive\nunpack it"),
        (b"\xff\x0a\xfa", "JPEG XL\nconvert it"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL\nconvert it"),
        (b"ObjectType = Image\nNDims = 3\n", "MetaImage\nconvert it"),
        (b"\x5c\1\0\0" + bytes(340) + b"n+1\0", "NIfTI\nconvert it"),
        (bytes(128) + b"DICM" + bytes(20), "a DICOM picture, got one that holds no pixels"),
    ],
)
def test_what_people_bring_besides_pictures_is_called_by_its_name(content: bytes, words: str) -> None:
    """`restore film.mp4` said that its content begins with b'\\x00\\x00\\x00\\x1cftyp'."""
    with pytest.raises(FormatError, match=words):
        read_image(content)


def test_what_is_no_picture_is_not_read_to_its_end() -> None:
    """`restore film.mp4` took gigabytes into memory to find out, and `yes | restore -` all there was."""

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 <= size <= 4096
            return b"y\n" * (size // 2)

    with pytest.raises(FormatError):
        read_image(Endless())


def test_the_content_decides_and_not_the_name(tmp_path) -> None:
    """Half of the web's .jpg files are WebP."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(written(drawn("uint8", 3), "png"))
    assert read_image(path).meta.format == "png"


@pytest.mark.parametrize("name", ["png", "jpg", "tif", "webp", "bmp", "gif", "avif", "jp2"])
def test_cut_anywhere_is_an_error(name: str) -> None:
    """A half-copied photo must never be restored as if it were whole."""
    if name == "gif":
        stream = io.BytesIO()
        Image.fromarray(drawn("uint8", 1, height=64, width=64).pixels[..., 0].numpy()).save(stream, "GIF")
        data = stream.getvalue()
    else:
        data = written(drawn("uint8", 3, height=64, width=64), name)
    tail = {"jpg": 4, "gif": 4}.get(name, 1)  # a JPEG or GIF that lacks only its end mark is complete
    for cut in [*range(1, 64, 7), *np.linspace(64, len(data) - tail, 25).astype(int)]:
        with pytest.raises(ImageError) as caught:
            read_image(data[:cut])
        if cut > 40 and name not in ("tif", "avif"):  # their directories may lie behind the cut, then nothing is known
            assert isinstance(caught.value, TruncatedError), (cut, caught.value)
        assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("name", ["png", "jpg", "tif", "webp", "bmp", "avif", "jp2"])
def test_whoever_is_sent_to_partial_gets_a_picture(name: str, depth: str) -> None:
    """The accident: `--partial` on half a WebP answers "keep the rest with --partial"."""
    data, named = written(drawn(depth, 3, height=64, width=64), name), 0
    if name == "tif":  # the directory first, so that half a file has one
        stream = io.BytesIO()
        tifffile.imwrite(stream, drawn(depth, 3, height=64, width=64).pixels.numpy(), photometric="rgb", rowsperstrip=8)
        data = stream.getvalue()
    for cut in np.linspace(16, len(data) - 4, 20).astype(int):
        try:
            read_image(data[:cut])
        except ImageError as error:
            if "--partial" in str(error):
                named += 1
                assert read_image(data[:cut], partial=True).meta.notes
    can_keep = name in ("png", "jpg", "bmp") or (name, depth) == ("tif", "uint8")
    assert (named > 10) == can_keep


@pytest.mark.parametrize("name", ["png", "jpg", "tif", "webp", "bmp", "avif", "jp2"])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_changed_bytes_give_a_picture_or_our_error(name: str, depth: str) -> None:
    """Parsers meet hostile numbers with every exception there is; none may reach the user as a traceback."""
    meta = ImageMeta("jpg", "RGB", icc=SRGB, exif=exif_saying(1), xmp=XMP, dpi=(300.0, 150.0))
    data, rng = written(drawn(depth, 3, meta=meta), name), np.random.default_rng(5)
    for _ in range(60):
        changed = bytearray(data)
        for at in rng.integers(0, min(len(data), 500), 3):
            changed[at] = rng.choice([0, 255, changed[at] ^ 1, changed[at] ^ 128])
        with contextlib.suppress(ImagesmithError):
            read_image(bytes(changed), max_pixels=4_000_000, partial=bool(rng.integers(2)))


@pytest.mark.parametrize("name", ["png", "jpg", "bmp", "tif"])
def test_partial_keeps_the_rows_that_are_there(name: str) -> None:
    """--partial on half a photo gives its upper half, and says where the rest begins."""
    ramp = np.add.outer(np.arange(160), np.arange(60)).astype(np.uint8)[..., None].repeat(3, 2)
    ramp[:, ::4] += np.random.default_rng(0).integers(0, 9, (160, 15, 1)).astype(np.uint8)  # takes bytes in every row
    frame = Frame(torch.from_numpy(np.ascontiguousarray(ramp)), "uint8", ImageMeta("png", "drawn"))
    stream = io.BytesIO()
    if name == "tif":
        Image.fromarray(ramp).save(stream, "TIFF")
        data = stream.getvalue()
    else:
        data = written(frame, name)
    half = read_image(data[: int(len(data) * 0.6)], partial=True)
    assert half.pixels.shape == frame.pixels.shape
    # BMP is stored bottom-up: the part that is there is the lower one
    there = half.pixels[-40:] if name == "bmp" else half.pixels[:40]
    wanted = frame.pixels[-40:] if name == "bmp" else frame.pixels[:40]
    assert (there.int() - wanted.int()).abs().max() <= (12 if name == "jpg" else 0)
    assert any("missing" in note for note in half.meta.notes)
    assert half.was_damaged
    assert not read_image(data, partial=True).was_damaged


def test_partial_in_one_thread_leaves_the_others_strict() -> None:
    """Pillow's LOAD_TRUNCATED_IMAGES is global: one reader that is lenient would make all readers lenient."""
    data = written(drawn("uint8", 3, height=200, width=200), "jpg")
    cut, wrong = data[: len(data) // 2], []

    def read(partial: bool) -> None:
        for _ in range(30):
            try:
                read_image(cut, partial=partial)
            except TruncatedError:
                if partial:
                    wrong.append("refused although partial")
            else:
                if not partial:
                    wrong.append("accepted although strict")

    threads = [threading.Thread(target=read, args=(partial,)) for partial in (True, False, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_no_global_setting_changes() -> None:
    """A library that widens Pillow's limits or drops warning filters changes the host program."""
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    for name in ("png", "jpg", "tif", "webp"):
        read_image(written(drawn("uint8", 3), name))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_cmyk_goes_through_its_profile_or_says_that_it_did_not() -> None:
    """Without the profile, printed skin tones turn neon."""
    stream = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(stream, "JPEG", quality=100)
    back = read_image(stream.getvalue())
    assert back.pixels[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert any("without a profile" in note for note in back.meta.notes)
    assert back.meta.icc is None


def test_alpha_to_jpeg_is_laid_over_white_and_said() -> None:
    """Dropping alpha shows whatever colour hides under it, mostly black."""
    pixels = torch.zeros(4, 4, 4, dtype=torch.uint8)
    stream = io.BytesIO()
    notes = write_image(Frame(pixels, "uint8", ImageMeta("png", "drawn")), stream, format="jpg")
    assert (read_image(stream.getvalue()).pixels > 250).all()
    assert any("over white" in note for note in notes)
    pixels[..., 3] = 255
    notes = write_image(Frame(pixels, "uint8", ImageMeta("png", "drawn")), io.BytesIO(), format="jpg")
    assert any("opaque" in note for note in notes)


@pytest.mark.parametrize("name", ["png", "jpg", "webp"])
def test_what_a_format_cannot_hold_is_said(name: str) -> None:
    """A float picture outside 0..1 loses its lights in any of these."""
    frame = drawn("float32", 3)
    frame.pixels[0, 0, 0] = 3.0
    notes = write_image(frame, io.BytesIO(), format=name)
    assert any("clipped" in note for note in notes)
    assert any("float32 reduced to" in note for note in notes)


def test_the_colours_of_a_gif_are_counted_in_its_note() -> None:
    """The accident: 2 million colours became 256, and the user saw bands without a word."""
    frame = Frame(torch.rand(9, 9, 3).mul(255).to(torch.uint8), "uint8", ImageMeta("png", "RGB"))
    assert "256 colours" in write_image(frame, io.BytesIO(), format="gif")[0]


def test_sides_beyond_a_format_name_the_way_out() -> None:
    """libjpeg and libwebp fail with codes that tell a user nothing."""
    for name, side in (("jpg", 65501), ("webp", 16384)):
        frame = Frame(torch.zeros(1, side, 3, dtype=torch.uint8), "uint8", ImageMeta("png", "drawn"))
        with pytest.raises(OutputError, match="png or tif"):
            write_image(frame, io.BytesIO(), format=name)


@pytest.mark.parametrize(
    ("source", "depth", "channels", "kept"),
    [
        ("gif", "uint8", 3, "png"),
        ("jpg", "uint8", 3, "jpg"),
        ("jpg", "uint8", 4, "png"),
        ("png", "uint16", 4, "png"),
        ("png", "float32", 3, "tif"),
        ("tif", "float32", 1, "tif"),
        ("webp", "uint8", 4, "webp"),
        ("jp2", "uint16", 3, "png"),
        ("bmp", "uint8", 4, "png"),
    ],
)
def test_keep_means_a_format_that_holds_it(source: str, depth: str, channels: int, kept: str) -> None:
    """--format keep must never cost bits or alpha."""
    assert output_format(source, depth, channels) == kept


def test_an_existing_file_is_kept_unless_told(tmp_path) -> None:
    """Restoring into the wrong folder must not eat the originals."""
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        write_image(drawn("uint8", 3), path)
    assert path.read_bytes() == b"mine"
    write_image(drawn("uint8", 3), path, overwrite=True)
    assert read_image(path).pixels.shape == (19, 23, 3)
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission"), (errno.EIO, "cannot be written")],
)
@pytest.mark.parametrize("name", ["png", "tif", "jpg"])
def test_a_failing_disk_leaves_nothing_behind(tmp_path, monkeypatch, name: str, code: int, words: str) -> None:
    """A full disk must neither leave half a picture nor destroy the one that was there."""
    path = tmp_path / f"a.{name}"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=words):
        write_image(drawn("uint8", 3), path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["png", "tif", "jpg"])
def test_a_really_full_disk(tmp_path, monkeypatch, name: str) -> None:
    """The same with the kernel's own error, raised while pixels are being written."""
    real = open

    def full(path, mode="r", *rest, **options):
        return real("/dev/full", "wb") if mode == "x+b" else real(path, mode, *rest, **options)

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_image(drawn("uint8", 3, height=300, width=300), tmp_path / f"a.{name}")


@pytest.mark.parametrize("image", [np.zeros((4, 5, 3), np.uint8), torch.zeros(3, 4, 5)])
def test_what_is_no_frame_is_not_written(tmp_path: Path, image: Any) -> None:
    """The accident: 'numpy.ndarray' object has no attribute 'pixels'."""
    with pytest.raises(UsageError, match=r"expected a Frame, .* got (ndarray|Tensor)\nlet Pillow"):
        write_image(image, tmp_path / "a.png")


@pytest.mark.parametrize("quality", [0, -5, 101, "best", 90.5])
def test_an_impossible_quality_is_refused(tmp_path: Path, quality: Any) -> None:
    """The accident: 0 was 95, 101 and -5 were taken, and "best" a bare ValueError of Pillow's."""
    with pytest.raises(UsageError, match=r"expected a quality from 1 to 100, got"):
        write_image(drawn("uint8", 3), tmp_path / "a.jpg", quality=quality)
    assert not (tmp_path / "a.jpg").exists()


def test_a_pil_image_is_written_with_all_that_it_carries(tmp_path: Path) -> None:
    """The accident: what `restore` gives for a path, saved by Pillow as JPEG, lost its profile, and its colours."""
    image = Image.new("RGB", (8, 8), "red")
    image.info.update(icc_profile=SRGB, exif=b"Exif\0\0" + exif_saying(None), xmp=XMP, dpi=(300, 300))
    assert write_image(image, tmp_path / "a.jpg") == ()
    back = read_image(tmp_path / "a.jpg").meta
    assert (back.icc, back.exif, back.xmp is not None, back.dpi) == (SRGB, exif_saying(None), True, (300, 300))
    gray = image.convert("L")
    gray.info["icc_profile"] = SRGB
    assert write_image(gray, tmp_path / "b.jpg") == ("dropped a colour profile made for RGB pixels",)
    assert read_image(tmp_path / "b.jpg").meta.icc is None
    with pytest.raises(UsageError, match="PIL mode I; convert"):
        write_image(Image.new("I", (3, 3)), tmp_path / "c.png")


def test_what_a_pil_image_carries_in_another_form_is_written_or_told(tmp_path: Path) -> None:
    """The accident: XMP as text, as older versions of Pillow have it, was dropped without a word."""
    image = Image.new("RGB", (8, 8), "red")
    image.info.update(exif=Image.Exif(), xmp=XMP.decode())
    assert write_image(image, tmp_path / "a.png") == ("its EXIF is not kept: it is no bytes but Exif",)
    assert read_image(tmp_path / "a.png").meta.xmp is not None


def test_a_missing_folder_says_so(tmp_path) -> None:
    """The commonest mistake of all."""
    with pytest.raises(OutputError, match="does not exist; create it"):
        write_image(drawn("uint8", 3), tmp_path / "no" / "a.png")


def test_an_interrupted_write_leaves_nothing(tmp_path) -> None:
    """Ctrl-C is no OSError."""

    def interrupted() -> None:
        with replacing(tmp_path / "a.png") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_errors_name_the_file(tmp_path) -> None:
    """In a batch of a thousand, an error without a name is no use."""
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    for source in (path, tmp_path, tmp_path / "absent.png"):
        with pytest.raises(ImagesmithError) as caught:
            read_image(source)
        assert str(source) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_with_a_picture_name_does_not_hang(tmp_path) -> None:
    """Opening a pipe that nobody writes to waits for ever."""
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "a.png")


def test_what_a_gif_cannot_hold_is_said(tmp_path: Path) -> None:
    """The accident: the profile, the camera's notes and half of the transparency are gone, without a word."""
    pixels = torch.full((8, 8, 4), 128, dtype=torch.uint8)
    meta = ImageMeta(
        "png", "RGBA", icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), dpi=(300, 300)
    )
    notes = " ".join(write_image(Frame(pixels, "uint8", meta), tmp_path / "a.gif"))
    assert "the colour profile, the resolution not kept" in notes
    assert "half transparent" in notes
    gray = torch.tensor([[[200, 0], [200, 255]]], dtype=torch.uint8).expand(8, -1, -1).contiguous()
    write_image(Frame(gray, "uint8", ImageMeta("png", "gray+alpha")), tmp_path / "b.gif")
    with Image.open(tmp_path / "b.gif") as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert alpha[:, 0].max() == 0
    assert alpha[:, 1].min() == 255


def test_colours_that_a_png_tells_without_a_profile_are_named() -> None:
    """The accident: a picture of a wider gamut comes back untagged, and looks pale everywhere."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, "PNG")
    plain = stream.getvalue()
    for kind, body, is_told in (
        (b"gAMA", (45455).to_bytes(4, "big"), False),
        (b"gAMA", (100000).to_bytes(4, "big"), True),
        (b"cICP", bytes((9, 16, 0, 1)), True),
        (b"cICP", bytes((1, 13, 0, 1)), False),
    ):
        chunk = len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        notes = read_image(plain[:33] + chunk + plain[33:]).meta.notes
        assert any(kind.decode() in note for note in notes) == is_told, (kind, body)
