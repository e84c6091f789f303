"""Blocks, the cosine transform and JFIF's colours, against what others compute."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import fft
from skimage import data

from imagesmith.tensors.blocks import BLOCK, dct, from_blocks, inverse_dct, to_blocks, to_rgb, to_ycc


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.tensor(data.astronaut()[:40, :56].copy()).permute(2, 0, 1).double()


def test_the_transform_is_scipys(photo: torch.Tensor) -> None:
    """The accident: a basis transposed or scaled, which its own inverse undoes, and intervals that bind nothing."""
    blocks = to_blocks(photo)
    expected = fft.dctn(blocks.numpy(), axes=(-2, -1), norm="ortho")
    np.testing.assert_allclose(dct(blocks).numpy(), expected, atol=1e-9)
    torch.testing.assert_close(inverse_dct(dct(blocks)), blocks)


def test_blocks_are_the_pictures_own(photo: torch.Tensor) -> None:
    """The accident: rows of blocks taken for columns, which square test pictures never show."""
    blocks = to_blocks(photo)
    assert blocks.shape == (3, 5, 7, BLOCK, BLOCK)
    assert torch.equal(blocks[1, 2, 3], photo[1, 16:24, 24:32])
    assert torch.equal(from_blocks(blocks), photo)
    assert torch.equal(from_blocks(to_blocks(photo[:, :39, :50])), photo[:, :32, :48])
    assert to_blocks(photo[:, :7]).shape == (3, 0, 7, BLOCK, BLOCK)


def test_colours_are_those_of_jfif(photo: torch.Tensor) -> None:
    """The accident: Cb and Cr exchanged, or the weights of another standard."""
    picture = Image.fromarray(photo.permute(1, 2, 0).byte().numpy())
    expected = torch.tensor(np.array(picture.convert("YCbCr"))).permute(2, 0, 1).double()
    found = to_ycc(photo) + torch.tensor([0.0, 128, 128])[:, None, None]
    assert (found - expected).abs().max() <= 1  # Pillow's are whole numbers, and it cuts where others round
    torch.testing.assert_close(to_rgb(to_ycc(photo[None])), photo[None])
    assert torch.equal(to_rgb(to_ycc(photo[:1])), photo[:1])
