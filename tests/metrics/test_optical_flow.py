"""The classical flow: known motions of photographs, whole and fractional, near and far, and where nothing moves."""

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.metrics.optical_flow import optical_flow
from imagesmith.tensors import imresize
from imagesmith.tensors.warping import warp


def moved(right: float, down: float, finer: int = 1) -> tuple[Tensor, Tensor]:
    """A photograph and the same moved by (right, down), whole multiples of 1 / finer, never sampled between pixels."""
    photo = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].double() / 255
    dx, dy, side = round(right * finer), round(down * finer), 160 * finer
    windows = (photo[..., top : top + side, left : left + side] for left, top in ((130, 30), (130 - dx, 30 - dy)))
    first, second = (window if finer == 1 else imresize(window, 1 / finer).clamp(0, 1) for window in windows)
    return first.float(), second.float()


@pytest.mark.parametrize(
    ("right", "down", "finer"), [(1, -1, 1), (3, 2, 1), (-6, 4, 1), (0.5, -0.5, 2), (-1.5, 1, 2), (0, 2.5, 2)]
)
def test_a_shift_is_found_to_a_fifth_of_a_pixel(right: float, down: float, finer: int):
    """The accident: rows and columns, signs, or the half pixel of a halved picture are confused."""
    flow = optical_flow(*moved(right, down, finer))[..., 12:-12, 12:-12]
    assert flow.mean(dim=(0, 2, 3)).tolist() == pytest.approx([right, down], abs=0.1)
    assert float((flow - torch.tensor([right, down]).view(1, 2, 1, 1)).norm(dim=1).mean()) < 0.2


def test_what_stands_still_has_no_flow():
    first, _ = moved(0, 0)
    assert float(optical_flow(first, first).abs().max()) < 1e-4


def test_two_layers_move_by_themselves():
    """The accident: a flow so smooth that one motion for the whole picture would do as well."""
    first, second = moved(2, 0)
    flow = optical_flow(first, torch.cat([second[..., :80, :], first[..., 80:, :]], dim=-2))
    assert float((flow[:, 0, 16:60, 16:-16] - 2).abs().mean()) < 0.2
    assert float(flow[:, 0, 100:, 16:-16].abs().mean()) < 0.1


def test_warping_the_second_by_the_flow_gives_the_first():
    """The accident: `optical_flow` and `warp` count in opposite directions, and every warping error is a fraud."""
    first, second = moved(3, -2)
    flow = optical_flow(first, second)
    error = (warp(second, flow, "bicubic") - first)[..., 12:-12, 12:-12]
    assert float(error.abs().mean()) < 0.1 * float((second - first).abs().mean())


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 9)])
def test_thumbnails_have_a_flow(size: tuple[int, int]):
    """The accident: a film of 1x1 pixels ends in the middle of a pyramid."""
    image = torch.rand(2, 1, *size)
    assert optical_flow(image, image.flip(0)).isfinite().all()


def test_gray_and_colour_agree():
    first, second = (image.mean(dim=1, keepdim=True) for image in moved(1, 1))
    same = (image.expand(-1, 3, -1, -1) for image in (first, second))
    assert torch.allclose(optical_flow(first, second), optical_flow(*same), atol=1e-2)
