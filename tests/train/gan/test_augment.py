"""Augmentation shows the discriminator other images without standing between it and the generator."""

import json
import math
from dataclasses import asdict

import pytest
import torch

from imagesmith.tensors import generator_for
from imagesmith.train.gan.augment import DRAWS, AdaptiveStrength, Augment, draw_augmentations

OFF = {"flip": False, "shift": 0, "zoom": 0, "turn": 0, "brightness": 0, "contrast": 0, "saturation": 0, "cutout": 0}


def pictures(count: int = 6, channels: int = 3, height: int = 12, width: int = 20) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=generator_for(1)) * 2 - 1


def only(**options: float) -> Augment:
    return Augment(**OFF | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (32, 32)])
@pytest.mark.parametrize("padding", ["reflection", "zeros"])
def test_any_image_comes_back_in_its_own_shape(channels, size, padding):
    """The accident: gray, alpha or a single column of pixels stops a run on the first augmented batch."""
    images = pictures(3, channels, *size)
    augmented = Augment(padding=padding)(images, 1.0, generator_for(2))
    assert augmented.shape == images.shape
    assert augmented.dtype == images.dtype
    assert augmented.isfinite().all()


def test_nothing_happens_at_strength_zero():
    """The accident: a run without augmentation pays for it, or sees resampled images."""
    images = pictures()
    assert Augment()(images, 0.0, generator_for(2)) is images
    assert torch.equal(Augment().apply(images, 0.0, torch.rand(6, *DRAWS)), images)
    assert torch.equal(only()(images, 1.0, generator_for(2)), images)


def test_the_same_chance_gives_the_same_transforms_whatever_the_images_and_the_batch():
    """The accident: two processes train another network than one, or a resumed run than one that was not stopped."""
    images, augment = pictures(), Augment()
    whole = augment(images, 0.7, generator_for(3))
    assert torch.equal(whole, augment(images, 0.7, generator_for(3)))
    assert not torch.equal(whole, augment(images, 0.7, generator_for(4)))
    draws = draw_augmentations(6, generator_for(3))
    parts = [augment.apply(images[part], 0.7, draws[part]) for part in (slice(0, 2), slice(2, 6))]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)


def test_each_transform_acts_on_the_share_of_images_that_is_asked_for():
    """The accident: one coin for the whole batch, or for all transforms together: batches are all or nothing."""
    images = pictures(4000, 3, 4, 4)
    for option in ({"shift": 0.5}, {"brightness": 0.4}, {"contrast": 1.0}, {"saturation": 1.0}, {"turn": 30.0}):
        changed = (only(**option)(images, 0.3, generator_for(5)) - images).abs().flatten(1).amax(1) > 1e-4
        expected = 0.3 * (0.75 if "shift" in option else 1)  # a shift of up to 2 pixels is rounded to none now and then
        assert changed.float().mean() == pytest.approx(expected, abs=0.06), option
    flipped = (only(flip=True)(images, 0.6, generator_for(5)) - images).abs().flatten(1).amax(1) > 1e-4
    assert flipped.float().mean() == pytest.approx(0.3, abs=0.03), "half of those on which it acts"


def test_flips_and_shifts_move_whole_pixels():
    """The accident: every augmented image is a little blurred, and the generator learns to blur."""
    images = pictures(16, 3, 8, 12)
    flipped = only(flip=True)(images, 1.0, generator_for(6))
    mirrored = [torch.allclose(flipped[k], images[k].flip(-1), atol=1e-5) for k in range(16)]
    kept = [torch.allclose(flipped[k], images[k], atol=1e-5) for k in range(16)]
    assert sum(mirrored) + sum(kept) == 16
    assert 0 < sum(mirrored) < 16
    shifted = only(shift=0.25)(images, 1.0, generator_for(6))
    for before, after in zip(images, shifted, strict=True):
        known = before.flatten(1).T
        assert all((known - pixel).abs().sum(1).min() < 1e-4 for pixel in after.flatten(1).T)


