"""`imagesmith evaluate`: restorers, generators, classifiers."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from imagesmith.apps.cli.options import (
    GROUP,
    Commands,
    DebugFlag,
    Device,
    DeviceOption,
    Dtype,
    DtypeOption,
    ModelArgument,
    OverwriteFlag,
    QuietFlag,
    parse_count,
)
from imagesmith.apps.terminal import plain
from imagesmith.atomic import check_free
from imagesmith.errors import OutputError

app = Commands(help="Measure a model by a stated protocol.", **GROUP)


class Switch(StrEnum):
    """Something that is done, or not."""

    ON = "on"
    OFF = "off"


ReportOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report here.")]


@app.command("restorer", no_args_is_help=True)
def restorer(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Shipped name, run folder, weight file; or none, bicubic, nearest."),
    ],
    *,
    targets: Annotated[
        Path, typer.Option("--targets", metavar="DIR", help="Folder of undamaged pictures; a film, a folder of clips.")
    ],
    degraded: Annotated[
        Path | None,
        typer.Option("--degraded", metavar="DIR", help="Their damaged versions. [default: made by bicubic]"),
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(
            "--degrade",
            metavar="RECIPE",
            help="Damage the targets: name:option=value,... + ..., or .json; for clips also bi, bd.",
        ),
    ] = None,
    gray: Annotated[bool, typer.Option("--gray", help="Measure a recipe on the luma of the targets alone.")] = False,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Protocol names, separated by commas. [default: what is usual]")
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="Scale of bicubic and nearest.")] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", help="Targets are clips: measure the first N frames of each.")
    ] = None,
    state: Annotated[
        Switch, typer.Option("--state", help="off: a recurrent model forgets each frame before the next.")
    ] = Switch.ON,
    temporal: Annotated[
        bool, typer.Option("--temporal", help="Targets are clips: smooth a model for pictures in time.")
    ] = False,
    report: ReportOption = None,
    overwrite: OverwriteFlag = False,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.FP32,
    debug: DebugFlag = False,
) -> None:
    """Measure a restorer against undamaged pictures or clips."""
    from imagesmith.evaluate import evaluate_restorer as evaluate

    _check_free(report, overwrite=overwrite)
    measured = evaluate(
        model,
        targets,
        degraded,
        _names(metrics),
        degrade=degrade,
        gray=gray,
        scale=scale,
        frames=frames,
        state=state == Switch.ON,
        temporal=temporal,
        device=device,
        dtype=dtype,
    )
    _tell(measured, report)


@app.command("generator", no_args_is_help=True)
def generator(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Shipped name, run folder, weight file; or a folder of generated images."),
    ],
    *,
    reference: Annotated[
        str, typer.Option("--reference", metavar="DATA", help="Real images: folder, zip, tar, npz; a.tar.gz::test.")
    ],
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="fid,kid,precision,recall,copies,swd; fd_cifarcnn and so on. [default: all]"),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option("--features", metavar="NAME|FILE", help="2015 Inception weights (.pth), or a classifier."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(metavar="N", parser=parse_count, help="Images to make. [default: as many as real ones, to 50k]"),
    ] = None,
    truncation: Annotated[float, typer.Option("--truncation", help="Scale of the latents, 0 to 1.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="First of the seeds.")] = 0,
    nearest: Annotated[
        Path | None, typer.Option("--nearest", metavar="PNG", help="Picture of fakes beside their nearest real images.")
    ] = None,
    report: ReportOption = None,
    overwrite: OverwriteFlag = False,
    device: DeviceOption = Device.AUTO,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure generated images against real ones, with the score of held-out real images beside each."""
    from imagesmith.evaluate import evaluate_generator as evaluate

    _check_free(nearest, report, overwrite=overwrite)
    measured = evaluate(
        model,
        reference,
        _names(metrics),
        features=features,
        images=images,
        truncation=truncation,
        seed=seed,
        nearest=nearest,
        device=device,
        report=(lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True)),
    )
    _tell(measured, report)


@app.command("classifier", no_args_is_help=True)
def classifier(
    model: ModelArgument,
    *,
    reference: Annotated[
        str, typer.Option("--reference", metavar="DATA", help="Labelled pictures that it was not trained on.")
    ],
    report: ReportOption = None,
    overwrite: OverwriteFlag = False,
    device: DeviceOption = Device.AUTO,
    debug: DebugFlag = False,
) -> None:
    """Measure a classifier by the share of labelled pictures that it names right."""
    from imagesmith.evaluate.classifier import evaluate_classifier as evaluate

    _check_free(report, overwrite=overwrite)
    measured = evaluate(model, reference, device=device)
    _tell(measured, report)


def _names(metrics: str | None) -> list[str] | None:
    return None if metrics is None else [name.strip() for name in metrics.split(",")]


def _check_free(*written: Path | None, overwrite: bool) -> None:
    """OutputError where a file that will be written is there already: told before the measuring, not after."""
    for path in filter(None, written):
        check_free(path, overwrite=overwrite)


def _tell(measured: Any, report: Path | None) -> None:
    """The table first: no file that cannot be written may cost what was measured."""
    print(plain(measured.table()), flush=True)
    if report:
        measured.save(report)
    if error := measured.provenance.get("nearest", {}).get("error"):
        raise OutputError(error)
