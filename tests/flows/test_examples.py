"""The examples run as they stand."""

import runpy
import sys
from pathlib import Path

import pytest
import skimage
from PIL import Image

from imagesmith.zoo import CARDS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *args: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_enlarge_folder(photos: Path, tiny: Path, monkeypatch, capsys) -> None:
    """The accident: an example written against last year's names."""
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, "enlarge_folder.py", photos, "large", tiny)
    assert left.value.code == 0
    assert Path("large/more/cup.jpg").exists()
    assert "done large/face.png" in capsys.readouterr().out


@pytest.mark.skipif("sr-x4" not in CARDS, reason="needs the shipped model sr-x4")
def test_enlarge_photo(photos: Path, monkeypatch, capsys) -> None:
    """The accident: the shortest program of all, and it fails."""
    run(monkeypatch, "enlarge_photo.py", photos / "face.png", "large.png")
    with Image.open("large.png") as large:
        assert large.size == (148, 116)
    assert "148 x 116" in capsys.readouterr().out


@pytest.mark.slow
def test_train_and_measure(photos: Path, monkeypatch, capsys) -> None:
    """The accident: the first training run of a newcomer ends in an error."""
    for number, part in enumerate(((0, 0), (200, 0), (0, 200))):
        with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
            image.crop((*part, part[0] + 200, part[1] + 200)).save(photos / f"part{number}.png")
    run(monkeypatch, "train_and_measure.py", photos, photos, "run", "0.05")
    assert "bicubic: psnr_y" in capsys.readouterr().out


def test_every_example_is_run_here() -> None:
    """The accident: a new example that nothing runs."""
    text = Path(__file__).read_text("utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in text] == []
