"""Restoring, by network and size: ours, what others would do with the same weights, and what the machine allows."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from command import difference, draw_photos
from contender import WAYS
from safetensors.torch import load_file
from timing import HERE, spread, take_turns

from imagesmith.zoo.weights import find_weights

PARTS = ("file", "pixels")
"""From file to file, and from pixels in memory to pixels in memory."""


@dataclass(frozen=True)
class Setting:
    """What is measured, and how often."""

    model: str
    side: int
    ways: Sequence[str] = tuple(WAYS)
    device: str = "cpu"
    dtype: str = "auto"
    threads: int = 2
    tile: int = 256
    rounds: int = 7


class Contender:
    """A running `contender.py`; `missing` says why there is none."""

    def __init__(self, way: str, setting: Setting, picture: Path, result: Path) -> None:
        self.way, self.result = way, result
        result.parent.mkdir()
        self._said = result.with_name("said.txt")  # a pipe that nobody reads would fill and stop it
        command = [sys.executable, str(HERE / "contender.py"), way, setting.model, str(picture), str(result)]
        command += ["--device", setting.device, "--dtype", setting.dtype, "--tile", str(setting.tile)]
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"OMP_NUM_THREADS": str(setting.threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                bufsize=1,
            )
        self.missing: str | None = self._answer().get("missing")

    def tell(self, word: str) -> dict[str, Any]:
        """The answer, once it is done."""
        assert self._process.stdin
        self._process.stdin.write(word + "\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the way '{self.way}' ended without an answer:\n{self._said.read_text()}")
        return json.loads(line)

    def end(self) -> dict[str, Any]:
        """What it knows of itself; the process is gone then."""
        facts = {} if self.missing else self.tell("end")
        self._process.communicate()
        return facts


def measure(setting: Setting) -> dict[str, Any]:
    """By way: spreads of both parts, peak memory and facts; and how far ours is from the others and from the limits."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        draw_photos(folder / "in", 1, setting.side)
        (picture,) = (folder / "in").iterdir()
        contenders = [Contender(way, setting, picture, folder / way / "result.png") for way in setting.ways]
        running = [contender for contender in contenders if not contender.missing]
        turns = {
            (contender.way, part): partial(contender.tell, part)
            for contender in running
            for part in PARTS
            if (contender.way, part) != ("limit", "file")
        }
        seconds = take_turns(turns, rounds=setting.rounds, warm_up=1)
        ways: dict[str, Any] = {other.way: {"missing": other.missing} for other in contenders if other.missing}
        for contender in running:
            is_limit = contender.way == "limit"  # which measures itself
            spreads = {} if is_limit else {part: spread(seconds[contender.way, part]) for part in PARTS}
            ways[contender.way] = spreads | contender.end()
            if contender.way not in ("plain", "limit") and "plain" in setting.ways:
                apart = difference(contender.result.parent, folder / "plain")
                ways[contender.way]["grey_levels_from_plain"] = {key: apart[key] for key in ("max", "mean")}
    about = {key: getattr(setting, key) for key in ("model", "side", "device", "threads", "tile")}
    return {**about, "weights": weights_digest(setting.model), "ways": ways, **verdict(ways)}


def weights_digest(model: str) -> str:
    """sha256 of the tensors of a model as bf16 holds them, whatever its card says; of another project's, of the file.

    The digits beyond change neither what a computation takes nor, by more than rounding, what comes of it.
    """
    path = find_weights(model)
    if path.suffix != ".safetensors":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.to(torch.bfloat16).flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def verdict(ways: dict[str, Any]) -> dict[str, Any]:
    """How many times as fast as each other way ours is, and its share of what the machine allows in percent."""
    ours = {part: ways["ours"][part]["median"] for part in PARTS}
    result: dict[str, Any] = {
        "times_as_fast": {
            part: {
                name: round(way[part]["median"] / ours[part], 3)
                for name, way in ways.items()
                if name not in ("ours", "limit") and part in way
            }
            for part in PARTS
        }
    }
    if limit := ways.get("limit"):
        least = max(limit["gmacs"] / limit["best_layer_gmacs_per_second"], limit["gb"] / limit["memory_gb_per_second"])
        result["percent_of_roofline"] = round(100 * least / ours["pixels"], 1)
    return result


def report(result: dict[str, Any]) -> None:
    """The result of one network and size in a few lines."""
    print(f"{result['model']}, {result['side']}x{result['side']}, {result['device']}", flush=True)
    for name, way in result["ways"].items():
        if "missing" in way:
            print(f"  {name:12} {way['missing']}")
            continue
        times = "".join(f"{part} {1e3 * way[part]['median']:8.1f} ms, " for part in PARTS if part in way)
        print(f"  {name:12} {times}peak {way['peak_mib']:.0f} MiB")
    if "percent_of_roofline" in result:
        print(f"  {result['percent_of_roofline']} % of the roofline", flush=True)
