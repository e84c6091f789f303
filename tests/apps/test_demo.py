"""`imagesmith demo`: real photographs in, pictures, numbers and a report out, without a network."""

import importlib.metadata
import importlib.util
import socket
from pathlib import Path

import pytest
import skimage
import torch
from PIL import Image

from imagesmith.apps import demo
from imagesmith.errors import UsageError
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import describe, save_model


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Untrained networks for 4 and 2."""
    torch.manual_seed(0)
    paths = []
    for scale in demo.SCALES:
        spec = NetSpec("compact", {"scale": scale, "width": 8})
        net = build_net(spec).eval()
        paths.append(tmp_path / f"x{scale}.safetensors")
        save_model(paths[-1], net, describe(net, spec, f"untrained-x{scale}"))
    return paths


def test_pictures_numbers_and_report_agree(tmp_path, models, monkeypatch, capsys) -> None:
    """The accident: a gain in the table, another in the report, a third in the pictures that lie beside it."""
    monkeypatch.setattr(demo, "SOURCES", demo.SOURCES[1:2])
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the demo used the network"))
    gains = demo.run_demo(tmp_path / "out", device="cpu", dtype="fp32", models=models)
    table = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert list(gains) == [4, 2]
    for scale, gain in gains.items():
        with Image.open(tmp_path / "out" / f"chelsea.x{scale}.imagesmith.png") as image:
            assert image.size == (448, 300)
        with Image.open(tmp_path / "out" / f"chelsea.x{scale}.input.png") as image:
            assert image.size == (448 // scale, 300 // scale)
        assert f"{gain:+.2f}" in table
        assert f"{gain:+.2f}".replace("-", "−") in page
        assert f"untrained-x{scale}" in page
    assert "probe" in page, "how it was computed is not said"


def test_bicubic_scores_what_an_independent_computation_gives(tmp_path, models, monkeypatch) -> None:
    """The accident: a baseline made weak by another kernel, so that the gain is flattering."""
    monkeypatch.setattr(demo, "SOURCES", demo.SOURCES[:1])
    reported = {}
    monkeypatch.setattr(demo, "write_report", lambda path, photos, facts: reported.update(photos=photos))
    demo.run_demo(tmp_path / "out", device="cpu", dtype="fp32", models=models[:1])
    with Image.open(tmp_path / "out" / "astronaut.x4.input.png") as image:
        pillow = image.resize((512, 512), Image.Resampling.BICUBIC)  # the same Keys kernel, by other code
    pictures = [torch.frombuffer(bytearray(x.tobytes()), dtype=torch.uint8).double().view(512, 512, 3) for x in (
        pillow, Image.open(tmp_path / "out" / "astronaut.original.png"))]  # fmt: skip
    luma = [(x @ torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) / 255 + 16)[4:-4, 4:-4] for x in pictures]
    psnr = 10 * torch.log10(255**2 / (luma[0] - luma[1]).square().mean())
    (each,) = reported["photos"][0].enlargements
    assert each.psnr_y_bicubic == pytest.approx(psnr.item(), abs=0.05)


def test_every_photograph_lies_inside_the_package() -> None:
    """The accident: a picture that scikit-image would fetch, and a demo that fails in the train."""
    files = {str(file) for file in importlib.metadata.files("scikit-image") or ()}
    assert {f"skimage/data/{source.file}" for source in demo.SOURCES} <= files
    assert demo._photographs() == Path(skimage.__file__).parent / "data"


def test_a_missing_extra_is_told_with_what_to_type(tmp_path, monkeypatch) -> None:
    """The accident: ModuleNotFoundError: No module named 'skimage'."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "imagesmith\[demo\]"'):
        demo.run_demo(tmp_path)
