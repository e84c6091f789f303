"""Many small pictures as one, and numbers over a run as curves: what a person looks at."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LEAST_PX = 64
"""Smaller pictures are enlarged by a whole factor to at least so many pixels a side, so that they can be seen."""
_PANEL_PX = (520, 220)
_COLOURS = ("#0060c0", "#c04000", "#208020", "#8020a0")
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 28, 26


def enlargement(height: int, width: int) -> int:
    """The whole factor by which a sheet enlarges pictures of this size."""
    return math.ceil(LEAST_PX / max(height, width))


def image_grid(images: Tensor, columns: int | None = None, rows: int | None = None) -> Tensor:
    """uint8 (N, C, H, W) -> (C, rows * H', columns * W'), row by row; about square by default, the rest black.

    Without `rows` there are as many as the images need, and never fewer.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = max(rows or 0, math.ceil(count / columns))
    factor = enlargement(height, width)
    empty = images.new_zeros(rows * columns - count, channels, height, width)
    cells = torch.cat([images, empty]).view(rows, columns, channels, height, width)
    grid = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)
    return grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


@dataclass(frozen=True)
class Panel:
    """One set of axes: a title and the names of the values drawn in it."""

    title: str
    names: tuple[str, ...]
    logarithmic: bool = False


def draw_curves(rows: Sequence[Mapping[str, Any]], panels: Sequence[Panel], *, x: str = "images_seen") -> Tensor:
    """The named values of `rows` over their `x`: uint8 (3, H, W), two panels a row; absent values are passed over."""
    width, height = _PANEL_PX
    picture = Image.new("RGB", (2 * width, math.ceil(len(panels) / 2) * height), "white")
    draw = ImageDraw.Draw(picture)
    for k, panel in enumerate(panels):
        _draw_panel(draw, rows, panel, x, (k % 2 * width, k // 2 * height))
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def _draw_panel(
    draw: ImageDraw.ImageDraw, rows: Sequence[Mapping[str, Any]], panel: Panel, x: str, corner: tuple[int, int]
) -> None:
    left, top = corner[0] + _LEFT, corner[1] + _TOP
    width, height = _PANEL_PX[0] - _LEFT - _RIGHT, _PANEL_PX[1] - _TOP - _BOTTOM
    font = ImageFont.load_default(12)

    def scaled(value: float) -> float:
        return math.log10(max(value, 1e-12)) if panel.logarithmic else value

    curves = {name: [(row[x], scaled(row[name])) for row in rows if row.get(name) is not None] for name in panel.names}
    points = [point for curve in curves.values() for point in curve]
    draw.text((left, corner[1] + 6), panel.title, fill="black", font=font)
    draw.rectangle((left, top, left + width, top + height), outline="#888888")
    if not points:
        return
    end = max(1, *(place for place, _ in points))
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = high - low or 1.0
    for share in (0.0, 0.5, 1.0):
        value = low + share * span
        text = f"{10**value if panel.logarithmic else value:.3g}"
        y = top + height * (1 - share)
        draw.text((left - 6, y), text, fill="#444444", font=font, anchor="rm")
    draw.text(
        (left + width, top + height + 4), f"{end:,.0f} {x.replace('_', ' ')}", fill="#444444", font=font, anchor="ra"
    )
    legend = left
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=False):
        line = [(left + width * place / end, top + height * (1 - (value - low) / span)) for place, value in curve]
        if len(line) > 1:
            draw.line(line, fill=colour, width=2)
        else:
            draw.point(line, fill=colour)
        draw.text((legend, top + height + 4), name, fill=colour, font=font)
        legend += draw.textlength(name, font=font) + 12
