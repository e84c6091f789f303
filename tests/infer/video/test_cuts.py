"""Scene cuts: a missed one bleeds into the next scene, a false one forgets what was worth remembering."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from imagesmith.infer.video.cuts import differ, marked, sketched

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "retina")


def photo(name: str, size: tuple[int, int] = (144, 256)) -> Tensor:
    """A photograph, uint8 (H, W, 3)."""
    image = torch.from_numpy(np.ascontiguousarray(getattr(data, name)())).permute(2, 0, 1)[None].float()
    return F.interpolate(image, size, mode="area")[0].permute(1, 2, 0).round().to(torch.uint8)


def panned(name: str, steps: int, by_px: int) -> list[Tensor]:
    """A window of 144x256 that moves to the right over a photograph."""
    wide = photo(name, (144, 256 + by_px * (steps - 1)))
    return [wide[:, by_px * i : by_px * i + 256].clone() for i in range(steps)]


def cuts(frames: list[Tensor]) -> list[int]:
    return [i for i, shot in enumerate(marked(frames)) if shot.is_cut]


def test_every_cut_between_photographs_is_found_where_it_is() -> None:
    """The accident: features of one scene are warped into the next, and its first second is smeared."""
    frames = [frame for name in PHOTOS for frame in panned(name, 4, 8)]
    assert cuts(frames) == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("by_px", [3, 13, 38, 60])
def test_a_pan_is_no_cut_however_fast(by_px: int) -> None:
    """The accident: the camera turns quickly and the memory is thrown away frame by frame, so that the pan flickers."""
    for name in ("astronaut", "coffee", "chelsea"):
        assert cuts(panned(name, 5, by_px)) == [0]


def test_zoom_noise_and_things_that_move_are_no_cuts() -> None:
    """The accident: what looks different pixel by pixel is taken for another scene."""
    still = photo("coffee")
    zoomed = [photo("coffee", (144 + 14 * i, 256 + 26 * i))[7 * i :, 13 * i :][:144, :256] for i in range(4)]
    random = torch.Generator().manual_seed(1)
    noisy = [(still + 40 * torch.randn(still.shape, generator=random)).clamp(0, 255).to(torch.uint8) for _ in range(4)]
    passing = [still.clone() for _ in range(5)]
    for i, frame in enumerate(passing):
        frame[20:, 40 * i : 40 * i + 60] = torch.tensor([200, 30, 30], dtype=torch.uint8)
    for clip in (zoomed, noisy, passing):
        assert cuts(clip) == [0]


@pytest.mark.parametrize("gain", [1.8, 100.0])
def test_after_a_flash_the_scene_goes_on(gain: float) -> None:
    """The accident: every photographer's flash resets the network twice, and the scene jumps."""
    frames = panned("chelsea", 7, 6)
    frames[3] = (frames[3] * gain + 20).clamp(0, 255).to(torch.uint8)
    assert cuts(frames) == [0]


def test_a_cut_shows_in_half_a_frame_beside_a_panel_that_stays() -> None:
    """The accident: bars, logos and side panels never change, and every cut beside them is averaged away."""
    frames = [frame for name in ("astronaut", "coffee") for frame in panned(name, 3, 5)]
    for frame in frames:
        frame[:, 128:] = photo("chelsea")[:, 128:]
    assert cuts(frames) == [0, 3]


def test_black_is_a_scene_and_a_fade_to_it_none() -> None:
    """The accident: darkness has no contrast, and what is divided by it is a cut at each frame or never."""
    black = torch.zeros(144, 256, 3, dtype=torch.uint8)
    assert cuts([black, black, photo("coffee"), photo("coffee"), black, black]) == [0, 2, 4]
    fading = [(photo("coffee") * (1 - i / 24)).to(torch.uint8) for i in range(25)]
    assert cuts(fading)[:2] in ([0], [0, 23], [0, 24]), "only what is nearly black may count as black"
    assert cuts([black + (i % 2) for i in range(4)]) == [0]


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (3, 5), (300, 7)])
def test_any_size_and_depth_has_a_sketch(size: tuple[int, int]) -> None:
    """The accident: a film of one pixel ends in a division by zero, a deep one is compared as if it were black."""
    dark, light = (torch.full((*size, 3), value, dtype=torch.uint8) for value in (10, 240))
    deep = (light.to(torch.int32) * 257).to(torch.uint16)
    assert sketched(dark).shape == (40, 64)
    torch.testing.assert_close(sketched(deep), sketched(light), atol=1e-4, rtol=0)
    assert differ(sketched(dark), sketched(light))
    assert not differ(sketched(light), sketched(deep))


def test_going_on_after_any_frame_gives_the_same_verdicts() -> None:
    """The accident: a resumed run sees a cut at its first frame, or forgets the flash just before."""
    frames = [*panned("coffee", 3, 9), *panned("chelsea", 4, 9)]
    frames[5] = torch.full_like(frames[5], 255)
    whole = list(marked(frames))
    assert [i for i, shot in enumerate(whole) if shot.is_cut] == [0, 3]
    for split in range(1, len(frames)):
        rest = list(marked(frames[split:], whole[split - 1].sketch))
        assert [shot.is_cut for shot in rest] == [shot.is_cut for shot in whole[split:]]
        assert all(a.sketch.equal(b.sketch) for a, b in zip(rest, whole[split:], strict=True))


def test_frames_are_taken_one_ahead_and_none_is_lost() -> None:
    """The accident: a film of two hours is read into memory before its first frame is shown."""
    taken = 0

    def endless() -> Iterator[Tensor]:
        nonlocal taken
        while True:
            taken += 1
            yield torch.full((4, 4, 3), taken % 256, dtype=torch.uint8)

    shots = marked(endless())
    for i in range(1, 5):
        assert next(shots).pixels[0, 0, 0] == i
        assert taken == i + 1
    assert [len(list(marked(panned("coffee", n, 1)))) for n in (1, 2)] == [1, 2]
    assert list(marked([])) == []


def test_the_cuts_of_a_real_film_are_found(shared_data: Path) -> None:
    """The accident: thresholds that hold for photographs fail on film: cars pass, hands shake, half of it is a chart."""
    with av.open(str(shared_data / "video" / "scene_cuts.mp4")) as film:
        frames = (torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0))
        assert cuts(list(frames)) == [0, 30, 76, 137, 187, 242]
