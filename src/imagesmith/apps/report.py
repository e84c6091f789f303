"""The demo's report: one self-contained HTML page with a chapter for every part of the demo.

Everything the page needs is inside it (pictures and films as data URIs, style, script), so it opens offline and can be
mailed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from imagesmith import __version__
from imagesmith.apps.report_photos import Comparison, data_uri
from imagesmith.atomic import write_whole

LEAD = (
    "Everything below was computed on this machine, just now, from what is installed here. Each part says what you "
    "see, and what you should not expect of it."
)


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A picture, or a film (.mp4), as a file, and the words under it."""

    file: Path
    caption: str
    is_wide: bool = False
    """Takes a row of its own; otherwise three stand side by side."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One part of the demo: what it did and what it shows."""

    title: str
    summary: str
    """What was done, in one line."""
    paragraphs: tuple[str, ...] = ()
    """What one sees, and what one should not expect."""
    exhibits: tuple[Exhibit, ...] = ()
    said: tuple[str, ...] = ()
    """Lines of a program's log that are worth reading."""
    comparison: Comparison | None = None
    seconds: float = 0.0
    has_failed: bool = False


def write_report(path: Path, chapters: Sequence[Chapter]) -> None:
    """Write the page; a chapter that has failed is told at the top and shows nothing."""
    template = Template(resources.files("imagesmith.apps").joinpath("report.html").read_text("utf-8"))
    page = template.substitute(
        version=escape(__version__),
        lead=escape(LEAD),
        contents="\n".join(_entry(number, chapter) for number, chapter in enumerate(chapters)),
        chapters="\n".join(
            _chapter(number, chapter) for number, chapter in enumerate(chapters) if not chapter.has_failed
        ),
    )
    write_whole(path, page)


def is_report(path: Path) -> bool:
    """Whether a file is a page that `write_report` wrote, of whatever version."""
    try:
        return b'<meta name="generator" content="imagesmith ' in path.read_bytes()
    except OSError:
        return False


def _entry(number: int, chapter: Chapter) -> str:
    """A line of the table of contents."""
    title, summary = escape(chapter.title), escape(chapter.summary)
    time = f"<time>{chapter.seconds:.0f} s</time>"
    if chapter.has_failed:
        return f'<li>{title}<span><span class="loss">not done:</span> {summary}</span>{time}</li>'
    return f'<li><a href="#part-{number}">{title}</a><span>{summary}</span>{time}</li>'


def _chapter(number: int, chapter: Chapter) -> str:
    parts = [f'<h2 id="part-{number}">{escape(chapter.title)}</h2>']
    parts += [f"<p>{_text(paragraph)}</p>" for paragraph in chapter.paragraphs]
    if chapter.exhibits:
        parts.append(f'<div class="exhibits">{"".join(_figure(exhibit) for exhibit in chapter.exhibits)}</div>')
    if chapter.said:
        lines = escape("\n".join(chapter.said))
        parts.append(f'<h3>What the program said</h3>\n<pre class="said" tabindex="0">{lines}</pre>')
    if chapter.comparison:
        parts.append(chapter.comparison.to_html())
    return "\n".join(["<section>", *parts, "</section>"])


def _text(words: str) -> str:
    """HTML of words in which `commands` stand between backticks."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(words))


def _figure(exhibit: Exhibit) -> str:
    caption, uri = escape(exhibit.caption), data_uri(exhibit.file)
    if exhibit.file.suffix == ".mp4":
        shown = f'<video src="{uri}" aria-label="{caption}" controls autoplay loop muted playsinline></video>'
    else:
        shown = f'<img alt="{caption}" src="{uri}">'
    kind = ' class="wide"' if exhibit.is_wide else ""
    return f"<figure{kind}>{shown}<figcaption>{caption}</figcaption></figure>"
