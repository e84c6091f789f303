"""Whole pictures on one device: ours against the tile loop that is common elsewhere, with the same weights.

    python benchmarks/gpu_speed.py [--device cuda] [--model NAME|FILE] [--size 1920x1080] [--rounds 20]

The loop cuts tiles of a fixed side with 10 pixels around each, in float16 (float32 on a CPU), keeps the whole result on
the device, and turns it into bytes on the CPU. Both go from a uint8 picture in memory to a uint8 picture in memory.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import skimage
import torch
from timing import RESULTS, environment, save, spread, take_turns
from torch import Tensor
from torch.nn import functional as F

from imagesmith.data.frame import Frame, ImageMeta
from imagesmith.infer.restore import Restorer
from imagesmith.zoo import load_model

PAD_PX = 10


@torch.inference_mode()
def tile_loop(net: Any, photo: Tensor, device: str, side: int) -> Tensor:
    """uint8 (H, W, 3) -> uint8 (H * scale, W * scale, 3), tile by tile in the dtype of `net`."""
    x = photo.permute(2, 0, 1).unsqueeze(0).to(device, next(net.parameters()).dtype) / 255
    height, width = x.shape[-2:]
    scale = net.scale
    result = x.new_zeros(1, 3, height * scale, width * scale)
    for top in range(0, height, side):
        for left in range(0, width, side):
            above, before = max(0, top - PAD_PX), max(0, left - PAD_PX)
            bottom, right = min(height, top + side), min(width, left + side)
            y = _fitted(net, x[..., above : bottom + PAD_PX, before : right + PAD_PX])
            rows = slice((top - above) * scale, (bottom - above) * scale)
            columns = slice((left - before) * scale, (right - before) * scale)
            result[..., top * scale : bottom * scale, left * scale : right * scale] = y[..., rows, columns]
    return (result.float().cpu().clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).contiguous()


def _fitted(net: Any, tile: Tensor) -> Tensor:
    """`net(tile)`, the tile repeated at its right and bottom edge up to the sizes that the network takes."""
    height, width = tile.shape[-2:]
    padded = F.pad(tile, (0, -width % net.multiple_of, 0, -height % net.multiple_of), mode="replicate")
    return net(padded)[..., : height * net.scale, : width * net.scale]


def candidates(model: str, device: str, photo: Tensor, side: int) -> dict[str, Callable[[], Tensor]]:
    """The ways to do the same, by name; the first is what a user gets without options."""
    frame = Frame(photo, "uint8", ImageMeta("png", "RGB"))
    ways: dict[str, Callable[[], Tensor]] = {}
    for title, dtype in {"ours": "auto", "ours fp32": "fp32"}.items():
        restorer = Restorer.load(model, device=device, dtype=dtype)
        ways[title] = lambda restorer=restorer: restorer.frame(frame).pixels
    dtype = torch.float32 if device == "cpu" else torch.float16
    net = load_model(model).net.to(device, dtype)
    ways["tile loop"] = partial(tile_loop, net, photo, device, side)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="sr-x4", help="shipped name, weight file or run folder")
    parser.add_argument("--size", default="1920x1080", help="width and height of the picture")
    parser.add_argument("--tile", type=int, default=512, help="side of the loop's tiles")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    astronaut = torch.from_numpy(skimage.data.astronaut())
    photo = astronaut.repeat(math.ceil(height / 512), math.ceil(width / 512), 1)[:height, :width].contiguous()
    start = environment(torch.get_num_threads())
    ways = candidates(options.model, options.device, photo, options.tile)
    pictures = {name: way().int() for name, way in ways.items()}
    seconds = {name: spread(each) for name, each in take_turns(ways, rounds=options.rounds, warm_up=2).items()}
    peer = seconds["tile loop"]["median"]
    result: dict[str, Any] = {
        "what": f"{options.model}, a picture of {options.size}, from memory to memory",
        "pixels": width * height,
        "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device,
        "environment": start,
        "seconds": seconds,
        "speedup": {name: round(peer / each["median"], 3) for name, each in seconds.items()},
        "grey_levels_from_ours": {name: int((each - pictures["ours"]).abs().max()) for name, each in pictures.items()},
    }
    for name, each in seconds.items():
        print(f"{name:10} {1000 * each['median']:8.1f} ms, {result['speedup'][name]:.2f} times as fast as the loop")
    save(f"gpu_speed_{options.model}", result, options.results)


if __name__ == "__main__":
    main()
