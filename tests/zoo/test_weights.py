"""Saving, loading and verifying weight files."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from skimage import data

from imagesmith.errors import IntegrityError, ModelError, OutputError
from imagesmith.nets import RESTORERS, VIDEO_RESTORERS, NetSpec, build_net
from imagesmith.zoo import Model, describe, load_model, save_model, verify_model, write_golden
from imagesmith.zoo.cards import CARDS


def crop() -> torch.Tensor:
    return torch.from_numpy(data.astronaut()[96:120, 200:224].copy())


def test_a_model_comes_back_bit_for_bit(weight_file: Path, model: Model):
    loaded = load_model(weight_file)
    assert loaded.card == model.card
    assert not loaded.net.training
    for name, value in model.net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], value), name


def test_other_tools_can_read_the_tensors(weight_file: Path, model: Model):
    assert load_file(weight_file).keys() == model.net.state_dict().keys()


def test_the_same_model_gives_the_same_file_in_every_process(tmp_path: Path):
    """Metadata in hash order made every export differ, so no sha256 could be quoted."""
    net = build_net(NetSpec("compact"))
    save_model(tmp_path / "once.safetensors", net, describe(net, NetSpec("compact"), "once"))
    code = (
        "import sys; from imagesmith.zoo import load_model, save_model; m = load_model(sys.argv[1]); "
        "save_model(sys.argv[2], m.net, m.card)"
    )
    paths = [tmp_path / "once.safetensors", tmp_path / "again.safetensors"]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_loading_leaves_the_random_numbers_alone(weight_file: Path):
    """Building the network draws initial weights; a training run that loads a teacher must not change its course."""
    before = torch.random.get_rng_state()
    load_model(weight_file)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_saving_keeps_float32_of_a_bf16_net(weight_file: Path, model: Model):
    save_model(weight_file, model.net.bfloat16(), model.card)
    assert {value.dtype for value in load_file(weight_file).values()} == {torch.float32}


def test_what_is_kept_as_float16_is_float32_once_loaded(weight_file: Path, model: Model):
    save_model(weight_file, model.net, model.card, torch.float16)
    assert {value.dtype for value in load_file(weight_file).values()} == {torch.float16}
    for name, value in load_model(weight_file).net.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, model.net.state_dict()[name].half().float()), name


def test_the_card_must_be_of_this_network(model: Model, tmp_path: Path):
    card = dataclasses.replace(model.card, options={"scale": 2, "width": 8, "blocks": 1})
    with pytest.raises(AssertionError, match="not this one"):
        save_model(tmp_path / "a.safetensors", model.net, card)


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    weight_file: Path, model: Model, monkeypatch: pytest.MonkeyPatch
):
    """A full disk in the middle of an export destroyed the only good weights."""
    before = weight_file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        save_model(weight_file, model.net, model.card)
    assert weight_file.read_bytes() == before
    assert list(weight_file.parent.iterdir()) == [weight_file]


def test_shipped_name_file_and_run_folder_are_the_same_model(shipped: str, weight_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes(weight_file.read_bytes())
    cards = [load_model(source).card for source in (shipped, weight_file, str(weight_file), run, str(run))]
    assert all(card == cards[0] for card in cards)


def test_a_model_is_called_as_its_user_calls_it(shipped: str, weight_file: Path, tmp_path: Path):
    """A run of one's own was called by its preset, as the shipped model is; no file may tell where it lay."""
    assert load_model(shipped).card.title == shipped
    model = load_model(weight_file)
    assert (model.card.title, model.card.name) == (str(weight_file), "tiny-x2")
    save_model(tmp_path / "again.safetensors", model.net, model.card)
    assert (tmp_path / "again.safetensors").read_bytes() == weight_file.read_bytes()


def test_an_unknown_name_gets_the_nearest_and_the_list(shipped: str):
    with pytest.raises(ModelError, match=r"did you mean 'tiny-x2'\?") as caught:
        load_model("tiny-x3")
    assert "expected one of tiny-x2" in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_no_file_can_have_is_unknown(name: str):
    """The operating system refuses even the question."""
    with pytest.raises(ModelError, match="no model or file"):
        load_model(name)


