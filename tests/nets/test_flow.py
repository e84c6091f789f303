"""The flow network's contract, and the warp that uses it."""

import pytest
import torch

from imagesmith.nets.flow import FlowNet, warp


def test_warp_brings_a_moved_picture_back():
    """The accident: x and y exchanged, or the sign, which no shape tells."""
    before = torch.rand(1, 3, 12, 17, generator=torch.Generator().manual_seed(0))
    now = before.roll((2, -3), dims=(2, 3))  # down by 2, left by 3
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 12, 17)
    assert torch.allclose(warp(before, flow)[..., 2:, :-3], now[..., 2:, :-3], atol=1e-5)


def test_warp_between_pixels_is_bilinear_and_the_edge_repeats():
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 3, 8)
    moved = warp(ramp, torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 8))
    assert torch.allclose(moved[0, 0, 1], torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.0]), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 24), (33, 18)])
def test_any_size_has_a_flow(size: tuple[int, int]):
    """The accident: a film of odd size, or smaller than the pyramid, ends in an error of a convolution."""
    flow = FlowNet(width=8)(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert flow.shape == (2, 2, *size)
    assert flow.dtype == torch.float32


def test_in_bf16_long_motions_keep_their_fractions():
    """The accident: flows added up in bf16, in which 20.1 pixels are 20."""
    torch.manual_seed(0)
    net = FlowNet(width=8)
    now, before = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    net.last.bias.data.fill_(1.37)  # every level adds it, and the next one doubles: 20.55 pixels
    with torch.no_grad():
        exact, coarse = net(now, before), net.bfloat16()(now, before)
    assert exact.mean() > 15
    assert (exact - coarse).abs().max() < 0.1
