"""The command `imagesmith`: flags in, one call to the library, words out. No arithmetic lives here.

Every heavy import stands inside its command, so that `imagesmith --help` answers at once.
Human text goes to standard error; standard output carries results only: JSON lines, tables, or a picture for `-o -`.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from imagesmith import __version__
from imagesmith.errors import ImagesmithError, OutputError, UsageError

CANCELLED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""
BUG = 1
"""Exit code of an error that is not the user's."""

_GROUP = {"no_args_is_help": True, "rich_markup_mode": None}  # plain help starts faster and reads the same in a pipe
app = typer.Typer(
    name="imagesmith",
    help="Mend pictures with neural networks, and make new ones: restore, generate, train, measure.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    **_GROUP,
)
train_app = typer.Typer(help="Train a network.", **_GROUP)
evaluate_app = typer.Typer(help="Measure a model by a stated protocol.", **_GROUP)
data_app = typer.Typer(help="Look at data sets.", **_GROUP)
models_app = typer.Typer(help="The shipped models: list, show, verify.", **_GROUP)


class Task(StrEnum):
    """What to mend."""

    AUTO = "auto"
    SR = "sr"
    DENOISE = "denoise"
    JPEG = "jpeg"
    DEBLUR = "deblur"
    INPAINT = "inpaint"
    PHOTO = "photo"


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Dtype(StrEnum):
    """Arithmetic of the network."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Format(StrEnum):
    """Format of the results."""

    KEEP = "keep"
    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"
    TIF = "tif"


def parse_count(text: str) -> int:
    """A whole number with an optional k, M, G (thousands) or Ki, Mi, Gi (1024s): '2Mi' is 2097152."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([kKMG])(i?))?", text)
    count = match and int(float(match[1]) * (1024 if match[3] else 1000) ** " KMG".index((match[2] or " ").upper()))
    if not count:
        raise typer.BadParameter(f"expected a count such as 200000, 500k or 2Mi, got '{text}'")
    return count


def parse_tile(text: str) -> str:
    """'auto', 'off' or a side in pixels."""
    if text not in ("auto", "off") and not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"expected auto, off or a side in pixels, got '{text}'")
    return text


ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Shipped name, run folder or .safetensors file.", show_default=False)
]
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
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Arithmetic of the network; auto measures.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
RunOption = Annotated[
    str, typer.Option("-o", "--out", help="Run folder; the same command again resumes it.", show_default=False)
]
PresetOption = Annotated[str | None, typer.Option(help="Named configuration to start from.")]
ConfigOption = Annotated[Path | None, typer.Option(help="JSON configuration to start from, such as another run's.")]
MinutesOption = Annotated[float | None, typer.Option(help="Length in minutes.")]
ImagesOption = Annotated[
    int | None, typer.Option(metavar="N", parser=parse_count, help="Length in images seen: 500k, 2Mi.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may be repeated.")
]
QuietFlag = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main() -> NoReturn:
    """Run the command line and leave with its exit code: 0 good, 2 usage, 3 some failed, 4 nothing usable, 130 stop."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text, as on standard error
    try:
        code = app(standalone_mode=False)
    except ImagesmithError as error:
        _fail(error.exit_code, f"imagesmith: {error}")
    except KeyboardInterrupt:
        code = CANCELLED
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own errors; their class has moved from one version to the next
            _refuse(error)
        _fail(BUG, f"imagesmith: a bug, please report it: {type(error).__name__}: {error}\n--debug shows where")
    _leave(code)


def _leave(code: int | None) -> NoReturn:
    """Exit, unless standard output did not take everything: a closed pipe or a full disk is told here.

    Python by itself would find out later, complain about an ignored exception and leave with code 120.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"imagesmith: standard output cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or OutputError.exit_code
    sys.exit(code)


def _refuse(error: Any) -> NoReturn:
    """Leave with what typer says about the command line, in two lines; or with the help that it says instead."""
    text, context = error.format_message(), getattr(error, "ctx", None)
    hint = f"\n{context.command_path} -h shows what it takes" if context else ""
    print(text if text.startswith("Usage:") else f"imagesmith: {text}{hint}", file=sys.stderr)
    sys.exit(error.exit_code)


def _fail(code: int, text: str) -> NoReturn:
    if "--debug" in sys.argv:
        raise  # noqa: PLE0704 - called from the handlers of `main` only
    print(text, file=sys.stderr, flush=True)
    _leave(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"imagesmith {__version__}")
        raise typer.Exit


