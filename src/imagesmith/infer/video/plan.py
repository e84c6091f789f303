"""Which film becomes which, and by which model: decided and checked before anything is computed."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from imagesmith.atomic import check_free
from imagesmith.data.files import MAX_PIXELS, check_pixels, named
from imagesmith.data.sources import Item
from imagesmith.data.video import Encoding, VideoInfo, check_size, open_video, read_info, settle
from imagesmith.data.video.encoding import FILMS, PICTURES, check_length, output_kind
from imagesmith.data.video.film import upright_size
from imagesmith.data.video.info import USUAL_RATE
from imagesmith.errors import OutputError, UsageError, VideoError
from imagesmith.estimate.jpeg import find_grid
from imagesmith.estimate.noise import noise_sigma
from imagesmith.infer.auto import JPEG_QUALITY, NOISE_SIGMA
from imagesmith.infer.named import model_for
from imagesmith.infer.outcome import Size
from imagesmith.infer.plan import STANDARD_STREAM, Job, kept_files
from imagesmith.infer.video.segments import is_joined
from imagesmith.tensors import to_float
from imagesmith.zoo import CARDS

WRITTEN = (*FILMS, *(f".{name}" for name in PICTURES["animation"]))
"""Endings of what can be written."""
_ANY = ".mkv"  # takes whatever a film may hold
FRAMES = "frames"
"""The format of a job whose output is a folder."""
MOMENTS = {"start": 0.0, "middle": 0.5, "end": 0.9}
"""The moments at which a film is looked at, as shares of its length."""
_SIDES = ("before", "after")


@dataclass(frozen=True, kw_only=True)
class FilmOptions:
    """How films are restored; see `imagesmith.restore_video`.

    `remembers` notes beside the results what is finished, for `resume`. `if_damaged` restores only those in which there
    is something to mend. `dry_run` tries out three moments, of which pictures go into the folder `preview`. A film with
    frames of more than `max_pixels` is refused.
    """

    encoding: Encoding = field(default_factory=Encoding)
    start_s: float | None = None
    end_s: float | None = None
    resume: bool = False
    remembers: bool = False
    overwrite: bool = False
    if_damaged: bool = False
    dry_run: bool = False
    preview: Path | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class FilmJob(Job):
    """One film to restore, into a film or a folder of frames; `notes` say what of the output was not as asked."""

    output: Path
    root: Path
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        assert self.item.path is not None
        return self.item.path


def film_model(task: str | None, scale: int | None = None, *, temporal: bool = False) -> tuple[str, bool]:
    """The shipped model for films, and whether what it makes is smoothed in time, which `temporal` asks for.

    One that remembers the frames before where there is one, else the one for pictures. Of noise the one for pictures,
    smoothed, removes more (docs/numbers.md); where no task is told, codecs' artefacts may be there as well.
    """
    if task is None:
        return "video-denoise", temporal
    name = model_for(task, scale)
    if task == "denoise":
        return name, True
    remembering = f"v{name}"
    return remembering if remembering in CARDS else name, temporal


def names_a_film(destination: str | Path) -> bool:
    """Whether an output is a film or an animation, by its name."""
    return Path(destination).suffix.lower() in WRITTEN and not _is_written_as_folder(destination)


def plan_films(
    films: Sequence[Item], destination: str | Path | None, *, tag: str, suffix: str | None = None, alone: bool = True
) -> list[FilmJob]:
    """The jobs of `films`; UsageError where `destination` cannot take them.

    `tag` is put into names where results lie beside their inputs, `suffix` replaces it and is then used everywhere.
    `alone`: nothing else was named, so that a folder as destination takes the frames of the one film.
    """
    if str(destination) == STANDARD_STREAM:
        raise UsageError("expected a file or folder for a film, got standard output; name one with -o")
    if destination is None:
        return [_job(film, None, tag if suffix is None else suffix) for film in films]
    path = Path(destination)
    is_folder = not names_a_film(destination) and (_is_written_as_folder(destination) or not path.suffix)
    if is_folder and not (alone and len(films) == 1):
        return [_job(film, path, suffix or "") for film in films]
    if not is_folder and not names_a_film(destination):
        raise UsageError(f"expected a film that ends in {', '.join(WRITTEN)}, or a folder/, got '{destination}'")
    if len(films) != 1 or not alone:
        raise UsageError(f"expected one film for the file '{destination}', got more; name a folder with -o instead")
    format = FRAMES if is_folder else path.suffix.lower()
    return [FilmJob(films[0], path, format, path.parent, path.name, keeps=False)]


def preview_places(job: Job, folder: Path | None) -> list[Path]:
    """The pictures of a preview in `folder`, before and after of each of `MOMENTS`; none without a folder."""
    if folder is None:
        return []
    names = itertools.product(MOMENTS, _SIDES)
    return [folder / job.item.name.with_name(f"{job.item.name.name}.{moment}.{side}.png") for moment, side in names]


def check_no_input(jobs: Sequence[FilmJob], mask_file: Path | None = None, preview: Path | None = None) -> None:
    """UsageError where a result would be a film that is to be restored, one of its frames, or the mask.

    So too for the pictures of a `preview`, on which masks are drawn.
    """
    kept = kept_files(jobs, mask_file)
    for job in jobs:
        is_among_frames = os.path.realpath(job.output.parent) == os.path.realpath(job.source)
        if is_among_frames and output_kind(job.output) == "animation":
            raise UsageError(f"{job.output} would be one of the frames it is made of\nname another folder with -o")
        if what := kept.get(os.path.realpath(job.output)):
            raise UsageError(f"{job.output} is itself {what}\nname another output with -o, or a --suffix")
        for place in preview_places(job, preview):
            if what := kept.get(os.path.realpath(place)):
                raise UsageError(f"{place} is itself {what}\nname another folder with --preview")


def check_place(job: FilmJob, options: FilmOptions) -> bool:
    """Whether a result may replace what has its name; OutputError where something has that must stay."""
    may_replace = options.overwrite or (options.resume and is_joined(job.output))
    is_empty_folder = job.format == FRAMES and job.output.is_dir() and not any(job.output.iterdir())
    if job.format == FRAMES and job.output.is_dir() and not is_empty_folder and not may_replace:
        raise OutputError(
            f"a folder takes the frames of one film, and {job.output} is not empty\n"
            f"-o {job.output / job.source.stem}.mp4 writes a film there, -y (overwrite) adds the frames"
        )
    check_free(job.output, overwrite=may_replace or is_empty_folder)
    return may_replace


def checked_info(job: FilmJob, options: FilmOptions) -> VideoInfo:
    """What the film of a job is; TooLargeError where its frames have more pixels than `options` allow."""
    info = read_info(job.source)
    with named(job.source):
        check_pixels(info, options.max_pixels)
    return info


def told_sizes(info: VideoInfo, scale: int, output: Path) -> tuple[Size, Size]:
    """The size of a film and of its result: as stored, and upright where the output is no film, which holds no turn."""
    sides = (info.width, info.height) if output_kind(output) == "film" else upright_size(info)
    return sides, (sides[0] * scale, sides[1] * scale)


def encoding_of(job: FilmJob, info: VideoInfo, options: FilmOptions, size: Size) -> Encoding:
    """How the result, of `size`, is written; UsageError before anything is computed where it cannot be."""
    encoding = settle(options.encoding, info, job.output)
    check_size(encoding, size)
    usual = replace(info, rate=info.rate or USUAL_RATE)
    check_length(encoding, size, expected_frames(usual, options.start_s, options.end_s) or 0)
    return encoding


def expected_frames(info: VideoInfo, start_s: float | None, end_s: float | None) -> int | None:
    """How many frames there are between two moments, as the container lets expect; None where it does not."""
    if start_s is None and end_s is None and info.frames is not None:
        return info.frames
    if info.rate is None or not info.duration_s:
        return None
    end = info.duration_s if end_s is None else min(end_s, info.duration_s)
    return max(0, round(float(info.rate) * (end - (start_s or 0.0))))


def is_estimated(info: VideoInfo, options: FilmOptions) -> bool:
    """Whether `expected_frames` reckons by length and rate: of an excerpt, and where the container counts none."""
    return info.frames is None or options.start_s is not None or options.end_s is not None


def no_frame(info: VideoInfo, options: FilmOptions) -> UsageError | VideoError:
    """The error of a film without a frame in the part that is asked for: of the part where there is one."""
    if options.start_s is None and options.end_s is None:
        return VideoError(f"{info.path}: expected a film, found no frame that can be decoded; copy the file again")
    start_s, end_s = options.start_s or 0.0, info.duration_s if options.end_s is None else options.end_s
    usual = "" if info.rate is None else f"; frames are {float(1 / info.rate):.4g} s apart as a rule"
    return UsageError(f"expected a part with at least one frame, got none between {start_s:g} and {end_s:g} s{usual}")


def damage(info: VideoInfo) -> tuple[bool, str]:
    """Whether something in a film is to be mended, and what was found at three of its moments."""
    noises, qualities = [], []
    for share in MOMENTS.values():
        with open_video(info.path, start_s=share * info.duration_s) as reader:
            for frame in reader:
                image = to_float(frame.pixels, info.depth).permute(2, 0, 1)
                noises.append(noise_sigma(image))
                grid = find_grid(image)
                qualities.append(100 if grid is None else grid.quality)
                break
    noise, quality = median(noises or [0]), median(qualities or [100])
    blocks = f"blocks of quality {quality:.0f}" if quality < 100 else "no blocks"
    return noise >= NOISE_SIGMA or quality <= JPEG_QUALITY, f"found noise of {noise:.1f} grey levels and {blocks}"


def _is_written_as_folder(destination: str | Path) -> bool:
    return str(destination).endswith(("/", os.sep)) or Path(destination).is_dir()


def _job(film: Item, folder: Path | None, added: str) -> FilmJob:
    """The result beside its input, or below `folder` in the same place."""
    assert film.path is not None
    ending, notes = film.path.suffix, ()
    if film.path.is_dir():
        ending = _ANY
    elif ending.lower() not in WRITTEN:
        ending, notes = _ANY, (f"{ending} is not written; the result is Matroska ({_ANY})",)
    name = film.name.with_name(f"{film.name.stem}{added}{ending}")
    root = film.path.parents[len(film.name.parts) - 1] if folder is None else folder
    return FilmJob(film, root / name, ending.lower(), root, str(name), keeps=False, notes=notes)
