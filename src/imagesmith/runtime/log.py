"""The record of a run: console lines, `history.jsonl` and TensorBoard, all by images seen.

Statistics are summed on the device and read once per tick, so logging costs no synchronisation per step.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Writes to a run folder; a run that resumes at `images_seen` drops what was logged beyond it."""

    def __init__(self, folder: Path, images_seen: int = 0, *, quiet: bool = False) -> None:
        self.folder, self.quiet = folder, quiet
        folder.mkdir(parents=True, exist_ok=True)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._started = time.monotonic()
        self.history = folder / "history.jsonl"
        kept = [row for row in read_history(folder) if row["images_seen"] <= images_seen]
        self.history.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=images_seen + 1)

    def say(self, text: str) -> None:
        """One line for the person at the console, also kept in `console.log`."""
        line = f"[{time.monotonic() - self._started:7.0f} s] {text}"
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)
        with open(self.folder / "console.log", "a") as file:
            file.write(line + "\n")

    def add(self, scalars: dict[str, Tensor | float]) -> None:
        """Add one step's scalars to the running means of this tick."""
        for name, value in scalars.items():
            number = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
            self._sums[name] = self._sums[name] + number if name in self._sums else number.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def tick(self, images_seen: int, **more: float) -> dict[str, Any]:
        """Write the means since the last tick and `more` to history and TensorBoard; returns the row."""
        row: dict[str, Any] = {"images_seen": images_seen}
        row |= {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        row |= more
        self._sums.clear()
        self._counts.clear()
        with open(self.history, "a") as file:
            strict = {name: value if math.isfinite(value) else None for name, value in row.items()}
            file.write(json.dumps(strict, allow_nan=False) + "\n")
        for name, value in row.items():
            if name != "images_seen":
                self._board.add_scalar(name, value, images_seen)
        return row

    def picture(self, name: str, image: Tensor, images_seen: int) -> None:
        """A sample sheet (3, H, W) uint8 for TensorBoard."""
        self._board.add_image(name, image, images_seen)

    def close(self) -> None:
        """Flush and close TensorBoard's file."""
        self._board.close()


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's history so far; a last line cut short by a crash is dropped."""
    path = folder / "history.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
