"""Models on their way to other processes arrive as they were, and their weights lie in memory once."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from imagesmith.errors import OutputError
from imagesmith.infer.bulk.parcel import pack, tensor_file, unpack
from imagesmith.infer.restore import Restorer

TENSORS = {
    "plain": torch.arange(24.0).view(2, 3, 4),
    "channels_last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "bf16": torch.rand(3, 3).bfloat16(),
    "part of another": torch.arange(24).view(4, 6)[1:3, 1:3],
    "turned": torch.rand(4, 6).T,
    "number": torch.tensor(3.5),
    "bool": torch.tensor([True, False, True]),
    "empty": torch.empty(0, 3),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_arrives_with_its_layout(tmp_path: Path, name: str) -> None:
    """A weight that arrives in another layout is computed by another kernel, with other last digits."""
    tensor = TENSORS[name]
    copy = unpack(pack({"before": torch.ones(3), "tensor": tensor}, tmp_path / "t"), tmp_path / "t")["tensor"]
    assert torch.equal(copy, tensor)
    assert copy.dtype == tensor.dtype
    if tensor.ndim == 4:
        assert copy.stride() == tensor.stride()


def test_parameters_stay_parameters(tmp_path: Path) -> None:
    """A module whose weights arrive as plain tensors has none to iterate over, and no device."""
    net = nn.Conv2d(2, 3, 3).requires_grad_(False)
    copy = unpack(pack(net, tmp_path / "t"), tmp_path / "t")
    assert [name for name, _ in copy.named_parameters()] == ["weight", "bias"]
    assert torch.equal(copy(torch.ones(1, 2, 5, 5)), net(torch.ones(1, 2, 5, 5)))


def test_the_pickle_of_a_model_holds_no_weights(restorer: Restorer, tmp_path: Path) -> None:
    """64 processes with a copy each of 70 MB of weights leave no memory for pictures."""
    parcel = pack(restorer, tmp_path / "t")
    weights = sum(p.numel() * p.element_size() for p in restorer.net.parameters())
    assert (tmp_path / "t").stat().st_size >= weights
    copy = unpack(parcel, tmp_path / "t")
    for ours, theirs in zip(copy.net.parameters(), restorer.net.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
    next(copy.net.parameters()).zero_()  # its own from here on, and not the file's
    again = unpack(parcel, tmp_path / "t")
    assert torch.equal(next(again.net.parameters()), next(restorer.net.parameters()))


def test_nothing_to_map_is_fine(tmp_path: Path) -> None:
    """An object without tensors leaves an empty file, which no system maps."""
    assert unpack(pack([1, "two"], tmp_path / "t"), tmp_path / "t") == [1, "two"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_no_room_for_the_weights_is_told() -> None:
    """The accident: a small TMPDIR, and 'No space left on device' without a word of where."""
    with pytest.raises(OutputError, match=r"weights in '/dev'.*No space left(.|\n)*TMPDIR"):
        pack(torch.ones(3), Path("/dev/full"))


def test_a_run_leaves_the_weights_of_another_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second command took away the weights of the first, whose next process then did not start."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with tensor_file() as first:
        first.touch()
        with tensor_file() as second:
            assert first.exists()
            assert first.parent != second.parent
    assert list(tmp_path.iterdir()) == []
