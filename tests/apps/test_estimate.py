"""`imagesmith data estimate`: the recipe of a folder is the one that made it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from imagesmith.apps.estimate import Examined, recipe_of, run_estimate
from imagesmith.configs import recipe
from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import NothingUsableError, OutputError


def examined(pixels: np.ndarray) -> Examined:
    return Examined.of(Frame(torch.from_numpy(pixels), "uint8", ImageMeta(format="png", mode="RGB")))


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A folder of three photographs with noise of 20 grey levels, a broken one, and one of 12 bits."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k, photo in enumerate((data.coffee()[:300, :420], data.chelsea(), data.astronaut())):
        array = photo[:300, :400] + rng.normal(0, 20, photo[:300, :400].shape)
        Image.fromarray(array.clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.fromarray(rng.integers(0, 4096, (64, 64)).astype(np.uint16)).save(folder / "xray.png")
    return folder


def test_the_recipe_makes_such_pictures(noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: a recipe that training does not take, or with another noise than the user's files have."""
    out = tmp_path / "recipe.json"
    run_estimate(str(noisy), out=out, recursive=False, overwrite=False, as_json=True)
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["pictures"] == 3
    assert found["noise"]["median"] == pytest.approx(20, rel=0.15)
    assert "broken.png" in said.err
    assert "xray.png: expected 16-bit values that use their range" in said.err, "nothing would be wrong with it"
    parts = recipe(str(out))
    assert [part.model_dump() for part in parts] == found["recipe"]
    assert parts[0].name == "poisson_gaussian_noise"
    Chain(tuple(build_degradation(part.name, part.options) for part in parts))


def test_compressed_files_are_a_recipe_of_jpeg(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: half of the files are compressed, and the recipe compresses all."""
    Image.fromarray(data.coffee()[:300, :420]).save(tmp_path / "a.jpg", quality=35)
    Image.fromarray(data.coffee()[:300, :420]).save(tmp_path / "b.png")
    run_estimate(str(tmp_path), out=None, recursive=False, overwrite=False, as_json=False)
    assert "jpeg (50%)" in capsys.readouterr().out


def test_the_noise_before_a_compression_is_that_of_each_channel(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: what is told of the brightness, two thirds of it, is learnt as the noise of each colour."""
    rng = np.random.default_rng(0)
    for k, photo in enumerate((data.coffee()[:300, :420], data.rocket()[:300, 200:520])):
        noisy = 64 + photo / 2 + rng.normal(0, 30, photo.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{k}.jpg", quality=75)
    run_estimate(str(tmp_path), out=None, recursive=False, overwrite=False, as_json=True)
    noise, _ = json.loads(capsys.readouterr().out)["recipe"]
    assert noise["name"] == "gaussian_noise"
    assert all(24 < sigma < 33 for sigma in noise["options"]["sigma"])


def test_the_blur_of_a_recipe_is_what_was_added(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The accident: the width that edges of sharp photos have counts as blur, and is learnt once more."""
    for k in range(2):
        photo = data.rocket()[:300, 200 * k : 200 * k + 420]
        Image.fromarray(gaussian_filter(photo, (1.5, 1.5, 0))).save(tmp_path / f"{k}.png")
    run_estimate(str(tmp_path), out=None, recursive=False, overwrite=False, as_json=True)
    (part,) = json.loads(capsys.readouterr().out)["recipe"]
    assert part["name"] == "gaussian_blur"
    assert sum(part["options"]["sigma"]) / 2 == pytest.approx(1.5, abs=0.2)
    assert part["options"]["anisotropic"] == 0


def test_noise_is_measured_inside_of_a_mat_and_grain_is_no_blur(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The accidents: a recipe with noise of strength zero, which teaches nothing; one with a blur that was grain."""
    rng = np.random.default_rng(0)
    photo = data.rocket()[:256, 200:520]
    framed = np.full((512, 576, 3), 128, np.uint8)
    framed[128:384, 128:448] = (photo + rng.normal(0, 10, photo.shape)).clip(0, 255)
    (part,) = recipe_of([examined(framed)])
    assert part["options"]["read"][0] > 5
    grain = Image.fromarray(rng.normal(128, 8, (128, 160, 3)).astype(np.uint8)).resize(
        (320, 256), Image.Resampling.BICUBIC
    )
    grainy = (gaussian_filter(photo, (1.3, 1.3, 0)) + (np.asarray(grain) - 128.0)).clip(0, 255).astype(np.uint8)
    assert "gaussian_blur" not in str(recipe_of([examined(grainy)]))


def test_what_cannot_be_is_refused(noisy: Path, tmp_path: Path) -> None:
    """The accident: an empty recipe, or somebody's file overwritten."""
    taken = tmp_path / "taken.json"
    taken.write_text("precious")
    with pytest.raises(OutputError, match=r"taken\.json exists"):
        run_estimate(str(noisy), out=taken, recursive=False, overwrite=False, as_json=False)
    for place, said in ((noisy, "it is a folder; name a file"), (taken / "new.json", "cannot make the folder")):
        with pytest.raises(OutputError, match=said):  # told before it is looked for pictures
            run_estimate("nowhere", out=place, recursive=False, overwrite=True, as_json=False)
    clean = tmp_path / "clean"
    clean.mkdir()
    Image.fromarray(data.coffee()[:300, :420]).save(clean / "a.png")
    with pytest.raises(NothingUsableError, match="nothing"):
        run_estimate(str(clean), out=tmp_path / "r.json", recursive=False, overwrite=False, as_json=False)
    assert not (tmp_path / "r.json").exists()


def test_noise_alike_in_all_channels_is_in_the_recipe() -> None:
    """The accident: toned scans full of grain are 'nothing is wrong with most of them': differences show none of it."""
    grain = np.random.default_rng(0).normal(0, 15, (300, 420))
    light = (data.coffee()[:300, :420].mean(axis=2) + grain)[..., None] * (1.0, 0.85, 0.65)
    toned = examined(light.round().clip(0, 255).astype(np.uint8))
    assert toned.findings.noise == pytest.approx(13, rel=0.2)
    assert [part["name"] for part in recipe_of([toned])] == ["poisson_gaussian_noise"]
