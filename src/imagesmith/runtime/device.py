"""Which device, precision and memory layout a network runs on: decided by measuring, told with its reason."""

import copy
import functools
import hashlib
import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from imagesmith.containers import THE_ROOT, usable_cores
from imagesmith.errors import UsageError
from imagesmith.runtime import exact_head, post_ops, winograd
from imagesmith.runtime.allocator import keep_freed_memory
from imagesmith.runtime.remembered import Answer, found_once
from imagesmith.runtime.turns import least_seconds

Net = Any
"""An `nn.Module` with the attributes that `imagesmith.nets` promises, which torch's types cannot express."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEVICES = ("cpu", "cuda", "mps")

CLEAR_MARGIN = 1.25  # a lower precision must be this much faster to be chosen
LAYOUT_MARGIN = 1.03  # and channels_last this much: the plain layout stays where there is no gain
WINOGRAD_MARGIN = 1.1  # and our own convolutions this much
_LAYERS = 2
"""Counted on whenever `prepare` computes networks by other layers: what was measured of the earlier ones is void."""
_PROBE_MACS = {"cpu": 1.5e9, "cuda": 1.5e11}
"""One pass of the probe: twenty milliseconds of one good core, a few of a GPU, in which overheads do not count."""
_MOST_PROBE_PX = {"cpu": 512, "cuda": 1024}
"""Side of the probe's picture at most."""
_SAMPLE_PX = 64  # side of the picture that tells how many multiplications a pixel takes
_PROBE_ROUNDS = 6
_PROBE_SECONDS = 0.4  # no new round after this


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs; `reason` is a sentence for the user."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool
    reason: str
    winograd: bool = False
    """Whether 3x3 convolutions are computed by `winograd.py`; in float32 and channels_last only."""

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        return f"{self.device.type} {self.arithmetic}: {self.reason}"

    @property
    def arithmetic(self) -> str:
        """All that its results and its speed depend on but the machine, as a short text."""
        return str(_Way(self.dtype, self.channels_last, self.winograd))


def pick_runtime(net: Net, device: str = "auto", dtype: str = "auto") -> Runtime:
    """The fastest runtime for `net` among those that `device` and `dtype` ('fp32' | 'bf16' | 'fp16' | 'auto') leave.

    'auto' takes the first of cuda, mps, cpu that exists, and a precision below float32 only where the device has it and
    the probe finds it faster by `CLEAR_MARGIN`. Float32 on a CPU is with or without `winograd.py`. The probe runs the
    net itself on a small picture, for half a second, once per net shape and machine (`remembered.py`). A device that is
    not there or a precision that it cannot compute is a UsageError.
    """
    place = pick_device(device)
    dtypes = possible_dtypes(place, dtype)
    if place.type == "mps":
        return Runtime(place, dtypes[0], False, "not probed on this device")
    if why_slow := drawback(place, dtype):
        return Runtime(place, dtypes[0], True, f"not probed; {why_slow}")
    if not any(parameter.ndim == 4 for parameter in net.parameters()):
        return Runtime(place, dtypes[0], False, "no convolution whose layout matters")
    ways = _ways(net, place, dtypes)
    found = found_once(
        f"arithmetic of {net_shape(net)} out of {', '.join(map(str, ways))} by {_PROBE_MACS[place.type]:g} MACs",
        place,
        partial(_probe, net, place, ways),
        fits={"way": list(map(str, ways)), "reason": str},
    )
    way = next(way for way in ways if str(way) == found["way"])
    return Runtime(place, way.dtype, way.channels_last, found["reason"], way.winograd)


def net_shape(net: Net) -> str:
    """Class, parameter shapes and what `prepare` makes of them, on which speed depends, as a short text."""
    shapes = ",".join(f"{name}{tuple(parameter.shape)}" for name, parameter in net.named_parameters())
    return f"{type(net).__name__} {hashlib.sha256(shapes.encode()).hexdigest()[:16]}, layers {_LAYERS}"


