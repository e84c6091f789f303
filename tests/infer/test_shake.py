"""Deblurring: the kernel of the whole picture first, then a network in tiles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from imagesmith.data.files import Frame, ImageMeta, read_image, write_image
from imagesmith.data.scanlines import read_scanlines
from imagesmith.degrade.blur import MotionBlur, filtered
from imagesmith.infer import network, shake
from imagesmith.infer.restore import Restorer
from imagesmith.infer.shake import PIECE_PX, WHOLE, Part, busiest_piece, kernel_of
from imagesmith.tensors import generator_for

Make = Callable[..., Restorer]


@pytest.fixture
def make(make_deblurrer: Make) -> Make:
    return make_deblurrer


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[20:180, 120:320])


@pytest.fixture(scope="module")
def shaken(sharp: np.ndarray) -> np.ndarray:
    return shaken_by(sharp, 1)


def shaken_by(sharp: np.ndarray, seed: int) -> np.ndarray:
    """uint8 (160, 200, 3), by a shake of 8 pixels."""
    kernel = MotionBlur((8, 8), share_straight=1).kernel(generator_for(seed))
    blurred = filtered(torch.from_numpy(sharp).permute(2, 0, 1).float(), kernel)
    return blurred.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


@pytest.fixture(scope="module")
def small(shaken: np.ndarray) -> np.ndarray:
    """uint8 (96, 128, 3), for tests that ask not whether the kernel is right but whether it is the same."""
    return np.ascontiguousarray(shaken[32:128, 40:168])


def test_tiles_are_the_whole(make: Make, small: np.ndarray) -> None:
    """The filter of deconvolution sees 48 pixels beyond the network; cut for the network alone, tiles have seams."""
    whole, tiled = (make(tile=tile)(small).astype(int) for tile in ("off", 40))
    assert np.abs(whole - tiled).max() <= 1
    assert np.abs(whole - small).max() > 10, "nothing was deconvolved"


@pytest.mark.parametrize(
    ("channels", "depth"),
    [(2, "uint8"), (3, "float32"), *(pytest.param(k, "uint16", marks=pytest.mark.slow) for k in (1, 4))],
)
def test_every_kind_of_picture_has_its_kernel(make: Make, small: np.ndarray, channels: int, depth: str) -> None:
    """Gray, alpha and depth surround the deconvolution as they surround the network."""
    colours = small if channels >= 3 else small[..., :1]
    opaque = np.full((*small.shape[:2], 1), 255, np.uint8)
    pixels = np.concatenate((colours, opaque), axis=2) if channels in (2, 4) else colours
    plain = make()(np.squeeze(colours)).astype(float) / 255
    given = {"uint8": pixels, "uint16": pixels.astype(np.uint16) * 257, "float32": (pixels / 255).astype(np.float32)}
    result = (
        np.asarray(make()(np.squeeze(given[depth])), dtype=float) / {"uint8": 255, "uint16": 65535, "float32": 1}[depth]
    )
    result = result.reshape(*small.shape[:2], -1)[..., : colours.shape[2]]
    assert np.abs(result.clip(0, 1) - plain.reshape(result.shape)).max() < 2 / 255


def test_a_picture_that_stays_in_its_file_gives_the_same(make: Make, small: np.ndarray, tmp_path: Path) -> None:
    """Large pictures are read row by row: a kernel of other rows, or a filter without its margin, would show."""
    write_image(Frame(torch.from_numpy(small), "uint8", ImageMeta("png", "RGB")), tmp_path / "shaken.png")
    rows = read_scanlines(tmp_path / "shaken.png", max_pixels=10**6, least_bytes=0)
    assert rows is not None
    strips = torch.cat([strip for _, strip in make(tile=64).strips(rows)])
    whole = make(tile="off").frame(read_image(tmp_path / "shaken.png")).pixels
    assert (strips.int() - whole.int()).abs().max() <= 1


def test_the_self_ensemble_turns_what_was_deconvolved(make: Make, small: np.ndarray) -> None:
    """A kernel that is not turned with the picture blurs it a second time, in another direction."""
    once, eight = (make()(small, self_ensemble=on).astype(float) for on in (False, True))
    assert np.abs(once - eight).mean() < 2


def test_shakes_are_found_and_taken_back(sharp: np.ndarray) -> None:
    """By the shipped network: with one that knows nothing the better guess is not told from the worse.

    Of one small picture the last digit decides how near the kernel comes, hence three shakes.
    """

    def error(picture: np.ndarray) -> float:
        return float(np.square(picture[24:-24, 24:-24].astype(float) - sharp[24:-24, 24:-24]).mean())

    restorer, left = Restorer.load("deblur", dtype="fp32"), []
    for seed in (1, 3, 5):
        picture = shaken_by(sharp, seed)
        left.append(error(restorer(picture)) / error(picture))
    assert np.mean(left) < 0.6, left


def test_the_kernel_is_looked_for_where_something_is(make: Make) -> None:
    """Sky and walls tell of no shake."""
    pixels = torch.full((PIECE_PX + 60, 3 * PIECE_PX, 3), 200, dtype=torch.uint8)
    pixels[:, 700:1260] = torch.randint(0, 255, (len(pixels), 560, 3), dtype=torch.uint8, generator=generator_for(0))
    piece = busiest_piece(Frame(pixels, "uint8", ImageMeta("png", "RGB")))
    assert piece.shape == (1, 3, PIECE_PX, PIECE_PX)
    assert (piece != 200).float().mean() > 0.85


def test_a_search_that_one_half_misleads_begins_with_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of twenty photographs were sharpened with the kernel of a pattern or of a sky."""
    wrong, right = torch.eye(3) / 3, torch.eye(3).flip(0) / 3
    parts = list[tuple[int, ...]]()

    def first_kernels(seen: torch.Tensor) -> list[torch.Tensor]:
        parts.append(tuple(seen.shape))
        return [right if seen.mean() > 0.5 else wrong] * 2

    def mended(part: Part, kernel: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(1, 3, 340, 400, generator=generator_for(3))
        return noise[..., *part] if kernel is right else noise[..., *part] / 9

    monkeypatch.setattr(shake, "first_kernels", first_kernels)
    monkeypatch.setattr(shake, "blur_kernel", lambda seen, guess, *_: right if guess.max() > 0.5 else wrong)
    halves = torch.cat([torch.full((1, 3, 340, 200), value) for value in (0.2, 0.8)], dim=3)
    assert kernel_of(halves, mended) is right
    assert parts == [(3, 340, 200), (3, 340, 200)]


def test_the_piece_is_found_above_a_wall() -> None:
    """The accident: a portrait photo of 4,000 rows whose middle 600 are sky has no kernel."""
    pixels = torch.full((3 * PIECE_PX, PIECE_PX + 90, 3), 200, dtype=torch.uint8)
    pixels[:500] = torch.randint(0, 255, (500, *pixels.shape[1:]), dtype=torch.uint8, generator=generator_for(0))
    piece = busiest_piece(Frame(pixels, "uint8", ImageMeta("png", "RGB")))
    assert piece.shape == (1, 3, PIECE_PX, PIECE_PX)
    assert (piece != 200).float().mean() > 0.4


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_a_value_that_is_none_does_not_end_the_search(make: Make, small: np.ndarray, value: float) -> None:
    """The accident: one broken pixel of a scientific picture makes all sums nan, and no place is the busiest."""
    picture = small.astype(np.float32) / 255
    picture[40, 50] = value
    piece = busiest_piece(Frame(torch.from_numpy(picture), "float32", ImageMeta("tif", "RGB")))
    assert piece.shape == (1, 3, 96, 128)


def test_rows_of_the_middle_are_kept_where_they_tell_enough() -> None:
    """A hand turns while it shakes: the blur of an edge of the picture is less that of the whole."""
    pixels = torch.randint(0, 200, (1_501, PIECE_PX, 3), dtype=torch.uint8, generator=generator_for(0))
    pixels[:300] = torch.randint(0, 256, (300, PIECE_PX, 3), dtype=torch.uint8, generator=generator_for(1))
    piece = busiest_piece(Frame(pixels, "uint8", ImageMeta("png", "RGB")))
    assert torch.equal(piece[0].permute(1, 2, 0), pixels[450:1050])


@pytest.mark.parametrize("hidden", ["noise", "white"])
def test_what_alpha_hides_is_not_looked_at(make: Make, small: np.ndarray, hidden: str) -> None:
    """The accident: random colours below the transparent part of a cut-out are taken for its sharpest detail."""
    alpha = np.full((*small.shape[:2], 1), 255, np.uint8)
    alpha[:30] = 0
    black, other = small.copy(), small.copy()
    black[:30] = 0
    other[:30] = np.random.default_rng(0).integers(0, 256, other[:30].shape) if hidden == "noise" else 255
    found, expected = (make()(np.dstack((colours, alpha)))[30:] for colours in (other, black))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("gain", "least"), [(900.0, 0.0), (2.0, -1.0), (2000.0, -1000.0)])
