"""One film in one call."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from imagesmith.data.sources import Item
from imagesmith.data.video import Encoding
from imagesmith.errors import OutputError, UsageError
from imagesmith.infer.manifest import open_manifests
from imagesmith.infer.outcome import Frames, ItemResult
from imagesmith.infer.video.films import planned, settled
from imagesmith.infer.video.plan import FilmOptions, film_model
from imagesmith.runtime.interrupt import stop_on_request
from imagesmith.runtime.tiling import Tile


def restore_video(
    source: str | Path,
    output: str | Path | None = None,
    scale: int | None = None,
    *,
    task: str | None = None,
    model: str | Path | None = None,
    codec: str = "auto",
    crf: int | None = None,
    preset: str = "medium",
    pix_fmt: str = "auto",
    start_s: float | None = None,
    end_s: float | None = None,
    temporal: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    tile: Tile | str = "auto",
    on_progress: Callable[[Frames], None] = lambda _: None,
) -> ItemResult:
    """Restore a film, a folder of frames or an animation into `output`, with all of its frames, times, sound and tags.

    The model is `model`, or the shipped one for `task` ('sr') and `scale` (4): one for films where there is one, else
    the one for pictures, frame by frame; `temporal` then calms what flickers, and always does for 'denoise'. `output`
    is a film (.mp4, .mkv, .mov, .webm, .gif, .webp), or a folder for frames; without it the film lies beside its
    source. `codec`, `crf`, `preset` and `pix_fmt` are those of the encoder; `start_s` and `end_s` cut, in seconds.

    A run that ends early - by Ctrl-C, which raises KeyboardInterrupt, an error, or a kill - leaves `<output>.parts/`,
    and nothing under the output's name; the same call with `resume` goes on from there, and ends in the same frames.
    What a call with `resume` finished, the next one leaves as it is: the status of its result is 'skipped'.
    Raises an ImagesmithError where something cannot be read or written, or the result lacks something of its source.
    """
    source = Path(source)
    if not source.exists():
        raise UsageError(f"expected an existing film, got '{source}'; check the spelling")
    if model is None:
        model, temporal = film_model(task or "sr", scale, temporal=temporal)
    restorer, [job] = planned(
        [Item(PurePosixPath(source.absolute().name), source)],
        output,
        model,
        task=task,
        scale=scale,
        resume=resume,
        device=device,
        dtype=dtype,
        tile=tile,
        temporal=temporal,
    )
    options = FilmOptions(
        encoding=Encoding(codec, crf, preset, pix_fmt), start_s=start_s, end_s=end_s, resume=resume, overwrite=overwrite
    )
    with stop_on_request() as asked:
        wanted = [job.root] if resume or job.lies_beside else []
        manifest = open_manifests(wanted, strictly=resume)[0].get(job.root)
        result = settled(restorer, job, options, manifest=manifest, asked=asked, report=on_progress)
    if result is None:
        raise KeyboardInterrupt
    if result.error:
        raise OutputError(result.error)
    return result
