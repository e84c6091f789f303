"""What pages say of what was measured is what was measured."""

import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILM_ROWS = {
    "bicubic": "bicubic",
    "sr-x4": "`sr-x4`, frame by frame",
    "vsr-x4, state off": "`vsr-x4` without its memory",
    "vsr-x4": "**`vsr-x4`**",
}


def test_the_page_of_numbers_is_what_the_results_say(tmp_path: Path):
    """The accident: something is measured anew, and the page goes on telling of the old run, or leaves a loss out."""
    import_module("numbers_page").write_numbers(tmp_path)
    assert (tmp_path / "numbers.md").read_text() == (ROOT / "docs" / "numbers.md").read_text()


def test_films_in_the_readme_have_the_numbers_of_the_page():
    """The accident: a row of the README was measured with `--temporal`, that of the page without."""
    page, readme = ((ROOT / name).read_text() for name in ("docs/numbers.md", "README.md"))
    for network, title in FILM_ROWS.items():
        measured = re.findall(rf"^\| BI \| [a-z_]+ \| {network} \|[^|]*\| ([\d.]+) ", page, re.MULTILINE)
        assert len(measured) == 3
        assert f"| {title} | {' | '.join(measured)} |" in readme