@app.callback()
def _imagesmith(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures and the report.")] = Path(
        "imagesmith-demo"
    ),
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train a small GAN for half a minute.")] = True,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    debug: DebugFlag = False,
) -> None:
    """Enlarge photographs, make images, train a small GAN, write report.html; needs no network."""
    from imagesmith.apps.demo import run_demo

    raise typer.Exit(run_demo(out, device=device, dtype=dtype, train=train))


@app.command(no_args_is_help=True)
def restore(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Files, folders, globs, zips; - reads standard input.")
    ],
    *,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="File or folder; - writes standard output. [default: beside the input]"),
    ] = None,
    task: Annotated[Task, typer.Option("--task", help="What to mend; auto looks at each picture.")] = Task.AUTO,
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
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace files that exist.")] = False,
    suffix: Annotated[
        str | None, typer.Option("--suffix", help="Put before the ending of results. [default: .srx4 and so on]")
    ] = None,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")] = False,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Average over 8 flips and turns: 8x the time, a little better.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept cut or damaged files and invent what they lost.")
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
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Mend or enlarge photographs: files, folders, globs, zips or a pipe."""
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
        self_ensemble=self_ensemble,
        mask=mask,
        strength=strength,
        consistency=consistency,
        uncertainty=uncertainty,
        dry_run=dry_run,
    )
    raise typer.Exit(code)


@app.command("generate", no_args_is_help=True)
def generate_images(
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
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace files that exist.")] = False,
    device: DeviceOption = Device.AUTO,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Arithmetic of the network; auto is fp32.")] = Dtype.AUTO,
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


@app.command("interpolate", no_args_is_help=True)
def interpolate_seeds(
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
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace files that exist.")] = False,
    device: DeviceOption = Device.AUTO,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Arithmetic of the network; auto is fp32.")] = Dtype.AUTO,
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


@app.command("variations", no_args_is_help=True)
def make_variations(
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
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace files that exist.")] = False,
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


@train_app.command("restorer", no_args_is_help=True)
def train_restorer(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder of clean photographs.", show_default=False)],
    *,
    out: RunOption,
    preset: PresetOption = None,
    config: ConfigOption = None,
    degraded: Annotated[
        Path | None,
        typer.Option("--degraded", metavar="DIR", help="Their damaged versions, in place of a recipe that makes them."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="What damages them: .json of data estimate, or name:option=value,... + ..."),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option("--start-from", metavar="MODEL", help="Go on from this model, until it no longer improves."),
    ] = None,
    minutes: MinutesOption = None,
    images: ImagesOption = None,
    changes: SetOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a restorer on a folder of photographs, or on pairs in two folders."""
    from imagesmith.configs import Part, RestorerConfig
    from imagesmith.configs import recipe as read_recipe
    from imagesmith.presets import RESTORER_PRESETS, fine_tuned, restorer_preset
    from imagesmith.train.restore import train_restorer as train
    from imagesmith.zoo.cards import read_header
    from imagesmith.zoo.weights import find_weights

    given = {"data.folder": data, "run.out": out, "run.minutes": minutes, "run.images": images}
    if degraded and recipe:
        raise UsageError("expected either --degraded or --recipe, got both; leave one of them out")
    if recipe:
        given |= {"degradations": [part.model_dump() for part in read_recipe(recipe)]}
    if degraded:
        given |= {"data.degraded": str(degraded), "data.shrink": [1], "degradations": []}
    adapt = None
    if start_from:
        card = read_header(find_weights(start_from)).card
        if preset is None and config is None:
            preset = card.training.get("config", {}).get("preset")
        net = Part(name=card.net, options=card.options)
        adapt = partial(fine_tuned, start_from=start_from, task=card.task, net=net)
    _train(
        train,
        RestorerConfig,
        (RESTORER_PRESETS, restorer_preset),
        preset=preset,
        config=config,
        given=given,
        changes=changes,
        quiet=quiet,
        adapt=adapt,
    )


