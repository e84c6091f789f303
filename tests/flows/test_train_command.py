"""`imagesmith train restorer` in a process of its own, as a terminal runs and interrupts it."""

import os
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


@pytest.mark.skipif(os.name != "posix", reason="needs process groups")
def test_ctrl_c_in_a_terminal_says_one_line_and_loses_nothing(train: list[str], call) -> None:
    """The accident: Ctrl-C reaches the workers as well, and each leaves a page of traceback; or it loses the step."""
    command = [sys.executable, "-W", "error", "-m", "imagesmith", *train]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            while process.poll() is None and not list(Path("run").glob("checkpoints/*[1-9]*.safetensors")):
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
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
