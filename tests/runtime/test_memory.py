"""Memory: what there is, what a network holds, and plans that keep within a limit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imagesmith.errors import ImageError
from imagesmith.runtime.memory import available_memory, first_within, held_per_px, resident_memory, room_within
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
    before = room_within(1 << 40)
    held = torch.ones(40 << 20, dtype=torch.uint8)
    after = room_within(1 << 40)
    assert before - after == pytest.approx(held.numel(), rel=0.2)
    assert room_within(1 << 20) < 0, "more is held than may be"
    assert resident_memory() > 50 << 20


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


def test_the_first_plan_that_fits_is_taken() -> None:
    """Smaller tiles than needed cost time; larger ones than allowed end in a kill."""
    plans = [plan_tiles(1000, 1000, 8, side) for side in (512, 128, 32)]

    def cost(plan: TilePlan) -> int:
        return 100 * plan.largest_px

    assert first_within(plans, cost, 100_000_000, "--max-ram 1 GB") is plans[0]
    assert first_within(plans, cost, 100 * 144 * 144, "--max-ram 1 GB") is plans[1]
    with pytest.raises(ImageError, match=r"within --max-ram 1 GB.*\n.*raise the limit") as caught:
        first_within(plans, cost, 1000, "--max-ram 1 GB")
    assert "32x32 pixels" in str(caught.value)
