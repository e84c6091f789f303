"""Tiles and workers, as `imagesmith restore` reads them."""

import pytest
import typer

from imagesmith.apps.cli.restore import parse_tile, parse_workers


def test_tiles_are_words_or_pixels() -> None:
    """The accident: --tile 0, and a division by it an hour later."""
    assert [parse_tile(text) for text in ("auto", "off", "256")] == ["auto", "off", "256"]
    for text in ("0", "-1", "big", "1.5", ""):
        with pytest.raises(typer.BadParameter):
            parse_tile(text)


def test_workers_are_counted_or_left_to_the_program() -> None:
    """The accident: --workers 0, and a run that waits for nobody."""
    assert [parse_workers(text) for text in ("auto", "1", "16")] == ["auto", 1, 16]
    for text in ("0", "-1", "many", "1.5", ""):
        with pytest.raises(typer.BadParameter, match="number of processes"):
            parse_workers(text)
