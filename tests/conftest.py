"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs and hostile files that developers have; tests that need it skip without it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("IMAGESMITH_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"needs the shared test data, not found at {folder} (set IMAGESMITH_SHARED)")
    return folder
