"""What a result says of the code that it was measured with."""

import subprocess
from importlib import import_module
from pathlib import Path

import pytest

import imagesmith


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, as which this one passes."""
    package = tmp_path / "src" / "imagesmith" / "__init__.py"
    for path in (package, tmp_path / "benchmarks" / "speed.py", tmp_path / "benchmarks" / "results" / "speed.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1\n")
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "all")):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    monkeypatch.setattr(import_module("timing"), "HERE", tmp_path / "benchmarks")
    monkeypatch.setattr(imagesmith, "__file__", str(package))
    return tmp_path


@pytest.mark.parametrize("changed", ["src/imagesmith/__init__.py", "src/imagesmith/new.py", "benchmarks/speed.py"])
def test_code_that_no_commit_holds_is_not_called_by_one(checkout: Path, changed: str) -> None:
    """The accident: a gain was measured before it was committed, and its row names the commit without it."""
    commit = import_module("timing").commit
    clean = commit()
    (checkout / "benchmarks" / "results" / "speed.json").write_text("2\n")
    assert commit() == clean, "the rows before it are no code"
    (checkout / changed).write_text("2\n")
    assert commit() == clean + "+"


def test_an_installed_package_is_not_the_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: the release in site-packages was measured, and passes for the commit beside the benchmark."""
    monkeypatch.setattr(imagesmith, "__file__", str(checkout.parent / "site-packages" / "imagesmith" / "__init__.py"))
    assert import_module("timing").commit() == f"installed {imagesmith.__version__}"
