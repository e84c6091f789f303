"""The record of a run: console lines, `history.jsonl` and TensorBoard, all by images seen.

Statistics are summed where they are, on the device if need be, and read and written once per tick.
"""

import json
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from imagesmith.atomic import reason, write_whole
from imagesmith.errors import OutputError


class RunLog:
    """Writes to a run folder; a run that resumes at `images_seen` drops what was logged beyond it."""

    def __init__(self, folder: Path, images_seen: int = 0, *, quiet: bool = False) -> None:
        self.folder, self.quiet = folder, quiet
        self.history = folder / "history.jsonl"
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._started = time.monotonic()
        self._hook, threading.excepthook = threading.excepthook, self._after_thread
        self._board = self._begin_at(images_seen)

    def _after_thread(self, ended: threading.ExceptHookArgs) -> None:
        """A full disk ends TensorBoard's thread, and is told where the next row is added: no traceback before that."""
        if not (isinstance(ended.exc_value, OSError) and type(ended.thread).__module__.startswith("tensorboard.")):
            self._hook(ended)

    def rewind(self, images_seen: int) -> None:
        """Drop what was logged beyond `images_seen`, where the run goes on."""
        self._sums.clear()
        self._counts.clear()
        self._board.close()
        self._board = self._begin_at(images_seen)

    def _begin_at(self, images_seen: int) -> SummaryWriter:
        """Cut the history there; TensorBoard cuts its curves when a new file says so."""
        kept = [row for row in read_history(self.folder) if row["images_seen"] <= images_seen]
        write_whole(self.history, "".join(json.dumps(row) + "\n" for row in kept))
        with _writing(self.folder):
            return SummaryWriter(str(self.folder / "tensorboard"), purge_step=images_seen + 1)

    def say(self, text: str) -> None:
        """One line for the person at the console, also kept in `console.log`."""
        line = f"[{time.monotonic() - self._started:7.0f} s] {text}"
        _append(self.folder / "console.log", line)
        if not self.quiet:
            tell(line)

    def add(self, scalars: Mapping[str, Tensor | float]) -> None:
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
        strict = {name: value if math.isfinite(value) else None for name, value in row.items()}
        _append(self.history, json.dumps(strict, allow_nan=False))
        with _writing(self.folder):
            for name, value in row.items():
                if name != "images_seen":
                    self._board.add_scalar(name, value, images_seen)
        return row

    def note(self, text: str, images_seen: int) -> None:
        """A remark on the course of the run for TensorBoard; `say` it as well."""
        with _writing(self.folder):
            self._board.add_text("notes", text, images_seen)

    def picture(self, name: str, image: Tensor, images_seen: int) -> None:
        """A sample sheet (3, H, W) uint8 for TensorBoard."""
        with _writing(self.folder):
            self._board.add_image(name, image, images_seen)

    def close(self) -> None:
        """Flush and close TensorBoard's file."""
        try:
            with _writing(self.folder):
                self._board.close()
        finally:
            threading.excepthook = self._hook


def tell(line: str) -> None:
    """One line for the person at the console, or for nobody: a terminal that was closed ends no training."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's history so far; a line that is none, as one cut short by a crash, is passed over."""
    path = folder / "history.jsonl"
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("images_seen"), int):
                rows.append(row)
    return rows


def _append(path: Path, line: str) -> None:
    with _writing(path), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {reason(error, path)}; the same command goes on from the newest checkpoint"
        ) from error
