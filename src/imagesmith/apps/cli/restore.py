"""`imagesmith restore`."""

import contextlib
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imagesmith.apps.cli.options import (
    DebugFlag,
    Device,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonFlag,
    OverwriteFlag,
    QuietFlag,
    parse_bytes,
    parse_count,
)


class Task(StrEnum):
    """What to mend."""

    AUTO = "auto"
    SR = "sr"
    DENOISE = "denoise"
    JPEG = "jpeg"
    DEBLUR = "deblur"
    INPAINT = "inpaint"
    PHOTO = "photo"


class Engine(StrEnum):
    """What shares the pictures of a run."""

    LOCAL = "local"
    RAY = "ray"


class Format(StrEnum):
    """Format of the results."""

    KEEP = "keep"
    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"
    TIF = "tif"


def parse_tile(text: str) -> str:
    """'auto', 'off' or a side in pixels."""
    if text not in ("auto", "off") and not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"expected auto, off or a side in pixels, got '{text}'")
    return text


def parse_workers(text: str | int) -> str | int:
    """'auto' as it is, or a number of processes."""
    if str(text) == "auto":
        return "auto"
    if str(text).isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(f"expected auto or a number of processes, got '{text}'")


def parse_time(text: str | float) -> float:
    """Seconds, from seconds, m:s or h:m:s."""
    if re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", str(text)):
        return sum(float(part) * 60**k for k, part in enumerate(reversed(str(text).split(":"))))
    raise typer.BadParameter(f"expected a time such as 90, 1:30 or 0:01:30.5, got '{text}'")


def restore(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Pictures, films, folders, globs, zips; - reads a picture.")
    ],
    *,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="File or folder; - writes standard output. [default: beside the input]"),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option("--task", help="What to mend; auto looks at each picture. [default: auto, or sr with -s]"),
    ] = None,
    scale: Annotated[
        int | None, typer.Option("-s", "--scale", min=1, max=4, help="Enlarge by 2, 3 or 4; 1 keeps the size.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("-n", "--model", help="Shipped name, run folder or .safetensors file.")
    ] = None,
    tile: Annotated[
        str, typer.Option("-t", "--tile", metavar="auto|off|PX", parser=parse_tile, help="Side of a tile.")
    ] = "auto",
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    format: Annotated[Format, typer.Option("-f", "--format", help="Format of the results.")] = Format.KEEP,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Also subfolders, mirrored.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what an earlier run finished.")] = False,
    overwrite: OverwriteFlag = False,
    suffix: Annotated[
        str | None, typer.Option("--suffix", help="Put before the ending of results. [default: .srx4 and so on]")
    ] = None,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")] = False,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Average over 8 flips and turns: 8x the time, a little better.")
    ] = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Accept cut or damaged JPEG, PNG (what is lost is invented), cut BMP, GIF, 8-bit TIFF."
        ),
    ] = False,
    mask: Annotated[
        str | None,
        typer.Option("--mask", metavar="FILE|auto", help="White is invented, all else stays; auto finds scratches."),
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", help="0 to 1: from faithful to sharp, or from the input to the result.")
    ] = 1.0,
    consistency: Annotated[
        bool, typer.Option("--consistency", help="Make the result agree with the measured pixels (sr, jpeg).")
    ] = False,
    uncertainty: Annotated[
        Path | None,
        typer.Option("--uncertainty", metavar="PATH", help="Heat map of the expected error: file, or folder of them."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", parser=parse_count, metavar="N", help="Largest declared input.")
    ] = "200M",  # type: ignore[assignment]
    max_ram: Annotated[
        int | None,
        typer.Option("--max-ram", parser=parse_bytes, metavar="BYTES", help="Most memory to hold: 2G, 900M."),
    ] = None,
    max_vram: Annotated[
        int | None,
        typer.Option("--max-vram", parser=parse_bytes, metavar="BYTES", help="The same of an accelerator."),
    ] = None,
    workers: Annotated[
        str,
        typer.Option("--workers", metavar="auto|N", parser=parse_workers, help="Processes for the pictures."),
    ] = "auto",
    engine: Annotated[Engine, typer.Option("--engine", help="This machine, or a Ray cluster.")] = Engine.LOCAL,
    codec: Annotated[
        str,
        typer.Option(
            "--codec", help="Of films: libx264, libx265, libsvtav1, ffv1, prores_ks; of frames: png, tif, jpg."
        ),
    ] = "auto",
    crf: Annotated[
        int | None, typer.Option("--crf", help="Of films: 0 is best; every 6 more halve the size. [default: 18]")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="Of films: ultrafast to placebo; slower is smaller.")
    ] = "medium",
    pix_fmt: Annotated[str, typer.Option("--pix-fmt", help="Of films: yuv420p, yuv444p, yuv420p10le...")] = "auto",
    start: Annotated[
        float | None,
        typer.Option("--start", metavar="TIME", parser=parse_time, help="Of films: from here on, 1:30 or 90."),
    ] = None,
    end: Annotated[
        float | None, typer.Option("--end", metavar="TIME", parser=parse_time, help="Of films: up to here.")
    ] = None,
    temporal: Annotated[
        bool, typer.Option("--temporal", help="Of films: calm what flickers with a model for pictures.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option("--preview", metavar="DIR", help="Of films: --dry-run, with pictures of three moments in DIR."),
    ] = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Mend or enlarge photographs and films: files, folders, globs, zips or a pipe."""
    if engine is Engine.LOCAL and device in (Device.AUTO, Device.CPU) and not (dry_run or preview or max_ram):
        _start_early(inputs, workers)
    from imagesmith.apps.restore import run_restore

    code = run_restore(
        inputs,
        out,
        task=task,
        model=model,
        scale=scale,
        device=device,
        dtype=dtype,
        tile=tile,
        as_json=as_json,
        quiet=quiet,
        debug=debug,
        format=format,
        recursive=recursive,
        resume=resume,
        overwrite=overwrite,
        suffix=suffix,
        partial=partial,
        max_pixels=max_pixels,
        max_ram=max_ram,
        max_vram=max_vram,
        self_ensemble=self_ensemble,
        mask=mask,
        strength=strength,
        consistency=consistency,
        uncertainty=uncertainty,
        dry_run=dry_run,
        film={
            "codec": codec,
            "crf": crf,
            "preset": preset,
            "pix_fmt": pix_fmt,
            "start": start,
            "end": end,
            "temporal": temporal,
            "preview": preview,
        },
        workers=workers,
        engine=engine,
    )
    raise typer.Exit(code)


def _start_early(inputs: list[str], workers: str | int) -> None:
    """Start a worker where several will probably restore the inputs, of which nothing is opened to find that out."""
    from imagesmith.containers import usable_cores
    from imagesmith.infer.bulk.process import MANY, start_early

    with contextlib.suppress(OSError):
        count = sum(len(os.listdir(path)) if os.path.isdir(path) else 1 for path in inputs)
        if count >= MANY and usable_cores() > 1 if workers == "auto" else int(workers) > 1 and count > 1:
            start_early()
