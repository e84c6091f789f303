"""Metrics of clips: what moves as it should is best, what flickers, lags or wobbles is worse, frame after frame."""

import math

import pytest
import torch
from skimage import data
from torch import Tensor

from imagesmith.errors import ImageError
from imagesmith.metrics import CLIP_METRICS
from imagesmith.metrics.temporal import STILL_LEVELS, flicker, target_flow, tof, warping_error


@pytest.fixture(scope="module")
def panned() -> Tensor:
    """Four frames of a camera that pans over a photograph by (2, 1) pixels a frame, (T, 3, 96, 112)."""
    return clip((2, 1))


@pytest.fixture(scope="module")
def still() -> Tensor:
    return clip((0, 0))


def clip(step: tuple[int, int]) -> Tensor:
    photo = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1).double() / 255
    starts = [(20 + step[1] * t, 150 + step[0] * t) for t in range(4)]
    return torch.stack([photo[:, top : top + 96, left : left + 112] for top, left in starts])


def noisy(frames: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1), dtype=frames.dtype)
    return (frames + sigma / 255 * noise).clamp(0, 1)


@pytest.mark.parametrize("name", CLIP_METRICS)
class TestLaws:
    def test_card(self, name: str):
        card = CLIP_METRICS[name]
        assert (card.name, card.direction) == (name, "lower")
        assert card.needs in ("clip", "motion")
        assert card.paper

    def test_a_value_for_each_pair_whether_scored_at_once_or_one_by_one(self, name: str, panned: Tensor):
        """The accident: films are scored pair by pair to bound memory, and mean something else than clips in tests."""
        card, restored = CLIP_METRICS[name], noisy(panned, 6)
        values = card.function(restored, panned, 4)
        assert values.shape == (3,)
        assert values.dtype == torch.float64
        for t in range(3):
            pair = slice(t, t + 2)
            flow = [target_flow(panned[pair], 4)] if card.needs == "motion" else []
            alone = card.function(restored[pair], panned[pair], 4, *flow)
            assert float(alone) == pytest.approx(float(values[t]), rel=1e-4)

    def test_flickering_noise_is_worse_the_more(self, name: str, panned: Tensor):
        values = [float(CLIP_METRICS[name].function(noisy(panned, s), panned, 4).mean()) for s in (0, 3, 6, 12, 24)]
        assert values == sorted(values)
        assert len(set(values)) == 5

    def test_the_crop_is_cut_off_every_edge(self, name: str, still: Tensor):
        """The accident: the crop that the report states is not the one that was measured."""
        flickering = still.clone()
        flickering[1::2] = 1 - flickering[1::2]
        flickering[..., 4:-4, 4:-4] = still[..., 4:-4, 4:-4]
        score = CLIP_METRICS[name].function
        assert float(score(flickering, still, 4).mean()) == pytest.approx(0, abs=1e-9)
        assert float(score(flickering, still, 3).mean()) > 1e-4

    def test_gray_clips_are_accepted(self, name: str, panned: Tensor):
        gray = panned.mean(dim=1, keepdim=True)
        assert CLIP_METRICS[name].function(noisy(gray, 6), gray, 0).isfinite().all()

    def test_a_frame_smaller_than_the_crop_is_said(self, name: str):
        with pytest.raises(ImageError, match="crop"):
            CLIP_METRICS[name].function(torch.zeros(2, 3, 8, 64), torch.zeros(2, 3, 8, 64), 4)


def test_a_moved_clip_scores_what_sampling_between_pixels_costs(panned: Tensor):
    """The accident: the mask hides so much, or the flow fits so well, that nothing is measured; or the wrong way."""
    own = float(warping_error(panned, panned, 4).mean())
    backwards = float(warping_error(panned.flip(0), panned, 4).mean())
    assert 0 < own < 0.3
    assert backwards > 10 * own


def test_warping_error_has_its_unit(still: Tensor):
    """The accident: grey levels squared, or the root, and no number can be compared."""
    gray = torch.full_like(still, 0.4)
    jumping = gray.clone()
    jumping[1::2] += 0.2
    assert float(warping_error(jumping, gray, 0).mean()) == pytest.approx(1000 * 0.2**2, rel=1e-6)


def test_uncovered_places_are_left_out(still: Tensor):
    """The accident: a scene cut in the target, or what an object uncovers, is blamed on the restorer."""
    appearing = still.clone()
    appearing[1:, :, 20:50, 30:70] = 1 - appearing[1:, :, 20:50, 30:70]
    assert float(warping_error(appearing, appearing, 0)[0]) < 3
    changed = still.clone()
    changed[1:] = 1 - changed[1:].flip(-1)  # another scene altogether
    assert warping_error(still, changed, 0).isnan().tolist() == [True, False, False]


def test_tof_is_the_length_of_the_wrong_motion(panned: Tensor, still: Tensor):
    assert float(tof(panned, panned, 0).mean()) == 0
    assert float(tof(still, panned, 12).mean()) == pytest.approx(math.hypot(2, 1), abs=0.3)


def test_flicker_counts_the_excess_where_the_target_stands_still(still: Tensor):
    """The accident: the target's own motion or grain is counted as the restorer's flicker."""
    pulsing = (still * 0.5 + 0.25).clone()
    target = pulsing.clone()
    pulsing[1::2] += 10 / 255
    luma_of_ten_levels = 10 * 219 / 255
    assert float(flicker(pulsing, target, 0).mean()) == pytest.approx(luma_of_ten_levels, rel=1e-6)
    grain = target + (STILL_LEVELS - 1) / 255 * torch.tensor([0, 1, 0, 1]).view(4, 1, 1, 1)
    assert float(flicker(target, grain, 0).mean()) == 0  # steadier than the target is not better than best


def test_nothing_stands_still_at_a_cut(still: Tensor):
    """The accident: a pair without a still place scores 0, the best, and every cut flatters the mean."""
    cut = torch.zeros_like(still)
    cut[2:] = 1
    assert flicker(still, cut, 0).isnan().tolist() == [False, True, False]
