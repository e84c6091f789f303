"""The tensor contract: file values and floats, luma, seeds, and MATLAB's resize against stored images and loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.color import rgb2ycbcr
from torch import Tensor

from imagesmith.tensors import DEPTH_MAX, from_float, generator_for, imresize, luma, seed_for, to_float


def photo(height: int, width: int) -> Tensor:
    return torch.from_numpy(data.coffee()[50 : 50 + height, 80 : 80 + width].copy()).permute(2, 0, 1)


class TestDepth:
    @pytest.mark.parametrize("depth", ["uint8", "uint16"])
    def test_every_file_value_survives_the_way_there_and_back(self, depth):
        """White once came back as 254, because a truncation stood where a rounding belongs."""
        values = torch.arange(DEPTH_MAX[depth] + 1).to(getattr(torch, depth))
        assert torch.equal(from_float(to_float(values, depth), depth).int(), values.int())

    def test_the_range_is_that_of_the_depth_not_of_the_values(self):
        """A dark 16-bit scan taken for 8-bit comes out 257 times too bright."""
        dark = torch.tensor([0, 100, 255], dtype=torch.uint16)
        assert torch.allclose(to_float(dark, "uint16"), torch.tensor([0, 100, 255]) / 65535)
        assert to_float(dark, "uint16").dtype == torch.float32

    @pytest.mark.parametrize("depth", ["uint8", "uint16"])
    def test_out_of_range_is_clamped_and_halves_go_up(self, depth):
        top = DEPTH_MAX[depth]
        x = torch.tensor([-1.0, -0.49 / top, 0.5 / top, 1.0, 1.0 + 0.6 / top, 3.0])
        assert from_float(x, depth).tolist() == [0, 0, 1, top, top, top]

    @pytest.mark.parametrize("depth", ["uint8", "uint16"])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_rounded_once(self, depth, dtype):
        """Half of the grey levels off by one, and white black, because half precision holds fewer levels than a file."""
        x = (torch.arange(256) / 255).to(dtype)
        assert torch.equal(from_float(x, depth), from_float(x.float(), depth))

    def test_float_files_are_passed_on_unclamped(self):
        x = torch.tensor([-0.5, 0.25, 7.0])
        assert torch.equal(from_float(to_float(x, "float32"), "float32"), x)

    def test_a_wrong_dtype_is_a_programming_error(self):
        with pytest.raises(AssertionError, match="uint16"):
            to_float(torch.zeros(1, dtype=torch.uint8), "uint16")

    def test_inputs_are_left_alone(self):
        x = torch.tensor([0.5])
        from_float(x, "uint8")
        assert x.item() == 0.5


class TestLuma:
    def test_it_is_scikit_images(self):
        image = photo(30, 40)
        expected = torch.from_numpy(rgb2ycbcr(image.permute(1, 2, 0).numpy())[..., 0]) / 255
        found = luma(to_float(image, "uint8")[None])
        assert found.shape == (1, 1, 30, 40)
        assert found.dtype == torch.float64
        assert torch.allclose(found[0, 0], expected, atol=1e-7)

    def test_black_and_white_are_the_ends_of_the_studio_range(self):
        assert float(luma(torch.zeros(1, 3, 1, 1))) == pytest.approx(16 / 255)
        assert float(luma(torch.ones(1, 3, 1, 1))) == pytest.approx(235 / 255)

    def test_gray_counts_as_equal_channels(self):
        gray = torch.rand(2, 1, 4, 4)
        assert torch.equal(luma(gray), luma(gray.expand(-1, 3, -1, -1)))


class TestSeeds:
    def test_it_is_splitmix64(self):
        """Runs resume by these seeds, so they may never change; Vigna's splitmix64.c from 1234567 is the reference."""
        first, golden_ratio = 6457827717110365317, 0x9E3779B97F4A7C15
        assert seed_for(1234567 - golden_ratio) == first >> 1
        assert seed_for(1, 2, 3) == 7602938901349714354

    def test_keys_are_told_apart(self):
        keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (-1,), (2**63,), (0, 0, 0)]
        assert len({seed_for(*key) for key in keys}) == len(keys)

    def test_a_million_neighbours_do_not_collide_and_fill_the_range(self):
        seeds = np.array([seed_for(3, k) for k in range(20_000)], dtype=np.float64)
        assert len(set(seeds)) == len(seeds)
        assert seeds.mean() / 2**63 == pytest.approx(0.5, abs=0.01)

    def test_generators_repeat(self):
        draws = [torch.rand(3, generator=generator_for(7, 8)) for _ in range(2)]
        assert torch.equal(*draws)


