"""`imagesmith train restorer` in a process of its own, as a terminal runs and interrupts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import skimage
from PIL import Image

from imagesmith.runtime.checkpoint import load_newest

TINY = {
    "net.options.width": 8,
    "net.options.blocks": 1,
    "data.patch_px": 8,
    "data.workers": 1,
    "data.validation_images": 1,
    "run.batch": 4,
    "run.dtype": "fp32",
    "run.validations": 1,
    "run.checkpoint_minutes": 1e-9,  # a checkpoint after every step
}


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of a run of hours on two small photographs, without the program's name."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("astronaut.png", "coffee.png"):
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            image.crop((100, 40, 180, 100)).save(f"photos/{name}")
    changes = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    return ["train", "restorer", "photos", "--preset", "sr-x2", "-o", "run", "-q", *changes, "--images", "10M"]


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs process groups and senders of signals")
@pytest.mark.parametrize("asked", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_who_stops_all_processes_of_a_run_gets_one_line_and_loses_nothing(
    train: list[str], call, asked: signal.Signals
) -> None:
    """The accident: Ctrl-C reaches the workers as well, and each leaves a page of traceback; or it loses the step.

    SIGTERM, as timeout and torchrun send it to all, killed them, and the run ended for want of memory, so it said.
    """
    command = [sys.executable, "-W", "error", "-m", "imagesmith", *train]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            while process.poll() is None and not list(Path("run").glob("checkpoints/*[1-9]*.safetensors")):
                time.sleep(0.02)
            os.killpg(process.pid, asked)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert errors == "imagesmith: cancelled; the same command goes on where it stopped\n"
    assert process.returncode == 130

    saved = load_newest(Path("run/checkpoints"), pytest.fail)
    assert saved
    assert call(*train, "--images", "1").code == 0
    assert f"resumed at {saved[1]['images_seen']:,} images" in Path("run/console.log").read_text()
    assert Path("run/model.safetensors").exists()


def test_going_on_from_a_network_needs_no_preset(train: list[str], call) -> None:
    """Whoever fine-tunes by hand with a preset of another width trains from nothing, at a rate that ruins what it had."""
    assert call(*train, "--images", "8").code == 0
    changes = [f"{key}={value}" for key, value in TINY.items() if not key.startswith("net")]
    words = [word for change in changes for word in ("--set", change)]
    assert call("train", "restorer", "photos", "-o", "on", "--start-from", "run", "--images", "8", *words).code == 0
    assert "before the first step: psnr_y" in Path("on/console.log").read_text()
    config = json.loads(Path("on/config.json").read_text())
    assert config["net"]["options"]["width"] == 8
    assert config["optim"]["learning_rate"] == pytest.approx(3e-4)


def test_going_on_from_a_run_with_a_recipe_of_its_own_needs_no_preset(train: list[str], call) -> None:
    """The accident: the name that the user gave to the configuration was looked for among the presets."""
    assert call(*train, "--images", "8", "--set", "preset=mine").code == 0
    on = ["train", "restorer", "photos", "--images", "8", "-o"]
    assert call(*on, "on", "--start-from", "run").code == 0
    config = json.loads(Path("on/config.json").read_text())
    assert (config["preset"], config["start_from"], config["net"]["options"]["width"]) == ("mine", "run", 8)
    call(*on, "other", "--start-from", "run/model.safetensors").was_refused(
        2, "expected --preset or --config with --start-from run/model.safetensors, which was made by 'mine'"
    )


def test_a_run_goes_on_where_its_photographs_were_moved(train: list[str], call) -> None:
    assert call(*train, "--images", "4").code == 0
    shutil.copytree("photos", "elsewhere")
    moved = ["elsewhere" if word == "photos" else word for word in train]
    assert call(*moved, "--images", "8").code == 0
    told = Path("run/console.log").read_text()
    assert "data.folder = 'elsewhere', where the same lies as in 'photos' when the run was begun" in told
    assert "resumed at 4 images" in told
    assert json.loads(Path("run/config.json").read_text())["data"]["folder"] == "elsewhere"
    with Image.open("elsewhere/astronaut.png") as image:
        image.rotate(180).save("elsewhere/astronaut.png")
    call(*moved, "--images", "12").was_refused(2, "the photos of elsewhere that the run was begun with, got another")


@pytest.mark.parametrize("model", ["vsr-x4", "cifar-32"])
@pytest.mark.parametrize("preset", [[], ["--preset", "sr-x4"]])
def test_a_network_that_restores_no_pictures_is_no_start(train: list[str], call, model: str, preset: list[str]) -> None:
    """The accident: one for films became the network of the run, which ended as a bug; or a preset was asked for."""
    done = call("train", "restorer", "photos", "-o", "on", "--start-from", model, *preset, "--images", "4")
    assert done.code == 2
    assert f"expected a restorer of pictures to start from, got '{model}'" in done.err


def test_a_run_goes_on_without_the_network_that_it_was_begun_from(train: list[str], call) -> None:
    """The accident: the first run is deleted, and the fine-tuning that it began cannot be resumed any more."""
    assert call(*train, "--images", "4").code == 0
    changes = [f"{key}={value}" for key, value in TINY.items() if not key.startswith("net")]
    words = [word for change in changes for word in ("--set", change)]
    on = ["train", "restorer", "photos", "-o", "on", *words, "--images", "4", "--start-from"]
    assert call(*on, "run").code == 0
    shutil.rmtree("run")
    done = call(*on, "run")
    assert (done.code, "resumed at 4 images" in done.err) == (0, True)
    assert "started with start_from = 'run', not 'another'" in call(*on, "another").err
    assert "resumed at 4 images" in call(*on, "run", "--preset", "sr-x2").err
    call(*on, "run", "--preset", "denoise").was_refused(2, "preset = 'sr-x2', not 'denoise'")
    Path("new").mkdir()
    shutil.copy("on/config.json", "new")  # as a run leaves it that failed before its first checkpoint
    assert "no model or file is called 'run'" in call(*on[:4], "new", *on[5:], "run").err


def test_pairs_that_are_none_are_told(train: list[str], call) -> None:
    done = call(*train, "--degraded", "photos", "--set", "net.options.scale=1", "--images", "8")
    assert done.code == 2
    assert "2 of 2 that do not" in done.err
    assert "the degraded picture is its target" in done.err
