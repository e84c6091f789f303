"""Which pictures of a set are kept apart for measuring, the same ones in every run, and what may not be trained on."""

import hashlib
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from imagesmith.data.duplicates import alike, look_the_same, small_version
from imagesmith.errors import UsageError
from imagesmith.tensors import generator_for


def one_of_each_stretch(count: int, of: int) -> Tensor:
    """`count` positions (int64) below `of`, all if there are fewer: one by chance of each of `count` equal stretches.

    They ascend and are the same in every run. So each class of a set in the order of its classes gives its share, and
    of one whose classes take turns none gives all, as every tenth picture would.
    """
    rng, count = generator_for(0), min(count, of)
    ends = [k * of // max(count, 1) for k in range(count + 1)]
    drawn = [low + int(torch.randint(high - low, (), generator=rng)) for low, high in itertools.pairwise(ends)]
    return torch.tensor(drawn, dtype=torch.int64)


def split(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Positions (int64) of the pictures to train on and of those kept apart for measuring, both ascending.

    At most a tenth is kept apart, so below ten pictures none.
    """
    is_apart = torch.zeros(count, dtype=torch.bool)
    is_apart[one_of_each_stretch(min(held_out, count // 10), count)] = True
    return (~is_apart).nonzero().flatten(), is_apart.nonzero().flatten()


def keep_every_class(labels: Tensor, training: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
    """Both, ascending, where the pictures of a class of which none is left to train on are not kept apart."""
    is_lost = torch.isin(labels[held_out], labels[training], invert=True)
    return torch.cat([training, held_out[is_lost]]).sort().values, held_out[~is_lost]


def without_copies(images: Tensor, training: Tensor, held_out: Tensor) -> Tensor:
    """Those of the positions `training` in uint8 (N, C, H, W) that are no copy, to the last bit, of one held out.

    Pictures of one flat colour are copies of none, for sets of slices and masks are full of them.
    """
    if not len(held_out):
        return training
    apart = [images[k] for k in held_out.tolist() if images[k].min() < images[k].max()]
    whole, rows = {_digest(image) for image in apart}, {_digest(_middle_row(image)) for image in apart}
    kept = [
        k for k in training.tolist() if _digest(_middle_row(images[k])) not in rows or _digest(images[k]) not in whole
    ]
    return torch.tensor(kept, dtype=torch.int64)


def count_different(images: Tensor, positions: Tensor) -> int:
    """How many of the uint8 (N, C, H, W) at these positions differ, by a bit or more, from those before them."""
    by_row: dict[bytes, list[int]] = {}
    for k in positions.tolist():
        by_row.setdefault(_digest(_middle_row(images[k])), []).append(k)
    return sum(len({_digest(images[k]) for k in alike}) if len(alike) > 1 else 1 for alike in by_row.values())


def divide(
    pictures: Sequence[Tensor], names: Sequence[str], validation_images: int
) -> tuple[list[int], list[int], list[str]]:
    """Positions of uint8 pictures (3, H, W) to train on and to validate with, and a sentence for each in neither.

    Kept apart for validation is at most a tenth, and at least one; what looks like one of those is not trained on.
    Where most look alike, as stills of a film do, one alone is kept apart, and if that leaves no half to train on,
    nothing but its exact copies is left out, and a sentence says so. UsageError where all are equal to the last bit.
    """
    small = torch.stack([small_version(picture) for picture in pictures])
    for count in (max(1, min(validation_images, len(pictures) // 10)), 1):
        apart = one_of_each_stretch(count, len(pictures)).tolist()
        found = [(k, apart[nearest]) for k, nearest in alike(small, small[apart])]
        copies = {k: v for k, v in found if k not in apart and look_the_same(pictures[k], pictures[v])}
        if 2 * len(copies) <= len(pictures) - count:
            notes = []
            break
    else:
        first = names[apart[0]]
        notes = [
            f"only exact copies of the {len(copies)} that look like {first}, as most pictures do: the score may tell "
            "how well they were learnt by heart"
        ]
        copies = {k: v for k, v in copies.items() if torch.equal(pictures[k], pictures[v])}
        if len(copies) == len(pictures) - 1:
            raise UsageError(f"expected different pictures, got {len(names)} copies of {first}; add others")
    training = [k for k in range(len(pictures)) if k not in apart and k not in copies]
    left_out = [f"{names[k]}: looks like {names[v]}, which is kept apart for validation" for k, v in copies.items()]
    return training, apart, notes + left_out


def _middle_row(image: Tensor) -> Tensor:
    """(C, W): of gigabytes, whole pictures are read only where this is a row of another one as well."""
    return image[:, image.shape[1] // 2]


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
