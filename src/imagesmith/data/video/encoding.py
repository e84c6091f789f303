"""Which codec, quality and pixel format a film is written with: settled before anything is computed."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.error

from imagesmith.data.video.animations import LEAST_MS, too_fast
from imagesmith.data.video.colour import FULL, even_size, sharing_colour
from imagesmith.data.video.hdr10 import Hdr10
from imagesmith.data.video.info import Kind, VideoInfo
from imagesmith.data.video.priority import ordinary_threads
from imagesmith.degrade import x264
from imagesmith.errors import UsageError, not_one_of

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder writes to the terminal past every other log

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_MP4 = (".mp4", ".m4v", ".mov", ".mkv")


@dataclass(frozen=True)
class Codec:
    """An encoder: the containers for it, its pixel formats for 8 and for more bits, its usual and its largest crf.

    `crf` is None where there is no such choice; `presets` gives its own names for `PRESETS`.
    """

    suffixes: tuple[str, ...]
    shallow: str
    deep: str
    crf: int | None = None
    most_crf: int = 51
    presets: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


_SAME = {name: name for name in PRESETS}
_AV1: dict[str, str] = dict(zip(PRESETS, ("12", "11", "10", "9", "8", "8", "6", "5", "4", "2"), strict=True))
CODECS = {
    "libx264": Codec(_MP4, "yuv420p", "yuv420p10le", 18, presets=_SAME),
    "libx265": Codec(_MP4, "yuv420p", "yuv420p10le", 18, presets=_SAME, options={"x265-params": "log-level=none"}),
    "libsvtav1": Codec((".mp4", ".m4v", ".mkv", ".webm"), "yuv420p", "yuv420p10le", 26, 63, presets=_AV1),
    "ffv1": Codec((".mkv",), "bgr0", "gbrp16le"),
    "prores_ks": Codec((".mov", ".mkv"), "yuv422p10le", "yuv422p10le"),
}
PICTURES = {"folder": ("png", "tif", "jpg"), "animation": ("gif", "webp")}
"""What the frames of an output that is no film become; its parts are lossless films until then."""
LOSSLESS, H264, HEVC, PRORES = "ffv1", "libx264", "libx265", "prores_ks"
_WITHOUT_SHAPE = frozenset({LOSSLESS, "libsvtav1", "av1", PRORES, "prores"})
_MOST_ANIMATED = 500_000_000  # pixels of all frames together, enlarged: Pillow wants all at once
_SHALLOW = ("jpg", "gif", "webp")


@dataclass(frozen=True)
class Encoding:
    """How a film is written.

    `codec` is one of `CODECS`, for a folder one of png, tif and jpg; 'auto' is H.264, HEVC for more than eight bits,
    AV1 in WebM, PNG. `crf` None is the codec's usual one; `preset` is one of `PRESETS`; `pix_fmt` 'auto' is 4:2:0.
    """

    codec: str = "auto"
    crf: int | None = None
    preset: str = "medium"
    pix_fmt: str = "auto"

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to the film."""
        return "auto" not in (self.codec, self.pix_fmt)

    @property
    def encoder(self) -> str:
        """The encoder of a part: frames that become pictures wait in a lossless film."""
        return self.codec if self.codec in CODECS else LOSSLESS

    def options(self, hdr10: Hdr10 | None = None) -> dict[str, str]:
        """What the encoder is told besides size, time and colour."""
        codec = CODECS[self.encoder]
        told = dict(codec.options)
        if codec.crf is not None:
            told["crf"] = str(codec.crf if self.crf is None else self.crf)
        if codec.presets:
            told["preset"] = codec.presets[self.preset]
        if self.encoder == H264:
            told |= x264.repeatable()
        if hdr10 and self.encoder == HEVC:
            told["x265-params"] += f":{hdr10.x265()}"
        return told


def output_kind(output: Path) -> Kind:
    """What a name asks for: a film, an animation, or without suffix a folder; UsageError for anything else."""
    suffix = output.suffix.lower()
    if suffix in FILMS:
        return "film"
    if not suffix or output.is_dir():
        return "folder"
    if suffix.lstrip(".") in PICTURES["animation"]:
        return "animation"
    known = ", ".join((*FILMS, ".gif", ".webp"))
    raise UsageError(f"expected an output that ends in {known}, or a folder, got '{output.name}'")


