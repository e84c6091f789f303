"""Blur that is the same all over a picture: the kernel between a blurred picture and a sharp one, and taking it back.

A kernel is (K, K), K odd, not negative, of sum 1; its centre of mass is where a point stays. Pictures are (C, H, W).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from imagesmith.tensors.edges import mirrored
from imagesmith.tensors.fourier import fast_size

KERNEL_REACH_PX = 9
"""How far from its middle a kernel that is looked for reaches: shakes of up to 19 pixels."""
FILTER_REACH_PX = 48
"""How far `deconvolved` looks around a pixel."""
NOISES = (0.01, 0.002)
"""The two amounts of noise, see `deconvolved`, of what a network is told: the likely one, and one for more detail."""
_WEAKEST = 0.05
"""Parts of a kernel below this share of its peak are noise."""
_RIDGE = 5e-5
"""What a kernel's square costs, for each pixel of the picture."""
_FLAT = 1e-3
"""What a filter's answer to brightness costs beside its answer to detail."""
_STEPS = 4
"""From pixel to pixel through a kernel, between two looks at whether there is more."""


def gradients(x: Tensor) -> Tensor:
    """Differences to the right and downwards of a periodic (1, H, W): (2, H, W)."""
    return torch.cat([differences(x, -1), differences(x, -2)])


def differences(x: Tensor, dim: int, *, at_next: bool = False) -> Tensor:
    """From each value of a periodic `x` to the next along `dim`, in the place of either; `roll` would copy first."""
    result, last = torch.empty_like(x), x.shape[dim] - 1
    start, seam = (1, 0) if at_next else (0, last)
    torch.sub(x.narrow(dim, 1, last), x.narrow(dim, 0, last), out=result.narrow(dim, start, last))
    torch.sub(x.narrow(dim, 0, 1), x.narrow(dim, last, 1), out=result.narrow(dim, seam, 1))
    return result


