"""Losing resolution: the size is exact, and the filters are those that they are called by."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.degrade import build_degradation
from imagesmith.degrade.blur import GaussianBlur
from imagesmith.degrade.scale import FILTERS, BicubicDown, GaussianDown, Resize
from imagesmith.errors import ConfigError
from imagesmith.tensors import generator_for


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("factor", [(0.37, 0.37), (0.5, 1.6)])
def test_the_final_size_is_exact(scale, factor):
    """A patch that is one pixel short fails in the middle of a training."""
    for seed in range(6):
        result = Resize(scale, factor)(torch.rand(3, 12 * scale, 17 * scale), generator_for(seed))
        assert result.shape == (3, 12, 17)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_pillows(name):
    """'area' that is in truth bicubic makes a recipe lie."""
    photo = torch.from_numpy(data.astronaut()[:96, :128].copy()).permute(2, 0, 1)
    result = Resize(2, filters=(name,))(photo / 255, generator_for(0))
    expected = Image.fromarray(photo.permute(1, 2, 0).numpy()).resize((64, 48), FILTERS[name])
    assert np.array_equal((result * 255).round().byte().permute(1, 2, 0), np.asarray(expected))


def test_another_size_on_the_way_costs_detail():
    """A factor that is not applied leaves a chain of one resize, which is not what the web does."""
    photo = torch.from_numpy(data.astronaut()[:96, :96].copy()).permute(2, 0, 1) / 255
    direct, around = (Resize(1, (f, f), filters=("bicubic",))(photo, generator_for(0)) for f in (1.0, 0.5))
    assert torch.allclose(direct, photo, atol=1e-6)
    assert around.diff(dim=2).abs().mean() < 0.9 * photo.diff(dim=2).abs().mean()


def test_the_context_covers_what_happens_at_the_other_size():
    """A pixel of context at half the size is two of the picture."""
    alone, with_blur = Resize(2, (0.5, 1.0)), Resize(2, (0.5, 1.0), between=(GaussianBlur((1, 1)),))
    assert with_blur.context_px - alone.context_px == 2 * GaussianBlur((1, 1)).context_px
    assert Resize(4).context_px == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": ["bicubik"]}, "did you mean 'bicubic'"),
        ({"between": [{"name": "holes"}]}, "Holes"),
        ({"between": [{"name": "bicubic", "options": {"scale": 2}}]}, "scale 2"),
        ({"factor": [0, 1]}, "factor"),
        ({"scale": 0}, "scale"),
        ({"filters": []}, "filter"),
    ],
)
def test_what_cannot_be_resized_is_a_config_error(options, message):
    """Mistakes in a recipe are told before training, not by a worker in the middle of it."""
    with pytest.raises(ConfigError, match=message):
        build_degradation("resize", options)


class TestGaussianDown:
    def test_it_is_the_formula_of_the_papers(self):
        """The accident: half a pixel of phase costs a network two dB, and the table says that the network is bad."""
        photo = torch.from_numpy(data.astronaut()[:48, :64].copy()).permute(2, 0, 1) / 255
        x = np.arange(12) - 5.5
        kernel = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.6**2))
        padded = np.pad(photo.double().numpy(), ((0, 0), (5, 6), (5, 6)), mode="edge")
        # imfilter's middle of an even kernel is its 6th tap: the result at row i weighs rows i - 5 to i + 6
        blurred = np.array(
            [
                [(channel[i : i + 12, j : j + 12] * kernel).sum() for j in range(1, 63, 4)]
                for channel in padded
                for i in range(1, 47, 4)
            ]
        ).reshape(3, 12, 16)
        expected = np.floor(255 * blurred / kernel.sum() + 0.5)
        result = GaussianDown(4)(photo, generator_for(0))
        assert np.array_equal((result * 255).round().numpy(), expected)

    @pytest.mark.parametrize("scale", [2, 4])
    def test_nothing_is_displaced(self, scale: int):
        """A ramp is sampled where bicubic samples it."""
        ramp = (torch.arange(64) / 64).expand(1, 64, 64)
        rng = generator_for(0)
        difference = GaussianDown(scale)(ramp, rng) - BicubicDown(scale)(ramp, rng)
        assert float(difference[..., 4:-4].abs().max()) <= 1 / 255 + 1e-6

    def test_odd_scales_are_refused(self):
        with pytest.raises(ConfigError, match="even scale"):
            build_degradation("gaussian_down", {"scale": 3})
