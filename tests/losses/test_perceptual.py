"""The perceptual loss: a distance, blind to nothing it is meant to see, teaching the restorer and nobody else."""

import pytest
import torch
from torch import Tensor

from imagesmith.losses.perceptual import perceptual
from imagesmith.nets.classifier import Cnn
from imagesmith.nets.squeezenet import SqueezeNet
from imagesmith.nets.vgg import Vgg


def features(name: str):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = {"cnn": lambda: Cnn(4, width=8, features=12), "squeezenet": SqueezeNet,
               "vgg": lambda: Vgg(16, weighted=True)}[name]()  # fmt: skip
    return net.eval().requires_grad_(False)


def picture(seed: int, size: int = 32) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["cnn", "squeezenet", "vgg"])
def test_it_is_a_distance_whose_gradient_reaches_the_restored_image_only(name: str):
    """The accident: the target's features carry gradients as well, and a step takes twice the memory for nothing."""
    net, target = features(name), picture(1).requires_grad_()
    restored = (target.detach() + 0.1 * picture(2)).requires_grad_()
    loss = perceptual(net, restored, target)
    loss.backward()
    assert 0 < loss < 2 * (1 if net.heads is None else 1.001)
    assert target.grad is None
    assert restored.grad is not None
    assert restored.grad.isfinite().all()
    assert restored.grad.abs().max() > 0
    assert float(perceptual(net, target.detach(), target)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
def test_flat_pictures_give_finite_gradients(fill: float):
    """The accident: the length of features that are all zero has an infinite slope, and one black patch is NaN."""
    for name in ("cnn", "squeezenet"):
        restored = torch.full((1, 3, 32, 32), fill, requires_grad=True)
        perceptual(features(name), restored, torch.full((1, 3, 32, 32), fill)).backward()
        assert restored.grad is not None
        assert restored.grad.isfinite().all()


def test_learnt_heads_weigh_the_features():
    """The accident: LPIPS' heads are loaded and never used, and a plain VGG distance is called LPIPS."""
    net = features("vgg")
    plain = float(perceptual(net, picture(1), picture(2)))
    net.heads[0].mul_(0)
    assert 0 < float(perceptual(net, picture(1), picture(2))) < plain
    for head in net.heads:
        head.zero_()
    assert float(perceptual(net, picture(1), picture(2))) == 0


def test_it_is_independent_of_the_batch_split():
    net, a, b = features("cnn"), picture(1), picture(2)
    halves = (perceptual(net, a[:1], b[:1]) + perceptual(net, a[1:], b[1:])) / 2
    assert float(perceptual(net, a, b)) == pytest.approx(float(halves), rel=1e-5)


def test_bf16_arithmetic_keeps_small_differences():
    """The accident: unit vectors compared in bf16 are equal up to 1/256, and fine texture has no loss."""
    net, target = features("cnn"), picture(1)
    restored = target + 0.02 * (picture(2) - 0.5)
    exact = float(perceptual(net, restored, target))
    with torch.autocast("cpu", torch.bfloat16):
        rough = perceptual(net, restored, target)
    assert rough.dtype == torch.float32
    assert 0.5 < float(rough) / exact < 2
