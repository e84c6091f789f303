"""Pairs in two folders: found by name, checked before anything is learnt from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.data.pairs import images_by_name, load_pairs, pair_files
from imagesmith.degrade.blur import MotionBlur
from imagesmith.errors import NothingUsableError, UsageError
from imagesmith.tensors import from_float, generator_for, to_float

CROPS = [
    data.astronaut()[:160, 150:310],
    data.chelsea()[60:220, 100:260],
    data.coffee()[100:260, 200:360],
    data.astronaut()[300:460, 300:460],
    data.coffee()[0:160, 0:160],
]

SIX = [
    (data.astronaut(), 10, 150),
    (data.astronaut(), 300, 300),
    (data.astronaut(), 200, 20),
    (data.chelsea(), 60, 100),
    (data.chelsea(), 100, 200),
    (data.coffee(), 200, 350),
]
"""Photographs, and the upper left corners of places in them that look different."""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Five photographs with noise, and clean, in subfolders; by the same names but other endings."""
    degraded, targets = tmp_path / "noisy", tmp_path / "clean"
    rng = np.random.default_rng(0)
    for k, crop in enumerate(CROPS):
        for folder, ending, image in ((degraded, "bmp", noisy(crop, rng)), (targets, "png", crop)):
            path = folder / "day" / f"{k}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return degraded, targets


def noisy(image: np.ndarray, rng: np.random.Generator, sigma: float = 12) -> np.ndarray:
    return (image + rng.normal(0, sigma, image.shape)).round().clip(0, 255).astype(np.uint8)


def write_pair(folder: Path, number: int, degraded: np.ndarray, target: np.ndarray) -> None:
    for name, image in (("noisy", degraded), ("clean", target)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name / f"{number}.png")


def replace(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path)


def load(folders: tuple[Path, Path], **options):
    return load_pairs(*folders, 1, least_px=32, **options)


def test_pairs_are_found_by_name_in_subfolders(folders: tuple[Path, Path]):
    pairs = load(folders)
    assert (len(pairs.training), len(pairs.validation), pairs.skipped, pairs.scale) == (4, 1, [], 1)
    assert all(degraded.shape == target.shape and degraded.dtype == torch.uint8 for degraded, target in pairs.training)
    assert pair_files(folders[1], folders[0], recursive=True).keys() == {f"day/{k}" for k in range(5)}


def test_a_run_folder_among_the_pictures_is_passed_over(folders: tuple[Path, Path]):
    """The accident: the sheets of an earlier run among the targets lack their degraded pictures, and nothing is learnt."""
    for name in ("config.json", "history.jsonl", "samples/000000000008.png"):
        path = folders[1] / "day" / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert (len(load(folders).training), len(load(folders).validation)) == (4, 1)
    named = images_by_name(folders[1] / "day" / "run", recursive=True)
    assert list(named) == ["samples/000000000008"], "a run folder that was named is what is wanted"


def test_a_picture_without_its_counterpart_is_named(folders: tuple[Path, Path]):
    """Pairing what is left by position would learn to turn one photograph into the next."""
    (folders[0] / "day" / "2.bmp").unlink()
    with pytest.raises(UsageError, match=r"5 targets and 4 degraded images\n'day/2' is missing in .*noisy"):
        load(folders)


def test_a_pair_of_wrong_size_is_left_out_by_name(folders: tuple[Path, Path]):
    replace(folders[0] / "day" / "1.bmp", CROPS[1][:150])
    assert load(folders).skipped == ["day/1: expected a target 1 times its degraded picture of 160x150, got 160x160"]


def test_a_displaced_pair_is_left_out_by_name(folders: tuple[Path, Path]):
    """A network that learns from pairs one pixel apart learns to blur, and nobody sees why."""
    replace(folders[0] / "day" / "3.bmp", data.astronaut()[301:461, 298:458])
    (found,) = load(folders).skipped
    assert found.startswith("day/3: displaced by -1.0 rows and +2.0 columns")


def test_a_displacement_that_noise_hides_is_seen_in_all_pairs_together(tmp_path: Path):
    """The accident: under strong noise no pair is sure by itself, blur is blamed, and half of a shifted set is learnt."""
    rng = np.random.default_rng(0)
    for rows, sigma, fits in ((0, 75, True), (3, 75, False), (3, 50, False)):
        folder = tmp_path / f"{rows} {sigma}"
        for k, (photo, top, left) in enumerate(SIX):
            given = noisy(photo[top + rows : top + rows + 160, left : left + 160], rng, sigma)
            write_pair(folder, k, given, photo[top : top + 160, left : left + 160])
        if fits:
            assert load((folder / "noisy", folder / "clean")).skipped == []
        else:
            with pytest.raises(UsageError, match=r"most lie -[23]\.\d rows and [+-]0\.\d columns beside"):
                load((folder / "noisy", folder / "clean"))


