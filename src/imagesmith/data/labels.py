"""Labels of pictures: from the folders they lie in, or from a CSV table with the columns `file` and `label`."""

import csv
import io
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagesmith.errors import UsageError

PARTS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
"""Names of folders that divide a data set into parts; they are no classes."""
TABLE = "labels.csv"
"""Name of the table that is taken where it lies beside the pictures, or beside a folder that holds all of them."""


@dataclass
class Labels:
    """Class of each picture by its name, None where there are no classes, and what the user should know about it."""

    classes: Mapping[str, str] | None
    reason: str
    problems: list[str] = field(default_factory=list)
    """One sentence for each row without its picture and each picture without a row."""


def part_of(names: Sequence[str], part: str | None, where: str) -> dict[str, str]:
    """{name: its place below the chosen part} of all pictures that belong to it; None is the whole collection.

    Folders that hold everything are passed through. A collection that `parts_of` divides must have one part named:
    UsageError lists them, as it does for a part that is not there.
    """
    inner = without_wrapping({name: name for name in names})
    if part is None:
        if parts := parts_of(inner):
            counts = ", ".join(f"{folder} ({count:,} pictures)" for folder, count in sorted(parts.items()))
            raise UsageError(
                f"expected one part of {where} to be named, it holds {counts}\nwrite {where}::{max(parts)}"
            )
        return inner
    wanted = part.strip("/") + "/"
    for places in (inner.items(), ((name, name) for name in names)):
        below = {name: place[len(wanted) :] for name, place in places if place.startswith(wanted)}
        if below:
            return without_wrapping(below)
    listing = ", ".join(sorted({folder for place in inner.values() if (folder := first_folder(place))})[:12])
    raise UsageError(f"expected a folder '{part}' with pictures in {where}, which holds {listing or 'no folders'}")


def parts_of(places: Mapping[str, str]) -> dict[str, int]:
    """{part: number of pictures} where every top folder is called train, test and the like, else {}."""
    folders = Counter(first_folder(place) for place in places.values())
    return dict(folders) if len(folders) > 1 and PARTS.issuperset(map(str.lower, folders)) else {}


def without_wrapping(places: Mapping[str, str]) -> dict[str, str]:
    """The same places without the folders that all of them share."""
    ends = min(places.values()), max(places.values())  # what these two share, all between them share
    shared = posixpath.commonpath([posixpath.dirname(place) for place in ends])
    return {name: place[len(shared) :].removeprefix("/") for name, place in places.items()}


def first_folder(place: str) -> str:
    """The first folder of a place, '' where it has none."""
    folder, slash, _ = place.partition("/")
    return folder if slash else ""


def labels_from_folders(places: Mapping[str, str]) -> Labels:
    """The first folder of each place is its class, if every picture lies in a folder and there are two or more."""
    classes = {name: folder for name, place in places.items() if (folder := first_folder(place))}
    count, outside = len(set(classes.values())), len(places) - len(classes)
    if not classes:
        return Labels(None, "no labels: all pictures lie in one folder")
    if outside:
        first = next(name for name in places if name not in classes)
        lie = "1 picture lies" if outside == 1 else f"{outside:,} pictures lie"
        folders = "one folder" if count == 1 else f"{count:,} folders"
        return Labels(None, f"no labels: {lie} outside the {folders}, such as {first}")
    if 2 * count > len(places):
        return Labels(None, f"no labels: {count:,} folders for {len(places):,} pictures are too many to be classes")
    return Labels(classes, f"labels from {count} class folders")


def labels_from_table(
    path: Path, places: Mapping[str, str], content: Path | bytes | None = None, folder: str = ""
) -> Labels:
    """The class of each picture from a CSV table; file names are relative to the folder or archive, or to the table.

    An archive's table comes as `content`, and is only called `path`; it lies in this `folder` of the collection.
    Rows without a picture and pictures without a row are problems, not errors; UsageError where the table cannot be
    read, names one file twice with two labels, fits no picture, or has more classes than pictures allow.
    """
    rows = _read_table(path, path if content is None else content)
    names = {place: name for name, place in places.items()}
    names |= {name.removeprefix(folder): name for name in places} | {name: name for name in places}
    classes = _by_picture(rows, names, path)
    if not classes:
        example = next(iter(rows), "nothing")
        raise UsageError(
            f"expected file names as {next(iter(names), '')} in {path}, got {example}\n"
            "write them relative to the folder or archive of the pictures"
        )
    check_classes(count := len(set(classes.values())), len(classes), path)
    problems = [f"{file}: has a row in {path.name} and no picture" for file in rows if file not in names]
    problems += [f"{name}: has no label in {path.name}" for name in places if name not in classes]
    return Labels(classes, f"labels from {path.name}: {told_classes(count)}", problems)


def _by_picture(rows: Mapping[str, str], names: Mapping[str, str], path: Path) -> dict[str, str]:
    """The label of each picture by its name; UsageError for two, which rows that spell it differently can give it."""
    spelt: dict[str, str] = {}
    for file in rows:
        if name := names.get(file):
            other = spelt.setdefault(name, file)
            if rows[other] != rows[file]:
                raise UsageError(
                    f"expected one label for {name} in {path}, got '{rows[other]}' as {other} and '{rows[file]}' as "
                    f"{file}; leave one of these rows out"
                )
    return {name: rows[file] for name, file in spelt.items()}


def check_classes(classes: int, pictures: int, path: Path) -> None:
    """UsageError where labels that the user gave are too many to be classes."""
    if 2 * classes > pictures:
        raise UsageError(
            f"expected at least two pictures a class, got {classes:,} classes for {pictures:,} pictures in {path}\n"
            "give them the names of classes, or train without labels"
        )


def told_classes(count: int) -> str:
    """Their number in words."""
    return "1 class" if count == 1 else f"{count:,} classes"


def _read_table(path: Path, content: Path | bytes) -> dict[str, str]:
    try:
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8-sig")
        with io.StringIO(text, newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            separator = max(",;\t", key=header.count)
            reader = csv.DictReader(stream, delimiter=separator, strict=True)
            columns = reader.fieldnames or []
            if not {"file", "label"} <= set(columns):
                raise UsageError(f"expected the columns file and label in {path}, got {', '.join(columns) or 'none'}")
            rows: dict[str, str] = {}
            for row in reader:
                file, label = (row["file"] or "").strip().replace("\\", "/"), (row["label"] or "").strip()
                if not file or not label:
                    raise UsageError(
                        f"expected a file and a label in line {reader.line_num} of {path}, got one of them"
                    )
                file = file.removeprefix("./")
                if rows.setdefault(file, label) != label:
                    raise UsageError(f"expected one label for {file} in {path}, got '{rows[file]}' and '{label}'")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"expected a CSV table of labels in UTF-8, {path} cannot be read: {error}") from None
    return rows


def class_order(classes: set[str]) -> tuple[str, ...]:
    """Class names in the order of their numbers: by value if all are whole numbers, else by letters."""
    return tuple(sorted(classes, key=lambda name: (int(name), name) if all(map(str.isdecimal, classes)) else (0, name)))