def settle(encoding: Encoding, info: VideoInfo, output: Path | None = None) -> Encoding:
    """The encoding without 'auto'; UsageError for a codec, quality or format that is none or does not fit `output`."""
    kind: Kind = output_kind(output) if output else "film"
    suffix = output.suffix.lower() if output else ""
    codec = encoding.codec
    if output is None and codec in (*PICTURES["folder"], *PICTURES["animation"]):  # settled before, for such an output
        return dataclasses.replace(encoding, pix_fmt=_pix_fmt("auto", LOSSLESS, info))
    if kind != "film":
        assert output
        known = PICTURES[kind] if kind == "folder" else (suffix.lstrip("."),)
        codec = known[0] if codec == "auto" else codec
        if codec not in known:
            raise UsageError(f"{output.name} is no film: {not_one_of('a codec', codec, known)}")
        settled = Encoding(codec, pix_fmt=_pix_fmt("auto", LOSSLESS, info))
        asked = dataclasses.replace(encoding, codec=codec)
        if asked not in (settled, Encoding(codec)):
            raise UsageError(
                f"{output.name} holds pictures: --crf, --preset and --pix-fmt are for films; leave them out"
            )
        return settled
    if codec == "auto":
        codec = "libsvtav1" if suffix == ".webm" else "libx265" if info.depth == "uint16" else "libx264"
    if codec not in CODECS:
        raise UsageError(not_one_of("a codec", codec, CODECS))
    if suffix and suffix not in CODECS[codec].suffixes:
        fitting = ", ".join(name for name, entry in CODECS.items() if suffix in entry.suffixes)
        raise UsageError(
            f"expected a codec that {suffix} holds ({fitting}), got {codec}\n"
            f"or name the output {' or '.join(CODECS[codec].suffixes)}"
        )
    most, crf = CODECS[codec].most_crf, encoding.crf
    if crf is not None and CODECS[codec].crf is None:
        raise UsageError(f"{codec} has no crf; leave --crf out")
    if crf is not None and not 0 <= crf <= most:
        raise UsageError(f"expected a crf from 0 (best) to {most} for {codec}, got {crf}")
    if encoding.preset not in PRESETS:
        raise UsageError(not_one_of("a preset", encoding.preset, PRESETS))
    if encoding.preset != Encoding.preset and not CODECS[codec].presets:
        raise UsageError(f"{codec} has no presets; leave --preset out")
    return dataclasses.replace(encoding, codec=codec, pix_fmt=_pix_fmt(encoding.pix_fmt, codec, info))


def _pix_fmt(asked: str, codec: str, info: VideoInfo) -> str:
    if asked == "auto":
        return CODECS[codec].deep if info.depth == "uint16" else CODECS[codec].shallow
    if asked not in _formats_of(codec):
        raise UsageError(f"{codec}: {not_one_of('a pixel format', asked, _formats_of(codec))}")
    return asked


def _formats_of(codec: str) -> list[str]:
    return [layout.name for layout in av.Codec(codec, "w").video_formats or ()]


