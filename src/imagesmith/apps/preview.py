"""`imagesmith data preview`: the pairs that a training would learn from, as one picture, before it begins."""

import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from imagesmith.apps.terminal import plain
from imagesmith.atomic import check_place
from imagesmith.configs import RestorerConfig
from imagesmith.data.datasets import Pair
from imagesmith.data.files import Frame, write_image
from imagesmith.data.grid import image_grid
from imagesmith.data.video.info import counted
from imagesmith.metrics import METRICS
from imagesmith.tensors import from_float
from imagesmith.train.restore import build_chain, load_training_photos, training_patches, what_is_used

_GAP_PX = 4


def run_preview(config: RestorerConfig, out: Path, *, count: int, overwrite: bool = False) -> None:
    """Write the first `count` pairs of the run that `config` describes to `out`, and print what they are."""
    check_place(out, overwrite=overwrite)
    chain = build_chain(config)
    photos = load_training_photos(config, chain)
    patches = training_patches(config, photos, chain)
    pairs = [patches[k] for k in range(count)]
    sheet = draw_pairs(pairs)
    write_image(Frame.of(sheet), out, format="png", overwrite=overwrite)
    for skipped in photos.skipped:
        print(plain(f"skipped {skipped}"))
    for sentence in what_is_used(photos):
        print(sentence)
    recipe = " + ".join(_in_words(part.model_dump()) for part in config.degradations)
    print(f"damage: {recipe or f'that of the files in {config.data.degraded}'}")
    if chain.scale == 1:
        scores = [float(METRICS["psnr_y"].function(degraded[None, :3], target[None], 0)) for degraded, target in pairs]
        low, middle, high = min(scores), statistics.median(scores), max(scores)
        print(f"psnr_y of the degraded patches: {low:.1f} to {high:.1f} dB, median {middle:.1f}")
    columns = "clean | degraded" + " | what the network is told besides" * bool(chain.planes)
    print(f"{counted(count, 'pair')}, {columns}: {out}")


def _in_words(part: dict[str, Any]) -> str:
    """The name of a degradation and, in brackets, those that it holds."""
    values = [value if isinstance(value, list | tuple) else [value] for value in part.get("options", {}).values()]
    inner = [_in_words(each) for value in values for each in value if isinstance(each, dict)]
    return part["name"] + (f"({', '.join(inner)})" if inner else "")


def draw_pairs(pairs: list[Pair]) -> Tensor:
    """uint8 (3, H, W): for each pair clean | degraded, enlarged without smoothing | its planes, white for 1."""
    cells = torch.stack([_cell(degraded, target) for degraded, target in pairs])
    columns = max(1, round((len(pairs) * cells.shape[2] / cells.shape[3]) ** 0.5))
    return F.pad(image_grid(cells, columns), (_GAP_PX, 0, _GAP_PX, 0), value=255)


def _cell(degraded: Tensor, target: Tensor) -> Tensor:
    scale = target.shape[-1] // degraded.shape[-1]
    enlarged = degraded.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    planes = [plane.expand(3, -1, -1) for plane in enlarged[3:]]
    row = torch.cat([F.pad(each, (0, 1), value=1.0) for each in (target, enlarged[:3], *planes)], 2)
    return from_float(F.pad(row, (0, _GAP_PX - 1, 0, _GAP_PX), value=1.0), "uint8")
