"""Memory: what there is, what a network holds, and plans that keep within a limit."""

import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imagesmith.errors import ImageError, UsageError
from imagesmith.runtime import memory
from imagesmith.runtime.memory import (
    Demand,
    Limits,
    available_memory,
    check_above_held,
    held_per_px,
    plan_within,
    resident_memory,
    room_within,
)
from imagesmith.runtime.tiling import TilePlan, plan_tiles

CPU = torch.device("cpu")


def fake_machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:  8000000 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8_192_000_000),
        (
            {
                "proc/self/cgroup": "0::/job\n",
                "sys/fs/cgroup/job/memory.max": "1000000\n",
                "sys/fs/cgroup/job/memory.current": "600000\n",
                "sys/fs/cgroup/job/memory.stat": "anon 1\ninactive_file 100000\n",
            },
            500_000,
        ),
        (
            {
                "proc/self/cgroup": "0::/outer/inner\n",
                "sys/fs/cgroup/outer/inner/memory.max": "max\n",
                "sys/fs/cgroup/outer/memory.max": "70000\n",
                "sys/fs/cgroup/outer/memory.current": "10000\n",
                "sys/fs/cgroup/outer/memory.stat": "",
            },
            60_000,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/x\n5:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "4000000",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 7\n",
            },
            1_000_007,
        ),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/memory.max": "nonsense"}, 8_192_000_000),
    ],
)
def test_memory_limits_of_containers_count(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    """In a container the machine's free memory is a promise that ends in a kill without a word."""
    assert available_memory(fake_machine(tmp_path, MEMINFO | files)) == expected


def test_this_machine_has_memory() -> None:
    """Reading the real files must work too, not only those of the test."""
    free = available_memory()
    assert free is None or free > 1 << 20


def test_the_room_under_a_limit_shrinks_with_what_is_held() -> None:
    """A limit that forgets what the process holds already, torch alone a third of a gigabyte, is overrun at once."""
    assert room_within(None) == pytest.approx(available_memory(), rel=0.2)
    gc.collect()  # what other tests left must not be freed in between
    before = room_within(1 << 40)
    held = torch.ones(300 << 20, dtype=torch.uint8)
    after = room_within(1 << 40)
    assert before - after == pytest.approx(held.numel(), rel=0.2)
    assert room_within(1 << 20) < 0, "more is held than may be"
    assert resident_memory() > 50 << 20


def test_a_limit_below_what_is_held_is_refused() -> None:
    """Each of 100,000 pictures in turn would be told not to fit, for a limit that none of them could keep."""
    with pytest.raises(UsageError, match="1e-06 GB to be more than"):
        check_above_held(1000)
    check_above_held(1 << 40)


class Chain(nn.Module):
    """Holds three tensors of `width` floats a pixel at its worst moment: what comes in, what goes out, and a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        first = x.expand(-1, self.width, -1, -1).contiguous()
        second = first + 1
        third = second * first
        del first, second
        return third.sum(dim=1) + third.mean(dim=1)


@pytest.mark.parametrize("side", [16, 40])
@pytest.mark.parametrize("width", [8, 32])
def test_what_a_network_holds_is_counted_at_its_worst_moment(width: int, side: int) -> None:
    """Counting all tensors ever made would allow tiles of a tenth of the size; counting the last one overruns."""
    x = torch.rand(1, 1, side, side)
    tensors = 3 * width * 4
    held = held_per_px(Chain(width), x, CPU)
    assert 1.5 * tensors <= held <= 1.5 * (tensors + 8), held


def cut(area_px: int, strip_bytes: int) -> TilePlan:
    return plan_tiles(1000, 1000, 8, area_px=area_px, most_rows=max(16, strip_bytes // 12_000))


@pytest.mark.parametrize("demand", [Demand(CPU, 500, 1000), Demand(CPU, 10, 200_000), Demand(CPU, 10, 10, 200_000)])
def test_tiles_are_as_large_as_a_limit_allows(monkeypatch: pytest.MonkeyPatch, demand: Demand) -> None:
    """Smaller tiles than needed cost time; larger ones than allowed end in a kill. Each kind of demand counts."""
    monkeypatch.setattr(memory, "resident_memory", lambda: 300_000_000)
    told: list[str] = []
    plans = [
        plan_within(Limits(ram=ram), cut, 1 << 17, demand, told.append) for ram in (int(1e12), 400_000_000, 370_000_000)
    ]
    assert plans[0] == cut(1 << 17, 64 << 20)
    assert len(plans[0]) < len(plans[1]) < len(plans[2])
    for plan, ram in zip(plans[1:], (400_000_000, 370_000_000), strict=True):
        assert demand.ram(plan) <= ram - 300_000_000
    assert len(told) == 2, "a limit that changed nothing was told, or one that did was not"
    assert "--max-ram 0.4 GB" in told[0]
    with pytest.raises(ImageError, match=r"--max-ram 0.3 GB cannot be kept.*\n.*raise the limit"):
        plan_within(Limits(ram=300_000_000), cut, 1 << 17, demand, told.append)


@pytest.mark.parametrize(("spare", "is_short"), [(100_000_000, True), (1_000_000_000, False)])
def test_a_limit_without_room_for_what_is_kept_lets_nothing_be_kept(
    monkeypatch: pytest.MonkeyPatch, spare: int, is_short: bool
) -> None:
    """The accident: `jpeg` in bf16 with --max-ram 750M took 815 MB."""
    called: list[bool] = []
    monkeypatch.setattr(memory, "keep_nothing", lambda: called.append(True))
    monkeypatch.setattr(memory, "resident_memory", lambda: 300_000_000)
    demand, told = Demand(CPU, 500, 1000), list[str]()
    needed = round(demand.ram(cut(1 << 17, 64 << 20))) + 350_000_000
    plan_within(Limits(ram=needed + spare), cut, 1 << 17, demand, told.append)
    assert (bool(called), told) == (is_short, [])


def test_rows_that_a_file_keeps_together_count() -> None:
    """A scan in tiles of 1024 rows holds a quarter of a gigabyte before the first of our own tiles is computed."""
    limits = Limits(ram=memory.resident_memory() + 400_000_000)
    plan_within(limits, cut, 1 << 17, Demand(CPU, 500, 1000, 60_000), [].append)
    with pytest.raises(ImageError, match="cannot be kept"):
        plan_within(limits, cut, 1 << 17, Demand(CPU, 500, 1000, 60_000, decoding=768 << 20), [].append)


def test_memory_of_an_accelerator_does_not_bound_tiles_of_the_processor() -> None:
    """--max-vram in a shared script must not slow down the machine without one."""
    told: list[str] = []
    assert plan_within(Limits(vram=1), cut, 1 << 17, Demand(CPU, 500, 1000), told.append) == cut(1 << 17, 64 << 20)
    assert not told
