"""Reading checkpoints of PyTorch's DCGAN example: what they are is told by shapes, and what they are not is said."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imagesmith.errors import ModelError
from imagesmith.nets.dcgan import DcganDiscriminator, DcganGenerator
from imagesmith.zoo import load_dcgan, load_model, save_model
from imagesmith.zoo.pytorch_files import read_state_dict

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def fixed_chance():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


def saved(tensors: Any, folder: Path, name: str = "netG_epoch_24.pth") -> Path:
    torch.save(tensors, folder / name)
    return folder / name


def example_generator(latent: int, width: int, channels: int) -> nn.Sequential:
    """The generator for 64 pixels as a user of the example has it, built without our class."""
    layers: list[nn.Module] = []
    wide, narrow, stride, padding = latent, 8 * width, 1, 0
    for _ in range(4):
        layers += [nn.ConvTranspose2d(wide, narrow, 4, stride, padding, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
        wide, narrow, stride, padding = narrow, narrow // 2, 2, 1
    return nn.Sequential(*layers, nn.ConvTranspose2d(wide, channels, 4, 2, 1, bias=False), nn.Tanh())


def as_example(net: nn.Module, prefix: str = "main.") -> Tensors:
    return {f"{prefix}{name}": value for name, value in net.state_dict().items()}


def test_a_generator_makes_the_images_that_its_owner_knows(tmp_path: Path):
    net = example_generator(latent=20, width=4, channels=1)
    net(torch.randn(8, 20, 1, 1))  # moves the running statistics
    model = load_dcgan(saved(as_example(net), tmp_path))
    z = torch.randn(3, 20)
    with torch.inference_mode():
        expected = net.eval()(z[:, :, None, None])
        assert torch.allclose(model.net(z), expected, atol=1e-5)
    assert (model.card.net, model.card.task, model.card.name) == ("dcgan-generator", "generate", "netG_epoch_24")
    assert (model.card.size, model.card.channels, model.card.latent_size, model.card.classes) == ((64, 64), 1, 20, 0)
    assert model.card.licence == "unknown", "other people's weights are not ours to license"
    assert not model.net.training


@pytest.mark.parametrize(
    "net",
    [
        DcganGenerator(64, width=4, latent_size=7),
        DcganGenerator((48, 32), 4, width=3),
        DcganGenerator(32, width=4, last_kernel=1),
        DcganGenerator(32, width=4, base=2),
        DcganGenerator(28, 1, width=2),
        DcganGenerator(128, width=1),
        DcganDiscriminator(64, 1, width=5),
        DcganDiscriminator((32, 48), width=3),
        DcganDiscriminator(32, width=4, base=2),
    ],
    ids=lambda net: f"{type(net).__name__}-{net.size[0]}x{net.size[1]}-{net.base[0]}",
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_size_channels_and_width_come_from_the_shapes(net: Any, prefix: str, tmp_path: Path):
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    loaded: Any = load_dcgan(saved(state, tmp_path)).net
    assert type(loaded) is type(net)
    assert (loaded.size, loaded.channels, loaded.base) == (net.size, net.channels, net.base)
    x = torch.randn(2, net.latent_size) if isinstance(net, DcganGenerator) else torch.rand(2, net.channels, *net.size)
    with torch.inference_mode():
        assert torch.equal(loaded(x), net.eval()(x))


def test_a_discriminator_says_what_it_is(tmp_path: Path):
    card = load_dcgan(saved(DcganDiscriminator(width=2).state_dict(), tmp_path, "netD_epoch_3.pth")).card
    assert (card.net, card.task, card.name) == ("dcgan-discriminator", "discriminate", "netD_epoch_3")


@pytest.mark.parametrize("change", ["counters missing", "counters too many", "half", "legacy file", "ordered"])
def test_what_old_versions_and_habits_leave_in_files(change: str, tmp_path: Path):
    """Files from before batch norms counted, from half-precision runs, from the format before zip archives."""
    net = DcganGenerator(width=2).eval()
    state: Any = net.state_dict()
    if change == "counters missing":
        state = {name: value for name, value in state.items() if "num_batches" not in name}
    elif change == "counters too many":
        state = state | {"main.0.num_batches_tracked": torch.tensor(3)}
    elif change == "half":
        state = {name: value.half() for name, value in state.items()}
    elif change == "ordered":
        state = OrderedDict(reversed(list(state.items())))
    path = tmp_path / "netG.pth"
    torch.save(state, path, _use_new_zipfile_serialization=change != "legacy file")
    loaded = load_dcgan(path).net
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    z = torch.randn(2, 100)
    with torch.inference_mode():
        assert torch.allclose(loaded(z), net(z), atol=2e-2 if change == "half" else 1e-6)


@pytest.mark.parametrize(
    "names",
    [
        ("netG",),
        ("generator", "discriminator"),
        ("state_dict",),
        ("model",),
        ("netD", "netG"),
        ("D_state_dict", "G_state_dict"),
        ("generator_state_dict", "discriminator_state_dict"),
    ],
)
def test_a_checkpoint_of_a_whole_run_holds_a_generator(names: tuple[str, ...], tmp_path: Path):
    """The accident: `netG` beside its optimiser, as most descendants of the example save it, was called no state dict."""
    generator, discriminator = DcganGenerator(width=2), DcganDiscriminator(width=2)
    held = {name: discriminator if name.startswith(("netD", "D_", "discr")) else generator for name in names}
    content = {"epoch": 3} | {name: net.state_dict() for name, net in held.items()}
    assert load_dcgan(saved(content, tmp_path)).card.task == "generate"


def test_a_checkpoint_of_a_discriminator_alone_is_one(tmp_path: Path):
    content = {"netD": DcganDiscriminator(width=2).state_dict(), "epoch": 3}
    assert load_dcgan(saved(content, tmp_path)).card.task == "discriminate"


def test_a_checkpoint_that_keeps_its_networks_elsewhere_says_what_it_holds(tmp_path: Path):
    """The accident: "got int under 'epoch'", and nothing tells under which name the network is looked for."""
    content = {"epoch": 3, "G_state": DcganGenerator(width=2).state_dict(), "optimizer": {}}
    with pytest.raises(ModelError, match="which holds 'epoch', 'G_state', 'optimizer'\n"):
        load_dcgan(saved(content, tmp_path))


def test_it_is_a_model_like_others(tmp_path: Path):
    """What is loaded can be trained on, saved in our own format and loaded again."""
    model = load_dcgan(saved(DcganGenerator(width=2).state_dict(), tmp_path))
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.net.parameters())
    save_model(tmp_path / "own.safetensors", model.net, model.card)
    again = load_model(tmp_path / "own.safetensors")
    assert again.card.to_json() == model.card.to_json()
    z = torch.randn(2, 100)
    with torch.inference_mode():
        assert torch.equal(again.net(z), model.net(z))


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path):
    """A sheet of samples must not change because a model was loaded before it was drawn."""
    path = saved(DcganGenerator(width=2).state_dict(), tmp_path)
    before = torch.random.get_rng_state()
    load_dcgan(path)
    assert torch.equal(torch.random.get_rng_state(), before)


class _Code:
    def __reduce__(self):
        return os.system, ("touch was-run",)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A .pth file is a pickle, which may call anything when it is loaded."""
    monkeypatch.chdir(tmp_path)
    path = saved({"main.0.weight": torch.zeros(1), "extra": _Code()}, tmp_path)
    with pytest.raises(ModelError, match=r"calls \w+\.system when it is loaded, which is refused.*\n.*state_dict"):
        load_dcgan(path)
    assert not (tmp_path / "was-run").exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"calls torch\.nn\.modules.* is loaded"):
        load_dcgan(saved(nn.Sequential(nn.Conv2d(1, 1, 1)), tmp_path))


