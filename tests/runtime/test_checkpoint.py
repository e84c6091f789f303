"""Checkpoints are whole or absent, and a damaged one never stops a run that has an older one."""

import errno
import os

import pytest
import torch

from imagesmith.errors import IntegrityError, OutputError
from imagesmith.runtime.checkpoint import (
    KEEP,
    checkpoints_in,
    drop_checkpoints,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)


def test_round_trip(tmp_path):
    tensors = {"a": torch.randn(3, 4, dtype=torch.float64), "b": torch.tensor(3), "c": torch.randn(2).bfloat16()}
    path = save_checkpoint(tmp_path, 7, tensors, {"x": [1, 2.5, None]})
    loaded, values = load_checkpoint(path)
    assert values == {"x": [1, 2.5, None]}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("position", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_one_flipped_byte_is_noticed_and_the_one_before_is_used(tmp_path, position):
    save_checkpoint(tmp_path, 1, {"a": torch.ones(100)}, {"n": 1})
    path = save_checkpoint(tmp_path, 2, {"a": torch.zeros(100)}, {"n": 2})
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        load_checkpoint(path)
    warnings: list[str] = []
    newest = load_newest(tmp_path, warnings.append)
    assert newest is not None
    assert newest[1] == {"n": 1}
    assert len(warnings) == 1


def test_truncated_and_absent(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:-10])
    assert load_newest(tmp_path, lambda text: None) is None
    assert load_newest(tmp_path / "nowhere", lambda text: None) is None


def test_only_the_newest_are_kept_and_no_temporary_file_stays(tmp_path):
    for k in range(KEEP + 3):
        save_checkpoint(tmp_path, k, {"a": torch.ones(1)}, {})
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"{k:012d}.safetensors" for k in (3, 4, 5)]


def test_one_to_go_back_to_is_spared_however_old(tmp_path):
    """A collapse is noticed after hours; by then the newest few checkpoints had all collapsed."""
    for k in range(KEEP + 3):
        save_checkpoint(tmp_path, k, {"a": torch.ones(1)}, {}, spared=1)
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [1, 3, 4, 5]


def test_one_just_written_stays_below_newer_ones_that_are_damaged(tmp_path):
    """A fault of the disk spoilt the newest few: the run went on from an old one, and threw away each that it made."""
    for k in range(1, KEEP + 1):
        path = save_checkpoint(tmp_path, 100 * k, {"a": torch.ones(1)}, {})
        path.write_bytes(path.read_bytes()[:-4])
    assert save_checkpoint(tmp_path, 50, {"a": torch.ones(1)}, {}).exists()


def test_what_a_run_went_back_from_is_dropped(tmp_path):
    """They would be taken for the newest: the next checkpoints be pruned for them, and a resumed run begin there."""
    for k in range(KEEP):
        save_checkpoint(tmp_path, k, {"a": torch.ones(1)}, {})
    drop_checkpoints(tmp_path, 0)
    assert [int(path.stem) for path in tmp_path.iterdir()] == [0]


def test_what_somebody_put_beside_them_is_none_and_stays(tmp_path):
    """A copy called good.safetensors was the newest of all: the run went back to it, and threw away a day."""
    copies = [tmp_path / name for name in ("good.safetensors", f"{1:012d}-copy.safetensors", "7.safetensors")]
    path = save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {"n": 1})
    for copy in copies:
        copy.write_bytes(path.read_bytes())
    for k in range(2, KEEP + 3):
        save_checkpoint(tmp_path, k, {"a": torch.ones(1)}, {"n": k})
    drop_checkpoints(tmp_path, KEEP + 1)
    numbered = [tmp_path / f"{k:012d}.safetensors" for k in (3, 4)]
    assert checkpoints_in(tmp_path) == numbered
    assert sorted(tmp_path.iterdir()) == sorted([*numbered, *copies])
    for most_images, expected in ((None, 4), (3, 3)):
        newest = load_newest(tmp_path, pytest.fail, most_images)
        assert newest is not None
        assert newest[1] == {"n": expected}


def test_full_disk_keeps_the_older_checkpoints(tmp_path, monkeypatch):
    """Making room for a new checkpoint before it is whole loses both."""
    for k in range(KEEP):
        save_checkpoint(tmp_path, k, {"a": torch.ones(1)}, {})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        save_checkpoint(tmp_path, KEEP, {"a": torch.ones(1)}, {})
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"{k:012d}.safetensors" for k in range(KEEP)]
