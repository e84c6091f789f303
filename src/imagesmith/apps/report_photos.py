"""The report's photographs: a before/after slider for each, a table of what was measured, and how it was made."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

MIME = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg", ".mp4": "video/mp4"}


def data_uri(file: Path) -> str:
    """The content of a picture or film as the address that a page shows it by."""
    return f"data:{MIME[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


@dataclass(frozen=True, kw_only=True)
class Enlargement:
    """One photograph enlarged by one factor: the three pictures, as files, and what was measured on them."""

    scale: int
    input: Path
    bicubic: Path
    restored: Path
    input_size: tuple[int, int]
    """(width, height) in pixels."""
    psnr_y_bicubic: float
    psnr_y_restored: float
    seconds: float

    @property
    def gain(self) -> float:
        return self.psnr_y_restored - self.psnr_y_bicubic


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photograph of the report: the original picture, as a file, and its enlargements."""

    title: str
    credit: str
    original: Path
    size: tuple[int, int]
    """(width, height) in pixels."""
    enlargements: tuple[Enlargement, ...]


PROTOCOL = (
    "psnr_y: peak signal-to-noise ratio in dB on BT.601 studio-range luma of the result rounded to 8 bits, with as "
    "many pixels cropped at each edge as the scale says; higher is closer to the original. Means are over photographs."
)


def mean_gains(photos: Sequence[Photo]) -> dict[int, float]:
    """Mean gain over bicubic in dB (psnr_y) for every scale, largest scale first."""
    gains: dict[int, list[float]] = {}
    for photo in photos:
        for enlargement in photo.enlargements:
            gains.setdefault(enlargement.scale, []).append(enlargement.gain)
    return {scale: sum(values) / len(values) for scale, values in sorted(gains.items(), reverse=True)}


@dataclass(frozen=True)
class Comparison:
    """Photographs before and after; `facts` are the terms and descriptions of how the pictures were made."""

    photos: Sequence[Photo]
    facts: Mapping[str, str]

    def to_html(self) -> str:
        """Sliders, numbers and facts."""
        gains = mean_gains(self.photos)
        first = next(iter(gains))
        facts = dict(self.facts) | {"Photographs": "; ".join(f"{photo.title}: {photo.credit}" for photo in self.photos)}
        template = Template(resources.files("imagesmith.apps").joinpath("report_photos.html").read_text("utf-8"))
        return template.substitute(
            scale_choices="".join(_scale_choice(scale, scale == first) for scale in gains),
            figures="\n".join(_figure(photo) for photo in self.photos),
            protocol=escape(PROTOCOL),
            rows="\n".join(_rows(self.photos, gains)),
            facts="".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in facts.items()),
        )


def _scale_choice(scale: int, chosen: bool) -> str:
    checked = " checked" if chosen else ""
    return f'<label><input type="radio" name="scale" value="{scale}"{checked}>×{scale}</label>'


def _figure(photo: Photo) -> str:
    width, height = photo.size
    title = escape(photo.title)
    left = "".join(
        _picture(each.input, f"input x{each.scale}", f"{title}, the small input")
        + _picture(each.bicubic, f"bicubic x{each.scale}", f"{title}, enlarged by bicubic interpolation")
        for each in photo.enlargements
    )
    right = "".join(
        _picture(each.restored, f"restored x{each.scale}", f"{title}, enlarged by imagesmith")
        for each in photo.enlargements
    )
    captions = "".join(
        f'<span class="per-scale x{each.scale}">{_caption(each, photo)}</span>' for each in photo.enlargements
    )
    return f"""<figure class="compare">
<div class="stage" style="--ratio: {width} / {height}" data-width="{width}">
<div class="layer right">{right}{_picture(photo.original, "original", f"{title}, the original")}</div>
<div class="layer left">{left}</div>
<div class="divider"></div>
<input type="range" min="0" max="100" value="50" step="1" aria-label="{title}: share of the picture shown as before">
</div>
<figcaption><h3>{title}</h3>
<span class="zoom">
<button type="button" data-zoom="0.667" aria-label="Zoom out of {title}">−</button>
<button type="button" data-zoom="0" aria-label="Fit {title}">fit</button>
<button type="button" data-zoom="1.5" aria-label="Zoom into {title}">+</button>
</span>
<p>{captions}</p></figcaption>
</figure>"""


def _picture(file: Path, kind: str, description: str) -> str:
    return f'<img class="{kind}" alt="{description}" src="{data_uri(file)}">'


def _caption(each: Enlargement, photo: Photo) -> str:
    (in_width, in_height), (width, height) = each.input_size, photo.size
    return (
        f"{in_width} × {in_height} → {width} × {height} pixels in {each.seconds:.2f} s. "
        f"Bicubic {each.psnr_y_bicubic:.2f} dB, imagesmith {each.psnr_y_restored:.2f} dB (psnr_y): {_gain(each.gain)}."
    )


def _gain(gain: float) -> str:
    return f'<span class="{"gain" if gain > 0 else "loss"}">{_signed(gain)} dB</span>'


def _signed(gain: float) -> str:
    return f"{gain:+.2f}".replace("-", "−")  # a minus as long as its plus


def _rows(photos: Sequence[Photo], gains: Mapping[int, float]) -> Iterator[str]:
    """The table's body: every photograph by falling scale, then one mean for every scale."""
    for scale in gains:
        yield from (_row(photo, each) for photo in photos for each in photo.enlargements if each.scale == scale)
    for scale, gain in gains.items():
        chosen = [each for photo in photos for each in photo.enlargements if each.scale == scale]
        bicubic = sum(each.psnr_y_bicubic for each in chosen) / len(chosen)
        seconds = sum(each.seconds for each in chosen)
        yield (
            f'<tr class="mean"><td>mean</td><td>×{scale}</td><td></td><td>{bicubic:.2f}</td>'
            f"<td>{bicubic + gain:.2f}</td><td>{_gain(gain)}</td><td>{seconds:.2f} s in all</td></tr>"
        )


def _row(photo: Photo, each: Enlargement) -> str:
    (in_width, in_height), (width, height) = each.input_size, photo.size
    sizes = f"{in_width} × {in_height} → {width} × {height}"
    return (
        f"<tr><td>{escape(photo.title)}</td><td>×{each.scale}</td><td>{sizes}</td><td>{each.psnr_y_bicubic:.2f}</td>"
        f"<td>{each.psnr_y_restored:.2f}</td><td>{_gain(each.gain)}</td><td>{each.seconds:.2f} s</td></tr>"
    )
