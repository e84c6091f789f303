"""Labels of pictures: from the folders they lie in, or from a CSV table with the columns `file` and `label`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from imagesmith.errors import UsageError

PARTS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
"""Names of folders that divide a data set into parts; they are no classes."""
TABLE = "labels.csv"
"""Name of the table that is taken where it lies in the folder itself."""


@dataclass
class Labels:
    """Class of each picture by its name, None where there are no classes, and what the user should know about it."""

    classes: Mapping[PurePosixPath, str] | None
    reason: str
    problems: list[str] = field(default_factory=list)
    """One sentence for each row without its picture and each picture without a row."""


def part_of(names: Sequence[PurePosixPath], part: str | None, where: str) -> dict[PurePosixPath, PurePosixPath]:
    """{name: its place below the chosen part} of all pictures that belong to it; None is the whole collection.

    Folders that hold everything are passed through. A collection whose top folders are all called train, test and the
    like must have one of them named: UsageError lists them, as it does for a part that is not there.
    """
    inner = _without_wrapping({name: name for name in names})
    folders: dict[str, int] = {}
    for place in inner.values():
        if len(place.parts) > 1:
            folders[place.parts[0]] = folders.get(place.parts[0], 0) + 1
    if part is None:
        if len(folders) > 1 and sum(folders.values()) == len(inner) and PARTS.issuperset(map(str.lower, folders)):
            counts = ", ".join(f"{folder} ({count:,} pictures)" for folder, count in sorted(folders.items()))
            raise UsageError(
                f"expected one part of {where} to be named, it holds {counts}\nwrite {where}::{sorted(folders)[-1]}"
            )
        return inner
    wanted = PurePosixPath(part)
    for candidates in (inner, {name: name for name in names}):
        below = {name: place.relative_to(wanted) for name, place in candidates.items() if wanted in place.parents}
        if below:
            return _without_wrapping(below)
    listing = ", ".join(sorted(folders)[:12]) or "no folders"
    raise UsageError(f"expected a folder '{part}' with pictures in {where}, which holds {listing}")


def _without_wrapping(places: dict[PurePosixPath, PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """The same places without the folders that all of them share."""
    parents = [place.parts[:-1] for place in places.values()]
    shared = 0
    while all(len(parts) > shared and parts[shared] == parents[0][shared] for parts in parents):
        shared += 1
    return {name: PurePosixPath(*place.parts[shared:]) for name, place in places.items()}


def labels_from_folders(places: Mapping[PurePosixPath, PurePosixPath]) -> Labels:
    """The first folder of each place is its class, if every picture lies in a folder and there are two or more."""
    outside = [name for name, place in places.items() if len(place.parts) == 1]
    classes = {name: place.parts[0] for name, place in places.items() if len(place.parts) > 1}
    count = len(set(classes.values()))
    if outside:
        why = f"; {len(outside):,} pictures lie outside of class folders, the first is {outside[0]}" if classes else ""
        return Labels(None, f"no labels: the pictures are not all in class folders{why}" if classes else "no labels")
    if 2 * count > len(places):
        return Labels(None, f"no labels: {count:,} folders for {len(places):,} pictures are too many to be classes")
    return Labels(classes, f"labels from {count} class folders")


def labels_from_table(path: Path, places: Mapping[PurePosixPath, PurePosixPath]) -> Labels:
    """The class of each picture from a CSV table; file names are relative to the folder or archive.

    Rows without a picture and pictures without a row are problems, not errors; UsageError where the table cannot be
    read, names one file twice with two labels, fits no picture, or has more classes than pictures allow.
    """
    rows = _read_table(path)
    names = {str(place): name for name, place in places.items()} | {str(name): name for name in places}
    classes = {names[file]: label for file, label in rows.items() if file in names}
    if not classes:
        example = next(iter(rows), "nothing")
        raise UsageError(
            f"expected file names as {next(iter(names), '')} in {path}, got {example}\n"
            "write them relative to the folder or archive of the pictures"
        )
    count = len(set(classes.values()))
    if 2 * count > len(classes):
        raise UsageError(
            f"expected at least two pictures a class, got {count:,} classes for {len(classes):,} pictures in {path}\n"
            "give the column 'label' the names of classes, or train without labels"
        )
    problems = [f"{file}: has a row in {path.name} and no picture" for file in rows if file not in names]
    problems += [f"{name}: has no label in {path.name}" for name in places if name not in classes]
    return Labels(classes, f"labels from {path.name}: {count} classes", problems)


def _read_table(path: Path) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
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
                file = str(PurePosixPath(file))
                if rows.setdefault(file, label) != label:
                    raise UsageError(f"expected one label for {file} in {path}, got '{rows[file]}' and '{label}'")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"expected a CSV table of labels in UTF-8, {path} cannot be read: {error}") from None
    return rows


def class_order(classes: set[str]) -> tuple[str, ...]:
    """Class names in the order of their numbers: by value if all are whole numbers, else by letters."""
    return tuple(sorted(classes, key=lambda name: (int(name), name) if all(map(str.isdecimal, classes)) else (0, name)))
