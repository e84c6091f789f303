from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from imagesmith.data.video import Encoding, VideoFrame, audit, open_video, read_info
from imagesmith.data.video.folders import write_folder
from imagesmith.errors import OutputError, VideoError


def save(path: Path, value: int, size: tuple[int, int] = (32, 24), mode: str = "RGB") -> None:
    Image.new(mode, size, (value,) * len(mode) if len(mode) > 1 else value).save(path)


def test_frames_are_taken_in_the_order_people_count(tmp_path: Path) -> None:
    """The accident: frame 10 comes after frame 1, and the film jumps."""
    for number in (1, 2, 10, 9, 100):
        save(tmp_path / f"frame{number}.png", number)
    (tmp_path / "notes.txt").write_text("not a frame")
    info = read_info(tmp_path)
    assert (info.kind, info.frames, info.rate, info.depth) == ("folder", 5, 25, "uint8")
    assert any("25 frames a second are assumed" in note for note in info.notes)
    with open_video(tmp_path, skip=1) as reader:
        assert [(int(frame.pixels[0, 0, 0]), frame.pts) for frame in reader] == [(2, 1), (9, 2), (10, 3), (100, 4)]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1, 2, 5, 9], ["missing: frames 3 to 4, 6 to 8; the others are shown one after the other"]),
        ([10, 20, 40], ["missing: frames 30; the others are shown one after the other"]),
        ([10, 20, 30], []),
        ([7], []),
    ],
)
def test_frames_that_are_missing_are_told(tmp_path: Path, numbers: list[int], said: list[str]) -> None:
    """The accident: three frames of a scan were lost on the way, and from there the sound is out of step."""
    for number in numbers:
        save(tmp_path / f"roll2_{number:04d}.png", number)
    assert [note for note in read_info(tmp_path).notes if "missing" in note] == said
    save(tmp_path / "title.png", 0)
    assert not any("missing" in note for note in read_info(tmp_path).notes)


