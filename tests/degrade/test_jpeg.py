"""JPEG as the codec does it, and as gradients can pass through it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.degrade import Chain
from imagesmith.degrade.jpeg import Jpeg, differentiable_jpeg, table_level
from imagesmith.tensors import from_float, generator_for, to_float


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return to_float(torch.from_numpy(data.astronaut()[40:136, 180:284].copy()).permute(2, 0, 1), "uint8")


def _saved(image, **options):
    """The image as Pillow writes and reads it, and its luma table."""
    pixels = from_float(image, "uint8").permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, "JPEG", **options)
    file = Image.open(stream)
    values = torch.from_numpy(np.array(file)).float().div(255)
    return (values[None] if values.ndim == 2 else values.permute(2, 0, 1)), file.quantization[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("subsampling", "name"), [(0, "4:4:4"), (1, "4:2:0")])
def test_it_is_the_file_that_pillow_writes(photo, channels, subsampling, name):
    """An imitation of the codec trains networks to mend what no file has."""
    part = Jpeg(quality=(30, 30), subsampling=subsampling, shifted=0, table_plane=True, blind=0)
    result = part(photo[:channels], generator_for(0))
    expected, table = _saved(photo[:channels], quality=30, subsampling=name)
    assert torch.equal(result[:-1], expected)
    assert result[-1].unique().tolist() == pytest.approx([table_level(table)])


def test_a_shifted_grid_has_its_edges_elsewhere(photo):
    """A network that only saw grids at the corner fails on every cropped picture."""

    def column_of_edges(image):
        jumps = (image[:, :, 1:] - image[:, :, :-1]).abs().mean((0, 1))
        return int(torch.stack([jumps[k::8].mean() for k in range(8)]).argmax())

    aligned = Jpeg(quality=(8, 8), shifted=0)(photo, generator_for(0))
    assert column_of_edges(aligned) == 7
    shifted = {column_of_edges(Jpeg(quality=(8, 8), shifted=1)(photo, generator_for(k))) for k in range(12)}
    assert len(shifted) > 3


def test_twice_compressed_is_not_once_compressed(photo):
    """Double JPEG is two parts, the second displaced, and both must leave their marks."""
    once = Jpeg(quality=(20, 20), shifted=0)
    twice = Chain((once, Jpeg(quality=(60, 60), shifted=1)))
    assert not torch.equal(once(photo, generator_for(1)), twice(photo, generator_for(1)))
    assert twice.context_px == 32


def test_a_share_is_blind(photo):
    """A network that always saw the tables cannot work on files that lost them."""
    part = Jpeg(table_plane=True, blind=0.5)
    levels = [float(part(photo[:, :16, :16], generator_for(k))[-1, 0, 0]) for k in range(60)]
    assert 15 < sum(level == 0 for level in levels) < 45


@pytest.mark.parametrize(("table", "level"), [([1] * 64, 0.0), ([16] * 64, 0.5), ([255] * 64, 0.999), ([9999] * 64, 1)])
def test_table_level(table, level):
    """The scale is a contract between training and restoring: moved, every shipped network is told lies."""
    assert table_level(table) == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_differentiable_one_agrees_with_the_codec(photo, channels):
    """A loss through another quantisation than the files have pulls results away from the truth."""
    qualities = [5, 40, 75, 92]
    images = photo[None, :channels, :90, :99].repeat(4, 1, 1, 1)
    results = differentiable_jpeg(images, torch.tensor(qualities))
    for result, quality in zip(results, qualities, strict=True):
        difference = (result - _saved(images[0], quality=quality, subsampling="4:4:4")[0]).abs() * 255
        assert difference.mean() < 0.5
        # the codec's transform is in whole numbers, so now and then a coefficient is rounded to the next step
        assert torch.quantile(difference, 0.95) <= 2.01


def test_gradients_pass_through_the_rounding(photo):
    """Rounding has no gradient: without care a loss behind the codec teaches nothing."""
    images = photo[None, :, :32, :40].clone().requires_grad_()
    (differentiable_jpeg(images, torch.tensor([30.0])) ** 2).mean().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert (images.grad != 0).double().mean() > 0.9
