import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.data.files import Frame, ImageMeta
from imagesmith.errors import ImageError, UsageError
from imagesmith.infer.edit import Projection, _psnr_rgb, _Target, project, variations
from imagesmith.infer.generate import Generator, generate
from imagesmith.infer.latents import Seeds, around
from imagesmith.zoo import Model

STEPS = 40
CLASSES = ("rose", "tulip", "daisy")


@pytest.fixture(scope="module")
def flowers(make_gan: Callable[..., Model]) -> Generator:
    return Generator(make_gan("rpgan-generator", class_names=CLASSES, latent_size=8), device="cpu")


@pytest.fixture(scope="module")
def cat(flowers: Generator) -> Projection:
    return project(flowers, Image.fromarray(data.chelsea()), steps=STEPS, tuning_steps=STEPS)


def test_an_image_of_the_generator_is_found_again(flowers: Generator) -> None:
    """The accident: a search whose gradient never reaches the latent still returns the best of its first guesses."""
    (own,) = generate(flowers, [12345], label="tulip")
    picture = Frame(own.image, "uint8", ImageMeta("png", "RGB"))
    guess, found = (project(flowers, picture, label="tulip", steps=steps, tuning_steps=0) for steps in (0, 100))
    assert guess.label == found.label == own.label
    assert found.psnr_rgb > guess.psnr_rgb + 6
    assert found.psnr_rgb == found.psnr_rgb_found > 25
    assert found.notes == ()


def test_tuning_brings_the_photograph_nearer(flowers: Generator, cat: Projection) -> None:
    """The accident: tuning the weights that everybody uses, or none at all."""
    assert cat.psnr_rgb > cat.psnr_rgb_found + 1
    assert cat.target.shape == cat.found.shape == cat.reconstruction.shape == (*flowers.size, 3)
    assert torch.equal(flowers.images(cat.latent[None], [cat.label])[0], cat.found)
    assert torch.equal(cat.generator.images(cat.latent[None], [cat.label])[0], cat.reconstruction)
    assert not any(parameter.requires_grad for parameter in cat.generator.net.parameters())


@pytest.mark.parametrize("steps", [1, 2])
def test_tuning_makes_nothing_worse(flowers: Generator, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The accident: the first steps lead away from noise, which is like nothing it makes, and the last one was kept."""
    monkeypatch.setattr("imagesmith.infer.edit._TUNING_RATE", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    found = project(flowers, noise, steps=1, tuning_steps=steps)
    assert torch.equal(found.reconstruction, found.found)


def test_tuning_holds_what_lies_around(flowers: Generator, cat: Projection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a tuned generator that shows the photograph wherever one looks, so that variations vary nothing."""
    monkeypatch.setattr("imagesmith.infer.edit._LOCALITY", 0.0)
    free = project(flowers, Image.fromarray(data.chelsea()), steps=STEPS, tuning_steps=STEPS)
    assert torch.equal(free.latent, cat.latent)
    near = around(cat.latent, range(100, 116), 0.4)
    before, held, moved = (
        each.images(near, [cat.label] * 16).float() for each in (flowers, cat.generator, free.generator)
    )
    assert (held - before).square().mean() < 0.9 * (moved - before).square().mean()


def test_the_same_seed_finds_the_same(flowers: Generator) -> None:
    """The accident: a reconstruction that cannot be made again."""
    photo = data.astronaut()[:200, 100:300]
    first, again = (project(flowers, photo, steps=5, tuning_steps=5, seed=3) for _ in range(2))
    assert torch.equal(first.latent, again.latent)
    assert torch.equal(first.reconstruction, again.reconstruction)


def test_what_became_of_the_photograph_is_said(flowers: Generator, tmp_path: Path) -> None:
    """The accident: a portrait cut to a strip without a word."""
    Image.fromarray(np.dstack([data.chelsea(), data.chelsea()[..., 0]])).save(tmp_path / "cat.png")
    found = project(flowers, tmp_path / "cat.png", steps=0, tuning_steps=0)
    assert found.notes == (
        "cropped around the centre and resized from 451x300 to 24x16, the generator's size",
        "turned from RGBA into RGB, as the generator makes",
    )
    with pytest.raises(ImageError, match=r"none\.png"):
        project(flowers, tmp_path / "none.png", steps=0)


def test_an_extractor_pulls_the_latent(flowers: Generator) -> None:
    """The accident: a term that is added with a weight and without a gradient."""

    def colour(images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) - 0.5

    plain, coloured = (
        project(flowers, data.coffee(), steps=3, tuning_steps=0, restarts=1, label=0, features=features)
        for features in (None, colour)
    )
    assert not torch.equal(plain.latent, coloured.latent)


def test_progress_ends_at_one(flowers: Generator) -> None:
    """The accident: a bar that stands at a half for ever."""
    told: list[float] = []
    project(flowers, data.coffee(), steps=2, tuning_steps=3, on_progress=told.append)
    assert told == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_variations_go_from_the_photograph_to_anything(cat: Projection) -> None:
    """The accident: a strength that does nothing, or variations that depend on how many are asked for."""
    assert all(torch.equal(sample.image, cat.reconstruction) for sample in variations(cat, [1, 2], strength=0.0))

    def distance(strength: float) -> float:
        images = torch.stack([sample.image for sample in variations(cat, range(8), strength=strength)])
        return float((images.float() - cat.reconstruction.float()).square().mean())

    assert 0 < distance(0.1) < distance(0.3) < distance(0.7)
    many = {sample.seed: sample.image for sample in variations(cat, range(20))}
    (alone,) = variations(cat, [17])
    assert torch.equal(alone.image, many[17])
    assert alone.label == cat.label
    assert next(variations(cat, Seeds.parse("0-999999999"))).seed == 0
    assert type(next(variations(cat, torch.arange(3))).seed) is int  # of a tensor of seeds none was found again


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), True])
def test_a_strength_outside_is_refused_at_once(cat: Projection, strength: float) -> None:
    """The accident: strength 30 meant as per cent."""
    with pytest.raises(UsageError, match="expected a strength from 0"):
        variations(cat, [0], strength=strength)


