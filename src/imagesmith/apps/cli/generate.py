"""`imagesmith generate`, `interpolate` and `variations`: what a GAN makes."""

from pathlib import Path
from typing import Annotated

import typer

from imagesmith.apps.cli.options import DebugFlag, Device, DeviceOption, Dtype, JsonFlag, OverwriteFlag, QuietFlag

GeneratorArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Shipped name, run folder, .safetensors file, or .pth of PyTorch's DCGAN example.",
        show_default=False,
    ),
]
LabelOption = Annotated[
    str | None, typer.Option("--label", help="A class by name or number, all, or mixed. [default: mixed]")
]
WalkLabelOption = Annotated[
    str | None, typer.Option("--label", help="A class by name or number. [default: that of the first seed]")
]
PhotoLabelOption = Annotated[
    str | None, typer.Option("--label", help="A class by name or number. [default: the likest found]")
]
TruncationOption = Annotated[float, typer.Option("--truncation", help="Below 1 more typical and less varied images.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Arithmetic of the network; auto is fp32.")]


def generate(
    model: GeneratorArgument,
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder for a file a seed, or a picture for one sheet.", show_default=False),
    ],
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="SEEDS", help="One image a seed: 0-63 or 1,5,9. [default: 0-15]")
    ] = None,
    label: LabelOption = None,
    truncation: TruncationOption = 1.0,
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="CxR", help="Columns and rows of the sheet: 8x8. [default: square]")
    ] = None,
    format: Annotated[str, typer.Option("-f", "--format", help="Format of the files in a folder.")] = "png",
    dataset: Annotated[
        bool, typer.Option("--dataset", help="Write class folders and labels.csv, to train on.")
    ] = False,
    overwrite: OverwriteFlag = False,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Make images with a GAN: one seed is one image."""
    from imagesmith.apps.generate import run_generate

    run_generate(
        model,
        out,
        seeds=seeds,
        label=label,
        truncation=truncation,
        grid=grid,
        format=format,
        dataset=dataset,
        overwrite=overwrite,
        device=device,
        dtype=dtype,
        as_json=as_json,
        quiet=quiet,
    )


def interpolate(
    model: GeneratorArgument,
    *,
    seeds: Annotated[str, typer.Option("--seeds", metavar="SEEDS", help="The way: 3,17,42.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Film (.mp4 or .gif), or a folder for its frames.", show_default=False),
    ],
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, max=3600.0, help="From one seed to the next.")] = 2.0,
    fps: Annotated[int, typer.Option("--fps", help="Frames a second.")] = 30,
    loop: Annotated[bool, typer.Option("--loop", help="Go back to the first seed.")] = False,
    label: WalkLabelOption = None,
    truncation: TruncationOption = 1.0,
    overwrite: OverwriteFlag = False,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Film the way from seed to seed."""
    from imagesmith.apps.generate import run_interpolate

    run_interpolate(
        model,
        out,
        seeds=seeds,
        seconds=seconds,
        fps=fps,
        loop=loop,
        label=label,
        truncation=truncation,
        overwrite=overwrite,
        device=device,
        dtype=dtype,
        quiet=quiet,
    )


def variations(
    model: GeneratorArgument,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture of any size.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.", show_default=False)],
    seeds: Annotated[str, typer.Option("--seeds", metavar="SEEDS", help="One variation a seed.")] = "0-15",
    strength: Annotated[
        float, typer.Option("--strength", min=0.0, max=1.0, help="0 is the photo, 1 anything of its class.")
    ] = 0.3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the search, and again of tuning.")] = 200,
    label: PhotoLabelOption = None,
    overwrite: OverwriteFlag = False,
    device: DeviceOption = Device.AUTO,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Find a photo in a GAN, and make images like it."""
    from imagesmith.apps.generate import run_variations

    run_variations(
        model,
        photo,
        out,
        seeds=seeds,
        strength=strength,
        steps=steps,
        label=label,
        overwrite=overwrite,
        device=device,
        quiet=quiet,
    )
