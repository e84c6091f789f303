"""What the commands share: options that mean the same everywhere, and how a cancelled command ends."""

import re
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from imagesmith.errors import UsageError

CANCELLED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it: 128 + SIGINT."""
GROUP: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}
"""How groups of commands are shown: plain help starts faster and reads the same in a pipe."""
_ONCE = ("--task", "--model", "--out")
"""What a command does, with what, and where to: of two, one would be left undone."""


class _Command(TyperCommand):
    """A command that refuses a second task, model or output: by itself the parser drops the first without a word.

    Of other options the last one counts, as everywhere: an alias or a script may set what a user then sets anew.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        times = Counter(option for each in given if not each.multiple for option in each.opts)
        for option in _ONCE:
            if (count := times[option]) > 1:
                raise UsageError(
                    f"expected {option} once, got it {count} times, of which only the last would count\n"
                    "leave the others out; what follows on it takes a command of its own, on the first's result"
                )
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """A group of commands, each of which takes one task, one model and one output."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """As Typer's own."""
        return super().command(name, cls=_Command, **options)


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


def parse_count(text: str) -> int:
    """A whole number with an optional k, M, G, T (thousands) or Ki, Mi, Gi, Ti (1024s): '2Mi' is 2097152."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([kKMGT])(i?))?", text)
    count = match and int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index((match[2] or " ").upper()))
    if not count:
        raise typer.BadParameter(f"expected a count such as 200000, 500k or 2Mi, got '{text}'")
    return count


def parse_bytes(text: str) -> int:
    """Like `parse_count`, with or without a B behind it: '2G' and '2GB' are 2000000000."""
    try:
        return parse_count(text.removesuffix("B"))
    except typer.BadParameter:
        raise typer.BadParameter(f"expected a size above 0 such as 900M, 2GB or 1.5GiB, got '{text}'") from None


ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Shipped name, run folder or .safetensors file.", show_default=False)
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Arithmetic of the network; auto measures.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
PhotosArgument = Annotated[str, typer.Argument(metavar="DATA", help="Folder of clean photographs.", show_default=False)]
OverwriteFlag = Annotated[bool, typer.Option("-y", "--overwrite", help="Replace files that exist.")]
RecursiveFlag = Annotated[bool, typer.Option("-r", "--recursive", help="Also subfolders.")]
QuietFlag = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
