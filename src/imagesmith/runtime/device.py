"""Which device, precision and memory layout a network runs on: decided by measuring, told with its reason."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from imagesmith.errors import UsageError

Net = Any
"""An `nn.Module` with the attributes that `imagesmith.nets` promises, which torch's types cannot express."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEVICES = ("cpu", "cuda", "mps")

CLEAR_MARGIN = 1.25  # a lower precision or another layout must be this much faster to be chosen
_PROBE_MACS = 2e8  # one pass of the probe: two milliseconds of one good core, 25 on a slow path
_PROBE_ROUNDS = 5
_PROBE_SECONDS = 0.2  # no new round after this
_HOPELESS = 8.0  # a candidate this much slower than the best so far is not run again


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs; `reason` is a sentence for the user."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool
    reason: str

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{self.device.type} {_name(self.dtype)} {layout}: {self.reason}"


def pick_runtime(net: Net, device: str = "auto", dtype: str = "auto") -> Runtime:
    """The fastest runtime for `net` among those that `device` and `dtype` ('fp32' | 'bf16' | 'fp16' | 'auto') leave.

    'auto' takes the first of cuda, mps, cpu that exists, and a precision below float32 only where the probe finds it
    faster by `CLEAR_MARGIN`. The probe runs the net itself on a small picture, well under half a second, once per
    net shape and process. A device that is not there or a precision that it cannot compute is a UsageError.
    """
    place = pick_device(device)
    dtypes = possible_dtypes(place, dtype)
    if place.type == "mps":
        return Runtime(place, dtypes[0], False, "not probed on this device")
    if not any(parameter.ndim == 4 for parameter in net.parameters()):
        return Runtime(place, dtypes[0], False, "no convolution whose layout matters")
    winner, reason = _probe(net, place, dtypes)
    return Runtime(place, winner[0], winner[1], reason)


def prepare(net: Net, runtime: Runtime) -> Net:
    """A copy of `net` for inference: fused, eval, without gradients, cast and moved; `net` itself stays as it is."""
    ready = copy.deepcopy(net).fused().eval().requires_grad_(False)
    return ready.to(device=runtime.device, dtype=runtime.dtype, memory_format=runtime.memory_format)


# --- device and precision ---


def _name(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def pick_device(device: str) -> torch.device:
    """The device that 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps' means here; UsageError where there is none."""
    exists = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in exists.items() if there))
    kind = device.partition(":")[0]
    if kind not in exists:
        raise UsageError(f"expected a device of auto, {', '.join(DEVICES)}, got '{device}'")
    if not exists[kind]:
        there = ", ".join(name for name in DEVICES if exists[name])
        raise UsageError(f"device '{device}' is not available here; this machine has {there}")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from error


def possible_dtypes(device: torch.device, dtype: str) -> list[torch.dtype]:
    """The precisions that `device` computes, float32 first; exactly one where the user chose, UsageError where none."""
    bf16_in_hardware = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if dtype == "auto":
        if device.type == "mps":
            return [torch.float32]
        return [torch.float32, torch.bfloat16 if bf16_in_hardware else torch.float16]
    if dtype not in DTYPES:
        raise UsageError(f"expected a dtype of auto, {', '.join(DTYPES)}, got '{dtype}'")
    if dtype == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is not computed by CPUs; use --dtype bf16, fp32 or auto")
    if dtype == "bf16" and not bf16_in_hardware:
        raise UsageError(f"{torch.cuda.get_device_name(device)} has no bf16 arithmetic; use --dtype fp16, fp32 or auto")
    return [DTYPES[dtype]]


# --- the probe ---

_Candidate = tuple[torch.dtype, bool]  # precision, channels_last
_probed: dict[tuple, tuple[_Candidate, str]] = {}


def _probe(net: Net, device: torch.device, dtypes: list[torch.dtype]) -> tuple[_Candidate, str]:
    """The winner among `dtypes` x layouts and the sentence that says why; remembered per net shape."""
    shape = tuple((name, tuple(parameter.shape)) for name, parameter in net.named_parameters())
    key = (type(net), shape, device, tuple(dtypes))
    if key not in _probed:
        candidates = [(dtype, layout) for dtype in dtypes for layout in (True, False)]
        _probed[key] = _choose(_measure(net, device, candidates))
    return _probed[key]


def _choose(seconds: dict[_Candidate, float]) -> tuple[_Candidate, str]:
    """The first candidate unless a later one beats it by a clear margin; the most exact ones come first."""
    chosen = next(iter(seconds))
    for rival, rival_seconds in seconds.items():
        if seconds[chosen] >= CLEAR_MARGIN * rival_seconds:
            chosen = rival
    rivals = ", ".join(f"{_label(c)} {1e3 * s:.1f} ms" for c, s in seconds.items() if c != chosen)
    return chosen, f"probe {_label(chosen)} {1e3 * seconds[chosen]:.1f} ms against {rivals}"


def _label(candidate: _Candidate) -> str:
    return f"{_name(candidate[0])} {'channels_last' if candidate[1] else 'contiguous'}"


@torch.inference_mode()
def _measure(net: Net, device: torch.device, candidates: list[_Candidate]) -> dict[_Candidate, float]:
    """The least seconds of one pass over a small picture for each candidate, measured in turns until time is up."""
    weights = sum(parameter.numel() for parameter in net.parameters())
    side = min(96, max(24, math.isqrt(int(_PROBE_MACS / weights))))
    side = math.ceil(side / net.multiple_of) * net.multiple_of
    passes = {}
    for dtype, channels_last in candidates:
        runtime = Runtime(device, dtype, channels_last, reason="")
        x = torch.full((1, net.channels + net.planes, side, side), 0.5, device=device).to(
            memory_format=runtime.memory_format
        )
        ready = prepare(net, runtime)
        passes[dtype, channels_last] = partial(
            getattr(ready, "subpixels", ready), x
        )  # nets for films have no sub-pixels
    deadline = time.perf_counter() + _PROBE_SECONDS
    with _one_thread():
        _seconds(passes[candidates[0]], device)  # loads libraries
        seconds = {candidate: _seconds(run, device) for candidate, run in passes.items()}  # builds kernels
        for _ in range(_PROBE_ROUNDS):
            best = min(seconds.values())
            for candidate, run in passes.items():
                if seconds[candidate] <= _HOPELESS * best:
                    seconds[candidate] = min(seconds[candidate], _seconds(run, device))
            if time.perf_counter() > deadline:
                break
    return seconds


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a busy machine threads wait for each other a hundred times longer than they compute; one alone does not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of one run: of this thread's processor time on a CPU, where other programs must not count."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start
