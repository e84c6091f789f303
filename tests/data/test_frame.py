"""Alpha: what is invisible must neither colour a filter's result nor become NaN or a black rim."""

import pytest
import torch

from imagesmith.data.frame import premultiply, unpremultiply


def test_there_and_back() -> None:
    """Visible pixels must come back as they were."""
    generator = torch.Generator().manual_seed(1)
    rgb = torch.rand(2, 3, 9, 13, generator=generator)
    alpha = torch.rand(2, 1, 9, 13, generator=generator) * 0.9 + 0.1
    assert torch.allclose(unpremultiply(premultiply(rgb, alpha), alpha), rgb, atol=1e-6)


def test_an_averaged_edge_keeps_its_colour() -> None:
    """Straight alpha filtered as it is mixes the black under transparent pixels into the edge: the halo."""
    rgb = torch.zeros(1, 3, 1, 8)
    alpha = torch.zeros(1, 1, 1, 8)
    rgb[..., :4], alpha[..., :4] = 0.8, 1.0
    blur = torch.nn.AvgPool2d((1, 3), stride=1)
    colour = unpremultiply(blur(premultiply(rgb, alpha)), blur(alpha))
    assert torch.allclose(colour, torch.full_like(colour, 0.8), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (31, 64), (5, 7)])
def test_invisible_pixels_take_the_colour_of_their_neighbours(size: tuple[int, int]) -> None:
    """0 / 0 is NaN, and one NaN spreads through a whole network."""
    rgb = torch.full((1, 3, *size), 0.25)
    alpha = torch.zeros(1, 1, *size)
    alpha[..., 0, 0] = 1
    colour = unpremultiply(premultiply(rgb, alpha), alpha)
    assert torch.allclose(colour, rgb, atol=1e-5)
    assert torch.equal(unpremultiply(torch.zeros_like(rgb), torch.zeros_like(alpha)), torch.zeros_like(rgb))


def test_the_bleed_comes_from_the_nearest_side() -> None:
    """One mean colour for all invisible pixels would put a red rim on the blue side."""
    rgb = torch.zeros(1, 3, 8, 32)
    alpha = torch.zeros(1, 1, 8, 32)
    rgb[:, 0, :, :4], rgb[:, 2, :, -4:] = 1, 1
    alpha[..., :4] = alpha[..., -4:] = 1
    colour = unpremultiply(premultiply(rgb, alpha), alpha)
    assert (colour[:, 0, :, 4:8] > 0.9).all()
    assert (colour[:, 2, :, -8:-4] > 0.9).all()
