"""How often `--task auto` names the right kind of damage, and the very networks for it: 400 cases made of photographs.

    python benchmarks/task_auto.py PHOTOS [--cases 400] [--shrink 2] [--save]

Of each kind as many cases as of the others; what was done to a photograph is drawn from a seed. The kind is right with
any enlargement of a picture made small and any two networks for a mixture; exact is the factor by which it was made
small, and a network for each damage and no other. `--shrink` is for photographs that are JPEGs themselves: it wipes
their traces out, and pieces four of them together to keep the size.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, environment, save
from torch import Tensor

from imagesmith.data.files import Frame, read_image
from imagesmith.data.frame import ImageMeta
from imagesmith.degrade import Chain, build_degradation
from imagesmith.infer.auto import Findings, examine, plan_chain
from imagesmith.tensors import from_float, generator_for, imresize, to_float

MODELS = ("denoise", "jpeg", "deblur", "inpaint", "photo-x2", "photo-x4", "sr-x2", "sr-x3", "sr-x4")
Damage = tuple[str, dict[str, Any]]
NOISE: Damage = ("gaussian_noise", {"sigma": [8, 50], "rounded": 1.0})
LITTLE_NOISE: Damage = ("gaussian_noise", {"sigma": [0, 4], "rounded": 1.0})
JPEG: Damage = ("jpeg", {"quality": [10, 75]})
SHAKE: Damage = ("motion_blur", {"length": [7, 15]})
KINDS: dict[str, list[list[Damage]]] = {
    "clean": [[]],
    "noise": [[NOISE]],
    "jpeg": [[JPEG]],
    "blur": [[SHAKE, LITTLE_NOISE], [("gaussian_blur", {"sigma": [1.5, 3.0]})]],
    "mixed": [
        [SHAKE, ("gaussian_noise", {"sigma": [10, 30]}), ("jpeg", {"quality": [40, 75]})],
        [("gaussian_noise", {"sigma": [15, 40]}), ("jpeg", {"quality": [50, 75]})],
        [SHAKE, JPEG],
    ],
    "low resolution": [[("bicubic", {"scale": scale})] for scale in (2, 3, 4)],
}
MENDING = {"denoise", "jpeg", "deblur"}
"""Two or more of these are right for a mixture; each alone for its damage."""
MENDS = {"gaussian_noise": "denoise", "jpeg": "jpeg", "motion_blur": "deblur", "gaussian_blur": "deblur"}
"""The network for a damage alone."""
RIGHT = {"denoise": "noise", "jpeg": "jpeg", "deblur": "blur", "photo-x2": "mixed", "photo-x4": "mixed"}


def photographs(folder: Path, shrink: int) -> list[list[Path]]:
    """The files of a folder in groups of shrink², each of which becomes one photograph."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [files[k : k + shrink**2] for k in range(0, len(files) - shrink**2 + 1, shrink**2)]


def photograph(files: list[Path], shrink: int) -> Tensor:
    """(3, H, W) in [0, 1], both sides multiples of 12."""
    pieces = []
    for file in files:
        frame = read_image(file)
        image = frame.pixels[..., :3].permute(2, 0, 1)
        image = image if image.shape[1] <= image.shape[2] else image.transpose(1, 2)
        pieces.append(imresize(image, 1 / shrink) if shrink > 1 else image)
    size = [min(piece.shape[axis] for piece in pieces) for axis in (1, 2)]
    pieces = [piece[:, : size[0], : size[1]] for piece in pieces]
    rows = [torch.cat(pieces[k : k + shrink], dim=2) for k in range(0, len(pieces), shrink)]
    whole = to_float(torch.cat(rows, dim=1), "uint8")
    return whole[:, : whole.shape[1] // 12 * 12, : whole.shape[2] // 12 * 12]


def kind_chosen(models: tuple[str, ...]) -> str:
    """The kind of damage for which a chain of these models is the right one."""
    if not models:
        return "clean"
    if len(models) == 1:
        return "low resolution" if models[0].startswith("sr-") else RIGHT.get(models[0], "other")
    return "mixed" if set(models) <= MENDING else "other"


def exact_models(damages: Iterable[Damage]) -> set[str]:
    """The networks for just these damages; so little noise that nobody sees it asks for none."""
    told = (damage for damage in damages if damage != LITTLE_NOISE)
    return {f"sr-x{options['scale']}" if name == "bicubic" else MENDS[name] for name, options in told}


def case(number: int, groups: list[list[Path]], shrink: int) -> tuple[str, list[Damage], Findings]:
    """The kind of a case, what was done in it, and what is found."""
    kinds = list(KINDS)
    kind, rng = kinds[number % len(kinds)], generator_for(number)
    recipes = KINDS[kind]
    damages = recipes[number // len(kinds) % len(recipes)]
    image = photograph(groups[number // len(kinds) % len(groups)], shrink)
    if damages:
        image = Chain(tuple(build_degradation(name, options) for name, options in damages))(image, rng)
    pixels = from_float(image, "uint8").permute(1, 2, 0).contiguous()
    return kind, damages, examine(Frame(pixels, "uint8", ImageMeta(format="png", mode="RGB")))


def count(cases: int, groups: list[list[Path]], shrink: int) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Cases by kind and the kind chosen, and by kind those whose networks were exact; says what was taken for other."""
    table, exact = Counter[tuple[str, str]](), Counter[str]()
    for number in range(cases):
        kind, damages, findings = case(number, groups, shrink)
        chain = plan_chain(findings, MODELS)
        models = tuple(link.model for link in chain)
        chosen = kind_chosen(models)
        table[kind, chosen] += 1
        exact[kind] += set(models) == exact_models(damages)
        if chosen != kind:
            print(
                f"{number} {kind}: {'; '.join(map(str, chain)) or 'nothing'} ({findings}, {findings.noise_before_jpeg})"
            )
    return table, exact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="write the figures to the folder of results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    args = parser.parse_args()
    groups = photographs(args.photos, args.shrink)
    started, before = time.monotonic(), environment()
    table, exact = count(args.cases, groups, args.shrink)
    columns = [*KINDS, "other"]
    print("".join(f"{name:>16}" for name in ("", *columns, "exact")))
    for kind in KINDS:
        cells = (*(table[kind, chosen] for chosen in columns), exact[kind])
        print(f"{kind:>16}" + "".join(f"{cell:16d}" for cell in cells))
    of_kind = {kind: sum(table[kind, chosen] for chosen in columns) for kind in KINDS}
    found = {
        "right": sum(table[kind, kind] for kind in KINDS) / args.cases,
        "exact": exact.total() / args.cases,
        "untouched": table["clean", "clean"] / max(1, of_kind["clean"]),
    }
    told = ", ".join(f"{name} {share:.1%}" for name, share in found.items())
    print(f"{told}, {time.monotonic() - started:.0f} s")
    kinds = {kind: {"cases": of_kind[kind], "right": table[kind, kind], "exact": exact[kind]} for kind in KINDS}
    asked = {"cases": args.cases, "shrink": args.shrink, "photos": args.photos.name}
    if args.save:
        save("task_auto", found | asked | {"kinds": kinds} | before, args.results)


if __name__ == "__main__":
    main()
