"""What earlier runs made, as the lines tell that they left beside their results: pictures that are no photographs.

One JSON object a line; a line that a killed process left unfinished is passed over.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

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
    source: str = ""
    """The input's path without links, relative to the manifest's folder if it lies below that; not in old manifests."""
    run: str = ""
    """A token of the run that made it."""

    def source_from(self, folder: str) -> str:
        """The whole path of the input for a manifest in `folder`, given without links; empty if it is not known."""
        return os.path.join(folder, self.source) if self.source else ""


_LIKE = tuple(asdict(Entry("", "", "", "", 0, "")).items())
"""The fields of an entry, with a value of the type of each."""
_NEEDED = {field.name for field in fields(Entry) if field.default is MISSING}


def entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """What the lines of a manifest tell, without those that tell nothing."""
    for line in lines:
        if entry := _parse(line):
            yield entry


def results_among(paths: Collection[Path], named: Iterable[str | Path]) -> set[Path]:
    """Those of `paths` that an earlier run made of one of them, or of what lay in the folders that were `named`.

    A result of a picture that is nowhere among them was meant itself, as are all in a folder of results that lies apart
    from its inputs. Of folders of frames every frame is a result.
    """
    named = [Path(name) for name in named]
    if len(paths) == 1 and set(named) == set(paths):  # nothing is made of itself
        return set()
    folders = {path.parent for path in paths}
    above = {Path(os.path.abspath(folder)) for folder in folders}
    above |= {parent for folder in above for parent in folder.parents}
    with_manifest = [folder for folder in above if os.path.isfile(folder / FILE_NAME)]
    if not with_manifest:
        return set()
    makers = {os.path.realpath(place) for place in (*named, *paths)}
    made = {output for folder in with_manifest for output in _made_of(makers, folder)}
    of_frames = {folder for folder in folders if _is_in(os.path.abspath(folder), made)}
    return {path for path in paths if path.parent in of_frames or os.path.abspath(path) in made}


def _made_of(makers: Collection[str], folder: Path) -> Iterator[str]:
    """The whole paths of the results of `makers`, or of what lies in them, by the manifest of a folder."""
    base = os.path.realpath(folder)
    try:
        with open(folder / FILE_NAME, "rb") as lines:
            for entry in entries(lines):
                if _is_in(entry.source_from(base), makers):
                    yield os.path.abspath(folder / entry.output)
    except OSError:  # what cannot be read tells nothing
        return


def _is_in(path: str, places: Collection[str]) -> bool:
    """Whether a path is one of some places, or lies below one of them."""
    while path not in places:
        above = os.path.dirname(path)
        if above == path:
            return False
        path = above
    return True


def _parse(line: bytes) -> Entry | None:
    try:
        values = json.loads(line.decode("ascii", errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or any(type(values.get(name, given)) is not type(given) for name, given in _LIKE):
        return None
    return Entry(**values) if values.keys() >= _NEEDED and values.keys() <= {name for name, _ in _LIKE} else None
