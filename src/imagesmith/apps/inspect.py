"""`imagesmith data inspect`: the findings on a data set as text or JSON, and a contact sheet."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from imagesmith.apps.contact_sheet import draw_sheet
from imagesmith.apps.terminal import plain
from imagesmith.atomic import check_place, replacing
from imagesmith.data.advice import MOST_PX, advice
from imagesmith.data.inspect import Inspection, inspect
from imagesmith.data.shapes import choose_size

_LISTED = 10


def run_inspect(source: str, *, as_json: bool, sheet: Path | None) -> None:
    """Inspect `source`, print the findings on standard output and write the contact sheet, which must not exist yet."""
    if sheet:
        check_place(sheet)
    found = inspect(source)
    if as_json:
        print(json.dumps(findings(found)))
    else:
        for name, finding in lines(found):
            print(plain(f"{name:18}{finding}"))
    if sheet:
        with replacing(sheet) as stream:
            draw_sheet(found).save(stream, "PNG")


def findings(found: Inspection) -> dict:
    """All findings as plain values: what `--json` prints."""
    chosen = choose_size([(picture.height, picture.width) for picture in found.pictures], most_px=MOST_PX)
    return {
        "source": found.source,
        "pictures": len(found.pictures),
        "broken": found.broken,
        "unlabelled": found.unlabelled,
        "other_files": found.others,
        "width": _range([picture.width for picture in found.pictures]),
        "height": _range([picture.height for picture in found.pictures]),
        "aspect": _range([round(picture.width / picture.height, 3) for picture in found.pictures]),
        "modes": _counts(picture.mode for picture in found.pictures),
        "depths": _counts(picture.depth for picture in found.pictures),
        "formats": _counts(picture.format for picture in found.pictures),
        "parts": found.parts,
        "classes": found.class_counts(),
        "labels": found.labels,
        "copies": found.copies,
        "near_copies": found.near_copies,
        "size": {"width": chosen.width, "height": chosen.height, "reason": chosen.reason},
        "advice": advice(found),
    }


def lines(found: Inspection) -> Iterator[tuple[str, str]]:
    """(name, finding) pairs for people, the advice last."""
    pictures = found.pictures
    others = f", {found.others:,} other file{'s' * (found.others > 1)}" if found.others else ""
    yield "pictures", f"{len(pictures):,}{others}"
    for name, values in (
        ("width", [picture.width for picture in pictures]),
        ("height", [picture.height for picture in pictures]),
        ("aspect", [picture.width / picture.height for picture in pictures]),
    ):
        least, middle, most = _range(values).values()
        yield name, f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}, median {middle:.4g}"
    for name, counts in (
        ("modes", _counts(picture.mode for picture in pictures)),
        ("depth", _counts(picture.depth for picture in pictures)),
        ("formats", _counts(picture.format for picture in pictures)),
        ("parts", found.parts),
        ("classes", found.class_counts()),
    ):
        if counts:
            yield name, ", ".join(_first([f"{key} {count:,}" for key, count in counts.items()]))
    for name, pairs in (("exact copies", found.copies), ("near copies", found.near_copies)):
        yield name, _listing([f"{later} = {earlier}" for later, earlier in pairs])
    yield "broken", _listing(found.broken)
    if found.unlabelled:
        yield "unlabelled", _listing(found.unlabelled)
    for sentence in advice(found):
        yield "advice", sentence


def _range(values: list[float] | list[int]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _counts(values: Iterator[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _listing(entries: list[str]) -> str:
    """Their number, and the first of them on lines of their own."""
    return "\n  ".join([f"{len(entries):,}", *_first(entries)])


def _first(entries: list[str]) -> list[str]:
    rest = len(entries) - _LISTED
    return [*entries[:_LISTED], f"... and {rest:,} more"] if rest > 0 else entries
