"""The demo's page: every chapter on it, films and pictures inside it, failures told."""

import re
from pathlib import Path

import pytest
from PIL import Image

from imagesmith.apps.report import Chapter, Exhibit, write_report


@pytest.fixture
def page(tmp_path: Path) -> str:
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "sheet.png")
    (tmp_path / "walk.mp4").write_bytes(b"film")
    made = Chapter(
        title="Making <images>",
        summary="64 images",
        seconds=3.2,
        paragraphs=("See `imagesmith generate <model>`.",),
        exhibits=(
            Exhibit(file=tmp_path / "sheet.png", caption="A sheet & more"),
            Exhibit(file=tmp_path / "walk.mp4", caption="A walk", is_wide=True),
        ),
        said=("[1 s] guard: mode collapse <now>",),
    )
    failed = Chapter(title="Variations", summary="needs a <generator>", has_failed=True)
    write_report(tmp_path / "report.html", [made, failed])
    return (tmp_path / "report.html").read_text("utf-8")


def test_pictures_and_films_are_inside(page: str) -> None:
    """The accident: a page that is mailed without the film that lay beside it."""
    sources = re.findall(r'src="([^"]*)"', page)
    assert [source.partition(";")[0] for source in sources] == ["data:image/png", "data:video/mp4"]
    assert sources[1] == "data:video/mp4;base64,ZmlsbQ=="


def test_a_part_that_failed_is_told_and_leads_nowhere(page: str) -> None:
    """The accident: a part that is silently missing, or a link to a chapter that is not there."""
    assert "not done:</span> needs a &lt;generator&gt;" in page
    targets, places = (re.findall(pattern, page) for pattern in (r'href="#([^"]+)"', r'<h2 id="([^"]+)"'))
    assert targets == places == ["part-0"]


def test_words_are_escaped_and_commands_are_set_as_such(page: str) -> None:
    """The accident: backticks on a page, or a run's log that becomes markup."""
    assert "<code>imagesmith generate &lt;model&gt;</code>" in page
    assert "mode collapse &lt;now&gt;" in page
    assert "Making &lt;images&gt;" in page
    assert "$" not in page, "a placeholder was left"


def test_every_picture_and_film_is_described(page: str) -> None:
    """The accident: a page that says nothing to those who cannot see it."""
    assert re.findall(r'(?:alt|aria-label)="(A [^"]+)"', page) == ["A sheet &amp; more", "A walk"]
