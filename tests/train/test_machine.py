"""What the machine decides, and the words it uses."""

import copy
import math

import pytest
import torch
from torch import nn

from imagesmith.configs import RunConfig
from imagesmith.errors import ConfigError, UsageError
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime import device
from imagesmith.train import machine


@pytest.fixture
def net():
    return build_net(NetSpec("compact", {"width": 16, "blocks": 1}))


@pytest.mark.parametrize(("bf16_ms", "expected"), [(50, "bf16"), (95, "fp32")])
def test_bf16_is_taken_only_where_it_pays(monkeypatch, bf16_ms, expected):
    """bf16 is slower than float32 on processors that have it in part."""
    monkeypatch.setattr(device, "has_bf16", lambda _: True)
    times = {"fp32": 0.1, "bf16": bf16_ms / 1000}
    arithmetic, reason = machine.choose_arithmetic(lambda candidate: times[candidate.dtype], "cpu", "auto")
    assert arithmetic.dtype == expected
    assert "bf16" in reason
    assert "ms" in reason


def test_emulated_bf16_is_neither_tried_nor_taken_in_silence(monkeypatch):
    """The accident: minutes pass before the first step, while a processor without bf16 is asked whether bf16 pays."""
    monkeypatch.setattr(device, "has_bf16", lambda _: False)
    tried = []

    def measure(candidate):
        tried.append(candidate.dtype)
        return 0.1

    arithmetic, _ = machine.choose_arithmetic(measure, "cpu", "auto")
    assert (arithmetic.dtype, tried) == ("fp32", ["fp32", "fp32"])
    assert "emulates" in machine.choose_arithmetic(measure, "cpu", "bf16")[1]


def test_a_gpu_without_bf16_is_asked_whether_fp16_pays(monkeypatch):
    """The accident: on the GPU that most notebooks lend, training computes in float32, three times as slowly."""
    monkeypatch.setattr(device, "has_bf16", lambda _: False)
    times = {"fp32": 0.1, "fp16": 0.03}
    arithmetic, reason = machine.choose_arithmetic(lambda candidate: times[candidate.dtype], "cuda", "auto")
    assert arithmetic.dtype == "fp16"
    assert "fp16 channels_last 30 ms" in reason


def test_bf16_on_a_gpu_without_it_is_told_to_be_slow(monkeypatch):
    """The accident: a run begun on a server goes on at a T4, far more slowly than it could, and no line says why."""
    for has_bf16, told in ((False, True), (True, False)):
        monkeypatch.setattr(device, "has_bf16", lambda _, has_bf16=has_bf16: has_bf16)
        reason = machine.choose_arithmetic(lambda candidate: pytest.fail("measured"), "cuda:0", "bf16")[1]
        assert ("emulates bf16" in reason) is told


def test_fp16_on_a_processor_is_told_to_be_slow():
    assert "slow" in machine.choose_arithmetic(lambda candidate: pytest.fail("measured"), "cpu", "fp16")[1]


def test_batch_stops_growing_where_throughput_does():
    assert machine.choose_batch(lambda size: size * 0.01, "auto", 1)[0] == 16
    size, reason = machine.choose_batch(lambda size: 0.1, "auto", 2)
    assert size == 128
    assert "64: 640/s" in reason


def test_less_memory_than_the_smallest_batch_needs_gives_a_smaller_one():
    """A laptop that holds 5 pictures was told to lower an option it had never set."""
    size, reason = machine.choose_batch(lambda size: 0.1 if size <= 5 else math.inf, "auto", 2)
    assert (size, reason) == (8, "all that memory holds, too little for 16")
    with pytest.raises(UsageError, match="no memory for a step on a single picture"):
        machine.choose_batch(lambda size: math.inf, "auto", 1)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_step_that_memory_does_not_hold_takes_for_ever(net, error):
    """On a processor torch says it by a plain RuntimeError, which ended the run in a traceback."""

    def step(nets, batch):
        raise error
        yield

    arithmetic = machine.Arithmetic("cpu", "fp32", True)
    assert machine.step_seconds({"restorer": net}, arithmetic, step, torch.rand(1)) == math.inf


