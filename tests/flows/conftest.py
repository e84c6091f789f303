"""The real command on small real photographs, with a small untrained model: in a process of its own, or in this one."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import skimage
import torch
from PIL import Image

from imagesmith.apps.cli import main
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import describe, save_model

PHOTOS = Path(skimage.__file__).parent / "data"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def was_refused(self, code: int, *words: str) -> None:
        """Assert that it ended with `code` and one clear message of at most three lines that holds `words`."""
        assert self.code == code, self.err
        assert "Traceback" not in self.err
        assert 1 <= len(self.err.strip().splitlines()) <= 3, self.err
        for word in words:
            assert word in self.err, self.err


Call = Callable[..., Done]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network that enlarges by two: its result is its input's nearest enlargement, slightly disturbed."""
    torch.manual_seed(0)
    spec = NetSpec("compact", {"scale": 2, "width": 8})
    net = build_net(spec).eval()
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, net, describe(net, spec, "tiny"))
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Untrained networks for tasks that keep the size."""
    folder = tmp_path_factory.mktemp("models")
    for task, planes in (("denoise", 0), ("jpeg", 1), ("inpaint", 1)):
        torch.manual_seed(1)
        spec = NetSpec("unet", {"widths": (8, 12), "blocks": (1, 1), "planes": planes})
        net = build_net(spec).eval()
        net.tail.weight.data.mul_(4)
        save_model(folder / f"{task}.safetensors", net, describe(net, spec, task, task=task))
    return lambda task: folder / f"{task}.safetensors"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `photos` of the folder the test works in: two photographs, one in a subfolder, and a text file."""
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    (folder / "more").mkdir(parents=True)
    with Image.open(PHOTOS / "astronaut.png") as image:
        image.crop((100, 40, 137, 69)).save(folder / "face.png", dpi=(300, 300))
    with Image.open(PHOTOS / "coffee.png") as image:
        image.crop((200, 100, 248, 131)).save(folder / "more" / "cup.jpg", quality=95)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Call:
    """Runs `imagesmith ARGS...` in this process, which is quick; only text can pass its standard streams."""

    def call(*args: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["imagesmith", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return Done(left.value.code or 0, *capsys.readouterr())  # type: ignore[arg-type]

    return call


def spawn(*args: str | Path, **options: object) -> subprocess.CompletedProcess:
    """Runs `imagesmith ARGS...` in a process of its own; keywords go to `subprocess.run`."""
    command = [sys.executable, "-W", "error", "-m", "imagesmith", *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, **options)  # type: ignore[call-overload]


@pytest.fixture(name="spawn")
def _spawn() -> Callable[..., subprocess.CompletedProcess]:
    return spawn
