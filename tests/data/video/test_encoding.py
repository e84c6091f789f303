from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from imagesmith.data.video import Encoding, VideoInfo, audit, check_size, lost_by, segment_writer, settle
from imagesmith.data.video.encoding import CODECS, check_length, output_kind
from imagesmith.errors import UsageError


def info(depth: str = "uint8") -> VideoInfo:
    return VideoInfo(
        Path("in.mp4"), "film", 64, 48, None, 1.0, Fraction(1, 25), Fraction(25), depth=depth, pix_fmt="yuv420p"
    )


@pytest.mark.parametrize(
    ("output", "depth", "codec", "pix_fmt"),
    [
        ("a.mp4", "uint8", "libx264", "yuv420p"),
        ("a.MKV", "uint16", "libx265", "yuv420p10le"),
        ("a.webm", "uint8", "libsvtav1", "yuv420p"),
        ("frames", "uint16", "png", "gbrp16le"),
        ("a.gif", "uint8", "gif", "bgr0"),
    ],
)
def test_what_auto_is(output: str, depth: str, codec: str, pix_fmt: str) -> None:
    """The accident: ten bits written as eight, or a WebM with H.264 that no browser takes."""
    settled = settle(Encoding(), info(depth), Path(output))
    assert (settled.codec, settled.pix_fmt, settled.is_settled) == (codec, pix_fmt, True)


