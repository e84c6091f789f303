"""Where a network runs: measured, explained, and never something else than what the user asked for."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imagesmith.errors import UsageError
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime import device, remembered, winograd
from imagesmith.runtime.device import keep_to_usable_cores, pick_runtime, prepare


@pytest.fixture(autouse=True)
def fresh_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_known", {})
    monkeypatch.setenv("IMAGESMITH_NO_CACHE", "1")


def net(**options: int) -> nn.Module:
    return build_net(NetSpec("compact", {"scale": 2, "width": 8, "blocks": 1, **options}))


def seconds_by_candidate(monkeypatch: pytest.MonkeyPatch, table: dict[tuple[torch.dtype, bool], float]) -> list[int]:
    """Let the probe find the times of `table`; the list that is returned grows by one for each probe."""
    calls: list[int] = []

    def measure(net: object, place: object, ways: list[device._Way]) -> dict[device._Way, float]:
        calls.append(len(ways))
        return {way: table[way.dtype, way.channels_last] for way in ways}

    monkeypatch.setattr(device, "_measure", measure)
    return calls


FP32, BF16 = torch.float32, torch.bfloat16


@pytest.fixture(autouse=True)
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor of these tests has bf16, whatever the one they run on has."""
    monkeypatch.setattr(device, "has_bf16", lambda _: True)


@pytest.fixture
def short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors that emulate bf16 take seconds for a probe of the usual length."""
    monkeypatch.setitem(device._PROBE_MACS, "cpu", 1e7)


@pytest.mark.parametrize(
    ("times", "dtype", "channels_last"),
    [
        ((10, 50, 5, 50), BF16, True),  # bf16 twice as fast
        ((10, 50, 9, 50), FP32, True),  # bf16 a little faster: not worth its rounding
        ((10, 50, 400, 400), FP32, True),  # emulated bf16
        ((10, 6, 400, 400), FP32, False),  # a depthwise net, slower in channels_last
        ((10, 6, 5.5, 5.5), FP32, False),  # ... where bf16 is no gain over the better layout
        ((10, 9, 400, 400), FP32, False),  # a little slower in channels_last: the plain layout is never left for a loss
        ((10, 9.9, 400, 400), FP32, False),
        ((9.9, 10, 400, 400), FP32, False),  # no gain that is more than noise
    ],
)
def test_lower_precision_only_for_a_clear_gain(
    monkeypatch: pytest.MonkeyPatch, times: tuple[float, ...], dtype: torch.dtype, channels_last: bool
) -> None:
    """A fixed rule is wrong somewhere: bf16 is four times slower on old CPUs, channels_last on some nets."""
    candidates = [(FP32, True), (FP32, False), (BF16, True), (BF16, False)]
    seconds_by_candidate(monkeypatch, {c: t / 1e3 for c, t in zip(candidates, times, strict=True)})
    runtime = pick_runtime(net(), "cpu")
    assert (runtime.dtype, runtime.channels_last) == (dtype, channels_last)
    assert "ms" in runtime.reason
    assert str(runtime).startswith("cpu ")


@pytest.mark.parametrize(
    ("own", "bf16", "expected"),
    [
        (4, 5, "fp32 channels_last winograd"),  # twice as fast, and more exact than bf16
        (4, 3, "bf16 channels_last"),
        (9.5, 9, "fp32 channels_last"),  # neither is worth leaving what PyTorch does
        (30, 30, "fp32 channels_last"),
    ],
)
def test_own_convolutions_only_for_a_gain(
    monkeypatch: pytest.MonkeyPatch, own: float, bf16: float, expected: str
) -> None:
    """A processor on which they are slow, or bf16 faster, must not be held to them."""
    times = {"fp32 contiguous": 12, "fp32 channels_last": 10, "fp32 channels_last winograd": own}
    times |= {"bf16 contiguous": 50, "bf16 channels_last": bf16}
    monkeypatch.setattr(device, "_measure", lambda net, place, ways: {way: times[str(way)] / 1e3 for way in ways})
    monkeypatch.setattr(winograd, "is_worth_a_try", lambda _: True)
    assert pick_runtime(net(), "cpu").arithmetic == expected


def test_emulated_bf16_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: a processor without bf16 is asked for ten seconds whether it is quicker."""
    monkeypatch.setattr(device, "has_bf16", lambda _: False)
    seconds_by_candidate(monkeypatch, dict.fromkeys([(d, c) for d in (FP32, BF16) for c in (True, False)], 1))
    runtime = pick_runtime(net(), "cpu")
    assert runtime.dtype == FP32
    assert "bf16" not in runtime.reason
    assert "emulates" in pick_runtime(net(), "cpu", "bf16").reason


def test_the_probe_runs_once_for_each_shape_of_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model a hundred times must not cost a hundred probes, nor another net get the first one's answer."""
    probes = seconds_by_candidate(monkeypatch, dict.fromkeys([(d, c) for d in (FP32, BF16) for c in (True, False)], 1))
    pick_runtime(net(), "cpu")
    pick_runtime(net(), "cpu")
    assert len(probes) == 1
    pick_runtime(net(width=16), "cpu")
    pick_runtime(net(), "cpu", "fp32")
    assert len(probes) == 3


