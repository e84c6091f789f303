"""The metrics of a set of images by name: `fid` on the 2015 Inception, `kid_cifarcnn` on a classifier, `swd` on pixels.

A Frechet distance on other features than those of the published Inception is never called FID.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from imagesmith.errors import UsageError, not_one_of
from imagesmith.evaluate.extractors import INCEPTION, INCEPTION_FILES, Extractor, on_white
from imagesmith.evaluate.fakes import sample
from imagesmith.metrics.neighbours import copies, precision, recall
from imagesmith.metrics.sets import Estimate, FeatureStatistics, frechet_distance, kernel_distance, sliced_wasserstein
from imagesmith.tensors import generator_for
from imagesmith.zoo.cards import CARDS

SWD = "swd"
SWD_IMAGES = 16_384
"""Most images of each set whose patches are compared, the number of the paper."""
SWD_PROTOCOL = (
    "Karras et al. 2018: 7x7 patches of a Laplacian pyramid, as many images of either set, drawn from all of it where "
    f"it has more and {SWD_IMAGES} at most, times 1000, mean over the levels"
)
LEAST_IMAGES = 10
"""Fewer cannot be halved for the floor and still have neighbours."""
_BATCH = 4096


@dataclass(frozen=True)
class Statistic:
    """One comparison of real and fake features, both (N, F)."""

    compute: Callable[[Tensor, Tensor], Estimate]
    better: Literal["lower", "higher"]
    protocol: str


def _frechet(real: Tensor, fake: Tensor) -> Estimate:
    distance = frechet_distance(*(FeatureStatistics.of(features.split(_BATCH)) for features in (real, fake)))
    return Estimate(distance, None)


STATISTICS: dict[str, Statistic] = {
    "fd": Statistic(_frechet, "lower", "squared Frechet distance, Heusel et al. 2017; falls as images grow in number"),
    "kid": Statistic(kernel_distance, "lower", "Binkowski et al. 2018: cubic kernel, unbiased, 100 subsets of 1000"),
    "precision": Statistic(precision, "higher", "Kynkaanniemi et al. 2019, 3 neighbours"),
    "recall": Statistic(recall, "higher", "Kynkaanniemi et al. 2019, 3 neighbours"),
    "copies": Statistic(copies, "lower", "ours: share as close to a real image as 1 % of these are to another one"),
}


SHARES = ("precision", "recall", "copies")
"""Statistics that are shares of images."""


class Wanted(NamedTuple):
    """One metric that was asked for; `extractor` is None for those that need no features."""

    name: str
    statistic: str
    extractor: str | None


def shipped_extractors() -> list[str]:
    """The names of the classifiers that come with the package."""
    return [name for name, card in CARDS.items() if card.task == "classify"]


def default_metrics(given: Extractor | None, channels: int) -> list[str]:
    """Everything, on the given features or on those of the shipped classifier that suits the images."""
    if given is not None:
        return [*(_reported(statistic, given.name) for statistic in STATISTICS), SWD]
    suited = _suited(channels)
    return [*(_reported(statistic, suited) for statistic in STATISTICS if suited in CARDS), SWD]


def _suited(channels: int) -> str:
    """The classifier that suits images of so many channels."""
    return "mnistcnn" if channels <= 2 else "cifarcnn"


def parse_metrics(names: Sequence[str], given: Extractor | None, channels: int = 3) -> list[Wanted]:
    """What the names mean; UsageError for an unknown one and for one that needs a features file.

    A bare name means the given features, and is reported under its full name. Without any, shares are counted on
    those of the shipped classifier that suits the images; only distances are published under their bare names.
    """
    extractors = shipped_extractors() + ([given.name] if given else [])
    known = {SWD: Wanted(SWD, SWD, None)}
    for statistic in STATISTICS:
        for extractor in extractors:
            known[f"{statistic}_{extractor}"] = Wanted(_reported(statistic, extractor), statistic, extractor)
        bare = f"{statistic}_{given.name if given else _suited(channels)}"
        if given or (statistic in SHARES and bare in known):
            known[statistic] = known[bare]
    if given and given.name.startswith(INCEPTION):
        known["fid"] = known["fd"]
    for name in names:
        if name not in known and name in {"fid", *STATISTICS}:
            suffix = "fd" if name == "fid" else name
            others = ", ".join(f"{suffix}_{extractor}" for extractor in extractors) or SWD
            raise UsageError(
                f"'{name}' needs the 2015 Inception network: give its weights, {INCEPTION_FILES[0]}, as features\n"
                f"without that file there is {others}"
            )
        if name not in known:
            raise UsageError(not_one_of("metrics", name, dict.fromkeys(["fid", *STATISTICS, *known])))
    if not names:
        raise UsageError(f"expected at least one metric out of {', '.join(known)}, got none")
    return list(dict.fromkeys(known[name] for name in names))


def _reported(statistic: str, extractor: str) -> str:
    if extractor == INCEPTION:
        return "fid" if statistic == "fd" else statistic
    return f"{statistic}_{extractor}"


def split_reference(reals: int, fakes: int) -> tuple[Tensor, Tensor]:
    """Two disjoint parts of the reference, as indices: the rest, and as many as there are fakes or else half of it."""
    order = torch.randperm(reals, generator=generator_for(reals))
    held = min(fakes, reals // 2)
    return order[held:], order[:held]


def statistic_row(wanted: Wanted, real: Tensor, fake: Tensor) -> dict[str, Any]:
    """The row of one metric from features (N, F): its value, and its floor, real against held-out real."""
    statistic = STATISTICS[wanted.statistic]
    rest, held = (index.to(real.device) for index in split_reference(len(real), len(fake)))
    return _row(wanted.name, statistic.compute(real, fake), statistic.compute(real[rest], real[held]), statistic.better)


def patch_row(real: Tensor, fake: Tensor) -> dict[str, Any]:
    """The row of the sliced Wasserstein distance of images uint8 (N, C, H, W), of which as many as fit are drawn."""
    real, fake = (on_white(_drawn(images, SWD_IMAGES)) for images in (real, fake))
    rest, held = split_reference(len(real), len(fake))
    fewest = min(len(real), len(fake))
    equal = (_drawn(images, fewest) for images in (real, fake))
    value, floor = (_mean(sliced_wasserstein(*pair)) for pair in (equal, (real[rest], real[held])))
    return _row(SWD, Estimate(value, None), Estimate(floor, None), "lower")


def _drawn(images: Tensor, most: int) -> Tensor:
    """At most so many of the images, of all classes."""
    return images if len(images) <= most else images[sample(len(images), most)]


def _mean(by_level: Mapping[int, float]) -> float:
    return sum(by_level.values()) / len(by_level)


def _row(name: str, value: Estimate, floor: Estimate, better: str) -> dict[str, Any]:
    return {
        "name": name,
        "value": value.value,
        "deviation": value.deviation,
        "floor": floor.value,
        "better": better,
    }
