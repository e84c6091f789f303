"""What a run has finished, beside its results: the memory of `--resume`.

One JSON object a line, appended just before its result gets its final name, and believed only while the result is there
byte for byte. A line that a killed process left unfinished is passed over when reading and ended before writing, so the
worst a kill can do is to have one picture made again.
"""

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

from imagesmith.data.results import FILE_NAME, Entry, entries
from imagesmith.errors import OutputError
from imagesmith.runtime.lock import in_turn


class Manifest:
    """The entries of one output folder, the newest for each input.

    Appending is safe from several threads, processes and machines. A copy that is pickled for another process reads the
    file again as it was when this run opened it, whatever the run has added since.
    """

    def __init__(self, folder: Path, *, until: int | None = None, run: str | None = None) -> None:
        """What the first `until` bytes of the file tell, all if None; `run` is the token of the run that writes."""
        self.path = folder / FILE_NAME
        self._folder = os.path.realpath(folder)
        self._run = run or secrets.token_hex(4)
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._made: dict[str, list[Entry]] = {}
        self._unread: list[Entry] | None = []  # what this run made before the file was read, which only resuming needs
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
        except FileNotFoundError:
            size = 0
        except OSError as error:
            raise self._unreadable(error) from error
        self._opened_at = size if until is None else min(until, size)

    def __reduce__(self) -> tuple[partial[Self], tuple[Path]]:
        return partial(type(self), until=self._opened_at, run=self._run), (self.path.parent,)

    def finished(self, name: str, input_sha256: str, settings: str) -> Path | None:
        """The result of an input with this content and these settings, if it is still there byte for byte."""
        self._read()
        entry = self._entries.get(name)
        if entry is None or (entry.input_sha256, entry.settings) != (input_sha256, settings):
            return None
        return self.path.parent / entry.output if self._is_there(entry) else None

    def finished_meanwhile(self, name: str, input_sha256: str, settings: str) -> Path | None:
        """As `finished`, by what was added since this run opened the file: by another one, that goes on as well."""
        for entry in self._added():
            wanted = (entry.input, entry.input_sha256, entry.settings) == (name, input_sha256, settings)
            if wanted and self._is_there(entry):
                return self.path.parent / entry.output
        return None

    def may_replace(self, output: Path, source: str) -> bool:
        """Whether resuming may replace `output`: an earlier run made it of the same input, untouched since."""
        self._read()
        made = self._made.get(os.path.abspath(output), ())
        return any(entry.source_from(self._folder) in ("", source) and self._is_there(entry) for entry in made)

    def made_since(self, name: str, output: Path) -> bool:
        """Whether this run made `output` of the input `name` already, perhaps in a process that was killed then."""
        place = os.path.relpath(output, self.path.parent)
        wanted = name, place, self._run
        return any((entry.input, entry.output, entry.run) == wanted for entry in self._added())

    def _added(self) -> Iterable[Entry]:
        """What was added to the file since this run opened it."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._opened_at)
                return entries(file.read().splitlines())
        except OSError:
            return ()

    def record(
        self,
        name: str,
        input_sha256: str,
        settings: str,
        output: Path,
        *,
        source: str = "",
        content: Path | None = None,
    ) -> None:
        """Remember a finished result; the line is on its way to the disk when this returns.

        `source` is the whole path of its input without links, `content` where its bytes lie until it has got its final
        name.
        """
        if Path(source).is_relative_to(self._folder):
            source = os.path.relpath(source, self._folder)
        relative, content = os.path.relpath(output, self.path.parent), content or output
        size, digest = bytes_of(content), sha256_of(content)
        entry = Entry(name, input_sha256, settings, relative, size, digest, source, self._run)
        line = json.dumps(asdict(entry)) + "\n"
        with self._lock:
            try:
                with open(self.path, "a+b") as file, in_turn(file):
                    # looked at in turn: before, another process may be in the middle of its line
                    is_torn = file.seek(0, os.SEEK_END) > 0 and _last_byte(file) != b"\n"
                    file.write((("\n" if is_torn else "") + line).encode("ascii"))
            except OSError as error:
                raise OutputError(f"cannot write {self.path}: {error.strerror}; --resume will not work") from error
            if self._unread is None:
                self._remember(entry)
            else:
                self._unread.append(entry)

    def _is_there(self, entry: Entry) -> bool:
        """Whether a result lies in its place byte for byte."""
        output = self.path.parent / entry.output
        try:
            return bytes_of(output) == entry.output_bytes and sha256_of(output) == entry.output_sha256
        except (OSError, ValueError):  # ValueError: its line names what no file can be called
            return False

    def _read(self) -> None:
        """Remember what the file told when it was opened, and what this run has made since; once."""
        with self._lock:
            if self._unread is None:
                return
            try:
                content = self.path.read_bytes()[: self._opened_at]
            except FileNotFoundError:
                content = b""
            except OSError as error:
                raise self._unreadable(error) from error
            for entry in (*entries(content.splitlines()), *self._unread):
                self._remember(entry)
            self._unread = None

    def _unreadable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot read {self.path}: {error.strerror}; check its rights or delete it")

    def _remember(self, entry: Entry) -> None:
        self._entries[entry.input] = entry
        self._made.setdefault(os.path.abspath(self.path.parent / entry.output), []).append(entry)


def open_manifests(folders: Iterable[Path], *, strictly: bool) -> tuple[dict[Path, Manifest], dict[Path, str]]:
    """The manifests of folders, and what is to be said of those that cannot be read; OutputError instead if `strictly`.

    Only who goes on needs what a manifest tells; another one's in a shared folder must not stop the others.
    """
    manifests, unread = dict[Path, Manifest](), dict[Path, str]()
    for folder in folders:
        try:
            manifests[folder] = Manifest(folder)
        except OutputError as error:
            if strictly or (folder.exists() and not folder.is_dir()):  # in no file there will be results
                raise
            unread[folder] = f"what was made is not noted: {error}"
    return manifests, unread


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def bytes_of(path: Path) -> int:
    """The size of a file, or of all files of a folder of frames."""
    return sum(file.stat().st_size for file in _files(path)) if path.is_dir() else path.stat().st_size


def sha256_of(path: Path) -> str:
    """The digest of a file, or of the names and digests of a folder of frames."""
    if path.is_dir():
        listing = "".join(f"{file.name} {sha256_of(file)}\n" for file in _files(path))
        return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def settings_digest(settings: dict[str, object]) -> str:
    """One short name for everything that decides what a result looks like."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
