"""What the machine decides, and the words it uses."""

import pytest
import torch

from imagesmith.errors import UsageError
from imagesmith.nets import NetSpec, build_net
from imagesmith.train import machine

PATCH = (2, 3, 16, 16)


@pytest.fixture
def net():
    return build_net(NetSpec("compact", {"width": 16, "blocks": 1}))


@pytest.mark.parametrize(("bf16_ms", "expected"), [(50, "bf16"), (95, "fp32")])
def test_bf16_is_taken_only_where_it_pays(net, monkeypatch, bf16_ms, expected):
    """bf16 is slower than float32 on processors that emulate it."""
    times = {"fp32": 0.1, "bf16": bf16_ms / 1000}
    monkeypatch.setattr(machine, "_step_seconds", lambda net, arithmetic, patch: times[arithmetic.dtype])
    arithmetic, reason = machine.choose_arithmetic(net, PATCH, "cpu", "auto")
    assert arithmetic.dtype == expected
    assert "bf16" in reason
    assert "ms" in reason


def test_batch_stops_growing_where_throughput_does(net, monkeypatch):
    arithmetic = machine.Arithmetic("cpu", "fp32", False)
    monkeypatch.setattr(machine, "_step_seconds", lambda net, arithmetic, patch: patch[0] * 0.01)
    assert machine.choose_batch(net, arithmetic, PATCH, "auto", 1)[0] == 16
    monkeypatch.setattr(machine, "_step_seconds", lambda net, arithmetic, patch: 0.1)
    size, reason = machine.choose_batch(net, arithmetic, PATCH, "auto", 2)
    assert size == 128
    assert "64: 640/s" in reason


def test_batch_that_does_not_divide_is_refused(net):
    with pytest.raises(UsageError, match="share equally"):
        machine.choose_batch(net, machine.Arithmetic("cpu", "fp32", False), PATCH, 3, 2)


def test_an_asked_format_is_not_measured(net, monkeypatch):
    """A layout chosen by a stopwatch made the same command end in other bits now and then."""
    monkeypatch.delattr(machine, "_step_seconds")
    assert machine.choose_arithmetic(net, PATCH, "cpu", "fp32")[0] == machine.Arithmetic("cpu", "fp32", True)


def test_probing_leaves_no_layout_behind(net):
    """A run said to be contiguous trained in channels_last, because that was probed last, and resumed contiguous."""
    for layout in (True, False):
        kernel = machine.Arithmetic("cpu", "fp32", layout).prepare(net).head.weight
        assert kernel.is_contiguous(memory_format=torch.channels_last) == layout


def test_the_asked_mode_is_really_on(net):
    """A default that lies: tests labelled float64 that exercised float32."""
    arithmetic = machine.Arithmetic("cpu", "fp64", False)
    assert arithmetic.prepare(net).head.weight.dtype == torch.float64
    assert arithmetic.place(torch.rand(1, 3, 4, 4)).dtype == torch.float64
    with machine.Arithmetic("cpu", "bf16", True).autocast():
        assert torch.nn.functional.linear(torch.rand(2, 2), torch.rand(2, 2)).dtype == torch.bfloat16


def test_missing_gpu_is_said():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match=r"run\.device=cpu"):
        machine.choose_device("cuda")
