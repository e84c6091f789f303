"""The network alone: sr-x4 on 320x180 pixels, in turns with RLFN's layer shapes and with its own bare convolutions.

    python benchmarks/inference.py [--model NAME|FILE] [--device cpu] [--size 320x180] [--threads 2] [--rounds 40]

Every network runs the best way this machine has for it: contiguous and channels_last are both timed, the faster counts.
"""

import argparse
import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rlfn import Rlfn
from roofline import bare_convolutions
from timing import RESULTS, environment, save, spread, take_turns
from torch import nn

from imagesmith.runtime.device import Runtime, placed, prepare
from imagesmith.zoo import load_model

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def candidates(
    net: nn.Module, rlfn: nn.Module, size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> dict[str, Callable[[], object]]:
    """Every way to run: {"ours contiguous": ..., "rlfn contiguous": ..., "limit contiguous": ..., ...}."""
    ways: dict[str, Callable[[], object]] = {}
    for layout, memory_format in LAYOUTS.items():
        runtime = Runtime(device, dtype, layout == "channels_last", reason="benchmark")
        ours = prepare(net, runtime)
        peer: Any = copy.deepcopy(rlfn)
        peer = peer.to(device, dtype, memory_format=memory_format)
        x = torch.rand(1, 3, *size).to(device).to(memory_format=memory_format)
        ways[f"ours {layout}"] = finished(functools.partial(ours, x), device)
        ways[f"rlfn {layout}"] = finished(functools.partial(peer, x.to(dtype)), device)
        ways[f"limit {layout}"] = finished(bare_convolutions(placed(net, runtime), x), device)
    return ways


def finished(call: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """The call together with the wait for its last kernel."""

    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def macs(net: nn.Module, size: tuple[int, int]) -> int:
    """Multiplications for one picture (height, width) by a network that computes at the input's resolution."""
    return sum(conv.weight.numel() for conv in net.modules() if isinstance(conv, nn.Conv2d)) * math.prod(size)


def measure(
    net: Any, rlfn: nn.Module, *, size: tuple[int, int], device: torch.device, dtype: torch.dtype, rounds: int
) -> dict[str, Any]:
    """Spreads of all ways, and the three that count."""
    with torch.inference_mode():
        seconds = take_turns(candidates(net, rlfn, size, device, dtype), rounds=rounds, warm_up=3)
    spreads = {name: spread(values) for name, values in seconds.items()}
    best = {
        who: min((f"{who} {layout}" for layout in LAYOUTS), key=lambda name: spreads[name]["median"])
        for who in ("ours", "rlfn", "limit")
    }
    ours, peer, limit = (spreads[best[who]]["median"] for who in ("ours", "rlfn", "limit"))
    return {
        "seconds": spreads,
        "best": best,
        "speedup_over_rlfn": round(peer / ours, 3),
        "percent_of_convolution_limit": round(100 * limit / ours, 1),
        "gmacs_per_second": round(macs(net.fused(), size) / ours / 1e9, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sr-x4", help="shipped name, weight file or run folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="320x180", help="width and height of the picture")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    width, height = map(int, options.size.split("x"))
    model, rlfn = load_model(options.model), Rlfn().eval()
    result: dict[str, Any] = {
        "what": f"{model.card.name}, {options.size} -> x{model.card.scale}, network only",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "environment": environment(options.threads),
        "parameters": {"ours": model.card.params, "rlfn": sum(p.numel() for p in rlfn.parameters())},
    }
    for name, dtype in DTYPES.items():
        result[name] = measured = measure(
            model.net, rlfn, size=(height, width), device=device, dtype=dtype, rounds=options.rounds
        )
        for who, way in measured["best"].items():
            print(f"{name} {who:6} {1000 * measured['seconds'][way]['median']:8.1f} ms  {way}")
        print(
            f"{name} {measured['speedup_over_rlfn']:.2f} times as fast as RLFN's layer shapes, "
            f"{measured['percent_of_convolution_limit']:.0f} % of the bare convolutions' rate"
        )
    save("inference" if device.type == "cpu" else f"inference_{device.type}", result, options.results)


if __name__ == "__main__":
    main()
