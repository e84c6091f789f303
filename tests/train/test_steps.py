"""What each turn of a GAN's step asks of which network."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from imagesmith.losses.adversarial import OBJECTIVES
from imagesmith.nets.rpgan import RpganDiscriminator, RpganGenerator
from imagesmith.tensors import generator_for
from imagesmith.train import steps
from imagesmith.train.steps import GanTerms, SharpTerms, gan_step, restore_gan_step


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
        logits = self.body(image)[:, 0]
        return logits if label is None else logits * (1 + label)


def gradients(terms: GanTerms) -> dict[str, dict[str, Tensor | None]]:
    """For each turn the gradient that its loss gives to each network, flattened, None where there is none."""
    torch.manual_seed(0)
    nets = {"generator": Generator(), "discriminator": Discriminator()}
    rng = generator_for(1)
    pixels = torch.randint(0, 256, (8, 3, 6, 6), generator=rng).to(torch.uint8)
    latent, share = torch.randn(8, 4, generator=rng), torch.rand(8, generator=rng)
    batch = (pixels, torch.arange(8), latent, torch.rand(8, 2, 1, 1, generator=rng), share)
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


@pytest.mark.parametrize(
    ("terms", "sizes"),
    [
        (["r1"], [2, 6, 8, 8]),
        (["r2"], [8, 2, 6, 8]),
        (["r1", "r2"], [4, 12, 8]),
        (["wasserstein"], [16, 2, 8]),
    ],
)
def test_each_penalty_takes_its_share_of_the_batch(terms, sizes, monkeypatch):
    """The accident: the Wasserstein penalty alone was computed on all of it, at four times the price of the others.

    Reals and fakes are judged in one pass where they are treated alike.
    """
    seen, forward = [], Discriminator.forward
    monkeypatch.setattr(
        Discriminator, "forward", lambda net, *given: seen.append(len(given[0])) or forward(net, *given)
    )
    plain = GanTerms(OBJECTIVES["wasserstein"], penalty_share=0.25)
    gradients(dataclasses.replace(plain, **dict.fromkeys(terms, 1.0)))
    assert seen == sizes


@pytest.mark.parametrize("weights", [{}, {"r1": 1.0, "r2": 0.5}])
def test_reals_and_fakes_in_one_pass_are_judged_as_one_after_the_other(weights, monkeypatch):
    """The accident: a fake is judged by the label or the augmentation of another image, or R1 weighed as R2."""
    monkeypatch.setattr(Generator, "classes", 8)
    terms = GanTerms(
        OBJECTIVES["relativistic"], penalty_share=0.25, augment=lambda x, draws: x * draws[..., None], **weights
    )
    together = gradients(terms)
    monkeypatch.setattr(steps, "mixes_batch", lambda net: True)
    apart = gradients(terms)
    for net in ("discriminator", "generator"):
        assert torch.allclose(together[net][net], apart[net][net], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("coarse_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("term", ["r1", "wasserstein"])
def test_penalties_in_low_precision_pull_as_in_float32(term, coarse_dtype):
    """The accident: on processors with AMX, second derivatives in bf16 were noise, and nothing held the discriminator."""
    terms = dataclasses.replace(GanTerms(OBJECTIVES["relativistic"], penalty_share=0.5), **{term: 100.0})
    pulls = []
    for is_coarse in (False, True):
        torch.manual_seed(0)
        nets = {
            "generator": RpganGenerator(32, widths=(16, 16)),
            "discriminator": RpganDiscriminator(32, widths=(16, 16)),
        }
        for conv in nets["discriminator"].modules():
            if isinstance(conv, nn.Conv2d):  # the last of each block begins at zero, and with it its slopes
                nn.init.kaiming_normal_(conv.weight)
        rng = generator_for(1)
        pixels = torch.randint(0, 256, (8, 3, 32, 32), generator=rng).to(torch.uint8)
        latent, share = torch.randn(8, 64, generator=rng), torch.rand(8, generator=rng)
        with torch.autocast("cpu", coarse_dtype, enabled=is_coarse):
            _, loss, _ = next(gan_step(nets, (pixels, torch.zeros(8), latent, torch.zeros(8, 2), share), terms))
        loss.backward()
        pulls.append([p.grad.flatten() for p in nets["discriminator"].parameters() if p.grad is not None])
    for exact, coarse in zip(*pulls, strict=True):
        assert torch.cosine_similarity(exact, coarse, dim=0) > 0.98


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
    assert [shape[0] for shape, _ in seen] == [16, 8], "pairs for the discriminator, fakes for the generator"
    for net in ("discriminator", "generator"):
        assert not torch.allclose(plain[net][net], augmented[net][net])


class Restorer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return image + 0.1 * self.layer(image)


class PatchJudge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.Softplus(), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)


class Features(nn.Module):
    heads = None

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, padding=1)

    def stages(self, image: Tensor) -> list[Tensor]:
        return [self.layer(image).relu()]


def sharp_gradients(losses: dict[str, float], terms: SharpTerms) -> dict[str, dict[str, Tensor | None]]:
    """For each turn the gradient that its loss gives to each network, flattened, None where there is none."""
    torch.manual_seed(0)
    nets = {"restorer": Restorer(), "discriminator": PatchJudge()}
    target = torch.rand(4, 3, 12, 12, generator=generator_for(1))
    degraded = (target + 0.2 * torch.randn(target.shape, generator=generator_for(2))).clamp(0, 1)
    found = {}
    for name, loss, _ in restore_gan_step(nets, (degraded, target), losses, terms):
        for net in nets.values():
            net.zero_grad(set_to_none=True)
        loss.backward()
        found[name] = {
            other: torch.cat([p.grad.flatten() for p in net.parameters()])
            if all(p.grad is not None for p in net.parameters())
            else None
            for other, net in nets.items()
        }
    assert all(parameter.requires_grad for net in nets.values() for parameter in net.parameters())
    assert target.grad is None
    return found


def features() -> Features:
    torch.manual_seed(5)
    return Features().requires_grad_(False)


SHARP = SharpTerms(OBJECTIVES["relativistic"], weight=0.1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_turn_of_an_adversarial_restorer_reaches_its_own_network_and_no_other(name):
    terms = dataclasses.replace(
        SHARP, objective=OBJECTIVES[name], r1=1.0, r2=1.0, penalty_share=0.5, perceptual=1.0, features=features()
    )
    found = sharp_gradients({"l1": 1.0}, terms)
    assert list(found) == ["restorer", "discriminator"]
    for turn, other in (("discriminator", "restorer"), ("restorer", "discriminator")):
        assert found[turn][turn] is not None
        assert found[turn][turn].abs().sum() > 0
        assert found[turn][other] is None


@pytest.mark.parametrize(
    ("term", "net"),
    [("weight", "restorer"), ("perceptual", "restorer"), ("r1", "discriminator"), ("r2", "discriminator")],
)
def test_each_weighted_term_of_an_adversarial_restorer_changes_one_network_in_proportion(term, net):
    """The accident: a term of detached images, or of weight zero by mistake: dead, and nothing in the log says so."""
    plain = dataclasses.replace(SHARP, features=features())
    without, once, twice = (
        sharp_gradients({"l1": 1.0}, dataclasses.replace(plain, **{term: weight})) for weight in (0.0, 1.0, 2.0)
    )
    change = once[net][net] - without[net][net]
    assert change.norm() > 1e-3 * without[net][net].norm()
    assert torch.allclose(twice[net][net], without[net][net] + 2 * change, atol=1e-5)
    other = {"restorer": "discriminator", "discriminator": "restorer"}[net]
    assert torch.equal(once[other][other], without[other][other])


def test_pixel_losses_pull_the_restorer_of_an_adversarial_step_as_they_do_alone():
    """The accident: the weights in `losses` are read by one step and forgotten by the other."""
    silent = dataclasses.replace(SHARP, weight=0.0)
    l1, both = (
        sharp_gradients(losses, silent)["restorer"]["restorer"] for losses in ({"l1": 1.0}, {"l1": 2.0, "l2": 0.5})
    )
    l2 = sharp_gradients({"l2": 1.0}, silent)["restorer"]["restorer"]
    assert torch.allclose(both, 2 * l1 + 0.5 * l2, atol=1e-6)


def test_the_perceptual_share_takes_part_of_the_batch():
    whole, part = (
        sharp_gradients(
            {"l1": 1.0}, dataclasses.replace(SHARP, perceptual=1.0, perceptual_share=share, features=features())
        )
        for share in (1.0, 0.25)
    )
    assert not torch.allclose(whole["restorer"]["restorer"], part["restorer"]["restorer"])
    assert torch.equal(whole["discriminator"]["discriminator"], part["discriminator"]["discriminator"])
