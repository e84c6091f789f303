"""Masks have the share they promise, and holes hide what lay there."""

import pytest
import torch

from imagesmith.degrade.masks import MASKS, Holes, free_form_mask
from imagesmith.errors import ConfigError
from imagesmith.tensors import generator_for


@pytest.mark.parametrize(("height", "width"), [(64, 64), (300, 200), (5, 7)])
@pytest.mark.parametrize("share", [(0.2, 0.3), (0.05, 0.05), (0.0, 0.0), (0.9, 1.0)])
def test_free_form_masks_hit_their_share(height, width, share):
    """A protocol that says '20 to 30 percent' must be true of every picture."""
    for seed in range(3):
        mask = free_form_mask(height, width, share, generator_for(seed))
        assert mask.shape == (height, width)
        assert mask.dtype == torch.bool
        slack = 0.5 / (height * width)
        assert share[0] - slack <= float(mask.double().mean()) <= share[1] + slack


def test_scratches_leave_most_of_the_picture():
    """Scratches over a third of the area would leave stripes of which nothing can be mended."""
    for seed in range(10):
        assert 0 < float(MASKS["scratches"](80, 80, (0.05, 0.35), generator_for(seed)).double().mean()) < 0.075


@pytest.mark.parametrize("kind", MASKS)
def test_holes_hide_what_lay_there_and_touch_nothing_else(kind):
    """A trace of the true pixel inside a hole is an answer that the network learns to copy."""
    image = torch.rand(3, 64, 80, generator=generator_for(0))
    result = Holes(kinds=(kind,))(image, generator_for(1))
    mask = result[3].bool()
    assert set(result[3].unique().tolist()) == {0.0, 1.0}
    assert (result[:3, mask] == 0.5).all()
    assert torch.equal(result[:3, ~mask], image[:, ~mask])


def test_free_form_holes_are_not_specks():
    """Holes of single pixels are filled by any average; a hole must have an inside."""
    mask = free_form_mask(128, 128, (0.2, 0.3), generator_for(4)).float()[None, None]
    inside = -torch.nn.functional.max_pool2d(-mask, 3, 1, 1)
    assert inside.sum() > 0.5 * mask.sum()


def test_an_unknown_kind_is_a_config_error():
    """A misspelt kind must be told before training, not by a worker in the middle of it."""
    with pytest.raises(ConfigError, match="free_form"):
        Holes(kinds=("freeform",))
