"""The real command in a process of its own, on small real photographs, with a small untrained model."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import skimage
import torch
from PIL import Image

from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import describe, save_model

PHOTOS = Path(skimage.__file__).parent / "data"

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network that enlarges by two: its result is its input's nearest enlargement, slightly disturbed."""
    torch.manual_seed(0)
    spec = NetSpec("compact", {"scale": 2, "width": 8})
    net = build_net(spec).eval()
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, net, describe(net, spec, "tiny"))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two photographs, one of them in a subfolder, and a file that is no picture."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    with Image.open(PHOTOS / "astronaut.png") as image:
        image.crop((100, 40, 137, 69)).save(folder / "face.png", dpi=(300, 300))
    with Image.open(PHOTOS / "coffee.png") as image:
        image.crop((200, 100, 248, 131)).save(folder / "more" / "cup.jpg", quality=95)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `imagesmith ARGS...` in the test's own folder; keywords go to `subprocess.run`."""

    def run(*args: str | Path, **options: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-W", "error", "-m", "imagesmith", *map(str, args)]
        given = {
            "capture_output": True,
            "text": True,
            "timeout": 60,
            "check": False,
            "cwd": tmp_path,
            "stdin": subprocess.DEVNULL,
        }
        if "input" in options:
            del given["stdin"]
        return subprocess.run(command, **(given | options))  # type: ignore[call-overload]  # noqa: PLW1510

    return run


@pytest.fixture
def refused() -> Callable[..., None]:
    """Asserts that a run ended with `code` and one clear message that holds `words`, and without a traceback."""

    def refused(done: subprocess.CompletedProcess, code: int, *words: str) -> None:
        said = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
        assert done.returncode == code, said
        assert "Traceback" not in said
        assert 1 <= len(said.strip().splitlines()) <= 3, said
        for word in words:
            assert word in said, said

    return refused
