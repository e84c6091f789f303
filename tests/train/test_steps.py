"""What each turn of a GAN's step asks of which network."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from imagesmith.losses.adversarial import OBJECTIVES
from imagesmith.tensors import generator_for
from imagesmith.train.steps import GanTerms, gan_step


class Generator(nn.Module):
    classes, latent_size = 0, 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3 * 6 * 6)

    def forward(self, latent: Tensor, label: Tensor | None) -> Tensor:
        return self.layer(latent).tanh().view(-1, 3, 6, 6)


class Discriminator(nn.Module):
    classes = 0

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 8), nn.Softplus(), nn.Linear(8, 1))

    def forward(self, image: Tensor, label: Tensor | None) -> Tensor:
        return self.body(image)[:, 0]


def gradients(terms: GanTerms) -> dict[str, dict[str, Tensor | None]]:
    """For each turn the gradient that its loss gives to each network, flattened, None where there is none."""
    torch.manual_seed(0)
    nets = {"generator": Generator(), "discriminator": Discriminator()}
    rng = generator_for(1)
    pixels = torch.randint(0, 256, (8, 3, 6, 6), generator=rng).to(torch.uint8)
    latent, share = torch.randn(8, 4, generator=rng), torch.rand(8, generator=rng)
    batch = (pixels, torch.zeros(8, dtype=torch.int64), latent, torch.zeros(8, 2, 1), share)
    found = {}
    for name, loss, _ in gan_step(nets, batch, terms):
        for net in nets.values():
            net.zero_grad(set_to_none=True)
        loss.backward()
        found[name] = {
            other: torch.cat([p.grad.flatten() for p in net.parameters()])
            if all(p.grad is not None for p in net.parameters())
            else None
            for other, net in nets.items()
        }
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("fresh", [False, True])
def test_each_turn_reaches_its_own_network_and_no_other(name, fresh):
    """The accident: the discriminator's turn also improves the fakes, or the generator's teaches its judge."""
    found = gradients(GanTerms(OBJECTIVES[name], r1=1.0, r2=1.0, fresh_fakes=fresh))
    assert list(found) == ["discriminator", "generator"]
    for turn, other in (("discriminator", "generator"), ("generator", "discriminator")):
        assert found[turn][turn] is not None
        assert found[turn][turn].abs().sum() > 0
        assert found[turn][other] is None


@pytest.mark.parametrize("term", ["r1", "r2", "wasserstein"])
def test_each_weighted_term_changes_the_discriminator_and_leaves_the_generator(term):
    """The accident: a penalty of detached images, or of weight zero by mistake: dead, and nothing in the log says so."""
    plain = GanTerms(OBJECTIVES["relativistic"])
    without, once, twice = (gradients(dataclasses.replace(plain, **{term: weight})) for weight in (0.0, 1.0, 2.0))
    change = once["discriminator"]["discriminator"] - without["discriminator"]["discriminator"]
    assert change.norm() > 1e-3 * without["discriminator"]["discriminator"].norm()
    assert torch.allclose(
        twice["discriminator"]["discriminator"], without["discriminator"]["discriminator"] + 2 * change, atol=1e-5
    )
    assert torch.equal(once["generator"]["generator"], without["generator"]["generator"])


def test_each_objective_pulls_both_networks_in_its_own_way():
    """The accident: the name of the objective is read and another one is trained."""
    found = {name: gradients(GanTerms(objective)) for name, objective in OBJECTIVES.items()}
    same = {("hinge", "wasserstein")}  # all logits here are within hinge's margin
    names = list(OBJECTIVES)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            for net in ("discriminator", "generator"):
                equal = torch.allclose(found[one][net][net], found[other][net][net], rtol=1e-3, atol=1e-6)
                assert equal == ((one, other) in same), (one, other, net)


def test_augmentation_stands_between_images_and_judge_in_both_turns():
    """The accident: only reals are augmented, so the discriminator learns to tell augmented images from fakes."""
    seen = []

    def darken(images: Tensor, draws: Tensor) -> Tensor:
        seen.append((images.shape, draws.shape))
        return images * 0.5

    plain, augmented = (gradients(GanTerms(OBJECTIVES["relativistic"], augment=how)) for how in (None, darken))
    assert len(seen) == 4, "reals and fakes, for both turns"
    for net in ("discriminator", "generator"):
        assert not torch.allclose(plain[net][net], augmented[net][net])
