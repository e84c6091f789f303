import math

import pytest
import torch

from imagesmith.errors import UsageError
from imagesmith.infer.latents import SEED_LIMIT, Seeds, around, drawn_label, latents, slerp


@pytest.mark.parametrize(
    ("text", "meant"),
    [("0-3", [0, 1, 2, 3]), ("9,1,5", [9, 1, 5]), (" 7 , 2 - 4 ", [7, 2, 3, 4]), ("5", [5]), ("3,3", [3, 3])],
)
def test_seeds_mean_what_people_write(text: str, meant: list[int]) -> None:
    """The accident: an interpolation 9,1,5 that is sorted on the way, or a range without its last seed."""
    seeds = Seeds.parse(text)
    assert list(seeds) == meant == [seeds[k] for k in range(len(seeds))]
    assert (len(seeds), seeds[-1], seeds.highest) == (len(meant), meant[-1], max(meant))


@pytest.mark.parametrize("text", ["", "a", "-1", "1,,2", "3-", "1-2-3", "1.5", "1e3", "٣", "0x10", "9" * 30])
def test_what_is_no_seed_is_refused(text: str) -> None:
    """The accident: int() takes '٣' and '1_000', and a negative seed is masked into another one."""
    with pytest.raises(UsageError, match="expected"):
        Seeds.parse(text)


def test_messages_about_seeds_say_what_to_write() -> None:
    """The accident: 'invalid literal for int()'."""
    with pytest.raises(UsageError, match="got '3-1'; write 1-3"):
        Seeds.parse("3-1")
    with pytest.raises(UsageError, match="expected every seed once, got 5 twice"):
        Seeds.parse("9,0-5,5").check_distinct()
    Seeds.parse("6,0-5,9").check_distinct()


def test_a_huge_range_takes_no_room() -> None:
    """The accident: --seeds 0-9007199254740990 builds a list until the machine swaps."""
    seeds = Seeds.parse(f"0-{SEED_LIMIT - 1}")
    assert len(seeds) == SEED_LIMIT
    assert seeds.highest == seeds[-1] == SEED_LIMIT - 1
    with pytest.raises(UsageError, match="from 0 to"):
        Seeds.parse(str(SEED_LIMIT))


def test_a_latent_depends_on_its_seed_alone() -> None:
    """The accident: latents from one stream for the whole batch, so that seed 5 alone is another image."""
    state = torch.get_rng_state()
    together = latents([0, 5, 9], 64)
    assert torch.equal(latents([9, 5], 64), together[[2, 1]])
    assert torch.equal(torch.get_rng_state(), state)
    assert latents([], 64).shape == (0, 64)
    with pytest.raises(UsageError, match="expected a seed"):
        latents([-1], 64)


def test_the_first_latent_is_the_one_of_the_first_day() -> None:
    """The accident: another way to key the random numbers, and every picture in a paper is another one."""
    assert latents([0], 4).tolist()[0] == pytest.approx([0.287874, 1.974204, 2.301739, -1.354529], abs=1e-5)
    assert [drawn_label(seed, 10) for seed in range(8)] == [8, 4, 2, 1, 1, 1, 9, 9]


def test_latents_are_normal_and_labels_even() -> None:
    """The accident: neighbouring seeds whose latents are correlated, or a class that is never drawn."""
    drawn = latents(range(2000), 50)
    assert drawn.mean().abs() < 0.02
    assert (drawn.var() - 1).abs() < 0.02
    assert torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max() < 0.12
    counts = torch.bincount(torch.tensor([drawn_label(seed, 5) for seed in range(2000)]), minlength=5)
    assert (counts - 400).abs().max() < 80


def test_an_arc_ends_where_it_should_and_keeps_its_length() -> None:
    """The accident: a straight line, in the middle of which all images look alike."""
    start, end = latents([1, 2], 512)
    way = slerp(start, end, torch.linspace(0, 1, 9))
    torch.testing.assert_close(way[[0, -1]], torch.stack([start, end]))
    assert (way.norm(dim=1) / math.sqrt(512) - 1).abs().max() < 0.06
    steps = (way[1:] - way[:-1]).norm(dim=1)
    assert steps.max() / steps.min() < 1.1


@pytest.mark.parametrize("end", [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_an_arc_between_parallel_latents_is_finite(end: list[float]) -> None:
    """The accident: interpolating from a seed to itself, or at truncation 0, divides by zero."""
    way = slerp(torch.tensor([1.0, 0.0]), torch.tensor(end), torch.linspace(0, 1, 5))
    assert torch.isfinite(way).all()
    torch.testing.assert_close(way[-1], torch.tensor(end))


def test_around_goes_from_itself_to_anything() -> None:
    """The accident: strong variations whose latents are too long for the generator, all of them garish."""
    latent = latents([7], 4096)[0]
    assert torch.equal(around(latent, [1, 2], 0.0), latent.expand(2, -1))
    torch.testing.assert_close(around(latent, [1, 2], 1.0), latents([1, 2], 4096), atol=1e-5, rtol=0)
    distances = [float((around(latent, [1], strength) - latent).norm()) for strength in (0.1, 0.3, 0.6, 1.0)]
    assert distances == sorted(distances)
    assert around(latent, [1], 0.5).std() == pytest.approx(1, abs=0.05)
