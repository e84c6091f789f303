"""`imagesmith doctor`: every finding that a report of trouble needs."""

import itertools
import tomllib
from pathlib import Path

import pytest
import torch
import typer

from imagesmith.apps import doctor
from imagesmith.apps.cli.doctor import doctor as cli_doctor
from imagesmith.apps.cli.options import Device, Dtype
from imagesmith.apps.doctor import EXTRAS, examine
from imagesmith.errors import UsageError
from imagesmith.runtime import device, post_ops, remembered
from imagesmith.runtime.device import DTYPES
from imagesmith.runtime.remembered import found_once
from imagesmith.runtime.tiling import TILE_BYTES
from imagesmith.zoo import cards


def test_findings_are_complete_and_end_with_a_timed_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: the one command to run before asking for help leaves out what the helper has to ask for."""
    monkeypatch.setitem(TILE_BYTES, "cpu", 1 << 20)  # tiles of the usual size take seconds
    monkeypatch.setitem(device._PROBE_MACS, "cpu", 1e7)  # and so do probes of every network
    monkeypatch.setitem(EXTRAS, "community", ("json",))  # the real one takes seconds too
    found = dict(examine("cpu", "fp32"))
    for name in ("imagesmith", "python", "torch", "pillow", "picture codecs", "extra 'demo'", "devices", "memory"):
        assert found[name]
    assert "cpu fp32" in found["runtime"]
    assert "probe" in found["runtime"], "the decision comes without its reason"
    assert "probe" in found["denoise"], "only the network of the timed tile is explained"
    assert "probe.json" in found["measured"]
    fused = ", ".join(name for name, dtype in DTYPES.items() if post_ops._is_right(dtype))
    assert fused in found["residual pairs"]
    assert "fp32" in found["residual pairs"], "what low precision leaves exact is a secret"
    assert "100 % " in found["size of tiles"]
    assert " kB an input pixel" in found["memory of a tile"]
    assert list(found).index("measured") > list(found).index("denoise"), "told before anything was measured"
    assert list(found)[-1] == "one tile"
    assert found["one tile"].partition(" ms for ")[0].isdecimal()


@pytest.mark.parametrize(
    ("device", "dtype", "said"),
    [(Device.CUDA, Dtype.AUTO, "'cuda' is not available here"), (Device.CPU, Dtype.FP16, "not computed by CPUs")],
)
def test_what_this_machine_has_not_is_refused_before_anything_is_printed(
    device: Device, dtype: Dtype, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accident: a screenful of findings, and the mistake of one word stands below it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=said):
        cli_doctor(device=device, dtype=dtype)
    assert capsys.readouterr().out == ""


def test_cores_that_a_container_withholds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a report says 64 cores, and nobody sees why the run is as slow as on two."""
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    assert dict(itertools.islice(examine(), 20))["processor"].startswith("64 cores, 2 of them for this process, ")


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of which only a model that enlarges was shipped, and lost its second half."""
    whole = cards.shipped_path("sr-x4").read_bytes()
    (tmp_path / "sr-x4.safetensors").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(cards, "WEIGHTS", tmp_path)
    monkeypatch.setitem(TILE_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(doctor, "EXTRAS", {})


@pytest.mark.usefixtures("damaged")
def test_what_is_damaged_is_a_finding_among_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accident: the command that is run because something is broken ends at the first broken thing it finds."""
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "nowhere-at-all"))
    with pytest.raises(typer.Exit) as ended:
        cli_doctor(device=Device.CPU, dtype=Dtype.FP32)
    assert ended.value.exit_code == 3
    found = {line[:18].strip(): line[18:] for line in capsys.readouterr().out.splitlines()}
    assert found["nowhere-at-all"] == "version unknown"
    assert found["sr-x4"].startswith("cannot be used: ")
    assert found["one tile"].endswith("with an untrained network")


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


def test_answers_that_cannot_be_kept_are_not_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a cache folder of another user, every command measures for seconds, and doctor shows a file."""

    def ask() -> str:
        monkeypatch.setattr(remembered, "_known", {})
        found_once("q", torch.device("cpu"), lambda: {"fast": True}, fits={"fast": bool})
        return doctor._measured()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "imagesmith" / "probe.json"
    assert ask() == f"kept in {kept}; delete it to measure again"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ask().startswith(f"anew by every command, as {tmp_path / 'file' / 'imagesmith' / 'probe.json'} cannot be")
    monkeypatch.setenv("IMAGESMITH_NO_CACHE", "1")
    assert ask() == "anew by every command, as asked"


@pytest.mark.parametrize("has_bf16", [False, True])
@pytest.mark.parametrize("has_kernel", [False, True])
def test_a_processor_without_bf16_is_told_what_that_means(
    has_bf16: bool, has_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accident: half the speeds of the README, and nobody knows what is missing."""
    monkeypatch.setitem(EXTRAS, "community", ("json",))
    monkeypatch.setattr(doctor, "emulates_bf16", lambda _: not has_bf16)
    monkeypatch.setattr(doctor, "kernel", lambda: object() if has_kernel else None)
    found = dict(itertools.takewhile(lambda pair: pair[0] != "devices", examine()))
    assert ("no bf16 in this processor" in found["processor"]) == (not has_bf16)
    assert ("with gcc" in found["convolutions"]) == (not has_kernel)
