"""What is kept apart is a fair part of the whole, and the same in every run."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from imagesmith.data import held_out
from imagesmith.data.held_out import (
    count_different,
    divide,
    keep_every_class,
    one_of_each_stretch,
    split,
    without_copies,
)


@pytest.mark.parametrize(("count", "asked", "kept"), [(100, 50, 10), (9, 5, 0), (10, 0, 0), (1, 1, 0), (20, 1, 1)])
def test_at_most_a_tenth_is_held_out(count: int, asked: int, kept: int) -> None:
    """With few pictures, measuring must not take those that training needs."""
    training, apart = split(count, asked)
    assert len(apart) == kept
    assert len(training) == count - kept


def test_held_out_pictures_come_from_every_class() -> None:
    """The first tenth of a set in the order of its folders is one class."""
    _, apart = split(1000, 100)
    assert (apart // 100).bincount().tolist() == [10] * 10


@pytest.mark.parametrize(("count", "asked", "classes"), [(1000, 1000, 2), (50_000, 5000, 10), (3000, 300, 5)])
def test_classes_that_take_turns_all_give_their_share(count: int, asked: int, classes: int) -> None:
    """The accident: every tenth picture of ten classes in turn is of one class, and the others are never measured."""
    _, apart = split(count, asked)
    shares = (apart % classes).bincount(minlength=classes) * classes / len(apart)
    assert len(apart) == count // 10
    assert shares.min() > 0.7
    assert shares.max() < 1.3


def test_the_last_picture_of_a_class_is_not_held_out() -> None:
    """The accident: a class of one picture, which is kept apart, and nothing ever learns that class."""
    labels = torch.tensor([0] * 9 + [1] + [2] * 10)
    training, apart = torch.tensor([*range(9), *range(10, 19)]), torch.tensor([9, 19])
    kept, held = keep_every_class(labels, training, apart)
    assert (kept.tolist(), held.tolist()) == ([*range(19)], [19])
    unchanged = keep_every_class(torch.zeros(20, dtype=torch.int64), training, apart)
    assert [each.tolist() for each in unchanged] == [training.tolist(), apart.tolist()]


def test_the_same_are_kept_apart_in_every_run() -> None:
    """Whatever the seed of a run or of torch: another split is trained on what was measured with."""
    torch.manual_seed(1)
    first = one_of_each_stretch(7, 100).tolist()
    torch.manual_seed(2)
    assert one_of_each_stretch(7, 100).tolist() == first == sorted(set(first))
    assert one_of_each_stretch(5, 5).tolist() == one_of_each_stretch(9, 5).tolist() == [0, 1, 2, 3, 4]
    assert one_of_each_stretch(9, 0).tolist() == []


def test_pictures_to_compare_with_are_of_every_class_that_takes_turns() -> None:
    """The accident: 2,000 pictures of four classes in turns, every fourth is taken, and all are of one class."""
    classes = torch.arange(2000) % 4
    assert classes[one_of_each_stretch(500, 2000)].bincount(minlength=4).min() > 80


def test_copies_of_what_is_held_out_are_not_trained_on() -> None:
    """The accident: a set with every picture twice, whose discriminator is never seen to know it by heart."""
    images = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    images[[3, 7]] = images[9].clone()
    images[[1, 2]] = 255
    training = torch.tensor([k for k in range(12) if k not in (1, 9)])
    kept = without_copies(images.transpose(2, 3), training, torch.tensor([1, 9]))
    assert kept.tolist() == [0, 2, 4, 5, 6, 8, 10, 11], "pictures of one flat colour are copies of none"
    assert without_copies(images, training, training[:0]).tolist() == training.tolist()


def test_pictures_are_read_whole_only_where_a_row_is_that_of_one_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: gigabytes are read once more at each start and resume, even where nothing is kept apart."""
    hashed: list[int] = []
    digest = held_out._digest
    monkeypatch.setattr(held_out, "_digest", lambda image: (hashed.append(image.numel()), digest(image))[1])
    images = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    images[5, :, 2] = images[9, :, 2]
    everything = torch.arange(12)
    assert without_copies(images, everything, everything[:0]).tolist() == everything.tolist()
    assert hashed == []
    assert without_copies(images, everything[:9], everything[9:10]).tolist() == everything[:9].tolist()
    assert hashed.count(3 * 4 * 4) == 2, "the one kept apart, and the one with its row"
    assert count_different(images, everything) == 12
    assert hashed.count(3 * 4 * 4) == 4
    images[[3, 7]] = images[9].clone()
    assert count_different(images, everything) == 10
    assert count_different(images, everything[:9]) == 8


def test_pages_of_text_are_trained_on() -> None:
    """The accident: at 16 pixels a side all full pages are one and the same, and a folder of scans is refused."""
    pages = [page_of_text(k) for k in range(30)]
    copy = F.interpolate(pages[8][None].float(), scale_factor=0.5, mode="area")[0].to(torch.uint8)
    training, apart, left_out = divide([*pages, copy], [f"p{k}" for k in range(31)], 3)
    assert 8 in apart, "the copy of half its size is of one that is kept apart"
    assert left_out == ["p30: looks like p8, which is kept apart for validation"]
    assert len(training) == 27


def page_of_text(seed: int) -> torch.Tensor:
    """uint8 (3, 560, 400): lines of words of random lengths."""
    rng = np.random.default_rng(seed)
    page = np.full((560, 400), 255, np.uint8)
    for row in range(30, 530, 14):
        ink = rng.integers(0, 2, (8, 340), np.uint8) * 200
        ink[:, np.cumsum(rng.integers(6, 40, 14)) % 340] = 0
        page[row : row + 8, 30:370] -= ink
    return torch.from_numpy(page).expand(3, -1, -1).contiguous()


def test_shots_of_one_scene_are_trained_on() -> None:
    """The accident: of 31 stills of one film all but one are left out, and one picture is learnt from."""
    rng = torch.Generator().manual_seed(0)
    scene = F.interpolate(torch.rand(1, 3, 6, 6, generator=rng) * 255, size=96, mode="bicubic")[0]
    shots = [(scene + 8 * torch.randn(scene.shape, generator=rng)).clamp(0, 255).byte() for _ in range(31)]
    shots[7] = shots[15].clone()
    names = [f"s{k}" for k in range(31)]
    training, apart, left_out = divide(shots, names, 12)
    assert (len(apart), len(training) + len(left_out) - 1) == (1, 30)
    assert left_out[0].startswith(
        f"only exact copies of the 30 that look like {names[apart[0]]}, as most pictures do: "
    )


def test_one_is_kept_apart_where_more_would_leave_too_few() -> None:
    """The accident: ten scenes, three shots of each, and three validation pictures take the shots of all."""
    rng = torch.Generator().manual_seed(0)
    scenes = [F.interpolate(torch.rand(1, 3, 6, 6, generator=rng) * 255, size=96)[0].byte() for _ in range(3)]
    names = [f"s{k}" for k in range(30)]
    training, apart, left_out = divide([scenes[k // 10] for k in range(30)], names, 3)
    assert (len(training), len(apart), len(left_out)) == (20, 1, 9)