def naive_imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """One output value at a time, from the definition: kernel stretched by 1 / scale below 1, edges replicated."""

    def keys(t: float) -> float:
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0

    def along_rows(rows: np.ndarray) -> np.ndarray:
        n_in, n_out = len(rows), math.ceil(len(rows) * scale - 1e-9)
        stretch, result = min(scale, 1), []
        for i in range(n_out):
            centre = (i + 0.5) / scale - 0.5
            reach = math.ceil(2 / stretch) + 1
            taps = range(math.floor(centre) - reach, math.floor(centre) + reach + 1)
            weights = [keys((centre - j) * stretch) for j in taps]
            total = sum(w * rows[min(max(j, 0), n_in - 1)] for w, j in zip(weights, taps, strict=True))
            result.append(total / sum(weights))
        return np.stack(result)

    return along_rows(along_rows(image.astype(np.float64)).T).T


class TestImresize:
    @pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 0.7, 2, 3, 4, 1.3])
    @pytest.mark.parametrize("size", [(12, 24), (17, 13), (1, 5)])
    def test_it_is_the_definition(self, scale: float, size: tuple[int, int]):
        image = photo(*size)[0].double() / 255
        assert torch.allclose(
            imresize(image, scale), torch.from_numpy(naive_imresize(image.numpy(), scale)), atol=1e-12
        )

    def test_the_8_bit_path_rounds_after_each_axis(self):
        """MATLAB rounds between the axes; one rounding at the end differs from it in every seventh pixel."""
        image = photo(60, 80)
        once = imresize(image.double(), 0.5)
        found = imresize(image, 0.5)
        assert found.dtype == torch.uint8
        assert (found.double() - once).abs().max() < 1.2
        assert 0 < (found != from_float(once / 255, "uint8")).float().mean() < 0.3

    def test_batches_and_dtypes_are_kept(self):
        image = to_float(photo(16, 20), "uint8")
        assert imresize(image, 2).dtype == torch.float32
        batch = torch.stack([image, image.flip(-1)])[None]
        assert imresize(batch, 0.5).shape == (1, 2, 3, 8, 10)
        assert torch.equal(imresize(batch, 0.5)[0, 1], imresize(image.flip(-1), 0.5))

    def test_flat_images_stay_flat_and_size_is_rounded_up(self):
        flat = torch.full((1, 7, 9), 200, dtype=torch.uint8)
        assert imresize(flat, 1 / 3).shape == (1, 3, 3)
        assert (imresize(flat, 1 / 3) == 200).all()
        assert imresize(torch.zeros(1, 49, 49), 1 / 7).shape == (1, 7, 7), "49 * (1 / 7) is above 7 in floating point"

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_the_published_low_resolution_images_are_reproduced_bit_for_bit(self, scale: int, shared_data: Path):
        """Every published score rests on this input; a resize that is merely similar moves scores by 0.1 dB and more."""
        count = 0
        for test_set in ("set5", "set14"):
            for stored in sorted((shared_data / "test-sr" / test_set / f"LR_x{scale}").iterdir()):
                target = pixels(stored.parent.with_name(f"HR_x{scale}") / stored.name)
                assert torch.equal(imresize(target, 1 / scale), pixels(stored)), f"{test_set}/{stored.name}"
                count += 1
        assert count == 19


def pixels(path: Path) -> Tensor:
    array = np.asarray(Image.open(path))
    return torch.from_numpy(array.copy().reshape(*array.shape[:2], -1)).permute(2, 0, 1)
