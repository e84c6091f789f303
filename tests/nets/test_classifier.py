"""The classifier as evaluator: its features, its sizes, its behaviour as a network that is trained and shipped."""

import pytest
import torch

from imagesmith.nets import CLASSIFIERS, NetSpec, build_net
from imagesmith.nets.classifier import Cnn


@pytest.fixture
def net() -> Cnn:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Cnn(classes=7, channels=3, size=(32, 32), width=8, features=24).eval()


def pictures(count: int = 5, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def test_logits_are_a_linear_function_of_the_features(net: Cnn):
    """Frechet distances on features that the classification does not use measure noise."""
    with torch.inference_mode():
        features = net.features(pictures())
        assert features.shape == (5, 24)
        assert features.min() >= 0
        assert torch.equal(net.head(features), net(pictures()))


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (32, 32)), (4, (8, 40)), (2, (9, 15))])
def test_any_channels_and_any_size_from_eight_pixels_on(channels: int, size: tuple[int, int]):
    """A fully connected layer behind flattened maps fits one size only, and pooling eats small images up."""
    net = build_net(NetSpec("cnn", {"classes": 3, "channels": channels, "size": list(size), "width": 4, "features": 6}))
    assert (net.classes, net.channels, net.size) == (3, channels, size)
    assert net(pictures(2, channels, *size)).shape == (2, 3)


def test_in_evaluation_an_image_does_not_depend_on_its_batch(net: Cnn):
    """A classifier left in training mode normalises by whatever else is in the batch."""
    x = pictures()
    with torch.inference_mode():
        alone = torch.cat([net(image[None]) for image in x])
        assert torch.allclose(net(x), alone, atol=1e-5)


def test_every_parameter_gets_a_gradient(net: Cnn):
    net.train()(pictures()).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_input_is_left_alone(net: Cnn):
    x = pictures()
    with torch.inference_mode():
        net(x)
    assert torch.equal(x, pictures())


def test_the_default_fits_into_the_three_megabytes_of_a_shipped_extractor():
    """Weights are shipped as float32: 750,000 parameters are the most."""
    net = build_net(NetSpec("cnn", {"classes": 10}))
    assert sum(value.numel() for value in net.state_dict().values()) <= 750_000
    assert 128 <= net.head.in_features <= 256


def test_every_classifier_declares_what_evaluators_need():
    for name in CLASSIFIERS:
        net = build_net(NetSpec(name, {"classes": 10}))
        assert (net.classes, net.channels, net.size) == (10, 3, (32, 32)), name


def test_the_last_stage_is_what_the_features_are_a_mean_of():
    """The accident: a block is added, and a perceptual loss looks through half of a convolution."""
    net = Cnn(5, width=8, features=12).eval()
    image = torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(1))
    stages = net.stages(image)
    assert [stage.shape[1:] for stage in stages] == [(16, 16, 12), (32, 8, 6), (12, 4, 3)]
    assert torch.allclose(stages[-1].mean(dim=(2, 3)), net.features(image))
    assert all(stage.min() >= 0 for stage in stages)
