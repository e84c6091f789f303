"""What the machine decides, and the words it uses."""

import pytest
import torch

from imagesmith import presets
from imagesmith.configs import override
from imagesmith.errors import UsageError
from imagesmith.nets import NetSpec, build_net
from imagesmith.train import machine

PATCH = (2, 3, 16, 16)


@pytest.fixture
def net():
    return build_net(NetSpec("compact", {"width": 16, "blocks": 1}))


def run(**changes):
    return override(presets.sr_x4("in", "out"), [f"run.{key}={value}" for key, value in changes.items()]).run


@pytest.mark.parametrize(("bf16_ms", "expected"), [(50, "bf16"), (95, "fp32")])
def test_bf16_is_taken_only_where_it_pays(net, monkeypatch, bf16_ms, expected):
    """bf16 is slower than float32 on processors that emulate it."""
    times = {"fp32": 0.1, "bf16": bf16_ms / 1000}
    monkeypatch.setattr(machine, "_step_seconds", lambda net, arithmetic, patch: times[arithmetic.dtype])
    arithmetic, reason = machine.choose_arithmetic(net, PATCH, run())
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
    with pytest.raises(UsageError, match="--device cpu"):
        machine.choose_device("cuda")
