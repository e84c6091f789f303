"""One way to restore a picture, in a process of its own so that its peak memory is its own; started by `speed.py`.

    python benchmarks/contender.py WAY MODEL PICTURE RESULT [--device cpu] [--tile 256] [--dtype auto]

Says in JSON, a line each, when it is ready and when it has done what it was told: `file` restores PICTURE into RESULT,
`pixels` the same without files, `end` tells the peak memory and ends.
"""

import argparse
import importlib.util
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from inference import finished
from PIL import Image
from roofline import Layer, Limits, layers
from straightforward import Fitted, restored
from timing import own_peak_mib
from torch import Tensor, nn

from imagesmith import Restorer
from imagesmith.runtime.device import placed
from imagesmith.runtime.tiling import plan_for
from imagesmith.zoo import load_model

PAD = 10
"""Pixels around a tile in the loop of the Real-ESRGAN kind."""
NEEDS = {"onnxruntime": ("onnxruntime", "onnxscript"), "openvino": ("openvino",)}
"""Packages that a way takes, which this package does not depend on."""
_SAMPLE_PX = 64


class Way:
    """The plain script around some network: float32, Pillow for the files."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.picture, self.result, self.device = options.picture, options.result, options.device
        self.photo = np.array(Image.open(self.picture).convert("RGB"))
        self.net = self.network(options)

    def network(self, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
        """float (1, 3, H, W) -> float (1, 3, H * scale, W * scale)."""
        return Fitted(load_model(options.model).net.to(options.device))

    def file(self) -> None:
        photo = np.array(Image.open(self.picture).convert("RGB"))
        Image.fromarray(restored(self.net, photo, self.device)).save(self.result)

    def pixels(self) -> None:
        restored(self.net, self.photo, self.device)

    def facts(self) -> dict[str, Any]:
        """What is to be known of it beside its times."""
        return {}


class Tiles(Way):
    """Tile after tile with a fixed margin that is cut off again, put together in one tensor; half precision on GPUs."""

    def network(self, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
        dtype = torch.float16 if options.device.startswith("cuda") else torch.float32
        net = Fitted(load_model(options.model).net.to(options.device, dtype))

        def in_tiles(x: Tensor) -> Tensor:
            x, scale, (height, width) = x.to(dtype), net.scale, x.shape[-2:]
            whole = x.new_zeros(1, 3, height * scale, width * scale)
            for top, left in itertools.product(range(0, height, options.tile), range(0, width, options.tile)):
                bottom, right = min(top + options.tile, height), min(left + options.tile, width)
                above, before = min(PAD, top), min(PAD, left)
                y = net(x[..., top - above : bottom + PAD, left - before : right + PAD])
                y = y[..., above * scale :, before * scale :][..., : (bottom - top) * scale, : (right - left) * scale]
                whole[..., top * scale : bottom * scale, left * scale : right * scale] = y
            return whole.float()

        return in_tiles


class Compiled(Way):
    """The plain script with `torch.compile`; the first call, which compiles, is told apart."""

    def network(self, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
        net = torch.compile(super().network(options))
        start = time.perf_counter()
        restored(net, self.photo, self.device)
        self._compiling = time.perf_counter() - start
        return net

    def facts(self) -> dict[str, Any]:
        return {"first_call_seconds": round(self._compiling, 1)}


class Exported(Way):
    """The plain script around a network that another runtime computes."""

    def exportable(self, options: argparse.Namespace) -> nn.Module:
        self.device = "cpu"  # the runtime takes the picture from there and moves it itself
        return Fitted(load_model(options.model).net)

    def blank(self) -> Tensor:
        return torch.zeros(1, 3, *self.photo.shape[:2])


class OnnxRuntime(Exported):
    """The exported network in ONNX Runtime, for pictures of this size."""

    def network(self, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
        import onnxruntime

        content = io.BytesIO()
        program: Any = torch.onnx.export(self.exportable(options), (self.blank(),), dynamo=True, verbose=False)
        program.save(content)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        provider = "CUDAExecutionProvider" if options.device.startswith("cuda") else "CPUExecutionProvider"
        session = onnxruntime.InferenceSession(content.getvalue(), settings, providers=[provider])
        (name,) = (given.name for given in session.get_inputs())
        return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


class OpenVino(Exported):
    """The converted network in OpenVINO, in the precision that it prefers here."""

    def network(self, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
        import openvino

        model = openvino.convert_model(torch.export.export(self.exportable(options), (self.blank(),)))
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        return lambda x: torch.from_numpy(compiled(x.numpy())[0])


class Ours(Way):
    """`Restorer` as `imagesmith restore` uses it."""

    def network(self, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
        self.restorer = Restorer.load(options.model, device=options.device, dtype=options.dtype)
        return self.restorer.net

    def file(self) -> None:
        summary = self.restorer.path(self.picture, self.result, overwrite=True)
        assert summary.exit_code == 0, summary

    def pixels(self) -> None:
        self.restorer(self.photo)

    def facts(self) -> dict[str, Any]:
        return {"runtime": str(self.restorer.runtime)}


class Limit(Ours):
    """Not a way: the rates that this machine reaches at most in the network of ours, and what has to be computed."""

    def network(self, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
        net: Any = super().network(options)
        height, width = self.photo.shape[:2]
        plan = plan_for(net, height, width)
        down, across = (
            [min(end + plan.halo, cuts[-1]) - max(0, start - plan.halo) for start, end in itertools.pairwise(cuts)]
            for cuts in (plan.rows, plan.columns)
        )
        # the convolutions as PyTorch computes them, each by itself
        direct = placed(load_model(options.model).net, self.restorer.runtime)
        self._limits = Limits(direct, self.blank(max(down), max(across)), partial(finished, device=self._place))
        self._work = work(layers(direct, self.blank(_SAMPLE_PX, _SAMPLE_PX)), height * width / _SAMPLE_PX**2)
        return net

    def pixels(self) -> None:
        self._limits.measure()

    @property
    def _place(self) -> torch.device:
        return self.restorer.runtime.device

    def blank(self, height: int, width: int) -> Tensor:
        net = self.restorer.net
        x = torch.full((1, net.channels + net.planes, height, width), 0.5, device=self._place)
        return x.to(memory_format=self.restorer.runtime.memory_format)

    def facts(self) -> dict[str, Any]:
        return super().facts() | self._limits.facts() | self._work


def work(once: list[Layer], times: float) -> dict[str, float]:
    """What has to be multiplied, and read and written, at least."""
    totals = {"gmacs": sum(layer.macs for layer in once), "gb": sum(layer.bytes for layer in once)}
    return {name: round(total * times / 1e9, 3) for name, total in totals.items()}


WAYS: dict[str, type[Way]] = {
    "ours": Ours,
    "plain": Way,
    "tiles": Tiles,
    "compile": Compiled,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "limit": Limit,
}


def answers() -> TextIO:
    """Standard output for answers alone; what libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("model")
    parser.add_argument("picture", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="of ours")
    parser.add_argument("--tile", type=int, default=256)
    options = parser.parse_args()
    out = answers()
    missing = [name for name in NEEDS.get(options.way, ()) if importlib.util.find_spec(name) is None]
    if missing:
        print(json.dumps({"missing": f"{', '.join(missing)} not installed"}), file=out)
        return
    way = WAYS[options.way](options)
    print(json.dumps({"ready": True}), file=out)
    for told in map(str.strip, sys.stdin):
        if told == "end":
            print(json.dumps({"peak_mib": own_peak_mib(), **way.facts()}), file=out)
            return
        getattr(way, told)()
        print(json.dumps({"done": told}), file=out)


if __name__ == "__main__":
    main()
