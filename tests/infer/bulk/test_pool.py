"""Many processes, one result: what a pool makes is what one process makes, whatever happens to its processes."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesmith.errors import UsageError, WorkerError
from imagesmith.infer.bulk import process
from imagesmith.infer.bulk.process import start_early
from imagesmith.infer.manifest import FILE_NAME
from imagesmith.infer.outcome import ItemResult, Progress, Summary
from imagesmith.infer.restore import Restorer

KILLED = """
import os, signal
from imagesmith.infer.bulk.parcel import tensor_file
with tensor_file() as tensors:
    tensors.write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def told(summary: Summary) -> list[ItemResult]:
    """The results without the time they took."""
    return [replace(result, seconds=0.0) for result in summary.results]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.name != FILE_NAME}


@pytest.mark.usefixtures("one_thread")
def test_a_pool_makes_what_one_process_makes(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """A second way through the same files, and one day their bytes, their notes or their failures differ."""
    (photos / "b2.jpg").write_bytes((photos / "c.png").read_bytes())  # PNG under another name
    (photos / "b2.webp").write_bytes((photos / "a.png").read_bytes())  # and another that wants the same result
    events: list[Progress] = []
    alone = restorer.path(photos, tmp_path / "out", recursive=True, workers=1)
    (tmp_path / "out").rename(tmp_path / "alone")
    start_early()
    (early,) = process._early
    pooled = restorer.path(photos, tmp_path / "out", recursive=True, workers=2, on_progress=events.append)
    assert not process._early
    assert early._popen.wait(20) != -signal.SIGKILL, "it was taken, and not dismissed"
    assert told(pooled) == told(alone)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    assert sorted(result.status for result in pooled.results) == ["done"] * 5 + ["failed"] * 2
    assert [event.done for event in events] == list(range(1, 8))
    assert {event.total for event in events} == {7}
    assert sorted(event.item for event in events) == sorted(result.input for result in pooled.results)
    lines = [(tmp_path / name / FILE_NAME).read_text().splitlines() for name in ("out", "alone")]
    told_by = [sorted(line.partition('"run"')[0] for line in each) for each in lines]
    assert told_by[0] == told_by[1]
    again = restorer.path(photos, tmp_path / "out", recursive=True, resume=True)
    assert sorted(result.status for result in again.results) == ["failed"] * 2 + ["skipped"] * 5


def test_a_killed_process_costs_at_most_its_picture(deadly: Restorer, deadly_photos: Path, tmp_path: Path) -> None:
    """The kernel's memory killer takes one of eight processes, and the run waits for its answer for ever."""
    summary = deadly.path(deadly_photos, tmp_path / "out", workers=2)
    status = {Path(result.input).stem: result.status for result in summary.results}
    assert status == {"a": "done", "always": "failed", "b": "done", "once": "done", "z": "done"}
    failed = summary.results[1]
    assert failed.error_kind == "WorkerError"
    assert "SIGKILL" in (failed.error or "")
    assert len((failed.error or "").splitlines()) <= 3
    assert summary.exit_code == 3
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {"a", "b", "once", "z"}


def test_an_interrupt_stops_all_processes_and_can_be_resumed(
    make_restorer: Callable[..., Restorer], photo: np.ndarray, tmp_path: Path
) -> None:
    """Ctrl-C ended the parent, and eight orphans went on writing into the folder."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for k in range(40):
        Image.fromarray(np.roll(photo, k, axis=0)).save(source / f"{k:02}.png")

    def interrupt(progress: Progress) -> None:
        if progress.done == 2:
            signal.raise_signal(signal.SIGINT)

    restorer = make_restorer()
    summary = restorer.path(source, out, workers=2, on_progress=interrupt)
    assert summary.cancelled
    assert 2 <= len(summary.results) < 40
    written = sorted(path.stem for path in out.glob("*.png"))
    assert written == sorted(Path(result.input).stem for result in summary.results)
    assert not list(out.glob(".*.part"))
    again = restorer.path(source, out, resume=True)
    assert [result.status for result in again.results].count("skipped") == len(written)
    assert again.exit_code == 0


def test_an_interrupt_is_heard_while_processes_start(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C half a second after the start of eight was heard thirteen seconds later, when all of them were ready."""
    late = tmp_path / "late"
    late.write_text("#!/bin/sh\nexec sleep 60\n")
    late.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(late))
    threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()
    start = time.monotonic()
    summary = restorer.path(photos, tmp_path / "out", workers=2)
    assert time.monotonic() - start < 2
    assert summary.cancelled
    assert summary.results == []


def test_processes_that_do_not_start_end_the_run_in_words(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture after the other would be reported as failed, a thousand times, for a fault that none of them has."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerError, match="exit code 1"):
        restorer.path(photos, tmp_path / "out", workers=2)


@pytest.mark.skipif(os.name != "posix", reason="nothing tells there whether a folder is still used")
def test_the_weights_of_a_killed_run_go_with_the_next(
    restorer: Restorer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run that was killed left half a gigabyte of weights in the temporary folder, for ever."""
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    killed = subprocess.run([sys.executable, "-c", KILLED], env=os.environ | {"TMPDIR": str(scratch)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(scratch.iterdir())) == 1
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerError):
        restorer.path(photos, tmp_path / "out", workers=2)
    assert list(scratch.iterdir()) == []


def test_a_model_that_cannot_travel_is_told(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    """A traceback of pickle tells nobody that one process would do."""
    restorer.unpicklable = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="--workers 1"):
        restorer.path(photos, tmp_path / "out", workers=2)
