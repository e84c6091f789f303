"""Clips to learn from: cut and degraded the same way whoever asks, nothing of what is kept apart among them."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from imagesmith.data.clips import VALIDATION_FRAMES, ClipFolder, DegradedClips, load_clips, validation_clips
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import NothingUsableError

HALF = Chain((build_degradation("bicubic", {"scale": 2}),))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, image in (("a", data.astronaut()), ("b", data.coffee()), ("c", data.chelsea())):
        Image.fromarray(image[:160, :200]).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 30 frames, whose number is their brightness, and one that is too short."""
    folder = tmp_path_factory.mktemp("films")
    for name, frames in (("long.mp4", 30), ("short.mkv", 9)):
        with av.open(str(folder / name), "w") as film:
            track = film.add_stream("libx264", rate=Fraction(25), options={"crf": "1"})
            track.width, track.height, track.pix_fmt = 160, 120, "yuv444p"
            for k in range(frames):
                film.mux(track.encode(av.VideoFrame.from_ndarray(np.full((120, 160, 3), 8 * k, np.uint8), "rgb24")))
            film.mux(track.encode(None))
    return folder


def load(photos: Path, films: Path | None, **options: float) -> ClipFolder:
    return load_clips(photos, films, 1, least_px=64, short_side_px=int(options.pop("short", 360)), **options)


def clips(folder: ClipFolder, **options: float) -> DegradedClips:
    wanted = {"patch_px": 16, "frames": 3, "unit": 2, "real": 0.5, "seed": 1}
    return DegradedClips(folder, HALF, **wanted | options)  # type: ignore[arg-type]


def test_the_last_tenth_of_a_film_is_never_trained_on(photos: Path, films: Path):
    """The accident: a score on frames that the network knows by heart."""
    folder = load(photos, films)
    assert [len(film) for film in folder.films] == [30 - VALIDATION_FRAMES]
    assert [len(film) for film in folder.kept_films] == [VALIDATION_FRAMES]
    assert folder.films[0].float().mean() < folder.kept_films[0].float().mean()
    assert any("short.mkv: 9 frames are too few" in reason for reason in folder.skipped)


def test_item_k_depends_on_the_seed_and_k_alone(photos: Path, films: Path):
    folder = load(photos, films)
    first, again, other = clips(folder)[5], clips(folder)[5], clips(folder, seed=2)[5]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_shapes_and_what_is_known_of_the_flow(photos: Path, films: Path):
    dataset = clips(load(photos, films))
    known = set()
    for k in range(12):
        degraded, target, flow, is_known = dataset[k]
        assert degraded.shape == (3, 3, 16, 16)
        assert target.shape == (3, 3, 32, 32)
        assert flow.shape == (2, 2, 16, 16)
        assert target.min() >= 0
        assert target.max() <= 1
        known.add(float(is_known))
        if not is_known:
            assert flow.abs().max() == 0
    assert known == {0.0, 1.0}


def test_the_degraded_clip_is_the_target_made_small(photos: Path):
    """The accident: degraded and target cut from different places, seen only as a network that never gets sharp."""
    degraded, target, *_ = clips(load(photos, None))[0]
    small = torch.stack([HALF(frame, torch.Generator()) for frame in target])
    inner = slice(4, -4)
    assert (small - degraded)[..., inner, inner].abs().max() < 1e-4


def test_pieces_of_films_run_both_ways(photos: Path, films: Path):
    dataset = clips(load(photos, films), real=1.0)
    rising = {bool(target[-1].mean() > target[0].mean()) for _, target, *_ in (dataset[k] for k in range(12))}
    assert rising == {True, False}


def test_large_films_are_shrunk_and_small_ones_left_alone(photos: Path, films: Path):
    assert load(photos, films, short=100).films[0].shape[2:] == (100, 134)
    assert load(photos, films).films[0].shape[2:] == (120, 160)


def test_a_film_that_does_not_fit_memory_is_cut_short(photos: Path, films: Path):
    folder = load(photos, films, memory_bytes=2 * 2 * 20 * 3 * 120 * 160)
    assert len(folder.films[0]) + len(folder.kept_films[0]) == 20


def test_validation_is_the_same_in_every_run(photos: Path, films: Path):
    folder = load(photos, films)
    first, again = (validation_clips(folder, HALF, 2, 64) for _ in range(2))
    assert len(first) == 2
    for clip, same in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(clip, same, strict=True))
        degraded, target, flow, _ = clip
        assert degraded.shape[3] * 2 == target.shape[3] == flow.shape[3] * 2


def test_films_in_a_run_folder_are_not_trained_on(photos: Path, films: Path, tmp_path: Path):
    """The accident: what a network made of a film, kept in its run folder among the films, is taken for a clean one."""
    shutil.copy(films / "long.mp4", tmp_path)
    shutil.copytree(films, tmp_path / "run" / "restored")
    for name in ("config.json", "history.jsonl"):
        (tmp_path / "run" / name).touch()
    assert len(load(photos, tmp_path).films) == 1
    assert len(load(photos, tmp_path / "run").films) == 1


def test_no_films_in_a_folder_that_was_named_is_said(photos: Path, tmp_path: Path):
    with pytest.raises(NothingUsableError, match="expected films below"):
        load(photos, tmp_path)


def test_films_too_small_or_short_to_train_on_are_named(photos: Path, films: Path):
    """The accident: '3 films to train on', and every clip comes from photographs."""
    for options, reason in (({"least_film_px": 200}, "smaller than 200"), ({"least_frames": 25}, "frames are too few")):
        folder = load(photos, films, **options)
        assert not folder.films
        assert any("long.mp4" in skipped and reason in skipped for skipped in folder.skipped)
