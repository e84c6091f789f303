"""Tiles, as `imagesmith restore` reads them."""

import pytest
import typer

from imagesmith.apps.cli.restore import parse_tile


def test_tiles_are_words_or_pixels() -> None:
    """The accident: --tile 0, and a division by it an hour later."""
    assert [parse_tile(text) for text in ("auto", "off", "256")] == ["auto", "off", "256"]
    for text in ("0", "-1", "big", "1.5", ""):
        with pytest.raises(typer.BadParameter):
            parse_tile(text)
