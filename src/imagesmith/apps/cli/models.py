"""`imagesmith models`: the shipped weights."""

from typing import Annotated

import typer

from imagesmith.apps.cli.options import GROUP, Commands, DebugFlag, JsonFlag, ModelArgument

app = Commands(help="The shipped models: list, show, verify.", **GROUP)


@app.command("list")
def list_models(*, as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """One line for every shipped model."""
    from imagesmith.apps.models import print_list

    raise typer.Exit(print_list(as_json=as_json))


@app.command("show", no_args_is_help=True)
def show(model: ModelArgument, *, as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """The card of a model: network, training, scores, licence, checksum."""
    from imagesmith.apps.models import print_card

    print_card(model, as_json=as_json)


@app.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Shipped names; all without.")] = None,
    *,
    debug: DebugFlag = False,
) -> None:
    """Check shipped weights against their sha256 and their golden output."""
    from imagesmith.apps.models import verify

    raise typer.Exit(verify(names or []))
