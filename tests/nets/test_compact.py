"""Compact beyond the laws that hold for every restorer."""

import pytest
import torch

from imagesmith.nets.compact import Compact
from imagesmith.runtime.memory import held_per_px


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sub_pixels_are_held_once(dtype: torch.dtype) -> None:
    """Added out of place, the picture takes two more copies of the result, the largest tensors of all, and a slow one
    back to their layout: a twentieth of the time of the network, and twice its memory."""
    net = Compact(scale=4, width=8, blocks=1).to(dtype).requires_grad_(False)
    x = torch.rand(1, 3, 32, 32).to(memory_format=torch.channels_last)
    result = 3 * 4**2 * 4  # bytes for a pixel of the input
    workspace = 1.5
    held = held_per_px(net.subpixels, x, torch.device("cpu")) / workspace
    assert held < (1 if dtype == torch.float32 else 1.5) * result + 3 * 8 * 4 + 12, "besides: features and a low tail"


def test_the_picture_is_its_base() -> None:
    """With weights of zero the result is the nearest-neighbour enlargement, bit by bit, and `x` stays as it was."""
    net = Compact(scale=2, width=8, blocks=1)
    torch.nn.init.zeros_(net.tail.weight)
    x = torch.rand(2, 3, 5, 7)
    kept = x.clone()
    assert torch.equal(net(x), kept.repeat_interleave(2, -2).repeat_interleave(2, -1))
    assert torch.equal(x, kept)
