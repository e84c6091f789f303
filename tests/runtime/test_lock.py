"""One writer for one folder, and none left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from imagesmith.errors import OutputError, UsageError
from imagesmith.runtime.lock import sole_writer

pytest.importorskip("fcntl")  # the locks are those of POSIX systems

HOLDER = """
import os, sys
from pathlib import Path
from imagesmith.runtime.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    if os.fork():
        print("in", flush=True)
    sys.stdin.read()
"""
"""Goes in, starts a worker like those that prepare patches, and stays, as the worker does, until its input ends."""


def test_second_process_is_refused_until_the_first_was_killed(tmp_path: Path) -> None:
    """A lock that outlives its run, in a file or in a worker, makes the user delete it by hand after each power cut."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], text=True, **pipes) as first:
        assert first.stdout.readline() == "in\n"
        with pytest.raises(UsageError, match="another process is writing"), sole_writer(tmp_path):
            pass
        first.kill()
        first.wait()
        with sole_writer(tmp_path):  # though the worker lives until the end of the block above
            pass


def test_folder_is_made_and_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_writer(tmp_path / "runs" / "new"):
            assert (tmp_path / "runs" / "new").is_dir()


def test_place_where_no_folder_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another folder"), sole_writer(tmp_path / "file" / "run"):
        pass
