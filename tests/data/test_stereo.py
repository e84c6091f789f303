"""A camera's walk from a picture and its depth."""

from pathlib import Path

import numpy as np
import torch

from imagesmith.data.stereo import read_disparity, walk


def test_what_is_near_moves_more_to_the_left():
    """The accident: parallax the wrong way round, which looks like a bent picture."""
    left = torch.zeros(3, 40, 80, dtype=torch.uint8)
    left[:, 5:15, 38:42], left[:, 25:35, 38:42] = 255, 255
    disparity = torch.full((40, 80), 4.0)
    disparity[:20] = 20.0
    views = walk(left, disparity, 3, 1.0)
    assert torch.equal(views[0], left)

    def place(view: torch.Tensor, row: int) -> float:
        light = view[0, row].float()
        return float((light * torch.arange(80)).sum() / light.sum())

    assert abs(place(views[2], 10) - (39.5 - 20)) < 1
    assert abs(place(views[1], 30) - (39.5 - 2)) < 1


def test_unknown_depth_is_the_farthest_around_and_specks_are_gone(tmp_path: Path):
    disparity = np.full((30, 30), 8.0, np.float32)
    disparity[:, 15:] = 2.0
    disparity[5, 5] = 90.0
    disparity[10:20, 13:17] = np.inf
    disparity[25, 25] = np.nan
    np.savez(tmp_path / "depth.npz", disparity)
    depth = read_disparity(tmp_path / "depth.npz")
    assert depth.isfinite().all()
    assert depth[5, 5] == 8.0
    assert depth[15, 16] == 2.0
    assert set(depth.unique().tolist()) == {2.0, 8.0}
