"""How well the heat map of `--uncertainty` tells where a result is wrong, and the table that turns it into grey levels.

    python benchmarks/uncertainty.py --photos FOLDER [--only NAME ...] [--count 24] [--side 160]

Every shipped restorer mends middles of photographs that its own training recipe degraded. Half of them fit the power
law (`CALIBRATION` in infer/heat.py, printed ready to be copied there), the other half tells what the map is worth: the
rank correlation (Spearman) with the true error, of all pixels and all blocks of 8x8, and the error expected and found
in the tenth of the pixels that the map marks most. Of the photographs of `inpaint` a fourth has one wide hole instead.
Writes results/uncertainty.json, in which the models that are not measured keep their rows. FOLDER must not hold a test
set.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, environment, save
from torch import Tensor
from torch.nn import functional as F

from imagesmith import CARDS, Restorer
from imagesmith.data.datasets import degrade_whole, middle
from imagesmith.data.files import Frame, ImageMeta, read_image
from imagesmith.data.pairs import images_by_name
from imagesmith.degrade import Chain, build_degradation
from imagesmith.infer.heat import disagreement, fitted
from imagesmith.nets import RESTORERS

BLOCK_PX = 8
_WIDE = (0.4, 0.6, 0.75)
"""Sides of the holes that are wider than any that networks learn from, as shares of the picture's."""


def spearman(a: Tensor, b: Tensor) -> float:
    """The correlation of the ranks of two (N,)."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def wide_hole(mask: Tensor, share: float) -> Tensor:
    """A mask of the size of `mask` (H, W) with one hole, in the middle, that has this `share` of its sides."""
    hole = torch.zeros_like(mask)
    height, width = (round(share * side) for side in mask.shape)
    top, left = (mask.shape[0] - height) // 2, (mask.shape[1] - width) // 2
    hole[top : top + height, left : left + width] = True
    return hole


def maps(restorer: Restorer, photos: list[Path], side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each photograph what the model disagrees about and its true error, each (H, W) in grey levels."""
    recipe = restorer.card.training["config"]["degradations"]
    chain = Chain(tuple(build_degradation(part["name"], part["options"]) for part in recipe))
    for index, path in enumerate(photos):
        photo = middle(read_image(path).pixels.permute(2, 0, 1)[:3], side)
        if photo.shape[0] != 3:
            continue
        degraded, target = degrade_whole(photo, chain, index, restorer.card.scale * BLOCK_PX)
        picture, planes = degraded[0].tensor_split([3])
        frame = Frame(picture.permute(1, 2, 0).contiguous(), "float32", ImageMeta("png", "RGB"))
        mask = planes[0] > 0.5 if restorer.card.task == "inpaint" else None
        if mask is not None and index // 2 % 4 == 0:
            mask = wide_hole(mask, share=_WIDE[index // 8 % len(_WIDE)])
            frame = replace(frame, pixels=target[0].masked_fill(mask, 0.5).permute(1, 2, 0).contiguous())
        if mask is not None and not mask.any():
            continue
        restored = restorer.frame(frame, mask=mask).pixels.permute(2, 0, 1)
        error = (restored.clamp(0, 1) - target[0]).abs().mean(dim=0) * 255
        yield disagreement(restorer, frame, mask), error


def measured(name: str, photos: list[Path], side: int) -> dict[str, Any]:
    """The power law of one half of the photographs and the figures of the other."""
    restorer = Restorer.load(name, dtype="fp32")
    found = list(maps(restorer, photos, side))
    known = [torch.cat([pair[k][pair[0] > 0] for pair in found[::2]]) for k in (0, 1)]
    factor, exponent = fitted(*known)
    blocks = [
        torch.cat([F.avg_pool2d(pair[k][None, None], BLOCK_PX).flatten() for pair in found[1::2]]) for k in (0, 1)
    ]
    doubt, error = (torch.cat([pair[k][pair[0] > 0] for pair in found[1::2]]) for k in (0, 1))
    expected = factor * doubt**exponent
    worst = doubt.argsort()[-len(doubt) // 10 :]
    return {
        "factor": round(factor, 3),
        "exponent": round(exponent, 3),
        "photos": len(found),
        "spearman_pixels": round(spearman(doubt, error), 3),
        "spearman_blocks": round(spearman(*(x[blocks[0] > 0] for x in blocks)), 3),
        "expected_mean": round(expected.mean().item(), 3),
        "true_mean": round(error.mean().item(), 3),
        "expected_in_worst_tenth": round(expected[worst].mean().item(), 3),
        "true_in_worst_tenth": round(error[worst].mean().item(), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    photos = list(images_by_name(options.photos).values())
    photos = photos[:: max(1, len(photos) // options.count)][: options.count]
    names = options.only or [name for name, card in CARDS.items() if card.net in RESTORERS]
    kept = options.results / "uncertainty.json"
    rows = json.loads(kept.read_text())["models"] if kept.exists() else {}
    for name in names:
        rows[name] = {**measured(name, photos, options.side), "side": options.side, "environment": environment()}
        print(f'    "{name}": ({rows[name]["factor"]}, {rows[name]["exponent"]}),  # {rows[name]}', flush=True)
    save("uncertainty", {"models": dict(sorted(rows.items()))}, options.results)


if __name__ == "__main__":
    main()
