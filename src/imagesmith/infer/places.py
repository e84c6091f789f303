"""Where the results of a run go: which places are free, which hold what an earlier run made, and what fits memory."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from imagesmith.atomic import check_free, check_writable, remove_abandoned
from imagesmith.data.encode import BY_ROWS
from imagesmith.data.files import Header
from imagesmith.data.formats import check_side, check_source
from imagesmith.errors import OutputError
from imagesmith.infer.manifest import Manifest, sha256_of
from imagesmith.infer.outcome import FileOptions, Size
from imagesmith.infer.plan import Job, heat_place, heat_root, kept_files, output_key
from imagesmith.runtime.memory import room_within

_WHOLE_COPIES = 3  # of the result, at the worst moment of an encoder that cannot take strips


class Places:
    """The outputs of the jobs of one run; `manifests` tell by folder what is finished, `settings` how it was made.

    `unread` says by folder why there is none, where there should be one.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        options: FileOptions,
        manifests: Mapping[Path, Manifest],
        settings: str,
        unread: Mapping[Path, str] = MappingProxyType({}),
    ) -> None:
        self._options, self._manifests, self._settings, self._unread = options, manifests, settings, dict(unread)
        self._kept = kept_files(jobs, options.mask_file)
        self._makers = {output_key(job.place): job.item for job in jobs if job.place is not None}

    def digest(self, job: Job, source: Path | bytes | BinaryIO) -> str:
        """The sha256 of an input, where a manifest wants it and it can be read twice."""
        if self._manifest(job) is None:
            return ""
        if isinstance(source, bytes):
            return hashlib.sha256(source).hexdigest()
        if not isinstance(source, Path) or not os.path.isfile(source):
            return ""
        try:
            return sha256_of(source)
        except OSError:  # whoever reads the picture says why it cannot be read
            return ""

    def notes(self, job: Job) -> tuple[str, ...]:
        """What is to be said of the places of a job: that nothing there remembers what is made."""
        maps = self._options.uncertainty
        roots = (job.root, None if maps is None else heat_root(maps))
        return tuple(dict.fromkeys(self._unread[root] for root in roots if root in self._unread))

    def finished_before(self, job: Job, digest: str) -> Path | None:
        """The result that an earlier run made of the same input with the same settings."""
        manifest = self._manifest(job)
        if not self._options.resume or manifest is None or not digest:
            return None
        output = manifest.finished(job.name, digest, self._settings)
        if output is not None:
            self._makers.setdefault(output_key(output), job.item)  # another picture may not become the same
        return output

    def finished_meanwhile(self, job: Job, digest: str) -> Path | None:
        """The result that another run, resumed at the same time with the same settings, made of the same input."""
        manifest = self._manifest(job)
        if not self._options.resume or manifest is None or not digest:
            return None
        return manifest.finished_meanwhile(job.name, digest, self._settings)

    def settle(self, job: Job, header: Header, scale: int) -> tuple[Job, dict[str, Size]]:
        """The job as the picture's content decides it, and the sizes; OutputError where the result has no place."""
        in_size = header.width, header.height
        out_size = header.width * scale, header.height * scale
        job = job.for_content(header.format, header.depth, header.channels, max(out_size))
        check_source(job.format, header.format)
        check_side(job.format, *out_size)
        self.check(job)
        return job, {"in_size": in_size, "out_size": out_size}

    def check(self, job: Job) -> None:
        """OutputError before anything is computed if the result or its heat map has no place where it belongs."""
        self._check_map(job)
        if job.output is None:
            return
        self._check_kept(job.output, "name another folder with -o, or a --suffix")
        maker = self._makers.setdefault(output_key(job.output), job.item)
        if maker != job.item:
            raise OutputError(f"{job.output} is what '{maker}' becomes\nrename one of them, or restore them apart")
        check_free(job.output, overwrite=self.may_replace(job))

    def check_writable(self, job: Job) -> None:
        """OutputError where the folder of the result, or of its heat map, would take none, for who only tries."""
        if job.output is not None:
            check_writable(job.output)
        if self._options.uncertainty is not None:
            check_writable(heat_place(job, self._options.uncertainty))

    def may_replace(self, job: Job) -> bool:
        """Whether a file that lies at the job's place may go.

        The user said so, an earlier run made it of the same input, or this one did in a process that was killed before
        it could tell.
        """
        if self._options.overwrite:
            return True
        manifest = self._manifest(job)
        if manifest is None or job.output is None or not os.path.exists(job.output):
            return False
        is_of_an_earlier_run = self._options.resume and manifest.may_replace(job.output, job.source_path)
        return is_of_an_earlier_run or manifest.made_since(job.name, job.output)

    def may_replace_map(self, job: Job, place: Path) -> bool:
        """Whether a file that lies at `place`, where the job's heat map belongs, may go.

        As its result may; in a folder of maps, that of a result which is not there is of a run that was killed.
        """
        is_left_over = place != self._options.uncertainty and job.output is not None and not job.output.exists()
        return is_left_over or self.may_replace(job)

    def remember(self, job: Job, digest: str, output: Path, content: Path) -> tuple[str, ...]:
        """Note for `--resume` a result whose bytes lie at `content`, and are about to be called `output`.

        A result is good even where this fails, which is then told.
        """
        return self._recorded(self._manifest(job), job.name, job, digest, output=output, content=content)

    def remember_map(self, job: Job, digest: str, place: Path, content: Path) -> tuple[str, ...]:
        """`remember` for the heat map of a job, lest a later run takes it for a photograph."""
        assert self._options.uncertainty is not None, "there is a map"
        manifest = self._manifests.get(heat_root(self._options.uncertainty))
        # under a name that no input has, for the line must not stand for that of the result
        return self._recorded(manifest, f"uncertainty of {job.name}", job, digest, output=place, content=content)

    def _recorded(
        self, manifest: Manifest | None, name: str, job: Job, digest: str, *, output: Path, content: Path
    ) -> tuple[str, ...]:
        try:
            if manifest is not None:
                manifest.record(name, digest, self._settings, output, source=job.source_path, content=content)
        except OutputError as error:
            return (str(error),)
        return ()

    def _check_map(self, job: Job) -> None:
        if self._options.uncertainty is None:
            return
        place = heat_place(job, self._options.uncertainty)
        self._check_kept(place, "name another place with --uncertainty")
        check_free(place, overwrite=self.may_replace_map(job, place))

    def _check_kept(self, place: Path, advice: str) -> None:
        """OutputError where `place` is one that nothing may replace, whatever the user said of overwriting."""
        if what := self._kept.get(os.path.realpath(place)):
            raise OutputError(f"{place} is itself {what}\n{advice}")

    def _manifest(self, job: Job) -> Manifest | None:
        return self._manifests.get(job.root) if job.root is not None else None


