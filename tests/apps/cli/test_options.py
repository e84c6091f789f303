"""Counts and sizes, as the command line reads them, and options that are given twice."""

import pytest
import typer

from imagesmith.apps.cli import app
from imagesmith.apps.cli.options import parse_bytes, parse_count
from imagesmith.errors import ImagesmithError, UsageError


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("200000", 200_000),
        ("500k", 500_000),
        ("1.5M", 1_500_000),
        ("2Mi", 2 * 1024**2),
        ("4Ki", 4096),
        ("2T", 2 * 10**12),
    ],
)
def test_counts_are_read_as_people_write_them(text: str, number: int) -> None:
    """The accident: 2Mi images taken for two, or for 2,000,000."""
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["", "k", "2i", "-3", "1e6", "2 M", "2MiB", "nan", "0"])
def test_other_counts_are_refused(text: str) -> None:
    """The accident: a length of nonsense, and a run that ends at once or never."""
    with pytest.raises(typer.BadParameter):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "number"), [("900M", 9 * 10**8), ("2GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("2T", 2 * 10**12)]
)
def test_sizes_are_read_as_people_write_them(text: str, number: int) -> None:
    """The accident: 2GB, as every other program takes it, refused with advice on counts."""
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["0", "lots", "B", "2 GB", "-1G"])
def test_other_sizes_are_refused_with_an_example(text: str) -> None:
    """The accident: a limit of nothing, which no picture can keep."""
    with pytest.raises(typer.BadParameter, match=f"such as 900M, 2GB or 1.5GiB, got '{text}'"):
        parse_bytes(text)


@pytest.mark.parametrize("line", ["--task denoise --task jpeg", "-n denoise --model jpeg", "-o a.png --out b.png"])
def test_an_option_of_one_value_is_not_given_two(line: str) -> None:
    """The accident: --task denoise --task jpeg ended well, and nothing had been denoised."""
    with pytest.raises(UsageError, match=r"expected --(task|model|out) once, got it 2 times"):
        app(["restore", "photo.jpg", *line.split()], standalone_mode=False)


def test_flags_and_what_may_be_repeated_are_given_as_often_as_one_likes() -> None:
    """The accident: --set, which is there to be repeated, refused the second time."""
    line = "train restorer nowhere --set run.batch=2 --set run.seed=1 --images 4 --images 8 -q -q -o runs/none --config nothing.json"
    with pytest.raises(ImagesmithError, match=r"nothing\.json"):
        app(line.split(), standalone_mode=False)