def test_other_layers_are_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: convolutions got faster in one precision, and machines keep to the other that had won before."""
    probes = seconds_by_candidate(monkeypatch, dict.fromkeys([(d, c) for d in (FP32, BF16) for c in (True, False)], 1))
    pick_runtime(net(), "cpu")
    monkeypatch.setattr(device, "_LAYERS", device._LAYERS + 1)
    pick_runtime(net(), "cpu")
    assert len(probes) == 2


def test_another_process_remembers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each command would spend half a second on what the one before found out, or trust a file that somebody edited."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("IMAGESMITH_NO_CACHE")
    probes = seconds_by_candidate(monkeypatch, dict.fromkeys([(d, c) for d in (FP32, BF16) for c in (True, False)], 1))
    first = pick_runtime(net(), "cpu")
    monkeypatch.setattr(remembered, "_known", {})
    assert pick_runtime(net(), "cpu") == first
    assert len(probes) == 1
    file = tmp_path / "imagesmith" / "probe.json"
    file.write_text(file.read_text().replace('"fp32 ', '"fp16 '))
    monkeypatch.setattr(remembered, "_known", {})
    assert pick_runtime(net(), "cpu") == first, "a precision that this processor does not have was taken from a file"
    assert len(probes) == 2


@pytest.mark.parametrize("spec", [NetSpec("compact", {"scale": 4}), NetSpec("unet", {}), NetSpec("recurrent", {})])
def test_the_probe_computes_as_much_whatever_the_resolution(spec: NetSpec) -> None:
    """A U-Net was measured on four cells of its coarsest level: all precisions took as long, and it ran in float32."""
    module = build_net(spec)
    side = device._probe_side(module, torch.device("cpu"))
    assert side % module.multiple_of == 0
    x = torch.zeros(1, module.channels + module.planes, side, side, device="meta")  # counted, and not computed
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        getattr(module.to("meta"), "subpixels", module)(x)
    assert 0.7 < counted.get_total_flops() / 2 / device._PROBE_MACS["cpu"] < 1.4


@pytest.mark.usefixtures("short_probe")
def test_the_real_probe_leaves_no_trace() -> None:
    """A probe that leaves one thread, or weights in bf16 behind, makes all that follows slow or wrong."""
    module = net()
    before, threads = copy.deepcopy(module.state_dict()), torch.get_num_threads()
    runtime = pick_runtime(module, "cpu")
    assert torch.get_num_threads() == threads
    assert runtime.dtype in (FP32, BF16)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert next(module.parameters()).dtype == FP32


@pytest.mark.usefixtures("short_probe")
@pytest.mark.parametrize(("dtype", "expected"), [("fp32", FP32), ("bf16", BF16)])
def test_what_the_user_chose_is_taken(dtype: str, expected: torch.dtype) -> None:
    """A table that maps the wish for one precision to another makes every test of it a lie."""
    runtime = pick_runtime(net(), "cpu", dtype)
    assert runtime.dtype == expected
    assert prepare(net(), runtime).tail.weight.dtype == expected


@pytest.mark.parametrize(
    ("place", "dtype", "word"),
    [
        ("gpu", "auto", "expected a device"),
        (None, "auto", "got 'None'"),
        ("cpu", "int8", "expected a dtype"),
        ("cpu", "fp16", "fp16"),
    ],
)
def test_what_cannot_be_is_a_usage_error(place: Any, dtype: str, word: str) -> None:
    """Falling back in silence, a run on 'cuda' takes a night on the CPU."""
    with pytest.raises(UsageError, match=word):
        pick_runtime(net(), place, dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_device_is_a_usage_error() -> None:
    """The message tells which devices there are."""
    with pytest.raises(UsageError, match="this machine has cpu"):
        pick_runtime(net(), "cuda")


def test_a_device_of_torch_is_taken() -> None:
    """The accident: "'torch.device' object has no attribute 'partition'"."""
    assert device.pick_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.usefixtures("short_probe")
def test_prepare_makes_an_inference_copy() -> None:
    """Training goes on with the net that was validated: it must keep its mode, precision and gradients."""
    module = net().train()
    ready = prepare(module, pick_runtime(module, "cpu", "bf16"))
    assert not ready.training
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    x = torch.rand(1, 3, 12, 12)
    with torch.inference_mode():
        assert ready(x).dtype == FP32
        assert (ready(x) - module(x)).abs().max() < 0.05


class Spectral(nn.Conv2d):
    """A convolution beside weights of five dimensions, for spectra of patches."""

    channels, planes, scale, multiple_of = 3, 0, 1, 1

    def __init__(self) -> None:
        super().__init__(3, 3, 3, padding=1)
        self.spectrum = nn.Parameter(torch.ones(3, 1, 1, 8, 5))

    def fused(self) -> nn.Module:
        return self


@pytest.mark.usefixtures("short_probe")
def test_weights_of_five_dimensions_have_no_layout() -> None:
    """The accident: FFTformer ended in 'required rank 4 tensor to use channels_last format'."""
    runtime = replace(pick_runtime(Spectral(), "cpu", "fp32"), channels_last=True)
    ready = prepare(Spectral(), runtime)
    assert ready.weight.is_contiguous(memory_format=torch.channels_last)
    assert ready.spectrum.shape == (3, 1, 1, 8, 5)


@pytest.mark.parametrize(("told", "kept"), [(None, 2), ("5", 5)])
def test_torch_computes_in_no_more_threads_than_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, kept: int
) -> None:
    """The accident: in a container of two cores torch takes 64 threads, which wait for each other most of the time."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setattr(device, "usable_cores", lambda _: 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        keep_to_usable_cores(tmp_path)
        assert torch.get_num_threads() == kept
    finally:
        torch.set_num_threads(threads)
