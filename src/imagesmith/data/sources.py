"""What the user named - files, folders, patterns, zip archives, standard input - as one sorted list of items."""

import contextlib
import functools
import glob
import lzma
import os
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from imagesmith.data.formats import ACCEPTED, ENOUGH_TO_TELL, SUFFIXES, format_of, is_dicom
from imagesmith.data.results import results_among
from imagesmith.errors import ImageError, NothingUsableError, TooLargeError, UsageError

_MOST_MEMBER_BYTES = 2 << 30
MOST_MEMBERS = 1_000_000
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    OSError,
    NotImplementedError,
    ValueError,
    EOFError,
    KeyError,
    zlib.error,
    lzma.LZMAError,
)
"""What the readers of archives raise on damage."""
_RAW_SUFFIXES = (
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2"),
    *(".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".iiq"),
)
_SCIENTIFIC_SUFFIXES = (".nii", ".nii.gz", ".mha", ".svs")
UNREAD_SUFFIXES = {
    *(".heic", ".heics", ".heif", ".hif", ".jxl", ".jxr", ".psd", ".xcf", ".exr", ".hdr"),
    *(".tga", ".pbm", ".pgm", ".ppm", ".pnm"),
    *_RAW_SUFFIXES,
    *_SCIENTIFIC_SUFFIXES,
}
"""Those of pictures, a camera's raw files among them, that are not read."""
_DICOM_INDEX = "DICOMDIR"  # of a disc: it lists the others
HIDDEN = "hidden"
EARLIER = "of an earlier run"
ONLY_EARLIER = (
    "expected something to restore, found only results of an earlier run\n"
    "name them without a folder to take them all the same"
)
Enters = Callable[[str], bool]
"""Whether the pictures of a folder inside a named one are wanted."""


@dataclass(frozen=True)
class Item:
    """One picture to work on: `name` is its place below what the user named, and mirrors the tree in the output.

    `path` is the file itself, the zip archive whose `member` it is, or None for standard input. A folder or archive
    that cannot be opened, a picture of a kind that is not read, and a picture's link that leads nowhere is an item too,
    with the `problem` that reading it raises: one bad source ends no batch, and none vanishes.
    """

    name: PurePosixPath
    path: Path | None
    member: str | None = None
    problem: ImageError | None = None

    def read(self, most: int | None = None) -> Path | bytes | BinaryIO:
        """What `read_image` takes: the path of a plain file, a member's bytes, or the standard input.

        A member that is no picture, or declares more than `most` bytes, is refused before it is unpacked.
        """
        if self.problem is not None:
            raise self.problem
        if self.path is None:
            return sys.stdin.buffer
        if self.member is None:
            return self.path
        return _read_member(self.path, self.member, most)

    def __str__(self) -> str:
        """As the user would write it: the path, `archive.zip/member`, or `-`."""
        if self.path is None:
            return "-"
        return f"{self.path}/{self.member}" if self.member else str(self.path)


class Items(list[Item]):
    """A list of items that also counts by their endings the files that were passed over, because none is a picture's.

    Hidden ones are counted as `HIDDEN`, results of an earlier `restore` as `EARLIER`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passed_over = Counter[str]()

    @property
    def skipped(self) -> int:
        """How many files were passed over."""
        return self.passed_over.total()

    def pass_over(self, name: str | PurePosixPath) -> None:
        """Count a file that is not taken."""
        path = PurePosixPath(name)
        self.passed_over[HIDDEN if is_hidden(path) else path.suffix.lower() or "without ending"] += 1

    def leave_out_results(self, named: Sequence[str | Path]) -> bool:
        """Leave out, and count, what an earlier run made of what was `named`; whether anything is left."""
        made = results_among({item.path for item in self if item.path is not None and item.member is None}, named)
        if made:
            self.passed_over[EARLIER] += len(made)
            self[:] = [item for item in self if item.path not in made]
        return bool(self)


def list_items(inputs: Sequence[str | Path], *, recursive: bool, into_runs: bool = True) -> Items:
    """Every picture that `inputs` name, each once, in the order of the inputs and sorted within a folder.

    A named file is taken whatever its suffix; in folders, patterns and archives hidden files and other suffixes are
    skipped and counted, and those of pictures that are not read become items with a problem. What an earlier run made
    of what is named is skipped and counted too, see `results_among`. Without `into_runs`, run folders inside a named
    one are passed over: their pictures are sheets of what a network made. A missing file or an empty name raises
    UsageError, nothing to work on at all NothingUsableError; a folder or archive that cannot be opened becomes an item
    with a problem.
    """
    if "" in inputs:  # as a variable of the shell that is not set; the system takes it for the current folder
        raise UsageError("expected a picture or a folder, got an empty name\nwrite . for the current folder")
    items, seen = Items(), set()

    def enters(folder: str) -> bool:
        return recursive and (into_runs or not holds_run(folder))

    for given in inputs:
        for item in _expand(given, enters, items):
            key = (os.path.abspath(item.path) if item.path else None, item.member)
            if key not in seen:
                seen.add(key)
                items.append(item)
    if items and not items.leave_out_results(inputs):
        raise NothingUsableError(ONLY_EARLIER)
    if not items:
        named = ", ".join(str(given) for given in inputs) or "no input"
        hint = "" if recursive else "; use -r for the folders inside"
        raise NothingUsableError(
            f"expected pictures ({ACCEPTED}), found none in {named} ({_in_brief(items)})\n"
            f"name a picture or a folder{hint}"
        )
    return items


def in_words(passed_over: Mapping[str, int]) -> str:
    """Files by their endings, the most first: "2 .txt, 1 hidden"."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(passed_over).most_common())


def _in_brief(items: Items) -> str:
    return f"{items.skipped} other files: {in_words(items.passed_over)}" if items.skipped else "0 other files"


def holds_run(folder: str | Path) -> bool:
    """Whether this is a run folder: it has both files from the first moment of a training."""
    return all(os.path.isfile(os.path.join(folder, name)) for name in ("config.json", "history.jsonl"))


def outside_runs(folder: Path) -> list[Path]:
    """All that lies below a folder, sorted, but for run folders and `results_among` it; OSError if it is unreadable."""
    found = sorted(folder.rglob("*"))
    above = {path.parent for path in found if path.name == "config.json"} - {folder}
    others = {each for each in above if holds_run(each)} | results_among(found, [folder])
    return [path for path in found if path not in others and others.isdisjoint(path.parents)]


def _expand(given: str | Path, enters: Enters, items: Items) -> Iterator[Item]:
    """The items of one argument; a path that exists is never taken for a pattern."""
    if str(given) == "-":
        yield Item(PurePosixPath("stdin"), None)
        return
    path = Path(given)
    if _is_there(path):
        yield from _from_path(path, enters, items)
        return
    if not glob.has_magic(str(given)):
        raise UsageError(f"expected an existing file or folder, got '{given}'; check the spelling")
    for found in sorted(glob.glob(str(given), recursive=True)):
        if Path(found).suffix.lower() in (*SUFFIXES, ".zip"):
            yield from _from_path(Path(found), enters, items)
        elif not Path(found).is_dir():
            yield from _other(PurePosixPath(Path(found).name), Path(found), items)


def _is_there(path: Path) -> bool:
    """Whether something has this name; what is there and may not be looked at counts, and is told when it is read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def _from_path(path: Path, enters: Enters, items: Items) -> Iterator[Item]:
    if os.path.isdir(path):
        yield from _from_folder(path, PurePosixPath(), enters, items, frozenset())
    elif path.suffix.lower() == ".zip":
        yield from _from_zip(path, items)
    else:
        yield Item(PurePosixPath(path.name), path)


def _from_folder(
    folder: Path, below: PurePosixPath, enters: Enters, items: Items, above: frozenset[tuple[int, int]]
) -> Iterator[Item]:
    """Files first, then folders, each by name; a link back to one of the folders `above` is not followed."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        problem = ImageError(f"{folder}: the folder cannot be read: {error.strerror}; check its rights")
        yield Item(below if below.parts else PurePosixPath(folder.absolute().name or "folder"), folder, problem=problem)
        return
    identity = status.st_dev, status.st_ino
    if identity in above:
        return
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            items.pass_over(entry.name)
        elif _leads_to(entry, os.DirEntry.is_dir):
            folders.append(entry)
        elif Path(entry.name).suffix.lower() in SUFFIXES and _leads_to(entry, os.DirEntry.is_file):
            yield Item(below / entry.name, Path(entry.path))
        elif Path(entry.name).suffix.lower() in SUFFIXES and entry.is_symlink() and not os.path.exists(entry.path):
            problem = ImageError(f"{entry.path}: is a link that leads nowhere; copy the picture to its place")
            yield Item(below / entry.name, Path(entry.path), problem=problem)
        elif _is_nameless_dicom(entry):
            yield Item(below / f"{entry.name}.dcm", Path(entry.path))
        else:
            yield from _other(below / entry.name, Path(entry.path), items)
    for entry in folders:
        if enters(entry.path):
            yield from _from_folder(Path(entry.path), below / entry.name, enters, items, above | {identity})


def _other(name: PurePosixPath, path: Path, items: Items, member: str | None = None) -> Iterator[Item]:
    """A file that is not taken by its suffix: an item with a problem if that is a picture's, else it is counted."""
    item = Item(name, path, member)
    suffix = "".join(name.suffixes[-2:]) if name.suffix.lower() == ".gz" else name.suffix
    if suffix.lower() in UNREAD_SUFFIXES:
        problem = ImageError(f"{item}: expected {ACCEPTED}, got '{suffix}'\nconvert it to one of these first")
        yield replace(item, problem=problem)
    else:
        items.pass_over(name)


def _is_nameless_dicom(entry: os.DirEntry[str]) -> bool:
    """Whether a file without ending, or with a number for one, as scanners name theirs, holds DICOM."""
    suffix = Path(entry.name).suffix
    if (suffix and not suffix[1:].isdigit()) or entry.name == _DICOM_INDEX or not _leads_to(entry, os.DirEntry.is_file):
        return False
    try:
        with open(entry.path, "rb") as stream:
            return is_dicom(stream.read(ENOUGH_TO_TELL))
    except OSError:
        return False


def _leads_to(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether an entry is of a kind; a link that leads to itself or to a forbidden place is of none."""
    try:
        return kind(entry)
    except OSError:
        return False


def _from_zip(path: Path, items: Items) -> Iterator[Item]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        problem = ImageError(f"{path}: not a readable zip archive ({error}); make it again")
        yield Item(PurePosixPath(path.name), path, problem=problem)
        return
    if len(members) > MOST_MEMBERS:
        problem = TooLargeError(f"{path}: expected at most {MOST_MEMBERS} members, got {len(members)}; divide it")
        yield Item(PurePosixPath(path.name), path, problem=problem)
        return
    for member in sorted(members, key=lambda entry: entry.filename):
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if member.filename.endswith("/"):  # `is_dir` fails on a member without a name
            continue
        if not name.parts or is_hidden(name) or leads_out(name):
            items.pass_over(name)
        elif name.suffix.lower() in SUFFIXES:
            yield Item(name, path, member.filename)
        else:
            yield from _other(name, path, items, member.filename)


def is_hidden(name: PurePosixPath) -> bool:
    """Whether a member of an archive is one that its maker's system hides."""
    return any(part.startswith((".", "__MACOSX")) for part in name.parts)


def leads_out(name: PurePosixPath) -> bool:
    """Whether a member's name is one that no file may be written under: absolute, with a drive, or with `..`."""
    return name.is_absolute() or ".." in name.parts or ":" in name.parts[0]


def _read_member(path: Path, member: str, most: int | None) -> bytes:
    with unpacking(f"{path}/{member}"):
        status = path.stat()
        return read_zip_member(_opened(path, status.st_mtime_ns, status.st_size), member, most, is_picture=True)


@functools.lru_cache(maxsize=1)
def _opened(path: Path, changed_ns: int, size: int) -> zipfile.ZipFile:
    """The archive of this state, which stays open: reading the list of 100,000 members takes longer than a picture."""
    return zipfile.ZipFile(path)


def read_zip_member(
    archive: zipfile.ZipFile, member: str, most: int | None = None, *, is_picture: bool = False
) -> bytes:
    """One member, refused when it declares, or turns out, larger than `most` bytes or than any picture needs to be.

    One that is to be a picture and is none raises FormatError, before more than its beginning is unpacked.
    """
    declared = archive.getinfo(member).file_size
    check_declared(declared, most)
    with archive.open(member) as stream:
        if is_picture:
            format_of(cast(zipfile.ZipExtFile, stream).peek(ENOUGH_TO_TELL))
        return stream.read(declared + 1)


def check_declared(size: int, most: int | None = None) -> None:
    """TooLargeError for a member of an archive that declares more bytes than `most`, or than any picture needs."""
    limit = _MOST_MEMBER_BYTES if most is None else min(most, _MOST_MEMBER_BYTES)
    if size > limit:
        raise TooLargeError(
            f"declares {size >> 20} MiB, expected at most {limit >> 20} MiB; unpack it yourself if you trust it"
        )


@contextlib.contextmanager
def unpacking(name: str) -> Iterator[None]:
    """Turn whatever reading a member of a zip or tar archive raises into the error of that item, called `name`."""
    try:
        yield
    except ImageError as error:
        raise type(error)(f"{name}: {error}") from None
    except DAMAGE as error:
        raise ImageError(f"{name}: cannot be unpacked ({error}); make the archive again") from None
    except RuntimeError:
        raise ImageError(f"{name}: is encrypted; unpack the archive first") from None
