"""Models for pictures on films: every frame is what the picture would be."""

import re
import threading
from fractions import Fraction
from pathlib import Path, PurePosixPath

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.data.files import Frame
from imagesmith.data.sources import Item
from imagesmith.data.video import VideoInfo
from imagesmith.data.video.film import upright
from imagesmith.errors import UsageError
from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.frames import FrameByFrame
from imagesmith.infer.video.job import restore_film
from imagesmith.infer.video.plan import FilmOptions, plan_films
from imagesmith.infer.video.rehearsal import rehearse
from imagesmith.infer.video.smooth import Smoothed
from imagesmith.infer.video.stream import VideoRestorer
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import Model, describe

_ONE = 1 << 16
TURNS = [(a, b, 0, c, d, 0, 0, 0, 1 << 30) for a, b, c, d in ((0, _ONE, -_ONE, 0), (0, -_ONE, _ONE, 0))]
TURNS += [(a, 0, 0, 0, d, 0, 0, 0, 1 << 30) for a, d in ((-_ONE, -_ONE), (-_ONE, _ONE))]


def filler() -> Restorer:
    """A small network that fills holes."""
    spec = NetSpec("filling-unet", {"widths": (8, 12), "blocks": (1, 1)})
    net = build_net(spec).eval()
    return Restorer.of(Model(net, describe(net, spec, "toy-inpaint", task="inpaint")), device="cpu", dtype="fp32")


def test_a_mask_is_one_for_the_film_and_all_else_stays(clip: list[Tensor]) -> None:
    """The accident: a logo is removed from the first frame only, or the picture around it changes with it."""
    mask = torch.zeros(30, 42, dtype=torch.bool)
    mask[5:9, 20:30] = True
    restorer = filler()
    steps = FrameByFrame(restorer, mask)
    for frame in clip[:2]:
        restored, memory = steps(frame, None, (), lambda _: None)
        expected = restorer.frame(Frame.of(frame.permute(2, 0, 1)), mask=mask).pixels
        assert restored.equal(expected)
        assert restored[~mask].equal(frame[~mask])
        assert not restored[mask].equal(frame[mask])
        assert memory == ()


def test_a_mask_of_another_size_is_told(clip: list[Tensor]) -> None:
    """The accident: the mask is stretched, or the network fails on shapes."""
    steps = FrameByFrame(filler(), torch.eye(8, dtype=torch.bool))
    with pytest.raises(UsageError, match="expected a mask of the picture's size, 42x30, got 8x8"):
        steps(clip[0], None, (), lambda _: None)


def test_scratches_are_looked_for_in_each_frame_and_said(clip: list[Tensor]) -> None:
    """The accident: what was found in a frame is known to nobody."""
    steps, clean = FrameByFrame(filler(), "auto"), torch.full_like(clip[0], 90)
    restored, _ = steps(clean, None, (), lambda _: None)
    assert restored.equal(clean)
    assert list(steps.said()) == ["no scratches found in 1 frame"]
    restored, _ = steps(scratched := _scratched(), None, (), lambda _: None)
    assert not restored.equal(scratched)
    assert len(said := list(steps.said())) == 1
    assert re.fullmatch(r"scratches in 1 of 2 frames, at most \d\.\d% of one", said[0])


def test_a_film_with_frames_without_scratches_is_not_called_unchanged() -> None:
    """The accident: 'no scratches found, nothing was changed; scratches: 1399 pixels (2.8%)' of one film."""
    small, said = filler(), list[str]()
    restorer = VideoRestorer(Smoothed(FrameByFrame(small, "auto")), small.card, small.runtime, "")
    scratched = _scratched()
    frames = [torch.full_like(scratched, 90), scratched, scratched]
    assert len(list(restorer.frames(frames, report=said.append))) == 3
    assert [re.sub(r"\d\.\d%", "x", sentence) for sentence in said] == ["scratches in 2 of 3 frames, at most x of one"]


def _scratched() -> Tensor:
    """A photograph (192, 256, 3) with a white line from top to bottom."""
    frame = torch.from_numpy(data.astronaut()[40:232, 100:356].copy())
    frame[:, 70:72] = 255
    return frame


@pytest.mark.parametrize("matrix", [None, *TURNS])
def test_a_mask_lies_where_players_show_it(clip: list[Tensor], matrix: tuple[int, ...] | None) -> None:
    """The accident: a logo drawn on the preview of a telephone's film, and the opposite corner is invented anew."""
    frame = clip[0]
    shown = upright(frame, matrix)
    mask = torch.zeros(shown.shape[:2], dtype=torch.bool)
    mask[2:6, 3:9] = True
    info = VideoInfo(Path("in"), "film", 42, 30, 1, 1.0, Fraction(1, 25), Fraction(25), matrix=matrix)
    for steps in (FrameByFrame(filler(), mask), Smoothed(FrameByFrame(filler(), mask))):
        restored = upright(steps.of_film(info)(frame, None, (), lambda _: None)[0], matrix)
        assert restored[~mask].equal(shown[~mask])
        assert not restored[mask].equal(shown[mask])
        assert steps.scale == 1


def test_a_mask_that_does_not_fit_a_film_is_told_before_it_begins(make_film, tmp_path: Path) -> None:
    """The accident: 'got 42x30' of a mask that has the size of the file, and nobody knows what to draw it on."""
    source, small = make_film(side=42, height=30, turned=True), filler()
    steps = FrameByFrame(small, torch.eye(30, 42) > 0)
    restorer = VideoRestorer(steps, small.card, small.runtime, "")
    [job] = plan_films([Item(PurePosixPath("clip.mp4"), source)], tmp_path / "out.mp4", tag="")
    for begin in (restore_film, rehearse):
        with pytest.raises(UsageError, match="size as players show it, 30x42, got 42x30\ndraw it on a picture"):
            begin(restorer, job, FilmOptions(), threading.Event(), *([print] if begin is restore_film else []))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
