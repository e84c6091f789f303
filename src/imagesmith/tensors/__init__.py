"""The tensor contract of the whole package, and the few operations that define it.

Images are float tensors in [0, 1], RGB (or one gray channel), shape (N, C, H, W); a batch of one is a batch.
Files hold integers or floats of a known depth; `to_float` and `from_float` are the only ways across, and the depth
always comes from the file's header, never from its pixel values.
"""

import functools
import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Depth = Literal["uint8", "uint16", "float32"]
DEPTH_MAX: dict[Depth, int] = {"uint8": 255, "uint16": 65535, "float32": 1}
_DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "float32": torch.float32}


GRAY_WEIGHTS = (0.299, 0.587, 0.114)
"""BT.601 full-range luma: what makes gray of R, G and B, and leaves R = G = B unchanged."""


def to_float(x: Tensor, depth: Depth) -> Tensor:
    """File values (any shape, dtype of `depth`) to float32 in [0, 1]; float files are passed on unclamped."""
    assert x.dtype == _DTYPES[depth], f"depth {depth} is stored as {_DTYPES[depth]}, got {x.dtype}"
    if depth == "float32":
        return x
    return x.to(torch.float32).div_(DEPTH_MAX[depth])


def from_float(x: Tensor, depth: Depth) -> Tensor:
    """Float in [0, 1] to file values of `depth`, clamped and rounded half up; float32 is passed on unclamped."""
    if depth == "float32":
        return x.to(torch.float32)
    top = DEPTH_MAX[depth]
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # half precision holds fewer levels than a file
    y = torch.add(x.new_tensor(0.5, dtype=torch.float32), x, alpha=top).clamp_(0, top)
    return y.to(_DTYPES[depth])  # truncates


def to_gray(x: Tensor) -> Tensor:
    """BT.601 full-range luma (..., 1, H, W) of RGB (..., 3, H, W) in any unit; one channel is passed on."""
    if x.shape[-3] == 1:
        return x
    return torch.einsum("...chw,c->...hw", x, x.new_tensor(GRAY_WEIGHTS)).unsqueeze(-3)


def luma(x: Tensor) -> Tensor:
    """BT.601 studio-range luma (N, 1, H, W) float64 in [16/255, 235/255] of RGB (N, 3, H, W) in [0, 1].

    The Y of MATLAB's rgb2ycbcr, as every super-resolution paper uses it. One gray channel counts as R = G = B.
    """
    if x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    weights = x.new_tensor([65.481, 128.553, 24.966], dtype=torch.float64) / 255
    return torch.einsum("nchw,c->nhw", x.double(), weights).unsqueeze(1) + 16 / 255


def seed_for(*keys: int) -> int:
    """One 63-bit seed for a tuple of integers (run seed, image number, ...), the same on every machine and day.

    PyTorch's generator on the CPU keeps 32 bits of it: of 100,000 different keys about one pair draws the same numbers.
    """
    state = 0x9E3779B97F4A7C15
    for key in keys:  # SplitMix64, Steele et al. 2014
        state = (state + (key & (2**64 - 1)) + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state = z ^ (z >> 31)
    return state >> 1


def generator_for(*keys: int) -> torch.Generator:
    """A CPU generator that depends on nothing but the keys; see `seed_for`."""
    return torch.Generator().manual_seed(seed_for(*keys))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory: CUDA has a class for it, the CPU allocator says it in a RuntimeError's text."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "DefaultCPUAllocator" in str(error) or "can't allocate memory" in str(error)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981, eq. 15)."""
    x = x.abs()
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, inner, torch.where(x <= 2, outer, torch.zeros_like(x)))


@functools.lru_cache(maxsize=64)
def _taps(n_in: int, n_out: int, scale: float) -> tuple[Tensor, Tensor]:
    """Which inputs each output of MATLAB's imresize(..., 'bicubic') sums along one axis, and their float64 weights.

    Both (n_out, taps); indices beyond an edge name the edge (replication).
    """
    stretch = min(scale, 1.0)  # below 1 the kernel is widened: MATLAB's antialiasing
    width = 4.0 / stretch
    centre = torch.arange(1, n_out + 1, dtype=torch.float64) / scale + 0.5 * (1 - 1 / scale)
    first = torch.floor(centre - width / 2)
    taps = first[:, None] + torch.arange(math.ceil(width) + 2, dtype=torch.float64)
    weights = _cubic((centre[:, None] - taps) * stretch)
    return (taps.long() - 1).clamp_(0, n_in - 1), weights / weights.sum(dim=1, keepdim=True)


def imresize(x: Tensor, scale: float) -> Tensor:
    """Bicubic resize by MATLAB's convention (antialiased below 1), rows before columns.

    `x` is (..., H, W); the result (..., ceil(H * scale), ceil(W * scale)). A uint8 tensor is rounded to uint8 after
    each axis, as MATLAB does, so low-resolution test images come out bit-equal to the published ones; a float tensor
    is computed in float64 and returned in its own dtype, unclamped.
    """
    y = x.double()
    for axis in (-2, -1):
        lines = y.movedim(axis, 0)
        n_in = lines.shape[0]
        indices, weights = (part.to(x.device) for part in _taps(n_in, math.ceil(n_in * scale - 1e-9), float(scale)))
        # a weighted sum of rows of a table is what an embedding bag computes, without a copy for each tap
        sums = F.embedding_bag(indices, lines.reshape(n_in, -1), per_sample_weights=weights, mode="sum")
        y = sums.view(-1, *lines.shape[1:]).movedim(0, axis)
        if x.dtype == torch.uint8:
            y = y.add_(0.5).floor_().clamp_(0, 255)
    return y.to(x.dtype).contiguous()
