"""What a bad line leaves of a picture."""

import pytest
import torch

from imagesmith.degrade.transmission import CutStream, MissingBlocks
from imagesmith.tensors import generator_for


@pytest.mark.parametrize("part", [MissingBlocks(mask_plane=True), CutStream(mask_plane=True)])
def test_the_mask_tells_what_was_lost_and_the_rest_is_whole(part):
    """A mask that misses a lost pixel leaves gray in the result; one that covers more throws good pixels away."""
    image = torch.rand(3, 70, 100, generator=generator_for(0))  # no multiple of a block
    for seed in range(20):
        result = part(image, generator_for(seed))
        lost = result[3].bool()
        assert 0 < lost.sum() < lost.numel()
        assert torch.equal(result[:3, ~lost], image[:, ~lost])
        assert (result[:3, lost] == 0.5).all()


@pytest.mark.parametrize("rows", [0.0, 1.0])
def test_blocks_are_whole_and_of_about_the_share(rows):
    """A loss that is no multiple of a block is none that a decoder leaves."""
    image = torch.rand(1, 128, 128, generator=generator_for(0))
    shares = []
    for seed in range(40):
        lost = MissingBlocks((0.1, 0.1), rows=rows, mask_plane=True)(image, generator_for(seed))[1]
        blocks = lost.unfold(0, 8, 8).unfold(1, 8, 8)
        assert torch.equal(blocks.amin((2, 3)), blocks.amax((2, 3)))
        shares.append(float(lost.mean()))
    assert sum(shares) / len(shares) == pytest.approx(0.1, abs=0.04)


def test_a_cut_stream_keeps_the_beginning():
    """What arrived arrived in order: rows above the cut are whole, rows below it are gone."""
    image = torch.rand(1, 64, 64, generator=generator_for(0))
    lost = CutStream((0.5, 0.6), mask_plane=True)(image, generator_for(1))[1].bool()
    order = lost[::16, ::16].flatten().int()
    assert torch.equal(order, order.sort().values)
    assert order.sum() in (6, 7, 8)


def test_decoders_fill_in_every_way():
    """Trained on gray alone, nothing recognises the blocks that a decoder repeats."""
    image = 0.25 + 0.5 * torch.rand(1, 64, 64, generator=generator_for(0))
    seen = set()
    for seed in range(30):
        changed = MissingBlocks()(image, generator_for(seed))
        values = changed[changed != image].unique()
        seen.add({(0.0,): "black", (0.5,): "gray"}.get(tuple(values.tolist()), "repeated"))
    assert seen == {"black", "gray", "repeated"}
