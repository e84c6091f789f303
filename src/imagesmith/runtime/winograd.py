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
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
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
"""Channels on both sides are computed in multiples of it, as in the C file."""
_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-ffp-contract=fast", "-fopenmp")
_COMPILING_S = 60.0
_WORTH_PADDING = 1.5
"""Up to so many times the multiplications in whole panels are fewer than PyTorch's."""
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


@dataclass(frozen=True)
class Compiled:
    """The functions of `winograd.c`, which take addresses and sizes and return whether there was too little memory."""

    convolve: Callable[..., int]
    add_pair: Callable[..., int]


class WinogradConv(nn.Conv2d):
    """A 3x3 convolution (N, C, H, W) -> (N, C', H, W), float32 in channels_last, of whole panels of channels.

    Parameters and their names are those of the convolution that it was made of; only for inference. Where it was sent
    to a machine that has no such kernel, it computes as PyTorch does.
    """

    kernels: Tensor
    biases: Tensor

    def forward(self, input: Tensor) -> Tensor:
        compiled = kernel()
        if compiled is None or not self.takes(input):
            return super().forward(input)
        missing = _padded(self.in_channels) - self.in_channels
        x = (F.pad(input, (0, 0, 0, 0, 0, missing)) if missing else input).contiguous(memory_format=torch.channels_last)
        count, channels, height, width = x.shape
        y = torch.empty((count, len(self.biases), height, width), memory_format=torch.channels_last)
        for picture, result in zip(x, y, strict=True):
            addresses = (each.data_ptr() for each in (picture, self.kernels, self.biases, result))
            _check(compiled.convolve(*addresses, height, width, channels, len(self.biases)))
        return y[:, : self.out_channels]

    def takes(self, x: Tensor) -> bool:
        """Whether the C functions may be given the memory of `x`; PyTorch computes or refuses everything else."""
        is_float32 = x.dtype == self.kernels.dtype == self.biases.dtype == torch.float32
        is_picture = x.device.type == "cpu" and x.ndim == 4 and x.shape[1] == self.in_channels
        return is_float32 and is_picture and not (torch.is_grad_enabled() and x.requires_grad)


class WinogradPair(Pair):
    """x + conv(relu(conv(x))) in the memory of x, which is read and written once."""

    first: WinogradConv
    second: WinogradConv

    def forward(self, x: Tensor) -> Tensor:
        compiled = kernel()
        if compiled is None or not self.first.takes(x):
            return super().forward(x)
        x = x.contiguous(memory_format=torch.channels_last)
        _, channels, height, width = x.shape
        layers = self.first.kernels, self.first.biases, self.second.kernels, self.second.biases
        for picture in x:
            addresses = (each.data_ptr() for each in (picture, *layers))
            _check(compiled.add_pair(*addresses, height, width, channels))
        return x


def is_worth_a_try(net: nn.Module) -> bool:
    """Whether `net` has convolutions that this process can compute so."""
    return any(map(_suits, net.modules())) and kernel() is not None


def install(net: nn.Module) -> None:
    """Let the convolutions of `net` that suit be computed so, from now on and in place; float32 on a CPU."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and _suits(module):
            weight, bias = _whole_panels(module)
            module.register_buffer("kernels", _transformed(weight), persistent=False)
            module.register_buffer("biases", bias, persistent=False)
            module.__class__ = WinogradConv  # parameters, their names and the places that know the module stay
    for module in net.modules():
        if type(module) is Pair and _suits_as_pair(module):
            module.__class__ = WinogradPair


def is_in_place(net: nn.Module) -> bool:
    """Whether a prepared `net` has pairs of convolutions that take no memory of their own."""
    return any(isinstance(module, WinogradPair) for module in net.modules())


@functools.cache
def kernel() -> Compiled | None:
    """The compiled functions of `winograd.c`, or None where they cannot be had; compiled at most once."""
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
    if not (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.stride == module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    ):
        return False
    computed = _padded(module.in_channels) * _padded(module.out_channels)
    return computed <= _WORTH_PADDING * module.in_channels * module.out_channels


def _suits_as_pair(pair: Pair) -> bool:
    convs = pair.first, pair.second
    widths = {width for conv in convs for width in (conv.in_channels, conv.out_channels)}
    return all(isinstance(conv, WinogradConv) for conv in convs) and len(widths) == 1 and widths.pop() % PANEL == 0


def _padded(channels: int) -> int:
    """The least multiple of PANEL from `channels` on."""
    return math.ceil(channels / PANEL) * PANEL


def _whole_panels(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of `conv` with zeros for the channels that `_padded` adds."""
    weight = conv.weight.detach()
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    to, channels = (_padded(count) - count for count in (conv.out_channels, conv.in_channels))
    return F.pad(weight, (0, 0, 0, 0, 0, channels, 0, to)), F.pad(bias, (0, to))


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for a few tiles of a convolution")


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


def _loaded(library: Path) -> Compiled | None:
    """The functions of a compiled file; None where that is broken, needs another OpenMP, or computes nonsense."""
    try:
        loaded: Any = ctypes.CDLL(str(library))
        found = Compiled(loaded.convolve, loaded.add_pair)
    except (OSError, AttributeError):
        return None
    found.convolve.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int] * 4  # type: ignore[attr-defined]
    found.add_pair.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int] * 3  # type: ignore[attr-defined]
    return found if _is_right(found) else None


def _is_right(found: Compiled) -> bool:
    """Whether they compute what PyTorch does: no compiler, cache or other machine's library is trusted."""
    generator = torch.Generator().manual_seed(0)
    x, wide, narrow, bias = (
        torch.randn(shape, generator=generator) for shape in ((9, 11, 32), (32, 32, 3, 3), (16, 32, 3, 3), (32,))
    )
    as_torch, weights = x.permute(2, 0, 1)[None].clone(), [wide / 17, narrow / 17]
    kernels = [_transformed(weight) for weight in weights]
    y = torch.empty(9, 11, 16)
    if found.convolve(*(each.data_ptr() for each in (x, kernels[1], bias, y)), 9, 11, 32, 16):
        return False
    expected = F.conv2d(as_torch, weights[1], bias[:16], padding=1)[0].permute(1, 2, 0)
    if not (y - expected).abs().max() < _CLOSE:
        return False
    if found.add_pair(*(each.data_ptr() for each in (x, kernels[0], bias, kernels[0], bias)), 9, 11, 32):
        return False
    inner = F.conv2d(as_torch, weights[0], bias, padding=1).relu()
    expected = as_torch + F.conv2d(inner, weights[0], bias, padding=1)
    return bool((x - expected[0].permute(1, 2, 0)).abs().max() < _CLOSE)
