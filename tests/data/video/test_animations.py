from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from imagesmith.data.video import audit, open_video, read_info
from imagesmith.data.video.animations import _duration, times_shown, too_fast
from imagesmith.errors import VideoError

DURATIONS = [40, 200, 100, 70]


def save(path: Path, mode: str = "RGB", **options: object) -> list[Image.Image]:
    """An animation of four crops of a photograph, each with its own duration."""
    photo = Image.fromarray(data.astronaut())
    frames = [photo.crop((60 + 9 * k, 40, 124 + 9 * k, 88)).convert(mode) for k in range(4)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=DURATIONS, **options)
    return frames


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_every_picture_keeps_its_duration(tmp_path: Path, redo: Callable, suffix: str) -> None:
    """The accident: a GIF that waits at its punch line comes back at an even pace, or plays only once."""
    save(tmp_path / f"in.{suffix}", loop=3)
    info = read_info(tmp_path / f"in.{suffix}")
    assert (info.kind, info.frames, info.duration_s, info.rate) == ("animation", 4, 0.41, None)
    redo(tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}", scale=2)
    with Image.open(tmp_path / f"out.{suffix}") as image:
        durations = []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            durations.append(image.info["duration"])
        assert (durations, image.size, image.info["loop"]) == (DURATIONS, (128, 96), 3)


def test_an_animation_becomes_a_film_and_back(tmp_path: Path, redo: Callable) -> None:
    """The accident: durations lost on the way into a container that counts in other units."""
    save(tmp_path / "in.webp", lossless=True, loop=0)
    redo(tmp_path / "in.webp", tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as reader:
        assert [frame.pts * reader.info.time_base * 1000 for frame in reader] == [0, 40, 240, 340]
    assert read_info(tmp_path / "out.mp4").duration_s == pytest.approx(0.41), "the last picture flashes by"
    redo(tmp_path / "out.mp4", tmp_path / "again.gif")
    with open_video(tmp_path / "again.gif") as reader:
        assert [frame.pts for frame in reader] == [0, 40, 240, 340]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    """The accident: what was transparent turns black."""
    frames = [Image.new("RGBA", (8, 8), (200, 0, 0, alpha)) for alpha in (0, 255)]
    frames[0].save(tmp_path / "in.webp", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    with open_video(tmp_path / "in.webp") as reader:
        assert [frame.pixels[0, 0].tolist() for frame in reader] == [[255, 255, 255], [200, 0, 0]]
        assert reader.notes == ["transparency is laid on white"]


def test_pictures_are_as_they_are_seen(tmp_path: Path) -> None:
    """The accident: frames of a GIF that hold only what changes, shown alone."""
    photo = Image.fromarray(data.astronaut()).crop((60, 40, 124, 88)).quantize(64).convert("RGB")
    dotted = photo.copy()
    dotted.paste((255, 0, 0), (10, 10, 14, 14))
    photo.save(tmp_path / "in.gif", save_all=True, append_images=[dotted], duration=50)
    with open_video(tmp_path / "in.gif") as reader:
        first, second = (frame.pixels.float() for frame in reader)
    assert (first - second).abs().sum(dim=2).gt(30).sum() <= 16
    assert second[12, 12].tolist() == [255, 0, 0]


def test_a_broken_animation_is_told(tmp_path: Path) -> None:
    """The accident: a traceback from inside Pillow."""
    (tmp_path / "in.gif").write_bytes(b"GIF89a")
    with pytest.raises(VideoError, match=r"in\.gif: not an animation that can be read"):
        read_info(tmp_path / "in.gif")
    save(tmp_path / "cut.gif")
    content = (tmp_path / "cut.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(content[: len(content) * 6 // 10])
    with open_video(tmp_path / "cut.gif") as reader:
        assert 1 <= len(list(reader)) <= 3


@pytest.mark.parametrize(("fps", "frames"), [(120, 30), (60, 30), (50, 10)])
def test_no_picture_of_a_gif_is_shown_too_shortly(
    tmp_path: Path, make_film: Callable, redo: Callable, fps: int, frames: int
) -> None:
    """The accident: a film of a telephone at 120 frames a second fails after all the work, one at 60 is slow motion."""
    make_film(tmp_path / "in.mp4", range(0, frames * 600 // fps, 600 // fps), Fraction(1, 600))
    redone = redo(tmp_path / "in.mp4", tmp_path / "out.gif")
    with Image.open(tmp_path / "out.gif") as image:
        durations = [_duration(image, number) for number in range(image.n_frames)]
    assert min(durations) >= 20
    assert sum(durations) == pytest.approx(redone.info.duration_s * 1000, abs=20)
    assert (too_fast("gif") in redone.notes) == (fps > 50), redone.notes
    found = audit(redone.info, tmp_path / "out.gif")
    assert found.ok, found.sentences


def test_a_picture_that_stays_is_not_left_out() -> None:
    """The accident: the punch line comes 10 ms after another picture, and is never seen in a GIF."""
    seconds = [Fraction(ms, 1000) for ms in (0, 500, 510, 1000, 1004)]
    assert times_shown("gif", seconds) == {0: 0, 2: 510, 4: 1000}
    assert times_shown("webp", [*seconds, Fraction(10041, 10000)]) == {0: 0, 1: 500, 2: 510, 3: 1000, 5: 1004}
    assert times_shown("gif", [Fraction(0), Fraction(1, 100)]) == {0: 0}


@pytest.mark.parametrize(("told", "plays"), [({}, "1"), ({"loop": 0}, "0"), ({"loop": 2}, "3")])
def test_an_animation_plays_as_often_as_before(
    tmp_path: Path, redo: Callable, told: dict[str, int], plays: str
) -> None:
    """The accident: a GIF that plays once plays twice; it counts repetitions, and WebP counts plays."""
    save(tmp_path / "in.gif", **told)
    for before, after in (("in.gif", "a.webp"), ("a.webp", "b.gif"), ("b.gif", "c.gif")):
        redo(tmp_path / before, tmp_path / after)
        assert read_info(tmp_path / after).metadata == read_info(tmp_path / before).metadata == {"plays": plays}
    with Image.open(tmp_path / "c.gif") as image:
        assert {"loop": image.info["loop"]} == told if told else "loop" not in image.info


def test_what_a_gif_shows_too_shortly_is_as_long_as_viewers_make_it(tmp_path: Path) -> None:
    """The accident: a GIF whose pictures are shown for 10 ms, for a tenth of a second that is, loses half of them."""
    frames = [Image.new("RGB", (8, 8), (50 * k, 0, 0)) for k in range(4)]
    for name, shown_ms in (("a.gif", 100), ("a.webp", 10)):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=10)
        assert read_info(tmp_path / name).duration_s == pytest.approx(4 * shown_ms / 1000)