def test_shaken_pairs_are_not_displaced(tmp_path: Path):
    """Every long shake moves its picture somewhere: were that called a displacement, no deblurring could be learnt."""
    shake = MotionBlur(length=(15, 15))
    for k, (photo, top, left) in enumerate(SIX):
        target = photo[top : top + 160, left : left + 160]
        given = shake(to_float(torch.from_numpy(target).permute(2, 0, 1), "uint8"), generator_for(k))
        write_pair(tmp_path, k, from_float(given, "uint8").permute(1, 2, 0).numpy(), target)
    pairs = load((tmp_path / "noisy", tmp_path / "clean"))
    assert len(pairs.training) + len(pairs.validation) >= 4


def test_a_pair_of_different_pictures_is_left_out_by_name(folders: tuple[Path, Path]):
    replace(folders[0] / "day" / "0.bmp", CROPS[1])
    assert load(folders).skipped == ["day/0: the two pictures do not show the same"]


def test_a_clear_sky_under_noise_is_a_pair(folders: tuple[Path, Path]):
    """Without shapes there is no place to find, and a check that finds one all the same throws good pairs away."""
    sky = np.full((160, 160, 3), 180, dtype=np.uint8)
    replace(folders[1] / "day" / "0.png", sky)
    replace(folders[0] / "day" / "0.bmp", noisy(sky, np.random.default_rng(1)))
    assert load(folders).skipped == []


def test_the_same_folder_twice_is_refused(folders: tuple[Path, Path]):
    """Nothing to learn, and a perfect score: the accident of a misplaced path."""
    with pytest.raises(UsageError, match=r"5 of 5 that do not\nthe first is day/0: the degraded picture is its target"):
        load((folders[1], folders[1]))


def test_copies_of_a_validation_picture_are_not_trained_on(folders: tuple[Path, Path]):
    """The validation score of a memorised picture says nothing."""
    for folder, ending in zip(folders, ("bmp", "png"), strict=True):
        picture = np.asarray(Image.open(folder / "day" / f"0.{ending}"))
        replace(folder / "day" / f"copy.{ending}", picture[2:158, 2:158])
    pairs = load(folders)
    assert pairs.skipped == ["day/copy: looks like day/0, which is kept apart for validation"]
    assert len(pairs.training) == 4


def test_the_scale_is_that_of_most_pairs(folders: tuple[Path, Path]):
    """Odd targets are cut as for evaluation; a pair at another scale is one that does not fit."""
    for k, crop in enumerate(CROPS):
        small = Image.fromarray(crop).resize((80, 80), Image.Resampling.BICUBIC)
        small.save(folders[0] / "day" / f"{k}.bmp")
    replace(folders[1] / "day" / "4.png", data.coffee()[0:161, 0:161])
    replace(folders[0] / "day" / "2.bmp", CROPS[2])
    pairs = load(folders)
    assert pairs.scale == 2
    assert [line.split(":")[0] for line in pairs.skipped] == ["day/2"]
    assert all(target.shape[1] == 2 * degraded.shape[1] for degraded, target in pairs.training)


def test_targets_that_a_camera_turned_are_pairs(tmp_path: Path):
    """The accident: upright 160x240 against 480x320 stored on its side is half as wide, a third as high, and refused."""
    turned = Image.Exif()
    turned[274] = 6
    for k, photo in enumerate((data.astronaut(), data.coffee(), data.chelsea())):
        upright = Image.fromarray(photo[:300]).resize((320, 480), Image.Resampling.BICUBIC)
        for folder in ("clean", "small"):
            (tmp_path / folder).mkdir(exist_ok=True)
        upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "clean" / f"{k}.jpg", quality=95, exif=turned)
        upright.resize((160, 240), Image.Resampling.BICUBIC).save(tmp_path / "small" / f"{k}.png")
    pairs = load_pairs(tmp_path / "small", tmp_path / "clean", 1, least_px=32)
    assert (pairs.scale, pairs.skipped, len(pairs.training)) == (2, [], 2)


def test_large_pairs_are_cut_to_the_same_middle(folders: tuple[Path, Path]):
    """Two middles that round differently are one pixel apart."""
    pairs = load(folders, memory_bytes=3 * 2 * 5 * 97**2)
    assert pairs.most_px == 64
    for degraded, target in pairs.training:
        assert degraded.shape == target.shape == (3, 64, 64)
        assert (degraded.float() - target.float()).square().mean().sqrt() < 16


def test_what_cannot_be_read_is_told_and_too_little_is_refused(folders: tuple[Path, Path]):
    (folders[0] / "day" / "0.bmp").write_bytes(b"BM junk")
    (found,) = load(folders).skipped
    assert found.startswith("day/0: the degraded picture: ")
    with pytest.raises(UsageError, match="5 of 5"):
        load_pairs(*folders, 1, least_px=1000)
    for k in range(1, 5):
        for folder, ending in zip(folders, ("bmp", "png"), strict=True):
            (folder / "day" / f"{k}.{ending}").unlink()
    with pytest.raises((UsageError, NothingUsableError)):
        load(folders)


def test_two_pictures_of_one_name_are_refused(folders: tuple[Path, Path]):
    replace(folders[1] / "day" / "0.bmp", CROPS[0])
    with pytest.raises(UsageError, match=r"0\.bmp and 0\.png; rename or remove one"):
        images_by_name(folders[1], recursive=True)
