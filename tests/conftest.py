"""Fixtures shared by all tests."""

import os
import subprocess
import sys
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


@pytest.fixture(scope="session")
def run_python():
    """Run a line of Python in a fresh interpreter; fails with its output unless it exits with 0."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