def test_sixteen_bits_gray_and_alpha_become_frames(tmp_path: Path) -> None:
    """The accident: scanned film in eight bits, or a black background where there was none."""
    (tmp_path / "deep").mkdir()
    deep = np.random.RandomState(0).randint(0, 65536, (8, 10, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep" / "1.tif", deep)
    with open_video(tmp_path / "deep") as reader:
        assert (next(iter(reader)).pixels.numpy() == deep).all()
    (tmp_path / "mixed").mkdir()
    save(tmp_path / "mixed" / "1.png", 70, mode="L")
    Image.new("RGBA", (32, 24), (10, 20, 30, 0)).save(tmp_path / "mixed" / "2.png")
    with open_video(tmp_path / "mixed") as reader:
        first, second = reader
    assert first.pixels.shape == (24, 32, 3)
    assert set(first.pixels.flatten().tolist()) == {70}
    assert set(second.pixels.flatten().tolist()) == {255}


def test_damaged_and_odd_frames_do_not_end_the_film(tmp_path: Path) -> None:
    """The accident: frame 3000 of 9000 is damaged, and the night is lost."""
    save(tmp_path / "1.png", 10)
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    save(tmp_path / "3.png", 30, size=(64, 48))
    with open_video(tmp_path) as reader:
        frames = list(reader)
        assert [(int(frame.pixels[5, 5, 0]), frame.repeated) for frame in frames] == [
            (10, False),
            (10, True),
            (30, False),
        ]
        assert {tuple(frame.pixels.shape) for frame in frames} == {(24, 32, 3)}
        assert reader.notes[-2:] == [
            "1 frame could not be read; the last good one is repeated instead",
            "1 frame of another size scaled to 32x24, that of the first",
        ]


def test_a_folder_without_frames_is_told(tmp_path: Path) -> None:
    """The accident: an empty film, or IndexError."""
    with pytest.raises(VideoError, match=r"expected numbered frames .* found no picture"):
        read_info(tmp_path)


@pytest.mark.parametrize(("codec", "depth"), [("auto", "uint8"), ("tif", "uint8"), ("jpg", "uint8")])
def test_a_film_becomes_a_folder_and_a_film_again(
    tmp_path: Path, film: Path, redo: Callable, codec: str, depth: str
) -> None:
    """The accident: a lossy step between the network and lossless pictures, or frames in the wrong order."""
    redone = redo(film, tmp_path / "frames", Encoding(codec))
    suffix = "png" if codec == "auto" else codec
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"{number:06d}.{suffix}" for number in range(1, 21)]
    with open_video(tmp_path / "frames") as reader:
        for before, after in zip(redone.frames, reader, strict=True):
            error = (before.pixels.float() - after.pixels.float()).abs().mean()
            assert error == 0 if suffix != "jpg" else error < 3
    redo(tmp_path / "frames", tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as reader:
        assert [frame.pts * reader.info.time_base for frame in reader] == [Fraction(k, 25) for k in range(20)]


def test_a_deep_film_becomes_deep_pictures(tmp_path: Path, make_film: Callable, redo: Callable) -> None:
    """The accident: ten bits lost on the way into PNG, which holds sixteen."""
    quiet = {"x265-params": "log-level=none"}
    make_film(tmp_path / "in.mp4", range(2), codec="libx265", pix_fmt="yuv420p10le", options=quiet)
    redone = redo(tmp_path / "in.mp4", tmp_path / "frames")
    with open_video(tmp_path / "frames") as reader:
        for before, after in zip(redone.frames, reader, strict=True):
            assert before.pixels.equal(after.pixels)


@pytest.mark.parametrize("output", ["frames", "out.webp"])
@pytest.mark.parametrize(
    ("turn", "seen"),
    [((0, 1, -1, 0), lambda x: x.rot90(-1)), ((0, -1, 1, 0), lambda x: x.rot90()),
     ((-1, 0, 0, -1), lambda x: x.rot90(2)), ((-1, 0, 0, 1), lambda x: x.flip(1)),
     ((0, 1, 1, 0), lambda x: x.transpose(0, 1))],
)  # fmt: skip
def test_pictures_of_a_turned_film_stand_upright(
    tmp_path: Path, make_film: Callable, redo: Callable, turn: tuple[int, ...], seen: Callable, output: str
) -> None:
    """The accident: every film of a telephone held upright becomes frames that lie on their side."""
    right, down, left, up = (part * 65536 for part in turn)
    make_film(tmp_path / "in.mp4", range(3), matrix=(right, down, 0, left, up, 0, 0, 0, 1 << 30))
    redone = redo(tmp_path / "in.mp4", tmp_path / output, scale=2)
    with open_video(tmp_path / output) as reader:
        for before, after in zip(redone.frames, reader, strict=True):
            expected = seen(before.pixels.repeat_interleave(2, 0).repeat_interleave(2, 1)).float()
            assert (after.pixels.float() - expected).abs().mean() < (0.01 if output == "frames" else 12)
    found = audit(redone.info, tmp_path / output)
    assert found.ok, found.sentences


def test_a_folder_in_use_is_not_touched(tmp_path: Path, film: Path, redo: Callable) -> None:
    """The accident: somebody's pictures replaced by frames of a film."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "000001.png").write_text("precious")
    with pytest.raises(OutputError, match="exists and is not empty"):
        redo(film, tmp_path / "frames")
    assert (tmp_path / "frames" / "000001.png").read_text() == "precious"
    assert not list(tmp_path.glob(".*.part"))


def test_frames_of_an_earlier_run_are_told(tmp_path: Path) -> None:
    """The accident: 40 frames, then 12 with -y: the folder read as a film goes on with 28 of the first one."""

    def write(count: int, format: str = "png") -> tuple[str, ...]:
        frames = (VideoFrame(torch.full((4, 4, 3), k, dtype=torch.uint8), k) for k in range(count))
        return write_folder(frames, tmp_path / "out", format, overwrite=True)

    assert write(5) == ()
    (tmp_path / "out" / "cover.png").write_bytes((tmp_path / "out" / "000001.png").read_bytes())
    assert write(5) == ()
    which = "3 numbered pictures of an earlier run (000003.png to 000005.png)"
    assert write(2) == (f"out/ still holds {which}; remove them before it is read as a film",)
    assert "5 numbered pictures" in write(2, "jpg")[0], "000001.png and 000001.jpg are two frames"
    assert len(list((tmp_path / "out").iterdir())) == 8
