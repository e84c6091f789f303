"""Scratches are found where they were drawn, and not in photographs that have none."""

import numpy as np
import torch
from skimage import data, draw
from torch import Tensor

from imagesmith.estimate.scratches import find_scratches


def portrait() -> Tensor:
    """An old, dark print: the photograph in gray (1, 200, 220)."""
    return torch.from_numpy(data.astronaut()[:200, 120:340].mean(axis=2) / 400).float()[None]


def test_a_drawn_scratch_is_found_and_nothing_far_from_it() -> None:
    """The accident: a mask that misses the scratch, or takes half of the face with it."""
    image, truth = portrait(), np.zeros((200, 220), bool)
    rows, columns = draw.line(10, 30, 180, 200)
    truth[rows, columns] = True
    image[0, rows, columns] = image[0, rows, columns - 1] = 0.95
    clean, found = (find_scratches(picture, asked=True) for picture in (portrait(), image))
    assert found.dtype == torch.bool
    assert found.shape == image.shape[1:]
    assert found[torch.from_numpy(truth)].float().mean() > 0.55
    assert (found & ~clean).float().mean() < 0.06


def test_photos_without_scratches_keep_their_lines() -> None:
    """The accident: wires and whiskers painted over."""
    for photo in (data.coffee()[::2, ::2], data.chelsea()):
        assert find_scratches(torch.from_numpy(photo.copy()).permute(2, 0, 1) / 255, asked=False).float().mean() < 0.01


def test_flat_and_tiny_pictures_have_none() -> None:
    """The accident: an icon that ends the run of a whole folder."""
    for shape in ((3, 1, 1), (1, 30, 400), (3, 64, 64)):
        assert not find_scratches(torch.full(shape, 0.5), asked=True).any()


def test_large_pictures_are_looked_at_smaller() -> None:
    """The accident: a scan of 50 megapixels that takes minutes, or a mask of another size than the picture."""
    image = torch.full((1, 1500, 2100), 0.4)
    image[:, 700:708] = 1.0
    found = find_scratches(image, asked=True)
    assert found.shape == (1500, 2100)
    assert found[704].float().mean() > 0.9
    assert found.float().mean() < 0.02


def test_unasked_little_is_enough_in_toned_prints_alone() -> None:
    """The accident: the legs of a tripod in a clean gray photo are scratches, and invented anew by the default."""
    gray = torch.from_numpy(data.camera().copy())[None] / 255
    assert find_scratches(gray, asked=True).float().mean() > 0.012
    for picture in (gray, gray.expand(3, -1, -1) + torch.tensor([0.002, 0.0, -0.002]).view(3, 1, 1)):
        assert not find_scratches(picture, asked=False).any()
    scratched = torch.from_numpy(data.chelsea().mean(axis=2) / 255).float()[None]
    scratched[:, :, 100] = scratched[:, :, 300] = 0.95
    sepia = scratched * torch.tensor([1.0, 0.85, 0.65]).view(3, 1, 1)
    assert not find_scratches(scratched, asked=False).any()
    assert find_scratches(sepia, asked=False)[:, 100].float().mean() > 0.8
