"""`imagesmith models`: lists, cards and verification of what is shipped, here of a small untrained model."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch

from imagesmith.apps import models
from imagesmith.errors import ModelError, NothingUsableError
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import cards, describe, load_model, save_model, write_golden


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package's weights, with one model and its golden output."""
    monkeypatch.setattr(cards, "WEIGHTS", tmp_path)
    spec = NetSpec("compact", {"scale": 2, "width": 4})
    torch.manual_seed(0)
    net = build_net(spec).eval()
    card = describe(net, spec, "tiny", description="for tests", protocol={"set5": {"psnr_y": 31.234}})
    save_model(tmp_path / "tiny.safetensors", net, card)
    write_golden("tiny", torch.randint(0, 256, (12, 9, 3), dtype=torch.uint8))
    return tmp_path


def test_list_shows_every_model_with_its_scores(shipped: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: a list that shortens names to fit eighty columns where it is piped into grep."""
    models.print_list(as_json=False)
    out = capsys.readouterr().out
    for word in ("tiny", "compact", "x2", "for tests", "31.23"):
        assert word in out


def test_list_shows_other_kinds_by_their_own_scores(shipped: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: a table of restorers calls a classifier an enlarger by 1 and leaves its accuracy out."""
    spec = NetSpec("cnn", {"classes": 2, "width": 4, "features": 8})
    net = build_net(spec)
    card = describe(net, spec, "judge", task="classify", protocol={"cats": {"accuracy": 0.98765}})
    save_model(shipped / "judge.safetensors", net, card)
    models.print_list(as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("judge")]
    assert "cats accuracy 0.9877" in line
    assert "x1" not in line


def test_a_model_is_one_line_for_a_pipe_however_much_it_tells(
    shipped: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: `models list | grep jpeg` shows a line without its scores, which stand on the next one."""
    model = load_model("tiny")
    protocol = {f"set{k}": {"psnr_y": 30.0} for k in range(40)}
    card = dataclasses.replace(model.card, description="all it does, " * 40, protocol=protocol)
    save_model(shipped / "long.safetensors", model.net, card)
    models.print_list(as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].rstrip().endswith("set39 psnr_y 30")
    monkeypatch.setenv("COLUMNS", "60")
    models.print_card("long", as_json=False)
    assert any(
        line.startswith("description ") and "all it does, " * 40 in line
        for line in capsys.readouterr().out.splitlines()
    )


def test_a_card_gives_no_orders_to_the_terminal(shipped: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: a file from the web renames the window, clears the screen, or hides what else is said of it."""
    model = load_model("tiny")
    orders = "\x1b]0;owned\x07 \x9b2J\r\x7fdone"
    card = dataclasses.replace(model.card, description=orders, licence=orders, protocol={orders: {"psnr_y": 1.0}})
    save_model(shipped / "tiny.safetensors", model.net, card)
    models.print_list(as_json=False)
    models.print_card("tiny", as_json=False)
    out = capsys.readouterr().out
    assert r"\x1b]0;owned\x07 \x9b2J\x0d\x7fdone" in out
    assert not set(out) & set("\x1b\x07\x9b\r\x7f")


def test_a_card_says_which_model_was_named(shipped: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: every run of one preset is shown under the same name."""
    path = str(shipped / "tiny.safetensors")
    models.print_card(path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["name"]) == (path, "tiny")
    assert "path" not in told


def test_list_as_json_is_one_card_a_line(shipped: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: JSON that only a person can read."""
    models.print_list(as_json=True)
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["tiny"]


def test_one_damaged_file_hides_no_other(shipped: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: one half-fetched model, and the list of all others is an error message."""
    (shipped / "bad.safetensors").write_bytes(b"not weights")
    assert models.print_list(as_json=True) == 3
    said = capsys.readouterr()
    assert [json.loads(line)["name"] for line in said.out.splitlines()] == ["tiny"]
    assert said.err.startswith("bad: ")


def test_an_installation_without_models_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: `models verify` over nothing, and exit code 0."""
    monkeypatch.setattr(cards, "WEIGHTS", tmp_path)
    for ask in (lambda: models.verify([]), lambda: models.print_list(as_json=False)):
        with pytest.raises(NothingUsableError, match="found none"):
            ask()


@pytest.mark.parametrize("as_json", [False, True])
def test_show_tells_the_checksum_and_where_the_file_is(
    shipped: Path, capsys: pytest.CaptureFixture, as_json: bool
) -> None:
    """The accident: a card without the checksum says nothing about the file in your hand."""
    models.print_card("tiny", as_json=as_json)
    out = capsys.readouterr().out
    assert cards.read_header(shipped / "tiny.safetensors").sha256 in out
    assert "tiny.safetensors" in out
    assert "Apache-2.0" in out


def test_show_tells_what_a_checkpoint_of_the_dcgan_example_holds(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: netG_epoch_24.pth makes images, and whoever asks what it is hears 'expected safetensors'."""
    for name, options in (
        ("dcgan-generator", {"size": [32, 32], "channels": 1, "latent_size": 7, "width": 4}),
        ("dcgan-discriminator", {"size": [32, 32], "channels": 1, "width": 4}),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save(build_net(NetSpec(name, options)).state_dict(), path)
        models.print_card(str(path), as_json=True)
        told = json.loads(capsys.readouterr().out)
        assert (told["net"], told["size"], told["channels"], told["options"]["width"]) == (name, [32, 32], 1, 4)
        assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "other.pth").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match=r"other\.pth"):
        models.print_card(str(tmp_path / "other.pth"), as_json=False)


def test_verify_passes_what_is_whole_and_names_what_is_not(shipped: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: verification that stops at the first bad file, or that a flipped bit passes."""
    assert models.verify([]) == 0
    (shipped / "bad.safetensors").write_bytes(b"not weights")
    assert models.verify(["bad", "tiny"]) == 3
    said = capsys.readouterr()
    assert "bad" in said.err
    assert said.out.count("tiny: sha256 right") == 2
