"""A warp and its flow: directions, fractions, edges and precision."""

import pytest
import torch
from torch.nn import functional as F

from imagesmith.tensors import generator_for
from imagesmith.tensors.warping import sampled, stays_inside, warp


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_warp_brings_a_moved_picture_back(mode: str):
    """The accident: x and y exchanged, or the sign, which no shape tells."""
    before = torch.rand(1, 3, 12, 17, generator=torch.Generator().manual_seed(0))
    now = before.roll((2, -3), dims=(2, 3))  # down by 2, left by 3
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 12, 17)
    assert torch.allclose(warp(before, flow, mode)[..., 2:, :-3], now[..., 2:, :-3], atol=1e-5)


def test_warp_between_pixels_is_bilinear_and_the_edge_repeats():
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 3, 8)
    moved = warp(ramp, torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 8))
    assert torch.allclose(moved[0, 0, 1], torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.0]), atol=1e-5)


def test_inside_is_what_has_a_source():
    """The accident: metrics count pixels that were never seen, and a flow network is taught to guess them."""
    inside = stays_inside(torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 16, 20))
    assert torch.equal(inside[0, 0, 2:, :-3], torch.ones(14, 17, dtype=torch.bool))
    assert int(inside.sum()) == 14 * 17


@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_precision_is_never_lost(given: torch.dtype, expected: torch.dtype):
    """The accident: places in bf16, in which 100.5 is 100, and float64 metrics that are float32 in the middle."""
    columns = torch.arange(200, dtype=given).expand(1, 1, 2, 200)
    moved = warp(columns, torch.full((1, 2, 2, 200), 0.5, dtype=torch.bfloat16))
    assert moved.dtype == expected
    assert torch.allclose(moved[0, 0, 0, :-1], torch.arange(199, dtype=expected) + 0.5, atol=1e-3)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_sampling_is_torchs_own_with_a_second_derivative(padding):
    """torch 2.11 has none for grid_sample: R1 behind augmentation stopped a GAN's run on its first transform."""
    image = torch.rand(2, 3, 5, 4, dtype=torch.float64, generator=generator_for(3), requires_grad=True)
    grid = torch.rand(2, 6, 7, 2, dtype=torch.float64, generator=generator_for(4)) * 3 - 1.5
    own = F.grid_sample(image, grid, padding_mode=padding, align_corners=False)
    assert torch.equal(sampled(image, grid, padding), own)
    assert torch.autograd.gradcheck(lambda x: sampled(x, grid, padding), image, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: sampled(x, grid, padding).sin(), image, fast_mode=True)