def test_a_step_with_another_fault_is_not_mistaken_for_one_without_memory(net):
    def step(nets, batch):
        raise RuntimeError("shapes do not fit")
        yield

    with pytest.raises(RuntimeError, match="shapes"):
        machine.step_seconds({"restorer": net}, machine.Arithmetic("cpu", "fp32", True), step, torch.rand(1))


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


@pytest.mark.parametrize(
    ("trainers", "expected"),
    [(None, (15, "16 cores feed the GPU")), ("4", (3, "16 cores feed 4 GPUs")), ("16", (1, "16 cores feed 16 GPUs"))],
)
def test_the_processes_of_torchrun_share_the_cores(monkeypatch, trainers, expected):
    """The accident: eight GPUs on a machine of 16 cores, and each has 15 processes of its own prepare patches."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if trainers:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", trainers)
    monkeypatch.setattr(machine, "usable_cores", lambda: 16)
    assert machine.choose_workers("auto", "cuda:0") == expected


@pytest.mark.parametrize(
    ("seconds", "options", "expected", "reason"),
    [
        ((0.2, 0.1), {"minutes": 15}, True, "100 ms compiled, 200 ms not"),
        ((0.104, 0.1), {"minutes": 15}, False, "100 ms compiled, 104 ms not"),
        ((0.2, 0.1), {"minutes": 14}, False, "less than 15 minutes"),
        ((0.2, 0.1), {"images": 16 * 5 * 60 * 16}, True, "100 ms compiled"),
        ((0.2, 0.1), {"images": 16 * 5 * 60 * 14}, False, "less than 15 minutes"),
        ((0.2, 0.1), {"minutes": 60, "dtype": "bf16"}, False, "run.compile=true"),
        ((0.1, 0.2), {"minutes": 1, "compile": True}, True, "as asked"),
        ((0.2, 0.1), {"minutes": 60, "compile": False}, False, "as asked"),
        ((0.2, math.inf), {"minutes": 60}, False, "inf ms compiled"),
    ],
)
def test_a_network_is_compiled_where_that_pays(monkeypatch, seconds, options, expected, reason):
    """A training of minutes must not spend one of them on compiling, and none may be slower for it."""
    monkeypatch.setattr(machine, "check_compiler", lambda: None)
    run = RunConfig(out="unused", **options)
    compiled, said = machine.choose_compiled(lambda wanted: seconds[wanted], run, 16, "cpu")
    assert compiled is expected
    assert reason in said
    assert machine.choose_compiled(pytest.fail, run, 16, "cuda")[0] is (run.compile is True)


def test_without_a_compiler_a_run_goes_on_uncompiled_unless_it_was_asked_for(monkeypatch):
    def broken(function, **options):
        raise RuntimeError("no working C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    compiled, reason = machine.choose_compiled(lambda wanted: 0.1, RunConfig(out="unused", minutes=60), 16, "cpu")
    assert not compiled
    assert "no working C++ compiler" in reason
    with pytest.raises(ConfigError, match=r"no working C\+\+ compiler\ninstall g"):
        machine.check_compiler()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where its compiler is imported
def test_a_compiled_network_computes_and_learns_the_same(net):
    """Its copies, by which a run is validated with pictures of all sizes, stay as they are."""
    compiled = copy.deepcopy(net)
    machine.compile_in_place(compiled)
    x = torch.rand(2, 3, 16, 16)
    for each in (net, compiled):
        each(x).square().sum().backward()
    torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-5)
    for parameter, other in zip(net.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-4)
    assert compiled.state_dict().keys() == net.state_dict().keys()
    assert copy.deepcopy(compiled)._compiled_call_impl is None


@pytest.mark.parametrize(("device", "pins"), [("cuda", True), ("cuda:1", True), ("cpu", False)])
def test_batches_reach_a_gpu_from_pinned_memory(monkeypatch, device, pins):
    """The accident: the copy of a GAN's pictures waits for the step before, as nobody had pinned them."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(len(x)) or x)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *args, **options: x)
    machine.Arithmetic(device, "fp32", True).place(torch.zeros(3, 2))
    assert pinned == [3] * pins
