"""Laws of every degradation in the table, and of the chain."""

import pytest
import torch

from imagesmith.degrade import DEGRADATIONS, Chain, build_degradation
from imagesmith.errors import ConfigError
from imagesmith.tensors import generator_for

BLUR = {"name": "gaussian_blur"}
SHARPEN = {"name": "unsharp_mask", "options": {"amount": [0.5, 2]}}
OPTIONS = {
    "bicubic": {"scale": 3},
    "chain": {"parts": [BLUR, {"name": "resize", "options": {"scale": 2}}, {"name": "jpeg"}]},
    "gaussian_noise": {"rounded": 1},
    "one_of": {"parts": [BLUR, {"name": "jpeg"}]},
    "poisson_gaussian_noise": {"rounded": 1},
    "resize": {"scale": 2, "between": [BLUR]},
    "shuffled": {"parts": [BLUR, SHARPEN]},
    "sometimes": {"part": SHARPEN},
}
BY_PLACE = {"cut_stream", "gaussian_noise", "h264", "holes", "missing_blocks", "old_photo", "poisson_gaussian_noise"}
"""What draws by the place in the picture, so that a crop gets other draws than the whole; or, as an encoder does, gives
each part of a picture what the whole of it leaves over."""


def build(name: str):
    return build_degradation(name, OPTIONS.get(name, {}))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", DEGRADATIONS)
def test_range_dtype_shape_and_determinism(name, channels):
    """Degradation k of image k must be reproducible alone, whatever was drawn before."""
    degradation = build(name)
    image = torch.rand(channels, 48, 60, generator=generator_for(1))
    for seed in range(5):
        degraded = degradation(image, generator_for(seed))
        assert degraded.dtype == image.dtype
        assert degraded.shape == (channels + degradation.planes, 48 // degradation.scale, 60 // degradation.scale)
        assert 0 <= degraded.min() <= degraded.max() <= 1
        assert torch.equal(degraded, degradation(image, generator_for(seed)))


@pytest.mark.parametrize("name", [name for name in DEGRADATIONS if name not in BY_PLACE])
def test_context_is_enough(name):
    """A crop with its context must come out as the same pixels of the whole picture, or patches lie about edges."""
    degradation = build(name)
    image = torch.rand(3, 144, 144, generator=generator_for(2))
    scale, context = degradation.scale, degradation.context_px
    assert context % scale == 0
    for seed in range(5):
        whole = degradation(image, generator_for(seed))
        crop = degradation(image[:, 48 - context : 96 + context, 48 - context : 96 + context], generator_for(seed))
        inner = crop[:, context // scale : (context + 48) // scale, context // scale : (context + 48) // scale]
        expected = whole[:, 48 // scale : 96 // scale, 48 // scale : 96 // scale]
        assert torch.allclose(inner, expected, atol=1e-5)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_tiny_pictures_and_plain_ones(name):
    """A thumbnail among the photographs, or one that is black, must not end a training."""
    degradation = build(name)
    for height, width in ((1, 1), (2, 5)):
        image = torch.zeros(3, height * degradation.scale, width * degradation.scale)
        for seed in range(8):
            degraded = degradation(image, generator_for(seed))
            assert degraded.shape == (3 + degradation.planes, height, width)
            assert torch.isfinite(degraded).all()


def test_chain_multiplies_scales_and_adds_context():
    chain = Chain((build_degradation("bicubic", {"scale": 2}), build_degradation("bicubic", {"scale": 3})))
    assert chain.scale == 6
    assert chain.context_px == 24
    assert chain(torch.rand(3, 24, 30), generator_for(0)).shape == (3, 4, 5)


@pytest.mark.parametrize(("name", "options"), [("bicubik", {}), ("bicubic", {"scael": 2})])
def test_unknown_names_are_config_errors(name, options):
    with pytest.raises(ConfigError, match=r"bicubic|scale"):
        build_degradation(name, options)
