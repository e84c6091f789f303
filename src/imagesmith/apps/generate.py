"""`imagesmith generate`, `interpolate` and `variations`: which files come out, and what is said meanwhile."""

import contextlib
import csv
import io
import itertools
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from imagesmith.apps.progress import PLAIN_EVERY_S
from imagesmith.atomic import check_free, check_place, make_folder, write_whole
from imagesmith.data.files import FORMATS, MAX_PIXELS, Frame, read_image, write_image
from imagesmith.data.formats import format_named
from imagesmith.data.grid import enlargement, image_grid
from imagesmith.data.video.generated import FILM_ON_WHITE, check_video, video_writer
from imagesmith.data.video.info import counted
from imagesmith.errors import FormatError, ImageError, NothingUsableError, OutputError, UsageError
from imagesmith.infer.edit import project, variations
from imagesmith.infer.generate import Generator, Sample, generate, interpolate
from imagesmith.infer.latents import Seeds

_DEFAULT_SEEDS = 16
_TABLE, _COLUMNS = "labels.csv", ["file", "label", "seed"]
_FORMATS = tuple(name for name in FORMATS if name != "dcm")  # a DICOM file is written of another one only
_SUFFIXES = frozenset(suffix for name in _FORMATS for suffix in FORMATS[name].suffixes)
_LEAST_DIGITS = 4  # of a seed in a file name, so that names sort as numbers do
_CHECKED_AHEAD = 100_000  # files that may be in the way are looked for before anything is made, about a second's worth

Say = Callable[[str], None]
Row = list[str]
Each = TypeVar("Each")