def power(spectrum: Tensor) -> Tensor:
    """The squares of the absolute values of complex numbers; `abs` takes roots first, slowly."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


def kernel_between(
    blurred: Tensor, slopes: Tensor, weight: Tensor, reach: int = KERNEL_REACH_PX, softness_px: float = 0.0
) -> Tensor:
    """The kernel whose convolution with the `slopes` (2, H, W) of a sharp picture gives those of `blurred` (1, H, W).

    2 * reach + 1 pixels a side. Least squares in one step (Cho and Lee 2009, sec. 4.2), of periodic pictures; `weight`
    (H, W) fades their seams. `softness_px` is the standard deviation of a Gaussian that the slopes lack. What cannot be
    of a shake is taken away: negative parts, weak parts, islands.
    """
    size = blurred.shape[-2:]
    wanted, given = torch.fft.rfft2(gradients(blurred) * weight), torch.fft.rfft2(slopes * weight)
    if softness_px > 0:
        given *= _gaussian_spectrum(softness_px, *size)
    quotient = (given.conj() * wanted).sum(0) / (power(given).sum(0) + _RIDGE * blurred.numel())
    solved = torch.fft.irfft2(quotient, s=size)
    side = 2 * reach + 1
    kernel = solved.roll((reach, reach), (0, 1))[:side, :side].clamp(min=0)
    return _centred(_one_piece(torch.where(kernel < _WEAKEST * kernel.max(), 0.0, kernel)))


def deconvolved(picture: Tensor, kernel: Tensor, noise: float) -> Tensor:
    """`picture` with `kernel` taken back, where it is stronger than `noise` (the power of noise to that of slopes).

    Wiener's filter, its answer cut off at `FILTER_REACH_PX`, so that pieces with so much around them are those of the
    whole; mirrored beyond the edges, where it rings.
    """
    return _deconvolved(picture, kernel, [noise])[0]


def deconvolution_planes(picture: Tensor, kernel: Tensor | None) -> Tensor:
    """What a network is told of a picture (C, H, W), C = 1 or 3: (6, H, W), RGB deconvolved for each of `NOISES`.

    Where no kernel is known (None), the picture itself, twice.
    """
    each = [picture] * len(NOISES) if kernel is None else _deconvolved(picture, kernel, NOISES)
    return torch.cat([x.expand(3, -1, -1) for x in each])


def fading(size: Sequence[int], border: int) -> Tensor:
    """(H, W) of this `size` from 0 at the edges to 1 at `border` pixels from them."""
    sides = [torch.arange(length) for length in size]
    rows, columns = (((torch.minimum(side, side.flip(0)) + 0.5) / border).clamp(max=1) for side in sides)
    return rows[:, None] * columns


def kernel_spectrum(kernel: Tensor, height: int, width: int) -> Tensor:
    """What a convolution with `kernel`, about its centre of mass, multiplies `rfft2` of a periodic picture with."""
    reach = kernel.shape[0] // 2
    canvas = kernel.new_zeros(height, width)
    canvas[: len(kernel), : len(kernel)] = kernel
    down, right = _centre_of_mass(kernel)
    phases = torch.fft.fftfreq(height) * (reach + down), torch.fft.rfftfreq(width) * (reach + right)
    rows, columns = (torch.polar(torch.ones_like(phase), 2 * math.pi * phase) for phase in phases)
    return torch.fft.rfft2(canvas).mul_(rows[:, None]).mul_(columns)


def slope_power(height: int, width: int) -> Tensor:
    """What `gradients` multiply the power of each frequency of `rfft2` with, both directions together."""
    down, right = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    return 4 - 2 * torch.cos(2 * math.pi * down) - 2 * torch.cos(2 * math.pi * right)


def _gaussian_spectrum(deviation_px: float, height: int, width: int) -> Tensor:
    """What a convolution with a Gaussian multiplies each frequency of `rfft2` with."""
    frequencies = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    rows, columns = (torch.exp(-2 * (math.pi * deviation_px * each) ** 2) for each in frequencies)
    return rows * columns


def _deconvolved(picture: Tensor, kernel: Tensor, noises: Sequence[float]) -> list[Tensor]:
    """`deconvolved` for each of some amounts of noise."""
    reach = FILTER_REACH_PX
    padded = mirrored(picture, reach, reach, reach, reach)
    size = fast_size(padded.shape[-2:])
    seen = torch.fft.rfft2(padded, s=size)
    rows, columns = (slice(2 * reach, 2 * reach + length) for length in picture.shape[-2:])
    answers = (torch.fft.rfft2(_answer(kernel, noise).to(picture.device), s=size) for noise in noises)
    return [torch.fft.irfft2(seen * answer, s=size)[:, rows, columns] for answer in answers]


def _answer(kernel: Tensor, noise: float) -> Tensor:
    """What Wiener's filter makes of a point, cut off at `FILTER_REACH_PX`."""
    reach, side = FILTER_REACH_PX, 2 * FILTER_REACH_PX + 1
    spectrum = kernel_spectrum(kernel, 256, 256)
    filtered = spectrum.conj() / (power(spectrum) + noise * (slope_power(256, 256) + _FLAT))
    answer = torch.fft.irfft2(filtered, s=(256, 256)).roll((reach, reach), (0, 1))[:side, :side]
    window = (math.pi * (2 * torch.linspace(-1, 1, side).abs() - 1).clamp(0, 1)).cos().add(1).div(2)
    answer = answer * window[:, None] * window
    return answer / answer.sum()


def _centre_of_mass(kernel: Tensor) -> tuple[float, float]:
    """Down and right from the middle, in pixels."""
    steps = torch.arange(len(kernel), dtype=kernel.dtype) - len(kernel) // 2
    return float(kernel.sum(1) @ steps), float(kernel.sum(0) @ steps)


def _one_piece(kernel: Tensor) -> Tensor:
    """What hangs together with the peak."""
    there, reached, count = kernel > 0, (kernel == kernel.max()).to(kernel.dtype)[None, None], -1.0
    while count < (count := float(reached.sum())):
        for _ in range(_STEPS):
            reached = torch.nn.functional.max_pool2d(reached, 3, stride=1, padding=1) * there
    return kernel * reached[0, 0]


def _centred(kernel: Tensor) -> Tensor:
    """Of sum 1, moved by whole pixels until its centre of mass is as near the middle as can be; one point if empty."""
    total = kernel.sum()
    if not total > 0:
        kernel = torch.zeros_like(kernel)
        kernel[len(kernel) // 2, len(kernel) // 2] = total = 1.0
    kernel = kernel / total
    down, right = map(round, _centre_of_mass(kernel))
    moved = torch.nn.functional.pad(kernel, (-right, right, -down, down))  # what leaves at one side enters at no other
    return moved / moved.sum()
