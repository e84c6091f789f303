"""Neighbour metrics on sets whose answer is known, and against an independent tool."""

import pytest
import torch
from torch import Tensor

from imagesmith.errors import ModelError, UsageError
from imagesmith.metrics import neighbours
from imagesmith.metrics.neighbours import copies, nearest, precision, precision_recall, recall
from imagesmith.tensors import generator_for


def cloud(count: int, size: int = 8, *, shift: float = 0, scale: float = 1, seed: int = 1) -> Tensor:
    return torch.randn(count, size, generator=generator_for(seed)) * scale + shift


def test_precision_and_recall_know_their_sides():
    """They were once swapped in a tool that everybody used: a collapsed generator had perfect recall."""
    real = torch.cat([cloud(100), cloud(100, shift=30, seed=2)])
    collapsed = cloud(200, seed=3)
    assert precision(real, collapsed).value > 0.8
    assert recall(real, collapsed).value < 0.55
    assert precision(real, cloud(50, shift=300)).value == 0


def test_both_are_one_for_equal_sets_and_carry_their_deviation():
    both = precision_recall(cloud(60), cloud(60))
    assert both == ((1, 0), (1, 0))
    half = precision(cloud(100), torch.cat([cloud(50), cloud(50, shift=99, seed=2)]))
    assert half == (0.5, pytest.approx(0.05))


def test_a_set_of_copies_covers_itself():
    """The accident: where pictures occur five times they reach 0 far, and a third of them missed their own copies."""
    copied = cloud(50, 128).repeat_interleave(5, 0)
    assert precision_recall(copied, copied) == ((1, 0), (1, 0))
    assert precision(copied, cloud(50, 128, seed=2)).value == 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    real, fake = cloud(150), cloud(130, scale=1.2, seed=2)
    whole = precision_recall(real, fake), copies(real, fake)
    monkeypatch.setattr(neighbours, "_rows", lambda reference: 7)
    assert (precision_recall(real, fake), copies(real, fake)) == whole


def test_far_from_zero_distances_stay_exact():
    """In float32, differences of squares around 1000 leave nothing of a distance of 1."""
    real, fake = cloud(150), cloud(130, scale=1.2, seed=2)
    assert precision_recall(real + 1000, fake + 1000) == precision_recall(real, fake)


def test_copies_are_found_and_fresh_images_are_not():
    real = cloud(400)
    assert copies(real, real[:50] + 1e-4).value == 1
    assert copies(real, cloud(400, seed=2)).value < 0.04
    assert copies(real, torch.cat([real[:30], cloud(70, shift=9)])).value == pytest.approx(0.3)


def test_duplicates_among_the_reals_do_not_hide_copies():
    """A hundredth of the reals saved twice, and a generator that knows all by heart had a score of 0."""
    real = cloud(100)
    assert copies(torch.cat([real, real]), torch.cat([real[:20], cloud(20, shift=9)])).value == 0.5
    by_heart = real + 1e-3 * cloud(100, seed=3)
    assert copies(real, by_heart).value == copies(torch.cat([real, real[:5]]), by_heart).value == 1


def test_nearest_names_the_nearest_first():
    reference = torch.tensor([[0.0], [10.0], [4.0]])
    distances, indices = nearest(torch.tensor([[3.0], [11.0]]), reference, 2)
    assert indices.tolist() == [[2, 0], [1, 2]]
    torch.testing.assert_close(distances, torch.tensor([[1.0, 3.0], [1.0, 7.0]]), rtol=1e-4, atol=1e-4)


def test_too_few_images_and_bad_values_are_told():
    with pytest.raises(UsageError, match=r"more than 3 images.*3 real and 9 fake"):
        precision(cloud(3), cloud(9))
    for few in (cloud(1), cloud(1).repeat(9, 1)):
        with pytest.raises(UsageError, match="at least 2 different"):
            copies(few, cloud(5))
    bad = cloud(9)
    bad[2, 2] = float("inf")
    with pytest.raises(ModelError, match="in 1 of 9"):
        precision(cloud(9), bad)


def test_torch_fidelity_gives_the_same_numbers(torch_fidelity):
    real, fake = cloud(200), cloud(180, shift=0.3, scale=0.8, seed=2)
    peer = torch_fidelity.metric_prc.prc_features_to_metric(
        fake, real, prc_neighborhood=3, prc_batch_size=64, save_cpu_ram=False, verbose=False
    )
    found = precision_recall(real, fake)
    assert found[0].value == pytest.approx(peer["precision"], abs=1e-6)
    assert found[1].value == pytest.approx(peer["recall"], abs=1e-6)
