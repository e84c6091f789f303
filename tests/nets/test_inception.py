"""The 2015 Inception network against an independent implementation with the same random weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imagesmith.nets.inception import Inception2015, resize_tf1
from imagesmith.tensors import generator_for


@pytest.fixture(scope="module")
def net() -> Inception2015:
    """Random weights whose features differ from image to image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Inception2015().eval()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    return made


def images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator_for(1))


@torch.inference_mode()
def test_torch_fidelity_gives_the_same_features(net: Inception2015, torch_fidelity, tmp_path: Path):
    """One average pooling that counts its padding moves every FID by whole points, and nothing else shows it."""
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    peer = torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    given = images(2, 3, 40, 56)
    expected, logits = peer(given)
    assert expected.std(dim=0).mean() > 0.01
    torch.testing.assert_close(net.features(given), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net(given), logits, rtol=1e-5, atol=1e-5)


def test_parameters_have_the_names_and_sizes_of_the_published_file(net: Inception2015):
    """23,834,568 numbers has Inception v3 with 1000 classes; this one has 8 classes more."""
    assert sum(parameter.numel() for parameter in net.parameters()) == 23_834_568 + 8 * (2048 + 1)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["Conv2d_1a_3x3.bn.running_var"] == (32,)
    assert shapes["fc.weight"] == (1008, 2048)


def test_the_resize_reads_at_the_upper_left_corner():
    """Half-pixel centres or an antialiasing filter are the usual reasons why two FIDs of one model differ."""
    x = torch.tensor([0.0, 3.0, 6.0]).expand(1, 1, 2, 3)
    wide = resize_tf1(x, 6)
    torch.testing.assert_close(wide[0, 0, 0], torch.tensor([0.0, 1.5, 3.0, 4.5, 6.0, 6.0]))
    checkers = torch.arange(8.0).remainder(2).expand(1, 1, 8, 8)
    assert torch.equal(resize_tf1(checkers, 4), torch.zeros(1, 1, 4, 4))


def test_floats_are_refused(net: Inception2015):
    """Images in [0, 1] would be read as black."""
    with pytest.raises(AssertionError, match="uint8"):
        net.features(torch.rand(1, 3, 32, 32))
