"""What the tests of several processes need."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagesmith.infer.outcome import FileOptions
from imagesmith.infer.restore import Restorer


@pytest.fixture
def one_thread():
    """What one thread computes, a pool computes bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def importable_elsewhere():
    """Other processes import from this folder as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        yield


@pytest.fixture
def deadly(make_restorer: Callable[..., Restorer], importable_elsewhere: None, tmp_path: Path) -> Restorer:
    """A Restorer that kills its process at some pictures, see `restorers.py`."""
    from restorers import Deadly  # type: ignore[import-not-found]

    restorer = Deadly.__new__(Deadly)
    restorer.__dict__ |= make_restorer().__dict__ | {"mark": tmp_path / "mark"}
    return restorer


@pytest.fixture
def deadly_photos(photo: np.ndarray, tmp_path: Path) -> Path:
    """Five pictures, of which `always` and `once` are deadly."""
    source = tmp_path / "deadly_in"
    source.mkdir()
    for name, rows in {"a": 30, "always": 40, "b": 31, "once": 41, "z": 32}.items():
        Image.fromarray(photo[:rows]).save(source / f"{name}.png")
    return source


@pytest.fixture
def file_options() -> FileOptions:
    """What a run without any option has."""
    return FileOptions(
        recursive=False,
        resume=False,
        overwrite=False,
        suffix=None,
        format="keep",
        partial=False,
        max_pixels=10**8,
        self_ensemble=False,
        consistency=False,
        mask=None,
        uncertainty=None,
        dry_run=False,
    )
