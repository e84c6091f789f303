"""Photographs set in motion: the told flow is the flow."""

import pytest
import torch
from torch import Tensor

from imagesmith.data.motion import moving_clip
from imagesmith.tensors import imresize
from imagesmith.tensors.warping import warp


def photo(seed: int, height: int = 90, width: int = 120) -> Tensor:
    """uint8 (3, H, W) with soft structures, so that sampling between pixels says the same."""
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(3, height // 10, width // 10, generator=rng)
    return (imresize(small, 10.0).clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unit", [1, 4])
def test_the_frame_before_moved_by_the_flow_is_the_frame(seed: int, unit: int):
    """The accident: a flow network that is taught the motion of the wrong frame, or its negative."""
    clip = moving_clip([photo(seed)], 5, 48, unit, torch.Generator().manual_seed(seed))
    assert clip.frames.shape == (5, 3, 48, 48)
    assert clip.flow.shape == (4, 2, 48 // unit, 48 // unit)
    frames = imresize(clip.frames, 1 / unit) if unit > 1 else clip.frames
    moved, inner = warp(frames[:-1], clip.flow), slice(12 // unit, -12 // unit)
    if clip.flow.abs().max() * unit > 12:
        pytest.skip("faster than the border that is left out")
    error = (moved - frames[1:])[..., inner, inner].abs().mean()
    still = (frames[:-1] - frames[1:])[..., inner, inner].abs().mean()
    assert error < 0.01 + 0.2 * still


def test_an_object_before_the_photograph_has_a_motion_of_its_own():
    rng = torch.Generator().manual_seed(3)
    clip = moving_clip([photo(0), photo(1), photo(2)], 3, 64, 2, rng)
    flows = clip.flow[0].flatten(1).T.mul(8).round().unique(dim=0)
    assert len(flows) > 1
    assert clip.frames.min() >= 0
    assert clip.frames.max() <= 1


def test_a_seed_is_a_clip():
    first, second = (moving_clip([photo(0), photo(1)], 3, 32, 1, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.flow, second.flow)


def test_a_photograph_smaller_than_the_frame_is_mirrored():
    clip = moving_clip([photo(0, 30, 40)], 3, 64, 1, torch.Generator().manual_seed(0))
    assert torch.isfinite(clip.frames).all()
