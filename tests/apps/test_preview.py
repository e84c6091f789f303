"""`imagesmith data preview`: what a training would see, before it begins."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from imagesmith import presets
from imagesmith.apps.cli import app
from imagesmith.apps.preview import draw_pairs, run_preview
from imagesmith.configs import DataConfig
from imagesmith.errors import ConfigError, NothingUsableError, OutputError, UsageError
from imagesmith.train.restore import build_chain, load_training_photos, training_patches


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(data.astronaut()[100 * k : 100 * k + 200, 100:300]).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def degraded(photos: Path, tmp_path: Path) -> Path:
    """The damaged versions of all that lies in `photos`."""
    (photos / "broken.png").unlink()
    folder = tmp_path / "degraded"
    folder.mkdir()
    for path in photos.iterdir():
        Image.open(path).save(folder / f"{path.stem}.jpg", quality=20)
    return folder


@pytest.mark.parametrize(("preset", "columns"), [("sr-x2", 2), ("inpaint", 3)])
def test_the_sheet_shows_the_patches_of_the_run(photos, tmp_path, capsys, preset, columns):
    """A preview of other patches than those trained on hides the very mistake that one looks for."""
    config = presets.RESTORER_PRESETS[preset](str(photos), "run")
    out = tmp_path / "sheet.png"
    run_preview(config, out, count=3)
    sheet = np.asarray(Image.open(out))
    chain = build_chain(config)
    degraded, target = training_patches(config, load_training_photos(config, chain), chain)[0]
    side = target.shape[-1]
    shown = [sheet[4 : 4 + side, 4 + k * (side + 1) : 4 + k * (side + 1) + side] for k in range(columns)]
    assert np.array_equal(shown[0], (target * 255).round().byte().permute(1, 2, 0))
    assert np.array_equal(shown[1][:: chain.scale, :: chain.scale], (degraded[:3] * 255 + 0.5).byte().permute(1, 2, 0))
    if columns == 3:
        assert np.array_equal(shown[2][..., 0] > 0, degraded[3] > 0)
    told = capsys.readouterr().out
    assert "skipped broken.png" in told
    assert ("dB" in told) == (preset == "inpaint")


def test_parts_within_parts_are_named(photos, tmp_path, capsys):
    """'sometimes + sometimes' tells nobody what their photographs will suffer."""
    run_preview(presets.photo_x2(str(photos), "run"), tmp_path / "sheet.png", count=1)
    assert "sometimes(one_of(gaussian_blur, defocus_blur, motion_blur)) + resize(" in capsys.readouterr().out


def test_given_pairs_are_shown_as_well(photos, degraded, tmp_path, capsys):
    """Whoever brings pairs has the most to check: whether they belong together, and which part of them is used."""
    data_config = DataConfig(folder=str(photos), degraded=str(degraded), patch_px=32, memory_gb=0.0003)
    config = presets.denoise(str(photos), "run").model_copy(update={"degradations": (), "data": data_config})
    run_preview(config, tmp_path / "sheet.png", count=2)
    printed = capsys.readouterr().out
    assert f"that of the files in {degraded}" in printed
    assert "of large pairs only the middle 128 pixels" in printed
    assert "2 pairs to train on, 1 kept apart" in printed


def test_pairs_stand_about_square():
    """A thousand pairs in one row cannot be looked at."""
    pairs = [(torch.zeros(3, 32, 32), torch.ones(3, 64, 64))] * 40
    _, height, width = draw_pairs(pairs).shape
    assert 0.5 < height / width < 2


def test_what_cannot_be_previewed_is_refused(photos, tmp_path):
    """A traceback, or a sheet that replaces the user's own picture."""
    config = presets.sr_x2(str(photos), "run")
    (tmp_path / "there.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        run_preview(config, tmp_path / "there.png", count=1)
    assert (tmp_path / "there.png").read_bytes() == b"mine"
    (tmp_path / "empty").mkdir()
    nowhere = presets.sr_x2(str(tmp_path / "empty"), "run")  # in which no photograph would be found
    for place, said in (("none/sheet.png", "none does not exist"), ("photos", "it is a folder; name a file")):
        with pytest.raises(OutputError, match=said):
            run_preview(nowhere, tmp_path / place, count=1, overwrite=True)
    with pytest.raises(NothingUsableError):
        run_preview(presets.sr_x2(str(tmp_path / "empty"), "run"), tmp_path / "sheet.png", count=1)
    for arguments, error in (([], UsageError), (["--preset", "inpant"], ConfigError)):
        result = CliRunner().invoke(app, ["data", "preview", str(photos), *arguments])
        assert isinstance(result.exception, error)


def test_the_seed_chooses_the_patches(photos, tmp_path):
    """A seed that is ignored shows the same lucky patches for ever."""
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        arguments = [str(photos), "--preset", "denoise", "--count", "2", "--seed", seed, "-o", str(tmp_path / name)]
        assert CliRunner().invoke(app, ["data", "preview", *arguments]).exit_code == 0
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_a_preset_of_films_is_told_where_its_samples_are(tmp_path: Path) -> None:
    """The accident: 'did you mean sr-x2?' to somebody who meant films, and previews another training."""
    result = CliRunner().invoke(app, ["data", "preview", str(tmp_path), "--preset", "vsr-x2"])
    assert isinstance(result.exception, UsageError)
    assert "`train video`" in str(result.exception)


def test_a_recipe_and_pairs_are_previewed_as_they_are_trained_on(photos, degraded, tmp_path):
    """What `data estimate` wrote was first seen once a training had run on it."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"degradations": [{"name": "gaussian_noise", "options": {"sigma": [9, 9]}}]}')
    command = ["data", "preview", str(photos), "--preset", "denoise", "--count", "1", "-y", "-o", str(tmp_path / "a")]
    for options, said in (
        (["--recipe", str(recipe)], "damage: gaussian_noise"),
        (["--degraded", str(degraded)], "the files in"),
    ):
        result = CliRunner().invoke(app, [*command, *options])
        assert result.exit_code == 0, result.exception
        assert said in result.output
    result = CliRunner().invoke(app, [*command, "--recipe", str(recipe), "--degraded", str(degraded)])
    assert isinstance(result.exception, UsageError)
