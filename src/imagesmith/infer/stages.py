"""One picture of a run: read in one thread, computed in another, written in a third, or all of it in one."""

import functools
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import torch
from torch import Tensor

from imagesmith.atomic import make_folder, replacing
from imagesmith.data.encode import encode_rows
from imagesmith.data.files import Frame, Header, write_image
from imagesmith.data.scanlines import Picture
from imagesmith.errors import OutputError
from imagesmith.infer.auto import AUTO_TASK, Decision
from imagesmith.infer.channel import Cancelled
from imagesmith.infer.heat import calibration, heat_map
from imagesmith.infer.holes import check_size
from imagesmith.infer.images import result_meta, stacked
from imagesmith.infer.lost import fill, lost_pixels
from imagesmith.infer.outcome import FileOptions, ItemResult, Uncertainty, failed
from imagesmith.infer.places import Places, bytes_needed, check_memory, is_whole
from imagesmith.infer.plan import Job, heat_place
from imagesmith.infer.reading import picture_outline, read_item, read_picture
from imagesmith.infer.rows import Drawn, Rows
from imagesmith.infer.truth import tables_of
from imagesmith.runtime.memory import UNLIMITED
from imagesmith.zoo import CARDS

if TYPE_CHECKING:
    from imagesmith.infer.chained import Auto, Chained
    from imagesmith.infer.restore import Restorer

_MENDED_QUALITY = 98  # of JPEGs that keep their size: 95 takes back up to a fifth of what was mended, this half as much
_LEAST_TOLD_BYTES = 50_000_000
_INPAINT = "inpaint"  # the shipped model that invents what did not survive


@dataclass(frozen=True)
class Loaded:
    """A picture that was read and is to be computed; `whole` if its format cannot be written strip by strip."""

    job: Job
    picture: Picture
    restorer: "Restorer | Chained"
    sha256: str
    seconds: float
    result: ItemResult
    whole: bool

    @property
    def pixels(self) -> int:
        """Of the result."""
        return self.picture.height * self.picture.width * self.restorer.scale**2


