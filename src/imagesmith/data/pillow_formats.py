"""JPEG, WebP, BMP, GIF, AVIF and JPEG 2000 by one Pillow plug-in each; every mode becomes gray or RGB (+ alpha)."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    WebPImagePlugin,
)

from imagesmith.data import jp2_boxes, metadata
from imagesmith.data.damage import looks_damaged, survey_jpeg
from imagesmith.data.decoded import Decoded, damaged, failure, load, quiet, to_array, truncated
from imagesmith.data.frame import Captions, Header, JpegTables
from imagesmith.errors import TruncatedError
from imagesmith.tensors import Depth

PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "jpg": JpegImagePlugin.JpegImageFile,  # reads the first picture of an MPO too
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile,
}
_CHANNELS = {"1": 1, "L": 1, "I": 1, "F": 1, "LA": 2, "La": 2, "PA": 4, "RGBA": 4, "RGBa": 4}
_CAPTIONS = {"APP13": b"\xff\xed", "COM": b"\xff\xfe"}
_ICC_MARK, _XMP_EXTENSION = b"ICC_PROFILE\0", b"http://ns.adobe.com/xmp/extension/\0"
_MP_ENTRIES = 0xB002
_SRGB_PRIMARIES, _SRGB_TRANSFERS = (1, 2), (1, 2, 6, 13)  # ITU-T H.273; 2: not told; 1 and 6: of video, shown alike
_SRGB = ImageCms.createProfile("sRGB")


def depth_of(mode: str) -> Depth:
    """The depth in which pixels of a Pillow mode are kept."""
    if mode.startswith("I;16"):
        return "uint16"
    return "float32" if mode in ("I", "F") else "uint8"


def open_plugin(plugin: Callable[..., ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    """Let one plug-in read the header of `data`."""
    with quiet():
        return plugin(io.BytesIO(data))


class PillowFile:
    """A file of one of `PLUGINS`; `decode` gives its first picture."""

    def __init__(self, name: str, data: bytes):
        self._name, self._data, self._deep, self._was_damaged = name, data, False, False
        if ends_early(name, data):
            raise truncated(name)
        if name == "webp":
            self.header = _webp_header(data)  # its plug-in allocates the canvas at once, so the size comes first
            return
        self._image = image = open_plugin(PLUGINS[name], data)
        self._deep = name == "jp2" and image.mode != "I;16" and _jp2_bits(data) > 8
        channels = _CHANNELS.get(image.mode, 1 if image.mode.startswith("I;16") else 3)
        if image.mode == "P" or channels in (1, 3):
            channels += "transparency" in image.info
        self.header = Header(name, image.width, image.height, channels, depth_of(image.mode), self._frames())

    def _frames(self) -> int:
        with quiet():
            try:
                if self._name == "jpg":
                    return _pictures_of_mpo(self._image, len(self._data))
                return int(getattr(self._image, "n_frames", 1))
            except Exception:  # later frames may be broken in any way; only the first one is wanted
                return 2

    @property
    def turn(self) -> int:
        """The orientation that is to be applied."""
        self._open_webp()
        _, exif, xmp, _ = self._metadata([])
        return self._turn_of(exif, xmp)

    def _turn_of(self, exif: bytes | None, xmp: bytes | None) -> int:
        # Pillow puts AVIF's own rotation into the EXIF; where there is none, the picture is upright whatever XMP says
        return metadata.orientation(metadata.bare_exif(exif), None if self._name == "avif" else xmp)

    def _open_webp(self) -> None:
        if self._name == "webp":
            self._image = open_plugin(PLUGINS["webp"], self._data)

    def decode(self, partial: bool) -> Decoded:
        """The first picture in gray or RGB, with or without alpha."""
        self._open_webp()
        notes: list[str] = []
        if self.header.frames > 1:
            notes.append(f"first of {self.header.frames} frames")
        image = self._image
        mode, name = image.mode, self._name
        icc, exif, xmp, dpi = self._metadata(notes)
        with quiet():
            lost = None
            if name == "jpg":
                image, lost = self._load_jpeg(partial, notes)
            else:
                image = load(image, name, partial)
                if image is not self._image:
                    self._was_damaged = True
                    notes.append("the file ends early: what is missing is black")
            pixels, icc = to_gray_or_rgb(image, name, icc, notes)
        lossless = name in ("bmp", "gif", "jp2") or (name == "webp" and b"VP8L" in self._data)
        return Decoded(
            pixels,
            name,
            mode,
            icc=icc,
            exif=exif,
            xmp=xmp,
            captions=_jpeg_captions(self._image) if name == "jpg" else (),
            dpi=dpi,
            notes=notes,
            lossless=lossless,
            turn=self._turn_of(exif, xmp),
            jpeg=_jpeg_tables(self._image) if name == "jpg" else None,
            lost=lost,
            was_damaged=self._was_damaged,
        )

    def _metadata(self, notes: list[str]) -> tuple[Any, Any, Any, Any]:
        """Profile, EXIF, XMP and resolution as found; says what of the file goes with none of them.

        Pillow fills them in while it reads the header, and some plug-ins drop them while they load.
        """
        image, name, data = self._image, self._name, self._data
        icc, exif, xmp, dpi = (image.info.get(key) for key in ("icc_profile", "exif", "xmp", "dpi"))
        if name == "jp2":
            icc, exif, xmp = jp2_boxes.read_metadata(data)
        bits = _jp2_bits(data) if self._deep else _avif_bits(data) if name == "avif" else 8
        if bits > 8:
            notes.append(f"{bits}-bit colour read as 8-bit")
        if name == "avif" and not icc and _has_avif_colours_of_its_own(data):
            notes.append(metadata.other_colours("nclx"))
        if name == "gif" and image.info.get("comment"):
            notes.append("its comment was not kept")
        if name == "jpg":
            icc = _damaged_profile(image) if icc is None else icc
            xmp, beside = metadata.xmp_of_first(xmp)
            notes += beside
            if _segments(image, _XMP_EXTENSION):
                notes.append("the extension of its XMP was not kept")
            if dpi == (72, 72) and image.info.get("jfif_unit") != 1:
                dpi = None  # Pillow's stand-in for a file that gives none
        return icc, exif, xmp, dpi

    def _load_jpeg(self, partial: bool, notes: list[str]) -> tuple[Image.Image, np.ndarray | None]:
        """The picture, and with `partial` which of its pixels (H, W) did not survive; libjpeg makes them gray."""
        if not partial:
            try:
                return load(self._image, "jpg", partial=False), None
            except TruncatedError:
                self._load_jpeg(True, [])  # where nothing is left this raises, and promises nothing
                raise
        survey = survey_jpeg(self._data, _pixels_of_jpeg)
        if survey is None:
            self._was_damaged = not _codestream_ends(self._data)
            notes.append("what this kind of JPEG lacks cannot be found")
            return _decoded_jpeg(self._data + b"\xff\xd9"), None
        if survey.lost is not None and survey.lost.all():
            raise truncated("jpg")
        if survey.note:
            self._was_damaged = True
            notes.append(survey.note)
        return _decoded_jpeg(survey.data), survey.lost


def damage_in_jpeg(data: bytes) -> np.ndarray | None:
    """Which pixels (H, W), as stored, of a JPEG that decodes without an error look damaged; None where none do.

    Only a file with a sign of damage is decoded more than three times; ImageError where that fails.
    """
    with quiet():
        if not looks_damaged(data, lambda variant: np.asarray(_decoded_jpeg(variant, "L"))):
            return None
        survey = survey_jpeg(data, _pixels_of_jpeg)
    return None if survey is None else survey.lost


def _pixels_of_jpeg(data: bytes) -> np.ndarray:
    """(H, W) or (H, W, C)"""
    return np.asarray(_decoded_jpeg(data))


def _decoded_jpeg(data: bytes, mode: str | None = None) -> Image.Image:
    """What is left of a JPEG, in `mode` if libjpeg has it so; an error of it promises no more."""
    image = open_plugin(PLUGINS["jpg"], data)
    if mode is not None:
        image.draft(mode, None)
    try:
        image.load()
    except Exception as error:
        raise failure("jpg", error) from None
    return image


def _jpeg_captions(image: ImageFile.ImageFile) -> Captions:
    """The segments of IPTC and of comments."""
    return tuple((_CAPTIONS[name], content) for name, content in getattr(image, "applist", []) if name in _CAPTIONS)


def _damaged_profile(image: ImageFile.ImageFile) -> bytes | None:
    """The segments of a profile of which some are missing, for `usable_icc` to drop and tell; None without any."""
    return b"".join(_segments(image, _ICC_MARK)) or None


def _segments(image: ImageFile.ImageFile, mark: bytes) -> list[bytes]:
    """Those of a JPEG that begin with `mark`."""
    return [content for _, content in getattr(image, "applist", []) if content.startswith(mark)]


def _pictures_of_mpo(image: ImageFile.ImageFile, size: int) -> int:
    """How many pictures a JPEG of `size` bytes holds (CIPA DC-007), but for thumbnails and the map of its gain."""
    if "mp" not in image.info:
        return 1
    entries = getattr(image, "_getmp")()[_MP_ENTRIES]  # noqa: B009 - only JPEG's plug-in has it
    there = [entry for entry in entries if image.info["mpoffset"] + entry["DataOffset"] < size]
    pictures = sum("Thumbnail" not in entry["Attribute"]["MPType"] for entry in there)
    return max(1, pictures - metadata.has_gain_map(image.info.get("xmp")))


def _jpeg_tables(image: ImageFile.ImageFile) -> JpegTables | None:
    """What the header of a JPEG says about its quantisation; None where a component has no usable table."""
    components = [(bytes([part[0]]), part[1], part[2], part[3]) for part in getattr(image, "layer", [])]
    tables: dict[int, list[int]] = getattr(image, "quantization", {})
    if not components or not all(tables.get(table) and min(tables[table]) > 0 for *_, table in components):
        return None
    transform, names = image.info.get("adobe_transform"), b"".join(name for name, *_ in components)
    # an Adobe marker tells the colour space; without one libjpeg looks at the names of the components
    stored_rgb = transform == 0 if transform is not None else names == b"RGB"
    _, across, down, luma = components[0]
    if len(components) == 1:
        return JpegTables(tuple(tables[luma]), None)
    _, chroma_across, chroma_down, chroma = components[1]
    return JpegTables(
        tuple(tables[luma]),
        tuple(tables[chroma]),
        (across // max(1, chroma_across), down // max(1, chroma_down)),
        is_ycbcr=len(components) == 3 and not stored_rgb,
    )


def to_gray_or_rgb(
    image: Image.Image, name: str, icc: bytes | None, notes: list[str]
) -> tuple[np.ndarray, bytes | None]:
    """Pixels (H, W, 1-4) of a loaded image of any mode and the profile that still fits them; says what it changed."""
    mode, is_keyed = image.mode, "transparency" in image.info
    if mode in ("P", "PA"):
        target = "RGBA" if is_keyed or mode == "PA" else "RGB"
        notes.append(f"palette expanded to {target}")
        image = image.convert(target)
    elif is_keyed and mode in ("1", "L", "RGB"):
        image = image.convert("RGBA" if mode == "RGB" else "LA")
    elif mode in ("CMYK", "LAB"):
        image, icc = _through_profile(image, icc, notes), None
    elif mode in ("YCbCr", "RGBX", "HSV"):
        image = image.convert("RGB")
    elif mode in ("RGBa", "La"):
        image = image.convert("RGBA" if mode == "RGBa" else "LA")
    pixels = to_array(image, name, partial=False)
    if mode == "I":
        notes.append(read_as_float(32))
        pixels = pixels.astype(np.float32)
    return pixels, icc


def read_as_float(bits: int) -> str:
    """The sentence on integers of so many bits that became float32, which has 24 of its own."""
    kept = "values kept" if bits <= 24 else f"values beyond {1 << 24} rounded to 24 bits"
    return f"{bits}-bit integers read as float, {kept}"


def _through_profile(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    """CMYK or Lab to sRGB: through the embedded profile, else by the plain formula, and said."""
    source = ImageCms.createProfile("LAB") if image.mode == "LAB" else None
    if image.mode == "CMYK" and icc:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        except (OSError, ImageCms.PyCMSError):
            notes.append("dropped a colour profile that is damaged")
    if source is not None:
        try:
            transform = ImageCms.buildTransform(source, _SRGB, image.mode, "RGB")
            converted = ImageCms.applyTransform(image, transform)
        except ImageCms.PyCMSError as error:
            notes.append(f"the colour profile cannot be used ({error})")
        else:
            assert converted is not None
            notes.append(f"converted from {image.mode} to sRGB" + (" through its profile" if icc else ""))
            return converted
    notes.append(f"converted from {image.mode} without a profile, colours are approximate")
    return image.convert("RGB")


def ends_early(name: str, data: bytes) -> bool:
    """Whether a container declares more bytes than the file has (JPEG, BMP and GIF show it only while decoding)."""
    if name == "webp":
        return len(data) < 30 or len(data) < 8 + struct.unpack_from("<I", data, 4)[0]
    if name == "avif" or data.startswith(jp2_boxes.SIGNATURE):
        found = {kind: (start, end) for kind, _, start, end in jp2_boxes.boxes(data)}
        start, end = found.get(b"mdat" if name == "avif" else b"jp2c", (0, 0))
        whole = all(end <= len(data) for _, end in found.values())
        return not start or not whole or (name == "jp2" and not _codestream_ends(data[start:end]))
    return name == "jp2" and not _codestream_ends(data)


def _codestream_ends(data: bytes) -> bool:
    return data.rstrip(b"\0").endswith(b"\xff\xd9")


def _webp_header(data: bytes) -> Header:
    """Size, alpha and frame count from the first chunks (RFC 9649, section 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(body[4:7], "little")
        height = 1 + int.from_bytes(body[7:10], "little")
        alpha, animated = bool(body[0] & 0x10), bool(body[0] & 0x02)
    elif kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        width, height, alpha, animated = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1), False
    elif kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        alpha = animated = False
    else:
        raise damaged("webp", f"its first chunk is {kind!r}")
    frames = max(1, _count_webp_frames(data)) if animated else 1
    return Header("webp", width, height, 4 if alpha else 3, "uint8", frames)


def _count_webp_frames(data: bytes) -> int:
    at, frames = 12, 0
    while at + 8 <= len(data):
        frames += data[at : at + 4] == b"ANMF"
        at += 8 + (struct.unpack_from("<I", data, at + 4)[0] + 1 & ~1)
    return frames


def _jp2_bits(data: bytes) -> int:
    """Bits of the first component, from the SIZ segment (ISO/IEC 15444-1, A.5.1); 8 where there is none."""
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 8


def _avif_bits(data: bytes) -> int:
    """Bits per sample from the first AV1 configuration box (AV1-ISOBMFF, section 2.3.3); 8 where there is none."""
    at = data.find(b"av1C")
    if not 0 <= at < len(data) - 6 or not data[at + 6] & 0x40:
        return 8
    return 12 if data[at + 6] & 0x20 else 10


def _has_avif_colours_of_its_own(data: bytes) -> bool:
    """Whether the first colour box (ISO/IEC 14496-12, section 12.1.5) tells other colours than those of sRGB."""
    at = data.find(b"colrnclx")
    if not 0 <= at < len(data) - 12:
        return False
    primaries, transfer = struct.unpack_from(">HH", data, at + 8)
    return primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS
