"""Degradations made of others, as objects and as a configuration writes them."""

import json

import pytest
import torch

from imagesmith import presets
from imagesmith.configs import RestorerConfig
from imagesmith.degrade import Chain, build_degradation
from imagesmith.degrade.blur import GaussianBlur, UnsharpMask
from imagesmith.degrade.combine import OneOf, Shuffled, Sometimes
from imagesmith.degrade.noise import GaussianNoise
from imagesmith.degrade.scale import BicubicDown
from imagesmith.errors import ConfigError
from imagesmith.tensors import generator_for

IMAGE = torch.rand(3, 32, 32, generator=generator_for(9))


def test_a_chain_of_nothing_is_a_clean_picture():
    """Measuring on clean pictures needs no special case."""
    empty = Chain(())
    assert (empty.scale, empty.planes, empty.context_px) == (1, 0, 0)
    assert empty(IMAGE, generator_for(0)) is IMAGE


def test_sometimes_is_as_often_as_it_says():
    """A probability that is ignored trains on the damage always or never."""
    part = Sometimes(GaussianBlur((2, 2)), 0.3)
    changed = sum(not torch.equal(part(IMAGE, generator_for(k)), IMAGE) for k in range(200))
    assert 35 < changed < 90
    assert part.context_px == 6


def test_one_of_applies_one_of_them_and_each_in_turn():
    """One that is never drawn is a damage that the network never sees."""
    blur, noise = GaussianBlur((2, 2), anisotropic=0), GaussianNoise((9, 9), rounded=0)
    part = OneOf((blur, noise))
    blurred = [bool((part(IMAGE, generator_for(k)).std() < IMAGE.std()).item()) for k in range(40)]
    assert 8 < sum(blurred) < 32
    assert part.context_px == 6


def test_shuffled_applies_all_in_any_order():
    """An order that is always the same is a chain with another name."""
    blur, sharpen = GaussianBlur((2, 2), anisotropic=0), UnsharpMask((2, 2), (1, 1))
    part = Shuffled((blur, sharpen))
    forth, back = (Chain(parts)(IMAGE, generator_for(0)) for parts in ((blur, sharpen), (sharpen, blur)))
    found = {
        min(
            (float((part(IMAGE, generator_for(k)) - each).abs().max()), name)
            for each, name in ((forth, "f"), (back, "b"))
        )[1]
        for k in range(12)
    }
    assert found == {"f", "b"}
    assert part.context_px == blur.context_px + sharpen.context_px


@pytest.mark.parametrize("scale", [2, 4])
def test_the_web_photo_chain_survives_its_json_and_gives_the_size(scale):
    """A recipe that cannot be read back from the run's configuration cannot be trained on again."""
    config = presets.RESTORER_PRESETS[f"photo-x{scale}"]("photos", "run")
    read = RestorerConfig.model_validate(json.loads(config.model_dump_json()))
    chain, again = (
        Chain(tuple(build_degradation(part.name, part.options) for part in each.degradations))
        for each in (config, read)
    )
    assert chain.scale == scale
    assert chain.planes == 0
    assert chain.context_px % scale == 0
    for seed in range(12):
        for channels in (1, 3):
            result = chain(IMAGE[:channels], generator_for(seed))
            assert result.shape == (channels, 32 // scale, 32 // scale)
            assert 0 <= result.min() <= result.max() <= 1
            assert torch.equal(result, again(IMAGE[:channels], generator_for(seed)))


def test_the_web_photo_chain_holds_clean_pictures_too():
    """A network that never saw a clean picture harms the good ones."""
    chain = Chain(tuple(build_degradation(part.name, part.options) for part in presets.web_photo(2)))
    scores = sorted(
        float((chain(IMAGE, generator_for(k)) - BicubicDown(2)(IMAGE, generator_for(0))).pow(2).mean())
        for k in range(60)
    )
    assert scores[0] < 0.1 * scores[30]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sometimes", {"part": {"name": "gaussian_blurr"}}, "did you mean 'gaussian_blur'"),
        ("sometimes", {"part": {"name": "gaussian_blur", "options": {"sigm": [1, 2]}}}, "did you mean 'sigma'"),
        ("sometimes", {"part": {"nam": "gaussian_blur"}}, "nam"),
        ("sometimes", {"part": "gaussian_blur"}, "gaussian_blur"),
        ("sometimes", {"part": {"name": "gaussian_blur"}, "probability": 1.5}, "1.5"),
        ("sometimes", {}, "'part'"),
        ("sometimes", {"part": {"name": "holes"}}, "Holes"),
        ("one_of", {"parts": [{"name": "holes"}, {"name": "jpeg"}]}, "planes"),
        ("one_of", {"parts": []}, "parts"),
        ("shuffled", {"parts": [{"name": "bicubic", "options": {"scale": 2}}]}, "scale 2"),
        ("chain", {"parts": [{"name": "holes"}, {"name": "jpeg"}]}, "last"),
        ("chain", {"parts": {"name": "jpeg"}}, "parts"),
    ],
)
def test_recipes_that_cannot_be_are_config_errors(name, options, message):
    """A misspelt name inside another part is found before training, and told."""
    with pytest.raises(ConfigError, match=message):
        build_degradation(name, options)