class Stages:
    """What reading, computing and writing of a run's pictures share: the model, the wishes and the places."""

    def __init__(self, restorer: "Restorer | Auto", options: FileOptions, places: Places) -> None:
        self._restorer, self._options, self._places = restorer, options, places
        is_inpainter = restorer.card.task == "inpaint"
        self._inventor = restorer.card.title if is_inpainter else _INPAINT if _INPAINT in CARDS else None

    def __getstate__(self) -> dict[str, Any]:
        """For another process: with every model as it is best computed here, so that it finds nothing else best."""
        if self._options.partial and self._inventor is not None:
            self._inpainter  # noqa: B018 - loads it
        return self.__dict__

    def planned(self, job: Job) -> ItemResult:
        """What would be done with a job, from its header alone where that decides.

        Elsewhere what a file lost decides as well, how it lies, or by which tables it was compressed.
        """
        options = self._options
        needs_all = options.partial or options.consistency or isinstance(options.mask, Tensor)
        if needs_all or self._restorer.card.task == AUTO_TASK:
            loaded = self.load(job)
            if not isinstance(loaded, Loaded):
                return loaded
            try:
                self._places.check_writable(loaded.job)
            except OutputError as error:
                return failed(loaded.result, error)
            held = _held(loaded.job, _header(loaded.picture), loaded.restorer.scale)
            return replace(loaded.result, status="planned", notes=(*loaded.result.notes, *held))
        blank = self._blank(job, "planned")
        try:
            source = read_item(job.item, self._options)
            if output := self._places.finished_before(job, self._places.digest(job, source)):
                return replace(blank, status="skipped", output=str(output))
            header, picture = picture_outline(source, self._restorer.card, self._options)
            job, sizes = self._places.settle(job, header, self._restorer.scale)
            check_memory(header, job.format, self._restorer.scale, options.max_ram)
            self._places.check_writable(job)
            notes = (
                *blank.notes,
                *self._within_limits(picture),
                *job.losses(header.format),
                *_held(job, header, self._restorer.scale),
            )
            return replace(blank, output=_name(job), notes=notes, **sizes)
        except Exception as error:
            return failed(blank, error)

    def _within_limits(self, picture: Picture) -> list[str]:
        """What the limits do to its tiles, in words; ImageError where they cannot be kept."""
        notes, options = list[str](), self._options
        if options.limits != UNLIMITED:
            restorer = cast("Restorer", self._restorer)  # `Auto` has to see the picture
            restorer.check_limits(
                picture, self_ensemble=options.self_ensemble, report=notes.append, limits=options.limits
            )
        return notes

    def load(self, job: Job) -> Loaded | ItemResult:
        """In the reading thread: the picture, or the result that needs no computing."""
        start = time.perf_counter()
        result, digest = self._blank(job, "done"), ""
        try:
            source = read_item(job.item, self._options)
            digest = self._places.digest(job, source)
            if output := self._places.finished_before(job, digest):
                return replace(result, status="skipped", output=str(output))
            if not job.keeps:
                self._places.check(job)
            picture = read_picture(source, self._restorer.card, self._options)
            result = replace(result, notes=(*result.notes, *picture.meta.notes))
            if picture.lost is not None:
                lost = lost_pixels(picture.lost, self._inventor)
                result = replace(result, notes=(*result.notes, str(lost)), lost=lost)
            restorer, decision = self._restorer.choose(picture)
            if decision is not None:
                notes = (*result.notes, str(decision))
                result = replace(result, model=decision.name, scale=restorer.scale, notes=notes, decision=decision)
                if not decision.chain and not picture.was_damaged and job.keeps and job.output is not None:
                    return replace(result, status="skipped", output=None, in_size=(picture.width, picture.height))
            if picture.was_damaged and self._only_fills(decision):
                job = replace(job, exact=True)
            header = _header(picture)
            job, sizes = self._places.settle(job, header, restorer.scale)
            notes = (*result.notes, *job.losses(picture.meta.format))
            result = replace(result, output=_name(job), notes=notes, **sizes)
            check_memory(header, job.format, restorer.scale, self._options.max_ram)
            self._check_asked(picture)
            whole = is_whole(job.format, header)
            return Loaded(job, picture, restorer, digest, time.perf_counter() - start, result, whole)
        except Exception as error:
            return self._ended(job, digest, result, error)

    def compute(self, loaded: Loaded, rows: Rows, asked: threading.Event) -> Generator[float, None, None]:
        """In the calling thread: strip by strip into `rows`, yielding the fraction done."""
        height, done = loaded.picture.height * loaded.restorer.scale, 0
        try:
            for strip in self._computed(loaded, asked, rows):
                if not rows.put(strip):
                    return
                done += strip.shape[0]
                yield done / height
            rows.end(None)
        except Exception as error:
            rows.end(error)
        except BaseException:
            rows.end(Cancelled())
            raise

    def restore(self, job: Job, asked: threading.Event) -> ItemResult | None:
        """All of the way in this thread, strip by strip; None if cancelled."""
        loaded = self.load(job)
        if isinstance(loaded, ItemResult):
            return loaded
        return self.write(loaded, Drawn(functools.partial(self._computed, loaded, asked)))

    def given_up(self, job: Job, error: Exception) -> ItemResult:
        """The result of a job that `error` ended from outside."""
        return failed(self._blank(job, "done"), error)

    def write(self, loaded: Loaded, rows: Rows | Drawn) -> ItemResult | None:
        """In the writing thread: the line in the manifest and the file under its final name; None if cancelled."""
        start = time.perf_counter()
        job, result = loaded.job, loaded.result
        try:
            if job.output is None:
                notes = self._to_standard_output(loaded, rows)
            else:
                make_folder(job.output.parent)
                with replacing(job.output, overwrite=self._places.may_replace(job)) as stream:
                    notes = self._encode(loaded, rows, stream)
                    stream.flush()
                    # remembered first, so that a kill at any moment leaves no result that nobody owns
                    notes += self._places.remember(job, loaded.sha256, job.output, content=Path(stream.name))
        except Cancelled:
            return None
        except Exception as error:
            return self._ended(job, loaded.sha256, result, error)
        finally:
            rows.close()
        seconds = loaded.seconds + time.perf_counter() - start
        all_notes = dict.fromkeys((*result.notes, *rows.notes, *notes))
        return replace(result, seconds=round(seconds, 3), notes=tuple(all_notes), uncertainty=rows.uncertainty)

    def _ended(self, job: Job, digest: str, result: ItemResult, error: Exception) -> ItemResult:
        """What `error` makes of a job: nothing where another run that goes on as well was just faster."""
        if isinstance(error, OutputError) and (output := self._places.finished_meanwhile(job, digest)):
            return replace(result, status="skipped", output=str(output))
        return failed(result, error)

    def _computed(self, loaded: Loaded, asked: threading.Event, rows: Rows | Drawn) -> Iterator[Tensor]:
        """The strips of the result; what there is to say besides is left in `rows`."""
        picture = self._whole(loaded.picture)
        if self._options.uncertainty is not None:
            place = heat_place(loaded.job, self._options.uncertainty)
            rows.uncertainty = self._doubted(loaded, picture, place, rows.notes.append)
        for _, strip in self._strips(loaded.restorer, picture, rows.notes.append):
            if asked.is_set():
                raise Cancelled
            yield strip

    def _check_asked(self, picture: Picture) -> None:
        """An ImagesmithError before anything is computed where the mask or the consistency asked for does not fit."""
        if not isinstance(picture, Frame):
            return  # it is read as a whole where either is asked for
        if isinstance(self._options.mask, Tensor):
            check_size(self._options.mask, picture)
        if self._options.consistency and self._restorer.card.task == "jpeg":
            tables_of(picture)

    def _only_fills(self, decision: Decision | None) -> bool:
        """Whether what survived of a damaged file stays as it is."""
        return self._restorer.card.task == "inpaint" if decision is None else not decision.chain

    def _whole(self, picture: Picture) -> Picture:
        """The picture, in which what did not survive in the file is invented before anything else."""
        if isinstance(picture, Frame) and picture.lost is not None and self._inventor is not None:
            return fill(picture, self._inpainter, self._options.limits)
        return picture

    def _strips(
        self, restorer: "Restorer | Chained", picture: Picture, report: Callable[[str], None]
    ) -> Iterator[tuple[int, Tensor]]:
        """The result from top to bottom."""
        options = self._options
        if options.partial and options.mask is None and restorer.card.task == "inpaint":
            return iter([(0, picture.rows(0, picture.height))])  # there was nothing else to invent
        return restorer.strips(
            picture,
            mask=options.mask,
            self_ensemble=options.self_ensemble,
            consistency=options.consistency,
            report=report,
            limits=options.limits,
        )

    def _doubted(self, loaded: Loaded, picture: Picture, place: Path, report: Callable[[str], None]) -> Uncertainty:
        """Write the heat map of the result at `place`, and its line in the manifest; `report` what fails of that."""
        if place != self._options.uncertainty:
            make_folder(place.parent)
        assert isinstance(picture, Frame), "read as a whole for this"
        error = self._expected_error(picture, loaded.picture.lost)
        with replacing(place, overwrite=self._places.may_replace_map(loaded.job, place)) as stream:
            write_image(heat_map(error), stream, format=place.suffix)
            stream.flush()
            for note in self._places.remember_map(loaded.job, loaded.sha256, place, content=Path(stream.name)):
                report(note)
        ordered = error.flatten().sort().values
        return Uncertainty(
            mean=round(error.mean().item(), 3),
            p95=round(ordered[int(0.95 * len(ordered))].item(), 3),
            output=str(place),
            is_calibrated=calibration(self._restorer.card) is not None,
        )

    def _expected_error(self, picture: Frame, lost: Tensor | None) -> Tensor:
        """Of each pixel of the result, also of what was invented before, where the file had `lost` it."""
        options = self._options
        if options.mask is None and self._restorer.card.task == "inpaint":  # there was nothing else to invent
            error = torch.zeros(picture.height, picture.width)
        else:
            error = self._restorer.uncertainty(picture, mask=options.mask, limits=options.limits)
        if lost is None or self._inventor is None:
            return error
        invented = self._inpainter.uncertainty(picture, mask=lost, limits=options.limits)
        for axis in (0, 1):
            invented = invented.repeat_interleave(self._restorer.scale, dim=axis)
        return torch.maximum(error, invented)

    @functools.cached_property
    def _inpainter(self) -> "Restorer":
        """The model called `_inventor`, loaded for the first picture that needs it."""
        if self._restorer.card.task == "inpaint":
            return cast("Restorer", self._restorer)  # `Auto` has a task of its own
        assert self._inventor is not None, "there is no model to load"
        return self._restorer.load(self._inventor, device=self._restorer.runtime.device.type)

    def _to_standard_output(self, loaded: Loaded, rows: Rows | Drawn) -> tuple[str, ...]:
        try:
            notes = self._encode(loaded, rows, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error
        return notes

    def _encode(self, loaded: Loaded, rows: Rows | Drawn, stream: BinaryIO) -> tuple[str, ...]:
        picture, scale, format = loaded.picture, loaded.restorer.scale, loaded.job.format
        meta = result_meta(picture, scale, loaded.restorer.made_by)
        if loaded.job.exact:
            meta = replace(meta, lossless=True)
        if loaded.whole:
            result = Frame(stacked(rows, picture, scale), picture.depth, meta)
            quality = _MENDED_QUALITY if format == "jpg" and scale == 1 else None
            return (*meta.notes, *write_image(result, stream, format=format, quality=quality))
        size = picture.height * scale, picture.width * scale, picture.channels
        return (*meta.notes, *encode_rows(rows, stream, format, size=size, depth=picture.depth, meta=meta))

    def _blank(self, job: Job, status: Literal["done", "planned"]) -> ItemResult:
        card, scale = self._restorer.card, self._restorer.scale
        return ItemResult(str(job.item), _name(job), status, card.title, scale, notes=self._places.notes(job))


def _header(picture: Picture) -> Header:
    """What a file would have told of a picture that was read."""
    size = picture.width, picture.height, picture.channels
    return Header(picture.meta.format, *size, picture.depth, frames=1)


def _held(job: Job, header: Header, scale: int) -> tuple[str, ...]:
    """What a plan says of a result that is held as a whole, where that is worth a word."""
    needed = bytes_needed(header, scale)
    if not is_whole(job.format, header) or needed < _LEAST_TOLD_BYTES:
        return ()
    return (f"{job.format} is held as a whole: {needed / 1e9:.2f} GB",)


def _name(job: Job) -> str:
    return "-" if job.output is None else str(job.output)