def test_turning_keeps_right_angles_in_oblong_images():
    """The accident: turning in coordinates from -1 to 1 shears every image that is not square."""
    images = torch.zeros(1, 1, 41, 81)
    images[..., 20, 20:61] = images[..., :, 40] = 1  # a cross with arms of 20 pixels
    draws = torch.zeros(1, *DRAWS)
    draws[0, 3, 1] = 1.0  # turn by the largest amount
    draws[0, [0, 1, 2], 0] = 1.0
    turned = only(turn=90.0).apply(images, 1.0, draws)
    assert torch.allclose(turned[..., 0:41, 40], torch.ones(41), atol=1e-3), "the long arm stands upright"
    assert torch.allclose(turned[..., 20, 21:60], torch.ones(39), atol=1e-3)


def test_alpha_moves_with_the_image_and_keeps_its_values():
    """The accident: a box or brightness makes what is opaque transparent, and colours part from their outline."""
    alpha = torch.ones(8, 1, 16, 16)
    for colours in (1, 3):
        painted = Augment()(torch.cat([pictures(8, colours, 16, 16), alpha], dim=1), 1.0, generator_for(7))
        assert torch.allclose(painted[:, -1:], alpha, atol=1e-5)
        assert not torch.allclose(painted[:, :1], pictures(8, colours, 16, 16)[:, :1], atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_penalties_reach_the_discriminator_through_augmentation(dtype):
    """The accident: R1 is taken behind a transform without a second derivative, and the step stops or does nothing."""
    images = pictures(4, 3, 8, 8).to(dtype).requires_grad_()
    weight = torch.randn(3 * 8 * 8, generator=generator_for(8)).to(dtype).requires_grad_()
    logits = (Augment()(images, 1.0, generator_for(9)).flatten(1) @ weight).square()
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert weight.grad.abs().sum() > 0


def test_pictures_move_as_exactly_under_autocast():
    """The accident: bf16 places are off by up to an eighth of a pixel, and gradients of two formats meet."""
    images = pictures(4, 3, 32, 32).requires_grad_()
    draws = draw_augmentations(4, generator_for(11))
    alone = Augment().apply(images, 1.0, draws)
    with torch.autocast("cpu", torch.bfloat16):
        among = Augment().apply(images, 1.0, draws)
        (gradient,) = torch.autograd.grad(among.square().sum(), images, create_graph=True)
        gradient.square().sum().backward()
    assert torch.equal(among, alone)
    assert images.grad is not None


def test_first_and_second_derivatives_are_right():
    """The accident: a transform whose backward pass is not that of its forward pass misleads the generator."""
    images = pictures(2, 4, 5, 4).double().requires_grad_()
    draws = draw_augmentations(2, generator_for(10))

    def augment(x: torch.Tensor) -> torch.Tensor:
        return Augment().apply(x, 1.0, draws).sin()

    assert torch.autograd.gradcheck(augment, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(augment, images, fast_mode=True)


def test_strength_rises_while_the_discriminator_overfits_and_falls_afterwards():
    """The accident: the sign is turned round, and augmentation leaves exactly when it is needed."""
    strength = AdaptiveStrength(speed_images=1000, every=2)
    for _ in range(20):
        assert strength.observe(0.9, 10) is None
    assert strength.strength == pytest.approx(0.2)
    for _ in range(10):
        strength.observe(0.1, 10)
    assert strength.strength == pytest.approx(0.1)
    for _ in range(100):
        strength.observe(0.1, 10)
    assert strength.strength == 0


def test_strength_stays_below_its_limit_and_says_so_once():
    """The accident: augmentation climbs to a probability of 34 or of 1, leaks into the images, and nobody is told."""
    strength = AdaptiveStrength(speed_images=100)
    said = [words for _ in range(200) if (words := strength.observe(1.0, 10))]
    assert strength.strength == strength.limit == 0.8
    assert len(said) == 1
    assert "limit of 0.80" in said[0]


def test_strength_goes_on_from_its_fields():
    """The accident: a resumed run starts again without augmentation, or in the middle of an average it has lost."""
    one = AdaptiveStrength(speed_images=300)
    for k in range(33):
        one.observe(math.sin(k), 7)
    other = AdaptiveStrength(**json.loads(json.dumps(asdict(one))))
    for k in range(33):
        one.observe(math.cos(k), 7)
        other.observe(math.cos(k), 7)
    assert one == other