@train_app.command("gan", no_args_is_help=True)
def train_gan(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Pictures: a folder, class folders, zip, tar, npz; `archive.zip::part` for a part of it.",
            show_default=False,
        ),
    ],
    *,
    out: RunOption,
    preset: PresetOption = "auto",
    config: ConfigOption = None,
    minutes: MinutesOption = None,
    images: ImagesOption = None,
    changes: SetOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a GAN on pictures: what is not given is chosen from data, machine and time, and told with its reason."""
    from imagesmith.configs import GanConfig
    from imagesmith.presets import GAN_PRESETS, gan_preset
    from imagesmith.train.gan import train_gan as train

    given = {"data.folder": data, "run.out": out, "run.minutes": minutes, "run.images": images}
    preset = None if config else preset
    _train(
        train,
        GanConfig,
        (GAN_PRESETS, gan_preset),
        preset=preset,
        config=config,
        given=given,
        changes=changes,
        quiet=quiet,
    )


@train_app.command("classifier", no_args_is_help=True)
def train_classifier(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Labelled pictures: class folders, zip, tar, npz; `archive.zip::part` for a part of it.",
            show_default=False,
        ),
    ],
    *,
    out: RunOption,
    preset: PresetOption = None,
    config: ConfigOption = None,
    minutes: MinutesOption = None,
    images: ImagesOption = None,
    changes: SetOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a classifier on labelled pictures, such as measures generators by its features."""
    from imagesmith.configs import ClassifierConfig
    from imagesmith.presets import CLASSIFIER_PRESETS, classifier_preset
    from imagesmith.train.classifier import train_classifier as train

    given = {"data.folder": data, "run.out": out, "run.minutes": minutes, "run.images": images}
    _train(
        train,
        ClassifierConfig,
        (CLASSIFIER_PRESETS, classifier_preset),
        preset=preset,
        config=config,
        given=given,
        changes=changes,
        quiet=quiet,
    )


def _train(
    train: Callable[..., Any],
    kind: type[Any],
    presets: tuple[Mapping[str, Any], Callable[[str], Callable[..., Any]]],
    *,
    preset: str | None,
    config: Path | None,
    given: dict[str, Any],
    changes: list[str] | None,
    quiet: bool,
    adapt: Callable[[Any], Any] | None = None,
) -> None:
    """Train what a preset or a configuration of this kind describes, with the values given on the command line."""
    if given["run.minutes"] is not None and given["run.images"] is not None:
        raise UsageError("expected one of --minutes and --images, got both")
    resolved = _resolved(kind, presets, preset=preset, config=config, given=given, changes=changes, adapt=adapt)
    try:
        train(resolved, quiet=quiet)
    except KeyboardInterrupt:
        print("imagesmith: cancelled; the same command goes on where it stopped", file=sys.stderr)
        raise typer.Exit(CANCELLED) from None


def _resolved(
    kind: type[Any],
    presets: tuple[Mapping[str, Any], Callable[[str], Callable[..., Any]]],
    *,
    preset: str | None,
    config: Path | None,
    given: dict[str, Any],
    changes: list[str] | None,
    adapt: Callable[[Any], Any] | None = None,
) -> Any:
    """The configuration that a preset or a file describes, with the values given on the command line."""
    from imagesmith.configs import load_config, override

    known, preset_called = presets
    if (preset is None) == (config is None):
        raise UsageError(f"expected either --preset or --config; presets are {', '.join(known)}")
    data, out = given["data.folder"], given["run.out"]
    start = load_config(config, kind) if config else preset_called(preset or "")(data=data, out=out)
    start = adapt(start) if adapt else start
    assignments = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    return override(start, [*assignments, *(changes or [])])


@evaluate_app.command("restorer", no_args_is_help=True)
def evaluate_restorer(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Shipped name, run folder, .safetensors file; or none, bicubic, nearest."),
    ],
    *,
    targets: Annotated[Path, typer.Option("--targets", metavar="DIR", help="Folder of undamaged pictures.")],
    degraded: Annotated[
        Path | None,
        typer.Option("--degraded", metavar="DIR", help="Their damaged versions. [default: made by bicubic]"),
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option("--degrade", metavar="RECIPE", help="Damage the targets: name:option=value,... + ..., or .json."),
    ] = None,
    gray: Annotated[bool, typer.Option("--gray", help="Measure a recipe on the luma of the targets alone.")] = False,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Protocol names, separated by commas. [default: what is usual]")
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="Scale of bicubic and nearest.")] = None,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report here.")] = None,
    device: DeviceOption = Device.AUTO,
    dtype: DtypeOption = Dtype.FP32,
    debug: DebugFlag = False,
) -> None:
    """Measure a restorer against undamaged pictures."""
    from imagesmith.evaluate import evaluate_restorer as evaluate

    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    measured = evaluate(
        model, targets, degraded, names, degrade=degrade, gray=gray, scale=scale, device=device, dtype=dtype
    )
    print(measured.table())
    if report:
        measured.save(report)


