"""What the neighbours of single images tell: are fakes real-looking, is everything real covered, is a fake a copy.

Distances are Euclidean, of features (N, F), computed block by block: N x N never exists.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from imagesmith.errors import UsageError
from imagesmith.metrics.sets import Estimate, finite

_BLOCK = 2048


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]; deviations are those of a share of independent images."""

    precision: Estimate
    """Fakes that lie where reals are."""
    recall: Estimate
    """Reals that lie where fakes are."""


def precision_recall(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019) of features (N, F).

    A set's support is the union of balls around its members that reach their `neighbours`-th nearest other member.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise UsageError(
            f"expected more than {neighbours} images on each side for precision and recall, "
            f"got {len(real)} real and {len(fake)} fake"
        )
    real, fake = _centred(real, fake)
    return PrecisionRecall(_share_inside(fake, real, neighbours), _share_inside(real, fake, neighbours))


def nearest(queries: Tensor, reference: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances and indices (N, count) of each query's nearest rows of `reference`, nearest first."""
    assert 0 < count <= len(reference), f"expected 1 to {len(reference)} neighbours, got {count}"
    queries, reference = _centred(queries, reference)
    return _nearest(queries, reference, count)


def _nearest(queries: Tensor, reference: Tensor, count: int) -> tuple[Tensor, Tensor]:
    found = [
        torch.topk(torch.cdist(block, reference), count, dim=1, largest=False, sorted=True)
        for block in queries.split(_rows(reference))
    ]
    return torch.cat([item.values for item in found]), torch.cat([item.indices for item in found])


def _share_inside(points: Tensor, members: Tensor, neighbours: int) -> Estimate:
    """The share of points inside the support of `members`."""
    reach = _nearest(members, members, neighbours + 1)[0][:, -1]  # the nearest is the member itself
    inside = sum(int((torch.cdist(block, members) <= reach).any(dim=1).sum()) for block in points.split(_rows(members)))
    share = inside / len(points)
    return Estimate(share, math.sqrt(share * (1 - share) / len(points)))


def _rows(reference: Tensor) -> int:
    """Queries to treat at once, so that their distances take about 64 MB."""
    return max(1, 2**24 // len(reference))


def _centred(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 around the real mean: the smaller the numbers, the less is lost in differences of squares."""
    mean = finite(real).double().mean(dim=0) if real.device.type != "mps" else finite(real).mean(dim=0)
    return (real - mean).float(), (finite(fake).to(real.device) - mean).float()
