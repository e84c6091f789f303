"""What `pip install` brings: one torch bound everywhere, and no accelerator stack by surprise."""

import importlib.metadata
import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

import imagesmith

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TORCH = "torch>=2.11,<2.14"


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_torch_is_bounded_once_and_no_extra_loosens_it() -> None:
    """The accident: an extra asks for `torch` without a bound, and an upgrade breaks what was measured."""
    assert [r for r in PROJECT["dependencies"] if _name(r) == "torch"] == [TORCH]
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for requirement in requirements:
            assert _name(requirement) not in {"torch", "torchvision", "torchaudio"}, f"{extra}: {requirement}"


def test_every_requirement_states_the_version_it_was_tried_with() -> None:
    """The accident: a five-year-old release satisfies the requirement, and fails far from its cause."""
    everything = PROJECT["dependencies"] + list(chain(*PROJECT["optional-dependencies"].values()))
    assert [r for r in everything if ">=" not in r and "==" not in r] == []


def test_no_requirement_names_an_nvidia_package_directly_or_through_others() -> None:
    """The accident: `pip install imagesmith[demo]` fetches three gigabytes of CUDA onto a laptop.

    torch itself is left out of the walk: which build of it comes is the user's choice of index, not ours.
    """
    seen: set[tuple[str, ...]] = set()
    everything = PROJECT["dependencies"] + list(chain(*PROJECT["optional-dependencies"].values()))
    queue = [Requirement(text) for text in everything]
    while queue:
        wanted = queue.pop()
        key = (_name(wanted.name), *sorted(wanted.extras))
        if key in seen or key[0] == "torch":
            continue
        seen.add(key)
        assert not key[0].startswith(("nvidia-", "cuda-", "triton")), key
        try:
            needed = map(Requirement, importlib.metadata.requires(wanted.name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue
        extras = "", *wanted.extras
        queue += [r for r in needed if r.marker is None or any(r.marker.evaluate({"extra": name}) for name in extras)]
    assert {("pydantic-core",), ("scipy",)} <= seen, "the walk did not reach the requirements of requirements"


def test_shipped_weights_stay_small() -> None:
    """The accident: a package index refuses the wheel, or everybody downloads a network that few use."""
    weights = (ROOT / "src" / "imagesmith" / "zoo" / "weights").iterdir()
    assert sum(file.stat().st_size for file in weights) < 40 << 20


def test_the_installed_package_is_this_one() -> None:
    """The accident: the tests examine an older copy in site-packages while the edits go elsewhere."""
    source, installed = ROOT / "src" / "imagesmith", Path(imagesmith.__file__).parent
    for file in source.rglob("*.py"):
        copy = installed / file.relative_to(source)
        assert copy.read_bytes() == file.read_bytes(), (
            f"{copy} differs: install again, or with `pip install -e '.[test]'`"
        )
    assert importlib.metadata.version("imagesmith") == imagesmith.__version__


def test_the_package_carries_its_type_marker_and_its_licence() -> None:
    """The accident: types and licence are in the repository but not in what users install."""
    assert (ROOT / "src" / "imagesmith" / "py.typed").exists()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
