"""Broken, odd and hostile files, all in one batch: every one is restored or told, and none takes others with it."""

import json
import zipfile
from pathlib import Path

import pytest

TOLD = {"ImageError", "FormatError", "TruncatedError", "TooLargeError"}


def test_the_whole_hostile_folder(shared_data: Path, tiny: Path, call, tmp_path: Path, monkeypatch) -> None:
    """The accident: the one bad scan in a thousand ends the job, hangs it, or takes all memory."""
    monkeypatch.chdir(tmp_path)
    done = call("restore", shared_data / "hostile", "-o", "out", "-r", "-n", tiny, "--dtype", "fp32", "--json")
    assert done.code == 3
    assert "Traceback" not in done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    failed = [row for row in rows if row["status"] == "failed"]
    assert len(rows) > 150
    assert 0 < len(failed) < len(rows) / 4
    for row in failed:
        assert row["error_kind"] in TOLD, row
        assert len(row["error"].splitlines()) <= 3, row
        assert not Path(row["output"]).exists(), row
    for row in rows:
        assert row["status"] != "done" or Path(row["output"]).stat().st_size > 0, row


@pytest.mark.parametrize(
    "name", ["bmp_b_badwidth.bmp", "decompression_bomb.gif", "truncated_image.png", "zero_width.gif"]
)
def test_one_broken_file_is_one_message(shared_data: Path, tiny: Path, call, tmp_path: Path, monkeypatch, name) -> None:
    """The accident: a message per layer of the program, and none that says what to do."""
    monkeypatch.chdir(tmp_path)
    call("restore", shared_data / "hostile" / "images" / name, "-o", "out", "-n", tiny).was_refused(4, name)


def test_no_name_gives_orders_to_the_terminal(tiny: Path, call, tmp_path: Path, monkeypatch) -> None:
    """The accident: a name in somebody's archive, or a file that is not there, renames the window or hides an error."""
    monkeypatch.chdir(tmp_path)
    name = "x\x1b]0;owned\x07\x1b[8m"
    with zipfile.ZipFile("box.zip", "w") as archive:
        archive.writestr(f"{name}.png", b"no picture")
    for source in ("box.zip", f"{name}.png"):
        done = call("restore", source, "-n", tiny, "--dtype", "fp32")
        assert r"x\x1b]0;owned\x07\x1b[8m.png" in done.err
        assert "\x1b" not in done.err
