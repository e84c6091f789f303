"""Training steps in a second as `imagesmith train` runs them, and the share of their time that waits for data.

    python benchmarks/speed_training.py restorer|rpgan [--steps 30] [--threads 2] [--set run.batch=16]

Prints JSON. `speed.py` starts it, so that the peak memory is that of one training.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from command import draw_photos
from timing import own_peak_mib, spread

from imagesmith.configs import override
from imagesmith.presets import rpgan, sr_x4
from imagesmith.train import gan, restore
from imagesmith.train.loop import Batch, Flow, fit
from imagesmith.train.state import TrainState

WARM_UP = 5
"""Steps that are not counted."""


class EnoughError(Exception):
    """Ends a training that has been measured."""


@dataclass
class Record:
    """Of every step: its seconds, and how many of them it waited for its batch."""

    steps: int
    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    state: TrainState | None = None
    arithmetic: str = ""

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        begun = time.perf_counter()
        for _ in range(WARM_UP + self.steps):
            batch = next(batches)
            waited = time.perf_counter() - begun
            yield batch  # the loop computes, and comes back for the next one
            now = time.perf_counter()
            self.waited.append(waited)
            self.seconds.append(now - begun)
            begun = now
        raise EnoughError

    def fit(self, state: TrainState, flow: Flow, **others: Any) -> TrainState:
        """The loop itself, with its batches watched."""
        self.state, self.arithmetic = state, str(others["arithmetic"])
        if others["run"].compile is True or state.choices.get("compiled"):
            self.arithmetic += ", compiled"
        return fit(state, replace(flow, batches=lambda start: self.watched(flow.batches(start))), **others)

    def result(self) -> dict[str, Any]:
        assert self.state
        seconds, waited = self.seconds[WARM_UP:], self.waited[WARM_UP:]
        batch = self.state.choices["batch"]
        return {
            "step_seconds": spread(seconds),
            "batch": batch,
            "images_per_second": round(batch * len(seconds) / sum(seconds), 1),
            "percent_waiting_for_data": round(100 * sum(waited) / sum(seconds), 2),
            "arithmetic": self.arithmetic,
            "parameters": {
                name: sum(parameter.numel() for parameter in net.parameters()) for name, net in self.state.nets.items()
            },
        }


def train_sr(record: Record, folder: Path, changes: list[str]) -> None:
    """The preset sr-x4 on photographs of 500x500."""
    draw_photos(folder / "data", 24)
    with patch.object(restore, "fit", record.fit):
        restore.train_restorer(
            override(sr_x4(str(folder / "data"), str(folder / "run")), ["run.batch=16", *changes]), quiet=True
        )


def train_rpgan(record: Record, folder: Path, changes: list[str]) -> None:
    """The preset rpgan on pictures of 64x64."""
    draw_photos(folder / "data", 128, 64)
    with patch.object(gan, "fit", record.fit):
        gan.train_gan(override(rpgan(str(folder / "data"), str(folder / "run")), changes), quiet=True)


TRAININGS: dict[str, Callable[[Record, Path, list[str]], None]] = {"restorer": train_sr, "rpgan": train_rpgan}


def measure(name: str, steps: int, changes: list[str]) -> dict[str, Any]:
    """Seconds of a step, images in a second, stall, peak memory."""
    record = Record(steps)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        try:
            TRAININGS[name](record, Path(folder), changes)
        except EnoughError:
            return record.result() | {"peak_mib": own_peak_mib()}
    raise RuntimeError(f"expected a training of more than {WARM_UP + steps} steps, it ended before")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", choices=TRAININGS)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", action="append", default=[], help="change the preset, as in `imagesmith train`")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options.training, options.steps, options.set), allow_nan=False))


if __name__ == "__main__":
    main()