def prepare(net: Net, runtime: Runtime) -> Net:
    """`placed`, on a CPU with layers that compute the same faster or more exactly there.

    There this process keeps from now on the memory that tensors leave (`allocator.py`).
    """
    ready = placed(net, runtime)
    if runtime.device.type == "cpu":
        keep_freed_memory()
        if runtime.winograd:
            winograd.install(ready)
        post_ops.install(ready)
        exact_head.install(ready, net)
    return ready


def placed(net: Net, runtime: Runtime) -> Net:
    """A copy of `net` for inference: fused, eval, without gradients, cast and moved; `net` itself stays as it is."""
    ready = copy.deepcopy(net).fused().eval().requires_grad_(False)
    ready = ready.to(device=runtime.device, dtype=runtime.dtype)
    for tensor in (*ready.parameters(), *ready.buffers()):
        if tensor.ndim == 4:  # there are layouts of no others, and a module as a whole refuses five dimensions
            tensor.data = tensor.data.to(memory_format=runtime.memory_format)
    return ready


# --- device and precision ---


@functools.cache
def keep_to_usable_cores(root: Path = THE_ROOT) -> None:
    """Let torch compute in no more threads than this process has cores, unless OMP_NUM_THREADS tells how many.

    In a container it takes one for each core of the machine, which then wait for each other's turn.
    """
    cores = usable_cores(root)
    if "OMP_NUM_THREADS" not in os.environ and cores < torch.get_num_threads():
        torch.set_num_threads(cores)


def _name(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def pick_device(device: str) -> torch.device:
    """The device that 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps' means here; UsageError where there is none."""
    keep_to_usable_cores()
    exists = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in exists.items() if there))
    kind = str(device).partition(":")[0]
    if kind not in exists:
        raise UsageError(f"expected a device of auto, {', '.join(DEVICES)}, got '{device}'")
    if not exists[kind]:
        there = ", ".join(name for name in DEVICES if exists[name])
        raise UsageError(f"device '{device}' is not available here; this machine has {there}")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from error


def has_bf16(device: torch.device) -> bool:
    """Whether `device` computes bf16 itself. Emulated, as on processors that end at AVX2, it is not worth a probe."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return (
        device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def low_precision(device: torch.device) -> str | None:
    """The number format of 16 bits that `device` is good at, None where there is none."""
    if has_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else None


def emulates_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed on a CPU that does not have it."""
    return device.type == "cpu" and not has_bf16(device)


def drawback(device: torch.device, dtype: str) -> str:
    """Why a number format is slow on `device`, '' where it is not."""
    if dtype == "bf16" and emulates_bf16(device):
        return "this processor emulates bf16, several times slower than fp32"
    if dtype == "bf16" and device.type == "cuda" and not has_bf16(device):
        return "this GPU emulates bf16, and has fp16"
    if dtype == "fp16" and device.type == "cpu":
        return "fp16 is slow on processors"
    return ""


@functools.cache
def differentiates_twice_in_bf16() -> bool:
    """Whether bf16 convolutions of the CPU have right second derivatives.

    These are convolutions with kernels as large as a picture. oneDNN 3.12, which PyTorch 2.13 has, answers with noise
    where it uses AMX and fewer than 16 pictures are asked for.
    """
    pictures = (torch.arange(4 * 4 * 16 * 16) % 7 - 3.0).view(4, 4, 16, 16)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        found = F.conv2d(pictures.bfloat16(), pictures.bfloat16(), padding=1)
        return torch.allclose(found.float(), F.conv2d(pictures, pictures, padding=1), rtol=0.05, atol=8)


def possible_dtypes(device: torch.device, dtype: str) -> list[torch.dtype]:
    """The precisions worth a probe, float32 first; the one that the user chose, UsageError where it is not there."""
    if dtype == "auto":
        low = low_precision(device)
        return [torch.float32, DTYPES[low]] if low else [torch.float32]
    if dtype not in DTYPES:
        raise UsageError(f"expected a dtype of auto, {', '.join(DTYPES)}, got '{dtype}'")
    if dtype == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is not computed by CPUs; use --dtype bf16, fp32 or auto")
    if dtype == "bf16" and device.type == "cuda" and not has_bf16(device):
        raise UsageError(f"{torch.cuda.get_device_name(device)} has no bf16 arithmetic; use --dtype fp16, fp32 or auto")
    return [DTYPES[dtype]]


