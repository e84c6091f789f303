"""The commands and their options, frozen: what people have in their scripts goes on working."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import EnumType
from pathlib import Path
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from imagesmith.apps.cli import app

FROZEN = Path(__file__).with_name("cli_surface.json")
REGENERATE = "python tests/laws/test_cli_frozen.py"


def commands(group: typer.Typer = app, path: str = "imagesmith") -> Iterator[tuple[str, Callable]]:
    """(full name, function) of every command, read from typer's public lists and not from what it builds of them."""
    if group.registered_callback and group.registered_callback.callback:
        yield path, group.registered_callback.callback
    for command in group.registered_commands:
        assert command.callback
        yield f"{path} {command.name or command.callback.__name__}", command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance
        yield from commands(inner.typer_instance, f"{path} {inner.name}")


def parameters(function: Callable) -> Iterator[tuple[str, type, OptionInfo | ArgumentInfo, object]]:
    """(name, type, typer's description, default) of every parameter of a command."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, described = get_args(hints[name])
        yield name, kind, described, parameter.default


def inventory() -> dict[str, dict[str, str]]:
    """{command: {its spellings of an option, or name of an argument: type or choices, and default}}."""

    def spelled(kind: type, default: object) -> str:
        (kind,) = [part for part in get_args(kind) if part is not NoneType] if isinstance(kind, UnionType) else [kind]
        values = [str(choice) for choice in kind] if isinstance(kind, EnumType) else [getattr(kind, "__name__", "")]
        shown = "required" if default is inspect.Parameter.empty else f"= {default}"
        return f"{'|'.join(values)}{'...' if get_origin(kind) is list else ''} {shown}"

    return {
        path: {
            _spellings(name, described): spelled(kind, default)
            for name, kind, described, default in parameters(function)
        }
        for path, function in sorted(commands(), key=lambda pair: pair[0])
    }


def _spellings(name: str, described: OptionInfo | ArgumentInfo) -> str:
    """`-o/--out`; inside `Annotated`, typer keeps the first spelling where a default would stand."""
    given = [text for text in (described.default, *(described.param_decls or ())) if isinstance(text, str)]
    return "/".join(given) or (f"--{name}" if isinstance(described, OptionInfo) else name)


def test_commands_and_options_are_frozen() -> None:
    """The accident: a renamed flag, found by the person whose nightly script stops."""
    assert inventory() == json.loads(FROZEN.read_text()), f"changed on purpose? regenerate: {REGENERATE}"


def test_every_command_and_option_has_help() -> None:
    """The accident: a flag whose meaning is known to its author only."""

    silent = [path for path, function in commands() if not inspect.getdoc(function) and path != "imagesmith"]
    silent += [
        f"{path} {name}"
        for path, function in commands()
        for name, _, described, _ in parameters(function)
        if not described.help
    ]
    assert silent == []


def test_help_loads_nothing_heavy() -> None:
    """The accident: one top-level import of torch, and every `--help`, typo and completion takes seconds."""
    code = (
        "import sys; sys.argv = ['imagesmith', '--help']\n"
        "import atexit; heavy = {'torch', 'numpy', 'PIL', 'av', 'pydantic', 'skimage', 'safetensors'}\n"
        "atexit.register(lambda: print('heavy:', sorted(heavy & set(sys.modules))))\n"
        "from imagesmith.apps.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "restore" in done.stdout
    assert done.stdout.rstrip().endswith("heavy: []")


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(inventory(), indent=2) + "\n")