def run_generate(
    model: str,
    out: Path,
    *,
    seeds: str | None,
    label: str | None,
    truncation: float,
    grid: str | None,
    format: str,
    dataset: bool,
    overwrite: bool,
    device: str,
    dtype: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write an image for each seed into the folder `out`, or one sheet of all where `out` is a picture."""
    as_sheet, kind = _is_picture(out), _parse_format(format)
    shape = None if grid is None else _parse_grid(grid)
    if as_sheet and dataset:
        raise UsageError(f"expected a folder for --dataset, got the picture '{out}'")
    if shape and not as_sheet:
        raise UsageError(f"expected a picture for --grid, got '{out}'; name a file such as {out.name}.png")
    wanted = Seeds(range(math.prod(shape) if shape else _DEFAULT_SEEDS)) if seeds is None else Seeds.parse(seeds)
    wanted.check_distinct()
    if as_sheet:
        check_place(out, overwrite=overwrite)
    generator = Generator.load(model, device=device, dtype=dtype)
    if dataset and not generator.classes:
        raise UsageError(f"'{model}' was trained without labels, which --dataset needs; leave --dataset out")
    say = _sayer(quiet)
    if generator.classes and label is None:
        say(f"no --label, so each seed draws one of {generator.classes} classes; --label all makes every class")
    total = len(wanted) * len(generator.labels(wanted[0], label))
    samples = _counted(generate(generator, wanted, label=label, truncation=truncation), total, "images", say)
    started = time.monotonic()
    if as_sheet:
        columns, rows = shape or (generator.classes if total > len(wanted) else None, None)
        if shape and total > math.prod(shape):
            raise UsageError(f"expected at most {counted(math.prod(shape), 'image')} for a grid of {grid}, got {total}")
        _check_sheet(math.prod(shape or (total,)), generator.size, "name a folder")
        for note in _write_sheet([sample.image for sample in samples], out, columns, rows, overwrite=overwrite):
            say(note)
        if as_json:
            print(json.dumps({"output": str(out), "images": total}))
    else:
        made = _read_table(out / _TABLE) if dataset else None
        names = _FileNames(generator, wanted.highest, FORMATS[kind].suffixes[0], made)

        def planned() -> Iterator[Row]:
            return (names.row(seed, each) for seed in wanted for each in generator.labels(seed, label))

        _check_names(out, (file for file, *_ in planned()), overwrite=overwrite)
        table = None if made is None else made | {row[0]: row for row in planned()}
        _write_samples(samples, out, names, table=table, overwrite=overwrite, as_json=as_json, say=say)
    say(f"{counted(total, 'image')} of {generator.card.title} in {time.monotonic() - started:.1f} s -> {out}")


def run_interpolate(
    model: str,
    out: Path,
    *,
    seeds: str,
    seconds: float,
    fps: int,
    loop: bool,
    label: str | None,
    truncation: float,
    overwrite: bool,
    device: str,
    dtype: str,
    quiet: bool,
) -> None:
    """Write the walk from seed to seed as a film, or as a folder of pictures where `out` has no ending."""
    stops = Seeds.parse(seeds)
    if fps < 1:
        raise UsageError(f"expected at least one frame a second, got {fps}")
    as_folder = out.is_dir() or not out.suffix
    if not as_folder:
        check_video(out, fps)
        check_place(out, overwrite=overwrite)
    generator = Generator.load(model, device=device, dtype=dtype)
    frames = max(1, round(seconds * fps))
    walk = interpolate(generator, stops, frames=frames, label=label, truncation=truncation, loop=loop)
    total = frames * len(stops) if loop else frames * (len(stops) - 1) + 1
    say = _sayer(quiet)
    images = _counted(walk, total, "frames", say)
    if as_folder:
        digits = max(_LEAST_DIGITS, len(str(total - 1)))
        _check_names(out, (f"frame{k:0{digits}}.png" for k in range(total)), overwrite=overwrite)
        make_folder(out)
        for k, image in enumerate(images):
            _write(image, out / f"frame{k:0{digits}}.png", overwrite=overwrite)
    else:
        if generator.channels in (2, 4):
            say(FILM_ON_WHITE)
        with video_writer(out, fps, overwrite=overwrite) as add:
            for image in images:
                add(image)
    say(f"{counted(total, 'frame')}, {total / fps:.1f} s of {generator.card.title} -> {out}")


def run_variations(
    model: str,
    photo: Path,
    out: Path,
    *,
    seeds: str,
    strength: float,
    steps: int,
    label: str | None,
    overwrite: bool,
    device: str,
    quiet: bool,
) -> None:
    """Write the photograph, its reconstruction, a variation for each seed and a sheet of all into the folder `out`."""
    if _is_picture(out):
        raise UsageError(f"expected a folder for the variations, got the picture '{out}'")
    wanted, say = Seeds.parse(seeds), _sayer(quiet)
    wanted.check_distinct()
    digits = max(_LEAST_DIGITS, len(str(wanted.highest)))
    generator = Generator.load(model, device=device)
    _check_sheet(2 + len(wanted), generator.size, "take fewer seeds")
    names = ["sheet.png", "photo.png", "reconstruction.png", *(f"seed{seed:0{digits}}.png" for seed in wanted)]
    given = Path(os.path.realpath(photo))  # unlike `resolve` it raises nothing where a link leads to itself
    if str(given.parent) == os.path.realpath(out) and given.name in names:
        raise OutputError(f"{photo} is itself the input\nname another folder with -o")
    _check_names(out, names, overwrite=overwrite)
    frame = _photograph(photo)
    make_folder(out)
    tell = _Pace("of the search", say)
    found = project(generator, frame, label=label, steps=steps, tuning_steps=steps, on_progress=tell)
    for note in found.notes:
        say(f"{photo}: {note}")
    as_class = "" if found.label is None else f" as {generator.class_names[found.label]}"
    say(f"reconstructed{as_class}: {found.psnr_rgb_found:.2f} dB (psnr_rgb) as found, {found.psnr_rgb:.2f} dB tuned")
    images = [found.target, found.reconstruction]
    for sample in variations(found, wanted, strength=strength):
        _write(sample.image, out / f"seed{sample.seed:0{digits}}.png", overwrite=overwrite)
        images.append(sample.image)
    _write(found.target, out / "photo.png", overwrite=overwrite)
    _write(found.reconstruction, out / "reconstruction.png", overwrite=overwrite)
    _write_sheet(images, out / "sheet.png", overwrite=overwrite)
    say(f"{counted(len(wanted), 'variation')} -> {out}, all on {out / 'sheet.png'}")


def _photograph(path: Path) -> Frame:
    """The one input; UsageError where no file is called so, NothingUsableError where it is none that can be used."""
    if not os.path.isfile(path):
        what = f"the folder '{path}'; name a picture in it" if path.is_dir() else f"'{path}'; check the spelling"
        raise UsageError(f"expected an existing picture, got {what}")
    try:
        return read_image(path)
    except ImageError as error:
        raise NothingUsableError(str(error)) from error


class _FileNames:
    """Where a sample goes inside its folder, by seed and, where there are classes, by class; and its row in a table.

    With `made`, the table of earlier runs, each class has a folder, and a sample that has a row keeps its file.
    """

    def __init__(self, generator: Generator, highest: int, suffix: str, made: dict[str, Row] | None) -> None:
        self._digits = max(_LEAST_DIGITS, len(str(highest)))
        self._suffix, self._in_folders = suffix, made is not None
        self._made = {(label, seed): file for file, label, seed in (made or {}).values()}
        plain = [re.sub(r"[^\w.-]+", "-", name).strip("-.") for name in generator.class_names]
        distinct = all(plain) and len({name.casefold() for name in plain}) == len(plain)
        self._classes = plain if distinct else [str(number) for number in range(generator.classes)]
        self._class_names = generator.class_names

    def __call__(self, seed: int, label: int | None) -> str:
        stem = f"seed{seed:0{self._digits}}"
        if label is None:
            return f"{stem}{self._suffix}"
        name = self._classes[label]
        if not self._in_folders:
            return f"{stem}-{name}{self._suffix}"
        made = self._made.get((self._class_names[label], str(seed)), "")
        # of another number of digits or format; a table that was edited leads to no other folder
        return made if made.rpartition("/")[0] == name else f"{name}/{stem}{self._suffix}"

    def row(self, seed: int, label: int | None) -> Row:
        """File, class as it is called ('' without one), seed."""
        return [self(seed, label), "" if label is None else self._class_names[label], str(seed)]


def _write_samples(
    samples: Iterable[Sample],
    out: Path,
    names: _FileNames,
    *,
    table: dict[str, Row] | None,
    overwrite: bool,
    as_json: bool,
    say: Say,
) -> None:
    """Each sample as a file of its own; with `table`, what `imagesmith train` reads: class folders and labels.csv.

    The table holds the rows of all samples and of earlier runs, by file. What files of this format do not hold is said
    once, not for each.
    """
    make_folder(out)
    said: set[str] = set()
    for k, sample in enumerate(samples):
        name, label, _ = names.row(sample.seed, sample.label)
        if table is not None:
            if k == 0:  # whatever stops the run then leaves no picture without its row
                _write_table(out / _TABLE, table)
            make_folder((out / name).parent)
        for note in _write(sample.image, out / name, overwrite=overwrite):
            if note not in said:
                say(note)
                said.add(note)
        if as_json:
            told = {"output": str(out / name), "seed": sample.seed, "label": None if sample.label is None else label}
            print(json.dumps(told), flush=True)


def _write_table(path: Path, table: dict[str, Row]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *table.values()])
    write_whole(path, text.getvalue())


def _read_table(path: Path) -> dict[str, Row]:
    """The rows of earlier runs by file, none where there is no table; OutputError where another hand wrote it."""
    if not os.path.lexists(path):
        return {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header, *rows = [*csv.reader(stream, strict=True)] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"cannot add to the table {path}: {error}\nname another folder with -o") from None
    if header != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise OutputError(
            f"expected a table of {', '.join(_COLUMNS)} in every line to add to, got another in {path}\n"
            "name another folder with -o, or move the table away"
        )
    return {row[0]: row for row in rows}


def _write_sheet(
    images: Sequence[Tensor], out: Path, columns: int | None = None, rows: int | None = None, *, overwrite: bool
) -> tuple[str, ...]:
    """Returns what the format could not hold, as `_write` does."""
    sheet = image_grid(torch.stack(list(images)).permute(0, 3, 1, 2), columns, rows)
    return write_image(Frame.of(sheet), out, overwrite=overwrite)


def _write(image: Tensor, path: Path, *, overwrite: bool) -> tuple[str, ...]:
    return write_image(Frame.of(image.permute(2, 0, 1)), path, overwrite=overwrite)


def _is_picture(path: Path) -> bool:
    """Whether `path` means a picture and not a folder; UsageError for another kind of file."""
    suffix = path.suffix.lower()
    if path.is_dir() or not re.fullmatch(r"\.[a-z][a-z0-9]{1,4}", suffix):
        return False
    if suffix not in _SUFFIXES:
        raise UsageError(f"expected a folder or a picture such as {path.stem}.png, got '{path}'")
    return True


def _parse_grid(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text, re.ASCII)
    if not match or 0 in (shape := (int(match[1]), int(match[2]))):
        raise UsageError(f"expected a grid of columns x rows such as 8x8, got '{text}'")
    return shape


def _parse_format(text: str) -> str:
    with contextlib.suppress(FormatError):
        if (kind := format_named(text)) in _FORMATS:
            return kind
    raise UsageError(f"expected one of {', '.join(_FORMATS)}, got '{text}'")


def _check_names(folder: Path, names: Iterable[str], *, overwrite: bool) -> None:
    """OutputError where one of the first files to be written into `folder` exists already, before any is made."""
    if folder.is_dir() and any(folder.iterdir()):
        for name in itertools.islice(names, _CHECKED_AHEAD):
            check_free(folder / name, overwrite=overwrite)


def _check_sheet(places: int, size: tuple[int, int], advice: str) -> None:
    """UsageError where a sheet of so many images, or places for them, is too large for memory."""
    if places * math.prod(size) * enlargement(*size) ** 2 > MAX_PIXELS:
        raise UsageError(
            f"expected a sheet of at most {MAX_PIXELS / 1e6:g} megapixels, got one of {places:,} images; {advice}"
        )


def _sayer(quiet: bool) -> Say:
    return (lambda _: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


class _Pace:
    """Told the finished share of a long work, says every ten seconds how much is done and how much time is left."""

    def __init__(self, what: str, say: Say) -> None:
        self._what, self._say = what, say
        self._first: tuple[float, float] | None = None  # time and share, once the work has found its pace
        self._said = time.monotonic()

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now, share
        elif now - self._said >= PLAIN_EVERY_S:
            self._said = now
            begun, before = self._first
            left = timedelta(seconds=round((now - begun) * (1 - share) / (share - before)))
            self._say(f"{share:.0%} {self._what}, {left} left")


def _counted(items: Iterable[Each], total: int, what: str, say: Say) -> Iterator[Each]:
    """The items, and a line every ten seconds."""
    tell = _Pace(f"of {total} {what}", say)
    for done, item in enumerate(items, start=1):
        yield item
        tell(done / total)
