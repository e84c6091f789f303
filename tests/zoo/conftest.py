"""A small network with random weights stands for the shipped ones, so these tests hold before and after training."""

from pathlib import Path

import pytest
import torch

from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import Model, describe, save_model

SPEC = NetSpec("compact", {"scale": 2, "width": 4, "depth": 1})


@pytest.fixture
def model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = build_net(SPEC)
    card = describe(net, SPEC, "tiny-x2", description="café", protocol={"set5": {"psnr_y": 36.5}})
    return Model(net, card)


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
