"""The finished part of a film that is not finished: segments beside the output, from which a killed run goes on.

`<output>.parts/` holds whole segments of a fixed number of frames, a journal with one JSON line for each, and what the
network remembered after the newest of them. Where segments begin depends on the source alone, and a segment that was
not finished is made again from its first frame, so a run that was killed ends in the same film as one that was not.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from imagesmith.atomic import make_folder, write_whole
from imagesmith.data.video import Encoding, VideoInfo, segment_writer
from imagesmith.data.video.folders import frame_files
from imagesmith.data.video.info import counted
from imagesmith.errors import OutputError, UsageError, VideoError
from imagesmith.infer.manifest import sha256_of
from imagesmith.infer.outcome import Size
from imagesmith.runtime.checkpoint import drop_checkpoints, load_newest, save_checkpoint
from imagesmith.runtime.lock import sole_writer

JOURNAL = "journal.jsonl"
SEGMENT_SECONDS, MOST_FRAMES = 10, 250
"""A segment is this long, which is what a stopped run loses at most."""
SUFFIX = ".segment"
_STATES = "states"
_WHOLE_BYTES = 256 << 20
_EDGE_BYTES = 8 << 20


@dataclass(frozen=True)
class Restored:
    """One frame on its way into a segment; `state` is what the network remembers after the last one of a segment."""

    pixels: Tensor
    pts: int
    state: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Segment:
    """One line of the journal: a finished segment, its first frame in the source, and the time of each frame."""

    name: str
    first: int
    frames: int
    sha256: str
    pts: Sequence[int]


class Parts:
    """The parts folder of one output, while no other process writes in it."""

    def __init__(self, folder: Path, length: int, finished: Sequence[Segment], state: dict[str, Tensor] | None) -> None:
        self.length = length
        self.frames = sum(segment.frames for segment in finished)
        """Frames in finished segments: how many a run that goes on leaves out of its source."""
        self.state = state
        """What the network remembered after them; None at the start, and where the film ends with them."""
        self.folder = folder
        self._names = [segment.name for segment in finished]

    @property
    def segments(self) -> list[Path]:
        return [self.folder / name for name in self._names]

    def note_joined(self, output: Path) -> None:
        """Remember that the film of these parts has its name, before it is looked at, which may be interrupted."""
        with open(self.folder / JOURNAL, "a", encoding="ascii") as journal:
            journal.write(json.dumps(_identity(output)) + "\n")

    def add(self, frames: Iterable[Restored], info: VideoInfo, encoding: Encoding, size: Size) -> None:
        """Write one segment, whole or not at all, then what the network remembers after it, then its line."""
        path = self.folder / f"{len(self._names):06d}{SUFFIX}"
        times, state = list[int](), None
        with segment_writer(path, info, encoding, size=size) as write:
            for frame in frames:
                write(frame.pixels, frame.pts)
                times.append(frame.pts)
                state = frame.state
        segment = Segment(path.name, self.frames, len(times), sha256_of(path), times)
        if state is not None:
            done = self.frames + len(times)
            save_checkpoint(self.folder / _STATES, done, state, done)
        with open(self.folder / JOURNAL, "a", encoding="ascii") as journal:
            journal.write(_line(segment))
        self._names.append(path.name)
        self.frames += len(times)


@contextmanager
def open_parts(output: Path, length: int, facts: Mapping[str, str], *, resume: bool, anew: bool) -> Iterator[Parts]:
    """The parts of `output`: empty, or with `resume` as far as an earlier run of the same `facts` came.

    `length` is that of a segment in frames. OutputError where an unfinished run lies there that is neither to be gone
    on with nor to be started `anew`, UsageError where it was made of other facts or another process is at work in it.
    """
    folder, parts = parts_folder(output), None
    make_folder(folder)
    try:
        with sole_writer(folder):
            parts = _opened(folder, length, facts, resume=resume, anew=anew, joined=is_joined(output))
            yield parts
    finally:
        if parts is not None and not parts.frames:
            drop_parts(output)


def _opened(folder: Path, length: int, facts: Mapping[str, str], *, resume: bool, anew: bool, joined: bool) -> Parts:
    was, found = _read(folder)
    if found and not resume and not anew:
        raise OutputError(
            f"{folder} holds {counted(sum(part.frames for part in found), 'frame')} of a run that was not finished\n"
            "--resume goes on with it, -y starts anew"
        )
    goes_on = resume and _agrees(folder, was, facts, anew)
    kept, state = _usable(folder, found, length) if goes_on else ([], None)
    parts = Parts(folder, length, kept, state)
    _clear(folder, kept=parts.segments)
    drop_checkpoints(folder / _STATES, beyond=parts.frames)
    lines = [json.dumps(dict(facts)) + "\n", *map(_line, kept)]
    if joined and len(kept) == len(found):
        lines.append((folder / JOURNAL).read_text(encoding="ascii").splitlines()[-1] + "\n")
    write_whole(folder / JOURNAL, "".join(lines))
    return parts


def segment_length(rate: Fraction | None) -> int:
    """Frames of a segment in a film of `rate` frames a second."""
    return MOST_FRAMES if rate is None else max(1, min(MOST_FRAMES, round(rate * SEGMENT_SECONDS)))


def source_digest(source: Path) -> str:
    """A short name for the content of a film or a folder of frames; of large ones its ends, its size and its date.

    VideoError where it cannot be read.
    """
    try:
        return _digest(source)
    except OSError as error:
        why = f"cannot be read: {error.strerror}; check that it exists and is readable"
        raise VideoError(f"{source}: {why}") from error


def _digest(source: Path) -> str:
    digest = hashlib.sha256()
    if source.is_dir():
        for frame in frame_files(source):  # and nothing else: the film may be made in the same folder
            status = frame.stat()
            digest.update(f"{frame.name}:{status.st_size}:{status.st_mtime_ns};".encode(errors="surrogateescape"))
        return digest.hexdigest()
    status = source.stat()
    if status.st_size <= _WHOLE_BYTES:
        return sha256_of(source)
    digest.update(f"{status.st_size}:{status.st_mtime_ns};".encode())
    with open(source, "rb") as file:
        for start in (0, status.st_size - _EDGE_BYTES):
            file.seek(start)
            digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()


def parts_folder(output: Path) -> Path:
    """Where the parts of this output lie."""
    return output.with_name(f"{output.name}.parts")


def drop_parts(output: Path) -> None:
    """Remove the parts of a film that has its final name."""
    folder = parts_folder(output)
    _clear(folder, kept=())
    shutil.rmtree(folder / _STATES, ignore_errors=True)
    for name in (JOURNAL, ".lock"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something lies there that is not ours
        folder.rmdir()


def unfinished_facts(output: Path) -> dict[str, str]:
    """What an unfinished run of this output was made of; empty where there is none."""
    facts, found = _read(parts_folder(output))
    return facts if found else {}


def unfinished_frames(output: Path) -> int:
    """How many frames of this output an unfinished run has kept."""
    _, found = _read(parts_folder(output))
    return sum(segment.frames for segment in found)


def is_joined(output: Path) -> bool:
    """Whether the film of this name is the one of the parts beside it, made by a run that was killed thereafter."""
    try:
        last = (parts_folder(output) / JOURNAL).read_bytes().splitlines()[-1]
        return json.loads(last) == _identity(output)
    except (OSError, ValueError, IndexError):
        return False


def _identity(output: Path) -> list[int]:
    status = output.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _line(segment: Segment) -> str:
    return json.dumps(asdict(segment)) + "\n"


def _clear(folder: Path, kept: Collection[Path]) -> None:
    """Remove all other segments, and what a killed process left half-written."""
    for path in (*folder.glob(f"*{SUFFIX}"), *folder.rglob(".*.part")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in kept:
            path.unlink(missing_ok=True)


def _read(folder: Path) -> tuple[dict[str, str], list[Segment]]:
    """What the journal says: of what the run was made, and its finished segments; a torn last line is passed over."""
    segments = list[Segment]()
    try:
        first, *lines = (folder / JOURNAL).read_bytes().decode("ascii", errors="replace").splitlines()
        facts = json.loads(first)
    except (OSError, ValueError):
        return {}, []
    for line in lines:
        try:
            segments.append(Segment(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return facts, segments


def _agrees(folder: Path, was: Mapping[str, str], facts: Mapping[str, str], anew: bool) -> bool:
    """Whether an unfinished run is one of these `facts`; UsageError where it is not, and is not to be thrown away."""
    others = [name for name in facts if was.get(name) != facts[name]]
    if was and others and not anew:
        raise UsageError(
            f"the unfinished run in {folder} was made with another {' and '.join(others)}\n"
            "--resume goes on with the same only; with -y as well it starts anew"
        )
    return bool(was) and not others


def _usable(folder: Path, found: Iterable[Segment], length: int) -> tuple[list[Segment], dict[str, Tensor] | None]:
    """The first segments that are whole, up to the last one after which what the network remembered is whole too."""
    whole = list[Segment]()
    for segment in found:
        path = folder / segment.name
        if not path.is_file() or sha256_of(path) != segment.sha256:
            break
        whole.append(segment)
    if whole and whole[-1].frames < length:  # a shorter one ends the film
        return whole, None
    frames = sum(segment.frames for segment in whole)
    state, at = load_newest(folder / _STATES, lambda _: None, most_images=frames) or ({}, 0)
    kept = [segment for segment in whole if segment.first + segment.frames <= at]
    return (kept, state) if kept and sum(segment.frames for segment in kept) == at else ([], None)
