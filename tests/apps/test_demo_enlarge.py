"""The demo's photographs: pictures, numbers and page agree, without a network."""

import importlib.metadata
import socket
from pathlib import Path

import pytest
import torch
from PIL import Image

from imagesmith.apps import demo_enlarge
from imagesmith.apps.report import write_report
from imagesmith.apps.report_photos import mean_gains
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import describe, save_model


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Untrained networks for 4 and 2."""
    torch.manual_seed(0)
    paths = []
    for scale in demo_enlarge.SCALES:
        spec = NetSpec("compact", {"scale": scale, "width": 8})
        net = build_net(spec).eval()
        paths.append(tmp_path / f"x{scale}.safetensors")
        save_model(paths[-1], net, describe(net, spec, f"untrained-x{scale}"))
    return paths


def test_pictures_numbers_and_report_agree(tmp_path, models, monkeypatch, capsys) -> None:
    """The accident: a gain in the table, another in the report, a third in the pictures that lie beside it."""
    monkeypatch.setattr(demo_enlarge, "SOURCES", demo_enlarge.SOURCES[1:2])
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the demo used the network"))
    (tmp_path / "out").mkdir()
    chapter = demo_enlarge.enlarge_photographs(tmp_path / "out", device="cpu", dtype="fp32", models=models)
    table = capsys.readouterr().out
    write_report(tmp_path / "out" / "report.html", [chapter])
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    gains = mean_gains(chapter.comparison.photos)
    assert list(gains) == [4, 2]
    for scale, gain in gains.items():
        with Image.open(tmp_path / "out" / f"chelsea.x{scale}.imagesmith.png") as image:
            assert image.size == (448, 300)
        with Image.open(tmp_path / "out" / f"chelsea.x{scale}.input.png") as image:
            assert image.size == (448 // scale, 300 // scale)
        assert f"{gain:+.2f}" in table
        assert f"{gain:+.2f} dB at x{scale}" in chapter.summary
        assert f"{gain:+.2f}".replace("-", "−") in page
        assert f"untrained-x{scale}" in page
    assert "probe" in page, "how it was computed is not said"


def test_bicubic_scores_what_an_independent_computation_gives(tmp_path, models, monkeypatch) -> None:
    """The accident: a baseline made weak by another kernel, so that the gain is flattering."""
    monkeypatch.setattr(demo_enlarge, "SOURCES", demo_enlarge.SOURCES[:1])
    chapter = demo_enlarge.enlarge_photographs(tmp_path, device="cpu", dtype="fp32", models=models[:1])
    with Image.open(tmp_path / "astronaut.x4.input.png") as image:
        pillow = image.resize((512, 512), Image.Resampling.BICUBIC)  # the same Keys kernel, by other code
    pictures = [torch.frombuffer(bytearray(x.tobytes()), dtype=torch.uint8).double().view(512, 512, 3) for x in (
        pillow, Image.open(tmp_path / "astronaut.original.png"))]  # fmt: skip
    luma = [(x @ torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) / 255 + 16)[4:-4, 4:-4] for x in pictures]
    psnr = 10 * torch.log10(255**2 / (luma[0] - luma[1]).square().mean())
    (each,) = chapter.comparison.photos[0].enlargements
    assert each.psnr_y_bicubic == pytest.approx(psnr.item(), abs=0.05)


def test_every_photograph_lies_inside_the_package() -> None:
    """The accident: a picture that scikit-image would fetch, and a demo that fails in the train."""
    files = {str(file) for file in importlib.metadata.files("scikit-image") or ()}
    assert {f"skimage/data/{source.file}" for source in demo_enlarge.SOURCES} <= files
