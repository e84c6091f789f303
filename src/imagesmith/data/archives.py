"""Collections of pictures - a folder, a zip or a tar of any compression - opened once and read front to back.

`sources` lists what a user wants worked on, file by file; here fifty thousand members of one archive are read in turn,
so it stays open, and a compressed tar is never rewound for the next member.
"""

import contextlib
import itertools
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from imagesmith.data.formats import SUFFIXES
from imagesmith.data.sources import (
    DAMAGE,
    MOST_MEMBERS,
    Item,
    check_declared,
    is_hidden,
    leads_out,
    list_items,
    read_zip_member,
    unpacking,
)
from imagesmith.errors import ImageError, NothingUsableError, UsageError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)
_ODD = re.compile(r"(^|/)(\.|__MACOSX)|^/|^[^/]*:")  # names that a closer look may refuse
_HARMLESS_BYTES = 1 << 30
_PIECE = 512  # pictures read before they are looked at together
_MOST_RATIO = 200  # pictures are compressed already; deflate's own limit, which only bombs reach, is 1032


Finding = TypeVar("Finding")


@dataclass(frozen=True)
class Entry:
    """One picture of a collection: its `name` below it; `read` gives what `read_image` takes, or raises ImageError."""

    name: str
    read: Callable[[], Path | bytes]


@dataclass
class Collection:
    """The pictures of a folder or archive, in the order in which they are read fastest."""

    where: str
    entries: list[Entry] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """One sentence for each picture or inner archive that is not taken."""
    others: int = 0
    """Files that are no pictures."""
    find: Callable[[str], Entry | None] = lambda name: None
    """The file of this name below the collection, picture or not."""


