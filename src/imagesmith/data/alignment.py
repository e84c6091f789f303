"""How far one picture is displaced against another, to a fraction of a pixel."""

import math

import torch
from torch import Tensor

MOST_PX = 512
"""Only so much of the middle is looked at."""
_FINEST = 0.05
"""Standard deviation, in cycles a pixel, of the frequencies that count: noise and codecs leave coarse ones alone."""


def displacement(moved: Tensor, still: Tensor) -> tuple[float, float, float]:
    """(rows, columns) by which `moved` lies below and to the right of `still`, both (H, W), and how sure that is.

    Phase correlation (Kuglin and Hines 1975) under a Gaussian, whose peak is found between pixels by a parabola through
    its logarithm. Sureness is 1 for one displacement of everything, 0.7 where a blur of 15 pixels spreads it, and 0.1
    (of 400 pixels a side) to 0.2 (of 160) for two pictures that have nothing in common; it is nearly 0 for flat ones.
    """
    assert moved.shape == still.shape, f"expected equal shapes, got {moved.shape} and {still.shape}"
    height, width = (min(size, MOST_PX) for size in still.shape)
    top, left = (still.shape[0] - height) // 2, (still.shape[1] - width) // 2
    windows = (torch.hann_window(size, periodic=False, dtype=torch.float64) for size in (height, width))
    window = torch.outer(*windows)

    def spectrum(image: Tensor) -> Tensor:
        image = image[top : top + height, left : left + width].double()
        return torch.fft.rfft2((image - (image * window).sum() / window.sum()) * window)

    cross = spectrum(moved) * spectrum(still).conj()
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)
    weight = torch.exp(-0.5 * (rows.square() + columns.square()) / _FINEST**2)
    weight[0, 0] = 0
    # what is far below the strongest frequency is rounding, and its phase chance
    phase = cross / cross.abs().clamp(min=1e-12 * max(1.0, float(cross.abs().max())))
    peaks = torch.fft.irfft2(phase * weight, s=(height, width))
    perfect = torch.fft.irfft2(weight.to(torch.complex128), s=(height, width))[0, 0]
    row, column = divmod(int(peaks.argmax()), width)
    down = row + _vertex(peaks[row - 1, column], peaks[row, column], peaks[(row + 1) % height, column])
    right = column + _vertex(peaks[row, column - 1], peaks[row, column], peaks[row, (column + 1) % width])
    return (
        down - height * (down > height / 2),
        right - width * (right > width / 2),
        float(peaks[row, column] / perfect),
    )


def _vertex(before: Tensor, at: Tensor, after: Tensor) -> float:
    """Where, between -1 and 1, a Gaussian through three neighbours has its top."""
    low, middle, high = (math.log(max(float(value), 1e-12)) for value in (before, at, after))
    bend = low - 2 * middle + high
    return 0.0 if bend >= 0 else 0.5 * (low - high) / bend
