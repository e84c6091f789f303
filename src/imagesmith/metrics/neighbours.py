"""What the neighbours of single images tell: are fakes real-looking, is everything real covered, is a fake a copy.

Distances are Euclidean, of features (N, F), computed block by block: N x N never exists.
"""

import math

import torch
from torch import Tensor

from imagesmith.errors import UsageError
from imagesmith.metrics.sets import Estimate, finite

_COPY_QUANTILE = 0.01


def precision(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> Estimate:
    """Share of fakes that lie where reals are: improved precision of Kynkaanniemi et al. 2019.

    The support of the reals is the union of balls that reach from each to its `neighbours`-th nearest other real.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise UsageError(
            f"expected more than {neighbours} images on each side for precision and recall, "
            f"got {len(real)} real and {len(fake)} fake"
        )
    real, fake = _centred(real, fake)
    reach = _nearest(real, real, neighbours + 1)[0][:, -1]  # the nearest is the real itself
    inside = sum(int(_reached(block, real, reach).sum()) for block in fake.split(_rows(real)))
    return _share(inside, len(fake))


def recall(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> Estimate:
    """Share of reals that lie where fakes are; see `precision`."""
    return precision(fake, real, neighbours=neighbours)


def precision_recall(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> tuple[Estimate, Estimate]:
    """`precision` and `recall`."""
    return precision(real, fake, neighbours=neighbours), recall(real, fake, neighbours=neighbours)


def copies(real: Tensor, fake: Tensor) -> Estimate:
    """Share of fakes that are as close to a real as only 1 % of reals are to the nearest that is not equal: ours.

    About 0.01 for fresh images of the same kind, 1 for a generator that knows its training images by heart.
    """
    real, fake = _centred(real, fake)
    real = real.unique(dim=0)  # duplicates would say that images of this kind lie at no distance from each other
    if len(real) < 2:
        raise UsageError(f"expected at least 2 different real images to look for copies, got {len(real)}")
    usual = _nearest(real, real, 2)[0][:, -1]
    found = _nearest(fake, real, 1)[0][:, 0]
    return _share(int((found <= usual.quantile(_COPY_QUANTILE)).sum()), len(fake))


def nearest(queries: Tensor, reference: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances and indices (N, count) of each query's nearest rows of `reference`, nearest first."""
    assert 0 < count <= len(reference), f"expected 1 to {len(reference)} neighbours, got {count}"
    reference, queries = _centred(reference, queries)
    return _nearest(queries, reference, count)


def _nearest(queries: Tensor, reference: Tensor, count: int) -> tuple[Tensor, Tensor]:
    found = [_nearest_of_block(block, reference, count) for block in queries.split(_rows(reference))]
    return torch.cat([distances for distances, _ in found]), torch.cat([indices for _, indices in found])


def _nearest_of_block(queries: Tensor, reference: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Found by fast distances, which for equal vectors are not quite zero, and measured again by differences."""
    indices = torch.cdist(queries, reference).topk(count, dim=1, largest=False).indices
    exact = torch.stack([(queries - reference[column]).norm(dim=1) for column in indices.unbind(dim=1)], dim=1)
    distances, order = exact.sort(dim=1)
    return distances, indices.gather(1, order)


def _reached(queries: Tensor, reference: Tensor, reach: Tensor) -> Tensor:
    """Which queries lie within the reach of a row of `reference`; that of copies is 0, which only differences are."""
    distances = torch.cdist(queries, reference)
    nearest_row = distances.argmin(dim=1)
    exact = (queries - reference[nearest_row]).norm(dim=1)
    return (distances <= reach).any(dim=1) | (exact <= reach[nearest_row])


def _rows(reference: Tensor) -> int:
    """Queries to treat at once, so that their distances take about 64 MB."""
    return max(1, 2**24 // len(reference))


def _centred(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 around the real mean: the smaller the numbers, the less is lost in differences of squares."""
    real, fake = finite(real).float(), finite(fake).float()
    mean = real.mean(dim=0)
    return real - mean, fake.to(real.device) - mean


def _share(count: int, total: int) -> Estimate:
    """With the deviation of a share of independent images."""
    share = count / total
    return Estimate(share, math.sqrt(share * (1 - share) / total))
