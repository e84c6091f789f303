"""Write docs/numbers.md from what scores.py and restoration.py measured, beside what others published."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from published import CHECK, PUBLISHED, Published
from timing import HERE, RESULTS

from imagesmith.evaluate import PROTOCOL
from imagesmith.zoo.cards import CARDS

DOCS = HERE.parent / "docs"
TEST_SETS = ("set5", "set14")
SCALES = (2, 3, 4)
HEADINGS = ("network", "parameters", "trained on", "Set5", "Set14", "source")

Scores = dict[str, dict[str, float]]
"""Means by test set or protocol and metric, as a card's `protocol` has them."""


def write_numbers(docs: Path = DOCS, results: Path = RESULTS) -> None:
    """Write docs/numbers.md from the JSON files that are there."""
    text = ["# Numbers", "", "Written by `benchmarks/scores.py` and `benchmarks/restoration.py`; do not edit."]
    if (results / "scores.json").exists():
        text += _super_resolution(json.loads((results / "scores.json").read_text())["results"])
    if (results / "restoration.json").exists():
        text += _restoration(json.loads((results / "restoration.json").read_text()))
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "numbers.md").write_text("\n".join(text) + "\n")


def table(rows: Iterable[tuple[str, ...]], headings: tuple[str, ...]) -> list[str]:
    """A Markdown table."""
    lines = [headings, ("---",) * len(headings), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def in_words(scores: dict[str, float]) -> str:
    """The means of one test set in a cell."""
    if {"psnr_y", "ssim_y"} == scores.keys():
        return _pair(scores["psnr_y"], scores["ssim_y"])
    return ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items())


def _pair(psnr: float, ssim: float | None) -> str:
    return f"{psnr:.2f}" + ("" if ssim is None else f" / {ssim:.4f}")


# --- super-resolution ---


def _super_resolution(measured: dict[str, Scores]) -> list[str]:
    """For every scale a table of what was measured here and what others published, best Set5 last."""
    text = [
        "",
        f"PSNR (dB) / SSIM of the luma, `psnr_y` and `ssim_y`: {PROTOCOL.format(crop='`scale`')}. BT.601 studio-range "
        "luma; SSIM with an 11x11 Gaussian window of sigma 1.5 where it lies inside the image. Inputs are the stored "
        "low-resolution images of the test sets, which this package's bicubic reproduces bit for bit.",
        "",
        "Rows in **bold** were measured here, on the CPU, by `evaluate_restorer`; the others are quoted. "
        f"{CHECK.capitalize()} means that nobody here has compared the figures with the paper. Networks trained on "
        "DIV2K or DF2K have seen many times more and larger photographs than ours.",
    ]
    for scale in SCALES:
        text += ["", f"## x{scale}", "", *table(_rows(scale, measured), HEADINGS)]
    return text


def _rows(scale: int, measured: dict[str, Scores]) -> list[tuple[str, ...]]:
    ours = [("**bicubic**", "", "", measured[f"bicubic x{scale}"])]
    for name, card in CARDS.items():
        for dtype in ("fp32", "bf16"):
            scores = measured.get(f"{name} {dtype}")
            if scores is not None and card.scale == scale:
                ours.append((f"**{name}**, {dtype}", f"{card.params:,}", card.train_data, scores))
    rows = [
        (scores["set5"]["psnr_y"], (name, params, data, *(in_words(scores[s]) for s in TEST_SETS), "measured here"))
        for name, params, data, scores in ours
    ]
    rows += [(entry.set5[0], _quoted(entry)) for entry in PUBLISHED if entry.scale == scale]
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _quoted(entry: Published) -> tuple[str, ...]:
    scores = (_pair(*pair) if pair else "" for pair in (entry.set5, entry.set14))
    return (entry.name, entry.params, entry.train_data, *scores, entry.source)


# --- other damages ---


def _restoration(result: dict[str, Any]) -> list[str]:
    """What restoration.py measured, a row for each figure: asked, measured, published."""
    text = [
        "",
        "## Noise, JPEG, blur, holes",
        "",
        "Means over the images, on the CPU in float32. Noise is given to the networks unclipped, as the papers do, "
        "unless the row says otherwise; all results are rounded to 8 bits, and nothing is cropped. LIVE1's luma is "
        "BT.601 studio-range, stored as gray JPEG files; the unrestored files then score what was published. "
        "Published scores are quoted; nobody here has compared them with the papers.",
    ]
    rows = [
        (
            row["what"],
            row["network"],
            row["metric"],
            _asked(row["asked"], row["most"]),
            f"**{_number(row['measured'])}**",
            row["beside"],
            row["published"],
        )
        for row in result["rows"]
    ]
    headings = ("what", "network", "metric", "asked", "measured", "measured beside it", "published")
    return [*text, "", *table(rows, headings)]


def _asked(value: float | None, most: bool) -> str:
    return "" if value is None else f"at {'most' if most else 'least'} {_number(value)}"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