def test_a_folder_without_weights_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"folder with model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net": "tpy"}, "did you mean 'toy'"),
        ({"options": {"widht": 4}}, "widht"),
        ({"options": {"scale": 2, "width": 5, "blocks": 1}}, r"expected tensor 'body\.0\.bias' \(5,\), got \(4,\)"),
        ({"options": {"scale": 2, "width": 4, "blocks": 2}}, r"'body\.1\.bias' \(4,\), got none"),
        ({"options": {"scale": 2, "width": 4, "blocks": 0}}, r"'body\.0\.bias' to be absent"),
    ],
)
def test_tensors_of_another_network_are_a_model_error(
    change: dict, words: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """torch's own message for this lists every tensor, a screenful that hides the cause."""
    with monkeypatch.context() as patch:
        patch.setattr("imagesmith.zoo.weights.build_net", lambda spec: model.net)
        save_model(tmp_path / "a.safetensors", model.net, dataclasses.replace(model.card, **change))
    with pytest.raises(ModelError, match=words) as caught:
        load_model(tmp_path / "a.safetensors")
    assert not isinstance(caught.value, IntegrityError)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        ("compact", {"width": 1_000_000}),
        ("compact", {"width": 10**12}),
        ("compact", {"width": -1}),
        ("compact", {"blocks": 10**9}),
        ("rpgan-generator", {"widths": []}),
        ("rpgan-discriminator", {"size": 100_000}),
    ],
)
def test_a_card_may_ask_for_no_more_than_its_file_holds(
    net: str, options: dict, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The accident: a kilobyte whose card asks for 36 terabytes, or for a billion layers, takes the machine with it."""
    with monkeypatch.context() as patch:
        patch.setattr("imagesmith.zoo.weights.build_net", lambda spec: model.net)
        save_model(tmp_path / "a.safetensors", model.net, dataclasses.replace(model.card, net=net, options=options))
    with pytest.raises(ModelError, match="needs a network that this imagesmith lacks"):
        load_model(tmp_path / "a.safetensors")


def test_verifying_reproduces_the_golden_output(shipped: str):
    golden = write_golden(shipped, crop())
    assert list(CARDS) == [shipped], "a golden file is not a model"
    assert load_file(golden)["output"].shape == (3, 48, 48)
    assert verify_model(shipped) <= 1e-6


def test_verifying_notices_wrong_arithmetic_and_other_weights(
    shipped: str, weight_file: Path, model: Model, monkeypatch: pytest.MonkeyPatch
):
    """A sha256 says that the file is whole, not that this machine computes with it what ours computed."""
    with pytest.raises(ModelError, match="cannot read the golden output"):
        verify_model(shipped)
    write_golden(shipped, crop())

    with monkeypatch.context() as patch:
        patch.setattr(type(model.net), "fused", lambda net: torch.nn.Upsample(scale_factor=2))
        with pytest.raises(IntegrityError, match="does not reproduce its golden output"):
            verify_model(shipped)

    with torch.no_grad():
        model.net.tail.bias += 1e-3
    save_model(weight_file, model.net, model.card)
    with pytest.raises(IntegrityError, match="other weights"):
        verify_model(shipped)


def shipped_net(monkeypatch: pytest.MonkeyPatch, folder: Path, spec: NetSpec, **facts: Any) -> Path:
    """An untrained network of `spec` that counts as shipped under the name 'small'; in evaluation mode, as loaded."""
    monkeypatch.setattr("imagesmith.zoo.cards.WEIGHTS", folder)
    net = build_net(spec)
    path = folder / "small.safetensors"
    save_model(path, net, describe(net, spec, "small", **facts))
    return path


@pytest.mark.parametrize("classes", [0, 3])
def test_a_generator_keeps_its_card_and_verifies_by_latent_and_label(
    classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A golden file made for images only would leave shipped generators unverified."""
    spec = NetSpec("dcgan-generator", {"classes": classes, "latent_size": 8, "width": 4, "size": [32, 32]})
    names = tuple(f"class {label}" for label in range(classes))
    shipped_net(monkeypatch, tmp_path, spec, task="generate", class_names=names)
    card = CARDS["small"]
    assert (card.classes, card.class_names, card.size, card.latent_size) == (classes, names, (32, 32), 8)
    assert (card.scale, card.halo) == (1, 0)
    latent = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    golden = write_golden("small", latent, torch.tensor([0, 2]) if classes else None)
    assert load_file(golden)["output"].shape == (2, 3, 32, 32)
    assert verify_model("small") <= 1e-6


def test_a_classifier_keeps_its_card_and_verifies_by_its_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Batch norm in training mode would give logits that depend on what else is in the batch."""
    spec = NetSpec("cnn", {"classes": 10, "channels": 1, "size": [28, 28], "width": 8, "features": 16})
    shipped_net(monkeypatch, tmp_path, spec, task="classify", class_names=tuple("0123456789"))
    card = CARDS["small"]
    assert (card.classes, card.class_names, card.size) == (10, tuple("0123456789"), (28, 28))
    assert card.latent_size is None
    golden = write_golden("small", torch.arange(28 * 28, dtype=torch.uint8).view(28, 28, 1))
    assert load_file(golden)["output"].shape == (10,)
    assert verify_model("small") <= 1e-6


def test_a_restorer_says_nothing_about_classes(weight_file: Path):
    """Fields that older versions do not know make them refuse a file that they could run."""
    fields = json.loads(load_model(weight_file).card.to_json())
    assert fields.keys().isdisjoint({"classes", "class_names", "size", "latent_size"})


@pytest.mark.parametrize("name", sorted(CARDS))
def test_every_shipped_model_verifies(name: str):
    assert verify_model(name) <= 1e-4
    net, card = load_model(name).net, CARDS[name]
    own = ("scale", "halo") if card.net in RESTORERS | VIDEO_RESTORERS else ("classes", "size")
    for trait in ("channels", *own):
        assert getattr(card, trait) == getattr(net, trait), trait
    assert card.params == sum(parameter.numel() for parameter in net.parameters())
    assert card.protocol
    assert all(value > 0 for scores in card.protocol.values() for value in scores.values())
    assert card.licence
    assert card.train_data


def test_a_folder_without_weights_is_told_what_to_do(tmp_path: Path):
    with pytest.raises(ModelError, match=r"without one\nname another folder or a weight file; a run has its weights"):
        load_model(tmp_path)
