"""A picture that comes from no file, and which of its channels are colour."""

import pytest
import torch

from imagesmith.data.frame import Frame


@pytest.mark.parametrize(("channels", "mode", "colours"), [(1, "L", 1), (2, "LA", 1), (3, "RGB", 3), (4, "RGBA", 3)])
def test_alpha_is_no_colour(channels: int, mode: str, colours: int) -> None:
    """The accident: transparency mended as if it were a fourth colour."""
    image = torch.arange(channels * 6, dtype=torch.uint8).view(channels, 2, 3)
    frame = Frame.of(image)
    assert (frame.meta.mode, frame.colours, frame.depth) == (mode, colours, "uint8")
    assert frame.pixels.shape == (2, 3, channels)
    assert torch.equal(frame.pixels.permute(2, 0, 1), image)
