"""An object on its way to other processes of this machine: its tensors lie in one file, which all of them map.

However many processes hold a model, its weights are in memory once. The file goes with the run, or, where that is
killed, when the next one begins.
"""

import contextlib
import io
import math
import mmap
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from imagesmith.errors import OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows, where nothing tells whether a folder is still used: there they stay
    fcntl = None

_PREFIX, _NAME = "imagesmith-weights-", "tensors"
_ALIGNED = 64  # bytes at which a tensor begins, for the widest vector loads


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the file, in a memory of this `shape`, whose `order` makes the tensor's dimensions."""

    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    order: tuple[int, ...]
    is_parameter: bool


@contextmanager
def tensor_file() -> Iterator[Path]:
    """A path for the tensors of one run, in a temporary folder of its own; what killed runs left is removed first."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_NAME}"):  # in use, a folder is locked before it has one
        with contextlib.suppress(OSError), _locked(left.parent):
            shutil.rmtree(left.parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a file system without locks, where nothing is taken for abandoned either
            held.enter_context(_locked(Path(folder)))
        yield Path(folder) / _NAME


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold `folder` until the block or this process ends; OSError where another does, or nothing can be locked."""
    if fcntl is None:
        raise OSError("this system has no such locks")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def pack(thing: object, file: Path) -> bytes:
    """A pickle of `thing` without its tensors, which are written to `file`.

    UsageError where it cannot travel, OutputError where the file cannot be written.
    """
    buffer = io.BytesIO()
    try:
        with open(file, "wb") as stream, _travelling():
            _Packer(buffer, stream).dump(thing)
    except OSError as error:
        raise OutputError(
            f"expected room for the model's weights in '{file.parent}', got: {error.strerror}\n"
            "name another folder in TMPDIR, or use --workers 1"
        ) from error
    return buffer.getvalue()


def pack_whole(thing: object) -> bytes:
    """A pickle of `thing` with its tensors, for another machine; UsageError where it cannot travel."""
    with _travelling():
        return pickle.dumps(thing)


def travels(thing: object) -> bool:
    """Whether `thing` can be packed."""
    try:
        pack_whole(thing)
    except UsageError:
        return False
    return True


def unpack(parcel: bytes, file: Path) -> Any:
    """What was packed; its tensors are parts of `file`, shared until somebody writes into them."""
    with open(file, "rb") as stream:
        # an empty file cannot be mapped
        memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) if file.stat().st_size else bytearray()
    return _Unpacker(io.BytesIO(parcel), memory).load()


@contextmanager
def _travelling() -> Iterator[None]:
    try:
        yield
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(f"this model cannot be handed to other processes ({error}); use --workers 1") from error


class _Packer(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, stream: BinaryIO) -> None:
        super().__init__(buffer)
        self._stream = stream

    def persistent_id(self, obj: Any) -> _Place | None:
        if type(obj) not in (Tensor, nn.Parameter) or obj.device.type != "cpu" or obj.numel() == 0:
            return None
        order = sorted(range(obj.ndim), key=obj.stride, reverse=True)  # as channels_last has it, and so on
        memory = obj.detach().permute(order).contiguous()
        self._stream.write(b"\0" * (-self._stream.tell() % _ALIGNED))
        offset = self._stream.tell()
        self._stream.write(memory.flatten().view(torch.uint8).numpy())
        back = tuple(order.index(k) for k in range(obj.ndim))
        return _Place(offset, obj.dtype, tuple(memory.shape), back, isinstance(obj, nn.Parameter))


class _Unpacker(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, memory: mmap.mmap | bytearray) -> None:
        super().__init__(buffer)
        self._memory = memory

    def persistent_load(self, pid: _Place) -> Tensor:
        count = math.prod(pid.shape)
        flat = torch.frombuffer(self._memory, dtype=pid.dtype, count=count, offset=pid.offset)
        tensor = flat.view(pid.shape).permute(pid.order)
        return nn.Parameter(tensor, requires_grad=False) if pid.is_parameter else tensor
