"""Between tensors and Pillow's pictures."""

import pytest
import torch

from imagesmith.degrade.pillow import from_pillow, to_pillow


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_there_and_back(channels, mode):
    """Channels and axes in another order give a picture that still looks like one."""
    image = torch.randint(0, 256, (channels, 5, 9)) / 255
    picture = to_pillow(image)
    assert (picture.mode, picture.size) == (mode, (9, 5))
    assert torch.equal(from_pillow(picture), image)


def test_values_beyond_the_range_are_clipped():
    """Noise beyond white must not come back as black."""
    assert from_pillow(to_pillow(torch.tensor([[[-0.2, 1.3]]]))).flatten().tolist() == [0, 1]
