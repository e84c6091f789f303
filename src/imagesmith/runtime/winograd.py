"""3x3 convolutions in float32 with a quarter of the multiplications, for processors without a fast lower precision.

Winograd's F(4x4, 3x3) (Lavin and Gray 2016) as in `winograd.c`, which is compiled once for this processor by the `gcc`
that is found, and kept beside the probe's answers. PyTorch computes such convolutions directly on CPUs. The results are
those of PyTorch to rounding: within some 1e-5 of the largest value. Where there is no compiler, or no folder to keep
the library in, nothing changes.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.atomic import make_folder, write_whole
from imagesmith.errors import OutputError
from imagesmith.nets.compact import Pair
from imagesmith.runtime.remembered import probe_file

PANEL = 16
"""Channels on both sides are multiples of it, as in the C file."""
_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-ffp-contract=fast", "-fopenmp")
_COMPILING_S = 60.0
_CLOSE = 1e-3  # of results of size 1, far above rounding and far below any mistake
# rows: a 3x3 kernel's values at the six points
_POINTS = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_Convolve = Callable[..., int]


class WinogradConv(nn.Conv2d):
    """A 3x3 convolution (N, C, H, W) -> (N, C', H, W), float32 in channels_last, with what follows it in one go.

    Parameters and their names are those of the convolution that it was made of; only for inference. Where it was sent
    to a machine that has no such kernel, it computes as PyTorch does.
    """

    kernels: Tensor
    biases: Tensor

    def forward(self, input: Tensor, *, relu: bool = False, skip: Tensor | None = None) -> Tensor:
        convolve = kernel()
        if convolve is None or not self._takes(input):
            result = super().forward(input)
            result = F.relu(result) if relu else result
            return result if skip is None else result + skip
        x = input.contiguous(memory_format=torch.channels_last)
        count, _, height, width = x.shape
        y = torch.empty((count, self.out_channels, height, width), memory_format=torch.channels_last)
        assert skip is None or (skip.shape == y.shape and skip.dtype == y.dtype)
        sources = x if skip is None else skip.contiguous(memory_format=torch.channels_last)
        for picture, summand, result in zip(x, sources, y, strict=True):
            failed = convolve(
                picture.data_ptr(),
                self.kernels.data_ptr(),
                self.biases.data_ptr(),
                None if skip is None else summand.data_ptr(),
                result.data_ptr(),
                *(height, width, self.in_channels, self.out_channels, relu),
            )
            if failed:
                raise MemoryError("no memory for a few tiles of a convolution")
        return y

    def _takes(self, x: Tensor) -> bool:
        """Whether the C function may be given the memory of `x`; PyTorch computes or refuses everything else."""
        is_float32 = x.dtype == self.kernels.dtype == self.biases.dtype == torch.float32
        is_picture = x.device.type == "cpu" and x.ndim == 4 and x.shape[1] == self.in_channels
        return is_float32 and is_picture and not (torch.is_grad_enabled() and x.requires_grad)


class WinogradPair(Pair):
    """x + conv(relu(conv(x))) in two passes over the picture."""

    first: WinogradConv
    second: WinogradConv

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x, relu=True), skip=x)


def is_worth_a_try(net: nn.Module) -> bool:
    """Whether `net` has convolutions that this process can compute so."""
    return any(map(_suits, net.modules())) and kernel() is not None


def install(net: nn.Module) -> None:
    """Let the convolutions of `net` that suit be computed so, from now on and in place; float32 on a CPU."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and _suits(module):
            bias = torch.zeros(module.out_channels) if module.bias is None else module.bias.detach()
            module.register_buffer("kernels", _transformed(module.weight), persistent=False)
            module.register_buffer("biases", bias, persistent=False)
            module.__class__ = WinogradConv  # parameters, their names and the places that know the module stay
    for module in net.modules():
        if type(module) is Pair and isinstance(module.first, WinogradConv) and isinstance(module.second, WinogradConv):
            module.__class__ = WinogradPair


@functools.cache
def kernel() -> _Convolve | None:
    """The compiled function of `winograd.c`, or None where it cannot be had; it is compiled at most once."""
    flags = _processor_flags()
    cache = probe_file()
    if flags is None or cache is None:
        return None
    command = [*_FLAGS, *flags]
    with contextlib.suppress(OSError, OutputError, subprocess.SubprocessError):
        digest = hashlib.sha256(_SOURCE.read_bytes() + repr(command).encode()).hexdigest()[:16]
        library = cache.with_name(f"winograd-{digest}.so")
        if library.is_file() and (kept := _loaded(library)):
            return kept
        _compile(command, library)
        return _loaded(library)
    return None


def _suits(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.stride == module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and module.in_channels % PANEL == module.out_channels % PANEL == 0
    )


def _transformed(weight: Tensor) -> Tensor:
    """(to, from, 3, 3) -> (to / PANEL, 36, from, PANEL)."""
    to, channels = weight.shape[:2]
    at_points = torch.einsum("ay,oiyx,bx->aboi", _POINTS, weight.detach().double(), _POINTS)
    return at_points.reshape(36, to // PANEL, PANEL, channels).permute(1, 0, 3, 2).float().contiguous()


def _processor_flags() -> list[str] | None:
    """What tells the compiler this processor's vector registers; None for one whose are not known here."""
    if not sys.platform.startswith("linux"):
        return None
    if platform.machine() == "aarch64":
        return ["-mcpu=native", "-DLANES=4"]
    known = {"AVX2": ["-mavx2", "-mfma", "-DLANES=8"], "AVX512": ["-mavx512f", "-mfma", "-DLANES=16"]}
    return known.get(torch.backends.cpu.get_cpu_capability())


def _compile(command: list[str], library: Path) -> None:
    """Compile the C file into `library`; OSError, OutputError or SubprocessError where that is not possible."""
    gcc = shutil.which("gcc")
    make_folder(library.parent)
    if gcc is None or not os.access(library.parent, os.W_OK):
        raise OSError("no gcc, or no folder to keep its work")
    with tempfile.TemporaryDirectory(prefix="imagesmith-") as folder:
        made = Path(folder) / "winograd.o"
        linked = made.with_suffix(".so")
        # linked without OpenMP: it shall be PyTorch's, whose threads are there already
        for step in ([*command, "-c", str(_SOURCE), "-o", str(made)], ["-shared", str(made), "-o", str(linked)]):
            subprocess.run([gcc, *step], check=True, capture_output=True, timeout=_COMPILING_S)
        write_whole(library, linked.read_bytes())


def _loaded(library: Path) -> _Convolve | None:
    """The function of a compiled file; None where that is broken, needs another OpenMP, or computes nonsense."""
    try:
        convolve: Any = ctypes.CDLL(str(library)).convolve
    except (OSError, AttributeError):
        return None
    convolve.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int] * 5
    return convolve if _is_right(convolve) else None


def _is_right(convolve: _Convolve) -> bool:
    """Whether it computes what PyTorch does: no compiler, cache or other machine's library is trusted."""
    generator = torch.Generator().manual_seed(0)
    x, skip, weight, bias = (
        torch.randn(shape, generator=generator).contiguous()
        for shape in ((9, 11, 32), (9, 11, 16), (16, 32, 3, 3), (16,))
    )
    y = torch.empty_like(skip)
    kernels = _transformed(weight / 17)
    pointers = (each.data_ptr() for each in (x, kernels, bias, skip, y))
    if convolve(*pointers, 9, 11, 32, 16, True):
        return False
    expected = F.conv2d(x.permute(2, 0, 1)[None], weight / 17, bias, padding=1).relu()[0].permute(1, 2, 0) + skip
    return bool((y - expected).abs().max() < _CLOSE)