def tidy(jobs: Sequence[Job], heat_maps: Path | None) -> None:
    """Delete what a killed run left unfinished where the results of `jobs` go, and their heat maps where there are."""
    folders = {job.output.parent for job in jobs if job.output is not None}
    if heat_maps is not None:
        folders |= {heat_place(job, heat_maps).parent for job in jobs}
    for folder in folders:
        remove_abandoned(folder)


def is_whole(format: str, header: Header) -> bool:
    """Whether results of this format are held as a whole, because nothing writes them row by row."""
    return format not in BY_ROWS or (format == "png" and header.depth == "float32") or header.format == "dcm"


def bytes_needed(header: Header, scale: int) -> int:
    """Memory for a result that is held as a whole while it is encoded."""
    return header.pixel_bytes * scale**2 * _WHOLE_COPIES


def check_memory(header: Header, format: str, scale: int, limit: int | None) -> None:
    """OutputError where a result that is held as a whole would not fit, into `limit` resident bytes if there is one."""
    if not is_whole(format, header):
        return
    needed, free = bytes_needed(header, scale), room_within(limit)
    if free is not None and needed > free:
        of_rows = "write it as png or tif (-f png), which need only a few rows at a time"
        raise OutputError(
            f"the result needs {needed / 1e9:.1f} GB of memory as {format}, {max(0, free) / 1e9:.1f} GB are free\n"
            + ("close other programs, or take a smaller scale" if header.format == "dcm" else of_rows)
        )
