"""Which of the things that a user named are films, and which are pictures."""

import contextlib
import glob
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from imagesmith.data.results import results_among
from imagesmith.data.sources import DAMAGE, ONLY_EARLIER, Item, is_hidden, list_items
from imagesmith.data.video import is_video
from imagesmith.data.video.film import SUFFIXES
from imagesmith.errors import NothingUsableError
from imagesmith.infer.plan import names_a_file
from imagesmith.infer.video.plan import names_a_film


def sort_inputs(
    inputs: Sequence[str | Path], destination: str | Path | None, *, recursive: bool
) -> tuple[list[str | Path], list[Item]]:
    """(what is for pictures as it was named, the films); what is neither is left to those who read pictures.

    A folder is searched for films, but one whose result is a film is a film itself: its frames. In folders and patterns
    films are told by their names; an animated GIF or WebP is one where it is named itself, unless its result is to be
    a still picture. What an earlier run made of films that are named too is none.
    """
    pictures, films = list[str | Path](), list[Item]()
    to_film = destination is not None and names_a_film(destination)
    to_still = destination is not None and not to_film and names_a_file(Path(destination))
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = [Item(PurePosixPath(path.absolute().name), path)] if to_film else list(_below(path, recursive))
            is_more = not to_film and (not found or _has_pictures(path, recursive))
        elif path.is_file():
            is_film = is_video(path) and not (to_still and path.suffix.lower() not in SUFFIXES)
            found = [Item(PurePosixPath(path.name), path)] if is_film else []
            is_more = not is_film
        else:
            matches = sorted(glob.glob(str(given), recursive=True)) if glob.has_magic(str(given)) else []
            found = [Item(PurePosixPath(Path(match).name), Path(match)) for match in matches if _is_named_film(match)]
            is_more = len(found) < len(matches) or not matches
        films += found
        if is_more:
            pictures.append(given)
    by_path = {film.path: film for film in films if film.path is not None}
    made = results_among(by_path, inputs)
    if made and not pictures and len(made) == len(by_path):
        raise NothingUsableError(ONLY_EARLIER)
    return pictures, [film for path, film in by_path.items() if path not in made]


def films_in_archives(inputs: Sequence[str | Path]) -> int:
    """How many films lie in the zip archives among `inputs`: they are not read there."""
    count = 0
    for given in inputs:
        for path in [given] if Path(given).exists() else glob.glob(str(given), recursive=True):
            if Path(path).suffix.lower() == ".zip":
                with contextlib.suppress(*DAMAGE), zipfile.ZipFile(path) as archive:  # told when pictures are read
                    names = map(PurePosixPath, archive.namelist())
                    count += sum(name.suffix.lower() in SUFFIXES and not is_hidden(name) for name in names)
    return count


def _below(folder: Path, recursive: bool) -> Iterator[Item]:
    """The films of a folder, by name, without hidden ones."""
    for path in sorted(folder.rglob("*") if recursive else folder.glob("*")):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if _is_named_film(path) and not any(part.startswith(".") for part in name.parts):
            yield Item(name, path)


def _is_named_film(path: str | Path) -> bool:
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def _has_pictures(folder: Path, recursive: bool) -> bool:
    try:
        return bool(list_items([folder], recursive=recursive))
    except NothingUsableError:
        return False
