"""A small network with random weights that change the picture visibly: these tests hold whatever the shipped ones are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.infer.restore import Restorer
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime.device import Runtime
from imagesmith.zoo import Model, describe, save_model


def toy_model(channels: int = 3, scale: int = 2) -> Model:
    spec = NetSpec("compact", {"scale": scale, "width": 8, "blocks": 1, "channels": channels})
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = build_net(spec).eval()
        net.tail.bias.data.normal_(0, 0.02)
    return Model(net, describe(net, spec, "toy"))


FLOAT32 = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="")


@pytest.fixture
def make_restorer() -> Callable[..., Restorer]:
    """A Restorer of the toy model for given channels and scale, in float32 unless told otherwise."""

    def make(channels: int = 3, scale: int = 2, runtime: Runtime = FLOAT32, **options: object) -> Restorer:
        return Restorer(toy_model(channels, scale), runtime, **options)

    return make


@pytest.fixture
def restorer(make_restorer: Callable[..., Restorer]) -> Restorer:
    return make_restorer()


def toy_unet(task: str, planes: int = 0, channels: int = 3) -> Model:
    """A small U-Net away from its initial values, so that it changes every pixel."""
    options = {"widths": (8, 12), "blocks": (1, 1), "channels": channels, "planes": planes}
    spec = NetSpec("unet", options)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        net = build_net(spec).eval()
        net.tail.weight.data.mul_(4)
        net.tail.bias.data.normal_(0, 0.05)
    return Model(net, describe(net, spec, f"toy-{task}", task=task))


@pytest.fixture
def make_unet() -> Callable[..., Restorer]:
    """A Restorer of the toy U-Net for a task, in float32 unless told otherwise."""

    def make(task: str, planes: int = 0, channels: int = 3, runtime: Runtime = FLOAT32, **options: object) -> Restorer:
        return Restorer(toy_unet(task, planes, channels), runtime, **options)

    return make


@pytest.fixture
def make_deblurrer() -> Callable[..., Restorer]:
    """A Restorer of a small network that keeps what deconvolution makes and adds a little of its own."""
    spec = NetSpec("deconvolved-unet", {"widths": (8,), "blocks": (1,)})
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = build_net(spec).eval()
    runtime = replace(FLOAT32, channels_last=False)
    return lambda **options: Restorer(Model(net, describe(net, spec, "toy", task="deblur")), runtime, **options)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    model = toy_model()
    save_model(tmp_path / "toy.safetensors", model.net, model.card)
    return tmp_path / "toy.safetensors"


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, uint8 (61, 83, 3)."""
    return np.ascontiguousarray(data.astronaut()[40:101, 150:233])


@pytest.fixture
def photos(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder of five pictures, one of them in a subfolder and one broken."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(photo).save(folder / "a.png")
    Image.fromarray(photo[:, ::-1]).save(folder / "b.jpg", quality=95)
    Image.fromarray(photo[..., 0]).save(folder / "c.png")
    Image.fromarray(photo[::-1]).save(folder / "deep" / "d.png")
    (folder / "e.png").write_bytes(b"\x89PNG\r\n\x1a\nnot much of a picture")
    return folder
