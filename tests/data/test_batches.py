"""Batches for GANs: the same pictures whatever interrupts or divides the run."""

import itertools

import torch

from imagesmith.data.batches import ImageBatches
from imagesmith.data.held_out import split
from imagesmith.data.image_sets import ImageSet


def numbered(count: int, *, labels: bool = True) -> ImageSet:
    """Pictures of 1x2 pixels whose left one holds their number and whose right one is 255."""
    images = torch.full((count, 1, 1, 2), 255, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    return ImageSet(images, torch.arange(count) % 3 if labels else None, (), [str(n) for n in range(count)], [])


def drawn(batches: ImageBatches, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*itertools.islice(batches, count), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_every_picture_once_an_epoch_in_another_order() -> None:
    """Drawing with replacement leaves a third of a small set unseen in an epoch."""
    images, labels = drawn(ImageBatches(numbered(12), batch=4, seed=1), 6)
    first, second = images[:12, 0, 0, 0].tolist(), images[12:, 0, 0, 0].tolist()
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert labels.tolist() == [number % 3 for number in first + second]
    other = drawn(ImageBatches(numbered(12), batch=4, seed=2), 3)[0]
    assert other[:, 0, 0, 0].tolist() != first


def test_a_resumed_run_goes_on_with_the_same_pictures() -> None:
    """A sampler that starts anew after an interruption shows some pictures twice and others never, unnoticed."""
    whole = drawn(ImageBatches(numbered(10), batch=4, seed=3, flip=True), 9)
    rest = drawn(ImageBatches(numbered(10), batch=4, seed=3, flip=True, start=12), 6)
    assert torch.equal(whole[0][12:], rest[0])
    assert torch.equal(whole[1][12:], rest[1])


def test_two_processes_share_one_batch() -> None:
    """Two processes that draw the same pictures train with half the batch; other sizes must not move the order."""
    one, _ = drawn(ImageBatches(numbered(10), batch=4, seed=3, flip=True), 5)
    parts = [drawn(ImageBatches(numbered(10), batch=4, seed=3, flip=True, rank=r, world=2), 5)[0] for r in (0, 1)]
    assert torch.equal(one[0::2], parts[0])
    assert torch.equal(one[1::2], parts[1])
    larger, _ = drawn(ImageBatches(numbered(10), batch=10, seed=3, flip=True), 2)
    assert torch.equal(one, larger)


def test_flips_change_from_epoch_to_epoch() -> None:
    """A flip drawn once for each picture is no augmentation: the set keeps its size."""
    images, _ = drawn(ImageBatches(numbered(64), batch=64, seed=0, flip=True), 2)
    mirrored = images[:, 0, 0, 0] == 255
    by_picture = [
        dict(zip(images[epoch].amin(dim=(1, 2, 3)).tolist(), mirrored[epoch].tolist(), strict=True))
        for epoch in (slice(64), slice(64, 128))
    ]
    assert 16 < mirrored[:64].sum() < 48
    assert by_picture[0] != by_picture[1]
    still, _ = drawn(ImageBatches(numbered(64), batch=64, seed=0), 1)
    assert (still[:, 0, 0, 1] == 255).all()


def test_drawing_leaves_the_set_as_it_was() -> None:
    """Flipping in place in the only copy of the data set."""
    image_set = numbered(8)
    before = image_set.images.clone()
    drawn(ImageBatches(image_set, batch=8, seed=0, flip=True), 4)
    assert torch.equal(image_set.images, before)


def test_sets_without_classes_give_label_zero() -> None:
    """A loop must not ask each time whether there are labels."""
    _, labels = drawn(ImageBatches(numbered(5, labels=False), batch=5, seed=0), 1)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0] * 5


def test_held_out_pictures_are_never_drawn() -> None:
    """A gap between training and held-out pictures cannot be seen if the latter are trained on."""
    image_set = numbered(100)
    training, held_out = split(100, 7)
    assert len(held_out) == 7
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(100))
    images, _ = drawn(ImageBatches(image_set, batch=31, seed=0, indices=training), 9)
    assert set(images[:, 0, 0, 0].tolist()) == set(training.tolist())


def test_one_picture_is_a_set() -> None:
    """Too few pictures are explained elsewhere, and not refused by a crash here."""
    images, _ = drawn(ImageBatches(numbered(1), batch=3, seed=0), 2)
    assert images.shape == (6, 1, 1, 2)
