"""`imagesmith train`: restorers of pictures and of films, GANs, classifiers."""

import sys
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path
from typing import Annotated, Any

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
from imagesmith.apps.cli.options import CANCELLED, GROUP, Commands, DebugFlag, PhotosArgument, QuietFlag, parse_count
from imagesmith.errors import ConfigError, ModelError, UsageError

app = Commands(help="Train a network.", **GROUP)

RunOption = Annotated[
    str, typer.Option("-o", "--out", help="Run folder; the same command again resumes it.", show_default=False)
]
MinutesOption = Annotated[float | None, typer.Option(help="Length in minutes.")]
ImagesOption = Annotated[
    int | None, typer.Option(metavar="N", parser=parse_count, help="Length in images seen: 500k, 2Mi.")
]


@app.command("restorer", no_args_is_help=True)
def restorer(
    data: PhotosArgument,
    *,
    out: RunOption,
    preset: PresetOption = None,
    config: ConfigOption = None,
    degraded: DegradedOption = None,
    recipe: RecipeOption = None,
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
    from imagesmith.configs import Part, RestorerConfig, load_config
    from imagesmith.nets import RESTORERS
    from imagesmith.presets import RESTORER_PRESETS, fine_tuned
    from imagesmith.train.restore import train_restorer as train
    from imagesmith.zoo.cards import read_header
    from imagesmith.zoo.weights import find_weights

    given = _given(data, out, minutes, images) | damage(degraded, recipe)
    adapt = None
    if start_from and _was_begun(out) and not _is_model(start_from):  # it goes on without what it was begun from
        given |= {"start_from": start_from}
        begun = Path(out) / "config.json"
        if preset is None and config is None:
            config = begun
        else:
            before = load_config(begun, RestorerConfig)
            adapt = partial(fine_tuned, start_from=start_from, task=before.task, net=before.net)
    elif start_from:
        card = read_header(find_weights(start_from)).card
        if card.net not in RESTORERS:
            raise ConfigError(
                f"expected a restorer of pictures to start from, got '{start_from}', a network '{card.net}' for the "
                f"task {card.task}; choose another"
            )
        if preset is None and config is None:
            preset, config = _recipe_of(start_from, card, RESTORER_PRESETS)
        net = Part(name=card.net, options=card.options)
        adapt = partial(fine_tuned, start_from=start_from, task=card.task, net=net)
    resolved = configuration(
        RestorerConfig, RESTORER_PRESETS, preset=preset, config=config, given=given, changes=changes, adapt=adapt
    )
    _train(train, resolved, quiet=quiet)


@app.command("video", no_args_is_help=True)
def video(
    data: PhotosArgument,
    *,
    out: RunOption,
    films: Annotated[
        Path | None, typer.Option("--films", metavar="DIR", help="Clean films to learn from besides.")
    ] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    start_from: Annotated[
        str | None, typer.Option("--start-from", metavar="MODEL", help="Begin with the layers of this model that fit.")
    ] = None,
    minutes: MinutesOption = None,
    images: ImagesOption = None,
    changes: SetOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a restorer of films on photographs, which are set in motion, and on films."""
    from imagesmith.configs import VideoConfig
    from imagesmith.presets import VIDEO_PRESETS
    from imagesmith.train.video import train_video as train

    given = _given(data, out, minutes, images)
    if films:
        given |= {"data.films": str(films)}
    if start_from:
        given |= {"start_from": start_from}
        if _has_flow(start_from, out):
            given |= {"flow_from": start_from}
    resolved = configuration(VideoConfig, VIDEO_PRESETS, preset=preset, config=config, given=given, changes=changes)
    _train(train, resolved, quiet=quiet)


@app.command("gan", no_args_is_help=True)
def gan(
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
    preset: Annotated[str | None, typer.Option(help="Named configuration to start from.", show_default="auto")] = None,
    config: ConfigOption = None,
    start_from: Annotated[
        str | None,
        typer.Option("--start-from", metavar="RUN", help="Begin with the two networks in this run folder of a GAN."),
    ] = None,
    minutes: MinutesOption = None,
    images: ImagesOption = None,
    changes: SetOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a GAN on pictures: what is not given is chosen from data, machine and time, and told with its reason."""
    from imagesmith.configs import GanConfig
    from imagesmith.presets import GAN_PRESETS
    from imagesmith.train.gan import train_gan as train

    given = _given(data, out, minutes, images) | ({"start_from": start_from} if start_from else {})
    preset = preset or (None if config else "auto")
    resolved = configuration(GanConfig, GAN_PRESETS, preset=preset, config=config, given=given, changes=changes)
    _train(train, resolved, quiet=quiet)


@app.command("classifier", no_args_is_help=True)
def classifier(
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
    from imagesmith.presets import CLASSIFIER_PRESETS
    from imagesmith.train.classifier import train_classifier as train

    given = _given(data, out, minutes, images)
    resolved = configuration(
        ClassifierConfig, CLASSIFIER_PRESETS, preset=preset, config=config, given=given, changes=changes
    )
    _train(train, resolved, quiet=quiet)


def _given(data: str, out: str, minutes: float | None, images: int | None) -> dict[str, Any]:
    """What every training takes from the command line, by its place in the configuration."""
    if minutes is not None and images is not None:
        raise UsageError("expected one of --minutes and --images, got both")
    return {"data.folder": data, "run.out": out, "run.minutes": minutes, "run.images": images}


def _recipe_of(start_from: str, card: Any, presets: Container[str]) -> tuple[str | None, Path | None]:
    """The preset of a model's run, or the configuration in its run folder where that is none of `presets`."""
    preset = card.training.get("config", {}).get("preset")
    if preset is None or preset in presets:
        return preset, None
    config = Path(start_from) / "config.json"
    if config.is_file():
        return None, config
    raise ConfigError(
        f"expected --preset or --config with --start-from {start_from}, which was made by '{preset}', no preset of "
        "imagesmith's; give its configuration, or name its run folder"
    )


def _has_flow(start_from: str, out: str) -> bool:
    """Whether a model has learnt to follow what moves, which the preset's flow would replace."""
    from imagesmith.configs import VideoConfig, load_config
    from imagesmith.evaluate.subjects import is_recurrent

    if _was_begun(out) and not _is_model(start_from):  # the run goes on without it, as it was begun
        return load_config(Path(out) / "config.json", VideoConfig).flow_from == start_from
    return is_recurrent(start_from)


def _was_begun(out: str) -> bool:
    """Whether a run folder holds something to go on from."""
    from imagesmith.runtime.checkpoint import checkpoints_in

    return bool(checkpoints_in(Path(out) / "checkpoints"))


def _is_model(name: str) -> bool:
    """Whether a model or file is called so."""
    from imagesmith.zoo.weights import find_weights

    try:
        find_weights(name)
    except ModelError:
        return False
    return True


def _train(train: Callable[..., Any], resolved: Any, *, quiet: bool) -> None:
    """Train as the configuration says; after Ctrl-C tell how it goes on."""
    try:
        train(resolved, quiet=quiet)
    except KeyboardInterrupt:
        print("imagesmith: cancelled; the same command goes on where it stopped", file=sys.stderr)
        raise typer.Exit(CANCELLED) from None