def is_archive(path: Path) -> bool:
    """Whether a file's name ends like that of a zip or tar archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


@contextlib.contextmanager
def open_collection(path: Path) -> Iterator[Collection]:
    """The pictures of a folder, zip or tar; their `read` works inside the block. The last of one name counts.

    UsageError if `path` is none of these, NothingUsableError if it cannot be opened or there is no picture in it.
    """
    collection = Collection(str(path))
    with contextlib.ExitStack() as stack:
        if path.is_dir():
            _list_folder(path, collection)
        elif is_archive(path) and path.exists():
            try:
                if path.suffix.lower() == ".zip":
                    _list_zip(stack.enter_context(zipfile.ZipFile(path)), collection)
                else:
                    _list_tar(stack.enter_context(tarfile.open(path)), collection)
            except DAMAGE as error:
                raise NothingUsableError(f"{path}: not a readable archive ({error}); make it again") from None
        else:
            found = f"a file named '{path}'" if path.exists() else f"'{path}', where there is nothing"
            raise UsageError(f"expected a folder, {', '.join(ARCHIVE_SUFFIXES)} or .npz, got {found}")
        if not collection.entries:
            first = f"; first problem: {collection.refused[0]}" if collection.refused else ""
            raise NothingUsableError(
                f"expected pictures, found none in {path} ({collection.others} other files){first}"
            )
        yield collection


def look_at(
    entries: Iterable[Entry], look: Callable[[str, Path | bytes], Finding]
) -> Iterator[tuple[str, Finding | ImageError]]:
    """(name, what `look(name, content)` makes of it) of each entry in turn, or an ImageError of one line with the name.

    One thread reads, as archives must be; `look` runs in many, and may raise ImageError.
    """

    def attempt(pair: tuple[Entry, Path | bytes | ImageError]) -> tuple[str, Finding | ImageError]:
        entry, content = pair
        try:
            if isinstance(content, ImageError):
                raise content
            return entry.name, look(entry.name, content)
        except ImageError as error:
            said = str(error).removeprefix(f"{content}: ").removeprefix(f"{entry.name}: ").replace("\n", "; ")
            return entry.name, ImageError(f"{entry.name}: {said}")

    remaining = iter(entries)
    with ThreadPoolExecutor() as pool:
        while piece := list(itertools.islice(remaining, _PIECE)):
            yield from pool.map(attempt, [(entry, _content(entry)) for entry in piece])


def _content(entry: Entry) -> Path | bytes | ImageError:
    try:
        return entry.read()
    except ImageError as error:
        return error


def _list_folder(path: Path, collection: Collection) -> None:
    items = list_items([path], recursive=True, into_runs=False)
    collection.entries += [Entry(str(item.name), partial(_from_folder, item)) for item in items]
    collection.others = items.skipped
    collection.find = lambda name: Entry(name, lambda: path / name) if (path / name).is_file() else None


def _from_folder(item: Item) -> Path:
    path = item.read()
    assert isinstance(path, Path), "a folder holds files"
    return path


def _list_zip(archive: zipfile.ZipFile, collection: Collection) -> None:
    bounds = _Bounds(collection.where)
    members = {_plain(member.filename): member for member in archive.infolist() if not member.filename.endswith("/")}
    bounds.check(len(members), sum(member.file_size for member in members.values()))
    files = {name: Entry(name, partial(_from_zip, archive, member.filename, name)) for name, member in members.items()}
    collection.entries += [entry for name, entry in files.items() if _is_wanted(name, collection)]
    collection.find = files.get


def _from_zip(archive: zipfile.ZipFile, member: str, name: str) -> bytes:
    with unpacking(name):
        return read_zip_member(archive, member)


def _list_tar(archive: tarfile.TarFile, collection: Collection) -> None:
    bounds = _Bounds(collection.where)
    members: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(archive):  # the bounds are checked before the next step unpacks this member
        bounds.check(count, member.offset_data + member.size)
        if not member.isdir():
            members[_plain(member.name)] = member
    files = {
        name: Entry(name, partial(_from_tar, archive, member, name))
        for name, member in members.items()
        if member.isfile()
    }
    for name in members:
        if not _is_wanted(name, collection):
            continue
        if name in files:
            collection.entries.append(files[name])
        else:
            collection.refused.append(f"{name}: is a link or device; pack the picture itself")
    collection.find = files.get


def _from_tar(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bytes:
    with unpacking(name):
        check_declared(member.size)
        stream = archive.extractfile(member)
        assert stream is not None
        with stream:
            return stream.read()


class _Bounds:
    """What the archive at `where` may unpack to."""

    def __init__(self, where: str) -> None:
        self.where, self.packed_bytes = where, os.path.getsize(where)
        self.most_bytes = max(_HARMLESS_BYTES, _MOST_RATIO * self.packed_bytes)

    def check(self, members: int, unpacked_bytes: int) -> None:
        """NothingUsableError where an archive of so many members and bytes is none of pictures."""
        if members > MOST_MEMBERS:
            raise NothingUsableError(f"{self.where}: expected at most {MOST_MEMBERS:,} members, got more; divide it")
        if unpacked_bytes > self.most_bytes:
            raise NothingUsableError(
                f"{self.where}: its {self.packed_bytes / 1e6:.1f} MB unpack to {unpacked_bytes / 1e9:.1f} GB and more, "
                "as no pictures do\nunpack it yourself if you trust it, and name the folder"
            )


def _plain(name: str) -> str:
    """A member's name with forward slashes and without the `./` that tar puts in front."""
    return name.replace("\\", "/").removeprefix("./")


def _is_wanted(name: str, collection: Collection) -> bool:
    """Whether a member is a picture to read; if not, it is counted or its sentence is put down."""
    stem, dot, suffix = name.lower().rpartition(".")
    if stem and dot + suffix in SUFFIXES:
        path = PurePosixPath(name) if _ODD.search(name) else None
        if path is None:
            return True
        if leads_out(path):
            collection.refused.append(f"{name}: its name leads out of the archive; pack it again with plain names")
            return False
        if not is_hidden(path):
            return True
    elif name.lower().endswith(ARCHIVE_SUFFIXES):
        collection.refused.append(f"{name}: an archive inside the archive is not opened; unpack it first")
        return False
    collection.others += 1
    return False
