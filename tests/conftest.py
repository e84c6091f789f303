"""Fixtures shared by all tests."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock, patch

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each of several processes has a core
    os.environ["OMP_NUM_THREADS"] = "1"
import torch

from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo import Model, describe

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests measure must not decide for the user, nor the other way round; their processes share it."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs and hostile files that developers have; tests that need it skip without it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("IMAGESMITH_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"needs the shared test data, not found at {folder} (set IMAGESMITH_SHARED)")
    return folder


@pytest.fixture(scope="session")
def run_python():
    """Run a line of Python in a fresh interpreter; fails with its output unless it exits with 0."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def fill_what_is_free() -> Callable[[int, int], None]:
    """Leaves a value in many pieces of memory of all sizes, for whoever gets them next and reads what it never set."""
    rng = np.random.default_rng(0)

    def fill(value: int, pieces: int) -> None:
        _ = [np.full(size, value, np.uint8) for size in rng.integers(100, 120_000, pieces)]

    return fill


@pytest.fixture(scope="session")
def make_gan() -> Callable[..., Model]:
    """A small generator with random weights, `name` of the table; its classes are called by `class_names`."""

    def make(name: str = "dcgan-generator", *, class_names: tuple[str, ...] = (), **options: object) -> Model:
        small = {"width": 8} if name == "dcgan-generator" else {"widths": (16, 8)}
        spec = NetSpec(name, {"size": (16, 24), "classes": len(class_names), **small, **options})
        with torch.random.fork_rng():
            torch.manual_seed(3)
            net = build_net(spec).eval()
            for parameter in net.parameters():  # some start at zero, and would say nothing about their kernels
                if parameter.ndim > 1:
                    parameter.data.normal_(0, parameter[0].numel() ** -0.5)
        return Model(net, describe(net, spec, f"toy-{name}", task="generate", class_names=class_names))

    return make


@pytest.fixture(scope="session")
def torch_fidelity() -> ModuleType:
    """The independent tool for FID, KID and precision/recall; tests that compare with it skip without it.

    It imports torchvision and tqdm, of which the parts compared here use nothing: stand-ins serve for the import.
    """
    if not importlib.util.find_spec("torch_fidelity"):
        pytest.skip("needs torch-fidelity")
    names = ["torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"]
    absent = {name: MagicMock() for name in names if not importlib.util.find_spec("torchvision")}
    bars = {} if importlib.util.find_spec("tqdm") else {"tqdm": MagicMock(tqdm=lambda items, **options: items)}
    with patch.dict(sys.modules, absent | bars):
        return importlib.import_module("torch_fidelity")
