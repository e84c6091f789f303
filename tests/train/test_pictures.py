"""What a run remembers of its pictures, and what it says when others come instead."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imagesmith.configs import ImageSetConfig
from imagesmith.data.image_sets import ImageSet
from imagesmith.errors import ConfigError, NothingUsableError
from imagesmith.runtime.dist import World
from imagesmith.train.pictures import check_same, load_pictures, told_of, told_of_photos

PHOTOS = [torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(k)).byte() for k in range(4)]


def resumed(choices: dict[str, Any], **values: Any) -> Any:
    return SimpleNamespace(folder=Path("runs/mine"), newest=({}, {"choices": choices, **values}))


def begun(folder: Path, said: list[str]) -> Any:
    return SimpleNamespace(say=said.append, folder=folder, newest=None, world=World())


def second_of_two(folder: Path, leaders: dict[str, Any]) -> Any:
    """A process that begins a run with another one, the leader, which was told this of its pictures."""
    world = SimpleNamespace(rank=1, size=2, is_leader=False, lead=lambda action: leaders)
    return SimpleNamespace(say=print, folder=folder, newest=None, world=world)


def test_other_photographs_in_the_same_number_are_noticed():
    """The accident: one file of a folder is replaced, another one is kept apart, and the score tells of learnt ones."""
    told = told_of_photos(PHOTOS[:3], PHOTOS[3:])
    check_same(told, "photos", "photos/", resumed({"photos": told}))
    for other in (told_of_photos(PHOTOS[1:], PHOTOS[:1]), told_of_photos([*PHOTOS[:2], PHOTOS[2].flip(2)], PHOTOS[3:])):
        with pytest.raises(ConfigError, match=r"the photos of photos/ that the run was begun with, got another sha256"):
            check_same(other, "photos", "photos/", resumed({"photos": told}))
    with pytest.raises(ConfigError, match=r"another number: 2, not 3\nput them back, or start another run$"):
        check_same(told_of_photos(PHOTOS[:2], PHOTOS[3:]), "photos", "photos/", resumed({"photos": told}, config={}))


def test_photographs_that_an_earlier_version_read_otherwise_are_not_asked_back():
    """The accident: transparent pictures are put on white now, and who resumes is to put back what lies there."""
    before, now = (told_of_photos(PHOTOS[:3], [kept]) for kept in (PHOTOS[3], PHOTOS[3] // 2))
    with pytest.raises(
        ConfigError, match=r"another sha256.*\nput them back; if they are the same, this version reads them otherwise"
    ):
        check_same(now, "photos", "photos/", resumed({"photos": before}))


def test_pairs_are_told_with_both_of_their_pictures():
    pairs = [(photo[:, ::2, ::2], photo) for photo in PHOTOS]
    blurred = [(photo[:, ::2, ::2] // 2, photo) for photo in PHOTOS]
    assert told_of_photos(pairs[:3], pairs[3:]) != told_of_photos(blurred[:3], blurred[3:])


def test_other_pictures_kept_apart_are_noticed():
    images = torch.stack(PHOTOS)
    whole = ImageSet(images, None, (), [], [])
    told = told_of(whole, torch.tensor([3]))
    check_same(told, "pictures", "set.zip", resumed({"pictures": told}))
    with pytest.raises(ConfigError, match="another sha256"):
        check_same(told_of(whole, torch.tensor([2])), "pictures", "set.zip", resumed({"pictures": told}))


def test_another_training_picture_and_swapped_labels_are_noticed():
    """The accident: nine pictures, none of them kept apart; one is replaced, two labels are swapped, it trains on."""
    images, labels, nothing = torch.stack(PHOTOS), torch.arange(4) % 2, torch.tensor([], dtype=torch.int64)
    told = told_of(ImageSet(images, labels, ("a", "b"), [], []), nothing)
    replaced = ImageSet(images[[0, 0, 2, 3]], labels, ("a", "b"), [], [])
    swapped = ImageSet(images, labels.flip(0), ("a", "b"), [], [])
    for other in (replaced, swapped):
        with pytest.raises(ConfigError, match="another sha256"):
            check_same(told_of(other, nothing), "pictures", "set.zip", resumed({"pictures": told}))


def test_a_run_that_goes_on_looks_at_its_pictures_again(tmp_path: Path):
    np.savez(tmp_path / "a.npz", images=torch.stack(PHOTOS)[..., :16, :16].movedim(1, -1).numpy())
    config, session = ImageSetConfig(folder=str(tmp_path / "a.npz")), begun(tmp_path, [])
    pictures, _, held_out = load_pictures(config, session)
    told = told_of(pictures, held_out)
    for choices, problem in (
        ({"pictures": told}, None),
        ({"pictures": told | {"number": 3}}, "another number: 4, not 3"),
    ):
        session.newest = ({}, {"choices": choices})
        with pytest.raises(ConfigError, match=problem) if problem else contextlib.nullcontext():
            load_pictures(config, session)


def test_processes_with_different_pictures_do_not_begin_one_run(tmp_path: Path):
    """The accident: an old copy of the photographs on the second machine, whose labels meant other classes."""
    np.savez(tmp_path / "a.npz", images=torch.stack(PHOTOS)[..., :16, :16].movedim(1, -1).numpy())
    config = ImageSetConfig(folder=str(tmp_path / "a.npz"))
    pictures, _, held_out = load_pictures(config, begun(tmp_path, []))
    told = told_of(pictures, held_out)
    load_pictures(config, second_of_two(tmp_path, told))
    with pytest.raises(ConfigError, match=r"a\.npz that the first process has, got another number: 4, not 5\ngive all"):
        load_pictures(config, second_of_two(tmp_path, told | {"number": 5}))


def test_copies_of_what_is_kept_apart_are_left_out_and_told(tmp_path: Path):
    """The accident: a set packed twice, and a classifier that is right about every picture it was shown."""
    images = torch.stack(PHOTOS * 5)[..., :16, :16].movedim(1, -1).numpy()
    said: list[str] = []
    session = begun(tmp_path, said)
    np.savez(tmp_path / "a.npz", images=images)
    config = ImageSetConfig(folder=str(tmp_path / "a.npz"))
    _, training, held_out = load_pictures(config, session)
    assert (len(training), len(held_out)) == (15, 2)
    assert said[-1] == "left out 3 pictures: copies of some that are kept apart"
    np.savez(tmp_path / "a.npz", images=images[[0] * 10])
    with pytest.raises(
        NothingUsableError, match=r"got 9 copies of the 1 that are kept apart .* or set data.held_out=0"
    ):
        load_pictures(config, session)


def test_a_run_of_an_earlier_version_is_not_gone_on_with():
    """The accident: a new version keeps other pictures apart, and a resumed run is measured on what it has learnt."""
    told = told_of_photos(PHOTOS[:3], PHOTOS[3:])
    for choices in ({}, {"photos": {"number": 3}}):
        with pytest.raises(
            ConfigError, match=r"run folder runs/mine was begun by an earlier version.*start another run"
        ):
            check_same(told, "photos", "photos/", resumed(choices))
    fresh: Any = SimpleNamespace(newest=None, world=World())
    check_same(told, "photos", "photos/", fresh)


@pytest.mark.parametrize("flip", [True, False])
def test_mirroring_is_told(tmp_path: Path, flip: bool):
    """The accident: an hour of training on digits, and every other one comes out the wrong way round."""
    said: list[str] = []
    np.savez(tmp_path / "a.npz", images=torch.stack(PHOTOS)[..., :16, :16].movedim(1, -1).numpy())
    load_pictures(ImageSetConfig(folder=str(tmp_path / "a.npz"), flip=flip), begun(tmp_path, said))
    assert any("shown mirrored" in line and "--set data.flip=false" in line for line in said) == flip


def test_a_class_of_one_picture_is_trained_on(tmp_path: Path):
    rng, said = np.random.default_rng(0), list[str]()
    for lonely in range(10):  # one of the ten is kept apart
        labels = np.zeros(10, np.int64)
        labels[lonely] = 1
        np.savez(tmp_path / "a.npz", images=rng.integers(0, 256, (10, 16, 16, 3), np.uint8), labels=labels)
        pictures, training, _ = load_pictures(ImageSetConfig(folder=str(tmp_path / "a.npz")), begun(tmp_path, said))
        assert pictures.labels is not None
        assert pictures.labels[training].unique().tolist() == [0, 1]
    assert sum("kept 1 pictures fewer apart" in line for line in said) == 1
