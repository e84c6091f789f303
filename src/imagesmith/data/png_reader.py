"""Reading PNG: the chunks are walked and checked here, the pixels are inflated and unfiltered by Pillow.

Pillow sees a stream of IHDR, PLTE and IDAT only, so no text bomb, broken animation or odd metadata chunk reaches it;
transparency and metadata are applied from the chunks themselves, which keeps them exact at every bit depth.
"""

import contextlib
import io
import re
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import PngImagePlugin

from imagesmith.data import metadata
from imagesmith.data.checksum import mended
from imagesmith.data.decoded import Decoded, damaged, quiet, to_array
from imagesmith.data.frame import Header
from imagesmith.errors import ImageError, TruncatedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_RAW_PROFILE = re.compile(rb"\s*\w+\s+\d+\s+([0-9a-fA-F\s]+)")
_PICTURE_DATA = re.compile(rb"(XML:com\.adobe\.xmp|exif|Raw profile type (exif|APP1|xmp))\0")
_MAX_TEXT = 64 << 20  # metadata that inflates beyond this is an attack, not a caption
_PIECE = 512
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
"""The chunks without which there is no picture."""
_SRGB_GAMMA, _SRGB_CICP = 45455, b"\x01\x0d\x00\x01"
_SRGB_PLACES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


@dataclass
class _Chunks:
    """The chunks that matter, the parts of IDAT in order, and whether the file ends before IEND.

    `broken` are (index in `idat`, place in the file, checksum) of the parts that do not match their checksum.
    """

    single: dict[bytes, bytes] = field(default_factory=dict)
    text: list[tuple[bytes, bytes]] = field(default_factory=list)
    animation_frames: int = 0
    idat: list[bytes] = field(default_factory=list)
    broken: list[tuple[int, int, int]] = field(default_factory=list)
    ends_early: bool = False
    notes: list[str] = field(default_factory=list)


def _walk(data: bytes) -> _Chunks:
    """Split a PNG into chunks, checking lengths and checksums of all that the pixels need."""
    found, at, ended = _Chunks(), len(SIGNATURE), False
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        critical = kind in CRITICAL
        if at + 12 + size > len(data):  # cut inside this chunk: keep what is there of the pixels
            if kind == b"IDAT":
                found.idat.append(body)
            break
        (checksum,) = struct.unpack_from(">I", data, at + 8 + size)
        intact = zlib.crc32(body, zlib.crc32(kind)) == checksum
        if kind == b"IDAT" and not intact:
            found.broken.append((len(found.idat), at, checksum))
            found.idat.append(body)
        elif critical and not intact:
            raise mismatch(kind, at)
        elif not intact:
            found.notes.append(dropped(kind))
        elif kind == b"IDAT":
            found.idat.append(body)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            found.text.append((kind, body))
        elif kind == b"fcTL":
            found.animation_frames += 1
        elif kind == b"IEND":
            ended = True
            break
        elif kind in found.single and critical:
            raise damaged("png", f"it has more than one {kind.decode()} chunk")
        else:
            found.single.setdefault(kind, body)
        at += 12 + size
    found.ends_early = not ended
    return found


def dropped(kind: bytes) -> str:
    """What is said of a chunk of metadata whose checksum does not match."""
    return f"dropped a damaged {kind.decode('latin1')} chunk"


def mismatch(kind: bytes, at: int, advice: str = "") -> ImageError:
    """The error of a file whose chunk of this `kind` at byte `at` was changed."""
    return damaged("png", f"the checksum of its {kind.decode()} chunk at byte {at} does not match{advice}")