# --- the probe ---


class _Way(NamedTuple):
    """A way to compute a network."""

    dtype: torch.dtype
    channels_last: bool
    winograd: bool = False

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{_name(self.dtype)} {layout}{' winograd' * self.winograd}"


def _ways(net: Net, device: torch.device, dtypes: list[torch.dtype]) -> list[_Way]:
    """What is worth a measurement, the plainest first."""
    ways = [_Way(dtype, layout) for dtype in dtypes for layout in (False, True)]
    if device.type == "cpu" and torch.float32 in dtypes and winograd.is_worth_a_try(net):
        ways.append(_Way(torch.float32, channels_last=True, winograd=True))
    return ways


def _probe(net: Net, device: torch.device, ways: list[_Way]) -> Answer:
    """The winner among `ways` and the sentence that says why."""
    seconds = _measure(net, device, ways)
    chosen = _choose(seconds)
    rivals = ", ".join(f"{way} {1e3 * s:.1f} ms" for way, s in seconds.items() if way != chosen)
    return {"way": str(chosen), "reason": f"probe {chosen} {1e3 * seconds[chosen]:.1f} ms against {rivals}"}


def _choose(seconds: dict[_Way, float]) -> _Way:
    """The most exact precision, which comes first, unless a later one beats it clearly; each in its best way."""
    chosen, *rivals = (_best_of(seconds, dtype) for dtype in dict.fromkeys(way.dtype for way in seconds))
    for rival in rivals:
        if seconds[chosen] >= CLEAR_MARGIN * seconds[rival]:
            chosen = rival
    return chosen


def _best_of(seconds: dict[_Way, float], dtype: torch.dtype) -> _Way:
    """The best layout of a precision, or our own convolutions where they beat it."""
    layout = seconds[_Way(dtype, False)] >= LAYOUT_MARGIN * seconds[_Way(dtype, True)]
    best, own = _Way(dtype, layout), _Way(dtype, True, winograd=True)
    return own if own in seconds and seconds[best] >= WINOGRAD_MARGIN * seconds[own] else best


def _measure(net: Net, device: torch.device, ways: list[_Way]) -> dict[_Way, float]:
    """The least seconds of one pass over a small picture for each way."""
    runtimes = {way: Runtime(device, way.dtype, way.channels_last, "", way.winograd) for way in ways}
    ready = {way: prepare(net, runtime) for way, runtime in runtimes.items()}
    runs = {way: getattr(one, "subpixels", one) for way, one in ready.items()}  # films have no sub-pixels
    x = _gray(net, _probe_side(placed(net, runtimes[ways[0]]), device), device)
    passes = {way: partial(run, x.to(memory_format=runtimes[way].memory_format)) for way, run in runs.items()}
    least_seconds(passes, device, rounds=1, enough=0)  # loads libraries and builds kernels
    return least_seconds(passes, device, rounds=_PROBE_ROUNDS, enough=_PROBE_SECONDS)


def _probe_side(net: Net, device: torch.device) -> int:
    """Side of a picture with which a `placed` net takes the device's `_PROBE_MACS`, counted.

    A net that computes at lower resolutions needs a large one: on a picture of a few cells its coarse levels are all
    overhead, and overhead is the same in every precision.
    """
    sample = math.ceil(_SAMPLE_PX / net.multiple_of) * net.multiple_of
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        getattr(net, "subpixels", net)(_gray(net, sample, device))
    macs_per_px = counted.get_total_flops() / 2 / sample**2
    side = math.isqrt(int(_PROBE_MACS[device.type] / max(1, macs_per_px)))
    side = min(_MOST_PROBE_PX[device.type], max(24, side))
    return math.ceil(side / net.multiple_of) * net.multiple_of


def _gray(net: Net, side: int, device: torch.device) -> Tensor:
    return torch.full((1, net.channels + net.planes, side, side), 0.5, device=device)
