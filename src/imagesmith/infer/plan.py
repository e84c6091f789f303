"""Which file becomes which: names of results, decided and checked before anything is computed."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from imagesmith.data.encode import LOSSY
from imagesmith.data.files import FORMATS, output_format
from imagesmith.data.formats import format_named
from imagesmith.data.sources import Item
from imagesmith.errors import FormatError, UsageError
from imagesmith.tensors import Depth
from imagesmith.zoo import ModelCard
from imagesmith.zoo.weights import RUN_WEIGHTS

KEEP = "keep"
STANDARD_STREAM = "-"
_NO_FOLDERS = (".zip", ".tar", ".gz", ".7z", ".rar", ".pdf", ".psd", ".svg", ".heic", ".heif", ".mp4", ".mov", ".mkv")
_OTHER_SPELLINGS = (".jpeg", ".tiff")  # kept as the input has them; rarer suffixes become the usual one


@dataclass(frozen=True)
class Job:
    """One picture to restore: `output` of `format` (a key of FORMATS), or standard output where it is None.

    `root` is the folder whose manifest remembers it, `name` what it is called there. The format of a job that `keeps`
    is a guess by the input's name, until its content is known. `exact`: something was promised of each of its pixels,
    so that it does not keep a format that would change them.
    """

    item: Item
    output: Path | None
    format: str
    root: Path | None
    name: str
    keeps: bool
    exact: bool = False

    @property
    def place(self) -> Path | None:
        """Where its result comes to lie; None if there will be none, or none in a file."""
        return None if self.item.problem is not None else self.output

    @property
    def source_path(self) -> str:
        """The whole path of the input without links, as a manifest remembers it; empty for standard input."""
        return os.path.realpath(str(self.item)) if self.item.path is not None else ""

    @property
    def lies_beside(self) -> bool:
        """Whether its result comes to lie in or below the folder of its input, where it must be told from pictures."""
        return self.output is not None and self.has_beside(self.output)

    def has_beside(self, place: Path) -> bool:
        """Whether `place` lies in or below the folder of its input."""
        if self.item.path is None:
            return False
        return Path(os.path.realpath(place)).is_relative_to(os.path.realpath(self.item.path.parent))

    def for_content(self, format: str, depth: Depth, channels: int, longest_side: int) -> "Job":
        """The job for a picture found to be of this kind, with the format and the ending that its result will have."""
        if not self.keeps:
            return self
        kept = _kept(output_format(format, depth, channels, longest_side), self.exact)
        if kept == self.format or self.output is None:
            return replace(self, format=kept)
        return replace(self, format=kept, output=self.output.with_suffix(FORMATS[kept].suffixes[0]))

    def losses(self, content: str) -> tuple[str, ...]:
        """What is to be said of an exact job whose picture came as, or goes into, a format that changes its pixels."""
        if self.exact and self.format in LOSSY:
            return (f"{self.format} changes every pixel a little, also what has to stay (png keeps it)",)
        if self.exact and self.keeps and content in LOSSY:
            return (f"written as {self.format}: {content} would change what has to stay",)
        return ()


def tag_of(card: ModelCard) -> str:
    """What is put into the names of results that lie beside their inputs: the task and the scale, `.srx4`.

    Of a model that was loaded by a path its own name, `.mine-x4`, so that its results are told from those of others.
    """
    scale = f"x{card.scale}" if card.scale > 1 else ""
    if called := _called(card.path):
        return f".{called}" if called.endswith(scale) else f".{called}-{scale}"
    return f".{card.task}{scale}"


def _called(path: str | None) -> str:
    """The name of a run folder or of a weight file, of letters, digits, - and _ alone; '' where nothing is left."""
    if path is None:
        return ""
    whole = Path(os.path.abspath(path))
    if whole.name == RUN_WEIGHTS:
        whole = whole.parent
    return re.sub(r"[^\w-]+", "-", whole.name if whole.is_dir() else whole.stem).strip("-")


def plan_jobs(
    items: Sequence[Item],
    destination: str | Path | None,
    *,
    format: str = KEEP,
    suffix: str | None = None,
    tag: str,
    exact: bool = False,
) -> list[Job]:
    """The jobs of `items`, `exact` ones or not; UsageError where `destination` cannot take them.

    `tag` is put into names where results lie beside their inputs, `suffix` replaces it and is then used everywhere.
    """
    if suffix and ("/" in suffix or os.sep in suffix):
        raise UsageError(f"expected a suffix without folders, got '{suffix}'; name a folder with -o")
    if destination is None and all(item.path is None for item in items):
        destination = STANDARD_STREAM
    if str(destination) == STANDARD_STREAM:
        _expect_one(items, "standard output")
        kind = _format_of(items[0].name, format, exact)
        return [Job(items[0], None, kind, None, str(items[0].name), format == KEEP, exact)]
    if destination is not None:
        _refuse_other_files(destination)
    if destination is not None and names_a_file(Path(destination)):
        _expect_one(items, f"the file '{destination}'")
        output = Path(destination)
        named = format_named(output.suffix)
        if format not in (KEEP, named):
            raise UsageError(f"expected '{output.name}' and format '{format}' to agree; leave one of them out")
        return [Job(items[0], output, named, output.parent, output.name, False, exact)]
    folder = None if destination is None else Path(destination)
    return [_job(item, folder, format, suffix, tag=tag, exact=exact) for item in items]


def told_apart(jobs: Sequence[Job]) -> list[Job]:
    """The jobs; those that become PNG only to be exact keep their input's ending where another has their name."""
    taken = Counter(output_key(job.place) for job in jobs if job.place is not None)
    return [_with_whole_name(job) if _is_crowded(job, taken) else job for job in jobs]