def _inflate(packed: bytes) -> bytes | None:
    """Decompressed metadata, or None where it is damaged or larger than any metadata is."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(packed, _MAX_TEXT)
    except zlib.error:
        return None
    return None if stream.unconsumed_tail or not stream.eof else plain


class PngFile:
    """A PNG whose header is known; `decode` gives its pixels."""

    def __init__(self, data: bytes):
        self._chunks = chunks = _walk(data)
        header = chunks.single.get(b"IHDR")
        if header is None:
            raise TruncatedError("the PNG file ends before its header does; copy or download it again")
        if len(header) != 13:
            raise damaged("png", f"its header has {len(header)} bytes instead of 13")
        width, height, self._bits, self._colour, compression, filtering, self._interlace = struct.unpack(
            ">IIBBBBB", header
        )
        legal = self._bits in _BITS.get(self._colour, ()) and not compression and not filtering and self._interlace < 2
        if not legal or not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
            raise damaged("png", f"its header asks for {width}x{height}, {self._bits} bits, colour type {self._colour}")
        if self._colour == 3 and b"PLTE" not in chunks.single:
            raise damaged("png", "it needs a palette and has none")
        keyed = b"tRNS" in chunks.single and self._colour in (0, 2, 3)
        colours = 3 if self._colour == 3 else _CHANNELS[self._colour]
        frames = chunks.animation_frames if b"acTL" in chunks.single else 1
        depth = "uint16" if self._bits == 16 else "uint8"
        self.header = Header("png", width, height, colours + keyed, depth, max(1, frames))

    @property
    def bits(self) -> int:
        """Of a sample."""
        return self._bits

    @property
    def is_interlaced(self) -> bool:
        return bool(self._interlace)

    @property
    def row_bytes(self) -> int:
        """Of a filtered row, or of one of the first pass."""
        return self._passes()[0][0]

    @property
    def turn(self) -> int:
        """The orientation that is to be applied."""
        exif, xmp = self._exif_and_xmp()
        return metadata.orientation(metadata.bare_exif(exif), xmp)

    def decode(self, partial: bool) -> Decoded:
        """Pixels with transparency applied, and the metadata. A file cut short needs `partial`."""
        notes = list(self._chunks.notes)
        if self.header.frames > 1:
            notes.append(f"first picture of an animation of {self.header.frames} frames")
        if not self._chunks.idat and not self._chunks.ends_early:
            raise damaged("png", "it has no pixels")
        if self._chunks.broken and not partial:
            raise mismatch(b"IDAT", self._chunks.broken[0][1], "; --partial keeps what is above the damage")
        if self._chunks.broken:
            notes.append(self._mend_or_end_at_the_damage())
        raw, missing = self._samples_or_what_is_missing()
        lost = None
        if missing is not None:
            if not partial:
                raise TruncatedError(f"the PNG file ends early: {missing}\ncopy it again or use --partial")
            notes.append(missing)
            lost = self._lost()
        if raw is None:
            raw = self.samples(partial=True)
            if lost is not None:
                raw[lost] = 0
        pixels = self.with_transparency(raw)
        mode = {0: "gray", 2: "RGB", 3: "palette", 4: "gray+alpha", 6: "RGBA"}[self._colour]
        if self._colour == 3:
            notes.append(f"palette expanded to {'RGBA' if pixels.shape[2] == 4 else 'RGB'}")
        exif, xmp = self._exif_and_xmp()
        if (icc := self._icc()) is None and self._has_colours_of_its_own:
            notes.append(metadata.other_colours("cICP, gAMA or cHRM"))
        return Decoded(
            pixels,
            "png",
            f"{self._bits}-bit {mode}",
            icc=icc,
            exif=exif,
            xmp=xmp,
            captions=tuple(chunk for chunk in self._chunks.text if not _PICTURE_DATA.match(chunk[1])),
            dpi=self._dpi(),
            notes=notes,
            lost=lost,
            was_damaged=bool(self._chunks.broken) or missing is not None,
        )

    @property
    def _has_colours_of_its_own(self) -> bool:
        """Whether chunks other than a profile tell colours that are not those of sRGB."""
        single = self._chunks.single
        if b"cICP" in single:
            return single[b"cICP"] != _SRGB_CICP
        if b"sRGB" in single:
            return False
        gamma, places = single.get(b"gAMA", b""), single.get(b"cHRM", b"")
        other_gamma = len(gamma) == 4 and abs(int.from_bytes(gamma, "big") - _SRGB_GAMMA) > 1000
        return other_gamma or (len(places) == 32 and struct.unpack(">8I", places) != _SRGB_PLACES)

    def _mend_or_end_at_the_damage(self) -> str:
        """Leave only pixel data that can be trusted; says what became of it."""
        (first, at, checksum), *others = self._chunks.broken
        parts = self._chunks.idat
        if not others and (whole := mended(b"IDAT" + parts[first], checksum)) is not None:
            self._chunks.idat = [*parts[:first], whole[4:], *parts[first + 1 :]]
            if self._inflated() == sum(row * rows for row, rows in self._passes()):
                return f"one changed byte in the chunk at byte {at} was set right by its checksum"
        self._chunks.idat, self._chunks.ends_early = parts[:first], True
        if self._inflated() >= self._passes()[0][0]:
            return f"the data from byte {at} on is damaged and was not used"
        self._chunks.idat = parts[: first + 1]  # all that there is: up to where it makes no sense
        return f"the data from byte {at} on is damaged, and what is shown of it may be wrong"

    def _samples_or_what_is_missing(self) -> tuple[np.ndarray | None, str | None]:
        if not self._chunks.ends_early:
            try:
                return self.samples(partial=False), None
            except ImageError:
                missing = self._missing()
                if missing is None:
                    raise
                return None, missing
        return None, self._missing()

    def _passes(self) -> list[tuple[int, int]]:
        """(bytes of a filtered row, rows) of each pass as it must come out of the zlib stream."""
        width, height = self.header.width, self.header.height
        bits = self._bits * _CHANNELS[self._colour]
        if not self._interlace:
            return [(1 + (width * bits + 7) // 8, height)]
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _ADAM7]
        return [(1 + (w * bits + 7) // 8, h) for w, h in sizes if w > 0 and h > 0]

    def _inflated(self) -> int:
        """How many of the bytes that the picture needs come out of the zlib stream, up to where they make no sense."""
        stream, found, passes = zlib.decompressobj(), bytearray(), self._passes()
        need = sum(row * rows for row, rows in passes)
        with contextlib.suppress(zlib.error):  # a damaged stream counts up to the damage, so it goes in by small pieces
            for part in self._chunks.idat:
                for start in range(0, len(part), _PIECE):
                    rest = part[start : start + _PIECE]
                    while rest and len(found) < need and not stream.eof:
                        found += stream.decompress(rest, 1 << 20)
                        rest = stream.unconsumed_tail
        begin = 0
        for row_bytes, rows in passes:
            filters = np.frombuffer(found[begin : begin + row_bytes * rows : row_bytes], np.uint8)
            if (filters > 4).any():  # there are five
                return begin + row_bytes * int(np.argmax(filters > 4))
            begin += row_bytes * rows
        return min(len(found), need)

    def _missing(self) -> str | None:
        """What the zlib stream lacks of the picture, as a sentence; None when nothing is missing at all."""
        have, passes = self._inflated(), self._passes()
        need = sum(row * rows for row, rows in passes)
        if have < passes[0][0]:
            raise TruncatedError("the PNG file ends before the first row of its picture; copy or download it again")
        if have < need:
            if self._interlace:
                return f"{100 * have // need} % of the interlaced pixels are there, the rest is black"
            return f"row {have // passes[0][0]} and all below are missing (of {self.header.height})"
        return "its end mark is missing, the picture is complete" if self._chunks.ends_early else None

    def _lost(self) -> np.ndarray | None:
        """Which pixels (H, W) the zlib stream lacks; None if it lacks none."""
        have, lost = self._inflated(), np.zeros((self.header.height, self.header.width), bool)
        steps = _ADAM7 if self._interlace else ((0, 0, 1, 1),)
        grids = [
            grid for x, y, dx, dy in steps if (grid := lost[y::dy, x::dx]).size
        ]  # views, in the order of the passes
        for (row_bytes, rows), grid in zip(self._passes(), grids, strict=True):
            grid[min(have // row_bytes, rows) :] = True
            have = max(0, have - row_bytes * rows)
        return lost if lost.any() else None

    def samples(self, partial: bool) -> np.ndarray:
        """Samples (H, W, channels of the file), uint8 or uint16; gray of less than 8 bits scaled to 8."""
        if self._bits < 16 or self._colour == 0:
            return self._pillow(None, partial)
        if self._colour == 4:  # the two bytes of gray and the two of alpha, read as if they were R, G, B, A
            quads = self._pillow(("RGBA", "RGBA"), partial)
            return quads.view(">u2").astype(np.uint16)
        # Pillow keeps the first byte of each 16-bit sample; told that the samples are little-endian it keeps the second
        mode = "RGB" if self._colour == 2 else "RGBA"
        pixels = self._pillow((mode, mode + ";16B"), partial).astype(np.uint16)
        pixels <<= 8
        pixels |= self._pillow((mode, mode + ";16L"), partial)
        return pixels

    def _pillow(self, layout: tuple[str, str] | None, partial: bool) -> np.ndarray:
        """Decode with Pillow, whose own choice of (mode, raw mode) `layout` may replace."""
        chunks = [(b"IHDR", self._chunks.single[b"IHDR"])]
        if self._colour == 3:
            chunks.append((b"PLTE", self._chunks.single[b"PLTE"][: 3 << self._bits]))
        chunks += [(b"IDAT", part) for part in self._chunks.idat]
        clean = io.BytesIO()
        clean.write(SIGNATURE)
        for kind, body in [*chunks, (b"IEND", b"")]:
            clean.write(struct.pack(">I4s", len(body), kind) + body)
            clean.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))
        clean.seek(0)
        with quiet():
            image = PngImagePlugin.PngImageFile(clean)
            if layout is not None:
                image._mode = layout[0]
                image.tile = [image.tile[0]._replace(args=layout[1])]
            return to_array(image, "png", partial)

    def with_transparency(self, raw: np.ndarray) -> np.ndarray:
        """Palette and colour key applied; the alpha channel comes last."""
        key = self._chunks.single.get(b"tRNS")
        if self._colour == 3:
            table = np.zeros((256, 4), np.uint8)
            table[:, 3] = 255
            colours = np.frombuffer(self._chunks.single[b"PLTE"], np.uint8)
            colours = colours[: min(len(colours) // 3, 256) * 3].reshape(-1, 3)
            table[: len(colours), :3] = colours
            if key is not None:
                table[: min(len(key), 256), 3] = np.frombuffer(key[:256], np.uint8)
            return table[raw[..., 0], : 4 if key is not None else 3]
        if key is None or self._colour > 2:
            return raw
        if len(key) != 2 * raw.shape[2]:
            raise damaged("png", f"its transparent colour has {len(key)} bytes instead of {2 * raw.shape[2]}")
        values = np.frombuffer(key, ">u2").astype(np.int64) & ((1 << self._bits) - 1)
        if self._bits < 8:
            values = values * 255 // ((1 << self._bits) - 1)
        opaque = np.any(raw != values.astype(raw.dtype), axis=2, keepdims=True)
        return np.concatenate((raw, opaque.astype(raw.dtype) * np.iinfo(raw.dtype).max), axis=2)

    def _icc(self) -> bytes | None:
        """The profile; of one that does not inflate its chunk, which `usable_icc` drops and tells."""
        chunk = self._chunks.single.get(b"iCCP", b"")
        _, _, packed = chunk.partition(b"\0")
        return _inflate(packed[1:]) or chunk or None

    def _dpi(self) -> tuple[float, float] | None:
        density = self._chunks.single.get(b"pHYs", b"")
        if len(density) != 9 or density[8] != 1:  # 1 = per metre; anything else is an aspect ratio
            return None
        x, y = struct.unpack_from(">II", density)
        return x * 0.0254, y * 0.0254

    def _exif_and_xmp(self) -> tuple[bytes | None, bytes | None]:
        """From eXIf and iTXt, or from the hexadecimal text that older programs wrote instead."""
        exif, xmp = self._chunks.single.get(b"eXIf"), None
        for kind, body in self._chunks.text:
            keyword, _, rest = body.partition(b"\0")
            if keyword == b"XML:com.adobe.xmp" and kind == b"iTXt":
                *_, content = rest[2:].split(b"\0", 2)
                xmp = (_inflate(content) if rest[:1] == b"\x01" else content) or xmp
            elif keyword in (b"Raw profile type exif", b"Raw profile type APP1") and exif is None:
                plain = _inflate(rest[1:]) if kind == b"zTXt" else rest
                exif = _from_hexadecimal(plain or b"")
            elif keyword == b"exif" and kind == b"tEXt":
                exif = exif or rest
        return exif, xmp


def _from_hexadecimal(text: bytes) -> bytes | None:
    """The bytes of ImageMagick's raw profile: a name, a length and hexadecimal digits."""
    found = _RAW_PROFILE.match(text)
    try:
        return bytes.fromhex(found[1].decode("ascii")) if found else None
    except ValueError:
        return None