def test_what_cannot_be_projected_is_refused(flowers: Generator) -> None:
    """The accident: minutes of work that end in an index error."""
    with pytest.raises(UsageError, match="whole number of restarts of at least 1, got 0"):
        project(flowers, data.coffee(), restarts=0)
    wrong: Any
    for wrong in (1.5, "3", True):
        with pytest.raises(UsageError, match=f"whole number of steps of at least 0, got {wrong!r}"):
            project(flowers, data.coffee(), steps=wrong)
    with pytest.raises(UsageError, match=r"got 'rosa' \(did you mean 'rose'"):
        project(flowers, data.coffee(), label="rosa")
    with pytest.raises(UsageError, match="one photograph, got 2"):
        project(flowers, torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_gray_and_alpha_can_be_projected(make_gan: Callable[..., Model], channels: int) -> None:
    """The accident: a generator of digits for which no photograph has the right number of channels."""
    generator = Generator(make_gan(channels=channels), device="cpu")
    found = project(generator, data.coffee(), steps=2, tuning_steps=2, restarts=2)
    assert found.reconstruction.shape == (16, 24, channels)
    assert found.label is None


@pytest.mark.parametrize("colours", [1, 3])
def test_what_alpha_hides_is_no_difference_and_alpha_is(colours: int) -> None:
    """The accident: the search went after the colours that a cut-out object hides, where it is transparent."""
    photo = torch.randint(0, 256, (16, 24, colours + 1), dtype=torch.uint8)
    photo[:, :12, -1], photo[:, 12:, -1] = 0, 255
    hidden, white = photo.clone(), photo.clone()
    hidden[:, :12, :-1] = 7
    white[:, :12, :-1], white[:, :12, -1] = 255, 255  # looks the same on white, and is opaque

    def made(image: torch.Tensor) -> torch.Tensor:
        return image.permute(2, 0, 1)[None].float() / 127.5 - 1

    seen: list[torch.Tensor] = []

    def features(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images.mean(dim=(2, 3))

    target = _Target(photo, torch.device("cpu"), features)
    assert target.distance(made(hidden)).item() == pytest.approx(0, abs=1e-9)
    assert target.distance(made(white)).item() > 0.1
    assert torch.allclose(seen[0], seen[1], atol=1e-6)
    assert _psnr_rgb(hidden, photo) == _psnr_rgb(white, photo) == math.inf