def output_key(output: Path) -> str:
    """The same for two spellings of one file."""
    return os.path.normcase(os.path.abspath(output))


def check_distinct(jobs: Sequence[Job], besides: Callable[[Job], Iterable[Path]] = lambda _: ()) -> None:
    """UsageError where two jobs would write the same file; `besides` gives those of a job that are no results."""
    taken: dict[str, Job] = {}
    for job in jobs:
        for place in () if job.place is None else (job.place, *besides(job)):
            key = output_key(place)
            if key in taken:
                raise UsageError(
                    f"'{taken[key].item}' and '{job.item}' would both become '{place}'\n"
                    "rename one of them, or restore them into different folders"
                )
            taken[key] = job


def kept_files(jobs: Sequence[Job], mask_file: Path | None) -> dict[str, str]:
    """The files that no result may replace, whole and without links, and what each of them is to the run."""
    masks = {} if mask_file is None else {os.path.realpath(mask_file): "the mask"}
    return masks | {os.path.realpath(job.item.path): "an input" for job in jobs if job.item.path is not None}


def heat_place(job: Job, heat_maps: Path) -> Path:
    """The file of a job's heat map: `heat_maps` itself, or in this folder under the input's name."""
    if names_a_file(heat_maps):
        return heat_maps
    return heat_maps / job.item.name.with_name(f"{job.item.name.name}.heat.png")


def heat_root(heat_maps: Path) -> Path:
    """The folder whose manifest remembers the heat maps that go to `heat_maps`."""
    return heat_maps.parent if names_a_file(heat_maps) else heat_maps


def checked_format(format: str) -> str:
    """'keep' or the key in FORMATS that a user means; UsageError otherwise."""
    if format == KEEP:
        return format
    try:
        return format_named(format)
    except FormatError as error:
        raise UsageError(str(error)) from None


def _job(item: Item, folder: Path | None, format: str, suffix: str | None, *, tag: str, exact: bool) -> Job:
    kind = _format_of(item.name, format, exact)
    spelled = item.name.suffix.lower()
    ending = spelled if spelled in _OTHER_SPELLINGS and format_named(spelled) == kind else FORMATS[kind].suffixes[0]
    if folder is not None:
        name = item.name.with_name(f"{item.name.stem}{suffix or ''}{ending}")
        return Job(item, folder / name, kind, folder, str(name), format == KEEP, exact)
    added = tag if suffix is None else suffix
    if item.path is None:
        raise UsageError("expected an output for standard input among other inputs; name a folder with -o")
    if item.member is not None:  # beside the archive, in a folder of its name
        name = PurePosixPath(f"{item.path.stem}{added}") / item.name.with_suffix(ending)
        root = item.path.parent
    else:
        name = item.name.with_name(f"{item.name.stem}{added}{ending}")
        root = item.path.parents[len(item.name.parts) - 1]
    return Job(item, root / name, kind, root, str(name), format == KEEP, exact)


def _is_crowded(job: Job, taken: Counter[str]) -> bool:
    """Whether a job has to share its name because its result does not keep its input's format."""
    if job.output is None or taken[output_key(job.output)] <= 1:
        return False
    return job.exact and job.keeps and _format_of(job.item.name, KEEP, exact=False) != job.format


def _with_whole_name(job: Job) -> Job:
    assert job.output is not None, "standard output takes one picture"
    name = job.item.name.name + job.output.name.removeprefix(job.item.name.stem)
    return replace(job, output=job.output.with_name(name), name=str(PurePosixPath(job.name).with_name(name)))


def _format_of(name: PurePosixPath, format: str, exact: bool) -> str:
    """The format of a result by its input's name; what the content then needs is decided when it is read."""
    if format != KEEP:
        return format
    try:
        return _kept(output_format(format_named(name.suffix), "uint8", 3), exact)
    except FormatError:
        return "png"


def _kept(format: str, exact: bool) -> str:
    """The format of a result that keeps that of its input, as far as it has to be `exact`."""
    return "png" if exact and format in LOSSY else format


def names_a_file(path: Path) -> bool:
    known = {suffix for entry in FORMATS.values() for suffix in entry.suffixes}
    return path.suffix.lower() in known and not path.is_dir()


def _refuse_other_files(destination: str | Path) -> None:
    """A folder called x.zip is not what `-o x.zip` means."""
    path = Path(destination)
    if path.suffix.lower() in _NO_FOLDERS and not path.is_dir() and not str(destination).endswith(("/", os.sep)):
        raise UsageError(
            f"expected a folder or a picture as output, got '{destination}'\n"
            f"pictures end in {', '.join(FORMATS)}; a folder of that name is written '{destination}/'"
        )


def _expect_one(items: Sequence[Item], place: str) -> None:
    if len(items) != 1:
        raise UsageError(f"expected one picture for {place}, got {len(items)}; name a folder with -o instead")