@pytest.mark.parametrize(
    ("encoding", "output", "said"),
    [
        (Encoding("h265"), "a.mp4", "expected a codec out of libx264, .* got 'h265'"),
        (
            Encoding("libx265"),
            "a.webm",
            "a codec that .webm holds \\(libsvtav1\\), got libx265\nor name the output .mp4",
        ),
        (Encoding("ffv1"), "a.mp4", "got ffv1"),
        (Encoding("prores_ks", crf=18), "a.mov", "no crf"),
        (Encoding(crf=52), "a.mp4", "from 0 \\(best\\) to 51 for libx264, got 52"),
        (Encoding(preset="quick"), "a.mp4", "a preset out of ultrafast"),
        (Encoding(pix_fmt="yuv421p"), "a.mp4", "a pixel format out of .* \\(did you mean"),
        (Encoding(), "a.jpg", "ends in .mp4, .* or a folder, got 'a.jpg'"),
        (Encoding("libx264"), "frames", "frames is no film: expected a codec out of png, tif, jpg"),
        (Encoding("libx264"), "a.gif", "out of gif"),
        (Encoding(crf=0), "a.gif", "a.gif holds pictures: --crf, --preset and --pix-fmt are for films; leave them out"),
        (Encoding(preset="quick"), "frames", "frames holds pictures"),
        (Encoding("jpg", pix_fmt="yuv444p"), "frames", "frames holds pictures"),
        (Encoding("ffv1", preset="fast"), "a.mkv", "ffv1 has no presets; leave --preset out"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_computed(encoding: Encoding, output: str, said: str) -> None:
    """The accident: a night of computing that ends in 'Invalid argument'."""
    with pytest.raises(UsageError, match=said) as caught:
        settle(encoding, info(), Path(output))
    assert str(caught.value).count("\n") < 3


def test_a_whole_film_is_no_gif() -> None:
    """The accident: ten thousand frames held at once, and the machine stands still."""
    gif = settle(Encoding(), info(), Path("a.gif"))
    with pytest.raises(UsageError, match="short film for an animation, got 10000 frames of 1920x1080\nname a film"):
        check_length(gif, (1920, 1080), 10_000)
    check_length(gif, (1920, 1080), 100)
    check_length(settle(Encoding(), info(), Path("frames")), (1920, 1080), 10_000)


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_opens_as_its_table_says(name: str) -> None:
    """The accident: a pixel format or a preset in the table that the encoder does not know."""
    for depth in ("uint8", "uint16"):
        settled = settle(Encoding(name), info(depth))
        check_size(settled, (66, 66))


def test_a_size_that_an_encoder_refuses_is_told(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """The accident: a film of 1x1 pixels, and the words of avcodec_open2."""
    check_size(settle(Encoding("libx264"), info()), (1, 1))
    for name in ("libx265", "libsvtav1"):
        with pytest.raises(UsageError, match=f"{name} cannot write 1x1 in yuv420p; choose another codec or size"):
            check_size(settle(Encoding(name), info()), (1, 1))
        with (
            pytest.raises(UsageError, match=f"{name} cannot write 2x2"),
            segment_writer(tmp_path / "part", info(), Encoding(name), size=(1, 1)),
        ):
            pass
    assert capfd.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def lost(encoding: Encoding, film: VideoInfo, output: str, scale: int = 1) -> tuple[str, ...]:
    return lost_by(settle(encoding, film, Path(output)), film, scale, Path(output))


def test_bits_that_get_lost_are_said() -> None:
    """The accident: a GIF or a JPEG of a film with ten bits, and no word about it."""
    assert lost(Encoding(), info("uint16"), "a.gif") == ("more than 8 bits are written with 8: gif holds no more",)
    eight = Encoding("libx264", pix_fmt="yuv420p")
    assert lost(eight, info("uint16"), "a.mp4", 2) == ("more than 8 bits are written with 8 (yuv420p)",)
    assert (
        lost(Encoding("jpg"), info("uint16"), "frames")[0] == "more than 8 bits are written with 8: jpg holds no more"
    )
    assert not any("bits" in note for note in lost(Encoding(), info("uint16"), "frames"))


def test_what_pictures_do_not_hold_of_a_film_is_said() -> None:
    """The accident: an old tape becomes frames that are too narrow, or a film of uneven times at an even pace."""
    tape = replace(info(), sample_aspect=Fraction(16, 11))
    squeezed = "the shape of pixels (16/11) is lost with {}; a film keeps it"
    timeless = "a folder of frames has no times; the film has {}"
    assert lost(Encoding(), tape, "a.gif") == (squeezed.format("gif"),)
    even = timeless.format("25 frames a second as a rule")
    assert lost(Encoding("tif"), tape, "frames") == (squeezed.format("tif"), even)
    assert lost(Encoding(), replace(info(), rate=None), "frames") == (timeless.format("no usual rate"),)
    assert lost(Encoding(), replace(info(), kind="folder"), "frames") == ()


@pytest.mark.parametrize(
    ("has", "becomes", "scale", "is_lost"),
    [("yuv444p", "yuv420p", 1, True), ("yuv422p10le", "yuv420p10le", 1, True), ("yuv411p", "yuv422p", 1, False),
     ("yuv444p", "yuv420p", 2, False), ("yuv420p", "yuv420p", 1, False), ("gray", "yuv420p", 1, False),
     ("yuv444p", "yuv444p", 1, False)],
)  # fmt: skip
def test_colours_that_get_coarser_are_said(has: str, becomes: str, scale: int, *, is_lost: bool) -> None:
    """The accident: red titles on black, fringed by the removal of noise, and no word about it."""
    film = replace(info(), pix_fmt=has)
    said = lost(Encoding("libx264", pix_fmt=becomes), film, "a.mp4", scale)
    assert any(f"fewer samples of colour than the film's {has}" in note for note in said) == is_lost


@pytest.mark.parametrize(
    ("encoding", "has", "output", "keeps", "codec", "into"),
    [(Encoding("libx264"), "yuv444p", "a.mp4", "--pix-fmt yuv444p", "libx264", "a.mp4"),
     (Encoding("libx265"), "yuv444p10le", "a.mkv", "--pix-fmt yuv444p10le", "libx265", "a.mkv"),
     (Encoding("prores_ks"), "yuv444p12le", "a.mov", "--pix-fmt yuv444p10le", "prores_ks", "a.mov"),
     (Encoding("ffv1", pix_fmt="yuv420p16le"), "yuv444p16le", "a.mkv", "--pix-fmt yuv444p16le", "ffv1", "a.mkv"),
     (Encoding("libsvtav1"), "yuv444p", "a.mkv", "--codec libx264 --pix-fmt yuv444p", "libx264", "a.mkv"),
     (Encoding(), "yuv444p10le", "a.webm", "--codec libx264 --pix-fmt yuv444p10le in .mp4", "libx264", "a.mp4")],
)  # fmt: skip
def test_what_keeps_all_colours_is_a_format_that_the_encoder_takes(
    encoding: Encoding, has: str, output: str, keeps: str, codec: str, into: str
) -> None:
    """The accident: 'a 4:4:4 --pix-fmt keeps them', and AV1, which has none, refuses every one that is tried."""
    film = replace(info("uint8" if has == "yuv444p" else "uint16"), pix_fmt=has, width=65)
    fewer, uneven = lost(encoding, film, output)
    assert fewer.endswith(f" ({keeps} keeps them)")
    assert uneven.endswith(f" ({keeps} keeps the size)")
    named = Encoding(codec, pix_fmt=keeps.partition("--pix-fmt ")[2].split()[0])
    assert lost(named, film, into) == ()


@pytest.mark.parametrize(
    ("codec", "output", "keeps"),
    [("ffv1", "a.mkv", "libx264 with --crf 0"), ("libsvtav1", "a.MKV", ".mp4"), ("libsvtav1", "a.webm", ".mp4"),
     ("prores_ks", "a.mkv", ".mov"), ("libsvtav1", "a.mp4", None), ("prores_ks", "a.mov", None),
     ("libx264", "a.mkv", None), ("libx265", "a.mkv", None)],
)  # fmt: skip
def test_a_shape_of_pixels_is_kept_or_said_to_be_lost(
    tmp_path: Path, make_film: Callable, redo: Callable, codec: str, output: str, keeps: str | None
) -> None:
    """The accident: an archive of anamorphic tapes, all of them too narrow, or found to be so after days of computing."""
    make_film(tmp_path / "in.mp4", range(3), aspect=Fraction(16, 11), tags=(1, 1, 1, 1))
    redone = redo(tmp_path / "in.mp4", tmp_path / output, Encoding(codec))
    assert [note.partition("; ")[2] for note in redone.notes] == ([f"{keeps} keeps it"] if keeps else [])
    assert all("16/11" in note for note in redone.notes)
    found = audit(redone.info, tmp_path / output)
    assert found.ok, found.sentences
    assert found.tags_kept == (keeps is None)


def test_the_encoder_is_told_what_was_asked(tmp_path: Path, film: Path, redo: Callable) -> None:
    """The accident: --crf and --preset that are taken and forgotten."""
    redo(film, tmp_path / "out.mp4", Encoding("libx264", crf=31, preset="veryslow"))
    content = (tmp_path / "out.mp4").read_bytes()  # x264 writes its settings into the film
    assert b"crf=31.0" in content
    assert b"me=umh" in content
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].profile == "High"


def test_lossless_is_lossless(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: 'lossless' that goes through YUV, and loses a little of every colour."""
    make_film(tmp_path / "in.mkv", range(4), codec="ffv1", pix_fmt="bgr0", time_base=Fraction(1, 1000))
    first = redo(tmp_path / "in.mkv", tmp_path / "out.mkv", Encoding("ffv1"), per=2)
    again = redo(tmp_path / "out.mkv", tmp_path / "again.mkv", Encoding("ffv1"))
    for before, after in zip(first.frames, again.frames, strict=True):
        assert before.pixels.equal(after.pixels)


def test_an_existing_folder_is_one_whatever_its_name(tmp_path: Path) -> None:
    """The accident: a folder called 'scene.1' taken for a film of unknown kind."""
    (tmp_path / "scene.1").mkdir()
    assert output_kind(tmp_path / "scene.1") == "folder"
