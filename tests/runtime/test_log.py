"""The record of a run tells every image count once, whatever crashed in between."""

import errno
import json
import sys
import threading
from pathlib import Path

import pytest
import torch

from imagesmith.errors import OutputError
from imagesmith.runtime.log import RunLog, _writing, read_history, tell


def test_means_per_tick(tmp_path):
    log = RunLog(tmp_path, quiet=True)
    log.add({"loss": torch.tensor(1.0), "norm": 4.0})
    log.add({"loss": torch.tensor(3.0)})
    row = log.tick(32, rate=0.5)
    assert row == {"images_seen": 32, "loss": 2.0, "norm": 4.0, "rate": 0.5}
    assert log.tick(64) == {"images_seen": 64}
    log.close()
    assert read_history(tmp_path) == [row, {"images_seen": 64}]


def test_resuming_drops_what_lies_beyond_the_checkpoint(tmp_path):
    log = RunLog(tmp_path, quiet=True)
    for images in (16, 32, 48):
        log.tick(images)
    log.close()
    with open(tmp_path / "history.jsonl", "a") as file:
        file.write('{"images_seen": 64, "lo')  # the crash came while this line was written
    RunLog(tmp_path, images_seen=32, quiet=True).close()
    assert [row["images_seen"] for row in read_history(tmp_path)] == [16, 32]


@pytest.mark.parametrize(
    "damaged",
    [b"null", b"{}", b'{"images_seen": null}', b'{"images_seen": "16"}', b"\xff\xfe", b'{"images_seen": 1', b""],
)
def test_a_damaged_line_costs_neither_the_run_nor_the_lines_after_it(tmp_path, damaged):
    """A fault of the disk in an old line: the run could not go on, or the curve of all that came later was deleted."""
    lines = [b'{"images_seen": 16}', damaged, b'{"images_seen": 32}']
    (tmp_path / "history.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    RunLog(tmp_path, images_seen=32, quiet=True).close()
    assert [row["images_seen"] for row in read_history(tmp_path)] == [16, 32]


def test_rewinding_drops_what_a_roll_back_undid(tmp_path):
    log = RunLog(tmp_path, quiet=True)
    for images in (16, 32, 48):
        log.tick(images)
    log.rewind(16)
    log.tick(32, rate=0.5)
    log.close()
    assert read_history(tmp_path) == [{"images_seen": 16}, {"images_seen": 32, "rate": 0.5}]


def test_full_disk_is_one_clear_error(tmp_path):
    log = RunLog(tmp_path, quiet=True)
    log.history = Path("/dev/full")
    if not log.history.exists():
        pytest.skip("needs a device that is always full")
    with pytest.raises(OutputError, match=r"the disk is full; .*the same command goes on from the newest checkpoint"):
        log.tick(1)
    log.close()


def test_a_full_disk_under_tensorboard_is_the_same_error_and_no_traceback(tmp_path, monkeypatch, capsys):
    """Its thread printed twenty lines of a library before the message that said what to do."""

    def full(writer: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hook, log = threading.excepthook, RunLog(tmp_path, quiet=True)
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.raises(OutputError, match="the disk is full"):
        log.tick(1, loss=2.0)
        log.close()
    with pytest.raises(OutputError, match="the disk is full"):
        log.close()
    assert capsys.readouterr().err == ""
    assert threading.excepthook is hook


def test_what_may_not_be_written_is_not_told_to_be_a_full_disk(tmp_path):
    """The accident: a folder of somebody else, and the advice to free some space."""
    with pytest.raises(OutputError, match=r"no permission in .*; choose another folder"), _writing(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_lines_are_strict_json(tmp_path):
    """NaN in a JSON line breaks every reader but Python's."""
    log = RunLog(tmp_path, quiet=True)
    log.add({"loss": float("nan")})
    log.tick(1)
    log.close()

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    line = (tmp_path / "history.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse) == {"images_seen": 1, "loss": None}


def test_says_to_stderr_and_keeps_it(tmp_path, capsys):
    log = RunLog(tmp_path)
    log.say("batch 16: as asked")
    log.close()
    assert "batch 16: as asked" in capsys.readouterr().err
    assert "batch 16: as asked" in (tmp_path / "console.log").read_text()


def test_a_console_that_goes_away_ends_no_training(tmp_path, monkeypatch):
    """`... 2>&1 | head -3`, or a terminal closed over night: the run was over, its last hours without a checkpoint."""

    class Gone:
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    log = RunLog(tmp_path)
    monkeypatch.setattr(sys, "stderr", Gone())
    log.say("nobody hears this")
    log.say("nor this")
    tell("nor that")
    log.close()
    kept = (tmp_path / "console.log").read_text().splitlines()
    assert [line.partition("] ")[2] for line in kept] == ["nobody hears this", "nor this"]