@pytest.mark.parametrize("kept", [0, 1, 100, 4000, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short_is_refused(kept: int, zipped: bool, tmp_path: Path):
    path = tmp_path / "netG.pth"
    torch.save(DcganGenerator(width=2).state_dict(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"netG\.pth") as caught:
        load_dcgan(path)
    assert str(caught.value).count("\n") <= 2


@pytest.mark.parametrize(
    "content", [b"hello", b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04" + bytes(99), b"\x80\x02."]
)
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "picture.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"picture\.pth"):
        load_dcgan(tmp_path / "picture.pth")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path):
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(ModelError, match="cannot read the weights"):
            load_dcgan(path)


@pytest.mark.parametrize("content", [{}, [torch.zeros(1)], torch.zeros(1), {"epoch": 3}, {3: torch.zeros(1)}])
def test_a_checkpoint_that_is_no_state_dict_is_refused(content: Any, tmp_path: Path):
    with pytest.raises(ModelError, match="expected a PyTorch state dict"):
        read_state_dict(saved(content, tmp_path))


@pytest.mark.parametrize(
    "value", [torch.zeros(1).expand(10**12), torch.zeros(2).to_sparse(), torch.zeros(2, dtype=torch.complex64)]
)
def test_tensors_of_unusual_kinds_are_refused(value: Tensor, tmp_path: Path):
    """A view of one number may claim terabytes, which would be taken when it is copied."""
    with pytest.raises(ModelError, match=r"unusual kind, 'main\.0\.weight'"):
        read_state_dict(saved({"main.0.weight": value}, tmp_path))


def _changed(**changes: Any) -> Tensors:
    state = dict(DcganGenerator(width=2).state_dict())
    for name, value in changes.items():
        key = name.replace("_", ".", 2)
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (as_example(nn.Linear(3, 3)), "0 kernels"),
        (as_example(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3))), "8 channels"),
        (_changed(main_4_weight=None), "'main.4.weight' is missing"),
        (_changed(main_9_weight=None), "got other tensors"),
        (_changed(main_9_weight=torch.zeros(4, 2, 3, 3)), r"\(4, 2, 3, 3\), expected \(4, 2, 4, 4\)"),
        (_changed(main_0_weight=torch.zeros(100, 0, 4, 4)), "got other tensors"),
        (_changed(main_12_weight=torch.zeros(2, 3, 5, 5)), "last_kernel"),
        (_changed(main_99_weight=torch.zeros(3)), "'main.99.weight'"),
        (DcganGenerator(width=2, classes=3).state_dict(), "embedding"),
        (_changed(main_12_weight=torch.zeros(2, 5, 4, 4)), "5 channels, not of 1 to 4"),
    ],
)
def test_other_networks_are_told_apart(tensors: Tensors, message: str, tmp_path: Path):
    """A network that happens to have a layer called main would load half, and make noise."""
    with pytest.raises(ModelError, match=message) as caught:
        load_dcgan(saved(tensors, tmp_path))
    assert "DCGAN example" in str(caught.value)
    assert str(caught.value).count("\n") <= 2


def test_loading_draws_no_first_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Drawing them for a network without memory imports torch's compiler: a second for a tiny file."""
    path = saved(DcganGenerator(width=2).state_dict(), tmp_path)
    monkeypatch.setattr(nn.init, "normal_", None)
    assert load_dcgan(path).net.main[0].weight.any()


def test_shapes_that_promise_terabytes_are_refused_by_their_shapes(tmp_path: Path):
    """A few kernels in a small file describe networks that no memory holds."""
    tensors = {f"main.{3 * place}.weight": torch.zeros(1, 1, 1, 1) for place in range(12)}
    tensors |= {"main.0.weight": torch.zeros(4000, 3, 1, 1), "main.33.weight": torch.zeros(1, 1, 1, 1)}
    with pytest.raises(ModelError, match="DCGAN example"):
        load_dcgan(saved(tensors, tmp_path))
