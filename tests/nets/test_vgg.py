"""VGG as it was published: its numbering, its stages, and what stands before them."""

import pytest
import torch

from imagesmith.nets.vgg import DEVIATION, MEAN, Vgg


def test_layers_of_vgg_are_numbered_as_published():
    """The accident: one number is off, and a user's file is refused, or its layers are swapped."""
    assert {int(name) for name in Vgg(16).features} == {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28}
    assert {int(name) for name in Vgg(19).features} == {0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34}
    assert [stage.shape[1:] for stage in Vgg(16).stages(torch.rand(1, 3, 32, 32))] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)
    ]  # fmt: skip


def test_pictures_are_normalised_as_in_its_training():
    """The accident: a range or a mean is off, and every published comparison means something else here."""
    net = Vgg(16)
    seen: list[torch.Tensor] = []
    net.features["0"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    net.stages(mean.expand(1, 3, 16, 16))
    net.stages((mean + torch.tensor(DEVIATION).view(1, 3, 1, 1)).expand(1, 3, 16, 16))
    assert float(seen[0].abs().max()) == pytest.approx(0, abs=1e-6)
    assert torch.allclose(seen[1], torch.ones_like(seen[1]))
