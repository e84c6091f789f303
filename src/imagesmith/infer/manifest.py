"""What a run has finished, beside its results: the memory of `--resume`.

One JSON object a line, appended after its result has its final name. A line that a killed process left unfinished is
passed over when reading and ended before writing, so the worst a kill can do is to have one picture made again.
"""

import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from imagesmith.errors import OutputError

FILE_NAME = ".imagesmith-manifest.jsonl"


@dataclass(frozen=True)
class Entry:
    """One finished picture; `output` is relative to the manifest's folder."""

    input: str
    input_sha256: str
    settings: str
    output: str
    output_bytes: int
    output_sha256: str


class Manifest:
    """The entries of one output folder, the newest for each input; appending is safe from several threads."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._torn = False
        self._entries: dict[str, Entry] = {}
        self._outputs: set[str] = set()
        try:
            text = self.path.read_bytes().decode("ascii", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"cannot read {self.path}: {error.strerror}; check its rights or delete it") from error
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            if entry := _parse(line):
                self._remember(entry)

    def finished(self, name: str, input_sha256: str, settings: str) -> Path | None:
        """The result of an input with this content and these settings, if it is still there byte for byte."""
        entry = self._entries.get(name)
        if entry is None or (entry.input_sha256, entry.settings) != (input_sha256, settings):
            return None
        output = self.path.parent / entry.output
        try:
            same = output.stat().st_size == entry.output_bytes and sha256_of(output) == entry.output_sha256
        except OSError:
            return None
        return output if same else None

    def owns(self, output: Path | None) -> bool:
        """Whether an earlier run made this file, so that resuming may replace it."""
        return output is not None and os.path.abspath(output) in self._outputs

    def record(self, name: str, input_sha256: str, settings: str, output: Path) -> None:
        """Remember a finished result; the line is on its way to the disk when this returns."""
        relative = os.path.relpath(output, self.path.parent)
        entry = Entry(name, input_sha256, settings, relative, output.stat().st_size, sha256_of(output))
        line = json.dumps(asdict(entry)) + "\n"
        with self._lock:
            try:
                with open(self.path, "ab") as file:
                    file.write((("\n" if self._torn else "") + line).encode("ascii"))
            except OSError as error:
                raise OutputError(f"cannot write {self.path}: {error.strerror}; --resume will not work") from error
            self._torn = False
            self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        self._entries[entry.input] = entry
        self._outputs.add(os.path.abspath(self.path.parent / entry.output))


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_digest(settings: dict[str, object]) -> str:
    """One short name for everything that decides what a result looks like."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _parse(line: str) -> Entry | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(Entry)}:
        return None
    return Entry(**values)