def test_a_float_picture_of_any_range_is_seen_alike(
    make: Make, small: np.ndarray, monkeypatch: pytest.MonkeyPatch, gain: float, least: float
) -> None:
    """The accident: what is below 0 is black to the search, which then finds another kernel."""
    found = list[torch.Tensor]()

    def kernel_of(blurred: torch.Tensor, mended: Callable[[Part, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        kernel = torch.ones(1, 1)
        found.extend((blurred, mended(WHOLE, kernel)))
        return kernel

    monkeypatch.setattr(network, "kernel_of", kernel_of)
    picture = (small.astype(np.float32) - small.min()) / (int(small.max()) - small.min())
    for each in (picture, picture * gain + least):
        make()(each)
    assert torch.allclose(found[0], found[2], atol=1e-4)
    assert torch.allclose(found[1], found[3], atol=1e-2)


def test_what_a_network_overshoots_is_no_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: `evaluate` finds other kernels than `restore`, which cuts the network's answer to the range."""
    guesses = list[torch.Tensor]()
    monkeypatch.setattr(shake, "first_kernels", lambda _: [torch.ones(1, 1)])
    monkeypatch.setattr(shake, "blur_kernel", lambda seen, guess, *_: guesses.append(guess) or torch.ones(1, 1))
    image = torch.rand(1, 3, 40, 40, generator=generator_for(2))
    kernel_of(image, lambda part, _: 3 * image[..., *part] - 1)
    assert all(guess.min() >= 0 and guess.max() <= 1 for guess in guesses)
    assert len(guesses) == 2


@pytest.mark.parametrize(("gain", "expected"), [(4 / 3, 4 / 3), (1, 1), (1 / 4, 1), (1 / 90, 0.05)])
def test_a_dark_picture_is_raised_for_the_search(monkeypatch: pytest.MonkeyPatch, gain: float, expected: float) -> None:
    """The accident: edges of a night's photograph are not worth what edges cost, and it becomes worse than it was."""
    seen = list[float]()

    def first_kernels(blurred: torch.Tensor) -> list[torch.Tensor]:
        seen.append(float(blurred.mean()))
        return [torch.ones(1, 1)]

    monkeypatch.setattr(shake, "first_kernels", first_kernels)
    image = 0.75 * torch.rand(1, 3, 40, 40, generator=generator_for(2))
    kernel_of(gain * image, lambda part, _: gain * image[..., *part])
    assert seen == [pytest.approx(expected * float(image.mean()), rel=0.02)]


def test_of_a_sharp_picture_it_is_said(make: Make, sharp: np.ndarray, shaken: np.ndarray) -> None:
    """The accident: a sharp drawing is turned into streaks, and nothing says that nobody had to deblur it."""
    notes = [
        make().frame(Frame(torch.from_numpy(x), "uint8", ImageMeta("png", "RGB"))).meta.notes for x in (sharp, shaken)
    ]
    assert any("sharp already" in note for note in notes[0])
    assert not notes[1]


def test_kernels_are_not_looked_for_by_other_networks(
    make_restorer: Make, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would cost all others half a second a picture."""
    monkeypatch.setattr(network, "kernel_of", lambda *_: pytest.fail("a kernel was looked for"))
    make_restorer()(photo)
