"""What is asked of a run over files, and what became of each of them."""

import dataclasses
import logging
import numbers
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from imagesmith.errors import (
    DiskFullError,
    FormatError,
    ImageError,
    ImagesmithError,
    TooLargeError,
    TruncatedError,
    UsageError,
    VideoError,
    not_one_of,
)
from imagesmith.infer.auto import Decision
from imagesmith.infer.heat import WHITE_LEVELS
from imagesmith.runtime.memory import Limits

if TYPE_CHECKING:
    from imagesmith.data.video import Audit

CANCELLED = 130
FULL_IN_A_ROW = 3
"""Results without room on the disk, one after another, that end a run: a single one may just be a large one."""
_UNUSABLE = {error.__name__ for error in (ImageError, FormatError, TruncatedError, TooLargeError, VideoError)}

_ENGINES = ("local", "ray")

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How files are restored; see `Restorer.path`."""

    recursive: bool
    resume: bool
    overwrite: bool
    suffix: str | None
    format: str
    partial: bool
    max_pixels: int
    self_ensemble: bool
    consistency: bool
    mask: Tensor | Literal["auto"] | None
    uncertainty: Path | None
    dry_run: bool
    workers: int | Literal["auto"] = "auto"
    engine: Literal["local", "ray"] = "local"
    max_ram: int | None = None
    max_vram: int | None = None
    mask_file: Path | None = None
    """Where `mask` was read, if it was: no result may replace it."""

    def __post_init__(self) -> None:
        """UsageError for what the command line does not let through either."""
        if self.engine not in _ENGINES:
            raise UsageError(not_one_of("an engine", str(self.engine), _ENGINES))
        if self.workers != "auto" and not _counts(self.workers, numbers.Integral):
            raise UsageError(f"expected 'auto' or a whole number from 1 as workers, got {self.workers!r}")
        for name in ("max_pixels", "max_ram", "max_vram"):
            limit = getattr(self, name)
            if not _counts(limit, numbers.Real) and (limit is not None or name == "max_pixels"):
                raise UsageError(f"expected a number from 1 as {name}, got {limit!r}")

    @property
    def limits(self) -> Limits:
        return Limits(self.max_ram, self.max_vram)


def _counts(value: Any, kind: type) -> bool:
    """Whether `value` is a number of a `kind`, also one of NumPy, from 1; 2e9 bytes are a limit."""
    return isinstance(value, kind) and value >= 1


@dataclass(frozen=True)
class Uncertainty:
    """Expected absolute errors of a result in grey levels, their mean and 95th percentile, and their heat map.

    They are errors only of a model that `is_calibrated`, else how far its turns disagree, which goes with errors.
    """

    mean: float
    p95: float
    output: str
    is_calibrated: bool

    def __str__(self) -> str:
        what = "expected error" if self.is_calibrated else "disagreement, not calibrated as an error for this model,"
        scale = f"{self.output}, lightest at {WHITE_LEVELS:g}"
        return f"{what} {self.mean:.1f} grey levels, 95% of pixels below {self.p95:.1f} ({scale})"


@dataclass(frozen=True)
class Lost:
    """The pixels of an input whose data did not survive in the file, counted and placed in the input.

    `box` is (left, top, right, bottom), the last two exclusive. `invented_by` names the model that filled them; None:
    they stay flat.
    """

    pixels: int
    share: float
    box: tuple[int, int, int, int]
    invented_by: str | None

    def __str__(self) -> str:
        left, top, right, bottom = self.box
        name = self.invented_by
        what = f"invented by '{name}'" if name else "left flat: no model 'inpaint' is there to invent them"
        where = f"between {left},{top} and {right},{bottom}"
        return f"{self.pixels} pixels ({self.share:.1%}) {where} did not survive in the file and are {what}"


@dataclass(frozen=True)
class ItemResult:
    """What became of one input; `error_kind` is the class of the error whose message is `error`."""

    input: str
    output: str | None
    status: Literal["done", "skipped", "failed", "planned"]
    model: str
    scale: int
    in_size: Size | None = None
    out_size: Size | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    uncertainty: Uncertainty | None = None
    lost: Lost | None = None
    decision: Decision | None = None
    frames: int | None = None
    """Of a film: how many there are."""
    frames_estimated: bool = False
    """Whether `frames` are reckoned by length and rate, not counted: of a film that was only tried out."""
    audit: "Audit | None" = None
    """Of a film: its result compared with it."""
    estimate: "Estimate | None" = None
    """Of a film that was only tried out: what it would take."""
    error: str | None = None
    error_kind: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Frames:
    """How far a film is: `done` of `total` frames, None where that is not known, at so many a second.

    `is_estimated` where the total is reckoned by length and rate, not counted.
    """

    done: int
    total: int | None
    per_second: float
    is_estimated: bool = False

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        return max(0, self.total - self.done) / self.per_second if self.total and self.per_second else None


@dataclass(frozen=True)
class Estimate:
    """What a film would take: time, size of the result, and what is free on its disk."""

    seconds: float | None
    bytes: int | None
    free_bytes: int
    frames_per_second: float


@dataclass(frozen=True)
class Progress:
    """`done` of `total` items are finished, `item` is done to `fraction`; `result` is set once that is finished.

    `frames` tells how far the film at work is.
    """

    done: int
    total: int
    item: str
    fraction: float
    result: ItemResult | None = None
    frames: Frames | None = None


@dataclass(frozen=True)
class Summary:
    """All results in the order of the inputs; items that a cancelled run did not finish are absent.

    So are those that one left which `found_disk_full`: that was ended because one result after another found no room.
    `kept_frames` are those of the film at which it was cancelled that need not be made again, `passed_over` counts by
    their endings the files that are no pictures.
    """

    results: list[ItemResult] = field(default_factory=list)
    cancelled: bool = False
    kept_frames: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)
    found_disk_full: bool = False

    @property
    def exit_code(self) -> int:
        """0 all good, 3 some failed, 4 nothing usable, 130 cancelled."""
        failed = [result for result in self.results if result.status == "failed"]
        if self.cancelled and not self.found_disk_full:
            return CANCELLED
        if len(failed) == len(self.results) and all(result.error_kind in _UNUSABLE for result in failed):
            return 4
        return 3 if failed else 0


def failed(result: ItemResult, error: Exception) -> ItemResult:
    """The result of an item that ended in `error`; its traceback goes to the debug log."""
    text = str(error) if isinstance(error, ImagesmithError) else f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        text = "there is not enough memory for this picture"
    logging.getLogger(__name__).debug("%s failed", result.input, exc_info=error)
    return replace(result, status="failed", error=text, error_kind=type(error).__name__)


class UntilDiskIsFull:
    """An `on_progress` that also asks for the end after `FULL_IN_A_ROW`: the rest would be computed for nothing."""

    def __init__(self, asked: threading.Event, on_progress: Callable[[Progress], None]) -> None:
        self._asked, self._on_progress = asked, on_progress
        self._in_a_row, self._has_asked = 0, False

    def __call__(self, event: Progress) -> None:
        if event.result is not None and event.result.status != "skipped":
            self._in_a_row = self._in_a_row + 1 if event.result.error_kind == DiskFullError.__name__ else 0
        if self._in_a_row >= FULL_IN_A_ROW and not self._asked.is_set():  # else somebody asked before
            self._has_asked = True
            self._asked.set()
        self._on_progress(event)

    def concluded(self, summary: Summary) -> Summary:
        """The `summary` of the run, which says whether it was this that ended it."""
        return replace(summary, found_disk_full=summary.cancelled and self._has_asked)
