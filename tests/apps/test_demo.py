"""`imagesmith demo`: its parts do not depend on each other, and each is told in a line."""

import importlib.util
import socket
from pathlib import Path

import pytest

from imagesmith.apps import demo, demo_enlarge, demo_film, demo_generate
from imagesmith.apps.report import Chapter
from imagesmith.errors import OutputError, UsageError
from imagesmith.runtime import device
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
    monkeypatch.setitem(device._PROBE_MACS, "cpu", 1e7)
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


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, demo.Part]:
    """Stand-ins for the parts that need no generator, by name; a test replaces what it wants to go otherwise."""

    def shown(title: str) -> demo.Part:
        return lambda _, **__: Chapter(title=title, summary="done")

    parts = {"enlarge_photographs": shown("Photographs"), "enlarge_film": shown("A film")}
    for name in parts:
        monkeypatch.setattr(demo, name, lambda out, *, _name=name, **options: parts[_name](out, **options))
    monkeypatch.setattr(demo, "vary_photograph", shown("Variations"))
    return parts


def _demo(out: Path) -> int:
    return demo.run_demo(out, train=False, generators=())


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", ["report.html", "faces/000.png"])
def test_a_folder_with_files_of_others_is_left_alone(name: str, tmp_path: Path) -> None:
    """The accident: a report of the user's own replaced by the demo's, his pictures by faces that are then learnt."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="new folder or one of an earlier demo"):
        _demo(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(("at", "done"), [("enlarge_photographs", False), ("enlarge_film", True)])
def test_a_cancelled_demo_shows_what_was_done_and_can_be_repeated(
    at: str, done: bool, stand_ins: dict[str, demo.Part], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accident: Ctrl-C in the last part and no page at all, then a demo that takes its own folder for another's."""

    def cancelled(*_: object, **__: object) -> Chapter:
        (tmp_path / "half.png").touch()
        raise KeyboardInterrupt

    whole, stand_ins[at] = stand_ins[at], cancelled
    with pytest.raises(KeyboardInterrupt):
        _demo(tmp_path)
    page = tmp_path / "report.html"
    assert (f"cancelled; {page} shows what was done" in capsys.readouterr().err) == done
    assert ("Photographs" in page.read_text("utf-8")) == done
    assert "A film" not in page.read_text("utf-8")
    stand_ins[at] = whole
    assert _demo(tmp_path) == 0
    assert "A film" in page.read_text("utf-8")
