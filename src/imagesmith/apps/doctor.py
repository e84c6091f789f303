"""What `imagesmith doctor` finds out about this machine: versions, devices, extras, memory and one timed tile."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import features

from imagesmith import __version__
from imagesmith.containers import usable_cores
from imagesmith.data.video.info import counted
from imagesmith.errors import ModelError
from imagesmith.nets import RESTORERS, VIDEO_RESTORERS, NetSpec, build_net
from imagesmith.runtime import post_ops
from imagesmith.runtime.area import WORTH_TILES, measured_area
from imagesmith.runtime.device import (
    DTYPES,
    emulates_bf16,
    keep_to_usable_cores,
    pick_device,
    pick_runtime,
    possible_dtypes,
    prepare,
)
from imagesmith.runtime.memory import available_memory, held_per_px
from imagesmith.runtime.remembered import are_kept, probe_file
from imagesmith.runtime.tiling import tile_px
from imagesmith.runtime.winograd import kernel
from imagesmith.zoo import CARDS, load_model

LIBRARIES = ("torch", "numpy", "pillow", "tifffile", "safetensors", "av")
EXTRAS = {
    "demo": ("skimage",),
    "community": ("spandrel",),
    "cluster": ("ray",),
    "medical": ("pydicom", "gdcm"),
    "test": ("pytest", "skimage", "torchmetrics", "psutil"),
}
_IMPORTED = ("community",)  # rests on compiled parts, those of torchvision, which may not fit the installed torch
CODECS = {"webp": "WebP", "avif": "AVIF", "jpg_2000": "JPEG 2000", "littlecms2": "colour profiles"}
_TILE_PX = 256
UNUSABLE = "cannot be used: "
"""How the finding begins about what is installed and damaged."""


def examine(device: str = "auto", dtype: str = "auto") -> Iterator[tuple[str, str]]:
    """(name, finding) pairs, the quick ones first; the last one times a tile on the chosen device.

    UsageError before any of them where there is no such device, or it does not compute in `dtype`.
    """
    possible_dtypes(pick_device(device), dtype)
    yield "imagesmith", __version__
    yield "python", f"{platform.python_version()} on {platform.platform(terse=True)} {platform.machine()}"
    for library in LIBRARIES:
        yield library, _version_of(library)
    yield (
        "picture codecs",
        ", ".join(f"{name} {'yes' if features.check(key) else 'no'}" for key, name in CODECS.items()),
    )
    for extra, modules in EXTRAS.items():
        yield f"extra '{extra}'", _state_of(extra, modules)
    yield "processor", _processor()
    yield "convolutions", _convolutions()
    yield "residual pairs", _residual_pairs()
    yield "devices", ", ".join(["cpu", *_accelerators()])
    free = available_memory()
    yield "memory", "unknown" if free is None else f"{free / 2**30:.1f} GiB can be used"
    yield "models", ", ".join(CARDS) or "none shipped in this installation"
    for name in CARDS:
        try:
            if CARDS[name].net in RESTORERS | VIDEO_RESTORERS:
                yield name, str(pick_runtime(load_model(name).net, device, dtype))
        except ModelError as error:
            yield name, f"{UNUSABLE}{error}"
    yield "measured", _measured()
    yield from _timed_tile(device, dtype)


def _version_of(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # as where it was put there without pip
        return "version unknown"


def _state_of(extra: str, modules: Sequence[str]) -> str:
    """Whether an extra is there; of those in `_IMPORTED` also whether it can be used."""
    if any(importlib.util.find_spec(module) is None for module in modules):
        return f'missing: pip install "imagesmith[{extra}]"'
    try:
        for module in modules if extra in _IMPORTED else ():
            importlib.import_module(module)
    except Exception as error:  # whatever the packages of others raise
        return "installed, but cannot be imported: " + str(error).partition("\n")[0]
    return "installed"


def _measured() -> str:
    """What becomes of the answers that the networks got a moment ago."""
    file = probe_file()
    if file is None:
        return "anew by every command, as asked"
    if not are_kept(file):
        return f"anew by every command, as {file} cannot be written; XDG_CACHE_HOME names another folder"
    return f"kept in {file}; delete it to measure again"


def _processor() -> str:
    lacks = "; no bf16 in this processor" if emulates_bf16(torch.device("cpu")) else ""
    capability = torch.backends.cpu.get_cpu_capability()
    keep_to_usable_cores()
    there, usable = os.cpu_count() or 1, usable_cores()
    cores = counted(there, "core") + f", {usable} of them for this process" * (usable < there)
    return f"{cores}, {counted(torch.get_num_threads(), 'thread')}, {capability}{lacks}"


def _convolutions() -> str:
    """Whether `runtime/winograd.py` can be used here."""
    if kernel() is not None:
        return "Winograd's for 3x3 kernels in float32, where that is faster"
    return "PyTorch's alone; on Linux, with gcc and a cache folder that can be written, float32 would be twice as fast"


def _residual_pairs() -> str:
    """Whether `runtime/post_ops.py` can be used here, and where `runtime/exact_head.py` is."""
    fused = ", ".join(name for name, dtype in DTYPES.items() if dtype in post_ops.dtypes())
    how = f"ReLU and sum inside of oneDNN's convolutions in {fused}" if fused else "layer by layer, as PyTorch has them"
    return f"{how}; the first convolution of networks that enlarge stays in fp32 on a CPU"


def _accelerators() -> list[str]:
    names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def _timed_tile(device: str, dtype: str) -> Iterator[tuple[str, str]]:
    net, name = _net_for_a_tile()
    runtime = pick_runtime(net, device, dtype)
    yield "runtime", str(runtime)
    ready = prepare(net, runtime)
    x = torch.full((1, net.channels, _TILE_PX, _TILE_PX), 0.5, device=runtime.device)
    x = x.to(memory_format=runtime.memory_format)
    per_px, usual_px = held_per_px(ready.subpixels, x, runtime.device), tile_px(ready)
    yield (
        "memory of a tile",
        f"{per_px / 1e3:.1f} kB an input pixel, {usual_px} pixels unless --max-ram or --max-vram leaves less: "
        f"{per_px * usual_px / 1e6:.0f} MB",
    )
    area = measured_area(ready, runtime)
    yield "size of tiles", f"{area['percent']} % {area['reason']}; for pictures of {WORTH_TILES} tiles or more"
    with torch.inference_mode():
        ready(x)  # wakes threads and builds kernels
        start = time.perf_counter()
        ready(x).sum().item()  # the number comes back only when the device is done
        seconds = time.perf_counter() - start
    size = f"{_TILE_PX} x {_TILE_PX} -> x{net.scale}"
    yield "one tile", f"{1e3 * seconds:.0f} ms for {size} with {name}"


def _net_for_a_tile() -> tuple[Any, str]:
    """The network of a shipped model that enlarges, an untrained one where none can be used; and what it is called."""
    for name in sorted(CARDS, key=lambda name: name != "sr-x4"):
        with contextlib.suppress(ModelError):  # told before
            if CARDS[name].task == "sr":
                return load_model(name).net, name
    return build_net(NetSpec("compact")), "an untrained network"
