from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from imagesmith.data.video import Encoding, audit, open_video, read_info
from imagesmith.data.video.colour import (
    BT709,
    BT2020,
    FULL,
    LIMITED,
    SMPTE170M,
    ColourTags,
    FromRgb,
    ToRgb,
    colour_of,
    even_size,
)

KR_KB = {SMPTE170M: (0.299, 0.114), BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}


def yuv_of(rgb: np.ndarray, matrix: int, range_: int, bits: int) -> np.ndarray:
    """Code values by the formulas of ITU-R BT.601, 709 and 2020, independent of swscale."""
    kr, kb = KR_KB[matrix]
    r, g, b = (rgb[..., k].astype(float) for k in range(3))
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    unit = 2 ** (bits - 8)
    if range_ == FULL:
        return np.stack((y * (256 * unit - 1), u * (256 * unit - 1) + 128 * unit, v * (256 * unit - 1) + 128 * unit))
    return np.stack((y * 219 * unit + 16 * unit, u * 224 * unit + 128 * unit, v * 224 * unit + 128 * unit))


@pytest.mark.parametrize("matrix", [SMPTE170M, BT709, BT2020])
@pytest.mark.parametrize("range_", [LIMITED, FULL])
@pytest.mark.parametrize(("pix_fmt", "bits"), [("yuv444p", 8), ("yuv444p10le", 10)])
def test_conversion_is_that_of_the_standards(matrix: int, range_: int, pix_fmt: str, bits: int) -> None:
    """The accident: greens 24 values off, because swscale assumes BT.601 and limited range when it is not told."""
    tags = ColourTags(matrix, range_)
    top, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    rgb = np.random.RandomState(0).randint(0, top + 1, (16, 16, 3)).astype(dtype)
    frame = FromRgb(tags, pix_fmt)(torch.from_numpy(rgb))
    got = np.stack([plane(frame, k, bits) for k in range(3)])
    assert np.abs(got - yuv_of(rgb / top, matrix, range_, bits)).max() < 1.5
    back = ToRgb(tags, (16, 16), deep=bits > 8)(frame).numpy().astype(int)
    assert np.abs(back - rgb).max() <= (4 if bits == 8 else 3 * 64)
    assert np.abs((back - rgb).mean()) < (0.6 if bits == 8 else top / 2000)


def plane(frame: av.VideoFrame, number: int, bits: int) -> np.ndarray:
    found = frame.planes[number]
    dtype = np.uint8 if bits == 8 else np.uint16
    rows = np.frombuffer(bytes(found), dtype).reshape(frame.height, -1)
    return rows[:, : frame.width].astype(float)


