"""Feature networks by name or file: what is given is what is looked through, and anything else is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from imagesmith.errors import ModelError
from imagesmith.nets import NETS, NetSpec, build_net
from imagesmith.nets.squeezenet import SqueezeNet
from imagesmith.nets.vgg import Vgg
from imagesmith.zoo import describe, save_model
from imagesmith.zoo.features import load_features

PICTURE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def same(net, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(net.stages(PICTURE), other.stages(PICTURE), strict=True))


def test_a_classifier_of_ones_own(tmp_path: Path):
    net, spec = (
        NETS["cnn"](4, width=8, features=12).eval(),
        NetSpec("cnn", {"classes": 4, "width": 8, "features": 12}),
    )
    save_model(tmp_path / "own.safetensors", net, describe(net, spec, "own", task="classify"))
    loaded = load_features(tmp_path / "own.safetensors")
    assert same(loaded, net)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("suffix", [".npz", ".pth", ".safetensors", ".PTH", ".SAFETENSORS"])
def test_squeezenet_in_any_kind_of_file(tmp_path: Path, suffix: str):
    net, path = SqueezeNet().eval(), tmp_path / f"squeezenet{suffix}"
    tensors = net.state_dict() | {"conv_final.bias": torch.zeros(1000)}
    if suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in tensors.items()})
    elif suffix.lower() == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    assert same(load_features(path), net)


@pytest.mark.parametrize("layers", [16, 19])
def test_vgg_as_torchvision_names_it(tmp_path: Path, layers: int):
    """The accident: VGG-19 read as VGG-16 has the right shapes up to the third stage, and wrong features after it."""
    net = Vgg(layers)
    torch.save(net.state_dict() | {"classifier.0.bias": torch.zeros(4096)}, tmp_path / "vgg.pth")
    assert same(load_features(tmp_path / "vgg.pth"), net)


def test_lpips_as_its_authors_name_it(tmp_path: Path):
    net = Vgg(16, weighted=True)
    slices = {0: 1, 2: 1, 5: 2, 7: 2, 10: 3, 12: 3, 14: 3, 17: 4, 19: 4, 21: 4, 24: 5, 26: 5, 28: 5}
    published = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for name, value in net.state_dict().items():
        kind, number, *rest = name.split(".")
        if kind == "features":
            published[f"net.slice{slices[int(number)]}.{number}.{rest[0]}"] = value
        else:
            published[f"lin{number}.model.1.weight"] = torch.full((1, len(value), 1, 1), 0.25 * (int(number) + 1))
    torch.save(published, tmp_path / "lpips.pth")
    loaded = load_features(tmp_path / "lpips.pth")
    assert same(loaded, net)
    assert [float(head.unique()) for head in loaded.heads] == [0.25, 0.5, 0.75, 1.0, 1.25]


def test_what_is_none_of_them_is_refused_with_the_reason(tmp_path: Path):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"VGG-16, VGG-19, LPIPS .*got tensors such as 'layer.weight'"):
        load_features(tmp_path / "other.pth")
    torch.save(Vgg(16).state_dict() | {"features.5.weight": torch.zeros(3)}, tmp_path / "wrong.pth")
    with pytest.raises(ModelError, match=r"'features.5.weight' is \(3,\), not \(128, 64, 3, 3\)"):
        load_features(tmp_path / "wrong.pth")
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "text.safetensors").write_text("no tensors")
    np.savez(tmp_path / "pickle.npz", odd=np.array([{}], dtype=object))
    for name in ("text.npz", "text.safetensors", "pickle.npz"):
        with pytest.raises(ModelError, match="cannot"):
            load_features(tmp_path / name)
    with pytest.raises(ModelError, match="no model or file is called"):
        load_features("vgg.pth")
    restorer = build_net(NetSpec("compact", {"width": 8, "blocks": 1}))
    save_model(
        tmp_path / "sr.safetensors", restorer, describe(restorer, NetSpec("compact", {"width": 8, "blocks": 1}), "sr")
    )
    with pytest.raises(ModelError, match=r"expected a classifier of colour pictures .* got '.*sr\.safetensors'"):
        load_features(tmp_path / "sr.safetensors")


def test_squeezenet_sees_as_its_authors_trained_it(shared_data: Path):
    """The accident: colours in the wrong order or range, which nothing but the activations tells."""
    net = load_features(shared_data / "weights" / "squeezenet1_0.npz")
    photo = torch.from_numpy(data.coffee()[100:324, 200:424].copy()).permute(2, 0, 1)[None] / 255
    seen, swapped = (net.stages(x)[1] for x in (photo, photo.flip(1)))
    wrong_range = net.stages(photo / 255)[1]
    assert 0.02 < float((seen > 0).float().mean()) < 0.5, "sparse, as rectified features are"
    assert float((seen - swapped).norm() / seen.norm()) > 0.1
    assert float((seen - wrong_range).norm() / seen.norm()) > 0.5
