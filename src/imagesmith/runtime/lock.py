"""One writer for one folder, one at a time for one file."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from imagesmith.errors import OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no record locks; there two runs in one folder stay the user's care
    fcntl = None


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep every other process out of `folder` during the block; UsageError where one is in it already.

    The lock is the operating system's and dies with this process, however that ends; workers do not inherit it.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another folder") from error
    with file:
        if fcntl:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise UsageError(
                    f"another process is writing to {folder}; wait for it or choose another folder"
                ) from None
            except OSError:
                pass  # a file system without locks
        yield


@contextmanager
def in_turn(file: BinaryIO) -> Iterator[None]:
    """Keep every other process from being in such a block for the same open file, on other machines as well."""
    if fcntl:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
        file.flush()  # what is written must be there before the next one may write
    finally:
        if fcntl:
            with contextlib.suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_UN)