@evaluate_app.command("generator", no_args_is_help=True)
def evaluate_generator(
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
        Path | None, typer.Option("--features", metavar="FILE", help="2015 Inception weights (.pth), or a classifier.")
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
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report here.")] = None,
    device: DeviceOption = Device.AUTO,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure generated images against real ones, with the score of held-out real images beside each."""
    from imagesmith.evaluate import evaluate_generator as evaluate

    measured = evaluate(
        model,
        reference,
        None if metrics is None else [name.strip() for name in metrics.split(",")],
        features=features,
        images=images,
        truncation=truncation,
        seed=seed,
        nearest=nearest,
        device=device,
        report=(lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True)),
    )
    print(measured.table())
    if report:
        measured.save(report)


@evaluate_app.command("classifier", no_args_is_help=True)
def evaluate_classifier(
    model: ModelArgument,
    *,
    reference: Annotated[
        str, typer.Option("--reference", metavar="DATA", help="Labelled pictures that it was not trained on.")
    ],
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report here.")] = None,
    device: DeviceOption = Device.AUTO,
    debug: DebugFlag = False,
) -> None:
    """Measure a classifier by the share of labelled pictures that it names right."""
    from imagesmith.evaluate.classifier import evaluate_classifier as evaluate

    measured = evaluate(model, reference, device=device)
    print(measured.table())
    if report:
        measured.save(report)


@data_app.command("inspect", no_args_is_help=True)
def data_inspect(
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


@data_app.command("estimate", no_args_is_help=True)
def data_estimate(
    source: Annotated[
        str, typer.Argument(metavar="DIR", help="Pictures as they are: folder, glob, zip or file.", show_default=False)
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the recipe here, for train --recipe.")
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Also subfolders.")] = False,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace a file that exists.")] = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure the noise, blur and JPEG of pictures, and write the recipe that makes such pictures."""
    from imagesmith.apps.estimate import run_estimate

    run_estimate(source, out=out, recursive=recursive, overwrite=overwrite, as_json=as_json)


@data_app.command("preview", no_args_is_help=True)
def data_preview(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder of clean photographs.", show_default=False)],
    *,
    preset: PresetOption = None,
    config: ConfigOption = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to write it, as PNG.")] = Path(
        "preview.png"
    ),
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="Number of pairs.")] = 24,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the run. [default: the configuration's]")] = None,
    changes: SetOption = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace files that exist.")] = False,
    debug: DebugFlag = False,
) -> None:
    """Draw the clean and degraded patches that a restorer would be trained on."""
    from imagesmith.apps.preview import run_preview
    from imagesmith.configs import RestorerConfig
    from imagesmith.presets import RESTORER_PRESETS, restorer_preset

    resolved = _resolved(
        RestorerConfig,
        (RESTORER_PRESETS, restorer_preset),
        preset=preset,
        config=config,
        given={"data.folder": data, "run.out": ".", "run.seed": seed},
        changes=changes,
    )
    run_preview(resolved, out, count=count, overwrite=overwrite)


@models_app.command("list")
def models_list(*, as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """One line for every shipped model."""
    from imagesmith.apps.models import print_list

    raise typer.Exit(print_list(as_json=as_json))


@models_app.command("show", no_args_is_help=True)
def models_show(model: ModelArgument, *, as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """The card of a model: network, training, scores, licence, checksum."""
    from imagesmith.apps.models import print_card

    print_card(model, as_json=as_json)


@models_app.command("verify")
def models_verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Shipped names; all without.")] = None,
    *,
    debug: DebugFlag = False,
) -> None:
    """Check shipped weights against their sha256 and their golden output."""
    from imagesmith.apps.models import verify

    raise typer.Exit(verify(names or []))


@app.command()
def doctor(*, device: DeviceOption = Device.AUTO, dtype: DtypeOption = Dtype.AUTO, debug: DebugFlag = False) -> None:
    """Show versions, devices, extras, memory, one timed tile, and how networks run here and why."""
    from imagesmith.apps.doctor import examine

    for name, finding in examine(device, dtype):
        print(f"{name:16}{finding}", flush=True)


app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")
