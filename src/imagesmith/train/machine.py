"""What the machine decides for a run - arithmetic, layout, batch, workers - each with its reason in words."""

import copy
import math
import statistics
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imagesmith.configs import RunConfig
from imagesmith.containers import usable_cores
from imagesmith.errors import ConfigError, UsageError
from imagesmith.runtime.device import DTYPES, drawback, keep_to_usable_cores, low_precision
from imagesmith.runtime.dist import processes_here
from imagesmith.runtime.graphs import captured, own_stream
from imagesmith.tensors import is_out_of_memory
from imagesmith.train.steps import Nets, Step, Turn

BATCHES = (16, 32, 64)
LONG = 3.0
"""Seconds of measuring one kind of step after which one measurement has to do."""
PAYS = 1.15
"""How many times faster bf16 or fp16 has to be before its coarser arithmetic is taken."""
GAINS = 1.05
"""How many times faster a compiled network has to be."""
LONG_RUN_MINUTES = 15
"""Of a run that repays the minute that compiling and measuring it take."""


@dataclass(frozen=True)
class Arithmetic:
    """Number format and memory layout of a run's networks."""

    device: str
    dtype: str
    channels_last: bool

    def prepare(self, net: nn.Module) -> nn.Module:
        """`net` on the device, in its layout; weights are float32 (float64 for 'fp64')."""
        dtype = torch.float64 if self.dtype == "fp64" else torch.float32
        return net.to(self.device, dtype, memory_format=self._layout)  # type: ignore[call-overload]

    def place(self, x: Tensor) -> Tensor:
        """A part of a batch on the device: images in the layout, what is floating point in the dtype."""
        dtype = torch.float64 if self.dtype == "fp64" else torch.float32
        if self.device.startswith("cuda") and x.is_cpu:
            x = x.pin_memory()  # from other memory the copy may wait for what the GPU computes
        x = x.to(self.device, dtype if x.is_floating_point() else x.dtype, non_blocking=True)
        return x.contiguous(memory_format=self._layout) if x.ndim == 4 else x

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype}, {'channels_last' if self.channels_last else 'contiguous'}"

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def turns(self, turns: Iterator[Turn]) -> Generator[Turn, None, None]:
        """The turns of a step, each computed in this arithmetic; what is done with them is not."""
        while True:
            with self.autocast():
                turn = next(turns, None)
            if turn is None:
                return
            yield turn

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which losses are computed."""
        if self.dtype not in ("bf16", "fp16"):
            return nullcontext()
        return torch.autocast(self.device.split(":")[0], DTYPES[self.dtype])


def choose_device(wanted: str) -> str:
    """The device to train on; UsageError if the wanted one is not there."""
    keep_to_usable_cores()
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"expected a CUDA device for '{wanted}', found none; use --set run.device=cpu or auto")
    number = wanted.partition(":")[2]
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"expected a device below cuda:{torch.cuda.device_count()}, got '{wanted}'")
    return wanted


def choose_arithmetic(measure: Callable[[Arithmetic], float], device: str, wanted: str) -> tuple[Arithmetic, str]:
    """The arithmetic for which `measure` gives the fewest seconds for a training step.

    Nothing is measured where the user names a number format, so that the same run can be repeated to the bit, and of
    bf16 and fp16 only the one that the device is good at.
    """
    if wanted != "auto":
        why_slow = drawback(torch.device(device), wanted)
        but = f", though {why_slow}" if why_slow else ""
        return Arithmetic(device, wanted, wanted != "fp64"), f"{wanted} as asked{but}, in a fixed layout"
    low = low_precision(torch.device(device))
    dtypes = ("fp32", low) if low else ("fp32",)
    seconds = {
        (dtype, channels_last): measure(Arithmetic(device, dtype, channels_last))
        for dtype in dtypes
        for channels_last in (False, True)
    }
    best = {dtype: min((False, True), key=lambda layout: seconds[dtype, layout]) for dtype in dtypes}
    pays = low and seconds[low, best[low]] * PAYS < seconds["fp32", best["fp32"]]
    dtype = low if low and pays else "fp32"
    measured = ", ".join(
        f"{name} {'channels_last' if layout else 'contiguous'} {value * 1e3:.0f} ms"
        for (name, layout), value in seconds.items()
    )
    return Arithmetic(device, dtype, best[dtype]), f"one step takes {measured}"


def choose_batch(
    measure: Callable[[int], float],
    wanted: int | str,
    world: int,
    sizes: Sequence[int] = BATCHES,
    enough: float = 0.9,
) -> tuple[int, str]:
    """Images per step over all processes: the smallest of `sizes` with `enough` of the best images per second.

    `measure` gives the seconds of a training step on so many images, infinity where memory does not hold them; where
    it holds none of `sizes`, smaller ones are tried.
    """
    if isinstance(wanted, int):
        return wanted, "as asked"
    rates: dict[int, float] = {}
    for size in sizes:
        before, seconds = max(rates.values(), default=0.0), measure(size)
        if math.isinf(seconds):
            break
        rates[size] = size / seconds
        if rates[size] < 1.1 * before:
            break  # what gains nothing from one doubling gains nothing from the next
    if not rates:
        size = sizes[0] // 2
        while size and math.isinf(measure(size)):
            size //= 2
        if not size:
            raise UsageError("no memory for a step on a single picture; make pictures or networks smaller")
        return size * world, f"all that memory holds, too little for {sizes[0]}"
    size = next(size for size in rates if rates[size] >= enough * max(rates.values()))
    listing = ", ".join(f"{size}: {rate:.0f}/s" for size, rate in rates.items())
    return size * world, f"the smallest with {enough:.0%} of the best throughput ({listing})"


def choose_compiled(measure: Callable[[bool], float], run: RunConfig, batch: int, device: str) -> tuple[bool, str]:
    """Whether torch compiles the network; `measure` gives the seconds of a step on `batch` images with and without.

    'auto' measures on a CPU where a run lasts long enough to repay it. What was decided is kept with the run.
    """
    if run.compile != "auto":
        return run.compile, "as asked"
    if device != "cpu" or run.dtype != "auto":
        return False, "on a GPU, or with a number format that was asked for, only run.compile=true does"
    minutes = run.minutes or (run.images or 0) / batch * measure(False) / 60
    if minutes < LONG_RUN_MINUTES:
        return False, f"the run lasts less than {LONG_RUN_MINUTES} minutes"
    before = measure(False)
    try:
        check_compiler()
        compiled = measure(True)
    except Exception as error:  # of a compiler, which may be anything
        return False, f"it cannot be: {_first_line(error)}"
    plain = min(before, measure(False))
    return plain > GAINS * compiled, f"one step takes {compiled * 1e3:.0f} ms compiled, {plain * 1e3:.0f} ms not"


def check_compiler() -> None:
    """ConfigError where torch.compile does not work, as without a C++ compiler."""
    try:
        torch.compile(lambda x: x.sin() + 1, dynamic=False)(torch.ones(16))
    except Exception as error:
        raise ConfigError(
            f"expected a compiler that torch.compile can use, got: {_first_line(error)}\n"
            "install g++, or set run.compile=false"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def compile_in_place(net: nn.Module) -> None:
    """Have torch compile `net` when it is first called, for pictures of one size."""
    net.compile(dynamic=False)


def choose_workers(wanted: int | str, device: str) -> tuple[int, str]:
    """Processes that prepare patches beside each one that trains; those of torchrun share the cores."""
    if isinstance(wanted, int):
        return wanted, "as asked"
    cores, trainers = usable_cores(), processes_here()
    if device == "cpu":
        return 1, f"{cores} cores belong to the networks; one process keeps patches ready"
    fed = "the GPU" if trainers == 1 else f"{trainers} GPUs"
    return max(1, min(16, cores // trainers - 1)), f"{cores} cores feed {fed}"


def step_seconds(
    nets: Nets, arithmetic: Arithmetic, step: Step, *batch: Tensor, compiled: Collection[str] = ()
) -> float:
    """Median seconds of all turns of a step, forward and backward, of up to three; infinity without memory for it.

    Works on copies, so `nets` stay as they are. The copies of those named in `compiled` are compiled.
    """
    try:
        times = _times(nets, arithmetic, step, *batch, compiled=compiled)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return math.inf
    return statistics.median(times)


def _times(nets: Nets, arithmetic: Arithmetic, step: Step, *batch: Tensor, compiled: Collection[str]) -> list[float]:
    """Seconds of a few steps after the first, which also builds kernels; fewer where they take long.

    On a GPU, of steps that are replayed, as training does.
    """
    nets = {name: arithmetic.prepare(copy.deepcopy(net)) for name, net in nets.items()}
    for name in compiled:
        compile_in_place(nets[name])
    placed = tuple(arithmetic.place(part) for part in batch)

    def compute() -> None:
        for turn in arithmetic.turns(step(nets, placed)):
            turn[1].backward()
        for net in nets.values():
            net.zero_grad(set_to_none=True)

    with own_stream(arithmetic.device):
        on_gpu = arithmetic.device.startswith("cuda")
        run = _replayed(compute) if on_gpu else compute

        def seconds() -> float:
            started = time.perf_counter()
            run()
            if on_gpu:
                torch.cuda.synchronize()
            return time.perf_counter() - started

        seconds()
        times: list[float] = []
        while not times or (len(times) < 3 and sum(times) < LONG):
            times.append(seconds())
    return times


def _replayed(compute: Callable[[], None]) -> Callable[[], None]:
    """`compute` as a graph, or itself where it cannot be one."""
    for _ in range(2):
        compute()
    try:
        _, graph = captured(compute)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return compute
    return graph.replay
