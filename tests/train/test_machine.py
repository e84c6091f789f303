"""What the machine decides, and the words it uses."""

import pytest
import torch
from torch import nn

from imagesmith.errors import UsageError
from imagesmith.nets import NetSpec, build_net
from imagesmith.train import machine


@pytest.fixture
def net():
    return build_net(NetSpec("compact", {"width": 16, "blocks": 1}))


@pytest.mark.parametrize(("bf16_ms", "expected"), [(50, "bf16"), (95, "fp32")])
def test_bf16_is_taken_only_where_it_pays(bf16_ms, expected):
    """bf16 is slower than float32 on processors that emulate it."""
    times = {"fp32": 0.1, "bf16": bf16_ms / 1000}
    arithmetic, reason = machine.choose_arithmetic(lambda candidate: times[candidate.dtype], "cpu", "auto")
    assert arithmetic.dtype == expected
    assert "bf16" in reason
    assert "ms" in reason


def test_batch_stops_growing_where_throughput_does():
    assert machine.choose_batch(lambda size: size * 0.01, "auto", 1)[0] == 16
    size, reason = machine.choose_batch(lambda size: 0.1, "auto", 2)
    assert size == 128
    assert "64: 640/s" in reason


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(UsageError, match="share equally"):
        machine.choose_batch(lambda size: 0.1, 3, 2)


def test_a_batch_without_memory_is_explained():
    def measure(size: int) -> float:
        raise MemoryError

    with pytest.raises(UsageError, match=r"no memory for a batch of 16; lower run\.batch"):
        machine.choose_batch(measure, "auto", 1)


def test_an_asked_format_is_not_measured():
    """A layout chosen by a stopwatch made the same command end in other bits now and then."""
    arithmetic, _ = machine.choose_arithmetic(lambda candidate: pytest.fail("measured"), "cpu", "fp32")
    assert arithmetic == machine.Arithmetic("cpu", "fp32", True)


def test_measuring_a_step_leaves_the_networks_alone():
    """Probing moved the running statistics of batch norm, and the probed layout stayed."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def step(nets, batch):
        yield "net", nets["net"](batch[0]).square().mean(), {}

    seconds = machine.step_seconds({"net": net}, machine.Arithmetic("cpu", "bf16", True), step, torch.rand(4, 3, 8, 8))
    assert seconds > 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net[0].weight.grad is None
    assert net[0].weight.is_contiguous()


def test_a_batch_is_placed_by_what_its_parts_are():
    """Labels turned into floats index no embedding."""
    arithmetic = machine.Arithmetic("cpu", "fp64", True)
    assert arithmetic.place(torch.arange(3)).dtype == torch.int64
    assert arithmetic.place(torch.rand(3, 8)).dtype == torch.float64
    image = arithmetic.place(torch.zeros(2, 3, 4, 5, dtype=torch.uint8))
    assert image.dtype == torch.uint8
    assert image.is_contiguous(memory_format=torch.channels_last)


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
