"""Pictures that look the same, found by correlating small versions of them."""

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL_PX = 16
"""Side of the small versions that are compared."""
_COARSE_PX = 8
_COARSE_ALIKE, _FINE_ALIKE = 0.985, 0.98
_SURE_PX, _SURE_ALIKE = 64, 0.94
_ROWS, _COLUMNS = 512, 2048  # compared at once: their correlations stay in the processor's cache


def near_duplicates(small: Tensor) -> list[tuple[int, int]]:
    """(position, an earlier position that looks the same) of each picture that has one.

    `small` is uint8 (N, SMALL_PX, SMALL_PX, 3). Two pictures look the same if their gray versions at 8x8 correlate by
    0.985 and their colour versions by 0.98, which recompressed, resized, brighter and slightly cropped copies do.
    Pictures of one flat colour look like none. One matrix product: N * N / 2 * 64 multiplications. Source: ours.
    """
    assert small.shape[1:] == (SMALL_PX, SMALL_PX, 3), f"expected (N, {SMALL_PX}, {SMALL_PX}, 3), got {small.shape}"
    coarse, fine = _coarse_and_fine(small)
    found = []
    for start in range(0, len(small), _ROWS):
        block = coarse[start : start + _ROWS]
        best = [(block @ part.T).amax(dim=1) for part in coarse[:start].split(_COLUMNS) if start]
        best.append((block @ block.T).tril(-1).amax(dim=1))
        rows = (torch.stack(best).amax(dim=0) >= _COARSE_ALIKE).nonzero().flatten()
        if len(rows):  # few as a rule, and only they are looked at again
            alike = torch.cat([block[rows] @ coarse[:start].T, (block @ block.T).tril(-1)[rows]], dim=1)
            earlier = alike.argmax(dim=1)
            sure = (fine[start + rows] * fine[earlier]).sum(dim=1) >= _FINE_ALIKE
            found += zip((start + rows[sure]).tolist(), earlier[sure].tolist(), strict=True)
    return found


def alike(small: Tensor, others: Tensor) -> list[tuple[int, int]]:
    """(position, position in `others` of one that looks the same) of each that has one; see `near_duplicates`."""
    coarse, fine = _coarse_and_fine(small)
    other_coarse, other_fine = _coarse_and_fine(others)
    likeness, nearest = (coarse @ other_coarse.T).max(dim=1)
    sure = (likeness >= _COARSE_ALIKE) & ((fine * other_fine[nearest]).sum(dim=1) >= _FINE_ALIKE)
    return [(k, int(nearest[k])) for k in sure.nonzero().flatten().tolist()]


def look_the_same(picture: Tensor, other: Tensor) -> bool:
    """Whether two uint8 pictures (3, H, W) that `alike` found look the same in detail: pages of text do not.

    At 64x64, pages of different text correlate by 0.9, copies saved again and cropped by a hundredth by 0.95 or more.
    """
    one, two = (_unit(small_version(each, _SURE_PX)[None].float()) for each in (picture, other))
    return bool((one * two).sum() >= _SURE_ALIKE)


def small_version(picture: Tensor, side_px: int = SMALL_PX) -> Tensor:
    """A uint8 picture (3, H, W) as (`side_px`, `side_px`, 3); of a large one every n-th pixel is enough."""
    step = max(1, min(picture.shape[1:]) // (32 * side_px))
    return F.adaptive_avg_pool2d(picture[:, ::step, ::step].float(), side_px).to(torch.uint8).movedim(0, -1)


def _coarse_and_fine(small: Tensor) -> tuple[Tensor, Tensor]:
    """Gray versions at 8x8 and colour versions, flattened, for products that are correlations."""
    pixels = small.to(torch.float32).movedim(3, 1)
    coarse = F.avg_pool2d(pixels.mean(dim=1, keepdim=True), SMALL_PX // _COARSE_PX)
    return _unit(coarse), _unit(pixels)


def _unit(pixels: Tensor) -> Tensor:
    """(N, ...) flattened, without its mean, of length 1; nearly flat pictures become zero."""
    centred = pixels.flatten(1) - pixels.flatten(1).mean(dim=1, keepdim=True)
    contrast = centred.square().mean(dim=1, keepdim=True).sqrt()
    return torch.where(contrast > 2, F.normalize(centred, dim=1), torch.zeros_like(centred))
