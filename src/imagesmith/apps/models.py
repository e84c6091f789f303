"""`imagesmith models`: what the shipped weights are, and whether they are still what they were."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from imagesmith.apps.terminal import plain
from imagesmith.errors import ImagesmithError, ModelError, NothingUsableError
from imagesmith.zoo import CARDS
from imagesmith.zoo.cards import ModelCard, is_foreign, read_header

_WIDEST = 1_000_000  # characters of a line


def print_list(*, as_json: bool) -> int:
    """One line for every shipped model, as a table or as JSON objects; the exit code, 3 when one cannot be read."""
    code, cards = 0, []
    for name in _shipped():
        try:
            cards.append(CARDS[name])
        except ImagesmithError as error:
            code = ImagesmithError.exit_code
            print(plain(f"{name}: {error}"), file=sys.stderr)
    if as_json:
        for card in cards:
            print(card.to_json())
        return code
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("name", "task", "network", "description"):
        table.add_column(heading)
    for heading in ("scale", "parameters"):
        table.add_column(heading, justify="right")
    table.add_column("scores")
    for card in cards:
        scale = f"x{card.scale}" if card.scale > 1 else ""
        cells = card.name, card.task, card.net, card.description, scale, f"{card.params:,}", _scores(card)
        table.add_row(*map(plain, cells))
    _print(table)
    print("scores: by test set, psnr_y in dB; `imagesmith models show NAME` tells more", file=sys.stderr)
    return code


def _shipped() -> list[str]:
    if not CARDS:
        raise NothingUsableError("expected shipped models, found none in this installation; install imagesmith again")
    return list(CARDS)


def _scores(card: ModelCard) -> str:
    """The first metric of each test set."""
    firsts = {test_set: next(iter(scores.items())) for test_set, scores in card.protocol.items() if scores}
    return ", ".join(f"{test_set} {metric} {value:.4g}" for test_set, (metric, value) in firsts.items())


def print_card(model: str, *, as_json: bool) -> None:
    """Everything a weight file says about itself, and of another project's what its tensors tell."""
    from imagesmith.zoo.weights import find_weights  # loads torch, which a list of models does without

    path = find_weights(model)
    card, digest = _of_foreign(path) if is_foreign(path) else _of_own(path)
    fields = {"model": model, **dataclasses.asdict(card), "sha256": digest, "file": str(path)}
    del fields["path"]  # which `file` tells
    if as_json:
        print(json.dumps(fields, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        text = json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else str(value)
        table.add_row(name, plain(text))
    _print(table)


def _of_own(path: Path) -> tuple[ModelCard, str]:
    header = read_header(path)
    return header.card, header.sha256


def _of_foreign(path: Path) -> tuple[ModelCard, str]:
    """Card and sha256 of a network of PyTorch's DCGAN example, or of another project's restorer."""
    from imagesmith.infer.manifest import sha256_of
    from imagesmith.zoo import load_dcgan, load_model

    try:
        model = load_dcgan(path)
    except ModelError:
        model = load_model(path)
    return model.card, sha256_of(path)


def verify(names: Sequence[str]) -> int:
    """Verify the named shipped models, or all; the exit code, 3 when one of them fails."""
    from imagesmith.zoo.weights import verify_model

    code = 0
    for name in names or _shipped():
        try:
            difference = verify_model(name)
        except ImagesmithError as error:
            code = ImagesmithError.exit_code
            print(plain(f"{name}: {error}"), file=sys.stderr)
        else:
            print(f"{name}: sha256 right, golden output within {difference:.1e}")
    return code


def _print(table: Table) -> None:
    """On standard output; as wide as the text where that is no terminal, so that no pipe gets broken lines."""
    console = Console(highlight=False, markup=False)
    if not console.file.isatty():
        console.width = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.print(table)
