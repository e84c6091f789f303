"""`imagesmith demo`."""

from pathlib import Path
from typing import Annotated

import typer

from imagesmith.apps.cli.options import DebugFlag, Device, DeviceOption, Dtype, DtypeOption


def demo(
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder for the pictures and the report: a new one, or an earlier demo's."),
    ] = Path("imagesmith-demo"),
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train a small GAN for half a minute.")] = True,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    debug: DebugFlag = False,
) -> None:
    """Enlarge photographs and a film, make images, train a small GAN, write report.html; needs no network."""
    from imagesmith.apps.demo import run_demo

    raise typer.Exit(run_demo(out, device=device, dtype=dtype, train=train))
