"""The paired metrics against independent tools, and the laws that every paired metric keeps."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from imagesmith.errors import ImageError
from imagesmith.metrics import METRICS
from imagesmith.metrics.pairs import psnr_b, psnr_gray, psnr_hole, psnr_rgb, psnr_y, ssim_y
from imagesmith.tensors import imresize


@pytest.fixture(scope="module")
def torchmetrics_image():
    """torchmetrics.image imports operators of torchvision, which is not needed for the two metrics used here."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchmetrics.functional.image as functional

    return functional


def pair(noise: float = 12) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and the same with noise, uint8 (H, W, 3)."""
    target = data.coffee()[40:200, 60:260]
    noisy = target + np.random.default_rng(5).normal(0, noise, target.shape)
    return noisy.round().clip(0, 255).astype(np.uint8), target


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].double() / 255


def score(name: str, restored: Tensor, target: Tensor, crop: int) -> Tensor:
    """A metric by its name; one that needs a hole gets the whole image as such."""
    card = METRICS[name]
    hole = [torch.ones_like(target[:, :1], dtype=torch.bool)] if card.needs == "hole" else []
    return card.function(restored, target, crop, *hole)


def y_channel(image: np.ndarray, crop: int) -> np.ndarray:
    return rgb2ycbcr(image)[crop:-crop, crop:-crop, 0]


@pytest.mark.parametrize("crop", [2, 3, 4])
def test_psnr_y_is_scikit_images(crop: int):
    restored, target = pair()
    expected = peak_signal_noise_ratio(y_channel(target, crop), y_channel(restored, crop), data_range=255)
    assert float(psnr_y(tensor(restored), tensor(target), crop)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("crop", [2, 4])
def test_ssim_y_is_scikit_images(crop: int):
    restored, target = pair()
    expected = structural_similarity(
        y_channel(target, crop), y_channel(restored, crop), data_range=255,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert float(ssim_y(tensor(restored), tensor(target), crop)) == pytest.approx(expected, abs=1e-6)


def test_psnr_rgb_is_scikit_images():
    restored, target = pair()
    expected = peak_signal_noise_ratio(target, restored)
    assert float(psnr_rgb(tensor(restored), tensor(target), 0)) == pytest.approx(expected, abs=1e-9)


def test_psnr_gray_takes_gray_as_it_is():
    """The studio range would add 1.32 dB to every score of a JPEG table."""
    restored, target = (tensor(image)[:, :1] for image in pair())
    assert float(psnr_gray(restored, target, 0)) == pytest.approx(float(psnr_rgb(restored, target, 0)), abs=1e-9)
    for image in pair():
        colour = tensor(image)
        assert float(psnr_gray(colour, colour.flip(1), 0)) < 40, "colours are weighed, not the first one taken"


def test_psnr_b_by_the_definition_of_its_paper():
    """Tools that take the number of pixels along an edge for the number of edges score small images 0.2 dB higher."""
    stream = io.BytesIO()
    target = pair()[1][:44, :70, 1]
    Image.fromarray(target).save(stream, "JPEG", quality=10)
    restored = np.asarray(Image.open(stream)).astype(float)
    edges, others = [], []
    for y, x in np.ndindex(restored.shape):
        if x + 1 < restored.shape[1]:
            (edges if x % 8 == 7 else others).append((restored[y, x] - restored[y, x + 1]) ** 2)
        if y + 1 < restored.shape[0]:
            (edges if y % 8 == 7 else others).append((restored[y, x] - restored[y + 1, x]) ** 2)
    excess = np.mean(edges) - np.mean(others)
    assert excess > 0
    error = np.mean((restored - target) ** 2) + math.log2(8) / math.log2(44) * excess
    images = [torch.from_numpy(image.astype(float) / 255)[None, None] for image in (restored, target)]
    assert float(psnr_b(*images, 0)) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)


def test_psnr_b_counts_blocks_wherever_the_crop_begins():
    """A crop of 3 moves the grid; a metric that forgets it finds the edges elsewhere and no blocking at all."""
    blocks = torch.zeros(1, 1, 64, 64)
    blocks[..., 32:, :] = 0.1
    target = torch.full_like(blocks, 0.05)
    for crop in (0, 3):
        assert float(psnr_b(blocks, target, crop)) < float(psnr_gray(blocks, target, crop)) - 0.01


def test_psnr_hole_counts_the_hole_alone():
    """Over the whole image a badly filled hole of 6 % looks 12 dB better than it is."""
    target, hole = torch.zeros(1, 3, 40, 40), torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    hole[..., 10:20, 10:20] = True
    restored = torch.where(hole, 10 / 255, 0.0).expand(-1, 3, -1, -1)
    assert float(psnr_hole(restored, target, 0, hole)) == pytest.approx(20 * math.log10(25.5), abs=1e-6)
    with pytest.raises(ImageError, match="got one without"):
        psnr_hole(restored, target, 0, torch.zeros_like(hole))


def test_torchmetrics_agrees(torchmetrics_image):
    """A second tool, because scikit-image's conventions are not the papers' everywhere."""
    restored, target = (tensor(image) for image in pair())
    psnr = torchmetrics_image.peak_signal_noise_ratio(restored * 255, target * 255, data_range=255.0)
    assert float(psnr_rgb(restored, target, 0)) == pytest.approx(float(psnr), abs=1e-6)

    y = [torch.from_numpy(y_channel(image, 4))[None, None] for image in pair()]
    _, full = torchmetrics_image.structural_similarity_index_measure(
        *y, sigma=1.5, kernel_size=11, data_range=255.0, return_full_image=True
    )
    # torchmetrics averages over reflected edges as well, the papers over the valid region
    assert float(ssim_y(restored, target, 4)) == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-5)


def test_values_by_hand():
    """One grey level of error everywhere is 48.13 dB; in luma it is scaled by the studio range, 219 / 255."""
    target = torch.full((1, 3, 32, 32), 100 / 255)
    off_by_one = torch.full((1, 3, 32, 32), 101 / 255)
    assert float(psnr_rgb(off_by_one, target, 4)) == pytest.approx(20 * math.log10(255), abs=1e-9)
    assert float(psnr_y(off_by_one, target, 4)) == pytest.approx(20 * math.log10(255 * 255 / 219), abs=1e-6)
    black, white = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 16 * 235 + c1) / (16**2 + 235**2 + c1)
    assert float(ssim_y(black, white, 4)) == pytest.approx(expected, abs=1e-9)


def test_the_result_is_rounded_to_eight_bits_first():
    """Unrounded floats score up to 0.01 dB better than what a user can save, and the papers measure files."""
    target = tensor(pair()[1])
    assert float(psnr_rgb(target + 0.4 / 255, target, 0)) == math.inf
    assert float(psnr_rgb(target.clamp(max=0.9) + 2.0, torch.ones_like(target), 0)) == math.inf


def test_the_crop_is_cut_off_every_edge():
    target = torch.zeros(1, 3, 40, 30)
    wrong_border = torch.ones_like(target)
    wrong_border[..., 4:-4, 4:-4] = 0
    for name, card in METRICS.items():
        assert float(score(name, wrong_border, target, 4)) == card.best, name
        assert float(score(name, wrong_border, target, 3)) != card.best, name


@pytest.mark.parametrize("name", METRICS)
class TestLaws:
    def test_card(self, name: str):
        card = METRICS[name]
        assert card.name == name
        assert card.paper
        assert card.range[0] < card.range[1]

    def test_a_perfect_result_is_best(self, name: str):
        card, target = METRICS[name], tensor(pair()[1])
        assert float(score(name, target, target, 4)) == pytest.approx(card.best, abs=1e-12)

    def test_more_noise_is_worse_and_in_range(self, name: str):
        card, target = METRICS[name], tensor(pair()[1])
        values = [float(score(name, tensor(pair(noise)[0]), target, 4)) for noise in (2, 4, 8, 16, 32, 64)]
        assert values == sorted(values, reverse=card.direction == "higher")
        assert len(set(values)) == len(values)
        assert all(card.range[0] <= value <= card.range[1] for value in values)

    def test_one_float64_value_for_each_image_of_a_batch(self, name: str):
        """PSNR pooled over a batch is up to 17 dB below the mean over its images."""
        target = tensor(pair()[1])
        restored = torch.cat([tensor(pair(noise)[0]) for noise in (4, 40)]).float()
        values = score(name, restored, target.float().expand(2, -1, -1, -1), 4)
        assert values.dtype == torch.float64
        alone = [score(name, image[None], target.float(), 4) for image in restored]
        assert torch.allclose(values, torch.cat(alone), atol=1e-12, rtol=0)

    def test_gray_images_are_accepted(self, name: str):
        restored, target = (tensor(image)[:, :1] for image in pair())
        assert torch.isfinite(score(name, restored, target, 4)).all()

    def test_what_is_not_finite_is_refused(self, name: str):
        """The accident: NaN becomes a grey level, and a broken network a number."""
        restored, target = (tensor(image) for image in pair())
        restored[0, 0, 20, 20] = math.nan
        with pytest.raises(ImageError, match="finite"):
            score(name, restored, target, 4)

    def test_an_image_smaller_than_the_crop_is_said(self, name: str):
        with pytest.raises(ImageError, match="crop"):
            score(name, torch.zeros(1, 3, 8, 64), torch.zeros(1, 3, 8, 64), 4)


def test_calibration_values():
    """Frozen values of bicubic x2 of a public photograph: a change of protocol must not go unnoticed."""
    target = torch.from_numpy(data.astronaut()[100:260, 150:310].copy()).permute(2, 0, 1)[None]
    restored = imresize(imresize(target, 0.5), 2)
    for name, expected in {"psnr_y": 30.7166, "ssim_y": 0.94047, "psnr_rgb": 29.1764}.items():
        value = score(name, restored / 255, target / 255, 2)
        assert float(value) == pytest.approx(expected, abs=1e-4), name