def test_ten_bits_survive_the_way_through_rgb() -> None:
    """The accident: bands in every sky, because ten bits went through eight."""
    luma = np.tile(np.linspace(64, 940, 128).round().astype(np.uint16), (64, 1))
    chroma = np.full((32, 64), 512, np.uint16)
    frame = av.VideoFrame(128, 64, "yuv420p10le")
    for found, values in zip(frame.planes, (luma, chroma, chroma), strict=True):
        rows = np.zeros((found.height, found.line_size // 2), np.uint16)
        rows[:, : values.shape[1]] = values
        found.update(rows.tobytes())
    tags = ColourTags(BT709, LIMITED)
    rgb = ToRgb(tags, (128, 64), deep=True)(frame)
    assert rgb.dtype == torch.uint16
    again = plane(FromRgb(tags, "yuv420p10le")(rgb), 0, 10)
    assert np.abs(again - luma).max() <= 3
    assert len(np.unique(again)) > 120


@pytest.mark.parametrize(("height", "matrix", "name"), [(576, SMPTE170M, "BT.601"), (578, BT709, "BT.709")])
def test_what_is_assumed_of_untagged_films_is_said(
    tmp_path: Path, make_film: Callable, height: int, matrix: int, name: str
) -> None:
    """The accident: old films turn greenish, and nobody knows that a guess was made."""
    make_film(tmp_path / "in.mp4", range(1), size=(32, height))
    info = read_info(tmp_path / "in.mp4")
    assert info.colour == ColourTags(matrix, LIMITED)
    assert info.notes == (f"the film does not say its colour matrix; {name} is assumed ({height} lines)",)


@pytest.mark.parametrize("tags", [(BT709, FULL, 1, 1), (SMPTE170M, LIMITED, 6, 6), (BT2020, LIMITED, 9, 16)])
def test_colours_stay_and_so_do_their_tags(
    tmp_path: Path, make_film: Callable, redo: Callable, tags: tuple[int, int, int, int]
) -> None:
    """The accident: skin gets darker with each pass, because a full range was written as a limited one."""
    frames = make_film(tmp_path / "in.mp4", range(3), tags=tags, pix_fmt="yuv444p", options={"crf": "1"})
    redone = redo(tmp_path / "in.mp4", tmp_path / "out.mp4", Encoding("libx264", crf=1, pix_fmt="yuv444p"))
    assert (
        redone.info.colour == read_info(tmp_path / "out.mp4").colour == ColourTags(tags[0], tags[1], tags[2], tags[3])
    )
    with open_video(tmp_path / "out.mp4") as reader:
        for original, frame in zip(frames, reader, strict=True):
            assert (frame.pixels.float() - original.float()).abs().mean() < 2.5


def half_seen(pix_fmt: str, top: int) -> av.VideoFrame:
    """A red frame whose left half is transparent, and the column between them half so."""
    rgba = np.zeros((16, 32, 4), np.uint8 if top == 255 else np.uint16)
    rgba[..., 0] = rgba[:, 16:, 3] = top
    rgba[:, 16, 3] = top // 2
    return av.VideoFrame.from_ndarray(rgba, "rgba" if top == 255 else "rgba64le").reformat(format=pix_fmt)


@pytest.mark.parametrize(
    ("pix_fmt", "top"),
    [("rgba", 255), ("argb", 255), ("yuva444p", 255), ("gbrap", 255), ("yuva444p12le", 65535), ("rgba64le", 65535)],
)
def test_what_is_transparent_is_white(pix_fmt: str, top: int) -> None:
    """The accident: titles made for other films come back with whatever colours were hidden behind them."""
    frame = half_seen(pix_fmt, top)
    seen = ToRgb(colour_of(frame).tags, (32, 16), deep=top > 255)(frame).numpy() / top
    assert np.abs(seen[:, :16] - 1).max() == 0
    assert np.abs(seen[:, 17:] - (1, 0, 0)).max() < 0.02
    assert np.abs(seen[:, 16] - (1, 0.5, 0.5)).max() < 0.02


@pytest.mark.parametrize(
    "tags", [(BT709, LIMITED, 1, 1), (BT709, FULL, 1, 1), (5, LIMITED, 5, 6), (BT2020, LIMITED, 9, 16)]
)
def test_prores_has_the_colours_of_its_source(
    tmp_path: Path, make_film: Callable, redo: Callable, tags: tuple[int, int, int, int]
) -> None:
    """The accident: every tagged film for a cutting room 'failed' after a night, and full ranges came back pale."""
    make_film(tmp_path / "in.mp4", range(3), tags=tags, pix_fmt="yuv444p", options={"crf": "1"})
    redone = redo(tmp_path / "in.mp4", tmp_path / "out.mov", Encoding("prores_ks"))
    found = audit(redone.info, tmp_path / "out.mov")
    assert found.ok, found.sentences
    assert any("a full range" in note for note in redone.notes) == (tags[1] == FULL)
    with open_video(tmp_path / "out.mov") as reader:
        for before, frame in zip(redone.frames, reader, strict=True):
            assert (frame.pixels.float() / 257 - before.pixels.float()).abs().mean() < 2.5


def test_ten_bit_films_stay_so(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: HDR comes back in eight bits, as from every other tool."""
    make_film(
        tmp_path / "in.mp4", range(3), pix_fmt="yuv420p10le", codec="libx265", options={"x265-params": "log-level=none"}
    )
    redone = redo(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert redone.info.depth == "uint16"
    assert redone.frames[0].pixels.dtype == torch.uint16
    assert redone.frames[0].pixels.int().max() > 1000
    after = read_info(tmp_path / "out.mp4")
    assert (after.pix_fmt, after.streams[0].codec) == ("yuv420p10le", "hevc")


@pytest.mark.parametrize(
    ("pix_fmt", "size"),
    [("yuv420p", (8, 6)), ("yuv422p10le", (8, 5)), ("yuv444p", (7, 5)), ("bgr0", (7, 5)), ("yuv410p", (8, 8))],
)
def test_sides_grow_only_where_colour_is_halved(pix_fmt: str, size: tuple[int, int]) -> None:
    """The accident: the encoder refuses odd sizes after the first part is computed."""
    assert even_size((7, 5), pix_fmt) == size


def test_odd_sides_repeat_their_last_line(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: a green line at the edge, or a picture that is squeezed by one pixel."""
    make_film(tmp_path / "in.mkv", range(2), codec="ffv1", pix_fmt="bgr0", size=(33, 21), time_base=Fraction(1, 1000))
    notes = redo(tmp_path / "in.mkv", tmp_path / "out.mp4", Encoding("libx264", crf=1)).notes
    assert notes == (
        "yuv420p holds fewer samples of colour than the film's bgr0 (--pix-fmt yuv444p keeps them)",
        "yuv420p needs even sides: the last line is doubled, 33x21 becomes 34x22 (--pix-fmt yuv444p keeps the size)",
    )
    with open_video(tmp_path / "out.mp4") as reader:
        pixels = next(iter(reader)).pixels.float()
    assert pixels.shape == (22, 34, 3)
    assert (pixels[-1] - pixels[-2]).abs().mean() < 4
    assert redo(tmp_path / "in.mkv", tmp_path / "same.mkv", Encoding("ffv1")).notes == ()
    assert read_info(tmp_path / "same.mkv").width == 33
