"""`imagesmith demo`: its parts do not depend on each other, and each is told in a line."""

import importlib.util
import socket
from pathlib import Path

import pytest

from imagesmith.apps import demo, demo_enlarge, demo_film, demo_generate
from imagesmith.errors import OutputError
from imagesmith.zoo import save_model


def test_what_needs_scikit_image_is_told_and_the_rest_is_done(tmp_path, make_gan, monkeypatch, capsys) -> None:
    """The accident: ModuleNotFoundError: No module named 'skimage', and nothing shown at all."""
    model = make_gan(class_names=("cat", "dog"))
    save_model(tmp_path / "toy.safetensors", model.net, model.card)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo.run_demo(tmp_path / "out", device="cpu", generators=[tmp_path / "toy.safetensors"]) == 3
    lines, page = capsys.readouterr().err.splitlines(), (tmp_path / "out" / "report.html").read_text("utf-8")
    refused = [line for line in lines if line.startswith("not done: ")]
    assert len(refused) == 4
    assert all('pip install "imagesmith[demo]"' in line for line in refused)
    assert page.count("not done:") == 4
    assert "Making images: toy-dcgan-generator" in page


def test_without_a_generator_the_rest_is_done(tmp_path, monkeypatch, capsys) -> None:
    """The accident: an installation without generators shows no photographs either. And: the network is used."""
    monkeypatch.setattr(demo_enlarge, "SOURCES", demo_enlarge.SOURCES[1:2])
    monkeypatch.setattr(demo_film, "FRAMES", 3)
    monkeypatch.setattr(demo_generate, "CARDS", {})
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the demo used the network"))
    assert demo.run_demo(tmp_path, device="cpu", dtype="fp32", train=False) == 3
    told = capsys.readouterr().err
    assert "1 real photographs enlarged" in told
    assert "not done: expected a generator, but none is shipped" in told
    assert "Training" not in told


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    """The accident: a traceback where -o names a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another one"):
        demo.run_demo(tmp_path / "file" / "out")
