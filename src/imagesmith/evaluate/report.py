"""A report: rows, their summary, and all it takes to measure the same again."""

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from imagesmith.atomic import write_whole


@dataclass(frozen=True)
class Report:
    """What was measured: a row for each image, clip, metric or class, the scores in short, and their origin."""

    rows: list[dict[str, Any]]
    """{"name": "baby", "psnr_y": 33.9, ...}; an infinite value (equal images) is float("inf")."""
    summary: dict[str, float]
    """One number for each metric: the mean of the images or clips, or the metric of the whole set."""
    provenance: dict[str, Any]
    caption: str = ""
    """The protocol in a few lines, printed below the table."""
    rows_are: Literal["image", "clip", "metric", "class"] = "image"

    def save(self, path: str | Path) -> None:
        """Write strict JSON, whole or not at all; an infinite value becomes the string "inf"."""
        write_whole(Path(path), json.dumps(_strict(asdict(self)), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def table(self) -> str:
        """The rows (and the mean of images or clips) as aligned text, with the protocol below."""
        names = [name for name in self.rows[0] if name != "name"] if self.rows else list(self.summary)
        lines = [[self.rows_are, *names], *([row["name"], *(_cell(row[name]) for name in names)] for row in self.rows)]
        if self.rows_are in ("image", "clip"):
            lines.append(["mean", *(_cell(self.summary[name]) for name in names)])
        widths = [max(len(line[column]) for line in lines) for column in range(len(names) + 1)]
        text = [
            "  ".join(
                [
                    line[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
                ]
            )
            for line in lines
        ]
        return "\n".join([*text, self.caption])


def caption_of(provenance: dict[str, Any]) -> str:
    """The protocol of a restorer's report: how it was measured, on what, and what is approximate in it."""
    protocol = f"{provenance['model']} x{provenance['scale']}: {provenance['protocol']}; input: {provenance['input']}"
    return "; ".join([protocol, *([provenance["tiles"]] if "tiles" in provenance else [])])


def software() -> dict[str, str]:
    """What ran, and when."""
    return {
        "imagesmith": version("imagesmith"),
        "torch": torch.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cell(value: float | int | str | None) -> str:
    """Enough digits to tell scores apart, whatever their size."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def _strict(value: Any) -> Any:
    """The same with what JSON does not have, infinities and NaN, as strings."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
