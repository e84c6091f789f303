"""The command `imagesmith`: flags in, one call to the library, words out. No arithmetic lives here.

Every heavy import stands inside its command, so that `imagesmith --help` answers at once.
Human text goes to standard error; standard output carries results only: JSON lines, tables, or a picture for `-o -`.
"""

import atexit
import errno
import gc
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from imagesmith import __version__
from imagesmith.apps.cli import data, demo, doctor, evaluate, generate, models, restore, train
from imagesmith.apps.cli.options import CANCELLED, GROUP, Commands
from imagesmith.apps.terminal import plain
from imagesmith.errors import ImagesmithError, OutputError, not_one_of

BUG = 1
"""Exit code of an error that is not the user's."""
_UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EIO)


class _Stopped(Exception):
    """A command was stopped before it has words of its own for that."""


class _Imagesmith(TyperGroup):
    """All commands. Of a KeyboardInterrupt typer would make an exit without a word."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _kept_from_typer():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _kept_from_typer():
            return super().invoke(ctx)


@contextmanager
def _kept_from_typer() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise _Stopped from error


app = Commands(
    name="imagesmith",
    cls=_Imagesmith,
    help="Mend pictures with neural networks, and make new ones: restore, generate, train, measure.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    **GROUP,
)
app.command("demo")(demo.demo)
app.command("restore", no_args_is_help=True)(restore.restore)
app.command("generate", no_args_is_help=True)(generate.generate)
app.command("interpolate", no_args_is_help=True)(generate.interpolate)
app.command("variations", no_args_is_help=True)(generate.variations)
app.command("doctor")(doctor.doctor)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")


def main() -> NoReturn:
    """Run the command line and leave with its exit code: 0 good, 2 usage, 3 some failed, 4 nothing usable, 130 stop."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text, as on standard error
    atexit.register(gc.freeze)  # to look for circles among torch's objects before they go takes 0.3 s
    try:
        code = app(standalone_mode=False)
    except ImagesmithError as error:
        _fail(error.exit_code, f"imagesmith: {error}")
    except (KeyboardInterrupt, _Stopped):
        _fail(CANCELLED, "imagesmith: cancelled")
    except (Exception, SystemExit) as error:
        if unwritten := _of_output(error):
            sys.exit(_give_up_output(unwritten))
        if isinstance(error, SystemExit):
            raise
        if isinstance(error, OSError) and error.errno in _UNWRITTEN:
            what = f"a file or a stream cannot be written or read: {error}"
            _fail(OutputError.exit_code, f"imagesmith: {what}\n--debug shows where")
        if hasattr(error, "format_message"):  # typer's own errors; their class has moved from one version to the next
            _refuse(error)
        _fail(BUG, f"imagesmith: a bug, please report it: {type(error).__name__}: {error}\n--debug shows where")
    _leave(code)


def _open_standard_streams() -> None:
    """Streams that were closed from the start lead nowhere: a picture opened later would get the number of one.

    What any library says would be written into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)  # for worker processes
            setattr(sys, name, open(number, mode))  # noqa: SIM115 - stays open


def _leave(code: int | None) -> NoReturn:
    """Exit, unless standard output did not take everything: a closed pipe or a full disk is told here.

    Python by itself would find out later, complain about an ignored exception and leave with code 120.
    """
    if unwritten := _unflushed():
        told = _give_up_output(unwritten)
        code = code or told
    sys.exit(code)


def _of_output(error: BaseException) -> OSError | None:
    """What kept standard output from being written, where that is what `error` comes from.

    typer and rich exit by themselves, without a word, where a pipe is closed. What else failed may have been any file.
    """
    cause = error.__context__ if isinstance(error, SystemExit) else error
    if not isinstance(cause, OSError) or cause.filename is not None or cause.errno not in _UNWRITTEN:
        return None
    return cause if isinstance(error, SystemExit) else _unflushed()


def _unflushed() -> OSError | None:
    """What keeps standard output from taking the rest, of which up to a bufferful stays when a write fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def _give_up_output(error: OSError) -> int:
    """The exit code, once the user knows; what is still to be written goes nowhere."""
    print(f"imagesmith: standard output cannot be written: {error.strerror}", file=sys.stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OutputError.exit_code


def _refuse(error: Any) -> NoReturn:
    """Leave with what typer says about the command line, in two lines; or with the help that it says instead."""
    text, context = _in_our_words(error.format_message()), getattr(error, "ctx", None)
    hint = f"\n{context.command_path} -h shows what it takes" if context else ""
    print(text if text.startswith("Usage:") else plain(f"imagesmith: {text}{hint}"), file=sys.stderr)
    sys.exit(error.exit_code)


def _in_our_words(text: str) -> str:
    """What typer says, without the prefix of pydantic, which it asks; of a word that is not on a list the nearest."""
    text = text.replace(": Value error, ", ": ", 1)
    if not (refused := re.fullmatch(r"Invalid value for (.+?): (['\"])(.*)\2 is not one of (.+)\.", text, re.DOTALL)):
        return text
    option, _, word, known = refused.groups()
    return not_one_of(option.replace("'", ""), word, re.findall("'(.+?)'", known))


def _fail(code: int, text: str) -> NoReturn:
    if "--debug" in sys.argv:
        raise  # noqa: PLE0704 - called from the handlers of `main` only
    print(plain(text), file=sys.stderr, flush=True)
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
