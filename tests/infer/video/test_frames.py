"""Models for pictures on films: every frame is what the picture would be."""

import pytest
import torch
from torch import Tensor

from imagesmith.data.files import Frame
from imagesmith.errors import UsageError
from imagesmith.infer.restore import Restorer
from imagesmith.infer.video.frames import FrameByFrame
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import Model, describe


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
    said = list[str]()
    restored, _ = FrameByFrame(filler(), "auto")(clip[0], None, (), said.append)
    assert restored.shape == clip[0].shape
    assert len(said) == 1
    assert "scratches" in said[0]
