"""`train`, `evaluate` and the rest of the command line, from the outside."""

import json
import shutil
from pathlib import Path

import pytest
import skimage
from PIL import Image

PHOTOS = Path(skimage.__file__).parent / "data"
TRAINING = ("--images", "64", "--set", "run.batch=8", "--set", "data.workers=0", "--set", "run.dtype=fp32", "-q")


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `clean` of the folder the test works in, with three photographs."""
    monkeypatch.chdir(tmp_path)
    folder = Path("clean")
    folder.mkdir()
    for name in ("astronaut.png", "coffee.png", "chelsea.png"):
        with Image.open(PHOTOS / name) as image:
            image.crop((60, 40, 220, 200)).save(folder / name)
    return folder


def test_train_restore_and_evaluate_one_after_the_other(clean: Path, call) -> None:
    """The accident: each command works alone, and what one writes the next cannot read."""
    train = ("train", "restorer", clean, "--preset", "sr-x2", "-o", "run", "--set", "data.patch_px=16", *TRAINING)
    done = call(*train)
    assert (done.code, done.out) == (0, ""), done.err
    done = call("evaluate", "restorer", "run", "--targets", clean, "--metrics", "psnr_y", "--json", "report.json")
    assert done.code == 0, done.err
    assert "psnr_y" in done.out
    report = json.loads(Path("report.json").read_text())
    assert report["provenance"]["scale"] == 2
    assert len(report["rows"]) == 3
    assert call("restore", clean / "coffee.png", "-n", "run", "-o", "large.png").code == 0
    assert call("models", "show", "run").code == 0
    assert call(*train).code == 0, "a finished run cannot be resumed"
    done = call(*train, "--set", "optim.learning_rate=0.1")
    done.was_refused(2, "optim.learning_rate")


def test_bicubic_is_measured_like_a_model(clean: Path, call) -> None:
    """The accident: the baseline comes from another script with another crop, and the gain is an artefact."""
    done = call("evaluate", "restorer", "bicubic", "--targets", clean, "-s", "2", "--metrics", "psnr_y, ssim_y")
    assert done.code == 0, done.err
    assert "2 pixels cropped" in done.out


def test_clips_are_measured_by_the_protocol_of_films(clean: Path, call) -> None:
    """The accident: a folder of frames is taken for pictures, and 4 pixels are cropped that Vid4 keeps."""
    films = ("evaluate", "restorer", "bicubic", "-s", "4", "--targets", clean, "--degrade", "bd", "--frames", "2")
    Image.open(clean / "coffee.png").save(clean / "astronaut.png")
    done = call(*films, "--metrics", "psnr_y,warping_error,tof,flicker")
    assert done.code == 0, done.err
    assert "0 pixels cropped" in done.out
    assert "BD: Gaussian of sigma 1.6" in done.out
    assert "the first 2 frames" in done.out
    call(*films, "--state", "off").was_refused(2, "--state off", "recurrent")


def test_unequal_pairs_are_told(clean: Path, call) -> None:
    """The accident: a picture compared with another one, and a mean that nobody questions."""
    Path("degraded").mkdir()
    for name in ("astronaut.png", "coffee.png"):
        shutil.copy(clean / name, "degraded")
    args = ("evaluate", "restorer", "bicubic", "-s", "2", "--targets", clean, "--degraded", "degraded")
    call(*args).was_refused(2, "3 targets and 2 degraded", "chelsea")
    shutil.copy(clean / "chelsea.png", "degraded")
    call(*args).was_refused(3, "2 times its degraded image")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--preset", "sr-y4"), ("sr-y4", "did you mean 'sr-x4'")),
        (("--preset", "sr-x4", "--set", "optim.learning_rat=1"), ("did you mean 'learning_rate'",)),
        (("--preset", "sr-x4", "--set", "optim.learning_rate"), ("key=value",)),
        (("--preset", "sr-x4", "--set", "optim.learning_rate=fast"), ("optim.learning_rate", "fast")),
        (("--preset", "sr-x4", "--minutes", "1", "--images", "2k"), ("--minutes", "--images")),
        (("--preset", "sr-x4", "--images", "2Q"), ("--images", "2Mi")),
        ((), ("--preset", "sr-x4")),
        (("--config", "nowhere.json"), ("nowhere.json",)),
    ],
)
def test_a_wrong_configuration_is_told_with_the_nearest_match(clean: Path, call, args, words) -> None:
    """The accident: a misspelt key is ignored, and the run of a night trains the default."""
    call("train", "restorer", clean, "-o", "run", *args).was_refused(2, *words)
    assert not Path("run").exists()


@pytest.mark.parametrize("what", ["gan", "classifier"])
def test_a_preset_beside_a_configuration_is_refused(call, what: str) -> None:
    """The accident: the preset is dropped without a word, and the run of a night trains something else."""
    args = ("train", what, "set.zip", "-o", "run", "--config", "c.json", "--preset", "dcgan")
    call(*args).was_refused(2, "either --preset or --config")


def test_a_folder_without_photographs_is_told(clean: Path, call) -> None:
    """The accident: a training run that waits for ever for its first picture."""
    Path("empty").mkdir()
    call("train", "restorer", "empty", "-o", "run", "--preset", "sr-x4", "--images", "64").was_refused(4, "empty")


def test_version_and_misspelt_commands(call) -> None:
    """The accident: the first thing a bug report needs is not to be had."""
    assert call("--version").out.startswith("imagesmith ")
    call("restor", "x.png").was_refused(2, "restore")
    call("restore", "x.png", "--recursiv").was_refused(2, "--recursive")


@pytest.mark.parametrize(
    ("option", "word", "told"),
    [
        ("--device", "cudda", "expected --device out of auto, cpu, cuda, mps, got 'cudda' (did you mean 'cuda'?)"),
        ("-f", "it's", "expected -f / --format out of keep, png, jpg, webp, tif, got 'it's'"),
    ],
)
def test_a_word_that_is_on_no_list_is_refused_as_everywhere(option: str, word: str, told: str, call) -> None:
    """The accident: "Value error, 'cudda' is not one of", the prefix of a library that typer asks, and no nearest."""
    done = call("restore", "a.png", option, word)
    assert (done.code, done.err.splitlines()[0]) == (2, f"imagesmith: {told}")
