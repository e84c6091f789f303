"""What is kept apart is a fair part of the whole, and the same in every run."""

import pytest
import torch

from imagesmith.data.held_out import drawn_apart, split, without_copies


@pytest.mark.parametrize(("count", "asked", "kept"), [(100, 50, 10), (9, 5, 0), (10, 0, 0), (1, 1, 0), (20, 1, 1)])
def test_at_most_a_tenth_is_held_out(count: int, asked: int, kept: int) -> None:
    """With few pictures, measuring must not take those that training needs."""
    training, held_out = split(count, asked)
    assert len(held_out) == kept
    assert len(training) == count - kept


def test_held_out_pictures_come_from_every_class() -> None:
    """The first tenth of a set in the order of its folders is one class."""
    _, held_out = split(1000, 100)
    assert (held_out // 100).bincount().tolist() == [10] * 10


@pytest.mark.parametrize(("count", "asked", "classes"), [(1000, 1000, 2), (50_000, 5000, 10), (3000, 300, 5)])
def test_classes_that_take_turns_all_give_their_share(count: int, asked: int, classes: int) -> None:
    """The accident: every tenth picture of ten classes in turn is of one class, and the others are never measured."""
    _, held_out = split(count, asked)
    shares = (held_out % classes).bincount(minlength=classes) * classes / len(held_out)
    assert len(held_out) == count // 10
    assert shares.min() > 0.7
    assert shares.max() < 1.3


def test_the_same_are_kept_apart_in_every_run() -> None:
    """Whatever the seed of a run or of torch: another split is trained on what was measured with."""
    torch.manual_seed(1)
    first = drawn_apart(100, 7)
    torch.manual_seed(2)
    assert drawn_apart(100, 7) == first == sorted(set(first))
    assert drawn_apart(5, 5) == [0, 1, 2, 3, 4]


def test_copies_of_what_is_held_out_are_not_trained_on() -> None:
    """The accident: a set with every picture twice, whose discriminator is never seen to know it by heart."""
    images = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    images[[3, 7]] = images[9].clone()
    images[[1, 2]] = 255
    training = torch.tensor([k for k in range(12) if k not in (1, 9)])
    kept = without_copies(images.transpose(2, 3), training, torch.tensor([1, 9]))
    assert kept.tolist() == [0, 2, 4, 5, 6, 8, 10, 11], "pictures of one flat colour are copies of none"
    assert without_copies(images, training, training[:0]).tolist() == training.tolist()
