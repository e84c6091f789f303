"""Heat maps: what is expected is what is found on average, and more doubt is never drawn darker."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

from imagesmith.data.files import Frame, ImageMeta
from imagesmith.infer.heat import CALIBRATION, WHITE_LEVELS, calibration, expected_error, fitted, heat_map
from imagesmith.infer.holes import FARTHEST_PX, near
from imagesmith.infer.named import of_strength
from imagesmith.infer.restore import Restorer
from imagesmith.runtime.device import Runtime
from imagesmith.zoo import CARDS, load_model

FLOAT32 = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="")


def test_the_power_law_of_errors_is_found_again() -> None:
    """A fit that single outliers, or the many pixels without any error, decide."""
    random = torch.Generator().manual_seed(0)
    doubt = torch.rand(20_000, generator=random) * 10 + 0.01
    error = 3 * doubt**0.6 * torch.empty(20_000).exponential_(generator=random)
    factor, exponent = fitted(doubt, error)
    assert factor == pytest.approx(3, rel=0.05)
    assert exponent == pytest.approx(0.6, abs=0.04)
    assert (factor * doubt**exponent).mean() == pytest.approx(error.mean().item(), rel=1e-3)


def test_a_heat_map_grows_lighter_with_the_error() -> None:
    """A rainbow shows contours where there are none; a map scaled to its own maximum makes every picture look bad."""
    errors = torch.tensor([[0.0, *torch.linspace(0.1, WHITE_LEVELS, 40), 500.0]])
    pixels = heat_map(errors).pixels[0].double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert (pixels.diff() >= 0).all()
    assert pixels[0] < 2
    assert pixels[-1] == pixels[-2] > 230


def test_what_is_deep_in_a_hole_is_doubted_most(make_unet: Callable[..., Restorer]) -> None:
    """The middle of a hole of 120 pixels was shown as free of error, a cut photograph as 0.2 grey levels wrong: 30."""
    pixels = torch.from_numpy(data.astronaut()[:136, :140]).permute(2, 0, 1)
    mask = torch.zeros(136, 140, dtype=torch.bool)
    mask[8:128, 10:130] = True
    found = make_unet("inpaint", planes=1).uncertainty(Frame.of(pixels), mask=mask)
    assert found[mask].min() > 0
    assert not found[~mask].any()
    middle = mask & ~near(~mask, FARTHEST_PX)
    assert found[middle].mean() >= found[mask & ~middle].mean()


def test_only_shipped_weights_are_calibrated(make_restorer, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own run of the preset sr-x4 was given the numbers of the shipped sr-x4, and called calibrated."""
    monkeypatch.setitem(CALIBRATION, "toy", (3.0, 1.0))
    restorer, frame = make_restorer(), Frame.of(torch.from_numpy(photo[:24, :24]).permute(2, 0, 1))
    shipped = expected_error(restorer, frame, None)
    restorer.card = replace(restorer.card, path="runs/toy")
    assert torch.allclose(shipped, 3 * expected_error(restorer, frame, None))


def test_the_less_is_mended_the_more_is_expected_to_be_wrong() -> None:
    """Noise that was kept at half the strength, 10 grey levels of error, was shown as 2; that kept whole as none."""
    clean = torch.from_numpy(data.astronaut()[40:104, 150:214]).permute(2, 0, 1) / 255
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = (clean + 25 / 255 * noise).clamp(0, 1)
    frame = Frame(noisy.permute(1, 2, 0), "float32", ImageMeta("png", "RGB"))
    expected = []
    for strength in (0, 0.5, 1):
        restorer = Restorer.of(load_model("denoise"), strength=strength, runtime=FLOAT32)
        error = 255 * (restorer.frame(frame).pixels.permute(2, 0, 1) - clean).abs().mean().item()
        expected.append(restorer.uncertainty(frame).mean().item())
        assert expected[-1] == pytest.approx(error, rel=1 / 3)
    assert expected[0] > expected[1] > expected[2]


def test_a_blend_is_calibrated_between_its_models() -> None:
    """Half of the sharp network was called not calibrated, for its name is that of no shipped file."""
    sharp = load_model("sr-x4-gan")
    found = [calibration(of_strength(sharp, strength)[0].card) for strength in (0, 1e-5, 0.5, 1)]
    assert (found[0], found[-1]) == (CALIBRATION["sr-x4"], CALIBRATION["sr-x4-gan"])
    assert found[1] == pytest.approx(CALIBRATION["sr-x4"], rel=1e-3)
    assert all(min(ends) < value < max(ends) for value, *ends in zip(found[2], found[0], found[3], strict=True))


def test_calibrations_are_of_shipped_models() -> None:
    """Numbers that outlive the weights they were found with."""
    assert set(CALIBRATION) <= set(CARDS)
    assert all(factor > 0 and 0 < exponent < 2 for factor, exponent in CALIBRATION.values())


def test_what_alpha_hides_is_not_doubted(make_restorer: Callable[..., Restorer], photo: np.ndarray) -> None:
    """The accident: invisible pixels, which stay as they are, are called the most doubtful of all."""
    alpha = np.full((*photo.shape[:2], 1), 255, np.uint8)
    alpha[:, :30] = 0
    other = photo.copy()
    other[:, :30] = np.random.default_rng(0).integers(0, 256, other[:, :30].shape)
    found, expected = (
        make_restorer().uncertainty(Frame(torch.from_numpy(np.dstack((x, alpha))), "uint8", ImageMeta("png", "RGBA")))
        for x in (other, photo)
    )
    assert torch.equal(found, expected)
    assert found[:, :60].max() == 0
    assert found[:, 60:].mean() > 0
