"""Files that are whole or absent: written under a temporary name in the same folder, flushed to disk, renamed."""

import contextlib
import errno
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from imagesmith.errors import DiskFullError, OutputError

try:
    import fcntl
except ImportError:  # Windows, where nothing tells whether a temporary file is still written: there they stay
    fcntl = None

_DIGITS = 12  # in the name of a temporary file
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = False, scratch: Path | None = None) -> Iterator[BinaryIO]:
    """A stream, also to be read, that appears under `path` as a whole when the block ends well, else not at all.

    Until then it lies in the folder `scratch`, of the same file system, or else beside `path`. OutputError where it
    cannot be written, or, unless it may `overwrite`, where something else has come to lie under `path` meanwhile. An
    OSError of the block that names another file is none of this one, and passes.
    """
    check_free(path, overwrite=overwrite)
    part = part_beside(path, scratch)
    try:
        with open(part, "x+b") as stream, _in_use(stream):
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            _give_name(part, path, overwrite=overwrite)
    except OSError as error:
        if error.filename is not None and str(error.filename) not in (str(part), str(path)):
            raise
        raise _kind(error)(f"{path} cannot be written: {reason(error, path)}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def part_beside(path: Path, scratch: Path | None = None) -> Path:
    """A name for what is not finished, in the folder `scratch` or else in that of `path`."""
    return (scratch or path.parent) / f".{secrets.token_hex(_DIGITS // 2)}.part"


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files in `folder` that nobody writes any more, as a killed process leaves them."""
    if fcntl is None:
        return
    for name in glob.glob(f".{'[0-9a-f]' * _DIGITS}.part", root_dir=folder):
        with contextlib.suppress(OSError), open(folder / name, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / name).unlink()


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """OutputError where `path` cannot become a new file: it exists, unless it may be replaced, or its name is none.

    A link that leads nowhere is there as well.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {reason(error, path)}") from error
    if not overwrite:
        raise _taken(path)


def check_place(path: Path, *, overwrite: bool = False) -> None:
    """`check_free` for the file that long work ends with; OutputError too for a folder, or where its own is missing."""
    check_free(path, overwrite=overwrite)
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: it is a folder; name a file")
    if not path.parent.is_dir():
        is_there = os.path.lexists(path.parent)
        problem = "is no folder; name another one" if is_there else "does not exist; create it first"
        raise OutputError(f"{path} cannot be written: {'' if is_there else 'the folder '}{path.parent} {problem}")


def check_writable(path: Path) -> None:
    """OutputError, in the words of whoever would write `path`, where its folder takes no file or cannot be made.

    That is what can be told by looking, which writes nothing; a disk may refuse all the same.
    """
    folder = path.parent
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        number = errno.ENOTDIR if there != folder and there.exists() else errno.EEXIST
    elif not os.access(there, os.W_OK | os.X_OK):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
    else:
        return
    error = OSError(number, os.strerror(number))
    raise OutputError(f"{path} cannot be written: {reason(error, path)}") if folder.is_dir() else _unmade(folder, error)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all, in place of what was there; missing folders are made. Text is UTF-8."""
    make_folder(path.parent)
    with replacing(path, overwrite=True) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def make_folder(folder: Path) -> None:
    """The folder with those it lies in, if it is not there yet; OutputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unmade(folder, error) from error


def _unmade(folder: Path, error: OSError) -> OutputError:
    return _kind(error)(f"cannot make the folder {folder}: {error.strerror}; choose another one")


@contextlib.contextmanager
def _in_use(stream: BinaryIO) -> Iterator[None]:
    """Keep `remove_abandoned` from the file of `stream` during the block, even where that is closed in it."""
    if fcntl is None:
        yield
        return
    with open(os.dup(stream.fileno()), "rb") as file:
        with contextlib.suppress(OSError):  # a file system without locks, where nothing is taken for abandoned either
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _give_name(part: Path, path: Path, *, overwrite: bool) -> None:
    """The file `part` becomes `path`; OutputError where something has that name, unless it may be replaced."""
    if not overwrite:
        try:
            os.link(part, path)  # nothing can come between, as it can between a look and a renaming
        except FileExistsError:
            raise _taken(path) from None
        except OSError:  # a file system without links
            check_free(path)
        else:
            return
    os.replace(part, path)


def _taken(path: Path) -> OutputError:
    return OutputError(f"{path} exists already\nuse -y (overwrite) to replace it, or name another output")


def _kind(error: OSError) -> type[OutputError]:
    return DiskFullError if error.errno in _FULL else OutputError


def reason(error: OSError, path: Path) -> str:
    """What went wrong on the file system and what to do, in one line."""
    if error.errno in _FULL:
        return "the disk is full; free some space or choose another folder"
    if error.errno == errno.EFBIG:
        return (
            "no file of this size can be there: FAT takes none over 4 GB, and `ulimit -f` sets a limit of its own; "
            "choose another folder, or raise the limit"
        )
    if error.errno == errno.ENOENT:
        return f"the folder {path.parent} does not exist; create it first"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission in {path.parent}; choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return "its name is too long; choose a shorter one"
    return error.strerror or str(error)
