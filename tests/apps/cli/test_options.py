"""Counts, as the command line reads them."""

import pytest
import typer

from imagesmith.apps.cli.options import parse_count


@pytest.mark.parametrize(
    ("text", "number"),
    [("200000", 200_000), ("500k", 500_000), ("1.5M", 1_500_000), ("2Mi", 2 * 1024**2), ("4Ki", 4096), ("1G", 10**9)],
)
def test_counts_are_read_as_people_write_them(text: str, number: int) -> None:
    """The accident: 2Mi images taken for two, or for 2,000,000."""
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["", "k", "2i", "-3", "1e6", "2 M", "2MiB", "nan", "0"])
def test_other_counts_are_refused(text: str) -> None:
    """The accident: a length of nonsense, and a run that ends at once or never."""
    with pytest.raises(typer.BadParameter):
        parse_count(text)
