"""The configuration of a run, from a preset or a file and the values given on the command line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from imagesmith.errors import UsageError

PresetOption = Annotated[str | None, typer.Option(help="Named configuration to start from.")]
ConfigOption = Annotated[Path | None, typer.Option(help="JSON configuration to start from, such as another run's.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may be repeated.")
]
DegradedOption = Annotated[
    Path | None,
    typer.Option("--degraded", metavar="DIR", help="Their damaged versions, in place of a recipe that makes them."),
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="What damages them: .json of data estimate, or name:option=value,... + ..."),
]


def configuration(
    kind: type[Any],
    presets: Mapping[str, Callable[..., Any]],
    *,
    preset: str | None,
    config: Path | None,
    given: dict[str, Any],
    changes: list[str] | None,
    adapt: Callable[[Any], Any] | None = None,
) -> Any:
    """The configuration that a preset or a file describes, with the values given on the command line."""
    from imagesmith.configs import load_config, override
    from imagesmith.presets import preset_of

    if (preset is None) == (config is None):
        raise UsageError(f"expected either --preset or --config; presets are {', '.join(presets)}")
    data, out = given["data.folder"], given["run.out"]
    start = load_config(config, kind) if config else preset_of(presets, preset or "")(data=data, out=out)
    start = adapt(start) if adapt else start
    assignments = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    return override(start, [*assignments, *(changes or [])])


def damage(degraded: Path | None, recipe: str | None) -> dict[str, Any]:
    """What a restorer learns from, by its place in the configuration: pairs, a recipe, or what the preset has."""
    from imagesmith.configs import recipe as read_recipe

    if degraded and recipe:
        raise UsageError("expected either --degraded or --recipe, got both; leave one of them out")
    if recipe:
        return {"degradations": [part.model_dump() for part in read_recipe(recipe)]}
    return {"data.degraded": str(degraded), "data.shrink": [1], "degradations": []} if degraded else {}
