"""The paired metrics against independent tools, and the laws that every paired metric keeps."""

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from imagesmith.errors import ImageError
from imagesmith.metrics import METRICS
from imagesmith.metrics.pairs import psnr_rgb, psnr_y, ssim_y
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
        assert float(card.function(wrong_border, target, 4)) == card.best, name
        assert float(card.function(wrong_border, target, 3)) != card.best, name


@pytest.mark.parametrize("name", METRICS)
class TestLaws:
    def test_card(self, name: str):
        card = METRICS[name]
        assert card.name == name
        assert card.paper
        assert card.range[0] < card.range[1]

    def test_a_perfect_result_is_best(self, name: str):
        card, target = METRICS[name], tensor(pair()[1])
        assert float(card.function(target, target, 4)) == pytest.approx(card.best, abs=1e-12)

    def test_more_noise_is_worse_and_in_range(self, name: str):
        card, target = METRICS[name], tensor(pair()[1])
        values = [float(card.function(tensor(pair(noise)[0]), target, 4)) for noise in (2, 4, 8, 16, 32, 64)]
        assert values == sorted(values, reverse=card.direction == "higher")
        assert len(set(values)) == len(values)
        assert all(card.range[0] <= value <= card.range[1] for value in values)

    def test_one_float64_value_for_each_image_of_a_batch(self, name: str):
        """PSNR pooled over a batch is up to 17 dB below the mean over its images."""
        card, target = METRICS[name], tensor(pair()[1])
        restored = torch.cat([tensor(pair(noise)[0]) for noise in (4, 40)]).float()
        values = card.function(restored, target.float().expand(2, -1, -1, -1), 4)
        assert values.dtype == torch.float64
        alone = [card.function(image[None], target.float(), 4) for image in restored]
        assert torch.allclose(values, torch.cat(alone), atol=1e-12, rtol=0)

    def test_gray_images_are_accepted(self, name: str):
        card = METRICS[name]
        restored, target = (tensor(image)[:, :1] for image in pair())
        assert torch.isfinite(card.function(restored, target, 4)).all()

    def test_an_image_smaller_than_the_crop_is_said(self, name: str):
        with pytest.raises(ImageError, match="crop"):
            METRICS[name].function(torch.zeros(1, 3, 8, 64), torch.zeros(1, 3, 8, 64), 4)


def test_calibration_values():
    """Frozen values of bicubic x2 of a public photograph: a change of protocol must not go unnoticed."""
    target = torch.from_numpy(data.astronaut()[100:260, 150:310].copy()).permute(2, 0, 1)[None]
    restored = imresize(imresize(target, 0.5), 2)
    for name, expected in {"psnr_y": 30.7166, "ssim_y": 0.94047, "psnr_rgb": 29.1764}.items():
        value = METRICS[name].function(restored / 255, target / 255, 2)
        assert float(value) == pytest.approx(expected, abs=1e-4), name
