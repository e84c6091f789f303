"""The flow network's contract."""

import pytest
import torch

from imagesmith.nets.flow import FlowNet


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