def check_size(encoding: Encoding, size: tuple[int, int]) -> None:
    """UsageError where a settled encoding's encoder does not take frames of `size` (width, height)."""
    context = av.CodecContext.create(encoding.encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = even_size(size, encoding.pix_fmt)
    context.pix_fmt, context.time_base, context.options = encoding.pix_fmt, Fraction(1, 25), encoding.options()
    open_encoder(context, size)


def check_length(encoding: Encoding, size: tuple[int, int], frames: int) -> None:
    """UsageError where so many frames of `size` (width, height) are too many for an animation."""
    if encoding.codec in PICTURES["animation"] and frames * size[0] * size[1] > _MOST_ANIMATED:
        raise UsageError(
            f"expected a short film for an animation, got {frames} frames of {size[0]}x{size[1]}\n"
            "name a film (.mp4) or a folder as output, or take a shorter part of it"
        )


def open_encoder(context: av.VideoCodecContext, size: tuple[int, int]) -> None:
    """Open an encoder that knows all it must; UsageError where it refuses frames of `size`."""
    try:
        with ordinary_threads():
            context.open()
    except av.error.FFmpegError as error:
        raise UsageError(
            f"{context.name} cannot write {size[0]}x{size[1]} in {context.pix_fmt}; choose another codec or size"
        ) from error


def loses_shape(codec: str, output: Path) -> bool:
    """Whether a codec, by its own or its encoder's name, leaves the shape of pixels to Matroska, which is told none."""
    return output.suffix.lower() in (".mkv", ".webm") and codec in _WITHOUT_SHAPE


def lost_by(encoding: Encoding, info: VideoInfo, scale: int, output: Path) -> tuple[str, ...]:
    """Sentences about what `output`, of a settled encoding, cannot hold of the film, `scale` times its size."""
    if encoding.codec not in CODECS:
        return tuple(_lost_by_pictures(encoding.codec, info))
    notes = []
    if info.depth == "uint16" and av.VideoFormat(encoding.pix_fmt).components[0].bits == 8:
        notes.append(f"more than 8 bits are written with 8 ({encoding.pix_fmt})")
    if _has_finer_colours(info, encoding.pix_fmt, scale):
        notes.append(
            f"{encoding.pix_fmt} holds fewer samples of colour than the film's {info.pix_fmt} "
            f"({_keeping_colours(encoding, output)} keeps them)"
        )
    if info.colour.range == FULL and encoding.codec == PRORES:
        notes.append(f"colours of a full range are written as a limited one: {PRORES} holds no other")
    if info.hdr10 and encoding.codec != HEVC:
        notes.append(f"HDR10 metadata, the light of the screen it was graded on, are not kept: {HEVC} writes them")
    if info.sample_aspect != 1 and loses_shape(encoding.codec, output):
        keeps = "libx264 with --crf 0" if encoding.codec == LOSSLESS else CODECS[encoding.codec].suffixes[0]
        notes.append(
            f"the shape of pixels ({info.sample_aspect}) is lost with {encoding.codec} in {output.suffix.lower()}; "
            f"{keeps} keeps it"
        )
    size = info.width * scale, info.height * scale
    width, height = even_size(size, encoding.pix_fmt)
    if (width, height) != size:
        notes.append(
            f"{encoding.pix_fmt} needs even sides: the last line is doubled, {size[0]}x{size[1]} becomes "
            f"{width}x{height} ({_keeping_colours(encoding, output)} keeps the size)"
        )
    return tuple(notes)


def _lost_by_pictures(format: str, info: VideoInfo) -> Iterator[str]:
    """What frames that become pictures cannot hold."""
    if info.depth == "uint16" and format in _SHALLOW:
        yield f"more than 8 bits are written with 8: {format} holds no more"
    if info.rate is not None and info.rate * LEAST_MS.get(format, 0) > 1000:
        yield too_fast(format)
    if info.sample_aspect != 1:
        yield f"the shape of pixels ({info.sample_aspect}) is lost with {format}; a film keeps it"
    if info.kind != "folder" and format in PICTURES["folder"]:
        rate = "no usual rate" if info.rate is None else f"{float(info.rate):.6g} frames a second as a rule"
        yield f"a folder of frames has no times; the film has {rate}"


def _has_finer_colours(info: VideoInfo, pix_fmt: str, scale: int) -> bool:
    """Whether a film has more samples of colour than its result of `scale` times the size."""
    if info.kind != "film" or len(av.VideoFormat(info.pix_fmt).components) < 3:
        return False
    pairs = zip(sharing_colour(info.pix_fmt), sharing_colour(pix_fmt), strict=True)
    return any(before * scale < after for before, after in pairs)


def _keeping_colours(encoding: Encoding, output: Path) -> str:
    """The options for a sample of colour in each pixel, as deep: of another codec where this one has no such format."""
    bits = av.VideoFormat(encoding.pix_fmt).components[0].bits
    pix_fmt, suffix = f"yuv444p{'' if bits == 8 else f'{bits}le'}", output.suffix.lower()
    if pix_fmt in _formats_of(encoding.codec):
        return f"--pix-fmt {pix_fmt}"
    fitting_first = sorted(CODECS, key=lambda name: suffix not in CODECS[name].suffixes)
    codec = next(name for name in fitting_first if pix_fmt in _formats_of(name))
    place = "" if suffix in CODECS[codec].suffixes else f" in {CODECS[codec].suffixes[0]}"
    return f"--codec {codec} --pix-fmt {pix_fmt}{place}"
