"""`imagesmith data`: what is in pictures, and what a recipe makes of them."""

from pathlib import Path
from typing import Annotated

import typer

from imagesmith.apps.cli.configuration import (
    ConfigOption,
    DegradedOption,
    PresetOption,
    RecipeOption,
    SetOption,
    configuration,
    damage,
)
from imagesmith.apps.cli.options import (
    GROUP,
    Commands,
    DebugFlag,
    JsonFlag,
    OverwriteFlag,
    PhotosArgument,
    RecursiveFlag,
)
from imagesmith.errors import UsageError

app = Commands(help="Look at data sets.", **GROUP)


@app.command("inspect", no_args_is_help=True)
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Folder, zip, tar, npz or table of labels; DATA::train is a part.", show_default=False
        ),
    ],
    *,
    as_json: JsonFlag = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Write a contact sheet here, as PNG.")
    ] = None,
    debug: DebugFlag = False,
) -> None:
    """What is in a data set: counts, sizes, classes, copies, broken files, and advice for training."""
    from imagesmith.apps.inspect import run_inspect

    run_inspect(source, as_json=as_json, sheet=sheet)


@app.command("estimate", no_args_is_help=True)
def estimate(
    source: Annotated[
        str, typer.Argument(metavar="DIR", help="Pictures as they are: folder, glob, zip or file.", show_default=False)
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the recipe here, for train --recipe.")
    ] = None,
    recursive: RecursiveFlag = False,
    overwrite: OverwriteFlag = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure the noise, blur and JPEG of pictures, and write the recipe that makes such pictures."""
    from imagesmith.apps.estimate import run_estimate

    run_estimate(source, out=out, recursive=recursive, overwrite=overwrite, as_json=as_json)


@app.command("preview", no_args_is_help=True)
def preview(
    data: PhotosArgument,
    *,
    preset: PresetOption = None,
    config: ConfigOption = None,
    degraded: DegradedOption = None,
    recipe: RecipeOption = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to write it, as PNG.")] = Path(
        "preview.png"
    ),
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="Number of pairs.")] = 24,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the run. [default: the configuration's]")] = None,
    changes: SetOption = None,
    overwrite: OverwriteFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Draw the clean and degraded patches that a restorer would be trained on."""
    from imagesmith.apps.preview import run_preview
    from imagesmith.configs import RestorerConfig
    from imagesmith.presets import RESTORER_PRESETS, VIDEO_PRESETS

    if preset in VIDEO_PRESETS:
        raise UsageError(
            f"expected a preset of `train restorer`, got '{preset}' of films\n"
            "what `train video` shows its network is in the folder samples/ of the run"
        )
    resolved = configuration(
        RestorerConfig,
        RESTORER_PRESETS,
        preset=preset,
        config=config,
        given={"data.folder": data, "run.out": ".", "run.seed": seed} | damage(degraded, recipe),
        changes=changes,
    )
    run_preview(resolved, out, count=count, overwrite=overwrite)
