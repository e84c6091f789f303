"""Laws of every degradation in the table, and of the chain."""

import pytest
import torch

from imagesmith.degrade import DEGRADATIONS, Chain, build_degradation
from imagesmith.errors import ConfigError
from imagesmith.tensors import generator_for

OPTIONS = {"bicubic": {"scale": 3}}


@pytest.fixture(params=DEGRADATIONS)
def degradation(request):
    return build_degradation(request.param, OPTIONS[request.param])


def test_range_dtype_shape_and_determinism(degradation):
    """Degradation k of image k must be reproducible alone, whatever was drawn before."""
    image = torch.rand(3, 48, 60, generator=generator_for(1))
    degraded = degradation(image, generator_for(7))
    assert degraded.dtype == image.dtype
    assert degraded.shape == (3, 48 // degradation.scale, 60 // degradation.scale)
    assert 0 <= degraded.min() <= degraded.max() <= 1
    assert torch.equal(degraded, degradation(image, generator_for(7)))


def test_context_is_enough(degradation):
    """A crop with its context must come out as the same pixels of the whole picture, or patches lie about edges."""
    image = torch.rand(3, 96, 96, generator=generator_for(2))
    scale, context = degradation.scale, degradation.context_px
    whole = degradation(image, generator_for(0))
    start = 36 - context
    crop = degradation(image[:, start : 60 + context, start : 60 + context], generator_for(0))
    border = context // scale
    inner = crop[:, border:-border, border:-border]
    assert torch.equal(inner, whole[:, 36 // scale : 60 // scale, 36 // scale : 60 // scale])
    assert context % scale == 0


def test_chain_multiplies_scales_and_adds_context():
    chain = Chain((build_degradation("bicubic", {"scale": 2}), build_degradation("bicubic", {"scale": 3})))
    assert chain.scale == 6
    assert chain.context_px == 24
    assert chain(torch.rand(3, 24, 30), generator_for(0)).shape == (3, 4, 5)


@pytest.mark.parametrize(("name", "options"), [("bicubik", {}), ("bicubic", {"scael": 2})])
def test_unknown_names_are_config_errors(name, options):
    with pytest.raises(ConfigError, match=r"bicubic|scale"):
        build_degradation(name, options)
