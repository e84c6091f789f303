"""A toy network with random weights stands for the shipped ones, so these tests hold whatever the real networks are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imagesmith.nets import NETS, NetSpec
from imagesmith.zoo import Model, describe, save_model


class Toy(nn.Module):
    """`blocks` convolutions of `width` channels between a head and a tail, which are the least a network has."""

    multiple_of = 1

    def __init__(self, scale: int = 2, width: int = 4, blocks: int = 1, channels: int = 3) -> None:
        super().__init__()
        self.scale, self.channels, self.halo = scale, channels, blocks + 2
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.tail = nn.Conv2d(width, channels * scale**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        for conv in self.body:
            y = conv(y.relu())
        return nn.functional.pixel_shuffle(self.tail(y), self.scale)

    def fused(self) -> "Toy":
        return self


@pytest.fixture(autouse=True)
def toy_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETS, "toy", Toy)


@pytest.fixture
def model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = Toy()
    spec = NetSpec("toy", {"scale": 2, "width": 4, "blocks": 1})
    return Model(net, describe(net, spec, "tiny-x2", description="café", protocol={"set5": {"psnr_y": 36.5}}))


@pytest.fixture
def weight_file(model: Model, tmp_path: Path) -> Path:
    path = tmp_path / "tiny-x2.safetensors"
    save_model(path, model.net, model.card)
    return path


@pytest.fixture
def shipped(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which `weight_file` counts as shipped."""
    monkeypatch.setattr("imagesmith.zoo.cards.WEIGHTS", weight_file.parent)
    return "tiny-x2"
