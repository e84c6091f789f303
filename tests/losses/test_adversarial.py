"""Objectives pull the right way, penalties are what their papers say, and neither depends on how a batch is split."""

import math

import pytest
import torch

from imagesmith.losses.adversarial import OBJECTIVES, squared_gradient_norms, wasserstein_penalty


def logits(seed: int, count: int = 6) -> torch.Tensor:
    """In (0, 1), where the objectives with a target or a margin have not reached it."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_discriminator_and_generator_pull_fakes_in_opposite_directions(name):
    """The accident: one sign is turned, both networks want the same, and the loss curve looks splendid."""
    objective = OBJECTIVES[name]
    real, fake = logits(1), logits(2)
    real_pull, fake_pull = torch.autograd.grad(objective.discriminator(real, fake), (real, fake))
    assert (real_pull < 0).all(), "descent raises real logits"
    assert (fake_pull > 0).all(), "descent lowers fake logits"
    (fake_pull,) = torch.autograd.grad(objective.generator(real, fake), fake)
    assert (fake_pull < 0).all(), "descent raises fake logits"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_generator_looks_at_real_logits_only_where_it_says_so(name):
    """The accident: `pairs` is wrong, and the generator is trained against stale real logits or none."""
    real, fake = logits(1), logits(2)
    loss = OBJECTIVES[name].generator(real, fake)
    (pull,) = torch.autograd.grad(loss, real, allow_unused=True)
    assert (pull is not None) == OBJECTIVES[name].pairs


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_are_means_over_the_batch_and_finite_for_any_logit(name):
    """The accident: two processes train with twice the gradient of one, or a sure discriminator makes NaN."""
    for part in (OBJECTIVES[name].discriminator, OBJECTIVES[name].generator):
        real, fake = logits(3), logits(4)
        halves = (part(real[:3], fake[:3]) + part(real[3:], fake[3:])) / 2
        assert part(real, fake).item() == pytest.approx(halves.item(), rel=1e-12)
        for extreme in (1e4, -1e4):
            sure = torch.full((2,), extreme, requires_grad=True)
            loss = part(sure, -sure)
            loss.backward()
            assert loss.isfinite()
            assert sure.grad is not None
            assert sure.grad.isfinite().all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_map_of_logits_counts_as_its_mean(name):
    """The accident: a logit for each of 1024 patches makes the objective 1024 times as strong."""
    for part in (OBJECTIVES[name].discriminator, OBJECTIVES[name].generator):
        flat = [logits(seed, 24).detach() for seed in (5, 6)]
        maps = [values.view(2, 1, 3, 4) for values in flat]
        assert float(part(*maps)) == pytest.approx(float(part(*flat)), rel=1e-12)


def test_gamma_means_the_same_for_one_logit_and_for_a_map_of_separate_ones():
    """The accident: a penalty tuned on small patches is nothing, or everything, on larger ones."""
    weight = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    tiled = image.repeat(1, 1, 3, 2).requires_grad_()
    one = image.clone().requires_grad_()
    of_one = squared_gradient_norms((one * weight).sum(dim=(1, 2, 3)), one)
    of_map = squared_gradient_norms(torch.nn.functional.conv2d(tiled, weight, stride=4), tiled)
    assert torch.allclose(of_one, of_map, rtol=1e-12)


def test_a_guessing_discriminator_has_the_known_loss():
    """The accident: a factor slips in, and every published learning rate and gamma means something else here."""
    zero = torch.zeros(4)
    expected = {"non_saturating": 2 * math.log(2), "relativistic": math.log(2), "hinge": 2, "least_squares": 0.5}
    for name, value in expected.items():
        assert float(OBJECTIVES[name].discriminator(zero, zero)) == pytest.approx(value)


def test_squared_gradient_norm_is_the_squared_slope_summed_over_pixels():
    """The accident: a mean over pixels instead of a sum makes gamma depend on the size of the images."""
    weight = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    images = torch.randn(7, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    penalty = squared_gradient_norms((images * weight).sum((1, 2, 3)), images).mean()
    assert penalty.item() == pytest.approx(weight.square().sum().item())
    penalty.backward()
    assert torch.allclose(weight.grad, 2 * weight.detach())


def test_each_image_is_penalised_for_its_own_slope():
    """The accident: the slopes of a batch are added before they are squared, and opposite ones cancel."""
    images = torch.tensor([[1.0], [-2.0]], requires_grad=True)
    assert torch.allclose(squared_gradient_norms(images.square().sum(1), images), torch.tensor([4.0, 16.0]))


def test_wasserstein_penalty_wants_slope_one_between_the_sets():
    """The accident: the penalty is taken at the ends, or pulls towards zero, or is NaN for a constant discriminator."""
    real, fake = torch.randn(5, 1, 2, 2), torch.randn(5, 1, 2, 2)
    places: list[torch.Tensor] = []

    def slope(value: float, images: torch.Tensor) -> torch.Tensor:
        places.append(images)
        return images[:, 0, 0, 0] * value

    share = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    assert wasserstein_penalty(lambda x: slope(1.0, x), real, fake, share).item() == pytest.approx(0, abs=1e-6)
    assert wasserstein_penalty(lambda x: slope(3.0, x), real, fake, share).item() == pytest.approx(4, rel=1e-5)
    assert torch.allclose(places[0][0], fake[0])
    assert torch.allclose(places[0][4], real[4])
    flat = torch.zeros(4, requires_grad=True)
    wasserstein_penalty(lambda x: x.flatten(1) @ flat, real, fake, share).backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
