"""The photographs on the demo's page: complete, self-contained, honest about losses."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from imagesmith.apps.report import Chapter, write_report
from imagesmith.apps.report_photos import Comparison, Enlargement, Photo, mean_gains


def photo(folder: Path, title: str, ours: dict[int, float]) -> Photo:
    def picture(name: str, size: tuple[int, int]) -> Path:
        path = folder / f"{title}-{name}.png"
        Image.new("RGB", size, "teal").save(path)
        return path

    return Photo(
        title=title,
        credit="drawn <here> & now",
        original=picture("original", (16, 8)),
        size=(16, 8),
        enlargements=tuple(
            Enlargement(
                scale=scale,
                input=picture(f"input{scale}", (16 // scale, 8 // scale)),
                bicubic=picture(f"bicubic{scale}", (16, 8)),
                restored=picture(f"restored{scale}", (16, 8)),
                input_size=(16 // scale, 8 // scale),
                psnr_y_bicubic=30.0,
                psnr_y_restored=score,
                seconds=0.5,
            )
            for scale, score in ours.items()
        ),
    )


@pytest.fixture
def page(tmp_path: Path) -> str:
    photos = [photo(tmp_path, "Cat & <dog>", {4: 31.5, 2: 29.0}), photo(tmp_path, "Tree", {4: 30.5, 2: 29.5})]
    shown = Comparison(photos, {"Recipe": "made small & large", "Runtime": "cpu <fp32>"})
    write_report(tmp_path / "report.html", [Chapter(title="Photographs", summary="two", comparison=shown)])
    return (tmp_path / "report.html").read_text("utf-8")


def test_mean_gains_are_per_scale_over_photographs(tmp_path: Path) -> None:
    """The accident: gains of two scales in one mean, a number that belongs to no protocol."""
    photos = [photo(tmp_path, "a", {2: 29.0, 4: 31.5}), photo(tmp_path, "b", {2: 29.5, 4: 30.5})]
    assert mean_gains(photos) == {4: 1.0, 2: -0.75}
    assert list(mean_gains(photos)) == [4, 2]


def test_nothing_is_fetched(page: str) -> None:
    """The accident: a font or script from elsewhere, and the page is blank where the demo promised to work: offline."""
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttpRequest", page)


def test_every_picture_is_inside_once_and_described(page: str) -> None:
    """The accident: a picture missing for one scale, or embedded twice and the page doubled."""
    images = re.findall(r'<img class="([^"]*)" alt="([^"]+)"', page)
    assert sorted(kind for kind, _ in images) == sorted(
        2 * ["original", "input x4", "bicubic x4", "restored x4", "input x2", "bicubic x2", "restored x2"]
    )


def test_every_stage_can_be_worked_without_a_mouse(page: str) -> None:
    """The accident: a slider of bare divs that keyboard and screen reader cannot reach."""
    assert len(re.findall(r'<input type="range"[^>]*aria-label="[^"]+"', page)) == 2
    for button in re.findall(r"<button[^>]*>", page):
        assert "aria-label" in button


def test_a_loss_is_shown_as_one(page: str) -> None:
    """The accident: a page that can only praise."""
    assert "+1.00" in page
    assert '<span class="loss">−0.75 dB</span>' in page
    assert '<span class="loss">−1.00 dB</span>' in page


def test_titles_and_facts_are_escaped_and_the_markup_closes(page: str) -> None:
    """The accident: a file called `<script>` that becomes one."""

    unclosed: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in {"meta", "img", "input", "br"}:
                unclosed.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert unclosed.pop() == tag

    Balance().feed(page)
    assert unclosed == []
    assert "Cat &amp; &lt;dog&gt;" in page
    assert "<dog>" not in page
    assert "$" not in page, "a placeholder was left"
