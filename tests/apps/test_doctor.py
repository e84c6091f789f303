"""`imagesmith doctor`: every finding that a report of trouble needs."""

import itertools
import tomllib
from pathlib import Path

import pytest

from imagesmith.apps import doctor
from imagesmith.apps.doctor import EXTRAS, examine
from imagesmith.runtime.tiling import TILE_BYTES


def test_findings_are_complete_and_end_with_a_timed_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: the one command to run before asking for help leaves out what the helper has to ask for."""
    monkeypatch.setitem(TILE_BYTES, "cpu", 1 << 20)  # tiles of the usual size take seconds
    monkeypatch.setitem(EXTRAS, "community", ("json",))  # the real one takes seconds too
    found = dict(examine("cpu", "fp32"))
    for name in ("imagesmith", "python", "torch", "pillow", "picture codecs", "extra 'demo'", "devices", "memory"):
        assert found[name]
    assert "cpu fp32" in found["runtime"]
    assert "probe" in found["runtime"], "the decision comes without its reason"
    assert "probe" in found["denoise"], "only the network of the timed tile is explained"
    assert "probe.json" in found["measured"]
    assert "100 % " in found["size of tiles"]
    assert " kB an input pixel" in found["memory of a tile"]
    assert list(found)[-1] == "one tile"
    assert found["one tile"].partition(" ms for ")[0].isdecimal()


def test_every_extra_is_looked_for() -> None:
    """The accident: another project's weights cannot be read, and doctor has never heard of what they take."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"])


def test_an_extra_that_cannot_be_imported_is_not_called_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: a torchvision for another torch lies beside spandrel, and doctor finds nothing wrong."""
    (tmp_path / "unfit.py").write_text("raise RuntimeError('operator nms does not exist\\nand more')")
    monkeypatch.syspath_prepend(tmp_path)
    for name, finding in (
        ("unfit", "installed, but cannot be imported: operator nms does not exist"),
        ("nowhere_at_all", 'missing: pip install "imagesmith[community]"'),
        ("json", "installed"),
    ):
        assert doctor._state_of("community", (name,)) == finding


@pytest.mark.parametrize("has_bf16", [False, True])
def test_a_processor_without_bf16_is_told_what_that_means(has_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: half the speeds of the README, and nobody knows that they were measured in another precision."""
    monkeypatch.setitem(EXTRAS, "community", ("json",))
    monkeypatch.setattr(doctor, "emulates_bf16", lambda _: not has_bf16)
    found = dict(itertools.takewhile(lambda pair: pair[0] != "devices", examine()))
    assert ("no bf16 in this processor: about half the stated speeds" in found["processor"]) == (not has_bf16)
