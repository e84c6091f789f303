from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from skimage import data
from torch import Tensor

from imagesmith.data.video.generated import LEAST_PX, check_video, video_writer
from imagesmith.errors import OutputError, UsageError


def frames(height: int, width: int, channels: int = 3, count: int = 7) -> list[Tensor]:
    """A photograph that moves to the left, uint8 (height, width, channels)."""
    photo = np.concatenate((data.astronaut(), data.astronaut()[..., :1] | 64), axis=2)
    photo = photo[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
    return [torch.from_numpy(photo[40 : 40 + height, 150 + k : 150 + k + width].copy()) for k in range(count)]


def write(path: Path, images: list[Tensor], fps: int = 30, **options: bool) -> None:
    with video_writer(path, fps, **options) as add:
        for image in images:
            add(image)


@pytest.mark.parametrize(
    ("size", "shown"),
    [((32, 32), (256, 256)), ((33, 21), (264, 168)), ((61, 83), (244, 332)), ((300, 257), (600, 514)), ((8, 40), (56, 280))],
)  # fmt: skip
def test_a_film_of_any_size_plays_and_shows_its_frames(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    """The accident: an odd width that H.264 refuses, the last frames lost in the encoder, or red and blue exchanged."""
    images = frames(*size)
    write(tmp_path / "walk.mp4", images)
    with av.open(tmp_path / "walk.mp4") as film:
        track = film.streams.video[0]
        assert (track.codec_context.name, track.pix_fmt, track.average_rate) == ("h264", "yuv420p", 30)
        decoded = [frame.to_ndarray(format="rgb24") for frame in film.decode(track)]
    assert len(decoded) == len(images)
    assert decoded[0].shape == (*shown, 3)
    factor = shown[0] // size[0]
    for image, got in zip(images, decoded, strict=True):
        expected = image.numpy().repeat(factor, 0).repeat(factor, 1).astype(float)
        assert np.abs(got - expected).mean() < 5


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_gray_and_alpha_become_colour(tmp_path: Path, channels: int, suffix: str) -> None:
    """The accident: a generator of digits or of cut-outs whose walk cannot be written."""
    write(tmp_path / f"walk{suffix}", frames(28, 28, channels))
    with av.open(tmp_path / f"walk{suffix}") as film:
        assert len(list(film.decode(video=0))) == 7


def test_a_gif_runs_at_its_speed_for_ever(tmp_path: Path) -> None:
    """The accident: a GIF that plays once, or at ten frames a second whatever was asked for."""
    write(tmp_path / "walk.gif", frames(32, 48), fps=25)
    with Image.open(tmp_path / "walk.gif") as film:
        assert (film.n_frames, film.size) == (7, (6 * 48, 6 * 32))
        assert (film.info["duration"], film.info["loop"]) == (40, 0)
    assert max(6 * 48, 6 * 32) >= LEAST_PX


@pytest.mark.parametrize("fps", [30, 48])
def test_a_gif_lasts_as_long_as_its_frames(tmp_path: Path, fps: int) -> None:
    """The accident: at 30 frames a second each is shown for 3/100 s, and a walk ends a tenth too early."""
    write(tmp_path / "walk.gif", frames(16, 24, count=41), fps=fps)
    with Image.open(tmp_path / "walk.gif") as film:
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
    assert len(shown) == 41
    assert sum(shown) == pytest.approx(41_000 / fps, abs=5)
    assert set(shown) <= {20, 30, 40}


@pytest.mark.parametrize(
    ("name", "fps", "said"),
    [("a.avi", 30, "ends in .mp4 or .gif, got 'a.avi'"), ("a.mp4", 0, "1 to 240"), ("a.gif", 60, "1 to 50")],
)
def test_a_film_that_cannot_be_is_told_before_anything_is_made(name: str, fps: int, said: str) -> None:
    """The accident: minutes of generating that end in 'unknown encoder'."""
    with pytest.raises(UsageError, match=said):
        check_video(Path(name), fps)


def test_the_same_frames_become_the_same_film_whatever_the_memory_held(
    tmp_path: Path, fill_what_is_free: Callable[[int, int], None]
) -> None:
    """The accident: one seed is one walk, and yet another film in every run where x264 computes by AVX-512."""
    films = set[bytes]()
    for held in (0, 255, 127):
        fill_what_is_free(held, 400)
        with video_writer(tmp_path / f"{held}.mp4", 25) as add:
            for image in frames(96, 208, count=25):
                add(image)
                fill_what_is_free(held, 20)
        films.add((tmp_path / f"{held}.mp4").read_bytes())
    assert len(films) == 1


def test_a_film_is_whole_or_absent(tmp_path: Path) -> None:
    """The accident: half a film after Ctrl-C, or a film of last week overwritten by a broken one."""
    path = tmp_path / "walk.mp4"
    images = frames(16, 16)
    with pytest.raises(KeyboardInterrupt), video_writer(path, 30) as add:
        add(images[0])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    write(path, images)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write(path, images[:2])
    assert path.read_bytes() == before
    write(path, images[:2], overwrite=True)
    assert path.read_bytes() != before
    with pytest.raises(OutputError, match="does not exist"):
        write(tmp_path / "no" / "walk.mp4", images)
