"""What decades do to a photograph, one trace at a time."""

import pytest
import torch

from imagesmith.degrade.old import OldPhoto
from imagesmith.tensors import generator_for

NOTHING = dict.fromkeys(("fading", "yellowing", "texture", "dust", "salt", "scratches"), (0.0, 0.0))


def _aged(image, **traces):
    return OldPhoto(**(NOTHING | traces))(image, generator_for(3))


@pytest.fixture
def gray():
    return torch.full((3, 80, 120), 0.4)


def test_nothing_leaves_the_picture_alone(gray):
    """A trace that is there at strength 0 is in every training pair."""
    assert torch.allclose(_aged(gray), gray)


def test_fading_takes_contrast_and_yellowing_takes_blue(gray):
    """Traces that only change brightness are mended by any histogram."""
    ramp = torch.linspace(0, 1, 120).expand(3, 80, 120)
    faded = _aged(ramp, fading=(0.5, 0.5))
    assert float(faded.max() - faded.min()) == pytest.approx(0.5, abs=0.01)
    red, _, blue = _aged(gray, yellowing=(0.5, 0.5)).mean((1, 2))
    assert blue < 0.8 * red


def test_texture_has_its_strength(gray):
    """A strength in another unit than it says."""
    textured = _aged(gray, texture=(0.05, 0.05))
    assert float(textured[0].std() / 0.4) == pytest.approx(0.05, rel=0.1)
    assert torch.equal(textured[0], textured[2]), "paper has no colour noise"


@pytest.mark.parametrize(
    ("trace", "least", "most"), [("dust", 0.001, 0.03), ("salt", 0.001, 0.01), ("scratches", 0.005, 0.06)]
)
def test_marks_are_few_and_strong(gray, trace, least, most):
    """Marks over half of the picture, or so faint that nobody sees them, are no damage that users have."""
    strength = {"dust": (6, 6), "salt": (0.005, 0.005), "scratches": (0.1, 0.1)}[trace]
    marked = _aged(gray, **{trace: strength})
    share = float(((marked - gray).abs().amax(0) > 0.1).float().mean())
    assert least < share < most
