"""The examples run as they stand."""

import runpy
import sys
from pathlib import Path

import pytest
import skimage
from PIL import Image

from imagesmith.zoo import CARDS, save_model

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


@pytest.mark.skipif("denoise" not in CARDS, reason="needs the shipped model denoise")
def test_mend_photo(photos: Path, models, monkeypatch, capsys) -> None:
    """The accident: a scratched photo has been shown to nobody's program before the first user's."""
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
        scratched = image.crop((100, 40, 200, 140)).convert("RGB")
    scratched.paste((255, 255, 255), (50, 0, 52, 100))
    scratched.save("old.png")
    run(monkeypatch, "mend_photo.py", "old.png", "mended.png", models("inpaint"))
    assert "100 x 100" in capsys.readouterr().out


@pytest.mark.slow
def test_train_and_measure(photos: Path, monkeypatch, capsys) -> None:
    """The accident: the first training run of a newcomer ends in an error."""
    for number, part in enumerate(((0, 0), (200, 0), (0, 200))):
        with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
            image.crop((*part, part[0] + 200, part[1] + 200)).save(photos / f"part{number}.png")
    run(monkeypatch, "train_and_measure.py", photos, photos, "run", "0.05")
    assert "bicubic: psnr_y" in capsys.readouterr().out


@pytest.mark.slow
def test_train_gan(tmp_path: Path, monkeypatch, capsys) -> None:
    """The accident: an hour of training, and then an error where its result is to be used."""
    (tmp_path / "parts").mkdir()
    with Image.open(Path(skimage.__file__).parent / "data" / "coffee.png") as image:
        for k in range(40):
            image.crop((14 * k, 100, 14 * k + 14, 114)).save(tmp_path / "parts" / f"{k:02}.png")
    run(monkeypatch, "train_gan.py", tmp_path / "parts", tmp_path / "run", "0.05")
    assert "images seen" in capsys.readouterr().out
    with Image.open(tmp_path / "run" / "seed7.png") as image:
        assert (image.size, image.mode) == ((14, 14), "RGB")


@pytest.fixture
def generator(tmp_path: Path, make_gan) -> Path:
    """An untrained generator of gray cats and dogs."""
    model = make_gan(class_names=("cat", "dog"), channels=1)
    save_model(tmp_path / "toy.safetensors", model.net, model.card)
    return tmp_path / "toy.safetensors"


def test_generate(generator: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """The accident: the first images that somebody wants to make end in an error."""
    run(monkeypatch, "generate.py", generator, tmp_path / "dogs", "dog")
    assert "makes cat, dog" in capsys.readouterr().out
    assert len(list((tmp_path / "dogs").glob("seed*.png"))) == 16


def test_variations(generator: Path, photos: Path, monkeypatch, capsys) -> None:
    """The accident: a photograph of another size or colour than the generator's."""
    run(monkeypatch, "variations.py", generator, photos / "face.png", "varied", "2")
    assert "dB; cropped" in capsys.readouterr().out
    assert len(list(Path("varied").glob("*.png"))) == 12


def test_every_example_is_run_here() -> None:
    """The accident: a new example that nothing runs."""
    text = Path(__file__).read_text("utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in text] == []
